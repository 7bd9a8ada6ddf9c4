"""Comments to a client whose stream is silent, over a real socket.

The period is a hundredth of a second: what is waited for is a comment, and never the time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.keepalive import COMMENT, HEADERS, KeepAlive
from gateway.receipt import Receipt

EVERY_S = 0.01
BOUND_S = 15.0          # reached only by a test that fails
WORD = b"data: 1\n\n"
OURS = {"x-thriftgate-request-id": "r-1"}
Handles = Callable[[web.Request, Receipt, KeepAlive], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def asked(handle: Handles, every_s: float = EVERY_S) -> AsyncIterator[aiohttp.ClientResponse]:
    """The response of a server that serves like this, under comments."""

    async def serve(http: web.Request) -> web.StreamResponse:
        """Serve."""
        receipt = Receipt("r-1", 0.0)
        with KeepAlive(http, receipt, every_s, lambda: OURS) as alive:
            return await handle(http, receipt, alive)

    application = web.Application()
    application.router.add_get("/", serve)
    async with (
        asyncio.timeout(BOUND_S), TestServer(application) as server, aiohttp.ClientSession() as session,
        session.get(server.make_url("/")) as response,
    ):
        yield response


async def response_of(http: web.Request, alive: KeepAlive) -> web.StreamResponse:
    """The response that was begun, or one of our own."""
    response = await alive.begun()
    if response is None:
        response = web.StreamResponse(headers={"x-mine": "1"})
        await response.prepare(http)
        alive.response = response
    return response


class TestSilence:
    """Nobody has said anything yet."""

    async def test_the_response_is_begun(self) -> None:
        """Status 200, a stream of events that nobody may buffer, our headers; a comment again and again."""
        free = asyncio.Event()

        async def handle(http: web.Request, _: Receipt, alive: KeepAlive) -> web.StreamResponse:
            """Say nothing until the client has had enough, then go on in the same response."""
            await free.wait()
            response = await response_of(http, alive)
            await response.write(WORD)
            assert repr(alive) == "<KeepAlive every 0.01 s, begun>"
            return response

        async with asked(handle) as response:
            first = await response.content.readexactly(3 * len(COMMENT))
            free.set()
            rest = await response.content.read()

        assert (response.status, first) == (200, 3 * COMMENT)
        assert {name: response.headers[name] for name in (*HEADERS, *OURS)} == {**HEADERS, **OURS}
        assert "x-mine" not in response.headers
        assert rest.replace(COMMENT, b"") == WORD

    @pytest.mark.parametrize("every_s", [0, 3_600])
    async def test_there_is_none(self, every_s: float) -> None:
        """Where nobody wants comments, or the answer is quick enough: its response is its own."""

        async def handle(http: web.Request, _: Receipt, alive: KeepAlive) -> web.StreamResponse:
            """Answer at once."""
            assert repr(alive) == f"<KeepAlive every {every_s} s>"
            return await response_of(http, alive)

        async with asked(handle, every_s) as response:
            assert (await response.read(), response.headers["x-mine"]) == (b"", "1")

    async def test_whoever_answers_waits_for_the_comment(self) -> None:
        """Two do not write the same head: `begun` returns when the one that is being written is out."""
        held, begins = asyncio.Event(), asyncio.Event()

        async def handle(http: web.Request, _: Receipt, alive: KeepAlive) -> web.StreamResponse:
            """Answer in the very moment in which the comment begins the response."""
            prepare = web.StreamResponse.prepare

            async def slow(response: web.StreamResponse, request: web.BaseRequest) -> Any:
                """Prepare it, after a while."""
                begins.set()
                await held.wait()
                return await prepare(response, request)

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(web.StreamResponse, "prepare", slow)
                await begins.wait()
                asyncio.get_running_loop().call_soon(held.set)
                response = await response_of(http, alive)
            await response.write(WORD)
            return response

        async with asked(handle) as response:
            body = await response.read()

        assert (response.status, "x-mine" in response.headers) == (200, False)
        assert (body.startswith(COMMENT), body.replace(COMMENT, b"")) == (True, WORD)


class TestStream:
    """An answer that falls silent."""

    async def test_comments_come_between_events(self) -> None:
        """Where it has said something and then nothing more."""
        free = asyncio.Event()

        async def handle(http: web.Request, receipt: Receipt, alive: KeepAlive) -> web.StreamResponse:
            """Say a word, and another one later."""
            response = await response_of(http, alive)
            await response.write(WORD)
            receipt.sent_bytes += len(WORD)
            await free.wait()
            await response.write(WORD)
            return response

        async with asked(handle) as response:
            said = await response.content.readuntil(WORD)
            comment = await response.content.readexactly(len(COMMENT))
            free.set()
            rest = await response.content.read()

        assert (said.replace(COMMENT, b""), comment) == (WORD, COMMENT)
        assert rest.replace(COMMENT, b"") == WORD

    async def test_none_inside_an_event(self) -> None:
        """It would become a part of it."""
        looked = asyncio.Event()

        async def handle(http: web.Request, receipt: Receipt, alive: KeepAlive) -> web.StreamResponse:
            """Say half a word, and the rest when it has been looked at in vain, twice."""
            looks = iter([False, False])

            def between() -> bool:
                """Say no."""
                if next(looks, None) is None:
                    looked.set()
                return False

            response = await response_of(http, alive)
            alive.between = between
            await response.write(WORD[:4])
            await looked.wait()
            await response.write(WORD[4:])
            return response

        async with asked(handle) as response:
            body = await response.read()

        assert WORD in body

    async def test_none_where_it_goes_on_meanwhile(self) -> None:
        """What was between two events when it was found silent may be inside one when the comment is written."""
        http: Any = None
        response: Any = SimpleNamespace(written=[])
        between = iter([True, False, True, True])

        async def write(data: bytes) -> None:
            """Note it."""
            response.written.append(data)

        response.write = write
        with KeepAlive(http, Receipt("r-1", 0.0), 3_600, dict) as alive:
            alive.response, alive.between = response, lambda: next(between)
            for expected in ([], [COMMENT]):
                alive._look()
                await alive.begun()

                assert response.written == expected

    async def test_none_where_there_is_no_silence(self) -> None:
        """Who speaks at least once in each period needs none."""
        http: Any = None
        receipt = Receipt("r-1", 0.0)
        with KeepAlive(http, receipt, 3_600, dict) as alive:
            for _ in range(3):
                receipt.sent_bytes += 1
                alive._look()
                assert alive._task is None


class TestLeaving:
    """A client that is gone, and an answer that is over."""

    async def test_nobody_is_told_in_vain(self) -> None:
        """A client that left is for whoever serves it to notice: the comment fails in silence."""

        def gone(*_: object) -> None:
            """Raise what aiohttp raises."""
            raise ConnectionResetError

        http: Any = SimpleNamespace()
        alive = KeepAlive(http, Receipt("r-1", 0.0), 3_600, dict)
        with alive, pytest.MonkeyPatch.context() as patched:
            patched.setattr(web.StreamResponse, "prepare", gone)
            alive._look()
            begun = await alive.begun()

        assert (begun, alive.response) == (None, None)

    async def test_nothing_is_left(self) -> None:
        """No timer, and no comment that is being written."""
        http: Any = SimpleNamespace()
        started = asyncio.Event()

        async def never(*_: object) -> None:
            """Write for ever."""
            started.set()
            await asyncio.get_running_loop().create_future()

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(web.StreamResponse, "prepare", never)
            with KeepAlive(http, Receipt("r-1", 0.0), EVERY_S, dict) as alive:
                await started.wait()
                task, timer = alive._task, alive._handle
            assert task is not None
            assert timer is not None
            await asyncio.wait([task])

        assert (task.cancelled(), timer.cancelled(), alive._handle) == (True, True, None)
