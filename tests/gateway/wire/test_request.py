"""What the dialects' decoders have in common."""

from typing import Any

from gateway.wire.request import long_texts, texts


def test_texts_of_some_kinds() -> None:
    """Only parts of the kinds that are named are text, and only texts are."""
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": "a"}, {"type": "image", "text": "b"},
        {"type": "text", "text": 3}, {"text": "c"},
    ]

    assert texts(parts, ("text",)) == "a"


def test_long_texts_are_data() -> None:
    """Strings of a length that no name has, however they are wrapped, down to a bounded depth."""
    nested: object = "x" * 10
    for _ in range(5_000):
        nested = [nested]

    assert long_texts({"a": "x" * 10, "b": ["y" * 3, {"c": "z" * 12}]}, 10) == 22
    assert long_texts(nested, 10) == 0
