"""How long anything may take: the caller's own deadline over all of it, a route's and a model's over each phase."""

import asyncio
from typing import Any

import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Start, chat, two_rungs, unasked
from tests.path.befalling import until
from tests.path.conftest import END, EVENT, FINISH, STREAM, Scripted, chunk
from tests.path.surfaces import BEGIN, SURFACES, asked, error_of, three

HOUR_MS = 3_600_000
DEADLINE = "x-thriftgate-deadline-ms"
STREAMED = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
TIMED_OUT = {
    "openai": "upstream_error", "responses": "upstream_error", "anthropic": "timeout_error",
    "gemini": "DEADLINE_EXCEEDED",
}
PATIENT = f"server: {{attempts: 20, backoff_ms: 20, wait_ms: {HOUR_MS}}}"
SLOW = f"first_output_ms: {HOUR_MS}, idle_ms: {HOUR_MS}, total_ms: {HOUR_MS}"


def blamed(running: Any, model: str = "cheap") -> int:
    """Return how many failures a model is blamed for."""
    return int(running.gateway.with_.models[model].deployments[0].health.failed_calls)


# ── the caller's ──


@STREAMED
@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
async def test_a_silent_provider_is_left_when_the_caller_said(
    gateway: Start, first: MockUpstream, surface: str, provider: str, *, streamed: bool
) -> None:
    """504 in the caller's own form; the call is ended at the provider, which is not blamed for the caller's haste."""
    first.turn(fault="hang")
    running = await gateway(three(first, more=PATIENT))
    path, body = asked(surface, f"of-{provider}", stream=streamed)
    reply = await running.ask(body, {DEADLINE: "100"}, path)
    receipt = await running.receipt()
    kind, message, request_id = error_of(surface, reply)
    await first.journal.until(lambda journal: journal.cancelled == 1)

    assert (reply.status, kind) == (504, TIMED_OUT[surface])
    assert "deadline" in message
    assert request_id == receipt["request_id"]
    assert (receipt["outcome"], receipt["status"], len(receipt["attempts"])) == ("failed", 504, 1)
    assert receipt["total_ms"] > 50
    assert blamed(running, f"of-{provider}") == 0


@STREAMED
async def test_no_other_target_is_tried_once_it_has_passed(
    serve: Start, first: MockUpstream, second: MockUpstream, *, streamed: bool
) -> None:
    """Nobody would take the answer."""
    first.turn(fault="hang")
    running = await serve(more=PATIENT)
    reply = await running.ask(chat(stream=streamed), {DEADLINE: "100"})

    assert reply.status == 504
    assert second.journal.requests == 0


async def test_a_shorter_deadline_of_the_models_leaves_time_for_another(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """The first target has its own patience, the second the rest of the caller's."""
    first.turn(fault="hang")
    running = await serve(deadlines="first_output_ms: 50")
    reply = await running.ask(chat(stream=True), {DEADLINE: "14000"})

    assert (reply.status, reply.headers["x-thriftgate-model"]) == (200, "premium")
    assert blamed(running) == 1


async def test_it_bounds_the_retries(serve: Start, first: MockUpstream) -> None:
    """Back-offs double up to hours: none is begun that would end behind the deadline, and the failure is told."""
    first.turn(error_rate=1)
    running = await serve(more=PATIENT, upstream="retries: 10")
    reply = await running.ask(chat(model="cheap"), {DEADLINE: "300"})
    receipt = await running.receipt()

    assert reply.status == 502
    assert 1 <= len(receipt["attempts"]) < 10
    assert receipt["attempts"][0]["status"] == 500


async def test_it_bounds_the_wait_for_one_who_wants_to_be_left_alone(serve: Start, first: MockUpstream) -> None:
    """Within the gateway's patience, not within the caller's: told at once."""
    first.turn(error_rate=1, status=429, retry_after_s=250)
    running = await serve(more=PATIENT)
    reply = await running.ask(chat(model="cheap"), {DEADLINE: "10000"})

    assert (reply.status, reply.headers["Retry-After"]) == (429, "250")
    assert first.journal.requests == 1


@STREAMED
@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(
    ("limits", "waiting"),
    [("slots: 1, queue: 9", "pool"), ("", "server")], ids=["for a slot of an upstream", "for the gateway itself"],
)
async def test_it_bounds_the_queueing(
    gateway: Start, first: MockUpstream, surface: str, limits: str, waiting: str, *, streamed: bool
) -> None:
    """Who still queues when it passes is told so in its own form; nothing was sent for it."""
    first.turn(fault="hang")
    concurrency = 1 if waiting == "server" else 9
    server = f"server: {{wait_ms: {HOUR_MS}, concurrency: {concurrency}}}"
    text = three(first, more=server).replace("dialect: openai,", f"dialect: openai, {limits},".replace(", ,", ","))
    running = await gateway(text)
    holding = await running.wire(chat(model="of-openai"))
    await first.journal.until(lambda journal: journal.in_flight == 1)
    path, body = asked(surface, "of-openai", stream=streamed)
    reply = await running.ask(body, {DEADLINE: "100"}, path)
    receipt = await running.receipt()
    holding.leave()

    assert (reply.status, error_of(surface, reply)[0]) == (504, TIMED_OUT[surface])
    assert (receipt["outcome"], receipt["attempts"]) == ("failed", [])
    assert receipt["queued_ms"] > 50
    assert first.journal.requests == 1


async def test_it_ends_a_running_stream(serve: Start, first: MockUpstream) -> None:
    """What came is passed on; the end says that the time is over."""
    first.turn(fault="stall", after=3)
    running = await serve(deadlines=SLOW)
    reply = await running.ask(chat(stream=True), {DEADLINE: "400"})
    receipt = await running.receipt()

    assert (reply.status, reply.whole) == (200, False)
    assert reply.body.startswith(unasked(first.journal.last))
    assert "total deadline" in reply.last_error["message"]
    assert receipt["outcome"] == "broken"


@STREAMED
async def test_an_answer_in_time_is_not_touched(serve: Start, first: MockUpstream, *, streamed: bool) -> None:
    """The header is ours: it does not travel on, and changes nothing of an answer that is in time."""
    running = await serve()
    reply = await running.ask(chat(stream=streamed), {DEADLINE: "14000"})

    assert (reply.status, reply.whole, reply.body) == (200, True, unasked(first.journal.last))
    assert DEADLINE not in first.journal.last.headers


@pytest.mark.parametrize("said", ["", "soon", "0", "-5", "1.5", "1e3", "0x10", "\u0661\u0660", "9" * 13, "5000, 6000"])
@pytest.mark.parametrize("surface", SURFACES)
async def test_nonsense_is_refused_by_its_name(gateway: Start, first: MockUpstream, surface: str, said: str) -> None:
    """A deadline that cannot be read is no deadline the caller could rely on: 400, and nothing is sent."""
    running = await gateway(three(first))
    path, body = asked(surface, "of-openai")
    reply = await running.ask(body, {DEADLINE: said}, path)

    assert reply.status == 400
    assert DEADLINE in error_of(surface, reply)[1]
    assert (await running.receipt())["outcome"] == "refused"
    assert first.journal.requests == 0


@pytest.mark.parametrize("kind", ["embeddings", "completions"])
async def test_it_holds_for_what_passes_through(serve: Start, scripted: Scripted, gateway: Start, kind: str) -> None:
    """Embeddings and plain completions as well."""
    script = await scripted(asyncio.Event())
    running = await gateway(two_rungs(script.base_url, script.base_url))
    body = {"model": "cheap", "input": "x"} if kind == "embeddings" else {"model": "cheap", "prompt": "x"}
    reply = await running.ask(body, {DEADLINE: "100"}, f"/v1/{kind}")

    assert reply.status == 504


# ── the route's ──


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_a_routes_deadlines_are_its_models(
    serve: Start, first: MockUpstream, second: MockUpstream, *, streamed: bool
) -> None:
    """A model that may take an hour has 50 ms on this route; by its own name it still has the hour."""
    first.turn(fault="hang")
    phase = "first_output_ms: 50" if streamed else "first_output_ms: 50, total_ms: 14000"
    running = await serve(deadlines=f"first_output_ms: {HOUR_MS}, total_ms: {HOUR_MS if streamed else 50}",
                          route=f"threshold: 0, deadlines: {{{phase}}}" if streamed else "threshold: 0")
    reply = await running.ask(chat(stream=streamed))
    named = await running.wire(chat(model="cheap", stream=True))
    await first.journal.until(lambda journal: journal.requests == 2)
    named.leave()

    assert (reply.status, reply.headers["x-thriftgate-model"]) == (200, "premium")


async def test_a_route_may_be_more_patient_than_its_models(gateway: Start, scripted: Scripted) -> None:
    """The model's own 1 ms would never do."""
    go = asyncio.Event()
    script = await scripted(go, STREAM + chunk(EVENT), chunk(FINISH) + END)
    patient = f"threshold: 0, deadlines: {{first_output_ms: {HOUR_MS}, idle_ms: {HOUR_MS}}}"
    running = await gateway(
        two_rungs(script.base_url, script.base_url, deadlines="first_output_ms: 1, idle_ms: 1", route=patient)
    )
    wire = await running.wire(chat(stream=True))
    await script.asked.wait()
    go.set()

    assert b"200 OK" in await wire.until(b"[DONE]")
    assert len((await running.receipt())["attempts"]) == 1


async def test_a_routes_total_is_the_whole_requests(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Two silent targets share it."""
    first.turn(fault="hang")
    second.turn(fault="hang")
    running = await serve(
        deadlines="first_output_ms: 100", route="threshold: 0, deadlines: {total_ms: 300}", more=PATIENT
    )
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert reply.status == 504
    assert [attempt["model"] for attempt in receipt["attempts"]] == ["cheap", "premium"]
    assert sum(attempt["wait_ms"] for attempt in receipt["attempts"]) > 200


# ── first output, idle, total ──

NO_OUTPUT: dict[str, tuple[str, bytes]] = {
    "a role": ("openai", b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'),
    "a count": ("openai", b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":0}}\n\n'),
    "a comment": ("openai", b": keep-alive\n\n"),
    "a beginning": ("anthropic", BEGIN["anthropic"][0]),
    "a ping": ("anthropic", BEGIN["anthropic"][0] + b'event: ping\ndata: {"type": "ping"}\n\n'),
    "an empty block": ("anthropic", b"".join(BEGIN["anthropic"][:2])),
    "a count of Google's": ("gemini", b'data: {"usageMetadata":{"promptTokenCount":9}}\n\n'),
}


@pytest.mark.parametrize("name", NO_OUTPUT)
async def test_complaint_22_what_says_nothing_is_no_first_output(
    gateway: Start, scripted: Scripted, second: MockUpstream, name: str
) -> None:
    """A provider that only clears its throat is as silent as one that sends nothing (complaint 22)."""
    dialect, frame = NO_OUTPUT[name]
    script = await scripted(STREAM + chunk(frame), asyncio.Event())
    text = two_rungs(
        script.base_url, second.base_url, upstream=f"dialect: {dialect}", deadlines="first_output_ms: 150"
    )
    running = await gateway(text)
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert (reply.status, reply.whole, reply.body) == (200, True, unasked(second.journal.last))
    assert "first_output deadline" in receipt["attempts"][0]["error"]


async def test_a_provider_that_keeps_on_clearing_its_throat_is_left_as_well(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """Comments without end do not begin the time anew."""
    first.turn(raw=(b": still here\n\n",) * 100_000, tokens_per_s=200)
    running = await serve(deadlines="first_output_ms: 150")
    reply = await running.ask(chat(stream=True))
    await first.journal.until(lambda journal: journal.cancelled == 1)

    assert (reply.status, reply.headers["x-thriftgate-model"]) == (200, "premium")
    assert first.journal.last.chunks_sent > 1


async def test_silence_between_two_events_is_bounded(serve: Start, first: MockUpstream) -> None:
    """The stream is ended honestly, and the call at the provider too."""
    first.turn(fault="stall", after=4)
    running = await serve(deadlines="idle_ms: 100")
    reply = await running.ask(chat(stream=True))
    await first.journal.until(lambda journal: journal.cancelled == 1)

    assert not reply.whole
    assert "idle deadline" in reply.last_error["message"]


async def test_every_event_begins_the_silence_anew(serve: Start, first: MockUpstream) -> None:
    """A stream may last longer than the silence that is allowed in it."""
    first.turn(tokens=40, tokens_per_s=40)
    running = await serve(deadlines="idle_ms: 900")
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert (reply.whole, receipt["outcome"]) == (True, "ok")
    assert receipt["total_ms"] > 900


async def test_a_whole_answer_has_its_total_only(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """It arrives when the model has finished: neither its first output nor a silence can be late."""
    first.turn(ttft_ms=150)
    running = await serve(deadlines="first_output_ms: 1, idle_ms: 1")
    reply = await running.ask()
    first.turn(fault="hang")
    await running.receipts.until(1)

    assert (reply.status, reply.headers["x-thriftgate-model"]) == (200, "cheap")
    assert second.journal.requests == 0


async def test_a_whole_answer_that_is_late_is_left(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """And another target's is taken."""
    first.turn(fault="hang")
    running = await serve(deadlines="total_ms: 100")
    reply = await running.ask()
    await first.journal.until(lambda journal: journal.cancelled == 1)

    assert (reply.status, reply.headers["x-thriftgate-model"]) == (200, "premium")
    assert "total deadline" in (await running.receipt())["attempts"][0]["error"]


async def test_a_caller_without_a_deadline_waits_in_the_queue(serve: Start, first: MockUpstream) -> None:
    """As long as the operator's patience goes, and is then answered."""
    first.turn(fault="hang")
    running = await serve(more=f"server: {{wait_ms: {HOUR_MS}}}", upstream="slots: 1")
    holding = await running.wire(chat(model="cheap"))
    await first.journal.until(lambda journal: journal.in_flight == 1)
    first.turn(fault="")
    waiting = await running.wire(chat(model="cheap"))
    await until(lambda: running.gateway.with_.models["cheap"].pool.slots.waiting == 1)
    holding.leave()

    assert (await waiting.reply()).status == 200
