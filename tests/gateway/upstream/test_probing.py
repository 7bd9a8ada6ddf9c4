"""Endpoints whose breaker is open are asked for their models; a real server answers, or does not."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.config import HealthConfig, ModelConfig, Secret, UpstreamConfig
from gateway.config.settings import Dialect
from gateway.upstream import model
from gateway.upstream.model import Model
from gateway.upstream.probing import Probing

BOUND_S = 15.0
HEALTH = HealthConfig(failures=1, open_ms=60_000, open_max_ms=60_000, probe_ms=100)


class Listing:
    """A server that lists models."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.base_url = ""

    async def answer(self, http: web.Request) -> web.Response:
        """List them."""
        self.asked.put_nowait((http.path, http.headers.get("Authorization", "")))
        return web.json_response({"data": []}, status=self.status)


@pytest.fixture
async def listing() -> AsyncIterator[Listing]:
    """A running one."""
    listing = Listing()
    application = web.Application()
    application.router.add_get("/{path:.*}", listing.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    listing.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield listing
    await runner.cleanup()


def opened(base_url: str, dialect: Dialect = "openai") -> Model:
    """A model whose breaker has just opened."""
    upstream = UpstreamConfig(base_url=base_url, dialect=dialect, key=Secret("sk-acme"), health=HEALTH)
    small = model.build({"small": ModelConfig(upstream="acme", name="small")}, {"acme": upstream})["small"]
    now = time.monotonic()
    small.deployments[0].health.started(now)
    small.deployments[0].health.failed(now, now)
    return small


@pytest.mark.parametrize(
    ("dialect", "below", "path"),
    [("openai", "/v1", "/v1/models"), ("anthropic", "", "/v1/models"), ("gemini", "", "/v1beta/models")],
)
async def test_an_answer_closes_the_breaker(listing: Listing, dialect: Dialect, below: str, path: str) -> None:
    """Asked where the provider lists its models, with its key; then no more."""
    small = opened(listing.base_url + below, dialect)
    probing = Probing([small], time.monotonic)
    async with asyncio.timeout(BOUND_S):
        asked, key = await listing.asked.get()
        while small.deployments[0].health.state(time.monotonic()) != "closed":  # noqa: ASYNC110 - a value, not an event
            await asyncio.sleep(0)
    await probing.close()
    await small.pool.close()

    assert asked == path
    assert key == ("Bearer sk-acme" if dialect == "openai" else "")
    assert listing.asked.empty()


async def test_a_refusal_leaves_it_open(listing: Listing) -> None:
    """And it is asked again."""
    listing.status = 503
    small = opened(f"{listing.base_url}/v1")
    probing = Probing([small], time.monotonic)
    async with asyncio.timeout(BOUND_S):
        for _ in range(2):
            await listing.asked.get()
    state = small.deployments[0].health.state(time.monotonic())
    await probing.close()
    await small.pool.close()

    assert state == "open"


async def test_nobody_is_asked_unless_it_is_wanted() -> None:
    """No task without `probe_ms`."""
    upstream = UpstreamConfig(base_url="http://127.0.0.1:9/v1")
    small = model.build({"small": ModelConfig(upstream="acme", name="small")}, {"acme": upstream})["small"]
    probing = Probing([small], time.monotonic)
    shown = repr(probing)
    await probing.close()
    await small.pool.close()

    assert shown == "<Probing 0 upstreams>"
