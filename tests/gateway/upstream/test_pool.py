"""Calls to a real server: what is sent, what comes back, and every way of failing as an error of ours."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from yarl import URL

from gateway.config import EndpointConfig, Secret, UpstreamConfig
from gateway.dialects import anthropic, gemini, openai
from gateway.dialects.door import Upstream
from gateway.errors import GatewayError, Refused, StreamBroken, TimedOut, Unavailable, Unreachable
from gateway.upstream import pool
from gateway.upstream.pool import SILENT_BYTES, Answer, Beginning, Call, Limits, Pool
from tests.gateway.provider import Provider, hang, hanging, running

LONG = Limits(60, 60, 60, 60)
BODY = b'{"model":"m", "messages":[]}'
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
FRAME = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
SSE = "text/event-stream"


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A running server."""
    async with running() as provider:
        yield provider


Opens = Callable[..., Pool]


@pytest.fixture
async def opened() -> AsyncIterator[Opens]:
    """Open a pool; it is closed after the test."""
    pools: list[Pool] = []

    def opened(base_url: str, **settings: Any) -> Pool:
        """Open one."""
        pools.append(Pool("acme", UpstreamConfig(base_url=base_url, **settings)))
        return pools[-1]

    yield opened
    for made in pools:
        await made.close()


def call(acme: Pool, limits: Limits = LONG, **more: Any) -> Call:
    """A call to the pool's first endpoint."""
    return Call(URL(acme.speaks.url(acme.endpoints[0].base_url, "m", stream=False)), BODY, limits, **more)


async def whole(acme: Pool, limits: Limits = LONG, *, stream: bool = False, **more: Any) -> tuple[Answer, bytes]:
    """Call once and read to the end."""
    with acme.lease() as lease:
        answer = await lease.send(call(acme, limits, stream=stream, **more))
        read = answer.first
        while stream and (chunk := await answer.next()):
            read += chunk
    return answer, read


async def failed(acme: Pool, limits: Limits = LONG, *, stream: bool = False) -> GatewayError:
    """Call once, in vain; the slot must be free again."""
    with pytest.raises(GatewayError) as caught:
        await whole(acme, limits, stream=stream)

    assert (acme.slots.in_flight, acme.endpoints[0].in_flight) == (0, 0)
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

    async def test_what_goes_beside_it(self, provider: Provider, opened: Opens) -> None:
        """Headers of the caller's that mean something to this upstream."""
        provider.says(b"{}")
        await whole(opened(provider.base_url), headers={"anthropic-beta": "tomorrow"})

        assert provider.seen[0][1]["anthropic-beta"] == "tomorrow"

    async def test_each_endpoint_has_its_own(self, provider: Provider, opened: Opens) -> None:
        """Its address and key where it has any, else the upstream's; it is named by its number."""
        provider.says(b"{}")
        more = [EndpointConfig(key=Secret("sk-2"), weight=3), EndpointConfig(base_url="http://other.example/v1")]
        acme = opened(provider.base_url, key=Secret("sk-up"), weight=2, endpoints=more)
        for endpoint in acme.endpoints[:2]:
            with acme.lease(endpoint) as lease:
                await lease.send(call(acme))

        assert [headers["Authorization"] for _, headers, _ in provider.seen] == ["Bearer sk-up", "Bearer sk-2"]
        assert [(each.name, each.base_url, each.weight) for each in acme.endpoints] == [
            ("acme-1", provider.base_url, 2), ("acme-2", provider.base_url, 3),
            ("acme-3", "http://other.example/v1", 1),
        ]

    async def test_cookies_do_not_travel(self, provider: Provider, opened: Opens) -> None:
        """What a provider sets for one caller is not sent with the next's request."""
        provider.says(b"{}", Set_Cookie="session=1")
        acme = opened(provider.base_url)
        for _ in range(2):
            await whole(acme)

        assert ["Cookie" in headers for _, headers, _ in provider.seen] == [False, False]
        assert isinstance(acme.endpoints[0].session.cookie_jar, aiohttp.DummyCookieJar)      # 127.0.0.1 gets none

    @pytest.mark.parametrize("stream", [False, True])
    async def test_connections_are_used_again(self, provider: Provider, opened: Opens, *, stream: bool) -> None:
        """An answer that was read to its end leaves its connection to the next call."""
        provider.streams(*([FRAME] if stream else [b"{}"]))
        acme = opened(provider.base_url)
        for _ in range(3):
            await whole(acme, stream=stream)

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
            response = web.StreamResponse(headers={"Content-Type": SSE})
            await response.prepare(request)
            await response.write(FRAME)
            await free.wait()
            await response.write(b"data: [DONE]\n\n")
            return response

        provider.handle = handle
        acme = opened(provider.base_url)
        with acme.lease() as lease:
            answer = await lease.send(call(acme, stream=True))
            first = answer.first
            free.set()
            rest = [await answer.next(), await answer.next(), await answer.next()]

        assert (FRAME, [b"data: [DONE]\n\n", b"", b""]) == (first, rest)

    @pytest.mark.parametrize(("then", "peers"), [("end", 1), ("hang", 2)])
    async def test_one_that_is_complete(self, provider: Provider, opened: Opens, then: str, peers: int) -> None:
        """Its upstream's own end is waited for, so that the connection can be used again; but only for a moment."""
        provider.streams(FRAME, then=then)
        acme = opened(provider.base_url)
        for _ in range(2):
            with acme.lease() as lease:
                answer = await lease.send(call(acme, stream=True))
                await answer.finish(60 if then == "end" else 0)

        assert len(provider.peers) == peers

    async def test_one_whose_end_breaks(self, provider: Provider, opened: Opens) -> None:
        """It was complete before: nothing is missing."""
        provider.streams(FRAME, then="break")
        acme = opened(provider.base_url)
        with acme.lease() as lease:
            await (await lease.send(call(acme, stream=True))).finish(60)

        assert acme.slots.in_flight == 0

    async def test_a_client_that_takes_too_long(self, provider: Provider, opened: Opens) -> None:
        """Whoever relays the answer is told when the total deadline passes while nobody waits for the upstream."""
        provider.streams(FRAME, then="hang")
        acme, told = opened(provider.base_url), asyncio.Event()
        with acme.lease() as lease:
            answer = await lease.send(call(acme, stream=True))
            answer.bound(told.set)
            answer._deadline._ends = 0
            answer._deadline._fire()

        assert told.is_set()

    async def test_another_task_may_read_on(self, provider: Provider, opened: Opens) -> None:
        """One that adopts the answer is the one whose waiting its deadlines end."""
        provider.streams(FRAME, then="hang")
        acme = opened(provider.base_url)
        with acme.lease() as lease:
            (answer,) = await asyncio.gather(lease.send(call(acme, LONG._replace(idle_s=0.001), stream=True)))
            answer.adopt()
            with pytest.raises(TimedOut, match="idle"):
                await answer.next()

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
        acme = opened(provider.base_url)
        with acme.lease() as lease:
            answer = await lease.send(call(acme, stream=stream))

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
        acme = opened(provider.base_url)
        with acme.lease() as lease:
            sent = asyncio.gather(lease.send(call(acme, stream=True)))
            await provider.entered.wait()
            free.set()
            (answer,) = await sent

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

    @pytest.mark.parametrize(
        ("headers", "body", "seconds", "kept"),
        [
            ({"Retry_After": "7"}, b"{}", 7, {"Retry-After": "7"}),
            ({"Retry_After_Ms": "1500"}, b"{}", 1.5, {"Retry-After": "2"}),
            ({}, b'{"error":{"details":[{"retryDelay":"12s"}]}}', 12, {"Retry-After": "12"}),
            ({"Retry_After": "0"}, b"{}", 0, {"Retry-After": "1"}), ({"Retry_After": "soon"}, b"{}", None, {}),
            ({}, b"", None, {}),
        ],
    )
    async def test_when_to_come_again(
        self, provider: Provider, opened: Opens, headers: dict[str, str], body: bytes, seconds: float | None,
        kept: dict[str, str],
    ) -> None:
        """As the upstream says it, in a header or its body; the caller gets whole seconds, at least one."""
        provider.says(body, 503, **headers)
        error = await failed(opened(provider.base_url))

        assert isinstance(error, Refused)
        assert (error.retry_after_s, error.headers) == (seconds, kept)

    async def test_a_stream_that_begins_with_an_error(self, provider: Provider, opened: Opens) -> None:
        """Nothing was shown yet, so another target may be tried."""
        provider.streams(b'data: {"error":{"message":"overloaded"}}\n\n')
        error = await failed(opened(provider.base_url), stream=True)

        assert (502, "Upstream 'acme' began its answer with an error: overloaded") == (error.status, error.message)


def chunked(*deltas: bytes) -> list[bytes]:
    """Frames of OpenAI's with these deltas."""
    return [b'data: {"id":"c","choices":[{"index":0,"delta":%b}]}\n\n' % delta for delta in deltas]


def named(kind: bytes, data: bytes) -> bytes:
    """A frame of Anthropic's."""
    return b"event: %b\ndata: %b\n\n" % (kind, data)


def block(inner: bytes) -> bytes:
    """The start of a block of Anthropic's."""
    return named(
        b"content_block_start", b'{"type":"content_block_start","index":0,"content_block":%b}' % inner
    )


def delta(inner: bytes) -> bytes:
    """A piece of a block of Anthropic's."""
    return named(b"content_block_delta", b'{"type":"content_block_delta","index":0,"delta":%b}' % inner)


def parts(inner: bytes) -> bytes:
    """A frame of Gemini's."""
    return b'data: {"candidates":[{"content":{"parts":[%b],"role":"model"}}],"responseId":"r"}\r\n\r\n' % inner


OVERLOADED = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}'
START = b'{"type":"message_start","message":{"id":"m","content":[],"model":"c","usage":{"input_tokens":7}}}'
PING = named(b"ping", b'{"type": "ping"}')
NO_WORDS = "an error without a message"
ERRORS: list[tuple[Upstream, bytes, str]] = [
    (openai, b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n', "overloaded"),
    (openai, b': ping\n\ndata: {"error":{"message":"overloaded"}}\n\ndata: {}\n\n', "overloaded"),
    (openai, ROLE + b'data: {"error":{"message":"overloaded"}}\r\n\r\n', "overloaded"),
    (openai, b'data: {"error":{"message":"' + b"x" * 600 + b'"}}\n\n', "x" * 500),
    (openai, b'data:{"error":"overloaded"}\r\rdata: [DONE]\r\r', "overloaded"),
    (openai, b'event: error\ndata: {"error":{}}\n\n', NO_WORDS),
    (openai, b'data: {"error":{"message":5}}\n\n', NO_WORDS), (openai, b'data: {"error":[1]}\n\n', NO_WORDS),
    (anthropic, named(b"error", OVERLOADED), "Overloaded"),
    (anthropic, PING + named(b"error", OVERLOADED), "Overloaded"),
    (anthropic, named(b"message_start", START) + PING + named(b"error", OVERLOADED), "Overloaded"),
    (anthropic, b"data: " + OVERLOADED + b"\n\n", "Overloaded"), (anthropic, b'data: {"error":"Oops"}\n\n', "Oops"),
    (anthropic, named(b"error", b'{"error":{"message":"Oops"}}'), "Oops"),
    (anthropic, named(b"error", b"{}"), NO_WORDS),
    (gemini, b'data: {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}\r\n\r\n', "busy"),
    (gemini, b'data: [{"error": {"message": "busy"}}]\n\n', "busy"), (gemini, b'data: {"error": "busy"}\n\n', "busy"),
    (gemini, b'data: {"error": {}}\n\n', NO_WORDS),
    (gemini, b'data: {"usageMetadata":{"promptTokenCount":9}}\r\n\r\ndata: {"error":{"message":"busy"}}\n\n', "busy"),
    (gemini, b'data: {"candidates":[{"finishReason":"MALFORMED_RESPONSE"}]}\n\n',
     "The model wrote an answer that cannot be read."),
    *((openai, b"data: " + garbage + b"\n\n", "an event that is no JSON object")
      for garbage in (b"<html>", b"[1]", b"5", b'{"choices":[{"del', b"\xff")),
]
SILENT: dict[str, tuple[Upstream, bytes]] = {
    "nothing": (openai, b""), "a role": (openai, ROLE), "empty data": (openai, b"data:\n\ndata: \n\n"),
    "comments": (openai, b": OPENROUTER PROCESSING\n\n: again\r\n\r\n"),
    "an empty text": (openai, b"".join(chunked(b'{"content":""}', b'{"role":"assistant","content":null}', b"{}"))),
    "usage": (openai, b'data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":0}}\n\n'),
    "Azure's filters": (openai, b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n'),
    "half a frame": (openai, FRAME[:-1]), "half an error": (openai, b'data: {"error":{"message":"x"}}\n'),
    "no error, said so": (openai, b'data: {"error":null}\n\n'),
    "a done without an answer": (openai, b"data: [DONE]\n\n"),
    "a message's start and a ping": (anthropic, named(b"message_start", START) + PING),
    "a block's start": (anthropic, block(b'{"type":"text","text":""}')),
    "Google's counts": (gemini, b'data: {"usageMetadata":{"promptTokenCount":9},"responseId":"r"}\r\n\r\n'),
    "an empty part": (gemini, parts(b'{"text":""}')),
}
SAYS: dict[str, tuple[Upstream, bytes]] = {
    "text": (openai, FRAME), "a role and a text": (openai, ROLE + FRAME),
    "the word error": (openai, chunked(b'{"content":"\\"error\\""}')[0]),
    "thinking": (openai, chunked(b'{"reasoning_content":"hm"}')[0]),
    "a refusal": (openai, chunked(b'{"refusal":"No."}')[0]),
    "a call": (openai, chunked(b'{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":""}}]}')[0]),
    "an image": (openai, chunked(b'{"images":[{"image_url":{"url":"data:image/png;base64,eA=="}}]}')[0]),
    "a finish": (openai, b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n'),
    "a second choice": (openai, b'data: {"choices":[{"index":1,"delta":{"content":"hi"}}]}\n\n'),
    "an answer in one piece": (openai, b'data: {"choices":[{"message":{"role":"assistant","content":"hi"}}]}\n\n'),
    "Anthropic's text": (anthropic, named(b"message_start", START) + delta(b'{"type":"text_delta","text":"hi"}')),
    "Anthropic's thinking": (anthropic, delta(b'{"type":"thinking_delta","thinking":"hm"}')),
    "Anthropic's hidden thinking": (anthropic, block(b'{"type":"redacted_thinking","data":"x"}')),
    "Anthropic's call": (anthropic, block(b'{"type":"tool_use","id":"t","name":"f","input":{}}')),
    "Anthropic's refusal": (anthropic, named(
        b"message_delta", b'{"type":"message_delta","delta":{"stop_reason":"refusal"},"usage":{"output_tokens":1}}'
    )),
    "Anthropic's end": (anthropic, named(b"message_stop", b'{"type":"message_stop"}')),
    "Google's text": (gemini, parts(b'{"text":"hi"}')),
    "Google's thinking": (gemini, parts(b'{"text":"hm","thought":true}')),
    "Google's call": (gemini, parts(b'{"functionCall":{"name":"f","args":{}}}')),
    "Google's image": (gemini, parts(b'{"inlineData":{"mimeType":"image/png","data":"eA=="}}')),
    "Google's finish": (gemini, b'data: {"candidates":[{"finishReason":"MAX_TOKENS"}]}\n\n'),
    "a blocked prompt": (gemini, b'data: {"promptFeedback":{"blockReason":"SAFETY"}}\n\n'),
}


def began(beginning: Beginning, *chunks: bytes) -> bool:
    """Feed chunks until it has begun; say whether it has."""
    return any(map(beginning.feed, chunks))


def cut(stream: bytes) -> list[tuple[bytes, ...]]:
    """A stream whole, in single bytes, and cut in two at every place."""
    pairs = ((stream[:at], stream[at:]) for at in range(1, len(stream)))
    return [(stream,), tuple(bytes([byte]) for byte in stream), *pairs]


class TestBeginning:
    """When a stream has begun: until then another target may answer."""

    @pytest.mark.parametrize(("speaks", "stream", "words"), ERRORS, ids=[str(number) for number in range(len(ERRORS))])
    def test_an_error_is_one(self, speaks: Upstream, stream: bytes, words: str) -> None:
        """In each dialect and each of its forms, after whatever says nothing, and however it is cut."""
        for chunks in cut(stream):
            beginning = Beginning(speaks, "chat")

            assert (began(beginning, *chunks), beginning.failed) == (True, words)

    @pytest.mark.parametrize(("speaks", "stream"), SILENT.values(), ids=SILENT)
    def test_what_says_nothing(self, speaks: Upstream, stream: bytes) -> None:
        """Roles, pings, counts, comments, and what cannot be read."""
        for chunks in cut(stream):
            beginning = Beginning(speaks, "chat")

            assert (began(beginning, *chunks), beginning.failed) == (False, None)
        assert repr(beginning) == f"<Beginning {len(stream)} bytes>"

    @pytest.mark.parametrize(("speaks", "stream"), SAYS.values(), ids=SAYS)
    def test_what_says_something(self, speaks: Upstream, stream: bytes) -> None:
        """Text, thinking, a call, a refusal, an image, an end; an error after it is not looked at."""
        for chunks in cut(stream):
            beginning = Beginning(speaks, "chat")

            assert (began(beginning, *chunks), beginning.failed) == (True, None)
        both = Beginning(speaks, "chat")
        assert (both.feed(stream + ERRORS[0][1]), both.failed) == (True, None)

    @pytest.mark.parametrize("frame", [b'data: {"choices":[{"text":"hi"}]}\n\n', b"data: {}\n\n", ROLE])
    def test_legacy_completions_begin_with_any_frame(self, frame: bytes) -> None:
        """Their words are not a conversation's; comments do not count, and an error is one."""
        commented, broken = Beginning(openai, "completions"), Beginning(openai, "completions")

        assert (commented.feed(b": ping\n\n"), commented.feed(frame), commented.failed) == (False, True, None)
        assert (broken.feed(ERRORS[0][1]), broken.failed, repr(broken)) == (
            True, "overloaded", f"<Beginning {len(ERRORS[0][1])} bytes, failed>"
        )

    def test_silence_has_a_bound(self) -> None:
        """More than so many bytes is no mere beginning, whatever they say."""
        beginning = Beginning(openai, "chat")
        comment = b": ping\n\n" * (SILENT_BYTES // 8)

        assert (beginning.feed(comment), beginning.feed(b":"), beginning.failed) == (False, True, None)

    def test_an_event_that_nothing_closed(self) -> None:
        """Some servers forget the last blank line: what they say counts, and so does their error."""
        said, broken, silent = (Beginning(openai, "chat") for _ in range(3))

        assert (said.feed(FRAME[:-2]), said.close(), said.failed) == (False, True, None)
        assert (broken.feed(ERRORS[0][1][:-2]), broken.close(), broken.failed) == (False, True, "overloaded")
        assert (silent.feed(ROLE[:-2]), silent.close()) == (False, False)


class TestBeginnings:
    """The same, of an answer on its way."""

    async def test_nothing_is_lost(self, provider: Provider, opened: Opens) -> None:
        """What came before the first word comes with it, byte for byte."""
        silence = b": ping\r\n\r\n" + ROLE
        provider.streams(silence[:9], silence[9:], FRAME)
        _, read = await whole(opened(provider.base_url), stream=True)

        assert silence + FRAME == read

    @pytest.mark.parametrize("kind", ["application/octet-stream", "text/plain", "application/json"])
    async def test_events_under_another_type(self, provider: Provider, opened: Opens, kind: str) -> None:
        """They are known by their looks, be it in a single byte."""
        provider.streams(FRAME[:1], FRAME[1:], kind=kind)
        _, read = await whole(opened(provider.base_url), stream=True)

        assert read == FRAME

    @pytest.mark.parametrize(
        ("body", "kind", "says"),
        [
            (b'{"choices":[]}', "application/json", "was asked for a stream of events and sent application/json"),
            (b"<html>login</html>", "text/html", "was asked for a stream of events and sent text/html"),
            (b'{"error":{"message":"busy"}}', "application/json",
             "was asked for a stream of events and sent application/json: busy"),
            (b'{"error":{"message":"busy"}}', SSE, "answered with an error: busy"),
            (b'{\n  "error": {\n    "message": "busy"\n  }\n}\n', SSE, "answered with an error: busy"),
        ],
        ids=["an object", "a page", "an error", "an error under the stream's type", "an error in lines"],
    )
    async def test_no_stream(self, provider: Provider, opened: Opens, body: bytes, kind: str, says: str) -> None:
        """It is refused, in its own words if it is an error, and in whatever pieces it comes."""
        provider.streams(body[:5], body[5:], kind=kind)
        error = await failed(opened(provider.base_url), stream=True)

        assert isinstance(error, Refused)
        assert (error.message, error.status, error.transient) == (f"Upstream 'acme' {says}", 502, True)
        assert "busy" not in error.booked

    async def test_a_compressed_stream_begins_with_its_first_bytes(self, provider: Provider, opened: Opens) -> None:
        """Nobody reads it here."""
        provider.says(gzip.compress(ROLE, mtime=0), Content_Encoding="gzip", Content_Type=SSE)

        assert (await whole(opened(provider.base_url), stream=True))[1] == gzip.compress(ROLE, mtime=0)

    async def test_a_stream_that_only_names_a_role(self, provider: Provider, opened: Opens) -> None:
        """It has said nothing at its end: another target may be tried."""
        provider.streams(ROLE)
        error = await failed(opened(provider.base_url), stream=True)

        assert isinstance(error, Unreachable)
        assert error.message == "Upstream 'acme' ended its answer before it said anything."

    async def test_a_role_does_not_stop_the_clock(self, provider: Provider, opened: Opens) -> None:
        """Nor does a stream of comments: the first output is what the caller waits for."""
        provider.streams(ROLE, b": ping\n\n", then="hang")
        error = await failed(opened(provider.base_url), LONG._replace(first_output_s=0.001), stream=True)

        assert isinstance(error, TimedOut)
        assert "first_output" in error.message

    async def test_a_whole_answer_that_is_an_error(self, provider: Provider, opened: Opens) -> None:
        """Whatever its status says."""
        provider.says(b'{"error":{"message":"busy"}}')
        error = await failed(opened(provider.base_url))

        assert isinstance(error, Refused)
        assert (error.message, error.booked) == (
            "Upstream 'acme' answered with an error: busy", "Upstream 'acme' answered with an error"
        )

    @pytest.mark.parametrize("body", [b"<html>login</html>", b"", b'{"choices":[', b"[]"])
    async def test_a_whole_answer_that_is_none(self, provider: Provider, opened: Opens, body: bytes) -> None:
        """A page, nothing, a body cut short: refused, with nothing of it repeated. What is packed nobody reads."""
        provider.says(body)
        error = await failed(opened(provider.base_url))
        provider.says(body, Content_Encoding="br")

        assert isinstance(error, Refused)
        assert (error.message, error.transient) == ("Upstream 'acme' answered with what is no JSON object", True)
        assert (await whole(opened(provider.base_url)))[1] == body

    async def test_a_whole_answer_that_cannot_be_worded(self, provider: Provider, opened: Opens) -> None:
        """A JSON object that is no answer passes where bytes pass; where it must be read, it is a failure."""
        body = b'{"said":"hi"}'
        provider.says(body)
        acme = opened(provider.base_url)
        with pytest.raises(Refused, match="answered with what cannot be read: ") as caught:
            await whole(acme, worded=True)

        assert (caught.value.status, caught.value.retryable, caught.value.transient) == (502, True, True)
        assert caught.value.booked == "Upstream 'acme' answered with what cannot be read"
        assert (acme.slots.in_flight, (await whole(acme))[1]) == (0, body)


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


def resolved_by(acme: Pool, resolver: _Resolver) -> Pool:
    """Give a pool this name server."""
    connector = acme.endpoints[0].session.connector
    assert isinstance(connector, aiohttp.TCPConnector)
    connector._resolver = resolver
    return acme


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
        acme = resolved_by(opened("http://api.example"), _Resolver(OSError(None, "Name or service not known")))
        error = await failed(acme)

        assert isinstance(error, Unreachable)
        assert "Name or service not known" in error.message

    async def test_not_connected_in_time(self, opened: Opens) -> None:
        """A connection that never stands is late, not unreachable."""
        acme = resolved_by(opened("http://api.example"), _Resolver(None))
        error = await failed(acme, LONG._replace(connect_s=0.001))

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
        assert error.message == "Upstream 'acme' ended its answer before it said anything."


class TestDeadlines:
    """How long is waited; each wait here is for what never comes, so that a slow machine changes nothing."""

    async def test_each_has_its_own(self, provider: Provider, opened: Opens) -> None:
        """Connecting, the whole call and the pause between two reads; a lease that is left stops the clock."""
        provider.says(b"{}")
        acme = opened(provider.base_url)
        with acme.lease() as lease:
            before = asyncio.get_running_loop().time()
            answer = await lease.send(call(acme, LONG._replace(idle_s=4.5, total_s=3600)))
            deadline = lease._deadline
        assert deadline is not None

        assert answer._idle_s == 4.5
        assert 0 <= deadline._ends - before - 3600 < 3600
        assert deadline._handle.cancelled()

    async def test_first_output(self, provider: Provider, opened: Opens) -> None:
        """Of a stream the first bytes must come in time."""
        provider.handle = hanging
        error = await failed(opened(provider.base_url), LONG._replace(first_output_s=0.001), stream=True)

        assert isinstance(error, TimedOut)
        assert "first_output" in error.message

    async def test_headers_are_no_output(self, provider: Provider, opened: Opens) -> None:
        """A status line alone does not stop the clock."""
        provider.streams(then="hang")
        error = await failed(opened(provider.base_url), LONG._replace(first_output_s=0.001), stream=True)

        assert isinstance(error, TimedOut)
        assert "first_output" in error.message

    async def test_a_whole_answer_takes_its_time(self, provider: Provider, opened: Opens) -> None:
        """It arrives when the model has finished: only the total bounds it."""
        provider.handle = hanging
        error = await failed(opened(provider.base_url), LONG._replace(total_s=0.001))
        provider.says(b"{}")
        answer, _ = await whole(opened(provider.base_url), LONG._replace(idle_s=0.001, first_output_s=0))

        assert isinstance(error, TimedOut)
        assert answer.status == 200

    async def test_idle(self, provider: Provider, opened: Opens) -> None:
        """A stream that stops moving is ended, and the upstream learns of it."""
        provider.streams(FRAME, then="hang")
        error = await failed(opened(provider.base_url), LONG._replace(idle_s=0.001), stream=True)
        await provider.left.wait()

        assert isinstance(error, TimedOut)
        assert "idle" in error.message


class TestSlots:
    """Calls in flight."""

    async def test_an_endpoints_load(self, opened: Opens) -> None:
        """Its calls in flight for its weight; a lease counts at its own endpoint, and once however often it is left."""
        acme = opened("http://127.0.0.1:1", weight=4, endpoints=[EndpointConfig()])
        with acme.lease(), acme.lease(), acme.lease(acme.endpoints[1]) as lease:
            during = [each.load for each in acme.endpoints], repr(acme.endpoints[0])
            lease.leave()
            left = acme.slots.in_flight, acme.endpoints[1].in_flight

        assert (([0.5, 1.0], "<Endpoint acme-1 2 in flight>"), (2, 0)) == (during, left)
        assert (acme.slots.in_flight, [each.in_flight for each in acme.endpoints]) == (0, [0, 0])

    async def test_a_slot_that_was_waited_for(self, opened: Opens) -> None:
        """It is taken already, though all are, and the lease gives it back."""
        acme = opened("http://127.0.0.1:1", slots=1)
        await acme.slots.wait("app", 1)
        with acme.lease(taken=True):
            assert repr(acme) == "<Pool acme 1/1 in flight>"

        assert acme.slots.in_flight == 0

    async def test_full(self, provider: Provider, opened: Opens) -> None:
        """Beyond its slots a pool refuses at once; a slot that was given back can be taken again."""
        acme = opened(provider.base_url, slots=2)
        with acme.lease(), acme.lease():
            full = repr(acme)
            with pytest.raises(Unavailable) as caught:
                acme.lease()
        with acme.lease():
            half = repr(acme)

        assert caught.value.message == "All 2 slots of upstream 'acme' are taken. Try again shortly."
        assert (full, half) == ("<Pool acme 2/2 in flight>", "<Pool acme 1/2 in flight>")
        assert repr(acme) == "<Pool acme 0/2 in flight>"

    async def test_a_slot_survives_anything(self, provider: Provider, opened: Opens) -> None:
        """An error, and a caller that leaves in the middle of a call, both give it back; the upstream's call ends."""
        provider.handle = hanging
        acme = opened(provider.base_url, slots=1)
        with pytest.raises(ZeroDivisionError), acme.lease():
            raise ZeroDivisionError
        call = asyncio.gather(whole(acme))
        await provider.entered.wait()
        during = acme.slots.in_flight
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await provider.left.wait()

        assert (1, 0) == (during, acme.slots.in_flight)

    async def test_left_in_the_middle_of_a_stream(self, provider: Provider, opened: Opens) -> None:
        """A lease that is left closes the connection: the upstream stops writing for nobody."""
        provider.streams(FRAME, then="hang")
        acme = opened(provider.base_url)
        with acme.lease() as lease:
            answer = await lease.send(call(acme, stream=True))
        await provider.left.wait()

        assert (FRAME, 0) == (answer.first, acme.slots.in_flight)


async def test_closing(opened: Opens) -> None:
    """Every endpoint's connections."""
    acme = opened("http://127.0.0.1:1", endpoints=[EndpointConfig()])
    await acme.close()

    assert [each.session.closed for each in acme.endpoints] == [True, True]


async def test_a_server_that_cannot_count(opened: Opens, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not asked again, and the operator reads why costs are unknown."""
    acme = opened("http://127.0.0.1:1")
    before = acme.stream_usage
    acme.leave_uncounted()

    assert (before, acme.stream_usage) == (True, False)
    assert "no stream usage" in capsys.readouterr().out


async def test_no_repr_shows_the_key(opened: Opens) -> None:
    """Neither the pool's nor its endpoints'."""
    acme = opened("http://127.0.0.1:1", key=Secret("sk-hidden"))

    assert "hidden" not in f"{acme!r} {acme.endpoints!r} {acme.endpoints[0].session!r}"
    assert orjson.loads(BODY)["model"] == "m"
