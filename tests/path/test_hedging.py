"""A stream whose target is late is asked for at the next one as well: the first that says something is the answer."""

import asyncio
from typing import Any

import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Running, Start, chat, two_rungs, unasked
from tests.path.conftest import END, EVENT, FINISH, STREAM, Script, Scripted, chunk

HOUR_MS = 3_600_000
ALL = "threshold: 0, hedge: {after_ms: 50, share: 1, usd_per_hour: 100}"
SLOW = f"first_output_ms: {HOUR_MS}, total_ms: {HOUR_MS}"
STRICT = f"health: {{failures: 1, open_ms: {HOUR_MS}, open_max_ms: {HOUR_MS}}}"
LONG_PROMPT = "why? " * 2_000
SILENT: dict[str, dict[str, object]] = {
    "before the headers": {"fault": "hang"},
    "after the headers": {"fault": "stall", "after": 0},
    "after the role": {"fault": "stall", "after": 1},
}
ANSWER = STREAM + chunk(EVENT) + chunk(FINISH) + END


def failing(status: int) -> bytes:
    """Return a provider's failure as it stands on the wire."""
    return f"HTTP/1.1 {status} Failing\r\nContent-Length: 0\r\n\r\n".encode()


def failed_calls(running: Running) -> dict[str, int]:
    """Return how often each model is blamed."""
    return {
        name: sum(each.health.failed_calls for each in model.deployments)
        for name, model in running.gateway.with_.models.items()
    }


async def late(gateway: Start, script: Script, second: MockUpstream, **more: Any) -> Running:
    """Start a gateway whose first target is late."""
    return await gateway(two_rungs(script.base_url, second.base_url, route=ALL, deadlines=SLOW, **more))


@pytest.mark.parametrize("dials", SILENT.values(), ids=SILENT)
async def test_the_next_target_answers_for_one_that_is_silent(
    serve: Start, first: MockUpstream, second: MockUpstream, dials: dict[str, object]
) -> None:
    """The caller has its whole answer, the silent call is ended at its provider, and one receipt has both."""
    first.turn(**dials)
    running = await serve(route=ALL, deadlines=SLOW, upstream=STRICT)
    reply = await running.ask(chat(LONG_PROMPT, stream=True))
    await first.journal.until(lambda journal: journal.cancelled == 1)
    receipt = await running.receipt()

    assert (reply.status, reply.whole, reply.body) == (200, True, unasked(second.journal.last))
    assert (reply.headers["x-thriftgate-model"], reply.headers["x-thriftgate-reason"]) == ("premium", "hedged")
    assert (receipt["outcome"], receipt["reason"], receipt["rung"]) == ("ok", "hedged", "premium")
    assert [(each["model"], each["status"], each["error"]) for each in receipt["attempts"]] == [
        ("cheap", None, "Another target was quicker."), ("premium", 200, None)
    ]
    assert receipt["unused_usd_micros"] > 0
    assert receipt["cost_usd_micros"] > receipt["unused_usd_micros"]
    assert failed_calls(running) == {"cheap": 0, "premium": 0}


async def test_lateness_blames_nobody(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """The next request goes to the first target as before, though one failure would have it left alone."""
    first.turn(fault="hang")
    running = await serve(route=ALL, deadlines=SLOW, upstream=STRICT)
    await running.ask(chat(stream=True))
    first.turn(fault="")
    reply = await running.ask(chat())

    assert (reply.status, reply.headers["x-thriftgate-model"]) == (200, "cheap")


async def test_one_that_is_late_and_still_quicker_answers(
    gateway: Start, scripted: Scripted, second: MockUpstream
) -> None:
    """The second call is ended instead, and its prompt is on the bill."""
    go = asyncio.Event()
    script = await scripted(go, ANSWER)
    second.turn(fault="hang")
    running = await late(gateway, script, second)
    wire = await running.wire(chat(LONG_PROMPT, stream=True))
    await second.journal.until(lambda journal: journal.in_flight == 1)
    go.set()
    received = await wire.until(b"[DONE]")
    await second.journal.until(lambda journal: journal.cancelled == 1)
    receipt = await running.receipt()

    assert EVENT in received
    assert b"x-thriftgate-model: cheap\r\nx-thriftgate-route: auto\r\nx-thriftgate-rung: cheap\r\n" in received
    assert (receipt["outcome"], receipt["reason"], receipt["model"]) == ("ok", "learned", "cheap")
    assert [(each["model"], each["status"]) for each in receipt["attempts"]] == [("cheap", 200), ("premium", None)]
    assert receipt["attempts"][1]["error"] == "Another target was quicker."
    assert receipt["unused_usd_micros"] > 0
    assert failed_calls(running) == {"cheap": 0, "premium": 0}


@pytest.mark.parametrize(
    "dials",
    [{"fault": "error-frame", "after": 0}, {"fault": "error-frame", "after": 1}, {"fault": "cut-rst", "after": 1},
     {"error_rate": 1, "status": 500}, {"error_rate": 1, "status": 400}],
    ids=["an error frame", "an error after the role", "cut after the role", "500", "400"],
)
async def test_a_failure_of_the_second_never_wins(
    gateway: Start, scripted: Scripted, second: MockUpstream, dials: dict[str, object]
) -> None:
    """However quick: the first target is waited for, and nothing of the failure is shown."""
    go = asyncio.Event()
    script = await scripted(go, ANSWER)
    second.turn(**dials)
    running = await late(gateway, script, second)
    wire = await running.wire(chat(stream=True))
    await second.journal.until(lambda journal: journal.requests == 1 and journal.in_flight == 0)
    go.set()
    received = await wire.until(b"[DONE]")
    receipt = await running.receipt()

    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b'"error"' not in received
    assert (receipt["outcome"], receipt["model"], receipt["unused_usd_micros"]) == ("ok", "cheap", 0)
    assert len(receipt["attempts"]) == 2


async def test_a_failure_of_the_first_leaves_the_second_running(
    gateway: Start, scripted: Scripted, first: MockUpstream
) -> None:
    """What was the hedge is then simply the answer."""
    fail, go = asyncio.Event(), asyncio.Event()
    script, other = await scripted(fail, failing(500)), await scripted(go, ANSWER)
    running = await gateway(two_rungs(script.base_url, other.base_url, route=ALL, deadlines=SLOW))
    wire = await running.wire(chat(stream=True))
    await other.asked.wait()
    fail.set()
    go.set()
    received = await wire.until(b"[DONE]")
    receipt = await running.receipt()

    assert EVENT in received
    assert (receipt["model"], len(receipt["attempts"]), other.calls) == ("premium", 2, 1)


async def test_where_both_fail_the_caller_is_told_as_usual(
    gateway: Start, scripted: Scripted, second: MockUpstream
) -> None:
    """The most telling refusal of the two, with both under the request id."""
    go = asyncio.Event()
    script = await scripted(go, failing(500))
    second.turn(error_rate=1, status=429, retry_after_s=250)
    running = await late(gateway, script, second)
    asking = await running.wire(chat(stream=True))
    await second.journal.until(lambda journal: journal.refused == 1)
    go.set()
    reply = await asking.reply()
    receipt = await running.receipt()

    assert (reply.status, reply.headers["Retry-After"]) == (429, "250")
    assert {(each["model"], each["status"]) for each in reply.error["attempts"]} == {("cheap", 500), ("premium", 429)}
    assert (receipt["outcome"], receipt["unused_usd_micros"]) == ("failed", 0)
    assert failed_calls(running) == {"cheap": 1, "premium": 0}


# ── when there is none ──

NONE = {
    "no share of the streams": "after_ms: 50, share: 0",
    "no money for it": "after_ms: 50, share: 1, usd_per_hour: 0",
    "nobody knows yet what is late": "share: 1",
}


@pytest.mark.parametrize("hedge", NONE.values(), ids=NONE)
async def test_without_means_there_is_none(
    serve: Start, first: MockUpstream, second: MockUpstream, hedge: str
) -> None:
    """The first target keeps its time, and the second is called when that is over."""
    first.turn(fault="hang")
    running = await serve(route=f"threshold: 0, hedge: {{{hedge}}}", deadlines="first_output_ms: 300")
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert (reply.status, reply.headers["x-thriftgate-reason"]) == (200, "fallback")
    assert "first_output deadline" in receipt["attempts"][0]["error"]
    assert receipt["unused_usd_micros"] == 0


async def test_a_whole_answer_is_not_hedged(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """It is there when the model has finished, which says nothing of its being late."""
    first.turn(fault="hang")
    running = await serve(route=ALL, deadlines="total_ms: 300")
    reply = await running.ask(chat())

    assert (reply.status, reply.headers["x-thriftgate-reason"]) == (200, "fallback")
    assert "deadline" in (await running.receipt())["attempts"][0]["error"]


async def test_a_named_model_is_not_hedged(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Nobody else may answer for it."""
    first.turn(fault="hang")
    running = await serve(route=ALL, deadlines="first_output_ms: 200", more="server: {attempts: 1}")
    reply = await running.ask(chat(model="cheap", stream=True))

    assert reply.status == 504
    assert second.journal.requests == 0


async def test_a_prompt_answer_is_not_hedged(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Nor is there a second call once the first has begun, however long it then takes."""
    first.turn(tokens=20, tokens_per_s=100)
    running = await serve(route="threshold: 0, hedge: {after_ms: 5000, share: 1}")
    reply = await running.ask(chat(stream=True))

    assert (reply.whole, reply.headers["x-thriftgate-reason"]) == (True, "learned")
    assert second.journal.requests == 0


async def test_a_failure_in_time_is_an_ordinary_fallback(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """The next target is called at once: nobody waits to be late."""
    first.turn(error_rate=1)
    running = await serve(route=f"threshold: 0, hedge: {{after_ms: {HOUR_MS}, share: 1}}")
    reply = await running.ask(chat(stream=True))

    assert (reply.status, reply.headers["x-thriftgate-reason"]) == (200, "fallback")


async def test_only_the_share_is_hedged(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """A fifth of the streams, and one to begin with: the others wait for their target's own deadline."""
    first.turn(fault="hang")
    running = await serve(
        route="threshold: 0, hedge: {after_ms: 20, share: 0.2, usd_per_hour: 100}", deadlines="first_output_ms: 200",
        upstream="health: {failures: 1000}",
    )
    replies = [await running.ask(chat(f"prompt {n}", stream=True)) for n in range(10)]
    reasons = [reply.headers["x-thriftgate-reason"] for reply in replies]

    assert {reply.status for reply in replies} == {200}
    assert 1 <= reasons.count("hedged") <= 3
    assert reasons.count("fallback") == 10 - reasons.count("hedged")


async def test_what_is_not_used_has_a_price_limit(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Once the hour's money is spent, no further stream is hedged."""
    first.turn(fault="hang")
    running = await serve(
        route="threshold: 0, hedge: {after_ms: 20, share: 1, usd_per_hour: 0.000001}",
        deadlines="first_output_ms: 200", upstream="health: {failures: 1000}",
    )
    replies = [await running.ask(chat(LONG_PROMPT, stream=True)) for _ in range(3)]

    assert [reply.headers["x-thriftgate-reason"] for reply in replies] == ["hedged", "fallback", "fallback"]


# ── the client leaves ──


async def test_leaving_ends_both(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Two silent providers, one client that has had enough: both calls end, in one receipt."""
    first.turn(fault="hang")
    second.turn(fault="hang")
    running = await serve(route=ALL, deadlines=SLOW)
    wire = await running.wire(chat(stream=True))
    await second.journal.until(lambda journal: journal.in_flight == 1)
    wire.leave()
    for mock in (first, second):
        await mock.journal.until(lambda journal: journal.cancelled == 1)
    receipt = await running.receipt()

    assert (receipt["outcome"], len(receipt["attempts"])) == ("abandoned", 2)
    assert failed_calls(running) == {"cheap": 0, "premium": 0}


async def test_leaving_in_mid_stream_ends_the_one_that_answers(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """The hedge is what is streamed; it stops like any stream."""
    first.turn(fault="hang")
    second.turn(fault="stall", after=3)
    running = await serve(route=ALL, deadlines=SLOW)
    wire = await running.wire(chat(stream=True))
    await wire.until(b"\n\n")
    wire.leave()
    for mock in (first, second):
        await mock.journal.until(lambda journal: journal.cancelled == 1)
    receipt = await running.receipt()

    assert (receipt["outcome"], receipt["reason"]) == ("abandoned", "hedged")


async def test_the_answers_deadlines_still_hold(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Of a hedge that falls silent in mid-stream."""
    first.turn(fault="hang")
    second.turn(fault="stall", after=3)
    running = await serve(route=ALL.replace("}", "}, deadlines: {idle_ms: 100}"), deadlines=SLOW)
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert not reply.whole
    assert "idle deadline" in reply.last_error["message"]
    assert (receipt["outcome"], receipt["reason"]) == ("broken", "hedged")
