"""The answer's way back, over a real socket, from answers that the tests script."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDict, CIMultiDictProxy

from gateway import relay
from gateway.dialects import anthropic, openai
from gateway.dialects.door import Upstream
from gateway.dialects.neutral import Asked, Conversation
from gateway.errors import GatewayError, Refused, StreamBroken, TimedOut
from gateway.keepalive import HEADERS, KeepAlive
from gateway.pricing import Usage
from gateway.receipt import Outcome, Receipt
from gateway.through import Way
from gateway.upstream.pool import Answer

WORD = 'data: {"choices":[{"index":0,"delta":{"content":"größe"},"finish_reason":null}]}\n\n'.encode()
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USED = b'data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"overloaded"}}\n\n'
SSE = {"Content-Type": "text/event-stream; charset=utf-8"}


class Scripted(Answer):
    """An upstream's answer: its chunks, then what happens."""

    __slots__ = ("_chunks", "_then")

    def __init__(
        self, *chunks: bytes, then: Exception | None = None, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.status = status
        self.headers = CIMultiDictProxy(CIMultiDict(SSE if headers is None else headers))
        self.first, *self._chunks = chunks
        self.ending = openai.ending_of_body(self.first)
        with contextlib.suppress(ValueError):
            self.said = openai.read_whole(self.first)
        self._then = then

    def bound(self, give_up: Callable[[], object]) -> None:
        """No deadline here that could pass."""

    async def finish(self, linger_s: float) -> None:
        """No connection here that could be used again."""

    async def next(self) -> bytes:
        """Return the next chunk, or do what comes after the last."""
        await asyncio.sleep(0)
        if self._chunks:
            return self._chunks.pop(0)
        if self._then is not None:
            raise self._then
        return b""


class Received(NamedTuple):
    """What the client got, and what was booked."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    whole: bool
    receipt: Receipt


async def stream(
    http: web.Request, answer: Answer, way: Way, headers: dict[str, str], receipt: Receipt
) -> web.StreamResponse:
    """Relay a stream to a client who needs no comments."""
    with KeepAlive(http, receipt, 0, dict) as alive:
        response = await relay.relay_stream(http, answer, way, headers, receipt, alive)
    assert (alive.response, alive.between()) == (response, False)
    return response


STRAIGHT = Way(openai, openai)
Relays = Callable[..., Awaitable[web.StreamResponse]]


async def relayed(through: Relays, answer: Answer, way: Way = STRAIGHT) -> Received:
    """Relay an answer to a client that reads it to its end, broken or not."""
    receipt, body, whole = Receipt("r-1", 0.0), b"", True

    async def handle(http: web.Request) -> web.StreamResponse:
        """Relay the answer."""
        return await through(http, answer, way, {"x-thriftgate-model": "small"}, receipt)

    application = web.Application()
    application.router.add_get("/", handle)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        async with session.get(server.make_url("/")) as response:
            try:
                async for chunk in response.content.iter_any():
                    body += chunk
            except aiohttp.ClientPayloadError:
                whole = False
        return Received(response.status, response.headers, body, whole, receipt)


def booked(receipt: Receipt) -> tuple[Any, ...]:
    """How a receipt says that it went."""
    return receipt.outcome, receipt.status, receipt.finish, receipt.usage, receipt.sent_bytes


class TestStream:
    """Chunk by chunk."""

    @pytest.mark.parametrize(
        "chunks",
        [
            (WORD, WORD + STOP, USED, DONE),
            tuple(bytes([byte]) for byte in WORD + STOP + USED + DONE),
            (b": ping\r\n\r\n", WORD[:60], WORD[60:] + STOP[:9], STOP[9:], USED.replace(b"\n", b"\r\n") + DONE),
        ],
        ids=["by event", "by byte", "cut and mixed"],
    )
    async def test_byte_for_byte(self, chunks: tuple[bytes, ...]) -> None:
        """What the upstream sent is what the client gets; the receipt knows how it ended."""
        received = await relayed(stream, Scripted(*chunks))
        sent = b"".join(chunks)

        assert (200, sent, True) == (received.status, received.body, received.whole)
        assert (Outcome.OK, 200, "stop", Usage(12, 3), len(sent)) == booked(received.receipt)
        assert received.receipt.error is None

    async def test_headers(self) -> None:
        """Ours are added, the upstream's that a client may see are kept, and nobody may buffer."""
        answer = Scripted(STOP, headers={**SSE, "x-request-id": "up-1", "Set-Cookie": "a=1", "Server": "acme"})
        headers = (await relayed(stream, answer)).headers

        assert headers["Content-Type"] == SSE["Content-Type"]
        assert (headers["x-request-id"], headers["x-thriftgate-model"]) == ("up-1", "small")
        assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-cache", "no")
        assert "Set-Cookie" not in headers
        assert headers.get("Server") != "acme"

    @pytest.mark.parametrize(
        "error", [StreamBroken("The upstream's answer broke off."), TimedOut("The upstream was too slow.")]
    )
    @pytest.mark.parametrize(
        ("chunks", "between"), [((WORD, WORD), b""), ((WORD, WORD[:40]), b"\n\n")], ids=["between events", "inside one"]
    )
    async def test_one_that_breaks(
        self, error: StreamBroken | TimedOut, chunks: tuple[bytes, ...], between: bytes
    ) -> None:
        """An error event of its own ends it, then the connection breaks: nobody takes it for a whole one."""
        received = await relayed(stream, Scripted(*chunks, then=error))
        sent = b"".join(chunks)
        frame = received.body.removeprefix(sent + between + b"data: ")

        assert received.body.startswith(sent + between + b"data: {")
        assert error.message == orjson.loads(frame)["error"]["message"]
        assert received.whole is False
        assert (Outcome.BROKEN, 200, None, None, len(sent)) == booked(received.receipt)
        assert f"{type(error).__name__}: {error.message}" == received.receipt.error

    async def test_one_that_ends_without_finishing(self) -> None:
        """A clean end is not a finish: the client is told, and the tokens that were counted are booked."""
        received = await relayed(stream, Scripted(WORD, USED))
        expected = "The upstream ended the stream without finishing its answer."

        assert expected == orjson.loads(received.body.removeprefix(WORD + USED + b"data: "))["error"]["message"]
        assert received.whole is False
        assert (Outcome.BROKEN, 200, None, Usage(12, 3), len(WORD + USED)) == booked(received.receipt)

    @pytest.mark.parametrize("then", [None, StreamBroken("cut")])
    async def test_one_that_says_its_error_itself(self, then: Exception | None) -> None:
        """The upstream's word is the last: no second error follows it."""
        received = await relayed(stream, Scripted(WORD, ERROR, then=then))

        assert received.body == WORD + ERROR
        assert (received.receipt.outcome, bool(received.receipt.error)) == (Outcome.BROKEN, True)
        assert "overloaded" not in str(received.receipt.error)

    async def test_what_is_no_event_stream(self) -> None:
        """An upstream that answers a stream with one JSON object is passed on as it is."""
        answer = Scripted(b'{"choices"', b":[]}", headers={"Content-Type": "application/json"})
        received = await relayed(stream, answer)

        assert (b'{"choices":[]}', True) == (received.body, received.whole)
        assert received.receipt.outcome is Outcome.OK


class TestBegun:
    """A response that was begun for a client who waited."""

    @staticmethod
    async def begun(http: web.Request, receipt: Receipt) -> KeepAlive:
        """Begin one, with a comment."""
        alive = KeepAlive(http, receipt, 0, dict)
        await alive._say()
        return alive

    async def test_a_stream_goes_on_in_it(self) -> None:
        """After its comments, under its headers: there is no second head."""

        async def through(
            http: web.Request, answer: Answer, way: Way, headers: dict[str, str], receipt: Receipt
        ) -> web.StreamResponse:
            """Begin, then relay."""
            alive = await self.begun(http, receipt)
            response = await relay.relay_stream(http, answer, way, headers, receipt, alive)
            assert response is alive.response
            return response

        received = await relayed(through, Scripted(WORD, STOP, DONE))

        assert (received.body, received.whole) == (b": waiting\n\n" + WORD + STOP + DONE, True)
        assert {name: received.headers[name] for name in HEADERS} == HEADERS
        assert (Outcome.OK, 200, "stop", None, len(WORD + STOP + DONE)) == booked(received.receipt)

    @pytest.mark.parametrize(
        ("error", "outcome", "says", "booked_as"),
        [
            (Refused("The upstream failed", 500, "boom"), Outcome.FAILED, b"boom", "Refused: The upstream failed"),
            (relay.passed_on(Scripted(b"{}", status=400), STRAIGHT), Outcome.REFUSED, b"answered 400", "PassedOn"),
            (asyncio.CancelledError(), Outcome.ABANDONED, b"shutting down", "None"),
        ],
        ids=["failed", "refused", "stopped"],
    )
    @pytest.mark.parametrize(
        ("surface", "begins"), [(None, b'data: {"error":'), ("anthropic", b"event: error\ndata: ")]
    )
    async def test_there_is_no_answer(
        self, error: BaseException, outcome: Outcome, says: bytes, booked_as: str, surface: str | None, begins: bytes
    ) -> None:
        """One error event in the client's dialect, then the connection is closed: nobody takes it for an answer."""

        async def through(http: web.Request, *rest: Any) -> web.StreamResponse:
            """Begin, and find nobody."""
            receipt = rest[-1]
            receipt.surface = surface
            response = (await self.begun(http, receipt)).response
            assert response is not None
            return await relay.end_begun(http, response, error, receipt)

        received = await relayed(through, Scripted(b""))
        comment, event = received.body.split(b"\n\n", 1)

        assert (received.status, comment, received.whole) == (200, b": waiting", False)
        assert event.startswith(begins)
        assert says in event
        assert (received.receipt.outcome, received.receipt.status) == (outcome, 200)
        assert str(received.receipt.error).startswith(booked_as)

    @pytest.mark.parametrize("error", [asyncio.CancelledError(), TimedOut("late")])
    @pytest.mark.parametrize("transport", [None, SimpleNamespace(is_closing=lambda: True)])
    async def test_the_client_is_gone(self, error: BaseException, transport: Any) -> None:
        """Then there is nobody to tell: the error goes on."""
        http: Any = SimpleNamespace(transport=transport)
        receipt = Receipt("r-1", 0.0)

        with pytest.raises(type(error)):
            await relay.end_begun(http, web.StreamResponse(), error, receipt)
        assert receipt.outcome is None


@pytest.mark.parametrize(
    ("upstream", "body", "says"),
    [
        (openai, b'{"error":{"message":"`seed` is odd"}}', "`seed` is odd"),
        (anthropic, b'{"type":"error","error":{"message":"Too long"}}', "Too long"),
        (openai, b"<html>", "The upstream answered 422."), (openai, b"", "The upstream answered 422."),
    ],
)
def test_what_is_passed_on(upstream: Upstream, body: bytes, says: str) -> None:
    """The upstream's words and status as an error of ours; the receipt has its status alone."""
    error = relay.passed_on(Scripted(body, status=422), Way(openai, upstream))

    assert (error.status, error.message, error.booked) == (422, says, "The upstream answered 422.")


class TestContinued:
    """A text that breaks off, and another model that goes on."""

    @staticmethod
    async def relayed(broken: Answer, *further: Answer) -> tuple[Received, list[tuple[str, Usage | None]]]:
        """Relay an answer, and those that go on from it one after the other."""
        left, receipts = list(further), list[Receipt]()
        asked: list[tuple[str, Usage | None]] = []

        async def carry_on(said: str, used: Usage | None) -> tuple[Answer, Upstream] | None:
            """Go on, or say that nobody can."""
            asked.append((said, used))
            if not left:
                return None
            receipts[0].continued.append("large")
            return left.pop(0), openai

        async def through(http: web.Request, *rest: Any) -> web.StreamResponse:
            """Relay, and keep the receipt at hand."""
            receipts.append(rest[-1])
            return await stream(http, *rest)

        way = Way(openai, openai, Asked("r1", "auto", 17, Conversation(())), carry_on=carry_on)
        return await relayed(through, broken, way), asked

    @pytest.mark.parametrize(
        ("chunks", "then"),
        [((WORD,), StreamBroken("cut")), ((WORD,), None), ((WORD, ERROR), None), ((WORD[:-2],), TimedOut("late"))],
        ids=["broken", "no finish", "an error", "inside an event"],
    )
    async def test_it_goes_on(self, chunks: tuple[bytes, ...], then: GatewayError | None) -> None:
        """The client gets both as one answer, with a comment where it was continued."""
        received, asked = await self.relayed(Scripted(*chunks, then=then), Scripted(WORD, STOP, USED, DONE))
        first, second = received.body.split(b": continued by large\n\n")

        assert (asked, received.whole, received.receipt.outcome) == ([("größe", None)], True, Outcome.OK)
        assert ("größe".encode() in first, "größe".encode() in second) == (True, True)
        assert (received.body.count(b'"role"'), received.body.endswith(DONE)) == (1, True)
        assert (Outcome.OK, 200, "stop", Usage(12, 3), len(received.body)) == booked(received.receipt)

    async def test_more_than_once(self) -> None:
        """What is said so far grows."""
        cut = [Scripted(WORD, then=StreamBroken("cut")) for _ in range(2)]
        received, asked = await self.relayed(*cut, Scripted(WORD, STOP, DONE))

        assert ([said for said, _ in asked], received.receipt.outcome) == (["größe", "größegröße"], Outcome.OK)

    async def test_nobody_can(self) -> None:
        """It ends as a broken answer does."""
        received, asked = await self.relayed(Scripted(WORD, USED, then=StreamBroken("It broke off.")))

        assert (asked, received.whole) == ([("größe", Usage(12, 3))], False)
        assert b"It broke off." in received.body
        assert received.receipt.outcome is Outcome.BROKEN

    @pytest.mark.parametrize("chunks", [(STOP,), (STOP, USED, DONE), (WORD, STOP)])
    async def test_what_is_whole_is_left_alone(self, chunks: tuple[bytes, ...]) -> None:
        """Though its connection breaks after it."""
        received, asked = await self.relayed(Scripted(*chunks, then=StreamBroken("cut")))

        assert (asked, received.receipt.outcome, received.whole) == ([], Outcome.OK, True)


class TestWhole:
    """In one piece."""

    @pytest.mark.parametrize(("status", "outcome"), [(200, Outcome.OK), (201, Outcome.OK), (400, Outcome.REFUSED)])
    async def test_byte_for_byte(self, status: int, outcome: Outcome) -> None:
        """Status and body as they came; what the upstream refuses is the caller's fault."""
        body = b'{ "choices":[{"finish_reason":"length"}], "usage":{"prompt_tokens":5,"completion_tokens":2}}\n'
        headers = {"Content-Type": "application/json", "x-ratelimit-remaining-tokens": "9", "Set-Cookie": "a=1"}
        received = await relayed(relay.relay_whole, Scripted(body, status=status, headers=headers))

        assert (status, body, True) == (received.status, received.body, received.whole)
        assert (outcome, status, "length", Usage(5, 2), len(body)) == booked(received.receipt)
        assert received.headers["Content-Type"] == "application/json"
        assert received.headers["x-ratelimit-remaining-tokens"] == "9"
        assert received.headers["x-thriftgate-model"] == "small"
        assert "Set-Cookie" not in received.headers

    @pytest.mark.parametrize("body", [b"", b"<html>", b"\xff"])
    async def test_what_is_no_completion(self, body: bytes) -> None:
        """It is not ours to judge."""
        received = await relayed(relay.relay_whole, Scripted(body, headers={"Content-Type": "text/html"}))

        assert body == received.body
        assert (Outcome.OK, 200, None, None, len(body)) == booked(received.receipt)


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        ("Content-Type", True), ("content-encoding", True), ("X-Request-ID", True), ("Retry-After", True),
        ("x-ratelimit-limit-requests", True), ("OpenAI-Processing-Ms", True), ("Set-Cookie", False), ("Server", False),
        ("Content-Length", False), ("Transfer-Encoding", False), ("Connection", False), ("Date", False),
        ("x-thriftgate-model", False), ("Authorization", False),
    ],
)
def test_which_headers_a_client_may_see(name: str, *, passed: bool) -> None:
    """What the answer says of itself and of limits; no cookies, servers or hop-by-hop fields."""
    assert ({name: "v"} if passed else {}) == relay.passed_headers({name: "v"}, {"x-thriftgate-model": "m"})


@pytest.mark.parametrize("name", ["x-ratelimit-limit-requests", "X-RateLimit-Remaining-Tokens"])
def test_the_limits_of_our_key_give_way_to_those_of_the_callers(name: str) -> None:
    """Two of them would say two things; and one of each would say neither."""
    assert {} == relay.passed_headers({name: "v"}, {"x-ratelimit-limit-requests": "5"})


TRANSLATED = Way(anthropic, openai, Asked("r1", "auto", 17, Conversation(())))
STARTED = b'event: message_start\ndata: {"type":"message_start",'


class TestTranslated:
    """From OpenAI's dialect to an Anthropic caller."""

    async def test_a_stream(self) -> None:
        """Worded anew chunk by chunk, under headers that are true of it, ended and booked as its upstream ended."""
        answer = Scripted(WORD[:30], WORD[30:] + STOP, USED, DONE, headers={**SSE, "x-request-id": "up-1"})
        received = await relayed(stream, answer, TRANSLATED)

        assert (received.status, received.whole, received.headers["x-request-id"]) == (200, True, "up-1")
        assert received.body.startswith(STARTED)
        assert received.body.endswith(b'data: {"type":"message_stop"}\n\n')
        assert "größe".encode() in received.body
        assert (Outcome.OK, 200, "stop", Usage(12, 3), len(received.body)) == booked(received.receipt)

    @pytest.mark.parametrize(
        ("chunks", "then", "says"),
        [
            ((WORD, ERROR), None, b"overloaded"),
            ((WORD + ERROR, DONE), None, b"overloaded"),
            ((WORD, ERROR.rstrip()), None, b"overloaded"),
            ((WORD,), None, b"without finishing its answer"),
            ((WORD,), StreamBroken("It broke off."), b"It broke off."),
            ((WORD,), TimedOut("Too slow."), b"Too slow."),
        ],
        ids=["error frame", "in one chunk", "cut error frame", "no finish", "broken", "late"],
    )
    async def test_a_stream_that_breaks(self, chunks: tuple[bytes, ...], then: Exception | None, says: bytes) -> None:
        """What came, then one error event in the caller's dialect, and no end; the upstream's words are not booked."""
        received = await relayed(stream, Scripted(*chunks, then=then), TRANSLATED)
        *_, last = received.body.removesuffix(b"\n\n").split(b"\n\n")

        assert (received.status, received.whole, "größe".encode() in received.body) == (200, False, True)
        assert last.startswith(b'event: error\ndata: {"type":"error",')
        assert says in last
        assert b"message_stop" not in received.body
        assert (received.receipt.outcome, received.receipt.finish) == (Outcome.BROKEN, None)
        assert "overloaded" not in str(received.receipt.error)

    async def test_what_breaks_after_its_end_breaks_nothing(self) -> None:
        """The answer was complete: the client has it whole."""
        answer = Scripted(WORD + STOP, then=StreamBroken("It broke off."))
        received = await relayed(stream, answer, TRANSLATED)

        assert (received.whole, received.receipt.outcome, received.receipt.finish) == (True, Outcome.OK, "stop")
        assert received.body.endswith(b'data: {"type":"message_stop"}\n\n')

    async def test_a_whole_answer(self) -> None:
        """Its body in the caller's dialect and its figures in the books."""
        body = (
            b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
            b'"usage":{"prompt_tokens":12,"completion_tokens":3}}'
        )
        received = await relayed(relay.relay_whole, Scripted(body, headers={"Content-Type": "x/y"}), TRANSLATED)
        said = orjson.loads(received.body)

        assert (received.headers["Content-Type"], said["type"], said["content"][0]["text"]) == (
            "application/json", "message", "Hi"
        )
        assert (Outcome.OK, 200, "stop", Usage(12, 3), len(received.body)) == booked(received.receipt)

    @pytest.mark.parametrize(
        ("body", "says"), [(b'{"error":{"message":"`seed` is odd"}}', "`seed` is odd"), (b"<html>", "answered 422")]
    )
    async def test_a_refusal(self, body: bytes, says: str) -> None:
        """The caller's fault keeps its status; the upstream's words, if it had any, in the caller's form."""
        received = await relayed(relay.relay_whole, Scripted(body, status=422), TRANSLATED)
        said = orjson.loads(received.body)

        assert (received.status, said["type"], said["error"]["type"]) == (422, "error", "invalid_request_error")
        assert says in said["error"]["message"]
        assert (received.receipt.outcome, received.receipt.status) == (Outcome.REFUSED, 422)

    @pytest.mark.parametrize(
        ("headers", "says"),
        [
            ({}, "sent nothing"),
            ({"Content-Type": "text/html"}, "sent text/html"),
            ({**SSE, "Content-Encoding": "br"}, "sent text/event-stream"),
        ],
    )
    async def test_what_cannot_be_read(self, headers: dict[str, str], says: str) -> None:
        """An error before anything is sent, so that an honest status is possible."""
        http: Any = None

        with pytest.raises(Refused, match=says) as caught:
            await stream(http, Scripted(b"<html>", headers=headers), TRANSLATED, {}, Receipt("r-1", 0.0))

        assert caught.value.status == 502
