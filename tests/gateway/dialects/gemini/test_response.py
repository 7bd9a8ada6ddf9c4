"""Answers and errors in Gemini's words: whole streams, read back, and as Google's own SDK takes them."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import errors
from gateway.dialects.gemini import answer
from gateway.dialects.gemini.parts import FOREIGN
from gateway.dialects.gemini.response import FINISHES, error_body, error_event, write_whole, writer
from gateway.dialects.neutral import (
    Argued,
    Asked,
    Began,
    Called,
    Cited,
    Conversation,
    Ended,
    Event,
    Failed,
    Finish,
    Media,
    Native,
    Reasoning,
    Refused,
    Said,
    Shown,
    Text,
    Thought,
    Turn,
    Used,
)
from gateway.pricing import Usage
from gateway.sse import Parser

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=300)
HI = Conversation((Turn("user", (Text("Hi"),)),))
ASKED = Asked("r1", "gemini-3-flash", 1, HI)
OPEN = Asked("r1", "gemini-3-flash", 1, msgspec.structs.replace(HI, reasoning=Reasoning(shown="auto")))
ENDS = {"modelVersion": "gemini-3-flash", "responseId": "r1"}
USED = {"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14}


def frames(batches: Iterable[list[Event]], asked: Asked = ASKED) -> list[dict[str, Any]]:
    """Write a stream in batches, and return what its frames say."""
    writes = writer(asked)
    written = [writes.feed(batch) for batch in batches] + [writes.close()]

    assert all(frame == b"" or (frame.startswith(b"data: {") and frame.endswith(b"}\n\n")) for frame in written)
    assert all(frame.count(b"\n") in (0, 2) for frame in written)
    return [orjson.loads(frame[6:]) for frame in written if frame]


def candidate(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the one candidate of a frame."""
    content = {"content": {"parts": list(parts), "role": "model"}} if parts else {}
    return {"candidates": [{**content, **fields, "index": 0}]}


def test_a_stream_of_text() -> None:
    """A frame for each batch; the reason comes with the usage, as in Google's own last frame."""
    batches: list[list[Event]] = [
        [Began("x", "y", Usage(9, 0))], [Said("Hel")], [Said("lo"), Said("!")], [], [Ended(Finish.STOP)],
        [Used(Usage(9, 5))],
    ]
    start = {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 0, "totalTokenCount": 9}}

    assert [
        candidate({"text": "Hel"}) | start | ENDS, candidate({"text": "lo!"}) | start | ENDS,
        candidate(finishReason="STOP") | {"usageMetadata": USED} | ENDS,
    ] == frames(batches)


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([[Said("a"), Ended(Finish.LENGTH), Used(Usage(9, 5))]],
         [candidate({"text": "a"}, finishReason="MAX_TOKENS") | {"usageMetadata": USED}]),
        ([[Said("a"), Used(Usage(9, 5))], [Ended(Finish.STOP)]],
         [candidate({"text": "a"}) | {"usageMetadata": USED},
          candidate(finishReason="STOP") | {"usageMetadata": USED}]),
        ([[Said("a")], [Ended(Finish.STOP)]], [candidate({"text": "a"}), candidate(finishReason="STOP")]),
        ([[Ended(Finish.STOP), Used(Usage(1, 1))], [Used(Usage(9, 5))]],
         [candidate(finishReason="STOP") | {"usageMetadata": {
             "promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}}, {"usageMetadata": USED}]),
        ([[Said("a")]], [candidate({"text": "a"})]), ([], []), ([[Began(), Failed("x")]], []),
    ],
)
def test_when_the_end_is_said(batches: list[list[Event]], expected: list[dict[str, Any]]) -> None:
    """At once where the usage is there, else when it comes, else at the close; and no end that was none."""
    assert [frame | ENDS for frame in expected] == frames(batches)


def test_calls_are_whole() -> None:
    """However arguments arrive, a call is one part; it is said when the next one begins, in order."""
    batches: list[list[Event]] = [
        [Called(0, "a", "f")], [Argued(0, '{"x":\n')], [Argued(0, "1.50}")], [Called(1, "b", "g", "c2ln")],
        [Argued(1, "{}"), Argued(0, "late"), Ended(Finish.TOOLS)],
    ]
    first = {"functionCall": {"id": "a", "name": "f", "args": {"x": 1.5}}, "thoughtSignature": FOREIGN}
    second = {"functionCall": {"id": "b", "name": "g", "args": {}}, "thoughtSignature": "c2ln"}

    assert [candidate(first) | ENDS, candidate(second) | ENDS, candidate(finishReason="STOP") | ENDS] == frames(batches)


def test_interleaved_and_broken_calls() -> None:
    """A call that is not whole waits for its end; one that never is, is shown as it was."""
    batches: list[list[Event]] = [
        [Called(0, "a", "f"), Called(1, "b", "g"), Argued(1, "{}"), Argued(0, '{"x":')], [Said("t"), Argued(0, "1}")],
        [Called(2, "c", "h"), Argued(2, "{"), Called(3, "d", "i")],
    ]
    parts = [part for frame in frames(batches) for part in frame["candidates"][0]["content"]["parts"]]

    assert [
        {"text": "t"}, {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}, "thoughtSignature": FOREIGN},
        {"functionCall": {"id": "b", "name": "g", "args": {}}},
        {"functionCall": {"id": "c", "name": "h", "args": {"arguments": "{"}}},
        {"functionCall": {"id": "d", "name": "i", "args": {}}},
    ] == parts


@pytest.mark.parametrize(
    ("events", "shut", "shown"),
    [
        ([Thought("a", dialect="x"), Thought("b", dialect="x")], [], [{"text": "ab", "thought": True}]),
        ([Thought("a", "s", dialect="x")], [], [{"text": "a", "thought": True}]),
        ([Thought(redacted="s", dialect="x")], [], []),
        ([Thought("a", "s", dialect="gemini")], [{"text": "", "thoughtSignature": "s"}],
         [{"text": "a", "thought": True, "thoughtSignature": "s"}]),
        ([Thought("", "s", dialect="gemini"), Said("a"), Said("b")],
         [{"text": "a", "thoughtSignature": "s"}, {"text": "b"}],
         [{"text": "a", "thoughtSignature": "s"}, {"text": "b"}]),
        ([Thought("", "s", dialect="gemini"), Thought("a", dialect="gemini")], [{"text": "", "thoughtSignature": "s"}],
         [{"text": "", "thoughtSignature": "s"}, {"text": "a", "thought": True}]),
        ([Thought("", None, "s", "gemini")], [{"text": "", "thoughtSignature": "s"}],
         [{"text": "", "thoughtSignature": "s"}]),
    ],
)
def test_thoughts(events: list[Event], shut: list[dict[str, Any]], shown: list[dict[str, Any]]) -> None:
    """Thoughts are shown to who asked for them; another provider's seals to nobody, for Google would refuse them."""
    assert [shut, shown] == [
        [part for frame in frames([events], asked) for part in frame["candidates"][0]["content"]["parts"]]
        for asked in (ASKED, OPEN)
    ]


def test_what_stands_beside_the_text() -> None:
    """Images, Google's own parts and sources are said; another's own parts are not."""
    events: list[Event] = [
        Refused("No."), Shown(Media("image", "image/png", "aa")), Shown(Media("file", file_id="other")),
        Shown(Native("gemini", {"executableCode": {"code": "1"}})), Shown(Native("x", {"type": "y"})),
        Cited("gemini", {"citationMetadata": {"citations": []}}),
    ]

    assert [candidate(
        {"text": "No."}, {"inlineData": {"mimeType": "image/png", "data": "aa"}}, {"executableCode": {"code": "1"}},
        citationMetadata={"citations": []},
    ) | ENDS] == frames([events])


def test_pages_that_others_cite() -> None:
    """They are Google's grounding chunks, at the end."""
    events: list[Event] = [
        Said("a"), Cited("openai", {"type": "url_citation", "url_citation": {"url": "https://a", "title": "A"}}),
        Cited("anthropic", {"url": "https://b", "title": None}), Cited("x", {"document_index": 3}), Ended(Finish.STOP),
    ]
    sources = [{"web": {"uri": "https://a", "title": "A"}}, {"web": {"uri": "https://b"}}]
    whole = orjson.loads(write_whole(ASKED, events))

    assert {"groundingChunks": sources} == whole["candidates"][0]["groundingMetadata"]


def test_several_candidates() -> None:
    """Each has its index; a batch is one frame of them all."""
    batch: list[Event] = [
        Said("b", 1), Said("a"), Ended(Finish.STOP, choice=1), Ended(Finish.FILTER), Used(Usage(9, 5)),
    ]
    whole = {"candidates": [
        {"content": {"parts": [{"text": "a"}], "role": "model"}, "finishReason": "SAFETY", "index": 0},
        {"content": {"parts": [{"text": "b"}], "role": "model"}, "finishReason": "STOP", "index": 1},
    ], "usageMetadata": USED, **ENDS}

    assert [whole] == frames([batch])
    assert whole == orjson.loads(write_whole(ASKED, batch))


def test_every_end_has_a_reason() -> None:
    """The table forgets none."""
    assert set(FINISHES) == set(Finish)


def test_counts() -> None:
    """Thoughts are apart from the candidates' tokens, cached ones are told, and the total is their sum."""
    said = orjson.loads(write_whole(ASKED, [Said("a"), Used(Usage(100, 30, 80, 5, 20))]))["usageMetadata"]

    assert {
        "promptTokenCount": 100, "candidatesTokenCount": 10, "cachedContentTokenCount": 80, "thoughtsTokenCount": 20,
        "totalTokenCount": 130,
    } == said


def test_probabilities() -> None:
    """Tokens in OpenAI's form become a logprobsResult."""
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1.0}]}
    said = orjson.loads(write_whole(ASKED, [Said("a", 0, (token,)), Said("b", 0, ({"token": "b", "logprob": 0},))]))

    assert {
        "chosenCandidates": [{"token": "a", "logProbability": -0.5}, {"token": "b", "logProbability": 0}],
        "topCandidates": [{"candidates": [{"token": "b", "logProbability": -1.0}]}, {"candidates": []}],
    } == said["candidates"][0]["logprobsResult"]


def test_a_whole_answer_of_nothing() -> None:
    """An answer without events is one without candidates; one that failed is none."""
    assert {"candidates": []} == orjson.loads(write_whole(ASKED, []))
    with pytest.raises(ValueError, match="busy"):
        write_whole(ASKED, [Said("a"), Failed("busy")])


def test_a_writer_says_how_far_it_is() -> None:
    """In its repr."""
    writes = writer(ASKED)
    writes.feed([Said("a")])

    assert repr(writes) == "<Writer 1 candidates, None>"


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
ARGUMENTS = st.dictionaries(WORDS, st.integers() | WORDS, max_size=2).map(
    lambda arguments: msgspec.json.encode(arguments).decode()
)
PIECES: st.SearchStrategy[list[Event]] = st.one_of(
    st.builds(lambda text: [Said(text)], WORDS),
    st.builds(lambda text: [Thought(text, dialect="gemini")], WORDS),
    st.builds(lambda text, seal: [Thought(text, seal, dialect="gemini")], WORDS, WORDS),
    st.builds(lambda seal, text: [Thought("", seal, dialect="gemini"), Said(text)], WORDS, WORDS),
    st.builds(lambda seal: [Thought("", None, seal, "gemini")], WORDS),
    st.builds(lambda data: [Shown(Media("image", "image/png", data))], st.sampled_from(["", "aa", "bb+/"])),
    st.builds(lambda name, args: [Called(0, "", name), Argued(0, args)], WORDS, ARGUMENTS),
)
ANSWERS = st.tuples(
    st.lists(PIECES, max_size=6), st.sampled_from([Finish.STOP, Finish.LENGTH, Finish.FILTER]),
    st.builds(lambda i, o, r, c: Usage(1 + i + c, o + r, c, reasoning=r), *[st.integers(0, 99)] * 4),
)


def numbered(pieces: list[list[Event]], finish: Finish, usage: Usage) -> list[Event]:
    """Return the events of an answer with its calls counted, as a reader would say them."""
    events: list[Event] = []
    calls = 0
    for piece in pieces:
        for event in piece:
            if isinstance(event, Called):
                event = msgspec.structs.replace(event, index=calls, id=f"c{calls}")  # noqa: PLW2901 - the same call
            elif isinstance(event, Argued):
                event = msgspec.structs.replace(event, index=calls)  # noqa: PLW2901 - the same call
                calls += 1
            events.append(event)
    reason = Finish.TOOLS if calls and finish is Finish.STOP else finish
    return [*events, Ended(reason), Used(usage)]


def joined(events: Iterable[Event]) -> list[Event]:
    """Return events with neighbouring texts in one, and without what a frame says of itself."""
    kept: list[Event] = []
    last: dict[str, Event] = {}
    for event in events:
        if isinstance(event, Began | Used):
            last["used"] = event
            continue
        before = kept[-1] if kept else None
        if isinstance(event, Said) and isinstance(before, Said):
            kept[-1] = Said(before.text + event.text)
        elif isinstance(event, Thought) and isinstance(before, Thought) and event.text and not (
            before.signature or before.redacted or event.signature
        ):
            kept[-1] = Thought(before.text + event.text, dialect="gemini")
        else:
            kept.append(event)
    return [*kept, Used(usage)] if (usage := getattr(last.get("used"), "usage", None)) else kept


@STEADY
@given(said=ANSWERS, cuts=st.sets(st.integers(0, 20)))
def test_what_is_written_is_read_back(said: tuple[list[list[Event]], Finish, Usage], cuts: set[int]) -> None:
    """In any batches or whole, the reader says what the writer was told."""
    events = numbered(*said)
    batches: list[list[Event]] = [[]]
    for at, event in enumerate(events):
        batches[-1].append(event)
        if at in cuts and not (isinstance(event, Thought) and event.signature and not event.text):
            batches.append([])
    writes, reader, parser = writer(OPEN), answer.reader(), Parser()
    stream = b"".join(map(writes.feed, batches)) + writes.close()
    read = [event for frame in parser.feed(stream) for event in reader.feed(frame)]

    assert joined(events) == joined(read)
    assert joined(events) == joined(answer.read_whole(write_whole(OPEN, events)))


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Called, st.integers(0, 3), WORDS, WORDS), st.builds(Argued, st.integers(0, 3), WORDS),
    st.builds(Said, WORDS, st.integers(0, 2)), st.builds(Ended, st.sampled_from(Finish)), st.builds(Refused, WORDS),
    st.builds(Cited, st.sampled_from(["gemini", "x"]), st.dictionaries(WORDS, WORDS)),
    st.builds(Thought, WORDS, st.none() | WORDS, st.none() | WORDS, st.sampled_from(["gemini", "x"])),
)


@STEADY
@given(batches=st.lists(st.lists(EVENTS, max_size=4), max_size=5))
def test_any_events_are_written(batches: list[list[Event]]) -> None:
    """Whatever order events come in, frames are whole, and no call is lost."""
    names = [e.name for batch in batches for e in batch if isinstance(e, Called)]
    written = orjson.dumps(frames(batches))

    assert len(set(names)) == 0 or b'"functionCall"' in written


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BadRequest("a", param="contents[0]"), "INVALID_ARGUMENT"),
        (errors.Unauthenticated("a"), "UNAUTHENTICATED"),
        (errors.Forbidden("a"), "PERMISSION_DENIED"), (errors.NotFound("a"), "NOT_FOUND"),
        (errors.TooLarge("a"), "INVALID_ARGUMENT"), (errors.Refused("a", 429), "RESOURCE_EXHAUSTED"),
        (errors.GatewayError("a"), "INTERNAL"), (errors.Unreachable("a"), "UNAVAILABLE"),
        (errors.Unavailable("a"), "UNAVAILABLE"), (errors.TimedOut("a"), "DEADLINE_EXCEEDED"),
        (errors.PassedOn(422, "a"), "INVALID_ARGUMENT"), (errors.PassedOn(599, "a"), "INTERNAL"),
    ],
)
def test_an_error_is_a_status(error: errors.GatewayError, status: str) -> None:
    """Google's name for the HTTP status, and in the details what its form has no field for, as strings."""
    said = orjson.loads(error_body(error, "req-1", [{"model": "m", "status": 429}]))["error"]
    detail = said["details"][0]

    assert (error.status, "a", status) == (said["code"], said["message"], said["status"])
    assert ("type.googleapis.com/google.rpc.ErrorInfo", "thriftgate") == (detail["@type"], detail["domain"])
    assert (error.code or error.kind).upper() == detail["reason"]
    assert ("req-1", '[{"model":"m","status":429}]') == (
        detail["metadata"]["request_id"], detail["metadata"]["attempts"]
    )
    assert (error.param, error.code) == (detail["metadata"].get("param"), detail["metadata"].get("code"))
    assert all(isinstance(value, str) for value in detail["metadata"].values())


@pytest.mark.parametrize(("cut", "before"), [(False, b""), (True, b"\n\n")])
def test_a_broken_stream_ends_with_an_error(cut: bool, before: bytes) -> None:
    """In a frame that begins as Google's SDK knows an error; one cut inside an event is closed first."""
    frame = error_event(errors.StreamBroken("gone"), "req-1", mid_event=cut)

    assert frame.startswith(before + b'data: {"error":')
    assert frame.endswith(b"\n\n")
    assert "gone" == answer.error_of_body(frame.removeprefix(before)[6:])


def test_googles_own_types_take_what_is_written() -> None:
    """Every frame, whole answer and error is one that Google's SDK reads as it was meant."""
    types, apierror = import_module("google.genai.types"), import_module("google.genai.errors")
    batches: list[list[Event]] = [
        [Thought("Hm.", dialect="gemini"), Said("a", 0, ({"token": "a", "logprob": -1.0, "top_logprobs": []},))],
        [Called(0, "i", "f", "c2ln"), Argued(0, '{"a":1}')], [Shown(Media("image", "image/png", "aaaa"))],
        [Cited("x", {"url": "https://a"}), Ended(Finish.TOOLS), Used(Usage(9, 5, 1, reasoning=2))],
    ]
    read = [types.GenerateContentResponse.model_validate(frame) for frame in frames(batches, OPEN)]
    whole = types.GenerateContentResponse.model_validate(
        orjson.loads(write_whole(OPEN, [event for batch in batches for event in batch]))
    )
    error = apierror.APIError(0, orjson.loads(error_body(errors.Forbidden("no"), "r", [])))

    assert ("a", "STOP", 14) == (
        read[0].text, read[-1].candidates[0].finish_reason, read[-1].usage_metadata.total_token_count
    )
    assert [("f", {"a": 1})] == [(call.name, call.args) for call in whole.function_calls]
    assert (403, "PERMISSION_DENIED", "no") == (error.code, error.status, error.message)
