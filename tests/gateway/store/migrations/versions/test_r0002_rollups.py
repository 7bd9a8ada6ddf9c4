"""The second revision: a ledger that is there gets its roll-ups in place."""

from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.config import LedgerConfig
from gateway.store import migrating, opening, receipts
from gateway.store.cleaning import COLUMNS, cleaned
from gateway.store.schema import DAY_MS, HOUR_MS, rollups
from gateway.store.schema import receipts as table
from tests.gateway.store.conftest import AT_MS, Open, receipt, rows

OUTCOMES = ["ok", "failed", "broken", "refused", "abandoned"]


def written() -> list[dict[str, Any]]:
    """Receipts of every kind that the roll-ups count in a way of its own, over three days."""
    return [
        receipt(
            number,
            at_ms=AT_MS - DAY_MS + number * (HOUR_MS // 3),
            caller=[None, "shop", "a" * 500][number % 3],
            model=[None, "cheap"][number % 2],
            route=["auto", None][number // 6 % 2],
            outcome=OUTCOMES[number % 5],
            kind=["chat", "count_tokens", None][number // 5 % 3],
            cost_usd_nanos=[None, 0, 7_000_000_001][number % 3],
            premium_usd_nanos=[None, 9_000_000][number // 2 % 2],
            premium_low_nanos=[None, 8_000_000][number // 3 % 2],
            input_tokens=[None, 2**53][number // 7 % 2],
            output_tokens=[None, 5][number // 4 % 2],
            estimated=[None, True, False][number // 2 % 3],
            ttft_ms=[None, 0.125, 33.3][number // 2 % 3],
        )
        for number in range(150)
    ]


async def figures(engine: AsyncEngine) -> list[dict[str, Any]]:
    """The roll-ups; sums of latencies to the microsecond, since these are added in another order."""
    return [{**row, "ttft_ms_sum": round(row["ttft_ms_sum"], 3)} for row in await rows(engine, rollups)]


async def test_an_upgrade_keeps_the_figures(ledger: LedgerConfig, opened: Open) -> None:
    """A ledger of the first revision is upgraded in place to the figures that storing the receipts anew would give."""
    engine = await opened(ledger, "0001")
    async with opening.writing(engine) as connection:
        await connection.execute(insert(table), [dict(zip(COLUMNS, cleaned(row), strict=True)) for row in written()])
    before = await rows(engine, table)
    await migrating.upgrade(engine)
    upgraded, kept = await figures(engine), await rows(engine, table)
    async with opening.writing(engine) as connection:
        for emptied in (table, rollups):
            await connection.execute(emptied.delete())
    await receipts.save(engine, "one-1", "one", written()[:70], settle=False)
    await receipts.save(engine, "one-2", "one", written()[70:], settle=False)

    assert len(upgraded) > 100
    assert upgraded == await figures(engine)
    assert kept == before == await rows(engine, table)
    assert sum(row["requests"] for row in upgraded) == 2 * len(written())


async def test_an_empty_ledger_has_empty_rollups(ledger: LedgerConfig, opened: Open) -> None:
    """Nothing adds up to nothing."""
    engine = await opened(ledger, "0001")
    await migrating.upgrade(engine)

    assert [] == await rows(engine, rollups)


async def test_what_comes_after_the_upgrade_is_added(ledger: LedgerConfig, opened: Open) -> None:
    """New receipts are added to what the upgrade found."""
    engine = await opened(ledger, "0001")
    async with opening.writing(engine) as connection:
        await connection.execute(insert(table), [dict(zip(COLUMNS, cleaned(receipt(1)), strict=True))])
    await migrating.upgrade(engine)
    await receipts.save(engine, "one-1", "one", [receipt(2)], settle=False)

    assert [row["requests"] for row in await rows(engine, rollups)] == [2, 2]
