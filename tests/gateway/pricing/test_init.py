"""The door of the room."""

from gateway import pricing
from gateway.pricing import price, table, tariff, usage


def test_everything_that_others_need_is_at_the_door() -> None:
    """Under one name, whichever file it is in."""
    rooms = (price, table, tariff, usage)

    assert all(any(getattr(pricing, name) is getattr(room, name, None) for room in rooms) for name in pricing.__all__)
