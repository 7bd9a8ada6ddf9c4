"""One streamed completion over a plain socket, timed read by read. What locust's users run.

`http.client` rather than locust's own client, because that one fills a buffer before it returns: a stream would seem to
arrive in lumps. Locust patches sockets to be cooperative, so many of these run in one process.

A stream counts as good only if it said `[DONE]`, carried text and no error frame, and the connection ended it properly.
"""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

TIMEOUT_S = 120.0


@dataclass(slots=True)
class Timing:
    """How one stream went. Seconds on the monotonic clock; `error` is "" for a good one."""

    started: float
    first_token_s: float = 0.0  # until the first text, not the role frame
    total_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)  # between reads, after the first text
    received: int = 0  # bytes of the body
    error: str = ""


class Connections:
    """Kept connections to one server; each is used by one stream at a time."""

    def __init__(self, base_url: str) -> None:
        self._url = urlsplit(base_url)
        self._idle: list[http.client.HTTPConnection] = []

    def take(self) -> http.client.HTTPConnection:
        """An idle connection, or a new one."""
        if self._idle:
            return self._idle.pop()
        return http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=TIMEOUT_S)

    def give(self, connection: http.client.HTTPConnection, *, good: bool) -> None:
        """Keep it for the next stream, or close it."""
        if good:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle ones."""
        while self._idle:
            self._idle.pop().close()

    def stream(self, body: dict[str, object], key: str = "sk-load") -> Timing:
        """Ask for a streamed completion and read it to its end. Never raises: what went wrong is in the Timing."""
        connection = self.take()
        timing = Timing(time.perf_counter())
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        try:
            connection.request("POST", f"{self._url.path}/chat/completions", orjson.dumps(body), headers)
            response = connection.getresponse()
            if response.status == 200:
                _read(response, timing)
            else:
                timing.error = f"status {response.status}: {response.read(200).decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as fault:
            timing.error = f"{type(fault).__name__}: {fault}"
        timing.total_s = time.perf_counter() - timing.started
        self.give(connection, good=not timing.error)
        return timing


def _read(response: http.client.HTTPResponse, timing: Timing) -> None:
    """Read to the end and judge it."""
    last = timing.started
    tail = b""
    failed = False
    while piece := response.read1(65_536):
        now = time.perf_counter()
        timing.received += len(piece)
        if timing.first_token_s:
            timing.gaps_s.append(now - last)
        elif _has_text(tail + piece):
            timing.first_token_s = now - timing.started
        last = now
        failed = failed or b'data: {"error"' in tail + piece
        tail = (tail + piece)[-4096:]
    if failed:
        timing.error = "error frame in the stream"
    elif not tail.rstrip().endswith(b"data: [DONE]"):
        timing.error = "stream without [DONE]"
    elif not timing.first_token_s:
        timing.error = "stream without text"


def _has_text(seen: bytes) -> bool:
    """Whether a delta with text has come."""
    return seen.count(b'"content":"') > seen.count(b'"content":""')
