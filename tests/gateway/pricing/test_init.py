"""The door of the room."""

from gateway import pricing
from gateway.pricing import cost, price, table, usage


def test_everything_that_others_need_is_at_the_door() -> None:
    """Under one name, whichever file it is in."""
    rooms = (usage, price, cost, table)

    assert all(any(getattr(pricing, name) is getattr(room, name, None) for room in rooms) for name in pricing.__all__)
