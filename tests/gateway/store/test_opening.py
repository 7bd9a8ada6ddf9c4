"""The door to the store: where it is, who may read it, and what is said when it is shut."""

import asyncio
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.config import LedgerConfig, Secret
from gateway.store import migrating, opening
from gateway.store.opening import StoreError, reading, writing
from gateway.store.schema import keys
from tests.gateway.store.conftest import Open
from tests.services import PASSWORD, Database, Postgres


def ledger_at(url: str, directory: Path) -> LedgerConfig:
    """A ledger at a URL."""
    return LedgerConfig(url=Secret(url), directory=str(directory))


@pytest.fixture
def umask() -> Iterator[None]:
    """A process whose files everybody may read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


async def test_the_file_is_for_the_gateway_alone(opened: Open, tmp_path: Path, umask: None) -> None:
    """SQLite's files are of mode 0600 in a directory of mode 0700, whatever the process gives its files otherwise."""
    engine = await opened(ledger_at("sqlite", tmp_path / "data"))
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE changes SET keys = 1"))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}

    assert modes == {"ledger.sqlite": 0o600, "ledger.sqlite-wal": 0o600, "ledger.sqlite-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


async def test_a_path_is_where_the_file_is(opened: Open, tmp_path: Path) -> None:
    """`sqlite:///PATH` is that file, per cent signs and all."""
    await opened(ledger_at(f"sqlite:///{tmp_path}/50 % of it.db", tmp_path / "data"))

    assert (tmp_path / "50 % of it.db").is_file()
    assert not (tmp_path / "data").exists()


async def test_sqlite_is_set_up(opened: Open, tmp_path: Path) -> None:
    """Every connection writes ahead, and waits for other processes."""
    engine = await opened(ledger_at("sqlite", tmp_path))
    async with reading(engine) as connection, reading(engine) as other:
        said = [
            (await each.execute(text(f"PRAGMA {name}"))).scalar_one()
            for each in (connection, other) for name in ("journal_mode", "synchronous", "busy_timeout")
        ]

    assert said == ["wal", 1, 5_000] * 2


async def test_what_the_url_asks_of_postgres_is_heard(opened: Open, postgres: Database, tmp_path: Path) -> None:
    """The short scheme and libpq's parameters work as they do with other programs."""
    url = postgres.url.replace("postgresql://", "postgres://") + "?sslmode=prefer&application_name=mine"
    engine = await opened(ledger_at(url, tmp_path))
    async with reading(engine) as connection:
        assert (await connection.execute(text("SHOW application_name"))).scalar_one() == "mine"


async def test_what_is_written_holds_or_is_undone(engine: AsyncEngine) -> None:
    """A block that raises leaves nothing behind, tables it made included."""
    async def fail() -> None:
        """Write, and raise."""
        async with writing(engine) as connection:
            await connection.execute(text("CREATE TABLE left_behind (number integer)"))
            await connection.execute(text("UPDATE changes SET keys = 7"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE changes SET keys = keys + 1"))
    async with reading(engine) as connection:
        assert (await connection.execute(text("SELECT keys FROM changes"))).scalar_one() == 1
    with pytest.raises(StoreError, match="left_behind"):
        async with reading(engine) as connection:
            await connection.execute(text("SELECT * FROM left_behind"))


async def test_writers_who_read_first_do_not_lose_anything(ledger: LedgerConfig, opened: Open) -> None:
    """A hundred times read and write of several engines at once are a hundred changes."""
    engines = [await opened(ledger) for _ in range(3)]
    lock = " FOR UPDATE" if engines[0].dialect.name == "postgresql" else ""

    async def add(engine: AsyncEngine) -> None:
        """Read the number, and write one more."""
        async with writing(engine) as connection:
            number = (await connection.execute(text(f"SELECT keys FROM changes{lock}"))).scalar_one()  # noqa: S608
            await connection.execute(text("UPDATE changes SET keys = :number"), {"number": number + 1})

    await asyncio.gather(*(add(engine) for _ in range(34) for engine in engines))

    async with reading(engines[0]) as connection:
        assert (await connection.execute(text("SELECT keys FROM changes"))).scalar_one() == 102


async def test_readers_are_not_kept_waiting(engine: AsyncEngine) -> None:
    """Whoever reads sees what held before, while somebody writes."""
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE changes SET keys = 7"))
        async with reading(engine) as other:
            assert (await other.execute(text("SELECT keys FROM changes"))).scalar_one() == 0


async def refused(engine: AsyncEngine) -> str:
    """What is said of a store that cannot be opened."""
    with pytest.raises(StoreError) as error:
        await migrating.revision(engine)
    assert error.value.__cause__ is None
    return str(error.value)


async def test_a_path_that_cannot_be_made(opened: Open, tmp_path: Path) -> None:
    """A directory that is a file is said to be one."""
    (tmp_path / "file").write_text("")

    assert "exists" in (await refused(await opened(ledger_at("sqlite", tmp_path / "file"), None))).lower()


async def test_a_file_that_is_no_database(opened: Open, tmp_path: Path) -> None:
    """Something else under that name is left alone."""
    (tmp_path / "ledger.sqlite").write_text("my diary " * 1000)

    assert "file is not a database" in await refused(await opened(ledger_at("sqlite", tmp_path), None))
    assert (tmp_path / "ledger.sqlite").read_text().startswith("my diary")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:marked-secret@127.0.0.1:1/x", "Connect call failed"),
        ("postgresql://u:marked-secret@nowhere.invalid/x", "cannot be reached"),
        ("postgresql://u:marked-secret@127.0.0.1:99999999/x", ""),
        ("postgresql://u:marked-secret@[/x", ""),
        ("postgresql://u:marked-secret@/x?sslmode=marked-secret", ""),
    ],
    ids=["nobody there", "no such host", "no such port", "no address", "no such mode"],
)
async def test_postgres_that_is_not_there(opened: Open, tmp_path: Path, url: str, said: str) -> None:
    """It is said why, without the URL and its password."""
    text_ = await refused(await opened(ledger_at(url, tmp_path), None))

    assert said in text_
    assert "marked-secret" not in text_
    assert "postgresql://" not in text_


async def test_a_database_that_does_not_exist(opened: Open, postgres: Database, tmp_path: Path) -> None:
    """PostgreSQL's own words reach the operator."""
    said = await refused(await opened(ledger_at(postgres.url + "_not", tmp_path), None))

    assert "does not exist" in said
    assert PASSWORD not in said


async def test_what_was_being_stored_is_not_told(engine: AsyncEngine) -> None:
    """A refusal that would quote values says only what kind it is."""
    async def write() -> None:
        """Write a key."""
        async with writing(engine) as connection:
            await connection.execute(
                keys.insert().values(name="n", digest="marked-secret", hint="h", former=[], created_ms=1)
            )

    await write()
    with pytest.raises(StoreError) as error:
        await write()

    assert "marked-secret" not in str(error.value)
    assert "the store refused" in str(error.value)


async def test_postgres_may_come_back(opened: Open, own_postgres: Postgres, tmp_path: Path) -> None:
    """Once it is back, after an end in order or a kill, the next piece of work is done as if nothing had been."""
    engine = await opened(ledger_at(own_postgres.url, tmp_path))
    for end in (own_postgres.stop, own_postgres.kill):
        async with reading(engine), reading(engine):
            pass
        await asyncio.to_thread(end)
        await refused(engine)
        await asyncio.to_thread(own_postgres.start)

        assert await migrating.revision(engine) == migrating.HEAD


async def test_work_ends_at_its_limit(engine: AsyncEngine) -> None:
    """What takes too long is undone, and the store is there for the next piece of work."""
    async def linger() -> None:
        """Write, and wait for what never comes."""
        async with opening.translated(0.05), engine.begin() as connection:
            await connection.execute(text("UPDATE changes SET keys = 7"))
            await asyncio.get_running_loop().create_future()

    with pytest.raises(StoreError, match="did not answer in time"):
        await linger()
    async with writing(engine) as connection:
        assert (await connection.execute(text("SELECT keys FROM changes"))).scalar_one() == 0


async def test_a_server_that_says_nothing_counts_as_dead(opened: Open, own_postgres: Postgres, tmp_path: Path) -> None:
    """Work ends at the limit when the server has our connection and never answers on it, nor on a new one."""
    engine = await opened(ledger_at(own_postgres.url, tmp_path))
    async with reading(engine) as connection:
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    os.kill(pid, signal.SIGSTOP)        # a process of our own server
    own_postgres.freeze()
    try:
        with pytest.raises(StoreError, match="did not answer in time"):
            async with asyncio.timeout(10), opening.translated(0.3), engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
    finally:
        own_postgres.thaw()
        os.kill(pid, signal.SIGCONT)

    assert await migrating.revision(engine) == migrating.HEAD


async def test_there_is_no_store_at_none(tmp_path: Path) -> None:
    """Asking for one is a fault of ours that is said."""
    with pytest.raises(StoreError, match=r"ledger\.url is none"):
        opening.engine(ledger_at("none", tmp_path))
