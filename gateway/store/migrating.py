"""Bringing the store to the schema of this version: forwards only, once, however many processes start at a time."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.store.opening import WRITES, StoreError, translated

REVISIONS = ("0001", "0002")        # of gateway/store/migrations; known here so that a start need not import Alembic
HEAD = REVISIONS[-1]
WAIT_S = 3_600.0                    # for another process that is at it: a large ledger takes its time
_LOCK = 0x7468_7269_6674            # of our own choice, among PostgreSQL's advisory locks


async def revision(engine: AsyncEngine) -> str | None:
    """Return the store's revision, or None for a store that is empty. Raises StoreError."""
    async with translated(), engine.connect() as connection:
        return await connection.run_sync(_revision)


async def upgrade(engine: AsyncEngine, to: str = HEAD) -> None:
    """Bring the store to a revision. All is done or nothing. Raises StoreError, also for what is newer."""
    if _is_at(await revision(engine), to):
        return
    async with translated(limit_s=None), engine.connect() as connection:
        await _wait_for_turn(connection)
        if not _is_at(await connection.run_sync(_revision), to):        # else somebody else has done it meanwhile
            await connection.run_sync(_migrate, to)
        await connection.commit()
        await connection.invalidate()       # it was more patient than the others


def _is_at(found: str | None, to: str) -> bool:
    """Say whether nothing is to be done. Raises StoreError for a store that we do not know."""
    if found is not None and found not in REVISIONS:
        raise StoreError(
            f"the store is of revision {found}, which this version of Thriftgate does not know: a newer one has been "
            "there. Run that version, or give this one another store in ledger.url."
        )
    return found is not None and REVISIONS.index(found) >= REVISIONS.index(to)


async def _wait_for_turn(connection: AsyncConnection) -> None:
    if connection.dialect.name != "sqlite":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        return
    raw = await connection.get_raw_connection()
    assert raw.driver_connection is not None  # noqa: S101 - for the type checker; it has just been connected
    await (await raw.driver_connection.execute(f"PRAGMA busy_timeout = {WAIT_S * 1000:.0f}")).close()
    await connection.execution_options(**{WRITES: True})
    await connection.begin()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def _migrate(connection: Connection, to: str) -> None:
    from alembic import command  # noqa: PLC0415 - 100 ms and 11 MB, needed once in a version's life
    from alembic.config import Config  # noqa: PLC0415 - likewise

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, to)
