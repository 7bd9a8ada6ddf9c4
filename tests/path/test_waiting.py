"""A client whose stream is silent gets comments, so that nothing on the way takes its connection for dead.

A comment begins the response before anybody knows who will answer. Targets may still be exchanged then; what can no
longer be a status is an event.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import anthropic
import openai
import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Running, Start, Wire, chat, two_rungs
from tests.path.befalling import until
from tests.path.conftest import END, EVENT, FINISH, STREAM, Script, Scripted, chunk
from tests.path.surfaces import BEGIN, SURFACES, asked, error_in, three
from tests.path.surfaces import FINISH as FINISHES

HOUR_MS = 3_600_000
COMMENT = b": waiting\n\n"
OFTEN = f"server: {{attempts: 2, keepalive_ms: 100, backoff_ms: 1, wait_ms: {HOUR_MS}}}"
NEVER = OFTEN.replace("keepalive_ms: 100", "keepalive_ms: 0")
COUNTED = {"stream_options": {"include_usage": True}}       # asked for by the caller: its stream passes as it is
ANSWER = STREAM + chunk(EVENT) + chunk(FINISH) + END


def refusing(status: int, body: bytes = b'{"error":{"message":"no","type":"x","code":null}}') -> bytes:
    """Return a provider's refusal as it stands on the wire."""
    head = f"HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def unchunked(received: bytes) -> tuple[bytes, bool]:
    """Return the body of a chunked response, and whether it came to its proper end."""
    left, body = received.partition(b"\r\n\r\n")[2], b""
    while left:
        size, _, left = left.partition(b"\r\n")
        if (length := int(size, 16)) == 0:
            return body, True
        body, left = body + left[:length], left[length + 2:]
    return body, False


async def post(running: Running, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Wire:
    """Send a request for a path, and wait for nothing."""
    wire = await running.wire()
    lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
    head = [f"POST {path} HTTP/1.1", "Host: gateway", "Content-Type: application/json", *lines]
    await wire.send("\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body)
    return wire


async def waiting(running: Running, model: str = "auto", comments: int = 1) -> tuple[Wire, bytes]:
    """Ask for a stream, and return when so many comments have come, with what has come."""
    wire = await running.wire(chat(model=model, stream=True))
    return wire, b"".join([await wire.until(COMMENT) for _ in range(comments)])


async def while_another_waits(running: Running) -> None:
    """Return when another client's stream, which is silent from the beginning, has had three comments."""
    wire, _ = await waiting(running, "premium", 3)
    wire.leave()


# ── before the answer ──


@pytest.mark.parametrize("usage", [{}, COUNTED], ids=["counted for us", "passing as it is"])
async def test_comments_come_until_the_answer_does(
    gateway: Start, scripted: Scripted, second: MockUpstream, usage: dict[str, Any]
) -> None:
    """The response is begun for the client's sake; then the answer follows in it, whole and otherwise unchanged."""
    go = asyncio.Event()
    script = await scripted(go, ANSWER)
    running = await gateway(two_rungs(script.base_url, second.base_url, more=OFTEN))
    wire = await running.wire(chat(stream=True, **usage))
    received = b"".join([await wire.until(COMMENT) for _ in range(3)])
    go.set()
    received += await wire.until(b"\r\n0\r\n\r\n")
    body, whole = unchunked(received)
    receipt = await running.receipt()

    assert received.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream")
    assert f"x-thriftgate-request-id: {receipt['request_id']}".encode() in received
    assert (body.replace(COMMENT, b""), whole) == (EVENT + FINISH, True)
    assert body.startswith(COMMENT * 3)
    assert (receipt["outcome"], receipt["status"], receipt["model"]) == ("ok", 200, "cheap")


async def test_openais_sdk_reads_it(gateway: Start, scripted: Scripted) -> None:
    """It has the response while the provider is still silent, and then every piece of the answer."""
    go = asyncio.Event()
    script = await scripted(go, STREAM + chunk(b"".join(BEGIN["openai"])) + chunk(b"".join(FINISHES["openai"])) + END)
    running = await gateway(two_rungs(script.base_url, script.base_url, more=OFTEN))
    async with openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="sk-any", max_retries=0) as sdk:
        stream = await sdk.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        go.set()
        chunks = [chunk async for chunk in stream]

    assert "".join(each.choices[0].delta.content or "" for each in chunks) == "Two birds"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_anthropics_sdk_reads_it(gateway: Start, scripted: Scripted) -> None:
    """The same in the other dialect, by its own helper for streams."""
    go = asyncio.Event()
    frames = b"".join([*BEGIN["anthropic"], *FINISHES["anthropic"]])
    script = await scripted(go, STREAM + chunk(frames) + END)
    running = await gateway(two_rungs(script.base_url, script.base_url, upstream="dialect: anthropic", more=OFTEN))
    async with (
        anthropic.AsyncAnthropic(base_url=running.base_url, api_key="sk-any", max_retries=0) as sdk,
        sdk.messages.stream(model="auto", max_tokens=99, messages=[{"role": "user", "content": "hi"}]) as stream,
    ):
        go.set()
        message = await stream.get_final_message()

    assert [block.text for block in message.content if block.type == "text"] == ["Two birds"]
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 4)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
async def test_every_pair_of_dialects_has_them(
    gateway: Start, scripted: Scripted, first: MockUpstream, surface: str, provider: str
) -> None:
    """Before the answer and within it, translated or not."""
    go, go_on = asyncio.Event(), asyncio.Event()
    frames, rest = b"".join(BEGIN[provider]), b"".join(FINISHES[provider])
    script = await scripted(go, STREAM + chunk(frames), go_on, chunk(rest) + END)
    running = await gateway(three(first, more=OFTEN, **{provider: script.base_url}))
    path, body = asked(surface, f"of-{provider}", stream=True)
    wire = await post(running, path, body)
    received = await wire.until(COMMENT)
    go.set()
    received += await wire.until(b"birds")
    received += await wire.until(COMMENT)
    go_on.set()
    received += await wire.until(b"\r\n0\r\n\r\n")
    said, whole = unchunked(received)

    assert whole
    assert {event.partition(b":")[0] for event in said.replace(COMMENT, b"").split(b"\n\n")} <= {b"data", b"event", b""}
    assert b'"error":{' not in said
    assert (await running.receipt())["outcome"] == "ok"


async def test_a_request_that_queues_has_them(serve: Start, first: MockUpstream) -> None:
    """It waits for a slot, and nobody can tell the difference."""
    first.turn(fault="hang")
    running = await serve(more=OFTEN, upstream="slots: 1")
    holding = await running.wire(chat(model="cheap"))
    await first.journal.until(lambda journal: journal.in_flight == 1)
    first.turn(fault="")
    wire, received = await waiting(running, "cheap")
    holding.leave()
    received += await wire.until(b"\r\n0\r\n\r\n")

    assert unchunked(received)[1]
    assert b"[DONE]" in received


# ── within the answer ──


@pytest.mark.parametrize("usage", [{}, COUNTED], ids=["counted for us", "passing as it is"])
async def test_they_come_between_two_events(
    gateway: Start, scripted: Scripted, usage: dict[str, Any]
) -> None:
    """A model thinks in the middle of its answer: comments, then the rest."""
    go = asyncio.Event()
    script = await scripted(STREAM + chunk(EVENT), go, chunk(FINISH) + END)
    running = await gateway(two_rungs(script.base_url, script.base_url, more=OFTEN))
    wire = await running.wire(chat(stream=True, **usage))
    received = await wire.until(EVENT)
    received += b"".join([await wire.until(COMMENT) for _ in range(2)])
    go.set()
    received += await wire.until(b"\r\n0\r\n\r\n")
    body, whole = unchunked(received)

    assert whole
    assert body.startswith(EVENT + COMMENT * 2)
    assert body.replace(COMMENT, b"") == EVENT + FINISH
    assert (await running.receipt())["outcome"] == "ok"


@pytest.mark.parametrize("usage", [{}, COUNTED], ids=["counted for us", "passing as it is"])
@pytest.mark.parametrize("cut", [6, 20, len(EVENT) - 2, len(EVENT) - 1])
async def test_they_never_come_inside_an_event(
    gateway: Start, scripted: Scripted, usage: dict[str, Any], cut: int
) -> None:
    """A provider that stops in the middle of one: what it then goes on with must still belong to it."""
    go, never = asyncio.Event(), asyncio.Event()
    script = await scripted(STREAM + chunk(EVENT + EVENT[:cut]), go, chunk(EVENT[cut:] + FINISH) + END)
    silent = await scripted(never)
    running = await gateway(two_rungs(script.base_url, silent.base_url, more=OFTEN))
    wire = await running.wire(chat(stream=True, **usage))
    received = await wire.until(EVENT)
    await while_another_waits(running)
    go.set()
    received += await wire.until(b"\r\n0\r\n\r\n")
    body, whole = unchunked(received)
    events = body.split(b"\n\n")

    assert whole
    assert body.replace(COMMENT, b"") == EVENT * 2 + FINISH
    assert all(b": waiting" not in event or event == b": waiting" for event in events)
    assert not usage or COMMENT not in body


async def test_where_it_cannot_be_read_nothing_is_added(gateway: Start, scripted: Scripted) -> None:
    """Compressed all the same, though we ask for plain text: a comment would be garbage in it."""
    go, never = asyncio.Event(), asyncio.Event()
    zipped = STREAM.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    script = await scripted(zipped + chunk(b"\x1f\x8bone\n\n"), go, chunk(b"two") + END)
    silent = await scripted(never)
    running = await gateway(two_rungs(script.base_url, silent.base_url, more=OFTEN))
    wire = await running.wire(chat(stream=True))
    received = await wire.until(b"one\n\n")
    await while_another_waits(running)
    go.set()
    received += await wire.until(b"\r\n0\r\n\r\n")

    assert unchunked(received) == (b"\x1f\x8bone\n\ntwo", True)


# ── after a comment ──


@pytest.mark.parametrize(
    "fails", [refusing(500), refusing(429), refusing(401), b"", STREAM + chunk(b'data: {"error":{"message":"x"}}\n\n')],
    ids=["500", "429", "401", "closed", "an error frame"],
)
async def test_a_target_that_fails_is_still_exchanged(
    gateway: Start, scripted: Scripted, second: MockUpstream, fails: bytes
) -> None:
    """Nothing of an answer has been shown: the next target's follows, whole."""
    go = asyncio.Event()
    script = await scripted(go, fails)
    running = await gateway(two_rungs(script.base_url, second.base_url, more=OFTEN))
    wire, received = await waiting(running)
    go.set()
    received += await wire.until(b"\r\n0\r\n\r\n")
    body, whole = unchunked(received)
    receipt = await running.receipt()

    assert whole
    assert body.endswith(b"data: [DONE]\n\n")
    assert b'"error"' not in body
    assert (receipt["outcome"], receipt["reason"], receipt["model"]) == ("ok", "fallback", "premium")


FAILS: dict[str, tuple[bytes, str, str]] = {        # what the provider then says, the outcome, what the caller is told
    "500": (refusing(500), "failed", "answered 500"),
    "429": (refusing(429), "failed", "answered 429"),
    "closed": (b"", "failed", "failed"),
    "400": (refusing(400), "refused", "no"),
}


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("name", FAILS)
async def test_where_there_is_no_answer_an_event_says_so(
    gateway: Start, scripted: Scripted, first: MockUpstream, surface: str, provider: str, name: str
) -> None:
    """In the caller's dialect, and the connection is closed without the mark of an end; the receipt has the truth."""
    fails, outcome, says = FAILS[name]
    go = asyncio.Event()
    script = await scripted(go, fails)
    once = OFTEN.replace("attempts: 2", "attempts: 1")
    running = await gateway(three(first, more=once, **{provider: script.base_url}))
    path, body = asked(surface, f"of-{provider}", stream=True)
    wire = await post(running, path, body)
    received = await wire.until(COMMENT)
    go.set()
    received += await wire.rest()
    said, whole = unchunked(received)
    named, message = error_in(surface, said)
    receipt = await running.receipt()

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert not whole
    assert says in message
    assert named == ("error" if surface in ("anthropic", "responses") else None)
    assert said.removeprefix(COMMENT).count(b"data: ") == 1
    assert (receipt["outcome"], receipt["status"], len(receipt["attempts"])) == (outcome, 200, 1)


@pytest.mark.parametrize("surface", SURFACES)
async def test_the_callers_deadline_still_holds(
    gateway: Start, scripted: Scripted, first: MockUpstream, surface: str
) -> None:
    """It passes after some comments: an event says so."""
    script = await scripted(asyncio.Event())
    running = await gateway(three(first, more=OFTEN, openai=script.base_url))
    path, body = asked(surface, "of-openai", stream=True)
    wire = await post(running, path, body, {"x-thriftgate-deadline-ms": "500"})
    said, whole = unchunked(await wire.rest())

    assert said.startswith(COMMENT)
    assert not whole
    assert "deadline" in error_in(surface, said)[1]
    assert (await running.receipt())["outcome"] == "failed"


async def test_an_sdk_raises_for_the_event(gateway: Start, scripted: Scripted) -> None:
    """What was a status before is an exception all the same, with the same words."""
    go = asyncio.Event()
    script = await scripted(go, refusing(500))
    running = await gateway(two_rungs(script.base_url, script.base_url, more=OFTEN))
    async with openai.AsyncOpenAI(base_url=f"{running.base_url}/v1", api_key="sk-any", max_retries=0) as sdk:
        stream = await sdk.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        go.set()
        with pytest.raises(openai.APIError, match="answered 500"):
            _ = [chunk async for chunk in stream]


# ── when there are none ──


async def test_a_whole_answer_has_none(gateway: Start, scripted: Scripted) -> None:
    """It is one JSON object, with the status that it deserves."""
    go, never = asyncio.Event(), asyncio.Event()
    script, silent = await scripted(go, refusing(400)), await scripted(never)
    running = await gateway(two_rungs(script.base_url, silent.base_url, more=OFTEN))
    wire = await running.wire(chat())
    await script.asked.wait()
    await while_another_waits(running)
    go.set()
    reply = await wire.reply()

    assert (reply.status, reply.error["message"]) == (400, "no")


async def test_without_an_interval_there_are_none(gateway: Start, scripted: Scripted) -> None:
    """`keepalive_ms: 0`: an error is a status, however late."""
    go, never = asyncio.Event(), asyncio.Event()
    script, silent = await scripted(go, refusing(500)), await scripted(never)
    quiet = await gateway(two_rungs(script.base_url, script.base_url, more=NEVER))
    talking = await gateway(two_rungs(silent.base_url, silent.base_url, more=OFTEN))
    wire = await quiet.wire(chat(stream=True))
    await script.asked.wait()
    await while_another_waits(talking)
    go.set()
    reply = await wire.reply()

    assert reply.status == 502
    assert COMMENT not in reply.body


# ── the client leaves ──


async def test_leaving_while_waiting_ends_the_call(serve: Start, first: MockUpstream) -> None:
    """As ever: the provider is told at once, and the receipt says abandoned."""
    first.turn(fault="hang")
    running = await serve(more=OFTEN)
    wire, _ = await waiting(running)
    wire.leave()
    await first.journal.until(lambda journal: journal.cancelled == 1)
    receipt = await running.receipt()

    assert (receipt["outcome"], len(receipt["attempts"])) == ("abandoned", 1)
    assert running.gateway.with_.models["cheap"].deployments[0].health.failed_calls == 0


async def test_leaving_while_backing_off_makes_no_further_call(gateway: Start, scripted: Scripted) -> None:
    """The target failed after a comment, and nobody is there any more to ask it again for."""
    go = asyncio.Event()
    script: Script = await scripted(go, refusing(500))
    running = await gateway(two_rungs(
        script.base_url, script.base_url, more=OFTEN.replace("backoff_ms: 1,", f"backoff_ms: {HOUR_MS // 2},")
    ))
    wire, _ = await waiting(running, "cheap")
    go.set()
    await until(lambda: running.gateway.with_.models["cheap"].pool.slots.in_flight == 0)
    wire.leave()
    receipt = await running.receipt()

    assert (receipt["outcome"], [each["status"] for each in receipt["attempts"]]) == ("abandoned", [500])
    assert script.calls == 1
