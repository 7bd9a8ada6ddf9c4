"""Several gateways on one budget: never a nano-dollar too much, nothing lost, whichever store keeps the accounts."""

import asyncio
import contextlib
import signal
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
import redis.asyncio as client

from gateway.shared.accounts import PREFIX
from loadtest.mock_upstream import MockUpstream
from tests.conftest import BOUND_S, Running, Start, chat, request_bytes, two_rungs
from tests.path.clerk import bearer
from tests.path.conftest import Spawn
from tests.services import Database, Redis

APP = bearer("sk-app")
BODY = chat(model="cheap", max_tokens=10)
LIMIT_NANOS = 2_000_000
DEAREST_NANOS = 20_000      # more than a request may cost here
CROWD = 300


class Place(NamedTuple):
    """Where an account is kept."""

    sections: str
    spent: Callable[[], Awaitable[int]]
    expire: Callable[[], Awaitable[None]]       # have the loans of all be over, as they are after a minute


def in_sql(sections: str, run: Callable[[str], str]) -> Place:
    """Return a store's."""
    async def spent() -> int:
        """Read it."""
        return int(await asyncio.to_thread(run, "SELECT coalesce(sum(spent_nanos), 0) FROM accounts") or 0)

    async def expire() -> None:
        """Let time pass."""
        await asyncio.to_thread(run, "UPDATE loans SET expires_ms = 1")

    return Place(sections, spent, expire)


def in_redis(redis: Redis) -> Place:
    """Return that of Redis."""
    key = f"{PREFIX}account:key:app:total"

    async def spent() -> int:
        """Read it."""
        async with client.Redis.from_url(redis.url) as there:
            return int(await there.hget(key, "spent") or 0)

    async def expire() -> None:
        """Let time pass."""
        async with client.Redis.from_url(redis.url, decode_responses=True) as there:
            fields: dict[str, str] = await there.hgetall(key)  # type: ignore[assignment]
            for name in fields:
                if name.startswith("expires:"):
                    await there.hset(key, name, "1")

    return Place("shared: " + orjson.dumps({"url": redis.url, "timeout_ms": 5_000}).decode(), spent, expire)


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each of the places, empty."""
    if request.param == "redis":
        yield in_redis(request.getfixturevalue("redis"))
    elif request.param == "postgres":
        database: Database = request.getfixturevalue("postgres")
        yield in_sql(f"ledger: {{url: '{database.url}'}}", database.sql)
    else:
        def run(statement: str) -> str:
            """Run it on the file."""
            with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite", timeout=10)) as file, file:
                return str((file.execute(statement).fetchone() or ("",))[0])

        yield in_sql("ledger: {url: sqlite}", run)


@pytest.fixture
def text(place: Place, first: MockUpstream, second: MockUpstream) -> str:
    """A configuration whose key has the budget there."""
    first.turn(tokens=10)
    kept = "" if "ledger:" in place.sections else "ledger: {url: sqlite}\n"
    keys = f"keys: {{app: {{secret: sk-app, budget: {{usd: {LIMIT_NANOS / 1e9}, per: total}}}}}}\n"
    return two_rungs(first.base_url, second.base_url, more=keys + kept + place.sections)


def spent_by(*gateways: Running) -> int:
    """Return what the receipts say."""
    return sum(receipt["cost_usd_nanos"] or 0 for running in gateways for receipt in running.receipts.written)


async def spend_all(gateways: list[Running], already: int = 0) -> int:
    """Spend through all of them until nothing is left that a request could cost, and return what these spent."""
    async with asyncio.timeout(BOUND_S):
        while (spent := spent_by(*gateways)) + already <= LIMIT_NANOS - DEAREST_NANOS:
            await asyncio.gather(*(running.ask(BODY, APP) for running in gateways))
            assert spent + already <= LIMIT_NANOS
    return spent


async def settled(place: Place, spent: int) -> None:
    """Return when the account says that so much is spent."""
    async with asyncio.timeout(BOUND_S):
        while await place.spent() != spent:  # noqa: ASYNC110 - it is another thread that settles
            await asyncio.sleep(0.02)


async def test_two_gateways_never_spend_too_much(place: Place, text: str, gateway: Start) -> None:
    """Three hundred requests at once through each: what they cost is within the budget, and all of it can be spent."""
    gateways = [await gateway(text) for _ in range(2)]
    asked = [running.ask(BODY, APP) for _ in range(CROWD) for running in gateways]
    statuses = {reply.status for reply in await asyncio.gather(*asked)}
    crowd = spent_by(*gateways)
    await spend_all(gateways)
    refused = [await running.ask(chat(model="cheap", max_tokens=100), APP) for running in gateways]
    for running in gateways:
        await running.receipts.until(running.receipts.requests)
    spent = spent_by(*gateways)
    await settled(place, spent)

    assert statuses <= {200, 429, 503}
    assert 0 < crowd <= spent
    assert LIMIT_NANOS - DEAREST_NANOS < spent <= LIMIT_NANOS
    assert {(reply.status, reply.error["code"]) for reply in refused} == {(429, "insufficient_quota")}


async def test_what_a_killed_gateway_had_is_not_lost(
    place: Place, text: str, gateway: Start, process: Spawn, first: MockUpstream
) -> None:
    """Killed with streams that run: its receipts are found; what it had set aside is there when its loan is over."""
    dying = await process(text)
    for _ in range(5):
        assert (await dying.client.ask(BODY, APP)).status == 200
    cost = sum([(await dying.line("receipt"))["cost_usd_nanos"] for _ in range(5)])
    stalls = orjson.dumps(BODY | {"stream": True, "max_tokens": 300, "mock": {"fault": "stall", "after": 2}})
    wires = [await dying.client.wire() for _ in range(5)]
    for wire in wires:
        await wire.send(request_bytes(stalls, "Authorization: Bearer sk-app"))
        await wire.until(b"data: ")
    await settled(place, cost)
    dying.signal(signal.SIGKILL)
    await dying.ended()
    heir = await gateway(text)
    while (await heir.ask(BODY, APP)).status == 200:
        pass
    before = spent_by(heir) + cost
    await place.expire()
    spent = await spend_all([heir], cost)
    await heir.receipts.until(heir.receipts.requests)
    await settled(place, spent_by(heir) + cost)

    assert before <= LIMIT_NANOS - 5 * 300 * 600, "what runs is set aside while the loan is good"
    assert LIMIT_NANOS - DEAREST_NANOS < spent + cost <= LIMIT_NANOS
