"""The thread that talks to the store: nothing on the path waits for it, but who asks it something, up to a limit.

It has an event loop of its own, and the engine belongs to that. It closes the spool's open segment four times a second,
stores closed segments whole, the oldest first, and deletes one only when the store has it and everybody who was to be
told of it was told. A process that ends in between leaves the segment to the next one, which finds it in the store:
receipts are stored once. While the store is away, segments stay on disk, and it is tried again ever less often.

Beside that it does what others need the store for: jobs that come round (`every`), and answers (`ask`).
"""

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import logs, spool
from gateway.config import LedgerConfig
from gateway.metrics import Metrics
from gateway.spool import Spool
from gateway.store import migrating, opening, receipts
from gateway.store.cleaning import pairs
from gateway.store.opening import StoreError
from gateway.tasks import spawn

ROTATE_S = 0.25         # how long a receipt waits on disk before it is stored, where the store keeps up
MANY = 32               # closed segments, beyond which the open one is only closed for its size
ADOPT_S = 3.0           # between looks for what dead processes left
SYNC_S = 1.0            # what the end of the machine, not only of the process, may cost
AGAIN_S = (0.25, 5.0)   # after which time a store that is away is tried again: first, and at most
FORGET_S = 3_600.0
FORGET_FIRST_S = 60.0   # a start has other things to do
TRIES = 2               # segments that fail, after which the store is left alone for a while
STRIKES = 10            # how often a segment may fail while others are stored
ASKS = 64               # in flight
CLOSE_S = 5.0           # how long a shutdown stores what is on disk

NOT_OPEN = "the store is not open"
T = TypeVar("T")
Job = Callable[[AsyncEngine], Awaitable[None]]
Hook = Callable[[str, str, Mapping[tuple[str, str], int]], Awaitable[None]]
clock = time.monotonic


class Bookkeeper:
    """Carries receipts from the spool to the store, and everything else that is to be done there."""

    def __init__(self, ledger: LedgerConfig, metrics: Metrics, holder: str, *, settle: bool) -> None:
        self.spool = Spool(Path(ledger.directory) / "spool", holder)
        self._ledger = ledger
        self._metrics = metrics
        self._settle = settle
        self._hooks: list[Hook] = []
        self._jobs: list[tuple[float, Job]] = []
        # the thread
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._asks = threading.BoundedSemaphore(ASKS)
        # the store
        self._engine: AsyncEngine | None = None
        self._is_open = asyncio.Event()
        self._away = _Trouble("store away", "store back")
        self._hooked = _Trouble("stored receipts not settled", "stored receipts settled")
        self._adopt_at = 0.0
        self._wait = _Patience()
        self._hook_wait = _Patience()
        self._owed: set[Path] = set()               # stored, but not everybody was told
        self._failures: Counter[Path] = Counter()
        self._strikes: Counter[Path] = Counter()    # of the failures, those while others were stored
        metrics.store_up.set(0)
        metrics.spool_bytes.set_function(lambda: self.spool.size)
        metrics.spool_segments.set_function(lambda: self.spool.segments)

    def __repr__(self) -> str:
        state = "not open" if self._engine is None else "away" if self._away.there else "open"
        return f"<Bookkeeper {self.spool.holder} store {state}, {self.spool.segments} segments>"

    def every(self, seconds: float, work: Job) -> None:
        """Have something done as soon as the store is open, and again so long after it is done.

        Where it fails that is logged, once until it works again. It runs in the bookkeeper's loop.
        """
        self._jobs.append((seconds, work))
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: spawn(self._repeat(seconds, work)))

    def after_saved(self, work: Hook) -> None:
        """Have something done with each segment once it is stored: its name, its holder, what was spent of what budget.

        It is done again where it fails, or where nobody knows whether it was done: by the name it can tell.
        """
        self._hooks.append(work)

    def start(self) -> None:
        """Start the thread. A store that is not there is no fault: it is waited for."""
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, args=(self._loop,), name="bookkeeper", daemon=True).start()

    async def close(self) -> None:
        """Store what is on disk, for CLOSE_S at most; the rest is left for the next start."""
        if self._loop is None:
            self.spool.close()
        elif not self._ended.done():
            self._loop.call_soon_threadsafe(self._stop.set)
            await asyncio.wait({asyncio.wrap_future(self._ended)}, timeout=CLOSE_S + 2)

    async def ask(self, work: Callable[[AsyncEngine], Awaitable[T]], limit_s: float) -> T:
        """Return what `work` gives, which runs in the bookkeeper's loop. Raises StoreError, also when it takes longer.

        It is not broken off then, nor when nobody waits any more: what it does to the store is whole.
        """
        loop = self._loop
        if loop is None or self._stop.is_set() or (self._engine is None and self._away.there):
            raise StoreError(NOT_OPEN)
        if not self._asks.acquire(blocking=False):
            raise StoreError(f"{ASKS} questions are waiting for the store")

        async def answer() -> T:
            """Do the work on the bookkeeper's loop, as soon as the store is open: after a start it is about to be."""
            await self._is_open.wait()
            if self._engine is None:
                raise StoreError(NOT_OPEN)
            return await work(self._engine)

        asked = asyncio.run_coroutine_threadsafe(answer(), loop)
        asked.add_done_callback(lambda _: self._asks.release())
        answered = asyncio.wrap_future(asked)
        answered.add_done_callback(lambda future: future.cancelled() or future.exception())     # it was looked at
        done, _ = await asyncio.wait({answered}, timeout=limit_s)
        if not done or answered.cancelled():
            raise StoreError("the store did not answer in time")
        return answered.result()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._work())
        except Exception:  # noqa: BLE001 - the outermost guard of this thread
            logs.say("bookkeeper ended", "error", exc_info=True)
        finally:
            self._ended.set_result(None)

    async def _work(self) -> None:
        """Live until stopped. On the bookkeeper's thread, as all that follows."""
        spawn(self._storing())
        spawn(self._syncing())
        spawn(self._repeat(FORGET_S, self._forget, FORGET_FIRST_S))
        for seconds, work in self._jobs:
            spawn(self._repeat(seconds, work))
        await self._stop.wait()
        self._is_open.set()                 # whoever waits for the store need not any more
        # Everything ends by itself: SQLite's driver waits for ever where a question is broken off and its loop ends.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        _, left = await asyncio.wait(left, timeout=CLOSE_S)
        if left:
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=1)
        self.spool.close()
        if self._engine is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._engine.dispose(), 1)

    async def _storing(self) -> None:
        """Carry segments to the store until stopped, and once more then."""
        last = False
        while True:
            try:
                await self._round(last=last)
            except Exception as error:  # noqa: BLE001 - a store that is away, a disk: the next round must find somebody
                self._failing(error)
            if last:
                return
            last = await self._stopped_within(ROTATE_S)

    async def _round(self, *, last: bool) -> None:
        if clock() >= self._adopt_at:
            self._adopt_at = clock() + ADOPT_S
            self._adopt()
        if last or len(self.spool.closed()) - len(self._owed) < MANY:
            self.spool.rotate()
        if last or self._wait.over():
            await self._store_all()

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
        return self._stop.is_set()

    def _adopt(self) -> None:
        if adopted := self.spool.adopt():
            logs.say("receipts found", holders=len({spool.holder_of(path.stem) for path in adopted}))

    async def _store_all(self) -> None:
        """Store every segment, the oldest first, as far as the store plays along. Raises what went wrong with all."""
        failed: dict[Path, Exception] = {}
        stored = False
        engine = self._engine or await self._open()
        for path in self._due():
            began = clock()
            try:
                await self._store(engine, path)
            except Exception as error:  # noqa: BLE001 - a store that is away; a receipt that nobody thought of
                failed[path] = error
                if len(failed) == TRIES:
                    break
            else:
                stored = True
            await self._stopped_within(clock() - began)     # a long queue leaves the path half of a core
        self._failures.update(failed.keys())
        if failed and not stored:
            raise next(iter(failed.values()))
        self._working()
        self._strike(failed)

    def _due(self) -> list[Path]:
        """Return the segments to be stored now: the oldest first, but those last that failed before."""
        due = self.spool.closed() if self._hook_wait.over() else [p for p in self.spool.closed() if p not in self._owed]
        return sorted(due, key=lambda path: self._failures[path])

    def _failing(self, error: Exception) -> None:
        self._metrics.store_up.set(0)
        self._metrics.store_errors.labels(type(error.__context__ or error).__name__).inc()
        self._away.happened(error, segments=self.spool.segments)
        self._wait.longer()

    def _working(self) -> None:
        self._metrics.store_up.set(1)
        self._away.passed(segments=self.spool.segments)
        self._wait.none()

    def _strike(self, failed: Mapping[Path, Exception]) -> None:
        """Note what failed while others were stored; what does so again and again is set aside, for them to go on."""
        for path, error in failed.items():
            self._strikes[path] += 1
            if self._strikes[path] == STRIKES:
                with contextlib.suppress(OSError):
                    rows = len(spool.read(path).rows)
                    aside = self.spool.set_aside(path)
                    self._metrics.refused.inc(rows)
                    logs.say("receipts set aside", "error", file=str(aside), receipts=rows, exc_info=error)

    async def _open(self) -> AsyncEngine:
        engine = opening.engine(self._ledger)
        try:
            await migrating.upgrade(engine)
        except BaseException:
            await engine.dispose()
            raise
        self._engine = engine
        self._is_open.set()
        return engine

    async def _store(self, engine: AsyncEngine, path: Path) -> None:
        """Store a segment, and delete it when nobody needs it any more."""
        if await self._save(engine, path):
            self.spool.remove(path)
            self._owed.discard(path)
            del self._failures[path], self._strikes[path]       # where there are any

    async def _save(self, engine: AsyncEngine, path: Path) -> bool:
        """Store a segment, and say whether nobody needs it any more."""
        rows, unreadable = spool.read(path)
        segment, holder = path.stem, spool.holder_of(path.stem)
        if await receipts.save(engine, segment, holder, rows, settle=self._settle):
            self._metrics.stored.inc(len(rows))
            self._metrics.dropped.inc(unreadable)
        if not self._hooks:
            return True
        if not self._hook_wait.over():
            self._owed.add(path)
            return False
        sums = _spent(rows)
        try:
            for hook in self._hooks:
                await hook(segment, holder, sums)
        except Exception as error:  # noqa: BLE001 - whoever it is, the segment waits until they can be told
            self._owed.add(path)
            self._hooked.happened(error)
            self._hook_wait.longer()
            return False
        self._hooked.passed()
        self._hook_wait.none()
        return True

    async def _repeat(self, seconds: float, work: Job, first_s: float = 0.0) -> None:
        trouble = _Trouble("job fails", "job works again", job=getattr(work, "__qualname__", type(work).__name__))
        await self._is_open.wait()
        stopped = await self._stopped_within(first_s)
        while not stopped and self._engine is not None:
            try:
                await work(self._engine)
            except Exception as error:  # noqa: BLE001 - it is done again, whatever it was
                trouble.happened(error)
            else:
                trouble.passed()
            stopped = await self._stopped_within(seconds)

    async def _forget(self, engine: AsyncEngine) -> None:
        await receipts.forget(engine, self._ledger, int(time.time() * 1000))

    async def _syncing(self) -> None:
        """Ask for no more than a second's worth to be lost with the machine: a slow disk holds up nobody but this."""
        trouble = _Trouble("spool not synced", "spool synced")
        while not await self._stopped_within(SYNC_S):
            try:
                await asyncio.to_thread(self.spool.sync)
            except OSError as error:
                trouble.happened(error)
            else:
                trouble.passed()


def _spent(rows: Iterable[Mapping[str, Any]]) -> Mapping[tuple[str, str], int]:
    spent: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        for account in pairs(row.get("budgets")):
            spent[account] += row.get("cost_usd_nanos") or 0
    return spent


class _Trouble:
    """Says that something fails, and that it works again: once each."""

    def __init__(self, failed: str, works: str, **fields: Any) -> None:
        self._failed, self._works = failed, works
        self._fields = fields
        self.there = False

    def happened(self, error: Exception, **fields: Any) -> None:
        """Say so, unless it was said already. What is no fault of the store's or the system's is told in full."""
        if not self.there:
            expected = isinstance(error, StoreError | OSError)
            told = {"error": str(error)} if expected else {"exc_info": error}
            logs.say(self._failed, "error", **told, **self._fields, **fields)
        self.there = True

    def passed(self, **fields: Any) -> None:
        """Say so, where there was any."""
        if self.there:
            logs.say(self._works, **self._fields, **fields)
        self.there = False


class _Patience:
    """When to try again: ever later, up to a limit."""

    def __init__(self) -> None:
        self._until = self._seconds = 0.0

    def over(self) -> bool:
        """Say whether to try now."""
        return clock() >= self._until

    def longer(self) -> None:
        """Wait twice as long as the last time."""
        first, most = AGAIN_S
        self._seconds = min(most, max(first, 2 * self._seconds))
        self._until = clock() + self._seconds

    def none(self) -> None:
        """Wait no longer."""
        self._until = self._seconds = 0.0
