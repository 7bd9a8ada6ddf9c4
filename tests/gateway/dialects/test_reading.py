"""Typed reading with the field at fault named."""

import msgspec
import pytest

from gateway.dialects import reading
from gateway.errors import BadRequest


class _Sheet(msgspec.Struct):
    title: str
    pages: list[int] = []


def test_what_is_known_and_what_is_not() -> None:
    """The struct, and the rest by name."""
    assert reading.typed(_Sheet, {"title": "t", "x": 1}, "") == (_Sheet("t"), {"x": 1})


@pytest.mark.parametrize(
    ("value", "at", "param"),
    [
        ({"title": 1}, "", "title"), ({"title": "t", "pages": ["x"]}, "a.b", "a.b.pages[0]"),
        ({}, "a[0]", "a[0].title"),
        (5, "a", "a"), (None, "", None),
    ],
)
def test_a_fault_has_its_path(value: object, at: str, param: str | None) -> None:
    """From the top of the body, however deep the struct stands in it."""
    with pytest.raises(BadRequest) as caught:
        reading.typed(_Sheet, value, at)

    assert caught.value.param == param


@pytest.mark.parametrize("raw", [b"", b"[1]", b"{", b"\xff", b'{"a":' + b"[" * 100_000, b'"x"'])
def test_what_is_no_object(raw: bytes) -> None:
    """Refused, whatever it is."""
    with pytest.raises(BadRequest):
        reading.decoded(raw)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("data:image/png;base64,AAAA", ("image/png", "AAAA")), ("data:;base64,AAAA", (None, "AAAA")),
        ("http://a/b.png", (None, None)), ("", (None, None)), ("data:text/plain,hi", (None, None)),
    ],
)
def test_data_urls(url: str, expected: tuple[str | None, str | None]) -> None:
    """Type and data; nothing of an address."""
    assert reading.data_url(url) == expected


def test_how_long_a_mark_lives() -> None:
    """Five minutes, where nothing else is said."""
    marks = [None, {"type": "ephemeral"}, {"ttl": "1h"}]

    assert [reading.lifetime(mark) for mark in marks] == [None, "5m", "1h"]
