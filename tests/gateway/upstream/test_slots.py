"""Slots and their queue, on a clock that jumps: nothing here waits, whoever is cancelled, and whenever."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import Unavailable
from gateway.upstream.slots import Slots
from tests.jumping import jumping

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=150)
LONG_S = 60.0


class Room:
    """Slots, and those who ask for them."""

    def __init__(self, limit: int = 1, queue: int = 1_000) -> None:
        self.slots = Slots("a room", limit, queue)
        self.served: list[str] = []             # names, in the order of their turns
        self.asked: list[asyncio.Task[None]] = []
        self.taken = 0                          # slots that somebody took and has not given back

    async def _wait(self, caller: str, seconds: float) -> None:
        await self.slots.wait(caller, seconds)
        self.taken += 1
        self.served.append(caller)

    async def ask(self, caller: str = "a", seconds: float = LONG_S) -> asyncio.Task[None]:
        """Wait for a slot in a task of its own, and let that begin."""
        task = asyncio.get_running_loop().create_task(self._wait(caller, seconds))
        self.asked.append(task)
        await asyncio.sleep(0)
        return task

    def give(self) -> None:
        """Give a slot back."""
        self.taken -= 1
        self.slots.give()

    @property
    def waiting(self) -> list[asyncio.Task[None]]:
        """Those who wait."""
        return [task for task in self.asked if not task.done()]

    async def empty(self) -> None:
        """End all, and see that nothing is left of them."""
        for task in self.waiting:
            task.cancel()
        if self.asked:
            await asyncio.wait(self.asked)
        while self.taken:
            self.give()
        loop: Any = asyncio.get_running_loop()
        timers = [timer for timer in loop._scheduled if not timer.cancelled()]

        assert timers == []
        assert repr(self.slots) == f"<Slots of a room: 0/{self.slots.limit} taken, 0 waiting>"
        assert not self.slots.full
        assert not self.slots._turns
        assert {asyncio.current_task()} == asyncio.all_tasks()
        assert all(task.cancelled() or isinstance(task.exception(), Unavailable | None) for task in self.asked)


async def settle() -> None:
    """Let everyone do what there is to do now."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_taking_and_giving() -> None:
    """So many at once; then a refusal that says which slots are taken, and when to come back."""
    slots = Slots("upstream 'openai'", 2, 0)
    slots.take()
    slots.take()
    with pytest.raises(Unavailable, match=r"All 2 slots of upstream 'openai' are taken\.") as caught:
        slots.take()
    full = slots.full
    slots.give()

    assert ({"Retry-After": "1"}, True, False, 1) == (caught.value.headers, full, slots.full, slots.in_flight)


@jumping
async def test_a_free_slot_is_not_waited_for() -> None:
    """It is taken at once, even by one who could not wait."""
    slots = Slots("a room", 2, 0)
    await slots.wait("a", 0.0)
    await slots.wait("a", 0.0)

    assert (2, 0) == (slots.in_flight, slots.waiting)


@pytest.mark.parametrize(("queue", "seconds"), [(0, LONG_S), (3, LONG_S), (1_000, 0.0), (1_000, -1.0)])
@jumping
async def test_beyond_the_queue(queue: int, seconds: float) -> None:
    """Who finds it full, or has no time left, is told at once and leaves the others as they are."""
    room = Room(queue=queue)
    await room.ask()
    for _ in range(min(queue, 3)):
        await room.ask()
    before = repr(room.slots)
    with pytest.raises(Unavailable) as caught:
        room.slots.wait("b", seconds).send(None)        # its first step, without the loop's help

    assert {"Retry-After": "1"} == caught.value.headers
    assert before == repr(room.slots)
    await room.empty()


@jumping
async def test_a_slot_that_is_given_back_is_owned_at_once() -> None:
    """Between the giver and the one who is woken nobody can take it."""
    room = Room()
    await room.ask("a")
    await room.ask("b")
    room.give()
    with pytest.raises(Unavailable):
        room.slots.take()
    between = room.slots.in_flight, room.slots.waiting, list(room.served)
    await settle()

    assert (1, 0, ["a"]) == between
    assert ["a", "b"] == room.served
    await room.empty()


@jumping
async def test_nobody_overtakes_those_who_wait() -> None:
    """Who comes later waits behind them, also where another caller's."""
    room = Room()
    for caller in "abcd":
        await room.ask(caller)
    for _ in range(3):
        room.give()
        await settle()

    assert ["a", "b", "c", "d"] == room.served
    await room.empty()


@jumping
async def test_a_caller_with_many_requests_delays_others_by_one_turn() -> None:
    """A hundred requests wait, and another caller's one is served second; so is one who comes when ten are served."""
    room = Room()
    await room.ask("many")
    for _ in range(100):
        await room.ask("many")
    await room.ask("one")
    for number in range(20):
        if number == 10:
            await room.ask("late")
        room.give()
        await settle()
    served = room.served[1:]

    assert ["many", "one"] == served[:2]
    assert "late" in served[10:12]
    assert {"many": 18, "one": 1, "late": 1} == {name: served.count(name) for name in ("many", "one", "late")}
    await room.empty()


def in_turn(callers: list[str]) -> Iterator[str]:
    """The order in which requests that wait are served: each caller's first, then each one's second, and so on."""
    lines = {caller: callers.count(caller) for caller in dict.fromkeys(callers)}
    while lines:
        yield from lines
        lines = {caller: left - 1 for caller, left in lines.items() if left > 1}


@STEADY
@given(callers=st.lists(st.sampled_from("abc"), max_size=25))
def test_callers_take_turns(callers: list[str]) -> None:
    """Whoever asked how often, in whatever order."""

    @jumping
    async def play() -> None:
        """Play it."""
        room = Room()
        await room.ask("first")
        for caller in callers:
            await room.ask(caller)
        for _ in callers:
            room.give()
            await settle()

        assert list(in_turn(callers)) == room.served[1:]
        await room.empty()

    play()


@jumping
async def test_waiting_has_an_end() -> None:
    """Who has waited long enough is told so, at that moment, and his place in the queue is free."""
    room = Room(queue=2)
    await room.ask()
    early, late = await room.ask("b", 5.0), await room.ask("b", 7.0)
    with pytest.raises(Unavailable):
        await early
    at, waiting = asyncio.get_running_loop().time(), room.slots.waiting
    room.give()
    await late

    assert (5.0, 1) == (at, waiting)
    assert (1, 0) == (room.slots.in_flight, room.slots.waiting)
    await room.empty()


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("woken", [False, True], ids=["before the turn", "when woken"])
@jumping
async def test_cancelled(others: int, *, woken: bool) -> None:
    """Before its turn or when the slot was its own for a moment: the next has it, or it is free."""
    room = Room()
    await room.ask()
    gone = await room.ask("b")
    for _ in range(others):
        await room.ask("c")
    for step in (room.give, gone.cancel) if woken else (gone.cancel, room.give):
        step()              # before the one who is concerned has run
    await settle()

    assert gone.cancelled()
    assert (others, 0) == (room.slots.in_flight, room.slots.waiting)
    assert ["a", "c"][:1 + others] == room.served
    await room.empty()


@jumping
async def test_cancelled_when_its_time_is_over() -> None:
    """Both at once: it is gone once, and no slot with it."""
    room = Room()
    await room.ask()
    gone = await room.ask("b", 5.0)
    asyncio.get_running_loop().call_at(5.0, gone.cancel)
    await asyncio.sleep(6.0)

    assert gone.cancelled()
    assert (1, 0) == (room.slots.in_flight, room.slots.waiting)
    await room.empty()


@jumping
async def test_given_back_when_its_time_is_over() -> None:
    """Who is served in the moment in which his time ends has the slot."""
    room = Room()
    await room.ask()
    asyncio.get_running_loop().call_at(5.0, room.give)
    served = await room.ask("b", 5.0)
    await asyncio.sleep(6.0)

    assert served.exception() is None
    assert (1, 0) == (room.slots.in_flight, room.slots.waiting)
    await room.empty()


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "take", "give", "give", "cancel", "run", "pass"]), st.integers(0, 9)),
    max_size=60,
)


@STEADY
@given(steps=STEPS, limit=st.integers(1, 3), queue=st.integers(0, 5))
def test_any_life_of_slots(steps: list[tuple[str, int]], limit: int, queue: int) -> None:
    """Whatever happens when: never more than the limit, never more waiting than the queue holds, and all come back."""

    @jumping
    async def play() -> None:
        """Play it."""
        room = Room(limit, queue)
        slots = room.slots
        for what, number in steps:
            if what == "ask":
                await room.ask("abc"[number % 3], number / 2)
            elif what == "take" and not slots.full:
                slots.take()
                room.taken += 1
            elif what == "give" and room.taken:
                room.give()
            elif what == "cancel" and room.waiting:
                room.waiting[number % len(room.waiting)].cancel()
            elif what == "run":
                await settle()
            elif what == "pass":
                await asyncio.sleep(number / 4)

            assert 0 <= slots.in_flight <= limit
            assert 0 <= slots.waiting <= queue
            assert slots.in_flight == limit or not slots.waiting
            assert room.taken <= slots.in_flight
        await settle()

        assert (slots.in_flight, slots.waiting) == (room.taken, len(room.waiting))
        await room.empty()

    play()
