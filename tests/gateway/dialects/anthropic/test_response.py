"""Answers and errors in Anthropic's words: golden streams, read back, and as Anthropic's own SDK takes them."""

from collections.abc import Iterable
from importlib import import_module
from itertools import pairwise
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import errors
from gateway.dialects.anthropic.answer import LAST_FRAMES, ending_of_stream, read_whole, reader
from gateway.dialects.anthropic.response import KINDS, REASONS, error_body, error_event, write_whole, writer
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
ASKED = Asked("r1", "claude-x", 1, HI)
OPEN = Asked("r1", "claude-x", 1, msgspec.structs.replace(HI, reasoning=Reasoning(budget=-1)))
CITED = {"type": "char_location", "cited_text": "a", "document_index": 0, "document_title": None,
         "start_char_index": 0, "end_char_index": 1}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "weather"}}
FOUND: dict[str, Any] = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
USED = Usage(330, 50, 300, 20, 8)
NO_USAGE = {
    "input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0,
}


def frames(batches: Iterable[list[Event]], asked: Asked = ASKED) -> list[dict[str, Any]]:
    """Write a stream in batches, and return what its frames say; each has its type for a name."""
    writes = writer(asked)
    stream = b"".join([*(writes.feed(batch) for batch in batches), writes.close()])
    events = Parser().feed(stream)

    assert stream.endswith(LAST_FRAMES)
    assert all(orjson.loads(event.data)["type"].encode() == event.type for event in events)
    return [orjson.loads(event.data) for event in events]


def blocks(*events: Event, asked: Asked = ASKED) -> list[dict[str, Any]]:
    """Return the blocks of a whole answer that says `events`, the same as the stream of it has."""
    whole = orjson.loads(write_whole(asked, [Began(), *events]))
    streamed: list[dict[str, Any]] = []
    for frame in frames([[event] for event in (Began(), *events)], asked):
        if frame["type"] == "content_block_start":
            assert frame["index"] == len(streamed)
            streamed.append(frame["content_block"])
        elif frame["type"].startswith("content_block"):
            assert frame["index"] == len(streamed) - 1
    kinds: list[str] = [block["type"] for block in streamed]

    assert kinds == [block["type"] for block in whole["content"]]
    content: list[dict[str, Any]] = whole["content"]
    return content


def start(index: int, block: dict[str, Any]) -> dict[str, Any]:
    """Return the frame that begins a block."""
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **said: Any) -> dict[str, Any]:
    """Return a frame that fills a block."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **said}}


def stop(index: int) -> dict[str, Any]:
    """Return the frame that ends a block."""
    return {"type": "content_block_stop", "index": index}


RICH: list[Event] = [
    Began("msg_9", "claude-z", Usage(330, 1, 300, 20)),
    Thought("Hm", dialect="anthropic"), Thought("m.", dialect="anthropic"),
    Thought(signature="Sg==", dialect="anthropic"), Thought(redacted="Rd==", dialect="anthropic"),
    Said("Grüße "), Said("🦊"), Cited("anthropic", CITED), Said("!"),
    Shown(Native("anthropic", SEARCH)), Shown(Native("anthropic", FOUND)),
    Called(0, "toolu_1", "look"), Argued(0, '{"a": '), Argued(0, "1.0}"),
    Called(1, "toolu_2", "plain"), Argued(1, "{}"),
    Ended(Finish.TOOLS), Used(USED),
]


def test_a_whole_stream() -> None:
    """The frames are those of Anthropic's own API, one block open at a time, the true counts at the end."""
    assert frames([RICH]) == [
        {"type": "message_start", "message": {
            "id": "msg_r1", "type": "message", "role": "assistant", "model": "claude-x", "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": {
                "input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300,
                "output_tokens": 1,
            },
        }},
        start(0, {"type": "thinking", "thinking": "", "signature": ""}),
        delta(0, "thinking_delta", thinking="Hm"), delta(0, "thinking_delta", thinking="m."),
        delta(0, "signature_delta", signature="Sg=="), stop(0),
        start(1, {"type": "redacted_thinking", "data": "Rd=="}), stop(1),
        start(2, {"type": "text", "text": ""}),
        delta(2, "text_delta", text="Grüße "), delta(2, "text_delta", text="🦊"),
        delta(2, "citations_delta", citation=CITED), stop(2),
        start(3, {"type": "text", "text": ""}), delta(3, "text_delta", text="!"), stop(3),
        start(4, {**SEARCH, "input": {}}), delta(4, "input_json_delta", partial_json='{"query":"weather"}'), stop(4),
        start(5, FOUND), stop(5),
        start(6, {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}),
        delta(6, "input_json_delta", partial_json='{"a": '), delta(6, "input_json_delta", partial_json="1.0}"), stop(6),
        start(7, {"type": "tool_use", "id": "toolu_2", "name": "plain", "input": {}}),
        delta(7, "input_json_delta", partial_json="{}"), stop(7),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": {
            "input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 8},
        }},
        {"type": "message_stop"},
    ]


def test_a_whole_answer() -> None:
    """A body says what the stream says, each block at once."""
    assert orjson.loads(write_whole(ASKED, RICH)) == {
        "id": "msg_r1", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "tool_use",
        "stop_sequence": None, "content": [
            {"type": "thinking", "thinking": "Hmm.", "signature": "Sg=="},
            {"type": "redacted_thinking", "data": "Rd=="},
            {"type": "text", "text": "Grüße 🦊", "citations": [CITED]},
            {"type": "text", "text": "!"},
            SEARCH, FOUND,
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1.0}},
            {"type": "tool_use", "id": "toolu_2", "name": "plain", "input": {}},
        ],
        "usage": {
            "input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 8},
        },
    }


def joined(events: Iterable[Event]) -> list[Event]:
    """Return events without an answer's name, with words that follow one another put together."""
    told: list[Event] = []
    for event in events:
        last = told[-1] if told else None
        if isinstance(event, Said) and isinstance(last, Said):
            told[-1] = Said(last.text + event.text)
        elif isinstance(event, Argued) and isinstance(last, Argued) and event.index == last.index:
            told[-1] = Argued(last.index, last.text + event.text)
        elif isinstance(event, Thought) and isinstance(last, Thought) and not (
            last.signature or last.redacted or event.redacted
        ):
            told[-1] = Thought(last.text + event.text, event.signature, dialect=event.dialect)
        elif not isinstance(event, Began):
            told.append(event)
    return told


def read_back(events: list[Event]) -> list[Event]:
    """Write a stream and read it again."""
    writes, parser, reads = writer(ASKED), Parser(), reader()
    stream = writes.feed(events) + writes.close()
    return [event for frame in parser.feed(stream) for event in reads.feed(frame)] + reads.close()


WORDS = st.text(min_size=1, max_size=6)
OWN = st.one_of(
    WORDS.map(Said),
    WORDS.map(lambda text: Thought(text, "Sg==", dialect="anthropic")),
    WORDS.map(lambda data: Thought(redacted=data, dialect="anthropic")),
    st.just(Cited("anthropic", CITED)),
    st.sampled_from([Shown(Native("anthropic", SEARCH)), Shown(Native("anthropic", FOUND))]),
    st.dictionaries(WORDS, st.integers(0, 9) | WORDS, max_size=2),
)
REASONED = st.sampled_from([
    Ended(Finish.LENGTH), Ended(Finish.SEQUENCE, "END"), Ended(Finish.TOOLS), Ended(Finish.REFUSAL),
    Ended(Finish.PAUSE),
])


@STEADY
@given(said=st.lists(OWN, max_size=8), ended=REASONED)
def test_what_is_written_is_read(said: list[Any], ended: Ended) -> None:
    """A written answer, streamed or whole, says to this dialect's reader what it was made of."""
    events: list[Event] = [Began(usage=Usage(9, 1))]
    calls = 0
    for one in said:
        if isinstance(one, dict):
            events += [Called(calls, f"toolu_{calls}", "f"), Argued(calls, msgspec.json.encode(one).decode())]
            calls += 1
        else:
            events.append(one)
    events += [ended, Used(USED)]

    assert joined(read_back(events)) == joined(events)
    assert joined(read_whole(write_whole(ASKED, events))) == joined(events)


@STEADY
@given(cuts=st.lists(st.integers(0, len(RICH)), max_size=6))
def test_batches_do_not_matter(cuts: list[int]) -> None:
    """However the events arrive, the stream is the same."""
    assert frames(RICH[a:b] for a, b in pairwise([0, *sorted(cuts), len(RICH)])) == frames([RICH])


CALLS: dict[str, tuple[list[Event], list[dict[str, Any]]]] = {
    "one after the other": (
        [Called(0, "a", "f"), Argued(0, '{"x":1}'), Called(1, "b", "g"), Argued(1, "{}")],
        [{"id": "a", "name": "f", "input": {"x": 1}}, {"id": "b", "name": "g", "input": {}}],
    ),
    "both at once": (
        [Called(0, "a", "f"), Called(1, "b", "g"), Called(2, "c", "h"), Argued(1, '{"y":'), Argued(0, '{"x":'),
         Argued(2, '{"z":3}'), Argued(1, "2}"), Argued(0, "1}")],
        [{"id": "a", "name": "f", "input": {"x": 1}}, {"id": "b", "name": "g", "input": {"y": 2}},
         {"id": "c", "name": "h", "input": {"z": 3}}],
    ),
    "without arguments": (
        [Called(0, "a", "f"), Argued(0, ""), Called(1, "b", "g"), Argued(1, "{}")],
        [{"id": "a", "name": "f", "input": {}}, {"id": "b", "name": "g", "input": {}}],
    ),
    "broken off": (
        [Called(0, "a", "f"), Argued(0, '{"x":'), Called(1, "b", "g"), Argued(1, "[1]")],
        [{"id": "a", "name": "f", "input": {"arguments": '{"x":'}},
         {"id": "b", "name": "g", "input": {"arguments": "[1]"}}],
    ),
    "without an id": ([Called(0, "", "f")], [{"id": "toolu_r1_0", "name": "f", "input": {}}]),
    "twice the same number": (
        [Called(0, "a", "f"), Argued(0, "{"), Called(0, "b", "g"), Argued(0, "{}")],
        [{"id": "a", "name": "f", "input": {"arguments": "{"}}, {"id": "b", "name": "g", "input": {}}],
    ),
    "arguments of no call": ([Argued(7, "{}"), Called(0, "a", "f")], [{"id": "a", "name": "f", "input": {}}]),
}


@pytest.mark.parametrize(("events", "calls"), CALLS.values(), ids=CALLS)
def test_calls(events: list[Event], calls: list[dict[str, Any]]) -> None:
    """However arguments are streamed, each call's arrive whole and in its own block, in the calls' order."""
    assert blocks(*events) == [{"type": "tool_use", **call} for call in calls]


def test_words_between_arguments() -> None:
    """Words that come while a call is not whole wait for it, and no longer; so do they where it never is."""
    call: list[Event] = [Called(0, "a", "f"), Argued(0, '{"x":'), Said("Hi"), Argued(0, "1}")]
    use = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}

    assert blocks(*call, Said("!")) == [use, {"type": "text", "text": "Hi!"}]
    assert blocks(*call[:3]) == [{**use, "input": {"arguments": '{"x":'}}, {"type": "text", "text": "Hi"}]
    assert [frame["type"] for frame in frames([call])].index("content_block_stop") < 7


FOREIGN: dict[str, tuple[list[Event], list[dict[str, Any]]]] = {
    "a refusal in words": ([Refused("No"), Refused(".")], [{"type": "text", "text": "No."}]),
    "nothing": ([Said(""), Refused(""), Thought(dialect="gemini"), Thought(dialect="anthropic")], []),
    "an image": (
        [Said("See:"), Shown(Media("image", "image/png", "iVBOR")), Said("Nice.")],
        [{"type": "text", "text": "See:"}, {"type": "text", "text": "![image](data:image/png;base64,iVBOR)"},
         {"type": "text", "text": "Nice."}],
    ),
    "a file by address": (
        [Shown(Media("file", url="https://a/b.pdf", name="b.pdf"))],
        [{"type": "text", "text": "[b.pdf](https://a/b.pdf)"}],
    ),
    "another's block": (
        [Shown(Native("gemini", {"executableCode": {}})), Said("Hi")], [{"type": "text", "text": "Hi"}],
    ),
    "a block without a type": ([Shown(Native("anthropic", {"x": 1}))], []),
    "a page that is cited": (
        [Said("Hi"), Cited("openai", {"type": "url_citation", "url_citation": {"url": "https://a", "title": "A"}})],
        [{"type": "text", "text": "Hi", "citations": [
            {"type": "web_search_result_location", "url": "https://a", "title": "A", "cited_text": "",
             "encrypted_index": ""},
        ]}],
    ),
    "a page without a title, before any words": (
        [Cited("openai", {"url": "https://a"})],
        [{"type": "text", "text": "", "citations": [
            {"type": "web_search_result_location", "url": "https://a", "title": None, "cited_text": "",
             "encrypted_index": ""},
        ]}],
    ),
    "what is no page": ([Said("Hi"), Cited("gemini", {"groundingMetadata": {}})], [{"type": "text", "text": "Hi"}]),
    "a second answer": ([Said("Hi"), Said("Ho", 1), Called(0, "a", "f", choice=1), Argued(0, "{}", 1)],
                        [{"type": "text", "text": "Hi"}]),
}


@pytest.mark.parametrize(("events", "content"), FOREIGN.values(), ids=FOREIGN)
def test_what_other_dialects_say(events: list[Event], content: list[dict[str, Any]]) -> None:
    """What is part of an answer becomes text where there is no block for it; the rest is not shown."""
    assert blocks(*events) == content


THOUGHTS: list[Event] = [
    Thought("Hm", dialect="gemini"), Thought("m.", "a.b", dialect="gemini"), Thought("So.", dialect="openai"),
    Said("Hi"), Thought(redacted="R", dialect="gemini"),
]


def test_thinking_of_other_models() -> None:
    """It is shown to a caller who asked for thinking, under a signature of ours that names its dialect."""
    assert blocks(*THOUGHTS, asked=OPEN) == [
        {"type": "thinking", "thinking": "Hmm.", "signature": "thriftgate.gemini.a.b"},
        {"type": "thinking", "thinking": "So.", "signature": "thriftgate.openai."},
        {"type": "text", "text": "Hi"},
    ]


@pytest.mark.parametrize(
    "reasoning", [None, Reasoning("high"), Reasoning(budget=0), Reasoning(budget=-1, shown="none")]
)
def test_thinking_that_nobody_asked_for(reasoning: Reasoning | None) -> None:
    """Where the caller did not ask to see thinking, other models' is left out."""
    asked = Asked("r1", "claude-x", 1, msgspec.structs.replace(HI, reasoning=reasoning))

    assert blocks(*THOUGHTS, asked=asked) == [{"type": "text", "text": "Hi"}]


@pytest.mark.parametrize(
    ("events", "reason", "sequence"),
    [
        *(([Ended(finish)], reason, None) for finish, reason in REASONS.items()),
        ([Ended(Finish.SEQUENCE, "END")], "stop_sequence", "END"),
        ([], "end_turn", None),
        ([Called(0, "a", "f"), Ended(Finish.STOP)], "tool_use", None),
        ([Called(0, "a", "f"), Ended(Finish.LENGTH)], "max_tokens", None),
        ([Refused("No."), Ended(Finish.STOP)], "refusal", None),
        ([Ended(Finish.LENGTH), Ended(Finish.STOP), Ended(Finish.FILTER, choice=1)], "max_tokens", None),
    ],
)
def test_reasons(events: list[Event], reason: str, sequence: str | None) -> None:
    """Every finish has a reason of Anthropic's; calls and refusals are not taken for a plain end."""
    last = frames([[Began(), *events]])[-2]

    assert last["delta"] == {"stop_reason": reason, "stop_sequence": sequence}
    assert orjson.loads(write_whole(ASKED, events))["stop_reason"] == reason


def test_every_finish_has_a_reason() -> None:
    """A new finish cannot be forgotten."""
    assert REASONS.keys() == set(Finish)


def test_an_empty_answer() -> None:
    """A stream of which nothing came is a whole message of no blocks."""
    assert frames([]) == [
        {"type": "message_start", "message": {
            "id": "msg_r1", "type": "message", "role": "assistant", "model": "claude-x", "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": NO_USAGE,
        }},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": NO_USAGE},
        {"type": "message_stop"},
    ]
    assert blocks() == []


def test_counts_that_come_late() -> None:
    """The beginning says what is known then, the end the truth; no token is counted twice or below none."""
    said = frames([[Began(usage=Usage(5, 0))], [Used(Usage(7, 1))], [Used(Usage(9, 2, 9, 9))], [Ended(Finish.STOP)]])

    assert said[0]["message"]["usage"] == {**NO_USAGE, "input_tokens": 5}
    assert said[-2]["usage"] == {
        "input_tokens": 0, "cache_creation_input_tokens": 9, "cache_read_input_tokens": 9, "output_tokens": 2
    }


def test_a_failed_answer() -> None:
    """A whole answer that failed is none; a stream's failure is told by whoever sends it."""
    with pytest.raises(ValueError, match="Oops"):
        write_whole(ASKED, [Began(), Said("Hi"), Failed("Oops")])
    assert writer(ASKED).feed([Failed("Oops")]) == b""


def test_nothing_is_said_before_there_is_something() -> None:
    """Without events no bytes are written; the repr says where the stream is."""
    writes = writer(ASKED)

    assert writes.feed([]) == b""
    assert repr(writes) == "<Writer <_Blocks 0 ended, none open>>"
    writes.feed([Said("Hi")])
    assert repr(writes) == "<Writer <_Blocks 0 ended, text open>>"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.BadRequest("m"), "invalid_request_error"), (errors.Unauthenticated("m"), "authentication_error"),
        (errors.Forbidden("m"), "permission_error"), (errors.NotFound("m"), "not_found_error"),
        (errors.TooLarge("m"), "request_too_large"), (errors.Unavailable("m"), "overloaded_error"),
        (errors.TimedOut("m"), "timeout_error"), (errors.Unreachable("m"), "api_error"),
        (errors.Refused("m", 429), "rate_limit_error"), (errors.Refused("m", 529), "overloaded_error"),
        (errors.GatewayError("m"), "api_error"), (errors.PassedOn(422, "m"), "invalid_request_error"),
        (errors.PassedOn(402, "m"), "billing_error"),
    ],
)
def test_errors_by_their_status(error: errors.GatewayError, kind: str) -> None:
    """An SDK raises the exception that belongs to the kind; the message and the request's id are there."""
    said = orjson.loads(error_body(error, "q1", []))

    assert (said["type"], said["request_id"]) == ("error", "q1")
    assert (said["error"]["type"], said["error"]["message"]) == (kind, "m")


def test_what_an_error_says_besides() -> None:
    """The field at fault, our code and the calls that were made stand beside the words."""
    error = errors.Inexpressible("No.", param="n")

    assert orjson.loads(error_body(error, "q1", [{"model": "a"}])) == {
        "type": "error", "request_id": "q1", "error": {
            "type": "invalid_request_error", "message": "No.", "param": "n", "code": "unsupported_by_target",
            "attempts": [{"model": "a"}],
        },
    }


@pytest.mark.parametrize("mid_event", [False, True])
def test_a_stream_that_breaks(*, mid_event: bool) -> None:
    """Its last frame is an error that this dialect's own reader takes for one, wherever the stream was cut."""
    cut = b'event: content_block_delta\ndata: {"type":"con' if mid_event else b""
    parser, reads = Parser(), reader()
    frames_ = parser.feed(cut + error_event(errors.StreamBroken("Broke."), "q1", mid_event=mid_event))

    assert [event for frame in frames_ for event in reads.feed(frame)] == [Failed("Broke.")]
    assert ending_of_stream(frames_).error
    assert frames_[-1].type == b"error"


def test_the_official_types_take_what_is_written() -> None:
    """Every frame, the whole answer and each kind of error is one that Anthropic's own SDK knows."""
    types = import_module("anthropic.types")
    shared = import_module("anthropic.types.shared")
    frame = import_module("pydantic").TypeAdapter(types.RawMessageStreamEvent)
    for said in frames([RICH]):
        frame.validate_python(said, strict=True)
    message = types.Message.model_validate_json(write_whole(ASKED, RICH), strict=True)
    for status in KINDS.keys() - {413}:         # which is in the API's documentation alone
        shared.ErrorResponse.model_validate_json(error_body(errors.PassedOn(status, "m"), "q1", []), strict=True)

    assert message.stop_reason == "tool_use"


def test_the_official_client_puts_a_stream_together() -> None:
    """Anthropic's own client reads the stream to the message that the whole answer says."""
    anthropic = import_module("anthropic")
    httpx = import_module("httpx2")
    writes = writer(ASKED)
    stream = writes.feed(RICH) + writes.close()

    def answered(_: Any) -> Any:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    with (
        httpx.Client(transport=httpx.MockTransport(answered)) as http,
        anthropic.Anthropic(api_key="k", http_client=http) as client,
        client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]) as answer,
    ):
        message = answer.get_final_message()

    whole = anthropic.types.Message.model_validate_json(write_whole(ASKED, RICH))
    assert [block.model_dump(exclude_none=True) for block in message.content] == [
        block.model_dump(exclude_none=True) for block in whole.content
    ]
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("tool_use", 10, 50)


def test_a_seal_behind_the_last_words() -> None:
    """Gemini signs its last words; behind text a seal is written only before a call, which must have it."""
    seal = Thought(redacted="c2VhbA==", dialect="gemini")
    said = blocks(Said("Hello"), seal, Ended(Finish.STOP), asked=OPEN)
    called = blocks(Said("Hello"), seal, Called(0, "t", "look"), Argued(0, "{}"), Ended(Finish.TOOLS), asked=OPEN)

    assert [block["type"] for block in said] == ["text"]
    assert [block["type"] for block in called] == ["text", "redacted_thinking", "tool_use"]


def test_a_call_without_thinking_is_marked() -> None:
    """Where thinking was asked for, an empty one of ours says that there was none; once, and only before a call."""
    asked = Asked("r1", "claude-x", 1, msgspec.structs.replace(HI, reasoning=Reasoning(budget=1024)))
    calls: list[Event] = [Called(0, "a", "f"), Argued(0, "{}"), Called(1, "b", "g"), Argued(1, "{}")]
    none = {"type": "thinking", "thinking": "", "signature": "thriftgate.nobody."}

    assert blocks(Said("t"), *calls, asked=asked)[1] == none
    assert [block["type"] for block in blocks(*calls, asked=asked)] == ["thinking", "tool_use", "tool_use"]
    assert blocks(Thought("m", dialect="openai"), *calls, asked=asked)[0]["thinking"] == "m"
    assert [block["type"] for block in blocks(Said("t"), asked=asked)] == ["text"]
    assert [block["type"] for block in blocks(*calls)] == ["tool_use", "tool_use"]


def test_a_thread_is_refused_in_the_words_that_the_sdk_knows() -> None:
    """Its tool runner then sends the history whole."""
    refused = orjson.loads(error_body(errors.Inexpressible("no", param="thread"), "r1", []))

    assert refused["error"]["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    assert "details" not in orjson.loads(error_body(errors.BadRequest("no", param="top_k"), "r1", []))["error"]
