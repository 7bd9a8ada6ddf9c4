"""Clients that are slow or abusive: each is told why and dropped, none holds the gateway, and the others are served."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Iterator

import aiohttp
import orjson
import pytest
from aiohttp import web

from loadtest.mock_upstream import MockUpstream
from tests.conftest import BOUND_S, COMPLETIONS, Reply, Running, Start, Wire, chat, request_bytes, two_rungs
from tests.path.conftest import EVENT, FINISH

HEAD = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: gateway\r\n".encode()
GET = b"GET /nothing HTTP/1.1\r\nHost: gateway\r\n\r\n"
QUICK = "server: {header_ms: 100, body_ms: 100}"
PIECE = EVENT * 200         # 16 kB of a stream
STREAMED = 50_000_000
NARROW = 16_384             # of the system's own buffers, in the tests that look at the gateway's


@pytest.fixture
async def running(serve: Start, first: MockUpstream) -> AsyncIterator[Running]:
    """A gateway with little patience; whatever a test did to it, it serves others at the end, and has all along."""
    running = await serve(more=QUICK)
    ended = asyncio.Event()

    async def others() -> list[int]:
        """Ask again and again while the test runs."""
        statuses = [(await running.ask(chat("meanwhile"))).status]
        while not ended.is_set():
            statuses.append((await running.ask(chat("meanwhile"))).status)
            await asyncio.sleep(0.01)
        return statuses

    async with asyncio.TaskGroup() as group:
        asking = group.create_task(others())
        yield running
        ended.set()

    assert set(asking.result()) == {200}
    assert first.journal.requests == len(asking.result())      # what is refused here is not sent upstream


async def trickle(wire: Wire, *parts: bytes) -> None:
    """Send the parts, the last one again and again, little by little, until the connection ends."""
    with contextlib.suppress(ConnectionError):
        for part in parts:
            await wire.send(part)
        while True:
            await asyncio.sleep(0.002)
            await wire.send(parts[-1])


async def told(wire: Wire, *parts: bytes) -> bytes:
    """Return all that a client is told who sends slowly, up to the end of its connection."""
    sending = asyncio.Task(trickle(wire, *parts))
    try:
        return await wire.rest()
    finally:
        sending.cancel()
        await asyncio.wait([sending])


def read(raw: bytes) -> Reply:
    """Return what was told, which must be one answer that closes the connection."""
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)

    assert headers["Connection"] == "close"
    assert int(headers["Content-Length"]) == len(body)
    return Reply(int(status.split()[1]), headers, body)


def assert_error(reply: Reply, status: int, code: str | None) -> None:
    """It is the caller's fault, in OpenAI's form, under an id."""
    assert (reply.status, reply.error["type"], reply.error["code"]) == (status, "invalid_request_error", code)
    assert reply.error["request_id"] == reply.headers["x-thriftgate-request-id"]
    assert reply.headers["Content-Type"].startswith("application/json")


class TestHeads:
    """The line and headers of a request."""

    @pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "empty lines"])
    async def test_who_says_nothing_is_told_nothing(self, running: Running, sent: bytes) -> None:
        """The connection is closed without a word, be it while something is still on its way."""
        said = b""
        with contextlib.suppress(ConnectionResetError):
            said = await told(await running.wire(), sent)

        assert said == b""

    @pytest.mark.parametrize(
        "parts", [(b"POST /", b"x"), (HEAD, b"x"), (HEAD, b"X: y\r\n")], ids=["the line", "a header", "many headers"]
    )
    async def test_slow_ones(self, running: Running, parts: tuple[bytes, ...]) -> None:
        """However many bytes still come, they are late."""
        reply = read(await told(await running.wire(), *parts))

        assert_error(reply, 408, "request_timeout")
        assert reply.error["message"] == "The request's line and headers were not here after 0.1 s."

    async def test_half_of_one(self, running: Running) -> None:
        """And then nothing."""
        wire = await running.wire()
        await wire.send(HEAD[:10])

        assert_error(read(await wire.rest()), 408, "request_timeout")

    async def test_half_of_the_second(self, running: Running) -> None:
        """On a connection that is kept, its first byte starts the clock."""
        wire = await running.wire()
        await wire.send(GET)
        before = await wire.reply()
        await wire.send(GET[:10])

        assert before.status == 404
        assert_error(read(await wire.rest()), 408, "request_timeout")

    async def test_a_kept_connection_may_idle(self, running: Running) -> None:
        """It has outlived one that said nothing from a later moment on, and is served; an empty line is no request."""
        kept = await running.wire()
        await kept.send(GET)
        before = await kept.reply()
        await kept.send(b"\r\n")
        await (await running.wire()).rest()
        await kept.send(GET)

        assert (before.status, (await kept.reply()).status) == (404, 404)

    @pytest.mark.parametrize(
        "flood",
        [
            HEAD + b"X: " + b"a" * 16_000_000 + b"\r\n\r\n", b"POST /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
            HEAD + b"a" * 1_000_000, HEAD + b"X: y\r\n" * 10_000 + b"\r\n",
            HEAD + b"Content-Length: 5\r\n" + (b"X: " + b"a" * 8_000 + b"\r\n") * 120 + b"\r\n",
        ],
        ids=["a long value", "a long line", "a long name", "many", "many long ones"],
    )
    async def test_floods(self, running: Running, flood: bytes) -> None:
        """431, which the client can read although it had more to send."""
        wire = await running.wire()
        with contextlib.suppress(ConnectionError):
            await wire.send(flood)

        assert_error(read(await wire.rest()), 431, "headers_too_large")

    @pytest.mark.parametrize(
        ("sent", "why"),
        [
            (b"\x16\x03\x01\x02\x00\x01\x00", "Received HTTPS traffic on an HTTP port"),
            (b"GET / HTTP/1.1\r\n\r\n", "Missing 'Host' header in request"),
        ],
        ids=["TLS", "no host"],
    )
    async def test_what_is_not_http(self, running: Running, sent: bytes, why: str) -> None:
        """400 that says why; the fixture sees to it that nothing is logged."""
        wire = await running.wire()
        await wire.send(sent)
        reply = read(await wire.rest())

        assert_error(reply, 400, None)
        assert reply.error["message"] == f"The request cannot be read as HTTP: {why}."


class TestBodies:
    """The body of a request."""

    @pytest.mark.parametrize(
        "parts",
        [
            (b"Content-Length: 100000\r\n\r\n{",), (b"Content-Length: 100000\r\n\r\n{", b"x"),
            (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
            (b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 100),
        ],
        ids=["stalled", "byte by byte", "without end", "nothing but extensions"],
    )
    async def test_slow_ones(self, serve: Start, first: MockUpstream, parts: tuple[bytes, ...]) -> None:
        """408 and the end of the connection; the receipt says whose fault it was."""
        running = await serve(more=QUICK)
        wire = await running.wire()
        await wire.send(HEAD + parts[0])
        sent = parts[1:] or (b"",)
        reply = read(await told(wire, *sent))
        receipt = await running.receipt()

        assert_error(reply, 408, "request_timeout")
        assert reply.error["message"].startswith("The body was not here after 0.1 s: ")
        assert (receipt["outcome"], receipt["status"], receipt["attempts"]) == ("refused", 408, [])
        assert first.journal.requests == 0

    @pytest.mark.parametrize(
        ("announced", "sent"),
        [
            (b"Content-Length: 10000000000", b"x" * 10_000),
            (b"Transfer-Encoding: chunked", b"2710\r\n%b\r\n" % (b"x" * 10_000)),
        ],
        ids=["announced", "without end"],
    )
    async def test_huge_ones(self, serve: Start, announced: bytes, sent: bytes) -> None:
        """413 and the end of the connection, however fast they come and however much there would be."""
        running = await serve(more="server: {max_body_bytes: 200000}")
        reply = read(await told(await running.wire(), HEAD + announced + b"\r\n\r\n", sent))
        receipt = await running.receipt()

        assert_error(reply, 413, "request_too_large")
        assert (receipt["outcome"], receipt["status"]) == ("refused", 413)


class TestReaders:
    """Clients that ask and do not listen."""

    @pytest.fixture
    async def narrow(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MockUpstream]:
        """A provider of 50 MB. The system keeps little between it and the gateway: the rest is the gateway's."""

        def receiver(address: aiohttp.AddrInfoType) -> socket.socket:
            """Make the gateway's socket."""
            made = socket.socket(*address[:3])
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
            return made

        connector = functools.partial(aiohttp.TCPConnector, socket_factory=receiver)
        mock = MockUpstream(keep=1)
        mock.turn(raw=(PIECE,) * (STREAMED // len(PIECE)) + (FINISH,))
        runner = web.AppRunner(mock.app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
        await web.SockSite(runner, listener).start()
        mock.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with monkeypatch.context() as patched:
            patched.setattr(aiohttp, "TCPConnector", connector)
            yield mock
        await runner.cleanup()

    @pytest.fixture
    def client(self) -> Iterator[socket.socket]:
        """A client's socket that takes little by itself."""
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
            client.setblocking(False)
            yield client

    async def test_one_that_does_not_read_costs_little_and_ends(
        self, gateway: Start, narrow: MockUpstream, client: socket.socket
    ) -> None:
        """The provider is read no further than a megabyte; the total deadline ends it all, and others are served."""
        running = await gateway(two_rungs(narrow.base_url, narrow.base_url, deadlines="total_ms: 1000"))
        await ask(client, running, request_bytes(orjson.dumps(chat(stream=True))))
        await narrow.journal.until(lambda journal: journal.in_flight == 1 and journal.last.chunks_sent > 0)
        meanwhile = await running.get("/healthz")
        await narrow.journal.until(lambda journal: journal.cancelled == 1)
        receipt = await running.receipt()

        assert meanwhile.status == 200
        assert narrow.journal.bytes_sent < 1_000_000
        assert receipt["outcome"] == "abandoned"

    async def test_one_that_reads_slowly_is_followed(
        self, gateway: Start, narrow: MockUpstream, client: socket.socket
    ) -> None:
        """At every moment the provider is a megabyte ahead at most."""
        running = await gateway(two_rungs(narrow.base_url, narrow.base_url))
        await ask(client, running, request_bytes(orjson.dumps(chat(stream=True))))
        taken, ahead = 0, 0
        async with asyncio.timeout(BOUND_S):
            while taken < 3_000_000:
                for _ in range(50):
                    await asyncio.sleep(0)          # the others go on meanwhile
                taken += len(await asyncio.get_running_loop().sock_recv(client, 20_000))
                ahead = max(ahead, narrow.journal.bytes_sent - taken)
        client.close()
        await narrow.journal.until(lambda journal: journal.cancelled == 1)

        assert ahead < 1_000_000

    async def test_answers_that_nobody_takes(self, running: Running, client: socket.socket) -> None:
        """No deadline of an upstream's bounds these: the client is dropped once it has taken nothing for `body_ms`."""
        await ask(client, running, GET)
        with pytest.raises(ConnectionError):
            await ask_on(client, GET * 1_000)


async def ask(client: socket.socket, running: Running, data: bytes) -> None:
    """Connect and send."""
    host, port = running.base_url.removeprefix("http://").split(":")
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(BOUND_S):
        await loop.sock_connect(client, (host, int(port)))
        await loop.sock_sendall(client, data)


async def ask_on(client: socket.socket, data: bytes) -> None:
    """Send it again and again."""
    async with asyncio.timeout(BOUND_S):
        while True:
            await asyncio.get_running_loop().sock_sendall(client, data)


class TestConnections:
    """More of them than the process may have."""

    async def test_one_too_many_is_told_so(self, serve: Start, first: MockUpstream) -> None:
        """503 with a time to wait; when another has gone there is room again."""
        first.turn(fault="hang")
        running = await serve(more="server: {connections: 2}")
        busy = [await running.wire(chat()) for _ in range(2)]
        await first.journal.until(lambda journal: journal.in_flight == 2)
        refused = await running.wire(chat())
        reply = read(await refused.rest())
        busy[0].leave()
        await running.receipts.until(1)
        again = await running.wire()
        await again.send(GET)

        assert (reply.status, reply.error["type"], reply.error["code"]) == (503, "server_error", "overloaded")
        assert reply.headers["Retry-After"] == "1"
        assert (await again.reply()).status == 404
        assert first.journal.requests == 2
        for wire in busy:
            wire.leave()

    async def test_one_that_idles_makes_room(self, serve: Start) -> None:
        """The one that idles longest is closed; nobody can hold the process by asking for nothing."""
        running = await serve(more="server: {connections: 2}")
        kept = [await running.wire() for _ in range(2)]
        for wire in kept:
            await wire.send(GET)
            await wire.reply()
        new = await running.wire()
        await new.send(GET)
        await kept[1].send(GET)

        assert (await new.reply()).status == 404
        assert await kept[0].rest() == b""
        assert (await kept[1].reply()).status == 404
