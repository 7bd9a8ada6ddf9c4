"""Several processes on one port: gunicorn forks and watches them, each runs the same gateway on its own loop.

Rule: onnxruntime is imported after the fork. A worker that inherited it from its parent aborts when it ends (2026-11).

SIGHUP: the first process reads the file and, where it is good, has every worker do as a single one does. Gunicorn's way
is to end them for new ones: that cuts what outlasts `server.drain_s`, and closes connections that clients count on.
"""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from aiohttp import web
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from gateway import logs
from gateway.config import Config
from gateway.shared.memory import Common, Memory
from gateway.tasks import spawn

_hung_up = threading.Event()        # a SIGHUP that came while this worker was still loading


def _leave(*_: object) -> None:
    """End a worker that serves nobody yet; one that loses the signal would be killed, half a minute later."""
    os._exit(0)


def _remember(*_: object) -> None:
    """Reload as soon as there is something to reload."""
    _hung_up.set()


def _forked_safely() -> None:
    """Have a signal that arrives during a fork wait for the child's own handler: its parent's is of no use to it."""
    ours = {signal.SIGTERM, signal.SIGHUP}

    def child() -> None:
        signal.signal(signal.SIGTERM, _leave)
        signal.signal(signal.SIGHUP, _remember)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)

    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ours),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, ours),
        after_in_child=child,
    )


class _Master(Arbiter):
    """Gunicorn's first process."""

    def reload(self) -> None:
        """Answer a SIGHUP."""
        if self.app.read_again():
            self.kill_workers(signal.SIGHUP)        # sends it, no more


class _Several(BaseApplication):
    """Gunicorn without its own command line and configuration files."""

    def __init__(
        self, config: Config, settings: dict[str, Any], read: Callable[[], Config | None], *, open_: bool = True,
        memory: Memory | None = None,
    ) -> None:
        self._config = config
        self._open = open_
        self._memory = memory           # where the workers have their limits in common, unless they share more
        self._settings = settings
        self._read = read
        self._worker: Worker | None = None
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

        self.cfg.set("post_fork", self._forked)
        self._be_patient()

    def read_again(self) -> bool:
        """Say whether there is a configuration to put in force. Workers that are forked later have it from here."""
        if (config := self._read()) is None:
            return False
        self._config = config
        self._be_patient()
        return True

    def run(self) -> None:
        _Master(self).run()

    def _be_patient(self) -> None:
        self.cfg.set("graceful_timeout", int(self._config.server.drain_s) + 5)

    def _forked(self, _: Any, worker: Worker) -> None:
        self._worker = worker

    def load(self) -> Any:
        # uvloop has taken the signal over, and loses what comes before it runs: a second, while the model is loaded
        signal.signal(signal.SIGTERM, _leave)
        from gateway import app, serving  # noqa: PLC0415 - after the fork, see above

        config, worker = self._config, self._worker
        assert worker is not None  # noqa: S101 - for the type checker; workers load after they are forked

        async def runner() -> web.AppRunner:
            """Build one worker's gateway; gunicorn's worker sets it up and cleans it up."""
            loop, again = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, worker.handle_exit, signal.SIGTERM, None)
            loop.add_signal_handler(signal.SIGHUP, again.set)
            if _hung_up.is_set():
                again.set()
            limits = None if self._memory is None else Common(self._memory)
            gateway = await app.create(config, open_=self._open, limits=limits)
            app.say_if_open(gateway)
            built = serving.Runner(gateway.application, config.server)
            reloading = spawn(app.reload_on(again, self._read, gateway, built))

            async def ending(_: web.Application) -> None:
                reloading.cancel()
                await gateway.drain()
                await gateway.close()

            gateway.application.on_shutdown.append(ending)
            return built

        return runner


def serve(
    config: Config, at: tuple[str, int], workers: int, read: Callable[[], Config | None], *, open_: bool
) -> None:
    """Serve at a host and port with `workers` processes until SIGTERM; each drains its running answers first.

    Raises OSError. `read` is called in each of them after a SIGHUP, see app.reload_on; `open_` as for app.create.
    """
    host, port = at
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024)
    address, fd = listener.getsockname(), listener.detach()       # gunicorn takes it over, and closes it
    _forked_safely()
    settings = {
        "bind": f"fd://{fd}",
        "workers": workers,
        "worker_class": "aiohttp.GunicornUVLoopWebWorker",
        "timeout": 60,
        "loglevel": "warning",
        "when_ready": lambda _: logs.say("listening", host=address[0], port=address[1], workers=workers),
    }
    memory = Memory(workers) if config.shared.url is None else None
    _Several(config, settings, read, open_=open_, memory=memory).run()
