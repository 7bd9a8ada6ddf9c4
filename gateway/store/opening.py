"""The door to the store: SQLite in a file of the gateway's own, or PostgreSQL at a URL.

Whatever goes wrong behind it is a StoreError here, whose text holds neither the URL nor what was being stored.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from sqlalchemy import URL, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, DBAPIError, DisconnectionError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.config.money import LedgerConfig

CONNECT_S = 5.0
BUSY_S = 5.0            # how long SQLite waits for other processes' writing
LIMIT_S = 30.0          # for a piece of work, after which the store counts as dead
CONNECTIONS = 4
NAME = "ledger.sqlite"
WRITES = "thriftgate_writes"       # an option of connections: they begin as writers
_turns: WeakKeyDictionary[AsyncEngine, asyncio.Lock] = WeakKeyDictionary()


class StoreError(Exception):
    """The store cannot be reached, is full, or refuses: its text is for the operator."""


def engine(ledger: LedgerConfig) -> AsyncEngine:
    """Return the engine of the ledger's store; nothing is opened yet. It belongs to one event loop."""
    url = ledger.url.reveal()
    if url == "none":
        raise StoreError("there is no store: ledger.url is none")
    path = file_of(ledger)
    return _postgres(url) if path is None else _sqlite(path)


def file_of(ledger: LedgerConfig) -> Path | None:
    """Return where SQLite has the store, None where it is not SQLite's."""
    url = ledger.url.reveal()
    if not url.startswith("sqlite"):
        return None
    path = url.removeprefix("sqlite:///") if url != "sqlite" else ""
    return Path(path).expanduser() if path else Path(ledger.directory) / NAME


@contextlib.asynccontextmanager
async def translated(limit_s: float | None = LIMIT_S) -> AsyncIterator[None]:
    """Raise StoreError for whatever the store does, and when it is not done within the limit."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except (SQLAlchemyError, OSError, UnicodeError, OverflowError) as error:
        raise StoreError(_told(error)) from None


@contextlib.asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Give a connection that sees the store as it is now, until the end of the block."""
    async with translated(), engine.connect() as connection:
        yield connection


@contextlib.asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Give a connection in a transaction, which holds when the block ends and is undone when it raises.

    SQLite has one writer at a time: in this process they come in turn, and none that has read finds itself too late.
    """
    turn = _turns.setdefault(engine, asyncio.Lock()) if engine.dialect.name == "sqlite" else contextlib.nullcontext()
    async with translated(), turn, engine.connect() as connection:
        await connection.execution_options(**{WRITES: True})
        async with connection.begin():
            yield connection


def _sqlite(path: Path) -> AsyncEngine:
    made = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        connect_args={"timeout": BUSY_S, "isolation_level": None},      # BEGIN is ours: see _begin
        pool_size=CONNECTIONS, max_overflow=0, pool_timeout=LIMIT_S, hide_parameters=True, json_serializer=_dumps,
        json_deserializer=orjson.loads,
    )
    event.listen(made.sync_engine, "do_connect", lambda *_: _make_file(path))
    event.listen(made.sync_engine, "connect", _set_up)
    event.listen(made.sync_engine, "begin", _begin)
    return made


def _make_file(path: Path) -> None:
    """Make the file before SQLite does: for our eyes only, as the files beside it will be."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _set_up(connection: Any, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode")
    if cursor.fetchone() != ("wal",):
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA journal_size_limit = 67108864")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Begin as a writer where one writes: a transaction that turns into one later may be refused without a wait."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITES) else "BEGIN")


def _postgres(url: str) -> AsyncEngine:
    import asyncpg  # noqa: PLC0415 - 20 ms and 8 MB that a gateway on SQLite does not need

    named = {} if "application_name" in url else {"server_settings": {"application_name": "thriftgate"}}

    async def connect() -> Any:
        """Connect; the URL is asyncpg's to read, so that it may say what libpq's may."""
        try:
            return await asyncpg.connect(url, timeout=CONNECT_S, **named)
        except ValueError:
            raise StoreError("ledger.url cannot be read: it is no address of a database") from None

    made = create_async_engine(
        "postgresql+asyncpg://", async_creator=connect, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=LIMIT_S,
        hide_parameters=True, json_serializer=_dumps, json_deserializer=orjson.loads,
    )
    event.listen(made.sync_engine, "checkout", _check_out)
    return made


def _check_out(connection: Any, *_: Any) -> None:
    """Take no connection that the server has closed meanwhile."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


def _told(error: Exception) -> str:
    """Say what happened, without the statement, its values and the address."""
    if isinstance(error, TimeoutError):
        return "the store did not answer in time"
    if isinstance(error, OSError):
        return f"the store cannot be reached: {(error.strerror or type(error).__name__).partition(' (')[0]}"
    if isinstance(error, DBAPIError):
        cause = error.orig.__cause__ or error.orig if error.orig is not None else error
        quotes = isinstance(error, IntegrityError | DataError) or getattr(cause, "sqlstate", None) is None
        if quotes and not type(cause).__module__.startswith("sqlite3"):
            return f"the store refused: {type(cause).__name__}"
        return f"the store refused: {type(cause).__name__}: {(str(cause).splitlines() or [''])[0]}"
    return f"the store refused: {type(error).__name__}"
