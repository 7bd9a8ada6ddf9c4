"""From one dialect to another over real sockets: every kind of end, fallback, rungs that cannot, and what is lost."""

import asyncio
from typing import Any

import orjson
import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import COMPLETIONS, Start, request_bytes
from tests.path.conftest import END, STREAM, Scripted, chunk
from tests.path.surfaces import BEGIN, BOOM, FINISH, KINDS, PAIRS, SURFACES, asked, error_in, error_of, three

Pair = tuple[str, str]
CUTS: dict[str, tuple[str, bool, str]] = {         # what the provider sends, whether it resets, what the client is told
    "cut": ("", False, "broke off"),
    "reset": ("", True, "broke off"),
    "cut inside an event": ("half", False, "broke off"),
    "ended without a finish": ("end", False, "without finishing"),
    "an error frame": ("boom", False, "boom"),
    "an error frame cut short": ("half boom", False, "boom"),
}
EVENT_NAMES = {"openai": None, "responses": "error", "anthropic": "error", "gemini": None}


def ids(pair: object) -> str | None:
    """Name a pair of dialects."""
    return "-".join(pair) if isinstance(pair, tuple) and len(pair) == 2 else None


def script_of(provider: str, way: str) -> bytes:
    """A stream that begins well and goes that way."""
    begun = STREAM + chunk(b"".join(BEGIN[provider]))
    more = {
        "": b"", "half": chunk(BEGIN[provider][-1][:30]), "end": END, "boom": chunk(BOOM[provider]) + END,
        "half boom": chunk(BOOM[provider].rstrip()) + END,
    }
    return begun + more[way]


# ── a stream that ends well ──


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
async def test_a_translated_stream_is_whole_and_booked(
    gateway: Start, scripted: Scripted, first: MockUpstream, pair: Pair
) -> None:
    """Events of the caller's dialect, the mark of the end, and the provider's own figures in the books."""
    surface, provider = pair
    script = await scripted(STREAM + chunk(b"".join(BEGIN[provider] + FINISH[provider])) + END)
    running = await gateway(three(first, **{provider: script.base_url}))
    path, body = asked(surface, f"of-{provider}", stream=True)
    reply = await running.ask(body, path=path)
    receipt = await running.receipt()

    assert (reply.status, reply.whole) == (200, True)
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    assert (b"Two " in reply.body, b"birds" in reply.body, b'"error":{' in reply.body) == (True, True, False)
    assert (receipt["outcome"], receipt["finish"], receipt["surface"]) == ("ok", "stop", surface)
    assert (receipt["input_tokens"], receipt["output_tokens"], receipt["cost_usd_micros"]) == (9, 4, 17)
    assert receipt["sent_bytes"] == len(reply.body)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[1] != "gemini"], ids=ids)
async def test_a_slow_end_of_the_providers_is_not_waited_for(
    gateway: Start, scripted: Scripted, first: MockUpstream, pair: Pair
) -> None:
    """Once it has said that it is done, the client has its end; Gemini alone says so by ending."""
    surface, provider = pair
    never = asyncio.Event()
    script = await scripted(STREAM + chunk(b"".join(BEGIN[provider] + FINISH[provider])), never)
    running = await gateway(three(first, **{provider: script.base_url}))
    path, body = asked(surface, f"of-{provider}", stream=True)
    reply = await running.ask(body, path=path)
    receipt = await running.receipt()

    assert (reply.status, reply.whole, never.is_set()) == (200, True, False)
    assert (receipt["outcome"], receipt["finish"], receipt["output_tokens"]) == ("ok", "stop", 4)


# ── and those that do not ──


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_a_translated_stream_that_breaks_says_so(
    gateway: Start, scripted: Scripted, first: MockUpstream, pair: Pair, cut: tuple[str, bool, str]
) -> None:
    """What came, one error event of the surface's own, and no mark of an end; booked once, as broken, unfinished."""
    (surface, provider), (way, reset, says) = pair, cut
    go = asyncio.Event()
    script = await scripted(script_of(provider, ""), go, script_of(provider, way)[len(script_of(provider, "")):],
                            reset=reset)
    running = await gateway(three(first, **{provider: script.base_url}))
    path, body = asked(surface, f"of-{provider}", stream=True)
    wire = await running.wire()
    await wire.send(request_bytes(body).replace(COMPLETIONS.encode(), path.encode(), 1))
    received = await wire.until(b"birds")
    go.set()
    received += await wire.rest()
    receipt = await running.receipt()
    last = received.rpartition(b"\n\n")[0].rpartition(b"\r\n")[2] + b"\n\n"      # of HTTP's chunks
    name, message = error_in(surface, last)

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\n\n\r\n")
    assert received.count(b'"error":{') == 1
    assert (name, says in message) == (EVENT_NAMES[surface], True)
    assert receipt["request_id"].encode() in last
    assert (receipt["outcome"], receipt["finish"], receipt["status"]) == ("broken", None, 200)
    assert (receipt["error"] is None, "boom" in str(receipt["error"])) == (False, False)
    assert len(receipt["attempts"]) == 1


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
@pytest.mark.parametrize("kind", ["text/html", "application/json", ""])
async def test_what_is_no_event_stream_cannot_be_translated(
    gateway: Start, scripted: Scripted, first: MockUpstream, pair: Pair, kind: str
) -> None:
    """A 502 in the caller's form, for nothing has been sent; booked as failed."""
    surface, provider = pair
    body = b"<html>maintenance</html>"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    script = await scripted(head.replace(b"Content-Type: \r\n", b"") + body)
    running = await gateway(three(first, **{provider: script.base_url}))
    path, asking = asked(surface, f"of-{provider}", stream=True)
    reply = await running.ask(asking, path=path)
    receipt = await running.receipt()

    assert (reply.status, error_of(surface, reply)[0]) == (502, KINDS[surface][502])
    assert "stream of events" in error_of(surface, reply)[1]
    assert (receipt["outcome"], receipt["status"]) == ("failed", 502)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
async def test_a_whole_answer_that_cannot_be_read(
    gateway: Start, scripted: Scripted, first: MockUpstream, pair: Pair
) -> None:
    """A 502 in the caller's form, without the provider's bytes."""
    surface, provider = pair
    script = await scripted(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{secret: ")
    running = await gateway(three(first, **{provider: script.base_url}))
    path, body = asked(surface, f"of-{provider}")
    reply = await running.ask(body, path=path)
    receipt = await running.receipt()

    assert (reply.status, error_of(surface, reply)[0]) == (502, KINDS[surface][502])
    assert b"secret" not in reply.body
    assert (receipt["outcome"], receipt["status"]) == ("failed", 502)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
async def test_who_leaves_a_translated_stream_ends_the_call(gateway: Start, first: MockUpstream, pair: Pair) -> None:
    """The provider sees its client go, and the answer is booked as abandoned."""
    surface, provider = pair
    first.turn(fault="stall", after=4)
    running = await gateway(three(first))
    path, body = asked(surface, f"of-{provider}", stream=True)
    wire = await running.wire()
    await wire.send(request_bytes(body).replace(COMPLETIONS.encode(), path.encode(), 1))
    await wire.until(b"\n\n")
    wire.leave()
    await first.journal.until(lambda journal: journal.cancelled == 1)
    receipt = await running.receipt()

    assert (receipt["outcome"], receipt["finish"], receipt["surface"]) == ("abandoned", None, surface)
    assert receipt["sent_bytes"] > 0


# ── fallback ──

LADDERS = [("openai", "anthropic"), ("anthropic", "gemini"), ("gemini", "openai")]      # who fails, who answers


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("ladder", LADDERS, ids=ids)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_a_provider_of_another_dialect_answers_for_one_that_fails(
    gateway: Start, first: MockUpstream, second: MockUpstream, surface: str, ladder: Pair, *, streamed: bool
) -> None:
    """The caller sees a good answer in its own dialect, and who gave it; the books have both calls."""
    fails, answers = ladder
    first.turn(fault="cut-rst", after=0)
    text = three(first, ladder=f"of-{fails}, of-{answers}", **{answers: second.base_url})
    running = await gateway(text)
    path, body = asked(surface, stream=streamed)
    reply = await running.ask(body, path=path)
    receipt = await running.receipt()

    assert (reply.status, reply.whole, b'"error":{' in reply.body) == (200, True, False)
    assert reply.headers["x-thriftgate-model"] == f"of-{answers}"
    assert reply.headers["x-thriftgate-reason"] == receipt["reason"] == "fallback"
    assert [attempt["model"] for attempt in receipt["attempts"]] == [f"of-{fails}", f"of-{answers}"]
    assert (receipt["outcome"], receipt["finish"], receipt["surface"]) == ("ok", "stop", surface)
    assert (first.journal.requests, second.journal.requests) == (1, 1)


# ── rungs that cannot ──

SEARCH: dict[str, tuple[dict[str, Any], str]] = {       # what only one provider has, and which
    "openai": ({"web_search_options": {}}, "openai"),
    "anthropic": ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "anthropic"),
    "gemini": ({"tools": [{"googleSearch": {}}]}, "gemini"),
}
OTHER = {"openai": "anthropic", "anthropic": "gemini", "gemini": "openai", "responses": "openai"}


@pytest.mark.parametrize("surface", SEARCH)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_a_rung_that_cannot_say_it_is_skipped(
    gateway: Start, scripted: Scripted, first: MockUpstream, surface: str, *, streamed: bool
) -> None:
    """The next rung speaks the caller's dialect: reason `capability`, and no call was made for the one that cannot."""
    more, own = SEARCH[surface]
    said = b"".join(BEGIN[own] + FINISH[own]) if streamed else b'{"of tomorrow":1}'
    script = await scripted(STREAM + chunk(said) + END)
    running = await gateway(three(first, ladder=f"of-{OTHER[own]}, of-{own}", **{own: script.base_url}))
    if streamed and surface == "openai":
        more = {**more, "stream_options": {"include_usage": True}}
    path, body = asked(surface, stream=streamed, **more)
    reply = await running.ask(body, path=path)
    receipt = await running.receipt()

    assert (reply.status, reply.body) == (200, said)
    assert (reply.headers["x-thriftgate-model"], reply.headers["x-thriftgate-reason"]) == (f"of-{own}", "capability")
    assert [attempt["model"] for attempt in receipt["attempts"]] == [f"of-{own}"]
    assert (script.calls, first.journal.requests) == (1, 0)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("model", ["named", "auto"])
async def test_what_no_target_can_say_is_a_400(
    gateway: Start, first: MockUpstream, surface: str, model: str
) -> None:
    """In the caller's form, under the request's id, refused in the books, and nothing was sent."""
    more = {"tools": [{"type": "web_search"}]} if surface == "responses" else SEARCH[surface][0]
    other = OTHER[surface]
    running = await gateway(three(first, ladder=f"of-{other}"))
    path, body = asked(surface, "auto" if model == "auto" else f"of-{other}", **more)
    reply = await running.ask(body, path=path)
    receipt = await running.receipt()
    kind, message, request_id = error_of(surface, reply)

    assert (reply.status, kind) == (400, KINDS[surface][400])
    assert f"the dialect of the model this goes to ({other})" in message
    assert reply.headers["x-thriftgate-request-id"] == request_id == receipt["request_id"]
    assert reply.headers.get("x-thriftgate-route") == ("auto" if model == "auto" else None)
    assert "Server-Timing" in reply.headers
    assert (receipt["outcome"], receipt["status"], receipt["attempts"]) == ("refused", 400, [])
    assert first.journal.requests == 0


# ── what is lost ──

HINTS: dict[str, tuple[dict[str, Any], str, list[str]]] = {      # what is asked, of whom, and what it cannot be told
    "openai": ({"seed": 5, "presence_penalty": 0.5}, "anthropic", ["presence_penalty", "seed"]),
    "responses": ({"metadata": {"a": "b"}, "truncation": "auto"}, "openai", ["metadata", "others.truncation"]),
    "anthropic": ({"top_k": 5}, "openai", ["top_k"]),
    "gemini": ({"generationConfig": {"topK": 5, "seed": 3}}, "openai", ["top_k"]),
}


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_what_is_left_out_is_named(gateway: Start, first: MockUpstream, surface: str, *, streamed: bool) -> None:
    """In the header and in the receipt; where the caller's own dialect is spoken nothing is lost, nor is it named."""
    more, other, lost = HINTS[surface]
    running = await gateway(three(first))
    told = []
    for provider in (other, surface.replace("responses", "openai")):
        path, body = asked(surface, f"of-{provider}", stream=streamed, **more)
        told.append(await running.ask(body, path=path))
    receipts = await running.receipts.until(2)

    assert [reply.status for reply in told] == [200, 200]
    assert sorted(told[0].headers["x-thriftgate-lost"].split(", ")) == sorted(receipts[0]["lost"]) == lost
    assert surface == "responses" or ("x-thriftgate-lost" not in told[1].headers and "lost" not in receipts[1])


async def test_what_the_failing_target_could_not_be_told_is_not_lost(
    gateway: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """The books are about the one that answered."""
    first.turn(error_rate=1)
    running = await gateway(three(first, ladder="of-anthropic, of-openai", openai=second.base_url))
    reply = await running.ask(orjson.loads(asked("openai", seed=5)[1]))

    assert (reply.status, reply.headers["x-thriftgate-reason"]) == (200, "fallback")
    assert "x-thriftgate-lost" not in reply.headers
    assert "lost" not in await running.receipt()
