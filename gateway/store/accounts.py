"""What was spent on each account, as the stored receipts say."""

from collections.abc import Mapping

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.schema import accounts


async def settle(connection: AsyncConnection, holder: str, sums: Mapping[tuple[str, str], int]) -> None:  # noqa: ARG001
    """Book what a saved segment cost: account and period, with nano-dollars."""
    insert = sqlite.insert(accounts) if connection.dialect.name == "sqlite" else postgresql.insert(accounts)
    spent = accounts.c.spent_nanos + insert.excluded.spent_nanos
    statement = insert.on_conflict_do_update(index_elements=list(accounts.primary_key), set_={"spent_nanos": spent})
    await connection.execute(statement, [
        {"account": account, "period": period, "spent_nanos": nanos}
        for (account, period), nanos in sorted(sums.items())
    ])
