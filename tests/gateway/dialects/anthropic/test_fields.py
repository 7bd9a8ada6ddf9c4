"""Objects of a Messages body, one at a time."""

from typing import Any

import msgspec
import pytest

from gateway.dialects.anthropic.fields import read_mark, typed, write_mark
from gateway.dialects.reading import decoded, missing
from gateway.errors import BadRequest


class Inner(msgspec.Struct):
    """An object within another."""

    count: int


class Outer(msgspec.Struct):
    """An object with one of each."""

    name: str
    inner: Inner | None = None


def test_what_is_known_and_the_rest() -> None:
    """The fields of a type are told from the others; a null is as good as absent."""
    known, rest = typed(Outer, {"name": "n", "inner": None, "more": 1, "none": None}, "")

    assert (known, rest) == (Outer("n"), {"more": 1})


@pytest.mark.parametrize(
    ("value", "path", "param"),
    [
        ({"name": 1}, "", "name"),
        ({"name": 1}, "tools[0]", "tools[0].name"),
        ({"name": "n", "inner": {"count": "x"}}, "a", "a.inner.count"),
        ({"name": "n", "inner": {}}, "a", "a.inner.count"),
        ({}, "", "name"),
        ({"name": None}, "a", "a.name"),
        ([], "a[1]", "a[1]"),
        ([], "", None),
    ],
)
def test_a_wrong_field_is_named_by_its_path(value: Any, path: str, param: str | None) -> None:
    """A wrong type or a missing field is refused with the path to it, the body itself without one."""
    with pytest.raises(BadRequest) as refused:
        typed(Outer, value, path)

    assert refused.value.param == param
    assert (param or "JSON object") in refused.value.message


@pytest.mark.parametrize("raw", [b"", b"{", b'"\xff"', b'{"a":1e999}', b'"\\ud800"'])
def test_what_is_no_json(raw: bytes) -> None:
    """A body that cannot be decoded is refused with the remedy."""
    with pytest.raises(BadRequest, match="not valid JSON"):
        decoded(raw)


def test_what_is_nested_too_deeply() -> None:
    """A body that exhausts the stack is refused as such."""
    with pytest.raises(BadRequest, match="too deeply"):
        decoded(b"[" * 100_000)


@pytest.mark.parametrize(
    ("mark", "cache", "written"),
    [
        (None, None, {}),
        ({"type": "ephemeral"}, "5m", {"cache_control": {"type": "ephemeral"}}),
        ({"type": "ephemeral", "ttl": "5m"}, "5m", {"cache_control": {"type": "ephemeral"}}),
        ({"type": "ephemeral", "ttl": "1h"}, "1h", {"cache_control": {"type": "ephemeral", "ttl": "1h"}}),
        ({"type": "ephemeral", "scope": "global"}, "5m", {"cache_control": {"type": "ephemeral"}}),
    ],
)
def test_cache_marks(mark: Any, cache: str | None, written: dict[str, Any]) -> None:
    """A mark is kept with its lifetime, of which five minutes go without saying."""
    assert read_mark(mark, "a") == cache
    assert write_mark(cache) == written


@pytest.mark.parametrize(
    ("mark", "param"), [({"type": "forever"}, "a.cache_control.type"), ({}, "a.cache_control.type"),
                        ("x", "a.cache_control"), ({"type": "ephemeral", "ttl": 5}, "a.cache_control.ttl")],
)
def test_marks_that_are_none(mark: Any, param: str) -> None:
    """A mark of another kind or shape is refused by its path."""
    with pytest.raises(BadRequest) as refused:
        read_mark(mark, "a")

    assert refused.value.param == param


def test_a_missing_field_says_that_it_is_required() -> None:
    """The path is in the message and in `param`."""
    assert (missing("a.b").param, "`a.b`" in missing("a.b").message) == ("a.b", True)
