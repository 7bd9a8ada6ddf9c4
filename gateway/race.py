"""Two calls at once: the second is made where the first is late, and the first good answer is used."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from gateway.tasks import spawn

T = TypeVar("T")


class Race(Generic[T]):
    """One race. `answered` has, when it is over, all that came of the calls, what was not used among it.

    A call that gives None has nothing to say; one that raises counts only where no other says anything.
    """

    def __init__(
        self, first: Coroutine[Any, Any, T | None], second: Callable[[], Coroutine[Any, Any, T | None] | None],
        late_s: float | None, good: Callable[[T], bool],
    ) -> None:
        self._first = first
        self._second = second
        self._late_s = late_s
        self._good = good
        self.answered: list[T] = []

    def __repr__(self) -> str:
        return f"<Race {len(self.answered)} answered>"

    async def run(self) -> T | None:
        """Return the first good answer, else the first at all; the calls that are not used are cancelled and awaited.

        Raises what a call raised where there is no answer.
        """
        running = [spawn(self._first)]
        try:
            await asyncio.wait(running, timeout=self._late_s)
            if not running[0].done() and (second := self._second()) is not None:
                running.append(spawn(second))
            return await self._quickest(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            ended = [task for task in running if not task.cancelled() and task.exception() is None]
            self.answered += [answer for task in ended if (answer := task.result()) is not None]

    async def _quickest(self, running: list[asyncio.Task[T | None]]) -> T | None:
        pending, fault, poor = set(running), None, None
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in (task for task in running if task in done):
                if (error := task.exception()) is not None:
                    fault = error
                elif (answer := task.result()) is not None and self._good(answer):
                    return answer
                else:
                    poor = poor or answer
        if fault is not None and poor is None:
            raise fault
        return poor
