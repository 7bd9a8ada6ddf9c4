"""Tasks of one's own: kept until they end, since the loop alone would let one that waits vanish."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_kept: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` beside what runs. Whoever spawned it looks at its result, or has it say itself what went wrong."""
    task = asyncio.get_running_loop().create_task(work)
    _kept.add(task)
    task.add_done_callback(_kept.discard)
    return task
