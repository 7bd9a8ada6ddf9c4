"""The crowd: 2,000 slow streams at once through one worker, and what each of them costs.

    python -m loadtest.crowd --streams 2000 --seconds 30

The same crowd asks the mock directly first, then through the gateway. Each stream is a bare connection that reads
tokens at the pace at which the mock says them; they start one after the other, so that they do not tick together. A
stream is dropped when it did not bring every token and its end. Memory is the gateway's resident set while all are
open, less that at rest, shared out among the streams. Exits with 1 when a stream was dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

from loadtest import driver, processes
from loadtest.figures import markdown, percentile
from loadtest.processes import Server

CONFIG = Path(__file__).with_name("crowd.yaml")
PROMPT = "Explain in two sentences what a reverse proxy does for a web application."
STREAM_KB = 64.0  # of memory for a stream, at most
SPARE_FILES = 200  # beside the streams' own
_PATIENCE_S = 30.0  # beyond the time that the streams should take
_GOOD, _END = b" 200 OK", b"0\r\n\r\n"  # a status, and HTTP's own end of a body
_CONTENT, _EMPTY, _DONE = b'"content":"', b'"content":""', b"data: [DONE]"


@dataclass(frozen=True, slots=True)
class Options:
    """How large the crowd is, and how slow."""

    streams: int
    seconds: float  # that a stream takes
    tokens_per_s: float
    stagger_s: float  # between the first start and the last

    @property
    def tokens(self) -> int:
        """Of each stream."""
        return max(1, round(self.seconds * self.tokens_per_s))


class Stream(asyncio.Protocol):
    """One stream on a connection of its own: when each of its tokens came, and whether it came to its end."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self.over = asyncio.get_running_loop().create_future()
        self.asked = 0.0
        self.status = b""
        self.times: list[float] = []  # of the tokens
        self.done = False

    def __repr__(self) -> str:
        end = "done" if self.done else "not done"
        return f"<Stream {self.status.decode(errors='replace')!r}, {len(self.times)} tokens, {end}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another parent
        self.asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note when each token came, and leave at the end, or where there will be none."""
        now = time.perf_counter()
        self.status = self.status or data.partition(b"\r\n")[0]
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            self.times += [now] * (event.count(_CONTENT) - event.count(_EMPTY))
            self.done = self.done or _DONE in event
        if self.done or data.endswith(_END) or not self.status.endswith(_GOOD):
            self.leave()

    def connection_lost(self, _: Exception | None) -> None:
        """It is over, one way or the other."""
        if not self.over.done():
            self.over.set_result(None)

    def leave(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def whole(self, tokens: int) -> bool:
        """Whether nothing is missing."""
        return self.done and self.status.endswith(_GOOD) and len(self.times) == tokens


@dataclass(slots=True)
class Side:
    """What a crowd saw on one side. Milliseconds."""

    name: str
    streams: int
    dropped: list[str] = field(default_factory=list)
    tokens: int = 0
    first_ms: list[float] = field(default_factory=list)
    gaps_ms: list[float] = field(default_factory=list)
    open_at_reading: int = 0  # when all should have been

    def add(self, stream: Stream, tokens: int) -> None:
        """Count a stream that is over."""
        if not stream.whole(tokens):
            self.dropped.append(repr(stream))
        self.tokens += len(stream.times)
        if stream.times:
            self.first_ms.append((stream.times[0] - stream.asked) * 1000)
        self.gaps_ms += [(after - before) * 1000 for before, after in zip(stream.times, stream.times[1:], strict=False)]


@dataclass(frozen=True, slots=True)
class Memory:
    """The gateway's resident set, in MB."""

    rest_mb: float
    full_mb: float
    streams: int

    @property
    def stream_kb(self) -> float:
        """Of each stream, in KB of 1,000 bytes."""
        return (self.full_mb - self.rest_mb) * 1000 / max(1, self.streams)


async def crowd(name: str, url: str, model: str, options: Options, read: Callable[[], None]) -> Side:
    """Let everybody in; `read` is called while all are there."""
    side = Side(name, options.streams)
    loop = asyncio.get_running_loop()
    begun, request = loop.time(), _request(url, model)
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 80
    here: set[Stream] = set()

    async def one(at: int) -> None:
        """One of the crowd."""
        await _until(begun + options.stagger_s * at / options.streams)
        try:
            _, stream = await loop.create_connection(lambda: Stream(request), host, port)
        except OSError as fault:
            side.dropped.append(f"not connected: {fault}")
            return
        here.add(stream)
        await asyncio.wait([stream.over], timeout=options.seconds + _PATIENCE_S)
        here.discard(stream)
        stream.leave()
        side.add(stream, options.tokens)

    async def watch() -> None:
        """The moment in the middle, between the last start and the first end."""
        await _until(begun + (options.stagger_s + options.seconds) / 2)
        side.open_at_reading = sum(bool(stream.times) for stream in here)
        read()

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        for at in range(options.streams):
            group.create_task(one(at))
    return side


async def _until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))


def _request(url: str, model: str) -> bytes:
    """The request as it stands on the wire."""
    parts, body = urlsplit(url), driver.request(PROMPT, model, stream=True)
    head = [f"POST {parts.path}/chat/completions HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/json"]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def make_room(files: int) -> None:
    """Let this process, and what it starts, open so many files. Raises ValueError where the machine forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (-1, resource.RLIM_INFINITY) and hard < files:
        raise ValueError(f"{files} open files are needed, and `ulimit -Hn` is {hard}: ask for fewer streams")
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def measure(options: Options) -> tuple[list[Side], Memory]:
    """Both sides, one after the other, and the gateway's memory."""
    make_room(2 * options.streams + SPARE_FILES)  # the gateway has two connections for each
    cores = processes.cores()
    pace = ("--tokens", str(options.tokens), "--tokens-per-s", str(options.tokens_per_s), "--canned", "true")
    with processes.mock(*pace, on=cores.load) as mock, processes.pinned(cores.load):
        direct = uvloop.run(crowd("direct", mock.base_url, "mock-cheap", options, lambda: None))
        with processes.gateway(mock.base_url, config=CONFIG, on=cores.server) as gateway:
            rest_mb, full = resident_mb(gateway), list[float]()
            through = crowd("gateway", gateway.base_url, "auto", options, lambda: full.append(resident_mb(gateway)))
            sides = [direct, uvloop.run(through)]
    return sides, Memory(rest_mb, full[0], options.streams)


def resident_mb(server: Server) -> float:
    """What it holds in memory."""
    return server.memory_mb()[0]


def report(sides: Sequence[Side], memory: Memory) -> str:
    """The tables."""
    rows = [
        (
            side.name,
            side.streams,
            side.open_at_reading,
            len(side.dropped),
            side.tokens,
            *(f"{percentile(times, share):.1f}" for times in (side.first_ms, side.gaps_ms) for share in (0.5, 0.99)),
        )
        for side in sides
    ]
    head = ("crowd", "streams", "at once", "dropped", "tokens", "first token p50 ms", "p99", "gap p50 ms", "p99")
    held = "yes" if memory.stream_kb <= STREAM_KB else "no"
    costs = [
        ("at rest", f"{memory.rest_mb:.1f} MB", "-", "-"),
        ("while all are open", f"{memory.full_mb:.1f} MB", "-", "-"),
        ("for each stream", f"{memory.stream_kb:.1f} KB", f"{STREAM_KB:g} KB", held),
    ]
    return f"{markdown(head, rows)}\n\n{markdown(('gateway, resident', 'value', 'target', 'held'), costs)}"


def failures(sides: Sequence[Side]) -> list[str]:
    """Every side that dropped a stream, or never had all of them at once."""
    wrong = [f"{side.name}: {len(side.dropped)} dropped, such as {side.dropped[0]}" for side in sides if side.dropped]
    wrong += [
        f"{side.name}: {side.open_at_reading} of {side.streams} streams were open at once"
        for side in sides
        if side.open_at_reading < side.streams
    ]
    return wrong


def main(argv: list[str]) -> int:
    """Measure, print, and say whether all came through."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.crowd", description="Many slow streams at once.")
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=30, help="that a stream takes")
    parser.add_argument("--tokens-per-s", type=float, default=2)
    parser.add_argument("--stagger-s", type=float, default=8, help="between the first start and the last")
    options = Options(**vars(parser.parse_args(argv)))
    sides, memory = measure(options)
    print(report(sides, memory))
    print(f"\n{options.tokens} tokens a stream at {options.tokens_per_s:g}/s, one worker; {processes.cores()}")
    wrong = failures(sides)
    print("\n".join(f"FAILED: {line}" for line in wrong) or "none was dropped")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
