"""The listening side in its parts: the body's deadline by a clock of the test's, connections by what they were told."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway import logs, serving
from gateway.config import ServerConfig
from gateway.errors import GatewayError, TooSlow

GET = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"
SPAN_S = 10.0
QUOTA = int(SPAN_S * serving.SLOWEST_SENDER)


class _Body:
    """A request whose body arrives in these pieces, each so many seconds after the one before, by the loop's clock."""

    def __init__(self, pieces: list[int], gap_s: float, pass_: Callable[[float], None]) -> None:
        self.content_length = None
        self.headers: dict[str, str] = {}
        self.content = self
        self._pieces = iter([*pieces, 0])
        self._gap_s = gap_s
        self._pass = pass_

    async def readany(self) -> bytes:
        """Let the time pass, then return the next piece."""
        self._pass(self._gap_s)
        await asyncio.sleep(0)          # a timer that is due fires after this
        await asyncio.sleep(0)
        return b"x" * next(self._pieces)


@pytest.fixture
async def passing(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`passing(seconds)` moves the loop's clock, which otherwise stands still."""
    loop = asyncio.get_running_loop()
    now = [loop.time()]
    monkeypatch.setattr(loop, "time", lambda: now[0])

    def move(seconds: float) -> None:
        """Move it."""
        now[0] += seconds

    return move


class TestReadBody:
    """A body within its limit and its deadline."""

    @pytest.fixture
    async def url(self) -> AsyncIterator[str]:
        """A server that reads bodies of at most ten bytes."""

        async def handle(http: web.Request) -> web.Response:
            """Read, and say what came of it."""
            try:
                return web.Response(text=str(len(await serving.read_body(http, 10, 60))))
            except GatewayError as error:
                return web.Response(status=error.status, text=error.message, headers=error.headers)

        application = web.Application(client_max_size=10)
        application.router.add_post("/", handle)
        async with TestServer(application) as server:
            yield str(server.make_url("/"))

    @pytest.mark.parametrize("size", [0, 1, 10])
    async def test_within_the_limit(self, url: str, size: int) -> None:
        """All of it, the limit itself included."""
        async with aiohttp.ClientSession() as session, session.post(url, data=b"x" * size) as response:
            assert (200, str(size)) == (response.status, await response.text())

    @pytest.mark.parametrize("announced", [True, False])
    async def test_beyond_the_limit(self, url: str, *, announced: bool) -> None:
        """413 that says the limit, whether the length was announced or not; the connection is not used again."""

        async def pieces() -> AsyncIterator[bytes]:
            """Fifteen bytes whose number nobody announces."""
            for _ in range(3):
                yield b"x" * 5

        data = b"x" * 11 if announced else pieces()
        async with aiohttp.ClientSession() as session, session.post(url, data=data) as response:
            said = await response.text()

        assert (response.status, response.headers["Connection"]) == (413, "close")
        assert said == "The body is larger than 10 bytes. Send less, or raise `server.max_body_bytes`."

    async def test_a_broken_encoding(self, url: str) -> None:
        """A body that is not what its header says: 400."""
        headers = {"Content-Encoding": "gzip"}
        async with aiohttp.ClientSession() as session, session.post(url, data=b"no", headers=headers) as response:
            said = await response.text()

        assert response.status == 400
        assert said.startswith("The body cannot be read (Content-Encoding: gzip): ")

    async def test_a_long_upload_may_last(self, passing: Callable[[float], None]) -> None:
        """Each span brings what it must: however many there are, the body is read to its end."""
        body = _Body([QUOTA] * 20, SPAN_S * 0.9, passing)

        assert len(await serving.read_body(cast("web.Request", body), QUOTA * 20, SPAN_S)) == QUOTA * 20

    async def test_a_slow_one_may_not(self, passing: Callable[[float], None]) -> None:
        """A span that brings too little is the last: 408 that says how much was here."""
        body = _Body([QUOTA, QUOTA // 3, QUOTA // 3, QUOTA // 3], SPAN_S * 0.9, passing)
        with pytest.raises(TooSlow, match=rf"after 10 s: {QUOTA + QUOTA // 3} bytes") as raised:
            await serving.read_body(cast("web.Request", body), QUOTA * 20, SPAN_S)

        assert raised.value.headers == {"Connection": "close"}

    async def test_a_network_that_times_out_is_a_client_that_left(self) -> None:
        """The system's own timeout is no deadline of ours."""
        body = _Body([1], 0, lambda _: None)

        async def fail() -> bytes:
            """Fail as a dead connection does."""
            raise TimeoutError

        body.readany = fail  # type: ignore[method-assign]
        with pytest.raises(ConnectionResetError):
            await serving.read_body(cast("web.Request", body), 10, 60)


class _Transport(asyncio.Transport):
    """A connection in memory: what was written to it, whether it is read, and what of its data is left to send."""

    def __init__(self) -> None:
        super().__init__()
        self.family = socket.AF_UNIX        # which has no options of TCP's
        self.written = b""
        self.reading = True
        self.left: Iterator[int] = iter(())
        self.aborted = asyncio.Event()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return itself for the socket."""
        return self if name == "socket" else default

    def setsockopt(self, *_: int) -> None:
        """Any option is fine."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Any limit is fine."""

    def get_write_buffer_size(self) -> int:
        """Return what the test said."""
        return next(self.left)

    def write(self, data: Any) -> None:
        """Keep it."""
        self.written += bytes(data)

    def is_closing(self) -> bool:
        """Say whether it is closed."""
        return self.aborted.is_set()

    def pause_reading(self) -> None:
        """Read no more."""
        self.reading = False

    def resume_reading(self) -> None:
        """Read on."""
        self.reading = True

    def close(self) -> None:
        """Close."""
        self.aborted.set()

    abort = close


class Made:
    """A connection in memory, to an application that answers once it may."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.may = asyncio.Event()
        self.answered = 0
        self.all_answered = asyncio.Event()
        self.transport = _Transport()
        self.expects = 0
        self.protocol: web.RequestHandler

    async def answer(self, _: web.Request) -> web.Response:
        """Answer when it may."""
        self.entered.set()
        await self.may.wait()
        self.answered += 1
        if self.answered == self.expects:
            self.all_answered.set()
        return web.Response()


@pytest.fixture
async def made() -> AsyncIterator[Made]:
    """A connection that has been made."""
    made = Made()
    application = web.Application()
    application.router.add_get("/", made.answer)
    runner = serving.Runner(application, ServerConfig(body_ms=20))
    await runner.setup()
    assert runner.server is not None
    made.protocol = runner.server()
    made.protocol.connection_made(made.transport)
    yield made
    made.protocol.connection_lost(None)
    await runner.cleanup()


class TestAhead:
    """Requests that were sent ahead of their turn."""

    async def test_many_are_not_read(self, made: Made) -> None:
        """While one is served, the next are read up to a bound; then on, until all are answered."""
        many = serving.HEAD_BYTES // len(GET) // 8
        made.protocol.data_received(GET)
        await made.entered.wait()
        made.expects, sent = 1, 0
        while made.transport.reading:
            made.protocol.data_received(GET * many)
            made.expects, sent = made.expects + many, sent + len(GET) * many
        made.may.set()
        async with asyncio.timeout(5):
            await made.all_answered.wait()

        assert sent <= 2 * serving.HEAD_BYTES
        assert made.transport.reading

    async def test_a_body_is_none(self, made: Made) -> None:
        """The body of the request that is served is bounded elsewhere: reading it is not stopped for its size."""
        made.protocol.data_received(GET[:-2] + b"Content-Length: 400000\r\n\r\n")
        await made.entered.wait()
        for _ in range(4):
            made.protocol.data_received(b"x" * 100_000)

        assert made.transport.reading


class TestUnsent:
    """What a client does not take."""

    async def test_one_that_takes_nothing_is_dropped(self, made: Made) -> None:
        """At the second look nothing was taken."""
        made.transport.left = iter([1000, 1000])
        made.protocol.pause_writing()
        async with asyncio.timeout(5):
            await made.transport.aborted.wait()

        assert list(made.transport.left) == []

    async def test_one_that_takes_too_little_is_dropped(self, made: Made) -> None:
        """A byte at a time is a way to hold a connection."""
        made.transport.left = iter([100_000, 99_000, 98_999])
        made.protocol.pause_writing()
        async with asyncio.timeout(5):
            await made.transport.aborted.wait()

        assert list(made.transport.left) == []

    async def test_one_that_takes_enough_is_kept(self, made: Made) -> None:
        """However long it takes, as long as each look finds less than the one before."""
        looked = asyncio.Event()

        def left() -> Iterator[int]:
            """Yield less and less."""
            yield from (90_000, 60_000, 30_000)
            looked.set()
            yield 10_000
            yield from range(9_000, 0, -100)

        made.transport.left = left()
        made.protocol.pause_writing()
        async with asyncio.timeout(5):
            await looked.wait()
        made.protocol.resume_writing()

        assert not made.transport.aborted.is_set()


class Full:
    """A server that may hold one connection, and holds it."""

    def __init__(self) -> None:
        self.port = 0
        self.entered = asyncio.Event()

    async def wait(self, _: web.Request) -> web.Response:
        """Answer never."""
        self.entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def told(self, sent: bytes = GET) -> bytes:
        """Return what a new connection is told, up to its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        said = b""
        with contextlib.suppress(ConnectionError):
            writer.write(sent)
            async with asyncio.timeout(5):
                said = await reader.read()
        await closed(writer)
        return said


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection, in whatever state it is."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.fixture
async def full() -> AsyncIterator[Full]:
    """A server that is full."""
    full, application = Full(), web.Application()
    application.router.add_get("/", full.wait)
    runner = serving.Runner(application, ServerConfig(connections=1))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    full.port = runner.addresses[0][1]
    _, writer = await asyncio.open_connection("127.0.0.1", full.port)
    writer.write(GET)
    await full.entered.wait()
    yield full
    await closed(writer)
    await runner.cleanup()


class TestTurnedAway:
    """Connections beyond the limit."""

    async def test_it_is_logged_now_and_then(self, full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
        """A flood of them is not a flood of lines."""
        said: list[str] = []
        monkeypatch.setattr(logs, "say", lambda event, *_, **__: said.append(event))
        replies = [await full.told() for _ in range(3)]

        assert said == ["connections full"]
        assert all(reply.startswith(b"HTTP/1.1 503 Service Unavailable\r\n") for reply in replies)

    async def test_too_many_of_them_are_just_dropped(self, full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
        """Even telling them so is bounded."""
        monkeypatch.setattr(serving, "TURNED_AWAY", 0)

        assert await full.told() == b""

    async def test_one_that_says_nothing_is_told_nothing(self, full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is closed after a moment."""
        monkeypatch.setattr(serving, "LINGER_S", 0.05)

        assert await full.told(b"") == b""


class TestFiles:
    """The system's limit of open files."""

    @pytest.mark.parametrize(
        ("soft", "most", "set_to"),
        [
            (1_024, 1_000_000, (21_000, 1_000_000)), (1_024, 20_000, (20_000, 20_000)),
            (1_024, resource.RLIM_INFINITY, (21_000, resource.RLIM_INFINITY)),
            (30_000, 1_000_000, None), (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
        ],
    )
    def test_it_is_raised(
        self, monkeypatch: pytest.MonkeyPatch, soft: int, most: int, set_to: tuple[int, int] | None
    ) -> None:
        """As far as the connections need and the system allows, and never lowered."""
        limits: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, most))
        monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.append(both))
        serving._allow_files(10_000)

        assert limits == ([] if set_to is None else [set_to])

    def test_too_few_are_logged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the system allows fewer files than there may be connections, the operator should know."""
        said: list[tuple[str, dict[str, int]]] = []
        monkeypatch.setattr(logs, "say", lambda event, _, **fields: said.append((event, fields)))
        monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 4_096))
        monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
        serving._allow_files(10_000)

        assert said == [("few files", {"connections": 10_000, "files": 4_096})]
