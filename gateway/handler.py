"""The request path. Read this first; it reads as the sentence

    accept → authenticate → decode → queue → classify → route → allow → call → relay → settle → receipt

Values flow forward and nothing reaches back; the receipt is the one thing written to. Whatever happens, exactly one
receipt is recorded. A request may go to another target until its first word is relayed; what breaks off after that
goes on elsewhere only where its route says so.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
from aiohttp import web

from gateway import logs, relay, serving
from gateway.accounting import Accounting
from gateway.allowance import Allowance, Allowing
from gateway.auth import Caller, Keyring
from gateway.calling import Calling
from gateway.classify import Classify
from gateway.config import ServerConfig
from gateway.dialects.register import SURFACES
from gateway.errors import BadRequest, GatewayError, Unavailable
from gateway.explain import BYTES_PER_TOKEN
from gateway.keepalive import KeepAlive
from gateway.ledger import Ledger
from gateway.receipt import Outcome, Receipt
from gateway.router import Router, Verdict
from gateway.translate import passes
from gateway.upstream.deadline import NEVER
from gateway.upstream.model import PLAIN, Model
from gateway.upstream.slots import Slots
from gateway.wire import ChatRequest, chat, gemini, messages, plain, responses

clock = time.perf_counter

Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Collaborators(NamedTuple):
    """Who the path works with, for the life of a configuration."""

    keyring: Keyring
    classify: Classify
    router: Router
    models: dict[str, Model]
    allowing: Allowing
    calling: Calling
    accounting: Accounting
    ledger: Ledger
    server: ServerConfig


class Handler:
    """Serves chat completions, in every dialect that callers speak."""

    def __init__(self, with_: Collaborators) -> None:
        self._with = with_
        self._slots = Slots("the gateway", with_.server.concurrency, with_.server.queue)
        self.running: set[asyncio.Task[object]] = set()      # requests being served: what a shutdown waits for

    def __repr__(self) -> str:
        return f"<Handler {len(self.running)} running>"

    def at(self, surface: str, kind: str = "chat") -> Serve:
        """Return what serves requests in this dialect."""
        async def serve(http: web.Request) -> web.StreamResponse:
            """Serve one request."""
            return await self(http, surface, kind)

        return serve

    async def __call__(self, http: web.Request, surface: str, kind: str = "chat") -> web.StreamResponse:
        """Serve one completion. Whatever happens, exactly one receipt is recorded."""
        receipt = new_receipt()
        receipt.surface, receipt.kind = surface, kind
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker; aiohttp runs handlers in tasks
        self.running.add(task)
        try:
            return await self._complete(http, receipt, kind)
        except GatewayError as error:                        # nothing has been sent yet: an honest status is possible
            receipt.fail(error)
            return error_response(error, receipt)
        except asyncio.CancelledError:                       # the client hung up, or the gateway stops
            if receipt.outcome is None:
                receipt.outcome = Outcome.ABANDONED
            if receipt.first_byte is None and http.transport is not None and not http.transport.is_closing():
                stopping = Unavailable("The gateway is shutting down.", headers={"Retry-After": "1"})
                receipt.status = stopping.status
                return error_response(stopping, receipt)     # the client is there and has seen nothing yet
            raise
        except ConnectionError:                              # the client hung up while it sent its request
            receipt.outcome = Outcome.ABANDONED
            return web.Response(status=499)                  # for nobody; raising would be logged as our error
        except Exception:  # noqa: BLE001 - the outermost guard: our own faults are answered and booked as well
            logs.say("unexpected", "error", request_id=receipt.request_id, exc_info=True)
            fault = GatewayError("The gateway failed on this request; its log says why, under the request id.")
            receipt.fail(fault)
            return error_response(fault, receipt)
        finally:
            self.running.discard(task)
            self._with.ledger.record(receipt.close(clock()))     # synchronous: cannot be cancelled

    async def _complete(self, http: web.Request, receipt: Receipt, kind: str) -> web.StreamResponse:
        caller, request = await self.admit(http, receipt, kind)
        self._with.allowing.peek(caller, receipt.route)
        queued = clock()
        left_s = NEVER if request.deadline_ms is None else receipt.started + request.deadline_ms / 1000 - queued
        try:
            await self._slots.wait(caller.name, self._with.server.wait_ms / 1000, left_s)
        finally:
            receipt.queued_s += clock() - queued
        try:
            verdict = await self.judge(caller, request, receipt)
            plan = self._with.router.plan(request, verdict)
            receipt.propensity = None if plan.route is None else 1.0         # chance has no say yet
            answering = self._with.models[plan.targets[0].model]
            if kind == "count_tokens" and not passes(request, answering.pool.dialect):
                return estimate(request, receipt)
            allowance = await self._with.allowing.allow(caller, plan, request, receipt)
            try:
                return await self._answer(http, allowance, request, receipt)
            finally:
                if receipt.first_byte is None:
                    self._with.accounting.left(receipt, request)
                allowance.end(receipt)
        finally:
            self._slots.give()

    async def _answer(
        self, http: web.Request, allowance: Allowance, request: ChatRequest, receipt: Receipt
    ) -> web.StreamResponse:
        """Relay the first answer that the plan gives."""
        silence_s = self._with.server.keepalive_ms / 1000 if request.stream else 0
        plan, may_call = allowance.plan, allowance.may_call

        def told() -> dict[str, str]:
            return {**response_headers(receipt), **allowance.headers()}

        with KeepAlive(http, receipt, silence_s, told) as alive:
            try:
                async with self._with.calling.first_answer(plan, request, receipt, may_call) as held:
                    receipt.first_byte = clock()
                    answer, way, headers = held.answer, held.way, told()
                    try:
                        if request.stream and answer.status < 400:
                            return await relay.relay_stream(http, answer, way, headers, receipt, alive)
                        if await alive.begun() is not None:
                            raise relay.passed_on(answer, way)
                        return await relay.relay_whole(http, answer, way, headers, receipt)
                    finally:
                        if answer.status < 400:
                            self._with.accounting.book(receipt, request, clock())
            except (GatewayError, asyncio.CancelledError) as error:
                if (response := await alive.begun()) is None or receipt.outcome is not None:
                    raise                                    # an honest status is possible, or all has been said
                return await relay.end_begun(http, response, error, receipt)

    async def admit(self, http: web.Request, receipt: Receipt, kind: str = "chat") -> tuple[Caller, ChatRequest]:
        """Return who asks for what, or raise the error that says why not."""
        caller = self._with.keyring.authenticate(http.headers, time.time())
        receipt.caller, receipt.owner = caller.name, caller.owner
        receipt.authenticated = clock()
        server = self._with.server
        body = await serving.read_body(http, server.max_body_bytes, server.body_ms / 1000)
        receipt.received = clock()
        request = decode(body, http, receipt.surface or "openai", kind)
        receipt.stream, receipt.decoded, receipt.conversation = request.stream, clock(), request.session
        if self._with.server.log_prompts:
            receipt.prompt = request.last_user_text()
        caller.check_may_use(request.model)
        receipt.route = self._with.router.resolve(request.model)
        return caller, request

    async def judge(self, caller: Caller, request: ChatRequest, receipt: Receipt) -> Verdict | None:
        """Return the verdict, or None where the caller named the model or rung and nothing is left to judge."""
        if request.kind in PLAIN and receipt.route is not None:
            raise BadRequest(
                f"{request.kind} are not routed: name a configured model instead of {request.model!r}.", param="model"
            )
        if receipt.route is None or request.rung is not None or request.kind != "chat":
            return None
        verdict = await self._with.classify.judge(request, caller.name)
        receipt.score, receipt.p_cheap, receipt.task = verdict.score, verdict.p_cheap, verdict.task
        receipt.source, receipt.classified = verdict.source, clock()
        return verdict


def decode(body: bytes, http: web.Request, surface: str, kind: str) -> ChatRequest:
    """Return the request that came in a dialect. Raises BadRequest with the field at fault."""
    if surface == "anthropic":
        return messages.decode(body, http.headers, kind)
    if surface == "responses":
        return responses.decode(body, http.headers)
    if surface == "gemini":
        stream = http.match_info["action"] == "streamGenerateContent"
        if stream and http.query.get("alt") != "sse":
            raise BadRequest("A stream comes as server-sent events: add `?alt=sse` to the address.", param="alt")
        return gemini.decode(body, http.headers, http.match_info["model"], stream=stream)
    return chat.decode(body, http.headers) if kind == "chat" else plain.decode(body, http.headers, kind)


def new_receipt() -> Receipt:
    """Return the receipt of a request that is here. Its id begins with the time: stores keep such ids in order."""
    at_ms = time.time_ns() // 1_000_000
    return Receipt(f"{at_ms:012x}{secrets.token_hex(10)}", clock(), at_ms)


def estimate(request: ChatRequest, receipt: Receipt) -> web.Response:
    """Answer how many tokens a request has, by its length: the model is at a provider that does not count for us."""
    receipt.status, receipt.outcome = 200, Outcome.OK
    body = msgspec.json.encode({"input_tokens": max(1, request.text_bytes // BYTES_PER_TOKEN)})
    headers = {**response_headers(receipt), "x-thriftgate-estimate": "length"}
    receipt.sent_bytes = len(body)
    return web.Response(body=body, content_type="application/json", headers=headers)


def response_headers(receipt: Receipt) -> dict[str, str]:
    """Return our headers: who answered and why, and where the time went up to the first byte."""
    headers = {
        "Server": "thriftgate",
        "x-thriftgate-request-id": receipt.request_id,
        "Server-Timing": server_timing(receipt),
    }
    for name, value in (
        ("model", receipt.model), ("route", receipt.route), ("rung", receipt.rung), ("reason", receipt.reason),
        ("lost", ", ".join(receipt.lost)),
    ):
        if value:
            headers[f"x-thriftgate-{name}"] = value
    if receipt.score is not None:
        headers["x-thriftgate-score"] = f"{receipt.score:.4f}"
    return headers


def server_timing(receipt: Receipt) -> str:
    """Return the time up to now by part, in milliseconds. `gateway` is the rest: what we ourselves took."""
    now = receipt.first_byte or clock()
    start, authenticated = receipt.started, receipt.authenticated or now
    decoded = receipt.decoded or now
    auth = authenticated - start
    classify = (receipt.classified or decoded) - decoded
    upstream = receipt.upstream_wait_s()
    upload = (receipt.received or authenticated) - authenticated      # the client's time
    queue = receipt.queued_s
    gateway = max(now - start - upload - classify - queue - upstream, 0.0)
    parts = (("auth", auth), ("classify", classify), ("queue", queue), ("upstream", upstream), ("gateway", gateway))
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in parts)


def error_response(error: GatewayError, receipt: Receipt) -> web.Response:
    """Return the error in the dialect of the surface, with the calls that were made under the request id."""
    attempts = [msgspec.to_builtins({"model": a.model, "status": a.status, "error": a.error}) for a in receipt.attempts]
    return web.Response(
        status=error.status,
        body=SURFACES[receipt.surface or "openai"].error_body(error, receipt.request_id, attempts),
        content_type="application/json",
        headers={**response_headers(receipt), "x-request-id": receipt.request_id, **error.headers},
    )
