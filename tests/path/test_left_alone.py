"""A target that fails is left alone while another is well, tried now and then, and never where there is no other."""

import asyncio

import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import BOUND_S, Running, Start, Wire, chat, two_rungs
from tests.path.befalling import until

HOUR_MS = 3_600_000
LONG = f"health: {{failures: 3, open_ms: {HOUR_MS}, open_max_ms: {HOUR_MS}}}"
SHORT = "health: {failures: 3, open_ms: 50, open_max_ms: 50}"
CHEAP, PREMIUM = "mock-cheap", "mock-premium"
FAILING: dict[str, dict[str, object]] = {
    "500": {"error_rate": 1, "status": 500},
    "401": {"error_rate": 1, "status": 401},
    "reset": {"fault": "cut-rst", "after": 0},
    "silent": {"fault": "hang"},
}


def models(mock: MockUpstream) -> list[str]:
    """Return the models that were called, in order."""
    return [call.model for call in mock.journal.calls]


def failed_calls(running: Running, model: str = "cheap") -> int:
    """Return how often a model is blamed."""
    return sum(each.health.failed_calls for each in running.gateway.with_.models[model].deployments)


async def begun(mock: MockUpstream, number: int) -> None:
    """Return once so many calls have begun."""
    await mock.journal.until(lambda journal: journal.requests >= number)


async def probe(running: Running, mock: MockUpstream) -> Wire:
    """Ask until a call goes to the cheap model again, and return the wire whose request that is."""
    async with asyncio.timeout(BOUND_S):
        while True:
            before = mock.journal.requests
            wire = await running.wire(chat(stream=True))
            await begun(mock, before + 1)
            if mock.journal.last.model == CHEAP:
                return wire
            await wire.until(b"[DONE]")


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
async def test_after_failures_in_a_row_it_is_left_alone(
    gateway: Start, first: MockUpstream, failing: dict[str, object], *, streamed: bool
) -> None:
    """Ten requests: three find it failing, and all are answered by the other; the last seven by that alone."""
    first.turn(CHEAP, **failing)
    patience = "first_output_ms: 50, total_ms: 200"
    running = await gateway(two_rungs(first.base_url, first.base_url, upstream=LONG, deadlines=patience))
    replies = [await running.ask(chat(f"prompt {n}", stream=streamed)) for n in range(10)]
    receipts = await running.receipts.until(10)

    assert {(reply.status, reply.whole, reply.headers["x-thriftgate-model"]) for reply in replies} == {
        (200, True, "premium")
    }
    assert models(first) == [CHEAP, PREMIUM] * 3 + [PREMIUM] * 7
    assert {receipt["reason"] for receipt in receipts} == {"fallback"}


async def test_breaking_off_counts_as_well(gateway: Start, first: MockUpstream) -> None:
    """Streams that begin well and break are failures, though each got its first word out."""
    first.turn(CHEAP, fault="cut-rst", after=4)
    running = await gateway(two_rungs(first.base_url, first.base_url, upstream=LONG))
    replies = [await running.ask(chat(f"prompt {n}", stream=True)) for n in range(5)]

    assert [reply.whole for reply in replies] == [False] * 3 + [True] * 2
    assert models(first) == [CHEAP] * 3 + [PREMIUM] * 2


async def test_a_success_between_breaks_the_row(gateway: Start, first: MockUpstream) -> None:
    """Two failures, a success, two failures: it is still asked."""
    running = await gateway(two_rungs(first.base_url, first.base_url, upstream=LONG))
    for rate in (1, 1, 0, 1, 1, 0):
        first.turn(CHEAP, error_rate=rate)
        reply = await running.ask()

    assert reply.headers["x-thriftgate-model"] == "cheap"
    assert models(first) == [CHEAP, PREMIUM, CHEAP, PREMIUM, CHEAP, CHEAP, PREMIUM, CHEAP, PREMIUM, CHEAP]


async def test_it_comes_back_after_one_good_probe(gateway: Start, first: MockUpstream) -> None:
    """Once its time is over one request tries it; that one is answered by it, and so are all that follow."""
    first.turn(CHEAP, error_rate=1)
    running = await gateway(two_rungs(first.base_url, first.base_url, upstream=SHORT))
    for n in range(3):
        await running.ask(chat(f"prompt {n}"))
    first.turn(CHEAP, error_rate=0)
    tried = await probe(running, first)
    await tried.until(b"[DONE]")
    before = first.journal.requests
    replies = [await running.ask(chat(f"again {n}")) for n in range(5)]

    assert {reply.headers["x-thriftgate-reason"] for reply in replies} == {"learned"}
    assert models(first)[before:] == [CHEAP] * 5


async def test_only_one_request_is_a_probe(gateway: Start, first: MockUpstream) -> None:
    """While it hangs all others go to the target that is well; where its client leaves, the next one is the probe."""
    first.turn(CHEAP, error_rate=1)
    running = await gateway(two_rungs(first.base_url, first.base_url, upstream=SHORT))
    for n in range(3):
        await running.ask(chat(f"prompt {n}"))
    first.turn(CHEAP, error_rate=0, fault="hang")
    tried = await probe(running, first)
    before = first.journal.requests
    replies = await asyncio.gather(*(running.ask(chat(f"meanwhile {n}")) for n in range(10)))
    meanwhile = models(first)[before:]
    tried.leave()
    await first.journal.until(lambda journal: journal.cancelled == 1)
    await until(lambda: not running.gateway.with_.models["cheap"].pool.slots.in_flight)
    first.turn(CHEAP, fault="")
    reply = await running.ask()

    assert {reply.status for reply in replies} == {200}
    assert meanwhile == [PREMIUM] * 10
    assert reply.headers["x-thriftgate-model"] == "cheap"


async def test_a_failed_probe_costs_its_request_nothing(gateway: Start, first: MockUpstream) -> None:
    """It is answered by the other target, like those before it."""
    first.turn(CHEAP, error_rate=1)
    running = await gateway(two_rungs(first.base_url, first.base_url, upstream=SHORT))
    for n in range(3):
        await running.ask(chat(f"prompt {n}"))
    tried = await probe(running, first)

    assert b"200 OK" in await tried.until(b"[DONE]")
    assert models(first)[-2:] == [CHEAP, PREMIUM]


@pytest.mark.parametrize("model", ["cheap", "auto"])
async def test_alone_it_is_asked_all_the_same(gateway: Start, first: MockUpstream, model: str) -> None:
    """A breaker is an opinion: nobody is refused for it where there is nowhere else to go; a success closes it."""
    first.turn(error_rate=1)
    text = two_rungs(first.base_url, first.base_url, upstream=LONG, more="server: {attempts: 1}")
    running = await gateway(text.replace("ladder: [cheap, premium]", "ladder: [cheap]"))
    failed = [await running.ask(chat(f"prompt {n}", model=model)) for n in range(6)]
    first.turn(error_rate=0)
    well = [await running.ask(chat(f"again {n}", model=model)) for n in range(6)]

    assert [reply.status for reply in failed] == [502] * 6
    assert [reply.status for reply in well] == [200] * 6
    assert first.journal.requests == 12
    assert running.gateway.with_.models["cheap"].deployments[0].health.state(0) == "closed"


async def test_where_all_are_left_alone_all_are_asked(gateway: Start, first: MockUpstream) -> None:
    """Both rungs failed for long: the next request still tries both, in their order."""
    first.turn(error_rate=1)
    text = two_rungs(first.base_url, first.base_url, upstream=LONG)
    running = await gateway(text.replace("key: sk-second-upstream", f"key: sk-second-upstream, {LONG}"))
    for n in range(4):
        await running.ask(chat(f"prompt {n}"))
    before = first.journal.requests
    first.turn(PREMIUM, error_rate=0)
    reply = await running.ask()

    assert (reply.status, reply.headers["x-thriftgate-model"]) == (200, "premium")
    assert models(first)[before:] == [CHEAP, PREMIUM]


@pytest.mark.parametrize("dials", [{"fault": "hang"}, {"fault": "stall", "after": 1}, {"fault": "stall", "after": 4}],
                         ids=["before the headers", "after the role", "in mid-stream"])
async def test_a_client_that_leaves_blames_nobody(
    gateway: Start, first: MockUpstream, dials: dict[str, object]
) -> None:
    """Ten leave, and the model is asked as before."""
    first.turn(CHEAP, **dials)
    strict = LONG.replace("failures: 3", "failures: 1")
    running = await gateway(two_rungs(first.base_url, first.base_url, upstream=strict))
    for n in range(10):
        wire = await running.wire(chat(f"prompt {n}", stream=True))
        await begun(first, n + 1)
        wire.leave()
        await until(lambda: first.journal.cancelled == first.journal.requests)
    await running.receipts.until(10)
    first.turn(CHEAP, fault="")
    reply = await running.ask()

    assert (reply.status, reply.headers["x-thriftgate-model"]) == (200, "cheap")
    assert failed_calls(running) == 0


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_fault_of_the_callers_blames_nobody(gateway: Start, first: MockUpstream, status: int) -> None:
    """A client that sends nonsense cannot have a model left alone."""
    first.turn(CHEAP, error_rate=1, status=status)
    strict = LONG.replace("failures: 3", "failures: 1")
    running = await gateway(two_rungs(first.base_url, first.base_url, upstream=strict))
    replies = [await running.ask(chat(model="cheap")) for _ in range(5)]

    assert {reply.status for reply in replies} == {status}
    assert failed_calls(running) == 0


async def test_each_model_of_an_upstream_has_its_own_record(gateway: Start, first: MockUpstream) -> None:
    """One that is down says nothing of its neighbour at the same address, with the same key."""
    first.turn(CHEAP, error_rate=1)
    text = two_rungs(first.base_url, first.base_url, upstream=LONG).replace("upstream: second", "upstream: first")
    running = await gateway(text)
    replies = [await running.ask(chat(f"prompt {n}")) for n in range(6)]

    assert {(reply.status, reply.headers["x-thriftgate-model"]) for reply in replies} == {(200, "premium")}
    assert (failed_calls(running), failed_calls(running, "premium")) == (3, 0)
