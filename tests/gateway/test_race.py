"""Two calls at once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.race import Race
from tests.jumping import jumping


async def says(what: int | Exception | None, after_s: float) -> int | None:
    """Answer so after a while."""
    await asyncio.sleep(after_s)
    if isinstance(what, Exception):
        raise what
    return what


def race(
    first: Coroutine[Any, Any, int | None], second: Callable[[], Coroutine[Any, Any, int | None] | None],
    late_s: float | None = 2,
) -> Race[int]:
    """A race in which even numbers are good."""
    return Race(first, second, late_s, lambda number: number % 2 == 0)


@jumping
async def test_a_call_that_is_in_time_stays_alone() -> None:
    """The second is not even made."""
    asked: list[None] = []
    run = race(says(2, 1), lambda: asked.append(None))

    assert (await run.run(), asked, run.answered) == (2, [], [2])


@jumping
async def test_the_quicker_good_one_is_used() -> None:
    """The other is cancelled, and is over when the race is."""
    ended: list[str] = []

    async def slow() -> int | None:
        """Say when it is over."""
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("slow")
        return 4

    run = race(slow(), lambda: says(2, 1))

    assert (await run.run(), ended, run.answered, asyncio.get_running_loop().time()) == (2, ["slow"], [2], 3)


@pytest.mark.parametrize(("one", "two", "used"), [
    (1, 2, 2), (2, 1, 2), (1, 3, 1), (None, 2, 2), (None, None, None), (KeyError(), 2, 2), (2, KeyError(), 2),
    (KeyError(), 3, 3), (3, KeyError(), 3), (KeyError(), None, KeyError),
])
@jumping
async def test_what_counts(one: Any, two: Any, used: Any) -> None:
    """A good answer before a poor one, the first of those, and an error only where nobody says anything."""
    run = race(says(one, 3), lambda: says(two, 2))

    if used is KeyError:
        with pytest.raises(KeyError):
            await run.run()
    else:
        assert await run.run() == used


@jumping
async def test_all_is_known_also_where_nobody_waits_any_more() -> None:
    """A race that is cancelled ends its calls, and what they had answered can be given back."""
    run = race(says(1, 3), lambda: says(3, 60))
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_at(4, task.cancel)

    with pytest.raises(asyncio.CancelledError):
        await run.run()
    task.uncancel()

    assert (run.answered, repr(run)) == ([1], "<Race 1 answered>")
