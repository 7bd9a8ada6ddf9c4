"""One budget, three processes, a thousand requests at once in each: in Redis, in PostgreSQL and in SQLite."""

import asyncio
import contextlib
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson
import pytest
import redis.asyncio as client

from gateway.budgets import TERM_MS
from gateway.shared.accounts import PREFIX
from tests.conftest import ROOT
from tests.services import Database, Redis
from tests.spender import How

BOUND_S = 60.0         # how long anything is waited for; reached only by a test that fails
TERM_OF_THE_TEST_MS = 5_000
LIMIT, CEILING, COST = 20_000_000, 9_000, 7_000


class Spending:
    """A process that spends."""

    def __init__(self, running: asyncio.subprocess.Process) -> None:
        self._process = running

    async def heard(self, said: str) -> dict[str, Any]:
        """Read on to what it says of this."""
        assert self._process.stdout is not None
        async with asyncio.timeout(BOUND_S):
            while line := await self._process.stdout.readline():
                if line.startswith(b'{"said"') and (told := orjson.loads(line))["said"] == said:
                    return told  # type: ignore[no-any-return]
        raise EOFError(f"it ended before it was {said}")

    def tell(self, line: bytes = b"") -> None:
        """Tell it something."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")

    async def kill(self) -> None:
        """End it without a warning."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


class Account(NamedTuple):
    """How the account stands."""

    spent: int
    out: int            # what of the loans is good and not settled


class Town(NamedTuple):
    """Where the account is kept."""

    start: Callable[..., Awaitable[Spending]]
    look: Callable[[], Awaitable[Account]]

    async def until(self, holds: Callable[[Account], bool]) -> Account:
        """Look again and again until something holds; at no moment is more spent and lent than there is."""
        async with asyncio.timeout(BOUND_S):
            while True:
                account = await self.look()
                assert account.spent + account.out <= LIMIT
                if holds(account):
                    return account
                await asyncio.sleep(0.05)


class InRedis:
    """Looks at the account, past everything of ours."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def __call__(self) -> Account:
        """Look."""
        async with client.Redis.from_url(self._redis.url, decode_responses=True) as there:
            fields: dict[str, str] = await there.hgetall(f"{PREFIX}account:all:total")  # type: ignore[assignment]
        holders = [name.partition(":")[2] for name in fields if name.startswith("lent:")]
        return Account(int(fields.get("spent", 0)), sum(
            max(int(fields[f"lent:{holder}"]) - int(fields[f"settled:{holder}"]), 0)
            for holder in holders if int(fields[f"expires:{holder}"]) > time.time() * 1000
        ))


class InSql:
    """Looks at the account, past everything of ours."""

    STATEMENT = (
        "SELECT coalesce((SELECT spent_nanos FROM accounts), 0), coalesce(sum("
        "CASE WHEN lent_nanos > settled_nanos THEN lent_nanos - settled_nanos ELSE 0 END), 0) "
        "FROM loans WHERE expires_ms > {now_ms}"
    )

    def __init__(self, ask: Callable[[str], Sequence[int]]) -> None:
        self._ask = ask

    async def __call__(self) -> Account:
        """Look."""
        return Account(*await asyncio.to_thread(self._ask, self.STATEMENT.format(now_ms=int(time.time() * 1000))))


@pytest.fixture(params=["redis", "postgres", "sqlite"])
async def town(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Town]:
    """Somebody who keeps the account, and processes that may be started."""
    kind, redis_url, store = request.param, None, "sqlite"
    look: Callable[[], Awaitable[Account]]
    if kind == "redis":
        redis: Redis = request.getfixturevalue("redis")
        redis_url, look = redis.url, InRedis(redis)
    elif kind == "postgres":
        database: Database = request.getfixturevalue("postgres")
        store = database.url
        look = InSql(lambda statement: list(map(int, database.sql(statement).split("|"))))
    else:
        def read(statement: str) -> list[int]:
            """Read the file."""
            with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as file:
                return list(file.execute(statement).fetchone())

        look = InSql(read)
    async with contextlib.AsyncExitStack() as started:

        async def start(*, term_ms: int = TERM_MS, crowd: int = 1_000, holding: int = 0) -> Spending:
            """Start a process, and return when it is ready."""
            pipe = asyncio.subprocess.PIPE
            running = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.spender", cwd=ROOT, stdin=pipe, stdout=pipe
            )
            spending = Spending(running)
            started.push_async_callback(spending.kill)
            how = How(str(tmp_path), store, redis_url, term_ms, LIMIT, CEILING, COST, crowd, holding)
            spending.tell(msgspec.json.encode(how))
            await spending.heard("ready")
            return spending

        yield Town(start, look)


async def test_a_thousand_at_once_in_three_processes(town: Town) -> None:
    """Not a nano-dollar more than the budget is spent; and all of it, but less than what a request needs."""
    processes = [await town.start() for _ in range(3)]
    for process in processes:
        process.tell()
    served = [await process.heard("served") for process in processes]
    for process in processes:
        process.tell()
    await town.until(lambda account: LIMIT - account.spent < CEILING)
    for process in processes:
        process.tell()
    stopped = [await process.heard("stopped") for process in processes]
    spent = sum(process["spent"] for process in stopped)

    assert all(process["served"] for process in served)
    assert LIMIT - CEILING < spent <= LIMIT
    assert await town.until(lambda account: account.out == 0) == Account(spent, 0)


async def test_a_process_is_killed(town: Town) -> None:
    """What it had set aside is nobody's until its loan expires, and then it is spent by others to the end."""
    dying = await town.start(term_ms=TERM_OF_THE_TEST_MS, crowd=800, holding=600)
    dying.tell()
    served = await dying.heard("served")
    before = await town.until(lambda account: account.spent == served["spent"])
    heirs = [await town.start(term_ms=TERM_OF_THE_TEST_MS, crowd=10) for _ in range(2)]
    await dying.kill()
    for heir in heirs:
        heir.tell(b"\n")
    await town.until(lambda account: LIMIT - account.spent < CEILING)
    for heir in heirs:
        heir.tell()
    spent = before.spent + sum([(await heir.heard("stopped"))["spent"] for heir in heirs])

    assert (800, 200 * COST) == (served["served"], served["spent"])
    assert before.out >= 600 * CEILING
    assert LIMIT - CEILING < spent <= LIMIT
    assert await town.until(lambda account: account.out == 0) == Account(spent, 0)
