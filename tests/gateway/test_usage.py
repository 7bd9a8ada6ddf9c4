"""GET /v1/usage, on a socket, with a store behind it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import auth, bookkeeper
from gateway.auth import Keyring
from gateway.bookkeeper import Bookkeeper
from gateway.budgets import Account
from gateway.config import BudgetConfig, KeyConfig, LedgerConfig, Secret
from gateway.errors import Unavailable
from gateway.metrics import Metrics
from gateway.store import receipts
from gateway.store.schema import DAY_MS, HOUR_MS
from gateway.treasury import Budget, Standing
from gateway.usage import OwnUsage
from tests.gateway.store.conftest import receipt

BOUND_S = 15.0      # how long the store is waited for; reached only by a test that fails
NOW_MS = 1_795_824_000_000 + 13 * HOUR_MS + 1_234      # 2026-11-28, 13:00:01 UTC
KEYS = {
    "shop": KeyConfig(secret=Secret("tg-shop"), owner="sales", budget=BudgetConfig(usd=5)),
    "other": KeyConfig(secret=Secret("tg-other"), owner="sales"),
}
WRITTEN = [
    receipt(1, at_ms=NOW_MS, cost_usd_nanos=1),
    receipt(2, at_ms=NOW_MS - DAY_MS, cost_usd_nanos=20, model="large", route="fast"),
    receipt(3, at_ms=NOW_MS - 29 * DAY_MS, cost_usd_nanos=300),                 # in October
    receipt(4, at_ms=NOW_MS - 60 * DAY_MS, cost_usd_nanos=4_000),
    receipt(5, at_ms=NOW_MS, caller="other", model="secret-model", cost_usd_nanos=50_000),
    receipt(6, at_ms=NOW_MS, caller="", cost_usd_nanos=600_000),
    receipt(7, at_ms=NOW_MS, caller="shop ", cost_usd_nanos=7_000_000),
]


async def standings(budgets: Sequence[Budget]) -> list[Standing]:
    """Every budget has a dollar of it spent, and ends with the month."""
    return [
        Standing(
            Account(budget.name, "2026-11", int(budget.config.usd * 10**9)), budget.config.per, 10**9, 1_796_083_200.0
        ) for budget in budgets
    ]


class Asking:
    """The endpoint, and who asks it."""

    def __init__(self, client: "TestClient[web.Request, web.Application]") -> None:
        self._client = client

    async def __call__(
        self, query: str = "", key: str | None = "tg-shop", header: str = "Authorization"
    ) -> tuple[int, Any, dict[str, str]]:
        """Ask with a key; return the status, the answer and its headers."""
        prefix = "Bearer " if header == "Authorization" else ""
        headers = {} if key is None else {header: f"{prefix}{key}"}
        async with self._client.get(f"/v1/usage{query}", headers=headers) as response:
            return response.status, orjson.loads(await response.read()), dict(response.headers)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one moment, and the store opens at once."""
    monkeypatch.setattr("gateway.usage.time.time_ns", lambda: NOW_MS * 1_000_000)
    monkeypatch.setattr(bookkeeper, "ROTATE_S", 0.01)


@pytest.fixture
def ledger(tmp_path: Path) -> LedgerConfig:
    """A ledger of the test's own."""
    return LedgerConfig(directory=str(tmp_path))


@pytest.fixture
async def books(ledger: LedgerConfig) -> AsyncIterator[Bookkeeper]:
    """A bookkeeper whose store has the receipts."""
    kept = Bookkeeper(ledger, Metrics(), "test", settle=False)
    loop, written = asyncio.get_running_loop(), asyncio.Event()

    async def write(engine: AsyncEngine) -> None:
        """Store them, and say so."""
        await receipts.save(engine, "one", "one", WRITTEN, settle=False)
        loop.call_soon_threadsafe(written.set)

    kept.every(60.0, write)
    kept.start()
    async with asyncio.timeout(BOUND_S):
        await written.wait()
    yield kept
    await kept.close()


Starts = Callable[[OwnUsage], Awaitable[Asking]]


@pytest.fixture
async def start() -> AsyncIterator[Starts]:
    """`await start(endpoint)`: the endpoint on a socket."""
    async with contextlib.AsyncExitStack() as started:

        async def serve(endpoint: OwnUsage) -> Asking:
            """Serve it."""
            application = web.Application()
            application.add_routes(endpoint.routes())
            return Asking(await started.enter_async_context(TestClient(TestServer(application))))

        yield serve


def ring(*, open_: bool = False) -> Keyring:
    """The keys, or none."""
    return Keyring({} if open_ else KEYS, b"x" * 32, open_=open_, stored=auth.NOTHING)


@pytest.fixture
async def ask(books: Bookkeeper, ledger: LedgerConfig, start: Starts) -> Asking:
    """The endpoint of a gateway with keys."""
    return await start(OwnUsage(ring(), books, ledger, standings))


async def test_a_key_sees_what_it_has_spent(ask: Asking) -> None:
    """Today, this month and in all, by day and by model, with its budget; of 30 days where nothing else is said."""
    status, told, headers = await ask()

    assert (status, told["object"], told["key"]) == (200, "usage", "shop")
    assert told["spent_usd_nanos"] == {"today": 1, "month": 21, "total": 4_321}
    assert told["budgets"] == [{
        "per": "month", "period": "2026-11", "limit_usd_nanos": 5 * 10**9, "spent_usd_nanos": 10**9,
        "left_usd_nanos": 4 * 10**9, "ends": "2026-12-01T00:00:00Z",
    }]
    assert (told["since"], told["until"]) == ("2026-10-30T00:00:00Z", None)
    assert told["total"]["spent_usd_nanos"] == 321
    assert [(row["day"], row["spent_usd_nanos"]) for row in told["by_day"]] == [
        ("2026-10-30", 300), ("2026-11-27", 20), ("2026-11-28", 1)
    ]
    assert {row["model"]: row["spent_usd_nanos"] for row in told["by_model"]} == {"cheap": 301, "large": 20}
    assert "by_route" not in told
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("by", ["day", "model", "route"])
async def test_one_asks_for_what_one_wants(ask: Asking, by: str) -> None:
    """By one thing, since and until a day."""
    _, told, _ = await ask(f"?by={by}&since=2026-11-27&until=2026-11-28")

    row, = told[f"by_{by}"]
    assert row[by] == {"day": "2026-11-27", "model": "large", "route": "fast"}[by]
    assert row["spent_usd_nanos"] == told["total"]["spent_usd_nanos"] == 20
    assert [name for name in told if name.startswith("by_")] == [f"by_{by}"]


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "x-goog-api-key"])
async def test_nothing_of_anybody_else(ask: Asking, header: str) -> None:
    """Wherever the key stands, the other keys' figures and models are not in it, not even an owner's of both."""
    _, told, _ = await ask("?by=model&since=90d", "tg-other", header)

    assert told["key"] == "other"
    assert told["budgets"] == []
    assert told["spent_usd_nanos"] == {"today": 50_000, "month": 50_000, "total": 50_000}
    assert [row["model"] for row in told["by_model"]] == ["secret-model"]


@pytest.mark.parametrize("query", ["?key=other", "?caller=other", "?owner=sales"])
async def test_nobody_can_ask_for_another(ask: Asking, query: str) -> None:
    """There is no parameter for it, and one that is not there is a fault rather than ignored."""
    status, told, _ = await ask(query)

    assert (status, told["error"]["param"]) == (400, query[1:].partition("=")[0])


@pytest.mark.parametrize("key", [None, "", "tg-unknown"])
async def test_without_a_key_there_is_nothing(ask: Asking, key: str | None) -> None:
    """401, as everywhere."""
    status, told, _ = await ask(key=key)

    assert (status, told["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?by=task", "by"), ("?by=", "by"), ("?since=soon", "since"), ("?since=2026-11-28&until=2026-11-27", "since"),
        ("?since=2025-11-28T13:00", "since"),
    ],
)
async def test_what_cannot_be_asked(ask: Asking, query: str, param: str) -> None:
    """400 with what is right."""
    status, told, _ = await ask(query)

    assert (status, told["error"]["param"]) == (400, param)


async def test_without_keys_it_is_everybodys(books: Bookkeeper, ledger: LedgerConfig, start: Starts) -> None:
    """Where there are no keys, everybody asks for everything."""
    ask = await start(OwnUsage(ring(open_=True), books, ledger, standings))
    status, told, _ = await ask(key=None)

    assert (status, told["key"], told["budgets"]) == (200, None, [])
    assert told["spent_usd_nanos"]["today"] == 7_650_001


async def test_a_dead_store_is_503(ledger: LedgerConfig, start: Starts) -> None:
    """Come again: nothing is known, and nothing is guessed. What was wrong stands in the log alone."""
    away = Bookkeeper(ledger, Metrics(), "away", settle=False)
    ask = await start(OwnUsage(ring(), away, ledger, standings))
    status, told, headers = await ask()
    await away.close()

    assert (status, headers["Retry-After"]) == (503, "1")
    assert told["error"]["message"] == "The store does not answer: try again."


async def test_budgets_that_nobody_knows_are_503(books: Bookkeeper, ledger: LedgerConfig, start: Starts) -> None:
    """Rather than without them."""
    async def away(_: Sequence[Budget]) -> list[Standing]:
        """Refuse."""
        raise Unavailable("The budgets cannot be looked up.", headers={"Retry-After": "1"})

    status, _, headers = await (await start(OwnUsage(ring(), books, ledger, away)))()

    assert (status, headers["Retry-After"]) == (503, "1")


async def test_without_a_ledger_there_are_no_figures(books: Bookkeeper, start: Starts) -> None:
    """It says why."""
    ask = await start(OwnUsage(ring(), books, LedgerConfig(url=Secret("none")), standings))
    status, told, _ = await ask()

    assert status == 400
    assert "ledger.url" in told["error"]["message"]


async def test_repr_has_no_key(books: Bookkeeper, ledger: LedgerConfig) -> None:
    """What an operator may read of it holds nothing secret."""
    assert "<OwnUsage <Keyring 2 configured keys, 0 stored>>" == repr(OwnUsage(ring(), books, ledger, standings))
