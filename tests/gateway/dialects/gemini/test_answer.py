"""Gemini's answers: where they come from, what they say, cut anywhere, and how they end."""

from importlib import import_module
from itertools import pairwise
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.door import Ending
from gateway.dialects.gemini import answer
from gateway.dialects.neutral import (
    Argued,
    Began,
    Called,
    Cited,
    Ended,
    Event,
    Failed,
    Finish,
    Media,
    Native,
    Said,
    Shown,
    Thought,
    Used,
)
from gateway.pricing import Usage
from gateway.sse import Event as Frame
from gateway.sse import Parser

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=300)
BASE = "https://generativelanguage.googleapis.com"


def chunk(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a chunk with one candidate; usage, ids and a prompt's feedback go to its top."""
    top = {name: fields.pop(name) for name in ("usageMetadata", "responseId", "modelVersion") if name in fields}
    content: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}} if parts else {}
    return {"candidates": [{**content, "index": 0, **fields}]} | top


def counts(prompt: int, **more: int) -> dict[str, int]:
    """Return a usageMetadata."""
    return {"promptTokenCount": prompt, **more}


RECORDED = [
    chunk({"text": "Hm.", "thought": True}, usageMetadata=counts(9, thoughtsTokenCount=3, totalTokenCount=12),
          responseId="r-1", modelVersion="gemini-3-flash"),
    chunk({"text": "Grüße "}, usageMetadata=counts(9, thoughtsTokenCount=3, totalTokenCount=12), responseId="r-1"),
    chunk({"text": "🦊", "thoughtSignature": "c2ln"}),
    chunk({"functionCall": {"name": "f", "args": {"a": {"b": [1, 2.5]}}}, "thoughtSignature": "c2ln"},
          {"functionCall": {"id": "x", "name": "g"}}),
    chunk({"inlineData": {"mimeType": "image/png", "data": "aaaa"}}, {"executableCode": {"code": "1"}}),
    chunk({"text": "", "thoughtSignature": "ZW5k"}, finishReason="STOP", groundingMetadata={"webSearchQueries": ["q"]},
          usageMetadata=counts(9, candidatesTokenCount=5, thoughtsTokenCount=3, cachedContentTokenCount=4,
                               toolUsePromptTokenCount=2, totalTokenCount=19)),
]
SAID: list[Event] = [
    Began("r-1", "gemini-3-flash", Usage(9, 3, reasoning=3)),
    Thought("Hm.", dialect="gemini"), Used(Usage(9, 3, reasoning=3)), Said("Grüße "),
    Thought("", "c2ln", dialect="gemini"), Said("🦊"),
    Called(0, "call_r-1_0", "f", "c2ln"), Argued(0, '{"a":{"b":[1,2.5]}}'), Called(1, "x", "g"), Argued(1, "{}"),
    Shown(Media("image", "image/png", "aaaa")), Shown(Native("gemini", {"executableCode": {"code": "1"}})),
    Thought("", None, "ZW5k", "gemini"), Cited("gemini", {"groundingMetadata": {"webSearchQueries": ["q"]}}),
    Ended(Finish.TOOLS), Used(Usage(11, 8, 4, reasoning=3, searches=1)),
]


def stream(chunks: list[dict[str, Any]]) -> bytes:
    """Return a stream as Google sends it."""
    return b"".join(b"data: " + msgspec.json.encode(one) + b"\r\n\r\n" for one in chunks)


def events(*pieces: bytes) -> list[Event]:
    """Read a stream that arrives in pieces."""
    parser, reader = Parser(), answer.reader()
    frames = [frame for piece in pieces for frame in parser.feed(piece)] + parser.close()
    return [event for frame in frames for event in reader.feed(frame)] + reader.close()


def said(one: dict[str, Any]) -> list[Event]:
    """Read one chunk, and leave out how it begins."""
    return [event for event in events(stream([one])) if not isinstance(event, Began)]


@pytest.mark.parametrize(
    ("base", "model", "expected"),
    [
        (BASE, "gemini-3-flash", f"{BASE}/v1beta/models/gemini-3-flash"),
        (f"{BASE}/", "gemini-3-flash", f"{BASE}/v1beta/models/gemini-3-flash"),
        (f"{BASE}/v1beta/", "models/x", f"{BASE}/v1beta/models/x"),
        (f"{BASE}/v1", "tunedModels/a b", f"{BASE}/v1/tunedModels/a%20b"),
        ("http://localhost:9/g/v1alpha", "x?y", "http://localhost:9/g/v1alpha/models/x%3Fy"),
    ],
)
def test_addresses(base: str, model: str, expected: str) -> None:
    """A base may name the version; a model may name its collection."""
    assert f"{expected}:generateContent" == answer.url(base, model, stream=False)
    assert f"{expected}:streamGenerateContent?alt=sse" == answer.url(base, model, stream=True)


def test_headers() -> None:
    """The key stands in Google's own header; without one there is none."""
    assert ({"x-goog-api-key": "k"}, {}) == (answer.headers("k"), answer.headers(None))


def test_a_recorded_stream() -> None:
    """Thoughts, text, calls, images, sources, the end and the usage are said in order."""
    assert SAID == events(stream(RECORDED))
    assert repr(answer.reader()) == "<Reader 0 candidates, 0 calls>"


@STEADY
@given(cuts=st.lists(st.integers(0, len(stream(RECORDED)))))
def test_cut_anywhere(cuts: list[int]) -> None:
    """Any split of the stream gives the same events."""
    whole = stream(RECORDED)
    pieces = [whole[a:b] for a, b in pairwise([0, *sorted(cuts), len(whole)])]

    assert SAID == events(*pieces)


def test_a_whole_answer() -> None:
    """A whole answer says what a stream of one chunk does."""
    one = RECORDED[-1] | {"responseId": "r"}

    assert events(stream([one])) == answer.read_whole(orjson.dumps(one))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not a JSON object"), (b"[]", "not a JSON object"), (b'"x"', "not a JSON object"),
        (b"{}", "no candidates"),
        (b'{"candidates":[]}', "no candidates"), (b'{"error":{"message":"no"}}', "no"),
        (orjson.dumps(chunk(finishReason="MALFORMED_FUNCTION_CALL", finishMessage="f(")), "cannot be read: f("),
    ],
)
def test_what_is_no_answer(body: bytes, words: str) -> None:
    """A body without an answer, and one that failed, raise ValueError."""
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        answer.read_whole(body)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", Finish.STOP), ("MAX_TOKENS", Finish.LENGTH), ("SAFETY", Finish.FILTER), ("RECITATION", Finish.FILTER),
        ("BLOCKLIST", Finish.FILTER), ("PROHIBITED_CONTENT", Finish.FILTER), ("SPII", Finish.FILTER),
        ("LANGUAGE", Finish.FILTER), ("OTHER", Finish.FILTER), ("IMAGE_SAFETY", Finish.FILTER),
        ("CONTINUATION", Finish.PAUSE), ("SOMETHING_NEW", Finish.STOP),
    ],
)
def test_reasons_to_finish(reason: str, finish: Finish) -> None:
    """Each of Google's reasons is one of ours, on the stream and in the books."""
    one = chunk({"text": "a"}, finishReason=reason)

    assert [Said("a"), Ended(finish)] == said(one)
    assert Ending(complete=True, finish=finish.value) == answer.ending_of_body(orjson.dumps(one))


@pytest.mark.parametrize("reason", answer.FAILURES)
def test_reasons_that_are_failures(reason: str) -> None:
    """What the model could not end is an error, not a short answer."""
    one = chunk(finishReason=reason)

    assert [Failed(answer.FAILURES[reason] + ".")] == said(one)
    assert reason.lower() == answer.ending_of_stream([Frame(b"", orjson.dumps(one))]).finish


def test_google_knows_no_other_reasons() -> None:
    """Every reason of Google's SDK has its place in a table."""
    types = import_module("google.genai.types")
    known = {*answer.FINISHES, *answer.FAILURES, *answer.UNFINISHED}

    assert {reason.value for reason in types.FinishReason} - known == set()


def test_calls_end_an_answer_as_tools() -> None:
    """Google says STOP; a limit that was met stays one, and one candidate's calls are not another's."""
    call = {"functionCall": {"name": "f", "args": {}}}
    two = {"candidates": [
        {"index": 0, "content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"},
        {"index": 1, "content": {"parts": [call]}, "finishReason": "STOP"},
    ]}

    assert Ended(Finish.TOOLS) == said(chunk(call, finishReason="STOP"))[-1]
    assert Ended(Finish.LENGTH) == said(chunk(call, finishReason="MAX_TOKENS"))[-1]
    assert [
        Said("a"), Ended(Finish.STOP), Called(0, "call_0", "f", choice=1), Argued(0, "{}", 1),
        Ended(Finish.TOOLS, choice=1),
    ] == said(two)


def test_made_ids_are_the_answers_own() -> None:
    """Calls of two turns never share an id where answers have one; what is odd in it is left out."""
    one = chunk({"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}}, responseId="a/ü b_c-" + "x" * 99)

    assert [f"call_ab_c-{'x' * 26}_{at}" for at in (0, 1)] == [e.id for e in said(one) if isinstance(e, Called)]


def test_what_no_model_says() -> None:
    """A tool's result in an answer, and a part that cannot be read, are passed over."""
    assert [Said("a")] == said(chunk({"functionResponse": {"name": "f"}}, {"text": 3}, {"text": ""}, {"text": "a"}))
    assert answer.reader().feed(Frame(b"", b"[DONE]")) == []


def test_a_blocked_prompt() -> None:
    """No candidates and a reason for it: the answer was filtered, and is complete."""
    one = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": counts(5, totalTokenCount=5)}

    assert [Ended(Finish.FILTER), Used(Usage(5, 0))] == said(one)
    assert Ended(Finish.FILTER) in answer.read_whole(orjson.dumps(one))
    assert Ending(complete=True, finish="filter", usage=Usage(5, 0)) == answer.ending_of_body(orjson.dumps(one))


def test_a_reason_in_every_chunk() -> None:
    """Old models say STOP all along: it ends the answer once and hides none of it."""
    chunks = [chunk({"text": text}, finishReason="STOP") for text in "ab"]

    assert [Began(), Said("a"), Ended(Finish.STOP), Said("b")] == events(stream(chunks))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (counts(10, candidatesTokenCount=5, thoughtsTokenCount=7, totalTokenCount=22), Usage(10, 12, reasoning=7)),
        (counts(10, candidatesTokenCount=12, thoughtsTokenCount=7, totalTokenCount=22), Usage(10, 12, reasoning=7)),
        (counts(10, cachedContentTokenCount=8), Usage(10, 0, 8)),
        (counts(1, cachedContentTokenCount=8), Usage(8, 0, 8)),
        (counts(10, toolUsePromptTokenCount=4), Usage(14, 0)),
        ({"promptTokenCount": -1, "candidatesTokenCount": 10**30, "thoughtsTokenCount": "x"}, Usage(0, 2**40)),
    ],
)
def test_every_token_counts_once(usage: dict[str, Any], expected: Usage) -> None:
    """Cached tokens are among the prompt's, thoughts among the generated; no number is impossible (complaint 12)."""
    assert [Used(expected)] == said({"usageMetadata": usage})


def test_probabilities() -> None:
    """Chosen tokens and their rivals come in OpenAI's form, on the text of their chunk."""
    tokens = [{"token": "ä", "logProbability": -0.5}]
    rivals = [{"candidates": [{"token": "b", "logProbability": 10**30}]}]
    result = {"chosenCandidates": tokens, "topCandidates": rivals}
    first = {"token": "ä", "logprob": -0.5, "bytes": [195, 164]}

    assert [Said("ä", 0, ({**first, "top_logprobs": [{"token": "b", "logprob": 0.0, "bytes": [98]}]},))] == said(
        chunk({"text": "ä"}, logprobsResult=result)
    )
    assert [Said("", 0, ({**first, "top_logprobs": []},))] == said(chunk(logprobsResult={"chosenCandidates": tokens}))


ODD: list[Any] = [
    None, 3, "x", [], {}, [3], {"parts": 3}, {"parts": [3, {"text": 3}, {"inlineData": {}}, {"functionCall": {}}, {}]},
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "name",
    ["content", "finishReason", "index", "logprobsResult", "groundingMetadata", "finishMessage", "citationMetadata"],
)
def test_odd_candidates_are_passed_over(name: str, odd: Any) -> None:
    """A field of another type than Google's says nothing and breaks nothing."""
    assert Said("b") in events(stream([chunk(**{name: odd}), chunk({"text": "b"})]))


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["candidates", "usageMetadata", "responseId", "modelVersion", "promptFeedback"])
def test_odd_chunks_are_passed_over(name: str, odd: Any) -> None:
    """Nor do such fields at the top."""
    assert Said("b") in events(stream([{name: odd}, chunk({"text": "b"})]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["candidates", "content", "parts", "text", "functionCall", "name", "args", "index", "error",
                         "message", "finishReason", "usageMetadata", "promptTokenCount", "inlineData", "data",
                         "logprobsResult", "chosenCandidates", "topCandidates", "token", "logProbability"]),
        inner, max_size=4),
    max_leaves=20,
)


@STEADY
@given(chunks=st.lists(JSON, max_size=3), garbage=st.binary(max_size=20))
def test_whatever_comes_is_read(chunks: list[Any], garbage: bytes) -> None:
    """No JSON and no bytes raise anything from a reader or from whoever keeps the books."""
    frames = [Frame(b"", data) for data in (*map(orjson.dumps, filter(_writable, chunks)), garbage)]
    reader = answer.reader()
    for frame in frames:
        reader.feed(frame)

    assert reader.close() == []
    assert isinstance(answer.ending_of_stream(frames), Ending)
    assert isinstance(answer.error_of_body(frames[-1].data), str | None)


def _writable(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def test_depth_is_passed_over() -> None:
    """Nor does a nesting that no decoder follows, or no encoder."""
    for depth in (200, 300, 900, 100_000):
        deep = b'{"a":' * depth + b"1" + b"}" * depth
        frame = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":' + deep + b"}}]}}]}"
        assert len(answer.reader().feed(Frame(b"", frame))) in (0, 1, 3)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"' + b"x" * 900 + b'"}}', "x" * 500), (b'[{"error":{"message":"a"}}]', "a"),
        (b'{"error":null}', None), (b"[]", None), (b'{"candidates":[]}', None), (b'"error"', None), (b'"error', None),
    ],
)
def test_an_error_object(body: bytes, message: str | None) -> None:
    """Its message is found, and no body without one is an error."""
    assert message == answer.error_of_body(body)


def test_an_error_in_the_midst() -> None:
    """A later frame may be an error: nothing before it makes the answer whole."""
    broken = stream([RECORDED[1], {"error": {"code": 503, "message": "busy"}}])

    assert Failed("busy") == events(broken)[-1]
    assert Ending(error=True, usage=Usage(9, 3, reasoning=3)) == answer.ending_of_stream(Parser().feed(broken))


def test_how_a_stream_ends() -> None:
    """A stream is complete with a reason; calls make it one of tools; the last usage counts."""
    frames = Parser().feed(stream(RECORDED))
    used = Usage(11, 8, 4, reasoning=3, searches=1)

    assert Ending(complete=True, finish="tools", usage=used) == answer.ending_of_stream(frames)
    assert Ending(usage=Usage(9, 3, reasoning=3)) == answer.ending_of_stream(frames[:-1])
    assert Ending() == answer.ending_of_stream([])
    assert Ending(complete=True) == answer.ending_of_body(b"not ours to judge")
    assert answer.LAST_FRAMES == ()


def test_googles_own_types_take_what_we_record() -> None:
    """The stream of these tests is one that Google's SDK reads."""
    types = import_module("google.genai.types")

    assert "🦊" == types.GenerateContentResponse.model_validate(RECORDED[2]).text
    assert all(types.GenerateContentResponse.model_validate(one) for one in RECORDED)
