"""What the ledger adds up to."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import report
from gateway.config import LedgerConfig
from gateway.report import NANOS, Figures
from gateway.store import migrating, opening, receipts, reports
from gateway.store.opening import StoreError
from gateway.store.reports import Asked
from gateway.store.schema import DAY_MS, HOUR_MS, rollups
from gateway.store.schema import receipts as table
from tests.gateway.store.conftest import AT_MS, receipt

MIDNIGHT = AT_MS - AT_MS % DAY_MS
STORY = 41_200      # requests


def story() -> Iterator[dict[str, Any]]:
    """Receipts of a month whose sums are exactly a sold story's: $1,200 become $480."""
    net, premium, low, high = 480 * NANOS, 1_200 * NANOS, 1_130_120_000_000, 1_270_400_000_000
    for number in range(STORY):
        last = number == STORY - 1
        shares = [of - (STORY - 1) * (of // STORY) if last else of // STORY for of in (net, premium, low, high)]
        cost, of_premium, of_low, of_high = shares
        yield receipt(
            number, at_ms=MIDNIGHT + number % 27 * DAY_MS + number, model=["cheap", "large"][number % 3 == 0],
            cost_usd_nanos=cost, premium_usd_nanos=of_premium, premium_low_nanos=of_low, premium_high_nanos=of_high,
            cost_parts=None, attempts=None, budgets=None,
        )
    for number in range(3):
        yield receipt(STORY + number, cost_usd_nanos=None)


async def test_the_story_is_told_from_the_ledger_alone(engine: AsyncEngine) -> None:
    """$1,200 → $480, to the cent, whatever the rows are, from either store."""
    told = list(story())
    for start in range(0, len(told), 10_000):
        await receipts.save(engine, f"one-{start}", "one", told[start:start + 10_000], settle=False)
    for by, rows in (("day", 27), ("model", 2), ("key", 1)):
        made = report.made(by, await reports.grouped(engine, by, Asked(MIDNIGHT)))

        assert len(made.rows) == rows
        assert report.sentence(made.total) == (
            "$1,200.00 → $480.00: saved $720.00 (60.0 %), 90 % interval $650.12 to $790.40, on 41,200 requests; "
            "3 requests of unknown cost are not in it."
        )


async def stored(engine: AsyncEngine, *rows: dict[str, Any]) -> None:
    """Store receipts, and nothing else."""
    async with opening.writing(engine) as connection:
        for emptied in (table, rollups):
            await connection.execute(emptied.delete())
    await receipts.save(engine, uuid.uuid4().hex, "one", rows, settle=False)


async def requests(engine: AsyncEngine, by: str, **asked: Any) -> dict[str | int, int]:
    """Count the requests of each group."""
    return {
        group: sums["requests"]
        for group, sums in await reports.grouped(engine, by, Asked(**{"since_ms": 0, **asked}))
    }


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("day", {MIDNIGHT: 2, MIDNIGHT + DAY_MS: 1}),
        ("hour", {AT_MS: 2, AT_MS + DAY_MS: 1}),
        ("key", {"shop": 2, "": 1}),
        ("owner", {"sales": 3}),
        ("route", {"auto": 2, "fast": 1}),
        ("model", {"cheap": 1, "large": 2}),
        ("rung", {"cheap": 2, "premium": 1}),
        ("task", {"code": 3}),
    ],
)
async def test_rows_by_whatever_one_asks(engine: AsyncEngine, by: str, groups: dict[str | int, int]) -> None:
    """By time and by every name that the roll-ups are kept apart by; nobody is the empty text."""
    await stored(
        engine, receipt(1, model="large"), receipt(2, route="fast", at_ms=AT_MS + DAY_MS),
        receipt(3, caller=None, model="large", rung="premium"),
    )

    assert groups == await requests(engine, by)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"key": "shop"}, [1, 3]),
        ({"key": ""}, [2]),
        ({"owner": "sales"}, [1, 2]),
        ({"route": "fast"}, [3]),
        ({"key": "shop", "route": "auto"}, [1]),
        ({"key": "' OR 1=1 --"}, []),
    ],
)
async def test_only_whose_one_asks_for(engine: AsyncEngine, asked: dict[str, str], found: list[int]) -> None:
    """A key's, an owner's or a route's figures have nothing of anybody else's."""
    await stored(
        engine, receipt(1, task="1"), receipt(2, task="2", caller=None),
        receipt(3, task="3", owner="other", route="fast"),
    )

    assert {str(number): 1 for number in found} == await requests(engine, "task", **asked)


HOURS = [-49, -48, -25, -24, -23, -1, 0, 1, 13, 23, 24, 25, 47, 48, 49]


SPANS = [
    (-48, None), (-48, 24), (-25, None), (-25, 25), (-24, 1), (1, 13), (1, 24), (0, 24), (1, 25), (1, 48), (-49, 49),
]


@pytest.mark.parametrize("by", ["day", "hour", "key"])
async def test_what_lies_between_is_counted_once(engine: AsyncEngine, by: str) -> None:
    """Whole days and the hours at either end: the beginning is in it, the end is not, and nothing is there twice."""
    await stored(engine, *(receipt(hour, request_id=f"at {hour}", at_ms=MIDNIGHT + hour * HOUR_MS) for hour in HOURS))
    for since, until in SPANS:
        end = None if until is None else MIDNIGHT + until * HOUR_MS
        found = await requests(engine, by, since_ms=MIDNIGHT + since * HOUR_MS, until_ms=end)

        assert sum(found.values()) == len([hour for hour in HOURS if since <= hour and (until is None or hour < until)])


async def test_days_outlive_their_hours(engine: AsyncEngine) -> None:
    """Whole days need no hours, which are forgotten earlier."""
    await stored(engine, receipt(1))
    async with opening.writing(engine) as connection:
        await connection.execute(rollups.delete().where(rollups.c.span == "hour"))

    assert await requests(engine, "key", since_ms=MIDNIGHT, until_ms=MIDNIGHT + DAY_MS) == {"shop": 1}
    assert await requests(engine, "hour", since_ms=MIDNIGHT) == {}


async def test_an_empty_ledger_has_no_rows(engine: AsyncEngine) -> None:
    """Nothing was spent."""
    assert await reports.grouped(engine, "day", Asked(0)) == []
    assert await reports.spent(engine, [0, MIDNIGHT], None) == [0, 0]


async def test_spent_since(engine: AsyncEngine) -> None:
    """What a key, or everybody, has spent today, this month and in all."""
    await stored(
        engine, receipt(1, cost_usd_nanos=1), receipt(2, cost_usd_nanos=20, at_ms=AT_MS - DAY_MS),
        receipt(3, cost_usd_nanos=300, caller="other"), receipt(4, cost_usd_nanos=None),
    )

    assert await reports.spent(engine, [MIDNIGHT, MIDNIGHT - DAY_MS, 0], "shop") == [1, 21, 21]
    assert await reports.spent(engine, [MIDNIGHT, 0], None) == [301, 321]
    assert await reports.spent(engine, [0], "nobody") == [0]


async def test_a_dead_store_says_so(tmp_path: Path) -> None:
    """Whatever is wrong with it is a StoreError."""
    (tmp_path / "ledger.sqlite").write_text("this is no database, and it is long enough to be seen as none")
    engine = opening.engine(LedgerConfig(directory=str(tmp_path)))
    with pytest.raises(StoreError):
        await reports.grouped(engine, "day", Asked(0))
    with pytest.raises(StoreError):
        await reports.spent(engine, [0], None)
    await engine.dispose()


_maybe = st.one_of(st.none(), st.integers(0, 10**12))
_names = st.sampled_from([None, "", "a", "b", "=c"])
_receipts = st.lists(st.fixed_dictionaries({
    "at_ms": st.integers(MIDNIGHT - 3 * DAY_MS, MIDNIGHT + 3 * DAY_MS),
    **dict.fromkeys(("caller", "owner", "route", "model", "rung", "task"), _names),
    "outcome": st.sampled_from(["ok", "failed", "broken", "refused", "abandoned", None]),
    "estimated": st.one_of(st.none(), st.booleans()),
    **dict.fromkeys((
        "input_tokens", "output_tokens", "cost_usd_nanos", "unused_usd_nanos", "premium_usd_nanos",
        "premium_low_nanos", "premium_high_nanos",
    ), _maybe),
}), max_size=25)


def by_force(rows: list[dict[str, Any]]) -> Figures:
    """Add receipts up one by one."""
    def total(name: str, of: list[dict[str, Any]]) -> int:
        return sum(row[name] or 0 for row in of)

    priced = [row for row in rows if row["cost_usd_nanos"] is not None]
    compared = [row for row in priced if row["premium_usd_nanos"] is not None]
    wasted = [
        row for row in priced if row["premium_usd_nanos"] is None and row["route"] and (
            row["outcome"] in ("failed", "broken")
            or (row["outcome"] == "abandoned" and row["output_tokens"] is None)
        )
    ]
    used = [
        row for row in rows if row["cost_usd_nanos"] is None and (
            row["outcome"] in ("ok", "broken") or row["input_tokens"] is not None or row["output_tokens"] is not None
        )
    ]
    ends = [
        sum(row["premium_usd_nanos"] if row[name] is None else row[name] for row in compared)
        for name in ("premium_low_nanos", "premium_high_nanos")
    ]
    return Figures(
        "total", requests=len(rows), failed=len([row for row in rows if row["outcome"] in ("failed", "broken")]),
        compared=len(compared), unpriced=len(used), estimated=len([row for row in rows if row["estimated"]]),
        input_tokens=total("input_tokens", rows), cached_tokens=400 * len(rows), cache_write_tokens=10 * len(rows),
        output_tokens=total("output_tokens", rows), reasoning_tokens=50 * len(rows),
        spent_nanos=total("cost_usd_nanos", rows), unused_nanos=total("unused_usd_nanos", rows),
        net_nanos=total("cost_usd_nanos", compared + wasted), premium_nanos=total("premium_usd_nanos", compared),
        low_nanos=ends[0], high_nanos=ends[1],
    )


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, AsyncEngine]]:
    """A store of one's own, and a loop for what is no test of a loop."""
    with asyncio.Runner() as runs:
        engine = opening.engine(LedgerConfig(directory=str(tmp_path)))
        runs.run(migrating.upgrade(engine))
        yield runs, engine
        runs.run(engine.dispose())


@given(_receipts)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reports_are_the_sum_of_their_receipts(
    runner: tuple[asyncio.Runner, AsyncEngine], written: list[dict[str, Any]]
) -> None:
    """Whatever the receipts are, and whatever one asks by, the figures are those of adding them up by hand."""
    runs, engine = runner
    rows = [receipt(number, **row) for number, row in enumerate(written)]

    async def reported() -> list[Figures]:
        """Store them, and report by everything."""
        await stored(engine, *rows)
        return [report.made(by, await reports.grouped(engine, by, Asked(0))).total for by in reports.BY]

    assert [by_force(rows)] * len(reports.BY) == runs.run(reported())
