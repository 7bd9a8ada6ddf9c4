"""What the end of an answer says, and how an error is worded, in OpenAI's Chat Completions."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects import openai
from gateway.dialects.openai import Ending
from gateway.errors import BadRequest, GatewayError, NotFound, Refused, TimedOut
from gateway.pricing import Usage
from gateway.sse import Event, Parser

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=100)
WORD = b'{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}],"usage":null}'
STOP = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
USED = b'{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}'
CACHED = b'{"usage":{"prompt_tokens":12,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":8}}}'
ERROR = b'{"error":{"message":"overloaded","type":"server_error"}}'
DONE = b"[DONE]"

STREAMS: dict[str, tuple[list[bytes], Ending]] = {
    "nothing": ([], Ending()),
    "cut after a word": ([WORD], Ending()),
    "done": ([WORD, DONE], Ending(complete=True)),
    "finished": ([WORD, STOP], Ending(complete=True, finish="stop")),
    "finished and done": ([WORD, STOP, DONE], Ending(complete=True, finish="stop")),
    "with usage": ([STOP, USED, DONE], Ending(complete=True, finish="stop", usage=Usage(12, 3, 0))),
    "with cached tokens": ([CACHED, DONE], Ending(complete=True, usage=Usage(12, 3, 8))),
    "the last usage counts": ([CACHED, USED, WORD, DONE], Ending(complete=True, usage=Usage(12, 3, 0))),
    "usage in every chunk": (
        [USED, b'{"choices":[{"finish_reason":"length"}],"usage":{"prompt_tokens":12,"completion_tokens":4}}'],
        Ending(complete=True, finish="length", usage=Usage(12, 4)),
    ),
    "several choices": (
        [b'{"choices":[{"finish_reason":null},{"finish_reason":"tool_calls"}]}'],
        Ending(complete=True, finish="tool_calls"),
    ),
    "an error frame": ([WORD, ERROR], Ending(error=True)),
    "an error frame, then done": ([ERROR, DONE], Ending(error=True)),
    "an error frame, then more": ([ERROR, STOP], Ending(error=True, finish="stop")),
    "an error as text": ([b'{"error":"overloaded"}'], Ending(error=True)),
    "no error, said so": (
        [b'{"error":null,"choices":[{"finish_reason":"stop"}]}'], Ending(complete=True, finish="stop")
    ),
    "not JSON": ([b"hello", b"", b"{", b"\xff", STOP], Ending(complete=True, finish="stop")),
    "not a chunk": ([b"[]", b"1", b'{"choices":5}', b'{"usage":{"prompt_tokens":null}}', DONE], Ending(complete=True)),
    "too deep": ([b"[" * 200_000, b'{"error":' + b"[" * 200_000, DONE], Ending(complete=True)),
    "less than no tokens": (
        [b'{"usage":{"prompt_tokens":-5,"completion_tokens":-1,"prompt_tokens_details":{"cached_tokens":-2}}}', DONE],
        Ending(complete=True, usage=Usage(0, 0, 0)),
    ),
}


@pytest.mark.parametrize(("frames", "expected"), STREAMS.values(), ids=STREAMS)
def test_the_ending_of_a_stream(frames: list[bytes], expected: Ending) -> None:
    """Complete iff it said so or why it finished, and did not say that it failed."""
    assert expected == openai.ending_of_stream(Event(b"", frame) for frame in frames)


BODIES: dict[str, tuple[bytes, Ending]] = {
    "a completion": (
        b'{"choices":[{"message":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2}}',
        Ending(complete=True, finish="stop", usage=Usage(5, 2)),
    ),
    "cached tokens": (CACHED, Ending(complete=True, usage=Usage(12, 3, 8))),
    "details without them": (
        b'{"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"audio_tokens":0}}}',
        Ending(complete=True, usage=Usage(5, 2)),
    ),
    "null details": (
        b'{"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":null}}}',
        Ending(complete=True, usage=Usage(5, 2)),
    ),
    "no usage": (STOP, Ending(complete=True, finish="stop")),
    "an error": (ERROR, Ending(complete=True)),
    "not JSON": (b"<html>", Ending(complete=True)),
    "empty": (b"", Ending(complete=True)),
}


@pytest.mark.parametrize(("body", "expected"), BODIES.values(), ids=BODIES)
def test_the_ending_of_a_body(body: bytes, expected: Ending) -> None:
    """A whole body is complete; what cannot be read is the caller's all the same."""
    assert expected == openai.ending_of_body(body)


SAID: list[tuple[bytes, str | None]] = [
    (b'{"error":{"message":"overloaded","type":"server_error"}}', "overloaded"),
    (b'{"error":{"message":"' + b"x" * 600 + b'"}}', "x" * 500),
    (b'{"error":"overloaded"}', "overloaded"),
    (b'{"error":{}}', "an error without a message"),
    (b'{"error":{"message":5}}', "an error without a message"),
    (b'{"error":[1]}', "an error without a message"),
    (b'{"error":null}', None),
    (b'{"choices":[]}', None),
    (b'{"choices":[{"delta":{"content":"\\"error\\""}}]}', None),
    (b'"error"', None),
    (b"<html>", None),
    (b"", None),
]


@pytest.mark.parametrize(("body", "expected"), SAID)
def test_what_an_error_says(body: bytes, expected: str | None) -> None:
    """The message of an error object, in a body and in the first frame of a stream; None where there is none."""
    assert expected == openai.error_of_body(body)
    assert expected == openai.error_of_first(b"data: " + body + b"\n\n")
    assert expected == openai.error_of_first(b": ping\n\ndata: " + body + b"\n\ndata: {}\n\n")


@pytest.mark.parametrize("first", [b"data: " + ERROR, b"data: " + ERROR + b"\n", ERROR, b"\xff" + ERROR, b'x"error"'])
def test_half_an_error_frame_is_none_yet(first: bytes) -> None:
    """Only a whole event is read; what follows the first is not looked at."""
    assert openai.error_of_first(first) is None
    assert openai.error_of_first(b"data: " + WORD + b"\n\ndata: " + ERROR + b"\n\n") is None


@STEADY
@given(frames=st.lists(st.binary(max_size=30) | st.sampled_from([WORD, STOP, USED, ERROR, DONE]), max_size=6))
def test_any_answer_has_an_ending(frames: list[bytes]) -> None:
    """No bytes of an upstream raise."""
    ending = openai.ending_of_stream(Event(b"", frame) for frame in frames)
    whole = b"".join(frames)

    assert openai.ending_of_body(whole).complete
    assert isinstance(openai.error_of_body(whole), str | None)
    assert isinstance(openai.error_of_first(b"data: " + b"\n\n".join(frames)), str | None)
    assert ending.complete <= (DONE in frames or ending.finish is not None)


ERRORS: list[tuple[GatewayError, dict[str, object]]] = [
    (BadRequest("bad", param="messages[0]"),
     {"message": "bad", "type": "invalid_request_error", "param": "messages[0]", "code": None}),
    (NotFound("no such"),
     {"message": "no such", "type": "invalid_request_error", "param": None, "code": "model_not_found"}),
    (TimedOut("slow"), {"message": "slow", "type": "upstream_error", "param": None, "code": "upstream_timeout"}),
    (Refused("later", 429),
     {"message": "later", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}),
]


@pytest.mark.parametrize(("error", "expected"), ERRORS)
def test_an_error_has_openais_form(error: GatewayError, expected: dict[str, object]) -> None:
    """Message, type, param and code, always all four, and the request id."""
    assert {"error": {**expected, "request_id": "r-1"}} == orjson.loads(openai.error_body(error, "r-1", []))


def test_attempts_are_listed_under_the_request_id() -> None:
    """Where calls were made, the error has them."""
    attempts: list[dict[str, object]] = [{"model": "small", "status": 500, "error": "boom"}]
    body = orjson.loads(openai.error_body(TimedOut("slow"), "r-1", attempts))

    assert attempts == body["error"]["attempts"]


@pytest.mark.parametrize(
    ("before", "mid_event", "events"),
    [(b"data: a\n\n", False, 2), (b"data: a\n\ndata: b", True, 3), (b"data: a\n\ndata: b\n", True, 3), (b"", False, 1)],
)
def test_an_error_event_stands_by_itself(before: bytes, events: int, *, mid_event: bool) -> None:
    """A stream is ended by a frame that a client can read, even one that was cut inside an event."""
    error = TimedOut("slow")
    frame = openai.error_event(error, "r-1", mid_event=mid_event)
    read = Parser().feed(before + frame)

    assert events == len(read)
    assert openai.error_body(error, "r-1", []) == read[-1].data
    assert frame.startswith(b"\n\n") is mid_event
