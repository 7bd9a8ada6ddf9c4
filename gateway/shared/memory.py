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
import os
import struct
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence

from gateway.limits import Denied, Limited, Limits, Standing, Taken

NAMES = 4_096           # rows; who comes when all are taken is limited in each worker apart
RATES = struct.Struct("<Q16sQ16s")      # requests a minute and when all will have been earned, and of tokens the same
OWN = struct.Struct("<qq")              # what a worker runs, and the tokens that it holds
HEAD = 17                               # a name's digest, and which of the two RATES is good
BYTES = 16
OWNS = HEAD + 2 * RATES.size            # where what each worker runs and holds begins, in a row

Was = tuple[int, int, int, int]


def arrivals(standing: Standing) -> tuple[int, int]:
    """Return when all its requests and tokens will have been earned."""
    requests, tokens = standing.requests, standing.tokens
    return 0 if requests is None else requests.arrival, 0 if tokens is None else tokens.arrival


class Memory:
    """Made before the workers are forked, joined by each of them."""

    def __init__(self, workers: int) -> None:
        self._seats = 2 * workers + 2                   # one that ends and the one that follows may both be there
        self._all = struct.Struct("<" + "qq" * self._seats)
        self._row = OWNS + self._seats * OWN.size
        self._bytes = mmap.mmap(-1, NAMES * self._row)
        with tempfile.TemporaryFile() as file:
            self._locks = os.dup(file.fileno())
        self._seat = -1
        self._rows: dict[str, int | None] = {}

    def __repr__(self) -> str:
        return f"<Memory, seat {self._seat} of {self._seats}>"

    def join(self) -> None:
        """Take a seat for the rest of this worker's life, and clear those whose workers are dead."""
        self.lock()
        free = [seat for seat in range(self._seats) if self._sits(seat)]
        for row in range(0, len(self._bytes), self._row):
            for seat in free:
                OWN.pack_into(self._bytes, row + OWNS + seat * OWN.size, 0, 0)
        self._seat, *others = free or [-1]              # without a seat nothing is shared
        for seat in others:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, 1 + seat)
        self.unlock()

    def _sits(self, seat: int) -> bool:
        """Sit down, unless somebody else does."""
        with contextlib.suppress(BlockingIOError):
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 + seat)
            return True
        return False

    def lock(self) -> None:
        """Keep the others out from now on."""
        fcntl.lockf(self._locks, fcntl.LOCK_EX, 1)

    def unlock(self) -> None:
        """Let the others in."""
        fcntl.lockf(self._locks, fcntl.LOCK_UN, 1)

    def close(self) -> None:
        """Give it up, in this process."""
        os.close(self._locks)
        self._bytes.close()

    def load(self, row: int, standing: Standing, now_us: int) -> None:
        """Have a standing be what it is for all workers."""
        stored = RATES.unpack_from(self._bytes, self._good(row))
        for rate, per_minute, arrival in ((standing.requests, *stored[:2]), (standing.tokens, *stored[2:])):
            if rate is not None:
                rate.arrival = int.from_bytes(arrival, "little")
                if per_minute not in (0, rate.per_minute):      # another worker still goes by another configuration
                    rate.owe(max(rate.arrival - now_us * per_minute, 0), now_us)
        all_own = self._all.unpack_from(self._bytes, row + OWNS)
        standing.running, standing.held = sum(all_own[::2]), sum(all_own[1::2])

    def store(self, row: int, standing: Standing, before: Was) -> None:
        """Have it be for the others what has become of it here."""
        if (standing.running, standing.held) != before[:2]:
            place = row + OWNS + self._seat * OWN.size
            running, held = OWN.unpack_from(self._bytes, place)
            added = standing.running - before[0], standing.held - before[1]
            OWN.pack_into(self._bytes, place, running + added[0], held + added[1])
        if arrivals(standing) != before[2:]:
            new = list(RATES.unpack_from(self._bytes, self._good(row)))
            for place, rate in ((0, standing.requests), (2, standing.tokens)):
                if rate is not None:
                    new[place:place + 2] = rate.per_minute, rate.arrival.to_bytes(BYTES, "little")
            other = 1 - self._bytes[row + BYTES]
            RATES.pack_into(self._bytes, row + HEAD + other * RATES.size, *new)
            self._bytes[row + BYTES] = other

    def _good(self, row: int) -> int:
        return row + HEAD + self._bytes[row + BYTES] * RATES.size

    def row(self, name: str) -> int | None:
        """Return where a name's row is; None where there is no room for it."""
        if self._seat < 0:
            return None
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
        self.tidy(now_us)                   # before names are shown: they must not be forgotten while they are
        asked = {each.name: self.standing(each, now_us) for each in (*required, *alternatives) if each.limits.any}
        self._many = max(self._many, len(self._standings))
        if not asked:
            return super().take(required, alternatives, tokens, now_us, share)
        with self.shown(asked, now_us):
            taken = super().take(required, alternatives, tokens, now_us, share)
        return taken if isinstance(taken, Denied) else _Taken(self, taken, tokens, share)

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
        memory, before = self._memory, []
        memory.lock()
        try:
            for name, each in standings.items():
                row = memory.row(name)
                if row is not None:
                    memory.load(row, each, now_us)
                    before.append((row, each, (each.running, each.held, *arrivals(each))))
            yield
            for row, each, was in before:
                memory.store(row, each, was)
        finally:
            memory.unlock()


class _Taken(Taken):
    """What a request has taken of what the workers have in common. It is settled when it is given back."""

    __slots__ = ("_common", "_settling")

    def __init__(self, common: Common, taken: Taken, tokens: int, share: int) -> None:
        super().__init__(taken.chosen, taken.standings, tokens, share)
        self._common = common
        self._settling: tuple[int, Collection[str]] = (0, ())

    def settle(self, tokens: int, now_us: int, spared: Collection[str] = ()) -> None:  # noqa: ARG002 - it is done later
        """Say how many tokens were used."""
        self._settling = self._settling if self.settled else (tokens, spared)
        self.settled = True

    def close(self, now_us: int) -> None:
        """Take what was used, and give back what is given back at the end."""
        with self._common.shown(self.standings, now_us):
            self.settled = False
            tokens, spared = self._settling
            super().settle(tokens, now_us, spared)
            super().close(now_us)
