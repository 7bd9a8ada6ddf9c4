"""One upstream at several addresses or with several keys: calls are shared out, and go where they can be answered."""

import random
from collections import Counter

import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Reply, Running, Start, chat, unasked
from tests.path.befalling import WELL, Setting, befall, key_of

HOUR_MS = 3_600_000
LONG_S = 250
# Who waits here at all fails the test.
PATIENT = f"server: {{attempts: 4, backoff_ms: {HOUR_MS}, wait_ms: {2 * HOUR_MS}}}"
LEFT_ALONE = f"health: {{failures: 3, open_ms: {HOUR_MS}, open_max_ms: {HOUR_MS}}}"


def endpoints(one: str, other: str, *, weights: tuple[float, float] = (1, 1), pool: str = "", more: str = "") -> str:
    """Return a configuration with a model at two endpoints, each with a key of its own, and another elsewhere."""
    return f"""
upstreams:
  pool:
    base_url: "{one}"
    key: sk-one
    weight: {weights[0]}
    endpoints: [{{base_url: "{other}", key: sk-other, weight: {weights[1]}}}]
    {pool}
  elsewhere: {{base_url: "{one}", key: sk-elsewhere}}
models:
  cheap:   {{upstream: pool, name: mock-cheap}}
  premium: {{upstream: elsewhere, name: mock-premium}}
routes: {{auto: {{ladder: [cheap, premium], threshold: 0}}}}
classifier: {{deadline_ms: 5000}}
{more or PATIENT}
"""


async def ask_many(running: Running, number: int, *, model: str = "cheap") -> list[Reply]:
    """Ask so often, one after the other."""
    return [await running.ask(chat(f"prompt {n}", model=model)) for n in range(number)]


@pytest.fixture
def _seeded() -> None:
    """The same draws in every run."""
    random.seed(1)


# ── shares ──


@pytest.mark.usefixtures("_seeded")
@pytest.mark.parametrize(("weights", "expected"), [((1, 1), 200), ((3, 1), 300), ((1, 3), 100), ((9, 1), 360)])
async def test_each_gets_the_share_of_its_weight(
    gateway: Start, first: MockUpstream, second: MockUpstream, weights: tuple[float, float], expected: int
) -> None:
    """Of 400 calls, within five standard deviations; each with its own key."""
    running = await gateway(endpoints(first.base_url, second.base_url, weights=weights))
    replies = await ask_many(running, 400)
    share = expected / 400

    assert {reply.status for reply in replies} == {200}
    assert first.journal.requests + second.journal.requests == 400
    assert abs(first.journal.requests - expected) <= 5 * (400 * share * (1 - share)) ** 0.5
    assert {key_of(call) for call in first.journal.calls} == {"sk-one"}
    assert {key_of(call) for call in second.journal.calls} == {"sk-other"}


@pytest.mark.usefixtures("_seeded")
async def test_one_with_much_to_do_gets_less(gateway: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Streams at the first never end: a new call goes there only where both of the two that are drawn are it."""
    first.turn(fault="stall", after=2)
    running = await gateway(endpoints(first.base_url, second.base_url))
    wires = [await running.wire(chat(f"prompt {n}", model="cheap", stream=True)) for n in range(100)]
    for wire in wires:
        await wire.until(b"\n\n")

    assert first.journal.requests + second.journal.requests == 100
    assert 10 <= first.journal.requests <= 40       # a quarter, not half


# ── where one fails, the other answers ──


@pytest.mark.usefixtures("_seeded")
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_a_dead_endpoints_calls_move_to_the_other(
    gateway: Start, refusing: str, first: MockUpstream, *, streamed: bool
) -> None:
    """Within the same request, without waiting; after three failures it is not called any more."""
    running = await gateway(endpoints(refusing, first.base_url, pool=LEFT_ALONE))
    replies = [await running.ask(chat(f"prompt {n}", model="cheap", stream=streamed)) for n in range(40)]
    receipts = await running.receipts.until(40)
    failed = [attempt for receipt in receipts for attempt in receipt["attempts"] if attempt["error"]]

    assert {(reply.status, reply.whole) for reply in replies} == {(200, True)}
    assert [receipt["outcome"] for receipt in receipts] == ["ok"] * 40
    assert len(failed) == 3
    assert first.journal.requests == 40


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_the_other_endpoint_comes_before_the_next_rung(
    gateway: Start, refusing: str, first: MockUpstream, *, streamed: bool
) -> None:
    """The model that was chosen answers, and the reason is the one it was chosen for."""
    text = endpoints(refusing, first.base_url).replace(f'{{base_url: "{refusing}"', f'{{base_url: "{first.base_url}"')
    running = await gateway(text)
    for n in range(12):
        reply = await running.ask(chat(f"prompt {n}", stream=streamed))

        assert (reply.status, reply.body) == (200, unasked(first.journal.last))
        assert (reply.headers["x-thriftgate-model"], reply.headers["x-thriftgate-reason"]) == ("cheap", "learned")
    receipts = await running.receipts.until(12)

    assert max(len(receipt["attempts"]) for receipt in receipts) == 2
    assert {call.model for call in first.journal.calls} == {"mock-cheap"}


async def test_each_is_asked_once_a_round(gateway: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Where both fail, the back-off comes before either is asked again."""
    first.turn(error_rate=1)
    second.turn(error_rate=1)
    running = await gateway(
        endpoints(first.base_url, second.base_url, more="server: {attempts: 4, backoff_ms: 1}")
    )
    reply = await running.ask(chat(model="cheap"))

    assert (reply.status, len(reply.error["attempts"])) == (502, 4)
    assert (first.journal.requests, second.journal.requests) == (2, 2)


# ── two keys at one address ──


@pytest.mark.usefixtures("_seeded")
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_a_key_at_its_limit_is_spared(gateway: Start, first: MockUpstream, *, streamed: bool) -> None:
    """The other key is used at once, and then alone, for as long as the provider said."""
    limit: Setting = {"error_rate": 1, "status": 429, "retry_after_s": LONG_S}
    befall(first, lambda call: limit if key_of(call) == "sk-one" else WELL)
    running = await gateway(endpoints(first.base_url, first.base_url))
    replies = [await running.ask(chat(f"prompt {n}", model="cheap", stream=streamed)) for n in range(20)]
    keys = Counter(map(key_of, first.journal.calls))

    assert {(reply.status, reply.whole) for reply in replies} == {(200, True)}
    assert keys == {"sk-one": 1, "sk-other": 20}


@pytest.mark.usefixtures("_seeded")
@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_is_spared(gateway: Start, first: MockUpstream, status: int) -> None:
    """A revoked key costs nobody an answer: the other is used at once, and alone after three refusals."""
    befall(first, lambda call: {"error_rate": 1, "status": status} if key_of(call) == "sk-one" else WELL)
    running = await gateway(endpoints(first.base_url, first.base_url, pool=LEFT_ALONE))
    replies = await ask_many(running, 40)
    keys = Counter(map(key_of, first.journal.calls))

    assert {reply.status for reply in replies} == {200}
    assert keys == {"sk-one": 3, "sk-other": 40}
    assert all(b"sk-" not in reply.body for reply in replies)


async def test_with_both_keys_at_their_limit_the_next_rung_answers(gateway: Start, first: MockUpstream) -> None:
    """Nobody waits for either; each was asked once."""
    limit: Setting = {"error_rate": 1, "status": 429, "retry_after_s": LONG_S}
    befall(first, lambda call: WELL if key_of(call) == "sk-elsewhere" else limit)
    running = await gateway(endpoints(first.base_url, first.base_url))
    replies = await ask_many(running, 3, model="auto")
    keys = Counter(map(key_of, first.journal.calls))

    assert [(reply.status, reply.headers["x-thriftgate-model"]) for reply in replies] == [(200, "premium")] * 3
    assert keys == {"sk-one": 1, "sk-other": 1, "sk-elsewhere": 3}


async def test_a_pool_without_a_retry_budget_has_one_call_for_all_its_endpoints(
    gateway: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """`retries: 0` means what it says: another endpoint of the same pool is a second call as well."""
    first.turn(error_rate=1)
    second.turn(error_rate=1)
    running = await gateway(endpoints(first.base_url, second.base_url, pool="retries: 0"))
    reply = await running.ask(chat(model="cheap"))

    assert (reply.status, len(reply.error["attempts"])) == (502, 1)
    assert first.journal.requests + second.journal.requests == 1
