"""From the spool to the store: once, whatever dies in between; and whoever asks it something waits within a limit."""

import asyncio
import itertools
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import bookkeeper, logs, spool
from gateway.bookkeeper import Bookkeeper
from gateway.config import LedgerConfig, Secret
from gateway.metrics import Metrics
from gateway.spool import Spool
from gateway.store import migrating, opening, receipts, schema
from gateway.store.opening import StoreError
from tests.services import Postgres

BOUND_S = 15.0      # how long anything is waited for; reached only by a test that fails
AT_MS = 1_795_867_200_000
Says = list[tuple[str, dict[str, Any]]]
Opens = Callable[..., Bookkeeper]


def lines(*numbers: int) -> bytes:
    """Receipts as the spool holds them: each cost a micro-dollar of the key's budget for November."""
    return b"".join(
        orjson.dumps({
            "request_id": f"r-{number}", "at_ms": AT_MS, "caller": "shop", "outcome": "ok",
            "cost_usd_nanos": 1_000, "budgets": [["key:shop", "2026-11"]],
        }) + b"\n" for number in numbers
    )


@pytest.fixture(params=["sqlite", "postgres"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerConfig:
    """A ledger with an empty store of either kind."""
    url = "sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres").url
    return LedgerConfig(url=Secret(url), directory=str(tmp_path / "data"))


@pytest.fixture
def sqlite(tmp_path: Path) -> LedgerConfig:
    """A ledger with an empty SQLite store."""
    return LedgerConfig(directory=str(tmp_path / "data"))


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of their own."""
    return Metrics()


@pytest.fixture
async def keeping(metrics: Metrics) -> AsyncIterator[Opens]:
    """`keeping(config)`: a bookkeeper, not yet started; closed after the test."""
    kept: list[Bookkeeper] = []

    def open_(config: LedgerConfig, *, settle: bool = False) -> Bookkeeper:
        """Make one."""
        kept.append(Bookkeeper(config, metrics, spool.new_holder(), settle=settle))
        return kept[-1]

    yield open_
    for keeper in kept:
        await keeper.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Says:
    """What is logged."""
    said: Says = []
    monkeypatch.setattr(logs, "say", lambda event, *_, **fields: said.append((event, fields)))
    return said


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again at once."""
    monkeypatch.setattr(bookkeeper, "AGAIN_S", (0.01, 0.01))
    monkeypatch.setattr(bookkeeper, "ROTATE_S", 0.01)


async def until(reached: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(BOUND_S):
        while not reached():  # noqa: ASYNC110 - what it is about happens on another thread
            await asyncio.sleep(0.005)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """What a metric says."""
    return metrics.registry.get_sample_value(f"thriftgate_{name}", labels)


def at_least(metrics: Metrics, name: str, number: float, **labels: str) -> Callable[[], bool]:
    """Whether a metric has come so far."""
    return lambda: (value(metrics, name, **labels) or 0) >= number


def ids_of(segment: str) -> list[str]:
    """The receipts in a file."""
    return [row["request_id"] for row in spool.read(Path(segment)).rows]


def segments(config: LedgerConfig) -> list[str]:
    """The files that wait."""
    return sorted(path.name for path in Path(config.directory, "spool").glob("*"))


async def stored(config: LedgerConfig, table: Table = schema.receipts) -> list[dict[str, Any]]:
    """What the store holds."""
    engine = opening.engine(config)
    try:
        async with opening.reading(engine) as connection:
            found = await connection.execute(select(table).order_by(*table.primary_key))
            return [dict(row) for row in found.mappings()]
    finally:
        await engine.dispose()


async def ids(config: LedgerConfig) -> list[str]:
    """The receipts in the store; what they add up to says the same, or some would be counted twice."""
    found = [row["request_id"] for row in await stored(config)]
    summed = sum(row["requests"] for row in await stored(config, schema.rollups) if row["span"] == "day")
    assert summed == len(found)
    return found


async def test_from_the_spool_to_the_store(config: LedgerConfig, keeping: Opens, metrics: Metrics) -> None:
    """While the process goes on, without being asked; nothing stays on disk."""
    keeper = keeping(config)
    keeper.start()
    for number in range(3):
        keeper.spool.append(lines(number))
        await until(at_least(metrics, "receipts_stored_total", number + 1))
    await until(lambda: keeper.spool.segments == 0)
    shown = repr(keeper)
    await keeper.close()

    assert await ids(config) == ["r-0", "r-1", "r-2"]
    assert await stored(config, schema.accounts) == []
    assert shown == f"<Bookkeeper {keeper.spool.holder} store open, 0 segments>"
    assert (value(metrics, "store_up"), value(metrics, "spool_bytes"), segments(config)) == (1, 0, [])


async def test_close_stores_what_is_spooled(config: LedgerConfig, keeping: Opens) -> None:
    """Also what came after the last look, from a bookkeeper that has hardly begun."""
    keeper = keeping(config, settle=True)
    keeper.start()
    keeper.spool.append(lines(1, 2))
    await keeper.close()
    await keeper.close()

    assert await ids(config) == ["r-1", "r-2"]
    assert [row["spent_nanos"] for row in await stored(config, schema.accounts)] == [2_000]
    assert segments(config) == []


async def test_what_a_dead_process_left(config: LedgerConfig, keeping: Opens, said: Says) -> None:
    """It is stored in its name, as if it lived."""
    before = Spool(Path(config.directory, "spool"), "the-dead")
    before.append(lines(1))
    before.close()
    keeper = keeping(config)
    keeper.start()
    await keeper.close()

    assert await ids(config) == ["r-1"]
    assert [row["holder"] for row in await stored(config, schema.segments)] == ["the-dead"]
    assert ("receipts found", {"holders": 1}) in said
    assert segments(config) == []


async def test_a_process_that_died_before_it_deleted(config: LedgerConfig, keeping: Opens, metrics: Metrics) -> None:
    """The segment is in the store already: its receipts are not added again, and it is deleted."""
    before = Spool(Path(config.directory, "spool"), "the-dead")
    before.append(lines(1))
    path = before.rotate()
    assert path is not None
    engine = opening.engine(config)
    await migrating.upgrade(engine)
    assert await receipts.save(engine, path.stem, "the-dead", spool.read(path).rows, settle=True)
    await engine.dispose()
    before.close()
    keeper = keeping(config, settle=True)
    keeper.start()
    await keeper.close()

    assert await ids(config) == ["r-1"]
    assert [row["spent_nanos"] for row in await stored(config, schema.accounts)] == [1_000]
    assert value(metrics, "receipts_stored_total") == 0
    assert segments(config) == []


async def test_a_line_that_a_disk_spoiled(sqlite: LedgerConfig, keeping: Opens, metrics: Metrics) -> None:
    """It is counted as lost; the others are stored."""
    keeper = keeping(sqlite)
    keeper.spool.append(lines(1) + b"\0\0\0\n" + lines(2))
    keeper.start()
    await keeper.close()

    assert await ids(sqlite) == ["r-1", "r-2"]
    assert value(metrics, "receipts_dropped_total") == 1


@pytest.mark.usefixtures("impatient")
async def test_a_store_that_is_not_there_at_the_start(
    sqlite: LedgerConfig, keeping: Opens, metrics: Metrics, said: Says, tmp_path: Path
) -> None:
    """The gateway starts without it; everything is stored once it is there. Each is said once."""
    in_the_way = tmp_path / "store"
    in_the_way.write_text("no directory")
    config = LedgerConfig(url=Secret(f"sqlite:///{in_the_way}/ledger.sqlite"), directory=sqlite.directory)
    keeper = keeping(config)
    keeper.start()
    keeper.spool.append(lines(1))
    await until(at_least(metrics, "store_errors_total", 3, error="FileExistsError"))
    up, shown, waiting = value(metrics, "store_up"), repr(keeper), value(metrics, "spool_segments")
    with pytest.raises(StoreError, match="not open"):
        await keeper.ask(migrating.revision, BOUND_S)
    in_the_way.unlink()
    await until(lambda: value(metrics, "receipts_stored_total") == 1)
    await keeper.close()

    assert await ids(config) == ["r-1"]
    assert (up, waiting) == (0, 1)
    assert shown.endswith("store not open, 1 segments>")
    assert value(metrics, "store_up") == 1
    assert [event for event, _ in said] == ["store away", "store back"]
    assert said[0][1]["error"] == "the store cannot be reached: File exists"


@pytest.mark.usefixtures("impatient")
async def test_a_store_that_goes_away(
    own_postgres: Postgres, keeping: Opens, metrics: Metrics, said: Says, tmp_path: Path
) -> None:
    """What comes meanwhile waits on disk, in few files, and is stored once when the store is back."""
    config = LedgerConfig(url=Secret(own_postgres.url), directory=str(tmp_path / "data"))
    keeper = keeping(config)
    keeper.start()
    keeper.spool.append(lines(0))
    await until(lambda: value(metrics, "receipts_stored_total") == 1)
    await asyncio.to_thread(own_postgres.stop)
    keeper.spool.append(lines(1))
    await until(lambda: ("store away" in [event for event, _ in said]))
    for number in range(2, 100):
        keeper.spool.append(lines(number))
        await asyncio.sleep(0)
    shown = repr(keeper)
    await asyncio.to_thread(own_postgres.start)
    await until(lambda: value(metrics, "receipts_stored_total") == 100)
    await keeper.close()

    assert sorted(await ids(config)) == sorted(f"r-{number}" for number in range(100))
    assert "store away" in shown
    assert [event for event, _ in said if event.startswith("store")] == ["store away", "store back"]
    assert segments(config) == []


@pytest.mark.usefixtures("impatient")
async def test_a_long_outage_makes_few_files(
    sqlite: LedgerConfig, keeping: Opens, metrics: Metrics, said: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond some of them the open one is closed for its size only."""
    monkeypatch.setattr(bookkeeper, "MANY", 3)

    async def away(*_: Any, **__: Any) -> bool:
        """Be away."""
        raise StoreError("away")

    monkeypatch.setattr(receipts, "save", away)
    keeper = keeping(sqlite)
    keeper.start()
    for number in range(20):
        keeper.spool.append(lines(number))
        failed = value(metrics, "store_errors_total", error="StoreError") or 0
        await until(at_least(metrics, "store_errors_total", failed + 1, error="StoreError"))

    assert len(keeper.spool.closed()) == 3
    assert keeper.spool.segments == 4


async def test_close_does_not_wait_for_a_store_that_hangs(
    sqlite: LedgerConfig, keeping: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be stored in time is on disk, and the next process stores it."""
    monkeypatch.setattr(bookkeeper, "CLOSE_S", 0.05)
    real, hanging = receipts.save, threading.Event()

    async def hang(*_: Any, **__: Any) -> bool:
        """Never come back."""
        hanging.set()
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(receipts, "save", hang)
    keeper = keeping(sqlite)
    keeper.spool.append(lines(1))
    keeper.start()
    assert await asyncio.to_thread(hanging.wait, BOUND_S)
    await keeper.close()
    left = segments(sqlite)
    monkeypatch.setattr(receipts, "save", real)
    monkeypatch.setattr(bookkeeper, "CLOSE_S", BOUND_S)
    heir = keeping(sqlite)
    heir.start()
    await heir.close()

    assert len(left) == 2
    assert await ids(sqlite) == ["r-1"]
    assert segments(sqlite) == []


async def test_never_started(sqlite: LedgerConfig, keeping: Opens) -> None:
    """What was spooled is there for the next one."""
    keeper = keeping(sqlite)
    keeper.spool.append(lines(1))
    await keeper.close()
    heir = keeping(sqlite)
    heir.start()
    await heir.close()

    assert await ids(sqlite) == ["r-1"]


@pytest.mark.usefixtures("impatient")
async def test_a_segment_that_always_fails(
    sqlite: LedgerConfig, keeping: Opens, metrics: Metrics, said: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is set aside, loudly, where somebody can look at it; it keeps no other from the store."""
    real = receipts.save

    async def save(engine: AsyncEngine, segment: str, *rest: Any, **more: Any) -> bool:
        """Store everything but the first segment."""
        if segment.endswith("-00000001"):
            raise TypeError("nobody thought of that")
        return await real(engine, segment, *rest, **more)

    monkeypatch.setattr(receipts, "save", save)
    keeper = keeping(sqlite)
    keeper.start()
    numbers = itertools.count(1)
    while not value(metrics, "receipts_refused_total"):
        keeper.spool.append(lines(number := next(numbers)))
        keeper.spool.rotate()
        await until(at_least(metrics, "receipts_stored_total", number - 1))
    await keeper.close()
    ((_, told),) = [what for what in said if what[0] == "receipts set aside"]

    assert len(await ids(sqlite)) == number - 1
    assert number > bookkeeper.STRIKES
    assert segments(sqlite) == [f"{keeper.spool.holder}-00000001.refused"]
    assert ids_of(told["file"]) == ["r-1"]
    assert (told["receipts"], str(told["exc_info"])) == (1, "nobody thought of that")


@pytest.mark.usefixtures("impatient")
async def test_who_is_told_of_what_is_stored(
    sqlite: LedgerConfig, keeping: Opens, metrics: Metrics, said: Says
) -> None:
    """A segment stays until they know what was spent, however often they must be told; others are stored meanwhile."""
    told: list[tuple[str, str, Mapping[tuple[str, str], int]]] = []
    deaf = True

    async def hear(segment: str, holder: str, sums: Mapping[tuple[str, str], int]) -> None:
        """Take note, or fail."""
        told.append((segment, holder, dict(sums)))
        if deaf:
            raise ConnectionError("nobody listens")

    keeper = keeping(sqlite)
    keeper.after_saved(hear)
    keeper.start()
    keeper.spool.append(lines(1, 2))
    await until(lambda: len(told) > 2)
    keeper.spool.append(lines(3))
    await until(lambda: value(metrics, "receipts_stored_total") == 3)
    waiting = len(keeper.spool.closed())
    deaf = False
    await until(lambda: keeper.spool.segments == 0)
    await keeper.close()

    me = keeper.spool.holder
    first, second = (f"{me}-{number:08d}" for number in (1, 2))
    assert waiting == 2
    assert told[0] == told[1] == (first, me, {("key:shop", "2026-11"): 2_000})
    assert (second, me, {("key:shop", "2026-11"): 1_000}) in told
    assert await ids(sqlite) == ["r-1", "r-2", "r-3"]
    assert said == [
        ("stored receipts not settled", {"error": "nobody listens"}), ("stored receipts settled", {}),
    ]


async def opened(keeper: Bookkeeper) -> None:
    """Start it and wait until its store is open."""
    keeper.start()
    await until(lambda: "store open" in repr(keeper))


async def test_questions(config: LedgerConfig, keeping: Opens) -> None:
    """Whoever asks has the answer, or the error, on their own loop; the work is done on the bookkeeper's."""
    keeper = keeping(config)
    await opened(keeper)

    async def where(engine: AsyncEngine) -> tuple[str, int]:
        """Say on which thread this is, and what the store says."""
        async with opening.reading(engine) as connection:
            number = (await connection.execute(select(func.count()).select_from(schema.receipts))).scalar_one()
        return threading.current_thread().name, number

    async def broken(_: AsyncEngine) -> None:
        """Fail."""
        raise KeyError("what they raise")

    assert await keeper.ask(where, BOUND_S) == ("bookkeeper", 0)
    with pytest.raises(KeyError, match="what they raise"):
        await keeper.ask(broken, BOUND_S)


async def test_a_question_right_after_the_start(config: LedgerConfig, keeping: Opens) -> None:
    """It waits until the store is open, which is a moment: nobody is refused for coming early."""
    keeper = keeping(config)
    keeper.start()
    first = await keeper.ask(migrating.revision, BOUND_S)

    assert first == "0002"


async def test_questions_that_take_too_long(
    sqlite: LedgerConfig, keeping: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits longer than they said; what was begun is done all the same; and only so much is begun at once."""
    monkeypatch.setattr(bookkeeper, "ASKS", 2)
    keeper = keeping(sqlite)
    await opened(keeper)
    free, done = threading.Event(), threading.Event()

    async def slow(_: AsyncEngine) -> None:
        """Wait to be let go."""
        await asyncio.to_thread(free.wait, BOUND_S)
        done.set()

    with pytest.raises(StoreError, match="in time"):
        await keeper.ask(slow, 0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keeper.ask(slow, BOUND_S), 0.01)         # the client has left
    with pytest.raises(StoreError, match="2 questions are waiting"):
        await keeper.ask(migrating.revision, BOUND_S)
    free.set()
    assert await asyncio.to_thread(done.wait, BOUND_S)
    await until(lambda: keeper._asks._value == 2)

    assert await keeper.ask(migrating.revision, BOUND_S) == migrating.HEAD


async def test_questions_at_the_end(sqlite: LedgerConfig, keeping: Opens) -> None:
    """Those that wait when it is closed are told, and those that come after."""
    keeper = keeping(sqlite)
    await opened(keeper)
    asked = threading.Event()

    async def never(_: AsyncEngine) -> None:
        """Wait for ever."""
        asked.set()
        await asyncio.Event().wait()

    waiting = asyncio.gather(keeper.ask(never, BOUND_S), return_exceptions=True)
    await until(asked.is_set)
    await keeper.close()
    (error,) = await waiting

    assert isinstance(error, StoreError)
    with pytest.raises(StoreError, match="not open"):
        await keeper.ask(never, BOUND_S)


async def test_jobs(sqlite: LedgerConfig, keeping: Opens, said: Says) -> None:
    """Each comes round by itself, whether it was given before the start or after; failing is said once, and its end."""
    rounds = {"before": 0, "after": 0}

    async def before(_: AsyncEngine) -> None:
        """Fail the first times."""
        rounds["before"] += 1
        if rounds["before"] < 4:
            raise StoreError("away")

    async def after(_: AsyncEngine) -> None:
        """Count."""
        rounds["after"] += 1

    keeper = keeping(sqlite)
    keeper.every(0.001, before)
    await opened(keeper)
    keeper.every(0.001, after)
    await until(lambda: min(rounds.values()) > 5)
    await keeper.close()
    at_the_end = dict(rounds)
    await asyncio.sleep(0.01)

    assert rounds == at_the_end
    assert [(event, fields["error"]) for event, fields in said if event == "job fails"] == [("job fails", "away")]
    assert [event for event, _ in said] == ["job fails", "job works again"]
    assert said[0][1]["job"].endswith("before")


async def test_a_question_that_runs_at_the_end_is_answered(config: LedgerConfig, keeping: Opens) -> None:
    """A job is not broken off in the middle, which SQLite's driver would never recover from: the thread ends."""
    asking, rows = threading.Event(), []

    async def job(engine: AsyncEngine) -> None:
        """Ask for what takes a while."""
        counting = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<300000) SELECT max(i) FROM n"
        async with opening.reading(engine) as connection:
            asking.set()
            rows.append((await connection.execute(text(counting))).scalar_one())

    keeper = keeping(config)
    keeper.every(3_600, job)
    await opened(keeper)
    await asyncio.to_thread(asking.wait, BOUND_S)
    await keeper.close()

    assert (rows, keeper._ended.done()) == ([300_000], True)


async def test_old_receipts_are_forgotten(
    sqlite: LedgerConfig, keeping: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the hour, in the time of now."""
    monkeypatch.setattr(bookkeeper, "FORGET_FIRST_S", 0)
    asked: list[int] = []

    async def forget(_: AsyncEngine, ledger: LedgerConfig, now_ms: int) -> None:
        """Take note of the time."""
        asked.append(now_ms)

    monkeypatch.setattr(receipts, "forget", forget)
    keeping(sqlite).start()
    await until(lambda: bool(asked))

    assert abs(asked[0] / 1000 - time.time()) < BOUND_S


async def test_the_disk_is_asked_to_keep_it(
    sqlite: LedgerConfig, keeping: Opens, said: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again and again; where it fails that is said once."""
    monkeypatch.setattr(bookkeeper, "SYNC_S", 0.001)
    synced: list[float] = []

    def sync(self: Spool) -> None:
        """Fail the first times."""
        synced.append(time.monotonic())
        if len(synced) < 3:
            raise OSError(5, os.strerror(5))

    monkeypatch.setattr(Spool, "sync", sync)
    keeper = keeping(sqlite)
    keeper.start()
    await until(lambda: len(synced) > 5)
    await keeper.close()

    assert said == [("spool not synced", {"error": "[Errno 5] Input/output error"}), ("spool synced", {})]


async def test_a_bookkeeper_that_fails_is_told(
    sqlite: LedgerConfig, keeping: Opens, said: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours ends its thread with a line in the log, and a shutdown does not wait for it."""
    async def broken(_: Bookkeeper) -> None:
        """Fail."""
        raise ZeroDivisionError

    monkeypatch.setattr(Bookkeeper, "_work", broken)
    keeper = keeping(sqlite)
    keeper.start()
    await until(lambda: bool(said))
    await keeper.close()

    assert said == [("bookkeeper ended", {"exc_info": True})]


@pytest.mark.usefixtures("impatient")
async def test_a_fault_that_nobody_thought_of(
    sqlite: LedgerConfig, keeping: Opens, metrics: Metrics, said: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends nothing: it is tried again, and told in full."""
    real, left = migrating.upgrade, [2]

    async def upgrade(engine: AsyncEngine) -> None:
        """Fail the first times."""
        if left[0]:
            left[0] -= 1
            raise ZeroDivisionError
        await real(engine)

    monkeypatch.setattr(migrating, "upgrade", upgrade)
    keeper = keeping(sqlite)
    keeper.spool.append(lines(1))
    keeper.start()
    await until(at_least(metrics, "receipts_stored_total", 1))
    await keeper.close()

    assert [event for event, _ in said] == ["store away", "store back"]
    assert isinstance(said[0][1]["exc_info"], ZeroDivisionError)
