"""What the tests of the path have besides: a provider that follows a script to the byte, and the real process."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.conftest import BOUND_S, ROOT, Client

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return data as one chunk of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Script:
    """A provider that reads a request and then does exactly what it was told: bytes to send, events to wait for.

    At the end it closes the connection, with a reset if `reset`. `asked` is set when a request has arrived whole;
    `head` and `body` are the last one's.
    """

    def __init__(self, steps: tuple[bytes | asyncio.Event, ...], *, reset: bool) -> None:
        self._steps = steps
        self._reset = reset
        self._serving: set[asyncio.Task[None]] = set()
        self.asked = asyncio.Event()
        self.calls = 0
        self.head = b""
        self.body = b""
        self.base_url = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._serving.discard(task)
            writer.close()

    async def stop(self) -> None:
        """Let go whatever still waits, and see the connections end."""
        for step in self._steps:
            if isinstance(step, asyncio.Event):
                step.set()
        if self._serving:
            await asyncio.wait(self._serving, timeout=BOUND_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in self.head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            self.body = await reader.readexactly(int(length.partition(b":")[2]))
            self.calls += 1
            self.asked.set()
            for step in self._steps:
                if writer.is_closing():
                    break
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                else:
                    await step.wait()
        if self._reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))      # else it is a farewell
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


Scripted = Callable[..., Awaitable[Script]]


@pytest.fixture
async def scripted(_nothing_left: None) -> AsyncIterator[Scripted]:
    """`await scripted(*steps)`: a provider that sends these bytes and waits for these events."""
    started: list[tuple[Script, asyncio.Server]] = []

    async def start(*steps: bytes | asyncio.Event, reset: bool = False) -> Script:
        """Start one."""
        script = Script(steps, reset=reset)
        server = await asyncio.start_server(script, "127.0.0.1", 0)
        script.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        started.append((script, server))
        return script

    yield start
    for script, server in started:
        server.close()
        await script.stop()
        await server.wait_closed()


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a provider that nobody listens at."""
    with socket.socket() as held:          # bound and not listening: nobody else can take it
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


@pytest.fixture
def unreachable() -> Iterator[str]:
    """The address of a provider that never takes a connection: its queue is full."""
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}/v1"


class Process:
    """`thriftgate serve` as a process of its own, and the lines it writes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[dict[str, Any]] = []
        self.said = ""
        self.client: Client         # since it listens

    @property
    def receipts(self) -> list[dict[str, Any]]:
        """The receipts among the lines."""
        return [line for line in self.lines if line["event"] == "receipt"]

    async def line(self, event: str) -> dict[str, Any]:
        """Read on to the next line of this event."""
        assert self._process.stdout is not None
        async with asyncio.timeout(BOUND_S):
            while raw := await self._process.stdout.readline():
                self.lines.append(orjson.loads(raw))
                if self.lines[-1]["event"] == event:
                    return self.lines[-1]
        raise EOFError(f"no {event!r} among {self.lines}")

    async def answering(self) -> None:
        """Return when somebody answers: several processes do not say when they do."""
        async with asyncio.timeout(BOUND_S):
            while True:
                with contextlib.suppress(OSError, aiohttp.ClientError):
                    await self.client.get("/healthz")
                    return
                await asyncio.sleep(0.05)

    def terminate(self) -> None:
        """Ask it to stop, as a service manager does."""
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Read what it still writes, and return its exit status. What it wrote on stderr is in `said`."""
        async with asyncio.timeout(BOUND_S):
            out, said = await self._process.communicate()
        self.lines += map(orjson.loads, out.splitlines())
        self.said = said.decode()
        assert self._process.returncode is not None
        return self._process.returncode

    async def kill(self) -> None:
        """End it in any case."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()


Spawn = Callable[..., Awaitable[Process]]


@pytest.fixture
async def process(_nothing_left: None, tmp_path: Path) -> AsyncIterator[Spawn]:
    """`await process(text)`: the real process, listening on a free port."""
    async with contextlib.AsyncExitStack() as started:

        async def start(text: str, workers: int = 1) -> Process:
            """Start one."""
            path = tmp_path / "gateway.yaml"
            path.write_text(text, encoding="utf-8")
            command = [sys.executable, "-m", "gateway", "serve", "-c", str(path)]
            command += ["--port", "0", "--workers", str(workers)]
            pipe = asyncio.subprocess.PIPE
            env = {**os.environ, "THRIFTGATE_DATA": str(tmp_path)}
            started_as = asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdout=pipe, stderr=pipe)
            running = Process(await started_as)
            started.push_async_callback(running.kill)
            running.client = Client(f"http://127.0.0.1:{(await running.line('listening'))['port']}")
            started.push_async_callback(running.client.close)
            return running

        yield start
