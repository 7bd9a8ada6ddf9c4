"""A process that spends a budget as a gateway does: treasury, spool, bookkeeper, and whoever keeps the accounts.

It reads a line of JSON that says how. Then it says, a line each, that it is ready, that a crowd has been served, and
what was spent, each after another line that tells it to go on; between the last two it spends what it can. Run as
`python -m tests.spender`.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import orjson

from gateway import spool
from gateway.alerts import Alerts
from gateway.bookkeeper import Bookkeeper
from gateway.config import BudgetConfig, LedgerConfig, Secret, SharedConfig
from gateway.errors import BudgetExceeded
from gateway.metrics import Metrics
from gateway.shared.accounts import Shares
from gateway.shared.client import Shared
from gateway.store.accounts import Stored
from gateway.teller import Home, Teller
from gateway.treasury import Budget, Treasury


class How(msgspec.Struct):
    """What it is told."""

    directory: str
    store: str
    redis: str | None
    term_ms: int
    limit_nanos: int
    ceiling_nanos: int      # of a request
    cost_nanos: int         # what it really costs
    crowd: int              # requests at once, to begin with
    holding: int            # of which so many do not end


class Spender:
    """The process' part of the budget, and what it spent."""

    def __init__(self, how: How, treasury: Treasury, bookkeeper: Bookkeeper) -> None:
        self._how = how
        self._treasury = treasury
        self._spool = bookkeeper.spool
        self._budgets = [Budget("all", BudgetConfig(usd=how.limit_nanos / 1e9, per="total"))]
        self.spent = self.served = self.refused = 0

    async def request(self, *, ends: bool = True) -> bool:
        """Serve a request, if it is paid for, and say whether it was."""
        try:
            reservation = await self._treasury.reserve(self._budgets, [self._how.ceiling_nanos])
        except BudgetExceeded:
            self.refused += 1
            return False
        self.served += 1
        request_id = f"{self._spool.holder}-{self.served}"
        if ends:
            await asyncio.sleep(0)
            cost = self._how.cost_nanos
            reservation.settle(cost)
            self.spent += cost
            row = {
                "request_id": request_id, "at_ms": int(time.time() * 1000),
                "cost_usd_nanos": cost, "budgets": reservation.accounts(),
            }
            self._spool.append(orjson.dumps(row) + b"\n")
        return True

    async def go_on(self) -> None:
        """Spend as long as there is anything."""
        while True:
            if not await self.request():
                await asyncio.sleep(0.1)


@asynccontextmanager
async def process(how: How) -> AsyncIterator[Spender]:
    """What `gateway.books` puts together, as far as budgets go."""
    holder = spool.new_holder()
    ledger = LedgerConfig(url=Secret(how.store), directory=how.directory)
    bookkeeper = Bookkeeper(ledger, Metrics(), holder, settle=how.redis is None)
    home: Home = Stored(bookkeeper.ask, term_ms=how.term_ms, limit_s=30.0)
    shared = None
    if how.redis is not None:
        shared = Shared(SharedConfig(url=Secret(how.redis), timeout_ms=30_000), time.monotonic)
        home = shares = Shares(shared, term_ms=how.term_ms)
        bookkeeper.after_saved(shares.settle)
    bookkeeper.start()
    await _opened(bookkeeper)
    treasury = Treasury(Teller(home, holder, time.monotonic, Alerts()), time.monotonic, time.time, lets_pass=False)
    yield Spender(how, treasury, bookkeeper)
    await treasury.close()
    await bookkeeper.close()
    if shared is not None:
        await shared.close()


async def _opened(bookkeeper: Bookkeeper) -> None:
    while bookkeeper._engine is None:  # noqa: ASYNC110 - it is another thread that opens it
        await asyncio.sleep(0.01)


async def main() -> None:
    """Spend."""
    loop = asyncio.get_running_loop()
    how = msgspec.json.decode(await loop.run_in_executor(None, sys.stdin.readline), type=How)
    async with process(how) as spender:
        say(said="ready")
        await loop.run_in_executor(None, sys.stdin.readline)
        await asyncio.gather(*(spender.request(ends=n >= how.holding) for n in range(how.crowd)))
        say(said="served", served=spender.served, spent=spender.spent)
        await loop.run_in_executor(None, sys.stdin.readline)
        going_on = asyncio.gather(*(spender.go_on() for _ in range(10)))
        await loop.run_in_executor(None, sys.stdin.readline)
        going_on.cancel()
        await asyncio.gather(going_on, return_exceptions=True)
    say(said="stopped", spent=spender.spent, served=spender.served, refused=spender.refused)


def say(**what: Any) -> None:
    """Say something, a line of JSON."""
    print(orjson.dumps(what).decode(), flush=True)  # noqa: T201 - to the test


if __name__ == "__main__":
    asyncio.run(main())
