"""A provider with dials: OpenAI's Chat Completions to the byte, as fast or as broken as a test or a benchmark wants it.

    python -m loadtest.mock_upstream --port 9900 --ttft-ms 50 --tokens-per-s 80 --jitter 0.2 --seed 1

    async with MockUpstream() as mock:                      # port 0, instant, no faults
        mock.turn("mock-cheap", fault="cut-rst", after=3)
        ...                                                 # call mock.base_url
        await mock.journal.until(lambda journal: journal.cancelled == 1)

The dials are in `loadtest.dials`, what each fault does is in `loadtest.script`, what was seen and done is in
`loadtest.journal`. Needs aiohttp and orjson only (uvloop where there is one): the installed package's demo runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import socket
import struct
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import orjson
from aiohttp import web

from loadtest import answers, asking, frames
from loadtest.asking import Ask, RefusalError
from loadtest.dials import Dials, split_name
from loadtest.journal import Call, Journal
from loadtest.script import stream_script, whole_script

_CREATED = 1_760_000_000  # when the models were "made"; a constant, so that answers can be compared


@dataclass(frozen=True, slots=True)
class MockModel:
    """A model on offer: dollars per million tokens, and its own speed (used when the mock is `realistic`)."""

    name: str
    input_usd: float
    output_usd: float
    ttft_ms: float
    tokens_per_s: float


DEFAULT_MODELS = (
    MockModel("mock-cheap", 0.15, 0.60, ttft_ms=90, tokens_per_s=220),
    MockModel("mock-middle", 1.00, 4.00, ttft_ms=180, tokens_per_s=140),
    MockModel("mock-premium", 5.00, 25.00, ttft_ms=350, tokens_per_s=90),
)


class MockUpstream:
    """The provider. `async with` serves it on a free port of the loopback; `app` can be mounted elsewhere."""

    def __init__(
        self,
        *,
        models: Sequence[MockModel] = DEFAULT_MODELS,
        dials: Dials | None = None,
        key: str = "",
        realistic: bool = False,
        keep: int = 10_000,
    ) -> None:
        # process
        self.models = {model.name: model for model in models}
        self.key = key  # "" = any key, or none, is welcome
        self.journal = Journal(keep)
        self.base_url = ""
        self.app = web.Application(client_max_size=64 * 2**20)
        self.app[MOCK] = self
        self.app.router.add_post("/v1/chat/completions", self._completions)
        self.app.router.add_get("/v1/models", self._models)
        self.app.router.add_get("/v1/models/{model}", self._model)
        self.app.router.add_get("/mock/state", self._state)
        self._runner: web.AppRunner | None = None
        self._stopping = False
        # dials
        self.dials = dials or Dials()
        self._turned: dict[str, dict[str, object]] = {}
        if realistic:
            for model in models:
                self.turn(model.name, ttft_ms=model.ttft_ms, tokens_per_s=model.tokens_per_s)
        # calls
        self._chance = random.Random(self.dials.seed)  # decides which call is refused or befallen by a fault
        self._canned: dict[object, list[bytes]] = {}

    def __repr__(self) -> str:
        return f"<MockUpstream {self.base_url or 'not serving'} {self.journal!r}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serve; returns the base URL, which ends in /v1."""
        # handler_cancellation: a client that leaves must be noticed while the mock is silent, not at its next write.
        self._runner = web.AppRunner(self.app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=4096).start()
        self.base_url = f"http://{host}:{self._runner.addresses[0][1]}/v1"
        return self.base_url

    async def stop(self) -> None:
        """Stop serving; open calls are cancelled and counted as stopped, not as cancelled by the client."""
        self._stopping = True
        if self._runner is not None:
            await self._runner.cleanup()

    def turn(self, model: str = "", /, **changes: object) -> None:
        """Turn dials for one model, or without a name for all of them, from the next request on."""
        turned = self.dials.turned(changes)  # a misspelt dial fails here, not in the handler
        if model:
            self._turned.setdefault(model, {}).update(changes)
        else:
            self.dials = turned

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        call = Call(request.path, request.headers.copy(), body, time.monotonic())
        self.journal.begin(call)
        try:
            ask = self._understand(request, call)
            if ask.dials.fault == "hang":
                await _silence(ask.dials)
            await _pause(ask.dials.ttft_ms / 1000, ask)
            response = await self._answer(request, ask, call)
        except RefusalError as refusal:
            return self._refuse(refusal, call)
        except (asyncio.CancelledError, ConnectionError):
            self.journal.end(call, "stopped" if self._stopping else "cancelled")
            raise
        self.journal.end(call, "answered")
        return response

    def _understand(self, request: web.Request, call: Call) -> Ask:
        """Everything that OpenAI checks before it starts, then the dials; raises RefusalError."""
        asking.authenticate(request.headers.get("Authorization", ""), self.key)
        body = asking.decoded(call.body)
        call.model, named = split_name(asking.named_model(body))
        if call.model not in self.models:
            raise RefusalError(404, f"The model `{call.model}` does not exist or you do not have access to it.")
        messages = asking.messages(body)
        dials = self._dials_of(call.model, named, body)
        if self._chance.random() < dials.error_rate:
            refusal = RefusalError(dials.status)
            refusal.retry_after_s = dials.retry_after_s
            raise refusal
        if dials.fault and self._chance.random() >= dials.fault_rate:
            dials = replace(dials, fault="")
        said = "" if dials.canned else answers.prompt_text(messages[-1:])
        return Ask(body, call.model, dials, messages, answers.seeded(dials.seed, call.model, said))

    def _dials_of(self, model: str, named: Mapping[str, object], body: Mapping[str, object]) -> Dials:
        """The dials of one call: global, then the model's, then the name's, then the body's."""
        asked = body.get("mock", {})
        if not isinstance(asked, dict):
            raise RefusalError(400, "Invalid type for 'mock': expected an object.", param="mock", code="invalid_type")
        dials = self.dials
        try:
            for changes in (self._turned.get(model), named, asked):
                if changes:
                    dials = dials.turned(changes)
        except ValueError as fault:
            raise RefusalError(400, f"Invalid 'mock': {fault}", param="mock", code="invalid_value") from None
        return dials

    async def _answer(self, request: web.Request, ask: Ask, call: Call) -> web.StreamResponse:
        """Write the answer piece by piece at the pace of the dials, and break it where they say so."""
        streamed = ask.streamed or bool(ask.dials.raw)
        script = (
            stream_script(self._frames(ask), ask.dials, ask.rng)
            if streamed
            else whole_script(self._body(ask), ask.dials)
        )
        response = web.StreamResponse(headers=_headers(call, self.journal.requests))
        response.content_type = "text/event-stream" if streamed else "application/json"
        if streamed:
            response.charset = "utf-8"
        elif script.ending == "clean":
            response.content_length = sum(map(len, script.pieces))
        await response.prepare(request)
        call.status = 200
        gap_s = 1 / ask.dials.tokens_per_s if streamed and ask.dials.tokens_per_s > 0 else 0.0
        for at, piece in enumerate(script.pieces):
            if at == script.silent_before:
                await _silence(ask.dials)
            elif at:
                await _pause(gap_s, ask)
            await response.write(piece)
            self.journal.wrote(call, piece)
        if script.silent_before >= len(script.pieces):
            await _silence(ask.dials)
        if script.ending != "clean":
            self.journal.end(call, "cut")
            await _cut(request, reset=script.ending == "cut-rst")
        return response

    def _frames(self, ask: Ask) -> list[bytes]:
        """The events of the healthy stream."""
        if ask.dials.raw:
            return list(ask.dials.raw)
        key = (ask.model, ask.dials.tokens, ask.wants_usage)
        if not ask.dials.canned or key not in self._canned:
            head, choices, usage = asking.say(ask, self.journal.requests, int(time.time()))
            self._canned[key] = frames.stream(head, choices, usage if ask.wants_usage else None)
        return self._canned[key] if ask.dials.canned else self._canned.pop(key)

    def _body(self, ask: Ask) -> bytes:
        """The healthy whole answer."""
        key = (ask.model, ask.dials.tokens, "whole")
        if not ask.dials.canned or key not in self._canned:
            self._canned[key] = [frames.completion(*asking.say(ask, self.journal.requests, int(time.time())))]
        return (self._canned[key] if ask.dials.canned else self._canned.pop(key))[0]

    def _refuse(self, refusal: RefusalError, call: Call) -> web.Response:
        headers = _headers(call, self.journal.requests)
        if refusal.status in (429, 503, 529):
            headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
            headers["Retry-After-Ms"] = str(round(refusal.retry_after_s * 1000))
        call.status = refusal.status
        self.journal.wrote(call, refusal.body)
        self.journal.end(call, "refused")
        kind = "text/html" if refusal.status == 502 else "application/json"
        return web.Response(status=refusal.status, body=refusal.body, headers=headers, content_type=kind)

    async def _models(self, _: web.Request) -> web.Response:
        return _json({"object": "list", "data": [_listed(name) for name in self.models]})

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        if name in self.models:
            return _json(_listed(name))
        body = frames.error(404, f"The model '{name}' does not exist", param="model")
        return web.Response(status=404, body=body, content_type="application/json")

    async def _state(self, _: web.Request) -> web.Response:
        return _json(self.journal.counters())


MOCK = web.AppKey("MOCK", MockUpstream)


def create_app(*, models: Sequence[MockModel] = DEFAULT_MODELS, dials: Dials | None = None) -> web.Application:
    """The provider as an application; `app[MOCK]` is the MockUpstream. Serve it with handler_cancellation=True."""
    return MockUpstream(models=models, dials=dials).app


def _headers(call: Call, serial: int) -> dict[str, str]:
    """The headers that OpenAI sends with every answer."""
    return {
        "x-request-id": f"req_{serial:012x}{answers.seeded(serial).getrandbits(80):020x}",
        "openai-version": "2020-10-01",
        "openai-organization": "mock-org",
        "openai-processing-ms": str(int((time.monotonic() - call.started) * 1000)),
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-remaining-tokens": "199950",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-reset-tokens": "15ms",
    }


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


def _listed(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "mock"}


async def _pause(wait_s: float, ask: Ask) -> None:
    """Wait so long, give or take the jitter. No wait still lets other streams have the loop."""
    if wait_s and ask.dials.jitter:
        wait_s *= 1 + ask.dials.jitter * ask.rng.uniform(-1, 1)
    await asyncio.sleep(wait_s)


async def _silence(dials: Dials) -> None:
    """Say nothing for as long as dialled; 0 = until the client leaves, which cancels this."""
    if dials.stall_ms:
        await asyncio.sleep(dials.stall_ms / 1000)
    else:
        await asyncio.Event().wait()


async def _cut(request: web.Request, *, reset: bool) -> None:
    """End the connection in the middle of the body, after everything written so far has left this process."""
    transport = request.transport
    if transport is None:
        return
    while isinstance(transport, asyncio.WriteTransport) and transport.get_write_buffer_size():  # noqa: ASYNC110  no event says so
        await asyncio.sleep(0)
    if not reset:
        transport.close()
        return
    # Lingering for zero seconds turns the close into a reset (RST) instead of a farewell (FIN).
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.mock_upstream", description="A provider with dials.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9900, help="0 = any free one; the ready line names it")
    parser.add_argument("--key", default="", help="refuse every other key with 401")
    parser.add_argument("--realistic", action="store_true", help="each model at its own speed")
    for dial in fields(Dials):
        if dial.name != "raw":
            parser.add_argument(f"--{dial.name.replace('_', '-')}", default=None, help=f"default {dial.default!r}")
    return parser.parse_args(argv)


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    dials = Dials().turned({name: given[name] for name in Dials.__dataclass_fields__ if name in given})
    mock = MockUpstream(dials=dials, key=options.key, realistic=options.realistic, keep=0)
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    print(f"mock upstream on {await mock.start(options.host, options.port)}", flush=True)
    await stop.wait()
    await mock.stop()


def run(main: Coroutine[object, object, None]) -> None:
    """Run on uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415  optional: the mock is exact without it, only slower
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


if __name__ == "__main__":
    try:
        run(serve(_arguments(sys.argv[1:])))
    except ValueError as fault:
        sys.exit(f"mock upstream: {fault}")
