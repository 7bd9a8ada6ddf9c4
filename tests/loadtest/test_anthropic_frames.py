"""The wire format has Anthropic's events, in its order."""

import orjson
import pytest

from loadtest import anthropic_frames as frames
from loadtest.answers import Answer, ToolCall
from loadtest.anthropic_frames import Head, Usage
from loadtest.signatures import sign

HEAD = Head("msg_1", "m")
USAGE = Usage(5, 3, read=2, stored_5m=1, thinking=1)
FULL = Answer(["b", "c"], "tool_calls", [ToolCall("f", ['{"a', '":1}']), ToolCall("g", ["{}"])], thoughts=["a"])


def values(stream: list[bytes]) -> list[dict[str, object]]:
    """The JSON of all events, each of which is named by its type."""
    found = []
    for frame in stream:
        name, data = frame.removesuffix(b"\n\n").split(b"\n")
        value = orjson.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + value["type"].encode()
        found.append(value)
    return found


def test_a_text_byte_by_byte() -> None:
    """The whole stream, as the API sends it."""
    golden = """
event: message_start
data: {"type":"message_start","message":{"model":"m","id":"msg_1","type":"message","role":"assistant","content":[],\
"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":5,"cache_creation_input_tokens":0,\
"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},\
"output_tokens":1,"service_tier":"standard"}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type":"ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"é"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":5,\
"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}

event: message_stop
data: {"type":"message_stop"}

"""
    sent = b"".join(frames.stream(HEAD, Answer(["é"]), Usage(5, 1))).decode()

    assert sent == golden.removeprefix("\n").replace("\\\n", "")


def test_thoughts_text_and_calls_are_blocks_one_after_the_other() -> None:
    """Each opens empty, grows and closes; the thought is signed at its end."""
    told = values(frames.stream(HEAD, FULL, USAGE))
    deltas = [event["delta"] for event in told if event["type"] == "content_block_delta"]
    opened = [event["content_block"] for event in told if event["type"] == "content_block_start"]
    kinds = [str(event["type"]).removeprefix("content_block_") for event in told]

    assert " ".join(kinds) == (
        "message_start start ping delta delta stop start delta delta stop start delta delta delta stop start delta "
        "delta stop "
        "message_delta message_stop"
    )
    assert [block["type"] for block in opened] == ["thinking", "text", "tool_use", "tool_use"]  # type: ignore[index]
    assert opened[0] == {"type": "thinking", "thinking": "", "signature": ""}
    assert [block["input"] for block in opened[2:]] == [{}, {}]  # type: ignore[index]
    assert deltas[:2] == [
        {"type": "thinking_delta", "thinking": "a"},
        {"type": "signature_delta", "signature": sign("a")},
    ]
    assert [delta.get("partial_json") for delta in deltas[4:]] == ["", '{"a', '":1}', "", "{}"]  # type: ignore[attr-defined]


def test_a_whole_message_says_the_same() -> None:
    """The same blocks under the same ids, and why it ended."""
    message = orjson.loads(frames.message(HEAD, FULL, USAGE))
    opened = [event["content_block"] for event in values(frames.stream(HEAD, FULL, USAGE)) if "content_block" in event]

    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert message["content"][0] == {"type": "thinking", "thinking": "a", "signature": sign("a")}
    assert [block["input"] for block in message["content"][2:]] == [{"a": 1}, {}]
    assert [block["id"] for block in message["content"][2:]] == [block["id"] for block in opened[2:]]  # type: ignore[index]
    assert message["stop_reason"] == "tool_use"
    assert message["usage"]["output_tokens_details"] == {"thinking_tokens": 1}
    assert message["usage"]["cache_creation_input_tokens"] == 1


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        (Answer(["a"], "length"), ("max_tokens", None)),
        (Answer(["a"], stopped_by="END"), ("stop_sequence", "END")),
        (Answer([]), ("end_turn", None)),
    ],
)
def test_why_it_ended(answer: Answer, ending: tuple[str, str | None]) -> None:
    """The caller's own text is named."""
    message = orjson.loads(frames.message(HEAD, answer, USAGE))

    assert (message["stop_reason"], message["stop_sequence"]) == ending


def test_hidden_thoughts_have_a_signature_only() -> None:
    """`display: omitted`."""
    head = Head("msg_1", "m", hidden=True)
    thought = orjson.loads(frames.message(head, FULL, USAGE))["content"][0]
    deltas = [event["delta"] for event in values(frames.stream(head, FULL, USAGE)) if "delta" in event]

    assert thought == {"type": "thinking", "thinking": "", "signature": sign("")}
    assert deltas[0] == {"type": "signature_delta", "signature": sign("")}


def test_a_call_that_was_cut_short_has_no_input() -> None:
    """The stream shows what there was of it."""
    cut = Answer([], "length", [ToolCall("f", ['{"a'])])

    assert orjson.loads(frames.message(HEAD, cut, USAGE))["content"][0]["input"] == {}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
        (418, "api_error"),
    ],
)
def test_errors_are_anthropics_objects(status: int, kind: str) -> None:
    """With the request's id beside them."""
    error = orjson.loads(frames.error(status, "", "req_1"))

    assert (error["type"], error["error"]["type"], error["request_id"]) == ("error", kind, "req_1")
    assert error["error"]["message"]


def test_failures_in_the_stream_and_before_it() -> None:
    """An event named error; the proxy's 502 is HTML."""
    assert frames.error_frame().startswith(b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"')
    assert frames.error(502).startswith(b"<html>")
