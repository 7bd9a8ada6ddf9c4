"""Typed reading: the rest without nulls, and a wrong field by its path."""

import msgspec
import pytest

from gateway.dialects.reading import missing
from gateway.dialects.responses.fields import one_of, typed, wrong
from gateway.errors import BadRequest


class Point(msgspec.Struct):
    """What the tests read."""

    x: int
    y: int | None = None


def test_the_rest_is_kept_without_nulls() -> None:
    """What is not known comes back beside what is; null is as good as not there."""
    assert (Point(1), {"z": 3}) == typed(Point, {"x": 1, "y": None, "z": 3, "w": None}, "p")


@pytest.mark.parametrize(
    ("value", "param"), [({"x": "1"}, "p[0].x"), ({"y": 1}, "p[0].x"), ({"x": 1, "y": []}, "p[0].y"), (3, "p[0]")]
)
def test_a_wrong_field_is_named(value: object, param: str) -> None:
    """The path leads to the field, whether it is wrong, missing or no object at all."""
    with pytest.raises(BadRequest) as raised:
        typed(Point, value, "p[0]")

    assert param == raised.value.param
    assert f"`{param}`" in raised.value.message


def test_one_of() -> None:
    """An allowed value and none pass; of another the allowed ones are told."""
    assert (None, "a") == (one_of(None, ("a", "b"), "f"), one_of("a", ("a", "b"), "f"))
    with pytest.raises(BadRequest, match=r"`f` is wrong: it is 'c', expected one of `a`, `b`\."):
        one_of("c", ("a", "b"), "f")


def test_answers_name_their_field() -> None:
    """Both ways of refusing a field have it as their param."""
    assert ("a.b", "a.b") == (missing("a.b").param, wrong("a.b", "x").param)
