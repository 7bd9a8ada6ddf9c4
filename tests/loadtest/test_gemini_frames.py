"""The wire format has Gemini's chunks, with the reason in the last one."""

from typing import Any

import orjson
import pytest

from loadtest import gemini_frames as frames
from loadtest.answers import Answer, ToolCall
from loadtest.gemini_frames import Head, Usage
from loadtest.gemini_rules import call_text
from loadtest.signatures import sign

HEAD = Head("r1", "m")
SHOWN = Head("r1", "m", shown=True)
CALLS = Answer([], "tool_calls", [ToolCall("f", ['{"a', '":1}']), ToolCall("g", ["{}"])], thoughts=["hm"])


def told(head: Head, *answers: Answer) -> list[Any]:
    """The chunks of a stream."""
    tokens = sum(len(answer.pieces) + sum(len(call.pieces) for call in answer.calls) for answer in answers)
    return frames.chunks(head, answers, Usage(3, tokens, sum(len(answer.thoughts) for answer in answers)))


def parts(chunks: list[Any]) -> list[Any]:
    """The parts of all chunks."""
    return [part for chunk in chunks for part in chunk["candidates"][0]["content"].get("parts", [])]


def test_a_text_byte_by_byte() -> None:
    """The whole stream, as the API sends it."""
    golden = """
data: {"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"},"index":0}],"usageMetadata":\
{"promptTokenCount":3,"candidatesTokenCount":1,"totalTokenCount":4,"promptTokensDetails":[{"modality":"TEXT",\
"tokenCount":3}]},"modelVersion":"m","responseId":"r1"}

data: {"candidates":[{"content":{"parts":[{"text":"é"}],"role":"model"},"finishReason":"STOP","index":0}],\
"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5,"promptTokensDetails":\
[{"modality":"TEXT","tokenCount":3}]},"modelVersion":"m","responseId":"r1"}

"""
    sent = b"".join(frames.event(chunk) for chunk in told(HEAD, Answer(["a", "é"]))).decode()

    assert sent == golden.removeprefix("\n").replace("\\\n", "").replace("\n", "\r\n")


def test_calls_come_whole_and_the_first_is_signed() -> None:
    """A chunk each, then an empty text with the reason."""
    chunks = told(HEAD, CALLS)
    first, second, last = parts(chunks)

    assert (first["functionCall"]["name"], first["functionCall"]["args"]) == ("f", {"a": 1})
    assert first["thoughtSignature"] == sign(call_text(first["functionCall"]))
    assert second == {"functionCall": {"id": second["functionCall"]["id"], "name": "g", "args": {}}}
    assert last == {"text": ""}
    assert [chunk["candidates"][0].get("finishReason") for chunk in chunks] == [None, None, "STOP"]
    assert chunks[-1]["usageMetadata"]["thoughtsTokenCount"] == 1


def test_thoughts_are_parts_where_they_are_asked_for() -> None:
    """Their signature is on the text that follows: in a stream on the empty one at its end."""
    answer = Answer(["a"], thoughts=["h", "m"])
    whole = orjson.loads(frames.response(SHOWN, [answer], Usage(3, 1, 2)))

    assert parts(told(SHOWN, answer)) == [
        {"text": "h", "thought": True},
        {"text": "m", "thought": True},
        {"text": "a"},
        {"text": "", "thoughtSignature": sign("text")},
    ]
    assert parts([whole]) == [{"text": "hm", "thought": True}, {"text": "a", "thoughtSignature": sign("text")}]
    assert parts(told(HEAD, answer))[0] == {"text": "a"}


def test_usage_grows_and_adds_up() -> None:
    """Thoughts are no candidates' tokens; the last chunk has the final count."""
    chunks = told(SHOWN, Answer(["a", "b"], thoughts=["h"]))
    totals = [chunk["usageMetadata"]["totalTokenCount"] for chunk in chunks]
    usage = Usage(300, 1, cached=5, pictures=258).as_json()

    assert totals == [4, 5, 6, 6]
    assert usage["cachedContentTokenCount"] == 5
    assert usage["promptTokensDetails"] == [
        {"modality": "TEXT", "tokenCount": 42},
        {"modality": "IMAGE", "tokenCount": 258},
    ]


def test_candidates_take_turns() -> None:
    """Each ends with its own reason."""
    chunks = told(HEAD, Answer(["a"]), Answer(["b", "c"], "length"))
    ends = [(one["index"], one.get("finishReason")) for chunk in chunks for one in chunk["candidates"]]

    assert ends == [(0, "STOP"), (1, None), (1, "MAX_TOKENS")]


def test_a_whole_response_is_indented() -> None:
    """As the API indents it; what was cut short is no call."""
    cut = Answer([], "length", [ToolCall("f", ['{"a'])])
    body = frames.response(HEAD, [CALLS, cut], Usage(3, 4))
    candidates = orjson.loads(body)["candidates"]

    assert body.startswith(b'{\n  "candidates": [\n')
    assert [part["functionCall"]["name"] for part in candidates[0]["content"]["parts"]] == ["f", "g"]
    assert (candidates[1]["content"], candidates[1]["finishReason"]) == ({"role": "model"}, "MAX_TOKENS")


def test_nothing_said_is_an_empty_text_before_the_end() -> None:
    """So that a stream can break off without a word."""
    chunks = told(HEAD, Answer([]))

    assert parts(chunks) == [{"text": ""}, {"text": ""}]
    assert "finishReason" not in chunks[0]["candidates"][0]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (413, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (529, "UNAVAILABLE"),
        (418, "INTERNAL"),
    ],
)
def test_errors_are_googles_objects(status: int, kind: str) -> None:
    """Code, message, status; a 429 says in its details how long to wait."""
    error = orjson.loads(frames.error(status, retry_after_s=7))["error"]

    assert (error["code"], error["status"]) == (status, kind)
    assert error["message"]
    assert ("details" in error) == (status == 429)
    if status == 429:
        assert error["details"][0]["retryDelay"] == "7s"


def test_failures_in_the_stream_and_before_it() -> None:
    """The error object as an event; the proxy's 502 is HTML."""
    assert frames.error_frame().startswith(b'data: {"error":{"code":503,')
    assert frames.error(502).startswith(b"<html>")
    assert frames.counted(3, 0) == {"totalTokens": 3, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 3}]}
