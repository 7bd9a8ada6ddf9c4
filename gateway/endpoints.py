"""Everything but the request path: models, dry run, health, metrics, and what is not there."""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
from aiohttp import web

from gateway.books import Books
from gateway.config import Config
from gateway.errors import GatewayError, NotFound
from gateway.explain import explain
from gateway.handler import Collaborators, Handler, clock, error_response, new_receipt
from gateway.upstream.report import STATES, report

EPOCH = "1970-01-01T00:00:00Z"      # nobody knows when a route was made
SCRAPE_S = 0.25      # how long a scrape waits for receipts that are being counted
GEMINI_PATH = "/{version:v1|v1beta}/models/{model:.+}:{action:generateContent|streamGenerateContent}"
SERVED = (
    "POST /v1/chat/completions, /v1/responses, /v1/messages, /v1/messages/count_tokens, "
    "/v1beta/models/{model}:generateContent and "
    ":streamGenerateContent, /v1/embeddings, /v1/completions, /v1/route, "
    "GET /v1/models, /v1beta/models, /v1/usage, /healthz, /readyz, /upstreams, /metrics"
)


class Endpoints:
    """The small endpoints of one gateway. `faults` says what keeps it from being ready; empty when nothing does."""

    def __init__(
        self, config: Config, with_: Collaborators, handler: Handler, books: Books, faults: Mapping[str, str]
    ) -> None:
        self._config = config
        self._with = with_
        self._handler = handler
        self._keys = books.keys
        self._metrics = books.metrics
        self._faults = faults

    def routes(self) -> list[web.RouteDef]:
        """Return what is served where, the request path first, what is not there last."""
        return [
            web.post("/v1/chat/completions", self._handler.at("openai")),
            web.post("/v1/responses", self._handler.at("responses")),
            web.post("/v1/messages", self._handler.at("anthropic")),
            web.post("/v1/messages/count_tokens", self._handler.at("anthropic", "count_tokens")),
            web.post(GEMINI_PATH, self._handler.at("gemini")),
            web.post("/v1/embeddings", self._handler.at("openai", "embeddings")),
            web.post("/v1/completions", self._handler.at("openai", "completions")),
            web.post("/v1/route", self.dry_run),
            web.get("/v1/models", self.models),
            web.get("/v1beta/models", self.models),
            web.get("/healthz", self.health),
            web.get("/readyz", self.ready),
            web.get("/upstreams", self.upstreams),
            web.get("/metrics", self.metrics),
            web.route("*", "/{path:.*}", self.not_there),
        ]

    async def dry_run(self, http: web.Request) -> web.Response:
        """Say where a chat completion request would go and why; nothing is sent upstream and no receipt is written."""
        receipt = new_receipt()
        try:
            caller, request = await self._handler.admit(http, receipt)
            request = msgspec.structs.replace(request, session=None)      # a dry run is not remembered
            verdict = await self._handler.judge(caller, request, receipt)
            plan = self._with.router.plan(request, verdict)
        except GatewayError as error:
            return error_response(error, receipt)
        return _json(explain(plan, verdict, request, self._config.models))

    async def models(self, http: web.Request) -> web.Response:
        """List what a caller may name as `model`, in the caller's dialect: routes with their aliases, then models."""
        receipt = new_receipt()
        receipt.surface = _surface_of(http)
        try:
            caller = self._with.keyring.authenticate(http.headers, time.time())
        except GatewayError as error:
            return error_response(error, receipt)
        names = [name for name in self._with.router.names() if caller.models is None or name in caller.models]
        if receipt.surface == "anthropic":
            data = [{"type": "model", "id": name, "display_name": name, "created_at": EPOCH} for name in names]
            first, last = (names[0], names[-1]) if names else (None, None)
            return _json({"data": data, "has_more": False, "first_id": first, "last_id": last})
        if receipt.surface == "gemini":
            methods = ["generateContent", "streamGenerateContent"]
            return _json({"models": [
                {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods} for name in names
            ]})
        models = self._config.models
        listed = [
            {"id": name, "object": "model", "created": 0,
             "owned_by": models[name].upstream if name in models else "thriftgate"}
            for name in names
        ]
        return _json({"object": "list", "data": listed})

    async def health(self, _: web.Request) -> web.Response:
        """Say that the process answers."""
        return _json({"status": "ok"})

    async def ready(self, _: web.Request) -> web.Response:
        """Say whether traffic should come here. One that is not ready still serves what it can, on the safe rung."""
        faults = dict(self._faults)
        if self._keys.fault is not None:
            faults["keys"] = str(self._keys.fault)
        return _json({"status": "not ready" if faults else "ready", "faults": faults}, status=503 if faults else 200)

    async def upstreams(self, _: web.Request) -> web.Response:
        """Say how every deployment does."""
        return _json(report(self._with.models.values(), clock()))

    async def metrics(self, _: web.Request) -> web.Response:
        """Give Prometheus its text; receipts closed before this moment are counted, unless the writer hangs."""
        await self._with.ledger.flush(SCRAPE_S)
        for gauge in (self._metrics.in_flight, self._metrics.waiting, self._metrics.state):
            gauge.clear()                       # of upstreams that another configuration had
        for name, told in report(self._with.models.values(), clock()).items():
            self._metrics.in_flight.labels(name).set(told["in_flight"])
            self._metrics.waiting.labels(name).set(told["waiting"])
            for deployment, record in told["deployments"].items():
                self._metrics.state.labels(deployment).set(STATES[record["state"]])
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def not_there(self, http: web.Request) -> web.Response:
        """Answer for a path or method that is not served, in OpenAI's form."""
        error = NotFound(f"There is no {http.method} {http.path} here. There are: {SERVED}.")
        error.code = "unknown_url"
        return error_response(error, new_receipt())


def _surface_of(http: web.Request) -> str:
    """Return the dialect in which the models are asked for: the path says it, or a header that only one SDK sends."""
    if http.path.startswith("/v1beta/"):
        return "gemini"
    return "anthropic" if "anthropic-version" in http.headers else "openai"


def _json(value: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
