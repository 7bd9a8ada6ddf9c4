"""What befalls a mock provider's calls, decided as each arrives: by turns, or by the key it came with."""

import asyncio
from collections.abc import Callable, Mapping

from loadtest.dials import Dials
from loadtest.journal import Call
from loadtest.mock_upstream import MockUpstream
from tests.conftest import BOUND_S

Setting = Mapping[str, object]
WELL: Setting = {}


def befall(mock: MockUpstream, says: Callable[[Call], Setting]) -> None:
    """Have `says` tell of every call how the mock's dials stand for it."""
    begin = mock.journal.begin

    def begun(call: Call) -> None:
        """Turn the dials; the mock looks at them next."""
        mock.dials = Dials().turned(says(call))
        begin(call)

    mock.journal.begin = begun  # type: ignore[method-assign]  # one mock's own


def by_turns(mock: MockUpstream, *settings: Setting) -> None:
    """Have the settings befall one call after the other, and the last all that follow."""
    left = list(settings)
    befall(mock, lambda _: left.pop(0) if len(left) > 1 else left[0])


def key_of(call: Call) -> str:
    """Return the key that a call came with."""
    return call.headers["Authorization"].removeprefix("Bearer ")


async def until(reached: Callable[[], bool]) -> None:
    """Return as soon as `reached()` holds; it is asked again after every turn of the loop."""
    async with asyncio.timeout(BOUND_S):
        while not reached():  # noqa: ASYNC110  what happens inside the gateway has no event for tests
            await asyncio.sleep(0)
