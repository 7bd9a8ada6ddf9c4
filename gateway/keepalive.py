"""Comments to a client whose stream is silent, so that nothing on the way takes its connection for dead.

Where no answer has begun yet, the response is begun for it: status 200, before anybody knows who will answer. Targets
may still be exchanged then, since nothing of an answer has been shown; only an error can no longer be a status.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web

from gateway.receipt import Receipt
from gateway.tasks import spawn

COMMENT = b": waiting\n\n"
EVENTS = "text/event-stream; charset=utf-8"
UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}       # told to whatever a stream passes
HEADERS = {"Content-Type": EVENTS, **UNBUFFERED}


class KeepAlive:
    """One stream's comments. Costs a timer; a task only where there is silence."""

    __slots__ = (
        "_every_s", "_handle", "_headers", "_http", "_loop", "_receipt", "_said_bytes", "_task", "between", "response",
    )

    def __init__(
        self, http: web.Request, receipt: Receipt, every_s: float, headers: Callable[[], Mapping[str, str]]
    ) -> None:
        self._http = http
        self._receipt = receipt
        self._every_s = every_s          # 0: never
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._said_bytes = 0             # when last looked at: where it is more, there was no silence
        self.response: web.StreamResponse | None = None          # once it has begun
        self.between: Callable[[], bool] = lambda: True          # whether what was sent ends between two events

    def __repr__(self) -> str:
        return f"<KeepAlive every {self._every_s:g} s{', begun' if self.response else ''}>"

    def __enter__(self) -> Self:
        if self._every_s:
            self._handle = self._loop.call_later(self._every_s, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._task is not None:
            self._task.cancel()

    async def begun(self) -> web.StreamResponse | None:
        """Return the response where it was begun for the client's sake, once nobody else writes to it."""
        if self._task is not None:
            await asyncio.wait({self._task})
        return self.response

    def _look(self) -> None:
        silent = self._receipt.sent_bytes == self._said_bytes
        self._said_bytes = self._receipt.sent_bytes
        if silent and self.between() and (self._task is None or self._task.done()):
            self._task = spawn(self._say())
        self._handle = self._loop.call_later(self._every_s, self._look)

    async def _say(self) -> None:
        with contextlib.suppress(ConnectionError):       # the client is gone; whoever serves it will be told
            if self.response is None:
                response = web.StreamResponse(headers={**HEADERS, **self._headers()})
                await response.prepare(self._http)
                self.response = response
            if self.between():                           # the answer may have gone on since it was found silent
                await self.response.write(COMMENT)
