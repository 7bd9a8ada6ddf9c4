"""A whole gateway between real sockets: mock providers behind it, clients before it, its receipts in a list.

Nothing here sleeps to be right: receipts and what a provider saw are awaited, within a bound that matters only when a
test fails. When a test has ended, whatever it was about, the gateway must be at rest: no slot taken, no request
running, no error logged, no task left, and exactly one receipt for each request that reached it.
"""

import asyncio
import contextlib
import functools
import io
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import uvloop
from aiohttp import web
from multidict import CIMultiDict

from classifier.predict import Predictor
from gateway import app, config, serving
from loadtest.journal import Call
from loadtest.mock_upstream import MockUpstream
from tests.services import own_postgres, own_redis, postgres, postgres_server, redis, redis_server  # noqa: F401

ROOT = Path(__file__).parent.parent
BOUND_S = 15.0       # how long anything is waited for; reached only by a test that fails
COMPLETIONS = "/v1/chat/completions"
RECEIPTED = {       # and Gemini's
    COMPLETIONS, "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/v1/embeddings", "/v1/completions",
}
SERVER_LOG = logging.getLogger("server of the gateway")      # apart from the mock providers' servers


def two_rungs(
    first: str, second: str, *, deadlines: str = "", route: str = "threshold: 0", upstream: str = "", more: str = ""
) -> str:
    """Return a configuration of two rungs at two providers.

    Threshold 0 sends every prompt to the cheap rung first, whatever the classifier says of it, and a patient deadline
    lets it say so on a busy machine. Each target is called once, unless `more` has another `server`. The other
    arguments are added where their names say.
    """
    classifier = "" if "classifier:" in more else "classifier: {deadline_ms: 5000}"
    server = "" if "server:" in more else "server: {attempts: 2}"
    return f"""
upstreams:
  first:  {{base_url: "{first}", key: sk-first-upstream, {upstream}}}
  second: {{base_url: "{second}", key: sk-second-upstream}}
models:
  cheap:
    upstream: first
    name: mock-cheap
    price: {{input: 0.15, output: 0.6, cached_input: 0.075}}
    deadlines: {{{deadlines}}}
  premium: {{upstream: second, name: mock-premium, price: {{input: 5, output: 25}}}}
routes:
  auto: {{ladder: [cheap, premium], aliases: [gpt-4], {route}}}
{classifier}
{server}
{more}
"""


@pytest.fixture(scope="session", autouse=True)
def _data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test touches the user's own data: a process that is told nothing else keeps its own here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THRIFTGATE_DATA", str(tmp_path_factory.mktemp("data")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the whole gateway on the loop it runs on in production; the other tests keep Python's own."""
    whole = any(item.path.is_relative_to(ROOT / "tests" / folder) for folder in ("path", "clients"))
    return {"uvloop": uvloop.new_event_loop} if whole else {"asyncio": asyncio.new_event_loop}


@dataclass(frozen=True)
class Reply:
    """What a client received. `whole` is False when the connection broke before the body was at its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of OpenAI's form."""
        error: dict[str, Any] = self.json["error"]
        return error

    @property
    def events(self) -> list[bytes]:
        """The data of the stream's events."""
        return [line.removeprefix(b"data: ") for line in self.body.split(b"\n") if line.startswith(b"data: ")]

    @property
    def last_error(self) -> dict[str, Any]:
        """The error object that the stream ends with."""
        error: dict[str, Any] = orjson.loads(self.events[-1])["error"]
        return error


def chat(text: str = "hi", **more: Any) -> dict[str, Any]:
    """A request for the route `auto`."""
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **more}


def unasked(call: Call) -> bytes:
    """Return what the mock provider would have sent had nobody asked it for usage."""
    frames = b"".join(call.sent).replace(b',"usage":null', b"").split(b"\n\n")
    return b"\n\n".join(frame for frame in frames if b'"choices":[],"usage":{' not in frame)


def request_bytes(body: bytes, *headers: str) -> bytes:
    """A completion request as it stands on the wire, for tests that hold the socket themselves."""
    head = [f"POST {COMPLETIONS} HTTP/1.1", "Host: gateway", "Content-Type: application/json", *headers]
    if not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


class Wire:
    """A client's bare connection: it sees every byte and can leave without a word."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Write bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def until(self, mark: bytes) -> bytes:
        """Return everything up to and with `mark`."""
        async with asyncio.timeout(BOUND_S):
            return await self._reader.readuntil(mark)

    async def some(self) -> bytes:
        """Return what has arrived, at least a byte."""
        async with asyncio.timeout(BOUND_S):
            return await self._reader.read(1 << 20)

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection."""
        async with asyncio.timeout(BOUND_S):
            return await self._reader.read()

    async def reply(self) -> Reply:
        """Return an answer that gives its length."""
        head = await self.until(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = CIMultiDict((name, value) for name, _, value in (line.partition(": ") for line in lines if line))
        async with asyncio.timeout(BOUND_S):
            body = await self._reader.readexactly(int(headers["Content-Length"]))
        return Reply(int(status.split()[1]), headers, body)

    def leave(self) -> float:
        """Hang up, and return when."""
        left = time.monotonic()
        self._writer.transport.abort()
        return left

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Client:
    """Calls a gateway."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._wires: list[Wire] = []

    async def ask(self, body: Any = None, headers: Mapping[str, str] | None = None, path: str = COMPLETIONS) -> Reply:
        """Post a body (JSON, or bytes as they are) and read the answer to its end, broken or not."""
        data = body if isinstance(body, bytes) else orjson.dumps(chat() if body is None else body)
        sent = {"Content-Type": "application/json", **(headers or {})}
        posted = self._http.post(self.base_url + path, data=io.BytesIO(data), headers=sent)
        async with asyncio.timeout(BOUND_S), posted as response:
            return await _read(response)

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Get a path."""
        async with asyncio.timeout(BOUND_S), self._http.get(self.base_url + path, headers=headers) as response:
            return await _read(response)

    async def wire(self, body: Any = None) -> Wire:
        """Open a bare connection, and send a request on it if one is given."""
        host, port = self.base_url.removeprefix("http://").split(":")
        wire = Wire(*await asyncio.open_connection(host, int(port)))
        self._wires.append(wire)
        if body is not None:
            await wire.send(request_bytes(orjson.dumps(body)))
        return wire

    async def close(self) -> None:
        """Close what is still open."""
        for wire in self._wires:
            await wire.close()
        await self._http.close()


class Running(Client):
    """A whole gateway on a socket: how to call it, and what it has written."""

    def __init__(self, gateway: app.Gateway, receipts: "Receipts", base_url: str) -> None:
        super().__init__(base_url)
        self.gateway = gateway
        self.receipts = receipts

    async def receipt(self) -> dict[str, Any]:
        """Return the first receipt, as soon as it is written."""
        return (await self.receipts.until(1))[0]


class Receipts:
    """The receipts a gateway wrote, and the number of requests that reached it."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.requests = 0
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def write(self, receipt: dict[str, Any]) -> None:
        """Take a receipt; called from the gateway's writer thread."""
        self.written.append(receipt)
        self._loop.call_soon_threadsafe(self._changed.set)

    async def until(self, number: int) -> list[dict[str, Any]]:
        """Return the receipts as soon as there are so many."""
        async with asyncio.timeout(BOUND_S):
            while len(self.written) < number:
                self._changed.clear()
                await self._changed.wait()
        return self.written

    @web.middleware
    async def count(self, request: web.Request, handler: Callable[..., Awaitable[web.StreamResponse]]) -> Any:
        """Count the requests that must leave a receipt."""
        self.requests += request.method == "POST" and (request.path in RECEIPTED or ":" in request.path)
        return await handler(request)


async def _read(response: aiohttp.ClientResponse) -> Reply:
    received, whole = b"", True
    try:
        async for piece in response.content.iter_any():
            received += piece
    except (aiohttp.ClientError, ConnectionError):
        whole = False
    return Reply(response.status, response.headers, received, whole)


class _Errors(logging.Handler):
    """Keeps what the server and the loop log as errors: exceptions that nobody handled."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))


@pytest.fixture
async def _nothing_left() -> AsyncIterator[None]:
    """No task outlives the test, and neither the gateway's server nor the loop reports an unhandled exception."""
    errors, loggers = _Errors(), [SERVER_LOG, logging.getLogger("asyncio")]
    for logger in loggers:
        logger.addHandler(errors)
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    for logger in loggers:
        logger.removeHandler(errors)

    assert errors.seen == []
    assert [task.get_coro() for task in left] == []


Upstream = Callable[..., Awaitable[MockUpstream]]
Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def upstream(_nothing_left: None) -> AsyncIterator[Upstream]:
    """`await upstream(**options)`: a mock provider on a free port; `headers` are added to all its answers."""
    async with contextlib.AsyncExitStack() as started:

        async def start(headers: Mapping[str, str] | None = None, **options: Any) -> MockUpstream:
            """Start one."""
            mock = MockUpstream(**options)

            async def add(_: web.Request, response: web.StreamResponse) -> None:
                """Add the headers."""
                response.headers.update(headers or {})

            mock.app.on_response_prepare.append(add)
            return await started.enter_async_context(mock)

        yield start


@pytest.fixture
async def first(upstream: Upstream) -> MockUpstream:
    """The provider of the cheap rung."""
    return await upstream()


@pytest.fixture
async def second(upstream: Upstream) -> MockUpstream:
    """The provider of the premium rung."""
    return await upstream()


@functools.cache
def shipped() -> Predictor:
    """Return the shipped classifier, loaded once for all tests."""
    return Predictor.load()


@pytest.fixture
async def gateway(_nothing_left: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Start]:
    """`await gateway(text)`: a whole gateway of that configuration; at the end all of them must be at rest.

    `load=True` reads the classifier's files anew instead of sharing the classifier that is loaded.
    """
    real = Predictor.load
    started: list[tuple[Running, web.AppRunner]] = []

    async def start(text: str, *, load: bool = False) -> Running:
        """Start one. Its receipts are kept in the test's list alone, unless the text has a ledger."""
        loaded = None if load else shipped()
        monkeypatch.setattr(Predictor, "load", real if load else lambda _: loaded)
        receipts = Receipts()
        kept = text if "ledger:" in text else f"{text}\nledger: {{url: none}}\n"
        built = await app.create(config.parse(kept, {"THRIFTGATE_DATA": str(tmp_path)}), receipts.write)
        await built._books.keys.known(BOUND_S / 2)      # on a busy machine a new store takes its time to be opened
        built.application.middlewares.append(receipts.count)
        runner = serving.Runner(built.application, built.config.server, logger=SERVER_LOG)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        started.append((Running(built, receipts, f"http://127.0.0.1:{runner.addresses[0][1]}"), runner))
        return started[-1][0]

    yield start
    still = [task for running, runner in started for task in await _stop(running, runner)]

    assert still == []
    for running, _ in started:
        _assert_at_rest(running)


@pytest.fixture
async def serve(gateway: Start, first: MockUpstream, second: MockUpstream) -> Start:
    """`await serve(**options)`: a gateway with two rungs, `first` behind the cheap one, `second` behind the other."""

    async def start(**options: Any) -> Running:
        """Start it."""
        return await gateway(two_rungs(first.base_url, second.base_url, **options))

    return start


async def _stop(running: Running, runner: web.AppRunner) -> set[asyncio.Task[object]]:
    """Stop a gateway when its requests have ended, and return those that did not end."""
    await running.close()
    if tasks := set(running.gateway.handler.running):
        await asyncio.wait(tasks, timeout=BOUND_S)
    still = set(running.gateway.handler.running)
    await runner.cleanup()
    await running.gateway.close()
    return still


def _assert_at_rest(running: Running) -> None:
    """Every slot is back, and every request that arrived has left one receipt."""
    pools = {model.pool for model in running.gateway.with_.models.values()}
    written = running.receipts.written

    assert {repr(pool.slots) for pool in pools if pool.slots.in_flight or pool.slots.waiting} == set()
    assert [endpoint for pool in pools for endpoint in pool.endpoints if endpoint.in_flight] == []
    assert len(written) == running.receipts.requests
    assert len({receipt["request_id"] for receipt in written}) == len(written)
