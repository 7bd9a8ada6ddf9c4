"""A store of either kind, and receipts to put there."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.config import LedgerConfig, Secret
from gateway.store import migrating, opening

AT_MS = 1_795_867_200_000 + 3_600_000       # 2026-11-28, 13:00 UTC

Open = Callable[..., Awaitable[AsyncEngine]]


def receipt(number: int, **more: Any) -> dict[str, Any]:
    """A receipt as the spool holds it."""
    return {
        "request_id": f"request-{number}", "at_ms": AT_MS + number, "caller": "shop", "owner": "sales",
        "surface": "openai", "kind": "chat", "route": "auto", "model": "cheap", "upstream": "first", "rung": "cheap",
        "reason": "p_cheap", "score": 0.25, "p_cheap": 0.75, "threshold": 0.5, "propensity": None, "task": "code",
        "verdict": "model", "stream": True, "status": 200, "outcome": "ok", "error": None, "finish": "stop",
        "conversation": "c1", "attempts": [{"model": "cheap", "status": 200, "wait_ms": 12.5, "error": None}],
        "classify_ms": 1.25, "queued_ms": 0.0, "ttft_ms": 100.5, "total_ms": 900.0, "sent_bytes": 3_000,
        "input_tokens": 1_000, "cached_tokens": 400, "cache_write_tokens": 10, "output_tokens": 200,
        "reasoning_tokens": 50, "cost_usd_nanos": 300_000, "cost_usd_micros": 300,
        "cost_parts": {"input": 100_000, "output": 200_000}, "unused_usd_nanos": 1_000, "unused_usd_micros": 1,
        "premium_usd_nanos": 9_000_000, "premium_low_nanos": 8_000_000, "premium_high_nanos": 10_000_000,
        "budgets": [["key:shop", "2026-11"], ["all", "total"]], **more,
    }


async def rows(engine: AsyncEngine, table: Table) -> list[dict[str, Any]]:
    """What a table holds, in the order of its key."""
    async with opening.reading(engine) as connection:
        found = await connection.execute(select(table).order_by(*table.primary_key))
        return [dict(row) for row in found.mappings()]


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerConfig:
    """An empty store of either kind."""
    url = "sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres").url
    return LedgerConfig(url=Secret(url), directory=str(tmp_path / "data"))


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """`await opened(ledger, to=…)`: an engine whose store is of this revision; to=None leaves it as it is."""
    engines = []

    async def open_(ledger: LedgerConfig, to: str | None = migrating.HEAD) -> AsyncEngine:
        """Open it."""
        engines.append(opening.engine(ledger))
        if to is not None:
            await migrating.upgrade(engines[-1], to)
        return engines[-1]

    yield open_
    for engine in engines:
        await engine.dispose()


@pytest.fixture
async def engine(ledger: LedgerConfig, opened: Open) -> AsyncEngine:
    """That store, ready."""
    return await opened(ledger)
