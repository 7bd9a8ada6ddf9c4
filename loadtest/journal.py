"""What the mock provider saw and did. Tests read it, and wait on it instead of sleeping.

The counters are kept for every call; the calls themselves only as far as `keep` allows, because a load run makes
millions. A log has a line for each call when it was understood and another when it ended, so that what a killed process
was doing can still be read.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from multidict import CIMultiDict

LOGGED = ("serial", "model", "said", "stream", "fault", "after", "outcome", "started", "second_chunk", "ended")


@dataclass(slots=True)
class Call:
    """One request as the provider saw it. Times are `time.monotonic()` seconds, 0 = has not happened."""

    path: str
    headers: CIMultiDict[str]
    body: bytes
    started: float
    serial: int = 0  # as which of all calls it came
    model: str = ""
    said: str = ""  # the last turn
    stream: bool = False
    fault: str = ""  # what befalls it: a fault of the dials, or the status of a refusal
    after: int = 0  # frames into the stream
    outcome: str = "open"  # open | answered | refused | cut | cancelled (the client left) | stopped (the mock was)
    status: int = 0  # 0 = no status line was sent
    first_byte: float = 0.0
    second_chunk: float = 0.0  # in a stream of OpenAI's the first with text
    ended: float = 0.0
    chunks_sent: int = 0
    bytes_sent: int = 0  # of the body, before HTTP's own chunk framing
    sent: list[bytes] = field(default_factory=list)  # the body's pieces, when the journal keeps calls

    @property
    def json(self) -> dict[str, Any]:
        """The request's body, decoded."""
        decoded: dict[str, Any] = orjson.loads(self.body)
        return decoded


class Journal:
    """Counters over all calls, the last `keep` calls, and a way to wait for something to happen."""

    def __init__(self, keep: int, log: Path | None = None) -> None:
        self.keep = keep
        self._log = None if log is None else log.open("ab", buffering=0)  # a line is with the system at once
        self.calls: deque[Call] = deque(maxlen=keep)
        # counters since the start
        self.requests = 0
        self.answered = 0
        self.refused = 0
        self.cut = 0
        self.cancelled = 0
        self.bytes_sent = 0
        self.chunks_sent = 0
        # now
        self.in_flight = 0
        self._changed: asyncio.Event | None = None  # made by whoever waits; None = nobody does

    def __repr__(self) -> str:
        return f"<Journal {self.requests} requests, {self.in_flight} in flight, {self.cancelled} cancelled>"

    @property
    def last(self) -> Call:
        """The call that began last."""
        return self.calls[-1]

    def begin(self, call: Call) -> None:
        """Note a request that has arrived whole."""
        self.calls.append(call)
        self.requests += 1
        self.in_flight += 1
        call.serial = self.requests
        self._wake()

    def understood(self, call: Call) -> None:
        """Note what a call says and what will befall it, while there is still somebody to write it."""
        self._write(call)

    def wrote(self, call: Call, piece: bytes) -> None:
        """Note a piece of the body that went to the socket."""
        if not call.chunks_sent:
            call.first_byte = time.monotonic()
        elif call.chunks_sent == 1:
            call.second_chunk = time.monotonic()
        call.chunks_sent += 1
        call.bytes_sent += len(piece)
        self.chunks_sent += 1
        self.bytes_sent += len(piece)
        if self.keep:
            call.sent.append(piece)
        if self._changed is not None:
            self._wake()

    def end(self, call: Call, outcome: str) -> None:
        """Note how a call ended; the first word counts."""
        if call.outcome != "open":
            return
        call.outcome = outcome
        call.ended = time.monotonic()
        self.in_flight -= 1
        if outcome in ("answered", "refused", "cut", "cancelled"):
            setattr(self, outcome, getattr(self, outcome) + 1)
        self._write(call)
        self._wake()

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
            self._log = None

    async def until(self, reached: Callable[[Journal], bool], timeout_s: float = 10.0) -> None:
        """Return as soon as `reached(self)` holds; it is asked again after every change. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not reached(self):
                if self._changed is None:
                    self._changed = asyncio.Event()
                await self._changed.wait()

    def counters(self) -> dict[str, int]:
        """The numbers, for `GET /mock/state`."""
        names = (
            "requests",
            "answered",
            "refused",
            "cut",
            "cancelled",
            "in_flight",
            "chunks_sent",
            "bytes_sent",
        )
        return {name: getattr(self, name) for name in names}

    def _write(self, call: Call) -> None:
        """Add a line to the log; the last line of a call's serial number counts."""
        if self._log is not None:
            self._log.write(orjson.dumps({name: getattr(call, name) for name in LOGGED}) + b"\n")

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None
