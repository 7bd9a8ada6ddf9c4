"""The schema and the migrations say the same."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.receipt import Receipt
from gateway.store import opening
from gateway.store.schema import metadata, receipts

LOGGED_ONLY = {"cost_usd_micros", "premium_usd_micros", "unused_usd_micros"}      # the same in another unit, for people


async def test_the_migrations_lead_to_the_schema(engine: AsyncEngine) -> None:
    """A store that was migrated has the tables, columns and indices that the code believes in, on both kinds."""
    def differences(connection: Connection) -> list[object]:
        """What a migration would have to change."""
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    async with opening.reading(engine) as connection:
        assert await connection.run_sync(differences) == []


def test_every_field_of_a_receipt_has_a_column() -> None:
    """Nothing that a receipt says is lost on the way to the store."""
    said = set(Receipt("r", 0.0).close(1.0).fields())

    assert said - set(receipts.columns.keys()) == LOGGED_ONLY
