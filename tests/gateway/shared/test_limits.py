"""Limits in a real Redis: what gateway.limits allows, for all nodes together, whatever ends in the middle."""

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import pytest
import redis.asyncio as client

from gateway.config import LimitsConfig, Secret, SharedConfig
from gateway.limits import Denied, Limited, Limits, Taken
from gateway.shared import limits as ours
from gateway.shared.client import Script, Shared
from gateway.shared.limits import NODE_S, PREFIX, RUNS_S, Allowed, Together
from tests.services import Redis

ROOT = Path(__file__).parent.parent.parent.parent
BOUND_S = 30.0              # how long anything is waited for; reached only by a test that fails
EPOCH_S = 1_700_000_000
FREE = LimitsConfig()

Node = Callable[[], Together]


def limited(name: str, **limits: int) -> Limited:
    """Return a name with these limits."""
    return Limited(name, LimitsConfig(**limits))


def config(redis: Redis) -> SharedConfig:
    """Return the configuration of a patient node."""
    return SharedConfig(url=Secret(redis.url), timeout_ms=int(BOUND_S * 1000))


@pytest.fixture
async def told(redis: Redis) -> AsyncIterator["client.Redis"]:
    """Redis, past our client."""
    async with client.Redis.from_url(redis.url) as other:
        yield other


@pytest.fixture
async def node(redis: Redis) -> AsyncIterator[Node]:
    """`node()`: one more node, with a connection of its own."""
    opened: list[Shared] = []

    def join() -> Together:
        """Have one join."""
        opened.append(Shared(config(redis), time.perf_counter))
        return Together(opened[-1])

    yield join
    for each in opened:
        await each.close()


class Clock:
    """The time of Redis, which stands still but when it is set."""

    def __init__(self, told: "client.Redis") -> None:
        self._told = told
        self.now_us = 0

    async def set(self, now_us: int) -> None:
        """Set it."""
        self.now_us = now_us
        await self._told.execute_command("SET", "clock", now_us)  # type: ignore[no-untyped-call]


@pytest.fixture
async def clock(told: "client.Redis", monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have the scripts go by a clock that is set, and stands at 0 to begin with."""
    now = "tonumber(redis.call('GET', 'clock'))"
    instead = f"{{ math.floor({now} / 1000000) + {EPOCH_S}, {now} % 1000000 }}"
    for name in ("TAKE", "SETTLE", "KEEP", "BEAT"):
        text = getattr(ours, name).text
        assert "redis.call('TIME')" in text
        monkeypatch.setattr(ours, name, Script(text.replace("redis.call('TIME')", instead)))
    set_ = Clock(told)
    await set_.set(0)
    return set_


async def take(
    together: Together, required: list[Limited], alternatives: list[Limited] | None = None, tokens: int = 0
) -> tuple[str, Allowed | Denied]:
    """Ask for it, and return the request with what was said."""
    request = together.number(tokens)
    return request, await together.take(request, required, alternatives or [], spare=False)


KEYS = [
    limited("key:app", requests_per_minute=60, requests_burst=5), limited("key:app", tokens_per_minute=6_000),
    limited("key:app", requests_per_minute=70, tokens_per_minute=700, tokens_burst=90, concurrency=4),
]
ROUTES = [limited("route:auto", concurrency=3), limited("route:auto", requests_per_minute=90), Limited("route:b", FREE)]
MODELS = [limited("model:s", requests_per_minute=30, requests_burst=2), limited("model:l", tokens_per_minute=5_000)]


class Both:
    """The same requests in this process and in Redis, at the same times."""

    def __init__(self, together: Together, clock: Clock, required: list[Limited], *, spare: bool) -> None:
        self.limits, self.together, self.clock = Limits(), together, clock
        self.required = [each for each in required if each.limits.any]
        self.spare = [Limited("model:free", FREE)] if spare else []
        self.running: list[tuple[str, Taken]] = []
        self.said: set[str] = set()             # which limits refused, and which alternatives were taken

    async def ask(self, tokens: int) -> None:
        """Ask both for a request; they must say the same."""
        now_us, request = self.clock.now_us, self.together.number(tokens)
        here = self.limits.take(self.required, [*MODELS, *self.spare], tokens, now_us)
        there = await self.together.take(request, self.required, MODELS, spare=bool(self.spare))
        if isinstance(there, Allowed):
            assert isinstance(here, Taken)
            owed = self.limits.standing(self.required[0], now_us).owed(now_us)
            assert here.chosen == there.chosen
            assert list(owed) == pytest.approx(list(there.owed_us), abs=2)
            self.running.append((request, here))
            self.said.add(str(here.chosen))
        else:
            assert isinstance(here, Denied)
            assert (here.limited, here.kind) == (there.limited, there.kind)
            assert here.retry_after_s == pytest.approx(there.retry_after_s, abs=3e-6)
            self.said.add(here.kind)

    def end(self, number: int, used: int) -> None:
        """Have a request that runs end."""
        request, taken = self.running.pop(number)
        names = [each for each in (*self.required, *MODELS) if each.name in taken.standings]
        taken.settle(used, self.clock.now_us)
        taken.close(self.clock.now_us)
        self.together.settle(request, [(each, used) for each in names])

    def keep(self) -> None:
        """Say of all that still run that they do."""
        for request, taken in self.running:
            self.together.keep(request, [limited(name) for name in taken.standings])


@pytest.mark.parametrize("seed", range(9))
async def test_it_is_what_one_process_would_do(node: Node, clock: Clock, seed: int) -> None:
    """The same is let through and the same refused, by the same limit, for as long."""
    chance = random.Random(seed)
    both = Both(node(), clock, [KEYS[seed % 3], ROUTES[seed // 3]], spare=seed % 2 == 0)
    for _ in range(150):
        await clock.set(clock.now_us + chance.choice([0, 0, 1, 1_000, 333_333, 2_000_000, 20_000_000]))
        if both.running and chance.random() < 0.6:
            both.end(chance.randrange(len(both.running)), chance.randrange(100))
        await both.ask(chance.randrange(100))
        both.keep()

    assert len(both.said) >= 2


async def test_all_or_nothing(node: Node) -> None:
    """A request that one limit refuses has taken nothing of the others."""
    together, key, route = node(), limited("key:app", requests_per_minute=2), limited("route:auto", concurrency=1)
    running, _ = await take(together, [key, route])
    refused = [(await take(together, [key, route]))[1] for _ in range(5)]
    together.settle(running, [(key, 0), (route, 0)])

    assert [Denied(route, "concurrency", 1.0)] * 5 == refused
    assert isinstance((await take(together, [key, route]))[1], Allowed)


async def test_a_request_is_booked_and_settled_once(node: Node, clock: Clock) -> None:
    """However often it is sent: a connection that breaks leaves nobody knowing what arrived."""
    together, key = node(), limited("key:app", requests_per_minute=60, tokens_per_minute=600, concurrency=2)
    request, _ = await take(together, [key], tokens=100)
    for _ in range(3):
        together.book(request, [key], 0)
    _, second = await take(together, [key], tokens=0)

    assert isinstance(second, Allowed)
    assert (2_000_000, 10_000_000) == second.owed_us
    for _ in range(3):
        together.settle(request, [(key, 200)])
    _, third = await take(together, [key], tokens=0)
    assert isinstance(third, Allowed)
    assert (3_000_000, 20_000_000) == third.owed_us


async def test_what_is_booked_late_was_taken_then(node: Node, clock: Clock) -> None:
    """A node that was cut off for a while tells of it when it is back: what it took then has been earned since."""
    together, other, key = node(), node(), limited("key:app", requests_per_minute=60, requests_burst=3)
    await together.beat(5_000_000)          # this node's clock is five seconds ahead
    await clock.set(10_000_000)
    for at_us in (6_000_000, 6_000_000, 14_500_000):
        together.book(together.number(0), [key], at_us)
    await together.beat(15_000_000)
    passed = [isinstance((await take(other, [key]))[1], Allowed) for _ in range(3)]

    assert [True, True, False] == passed


async def test_what_a_killed_node_had_taken_comes_back(node: Node, clock: Clock) -> None:
    """After a while without a word of it; what a node says still runs, stays."""
    alive, killed = node(), node()
    key = limited("key:app", tokens_per_minute=60_000, tokens_burst=100, concurrency=2)
    kept, _ = await take(alive, [key], tokens=40)
    await take(killed, [key], tokens=60)
    await clock.set(int(RUNS_S * 0.9e6))
    alive.keep(kept, [key])
    _, before = await take(alive, [key])
    await clock.set(int(RUNS_S * 1.1e6))
    route = limited("route:auto", requests_per_minute=1)
    await take(alive, [route])
    _, refused = await take(alive, [key, route])
    assert isinstance(refused, Denied)      # and yet what was found gone is gone
    _, after = await take(alive, [key], tokens=60)

    assert Denied(key, "concurrency", 1.0) == before
    assert isinstance(after, Allowed)
    assert after.owed_us == (0, 100_000)


async def test_a_redis_that_lost_everything_hears_of_what_runs(node: Node, redis: Redis) -> None:
    """With its tokens; when it ends it is gone."""
    together, key = node(), limited("key:app", tokens_per_minute=60, tokens_burst=100, concurrency=1)
    request, _ = await take(together, [key], tokens=100)
    redis.flush()
    for _ in range(2):
        together.keep(request, [key])
    unlimited = limited("key:app", tokens_per_minute=60, tokens_burst=100)

    assert Denied(key, "concurrency", 1.0) == (await take(together, [key]))[1]
    assert Denied(unlimited, "tokens", 1.0) == (await take(together, [unlimited], tokens=1))[1]
    together.settle(request, [(key, 0)])
    assert isinstance((await take(together, [key], tokens=100))[1], Allowed)


async def test_nodes_know_how_many_they_are(node: Node, clock: Clock) -> None:
    """Those that come, those that go, and those that say nothing any more."""
    first, second, third = node(), node(), node()
    for each in (first, second, third):
        await each.beat(0)
    second.leave()
    await second.beat(0)
    second.leave()
    await asyncio.gather(first.beat(0), second._shared.close())
    await first.beat(0)
    assert (2, 3) == (first.nodes, third.nodes)
    await clock.set(int(NODE_S * 1e6) + 1)
    await first.beat(0)

    assert 1 == first.nodes


async def test_nothing_is_kept_for_ever(node: Node, told: "client.Redis") -> None:
    """Every key has an end, and all are of one slot of a cluster."""
    together, key = node(), limited("key:app", requests_per_minute=1, tokens_per_minute=1, concurrency=5)
    request, _ = await take(together, [key], tokens=60 * 24)
    together.settle(request, [(key, 60 * 24)])
    await take(together, [limited("route:auto", concurrency=5)])
    await together.beat(0)
    keys = [key async for key in told.scan_iter()]
    ends = [await told.pttl(key) for key in keys]

    assert 4 == len(keys)
    assert all(key.startswith(PREFIX.encode()) for key in keys)
    assert all(0 < end < 3 * 24 * 3_600_000 for end in ends)


ASKING = """
import asyncio, sys, time
from gateway.config import LimitsConfig, Secret, SharedConfig
from gateway.limits import Limited
from gateway.shared.client import Shared
from gateway.shared.limits import Allowed, Together

async def main(url, per_minute, burst, times):
    shared = Shared(SharedConfig(url=Secret(url), timeout_ms=30_000), time.perf_counter)
    together = Together(shared)
    await together.beat(0)
    key = Limited("key:app", LimitsConfig(requests_per_minute=per_minute, requests_burst=burst))
    print("ready", flush=True)
    sys.stdin.readline()
    said = await asyncio.gather(*(together.take(together.number(0), [key], [], spare=False) for _ in range(times)))
    await shared.close()
    print(sum(isinstance(each, Allowed) for each in said))

asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
"""


@pytest.mark.parametrize(("per_minute", "burst"), [(1, 700), (60_000, 100)])
async def test_three_processes_together_get_what_one_would(
    redis: Redis, told: "client.Redis", per_minute: int, burst: int
) -> None:
    """A thousand at once in each: the burst passes, and what the rate gives while they ask, not one more."""
    asking = (ASKING, redis.url, str(per_minute), str(burst), "1000")
    with process(*asking) as first, process(*asking) as second, process(*asking) as third:
        for each in (first, second, third):
            assert b"ready" in await asyncio.to_thread(each.said.readline)
        began = await told.time()
        for each in (first, second, third):
            each.told.write(b"go\n")
            each.told.flush()
        passed = [int(await asyncio.to_thread(each.said.readline)) for each in (first, second, third)]
        ended = await told.time()
    seconds = (ended[0] - began[0]) + (ended[1] - began[1]) / 1e6

    assert burst <= sum(passed) <= burst + per_minute * seconds / 60


class Process(NamedTuple):
    """A process of Python's own."""

    told: IO[bytes]
    said: IO[bytes]


@contextlib.contextmanager
def process(code: str, *arguments: str) -> Iterator[Process]:
    """Run a process of Python, and kill it."""
    asked = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(asked, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        try:
            assert started.stdin is not None
            assert started.stdout is not None
            yield Process(started.stdin, started.stdout)
        finally:
            started.kill()
