"""What a dialect is."""

from gateway.dialects.door import Ending


def test_an_ending_is_bad_until_something_is_known() -> None:
    """An answer that says nothing of its end has not ended."""
    assert Ending() == (False, None, None, False)
