"""Accounts in the store, of either kind: the same figures as by the rules themselves."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.budgets import Ask, NoHome
from gateway.config import LedgerConfig
from gateway.store import accounts as ours
from gateway.store import receipts
from gateway.store.accounts import LIMIT_S, Stored
from gateway.store.opening import StoreError, writing
from gateway.store.schema import DAY_MS, accounts, loans
from tests.gateway.homes import HOLDERS, MOMENT_MS, NAMES, Clock, Step, same, steps, wanting
from tests.gateway.store.conftest import Open, receipt, rows

DAILY, MONTHLY, TOTAL = NAMES
A, B, _ = HOLDERS
T = TypeVar("T")


class Asking:
    """Has work done at once."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.limits: list[float] = []

    async def __call__(self, work: Callable[[AsyncEngine], Awaitable[T]], limit_s: float, /) -> T:
        """Do it."""
        self.limits.append(limit_s)
        return await work(self._engine)


def need(account: tuple[str, str], number: int, nanos: int, limit: int = 1_000) -> Ask:
    """A question for so much."""
    return Ask(*account, limit, number, 0, least_nanos=nanos, need_nanos=nanos, want_nanos=1)


async def settle(engine: AsyncEngine, holder: str, sums: dict[tuple[str, str], int]) -> None:
    """Settle in a transaction of its own."""
    async with writing(engine) as connection:
        await ours.settle(connection, holder, sums)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(taken=st.sampled_from([100, 10**9, 10**17]).flatmap(steps))
@example(taken=wanting())
async def test_the_same_figures(engine: AsyncEngine, taken: list[Step]) -> None:
    """Whatever is asked and settled, in whatever order, it says the same as the rules."""
    async with writing(engine) as connection:
        await connection.execute(delete(accounts))
        await connection.execute(delete(loans))
    clock = Clock()
    home = Stored(Asking(engine), clock_ms=clock)
    await same(home, lambda holder, sums: settle(engine, holder, sums), clock, taken)


async def test_stored_receipts_are_settled(engine: AsyncEngine) -> None:
    """With the segment that brings them, once: what was spent comes out of the holder's loan."""
    home = Stored(Asking(engine))
    await home.call(A, [need(TOTAL, 1, 500)])
    paid = [receipt(n, cost_usd_nanos=100, budgets=[list(TOTAL), list(DAILY)]) for n in range(2)]
    for _ in range(2):
        await receipts.save(engine, f"{A}-1", A, paid, settle=True)
    [reply] = await home.call(A, [Ask(*TOTAL, 1_000, 2, 500)])

    assert [200, 200, 0] == await home.spent([TOTAL, DAILY, MONTHLY])
    assert (500, 200, 500) == (reply.lent_nanos, reply.settled_nanos, reply.free_nanos)


async def test_many_at_once(engine: AsyncEngine) -> None:
    """Questions and receipts for the same accounts, in whatever order, wait for each other and nobody else."""
    home = Stored(Asking(engine))
    asking = [
        home.call(f"holder-{n}", [need(account, 1, 10) for account in (NAMES if n % 2 else NAMES[::-1])])
        for n in range(20)
    ]
    settling = [settle(engine, f"holder-{n}", dict.fromkeys(NAMES if n % 2 else NAMES[::-1], 1)) for n in range(20)]
    await asyncio.gather(*(work for pair in zip(asking, settling, strict=True) for work in pair))
    lent = [row["lent_nanos"] for row in await rows(engine, loans)]

    assert [20, 20, 20] == await home.spent(NAMES)
    assert [10] * 60 == lent


async def test_the_clock_of_the_store(engine: AsyncEngine) -> None:
    """Loans expire by it."""
    home = Stored(Asking(engine), term_ms=50)
    await home.call(A, [need(TOTAL, 1, 1_000)])
    async with asyncio.timeout(15):
        for number in itertools.count(1):
            [reply] = await home.call(B, [need(TOTAL, number, 1_000)])
            if reply.lent_nanos:
                break

    assert (1_000, 0.05) == (reply.lent_nanos, home.term_s)


async def test_what_is_forgotten(engine: AsyncEngine, ledger: LedgerConfig) -> None:
    """Accounts of days and months after the days that their roll-ups are kept, loans of the dead after a day."""
    clock = Clock()
    home = Stored(Asking(engine), clock_ms=clock)
    await home.call(A, [need(account, 1, 5) for account in NAMES])
    clock.now_ms += DAY_MS
    await home.call(B, [need(TOTAL, 1, 5)])
    kept = []
    for days in (0.9, 1.1, ledger.hours_days + 1, ledger.days_days + 31):
        await receipts.forget(engine, ledger, MOMENT_MS + int(days * DAY_MS))
        kept.append((len(await rows(engine, accounts)), len(await rows(engine, loans))))

    assert [(3, 4), (3, 1), (2, 0), (1, 0)] == kept


async def test_a_forgotten_account(engine: AsyncEngine) -> None:
    """It is made anew by whoever asks for it."""
    clock = Clock()
    home = Stored(Asking(engine), clock_ms=clock)
    await home.call(A, [need(DAILY, 1, 5)])
    async with writing(engine) as connection:
        await connection.execute(delete(accounts))
        await connection.execute(delete(loans))
    [reply] = await home.call(A, [need(DAILY, 2, 5)])

    assert reply.lent_nanos == 5


async def test_the_store_is_away(ledger: LedgerConfig, opened: Open) -> None:
    """A question is not heard, within a limit: here the tables are not even there."""
    asking = Asking(await opened(ledger, None))
    home = Stored(asking)
    with pytest.raises(NoHome):
        await home.call(A, [need(TOTAL, 1, 5)])
    with pytest.raises(NoHome):
        await home.wanted()
    with pytest.raises(NoHome):
        await home.spent([TOTAL])
    with pytest.raises(StoreError):
        await settle(asking._engine, A, {TOTAL: 5})

    assert [LIMIT_S] * 3 == asking.limits
