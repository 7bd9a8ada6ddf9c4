"""What an answer used."""

from gateway.pricing import Usage


def test_what_is_not_said_is_nothing() -> None:
    """A usage of input and output alone has no parts, no tier, and was not estimated."""
    assert (9, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, "", False) == Usage(9, 8)
