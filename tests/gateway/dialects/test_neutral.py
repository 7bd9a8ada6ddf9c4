"""The neutral conversation."""

import pytest

from gateway.dialects.neutral import Conversation, Losses, Text, Turn
from gateway.errors import Inexpressible


def test_equal_fields_are_equal_values() -> None:
    """A round trip can be compared."""
    assert Conversation((Turn("user", (Text("a"),)),)) == Conversation((Turn("user", (Text("a"),)),))


def test_a_loss_is_kept_once_or_refused() -> None:
    """What may be left out is listed, in order; what matters is a 400 with the field, that another target may cure."""
    losses = Losses("gemini", {"seed": "drop", "n": "refuse"})
    losses.lose("seed")
    losses.lose("seed")
    losses.lose("never heard of")
    with pytest.raises(Inexpressible) as caught:
        losses.lose("n")

    assert list(losses.kept) == ["seed", "never heard of"]
    assert repr(losses) == "<Losses gemini seed, never heard of>"
    assert (caught.value.status, caught.value.param, caught.value.retryable) == (400, "n", True)


def test_a_callers_names_for_fields_are_kept_as_far_as_a_header_can_have_them() -> None:
    """One with a line break in it would end the response before it began, after the provider was paid."""
    losses = Losses("gemini", {})
    for name in ("seed", "others.a\r\nb", "others.ü", "o" * 81, *(f"others.{number}" for number in range(60)), "seed"):
        losses.lose(name)

    assert list(losses.kept)[:3] == ["seed", "others", "others.0"]
    assert len(losses.kept) == 40
