"""A target is asked again where that may help: after a back-off, within a budget, and never while another is well."""

import asyncio
import random
from typing import Any

import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Start, chat, two_rungs, unasked
from tests.path.befalling import WELL, Setting, by_turns, until

HOUR_MS = 3_600_000
LONG_S = 250        # shorter than the longest that a gateway lets itself be sent away for, and longer than any test
# Who waits here at all fails the test.
PATIENT = f"server: {{attempts: 20, backoff_ms: {HOUR_MS}, wait_ms: {2 * HOUR_MS}}}"
QUICK = "server: {attempts: 4, backoff_ms: 1, wait_ms: 5000}"
ONCE: dict[str, Setting] = {
    "500": {"error_rate": 1, "status": 500},
    "502": {"error_rate": 1, "status": 502},
    "503": {"error_rate": 1, "status": 503, "retry_after_s": 0.01},
    "529": {"error_rate": 1, "status": 529, "retry_after_s": 0.01},
    "429": {"error_rate": 1, "status": 429, "retry_after_s": 0.01},
    "reset": {"fault": "cut-rst", "after": 0},
    "closed": {"fault": "cut-fin", "after": 0},
}
BEGUN: dict[str, Setting] = {
    "an error as its first event": {"fault": "error-frame", "after": 0},
    "an error after the role": {"fault": "error-frame", "after": 1},
    "reset after the role": {"fault": "cut-rst", "after": 1},
    "a role and an end": {"fault": "role-only", "stall_ms": 1},
}


def throttled(seconds: float) -> Setting:
    """A provider that wants to be left alone for so long."""
    return {"error_rate": 1, "status": 429, "retry_after_s": seconds}


def statuses(receipt: dict[str, Any]) -> list[int | None]:
    """Return what came of each attempt."""
    return [attempt["status"] for attempt in receipt["attempts"]]


# ── what may pass is asked again ──


@pytest.mark.parametrize("once", ONCE.values(), ids=ONCE)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_a_model_that_fails_once_is_asked_again(
    serve: Start, first: MockUpstream, once: Setting, *, streamed: bool
) -> None:
    """The caller, who named the model, gets its answer and a 200; the receipt has both attempts."""
    by_turns(first, once, WELL)
    running = await serve(more=QUICK)
    reply = await running.ask(chat(model="cheap", stream=streamed))
    receipt = await running.receipt()

    assert (reply.status, reply.whole, reply.body) == (200, True, unasked(first.journal.last))
    assert (receipt["outcome"], receipt["reason"], receipt["model"]) == ("ok", "explicit", "cheap")
    assert [(attempt["model"], bool(attempt["error"])) for attempt in receipt["attempts"]] == [
        ("cheap", True), ("cheap", False)
    ]
    assert first.journal.requests == 2


@pytest.mark.parametrize("once", BEGUN.values(), ids=BEGUN)
async def test_a_stream_that_fails_before_its_first_word_is_asked_again(
    serve: Start, first: MockUpstream, once: Setting
) -> None:
    """Nothing of the failed one is shown: the answer begins once."""
    by_turns(first, once, WELL)
    running = await serve(more=QUICK)
    reply = await running.ask(chat(model="cheap", stream=True))

    assert (reply.status, reply.whole, reply.body) == (200, True, unasked(first.journal.last))
    assert len((await running.receipt())["attempts"]) == 2


@pytest.mark.parametrize(("status", "told"), [(400, 400), (401, 502), (403, 502), (404, 502), (413, 413)])
async def test_what_will_not_pass_is_not_asked_again(
    serve: Start, first: MockUpstream, status: int, told: int
) -> None:
    """A fault of the request's or of our configuration is the same a moment later: one call, and no waiting."""
    first.turn(error_rate=1, status=status)
    running = await serve(more=PATIENT)
    reply = await running.ask(chat(model="cheap"))

    assert reply.status == told
    assert statuses(await running.receipt()) == [status]
    assert first.journal.requests == 1


@pytest.mark.parametrize("chance", [0.5, 1.5])
async def test_the_back_off_is_jittered_and_doubles(
    serve: Start, first: MockUpstream, monkeypatch: pytest.MonkeyPatch, chance: float
) -> None:
    """More or less than configured by chance, so that a crowd does not come back as one, and twice as long next."""
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        """Draw what the test wants."""
        drawn.append((low, high))
        return chance

    monkeypatch.setattr(random, "uniform", draw)
    by_turns(first, ONCE["500"], ONCE["500"], WELL)
    running = await serve(more="server: {attempts: 3, backoff_ms: 40}")
    reply = await running.ask(chat(model="cheap"))
    one, two, three = first.journal.calls

    assert reply.status == 200
    assert drawn == [(0.5, 1.5)] * 2
    assert two.started - one.ended >= 0.040 * chance * 0.8       # the loop's timers are early at times
    assert three.started - two.ended >= 0.080 * chance * 0.8


async def test_when_all_have_failed_the_round_begins_again(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """Every target once, then, after the back-off, the first of them."""
    by_turns(first, ONCE["500"], WELL)
    second.turn(error_rate=1, status=503, retry_after_s=LONG_S)
    running = await serve(more=QUICK)
    reply = await running.ask()
    receipt = await running.receipt()

    assert (reply.status, reply.headers["x-thriftgate-model"]) == (200, "cheap")
    assert [attempt["model"] for attempt in receipt["attempts"]] == ["cheap", "premium", "cheap"]


# ── Retry-After ──


async def test_longer_than_the_patience_is_passed_on_at_once(serve: Start, first: MockUpstream) -> None:
    """The 429 and its Retry-After are the caller's to know; nobody sits it out in the gateway."""
    first.turn(**throttled(LONG_S))
    running = await serve(more=f"server: {{wait_ms: {LONG_S * 1000 - 1000}}}")
    reply = await running.ask(chat(model="cheap"))

    assert (reply.status, reply.headers["Retry-After"]) == (429, str(LONG_S))
    assert reply.error["code"] == "rate_limit_exceeded"
    assert statuses(await running.receipt()) == [429]
    assert first.journal.requests == 1


async def test_shorter_than_the_patience_is_waited_for(serve: Start, first: MockUpstream) -> None:
    """Not asked before its time, and then answered."""
    by_turns(first, throttled(0.15), WELL)
    running = await serve(more=QUICK)
    reply = await running.ask(chat(model="cheap"))
    refused, answered = first.journal.calls

    assert reply.status == 200
    assert statuses(await running.receipt()) == [429, 200]
    assert answered.started - refused.ended > 0.1


async def test_others_respect_it_as_well(serve: Start, first: MockUpstream) -> None:
    """A request that comes meanwhile is not sent before its time either."""
    by_turns(first, throttled(0.3), WELL)
    running = await serve(more=QUICK)
    one = await running.wire(chat(model="cheap"))
    await first.journal.until(lambda journal: journal.refused == 1)
    await until(lambda: running.gateway.with_.models["cheap"].deployments[0].health.throttled == 1)
    replies = [await running.ask(chat(model="cheap")), await one.reply()]
    refused, *answered = first.journal.calls

    assert [reply.status for reply in replies] == [200, 200]
    assert len(answered) == 2
    assert all(call.started - refused.ended > 0.2 for call in answered)


async def test_who_comes_while_it_is_left_alone_is_told_for_how_long(serve: Start, first: MockUpstream) -> None:
    """Nothing is sent, and the caller learns when it may be."""
    first.turn(**throttled(LONG_S))
    running = await serve()
    await running.ask(chat(model="cheap"))
    reply = await running.ask(chat(model="cheap"))

    assert (reply.status, reply.error["code"]) == (503, "overloaded")
    assert LONG_S - 60 < int(reply.headers["Retry-After"]) <= LONG_S
    assert first.journal.requests == 1


@pytest.mark.parametrize("status", [429, 503, 529, 500])
async def test_complaint_21_nobody_waits_while_another_target_is_well(
    serve: Start, first: MockUpstream, second: MockUpstream, status: int
) -> None:
    """Whatever the first asks for, the next is called at once (complaint 21); later requests go straight there."""
    first.turn(error_rate=1, status=status, retry_after_s=LONG_S)
    running = await serve(more=PATIENT, upstream="health: {failures: 1, open_ms: 3600000, open_max_ms: 3600000}")
    replies = [await running.ask() for _ in range(3)]
    receipts = await running.receipts.until(3)

    assert [(reply.status, reply.headers["x-thriftgate-reason"]) for reply in replies] == [(200, "fallback")] * 3
    assert [statuses(receipt) for receipt in receipts] == [[status, 200], [200], [200]]
    assert (first.journal.requests, second.journal.requests) == (1, 3)


# ── bounds ──


@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_attempts_bound_the_calls_of_a_request(serve: Start, first: MockUpstream, attempts: int) -> None:
    """So many calls to a model that always fails, then the error that says so."""
    first.turn(error_rate=1)
    running = await serve(more=f"server: {{attempts: {attempts}, backoff_ms: 1}}")
    reply = await running.ask(chat(model="cheap"))

    assert (reply.status, len(reply.error["attempts"])) == (502, attempts)
    assert statuses(await running.receipt()) == [500] * attempts
    assert first.journal.requests == attempts


async def test_attempts_bound_them_over_all_targets(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Two targets share the three calls."""
    first.turn(error_rate=1)
    second.turn(error_rate=1)
    running = await serve(more="server: {attempts: 3, backoff_ms: 1}")
    await running.ask()
    receipt = await running.receipt()

    assert [attempt["model"] for attempt in receipt["attempts"]] == ["cheap", "premium", "cheap"]


async def test_without_a_budget_a_pool_is_called_once_a_request(
    gateway: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """`retries: 0` at both: each is asked once, and nobody waits for a second time that may not come."""
    first.turn(error_rate=1)
    second.turn(error_rate=1, status=503, retry_after_s=0.01)
    text = two_rungs(first.base_url, second.base_url, upstream="retries: 0", more=PATIENT)
    running = await gateway(text.replace("key: sk-second-upstream", "key: sk-second-upstream, retries: 0"))
    replies = [await running.ask(), await running.ask(chat(model="cheap"))]
    receipts = await running.receipts.until(2)

    assert [reply.status for reply in replies] == [502, 502]
    assert [statuses(receipt) for receipt in receipts] == [[500, 503], [500]]


@pytest.mark.parametrize("share", [0.1, 0.5])
async def test_retries_do_not_multiply_an_outage(serve: Start, first: MockUpstream, share: float) -> None:
    """300 requests to a model that always fails: their share more in calls, ten to begin with and one a second."""
    first.turn(error_rate=1)
    running = await serve(upstream=f"retries: {share}, health: {{failures: 1000}}", more=QUICK)
    for _ in range(10):
        await asyncio.gather(*(running.ask(chat(model="cheap")) for _ in range(30)))
    lasted_s = first.journal.last.started - first.journal.calls[0].started
    most = 300 * (1 + share) + 10 + lasted_s

    assert 300 * (1 + share) < first.journal.requests <= most
