"""The keys in the store. Every change raises one number in its own transaction, and begins with that.

Raising it locks its row: changes come one after the other, on both kinds of store, and whoever sees a number sees every
change up to it. Each key keeps the number of its last change, so that a change among many keys is a row to read.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import RowMapping, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.config import GrantConfig
from gateway.faults import ConfigError
from gateway.keys import Former, Kept, KeyFault, NameTaken, NoSuchKey, OtherSecret, StoredKey, read_grant
from gateway.store.opening import reading, writing
from gateway.store.schema import changes, keys

AT_ONCE = 100       # keys made of rows, a tenth of a millisecond each


class Loaded(NamedTuple):
    """What decides who may enter."""

    change: int                 # the counter's number, or an earlier one
    keys: list[StoredKey]
    closes: bool                # keys were made, whatever became of them
    check: str | None           # of the secret they were made with
    unreadable: list[str]       # names of those that a newer gateway wrote in a way that this one does not know


async def watch(engine: AsyncEngine) -> int:
    """Return the number that every change raises. Raises StoreError, as all of these do."""
    async with reading(engine) as connection:
        return int((await connection.execute(select(changes.c["keys"]))).scalar_one())


async def load(engine: AsyncEngine, since: int | None = None) -> Loaded:
    """Return every key that is not revoked; or those that changed after a number, the revoked among them."""
    wanted = keys.c.revoked_ms.is_(None) if since is None else keys.c.change > since
    async with reading(engine) as connection:
        # first the number: with a later one, a change between the two would never be looked for
        counted = (await connection.execute(select(changes))).mappings().one()
        rows = (await connection.execute(select(keys).where(wanted))).mappings().all()
        closes = bool((await connection.execute(select(func.count()).select_from(keys))).scalar_one())
    found, unreadable = [], []
    for number, row in enumerate(rows, 1):
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)          # others have work in this loop
        try:
            found.append(_key(row))
        except (ConfigError, msgspec.ValidationError):
            unreadable.append(row["name"])
    return Loaded(counted["keys"], found, closes, counted["secret_check"], unreadable)


async def listed(engine: AsyncEngine) -> list[StoredKey]:
    """Return every key by name, the revoked ones among them."""
    async with reading(engine) as connection:
        rows = (await connection.execute(select(keys).order_by(keys.c.name))).mappings().all()
    return [_key(row) for row in rows]


async def one(engine: AsyncEngine, name: str) -> StoredKey:
    """Return a key. Raises NoSuchKey."""
    async with reading(engine) as connection:
        return await _found(connection, name)


async def create(engine: AsyncEngine, key: StoredKey, check: str) -> None:
    """Keep a new key. The name of a revoked one is free again. Raises NameTaken, OtherSecret."""
    async with writing(engine) as connection:
        number = await _raise(connection)
        await _agree(connection, check)
        before = (await connection.execute(select(keys.c.revoked_ms).where(keys.c.name == key.name))).one_or_none()
        if before is None:
            await connection.execute(insert(keys).values(**_row(key), change=number))
        elif before.revoked_ms is None:
            hint = "choose another name, rotate the key, or revoke it first"
            raise NameTaken(f"there is a key called {key.name!r} already", hint)
        else:
            await _put(connection, key, number)


async def rotate(engine: AsyncEngine, name: str, kept: Kept, grace_ms: int, now_ms: int) -> StoredKey:
    """Give a key another text. Raises NoSuchKey, OtherSecret, and KeyFault for one that is revoked."""
    async with writing(engine) as connection:
        number = await _raise(connection)
        await _agree(connection, kept.check)
        key = _standing(await _found(connection, name)).rotated(kept, grace_ms, now_ms)
        await _put(connection, key, number)
    return key


async def revoke(engine: AsyncEngine, name: str, now_ms: int) -> StoredKey:
    """Have a key be good no more; with any secret, and once is enough. Raises NoSuchKey."""
    async with writing(engine) as connection:
        number = await _raise(connection)
        key = (await _found(connection, name)).revoked(now_ms)
        await _put(connection, key, number)
    return key


async def change(engine: AsyncEngine, name: str, to: Callable[[GrantConfig], GrantConfig]) -> StoredKey:
    """Change what a key is for. Raises NoSuchKey, KeyFault for one that is revoked, and what `to` raises."""
    async with writing(engine) as connection:
        number = await _raise(connection)
        key = _standing(await _found(connection, name))
        key = msgspec.structs.replace(key, grant=to(key.grant))
        await _put(connection, key, number)
    return key


async def _raise(connection: AsyncConnection) -> int:
    raised = update(changes).values(keys=changes.c["keys"] + 1).returning(changes.c["keys"])
    return int((await connection.execute(raised)).scalar_one())


async def _agree(connection: AsyncConnection, check: str) -> None:
    """Two gateways with different secrets would each refuse the other's keys: raise OtherSecret."""
    known = (await connection.execute(select(changes.c.secret_check))).scalar_one()
    if known == check:
        return
    good = select(func.count()).select_from(keys).where(keys.c.revoked_ms.is_(None))
    if known is not None and (await connection.execute(good)).scalar_one():
        raise OtherSecret
    await connection.execute(update(changes).values(secret_check=check))


async def _found(connection: AsyncConnection, name: str) -> StoredKey:
    row = (await connection.execute(select(keys).where(keys.c.name == name))).mappings().one_or_none()
    if row is None:
        raise NoSuchKey(name, list((await connection.execute(select(keys.c.name))).scalars()))
    return _key(row)


def _standing(key: StoredKey) -> StoredKey:
    if key.revoked_ms is not None:
        raise KeyFault(f"the key {key.name!r} is revoked", "make a new one; it may have the same name")
    return key


async def _put(connection: AsyncConnection, key: StoredKey, number: int) -> None:
    await connection.execute(update(keys).where(keys.c.name == key.name).values(**_row(key), change=number))


def _row(key: StoredKey) -> dict[str, Any]:
    grant = msgspec.to_builtins(key.grant)
    return {
        "name": key.name,
        "digest": key.digest.hex(),
        "hint": key.hint,
        "former": [[digest.hex(), until_ms] for digest, until_ms in key.former],
        "created_ms": key.created_ms,
        "revoked_ms": key.revoked_ms,
        "expires_ms": key.expires_ms,
        **{name: grant[name] for name in ("owner", "models", "limits", "budget", "metadata")},
    }


def _key(row: RowMapping) -> StoredKey:
    expires_ms = row["expires_ms"]
    written: Mapping[str, Any] = {name: row[name] for name in ("owner", "models", "limits", "budget", "metadata")}
    grant = read_grant({name: value for name, value in written.items() if value is not None})
    if expires_ms is not None:
        grant = msgspec.structs.replace(grant, expires=datetime.fromtimestamp(expires_ms / 1000, UTC))
    return StoredKey(
        row["name"],
        bytes.fromhex(row["digest"]),
        row["hint"],
        grant,
        row["created_ms"],
        tuple(Former(bytes.fromhex(digest), until_ms) for digest, until_ms in row["former"]),
        row["revoked_ms"],
    )
