"""The door of the room."""

from gateway import config
from gateway.config import environment, money, reading, settings, strict


def test_everything_that_others_need_is_at_the_door() -> None:
    """Under one name, whichever file it is in."""
    rooms = (strict, money, settings, reading, environment)

    assert all(any(getattr(config, name) is getattr(room, name, None) for room in rooms) for name in config.__all__)
