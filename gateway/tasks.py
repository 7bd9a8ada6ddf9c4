"""Background tasks that cannot be lost: named, referenced until done, failures told. The only caller of create_task."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

_alive: set[asyncio.Task[Any]] = set()   # the event loop keeps weak references only


def spawn(
    work: Coroutine[Any, Any, None], name: str, on_failure: Callable[[BaseException], None]
) -> asyncio.Task[None]:
    """Run `work` beside the caller; `on_failure` hears of anything but a cancellation."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _alive.add(task)

    def ended(done: asyncio.Task[None]) -> None:
        _alive.discard(done)
        if not done.cancelled() and (error := done.exception()) is not None:
            on_failure(error)

    task.add_done_callback(ended)
    return task
