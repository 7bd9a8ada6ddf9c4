"""Receipts on their way out: recorded synchronously, written in batches by a thread of their own.

`record` cannot wait and cannot be cancelled. A writer that cannot keep up (a full pipe, a slow disk) costs receipts
beyond a bound, and one that raises the receipt it was given, loudly: they are counted in a metric, the rest is
written, and no request waits for them.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gateway.metrics import Metrics
from gateway.receipt import Receipt

FLUSH_S = 0.02          # how long a batch gathers
BOUND = 65_536          # receipts waiting at most, about 1 KB each


class Ledger:
    """A bounded queue of receipts and the thread that writes them."""

    def __init__(self, write: Callable[[dict[str, Any]], None], metrics: Metrics, bound: int = BOUND) -> None:
        self._write = write
        self._metrics = metrics
        self._bound = bound
        self._waiting: deque[Receipt] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: Future[None] | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._lock = threading.Lock()      # two flushes never write at once, so lines stay whole and in order
        self.dropped = 0

    def __repr__(self) -> str:
        return f"<Ledger {len(self._waiting)} waiting, {self.dropped} dropped>"

    def record(self, receipt: Receipt) -> None:
        """Take a closed receipt. Returns at once."""
        if len(self._waiting) >= self._bound:
            self._drop()
            return
        self._waiting.append(receipt)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._start_batch)

    async def flush(self) -> None:
        """Wait until everything recorded so far is written and counted."""
        await asyncio.wrap_future(self._writer.submit(self._write_waiting))

    async def close(self) -> None:
        """Write what is left and stop the thread."""
        if self._timer is not None:
            self._timer.cancel()
        await self.flush()
        self._writer.shutdown()

    def _drop(self) -> None:
        self.dropped += 1
        self._metrics.dropped.inc()

    def _start_batch(self) -> None:
        self._timer = None
        if self._writing is None or self._writing.done():
            self._writing = self._writer.submit(self._write_waiting)
        else:                                                    # the writer is slow: gather on, bounded
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._start_batch)

    def _write_waiting(self) -> None:
        with self._lock:
            while self._waiting:
                fields = self._waiting.popleft().fields()
                self._metrics.count(fields)
                try:
                    self._write(fields)
                except Exception:  # noqa: BLE001 - a closed pipe, a full disk: this one is lost, which is counted
                    self._drop()
