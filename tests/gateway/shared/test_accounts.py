"""Accounts in a real Redis: the same figures as by the rules themselves, and each segment settled once."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio as client
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.budgets import Ask, NoHome
from gateway.config import Secret, SharedConfig
from gateway.shared.accounts import DAY_MS, KEEP_MS, PREFIX, SETTLED_MS, Shares
from gateway.shared.client import Shared, Unreachable
from tests.gateway.homes import HOLDERS, MOMENT_MS, NAMES, Clock, Step, same, steps, wanting
from tests.services import Redis

DAILY, MONTHLY, TOTAL = NAMES
A, B, _ = HOLDERS


@pytest.fixture
async def shared(redis: Redis) -> AsyncIterator[Shared]:
    """A patient client of an empty Redis."""
    made = Shared(SharedConfig(url=Secret(redis.url), timeout_ms=15_000), lambda: 0.0)
    yield made
    await made.close()


@pytest.fixture
async def home(shared: Shared) -> Shares:
    """The accounts there, at a moment that the test sets."""
    return Shares(shared, clock_ms=Clock())


async def tell(redis: Redis, *command: str | int) -> Any:
    """Say something to Redis past our client."""
    async with client.Redis.from_url(redis.url) as other:
        return await other.execute_command(*command)  # type: ignore[no-untyped-call]


def need(account: tuple[str, str], number: int, nanos: int, limit: int = 1_000) -> Ask:
    """A question for so much."""
    return Ask(*account, limit, number, 0, least_nanos=nanos, need_nanos=nanos, want_nanos=1)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(taken=st.sampled_from([100, 10**9, 10**15]).flatmap(steps))
@example(taken=wanting())
async def test_the_same_figures(shared: Shared, redis: Redis, taken: list[Step]) -> None:
    """Whatever is asked and settled, in whatever order, it says the same as the rules."""
    redis.flush()
    clock, segments = Clock(), itertools.count()
    home = Shares(shared, clock_ms=clock)
    await same(home, lambda holder, sums: home.settle(f"{next(segments)}", holder, sums), clock, taken)


async def test_more_than_lua_can_count(home: Shares) -> None:
    """A budget of a billion dollars, spent to the end: never more, and less than a cent of it is left over."""
    limit, asks = 10**18, 0
    for number in range(1, 12):
        [reply] = await home.call(A, [need(TOTAL, number, limit // 10 + 7, limit)._replace(
            keep_nanos=asks, least_nanos=1,
        )])
        asks = reply.lent_nanos

    assert limit - 10**7 < asks <= limit
    assert reply.free_nanos == pytest.approx(limit - asks, abs=1_000)


async def test_a_segment_is_settled_once(home: Shares) -> None:
    """However often it is told; and what was spent comes out of the holder's loan."""
    await home.call(A, [need(TOTAL, 1, 500)])
    for _ in range(3):
        await home.settle("a-1", A, {TOTAL: 200, DAILY: 10})
    await home.settle("a-2", A, {TOTAL: 20})
    await home.settle("a-3", A, {})
    [reply] = await home.call(A, [Ask(*TOTAL, 1_000, 2, 500)])

    assert [220, 10, 0] == await home.spent([TOTAL, DAILY, MONTHLY])
    assert (500, 220, 500) == (reply.lent_nanos, reply.settled_nanos, reply.free_nanos)
    assert await home.spent([]) == []


async def test_it_is_settled_from_the_bookkeepers_loop(home: Shares) -> None:
    """The connection is that of the path's loop, which goes on meanwhile."""
    faults: list[Exception] = []

    def elsewhere() -> None:
        """Another thread, with a loop of its own."""
        try:
            asyncio.run(home.settle("a-1", A, {TOTAL: 5}))
        except Exception as error:  # noqa: BLE001 - it is the test's to see
            faults.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)

    assert ([], [5]) == (faults, await home.spent([TOTAL]))


async def test_the_clock_of_redis(shared: Shared, redis: Redis) -> None:
    """Loans end by it, whatever the processes believe."""
    home = Shares(shared, term_ms=60_000)
    await home.call(A, [need(TOTAL, 1, 500)])
    seconds, _ = await tell(redis, "TIME")
    expires = int(await tell(redis, "HGET", f"{PREFIX}account:all:total", f"expires:{A}"))

    assert home.term_s == 60
    assert 0 < expires - int(seconds) * 1000 <= 61_000
    assert await home.wanted() == []


async def test_a_loan_that_expires(shared: Shared) -> None:
    """Really expires."""
    home = Shares(shared, term_ms=50)
    await home.call(A, [need(TOTAL, 1, 1_000)])
    async with asyncio.timeout(15):
        for number in itertools.count(1):
            [reply] = await home.call(B, [need(TOTAL, number, 1_000)])
            if reply.lent_nanos:
                break

    assert reply.lent_nanos == 1_000


async def test_what_is_forgotten(home: Shares, redis: Redis) -> None:
    """Accounts of days and months, loans of the dead, and which segments were settled: all in their time."""
    clock = home._clock_ms
    assert isinstance(clock, Clock)
    await home.call(A, [need(TOTAL, 1, 5), need(DAILY, 1, 5)])
    await home.settle("a-1", A, {MONTHLY: 3})
    clock.now_ms += DAY_MS + 61_000
    await home.call(B, [need(TOTAL, 1, 5)])
    names = ("account:key:shop:2026-11-28", "account:owner:sales:eu:2026-11", "account:all:total", "segment:a-1")
    lives = {name: await tell(redis, "PTTL", PREFIX + name) for name in names}
    fields = [field.decode() for field in await tell(redis, "HKEYS", f"{PREFIX}account:all:total")]

    assert [True, True, False, True] == [ms > 0 for ms in lives.values()]
    assert lives["segment:a-1"] <= SETTLED_MS < lives["account:key:shop:2026-11-28"] <= KEEP_MS
    assert {f"lent:{B}", f"settled:{B}"} < set(fields)
    assert not [field for field in fields if field.endswith(A)]
    assert clock.now_ms > MOMENT_MS


async def test_redis_does_not_answer(own_redis: Redis) -> None:
    """A question is not heard, and a segment is told again later."""
    there = Shared(SharedConfig(url=Secret(own_redis.url), timeout_ms=15_000), lambda: 0.0)
    home = Shares(there)
    own_redis.stop()

    with pytest.raises(NoHome):
        await home.call(A, [need(TOTAL, 1, 5)])
    with pytest.raises(NoHome):
        await home.wanted()
    with pytest.raises(NoHome):
        await home.spent([TOTAL])
    with pytest.raises(Unreachable):
        await home.settle("a-1", A, {TOTAL: 5})
    assert repr(home).startswith("<Shares <Shared 127.0.0.1:")
    await there.close()
