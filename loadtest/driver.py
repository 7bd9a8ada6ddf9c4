"""An asynchronous client for benchmarks and proofs: many requests, few words, every one checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import aiohttp
import orjson

_HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer sk-bench"}


@dataclass(slots=True)
class Tally:
    """What the driver saw. Times in seconds."""

    took_s: list[float] = field(default_factory=list)
    reads: int = 0  # pieces as they came from the socket
    received: int = 0  # bytes of all bodies


def request(prompt: str, model: str, *, stream: bool = False) -> bytes:
    """A chat completion request of one user message, encoded."""
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    if stream:
        body["stream"] = True
    return orjson.dumps(body)


async def whole(url: str, bodies: Sequence[bytes], connections: int) -> Tally:
    """Send all bodies over so many kept connections, each connection one at a time. Raises on anything but 200."""
    tally = Tally()
    waiting = iter(bodies)
    async with _session() as session, asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_each_whole(session, url, waiting, tally))
    return tally


async def streams(url: str, body: bytes, count: int) -> Tally:
    """Open so many streams at once and read each to its [DONE]. Raises when one ends without it."""
    tally = Tally()
    async with _session() as session, asyncio.TaskGroup() as group:
        for at in range(count):
            group.create_task(_one_stream(session, url, body, tally, at / count * 0.01))
    return tally


def _session() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=60)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout, headers=_HEADERS)


async def _each_whole(session: aiohttp.ClientSession, url: str, waiting: Iterator[bytes], tally: Tally) -> None:
    for body in waiting:
        begun = time.perf_counter()
        async with session.post(f"{url}/chat/completions", data=body) as response:
            answer = await response.read()
        tally.took_s.append(time.perf_counter() - begun)
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {answer[:300]!r}")
        tally.reads += 1
        tally.received += len(answer)


async def _one_stream(session: aiohttp.ClientSession, url: str, body: bytes, tally: Tally, after_s: float) -> None:
    await asyncio.sleep(after_s)  # spread over a token's time, or all streams would tick together
    begun = time.perf_counter()
    last = b""
    async with session.post(f"{url}/chat/completions", data=body) as response:
        async for piece in response.content.iter_any():
            tally.reads += 1
            tally.received += len(piece)
            last = piece
    tally.took_s.append(time.perf_counter() - begun)
    if response.status != 200 or not last.endswith(b"data: [DONE]\n\n"):
        raise RuntimeError(f"status {response.status}, the stream ended with {last[-300:]!r}")
