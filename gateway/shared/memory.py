"""Limits that hold for the workers of one machine, without a server: a piece of memory that all of them have.

Each name has a row there: its rates, and for each worker what it runs and holds. Whoever looks has the lock, for some
ten microseconds; the system takes it from a worker that is killed. A row's rates stand in it twice, and one byte says
which is good: a worker that is killed while it writes leaves the other. What a killed worker had running is forgotten
when the next one joins, which its arbiter starts at once.
"""

import contextlib
import fcntl
import hashlib
import mmap
import struct
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence

from gateway.limits import Denied, Limited, Limits, Standing, Taken

NAMES = 4_096           # rows; who comes when all are taken is limited in each worker apart
RATES = struct.Struct("<Q16sQ16s")      # requests a minute and when all will have been earned, and of tokens the same
OWN = struct.Struct("<qq")              # what a worker runs, and the tokens that it holds
HEAD = 17                               # a name's digest, and which of the two RATES is good
BYTES = 16


class Memory:
    """Made before the workers are forked, joined by each of them."""

    def __init__(self, workers: int) -> None:
        self._seats = 2 * workers + 2                   # one that ends and the one that follows may both be there
        self._all = struct.Struct("<" + "qq" * self._seats)
        self._row = HEAD + 2 * RATES.size + self._seats * OWN.size
        self._bytes = mmap.mmap(-1, NAMES * self._row)
        self._locks = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the memory
        self._seat = -1
        self._rows: dict[str, int | None] = {}

    def __repr__(self) -> str:
        return f"<Memory, seat {self._seat} of {self._seats}>"

    def join(self) -> None:
        """Take a seat for the rest of this worker's life, and clear those whose workers are dead."""
        with self.locked():
            for seat in range(self._seats):
                with contextlib.suppress(BlockingIOError):
                    fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 + seat)
                    for row in range(0, len(self._bytes), self._row):
                        OWN.pack_into(self._bytes, row + HEAD + 2 * RATES.size + seat * OWN.size, 0, 0)
                    if self._seat < 0:
                        self._seat = seat
                    else:
                        fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, 1 + seat)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the others out meanwhile."""
        fcntl.lockf(self._locks, fcntl.LOCK_EX, 1, 0)
        try:
            yield
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, 0)

    def load(self, row: int, standing: Standing, now_us: int) -> None:
        """Have a standing be what it is for all workers."""
        stored = RATES.unpack_from(self._bytes, self._good(row))
        for rate, per_minute, arrival in (
            (standing.requests, stored[0], stored[1]), (standing.tokens, stored[2], stored[3]),
        ):
            if rate is not None:
                rate.arrival = int.from_bytes(arrival, "little")
                if per_minute not in (0, rate.per_minute):        # another worker goes by another configuration yet
                    rate.owe(max(rate.arrival - now_us * per_minute, 0), now_us)
        own = self._all.unpack_from(self._bytes, row + HEAD + 2 * RATES.size)
        standing.running, standing.held = sum(own[::2]), sum(own[1::2])

    def store(self, row: int, standing: Standing, running: int, held: int) -> None:
        """Have it be that for the others, too. `running` and `held` are what this worker has added."""
        good = self._good(row)
        new = list(RATES.unpack_from(self._bytes, good))
        for place, rate in ((0, standing.requests), (2, standing.tokens)):
            if rate is not None:
                new[place:place + 2] = rate.per_minute, rate.arrival.to_bytes(BYTES, "little")
        other = 1 - self._bytes[row + BYTES]
        RATES.pack_into(self._bytes, row + HEAD + other * RATES.size, *new)
        self._bytes[row + BYTES] = other
        place = row + HEAD + 2 * RATES.size + self._seat * OWN.size
        before = OWN.unpack_from(self._bytes, place)
        OWN.pack_into(self._bytes, place, before[0] + running, before[1] + held)

    def _good(self, row: int) -> int:
        return row + HEAD + self._bytes[row + BYTES] * RATES.size

    def row(self, name: str) -> int | None:
        """Return where a name's row is; None where there is no room for it."""
        if name not in self._rows:
            self._rows[name] = self._find(hashlib.blake2b(name.encode(), digest_size=BYTES).digest())
        return self._rows[name]

    def _find(self, digest: bytes) -> int | None:
        first = int.from_bytes(digest[:8], "little") % NAMES
        for number in range(first, first + NAMES):
            row = number % NAMES * self._row
            there = self._bytes[row:row + BYTES]
            if there == bytes(BYTES):
                self._bytes[row:row + BYTES] = digest
            if there in (digest, bytes(BYTES)):
                return row
        return None


class Common(Limits):
    """The standing of every name for all workers together."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._memory = memory
        memory.join()

    def take(
        self, required: Sequence[Limited], alternatives: Sequence[Limited], tokens: int, now_us: int, share: int = 1
    ) -> Taken | Denied:
        """Take it as one process would."""
        asked = {each.name: self.standing(each, now_us) for each in (*required, *alternatives) if each.limits.any}
        with self.shown(asked, now_us):
            taken = super().take(required, alternatives, tokens, now_us, share)
        return taken if isinstance(taken, Denied) or not asked else _Taken(self, taken, tokens, share)

    def also(self, taken: Taken, limited: Limited, now_us: int) -> bool:
        """Take the same of one more, and say whether it has it."""
        with self.shown({limited.name: self.standing(limited, now_us)}, now_us):
            return super().also(taken, limited, now_us)

    def refusal(self, limited: Limited, tokens: int, now_us: int) -> Denied | None:
        """Return why a request would be denied by this limit now."""
        with self.shown({limited.name: self.standing(limited, now_us)}, now_us):
            return super().refusal(limited, tokens, now_us)

    @contextlib.contextmanager
    def shown(self, standings: Mapping[str, Standing], now_us: int) -> Iterator[None]:
        """Have these be what they are for all workers, and what is done to them meanwhile be done for all."""
        memory = self._memory
        with memory.locked():
            rows = [(row, each) for name, each in standings.items() if (row := memory.row(name)) is not None]
            before = []
            for row, each in rows:
                memory.load(row, each, now_us)
                before.append((each.running, each.held))
            yield
            for (row, each), (running, held) in zip(rows, before, strict=True):
                memory.store(row, each, each.running - running, each.held - held)


class _Taken(Taken):
    """What a request has taken of what the workers have in common."""

    __slots__ = ("_common",)

    def __init__(self, common: Common, taken: Taken, tokens: int, share: int) -> None:
        super().__init__(taken.chosen, taken.standings, tokens, share)
        self._common = common

    def settle(self, tokens: int, now_us: int, spared: Collection[str] = ()) -> None:
        """Say how many tokens were used."""
        with self._common.shown(self.standings, now_us):
            super().settle(tokens, now_us, spared)

    def close(self, now_us: int) -> None:
        """Give back what is given back at the end."""
        with self._common.shown(self.standings, now_us):
            super().close(now_us)
