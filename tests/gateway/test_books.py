"""What is kept for the life of a process."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway import config
from gateway.books import Books
from gateway.metrics import Metrics
from gateway.receipt import Outcome, Receipt
from gateway.shared.accounts import Shares
from gateway.store.accounts import Stored
from tests.services import Redis

TEXT = """
upstreams: {u: {base_url: "http://u.example/v1"}}
models: {small: {upstream: u}}
"""


def books(tmp_path: Path, text: str = "") -> tuple[Books, list[dict[str, Any]]]:
    """Those of a configuration, and what they log."""
    read = config.parse(TEXT + text, {"THRIFTGATE_DATA": str(tmp_path)})
    logged: list[dict[str, Any]] = []
    return Books(read, Metrics(), logged.append), logged


def receipt(name: str) -> Receipt:
    """One that is closed."""
    made = Receipt(name, 0.0, 1_795_884_322_000)
    made.outcome, made.cost_nanos = Outcome.OK, 5
    return made.close(1.0)


async def test_what_is_recorded_is_stored_by_the_end(tmp_path: Path) -> None:
    """And logged, each once."""
    kept, logged = books(tmp_path)
    await kept.start()
    for number in range(5):
        kept.ledger.record(receipt(f"r-{number}"))
    await kept.close()
    await kept.close()
    stored = sqlite3.connect(tmp_path / "ledger.sqlite").execute("SELECT count(*), sum(cost_usd_nanos) FROM receipts")

    assert [fields["request_id"] for fields in logged] == [f"r-{number}" for number in range(5)]
    assert stored.fetchone() == (5, 25)


@pytest.mark.parametrize(("text", "logs", "stored"), [
    ("ledger: {url: none}", 1, False), ("ledger: {url: none, log: false}", 1, False), ("ledger: {log: false}", 0, True),
])
async def test_a_receipt_goes_somewhere(tmp_path: Path, text: str, logs: int, *, stored: bool) -> None:
    """Into the log where there is no store, whatever is said of the log."""
    kept, logged = books(tmp_path, text)
    await kept.start()
    kept.ledger.record(receipt("r"))
    await kept.close()

    assert (len(logged), (tmp_path / "ledger.sqlite").exists()) == (logs, stored)


async def test_the_keys_are_known_at_the_start(tmp_path: Path) -> None:
    """So that the first request finds its own."""
    kept, _ = books(tmp_path)
    await kept.start()
    known = kept.keys._known.is_set()
    await kept.close()

    assert known
    assert repr(kept).startswith("<Books <Ledger 0 waiting")


async def test_where_budgets_are_kept(tmp_path: Path, redis: Redis) -> None:
    """In the store, unless several nodes share more than that."""
    alone, _ = books(tmp_path / "a")
    together, _ = books(tmp_path / "b", f"shared: {{url: '{redis.url}'}}")
    homes = [type(each.treasury._teller._home) for each in (alone, together)]
    await alone.close()
    await together.close()

    assert homes == [Stored, Shares]
