"""A provider with dials: three APIs to the byte, as fast or as broken as a test or a benchmark wants it.

    python -m loadtest.mock_upstream --port 9900 --ttft-ms 50 --tokens-per-s 80 --jitter 0.2 --seed 1

    async with MockUpstream() as mock:                      # port 0, instant, no faults
        mock.turn("mock-cheap", fault="cut-rst", after=3)
        ...                                                 # call mock.base_url (or root_url, which has no /v1)
        await mock.journal.until(lambda journal: journal.cancelled == 1)

It speaks OpenAI's Chat Completions, Anthropic's Messages and Google's Gemini API (`loadtest.formats`). The dials are in
`loadtest.dials`, what each fault does is in `loadtest.script`, what was seen and done is in `loadtest.journal`. Needs
aiohttp and orjson only (uvloop where there is one): the installed package's demo runs it.
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
from functools import partial
from pathlib import Path
from typing import Self

import orjson
from aiohttp import web

from loadtest import answers, asking, formats
from loadtest.asking import Arrived, Ask, Moment, RefusalError
from loadtest.dials import Dials, split_name
from loadtest.formats import Format, Route
from loadtest.journal import Call, Journal
from loadtest.script import stream_script, whole_script


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


@dataclass(frozen=True, slots=True)
class _Turn:
    """A call, and as which of all calls it came."""

    call: Call
    serial: int

    def moment(self) -> Moment:
        """Now, for the ids and headers of the answer."""
        return Moment(self.serial, int(time.time()), int((time.monotonic() - self.call.started) * 1000))


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
        log: Path | None = None,
    ) -> None:
        # process
        self.models = {model.name: model for model in models}
        self.key = key  # "" = any key, or none, is welcome
        self.journal = Journal(keep, log)
        self.base_url = ""  # ends in /v1, as OpenAI's does
        self.root_url = ""  # as Anthropic's and Google's
        self.app = web.Application(client_max_size=64 * 2**20)
        self.app[MOCK] = self
        for route in formats.ROUTES:
            self.app.router.add_post(route.path, partial(self._serve, route))
        for path in formats.LISTINGS:
            self.app.router.add_get(path, self._models)
            self.app.router.add_get(f"{path}/{{model}}", self._models)
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
        self._prefixes: set[str] = set()  # of prompts, in the provider's cache

    def __repr__(self) -> str:
        return f"<MockUpstream {self.base_url or 'not serving'} {self.journal!r}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serve; returns the base URL of OpenAI's API, which ends in /v1."""
        # handler_cancellation: a client that leaves must be noticed while the mock is silent, not at its next write.
        self._runner = web.AppRunner(self.app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=4096).start()
        self.root_url = f"http://{host}:{self._runner.addresses[0][1]}"
        self.base_url = f"{self.root_url}/v1"
        return self.base_url

    async def stop(self) -> None:
        """Stop serving; open calls are cancelled and counted as stopped, not as cancelled by the client."""
        self._stopping = True
        if self._runner is not None:
            await self._runner.cleanup()
        self.journal.close()

    def turn(self, model: str = "", /, **changes: object) -> None:
        """Turn dials for one model, or without a name for all of them, from the next request on."""
        turned = self.dials.turned(changes)  # a misspelt dial fails here, not in the handler
        if model:
            self._turned.setdefault(model, {}).update(changes)
        else:
            self.dials = turned

    async def _serve(self, route: Route, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        call = Call(request.path, request.headers.copy(), raw, time.monotonic())
        self.journal.begin(call)
        serial = self.journal.requests
        body, fault = asking.decoded(raw)
        model = request.match_info.get("model", "")
        arrived = Arrived(call.headers, body, fault, len(raw), request.query, model, route.verb, self._prefixes)
        try:
            ask = self._understand(route.speaks, arrived, call)
            if ask.dials.fault == "hang":
                await _silence(ask.dials)
            await _pause(ask.dials.ttft_ms / 1000, ask)
            self._prefixes.update(ask.want.prefixes)
            response = await self._answer(route.speaks, request, ask, _Turn(call, serial))
        except RefusalError as refused:
            return self._refuse(route.speaks, refused, _Turn(call, serial))
        except (asyncio.CancelledError, ConnectionError):
            self.journal.end(call, "stopped" if self._stopping else "cancelled")
            raise
        self.journal.end(call, "answered")
        return response

    def _understand(self, speaks: Format, arrived: Arrived, call: Call) -> Ask:
        """Everything that the provider checks before it starts, then the dials; raises RefusalError."""
        speaks.authenticate(arrived, self.key)
        call.model, named = split_name(speaks.named_model(arrived))
        if call.model not in self.models:
            raise speaks.no_such_model(call.model)
        want = speaks.understood(arrived)
        dials = self._dials_of(call.model, named, arrived.body)
        if dials.unknown and dials.unknown in arrived.body:
            what = f"Unrecognized request argument supplied: {dials.unknown}"
            raise RefusalError(400, what, param=dials.unknown, code="unknown_parameter")
        dials = dials.befallen(self._chance)
        call.said, call.stream, call.after = want.said, want.streamed, dials.after
        if self._chance.random() < dials.error_rate:
            call.fault = str(dials.status)
            refused = RefusalError(dials.status)
            refused.retry_after_s = dials.retry_after_s
            raise refused
        if dials.fault and self._chance.random() >= dials.fault_rate:
            dials = replace(dials, fault="")
        call.fault = dials.fault
        self.journal.understood(call)
        said = "" if dials.canned else want.said
        return Ask(arrived, want, call.model, dials, answers.seeded(dials.seed, call.model, said))

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

    async def _answer(self, speaks: Format, request: web.Request, ask: Ask, turn: _Turn) -> web.StreamResponse:
        """Write the answer piece by piece at the pace of the dials, and break it where they say so."""
        call = turn.call
        streamed = ask.want.streamed or bool(ask.dials.raw)
        healthy = self._healthy(speaks, ask, turn.moment(), streamed=streamed)
        script = (
            stream_script(healthy, ask.dials, ask.rng, speaks.WORDS)
            if streamed
            else whole_script(healthy[0], ask.dials, speaks.WORDS)
        )
        response = web.StreamResponse(headers=speaks.headers(turn.moment()))
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

    def _healthy(self, speaks: Format, ask: Ask, moment: Moment, *, streamed: bool) -> list[bytes]:
        """The events of the healthy stream, or the healthy whole answer as one piece."""
        if ask.dials.raw:
            return list(ask.dials.raw)
        key = (speaks.NAME, speaks.key(ask), streamed, ask.model, ask.dials.tokens)
        if ask.dials.canned and key in self._canned:
            return self._canned[key]
        healthy = speaks.stream(ask, moment) if streamed else [speaks.whole(ask, moment)]
        if ask.dials.canned:
            self._canned[key] = healthy
        return healthy

    def _refuse(self, speaks: Format, refused: RefusalError, turn: _Turn) -> web.Response:
        body, headers = speaks.refusal(refused, turn.moment()), speaks.headers(turn.moment(), refused)
        turn.call.status = refused.status
        self.journal.wrote(turn.call, body)
        self.journal.end(turn.call, "refused")
        kind = "text/html" if refused.status == 502 else "application/json"
        return web.Response(status=refused.status, body=body, headers=headers, content_type=kind)

    async def _models(self, request: web.Request) -> web.Response:
        """The list of models, or one of them. No call to a model, so not in the journal."""
        speaks = formats.of_listing(request.path, request.headers)
        moment = Moment(self.journal.requests, int(time.time()))
        name = request.match_info.get("model")
        try:
            speaks.authenticate(Arrived(request.headers, query=request.query), self.key)
            if name is not None and name not in self.models:
                raise speaks.no_such_model(name, listing=True)
        except RefusalError as refused:
            body, status = speaks.refusal(refused, moment), refused.status
        else:
            body, status = orjson.dumps(speaks.listed(name) if name else speaks.listing(list(self.models))), 200
        return web.Response(status=status, body=body, headers=speaks.headers(moment), content_type="application/json")

    async def _state(self, _: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(self.journal.counters()), content_type="application/json")


MOCK = web.AppKey("MOCK", MockUpstream)


def create_app(*, models: Sequence[MockModel] = DEFAULT_MODELS, dials: Dials | None = None) -> web.Application:
    """The provider as an application; `app[MOCK]` is the MockUpstream. Serve it with handler_cancellation=True."""
    return MockUpstream(models=models, dials=dials).app


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
    parser.add_argument("--log", type=Path, help="file for a line of JSON a call, which outlives this process")
    parser.add_argument("--realistic", action="store_true", help="each model at its own speed")
    for dial in fields(Dials):
        if dial.name != "raw":
            parser.add_argument(f"--{dial.name.replace('_', '-')}", default=None, help=f"default {dial.default!r}")
    return parser.parse_args(argv)


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    dials = Dials().turned({name: given[name] for name in Dials.__dataclass_fields__ if name in given})
    mock = MockUpstream(dials=dials, key=options.key, realistic=options.realistic, keep=0, log=options.log)
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
