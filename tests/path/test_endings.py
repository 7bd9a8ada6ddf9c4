"""A stream that breaks after its first byte says so in OpenAI's form, and is never dressed up as a whole one.

Faults and what a gateway should do: PEERS.md §2d. Each kind of end is held here, cut between events and inside one.
"""

import asyncio
import gzip
from typing import Any

import orjson
import pytest

from gateway import through
from loadtest import frames
from loadtest.mock_upstream import MockUpstream
from tests.conftest import Reply, Start, Wire, chat, two_rungs, unasked
from tests.path.conftest import END, EVENT, FINISH, STREAM, Scripted, chunk

BREAKS: dict[str, tuple[dict[str, object], str, str]] = {     # dials, deadlines, the code of the error
    "reset": ({"fault": "cut-rst", "after": 3}, "", "stream_broken"),
    "closed": ({"fault": "cut-fin", "after": 3}, "", "stream_broken"),
    "a clean end too early": ({"fault": "end", "after": 3}, "", "stream_broken"),
    "silence beyond the idle deadline": ({"fault": "stall", "after": 3}, "idle_ms: 200", "upstream_timeout"),
    "longer than the total deadline": ({"fault": "stall", "after": 3}, "total_ms: 400", "upstream_timeout"),
}


def assert_broken(reply: Reply, sent: bytes, code: str) -> None:
    """What was sent came through, then one error event, then the connection closed without the mark of an end."""
    error = reply.last_error

    assert reply.status == 200
    assert not reply.whole
    assert reply.body.startswith(sent)
    assert reply.body.endswith(b"\n\n")
    assert reply.body.count(b'"error"') == 1
    assert b"[DONE]" not in reply.body
    assert b'"stop"' not in reply.body
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    assert (error["type"], error["code"]) == ("upstream_error", code)
    assert error["request_id"] == reply.headers["x-thriftgate-request-id"]


@pytest.mark.parametrize(("dials", "deadlines", "code"), BREAKS.values(), ids=BREAKS)
async def test_a_broken_stream_says_so(
    serve: Start, first: MockUpstream, dials: dict[str, object], deadlines: str, code: str
) -> None:
    """What came is passed on, the error event follows, the receipt says broken."""
    first.turn(**dials)
    running = await serve(deadlines=deadlines)
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert_broken(reply, unasked(first.journal.last), code)
    assert (receipt["outcome"], receipt["finish"], receipt["status"]) == ("broken", None, 200)
    assert receipt["error"]
    assert (receipt["estimated"], receipt["cost_usd_nanos"] > 0) == (True, True)


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "farewell"])
@pytest.mark.parametrize("cut", [EVENT[:20], EVENT[:-1], b"data: caf\xc3", b"event: x\ndata: 1\n", b"data"])
async def test_a_stream_cut_inside_an_event_is_still_readable(
    gateway: Start, scripted: Scripted, cut: bytes, *, reset: bool
) -> None:
    """The half event is closed first, so that the error is an event of its own."""
    go = asyncio.Event()
    script = await scripted(STREAM + chunk(EVENT + cut), go, reset=reset)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    wire = await running.wire(chat(stream=True, stream_options={"include_usage": True}))
    received = await wire.until(cut)
    go.set()
    received += await wire.rest()
    events = received.split(b"\n\n")

    assert any(event.rpartition(b"\n")[2].startswith(b'data: {"error":') for event in events)
    assert b"\r\n0\r\n" not in received
    assert (await running.receipt())["outcome"] == "broken"


async def test_half_an_event_is_not_shown_where_the_stream_is_counted_for_us(
    gateway: Start, scripted: Scripted
) -> None:
    """Nobody can read it; the error follows the last whole event."""
    script = await scripted(STREAM + chunk(EVENT + EVENT[:20]))
    running = await gateway(two_rungs(script.base_url, script.base_url))
    reply = await running.ask(chat(stream=True))

    assert_broken(reply, EVENT, "stream_broken")
    assert EVENT[:20] not in reply.body.removeprefix(EVENT)


async def test_a_half_chunk_of_http_is_a_broken_stream(gateway: Start, scripted: Scripted) -> None:
    """The provider promised more bytes than it sent: those that came are passed on."""
    script = await scripted(STREAM + b"400\r\n" + EVENT)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    reply = await running.ask(chat(stream=True))

    assert_broken(reply, EVENT, "stream_broken")


async def test_nonsense_in_the_framing_is_a_broken_stream(gateway: Start, scripted: Scripted) -> None:
    """A provider that stops speaking HTTP in the middle is left at the idle deadline, if not before."""
    go = asyncio.Event()
    script = await scripted(STREAM + chunk(EVENT), go, b"<html>502</html>\r\n\r\n")
    running = await gateway(two_rungs(script.base_url, script.base_url, deadlines="idle_ms: 200"))
    wire = await running.wire(chat(stream=True))
    received = await wire.until(EVENT)
    go.set()
    received += await wire.rest()

    assert received.count(b'data: {"error":') == 1
    assert b"<html>" not in received
    assert b"\r\n0\r\n" not in received


async def test_the_providers_own_error_frame_is_not_repeated(serve: Start, first: MockUpstream) -> None:
    """It said so itself: its frame is the last, and the receipt says broken."""
    first.turn(fault="error-frame", after=3)
    running = await serve()
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert reply.body == unasked(first.journal.last)
    assert reply.body.endswith(frames.error_frame())
    assert b"[DONE]" not in reply.body
    assert receipt["outcome"] == "broken"


async def test_garbage_in_the_middle_is_no_reason_to_stop(serve: Start, first: MockUpstream) -> None:
    """One line that is no JSON: the client may judge it, the stream goes on and is whole."""
    first.turn(fault="garbage")
    running = await serve()
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert reply.whole
    assert reply.body == unasked(first.journal.last)
    assert (receipt["outcome"], receipt["finish"], receipt["unreadable"]) == ("ok", "stop", 1)


async def test_a_finish_without_done_is_whole(gateway: Start, scripted: Scripted) -> None:
    """Some providers forget the `[DONE]`: the answer said why it stopped, and nothing is added to it."""
    said = EVENT + FINISH.removesuffix(b"data: [DONE]\n\n")
    script = await scripted(STREAM + chunk(said) + END)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert (reply.whole, reply.body) == (True, said)
    assert (receipt["outcome"], receipt["finish"]) == ("ok", "stop")


async def test_done_without_a_finish_is_whole(gateway: Start, scripted: Scripted) -> None:
    """Others forget to say why they stopped, and say that they did."""
    script = await scripted(STREAM + chunk(EVENT + b"data: [DONE]\n\n") + END)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    reply = await running.ask(chat(stream=True))

    assert (reply.whole, reply.body) == (True, EVENT + b"data: [DONE]\n\n")
    assert (await running.receipt())["outcome"] == "ok"


async def test_a_cut_after_done_is_no_loss(gateway: Start, scripted: Scripted) -> None:
    """The answer was whole before the connection broke: all of it is with the client, `[DONE]` included."""
    script = await scripted(STREAM + chunk(EVENT + FINISH))
    running = await gateway(two_rungs(script.base_url, script.base_url))
    reply = await running.ask(chat(stream=True))

    assert reply.body.startswith(EVENT + FINISH)


async def test_an_end_after_a_gigantic_event_is_recognised(serve: Start, first: MockUpstream) -> None:
    """`[DONE]` is enough, however long the event before it is."""
    long = b"data: " + orjson.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}], "pad": "x" * 300_000})
    first.turn(raw=(EVENT, long + b"\n\n", b"data: [DONE]\n\n"))
    running = await serve()
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert len(long) > through.TAIL_BYTES
    assert reply.body == EVENT + long + b"\n\ndata: [DONE]\n\n"
    assert (reply.whole, receipt["outcome"]) == (True, "ok")


async def test_a_gigantic_last_event_is_given_the_benefit_of_the_doubt(gateway: Start, scripted: Scripted) -> None:
    """Where the last event is longer than the tail that is kept, its finish cannot be seen: no end is put in doubt."""
    said = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "padding": "x" * 300_000}
    script = await scripted(STREAM + chunk(EVENT) + chunk(b"data: " + orjson.dumps(said) + b"\n\n") + END)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert (True, "ok") == (reply.whole, receipt["outcome"])
    assert b"error" not in reply.body


async def test_a_whole_answer_that_is_cut_is_never_shown(serve: Start, first: MockUpstream) -> None:
    """Not streamed: half a body is no answer, the caller gets a status instead."""
    first.turn(fault="cut-fin")
    running = await serve()
    reply = await running.ask(chat(model="cheap"))
    receipt = await running.receipt()

    assert (reply.status, reply.whole, reply.error["code"]) == (502, True, "upstream_unreachable")
    assert (receipt["outcome"], receipt["sent_bytes"]) == ("failed", 0)


async def test_a_whole_answer_beyond_the_total_deadline_is_a_504(serve: Start, first: MockUpstream) -> None:
    """Nothing was shown yet, so the status can say it."""
    first.turn(fault="hang")
    running = await serve(deadlines="total_ms: 100")
    reply = await running.ask(chat(model="cheap"))
    await first.journal.until(lambda journal: journal.cancelled == 1)

    assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")


async def test_a_client_that_reads_slowly_is_not_the_providers_fault(serve: Start, first: MockUpstream) -> None:
    """The idle deadline counts the provider's silence, not the client's: what was sent arrives whole."""
    piece = b"data: " + orjson.dumps({"choices": [{"delta": {"content": "x" * 500_000}}]}) + b"\n\n"
    first.turn(raw=(*(piece,) * 40, FINISH))
    running = await serve(deadlines="idle_ms: 400")
    wire = await running.wire(chat(stream=True))
    await wire.until(b"\r\n\r\n")
    await asyncio.sleep(0.7)        # the client's own pause, longer than the deadline: it may change nothing
    received = await _drained(wire)
    receipt = await running.receipt()

    assert received.count(b'"content"') == 40
    assert (receipt["outcome"], receipt["error"]) == ("ok", None)


async def _drained(wire: Wire) -> bytes:
    received: Any = bytearray()
    while not received.endswith(b"\r\n0\r\n\r\n"):
        received += await wire.some()
    return bytes(received)


async def test_an_upstream_that_ends_late_keeps_nobody_waiting(gateway: Start, scripted: Scripted) -> None:
    """After `[DONE]` the answer is whole for the client, however long the provider takes to close."""
    late = asyncio.Event()
    script = await scripted(STREAM + chunk(EVENT) + chunk(FINISH), late)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()
    late.set()

    assert (True, "ok") == (reply.whole, receipt["outcome"])
    assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_a_client_that_leaves_with_the_whole_answer_did_not_abandon_it(
    gateway: Start, scripted: Scripted
) -> None:
    """SDKs close their connection at `[DONE]`: that is an answer that was delivered."""
    late = asyncio.Event()
    finish = FINISH.removesuffix(b"data: [DONE]\n\n")
    script = await scripted(STREAM + chunk(EVENT) + chunk(finish), late)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    wire = await running.wire(chat(stream=True))
    await wire.until(finish)
    wire.leave()
    receipt = await running.receipt()
    late.set()

    assert ("ok", "stop") == (receipt["outcome"], receipt["finish"])


async def test_a_compressed_stream_is_left_alone(gateway: Start, scripted: Scripted) -> None:
    """What we cannot read we neither judge nor add to."""
    packed = gzip.compress(EVENT + FINISH)
    head = STREAM.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n", 1)
    script = await scripted(head + chunk(packed) + END)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    reply = await running.ask(chat(stream=True))

    assert (EVENT + FINISH, True, "ok") == (reply.body, reply.whole, (await running.receipt())["outcome"])
