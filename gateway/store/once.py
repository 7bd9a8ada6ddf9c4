"""The store for one piece of work, where no gateway has it open: for commands, and a look before the start."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.config import LedgerConfig
from gateway.store import migrating, opening

T = TypeVar("T")


def once(ledger: LedgerConfig, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """Open the store, see that it has the schema of now, and return what `work` gives. Raises StoreError."""
    async def opened() -> T:
        """Open it, do the work, close it."""
        engine = opening.engine(ledger)
        try:
            await migrating.upgrade(engine)
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(opened())
