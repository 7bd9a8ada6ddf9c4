"""Slots with a queue: so many at once, callers in turn, nobody waits without a bound.

A slot is taken and given back synchronously, so that no cancellation can lose one. Whoever waits is woken by the one
who gives back, and owns the slot from that moment: none is free in between for others to grab.
"""

import asyncio
from collections import OrderedDict, deque

from gateway.errors import GatewayError, TimedOut, Unavailable
from gateway.upstream.deadline import NEVER


class Slots:
    """How many of something may run. `in_flight` and `waiting` are its state."""

    __slots__ = ("_queue", "_turns", "in_flight", "limit", "name", "waiting")

    def __init__(self, name: str, limit: int, queue: int) -> None:
        self.name = name
        self.limit = limit
        self.in_flight = 0
        self.waiting = 0
        self._queue = queue
        self._turns: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()      # who is next stands first

    def __repr__(self) -> str:
        return f"<Slots of {self.name}: {self.in_flight}/{self.limit} taken, {self.waiting} waiting>"

    @property
    def full(self) -> bool:
        """Whether one who comes now must wait; those who wait already come first."""
        return self.in_flight >= self.limit or self.waiting > 0

    def take(self) -> None:
        """Take a free slot. Raises Unavailable where there is none."""
        if self.full:
            raise self._taken()
        self.in_flight += 1

    async def wait(self, caller: str, seconds: float, left_s: float = NEVER) -> None:
        """Take a slot, waiting up to `seconds` for it. Raises Unavailable, at once where the queue is full.

        Raises TimedOut where `left_s`, which is left of the request's deadline, was over before.
        """
        if not self.full:
            self.in_flight += 1
            return
        if self.waiting >= self._queue:
            raise self._taken()
        fault = self._taken(late=left_s < seconds)
        if min(seconds, left_s) <= 0:
            raise fault
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._turns.setdefault(caller, deque()).append(turn)
        self.waiting += 1
        timer = loop.call_later(min(seconds, left_s), self._give_up, caller, turn, fault)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give()            # it was ours already
            else:
                self._leave(caller, turn)
            raise
        finally:
            timer.cancel()

    def give(self) -> None:
        """Give a slot back: to the next caller's longest waiting request, if there is one."""
        while self._turns:
            caller, turns = next(iter(self._turns.items()))
            turn = turns.popleft()
            del self._turns[caller]
            if turns:
                self._turns[caller] = turns         # behind all others
            self.waiting -= 1
            if not turn.done():
                turn.set_result(None)
                return
        self.in_flight -= 1

    def _give_up(self, caller: str, turn: "asyncio.Future[None]", fault: GatewayError) -> None:
        if not turn.done():
            self._leave(caller, turn)
            turn.set_exception(fault)

    def _leave(self, caller: str, turn: "asyncio.Future[None]") -> None:
        turns = self._turns.get(caller)
        if turns is None or turn not in turns:
            return
        turns.remove(turn)
        self.waiting -= 1
        if not turns:
            del self._turns[caller]

    def _taken(self, *, late: bool = False) -> GatewayError:
        if late:
            return TimedOut(f"The request's deadline passed while it waited for one of the slots of {self.name}.")
        fault = f"All {self.limit} slots of {self.name} are taken. Try again shortly."
        return Unavailable(fault, headers={"Retry-After": "1"})
