"""Tasks that nobody else holds."""

import asyncio
import gc

from gateway.tasks import spawn


async def test_a_task_is_kept_until_it_ends() -> None:
    """Though nothing but the loop's weak set knows of it, and what it waits for knows only it."""
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        """Wait for what only this task holds."""
        waited: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.01, lambda: waited.set_result("done"))
        done.set_result(await waited)

    spawn(work())
    gc.collect()

    assert await done == "done"


async def test_its_result_is_its_spawners() -> None:
    """As with any task."""
    async def work() -> int:
        """Return something."""
        return 7

    assert await spawn(work()) == 7
