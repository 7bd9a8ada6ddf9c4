"""Budgets' accounts in the store: the rules of gateway/budgets.py, a transaction for each question.

Whoever asks, and whoever stores receipts, locks the accounts first and in the order of their names, so that nobody
waits for somebody who waits for them. Time is the store's.
"""

import functools
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeVar

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Executable,
    Table,
    bindparam,
    cast,
    delete,
    extract,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.budgets import TERM_MS, WANTED_MS, Ask, Book, Loan, NoHome, Reply, period_of
from gateway.config.money import LedgerConfig
from gateway.store.opening import StoreError, reading, writing
from gateway.store.schema import DAY_MS, accounts, loans

FIGURES = ("spent_nanos", "told_nanos", "wanted_ms")        # of an account
LIMIT_S = 2.0           # how long a request waits for the store
T = TypeVar("T")
_NOW = select(cast(extract("epoch", func.clock_timestamp()) * 1000, BigInteger))


class _Statements:
    """What is said to one kind of store, made once."""

    def __init__(self, dialect: str) -> None:
        insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
        key = tuple_(*accounts.primary_key)
        names: BindParameter[list[tuple[str, str]]] = bindparam("names", expanding=True)
        self.make = insert(accounts).on_conflict_do_nothing()
        self.there = select(accounts).where(key.in_(names)).order_by(*accounts.primary_key).with_for_update()
        self.lent = select(loans).where(tuple_(loans.c.account, loans.c.period).in_(names))
        self.book = _replacing(insert(accounts), accounts)
        self.lend = _replacing(insert(loans), loans)
        spent = insert(accounts)
        self.spend = spent.on_conflict_do_update(
            index_elements=list(accounts.primary_key),
            set_={"spent_nanos": accounts.c.spent_nanos + spent.excluded.spent_nanos},
        )


def _replacing(statement: sqlite.Insert | postgresql.Insert, table: Table) -> Executable:
    figures = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=figures)


_statements = functools.cache(_Statements)
_mine = [loans.c[name] == bindparam(f"_{name}") for name in ("account", "period", "holder")]
_SETTLE = update(loans).where(*_mine).values(settled_nanos=loans.c.settled_nanos + bindparam("_nanos"))


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
        self._made: set[tuple[str, str]] = set()        # accounts that are there, unless somebody has removed them

    async def call(self, holder: str, asks: Sequence[Ask]) -> Sequence[Reply]:
        """Answer questions about several accounts, each account once. Raises NoHome."""
        async def answer(engine: AsyncEngine) -> list[Reply]:
            """Answer them in one transaction."""
            async with writing(engine) as connection:
                books = await self._locked(connection, sorted((ask.name, ask.period) for ask in asks))
                now_ms = await self._now_ms(connection)
                before = {account: _figures(book) for account, book in books.items()}
                replies = [
                    books[ask.name, ask.period].answer(holder, ask, now_ms, self._term_ms) for ask in asks
                ]
                changed = {account: book for account, book in books.items() if _figures(book) != before[account]}
                await _written(connection, holder, books, changed)
            return replies

        return await self._asked(answer)

    async def wanted(self) -> Collection[tuple[str, str]]:
        """Return of which accounts somebody needs what others may have to spare. Raises NoHome."""
        async def answer(engine: AsyncEngine) -> list[tuple[str, str]]:
            """Look."""
            async with reading(engine) as connection:
                since = accounts.c.wanted_ms > await self._now_ms(connection) - WANTED_MS
                found = await connection.execute(select(accounts.c.account, accounts.c.period).where(since))
                return [(account, period) for account, period in found]

        return await self._asked(answer)

    async def spent(self, names: Sequence[tuple[str, str]]) -> list[int]:
        """Return what was spent of accounts, as far as it is settled. Raises NoHome."""
        async def answer(engine: AsyncEngine) -> list[int]:
            """Look."""
            async with reading(engine) as connection:
                found = await connection.execute(_statements(connection.dialect.name).there, {"names": names})
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
        if connection.dialect.name == "sqlite":         # whoever shares a file shares a machine, and its clock
            return time.time_ns() // 1_000_000
        return int((await connection.execute(_NOW)).scalar_one())

    async def _locked(self, connection: AsyncConnection, names: list[tuple[str, str]]) -> dict[tuple[str, str], Book]:
        """Return accounts with their loans. Nobody else changes them before the end of the transaction."""
        say = _statements(connection.dialect.name)
        if not self._made.issuperset(names):
            await _make(connection, names)
        found = (await connection.execute(say.there, {"names": names})).all()
        if len(found) < len(names):
            await _make(connection, names)
            found = (await connection.execute(say.there, {"names": names})).all()
        self._made.update(names)
        books = {(row.account, row.period): Book(*(getattr(row, name) for name in FIGURES)) for row in found}
        for row in await connection.execute(say.lent, {"names": names}):
            books[row.account, row.period].loans[row.holder] = Loan(
                row.lent_nanos, row.settled_nanos, row.number, row.expires_ms, lean=row.lean
            )
        return books


async def settle(connection: AsyncConnection, holder: str, sums: Mapping[tuple[str, str], int]) -> None:
    """Book what a saved segment cost, by account and period, and that it came out of its holder's loans."""
    rows = [
        {"account": account, "period": period, **_figures(Book(nanos))}
        for (account, period), nanos in sorted(sums.items())
    ]
    await connection.execute(_statements(connection.dialect.name).spend, rows)
    await connection.execute(_SETTLE, [
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


async def _make(connection: AsyncConnection, names: Sequence[tuple[str, str]]) -> None:
    rows = [{"account": account, "period": period, **_figures(Book())} for account, period in names]
    await connection.execute(_statements(connection.dialect.name).make, rows)


async def _written(
    connection: AsyncConnection, holder: str, books: Mapping[tuple[str, str], Book],
    changed: Mapping[tuple[str, str], Book],
) -> None:
    say = _statements(connection.dialect.name)
    await connection.execute(say.lend, [
        {"account": account, "period": period, "holder": holder, **_terms(book.loans[holder])}
        for (account, period), book in books.items()
    ])
    if changed:
        await connection.execute(say.book, [
            {"account": account, "period": period, **_figures(book)} for (account, period), book in changed.items()
        ])


def _terms(loan: Loan) -> dict[str, int | bool]:
    return {name: getattr(loan, name) for name in Loan.__slots__}


def _figures(book: Book) -> dict[str, int]:
    return {name: getattr(book, name) for name in FIGURES}
