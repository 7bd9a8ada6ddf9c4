"""Asks endpoints whose breaker is open for their models, so that one may be used again before a request dares to.

Off unless `health.probe_ms` is set. A probe costs nothing at any provider; that it is answered does not prove that the
model is well, so it only closes the breaker: the next calls judge.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import aiohttp

from gateway.tasks import spawn
from gateway.upstream.model import Deployment, Model

TIMEOUT = aiohttp.ClientTimeout(total=5)


class Probing:
    """The probes of one configuration, a task for each upstream that wants them."""

    def __init__(self, models: Iterable[Model], clock: Callable[[], float]) -> None:
        self._clock = clock
        pools = {model.pool for model in models}
        deployments = {
            pool: [each for model in models if model.pool is pool for each in model.deployments]
            for pool in pools if pool.health.probe_ms
        }
        self._tasks = [
            spawn(self._ask_on(each, pool.health.probe_ms / 1000, pool.speaks.models_url))
            for pool, each in deployments.items()
        ]

    def __repr__(self) -> str:
        return f"<Probing {len(self._tasks)} upstreams>"

    async def close(self) -> None:
        """Stop asking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask_on(
        self, deployments: list[Deployment], every_s: float, models_url: Callable[[str], str]
    ) -> None:
        while True:
            await asyncio.sleep(every_s)
            for deployment in deployments:
                if deployment.health.state(self._clock()) in ("open", "half-open"):
                    await self._ask(deployment, models_url(deployment.endpoint.base_url))

    async def _ask(self, deployment: Deployment, url: str) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):       # then it stays as it is
            async with deployment.endpoint.session.get(url, timeout=TIMEOUT, allow_redirects=False) as response:
                if response.status < 400:
                    deployment.health.answered()
