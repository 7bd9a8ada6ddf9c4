"""Receipts into the store, a segment at a time, exactly once; and out of it again when their time is over.

A segment is a file of receipts (see gateway/spool.py). Its marker, its receipts and what they add up to hold together
or not at all. A receipt that the store cannot take, such as one that is there already, does not keep the others out.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import structlog
from sqlalchemy import ColumnElement, Delete, Insert, Table, Update, delete, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.config.money import LedgerConfig
from gateway.store import accounts
from gateway.store.cleaning import COLUMNS, Refused, Row, cleaned, pairs
from gateway.store.opening import writing
from gateway.store.schema import DAY_MS, SUMS, receipts, rollups, segments
from gateway.store.summing import KEY, added_up

BATCH = 500         # rows forgotten at a time
PAUSE_S = 0.01      # between batches, for whoever else writes
MARKED_DAYS = 30    # at least: so long a segment may have lain on a disk that was away, and is known again
NAMED = 20          # refused receipts that the log names
_COST = COLUMNS.index("cost_usd_nanos")
Change = TypeVar("Change", Delete, Update)
_inserts: dict[str, str] = {}       # by dialect, as are
_additions: dict[str, str] = {}
_BAD_ROW = {"22", "23", "54"}       # PostgreSQL's classes of errors: bad data, data against the rules, too large

log = structlog.get_logger()


class _Taken(NamedTuple):
    """A receipt that can be stored."""

    row: Row
    budgets: list[tuple[str, str]]


class _BadRow(Exception):
    """The store refused a row for what it holds."""


async def save(
    engine: AsyncEngine, segment: str, holder: str, rows: Sequence[Mapping[str, Any]], *, settle: bool
) -> bool:
    """Store a segment's receipts, and say whether they were new. Raises StoreError; then nothing has been stored."""
    taken, refused = _cleaned(rows)
    try:
        stored = await _save(engine, segment, holder, taken, settle=settle)
    except _BadRow:
        stored = await _save(engine, segment, holder, taken, settle=settle, refused=refused)
    if stored and refused:
        log.error(
            "receipts refused by the store", segment=segment, number=len(refused), receipts=dict(refused[:NAMED])
        )
    return stored


async def forget(engine: AsyncEngine, ledger: LedgerConfig, now_ms: int) -> None:
    """Remove what is older than the ledger keeps it, a little at a time. Raises StoreError."""
    prompts_ms, receipts_ms, hours_ms, days_ms = (
        now_ms - days * DAY_MS
        for days in (ledger.prompts_days, ledger.receipts_days, ledger.hours_days, ledger.days_days)
    )
    of, at_ms, span, start_ms = receipts.c, receipts.c.at_ms, rollups.c.span, rollups.c.start_ms
    for statement in (
        _some(update(receipts).values(prompt=None), receipts, of.prompt.is_not(None) & (at_ms < prompts_ms)),
        _some(delete(receipts), receipts, at_ms < receipts_ms),
        _some(delete(rollups), rollups, (span == "hour") & (start_ms < hours_ms)),
        _some(delete(rollups), rollups, (span == "day") & (start_ms < days_ms)),
        _some(delete(segments), segments, segments.c.saved_ms < min(receipts_ms, now_ms - MARKED_DAYS * DAY_MS)),
    ):
        while await _done(engine, statement) == BATCH:
            pass
    await accounts.forget(engine, ledger, now_ms)


def _cleaned(rows: Sequence[Mapping[str, Any]]) -> tuple[list[_Taken], list[tuple[str, str]]]:
    taken, refused = [], []
    for row in rows:
        try:
            taken.append(_Taken(cleaned(row), pairs(row.get("budgets"))))
        except Refused as why:
            refused.append((str(row.get("request_id")), str(why)))
    return taken, refused


async def _save(
    engine: AsyncEngine, segment: str, holder: str, taken: list[_Taken], *, settle: bool,
    refused: list[tuple[str, str]] | None = None,
) -> bool:
    """Store it in one transaction. With `refused`, row by row, and what cannot be stored is added there."""
    async with writing(engine) as connection:
        marker = {"segment": segment, "holder": holder, "saved_ms": int(time.time() * 1000), "receipts": len(taken)}
        marked = _insert(connection.dialect.name, segments).values(marker).on_conflict_do_nothing()
        if not (await connection.execute(marked)).rowcount:
            return False
        if refused is None:
            await _put(connection, [one.row for one in taken])
        else:
            taken = await _put_singly(connection, taken, refused)
        if sums := added_up(one.row for one in taken):
            await connection.exec_driver_sql(_adding(connection.dialect), sums)
        if settle and (spent := _spent(taken)):
            await accounts.settle(connection, holder, spent)
    return True


async def _put(connection: AsyncConnection, rows: list[Row]) -> None:
    """Insert rows that are clean, past what SQLAlchemy would do with each value. Raises _BadRow."""
    if not rows:
        return
    try:
        await connection.exec_driver_sql(_inserting(connection.dialect), rows)
    except (DBAPIError, ValueError, OverflowError) as error:
        if _is_bad_row(error):
            raise _BadRow(type(error).__name__) from None
        raise


async def _put_singly(
    connection: AsyncConnection, taken: list[_Taken], refused: list[tuple[str, str]]
) -> list[_Taken]:
    """Insert each row for itself, and return those that the store took."""
    stored = []
    for one in taken:
        try:
            async with connection.begin_nested():
                await _put(connection, [one.row])
        except _BadRow as why:
            refused.append((one.row[0], str(why)))
        else:
            stored.append(one)
    return stored


def _is_bad_row(error: Exception) -> bool:
    """Say whether it is the row's fault. A store that is full or gone is not: it will take the row another time."""
    if not isinstance(error, DBAPIError) or isinstance(error, IntegrityError | DataError):
        return True
    return (getattr(error.orig, "sqlstate", None) or "")[:2] in _BAD_ROW


def _spent(taken: list[_Taken]) -> dict[tuple[str, str], int]:
    spent: dict[tuple[str, str], int] = {}
    for row, budgets in taken:
        for account in budgets:
            spent[account] = spent.get(account, 0) + (row[_COST] or 0)
    return spent


def _insert(dialect: str, table: Table) -> SqliteInsert | PostgresInsert:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def _adding(dialect: Dialect) -> str:
    if dialect.name not in _additions:
        statement = _insert(dialect.name, rollups)
        sums = {name: rollups.c[name] + statement.excluded[name] for name in SUMS}
        statement = statement.on_conflict_do_update(index_elements=list(rollups.primary_key), set_=sums)
        _additions[dialect.name] = _compiled(statement, dialect, (*KEY, *SUMS))
    return _additions[dialect.name]


def _inserting(dialect: Dialect) -> str:
    if dialect.name not in _inserts:
        _inserts[dialect.name] = _compiled(insert(receipts), dialect, COLUMNS)
    return _inserts[dialect.name]


def _compiled(statement: Insert, dialect: Dialect, columns: Sequence[str]) -> str:
    """Return the text for the driver, which is given tuples: looking at each value again would cost as much as all."""
    return str(statement.compile(dialect=dialect, column_keys=list(columns)))


def _some(statement: Change, table: Table, old: ColumnElement[bool]) -> Change:
    """Have the statement concern a batch of the rows that are old."""
    key = tuple_(*table.primary_key)
    return statement.where(key.in_(select(*table.primary_key).where(old).limit(BATCH)))


async def _done(engine: AsyncEngine, statement: Delete | Update) -> int:
    async with writing(engine) as connection:
        done = await connection.execute(statement)
    await asyncio.sleep(PAUSE_S)
    return done.rowcount
