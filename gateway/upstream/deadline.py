"""One timer for the phases of a call: first output, then idle between reads, and the total over all.

Why not `asyncio.timeout` around every read: a running answer would set and cancel a timer per chunk. Here a wait only
moves a number; the timer, where it fires early, sets itself again for the rest.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from gateway.errors import TimedOut

NEVER = float("inf")


class Deadline:
    """Ends the current task's waiting when it lasts too long, and turns that into TimedOut.

    Counts the total from when it is made. Each wait for the upstream happens inside `with deadline.wait(phase,
    seconds):`; between two waits the phase's clock stands still, since then it is the client who is waited for.
    `close` it at the end.
    """

    __slots__ = (
        "_already", "_armed_for", "_ends", "_handle", "_loop", "_phase", "_phase_ends", "_task", "expired", "otherwise",
    )

    def __init__(self, total_s: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task whose waiting it can end")
        self._task = task
        self._already = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._phase = "total"
        self._phase_ends = NEVER
        self._ends = self._loop.time() + total_s
        self._armed_for = self._ends
        self._handle = self._loop.call_at(self._ends, self._fire)
        self.expired: str | None = None
        self.otherwise: Callable[[], object] | None = None     # what to do where the total passes between two waits

    def __repr__(self) -> str:
        return f"<Deadline {f'{self.expired} expired' if self.expired else self._phase}>"

    def adopt(self) -> None:
        """Have the current task's waiting ended from now on; another one began."""
        task = asyncio.current_task()
        if task is not None:
            self._task, self._already = task, task.cancelling()

    def wait(self, phase: str, seconds: float) -> Self:
        """Bound the wait that follows to `seconds`, and to what is left of the total."""
        self._phase = phase
        self._phase_ends = self._loop.time() + seconds
        if self._phase_ends < self._armed_for:
            self._handle.cancel()
            self._arm(self._phase_ends)
        return self

    def close(self) -> None:
        """Stop the timer."""
        self._handle.cancel()

    def __enter__(self) -> None:
        if self.expired:
            raise self._error()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._phase_ends = NEVER
        # Someone else (a client that left, a shutdown) may have cancelled as well: then that wins, and goes on.
        if self.expired and self._task.uncancel() <= self._already and kind is asyncio.CancelledError:
            raise self._error() from error

    def _arm(self, when: float) -> None:
        self._armed_for = when
        self._handle = self._loop.call_at(when, self._fire)

    def _error(self) -> TimedOut:
        return TimedOut(f"The upstream was too slow: its {self.expired} deadline passed.")

    def _fire(self) -> None:
        due = min(self._phase_ends, self._ends)
        if self._loop.time() < due:
            self._arm(due)
            return
        waiting = self._phase_ends != NEVER
        self.expired = self._phase if self._phase_ends <= self._ends else "total"
        if waiting:
            self._task.cancel()
        elif self.otherwise is not None:     # it is the client who is waited for, and has been for too long
            self.otherwise()
