"""One object at a time: both spellings, nulls, and the path of what is wrong."""

from typing import Any

import msgspec
import pytest

from gateway.dialects.gemini.fields import camel, listed, typed
from gateway.dialects.reading import decoded, missing, too_deep
from gateway.errors import BadRequest


class Thing(msgspec.Struct, rename="camel"):
    """A type for the tests."""

    first_name: str
    how_many: int | None = None
    inner: list[dict[str, Any]] | None = None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"top_p": 1}, {"topP": 1}),
        ({"topP": 1}, {"topP": 1}),
        ({"response_json_schema": {"a_b": 1}}, {"responseJsonSchema": {"a_b": 1}}),
        ({"topP": 1, "top_p": 2}, {"topP": 1}),
        ({"top_p": 2, "topP": 1}, {"topP": 1}),
        ({"a": None, "b_c": None}, {}),
        ({"_secret": 1, "x_": 2, "": 3}, {"_secret": 1, "x_": 2, "": 3}),
    ],
)
def test_names_are_read_in_both_spellings(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Names become camelCase, inner keys stay, nulls go, and of two spellings Google's own counts."""
    assert expected == camel(fields)


def test_what_a_type_knows_is_told_from_the_rest() -> None:
    """Known fields come typed, the others as they were."""
    known, rest = typed(Thing, {"first_name": "a", "howMany": 2, "other_thing": [1]}, "x")

    assert ("a", 2) == (known.first_name, known.how_many)
    assert {"otherThing": [1]} == rest


@pytest.mark.parametrize(
    ("value", "path", "param", "words"),
    [
        ({"firstName": 1}, "a[0].b", "a[0].b.firstName", "expected `str`, got `int`"),
        ({"firstName": "x", "how_many": "3"}, "a", "a.howMany", "expected `int | null`, got `str`"),
        ({"firstName": "x", "inner": [1]}, "a", "a.inner[0]", "expected `object`, got `int`"),
        ({"firstName": "x", "inner": [1]}, "", "inner[0]", "expected `object`, got `int`"),
        ({}, "a", "a.firstName", "is missing"),
        ({}, "", "firstName", "is missing"),
        ("text", "a", "a", "expected `object`, got `str`"),
        (7, "", None, "must be a JSON object"),
    ],
)
def test_a_wrong_type_is_named_by_its_path(value: Any, path: str, param: str | None, words: str) -> None:
    """The caller is told which field is wrong and what was expected there."""
    with pytest.raises(BadRequest) as caught:
        typed(Thing, value, path)

    assert param == caught.value.param
    assert words in caught.value.message


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"a": 1e999}', b'"\\ud800"', b"nul", b"{} {}"])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    """A body that cannot be read is the caller's fault, with the remedy."""
    with pytest.raises(BadRequest, match="Send one JSON object"):
        decoded(raw)


def test_depth_is_refused() -> None:
    """A body nested deeper than can be walked through is refused like any other."""
    with pytest.raises(BadRequest, match="flatter"):
        decoded(b"[" * 100_000)

    assert str(too_deep()).startswith("The body is nested")


def test_small_answers() -> None:
    """A single value counts as a list of one; a missing field is named."""
    assert ([1], [1, 2]) == (listed(1), listed([1, 2]))
    assert missing("a.b").param == "a.b"
