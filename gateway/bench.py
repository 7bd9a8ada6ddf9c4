"""The bench of what stands between a request and its answer: keys, limits, budgets and receipts, in this process.

    python -m gateway.bench

The same calls as on the path, with everything configured and with nothing, in turns; CPU time of the path's own thread
by the system's clock, so that neither the store's threads nor the machine's other work are in it. (What they add to a
whole gateway is measured from outside: `python -m loadtest.overhead`.)
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gateway import config
from gateway.allowance import Allowing
from gateway.books import Books
from gateway.metrics import Metrics
from gateway.pricing import Usage
from gateway.receipt import Outcome, Receipt
from gateway.router import Plan, Reason, Target
from gateway.upstream import model as upstream
from gateway.wire import ChatRequest, chat

TARGET_US = 60.0
REQUESTS, ROUNDS = 1_000, 9
HEADERS = {"Authorization": "Bearer sk-bench"}
MODELS = """
upstreams: {u: {base_url: "http://127.0.0.1:9/v1"}}
models:
  cheap:   {upstream: u, price: {input: 0.15, output: 0.6}}
  middle:  {upstream: u, price: {input: 1, output: 4}}
  premium: {upstream: u, price: {input: 5, output: 25}}
routes: {auto: {ladder: [cheap, middle, premium]}}
"""
OFF = "ledger: {url: none}"
ON = """
keys:
  bench:
    {secret: sk-bench, owner: bench, budget: {usd: 1000000},
     limits: {requests_per_minute: 10000000, tokens_per_minute: 2000000000, concurrency: 1000}}
owners: {bench: {budget: {usd: 1000000}}}
budget: {usd: 1000000}
ledger: {log: false}
"""
PLAN = Plan(tuple(Target(name, name) for name in ("cheap", "middle", "premium")), Reason.LEARNED, "", "auto", 0.5)


class Figures(NamedTuple):
    """Microseconds a request, a value a round."""

    off: list[float]
    on: list[float]

    @property
    def added(self) -> float:
        """The median of what is added within a round."""
        return statistics.median(more - less for less, more in zip(self.off, self.on, strict=True))


class Side:
    """The collaborators of one configuration."""

    def __init__(self, text: str, directory: str) -> None:
        self._config = config.parse(MODELS + text, {"THRIFTGATE_DATA": directory})
        self._models = upstream.build(self._config.models, self._config.upstreams)
        self._books = Books(self._config, Metrics(), lambda _: None)
        self._keyring = self._books.keys.keyring(self._config.keys, open_=True)
        self._allowing = Allowing(
            self._config, self._models, self._books.admission, self._books.treasury, self._books.ratios
        )
        self._keeps = self._config.ledger.on

    async def start(self) -> None:
        """Open the store, and have the budgets lend what is needed."""
        await self._books.start()
        await self.requests(10)

    async def close(self) -> None:
        """Close everything."""
        await self._books.close()
        for pool in {model.pool for model in self._models.values()}:
            await pool.close()

    async def requests(self, number: int) -> float:
        """Return the microseconds that one of so many costs."""
        said = [{"role": "user", "content": "hi"}]
        request = chat.decode(msgspec.json.encode({"model": "auto", "messages": said}), {})
        before = time.thread_time()
        for _ in range(number):
            await self._one(request)
        return (time.thread_time() - before) / number * 1e6

    async def _one(self, request: ChatRequest) -> None:
        receipt = Receipt("r", 0.0, 1)
        caller = self._keyring.authenticate(HEADERS, time.time())
        receipt.caller = caller.name
        self._allowing.peek(caller, "auto")
        allowance = await self._allowing.allow(caller, PLAN, request, receipt)
        allowance.headers()
        receipt.model, receipt.usage, receipt.outcome, receipt.cost_nanos = "cheap", Usage(15, 20), Outcome.OK, 14_250
        allowance.end(receipt)
        if self._keeps:
            self._books.ledger.record(receipt.close(1.0))


async def measure(requests: int = REQUESTS, rounds: int = ROUNDS) -> Figures:
    """Return what both sides cost; the first round is not counted."""
    figures = Figures([], [])
    with tempfile.TemporaryDirectory(prefix="thriftgate-") as directory:
        sides = Side(OFF, directory), Side(ON, directory)
        try:
            for side in sides:
                await side.start()
            for at in range(rounds + 1):
                for side, kept in zip(sides, figures, strict=True):
                    spent_us = await side.requests(requests)
                    await asyncio.sleep(0.05)        # the ledger's turn
                    if at:
                        kept.append(spent_us)
        finally:
            for side in sides:
                await side.close()
    return figures


def main(say: Callable[[str], object] = sys.stdout.write) -> None:
    """Measure and print."""
    figures = asyncio.run(measure())
    off, on = map(statistics.median, figures)
    added = figures.added
    reached = "yes" if added <= TARGET_US else "no"
    say(
        "| CPU of the path's thread for a request, in process | off, µs | on, µs | added, µs | target | reached |\n"
        "|---|--:|--:|--:|--:|---|\n"
        f"| keys, limits, budgets, receipts | {off:.1f} | {on:.1f} | {added:.1f} | {TARGET_US:g} | {reached} |\n"
    )


if __name__ == "__main__":
    main()
