"""The door of the room."""

from gateway import wire
from gateway.wire import request


def test_what_all_dialects_share_is_at_the_door() -> None:
    """The path imports the request's value and the headers from here."""
    assert {name: getattr(request, name) for name in wire.__all__} == {n: getattr(wire, n) for n in wire.__all__}
