"""What the dialects' decoders have in common."""

from typing import Any

import pytest

from gateway.errors import BadRequest
from gateway.wire import chat
from gateway.wire.request import DEADLINE_HEADER, MOST_MS, deadline_ms, long_texts, several, texts


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


def test_what_is_asked_is_not_shown() -> None:
    """Neither by a request nor by its messages: what shows an object may end in a log."""
    request = chat.decode(b'{"model":"auto","messages":[{"role":"user","content":"marked"}]}', {})

    assert repr(request) == "<ChatRequest openai chat, 64 bytes>"
    assert repr(request.messages) == "[<Message of 'user'>]"


class TestDeadline:
    """When the caller wants the whole answer."""

    @pytest.mark.parametrize(
        ("said", "expected"), [("1", 1), ("1500", 1_500), ("007", 7), (str(MOST_MS), MOST_MS)]
    )
    def test_milliseconds(self, said: str, expected: int) -> None:
        """Whole ones, up to a day."""
        assert deadline_ms({DEADLINE_HEADER: said}) == expected

    def test_none(self) -> None:
        """Most callers do not say."""
        assert deadline_ms({}) is None

    @pytest.mark.parametrize(
        "said",
        ["", "0", "000", "-1", "+1", "1.5", "1e3", "2s", " 1", "1_0", "\u0661", "\u00b2", str(MOST_MS + 1), "9" * 13,
         "0" * 11 + "1" + "9" * 5_000],
        ids=lambda said: ascii(said[:9]),
    )
    def test_anything_else(self, said: str) -> None:
        """Refused with the header's name and what may stand in it: nobody waits by a number that was misread."""
        with pytest.raises(BadRequest, match="whole milliseconds from 1 to 86400000") as caught:
            deadline_ms({DEADLINE_HEADER: said})

        assert caught.value.param == DEADLINE_HEADER


@pytest.mark.parametrize(("wanted", "answers"), [
    ((), 1), ((None,), 1), ((3,), 3), ((1, 4), 4), (("3",), 1), ((True,), 1), ((2.0,), 1), ((0,), 0), ((10**400,), 1),
])
def test_several_answers(wanted: tuple[Any, ...], answers: int) -> None:
    """The most that a field asks for; what is no whole number is left to the provider to refuse."""
    assert several(*wanted) == answers
