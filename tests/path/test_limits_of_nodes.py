"""One limit for several processes: through Redis for all nodes, in common memory for the workers of a machine."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

import aiohttp
import orjson
import psutil
import pytest

from gateway.limits import Standing
from loadtest.mock_upstream import MockUpstream
from tests.conftest import BOUND_S, Client, Running, Start, chat, request_bytes, two_rungs
from tests.path.clerk import bearer, becomes
from tests.path.conftest import Spawn
from tests.services import Redis

APP = bearer("sk-app")
FAR = 600_000       # milliseconds: longer than any test


def keys(limits: str) -> str:
    """Return the section of one key with these limits."""
    return f"keys: {{app: {{secret: sk-app, limits: {{{limits}}}}}}}\n"


def at(redis: Redis, limits: str, **settings: Any) -> str:
    """Return the sections of a key whose limits are shared there."""
    return keys(limits) + "shared: " + orjson.dumps({"url": redis.url, "timeout_ms": 5_000, **settings}).decode()


async def many(clients: list[Any], number: int) -> Counter[int]:
    """Return how many requests got which status, of so many to each at once."""
    asked = [client.ask(chat(f"number {n}"), APP) for n in range(number) for client in clients]
    return Counter(reply.status for reply in await asyncio.gather(*asked))


def standings(running: Running) -> list[Standing]:
    """Return how every name stands here."""
    return list(running.gateway._books.admission.limits._standings.values())


async def met(*gateways: Running) -> None:
    """Have all nodes hear of each other."""
    for _ in range(2):
        for running in gateways:
            await running.gateway._books.admission.beat()


# ── through Redis ──


async def test_two_nodes_have_one_limit(redis: Redis, serve: Start, first: MockUpstream) -> None:
    """Of forty requests at once through two gateways exactly ten are served, whichever they come to."""
    more = at(redis, "requests_per_minute: 10")
    gateways = [await serve(more=more) for _ in range(2)]
    seen = await many(gateways, 20)

    assert (seen, first.journal.requests) == ({200: 10, 429: 30}, 10)


async def test_two_nodes_have_one_concurrency(redis: Redis, serve: Start, first: MockUpstream) -> None:
    """What runs through one keeps the other's out, and lets it in when its client leaves."""
    gateways = [await serve(more=at(redis, "concurrency: 1")) for _ in range(2)]
    wire = await gateways[0].wire()
    body = orjson.dumps(chat(stream=True, mock={"fault": "stall", "after": 2}))
    await wire.send(request_bytes(body, "Authorization: Bearer sk-app"))
    await wire.until(b"data: ")
    during = [await running.ask(headers=APP) for running in gateways]
    wire.leave()
    await becomes(200, lambda: gateways[1].ask(headers=APP))
    await becomes(200, lambda: gateways[0].ask(headers=APP))

    assert [(reply.status, reply.error["code"]) for reply in during] == [(429, "rate_limit_exceeded")] * 2
    assert [each.running for running in gateways for each in standings(running)] == [0, 0]


async def test_tokens_used_at_one_node_are_waited_for_at_the_other(
    redis: Redis, serve: Start, first: MockUpstream
) -> None:
    """As soon as Redis knows of them, which is behind the answer's back."""
    first.turn(tokens=50)
    gateways = [await serve(more=at(redis, "tokens_per_minute: 60, tokens_burst: 1")) for _ in range(2)]
    served = await gateways[0].ask(headers=APP)
    refused = await gateways[1].ask(headers=APP)

    assert (served.status, refused.status) == (200, 429)
    assert "may use 60 tokens a minute" in refused.error["message"]


@pytest.mark.parametrize(("then", "status"), [("closed", 503), ("open", 200)])
async def test_without_redis_it_goes_as_configured(
    own_redis: Redis, serve: Start, first: MockUpstream, then: str, status: int
) -> None:
    """Refused with a 503 that says so, or let through; and shared again as soon as it is back."""
    running = await serve(more=at(own_redis, "requests_per_minute: 1", lease_ms=0, then=then))
    await asyncio.to_thread(own_redis.kill)
    replies = [await running.ask(headers=APP) for _ in range(2)]
    calls = first.journal.requests
    await asyncio.to_thread(own_redis.start)
    await becomes(429 if then == "open" else 200, lambda: running.ask(headers=APP))
    receipts = await running.receipts.until(2)

    assert replies[0].status == status
    assert replies[1].status == (503 if then == "closed" else 429), "this node knows its own all the same"
    assert calls == (0 if then == "closed" else 1)
    assert then == "open" or (replies[0].headers["Retry-After"], receipts[0]["outcome"]) == ("1", "failed")


async def test_without_redis_each_node_has_its_share(own_redis: Redis, serve: Start, first: MockUpstream) -> None:
    """Half of the limit at each of two, as long as `lease_ms` says: all in all no more than the limit."""
    more = at(own_redis, "requests_per_minute: 10", lease_ms=FAR)
    gateways = [await serve(more=more) for _ in range(2)]
    await met(*gateways)
    await asyncio.to_thread(own_redis.kill)
    seen = [await many([running], 15) for running in gateways]

    assert (seen, first.journal.requests) == ([{200: 5, 429: 10}] * 2, 10)


async def test_a_frozen_redis_holds_nobody_up(own_redis: Redis, serve: Start, first: MockUpstream) -> None:
    """One that answers nothing costs its timeout, and the node goes on alone."""
    more = at(own_redis, "requests_per_minute: 10, concurrency: 5", lease_ms=FAR, timeout_ms=100)
    running = await serve(more=more)
    await met(running)
    own_redis.freeze()
    statuses = [(await running.ask(headers=APP)).status for _ in range(3)]
    own_redis.thaw()

    assert (statuses, first.journal.requests) == ([200] * 3, 3)
    assert [each.running for each in standings(running)] == [0]


async def test_a_key_without_limits_does_not_ask_redis(own_redis: Redis, serve: Start) -> None:
    """Whatever becomes of it, who is not limited is served."""
    running = await serve(more=at(own_redis, "", lease_ms=0, then="closed"))
    await asyncio.to_thread(own_redis.kill)

    assert (await running.ask(headers=APP)).status == 200


# ── the workers of a machine ──


async def served_again(client: Client) -> None:
    """Ask until somebody serves: whoever asks one that dies is cut off."""
    async with asyncio.timeout(BOUND_S):
        status = 0
        while status != 200:
            with contextlib.suppress(OSError, aiohttp.ClientError):
                status = (await client.ask(headers=APP)).status


async def test_workers_have_one_limit(process: Spawn, first: MockUpstream, second: MockUpstream) -> None:
    """Two processes on one port, without Redis: requests, and what runs at once."""
    sections = (
        "keys: {app: {secret: sk-app, limits: {requests_per_minute: 10}}, "
        "crowd: {secret: sk-crowd, limits: {concurrency: 3}}}"
    )
    running = await process(two_rungs(first.base_url, second.base_url, more=sections), workers=2)
    await running.answering()
    seen = await many([running.client], 30)
    stalls = chat(stream=True, mock={"fault": "stall", "after": 2})
    wires = [await running.client.wire() for _ in range(12)]
    for wire in wires:
        await wire.send(request_bytes(orjson.dumps(stalls), "Authorization: Bearer sk-crowd"))
    heads = [(await wire.until(b"\r\n"))[9:12] for wire in wires]
    for wire in wires:
        wire.leave()
    await becomes(200, lambda: running.client.ask(headers=bearer("sk-crowd")))
    running.terminate()

    assert (seen, await running.ended()) == ({200: 10, 429: 20}, 0)
    assert Counter(heads) == {b"200": 3, b"429": 9}


async def test_a_worker_that_dies_gives_back_what_it_had(
    process: Spawn, first: MockUpstream, second: MockUpstream
) -> None:
    """Its streams end with it, and no longer count among those that run."""
    sections = "keys: {app: {secret: sk-app, limits: {concurrency: 2}}}"
    running = await process(two_rungs(first.base_url, second.base_url, more=sections), workers=2)
    await running.answering()
    stalls = orjson.dumps(chat(stream=True, mock={"fault": "stall", "after": 2}))
    wires = [await running.client.wire() for _ in range(2)]
    for wire in wires:
        await wire.send(request_bytes(stalls, "Authorization: Bearer sk-app"))
        await wire.until(b"data: ")
    refused = await running.client.ask(headers=APP)
    for worker in psutil.Process(running._process.pid).children():
        worker.kill()
    await served_again(running.client)
    running.terminate()

    assert (refused.status, await running.ended()) == (429, 0)
