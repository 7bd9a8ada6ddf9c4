"""Several processes on one port: gunicorn forks and watches them, each runs the same gateway on its own loop.

Rule: onnxruntime is imported after the fork. A worker that inherited it from its parent aborts when it ends (2026-11).
"""

import socket
from typing import Any

from aiohttp import web
from gunicorn.app.base import BaseApplication

from gateway import logs
from gateway.config import Config


class _Several(BaseApplication):
    """Gunicorn without its own command line and configuration files."""

    def __init__(self, config: Config, settings: dict[str, Any]) -> None:
        self._config = config
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        from gateway import app  # noqa: PLC0415 - after the fork, see above

        config = self._config

        async def runner() -> web.AppRunner:
            """Build one worker's gateway; gunicorn's worker sets it up and cleans it up."""
            gateway = await app.create(config)

            async def ending(_: web.Application) -> None:
                await gateway.drain()
                await gateway.close()

            gateway.application.on_shutdown.append(ending)
            return web.AppRunner(gateway.application, handler_cancellation=True, access_log=None, shutdown_timeout=1)

        return runner


def serve(config: Config, host: str, port: int, workers: int) -> None:
    """Serve with `workers` processes until SIGTERM; each drains its running answers first. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024)
    address, fd = listener.getsockname(), listener.detach()       # gunicorn takes it over, and closes it
    _Several(config, {
        "bind": f"fd://{fd}",
        "workers": workers,
        "worker_class": "aiohttp.GunicornUVLoopWebWorker",
        "graceful_timeout": int(config.server.drain_s) + 5,
        "timeout": 60,
        "loglevel": "warning",
        "when_ready": lambda _: logs.say("listening", host=address[0], port=address[1], workers=workers),
    }).run()
