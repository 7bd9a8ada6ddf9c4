"""Receipts on their way to the store: each is there, once, whatever becomes of the store, the disk and the process."""

import asyncio
import contextlib
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import BOUND_S, Running, Start, chat, two_rungs
from tests.path.clerk import bearer
from tests.path.conftest import Process, Spawn
from tests.services import Database, Postgres

KEPT = "ledger: {url: sqlite}"
LISTS = {"attempts", "cost_parts", "budgets", "lost", "continued"}      # JSON texts in the table
LOGGED_ONLY = {"cost_usd_micros", "premium_usd_micros", "unused_usd_micros", "level", "event", "time"}
ENDS: list[Any] = [
    chat("whole"),
    chat("streamed", stream=True),
    chat("broken", stream=True, mock={"fault": "cut-rst", "after": 3}),
    chat("fails everywhere", mock={"error_rate": 1}),
    chat("refused there", mock={"error_rate": 1, "status": 400}),
    chat(model="gpt-99"),
    b"not JSON",
    {"model": "cheap", "input": "hi"},
]


class Store(NamedTuple):
    """Where receipts are kept, and how its tables are read: a JSON object a row."""

    section: str
    rows: Callable[[str], list[dict[str, Any]]]

    async def receipts(self, number: int) -> list[dict[str, Any]]:
        """Return the stored receipts as soon as there are so many."""
        async with asyncio.timeout(BOUND_S):
            while len(rows := await asyncio.to_thread(self.rows, "receipts")) < number:  # noqa: ASYNC110 - a store
                await asyncio.sleep(0.05)
        return rows


def in_file(path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """Return what reads a table of a SQLite file."""
    def rows(table: str) -> list[dict[str, Any]]:
        """Read it; before the file is set up there is nothing in it."""
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as file:
            file.row_factory = sqlite3.Row
            with contextlib.suppress(sqlite3.OperationalError):
                return [dict(row) for row in file.execute(f"SELECT * FROM {table}")]  # noqa: S608 - a test's own
        return []

    return rows


def in_database(sql: Callable[[str], str]) -> Callable[[str], list[dict[str, Any]]]:
    """Return what reads a table of a PostgreSQL database."""
    def rows(table: str) -> list[dict[str, Any]]:
        """Read it; before it is set up there is nothing in it."""
        try:
            found = sql(f"SELECT row_to_json(t) FROM {table} t")  # noqa: S608 - a test's own
        except AssertionError:
            return []
        return [orjson.loads(line) for line in found.splitlines()]

    return rows


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each kind of store, empty."""
    if request.param == "postgres":
        database: Database = request.getfixturevalue("postgres")
        yield Store(f"ledger: {{url: '{database.url}'}}", in_database(database.sql))
    else:
        yield Store(KEPT, in_file(tmp_path / "ledger.sqlite"))


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a stored receipt as the log has it, without what there is nothing to say of."""
    told = {name: value for name, value in row.items() if value is not None}
    told |= {name: bool(told[name]) for name in ("stream", "estimated") if name in told}
    told |= {name: orjson.loads(told[name]) for name in LISTS if name in told}
    return {name: value for name, value in told.items() if value not in ([], {})}


def logged(receipt: dict[str, Any]) -> dict[str, Any]:
    """Return a receipt of the log likewise."""
    told = orjson.loads(orjson.dumps(receipt))
    return {name: value for name, value in told.items() if value not in (None, [], {}) and name not in LOGGED_ONLY}


async def metric(running: Running | Process, name: str) -> float:
    """Return the sum of a metric."""
    client = running.client if isinstance(running, Process) else running
    lines = (await client.get("/metrics")).body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


# ── what is stored ──


async def test_every_receipt_is_stored_as_it_is_logged(store: Store, serve: Start) -> None:
    """However a request ended: one row, with the fields of the log's line, and nothing else."""
    keys = "keys: {app: {secret: sk-app, owner: team, budget: {usd: 1}}}\nowners: {team: {budget: {usd: 2}}}"
    running = await serve(more=f"{store.section}\n{keys}")
    for body in ENDS * 3:
        await running.ask(body, bearer("sk-app"))
    await running.ask(chat(), bearer("sk-unknown"))
    written = await running.receipts.until(len(ENDS) * 3 + 1)
    rows = await store.receipts(len(written))
    by_id = {row["request_id"]: row for row in rows}

    assert len(rows) == len(by_id) == len(written)
    for receipt in written:
        assert plain(by_id[receipt["request_id"]]) == logged(receipt)
    assert {row["outcome"] for row in rows} == {"ok", "broken", "failed", "refused"}


async def test_a_shutdown_stores_what_is_there(store: Store, process: Spawn, first: MockUpstream) -> None:
    """What was served a moment before the end is stored at the end, and no file waits."""
    running = await process(two_rungs(first.base_url, first.base_url, more=store.section))
    for _ in range(5):
        await running.client.ask()
    running.terminate()
    status = await running.ended()
    rows = await asyncio.to_thread(store.rows, "receipts")

    assert (status, len(rows)) == (0, 5)
    assert {row["request_id"] for row in rows} == {line["request_id"] for line in running.receipts}


async def test_two_processes_store_into_one_place(
    store: Store, process: Spawn, first: MockUpstream, second: MockUpstream
) -> None:
    """Two workers on one port: every receipt of both, once; the roll-ups are their sum."""
    running = await process(two_rungs(first.base_url, second.base_url, more=store.section), workers=2)
    await running.answering()
    await asyncio.gather(*(running.client.ask(chat(f"number {n}")) for n in range(40)))
    running.terminate()
    status = await running.ended()
    rows = await asyncio.to_thread(store.rows, "receipts")
    hours = [row for row in await asyncio.to_thread(store.rows, "rollups") if row["span"] == "hour"]

    assert (status, len(rows), len({row["request_id"] for row in rows})) == (0, 40, 40)
    assert sum(row["requests"] for row in hours) == 40
    assert sum(row["cost_usd_nanos"] for row in hours) == sum(row["cost_usd_nanos"] for row in rows)


@pytest.mark.parametrize("kept", [True, False], ids=["asked for", "by default"])
async def test_prompts_are_stored_only_when_asked_for(store: Store, serve: Start, *, kept: bool) -> None:
    """`server.log_prompts` says so, for the log and the store alike."""
    running = await serve(more=f"{store.section}\nserver: {{log_prompts: {str(kept).lower()}}}")
    await running.ask(chat("a marked prompt"))
    rows = await store.receipts(1)

    assert rows[0]["prompt"] == ("a marked prompt" if kept else None)
    assert ("a marked prompt" in str(rows)) is kept


# ── what may befall it ──


async def test_a_store_that_is_away_costs_no_request_and_no_receipt(
    own_postgres: Postgres, serve: Start, first: MockUpstream
) -> None:
    """Stopped under load: every request is served, every receipt waits on disk, and is stored once when it is back."""
    store = Store("", in_database(own_postgres.sql))
    running = await serve(more=f"ledger: {{url: '{own_postgres.url}'}}")
    await asyncio.gather(*(running.ask(chat(f"before {n}")) for n in range(20)))
    under = asyncio.gather(*(running.ask(chat(f"under it {n}", stream=n % 2 == 0)) for n in range(60)))
    await asyncio.to_thread(own_postgres.kill)
    replies = await under
    away = [await running.ask(chat(f"away {n}")) for n in range(20)]
    await running.receipts.until(100)
    async with asyncio.timeout(BOUND_S):
        while await metric(running, "thriftgate_store_up"):
            await running.ask()
    waiting = await metric(running, "thriftgate_spool_bytes")
    dropped = await metric(running, "thriftgate_receipts_dropped_total")
    await asyncio.to_thread(own_postgres.start)
    rows = await store.receipts(len(running.receipts.written))

    assert {reply.status for reply in (*replies, *away)} == {200}
    assert all(reply.whole for reply in replies)
    assert (waiting > 0, dropped) == (True, 0)
    assert {row["request_id"] for row in rows} == {each["request_id"] for each in running.receipts.written}
    assert len(rows) == len(running.receipts.written)


async def test_a_frozen_store_holds_nobody_up(own_postgres: Postgres, serve: Start, first: MockUpstream) -> None:
    """One that takes connections and answers nothing: requests are served as if it were not there."""
    store = Store("", in_database(own_postgres.sql))
    running = await serve(more=f"ledger: {{url: '{own_postgres.url}'}}")
    await running.ask()
    await store.receipts(1)
    own_postgres.freeze()
    replies = await asyncio.gather(*(running.ask(chat(f"number {n}")) for n in range(50)))
    own_postgres.thaw()
    rows = await store.receipts(51)

    assert ({reply.status for reply in replies}, len(rows)) == ({200}, 51)


async def test_a_killed_process_leaves_its_receipts_to_the_next(
    store: Store, process: Spawn, gateway: Start, first: MockUpstream
) -> None:
    """Killed with receipts that the log already has: the next start finds them on disk, and stores each once."""
    text = two_rungs(first.base_url, first.base_url, more=store.section)
    dying = await process(text)
    for _ in range(3):
        await asyncio.gather(*(dying.client.ask(chat(f"number {n}")) for n in range(10)))
        for _ in range(10):
            await dying.line("receipt")
    dying.signal(signal.SIGKILL)
    await dying.ended()
    heir = await gateway(text)
    await heir.ask()
    rows = await store.receipts(31)

    assert len({row["request_id"] for row in rows}) == len(rows) == 31
    assert {line["request_id"] for line in dying.receipts} < {row["request_id"] for row in rows}


async def test_a_directory_that_cannot_be_written_costs_no_request(
    process: Spawn, first: MockUpstream, tmp_path: Path
) -> None:
    """Requests are served; the log and a metric say that receipts are in memory only, and when they no longer are."""
    (tmp_path / "spool").write_text("a file where a directory is wanted")
    (tmp_path / "ledger.sqlite").mkdir()
    text = two_rungs(first.base_url, first.base_url, more="keys: {app: {secret: sk-app}}")
    running = await process(text)
    statuses = [(await running.client.ask(headers=bearer("sk-app"))).status for _ in range(5)]
    said = await running.line("spool not written")
    held = [await metric(running, f"thriftgate_{name}") for name in ("spool_writable", "store_up", "receipts_held")]
    (tmp_path / "spool").unlink()
    (tmp_path / "ledger.sqlite").rmdir()
    again = await running.line("spool written again")
    rows = await Store("", in_file(tmp_path / "ledger.sqlite")).receipts(5)
    running.terminate()

    assert (statuses, said["level"], again["level"]) == ([200] * 5, "error", "info")
    assert held == [0, 0, 5]
    assert ({row["outcome"] for row in rows}, len(rows), await running.ended()) == ({"ok"}, 5, 0)
