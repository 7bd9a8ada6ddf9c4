"""Several processes on one port: gunicorn forks and watches them, each runs the same gateway on its own loop.

Rule: onnxruntime is imported after the fork. A worker that inherited it from its parent aborts when it ends (2026-11).
"""

import asyncio
import os
import signal
import socket
from typing import Any

from aiohttp import web
from gunicorn.app.base import BaseApplication
from gunicorn.workers.base import Worker

from gateway import logs
from gateway.config import Config


def _leave(*_: object) -> None:
    """End a worker that serves nobody yet; one that loses the signal would be killed, half a minute later."""
    os._exit(0)


def _forked_safely() -> None:
    """Have a signal that arrives during a fork wait for the child's own handler: its parent's is of no use to it."""
    stop = {signal.SIGTERM}

    def child() -> None:
        signal.signal(signal.SIGTERM, _leave)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop)

    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, stop),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, stop),
        after_in_child=child,
    )


class _Several(BaseApplication):
    """Gunicorn without its own command line and configuration files."""

    def __init__(self, config: Config, settings: dict[str, Any]) -> None:
        self._config = config
        self._settings = settings
        self._worker: Worker | None = None
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

        self.cfg.set("post_fork", self._forked)

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
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGTERM, worker.handle_exit, signal.SIGTERM, None
            )
            gateway = await app.create(config)

            async def ending(_: web.Application) -> None:
                await gateway.drain()
                await gateway.close()

            gateway.application.on_shutdown.append(ending)
            return serving.Runner(gateway.application, config.server)

        return runner


def serve(config: Config, host: str, port: int, workers: int) -> None:
    """Serve with `workers` processes until SIGTERM; each drains its running answers first. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024)
    address, fd = listener.getsockname(), listener.detach()       # gunicorn takes it over, and closes it
    _forked_safely()
    _Several(config, {
        "bind": f"fd://{fd}",
        "workers": workers,
        "worker_class": "aiohttp.GunicornUVLoopWebWorker",
        "graceful_timeout": int(config.server.drain_s) + 5,
        "timeout": 60,
        "loglevel": "warning",
        "when_ready": lambda _: logs.say("listening", host=address[0], port=address[1], workers=workers),
    }).run()
