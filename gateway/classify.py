"""The classifier's place on the path: a thread, a deadline, a cache. It has a deadline, not an error.

Whatever happens to it (not loaded, slow, flooded, raising), the request goes on at once with the session's last
verdict or none, and the verdict says why. In a burst the shortest prompts are judged first: most verdicts come in
time that way, and long prompts, which cost the most to judge, are the likeliest to go to the safe rung anyway. One
whose requester has given up is not begun; one that was begun is kept for when the prompt comes again. Verdicts are
kept by a hash of what the classifier reads; prompt text is not kept.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from itertools import count
from queue import PriorityQueue
from threading import Thread
from time import monotonic
from typing import Generic, Protocol, TypeVar

import msgspec

from classifier import conversation
from classifier.features import excerpt
from classifier.predict import Prediction, Prompt
from gateway.config import ClassifierConfig
from gateway.router import Source, Verdict
from gateway.wire import ChatRequest

K = TypeVar("K")
V = TypeVar("V")

SESSIONS = 10_000      # sessions whose last verdict is remembered


class Predicts(Protocol):
    """What is needed of the classifier."""

    def predict(self, prompt: Prompt) -> Prediction:
        """Judge one prompt; called from a worker thread."""


class Classify:
    """Gives every request a verdict within the deadline. Never raises."""

    def __init__(self, config: ClassifierConfig, on_failure: Callable[[BaseException], None]) -> None:
        self._deadline_s = config.deadline_ms / 1000
        self._queue = config.queue
        self._on_failure = on_failure
        self._cache: _Recent[bytes, Verdict] = _Recent(config.cache_entries)
        self._sessions: _Recent[tuple[str, str], Verdict] = _Recent(SESSIONS)
        self._running: dict[bytes, asyncio.Future[Verdict]] = {}
        self._give_up: dict[bytes, float] = {}                    # when nobody waits for a running one any more
        self._worker = _ShortestFirst()
        self.predictor: Predicts | None = None

    def __repr__(self) -> str:
        state = "ready" if self.predictor else "not loaded"
        return f"<Classify {state}, {len(self._running)} running, {len(self._cache)} cached>"

    async def judge(self, request: ChatRequest, caller: str) -> Verdict:
        """Return the verdict on a request's last user turn, or say why there is none."""
        session = (caller, request.session) if request.session else None
        verdict = await self._verdict(prompt_of(request))
        if verdict.p_cheap is None:
            last = self._sessions.get(session) if session else None
            return verdict if last is None else msgspec.structs.replace(last, source=Source.SESSION)
        if session:
            self._sessions.put(session, verdict)
        return verdict

    def close(self) -> None:
        """Stop the worker; what waits for it is dropped."""
        self._worker.stop()

    async def _verdict(self, prompt: Prompt) -> Verdict:
        key = _key(prompt)
        if cached := self._cache.get(key):
            return cached
        if self.predictor is None:
            return Verdict(Source.ABSENT)
        running = self._running.get(key)
        if running is None and len(self._running) >= self._queue:
            return Verdict(Source.BUSY)
        self._give_up[key] = monotonic() + self._deadline_s       # the last to join waits longest
        if running is None:
            running = self._start(self.predictor, prompt, key)
        # `wait` and not `wait_for`: the deadline ends our waiting, not the work, which the next such prompt can use.
        done, _ = await asyncio.wait((running,), timeout=self._deadline_s)
        return running.result() if done else Verdict(Source.LATE)

    def _start(self, predictor: Predicts, prompt: Prompt, key: bytes) -> "asyncio.Future[Verdict]":
        loop = asyncio.get_running_loop()
        running: asyncio.Future[Verdict] = loop.create_future()

        def work() -> None:
            stale = monotonic() > self._give_up[key]
            verdict = Verdict(Source.LATE) if stale else self._ask(predictor, prompt)
            with contextlib.suppress(RuntimeError):        # the loop was closed in the meantime: nobody waits any more
                loop.call_soon_threadsafe(self._finished, key, running, verdict)

        self._running[key] = running
        self._worker.submit(len(prompt.text), work)
        return running

    def _ask(self, predictor: Predicts, prompt: Prompt) -> Verdict:
        try:
            said = predictor.predict(prompt)
        except Exception as error:  # noqa: BLE001 - whatever it is, the request must go on without a verdict
            with contextlib.suppress(Exception):     # a log that cannot be written must not end the only thread
                self._on_failure(error)
            return Verdict(Source.FAILED)
        return Verdict(Source.CLASSIFIER, said.score, said.p_cheap, said.task)

    def _finished(self, key: bytes, running: "asyncio.Future[Verdict]", verdict: Verdict) -> None:
        del self._running[key], self._give_up[key]
        if verdict.p_cheap is not None:
            self._cache.put(key, msgspec.structs.replace(verdict, source=Source.CACHE))
        running.set_result(verdict)


def prompt_of(request: ChatRequest) -> Prompt:
    """Return what the classifier is shown of a request."""
    return conversation.read(request.messages, tools=request.tools, images=request.images)


def _key(prompt: Prompt) -> bytes:
    """Hash what the classifier reads of a prompt."""
    head, tail = excerpt(prompt.text)
    around = (prompt.turns, prompt.tools, prompt.images, prompt.results, prompt.system)
    shape = (len(prompt.text), prompt.text.count("\n"), around)
    read = f"{shape}{prompt.before}\0{head}\0{tail}"
    return blake2b(read.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class _ShortestFirst:
    """One thread that does the smallest waiting job first."""

    def __init__(self) -> None:
        self._jobs: PriorityQueue[tuple[int, int, Callable[[], None] | None]] = PriorityQueue()
        self._number = count()              # first come, first served among equals
        Thread(target=self._work, name="classifier", daemon=True).start()

    def submit(self, size: int, job: Callable[[], None]) -> None:
        """Add a job; it must not raise."""
        self._jobs.put((size, next(self._number), job))

    def stop(self) -> None:
        """End the thread after the job at hand."""
        self._jobs.put((-1, next(self._number), None))

    def _work(self) -> None:
        while (job := self._jobs.get()[2]) is not None:
            job()


class _Recent(Generic[K, V]):
    """The most recently used entries, up to a bound."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """Return an entry and count it as used."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: K, entry: V) -> None:
        """Keep an entry, in place of the least recently used one if need be."""
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._bound:
            self._entries.popitem(last=False)
