"""The store is brought to the schema of this version: once, whoever starts when."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.config import LedgerConfig
from gateway.store import migrating, opening
from gateway.store.opening import StoreError
from tests.gateway.store.conftest import Open

# What a process does that starts: it says when it is ready, and begins when it is told to, as all of them are at once.
START = """
import asyncio, sys
from gateway.config import LedgerConfig, Secret
from gateway.store import migrating, opening

async def start():
    engine = opening.engine(LedgerConfig(url=Secret(sys.argv[1]), directory=sys.argv[2]))
    print("ready", flush=True)
    sys.stdin.readline()
    await migrating.upgrade(engine)
    print(await migrating.revision(engine), "alembic" in sys.modules)
    await engine.dispose()

asyncio.run(start())
"""


def started(ledger: LedgerConfig) -> "subprocess.Popen[str]":
    """A process that waits for its line."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, ledger.url.reveal(), ledger.directory],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_the_revisions_are_those_that_alembic_finds() -> None:
    """What the code believes to be the newest revision is."""
    scripts = ScriptDirectory(str(Path(migrating.__file__).parent / "migrations"))

    assert [script.revision for script in scripts.walk_revisions()] == [*reversed(migrating.REVISIONS)]
    assert scripts.get_heads() == [migrating.HEAD]


async def test_an_empty_store_becomes_ours(ledger: LedgerConfig, opened: Open) -> None:
    """A store has no revision, and then the newest; once more changes nothing."""
    engine = await opened(ledger, None)
    before = await migrating.revision(engine)
    await migrating.upgrade(engine)
    await migrating.upgrade(engine)

    assert (before, await migrating.revision(engine)) == (None, migrating.HEAD)


async def test_several_processes_may_start_at_once(ledger: LedgerConfig) -> None:
    """Five processes that find an empty store all end with one that is whole, and none fails."""
    processes = await asyncio.gather(*(asyncio.to_thread(started, ledger) for _ in range(5)))
    ended = await asyncio.gather(*(asyncio.to_thread(process.communicate, "now\n") for process in processes))

    assert [process.returncode for process in processes] == [0] * 5
    assert {said.split()[0] for said, _ in ended} == {migrating.HEAD}


async def test_alembic_is_only_there_when_it_is_needed(engine: AsyncEngine, ledger: LedgerConfig) -> None:
    """A process that finds the store as it should be does not load Alembic."""
    process = await asyncio.to_thread(started, ledger)
    said, _ = await asyncio.to_thread(process.communicate, "now\n")

    assert said == f"{migrating.HEAD} False\n"


async def test_who_comes_second_waits(ledger: LedgerConfig, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one migrates, another waits for it, and then finds nothing left to do."""
    one, other = await opened(ledger, None), await opened(ledger, None)
    calls, real = [], migrating._migrate

    def migrate(connection: Connection, to: str) -> None:
        """Count, and do it."""
        calls.append(to)
        real(connection, to)

    monkeypatch.setattr(migrating, "_migrate", migrate)

    await asyncio.gather(migrating.upgrade(one), migrating.upgrade(other))

    assert calls == [migrating.HEAD]


async def test_a_migration_that_fails_leaves_the_store_as_it_was(
    ledger: LedgerConfig, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is done or nothing, on SQLite as well; and it may be tried again."""
    engine = await opened(ledger, "0001")
    real = migrating._migrate

    def broken(connection: Connection, to: str) -> None:
        """Do it all, and fail at the end."""
        real(connection, to)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(migrating, "_migrate", broken)
    with pytest.raises(StoreError, match="No space left"):
        await migrating.upgrade(engine)
    monkeypatch.undo()
    async with opening.reading(engine) as connection:
        tables = await connection.run_sync(lambda c: set(inspect(c).get_table_names()))
    left = await migrating.revision(engine)
    await migrating.upgrade(engine)

    assert left == "0001"
    assert "rollups" not in tables
    assert await migrating.revision(engine) == migrating.HEAD


async def test_a_newer_store_is_left_alone(engine: AsyncEngine) -> None:
    """A store of a revision that we do not know is not touched, and it is said what to do."""
    async with opening.writing(engine) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))

    with pytest.raises(StoreError, match=r"revision 0999.*newer.*ledger\.url"):
        await migrating.upgrade(engine)
    assert await migrating.revision(engine) == "0999"


async def test_there_is_no_way_back(engine: AsyncEngine) -> None:
    """Asking for an earlier revision changes nothing."""
    await migrating.upgrade(engine, "0001")

    assert await migrating.revision(engine) == migrating.HEAD
