"""Which items events become: in which order, when one ends, and what is no part of an answer."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.neutral import (
    Argued,
    Called,
    Cited,
    Event,
    Media,
    Native,
    Refused,
    Said,
    Shown,
    Thought,
)
from gateway.dialects.responses.output import Output
from gateway.dialects.responses.sealed import Sealed, unpack

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=300)


def told(events: Iterable[Event], *, complete: bool = True) -> tuple[list[tuple[str, int]], list[dict[str, Any]]]:
    """Return the names of what is told, each with its item's place, and the items in the end."""
    heard: list[tuple[str, int]] = []
    output = Output("r", lambda name, fields: heard.append((name.removeprefix("response."), fields["output_index"])))
    for event in events:
        output.take(event)
    output.end(complete=complete)
    return heard, output.words()


def items(events: Iterable[Event], *, complete: bool = True) -> list[dict[str, Any]]:
    """Return the items in the end."""
    return told(events, complete=complete)[1]


def test_thought_words_and_calls() -> None:
    """Each item ends where the next begins; the calls' arguments are their own, however they are mixed."""
    events: list[Event] = [
        Thought("hm", dialect="anthropic"), Thought(signature="c2ln", dialect="anthropic"), Said("Let me "),
        Said("look."), Called(0, "a", "f"), Argued(0, '{"x":'), Called(1, "b", "g"), Argued(1, "{"), Argued(0, "1}"),
        Argued(1, "}"), Argued(7, "of no call"),
    ]
    heard, made = told(events)
    added = [("output_item.added", place) for place in range(4)]

    assert added == [one for one in heard if one[0] == "output_item.added"]
    assert heard.index(("output_item.done", 0)) < heard.index(added[1])
    assert heard.index(("output_item.done", 1)) < heard.index(added[2])
    assert ["rs_r_0", "msg_r_1", "fc_r_2", "fc_r_3"] == [item["id"] for item in made]
    assert ['{"x":1}', "{}"] == [item["arguments"] for item in made[2:]]


def test_a_whole_call_ends_when_another_begins() -> None:
    """A caller may act on a call as soon as the next one begins."""
    heard, _ = told([Called(0, "a", "f"), Argued(0, "{}"), Called(1, "b", "g"), Argued(1, "{}")])

    assert heard.index(("output_item.done", 0)) < heard.index(("output_item.added", 1))


def test_seals_and_what_they_seal() -> None:
    """A signature closes its thought; a hidden thought, another dialect's and a call's seal are items of their own."""
    made = items([
        Thought("a", "s1", dialect="x"), Thought("b", dialect="x"), Thought(redacted="r", dialect="x"),
        Thought("c", dialect="y"), Thought(dialect="y"), Called(0, "", "f", "s2"),
    ])

    assert [
        Sealed("x", "a", "s1"), Sealed("x", "b"), Sealed("x", "", None, "r"), Sealed("y", "c"),
        Sealed("", "", "s2", None, "call_r_5"),
    ] == [unpack(item["encrypted_content"], "p") for item in made[:5]]
    assert ("call_r_5", "fc_r_5") == (made[5]["call_id"], made[5]["id"])


def test_an_answer_that_was_cut() -> None:
    """What was open is incomplete; a call whose arguments are whole is not."""
    def states(*events: Event) -> list[str]:
        return [item["status"] for item in items(events, complete=False)]

    assert ["incomplete"] == states(Said("a"))
    assert ["completed", "incomplete"] == states(Said("a"), Called(0, "a", "f"), Argued(0, "{"))
    assert ["completed", "completed"] == states(Called(0, "a", "f"), Argued(0, "{}"), Called(1, "b", "f"),
                                                Argued(1, "{}"))


def test_a_call_with_the_index_of_another() -> None:
    """A provider that counts wrongly loses no call."""
    made = items([Called(0, "a", "f"), Argued(0, '{"x":1}'), Called(0, "b", "f"), Argued(0, "{}")])

    assert [("a", '{"x":1}'), ("b", "{}")] == [(item["call_id"], item["arguments"]) for item in made]


def test_images() -> None:
    """Data are an image of their own, an address is text; other blocks have no place here."""
    made = items([
        Shown(Media("image", "image/png", "aaaa")), Shown(Media("image", url="https://e.org/a.png")),
        Shown(Media("file", url="https://e.org/b")), Shown(Media("audio", "audio/wav", "aaaa")),
        Shown(Native("gemini", {})),
    ])

    assert ("image_generation_call", "aaaa") == (made[0]["type"], made[0]["result"])
    assert made[1]["content"][0]["text"] == "![image](https://e.org/a.png)https://e.org/b"
    assert len(made) == 2


def test_what_says_nothing() -> None:
    """Empty pieces, other choices and sources of no text make no items."""
    assert items([
        Said(""), Refused(""), Thought(), Said("a", 1), Refused("a", 1), Called(0, "a", "f", None, 1), Argued(0, "{}"),
        Cited("openai", {"url": "u"}),
    ]) == []


def test_logprobs() -> None:
    """A chat completion's tokens lose their nulls; a provider's nonsense does no harm."""
    tokens = (
        {"token": "a", "logprob": -1.0, "bytes": None, "top_logprobs": [{"token": "b", "logprob": -2.0}, 3]},
        {"top_logprobs": None},
    )
    (message,) = items([Said("a", logprobs=tokens)])

    assert [
        {"token": "a", "logprob": -1.0, "bytes": [], "top_logprobs": [{"token": "b", "logprob": -2.0, "bytes": []}]},
        {"token": "", "logprob": 0.0, "bytes": [], "top_logprobs": []},
    ] == message["content"][0]["logprobs"]


def test_refused() -> None:
    """It is known whether a refusal was put into words."""
    told_in_text, told_in_words = (Output("r", lambda _, fields: fields.clear()) for _ in range(2))
    told_in_text.take(Said("no"))
    told_in_words.take(Refused("no"))

    assert [False, True] == [told_in_text.refused, told_in_words.refused]


def test_what_is_not_done() -> None:
    """An item that is being said is none of the output yet."""
    output = Output("r", lambda _, fields: fields.clear())
    output.take(Said("a"))

    assert repr(output) == "<Output 1 items>"
    assert output.words() == []


EVENTS: st.SearchStrategy[list[Event]] = st.lists(st.one_of(
    st.builds(Said, st.sampled_from(["", "a"])), st.builds(Refused, st.sampled_from(["", "no"])),
    st.builds(Thought, st.sampled_from(["", "t"]), st.none() | st.just("s"), st.none() | st.just("r"),
              st.sampled_from(["", "x", "responses"])),
    st.builds(Called, st.integers(0, 2), st.just(""), st.just("f"), st.none() | st.just("s")),
    st.builds(Argued, st.integers(0, 2), st.sampled_from(["", "{", "}", "{}"])),
    st.just(Cited("x", {"url": "u"})), st.just(Shown(Media("image", "image/png", "aaaa"))),
), max_size=20)


@STEADY
@given(EVENTS, st.booleans())
def test_any_events(events: list[Event], complete: bool) -> None:
    """Every item is added once, in order, and done once; text is what its deltas are."""
    heard, made = told(events, complete=complete)
    places = list(range(len(made)))

    assert places == [place for name, place in heard if name == "output_item.added"]
    assert places == sorted(place for name, place in heard if name == "output_item.done")
    assert "".join(event.text for event in events if isinstance(event, Said)) == "".join(
        part["text"] for item in made for part in item.get("content", ()) if part["type"] == "output_text"
    )
