"""Calls to a real server: what is sent, what comes back, and every way of failing as an error of ours."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from msgspec.structs import replace

from gateway.config import Deadlines, ModelConfig, Secret, UpstreamConfig
from gateway.errors import GatewayError, Refused, StreamBroken, TimedOut, Unavailable, Unreachable
from gateway.pricing import Price
from gateway.upstream import pool
from gateway.upstream.pool import Answer, Model, Pool

Handles = Callable[[web.Request], Awaitable[web.StreamResponse]]
LONG = Deadlines(connect_ms=60_000, first_output_ms=60_000, idle_ms=60_000, total_ms=60_000)
BODY = b'{"model":"m", "messages":[]}'
FRAME = b'data: {"choices":[]}\n\n'


class Provider:
    """A server on a free port; what it does is set by the test."""

    def __init__(self) -> None:
        self.handle: Handles = self._nothing_set
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.peers: set[Any] = set()
        self.base_url = ""
        self.entered, self.left = asyncio.Event(), asyncio.Event()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        """End every connection."""
        await self._runner.cleanup()

    def says(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Answer everything with this."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def handle(_: web.Request) -> web.StreamResponse:
            """Answer."""
            return web.Response(status=status, body=body, headers=named)

        self.handle = handle

    def streams(self, *chunks: bytes, then: str = "end") -> None:
        """Answer with these chunks, then end, break off or hang."""

        async def handle(request: web.Request) -> web.StreamResponse:
            """Stream."""
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)
            if then == "break":
                assert request.transport is not None
                request.transport.close()
            elif then == "hang":
                await hang()
            return response

        self.handle = handle

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((f"{request.method} {request.path}", dict(request.headers), await request.read()))
        self.entered.set()
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        try:
            return await self.handle(request)
        except asyncio.CancelledError:
            self.left.set()
            raise

    async def _nothing_set(self, _: web.Request) -> web.StreamResponse:
        raise web.HTTPNotImplemented


async def hang() -> None:
    """Wait for what never comes."""
    await asyncio.get_running_loop().create_future()


async def hanging(_: web.Request) -> web.StreamResponse:
    """Never answer."""
    await hang()
    raise AssertionError


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A running server."""
    provider = Provider()
    await provider.start()
    yield provider
    await provider.stop()


Opens = Callable[..., Model]


@pytest.fixture
async def opened() -> AsyncIterator[Opens]:
    """Open a model behind a pool; pools are closed after the test."""
    pools: list[Pool] = []

    def opened(base_url: str, deadlines: Deadlines = LONG, **settings: Any) -> Model:
        """Open one."""
        made = Pool("acme", UpstreamConfig(base_url=base_url, **settings))
        pools.append(made)
        return Model("small", ModelConfig(upstream="acme", name="acme-small", deadlines=deadlines), made)

    yield opened
    for made in pools:
        await made.close()


async def whole(model: Model, *, stream: bool = False) -> tuple[Answer, bytes]:
    """Call once and read to the end."""
    with model.pool.lease() as lease:
        answer = await lease.send(model, BODY, stream=stream)
        read = answer.first
        while stream and (chunk := await answer.next()):
            read += chunk
    return answer, read


async def failed(model: Model, *, stream: bool = False) -> GatewayError:
    """Call once, in vain; the slot must be free again."""
    with pytest.raises(GatewayError) as caught:
        await whole(model, stream=stream)

    assert model.pool.in_flight == 0
    return caught.value


class TestSending:
    """What an upstream sees."""

    async def test_the_request(self, provider: Provider, opened: Opens) -> None:
        """The body as it is, our own headers, the gateway's key: nothing of the caller's."""
        provider.says(b"{}")
        await whole(opened(provider.base_url, key=Secret("sk-up")))
        expected = {
            "Host": provider.base_url.split("/")[2], "Content-Type": "application/json", "Accept": "*/*",
            "Accept-Encoding": "identity", "User-Agent": "thriftgate", "Authorization": "Bearer sk-up",
            "Content-Length": str(len(BODY)),
        }

        assert [("POST /v1/chat/completions", expected, BODY)] == provider.seen

    async def test_without_a_key(self, provider: Provider, opened: Opens) -> None:
        """No Authorization is sent."""
        provider.says(b"{}")
        await whole(opened(provider.base_url))

        assert "Authorization" not in provider.seen[0][1]

    @pytest.mark.parametrize("end", ["", "/"])
    async def test_the_address(self, opened: Opens, end: str) -> None:
        """A base URL may end with a slash."""
        model = opened(f"https://api.example/v1{end}")

        assert str(model.urls[True]) == "https://api.example/v1/chat/completions"

    async def test_cookies_do_not_travel(self, provider: Provider, opened: Opens) -> None:
        """What a provider sets for one caller is not sent with the next's request."""
        provider.says(b"{}", Set_Cookie="session=1")
        model = opened(provider.base_url)
        for _ in range(2):
            await whole(model)

        assert ["Cookie" in headers for _, headers, _ in provider.seen] == [False, False]
        assert isinstance(model.pool.session.cookie_jar, aiohttp.DummyCookieJar)      # 127.0.0.1 gets none in any case

    @pytest.mark.parametrize("stream", [False, True])
    async def test_connections_are_used_again(self, provider: Provider, opened: Opens, *, stream: bool) -> None:
        """An answer that was read to its end leaves its connection to the next call."""
        provider.streams(FRAME)
        model = opened(provider.base_url)
        for _ in range(3):
            await whole(model, stream=stream)

        assert len(provider.peers) == 1


class TestAnswers:
    """What comes back."""

    async def test_a_whole_answer(self, provider: Provider, opened: Opens) -> None:
        """Status, headers and all of the body, arriving in pieces or not."""
        provider.streams(b'{"a":', b"1}")
        answer, read = await whole(opened(provider.base_url))

        assert (200, b'{"a":1}', "text/event-stream") == (answer.status, read, answer.headers["Content-Type"])
        assert repr(answer) == "<Answer 200 text/event-stream>"

    async def test_a_stream(self, provider: Provider, opened: Opens) -> None:
        """The first bytes at once, the rest as they come, empty at the end."""
        free = asyncio.Event()

        async def handle(request: web.Request) -> web.StreamResponse:
            """Send one event, and the other when the test says so."""
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(FRAME)
            await free.wait()
            await response.write(b"data: [DONE]\n\n")
            return response

        provider.handle = handle
        model = opened(provider.base_url)
        with model.pool.lease() as lease:
            answer = await lease.send(model, BODY, stream=True)
            first = answer.first
            free.set()
            rest = [await answer.next(), await answer.next(), await answer.next()]

        assert (FRAME, [b"data: [DONE]\n\n", b"", b""]) == (first, rest)

    async def test_bytes_as_they_came(self, provider: Provider, opened: Opens) -> None:
        """A compressed answer is not unpacked: the client gets what the upstream sent."""
        packed = gzip.compress(b'{"a":1}', mtime=0)
        provider.says(packed, Content_Encoding="gzip")

        assert packed == (await whole(opened(provider.base_url)))[1]

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("status", sorted(pool.CALLERS_FAULT))
    async def test_the_callers_fault_is_an_answer(
        self, provider: Provider, opened: Opens, status: int, *, stream: bool
    ) -> None:
        """It goes to the caller as the upstream worded it, whole, and no other target is tried."""
        body = b'{"error":{"message":"too long"}}'
        provider.says(body, status)
        model = opened(provider.base_url)
        with model.pool.lease() as lease:
            answer = await lease.send(model, BODY, stream=stream)

        assert (status, body) == (answer.status, answer.first)


    async def test_the_callers_fault_is_whole(self, provider: Provider, opened: Opens) -> None:
        """In whatever pieces it comes, also where a stream was asked for."""
        free = asyncio.Event()

        async def handle(request: web.Request) -> web.StreamResponse:
            """Send an error in two pieces, the second when the first was read."""
            response = web.StreamResponse(status=400)
            await response.prepare(request)
            await response.write(b'{"error":')
            await free.wait()
            await response.write(b'"too long"}')
            return response

        provider.handle = handle
        model = opened(provider.base_url)
        with model.pool.lease() as lease:
            call = asyncio.gather(lease.send(model, BODY, stream=True))
            await provider.entered.wait()
            free.set()
            (answer,) = await call

        assert (400, b'{"error":"too long"}') == (answer.status, answer.first)
        assert repr(answer) == "<Answer 400 application/octet-stream>"


REFUSALS: list[tuple[int, bytes, str]] = [
    (500, b'{"error":{"message":"boom","type":"server_error"}}', "Upstream 'acme' answered 500: boom"),
    (502, b"<html>bad gateway</html>", "Upstream 'acme' answered 502."),
    (503, b"", "Upstream 'acme' answered 503."),
    (529, b'{"error":"overloaded"}', "Upstream 'acme' answered 529: overloaded"),
    (404, b'{"error":{"message":"no such model"}}', "Upstream 'acme' answered 404: no such model"),
    (429, b"\xff\xfe", "Upstream 'acme' answered 429."),
    (500, b'{"error":{"message":"' + b"x" * 2000 + b'"}}', f"Upstream 'acme' answered 500: {'x' * 500}"),
    (500, b"[" * 100_000, "Upstream 'acme' answered 500."),
    (401, b'{"error":{"message":"bad key sk-hidden"}}',
     "Upstream 'acme' refused the gateway's own key (401). Check it in the configuration."),
    (403, b"sk-hidden", "Upstream 'acme' refused the gateway's own key (403). Check it in the configuration."),
]


class TestRefusals:
    """Answers that another target may not give."""

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("status", "body", "message"), REFUSALS, ids=[f"{status}-{body[:12]!r}" for status, body, _ in REFUSALS]
    )
    async def test_each(
        self, provider: Provider, opened: Opens, status: int, body: bytes, message: str, *, stream: bool
    ) -> None:
        """The status and the upstream's words, bounded; of a refused key no word, since it may quote it."""
        provider.says(body, status)
        error = await failed(opened(provider.base_url, key=Secret("sk-hidden")), stream=stream)

        assert isinstance(error, Refused)
        assert (status, message, True) == (error.upstream_status, error.message, error.retryable)
        assert "hidden" not in error.message

    async def test_retry_after_is_kept(self, provider: Provider, opened: Opens) -> None:
        """The caller is told when to come again, and nothing else of the upstream's headers."""
        provider.says(b"{}", 429, Retry_After="7", Server="acme", X_Secret="x")
        error = await failed(opened(provider.base_url))

        assert (429, {"Retry-After": "7"}) == (error.status, error.headers)

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    async def test_a_redirect_is_not_followed(self, provider: Provider, opened: Opens, status: int) -> None:
        """A key is never sent where the configuration does not point."""
        provider.says(b"", status, Location=f"{provider.base_url}/elsewhere")
        error = await failed(opened(provider.base_url, key=Secret("sk-up")))

        assert (502, f"Upstream 'acme' answered {status}.") == (error.status, error.message)
        assert [seen for seen, _, _ in provider.seen] == ["POST /v1/chat/completions"]

    async def test_a_stream_that_begins_with_an_error(self, provider: Provider, opened: Opens) -> None:
        """Nothing was shown yet, so another target may be tried."""
        provider.streams(b'data: {"error":{"message":"overloaded"}}\n\n')
        error = await failed(opened(provider.base_url), stream=True)

        assert (502, "Upstream 'acme' began its answer with an error: overloaded") == (error.status, error.message)


class _Resolver(aiohttp.abc.AbstractResolver):
    """A name server that fails, or hangs."""

    def __init__(self, error: OSError | None) -> None:
        self._error = error

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET  # noqa: ARG002 - its signature
    ) -> list[aiohttp.abc.ResolveResult]:
        """Fail as the system's resolver does, or never answer."""
        if self._error is not None:
            raise self._error
        await hang()
        raise AssertionError

    async def close(self) -> None:
        """Nothing is open."""


def resolved_by(model: Model, resolver: _Resolver) -> Model:
    """Give the model's pool this name server."""
    connector = model.pool.session.connector
    assert isinstance(connector, aiohttp.TCPConnector)
    connector._resolver = resolver
    return model


class TestFailures:
    """No answer, or half of one."""

    async def test_connection_refused(self, opened: Opens) -> None:
        """Nobody listens: Unreachable, with the system's word."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            error = await failed(opened(f"http://127.0.0.1:{free.getsockname()[1]}"))

        assert isinstance(error, Unreachable)
        assert error.message.startswith("Upstream 'acme' failed: no connection (")
        assert "127.0.0.1" not in error.message or "Connect call failed" in error.message

    async def test_a_name_that_nobody_knows(self, opened: Opens) -> None:
        """DNS says no: Unreachable."""
        model = resolved_by(opened("http://api.example"), _Resolver(OSError(None, "Name or service not known")))
        error = await failed(model)

        assert isinstance(error, Unreachable)
        assert "Name or service not known" in error.message

    async def test_not_connected_in_time(self, opened: Opens) -> None:
        """A connection that never stands is late, not unreachable."""
        model = resolved_by(opened("http://api.example", replace(LONG, connect_ms=1)), _Resolver(None))
        error = await failed(model)

        assert isinstance(error, TimedOut)
        assert error.message == "Upstream 'acme' could not be connected to in time."

    async def test_not_http(self, opened: Opens) -> None:
        """Something else listens there: Unreachable."""

        async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Speak another protocol."""
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
            error = await failed(opened(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))

        assert isinstance(error, Unreachable)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_hung_up_before_an_answer(self, provider: Provider, opened: Opens, *, stream: bool) -> None:
        """The connection closes without a word: Unreachable."""

        async def handle(request: web.Request) -> web.StreamResponse:
            """Hang up."""
            assert request.transport is not None
            request.transport.abort()
            await hang()
            raise AssertionError

        provider.handle = handle
        error = await failed(opened(provider.base_url), stream=stream)

        assert isinstance(error, Unreachable)

    async def test_a_cut_body(self, provider: Provider, opened: Opens) -> None:
        """Half a whole answer is none: nothing of it was shown, so another target may be tried."""
        provider.streams(b'{"a":', then="break")
        error = await failed(opened(provider.base_url))

        assert isinstance(error, Unreachable)
        assert error.message == "Upstream 'acme' failed: ClientPayloadError."

    async def test_a_cut_stream(self, provider: Provider, opened: Opens) -> None:
        """After its first bytes a stream that breaks off is broken, and cannot be tried again."""
        provider.streams(FRAME, then="break")
        error = await failed(opened(provider.base_url), stream=True)

        assert isinstance(error, StreamBroken)
        assert error.message == "The upstream's answer broke off (ClientPayloadError)."
        assert error.retryable is False

    async def test_a_stream_that_ends_before_it_begins(self, provider: Provider, opened: Opens) -> None:
        """200 and not a byte: Unreachable."""
        provider.streams()
        error = await failed(opened(provider.base_url), stream=True)

        assert isinstance(error, Unreachable)
        assert error.message == "Upstream 'acme' ended its answer before it began."


class TestDeadlines:
    """How long is waited; each wait here is for what never comes, so that a slow machine changes nothing."""

    async def test_the_configuration_is_milliseconds(self, provider: Provider, opened: Opens) -> None:
        """Connecting, the whole call and the pause between two reads; a lease that is left stops the clock."""
        provider.says(b"{}")
        model = opened(provider.base_url, Deadlines(connect_ms=2500, idle_ms=4500, total_ms=3_600_000))
        with model.pool.lease() as lease:
            before = asyncio.get_running_loop().time()
            answer = await lease.send(model, BODY, stream=False)
            deadline = lease._deadline
        assert deadline is not None

        assert (None, 2.5, 4.5) == (model.timeout.total, model.timeout.connect, answer._idle_s)
        assert 0 <= deadline._ends - before - 3600 < 3600
        assert deadline._handle.cancelled()

    async def test_first_output(self, provider: Provider, opened: Opens) -> None:
        """Of a stream the first bytes must come in time."""
        provider.handle = hanging
        error = await failed(opened(provider.base_url, replace(LONG, first_output_ms=1)), stream=True)

        assert isinstance(error, TimedOut)
        assert "first_output" in error.message

    async def test_headers_are_no_output(self, provider: Provider, opened: Opens) -> None:
        """A status line alone does not stop the clock."""
        provider.streams(then="hang")
        error = await failed(opened(provider.base_url, replace(LONG, first_output_ms=1)), stream=True)

        assert isinstance(error, TimedOut)
        assert "first_output" in error.message

    async def test_a_whole_answer_takes_its_time(self, provider: Provider, opened: Opens) -> None:
        """It arrives when the model has finished: only the total bounds it."""
        provider.handle = hanging
        deadlines = replace(LONG, first_output_ms=60_000, total_ms=1)
        error = await failed(opened(provider.base_url, deadlines))
        provider.says(b"{}")
        answer, _ = await whole(opened(provider.base_url, replace(LONG, idle_ms=1)))

        assert isinstance(error, TimedOut)
        assert answer.status == 200

    async def test_idle(self, provider: Provider, opened: Opens) -> None:
        """A stream that stops moving is ended, and the upstream learns of it."""
        provider.streams(FRAME, then="hang")
        error = await failed(opened(provider.base_url, replace(LONG, idle_ms=1)), stream=True)
        await provider.left.wait()

        assert isinstance(error, TimedOut)
        assert "idle" in error.message


class TestSlots:
    """Calls in flight."""

    async def test_full(self, provider: Provider, opened: Opens) -> None:
        """Beyond its slots a pool refuses at once; a slot that was given back can be taken again."""
        model = opened(provider.base_url, slots=2)
        with model.pool.lease(), model.pool.lease():
            full = repr(model.pool)
            with pytest.raises(Unavailable) as caught:
                model.pool.lease()
        with model.pool.lease():
            half = repr(model)

        assert caught.value.message == "All 2 slots of upstream 'acme' are taken. Try again shortly."
        assert (full, half) == ("<Pool acme 2/2 in flight>", "<Model small at <Pool acme 1/2 in flight>>")
        assert repr(model.pool) == "<Pool acme 0/2 in flight>"

    async def test_a_slot_survives_anything(self, provider: Provider, opened: Opens) -> None:
        """An error, and a caller that leaves in the middle of a call, both give it back; the upstream's call ends."""
        provider.handle = hanging
        model = opened(provider.base_url, slots=1)
        with pytest.raises(ZeroDivisionError), model.pool.lease():
            raise ZeroDivisionError
        call = asyncio.gather(whole(model))
        await provider.entered.wait()
        during = model.pool.in_flight
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await provider.left.wait()

        assert (1, 0) == (during, model.pool.in_flight)

    async def test_left_in_the_middle_of_a_stream(self, provider: Provider, opened: Opens) -> None:
        """A lease that is left closes the connection: the upstream stops writing for nobody."""
        provider.streams(FRAME, then="hang")
        model = opened(provider.base_url)
        with model.pool.lease() as lease:
            answer = await lease.send(model, BODY, stream=True)
        await provider.left.wait()

        assert (FRAME, 0) == (answer.first, model.pool.in_flight)


async def test_build() -> None:
    """One pool for each upstream in use, shared by its models, none for the others; what the router sees is here."""
    models: Mapping[str, ModelConfig] = {
        "small": ModelConfig(upstream="a", name="a-small", price=Price(1, 2), context=5, tools=False),
        "large": ModelConfig(upstream="a", name="a-large", context=6, images=False, structured=False),
        "other": ModelConfig(upstream="b", name="b-other", context=7, deadlines=LONG),
    }
    upstreams = {name: UpstreamConfig(base_url=f"http://{name}.example/v1", slots=9) for name in ("a", "b", "unused")}
    built = pool.build(models, upstreams)
    pools = {model.pool for model in built.values()}
    for opened_pool in pools:
        await opened_pool.close()

    assert sorted((made.name, made.slots) for made in pools) == [("a", 9), ("b", 9)]
    assert built["small"].pool is built["large"].pool
    seen = {
        name: (m.name, m.upstream_name, m.price, m.context, m.tools, m.images, m.structured, m.deadlines)
        for name, m in built.items()
    }
    assert seen == {
        "small": ("small", "a-small", Price(1, 2), 5, False, True, True, Deadlines()),
        "large": ("large", "a-large", None, 6, True, False, False, Deadlines()),
        "other": ("other", "b-other", None, 7, True, True, True, LONG),
    }
    assert all(made.session.closed for made in pools)


async def test_no_repr_shows_the_key(opened: Opens) -> None:
    """Neither the pool's nor the model's."""
    model = opened("http://127.0.0.1:1", key=Secret("sk-hidden"))

    assert "hidden" not in f"{model!r} {model.pool!r} {model.pool.session!r}"
    assert orjson.loads(BODY)["model"] == "m"
