"""What came is read as each surface's SDK would, and nothing that is no end is taken for one."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from loadtest import reception
from loadtest.reception import SURFACES, Seen


def event(said: Mapping[str, Any]) -> bytes:
    """A server-sent event; those that have a type are named."""
    named = b"event: %b\n" % said["type"].encode() if "type" in said else b""
    return named + b"data: " + orjson.dumps(said) + b"\n\n"


def gemini(text: str, **more: str) -> dict[str, Any]:
    """An answer of Gemini's, or a piece of one."""
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, **more}]}


STREAMS = {
    "openai": [
        event({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}),
        event({"choices": [{"delta": {"content": "Two "}, "finish_reason": None}]}),
        event({"choices": [{"delta": {"content": "birds"}, "finish_reason": None}]}),
        event({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
        event({"choices": [], "usage": {"prompt_tokens": 1}}),
        b"data: [DONE]\n\n",
    ],
    "responses": [
        event({"type": "response.created", "response": {"status": "in_progress", "error": None}}),
        event({"type": "response.output_text.delta", "delta": "Two "}),
        event({"type": "response.output_text.delta", "delta": "birds"}),
        event({"type": "response.output_text.done", "text": "Two birds"}),
        event({"type": "response.completed", "response": {"status": "completed", "error": None}}),
    ],
    "anthropic": [
        event({"type": "message_start", "message": {"content": []}}),
        event({"type": "content_block_start", "content_block": {"type": "text", "text": ""}}),
        event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Two "}}),
        event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "birds"}}),
        event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
        event({"type": "message_stop"}),
    ],
    "gemini": [event(gemini("Two ")), event(gemini("birds")), event(gemini("", finishReason="STOP"))],
}
BODIES: dict[str, dict[str, Any]] = {
    "openai": {"choices": [{"message": {"content": "Two birds"}, "finish_reason": "stop"}]},
    "responses": {"output": [{"content": [{"text": "Two birds"}]}], "status": "completed", "error": None},
    "anthropic": {"content": [{"type": "text", "text": "Two birds"}], "stop_reason": "end_turn"},
    "gemini": gemini("Two birds", finishReason="STOP"),
}
ERRORS: dict[str, dict[str, Any]] = {
    "openai": {"error": {"message": "boom"}},
    "responses": {"type": "error", "message": "boom"},
    "anthropic": {"type": "error", "error": {"message": "boom"}},
    "gemini": {"error": {"code": 503, "message": "boom"}},
}


def seen(surface: str, *pieces: bytes, stream: bool = True, status: int = 200) -> Seen:
    """What a client sees to whom these pieces come, a second apart."""
    one = Seen(1, surface, stream, "p", status=status)
    reception.read(one, list(enumerate(pieces, 1)))
    return one


@pytest.mark.parametrize("surface", SURFACES)
def test_a_stream_is_read(surface: str) -> None:
    """Text, its first moment, and an end in the surface's own words."""
    one = seen(surface, *STREAMS[surface])
    first = next(at for at, piece in enumerate(STREAMS[surface], 1) if b"Two " in piece)

    assert (one.text, one.first_text, one.finished) == ("Two birds", first, True)
    assert (one.error, one.unreadable) == ("", 0)


@pytest.mark.parametrize("surface", SURFACES)
def test_it_does_not_matter_where_a_stream_is_cut(surface: str) -> None:
    """Byte by byte, with comments in between, and with the line ends of HTTP."""
    whole = b": waiting\n\n".join(STREAMS[surface])
    bytewise = seen(surface, *(whole[at : at + 1] for at in range(len(whole))))

    assert (bytewise.text, bytewise.finished, bytewise.unreadable) == ("Two birds", True, 0)


@pytest.mark.parametrize("surface", SURFACES)
def test_a_stream_without_its_last_events_is_not_finished(surface: str) -> None:
    """Whatever was said before. A `[DONE]` or a count of tokens behind OpenAI's finish is no loss."""
    one = seen(surface, *STREAMS[surface][: -3 if surface == "openai" else -1])

    assert one.text == "Two birds"
    assert not one.finished
    assert seen("openai", *STREAMS["openai"][:-2]).finished


@pytest.mark.parametrize("surface", SURFACES)
def test_a_stream_that_breaks_says_so(surface: str) -> None:
    """The error's words, and no end."""
    one = seen(surface, *STREAMS[surface][:2], event(ERRORS[surface]))

    assert one.error == "boom"
    assert not one.finished


def test_a_failed_response_is_an_error() -> None:
    """OpenAI's other surface has an event of its own for it."""
    failed = {"type": "response.failed", "response": {"status": "failed", "error": {"message": "boom"}}}
    silent = {"type": "response.incomplete", "response": {"status": "incomplete"}}

    assert seen("responses", event(failed)).error == "boom"
    assert seen("responses", event(silent)).error == "an error without words"


@pytest.mark.parametrize("surface", SURFACES)
def test_an_event_that_is_no_json_is_counted(surface: str) -> None:
    """The stream around it is read all the same."""
    one = seen(surface, *STREAMS[surface][:2], b"data: {not JSON\n\n", *STREAMS[surface][2:], b"data: half of o")

    assert (one.text, one.finished, one.unreadable) == ("Two birds", True, 2)


@pytest.mark.parametrize("surface", SURFACES)
def test_a_whole_answer_is_read(surface: str) -> None:
    """Text and end."""
    one = seen(surface, orjson.dumps(BODIES[surface]), stream=False)

    assert (one.text, one.finished, one.error, one.unreadable) == ("Two birds", True, "", 0)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("stream", [True, False])
def test_an_error_status_is_read(surface: str, *, stream: bool) -> None:
    """What it says; a body that says nothing is counted."""
    refused = seen(surface, orjson.dumps(ERRORS[surface]), stream=stream, status=503)
    mute = seen(surface, b"{}", stream=stream, status=503)

    assert (refused.error, refused.unreadable, refused.text) == ("boom", 0, "")
    assert (mute.error, mute.unreadable) == ("", 1)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"choices":[{"mess', b"[]", b'{"choices":[]}'])
def test_a_whole_answer_that_is_none_is_counted(body: bytes) -> None:
    """Half of one, another page, nothing."""
    assert seen("openai", body, stream=False).unreadable == 1


@pytest.mark.parametrize("surface", SURFACES)
def test_each_surface_is_asked_in_its_own_words(surface: str) -> None:
    """The prompt is in it, and a stream is asked for where one is wanted."""
    path, body = reception.asked(surface, "hello", stream=False)
    stream_path, stream_body = reception.asked(surface, "hello", stream=True)

    assert b"hello" in body
    assert (path, body) != (stream_path, stream_body)
    assert ("stream" in stream_path) or orjson.loads(stream_body)["stream"]
