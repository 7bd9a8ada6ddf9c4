"""What can be set, as values."""

import pytest

from gateway.config.settings import Deadlines, Secret


def test_secrets_are_compared_by_value() -> None:
    """Two of the same text are one, and nothing else is equal to it."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_a_value_that_would_stop_the_path_is_refused() -> None:
    """Also where no file is read: the fault names every field at once."""
    with pytest.raises(ValueError, match="above 0 for `connect_ms`, `idle_ms`"):
        Deadlines(connect_ms=0, idle_ms=-1)
