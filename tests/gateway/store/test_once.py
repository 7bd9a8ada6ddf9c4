"""The store for one piece of work."""

from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.config import LedgerConfig, Secret
from gateway.store import keys, migrating
from gateway.store.once import once
from gateway.store.opening import StoreError


def test_the_store_is_made_ready(tmp_path: Path) -> None:
    """It has the schema of now, also where there was none; what `work` gives is given."""
    ledger = LedgerConfig(directory=str(tmp_path))

    assert once(ledger, keys.watch) == 0
    assert once(ledger, migrating.revision) == migrating.HEAD


def test_what_work_raises_is_raised(tmp_path: Path) -> None:
    """And the store is closed: the next may open it."""
    async def fail(_: AsyncEngine) -> None:
        """Fail."""
        raise LookupError

    ledger = LedgerConfig(directory=str(tmp_path))
    with pytest.raises(LookupError):
        once(ledger, fail)

    assert once(ledger, keys.watch) == 0


@pytest.mark.parametrize("url", ["none", "postgresql://nobody@127.0.0.1:1/none"])
def test_no_store(tmp_path: Path, url: str) -> None:
    """None is configured, or it does not answer: StoreError."""
    with pytest.raises(StoreError):
        once(LedgerConfig(url=Secret(url), directory=str(tmp_path)), keys.watch)
