"""The first revision."""

from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.config import LedgerConfig
from gateway.store import opening
from tests.gateway.store.conftest import Open


async def tables(connection: AsyncConnection) -> set[str]:
    """The tables that are there."""
    return await connection.run_sync(lambda connected: set(inspect(connected).get_table_names()))


async def test_it_makes_the_tables(ledger: LedgerConfig, opened: Open) -> None:
    """Receipts, segments, keys and accounts are there, and the number that changes of the keys raise is 0."""
    async with opening.reading(await opened(ledger, "0001")) as connection:
        made = await tables(connection)
        number = (await connection.execute(text("SELECT keys FROM changes"))).scalar_one()

    assert made == {"alembic_version", "receipts", "segments", "keys", "changes", "accounts", "loans"}
    assert number == 0
