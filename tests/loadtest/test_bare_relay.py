"""The yardstick is correct: it relays bytes, errors and departures."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from loadtest import processes
from loadtest.bare_relay import BareRelay
from loadtest.mock_upstream import MockUpstream

BODY = {"model": "mock-cheap", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.fixture
async def relayed(mock: MockUpstream) -> AsyncIterator[str]:
    """The base URL of a relay in front of the mock."""
    runner = web.AppRunner(BareRelay(mock.base_url).app(), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


async def test_bytes_and_headers_pass(mock: MockUpstream, http: aiohttp.ClientSession, relayed: str) -> None:
    """What the provider sent is what the client gets; the body and the key arrive there unchanged."""
    key = {"Authorization": "Bearer k"}
    async with http.post(f"{relayed}/chat/completions", json=BODY, headers=key) as response:
        received = await response.read()

    assert received == b"".join(mock.journal.last.sent)
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-request-id"].startswith("req_")
    assert mock.journal.last.json == BODY
    assert mock.journal.last.headers["Authorization"] == "Bearer k"


async def test_refusals_pass(http: aiohttp.ClientSession, relayed: str) -> None:
    """Status, body and Retry-After."""
    wrong = {**BODY, "mock": {"error_rate": 1, "status": 429}}
    async with http.post(f"{relayed}/chat/completions", json=wrong) as response:
        error = (await response.json())["error"]

    assert (response.status, response.headers["Retry-After"]) == (429, "1")
    assert error["code"] == "rate_limit_exceeded"


async def test_a_client_that_leaves_cancels_the_call(
    mock: MockUpstream, http: aiohttp.ClientSession, relayed: str
) -> None:
    """A relay that lets the provider run on would be no fair yardstick."""
    asked = {**BODY, "mock": {"fault": "stall", "after": 2}}
    calling = asyncio.get_running_loop().create_task(http.post(f"{relayed}/chat/completions", json=asked).__aenter__())
    await mock.journal.until(lambda journal: journal.chunks_sent == 2)
    calling.cancel()
    (await asyncio.gather(calling, return_exceptions=True))[0]
    await http.close()
    await mock.journal.until(lambda journal: journal.cancelled == 1)

    assert mock.journal.in_flight == 0


async def test_it_runs_as_a_command(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """As the bench starts it."""

    def start_and_stop() -> str:
        """In a thread, because starting blocks."""
        with processes.relay(mock.base_url) as server:
            return asyncio.run_coroutine_threadsafe(ask(server.base_url), loop).result(20)

    async def ask(url: str) -> str:
        """What the relay says the models are."""
        async with http.get(f"{url}/models") as response:
            return str((await response.json())["object"])

    loop = asyncio.get_running_loop()

    assert await asyncio.to_thread(start_and_stop) == "list"
