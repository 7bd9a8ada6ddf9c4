"""Requests at a constant rate, whatever becomes of those before, each followed to its end.

They are asked on a thread of their own, so that whoever runs a test can wait, stop and kill things meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import aiohttp

from loadtest import driver

_PROMPTS = ("What is the capital of France?", "Prove that there are infinitely many primes.", "Say hello.")
_PATIENCE_S = 30.0
_HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer sk-bench"}


@dataclass(slots=True)
class Asked:
    """A request, and what its client saw. Times on the monotonic clock."""

    began: float
    ended: float = 0.0
    request_id: str = ""  # as the gateway named it; empty = it never answered
    fault: str = ""  # empty = a whole answer

    @property
    def took_ms(self) -> float:
        """From the question to the end of the answer."""
        return (self.ended - self.began) * 1000


@dataclass(frozen=True, slots=True)
class Down:
    """When there was nobody to ask: from a kill until the next process was ready."""

    began: float
    ended: float

    def cuts(self, asked: Asked) -> bool:
        """Whether a request met with it."""
        return asked.began <= self.ended and asked.ended >= self.began


class Arrivals:
    """Asks `base_url`, which may change, for as long as the block lasts; then the last answers are waited for."""

    def __init__(self, base_url: str, rate_per_s: float, model: str = "auto") -> None:
        self.base_url = base_url
        self.asked: list[Asked] = []
        self._model = model
        self._every_s = 1 / rate_per_s
        self._enough = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._arrive()), name="arrivals")

    def __enter__(self) -> Arrivals:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._thread.join()

    async def _arrive(self) -> None:
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector, headers=_HEADERS) as session,
            asyncio.TaskGroup() as group,
        ):
            begun = time.monotonic()
            while not self._enough.is_set():
                number = len(self.asked)
                self.asked.append(Asked(time.monotonic()))
                group.create_task(self._ask(session, number))
                await asyncio.sleep(max(0.0, begun + (number + 1) * self._every_s - time.monotonic()))

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> None:
        asked, stream = self.asked[number], number % 2 == 0
        body = driver.request(f"{_PROMPTS[number % len(_PROMPTS)]} ({number})", self._model, stream=stream)
        try:
            async with session.post(f"{self.base_url}/chat/completions", data=body) as response:
                asked.request_id = response.headers.get("x-thriftgate-request-id", "")
                answer = await response.read()
            whole = answer.endswith(b"data: [DONE]\n\n") if stream else b'"choices"' in answer
            if response.status != 200 or not whole:
                asked.fault = f"status {response.status}: {answer[-200:]!r}"
        except (aiohttp.ClientError, TimeoutError) as error:
            asked.fault = f"{type(error).__name__}: {error}"
        asked.ended = time.monotonic()


def cut(asked: Sequence[Asked], downs: Sequence[Down]) -> list[Asked]:
    """Those that failed because there was nobody to ask, or nobody any more."""
    return [one for one in asked if one.fault and any(down.cuts(one) for down in downs)]


def failed(asked: Sequence[Asked], downs: Sequence[Down]) -> list[Asked]:
    """Those that failed with somebody there."""
    return [one for one in asked if one.fault and not any(down.cuts(one) for down in downs)]


def due(asked: Sequence[Asked], downs: Sequence[Down], age_s: float) -> set[str]:
    """The receipts that must be there: of all answers, but those that ended less than `age_s` before a kill."""
    late = [(down.began - age_s, down.ended) for down in downs]
    return {
        one.request_id
        for one in asked
        if one.request_id and not any(began < one.ended <= ended for began, ended in late)
    }
