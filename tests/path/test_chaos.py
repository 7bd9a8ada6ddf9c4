"""Every fault a provider is known for, by symptom: what the client gets, what is booked, what the health says.

PEERS.md §2d has eight stream faults and what a gateway should do; they are the `TestTheEight` at the end, which the
README's table names. Each fixture asserts besides: one receipt a request, every slot back, no task left.
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest

from gateway.upstream.health import Health
from loadtest.mock_upstream import MockUpstream
from tests.conftest import BOUND_S, Reply, Running, Start, chat, two_rungs, unasked
from tests.path.conftest import END, EVENT, FINISH, STREAM, Scripted, chunk
from tests.path.surfaces import BEGIN, BOOM, SURFACES, asked, error_in, three

QUICK = "connect_ms: 500, first_output_ms: 300, idle_ms: 300, total_ms: 5000"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'


class Fault(NamedTuple):
    """What a provider does, and what is held against it."""

    dials: dict[str, Any] | None = None         # of the mock
    script: tuple[bytes, ...] = ()              # or the bytes that it sends
    address: str = ""                           # or where it is said to be
    alone: int = 502                            # what the client is told where nobody else answers
    blame: str = "failed"                       # or cooled, or nothing


def refused(status: int, **more: Any) -> dict[str, Any]:
    """Dials for a refusal."""
    return {"error_rate": 1, "status": status, **more}


def headers_of(status: int, *more: str) -> bytes:
    """A bare refusal as it stands on the wire."""
    return "\r\n".join([f"HTTP/1.1 {status} Sorry", "Content-Length: 2", *more, "", "{}"]).encode()


CONNECTION = {
    "refused": Fault(address="refusing"),
    "no such name": Fault(address="http://nowhere.invalid/v1"),
    "no TLS there": Fault(address="plain text"),
    "reset before the headers": Fault(script=(b"",)),
    "reset in the headers": Fault(script=(b"HTTP/1.1 200 OK\r\nContent-Ty",)),
    "no HTTP at all": Fault(script=(b"SSH-2.0-OpenSSH_9.2\r\n",)),
    "silent": Fault({"fault": "hang"}, alone=504),
}
STATUS = {
    "429 with Retry-After": Fault(refused(429, retry_after_s=7), alone=429, blame="cooled"),
    "429 without": Fault(script=(headers_of(429),), alone=429, blame="cooled"),
    "500": Fault(refused(500)),
    "502": Fault(refused(502)),
    "503 with Retry-After": Fault(refused(503, retry_after_s=7), alone=503, blame="cooled"),
    "503 without": Fault(script=(headers_of(503),), alone=503),
    "529 with Retry-After": Fault(script=(headers_of(529, "Retry-After: 7"),), alone=503, blame="cooled"),
    "529 without": Fault(script=(headers_of(529),), alone=503),
    "our key is refused": Fault(refused(401)),
}
STREAMS = {      # 200, and no word yet
    "an error frame first": Fault({"fault": "error-frame", "after": 0}),
    "an error frame after the role": Fault({"fault": "error-frame", "after": 1}),
    "a role, then silence": Fault({"fault": "stall", "after": 1}, alone=504),
    "a role, then a clean end": Fault({"fault": "role-only", "stall_ms": 1}),
    "headers, then silence": Fault({"fault": "stall", "after": 0}, alone=504),
    "headers, then a reset": Fault({"fault": "cut-rst", "after": 0}),
    "headers, then a farewell": Fault({"fault": "cut-fin", "after": 0}),
    "an empty body": Fault({"fault": "end", "after": 0}),
    "only pings": Fault(script=(STREAM + chunk(b": ping\n\n: ping\n\n") + END,)),
    "only usage": Fault(script=(STREAM + chunk(
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":0}}\n\ndata: [DONE]\n\n') + END,)),
    "garbage first": Fault({"fault": "garbage", "after": 0}),
    "garbage after the role": Fault({"fault": "garbage", "after": 1}),
    "HTML": Fault(script=(WHOLE.replace(b"application/json", b"text/html") + b"\r\n<html>no</html>",)),
    "an error object instead of a stream": Fault(script=(
        WHOLE + b"Content-Length: 48\r\n\r\n" + b'{"error":{"message":"boom","type":"x","code":1}} ',)),
    "a whole answer instead of a stream": Fault(script=(WHOLE + b"Content-Length: 14\r\n\r\n" + b'{"choices":[]}',)),
    "half a chunk of HTTP": Fault(script=(STREAM + b"400\r\n" + ROLE,)),
}
BODIES = {       # whole answers
    "an error object with 200": Fault({"fault": "error-frame"}),
    "cut by a reset": Fault({"fault": "cut-rst"}),
    "cut by a farewell": Fault({"fault": "cut-fin"}),
    "half of it, and an end": Fault({"fault": "end"}),
    "garbage": Fault({"fault": "garbage"}),
    "HTML": Fault(script=(WHOLE.replace(b"application/json", b"text/html") + b"Content-Length: 4\r\n\r\n<p/>",)),
    "nothing": Fault(script=(WHOLE + b"Content-Length: 0\r\n\r\n",)),
    "shorter than it says": Fault(script=(WHOLE + b'Content-Length: 900\r\n\r\n{"choices":[]}',)),
}
CASES = [
    *(pytest.param(fault, stream, id=f"{name}-{'streamed' if stream else 'whole'}")
      for name, fault in {**CONNECTION, **STATUS}.items() for stream in (True, False)
      if not (name == "silent" and not stream)),          # nobody can tell it from one that thinks
    *(pytest.param(fault, True, id=f"{name}-streamed") for name, fault in STREAMS.items()),
    *(pytest.param(fault, False, id=f"{name}-whole") for name, fault in BODIES.items()),
]


@pytest.fixture
async def plain_text() -> AsyncIterator[str]:
    """An https address at which somebody speaks, but no TLS."""
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say what no TLS client understands."""
        with contextlib.suppress(OSError):
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    server.close()
    await server.wait_closed()


@pytest.fixture
def closed() -> Iterator[str]:
    """An address that nobody listens at."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


@pytest.fixture
async def at(first: MockUpstream, scripted: Scripted, closed: str, plain_text: str) -> Any:
    """Return where a provider with a fault is."""
    async def at(fault: Fault) -> str:
        """Set it up."""
        if fault.dials is not None:
            first.turn(**fault.dials)
            return first.base_url
        if fault.script:
            return (await scripted(*fault.script, reset=not fault.script[0])).base_url
        return {"refusing": closed, "plain text": plain_text}.get(fault.address, fault.address)

    return at


def health_of(running: Running, model: str = "cheap") -> Health:
    """The record of a model at its only endpoint."""
    return running.gateway.with_.models[model].deployments[0].health


def assert_blamed(health: Health, blame: str, calls: int = 1) -> None:
    """One failure, one cool-down, or nothing."""
    held = (health.failed_calls, health.throttled)

    assert held == {"failed": (calls, 0), "cooled": (0, calls), "nothing": (0, 0)}[blame]


# ── before the first word ──


@pytest.mark.parametrize(("fault", "stream"), CASES)
async def test_the_next_target_answers(
    gateway: Start, second: MockUpstream, at: Any, fault: Fault, *, stream: bool
) -> None:
    """The client has the other's answer, whole, and never knew; the receipt knows both calls."""
    running = await gateway(two_rungs(await at(fault), second.base_url, deadlines=QUICK))
    reply = await running.ask(chat(stream=stream))
    receipt = await running.receipt()

    assert (reply.status, reply.whole, reply.headers["x-thriftgate-reason"]) == (200, True, "fallback")
    assert reply.body == (unasked(second.journal.last) if stream else b"".join(second.journal.last.sent))
    assert (receipt["outcome"], receipt["finish"], receipt["model"]) == ("ok", "stop", "premium")
    assert [(attempt["model"], attempt["error"] is None) for attempt in receipt["attempts"]] == [
        ("cheap", False), ("premium", True)
    ]
    assert receipt["cost_usd_micros"] > 0
    assert_blamed(health_of(running), fault.blame)
    assert_blamed(health_of(running, "premium"), "nothing")


@pytest.mark.parametrize(("fault", "stream"), CASES)
async def test_alone_it_is_a_status(gateway: Start, at: Any, fault: Fault, *, stream: bool) -> None:
    """An error object under the most telling status, never a 200; nothing is booked as spent."""
    where = await at(fault)
    running = await gateway(two_rungs(where, where, deadlines=QUICK, more="server: {attempts: 1}"))
    reply = await running.ask(chat(model="cheap", stream=stream))
    receipt = await running.receipt()

    assert (reply.status, reply.whole) == (fault.alone, True)
    assert reply.error["message"]
    assert len(reply.error["attempts"]) == 1
    assert (receipt["outcome"], receipt["status"], receipt["cost_usd_micros"]) == ("failed", fault.alone, None)
    assert receipt["attempts"][0]["error"]
    assert_blamed(health_of(running), fault.blame)


# ── after it ──

BROKEN = {       # pieces after "Two birds", whether the connection is reset, what may be said of it
    "a reset": (b"", True), "a farewell": (b"", False), "a clean end": (END, False), "an error frame": (b"!", False),
    "half an event": (chunk(b'data: {"choi'), True),
}


async def read(running: Running, path: str, body: bytes, go: asyncio.Event) -> bytes:
    """Return what a client reads that lets the provider go on once it has the text."""
    received = b""
    async with (
        asyncio.timeout(BOUND_S), aiohttp.ClientSession() as http,
        http.post(running.base_url + path, data=body, headers={"Content-Type": "application/json"}) as response,
    ):
        while b"birds" not in received:
            received += await response.content.readany()
        go.set()
        with contextlib.suppress(aiohttp.ClientPayloadError):
            while more := await response.content.readany():
                received += more
            raise AssertionError("a broken answer was given a clean end")
    return received


async def whole(running: Running, path: str, body: bytes, go: asyncio.Event) -> bytes:
    """Return what a client reads of a stream that its provider ended itself, with an error."""
    go.set()
    return (await running.ask(body, path=path)).body


@pytest.mark.parametrize("pair", list(itertools.product(SURFACES, BEGIN)), ids="-".join)
@pytest.mark.parametrize(("then", "reset"), BROKEN.values(), ids=BROKEN)
async def test_a_break_in_mid_stream_is_told(
    gateway: Start, scripted: Scripted, first: MockUpstream, pair: tuple[str, str], then: bytes, *, reset: bool
) -> None:
    """What came is shown, an error event in the client's dialect is the last, and no end is invented."""
    surface, provider = pair
    then = chunk(BOOM[provider]) + END if then == b"!" else then
    go = asyncio.Event()
    script = await scripted(STREAM + chunk(b"".join(BEGIN[provider])), go, then, reset=reset)
    running = await gateway(three(first, **{provider: script.base_url}))
    path, body = asked(surface, f"of-{provider}", stream=True)
    passes_the_frame = surface == provider and then.startswith(chunk(BOOM[provider])[:9])
    received = await (whole(running, path, body, go) if passes_the_frame else read(running, path, body, go))
    receipt = await running.receipt()

    assert error_in(surface, received)[1]
    assert (receipt["outcome"], receipt["finish"]) == ("broken", None)
    assert health_of(running, f"of-{provider}").failed_calls == 1
    assert not any(end in received for end in (b"[DONE]", b"message_stop", b'"STOP"', b"response.completed"))


@pytest.mark.parametrize("after", [2, 5])
@pytest.mark.parametrize(("fault", "code"), [
    ("cut-rst", "stream_broken"), ("cut-fin", "stream_broken"), ("end", "stream_broken"), ("stall", "upstream_timeout"),
])
async def test_what_was_used_until_then_is_booked_as_unknown(
    serve: Start, first: MockUpstream, second: MockUpstream, fault: str, code: str, after: int
) -> None:
    """OpenAI counts at the end: what a broken answer cost is unknown, and not nothing. Nobody else is asked."""
    first.turn(fault=fault, after=after)
    running = await serve(deadlines="idle_ms: 300")
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert reply.last_error["code"] == code
    assert (receipt["outcome"], receipt["cost_usd_micros"]) == ("broken", None)
    assert_blamed(health_of(running), "failed")
    assert second.journal.requests == 0


# ── what only looks like a fault ──

HARMLESS = {
    "a character in two writes": [EVENT[:-4], "é".encode()[:1], "é".encode()[1:], EVENT[-4:]],
    "a gigantic line": [EVENT, b'data: {"pad":"' + b"x" * 5_000_000 + b'"}\n\n'],
    "garbage in the middle": [EVENT, b"data: {garbage\n\n", EVENT],
    "half a character at the end": [EVENT, b"data: \xc3\n\n"],
    "one byte a write": [bytes([byte]) for byte in EVENT],
    "comments and pings": [b": hello\n\n", EVENT, b": ping\n\n", EVENT],
}


@pytest.mark.parametrize("pieces", HARMLESS.values(), ids=HARMLESS)
async def test_what_passes(serve: Start, first: MockUpstream, pieces: list[bytes]) -> None:
    """It reaches the client as it is, the answer is whole, and nobody is blamed."""
    first.turn(raw=(*pieces, FINISH))
    running = await serve()
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert (reply.status, reply.whole, reply.body) == (200, True, b"".join(pieces) + FINISH)
    assert (receipt["outcome"], receipt["finish"], receipt["model"]) == ("ok", "stop", "cheap")
    assert_blamed(health_of(running), "nothing")


@pytest.mark.parametrize("more", [FINISH, EVENT, b": late\n\n"], ids=["a second finish", "more text", "a comment"])
async def test_what_comes_after_the_end_is_not_waited_for(
    gateway: Start, scripted: Scripted, more: bytes
) -> None:
    """The answer is over with its `[DONE]`, whatever the provider still has to say."""
    script = await scripted(STREAM + chunk(EVENT + FINISH), chunk(more) + END)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert reply.body.startswith(EVENT + FINISH)
    assert (reply.whole, receipt["outcome"]) == (True, "ok")


# ── PEERS.md §2d ──


class TestTheEight:
    """The fault mock of the peers' run: a faulty provider, a healthy one beside it, a streaming client."""

    async def ask(self, serve: Start, first: MockUpstream, **dials: Any) -> tuple[Running, Reply]:
        """Ask with the first provider at fault."""
        first.turn(**dials)
        running = await serve(deadlines="first_output_ms: 300, idle_ms: 300")
        return running, await running.ask(chat(stream=True))

    async def test_the_first_frame_is_an_error(self, serve: Start, first: MockUpstream, second: MockUpstream) -> None:
        """Falls back."""
        _, reply = await self.ask(serve, first, fault="error-frame", after=0)

        assert (reply.whole, reply.body) == (True, unasked(second.journal.last))

    async def test_a_role_silence_and_an_end(self, serve: Start, first: MockUpstream, second: MockUpstream) -> None:
        """Falls back at the deadline for the first output."""
        _, reply = await self.ask(serve, first, fault="role-only", stall_ms=8_000)

        assert (reply.whole, reply.body) == (True, unasked(second.journal.last))

    async def test_a_cut(self, serve: Start, first: MockUpstream) -> None:
        """What came, and an error event."""
        _, reply = await self.ask(serve, first, fault="cut-rst", after=4)

        assert (reply.whole, reply.last_error["code"]) == (False, "stream_broken")

    async def test_an_end_without_a_finish(self, serve: Start, first: MockUpstream) -> None:
        """The truncation is noticed."""
        _, reply = await self.ask(serve, first, fault="end", after=4)

        assert (reply.whole, reply.last_error["code"]) == (False, "stream_broken")

    async def test_an_error_in_the_stream(self, serve: Start, first: MockUpstream) -> None:
        """The provider's own error frame is the last."""
        running, reply = await self.ask(serve, first, fault="error-frame", after=4)

        assert orjson.loads(reply.events[-1])["error"]["message"]
        assert (await running.receipt())["outcome"] == "broken"

    async def test_a_line_that_is_no_json(self, serve: Start, first: MockUpstream) -> None:
        """Passed and counted; the stream goes on."""
        running, reply = await self.ask(serve, first, fault="garbage", after=4)

        assert (reply.whole, reply.events[-1]) == (True, b"[DONE]")
        assert (await running.receipt())["unreadable"] == 1

    async def test_a_stall(self, serve: Start, first: MockUpstream) -> None:
        """Ended at the idle deadline."""
        _, reply = await self.ask(serve, first, fault="stall", after=4, stall_ms=8_000)

        assert (reply.whole, reply.last_error["code"]) == (False, "upstream_timeout")

    async def test_the_client_leaves(self, serve: Start, first: MockUpstream) -> None:
        """The provider's call ends with it."""
        first.turn(tokens=100_000, tokens_per_s=500)
        running = await serve()
        wire = await running.wire(chat(stream=True))
        await wire.until(b"\n\n")
        wire.leave()
        await first.journal.until(lambda journal: journal.cancelled == 1)

        assert (await running.receipt())["outcome"] == "abandoned"
