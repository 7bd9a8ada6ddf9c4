"""The composition root: every collaborator is built here, once, and stopped here, in order. Nobody else knows them all.

Shutdown: stop accepting → wait for running answers up to a limit → end the rest honestly → write the receipts → close
the pools.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import web

from classifier.bundle import BundleError
from classifier.predict import Predictor
from gateway import logs, serving
from gateway.auth import Keyring
from gateway.calling import Calling
from gateway.classify import Classify
from gateway.config import Config
from gateway.endpoints import Endpoints
from gateway.handler import Collaborators, Handler, clock
from gateway.ledger import Ledger
from gateway.metrics import Metrics
from gateway.router import Router
from gateway.upstream import model as upstream

NEVER_CHEAP = 1.01
# How long a busy event loop may keep the classifier's thread waiting for the interpreter. Python's default of 5 ms is
# most of the classifier's deadline.
SWITCH_S = 0.0005

log = structlog.get_logger()


class CannotListen(Exception):
    """The address is taken, or not ours; the message is the system's."""


class Gateway:
    """One running gateway: built by `create`, served through `application`, ended by `close`."""

    def __init__(self, config: Config, with_: Collaborators, metrics: Metrics, faults: dict[str, str]) -> None:
        self.config = config
        self.with_ = with_
        self.faults = faults
        self.handler = Handler(with_)
        endpoints = Endpoints(config, with_, self.handler, metrics, faults)
        self.application = web.Application(client_max_size=config.server.max_body_bytes)
        self.application.add_routes(endpoints.routes())

    def __repr__(self) -> str:
        return f"<Gateway {self.handler!r} {self.with_.ledger!r}>"

    async def drain(self) -> None:
        """Wait for running answers up to `server.drain_s`, then end the rest: each client is told."""
        self.faults["shutdown"] = "draining"
        running = set(self.handler.running)
        if running:
            logs.say("draining", running=len(running), limit_s=self.config.server.drain_s)
            await asyncio.wait(running, timeout=self.config.server.drain_s)
        cut = set(self.handler.running)
        for task in cut:
            task.cancel()
        if cut:
            logs.say("cut", "warning", running=len(cut))
            await asyncio.wait(cut, timeout=1)

    async def close(self) -> None:
        """Write the last receipts and close everything."""
        await self.with_.ledger.close()
        self.with_.classify.close()
        for opened in {model.pool for model in self.with_.models.values()}:
            await opened.close()


def write_receipt(fields: dict[str, Any]) -> None:
    """Write one receipt to the log."""
    log.info("receipt", **fields)


async def create(config: Config, write: Callable[[dict[str, Any]], None] = write_receipt) -> Gateway:
    """Build a gateway. A classifier that cannot be loaded makes it not ready, not dead: the safe rung answers."""
    sys.setswitchinterval(SWITCH_S)
    faults: dict[str, str] = {}
    classify = Classify(config.classifier, lambda error: log.error("classifier failed", exc_info=error))
    default_threshold = NEVER_CHEAP
    try:
        predictor = await asyncio.to_thread(Predictor.load, config.classifier.directory)
    except BundleError as error:
        faults["classifier"] = str(error)
        log.warning("classifier not loaded: every route answers from its top rung", fault=str(error))
    else:
        classify.predictor, default_threshold = predictor, predictor.default_threshold
    metrics = Metrics()
    models = upstream.build(config.models, config.upstreams)
    with_ = Collaborators(
        keyring=Keyring(config.keys),
        classify=classify,
        router=Router(config.routes, models, default_threshold),
        models=models,
        calling=Calling(models, config.routes, config.server, clock),
        ledger=Ledger(write, metrics),
        server=config.server,
    )
    return Gateway(config, with_, metrics, faults)


async def serve(config: Config, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. Raises CannotListen."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gateway = await create(config)
    runner = serving.Runner(gateway.application, config.server)
    try:
        await runner.setup()
        site = web.TCPSite(runner, host, port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            raise CannotListen(os.strerror(error.errno) if error.errno else str(error)) from error
        bound = runner.addresses[0]
        logs.say("listening", host=bound[0], port=bound[1], ready=not gateway.faults, keys=len(config.keys))
        await stop.wait()
        await site.stop()
        if runner.server is not None:
            runner.server.pre_shutdown()        # idle connections close now, busy ones after their answer
        await gateway.drain()
    finally:
        await runner.cleanup()
        await gateway.close()
    logs.say("stopped")
