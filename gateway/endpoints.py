"""Everything but the request path: models, dry run, health, metrics, and what is not there."""

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
from aiohttp import web

from gateway.config import Config
from gateway.errors import GatewayError, NotFound
from gateway.explain import explain
from gateway.handler import Collaborators, Handler, clock, error_response
from gateway.metrics import Metrics
from gateway.receipt import Receipt

SCRAPE_S = 0.25      # how long a scrape waits for receipts that are being counted
SURFACES = "POST /v1/chat/completions, POST /v1/route, GET /v1/models, GET /healthz, GET /readyz, GET /metrics"


class Endpoints:
    """The small endpoints of one gateway. `faults` says what keeps it from being ready; empty when nothing does."""

    def __init__(
        self, config: Config, with_: Collaborators, handler: Handler, metrics: Metrics, faults: Mapping[str, str]
    ) -> None:
        self._config = config
        self._with = with_
        self._handler = handler
        self._metrics = metrics
        self._faults = faults

    def routes(self) -> list[web.RouteDef]:
        """Return what is served where, the request path first, what is not there last."""
        return [
            web.post("/v1/chat/completions", self._handler.__call__),     # aiohttp wants a function, not an object
            web.post("/v1/route", self.dry_run),
            web.get("/v1/models", self.models),
            web.get("/healthz", self.health),
            web.get("/readyz", self.ready),
            web.get("/metrics", self.metrics),
            web.route("*", "/{path:.*}", self.not_there),
        ]

    async def dry_run(self, http: web.Request) -> web.Response:
        """Say where a chat completion request would go and why; nothing is sent upstream and no receipt is written."""
        receipt = Receipt(uuid.uuid4().hex, clock())
        try:
            caller, request = await self._handler.admit(http, receipt)
            request = msgspec.structs.replace(request, session=None)      # a dry run is not remembered
            verdict = await self._handler.judge(caller, request, receipt)
            plan = self._with.router.plan(request, verdict)
        except GatewayError as error:
            return error_response(error, receipt)
        return _json(explain(plan, verdict, request, self._config.models))

    async def models(self, http: web.Request) -> web.Response:
        """List what a caller may name as `model`: routes with their aliases, then models."""
        try:
            caller = self._with.keyring.authenticate(http.headers)
        except GatewayError as error:
            return error_response(error, Receipt(uuid.uuid4().hex, clock()))
        models = self._config.models
        listed = [
            {"id": name, "object": "model", "created": 0,
             "owned_by": models[name].upstream if name in models else "thriftgate"}
            for name in self._with.router.names() if caller.models is None or name in caller.models
        ]
        return _json({"object": "list", "data": listed})

    async def health(self, _: web.Request) -> web.Response:
        """Say that the process answers."""
        return _json({"status": "ok"})

    async def ready(self, _: web.Request) -> web.Response:
        """Say whether traffic should come here. One that is not ready still serves what it can, on the safe rung."""
        faults = dict(self._faults)
        return _json({"status": "not ready" if faults else "ready", "faults": faults}, status=503 if faults else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        """Give Prometheus its text; receipts closed before this moment are counted, unless the writer hangs."""
        await self._with.ledger.flush(SCRAPE_S)
        for model in self._with.models.values():
            self._metrics.in_flight.labels(model.pool.name).set(model.pool.in_flight)
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def not_there(self, http: web.Request) -> web.Response:
        """Answer for a path or method that is not served, in OpenAI's form."""
        error = NotFound(f"There is no {http.method} {http.path} here. There are: {SURFACES}.")
        error.code = "unknown_url"
        return error_response(error, Receipt(uuid.uuid4().hex, clock()))


def _json(value: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
