"""`make chaos-ledger`: what becomes of receipts when the store dies, the disk is full and the gateway is killed.

    python -m loadtest.ledger_storm --rate 50

A mock provider, a PostgreSQL of its own and the real gateway, asked at a constant rate, half of it streamed. In each
part something is taken away, and given back:

- `outage`: PostgreSQL is stopped for 20 s and started again.
- `full`: the data directory, with the spool and an SQLite store, is a small tmpfs that is filled up for 10 s. It is
  mounted for that, which only root may do; where it cannot be, the part is left out and the table says so.
- `kills`: the gateway is killed (SIGKILL) ten times at random moments and started again on the same directory, once
  with PostgreSQL as its store and once with SQLite.

Afterwards the store is asked for every receipt whose id a client was given. Those that ended less than a second before
a kill may be missing. It exits with 1 when a request failed that no kill cut off, when a receipt is lost, or when one
is there twice: in the table of receipts, or in what the roll-ups say of how many there were.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtest import arrivals, postgres, processes
from loadtest.arrivals import Arrivals, Asked, Down
from loadtest.figures import markdown, percentile

PARTS = ("outage", "full", "kills")
STORES = ("PostgreSQL", "SQLite")
AGE_S = 1.0  # of receipts that no kill may cost
TMPFS_MB = 32
BETWEEN_S = (0.5, 4.0)  # two kills
SETTLE_S = 30.0  # how long the store may take to have everything, once nothing is wrong any more
_DIALS = ("--tokens", "8", "--ttft-ms", "20", "--tokens-per-s", "400")
_ALL = "SELECT request_id FROM receipts"
_SUM = "SELECT COALESCE(SUM(requests), 0) FROM rollups WHERE span = 'day'"

Rows = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how hard."""

    rate_per_s: float
    calm_s: float  # before a fault, and after it
    outage_s: float
    full_s: float
    kills: int
    stores: Sequence[str]  # that the killed gateways have
    seed: int
    parts: Sequence[str]


@dataclass(slots=True)
class Part:
    """What was seen of one part."""

    name: str
    sign: str = ""  # what the gateway must have logged, or nothing was taken away
    noticed: bool = False
    asked: list[Asked] = field(default_factory=list)
    downs: list[Down] = field(default_factory=list)
    trouble: Down | None = None  # when something was away that is not the gateway
    stored: list[str] = field(default_factory=list)
    summed: int = 0  # requests, as the roll-ups say
    settled_s: float = float("nan")  # from the last answer until the store had everything
    left_out: str = ""  # why it was not run

    @property
    def failed(self) -> list[Asked]:
        """Requests that failed with the gateway there."""
        return arrivals.failed(self.asked, self.downs)

    @property
    def due(self) -> set[str]:
        """The receipts that must be there."""
        return arrivals.due(self.asked, self.downs, AGE_S)

    @property
    def lost(self) -> set[str]:
        """Those of them that are not."""
        return self.due - set(self.stored)

    @property
    def doubled(self) -> int:
        """How many are there, or are counted, more than once; below 0 where fewer were counted."""
        return max(len(self.stored), self.summed) - len(set(self.stored)) or self.summed - len(self.stored)

    def slow_ms(self) -> tuple[float, float]:
        """The 99th percentile of what requests took, without trouble and with it."""
        calm: list[float] = []
        trouble: list[float] = []
        for one in self.asked:
            if not one.fault:
                (trouble if self.trouble is not None and self.trouble.cuts(one) else calm).append(one.took_ms)
        return percentile(calm, 0.99), percentile(trouble, 0.99)


class Run:
    """One gateway on one directory, with what asks it, and the store's own answers."""

    def __init__(self, part: Part, url: str, data: Path, rows: Rows, options: Options) -> None:
        self._part = part
        self._url = url
        self._data = data
        self._rows = rows
        self._options = options
        self._on = processes.cores()
        self._mock = ""
        self._gateway: processes.Server | None = None
        self._running = contextlib.ExitStack()
        self._arrivals: Arrivals | None = None

    def pass_over(self, event: Callable[[Run], None]) -> None:
        """Ask for a while, let it happen, ask for another while, and see what became of everything."""
        with processes.mock(*_DIALS, on=self._on.load) as mock, processes.pinned(self._on.load):
            self._mock = mock.base_url
            try:
                with Arrivals(self._start(), self._options.rate_per_s) as asking:
                    self._arrivals = asking
                    time.sleep(self._options.calm_s)
                    event(self)
                    time.sleep(self._options.calm_s)
                self._part.asked = asking.asked
                self._settle()
                said = [] if self._gateway is None else self._gateway.lines()
                self._part.noticed = any(self._part.sign in line for line in said)
            finally:
                self._running.close()  # it stores what it still has
        self._part.stored = self._rows(_ALL)
        self._part.summed = int((self._rows(_SUM) or ["0"])[0])

    def kill(self) -> None:
        """Kill the gateway, and start another on the same directory."""
        if self._gateway is None or self._arrivals is None:
            raise RuntimeError("nothing runs yet")
        began = time.monotonic()
        os.kill(self._gateway.pid, signal.SIGKILL)
        self._running.close()
        self._arrivals.base_url = self._start()
        self._part.downs.append(Down(began, time.monotonic()))

    @contextlib.contextmanager
    def trouble(self) -> Iterator[None]:
        """Note that something else is away."""
        began = time.monotonic()
        yield
        self._part.trouble = Down(began, time.monotonic())

    def _start(self) -> str:
        more = f"ledger: {{url: '{self._url}', log: false}}"
        started = processes.gateway(
            self._mock, more=more, on=self._on.server, env={"THRIFTGATE_DATA": str(self._data)}
        )
        self._gateway = self._running.enter_context(started)
        return self._gateway.base_url

    def _settle(self) -> None:
        begun = time.monotonic()
        with contextlib.suppress(TimeoutError):
            processes.wait_until(lambda: self._part.due <= set(self._rows(_ALL)), SETTLE_S, every_s=0.1)
            self._part.settled_s = time.monotonic() - begun


def outage(options: Options) -> list[Part]:
    """The store is away for a while."""
    part = Part("PostgreSQL stopped", sign="store away")

    def event(run: Run) -> None:
        with run.trouble():
            server.stop()
            time.sleep(options.outage_s)
            server.start()

    try:
        with postgres.running() as server, tempfile.TemporaryDirectory(prefix="thriftgate-") as data:
            Run(part, server.url, Path(data), lambda query: of_postgres(server, query), options).pass_over(event)
    except postgres.Missing as missing:
        part.left_out = str(missing)
    return [part]


def full(options: Options) -> list[Part]:
    """The disk is full for a while: neither the spool nor SQLite can write."""
    part = Part("disk full (SQLite)", sign="spool not written")

    def event(run: Run) -> None:
        with run.trouble():
            filler = data / "filler"
            fill(filler)
            time.sleep(options.full_s)
            filler.unlink()

    try:
        with mounted(TMPFS_MB) as data:
            Run(part, "sqlite", data, lambda query: of_sqlite(data, query), options).pass_over(event)
    except PermissionError as error:
        part.left_out = str(error)
    return [part]


def kills(options: Options) -> list[Part]:
    """The gateway dies at random moments."""
    drawn = random.Random(options.seed)

    def event(run: Run) -> None:
        for _ in range(options.kills):
            run.kill()
            time.sleep(drawn.uniform(*BETWEEN_S))

    parts = {store: Part(f"SIGKILL x {options.kills}, {store}") for store in options.stores}
    if (part := parts.get("PostgreSQL")) is not None:
        try:
            with postgres.running() as server, tempfile.TemporaryDirectory(prefix="thriftgate-") as data:
                Run(part, server.url, Path(data), lambda query: of_postgres(server, query), options).pass_over(event)
        except postgres.Missing as missing:
            part.left_out = str(missing)
    if (part := parts.get("SQLite")) is not None:
        with tempfile.TemporaryDirectory(prefix="thriftgate-") as name:
            folder = Path(name)
            Run(part, "sqlite", folder, lambda query: of_sqlite(folder, query), options).pass_over(event)
    return list(parts.values())


@contextlib.contextmanager
def mounted(size_mb: int) -> Iterator[Path]:
    """A small file system of its own. Raises PermissionError where none may be mounted."""
    with tempfile.TemporaryDirectory(prefix="thriftgate-") as name:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "thriftgate", name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise PermissionError(str(error)) from None
        if done.returncode != 0:
            raise PermissionError(done.stderr.strip() or f"mount ended with {done.returncode}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)  # noqa: S607


def fill(path: Path) -> None:
    """Take every byte that the file system has left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size) == size:
                    pass


def of_postgres(server: postgres.Postgres, query: str) -> list[str]:
    """What a query gives; nothing where the gateway has not made the tables yet."""
    try:
        return server.rows(query)
    except RuntimeError:
        return []


def of_sqlite(data: Path, query: str) -> list[str]:
    """What a query of the store in that directory gives; nothing where there is no store yet."""
    path = data / "ledger.sqlite"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as store:
            return [str(row[0]) for row in store.execute(query)]
    except sqlite3.OperationalError:
        return []


def report(parts: Sequence[Part]) -> str:
    """The table."""
    head = (
        "ledger", "requests", "cut by a kill", "failed", "p99 ms, calm", "in trouble", "receipts due", "lost",
        "doubled", "all stored after", "held",
    )  # fmt: skip
    rows: list[list[object]] = []
    for part in parts:
        if part.left_out:
            rows.append([part.name, *["-"] * (len(head) - 2), f"not run: {part.left_out}"])
            continue
        calm, trouble = part.slow_ms()
        rows.append([
            part.name, len(part.asked), len(arrivals.cut(part.asked, part.downs)), len(part.failed), f"{calm:.0f}",
            f"{trouble:.0f}" if part.trouble else "-", len(part.due), len(part.lost), part.doubled,
            f"{part.settled_s:.1f} s", "no" if failures(part) else "yes",
        ])  # fmt: skip
    return markdown(head, rows)


def failures(part: Part) -> list[str]:
    """What does not hold; empty = every receipt is where it belongs."""
    if part.left_out:
        return []
    wrong = [f"{len(part.failed)} requests failed, such as: {one.fault}" for one in part.failed[:1]]
    wrong += [f"{len(part.lost)} receipts lost, such as {one}" for one in sorted(part.lost)[:1]]
    if part.doubled:
        wrong.append(f"{part.doubled} receipts too many: {len(part.stored)} stored, {part.summed} counted")
    if not part.due:
        wrong.append("nothing was asked")
    if not part.noticed:
        wrong.append("the gateway noticed nothing")
    return [f"{part.name}: {line}" for line in wrong]


def main(argv: list[str]) -> int:
    """Let it happen, and say what became of the receipts."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.ledger_storm", description="What becomes of receipts.")
    parser.add_argument("--rate", dest="rate_per_s", type=float, default=50, help="requests a second")
    parser.add_argument("--calm-s", type=float, default=4, help="before each fault and after it")
    parser.add_argument("--outage-s", type=float, default=20, help="how long PostgreSQL is away")
    parser.add_argument("--full-s", type=float, default=10, help="how long the disk is full")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES), help="of the killed gateways")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = Options(**vars(parser.parse_args(argv)))
    parts: list[Part] = []
    for name, play in (("outage", outage), ("full", full), ("kills", kills)):
        if name in options.parts:
            print(f"… {name}", file=sys.stderr, flush=True)
            parts += play(options)
    print(report(parts))
    print(f"\n{options.rate_per_s:g} requests/s; {processes.cores()}")
    wrong = [line for part in parts for line in failures(part)]
    print("\n".join(f"FAILED: {line}" for line in wrong) or "every receipt is where it belongs")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
