"""The composition root: every collaborator is built here, once, and stopped here, in order. Nobody else knows them all.

Shutdown: stop accepting → wait for running answers up to a limit → end the rest honestly → write the receipts → close
the pools.

Reload: build a second generation beside the first → one assignment → what arrives is the second's, what runs stays the
first's → its pools are closed when its last request has ended.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from classifier import bundle
from classifier.bundle import BundleError
from classifier.predict import Predictor
from gateway import logs, serving
from gateway.accounting import Accounting
from gateway.admin import Admin
from gateway.allowance import Allowing
from gateway.books import Books
from gateway.calling import Calling
from gateway.classify import Classify
from gateway.config import ClassifierConfig, Config
from gateway.endpoints import Endpoints
from gateway.handler import Collaborators, Handler, clock
from gateway.limits import Limits
from gateway.metrics import Metrics
from gateway.router import Router
from gateway.tasks import spawn
from gateway.upstream import model as upstream
from gateway.upstream.probing import Probing
from gateway.usage import OwnUsage

NEVER_CHEAP = 1.01
# How long a busy event loop may keep the classifier's thread waiting for the interpreter. Python's default of 5 ms is
# most of the classifier's deadline.
SWITCH_S = 0.0005

log = structlog.get_logger()


class CannotListen(Exception):
    """The address is taken, or not ours; the message is the system's."""


class Generation:
    """What one configuration brings with it, for as long as requests of it run. The books outlive it."""

    def __init__(
        self, config: Config, predictor: Predictor | None, books: Books, *, open_: bool,
        before: "Generation | None" = None,
    ) -> None:
        self.config = config
        self.predictor = predictor
        self.faults: dict[str, str] = {}
        models = upstream.build(config.models, config.upstreams)
        accounting = Accounting(models, config.routes, books.ratios, books.counterfactual)
        self.with_ = Collaborators(
            keyring=books.keys.keyring(config.keys, open_=open_),
            classify=_classify(config.classifier, predictor, before),
            router=Router(config.routes, models, NEVER_CHEAP if predictor is None else predictor.default_threshold),
            models=models,
            allowing=Allowing(config, models, books.admission, books.treasury, books.ratios),
            calling=Calling(models, config.routes, config.server, accounting, clock),
            accounting=accounting,
            ledger=books.ledger,
            server=config.server,
        )
        self._probing = Probing(models.values(), clock)
        self.handler = Handler(self.with_)
        endpoints = Endpoints(config, self.with_, self.handler, books, self.faults)
        admin = Admin(config, books.bookkeeper, books.keys, endpoints.not_there)
        usage = OwnUsage(self.with_.keyring, books.bookkeeper, config.ledger, books.treasury.standings)
        self.routes = [*usage.routes(), *admin.routes(), *endpoints.routes()]
        self._serving = 0
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    def __repr__(self) -> str:
        return f"<Generation {len(self.with_.models)} models, {self._serving} being served>"

    async def serve(self, number: int, http: web.Request) -> web.StreamResponse:
        """Serve a request of the route with this number."""
        self._serving += 1
        self._at_rest.clear()
        try:
            return await self.routes[number].handler(http)
        finally:
            self._serving -= 1
            if not self._serving:
                self._at_rest.set()

    async def rest(self) -> None:
        """Return when nothing is being served."""
        await self._at_rest.wait()

    async def close(self) -> None:
        """Close every connection; may be called again."""
        await self._probing.close()
        for opened in {model.pool for model in self.with_.models.values()}:
            await opened.close()


class Gateway:
    """One running gateway: built by `create`, served through `application`, ended by `close`.

    Each request is served whole by the generation that is current when it arrives. The routes are the same in all.
    """

    def __init__(self, first: Generation, books: Books, *, open_: bool) -> None:
        self.current = first
        self._books = books
        self._open = open_
        self._start = first.config
        self._generations = [first]                     # and those that still serve, or are being closed
        self._retiring: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()
        self.application = web.Application()            # a body's limit is the generation's: see serving.read_body
        self.application.add_routes([
            web.RouteDef(route.method, route.path, partial(self._serve, number), route.kwargs)
            for number, route in enumerate(first.routes)
        ])

    def __repr__(self) -> str:
        return f"<Gateway {self.handler!r} {self.with_.ledger!r}>"

    @property
    def config(self) -> Config:
        """The configuration of what arrives now."""
        return self.current.config

    @property
    def with_(self) -> Collaborators:
        """Who serves what arrives now."""
        return self.current.with_

    @property
    def handler(self) -> Handler:
        """The request path of what arrives now."""
        return self.current.handler

    @property
    def faults(self) -> dict[str, str]:
        """What keeps it from being ready."""
        return self.current.faults

    async def reload(self, config: Config) -> None:
        """Have a configuration take over for what arrives from then on; what runs ends with the one it began with.

        Raises BundleError where its classifier cannot be loaded; nothing has changed then.
        """
        async with self._one_at_a_time:
            old = self.current
            predictor = await asyncio.to_thread(_load, config.classifier.directory, old.predictor)
            self.current = Generation(config, predictor, self._books, open_=self._open, before=old)
            self._books.ratios.keep(config.models)
            waiting = [name for name in ("ledger", "shared") if getattr(config, name) != getattr(self._start, name)]
            if waiting:
                logs.say("waits for a restart", "warning", sections=waiting)
            self._generations.append(self.current)
            retiring = spawn(self._retire(old))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retired)

    async def drain(self) -> None:
        """Wait for running answers up to `server.drain_s`, then end the rest: each client is told."""
        self.faults["shutdown"] = "draining"
        running = self._running()
        if running:
            logs.say("draining", running=len(running), limit_s=self.config.server.drain_s)
            await asyncio.wait(running, timeout=self.config.server.drain_s)
        cut = self._running()
        for task in cut:
            task.cancel()
        if cut:
            logs.say("cut", "warning", running=len(cut))
            await asyncio.wait(cut, timeout=1)

    async def close(self) -> None:
        """Write the last receipts and close everything."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self._books.close()
        for generation in tuple(self._generations):
            await self._end(generation)

    async def _serve(self, number: int, http: web.Request) -> web.StreamResponse:
        return await self.current.serve(number, http)

    def _running(self) -> set[asyncio.Task[object]]:
        return {task for generation in self._generations for task in generation.handler.running}

    async def _retire(self, old: Generation) -> None:
        await old.rest()
        await self._end(old)

    def _retired(self, task: asyncio.Task[None]) -> None:
        self._retiring.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an old configuration could not be closed", exc_info=error)

    async def _end(self, generation: Generation) -> None:
        await generation.close()
        self._generations.remove(generation)            # from here on at once: two may end that share a classifier
        classify = generation.with_.classify
        if all(other.with_.classify is not classify for other in self._generations):
            classify.close()


def write_receipt(fields: dict[str, Any]) -> None:
    """Write one receipt to the log."""
    log.info("receipt", **fields)


async def create(
    config: Config, write: Callable[[dict[str, Any]], None] = write_receipt, *, open_: bool = True,
    limits: Limits | None = None,
) -> Gateway:
    """Build a gateway. A classifier that cannot be loaded makes it not ready, not dead: the safe rung answers.

    `open_`: without any keys it is open to everybody, who can only be on this machine. `limits`: those of all processes
    together, where there are several.
    """
    sys.setswitchinterval(SWITCH_S)
    predictor, fault = None, None
    try:
        predictor = await asyncio.to_thread(_load, config.classifier.directory)
    except BundleError as error:
        fault = str(error)
        log.warning("classifier not loaded: every route answers from its top rung", fault=fault)
    books = Books(config, Metrics(), write, limits)
    await books.start()
    gateway = Gateway(Generation(config, predictor, books, open_=open_), books, open_=open_)
    if fault is not None:
        gateway.faults["classifier"] = fault
    return gateway


def _load(directory: Path | None, loaded: Predictor | None = None) -> Predictor:
    """Return the classifier in a directory, the loaded one where it is still the same. Raises BundleError."""
    if loaded is not None:
        there = bundle.load(directory)
        if (there.digest, there.manifest.default_threshold) == (loaded.digest, loaded.default_threshold):
            return loaded
    return Predictor.load(directory)


def _classify(config: ClassifierConfig, predictor: Predictor | None, before: Generation | None) -> Classify:
    """Return the classifier's place on the path, with the verdicts it remembers where nothing changes for it."""
    if before is not None and predictor is before.predictor and config == before.config.classifier:
        return before.with_.classify
    classify = Classify(config, lambda error: log.error("classifier failed", exc_info=error))
    classify.predictor = predictor
    return classify


async def serve(config: Config, host: str, port: int, read: Callable[[], Config | None], *, open_: bool) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return; a SIGHUP puts in force what `read` gives.

    Raises CannotListen. `open_` as for `create`.
    """
    stop, again = asyncio.Event(), asyncio.Event()
    for number, event in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, again)):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    gateway = await create(config, open_=open_)
    runner = serving.Runner(gateway.application, config.server)
    reloading = spawn(reload_on(again, read, gateway, runner))
    try:
        await runner.setup()
        site = web.TCPSite(runner, host, port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            raise CannotListen(os.strerror(error.errno) if error.errno else str(error)) from error
        bound = runner.addresses[0]
        logs.say("listening", host=bound[0], port=bound[1], ready=not gateway.faults, keys=len(config.keys))
        say_if_open(gateway)
        await stop.wait()
        await site.stop()
        if runner.server is not None:
            runner.server.pre_shutdown()        # idle connections close now, busy ones after their answer
        reloading.cancel()
        await gateway.drain()
    finally:
        reloading.cancel()
        await runner.cleanup()
        await gateway.close()
    logs.say("stopped")


async def reload_on(
    again: asyncio.Event, read: Callable[[], Config | None], gateway: Gateway, runner: serving.Runner
) -> None:
    """Put in force what `read` gives each time the event is set, until cancelled.

    It is set again while that is being done: then it is done once more. `read` itself says why it gives nothing.
    """
    while True:
        await again.wait()
        again.clear()
        try:
            config = await asyncio.to_thread(read)
            if config is None:
                continue
            await gateway.reload(config)
        except BundleError as error:
            logs.say("not reloaded", "error", faults=[str(error)])
        except Exception:  # noqa: BLE001 - the next reload must find somebody; what serves goes on as it is
            logs.say("not reloaded", "error", exc_info=True)
        else:
            runner.limit(config.server)
            logs.say("reloaded", pid=os.getpid(), keys=len(config.keys), routes=len(config.routes))
            say_if_open(gateway)


def say_if_open(gateway: Gateway) -> None:
    """Log that nobody needs a key, where that is so."""
    if gateway.with_.keyring.open:
        logs.say("open", "warning", why="there are no keys: whoever is on this machine may use it")
