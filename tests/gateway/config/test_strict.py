"""What sections are made of."""

import pytest

from gateway.config.strict import Secret, refuse


def test_secrets_are_compared_by_value() -> None:
    """Two of the same text are one, and nothing else is equal to it."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_a_secret_does_not_show() -> None:
    """Neither printed nor inside of something that is; a file's newline is no part of it."""
    secret = Secret("tg-1\n")

    assert ("Secret(…)", "[Secret(…)]") == (str(secret), str([secret]))
    assert secret.reveal() == "tg-1"


def test_every_expectation_that_is_not_met_is_named() -> None:
    """At once, and none where all are met."""
    refuse({"a": False})

    with pytest.raises(ValueError, match="Expected a, and c"):
        refuse({"a": True, "b": False, "c": True})
