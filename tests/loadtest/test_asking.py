"""What a request wants is answered alike, whoever's words it came in."""

from dataclasses import replace

import pytest

from loadtest import answers, asking
from loadtest.answers import Answer, Tool
from loadtest.asking import Arrived, Ask, Moment, RefusalError, Want
from loadtest.dials import Dials

TOOLS = (Tool("a", {"type": "object"}), Tool("b", {"type": "object"}))


def answered(dials: Dials | None = None, **want: object) -> Answer:
    """The answer to somebody who wants this."""
    wanted = replace(Want("hello", 1), **want)  # type: ignore[arg-type]  # a test may want anything
    return asking.answer(Ask(Arrived({}), wanted, "mock-cheap", dials or Dials(tokens=10), answers.seeded(1)))


@pytest.mark.parametrize(("raw", "body"), [(b'{"a":1}', {"a": 1}), (b"[]", {}), (b"{", {}), (b"", {})])
def test_a_body_is_an_object_or_at_fault(raw: bytes, body: dict[str, int]) -> None:
    """What is none is empty, with the reason beside it."""
    decoded, fault = asking.decoded(raw)

    assert decoded == body
    assert bool(fault) == (not body)


@pytest.mark.parametrize(
    ("calls", "want", "names"),
    [
        (1, {}, []),
        (1, {"demanded": True}, ["a"]),
        (0, {"demanded": True}, ["a"]),
        (2, {}, ["a", "b"]),
        (3, {"demanded": True}, ["a", "b", "a"]),
        (2, {"parallel": False}, ["a"]),
        (2, {"answered": True}, []),
        (2, {"answered": True, "demanded": True}, ["a", "b"]),
        (2, {"tools": ()}, []),
    ],
)
def test_tools_are_called_as_demanded_and_dialled(calls: int, want: dict[str, object], names: list[str]) -> None:
    """A free model talks, unless two calls or more are dialled and no results have come in."""
    answer = answered(Dials(calls=calls), **{"tools": TOOLS, **want})

    assert [call.name for call in answer.calls] == names
    assert bool(answer.pieces) == (not want.get("demanded"))


def test_thoughts_come_first_and_count_against_the_limit() -> None:
    """Seen or not; where they use it up, nothing is said."""
    thinking = answered(thinks=True, limit=15)
    dialled = answered(Dials(tokens=10, reasoning=3), thinks=True)
    unseen = answered(Dials(tokens=10, reasoning_tokens=8), limit=10)
    nothing = answered(thinks=True, limit=5)

    assert (len(thinking.thoughts), len(thinking.pieces), thinking.finish) == (asking.THOUGHTS, 3, "length")
    assert (len(dialled.thoughts), dialled.tokens) == (3, 13)
    assert (len(unseen.pieces), unseen.finish) == (2, "length")
    assert (len(nothing.thoughts), nothing.pieces, nothing.finish) == (5, [], "length")


def test_json_and_stops() -> None:
    """A schema is satisfied, and a stop text ends what is said."""
    whole = answered().text

    assert answered(json=True, schema={"const": 3}).text == "3"
    assert answered(stops=[whole[5:9]]).stopped_by == whole[5:9]
    assert answered(Dials(fault="role-only")) == Answer([])


def test_a_moment_makes_distinct_and_repeatable_ids() -> None:
    """Of any length."""
    first, again, second = Moment(1, 9).unique("id"), Moment(1, 5).unique("id"), Moment(2, 9).unique("id")

    assert first == again != second
    assert (len(first), len(Moment(1, 9).unique(bits=32))) == (20, 8)


def test_a_refusal_is_wordless_by_default() -> None:
    """The provider's usual words are put in when it is framed."""
    assert (RefusalError(429).message, RefusalError(400, "no").message) == ("", "no")
