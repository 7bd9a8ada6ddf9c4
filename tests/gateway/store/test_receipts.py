"""Receipts are stored exactly once, whatever befalls the store, and forgotten when their time is over."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from structlog.testing import capture_logs

from gateway.config import LedgerConfig, Secret
from gateway.store import accounts, migrating, opening
from gateway.store import receipts as room
from gateway.store.cleaning import cleaned
from gateway.store.opening import StoreError
from gateway.store.receipts import forget, save
from gateway.store.schema import DAY_MS, receipts, rollups, segments
from tests.gateway.store.conftest import AT_MS, Open, receipt, rows
from tests.services import Postgres

NOBODY = 65534
# A process that is killed when all but the end of the transaction is done.
DIE = """
import asyncio, sys
from gateway.config import LedgerConfig, Secret
from gateway.store import accounts, opening, receipts
from tests.gateway.store.conftest import receipt

async def settle(*_):
    print("all but done", flush=True)
    sys.stdin.readline()

async def start():
    accounts.settle = settle
    engine = opening.engine(LedgerConfig(url=Secret(sys.argv[1]), directory=sys.argv[2]))
    await receipts.save(engine, "one-1", "one", [receipt(n) for n in range(50)], settle=True)

asyncio.run(start())
"""


async def counted(engine: AsyncEngine) -> tuple[int, int, int]:
    """How many receipts there are, and requests by the hour and by the day."""
    found = await rows(engine, rollups)
    by = {span: sum(row["requests"] for row in found if row["span"] == span) for span in ("hour", "day")}
    return len(await rows(engine, receipts)), by["hour"], by["day"]


async def test_a_segment_is_stored_whole(engine: AsyncEngine) -> None:
    """Its receipts, what they add up to, and the mark that it is here."""
    assert await save(engine, "one-1", "one", [receipt(1), receipt(2)], settle=False)

    kept, = (row for row in await rows(engine, receipts) if row["request_id"] == "request-1")
    assert {name: kept[name] for name in ("caller", "stream", "p_cheap", "cost_usd_nanos", "estimated")} == {
        "caller": "shop", "stream": True, "p_cheap": 0.75, "cost_usd_nanos": 300_000, "estimated": None,
    }
    assert kept["attempts"] == '[{"model":"cheap","status":200,"wait_ms":12.5,"error":null}]'
    assert await counted(engine) == (2, 2, 2)
    assert [(row["segment"], row["holder"], row["receipts"]) for row in await rows(engine, segments)] == [
        ("one-1", "one", 2)
    ]


async def test_twice_is_once(engine: AsyncEngine) -> None:
    """A segment that is here already changes nothing, and it is said that it was here."""
    first = await save(engine, "one-1", "one", [receipt(1)], settle=False)
    second = await save(engine, "one-1", "one", [receipt(1), receipt(2)], settle=False)

    assert (first, second) == (True, False)
    assert await counted(engine) == (1, 1, 1)


async def test_an_empty_segment_is_stored(engine: AsyncEngine) -> None:
    """A segment without receipts is marked, and done."""
    assert await save(engine, "one-1", "one", [], settle=True)
    assert not await save(engine, "one-1", "one", [], settle=True)


async def test_many_at_once_add_up(ledger: LedgerConfig, opened: Open) -> None:
    """200 segments saved at once through four engines, each of them twice: every figure is exact."""
    engines = [await opened(ledger) for _ in range(4)]
    saved = await asyncio.gather(*(
        save(
            engines[(number + again) % 4], f"one-{number}", "one",
            [receipt(10 * number + i, caller=f"c{i % 3}", input_tokens=number) for i in range(5)], settle=False,
        )
        for number in range(200) for again in range(2)
    ))
    found = await rows(engines[0], rollups)

    assert sorted(saved) == [False] * 200 + [True] * 200
    assert await counted(engines[0]) == (1000, 1000, 1000)
    assert [(row["caller"], row["requests"], row["input_tokens"], row["cost_usd_nanos"]) for row in found] == [
        ("c0", 400, 2 * 19_900, 400 * 300_000), ("c1", 400, 2 * 19_900, 400 * 300_000),
        ("c2", 200, 19_900, 200 * 300_000),
    ] * 2


async def test_a_kill_in_the_middle_stores_nothing(ledger: LedgerConfig, engine: AsyncEngine) -> None:
    """What a process had done of a transaction when it was killed is undone; another stores the segment whole."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIE, ledger.url.reveal(), ledger.directory,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    said = await process.stdout.readline()
    process.kill()
    await process.communicate()
    between = await counted(engine)

    assert said == b"all but done\n"
    assert between == (0, 0, 0)
    assert await save(engine, "one-1", "one", [receipt(n) for n in range(50)], settle=False)
    assert await counted(engine) == (50, 50, 50)


async def test_the_end_of_the_server_in_the_middle_stores_nothing(
    opened: Open, own_postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When PostgreSQL is killed before the end of a transaction, the segment is stored once it is back."""
    engine = await opened(LedgerConfig(url=Secret(own_postgres.url), directory=str(tmp_path)))
    rows_ = [receipt(n) for n in range(50)]

    async def settle(*_: Any) -> None:
        """The last thing before the end."""
        await asyncio.to_thread(own_postgres.kill)

    with monkeypatch.context() as patch:
        patch.setattr(accounts, "settle", settle)
        with pytest.raises(StoreError):
            await save(engine, "one-1", "one", rows_, settle=True)
    with pytest.raises(StoreError):
        await save(engine, "one-1", "one", rows_, settle=False)
    await asyncio.to_thread(own_postgres.start)

    assert await save(engine, "one-1", "one", rows_, settle=False)
    assert await counted(engine) == (50, 50, 50)


async def test_accounts_are_settled_in_the_same_transaction(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each account is to pay is given to its room, once, and a fault there leaves nothing stored."""
    told = []

    async def settle(_: AsyncConnection, holder: str, sums: Mapping[tuple[str, str], int]) -> None:
        """Take it down, and fail."""
        told.append((holder, dict(sums)))
        raise OSError("broken")

    monkeypatch.setattr(accounts, "settle", settle)
    segment = [receipt(1), receipt(2, cost_usd_nanos=None), receipt(3, budgets=[["all", "total"]])]
    with pytest.raises(StoreError):
        await save(engine, "one-1", "one", segment, settle=True)
    left = await counted(engine)
    await save(engine, "one-1", "one", segment, settle=False)

    assert told == [("one", {("key:shop", "2026-11"): 300_000, ("all", "total"): 600_000})]
    assert left == (0, 0, 0)


async def test_nothing_to_pay_settles_nothing(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Receipts without budgets do not trouble the accounts."""
    monkeypatch.delattr(accounts, "settle")

    assert await save(engine, "one-1", "one", [receipt(1, budgets=None)], settle=True)


async def test_odd_receipts_are_stored(engine: AsyncEngine) -> None:
    """Missing and unknown fields, NUL, half characters, huge numbers, wrong kinds: the receipt is there."""
    odd = [
        {"request_id": "bare", "at_ms": AT_MS},
        receipt(1, colour="red"),
        receipt(2, error="a\0b\ud800", caller="k\0", task="\ud800"),
        receipt(3, input_tokens=2**70, cost_usd_nanos=-(2**70)),
        receipt(4, input_tokens="many", stream="yes", attempts={"a": object()}, ttft_ms=float("nan")),
        receipt(5, caller="漢" * 5_000, owner="漢" * 5_000, route="漢" * 5_000, model="漢" * 5_000, task="漢" * 5_000),
        receipt(6, request_id="r\0"),
    ]

    assert await save(engine, "one-1", "one", odd, settle=False)
    assert await counted(engine) == (7, 7, 7)


async def test_one_bad_receipt_does_not_keep_the_others_out(engine: AsyncEngine) -> None:
    """A receipt that is here already, twice in a segment or nobody's is left out of every figure; the log names it."""
    await save(engine, "one-1", "one", [receipt(1)], settle=False)
    with capture_logs() as logged:
        stored = await save(
            engine, "one-2", "one", [receipt(1), receipt(2), receipt(3), receipt(3), receipt(4, at_ms=None)],
            settle=False,
        )

    assert stored
    assert await counted(engine) == (3, 3, 3)
    assert [(line["log_level"], line["segment"], line["number"]) for line in logged] == [("error", "one-2", 3)]
    assert set(logged[0]["receipts"]) == {"request-1", "request-3", "request-4"}
    assert not await save(engine, "one-2", "one", [receipt(5)], settle=False)


async def test_what_cleaning_overlooks_is_left_out_by_the_store(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even a row that no cleaning has mended does not keep the others out, nor does the store take it."""
    monkeypatch.setattr(
        room, "cleaned",
        lambda row: ("odd", 2**80, *cleaned(row)[2:]) if row["request_id"] == "request-2" else cleaned(row),
    )
    with capture_logs() as logged:
        assert await save(engine, "one-1", "one", [receipt(n) for n in range(4)], settle=False)

    assert await counted(engine) == (3, 3, 3)
    assert [set(line["receipts"]) for line in logged] == [{"odd"}]


async def test_a_full_disk_is_not_the_receipts_fault(opened: Open, tmp_path: Path) -> None:
    """Nothing is stored or refused while there is no room; once there is, everything is."""
    engine = await opened(LedgerConfig(directory=str(tmp_path)))
    full = True

    @event.listens_for(engine.sync_engine, "checkout")
    def _(connection: Any, *_: Any) -> None:
        """Have SQLite find no room beyond what it has, or as much as it wants."""
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA max_page_count = {1 if full else 1_000_000}")
        cursor.close()

    segment = [receipt(n, prompt="x" * 10_000) for n in range(20)]
    with capture_logs() as logged, pytest.raises(StoreError, match="database or disk is full"):
        await save(engine, "one-1", "one", segment, settle=False)
    left, full = await counted(engine), False

    assert left == (0, 0, 0)
    assert logged == []
    assert await save(engine, "one-1", "one", segment, settle=False)
    assert await counted(engine) == (20, 20, 20)


@pytest.fixture
def closed() -> Iterator[Path]:
    """A directory that this process may read and not write, even where it is root's."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        yield Path(made)
        os.seteuid(user)
        Path(made).chmod(0o755)


async def test_a_directory_that_may_not_be_written(closed: Path, opened: Open) -> None:
    """A store that cannot be made is a StoreError which says so."""
    with pytest.raises(StoreError, match="Permission denied"):
        await migrating.upgrade(await opened(LedgerConfig(directory=str(closed)), None))
    with pytest.raises(StoreError, match="Permission denied"):
        await save(await opened(LedgerConfig(directory=str(closed / "in")), None), "one-1", "one", [], settle=False)


async def test_forgetting_keeps_what_the_ledger_keeps(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts go first, then receipts, hours and days, each when its time is over and not before, batch by batch."""
    monkeypatch.setattr(room, "BATCH", 7)
    monkeypatch.setattr(room, "PAUSE_S", 0)
    now_ms = AT_MS + 2_000 * DAY_MS
    ages = [0, 6, 8, 29, 31, 89, 91, 1_099, 1_101]
    await save(engine, "one-1", "one", [
        receipt(100 * age + i, at_ms=now_ms - age * DAY_MS, prompt="said", caller=f"c{i}")
        for age in ages for i in range(20)
    ], settle=False)
    async with opening.writing(engine) as connection:
        await connection.execute(segments.update().values(saved_ms=now_ms - 31 * DAY_MS))
    await save(engine, "one-2", "one", [], settle=False)
    async with opening.writing(engine) as connection:
        await connection.execute(segments.update().values(saved_ms=now_ms).where(segments.c.segment == "one-2"))

    ledger = LedgerConfig()
    await forget(engine, ledger, now_ms)
    await forget(engine, ledger, now_ms)

    kept, sums = await rows(engine, receipts), await rows(engine, rollups)
    days = {(row["span"], (now_ms - row["start_ms"]) // DAY_MS) for row in sums}
    assert sorted({(now_ms - row["at_ms"]) // DAY_MS for row in kept}) == [0, 6, 8, 29]
    assert {(now_ms - row["at_ms"]) // DAY_MS for row in kept if row["prompt"] is not None} == {0, 6}
    assert len(kept) == 4 * 20
    assert sorted(age for span, age in days if span == "hour") == [0, 6, 8, 29, 31, 89]
    assert sorted(age for span, age in days if span == "day") == ages[:-1]
    assert [row["segment"] for row in await rows(engine, segments)] == ["one-2"]


async def test_forgetting_uses_the_indices(engine: AsyncEngine) -> None:
    """What is old is found without reading what is not."""
    ways = {
        "sqlite": ("SELECT 1", "EXPLAIN QUERY PLAN", "SEARCH"),
        "postgresql": ("SET enable_seqscan = off", "EXPLAIN", "Index Cond"),      # it would read a small table whole
    }
    before, explain, used = ways[engine.dialect.name]
    async with opening.reading(engine) as connection:
        await connection.execute(text(before))
        for where in ("at_ms < 7", "prompt IS NOT NULL AND at_ms < 7", "caller = 'a' AND at_ms > 7"):
            plan = (await connection.execute(text(f"{explain} SELECT request_id FROM receipts WHERE {where}"))).all()  # noqa: S608
            assert used in str(plan), where
