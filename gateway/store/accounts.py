"""Budgets' accounts in the store: the rules of gateway/budgets.py, a transaction for each question.

Whoever asks, and whoever stores receipts, locks the accounts first and in the order of their names, so that nobody
waits for somebody who waits for them. Time is the store's.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, Table, bindparam, delete, func, literal_column, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.budgets import TERM_MS, WANTED_MS, Ask, Book, Loan, NoHome, Reply, period_of
from gateway.config.money import LedgerConfig
from gateway.store.opening import StoreError, reading, writing
from gateway.store.schema import DAY_MS, accounts, loans

LIMIT_S = 2.0           # how long a request waits for the store
T = TypeVar("T")
_NOW: dict[str, ColumnElement[int]] = {
    "sqlite": literal_column("CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"),
    "postgresql": literal_column("CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"),
}


class AskStore(Protocol):
    """What has something done with the store. Raises StoreError, also when it takes longer than that."""

    def __call__(self, work: Callable[[AsyncEngine], Awaitable[T]], limit_s: float, /) -> Awaitable[T]: ...


class Stored:
    """The accounts' home for processes that share a store."""

    def __init__(
        self, ask: AskStore, *, term_ms: int = TERM_MS, limit_s: float = LIMIT_S,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        self.term_s = term_ms / 1000
        self._ask = ask
        self._term_ms = term_ms
        self._limit_s = limit_s
        self._clock_ms = clock_ms       # default: the store's own

    async def call(self, holder: str, asks: Sequence[Ask]) -> Sequence[Reply]:
        """Answer questions about several accounts, each account once. Raises NoHome."""
        async def answer(engine: AsyncEngine) -> list[Reply]:
            async with writing(engine) as connection:
                books = await _locked(connection, sorted((ask.name, ask.period) for ask in asks))
                now_ms = await self._now_ms(connection)
                before = {account: (book.told_nanos, book.wanted_ms) for account, book in books.items()}
                replies = [
                    books[ask.name, ask.period].answer(holder, ask, now_ms, self._term_ms) for ask in asks
                ]
                changed = {
                    account: book for account, book in books.items()
                    if (book.told_nanos, book.wanted_ms) != before[account]
                }
                await _written(connection, holder, books, changed)
            return replies

        return await self._asked(answer)

    async def wanted(self) -> Collection[tuple[str, str]]:
        """Return of which accounts somebody needs what others may have to spare. Raises NoHome."""
        async def answer(engine: AsyncEngine) -> list[tuple[str, str]]:
            async with reading(engine) as connection:
                since = accounts.c.wanted_ms > await self._now_ms(connection) - WANTED_MS
                found = await connection.execute(select(accounts.c.account, accounts.c.period).where(since))
                return [(account, period) for account, period in found]

        return await self._asked(answer)

    async def spent(self, names: Sequence[tuple[str, str]]) -> list[int]:
        """Return what was spent of accounts, as far as it is settled. Raises NoHome."""
        async def answer(engine: AsyncEngine) -> list[int]:
            async with reading(engine) as connection:
                found = await connection.execute(select(accounts).where(tuple_(*accounts.primary_key).in_(names)))
                spent = {(row.account, row.period): row.spent_nanos for row in found}
            return [spent.get(account, 0) for account in names]

        return await self._asked(answer)

    async def _asked(self, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
        try:
            return await self._ask(work, self._limit_s)
        except StoreError as error:
            raise NoHome(str(error)) from None

    async def _now_ms(self, connection: AsyncConnection) -> int:
        if self._clock_ms is not None:
            return self._clock_ms()
        return int((await connection.execute(select(_NOW[connection.dialect.name]))).scalar_one())


async def settle(connection: AsyncConnection, holder: str, sums: Mapping[tuple[str, str], int]) -> None:
    """Book what a saved segment cost, by account and period, and that it came out of its holder's loans."""
    rows = [
        {"account": account, "period": period, "spent_nanos": nanos, "told_nanos": 0, "wanted_ms": 0}
        for (account, period), nanos in sorted(sums.items())
    ]
    insert = _insert(connection, accounts)
    spent = {"spent_nanos": accounts.c.spent_nanos + insert.excluded.spent_nanos}
    await connection.execute(insert.on_conflict_do_update(index_elements=list(accounts.primary_key), set_=spent), rows)
    mine = [loans.c[name] == bindparam(f"_{name}") for name in ("account", "period", "holder")]
    settled = update(loans).where(*mine).values(settled_nanos=loans.c.settled_nanos + bindparam("_nanos"))
    await connection.execute(settled, [
        {"_account": row["account"], "_period": row["period"], "_holder": holder, "_nanos": row["spent_nanos"]}
        for row in rows
    ])


async def forget(engine: AsyncEngine, ledger: LedgerConfig, now_ms: int) -> None:
    """Remove accounts and loans that nobody asks for any more. Raises StoreError."""
    day, month = (
        period_of("day", (now_ms - ledger.hours_days * DAY_MS) / 1000),
        period_of("month", (now_ms - ledger.days_days * DAY_MS) / 1000),
    )
    period = accounts.c.period
    length = func.length(period)
    async with writing(engine) as connection:
        await connection.execute(delete(loans).where(loans.c.expires_ms < now_ms - DAY_MS))
        await connection.execute(delete(accounts).where((length == len(day)) & (period < day)))
        await connection.execute(delete(accounts).where((length == len(month)) & (period < month)))


async def _locked(connection: AsyncConnection, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Book]:
    """Return the accounts with their loans. Nobody else changes them before the end of the transaction."""
    fresh = [
        {"account": account, "period": period, "spent_nanos": 0, "told_nanos": 0, "wanted_ms": 0}
        for account, period in names
    ]
    await connection.execute(_insert(connection, accounts).on_conflict_do_nothing(), fresh)
    key = tuple_(*accounts.primary_key)
    there = select(accounts).where(key.in_(names)).order_by(*accounts.primary_key).with_for_update()
    books = {
        (row.account, row.period): Book(row.spent_nanos, row.told_nanos, row.wanted_ms)
        for row in await connection.execute(there)
    }
    lent = select(loans).where(tuple_(loans.c.account, loans.c.period).in_(names))
    for row in await connection.execute(lent):
        books[row.account, row.period].loans[row.holder] = Loan(
            row.lent_nanos, row.settled_nanos, row.number, row.expires_ms, lean=row.lean
        )
    return books


async def _written(
    connection: AsyncConnection, holder: str, books: Mapping[tuple[str, str], Book],
    changed: Mapping[tuple[str, str], Book],
) -> None:
    await _write_loans(connection, holder, {account: book.loans[holder] for account, book in books.items()})
    if changed:
        insert = _insert(connection, accounts)
        told = {name: insert.excluded[name] for name in ("told_nanos", "wanted_ms")}
        await connection.execute(
            insert.on_conflict_do_update(index_elements=list(accounts.primary_key), set_=told),
            [
                {
                    "account": account, "period": period, "spent_nanos": book.spent_nanos,
                    "told_nanos": book.told_nanos, "wanted_ms": book.wanted_ms,
                }
                for (account, period), book in changed.items()
            ],
        )


async def _write_loans(
    connection: AsyncConnection, holder: str, held: Mapping[tuple[str, str], Loan]
) -> None:
    if not held:
        return
    insert = _insert(connection, loans)
    figures: dict[str, Any] = {
        column.name: insert.excluded[column.name] for column in loans.columns if not column.primary_key
    }
    await connection.execute(
        insert.on_conflict_do_update(index_elements=list(loans.primary_key), set_=figures),
        [
            {
                "account": account, "period": period, "holder": holder, "lent_nanos": loan.lent_nanos,
                "settled_nanos": loan.settled_nanos, "number": loan.number, "lean": loan.lean,
                "expires_ms": loan.expires_ms,
            }
            for (account, period), loan in held.items()
        ],
    )


def _insert(connection: AsyncConnection, table: Table) -> SqliteInsert | PostgresInsert:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
