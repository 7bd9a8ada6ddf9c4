"""Receipts on their way out: recorded synchronously, kept and written in batches by threads of their own.

`record` cannot wait and cannot be cancelled. What cannot be kept (a full disk, a full pipe) costs receipts beyond a
bound, and one that cannot be written at all is lost alone: both are counted in a metric. Nobody waits for a writer
without a limit, neither a request nor a scrape nor a shutdown.

With a spool, receipts are kept there first: they are on disk about 20 ms after they were recorded. Where the disk
refuses them they stay in memory and are tried again. The log has a thread of its own then: a pipe that nobody reads
holds up lines of the log and no receipt. Without a spool the log is all there is, and keeps the receipts.
"""

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from gateway import logs
from gateway.metrics import Metrics
from gateway.receipt import Receipt
from gateway.spool import Spool

GATHER_S = 0.02             # how long a batch gathers: one wake of the thread for many receipts
AGAIN_S = 0.25              # after what time a disk that refused is tried again
BOUND = 65_536              # receipts waiting at most, about 1 KB each
HELD_BYTES = 64 << 20       # of those that the disk refuses: with their prompts they may be larger
WRITE_BYTES = 1 << 20       # written at once, but for a single one that is larger
CLOSE_S = 5.0               # how long a shutdown waits for the writer
INTEGERS = range(-(1 << 63), 1 << 64)       # those that JSON is written with

Write = Callable[[dict[str, Any]], None]


class Ledger:
    """A bounded queue of receipts and the thread that keeps and writes them. `write`: None where nothing is logged."""

    def __init__(
        self, write: Write | None, metrics: Metrics, bound: int = BOUND, spool: Spool | None = None
    ) -> None:
        self._write = write
        self._metrics = metrics
        self._bound = bound
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0
        self._told = 0          # of those dropped: how many are no news
        self._lines = _Queue("ledger_log", self._write_line) if spool is not None and write is not None else None
        self._ahead = None if spool is None else _Ahead(spool, metrics, bound, self._say)
        self._queue = _Queue("ledger", self._take, self._settle)
        metrics.receipts_held.set_function(self._waiting)

    def __repr__(self) -> str:
        return f"<Ledger {self._waiting()} waiting, {self.dropped} dropped>"

    def record(self, receipt: Receipt) -> None:
        """Take a closed receipt. Returns at once."""
        if len(self._queue) >= self._bound:
            self._drop()
            return
        self._queue.put(receipt)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._rouse)

    async def flush(self, limit_s: float = CLOSE_S) -> bool:
        """Wait until everything recorded so far is written and counted, or the limit passes; return which.

        What the disk refuses is not waited for.
        """
        loop = asyncio.get_running_loop()
        reached = loop.create_future()

        def tell() -> None:
            """Say from the thread that everything before this point is done."""
            with contextlib.suppress(RuntimeError):      # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(lambda: None if reached.done() else reached.set_result(None))

        self._queue.put(tell if self._lines is None else partial(self._lines.put, tell))
        self._queue.wake()
        done, _ = await asyncio.wait((reached,), timeout=limit_s)
        return bool(done)

    async def close(self) -> None:
        """Keep and write what is left, within CLOSE_S; what cannot be kept by then is counted as dropped."""
        if self._timer is not None:
            self._timer.cancel()
        await self.flush()
        self._drop(self._queue.left() + self._held())
        self._queue.close()
        if self._lines is not None:
            self._lines.close()

    def _held(self) -> int:
        return 0 if self._ahead is None else self._ahead.held

    def _waiting(self) -> int:
        return len(self._queue) + self._held()

    def _rouse(self) -> None:
        self._timer = None
        self._queue.wake()

    def _drop(self, count: int = 1) -> None:
        self.dropped += count
        self._metrics.dropped.inc(count)

    def _take(self, receipt: Receipt) -> None:
        """Count a receipt, keep and write it. On the ledger's thread, as what follows."""
        try:
            fields = receipt.fields()
            self._metrics.count(fields)
            if self._lines is not None:
                self._put_line(fields)
            if self._ahead is not None:
                self._ahead.put(_encoded(fields))
            elif self._write is not None:
                self._write(fields)
        except Exception:  # noqa: BLE001 - a closed pipe, a full disk and no room left: this one is lost, and counted
            self._drop()

    def _put_line(self, fields: dict[str, Any]) -> None:
        """Have a line written where the log's are, so that the ledger's thread never waits for the log."""
        assert self._lines is not None  # noqa: S101 - for the type checker
        if len(self._lines) < self._bound:
            self._lines.put(fields)
        else:
            self._metrics.lines_dropped.inc()

    def _settle(self) -> float | None:
        """Keep what was taken. Return after what time it is to be tried again, if it is."""
        if self._ahead is None:
            return None
        self._ahead.write()
        if not self._ahead.held:
            self._told = self.dropped
        elif self.dropped > self._told >= 0:
            self._say("receipts lost", "error", lost=self.dropped - self._told, waiting=self._ahead.held)
            self._told = -1         # said once, until the disk takes them again
        if self._lines is not None:
            self._lines.wake()
        return AGAIN_S if self._ahead.held else None

    def _say(self, event: str, level: str, **fields: Any) -> None:
        """Have something else written there."""
        say = partial(logs.say, event, level, **fields)
        if self._lines is None:
            say()
        else:
            self._lines.put(say)

    def _write_line(self, fields: dict[str, Any]) -> None:
        """Write a line. On the log's thread."""
        try:
            assert self._write is not None  # noqa: S101 - for the type checker
            self._write(fields)
        except Exception:  # noqa: BLE001 - a closed pipe: the receipt itself is kept
            self._metrics.lines_dropped.inc()


class _Queue:
    """What waits for a thread, and the thread. It takes things in their order; one that can be called, it calls.

    `settle` is called once nothing waits, and before each call. What it returns is how long the thread rests at most.
    """

    def __init__(
        self, name: str, take: Callable[[Any], None], settle: Callable[[], float | None] = lambda: None
    ) -> None:
        self._take = take
        self._settle = settle
        self._waiting: deque[Any] = deque()
        self._wake = threading.Event()
        self._closed = False
        # A daemon: a write that never returns must not keep the process from ending.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def __len__(self) -> int:
        return len(self._waiting)

    def left(self) -> int:
        """Return how many wait that are not calls."""
        return sum(not callable(waiting) for waiting in tuple(self._waiting))

    def put(self, what: Any) -> None:
        """Have something wait. The thread is not woken."""
        self._waiting.append(what)

    def wake(self) -> None:
        """Have the thread look."""
        self._wake.set()

    def close(self) -> None:
        """End the thread, once it is done with what it has in hand."""
        self._closed = True
        self._wake.set()

    def _work(self) -> None:
        rest_s = None
        while True:
            self._wake.wait(rest_s)
            if self._closed:
                return
            self._wake.clear()
            while self._waiting:
                waiting = self._waiting.popleft()
                if callable(waiting):
                    self._settle()
                    waiting()
                else:
                    self._take(waiting)
            rest_s = self._settle()


class _Ahead:
    """Lines on their way to the spool, held here while the disk refuses them."""

    def __init__(self, spool: Spool, metrics: Metrics, bound: int, say: Callable[..., None]) -> None:
        self._spool = spool
        self._metrics = metrics
        self._bound = bound
        self._say = say
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._again: float | None = None        # when to try again; None while the disk takes everything
        metrics.spool_writable.set(1)

    @property
    def held(self) -> int:
        """How many lines wait."""
        return len(self._lines)

    def put(self, line: bytes) -> None:
        """Take a line. Raises MemoryError where there is no room for it."""
        if self.held >= self._bound or self._bytes + len(line) > max(HELD_BYTES, len(line)):
            raise MemoryError
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= WRITE_BYTES:
            self.write()

    def write(self) -> None:
        """Write what waits, unless the disk refused it a moment ago."""
        if not self._lines or (self._again is not None and time.monotonic() < self._again):
            return
        while batch := self._next():
            try:
                self._spool.append(b"".join(batch))
            except Exception as error:  # noqa: BLE001 - whatever it is, the receipts are held
                self._refused(error)
                return
            for line in batch:
                self._lines.popleft()
                self._bytes -= len(line)
        if self._again is not None:
            self._again = None
            self._metrics.spool_writable.set(1)
            self._say("spool written again", "info")

    def _next(self) -> list[bytes]:
        """Return the first lines, as many as are written at once."""
        sized = zip(self._lines, itertools.accumulate(map(len, self._lines)), strict=True)
        fits = itertools.takewhile(lambda line_size: line_size[1] <= max(WRITE_BYTES, len(line_size[0])), sized)
        return [line for line, _ in fits]

    def _refused(self, error: Exception) -> None:
        if self._again is None:
            self._metrics.spool_writable.set(0)
            self._say("spool not written", "error", error=str(error), waiting=self.held)
        self._again = time.monotonic() + AGAIN_S


def _encoded(fields: dict[str, Any]) -> bytes:
    """Return a receipt as a line, whatever clients and providers had it hold."""
    try:
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return orjson.dumps(_plain(fields), option=orjson.OPT_APPEND_NEWLINE)


def _plain(value: Any) -> Any:
    """Return a value without what cannot be written: halves of characters, integers of more than 64 bits."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if type(value) is int and value not in INTEGERS else value
