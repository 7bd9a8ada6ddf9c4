"""The call of a request: a search for the first answer, and what the answer's end says of who gave it."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from gateway.accounting import Accounting
from gateway.config import RouteConfig, ServerConfig
from gateway.receipt import Outcome, Receipt
from gateway.router import Plan
from gateway.search import Ground, Held, MayCall, Search, any_model
from gateway.upstream.hedging import Hedges
from gateway.upstream.model import Model
from gateway.wire import ChatRequest


class Calling:
    """Calls the targets of plans, for the life of a configuration."""

    def __init__(
        self, models: Mapping[str, Model], routes: Mapping[str, RouteConfig], server: ServerConfig,
        accounting: Accounting, clock: Callable[[], float] = time.monotonic,
    ) -> None:
        hedges = {name: Hedges(route.hedge) for name, route in routes.items() if route.hedge is not None}
        self._ground = Ground(models, routes, server, hedges, accounting, clock)

    def __repr__(self) -> str:
        return f"<Calling {len(self._ground.models)} models>"

    @asynccontextmanager
    async def first_answer(
        self, plan: Plan, request: ChatRequest, receipt: Receipt, may_call: MayCall = any_model
    ) -> AsyncIterator[Held]:
        """Yield the first answer that the plan gives. Raises the most telling refusal where none does."""
        search = Search(self._ground, plan, request, receipt, may_call)
        held = search.serving = await search.run()
        try:
            yield held      # an error while relaying must never start another attempt
        finally:
            search.serving.lease.leave()
        health = search.serving.choice.deployment.health       # of the last model, where it was continued
        if receipt.outcome is Outcome.BROKEN:
            health.failed(self._ground.clock(), search.serving.attempt.started)
        elif receipt.outcome is not Outcome.ABANDONED:
            health.succeeded(self._ground.clock())
