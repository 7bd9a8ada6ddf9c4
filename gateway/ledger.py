"""Receipts on their way out: recorded synchronously, written in batches by a thread of their own.

`record` cannot wait and cannot be cancelled. A writer that cannot keep up (a full pipe, a slow disk) costs receipts
beyond a bound, and one that raises the receipt it was given: both are counted in a metric. Nobody waits for the writer
without a limit, neither a request nor a scrape nor a shutdown.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.metrics import Metrics
from gateway.receipt import Receipt

GATHER_S = 0.02         # how long a batch gathers: one wake of the thread for many receipts
BOUND = 65_536          # receipts waiting at most, about 1 KB each
CLOSE_S = 5.0           # how long a shutdown waits for the writer


class Ledger:
    """A bounded queue of receipts and the thread that writes them."""

    def __init__(self, write: Callable[[dict[str, Any]], None], metrics: Metrics, bound: int = BOUND) -> None:
        self._write = write
        self._metrics = metrics
        self._bound = bound
        self._waiting: deque[Receipt | Callable[[], None]] = deque()     # a callable: somebody waits for that point
        self._timer: asyncio.TimerHandle | None = None
        self._wake = threading.Event()
        self._closed = False
        self.dropped = 0
        # A daemon: a write that never returns must not keep the process from ending.
        threading.Thread(target=self._work, name="ledger", daemon=True).start()

    def __repr__(self) -> str:
        return f"<Ledger {len(self._waiting)} waiting, {self.dropped} dropped>"

    def record(self, receipt: Receipt) -> None:
        """Take a closed receipt. Returns at once."""
        if len(self._waiting) >= self._bound:
            self._drop()
            return
        self._waiting.append(receipt)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._rouse)

    async def flush(self, limit_s: float = CLOSE_S) -> bool:
        """Wait until everything recorded so far is written and counted, or the limit passes; return which."""
        loop = asyncio.get_running_loop()
        reached = loop.create_future()

        def tell() -> None:
            """Say from the thread that everything before this point is done."""
            with contextlib.suppress(RuntimeError):      # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(lambda: None if reached.done() else reached.set_result(None))

        self._waiting.append(tell)
        self._wake.set()
        done, _ = await asyncio.wait((reached,), timeout=limit_s)
        return bool(done)

    async def close(self) -> None:
        """Write what is left, within CLOSE_S; what cannot be written by then is counted as dropped."""
        if self._timer is not None:
            self._timer.cancel()
        if not await self.flush():
            self.dropped += sum(isinstance(waiting, Receipt) for waiting in tuple(self._waiting))
        self._closed = True
        self._wake.set()

    def _rouse(self) -> None:
        self._timer = None
        self._wake.set()

    def _drop(self) -> None:
        self.dropped += 1
        self._metrics.dropped.inc()

    def _work(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            while self._waiting:
                waiting = self._waiting.popleft()
                if isinstance(waiting, Receipt):
                    self._write_one(waiting)
                else:
                    waiting()

    def _write_one(self, receipt: Receipt) -> None:
        try:
            fields = receipt.fields()
            self._metrics.count(fields)
            self._write(fields)
        except Exception:  # noqa: BLE001 - a closed pipe, a full disk: this one is lost, which is counted
            self._drop()
