"""Anthropic's answers as events: recorded streams cut anywhere, whole bodies, endings, errors and what is none."""

import contextlib
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.anthropic.answer import (
    LAST_FRAMES,
    ending_of_body,
    ending_of_stream,
    error_of_body,
    headers,
    read_whole,
    reader,
    url,
)
from gateway.dialects.door import Ending
from gateway.dialects.neutral import (
    Argued,
    Began,
    Called,
    Cited,
    Ended,
    Event,
    Failed,
    Finish,
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
START_USAGE = {
    "input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 1,
    "service_tier": "standard",
}
CITED = {"type": "char_location", "cited_text": "a", "document_index": 0, "start_char_index": 0, "end_char_index": 1}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "weather"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result"}]}


def start(**usage: Any) -> dict[str, Any]:
    """Return the first frame of a stream."""
    return {"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": usage or START_USAGE,
    }}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the frames of one block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def end(reason: str, sequence: str | None = None, **usage: Any) -> list[dict[str, Any]]:
    """Return the last frames of a stream."""
    delta = {"stop_reason": reason, "stop_sequence": sequence}
    return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


def sse(*frames: dict[str, Any], padding: str = "") -> bytes:
    """Return frames as Anthropic sends them, which pads some."""
    return b"".join(
        f"event: {frame['type']}\ndata: {orjson.dumps(frame).decode()[:-1]}{padding}}}\n\n".encode() for frame in frames
    )


def text(*said: str) -> list[dict[str, Any]]:
    """Return deltas of text."""
    return [{"type": "text_delta", "text": one} for one in said]


def json(*said: str) -> list[dict[str, Any]]:
    """Return deltas of arguments."""
    return [{"type": "input_json_delta", "partial_json": one} for one in said]


RECORDED = [
    start(),
    *block(0, {"type": "thinking", "thinking": "", "signature": ""},
           {"type": "thinking_delta", "thinking": "Hm"}, {"type": "thinking_delta", "thinking": "m."},
           {"type": "signature_delta", "signature": "Sg=="}),
    *block(1, {"type": "redacted_thinking", "data": "Rd=="}),
    {"type": "ping"},
    *block(2, {"type": "text", "text": ""}, *text("Grüße ", "🦊"), {"type": "citations_delta", "citation": CITED}),
    *block(3, {**SEARCH, "input": {}}, *json("", '{"query": "wea', 'ther"}')),
    *block(4, FOUND),
    *block(5, {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}, *json("", '{"a": ', "1.0}")),
    *block(6, {"type": "tool_use", "id": "toolu_2", "name": "plain", "input": {}}, *json("")),
    *end("tool_use", output_tokens=50, output_tokens_details={"thinking_tokens": 8}),
]
STREAM = sse(*RECORDED, padding="       ")
BEGAN = Began("msg_1", "claude-x", Usage(330, 1, 300, 20))
SAID: list[Event] = [
    BEGAN,
    Thought("Hm", dialect="anthropic"), Thought("m.", dialect="anthropic"),
    Thought(signature="Sg==", dialect="anthropic"), Thought(redacted="Rd==", dialect="anthropic"),
    Said("Grüße "), Said("🦊"), Cited("anthropic", CITED),
    Shown(Native("anthropic", SEARCH)), Shown(Native("anthropic", FOUND)),
    Called(0, "toolu_1", "look"), Argued(0, '{"a": '), Argued(0, "1.0}"),
    Called(1, "toolu_2", "plain"), Argued(1, "{}"),
    Ended(Finish.TOOLS), Used(Usage(330, 50, 300, 20, 8)),
]


def read(*chunks: bytes) -> list[Event]:
    """Read a stream that arrives in chunks."""
    parser, reads = Parser(), reader()
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)] + parser.close()
    return [event for frame in frames for event in reads.feed(frame)] + reads.close()


def test_a_recorded_stream() -> None:
    """Every kind of block is read: calls with whole arguments, Anthropic's own blocks whole, counts that add up."""
    assert read(STREAM) == SAID


@STEADY
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_cut_anywhere(cuts: list[int]) -> None:
    """Any way of cutting the bytes gives the same events."""
    assert read(*(STREAM[a:b] for a, b in pairwise([0, *sorted(cuts), len(STREAM)]))) == SAID


def whole(reason: str | None = "end_turn", *content: dict[str, Any], **fields: Any) -> bytes:
    """Return a whole message."""
    return orjson.dumps({
        **start()["message"], "content": list(content), "stop_reason": reason,
        "usage": {"input_tokens": 10, "output_tokens": 5}, **fields,
    })


def test_a_whole_answer() -> None:
    """A body says the same as a stream of it, each block at once."""
    body = whole(
        "stop_sequence",
        {"type": "thinking", "thinking": "Hm", "signature": "Sg=="}, {"type": "redacted_thinking", "data": "Rd=="},
        {"type": "text", "text": "Hi", "citations": [CITED]}, SEARCH,
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": [1, None]}},
        stop_sequence="END",
    )

    assert read_whole(body) == [
        Began("msg_1", "claude-x", Usage(10, 5)), Thought("Hm", "Sg==", dialect="anthropic"),
        Thought(redacted="Rd==", dialect="anthropic"), Said("Hi"), Cited("anthropic", CITED),
        Shown(Native("anthropic", SEARCH)), Called(0, "toolu_1", "look"), Argued(0, '{"a":[1,null]}'),
        Ended(Finish.SEQUENCE, "END"), Used(Usage(10, 5)),
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not a JSON object"), (b"[]", "not a JSON object"), (b"{}", "no content"),
        (b'{"content":{}}', "no content"),
        (b"[" * 100_000, "not a JSON object"),
        (b'{"type":"error","error":{"type":"api_error","message":"Oops"}}', "Oops"),
    ],
)
def test_what_is_no_answer(body: bytes, message: str) -> None:
    """A body that is none is told from one that says little, and an error by its words."""
    with pytest.raises(ValueError, match=message):
        read_whole(body)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", Finish.STOP), ("max_tokens", Finish.LENGTH), ("stop_sequence", Finish.SEQUENCE),
        ("tool_use", Finish.TOOLS), ("pause_turn", Finish.PAUSE), ("refusal", Finish.REFUSAL),
        ("model_context_window_exceeded", Finish.LENGTH), ("compaction", Finish.PAUSE), ("a_new_one", Finish.STOP),
    ],
)
def test_reasons(reason: str, finish: Finish) -> None:
    """Every reason for stopping has a word of ours, a new one the most harmless; accounting uses the same."""
    frames = [start(), *end(reason, output_tokens=5)]

    assert read(sse(*frames))[1:] == [Ended(finish), Used(Usage(330, 5, 300, 20))]
    assert ending_of_stream(Parser().feed(sse(*frames))).finish == finish.value
    assert ending_of_body(whole(reason)).finish == finish.value


@pytest.mark.parametrize(
    ("first", "last", "usage"),
    [
        ({"input_tokens": 10, "output_tokens": 1}, {"output_tokens": 5}, Usage(10, 5)),
        ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 9, "output_tokens": 5}, Usage(9, 5)),
        ({"input_tokens": 9}, {"input_tokens": 0, "output_tokens": 5}, Usage(9, 5)),
        ({"input_tokens": 9, "cache_read_input_tokens": None}, {"output_tokens": 5}, Usage(9, 5)),
        ({"input_tokens": 9, "cache_read_input_tokens": 4}, {"cache_read_input_tokens": 4, "output_tokens": 5},
         Usage(13, 5, 4)),
        ({"input_tokens": -3}, {"output_tokens": 2**60}, Usage(0, 2**40)),
        ({"input_tokens": 2**40, "cache_read_input_tokens": 2**40}, {}, Usage(2**40, 0, 2**40)),
        ({"input_tokens": "9", "output_tokens": True}, {"output_tokens": 5}, Usage(0, 5)),
        ({"input_tokens": 1}, {"output_tokens": 5, "output_tokens_details": {"thinking_tokens": 9}},
         Usage(1, 5, reasoning=5)),
        ({"input_tokens": 1}, {"output_tokens": 5, "output_tokens_details": [9]}, Usage(1, 5)),
    ],
)
def test_counts(first: dict[str, Any], last: dict[str, Any], usage: Usage) -> None:
    """Cached and written tokens count once, within the prompt; both readings agree (complaint 12)."""
    stream = sse(start(**first), *end("end_turn", **last))
    used = [event.usage for event in read(stream) if isinstance(event, Began | Used)]

    assert used[-1] == usage
    assert ending_of_stream(Parser().feed(stream)) == Ending(complete=True, finish="stop", usage=usage)


def test_a_stream_without_counts() -> None:
    """Where nothing is counted nothing is made up."""
    message = {"type": "message_start", "message": {"id": "m", "usage": None}}

    assert read(sse(message, *end("end_turn"))) == [Began("m", ""), Ended(Finish.STOP)]
    assert ending_of_stream(Parser().feed(sse(message, *end("end_turn")))).usage is None


ODD: dict[str, tuple[list[dict[str, Any]], list[Event]]] = {
    "arguments that are there from the start": (
        block(0, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}),
        [Called(0, "t", "f"), Argued(0, '{"a":1}')],
    ),
    "a call that is never ended": (
        block(0, {"type": "tool_use", "id": "t", "name": "f", "input": {}})[:1], [Called(0, "t", "f"), Argued(0, "{}")]
    ),
    "two blocks of one number": (
        [*block(0, {"type": "tool_use", "id": "t", "name": "f"})[:1], *block(0, {"type": "tool_use", "id": "u"})],
        [Called(0, "t", "f"), Argued(0, "{}"), Called(1, "u", ""), Argued(1, "{}")],
    ),
    "blocks that are filled in turns": (
        [
            *block(0, {"type": "tool_use", "id": "t", "name": "f"})[:1],
            *block(1, {"type": "tool_use", "id": "u", "name": "g"}, *json('{"b":'))[:-1],
            *block(0, {}, *json('{"a":1}'))[1:], *block(1, {}, *json("2}"))[1:],
        ],
        [Called(0, "t", "f"), Called(1, "u", "g"), Argued(1, '{"b":'), Argued(0, '{"a":1}'), Argued(1, "2}")],
    ),
    "text from the start": (block(0, {"type": "text", "text": "Hi"}, *text("!")), [Said("Hi"), Said("!")]),
    "a summary of what was before": (
        block(0, {"type": "compaction", "content": None}, {"type": "compaction_delta", "content": "So "},
              {"type": "compaction_delta", "content": "far."}),
        [Shown(Native("anthropic", {"type": "compaction", "content": "So far."}))],
    ),
    "a server's call that breaks off": (
        block(0, {**SEARCH, "input": {}}, *json('{"query')),
        [Shown(Native("anthropic", {**SEARCH, "input": '{"query'}))],
    ),
    "nothing said": (block(0, {"type": "thinking"}, *text("")), []),
    "blocks and deltas that are none": (
        [{"type": "content_block_start", "index": 0}, {"type": "content_block_delta", "delta": "x"},
         {"type": "content_block_delta", "index": "0", "delta": {"type": "citations_delta"}},
         {"type": "content_block_delta", "delta": {"type": "new_delta", "text": "x"}}, *block(9, {}, *json("{}"))[1:],
         {"type": "message_start"}, {"type": "message_delta"}, {"type": "hologram"}, {}],
        [],
    ),
    "a second beginning": ([start()], []),
    "an error": (
        [{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}], [Failed("Overloaded")]
    ),
    "an error without words": ([{"type": "error"}], [Failed("an error without a message")]),
}


@pytest.mark.parametrize(("frames", "events"), ODD.values(), ids=ODD)
def test_odd_streams(frames: list[dict[str, Any]], events: list[Event]) -> None:
    """What providers of this dialect send besides is read as far as it says something."""
    assert read(sse(start(), *({"type": "", **frame} for frame in frames))) == [BEGAN, *events]


def test_a_frame_may_name_its_type_alone() -> None:
    """Where the data do not say what they are, the event's own type does."""
    assert reader().feed(Frame(b"error", b'{"error":{"message":"Oops"}}')) == [Failed("Oops")]


def test_an_end_without_a_reason() -> None:
    """A stream that says it is over is, once; what comes behind the end changes nothing."""
    over = sse(start(), {"type": "message_stop"})

    assert read(over)[1:] == [Ended(Finish.STOP)]
    assert ending_of_stream(Parser().feed(over)) == Ending(complete=True, usage=Usage(330, 1, 300, 20))
    assert read(over, sse(*end("max_tokens")))[1:] == [Ended(Finish.STOP)]


def test_endings() -> None:
    """A stream is complete when it says so; one with an error or without an end is not; a body always is."""
    used = Usage(330, 50, 300, 20, 8)

    assert ending_of_stream(Parser().feed(STREAM)) == Ending(complete=True, finish="tools", usage=used)
    assert ending_of_stream(Parser().feed(sse(*RECORDED[:-2]))) == Ending(usage=Usage(330, 1, 300, 20))
    assert ending_of_stream(Parser().feed(sse(start(), {"type": "error", "error": {}}))).error
    assert not ending_of_stream(Parser().feed(sse(*RECORDED, {"type": "error", "error": {}}))).complete
    assert ending_of_stream([Frame(b"", b"\xff"), Frame(b"", b"[]")]) == Ending()
    assert ending_of_body(whole("end_turn")) == Ending(complete=True, finish="stop", usage=Usage(10, 5))
    assert ending_of_body(b"not JSON") == Ending(complete=True)


def test_the_tail_of_a_stream_is_enough() -> None:
    """The relay keeps the head and the last frames: they say the usage."""
    frames = Parser().feed(STREAM)

    assert ending_of_stream([frames[0], *frames[-2:]]).usage == Usage(330, 50, 300, 20, 8)


@pytest.mark.parametrize("padding", ["", " ", " " * 15])
def test_the_last_frame_is_known_by_its_end(padding: str) -> None:
    """However a last frame is padded, a chunk that ends with it is told from one that does not."""
    assert sse(*end("end_turn"), padding=padding).endswith(LAST_FRAMES)
    assert b'data: {"type": "message_stop"}\n\n'.endswith(LAST_FRAMES)
    assert not sse(*end("end_turn")[:1], padding=padding).endswith(LAST_FRAMES)


ERROR = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}'


@pytest.mark.parametrize(
    ("frame", "failed"),
    [
        (Frame(b"error", ERROR), [Failed("Overloaded")]), (Frame(b"", ERROR), [Failed("Overloaded")]),
        (Frame(b"", b'{"error":"Oops"}'), [Failed("Oops")]),
        (Frame(b"message_start", b'{"error":{"message":"Oops"}}'), [Failed("Oops")]),
        (Frame(b"error", b"{}"), [Failed("an error without a message")]),
        (Frame(b"error", b'{"type":"ping"}'), []), (Frame(b"", b'{"error":null}'), []),
        (Frame(b"", b'{"type":"ping","error":{}}'), []), (Frame(b"error", ERROR[:-1]), []),
    ],
)
def test_error_frames(frame: Frame, failed: list[Event]) -> None:
    """An error is one by its own type, by the frame's, or by being an error and nothing else."""
    assert reader().feed(frame) == failed


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (ERROR, "Overloaded"), (b'{"error":{"message":"Oops"}}', "Oops"),
        (b'{"error":{"code":1}}', "an error without a message"),
        (b'{"type":"error","error":{"message":"' + b"x" * 600 + b'"}}', "x" * 500),
        (whole(), None), (b'"error"', None), (b"", None), (b'{"error":', None),
    ],
)
def test_error_bodies(body: bytes, message: str | None) -> None:
    """An error object is told by its words, at most 500 characters of them."""
    assert error_of_body(body) == message


def test_where_requests_go() -> None:
    """The base may name the API's version; the key and the version of the API are headers."""
    for base in ("https://api.anthropic.com", "https://api.anthropic.com/", "https://api.anthropic.com/v1"):
        assert url(base, "m", stream=True) == "https://api.anthropic.com/v1/messages"
    assert url("https://proxy.example/anthropic/v1/", "m", stream=False) == "https://proxy.example/anthropic/v1/messages"
    assert headers("k") == {"anthropic-version": "2023-06-01", "x-api-key": "k"}
    assert headers(None) == {"anthropic-version": "2023-06-01"}


def test_the_repr_says_how_far_it_is() -> None:
    """An operator reads the calls, the open blocks and the end from it."""
    reads = reader()
    call = block(0, {"type": "tool_use", "id": "t", "name": "f"})
    for frame in Parser().feed(sse(start(), *call[:1], *end("end_turn"))):
        reads.feed(frame)

    assert repr(reads) == "<Reader 1 calls, 1 open blocks, ended>"


LEAVES = st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def shaken(draw: Any, value: Any) -> Any:
    """Return a value some of whose parts were exchanged for others."""
    if draw(st.integers(0, 11)) == 0:
        return draw(VALUES)
    if isinstance(value, dict):
        return {name: shaken(draw, inner) for name, inner in value.items() if draw(st.integers(0, 14))}
    return [shaken(draw, inner) for inner in value] if isinstance(value, list) else value


@st.composite
def frames(draw: Any) -> Any:
    """Draw frames that are a little wrong."""
    return shaken(draw, draw(st.lists(st.sampled_from(RECORDED), max_size=8)))


@STEADY
@given(said=frames())
def test_a_reader_never_raises(said: Any) -> None:
    """Whatever a provider sends, the reader and the endings take it."""
    reads = reader()
    sent = [Frame(b"content_block_delta", orjson.dumps(one)) for one in (said if isinstance(said, list) else [said])]
    for frame in sent:
        reads.feed(frame)
        ending_of_body(frame.data)
        with contextlib.suppress(ValueError):
            read_whole(frame.data)
    reads.close()
    ending_of_stream(sent)


@STEADY
@given(said=st.binary(max_size=80))
def test_bytes_that_are_nothing(said: bytes) -> None:
    """No bytes raise anything, as a frame or as a body; a body that is none says so."""
    assert reader().feed(Frame(b"error", said)) == [] or said.lstrip()[:1] == b"{"
    error_of_body(said)
    ending_of_body(said)
    with pytest.raises(ValueError, match="It"):
        read_whole(said)


def test_nested_answers() -> None:
    """Arguments of any depth are read, or passed over: also where they can be decoded and no more."""
    for depth in (100, *range(800, 1_010), 100_000):
        inner = b'{"a":' * depth + b"1" + b"}" * depth
        call = b'{"type":"tool_use","id":"t","name":"f","input":' + inner + b"}"
        reads = reader()
        with contextlib.suppress(ValueError):
            read_whole(b'{"content":[' + call + b"]}")
        reads.feed(Frame(b"", b'{"type":"content_block_start","content_block":' + call + b"}"))

        assert all(isinstance(event, Argued) for event in reads.close())
