"""A target fails before its first byte: the next one up the ladder answers. After the first byte nothing is retried."""

import asyncio

import orjson
import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Reply, Running, Start, chat, two_rungs, unasked
from tests.path.conftest import END, EVENT, FINISH, STREAM, Scripted, chunk

FAULTS: dict[str, dict[str, object]] = {
    "500": {"error_rate": 1, "status": 500},
    "502": {"error_rate": 1, "status": 502},
    "503": {"error_rate": 1, "status": 503},
    "529": {"error_rate": 1, "status": 529},
    "429": {"error_rate": 1, "status": 429, "retry_after_s": 7},
    "401": {"error_rate": 1, "status": 401},
    "404": {"error_rate": 1, "status": 404},
    "silent": {"fault": "hang"},
    "reset before the first byte": {"fault": "cut-rst", "after": 0},
    "closed before the first byte": {"fault": "cut-fin", "after": 0},
    "ended without a byte": {"fault": "end", "after": 0},
    "silent after the headers": {"fault": "stall", "after": 0},
    "an error as its first event": {"fault": "error-frame", "after": 0},
    "an error after the role": {"fault": "error-frame", "after": 1},
    "a role and no word": {"fault": "stall", "after": 1},
    "a role and an end": {"fault": "role-only", "stall_ms": 1},
}
NO_ANSWERS = [b"<html>not JSON at all</html>", b"[]", b"\xff\x00\xfe", b'{"choices":[{"finish_reason":"st', b""]
PATIENCE = "first_output_ms: 100"


def assert_fell_back(reply: Reply, second: MockUpstream) -> None:
    """The client has the premium answer, whole, and knows why."""
    assert (reply.status, reply.whole) == (200, True)
    assert reply.body == unasked(second.journal.last)
    assert reply.headers["x-thriftgate-model"] == "premium"
    assert reply.headers["x-thriftgate-rung"] == "premium"
    assert reply.headers["x-thriftgate-reason"] == "fallback"


async def both_asked(running: Running, first: MockUpstream, second: MockUpstream) -> tuple[int, int]:
    """Return how often each provider was asked, once the request is booked."""
    await running.receipt()
    return first.journal.requests, second.journal.requests


# ── the next target answers ──


@pytest.mark.parametrize("dials", FAULTS.values(), ids=FAULTS)
async def test_the_next_target_answers_a_stream(
    serve: Start, first: MockUpstream, second: MockUpstream, dials: dict[str, object]
) -> None:
    """Whatever went wrong before the first byte, the client sees only the good answer."""
    first.turn(**dials)
    running = await serve(deadlines=PATIENCE)
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert_fell_back(reply, second)
    assert (receipt["outcome"], receipt["reason"], receipt["status"]) == ("ok", "fallback", 200)
    assert [attempt["model"] for attempt in receipt["attempts"]] == ["cheap", "premium"]
    assert receipt["attempts"][0]["error"]
    assert (receipt["attempts"][1]["status"], receipt["attempts"][1]["error"]) == (200, None)
    assert (first.journal.requests, second.journal.requests) == (1, 1)


@pytest.mark.parametrize("name", ["500", "429", "401", "reset before the first byte", "closed before the first byte"])
async def test_the_next_target_answers_whole(
    serve: Start, first: MockUpstream, second: MockUpstream, name: str
) -> None:
    """The same for answers that are not streamed, also when half of the body was here."""
    first.turn(**FAULTS[name])
    running = await serve()
    reply = await running.ask(chat())

    assert_fell_back(reply, second)
    assert await both_asked(running, first, second) == (1, 1)


async def test_a_silent_provider_is_left_at_the_deadline(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """The call that was too slow is ended, not left running beside the good one."""
    first.turn(fault="hang")
    running = await serve(deadlines=PATIENCE)
    reply = await running.ask(chat(stream=True))
    await first.journal.until(lambda journal: journal.cancelled == 1)
    receipt = await running.receipt()

    assert_fell_back(reply, second)
    assert "first_output deadline" in receipt["attempts"][0]["error"]
    assert receipt["attempts"][0]["wait_ms"] > 90      # the loop's clock has steps of a millisecond


async def test_a_refused_connection_falls_back(gateway: Start, refusing: str, second: MockUpstream) -> None:
    """Nobody listens there."""
    running = await gateway(two_rungs(refusing, second.base_url))
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert_fell_back(reply, second)
    assert "no connection" in receipt["attempts"][0]["error"]


async def test_a_connection_that_cannot_be_made_in_time_falls_back(
    gateway: Start, unreachable: str, second: MockUpstream
) -> None:
    """The connect deadline is a deadline of its own."""
    running = await gateway(two_rungs(unreachable, second.base_url, deadlines="connect_ms: 50"))
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert_fell_back(reply, second)
    assert "connected to in time" in receipt["attempts"][0]["error"]


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "farewell"])
@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b"gibberish\r\n\r\n"],
    ids=["nothing", "half a status line", "no body", "no HTTP"],
)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_a_provider_that_hangs_up_falls_back(
    gateway: Start, scripted: Scripted, second: MockUpstream, sent: bytes, *, reset: bool, streamed: bool
) -> None:
    """Before the status line, in it, and after the headers."""
    script = await scripted(sent, reset=reset)
    running = await gateway(two_rungs(script.base_url, second.base_url))
    reply = await running.ask(chat(stream=streamed))

    assert_fell_back(reply, second)
    assert script.calls == 1


async def test_a_redirect_is_not_followed(gateway: Start, scripted: Scripted, second: MockUpstream) -> None:
    """A key goes to the configured address and nowhere else."""
    elsewhere = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {second.base_url}/chat/completions\r\n"
    script = await scripted((elsewhere + "Content-Length: 0\r\n\r\n").encode())
    running = await gateway(two_rungs(script.base_url, second.base_url))
    reply = await running.ask(chat(model="cheap"))

    assert reply.status == 502
    assert second.journal.requests == 0


async def test_a_full_pool_sends_the_next_request_on(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Nobody queues while another target is free."""
    first.turn(fault="stall", after=2)
    running = await serve(upstream="slots: 1")
    holding = await running.wire(chat(stream=True))
    await holding.until(b"\n\n")
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert_fell_back(reply, second)
    assert [attempt["model"] for attempt in receipt["attempts"]] == ["premium"]
    assert first.journal.requests == 1


async def test_the_slot_of_a_failed_call_is_free_again(serve: Start, first: MockUpstream) -> None:
    """One slot, many failures, then a success."""
    running = await serve(upstream="slots: 1, health: {failures: 100}")
    first.turn(error_rate=1)
    for _ in range(5):
        await running.ask()
    first.turn(error_rate=0)
    reply = await running.ask()

    assert reply.headers["x-thriftgate-model"] == "cheap"


async def test_a_pinned_rung_that_fails_falls_back_down(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """From the top of the ladder the way is down."""
    second.turn(error_rate=1)
    running = await serve()
    reply = await running.ask(headers={"x-thriftgate-rung": "premium"})

    assert (reply.status, reply.headers["x-thriftgate-model"]) == (200, "cheap")
    assert reply.headers["x-thriftgate-reason"] == "fallback"
    assert await both_asked(running, first, second) == (1, 1)


@pytest.mark.parametrize("body", NO_ANSWERS, ids=["HTML", "a list", "bytes", "cut", "empty"])
async def test_what_is_no_answer_falls_back(
    serve: Start, first: MockUpstream, second: MockUpstream, body: bytes
) -> None:
    """A 200 with what is no JSON object is a failure like any other."""
    first.turn(raw=(body,) if body else (b"",))
    running = await serve()
    reply = await running.ask()

    assert_fell_back(reply, second)


# ── never after the first byte ──


@pytest.mark.parametrize("fault", ["cut-rst", "cut-fin", "end", "error-frame"])
async def test_nothing_is_tried_again_after_the_first_byte(
    serve: Start, first: MockUpstream, second: MockUpstream, fault: str
) -> None:
    """The second provider is not asked, and the client sees one status line."""
    first.turn(fault=fault, after=2)
    running = await serve()
    wire = await running.wire()
    body = orjson.dumps(chat(stream=True))
    await wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
                    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    received = await wire.rest()
    receipt = await running.receipt()

    assert received.count(b"HTTP/1.1") == 1
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.count(b'"error"') == 1
    assert (receipt["outcome"], len(receipt["attempts"])) == ("broken", 1)
    assert (first.journal.requests, second.journal.requests) == (1, 0)


# ── when nothing helps ──


async def test_a_named_model_has_no_fallback(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Who names a model gets that model or an error; it is asked once more."""
    first.turn(error_rate=1)
    running = await serve()
    reply = await running.ask(chat(model="cheap"))

    assert (reply.status, reply.error["type"]) == (502, "upstream_error")
    assert reply.headers["x-thriftgate-reason"] == "explicit"
    assert await both_asked(running, first, second) == (2, 0)


async def test_every_attempt_is_listed_under_the_request_id(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """The error says what was tried and what came of it, as the receipt does."""
    first.turn(error_rate=1, status=500)
    second.turn(error_rate=1, status=503)
    running = await serve()
    reply = await running.ask()
    receipt = await running.receipt()

    assert reply.error["request_id"] == reply.headers["x-thriftgate-request-id"] == receipt["request_id"]
    assert [(a["model"], a["status"]) for a in reply.error["attempts"]] == [("cheap", 500), ("premium", 503)]
    assert [(a["model"], a["status"]) for a in receipt["attempts"]] == [("cheap", 500), ("premium", 503)]
    assert (receipt["outcome"], receipt["status"]) == ("failed", reply.status)


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        (("429", "500"), (429, "7")),
        (("silent", "429"), (429, "7")),
        (("reset before the first byte", "503"), (503, "1")),
        (("silent", "silent"), (504, None)),
        (("closed before the first byte", "silent"), (504, None)),
        (("401", "closed before the first byte"), (502, None)),
        (("reset before the first byte", "ended without a byte"), (502, None)),
    ],
)
async def test_the_most_telling_refusal_is_what_the_caller_is_told(
    gateway: Start, first: MockUpstream, second: MockUpstream, faults: tuple[str, str], told: tuple[int, str | None]
) -> None:
    """An answer tells more than a deadline, a deadline more than a broken connection; Retry-After is kept."""
    first.turn(**FAULTS[faults[0]])
    second.turn(**FAULTS[faults[1]])
    text = two_rungs(first.base_url, second.base_url, deadlines=PATIENCE)
    patient = "name: mock-premium, deadlines: {first_output_ms: 500},"
    running = await gateway(text.replace("name: mock-premium,", patient))
    reply = await running.ask(chat(stream=True))

    assert (reply.status, reply.headers.get("Retry-After")) == told
    assert len(reply.error["attempts"]) == 2


async def test_with_every_slot_taken_the_caller_is_told_to_come_back(gateway: Start, first: MockUpstream) -> None:
    """503, nothing sent upstream."""
    first.turn(fault="stall", after=2)
    text = two_rungs(first.base_url, first.base_url, upstream="slots: 1", more="server: {wait_ms: 0}")
    running = await gateway(text)
    holding = await running.wire(chat(model="cheap", stream=True))
    await holding.until(b"\n\n")
    reply = await running.ask(chat(model="cheap"))

    assert (reply.status, reply.error["code"]) == (503, "overloaded")
    assert first.journal.requests == 1


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_the_callers_own_fault_is_passed_on_as_it_was_said(
    serve: Start, first: MockUpstream, second: MockUpstream, status: int, *, streamed: bool
) -> None:
    """Another target would say the same: the provider's own words reach the caller, and nothing is tried again."""
    first.turn(error_rate=1, status=status)
    running = await serve()
    reply = await running.ask(chat(stream=streamed))
    receipt = await running.receipt()

    assert (reply.status, reply.whole) == (status, True)
    assert reply.body == unasked(first.journal.last)
    assert reply.headers["x-thriftgate-model"] == "cheap"
    assert (receipt["outcome"], receipt["status"], receipt["cost_usd_micros"]) == ("refused", status, None)
    assert second.journal.requests == 0


async def test_a_wrong_parameter_is_explained_by_the_provider(serve: Start, first: MockUpstream) -> None:
    """Values the gateway does not look at are the provider's to judge."""
    running = await serve()
    reply = await running.ask(chat(mock={"tokkens": 1}))

    assert (reply.status, reply.error["param"]) == (400, "mock")
    assert first.journal.refused == 1


async def test_many_failures_at_once_leave_no_trace(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Thirty-two at a time whose first provider breaks the connection: all are answered by the second."""
    first.turn(fault="cut-rst", after=0)
    running = await serve()
    replies = await asyncio.gather(*(running.ask(chat(f"prompt {n}", stream=True)) for n in range(32)))
    await second.journal.until(lambda journal: journal.answered == 32)

    assert {(reply.status, reply.whole, reply.headers["x-thriftgate-model"]) for reply in replies} == {
        (200, True, "premium")
    }
    assert 5 <= first.journal.requests <= 32      # by then it is left alone


async def test_a_provider_without_chunks_is_streamed(gateway: Start, scripted: Scripted) -> None:
    """A stream that ends with the connection (HTTP/1.0 manners) is complete when it says so itself."""
    script = await scripted(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + EVENT + FINISH)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    reply = await running.ask(chat(stream=True))

    assert (reply.status, reply.whole, reply.body) == (200, True, EVENT + FINISH)


async def test_a_stream_that_is_held_is_whole_once_let_go(gateway: Start, scripted: Scripted) -> None:
    """The provider pauses between two events for as long as it likes, within the deadlines."""
    go = asyncio.Event()
    script = await scripted(STREAM + chunk(EVENT), go, chunk(FINISH) + END)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    wire = await running.wire(chat(stream=True))
    await wire.until(EVENT)
    go.set()
    rest = await wire.until(b"\r\n0\r\n\r\n")

    assert FINISH in rest


async def test_a_whole_answer_that_is_an_error_is_not_shown(
    gateway: Start, scripted: Scripted, second: MockUpstream
) -> None:
    """200 with an error object, as some providers answer: the next target is tried."""
    body = b'{"error":{"message":"out of capacity","code":503}}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    script = await scripted(head % len(body) + body)
    running = await gateway(two_rungs(script.base_url, second.base_url))
    reply = await running.ask(chat())

    assert (200, "premium", "fallback") == (
        reply.status, reply.headers["x-thriftgate-model"], reply.headers["x-thriftgate-reason"]
    )
