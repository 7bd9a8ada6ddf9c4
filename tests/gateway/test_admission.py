"""Admission: alone and exact, with Redis in one round trip, and without the Redis that should be there."""

import asyncio
import contextlib
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from gateway.admission import KEEP_US, Admission, Ticket
from gateway.config import LimitsConfig, Secret, SharedConfig
from gateway.errors import RateLimited, Unavailable
from gateway.limits import Limited
from gateway.metrics import Metrics
from gateway.shared import client
from gateway.shared.client import OPEN_S, Shared
from tests.services import Redis

ROOT = Path(__file__).parent.parent.parent
BOUND_S = 30.0          # how long anything is waited for; reached only by a test that fails
FREE = LimitsConfig()


def limited(name: str, **limits: int) -> Limited:
    """Return a name with these limits."""
    return Limited(name, LimitsConfig(**limits))


class Clock:
    """Stands still but when it is set forward."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Node:
    """A node: its admission, its Redis, its clock, what it counts."""

    def __init__(self, config: SharedConfig) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.shared = None if config.url is None else Shared(config, self.clock)
        self.admission = Admission(config, self.shared, self.metrics, self.clock)

    async def admit(self, *required: Limited, alternatives: tuple[Limited, ...] = (), tokens: int = 0) -> Ticket:
        """Let a request in."""
        return await self.admission.admit(required, alternatives, tokens)

    async def passes(self, *required: Limited, alternatives: tuple[Limited, ...] = (), tokens: int = 0) -> bool:
        """Say whether a request is let in; then it runs on."""
        try:
            await self.admit(*required, alternatives=alternatives, tokens=tokens)
        except (RateLimited, Unavailable):
            return False
        return True

    async def many(self, *required: Limited) -> int:
        """Return how many requests are let in until one is not."""
        passed = 0
        while await self.passes(*required):
            passed += 1
        return passed

    def counted(self, name: str, **labels: str) -> float:
        """Return what a counter says."""
        return self.metrics.registry.get_sample_value(f"thriftgate_{name}_total", labels) or 0

    async def close(self) -> None:
        """Leave."""
        await self.admission.close()
        if self.shared is not None:
            await self.shared.close()


Join = Callable[..., Node]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange with a Redis that hangs goes on when it does, however long the test takes until then."""
    monkeypatch.setattr(client, "PATIENCE_S", BOUND_S)


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    """`join(redis)`: a node of that Redis, or alone. It is patient, unless told otherwise."""
    joined: list[Node] = []

    def join_(redis: Redis | None = None, **settings: Any) -> Node:
        """Have one join."""
        url = None if redis is None else Secret(redis.url)
        joined.append(Node(SharedConfig(**{"url": url, "timeout_ms": int(BOUND_S * 1000), **settings})))
        return joined[-1]

    yield join_
    for each in joined:
        await each.close()


@pytest.fixture
def alone(join: Join) -> Node:
    """A node without Redis."""
    return join()


# ---- alone


async def test_who_is_over_a_limit_is_told_which_and_when_to_come_again(alone: Node) -> None:
    """429, in the words of the limit, with whole seconds, one at least."""
    key = limited("key:app", requests_per_minute=60, requests_burst=1)
    route = limited("route:auto", tokens_per_minute=600)
    model = limited("model:small", concurrency=3)
    await alone.admit(key)
    await alone.admit(route, tokens=600)
    for _ in range(3):
        await alone.admit(alternatives=(model,))
    alone.clock.now_s += 0.5
    said = []
    for required, alternatives, tokens in (([key], [], 0), ([route], [], 100), ([], [model], 0)):
        with pytest.raises(RateLimited) as refused:
            await alone.admission.admit(required, alternatives, tokens)
        said.append((refused.value.message, refused.value.headers))

    assert [
        ("The key 'app' may send 60 requests a minute; try again in 1 s.", {"Retry-After": "1"}),
        ("The route 'auto' may use 600 tokens a minute; try again in 10 s.", {"Retry-After": "10"}),
        ("The model 'small' may have 3 requests at once; try again in 1 s.", {"Retry-After": "1"}),
    ] == said
    assert [1, 1, 1] == [
        alone.counted("limited", of="key", limit="requests"), alone.counted("limited", of="route", limit="tokens"),
        alone.counted("limited", of="model", limit="concurrency"),
    ]


async def test_nothing_is_awaited_without_redis(alone: Node) -> None:
    """What only this process decides is decided at once: no other task runs in between."""
    ticket = alone.admit(limited("key:app", requests_per_minute=60))

    with pytest.raises(StopIteration) as ended:
        ticket.send(None)
    assert isinstance(ended.value.value, Ticket)


async def test_a_thousand_at_once_get_the_burst(alone: Node) -> None:
    """Exactly."""
    key = limited("key:app", requests_per_minute=6_000, requests_burst=123)
    passed = await asyncio.gather(*(alone.passes(key) for _ in range(1_000)))

    assert 123 == sum(passed)


async def test_a_peek_refuses_who_is_over_and_takes_nothing(alone: Node) -> None:
    """So that nothing is done for a request that would be refused; what has room is not touched."""
    key, route = limited("key:app", concurrency=1), limited("route:auto", requests_per_minute=2)
    for _ in range(10):
        alone.admission.peek([key, route, Limited("key:free", FREE)])
    ticket = await alone.admit(key, route)
    with pytest.raises(RateLimited):
        alone.admission.peek([key, route])
    ticket.close()

    alone.admission.peek([key, route])


async def test_the_first_model_with_room_is_chosen(alone: Node) -> None:
    """And another may be called only as far as it has room; it is taken then, once."""
    small, large = limited("model:small", concurrency=1), limited("model:large", concurrency=2)
    free = Limited("model:free", FREE)
    first, second, third = [await alone.admit(alternatives=(small, large, free)) for _ in range(3)]

    assert [0, 1, 1] == [first.chosen, second.chosen, third.chosen]
    assert [False, True, True] == [first.may_call(model) for model in ("large", "free", "small")]
    second.close()
    assert [True, True] == [first.may_call("large"), first.may_call("large")]
    assert not third.may_call("small")
    first.close()
    third.close()
    assert [True, True, False] == [await alone.passes(alternatives=(large,)) for _ in range(3)]


async def test_tokens_are_settled_with_the_model_that_answered(alone: Node) -> None:
    """The key pays for what was used, the model that was called in vain does not."""
    key, small, large = (limited(name, tokens_per_minute=100) for name in ("key:app", "model:small", "model:large"))
    ticket = await alone.admit(key, alternatives=(small, large), tokens=50)
    assert ticket.may_call("large")
    ticket.settle(100, "small")
    ticket.close()

    assert [False, False, True] == [await alone.passes(each, tokens=100) for each in (key, small, large)]


async def test_a_ticket_is_settled_and_closed_once(alone: Node) -> None:
    """However often it is said, in whatever order."""
    key = limited("key:app", tokens_per_minute=60, concurrency=1)
    ticket = await alone.admit(key, tokens=50)
    for _ in range(3):
        ticket.settle(30)
        ticket.close()
        ticket.settle(1_000)

    assert not ticket.may_call("any") or ticket.headers() == {}
    assert [True, False] == [await alone.passes(key, tokens=30), await alone.passes(key)]


async def test_a_request_that_used_nothing_leaves_nothing(alone: Node) -> None:
    """One that failed gives its tokens back whole; that it was a request remains."""
    key = limited("key:app", requests_per_minute=2, tokens_per_minute=60)
    (await alone.admit(key, tokens=60)).close()

    assert [True, False] == [await alone.passes(key, tokens=60), await alone.passes(key)]


async def test_what_is_left_is_told_in_headers(alone: Node) -> None:
    """As OpenAI words it, and only to keys that have rates."""
    key = limited("key:app", requests_per_minute=60, tokens_per_minute=600, tokens_burst=12_000)
    ticket = await alone.admit(key, limited("route:auto", requests_per_minute=5), tokens=4_000)
    others = [
        await alone.admit(Limited("key:app", FREE), limited("route:auto", requests_per_minute=5)),
        await alone.admit(limited("key:b", concurrency=2)),
        await alone.admit(),
    ]

    assert {
        "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "600", "x-ratelimit-remaining-tokens": "8000",
        "x-ratelimit-reset-tokens": "6m40s",
    } == ticket.headers()
    assert [{}, {}, {}] == [each.headers() for each in others]


@pytest.mark.parametrize(
    ("per_minute", "expected"), [(60_000, "1ms"), (120, "500ms"), (48, "1.25s"), (1, "1m0s"), (7, "8.572s")]
)
async def test_the_time_until_all_is_there_again(alone: Node, per_minute: int, expected: str) -> None:
    """In milliseconds, seconds or minutes."""
    ticket = await alone.admit(limited("key:app", requests_per_minute=per_minute))

    assert expected == ticket.headers()["x-ratelimit-reset-requests"]


# ---- with Redis


async def test_nodes_share_what_is_limited(join: Join, redis: Redis) -> None:
    """Requests, tokens and concurrency of two nodes are those of one."""
    first, second = join(redis), join(redis)
    key = limited("key:app", requests_per_minute=60, tokens_per_minute=100, concurrency=2)
    tickets = [await first.admit(key, tokens=10), await second.admit(key, tokens=10)]

    assert not await first.passes(key)
    tickets[1].settle(80)
    tickets[1].close()
    await second.admission.beat()           # what was posted has arrived when this is answered
    assert [False, True] == [await first.passes(key, tokens=30), await first.passes(key, tokens=5)]


async def test_no_round_trip_without_limits(join: Join, own_redis: Redis) -> None:
    """A request that nothing limits is none of Redis' business, also when it is gone."""
    node = join(own_redis)
    own_redis.stop()
    free = Limited("key:app", FREE)
    ticket = await node.admit(free, alternatives=(Limited("model:s", FREE), limited("model:l", concurrency=1)))

    assert 0 == ticket.chosen
    assert "never" not in repr(node.admission)
    assert "well, 0 to be sent" in repr(node.shared)


async def test_the_chosen_model_is_taken_for_all_nodes(join: Join, redis: Redis) -> None:
    """And another that is called instead, as soon as Redis hears of it."""
    first, second = join(redis), join(redis)
    small, large = limited("model:small", concurrency=1), limited("model:large", concurrency=1)
    ticket = await first.admit(alternatives=(small, large, Limited("model:free", FREE)))
    assert ticket.may_call("large")
    await first.admission.beat()
    other = await second.admit(alternatives=(small, large, Limited("model:free", FREE)))

    assert [0, 2] == [ticket.chosen, other.chosen]
    ticket.close()
    await first.admission.beat()
    assert [True, True] == [await second.passes(alternatives=(each,)) for each in (small, large)]


async def test_a_peek_knows_what_redis_said(join: Join, redis: Redis) -> None:
    """Until it would let a request of this key through again, none is asked for."""
    first, second = join(redis), join(redis)
    key = limited("key:app", requests_per_minute=60, requests_burst=1)
    await first.admit(key)
    second.admission.peek([key])
    assert not await second.passes(key)
    with pytest.raises(RateLimited):
        second.admission.peek([key])
    second.clock.now_s += 1.001

    second.admission.peek([key])


async def test_what_is_left_is_what_all_nodes_left(join: Join, redis: Redis) -> None:
    """Also in headers."""
    first, second = join(redis), join(redis)
    key = limited("key:app", requests_per_minute=1, requests_burst=10, tokens_per_minute=1, tokens_burst=100)
    await first.admit(key, tokens=30)
    headers = (await second.admit(key, tokens=20)).headers()

    assert ("8", "50") == (headers["x-ratelimit-remaining-requests"], headers["x-ratelimit-remaining-tokens"])


@pytest.mark.parametrize("turns", [1, 2, 3, 20])
async def test_a_client_that_leaves_while_redis_is_asked_takes_nothing(
    join: Join, own_redis: Redis, turns: int
) -> None:
    """Whether Redis hears of it or not: in the end nothing runs."""
    node, key = join(own_redis), limited("key:app", concurrency=1)
    await node.admission.beat()
    own_redis.freeze()
    leaving = asyncio.get_running_loop().create_task(node.admit(key))
    for _ in range(turns):                  # of the loop: nothing was sent yet, or all of it
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    own_redis.thaw()
    await node.admission.beat()

    assert await node.passes(key)


async def test_redis_is_told_of_what_runs_long(join: Join, redis: Redis) -> None:
    """Every so often, of each that runs, until it has ended."""
    node, key = join(redis), limited("key:app", concurrency=1)
    ticket = await node.admit(key)
    heard = []
    for _ in range(3):
        node.clock.now_s += KEEP_US / 2e6
        await node.admission.beat()
        assert node.admission.together is not None
        heard.append(len(node.admission.together._shared._posted))
        await node.admission.beat()
    ticket.close()

    assert [0, 1, 0] == heard
    assert {} == node.admission._running


# ---- without the Redis that should be there


async def known_to_each_other(join: Join, redis: Redis, **settings: Any) -> list[Node]:
    """Return two nodes that know of each other."""
    nodes = [join(redis, **settings) for _ in range(2)]
    for node in (*nodes, nodes[0]):
        await node.admission.beat(BOUND_S)
    return nodes


async def test_without_redis_a_node_goes_by_its_share(join: Join, own_redis: Redis) -> None:
    """Half the burst for one of two nodes, half the rate after that, and one request that runs at least."""
    nodes = await known_to_each_other(join, own_redis)
    key, single = limited("key:app", requests_per_minute=60, requests_burst=10), limited("key:one", concurrency=1)
    own_redis.stop()

    assert [5, 5] == [await node.many(key) for node in nodes]
    assert [1, 1] == [await node.many(single) for node in nodes]
    nodes[0].clock.now_s += 4
    assert 2 == await nodes[0].many(key)
    assert 5 + 1 + 1 + 1 + 2 + 1 == nodes[0].counted("limits_alone", by="share")


async def test_what_passed_before_counts_for_the_share(join: Join, own_redis: Redis) -> None:
    """A node that has just used up everything does not begin anew."""
    first, second = await known_to_each_other(join, own_redis)
    key = limited("key:app", requests_per_minute=1, requests_burst=10)
    for _ in range(8):
        await first.admit(key)
    own_redis.stop()

    assert [1, 5] == [await first.many(key), await second.many(key)]


@pytest.mark.parametrize(("then", "by"), [("closed", "closed"), ("open", "open")])
async def test_after_the_lease_the_configuration_decides(join: Join, own_redis: Redis, then: str, by: str) -> None:
    """Nothing passes, which is not the caller's fault; or everything does. Both are counted."""
    node, _ = await known_to_each_other(join, own_redis, then=then, lease_ms=5_000)
    key = limited("key:app", requests_per_minute=1)
    own_redis.stop()
    assert await node.passes(key)
    node.clock.now_s += 5
    said = await asyncio.gather(*(node.admit(key) for _ in range(4)), return_exceptions=True)

    assert 4 == node.counted("limits_alone", by=by)
    if then == "open":
        assert [Ticket] * 4 == [type(each) for each in said]
    else:
        assert [(503, {"Retry-After": "1"})] * 4 == [
            (each.status, each.headers) for each in said if isinstance(each, Unavailable)
        ]


async def test_a_node_that_never_heard_of_the_others_has_no_share(join: Join, own_redis: Redis) -> None:
    """It cannot know how large it would be."""
    node = join(own_redis)
    own_redis.stop()
    await node.admission.start()
    with pytest.raises(Unavailable):
        await node.admit(limited("key:app", requests_per_minute=100))

    assert "alone" not in repr(node.admission)


async def test_a_slow_redis_is_waited_for_once(join: Join, own_redis: Redis) -> None:
    """The first request goes on when the bound has passed, while Redis still hangs; those after it do not wait."""
    node, _ = await known_to_each_other(join, own_redis, timeout_ms=25)
    key = limited("key:app", requests_per_minute=60)
    own_redis.freeze()
    tickets = [await node.admit(key) for _ in range(5)]
    own_redis.thaw()

    assert 5 == len(tickets) == node.counted("limits_alone", by="share")


async def test_what_passed_meanwhile_is_booked_once(join: Join, own_redis: Redis) -> None:
    """When Redis answers again it hears of everything, and what it was asked and did not answer counts once."""
    first, _ = await known_to_each_other(join, own_redis, timeout_ms=25)
    key = limited("key:app", requests_per_minute=1, requests_burst=10, tokens_per_minute=1, tokens_burst=100)
    own_redis.freeze()
    tickets = [await first.admit(key, tokens=10) for _ in range(4)]
    tickets[0].settle(40)
    tickets[0].close()
    own_redis.thaw()
    first.clock.now_s += OPEN_S
    await first.admission.beat(BOUND_S)
    patient = join(own_redis)
    headers = (await patient.admit(key)).headers()

    assert ("5", "30") == (headers["x-ratelimit-remaining-requests"], headers["x-ratelimit-remaining-tokens"])


async def test_what_was_refused_meanwhile_has_taken_nothing_that_is_given_back(join: Join, own_redis: Redis) -> None:
    """Redis takes what it was asked for when it goes on, though nobody is there any more: it is told to forget it."""
    node, _ = await known_to_each_other(join, own_redis, timeout_ms=25, lease_ms=0)
    key = limited("key:app", concurrency=1)
    own_redis.freeze()
    assert not await node.passes(key)
    own_redis.thaw()
    node.clock.now_s += OPEN_S
    await node.admission.beat(BOUND_S)

    assert await join(own_redis).passes(key)


async def test_redis_is_asked_again_when_it_answers(join: Join, own_redis: Redis) -> None:
    """And the lease begins anew with the next time that it does not."""
    node, other = await known_to_each_other(join, own_redis, lease_ms=5_000)
    key = limited("key:app", requests_per_minute=60_000)
    for _ in range(3):
        own_redis.stop()
        assert [await node.passes(key) for _ in range(3)] == [True] * 3
        node.clock.now_s += 4
        own_redis.start()
        await node.admission.beat()
    await node.admit(key)

    assert 9 == node.counted("limits_alone", by="share")
    assert "one of 1" in repr(node.admission)
    assert "one of 2" in repr(other.admission)


KILLED = """
import asyncio, sys, time
from gateway import admission, config
from gateway.limits import Limited
from gateway.metrics import Metrics
from gateway.shared import client, limits

async def main(url):
    admission.BEAT_S, admission.KEEP_US, limits.RUNS_S = 0.1, 200_000, 2.0
    settings = config.SharedConfig(url=config.Secret(url), timeout_ms=30_000)
    shared = client.Shared(settings, time.perf_counter)
    let = admission.Admission(settings, shared, Metrics(), time.perf_counter)
    await let.start()
    ticket = await let.admit([Limited("key:app", config.LimitsConfig(concurrency=1))], [], 0)
    print(ticket, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(sys.argv[1]))
"""


@contextlib.contextmanager
def process(code: str, *arguments: str) -> Iterator[IO[bytes]]:
    """Run a process of Python, yield what it prints, and kill it."""
    with subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE) as started:
        try:
            assert started.stdout is not None
            yield started.stdout
        finally:
            started.kill()


async def test_what_a_killed_process_had_running_is_given_back(join: Join, redis: Redis) -> None:
    """By itself, a while after SIGKILL."""
    node, key = join(redis), limited("key:app", concurrency=1)
    with process(KILLED, redis.url) as started:
        assert b"<Ticket" in await asyncio.to_thread(started.readline)
        assert not await node.passes(key)
    async with asyncio.timeout(BOUND_S):
        for pause_s in itertools.repeat(0.02):
            if await node.passes(key):
                break
            await asyncio.sleep(pause_s)

    assert not await node.passes(key)
