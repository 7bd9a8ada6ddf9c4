"""OpenAI's Chat Completions: what an answer's end says, and how an error is worded. Pure.

Same dialect on both sides, so nothing is translated: the relay passes the bytes and asks here what they amounted to.
Wire format: platform.openai.com/docs/api-reference/chat (streaming; error objects), read 2026-11.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import orjson

from gateway.errors import GatewayError
from gateway.pricing import Usage
from gateway.sse import Event, Parser

DONE = b"[DONE]"
MOST_TOKENS = 2**40


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    """A chunk of a stream or a whole completion, as far as accounting looks at it."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_chunk = msgspec.json.Decoder(_Chunk)


class Ending(msgspec.Struct, frozen=True):
    """What the end of an answer says: complete or not, why it stopped, what it used."""

    complete: bool = False
    finish: str | None = None
    usage: Usage | None = None
    error: bool = False        # the upstream itself ended the stream with an error frame


def ending_of_stream(events: Iterable[Event]) -> Ending:
    """Read the last events of a stream. It is complete if it said `[DONE]` or why it finished."""
    done = error = False
    finish: str | None = None
    usage: Usage | None = None
    for event in events:
        if event.data == DONE:
            done = True
            continue
        chunk = _read(event.data)
        if chunk is None:
            continue
        error = error or chunk.error is not None
        finish = next((c.finish_reason for c in chunk.choices if c.finish_reason), finish)
        usage = _usage(chunk.usage) or usage
    return Ending(complete=(done or finish is not None) and not error, finish=finish, usage=usage, error=error)


def error_of_first(chunk: bytes) -> str | None:
    """Return the message of an answer that begins with an error frame, None for one that begins well."""
    if b'"error"' not in chunk[:256]:
        return None
    first = next(iter(Parser().feed(chunk)), None)
    said = _read(first.data) if first else None
    return None if said is None or said.error is None else _message(said.error)


def error_of_body(body: bytes) -> str | None:
    """Return the message of an error object, None where the body is none."""
    said = _read(body) if b'"error"' in body[:256] else None
    return None if said is None or said.error is None else _message(said.error)


def _message(error: Any) -> str:
    said = error.get("message") if isinstance(error, dict) else error
    return said[:500] if isinstance(said, str) else "an error without a message"


def ending_of_body(body: bytes) -> Ending:
    """Read a whole completion."""
    chunk = _read(body)
    if chunk is None:
        return Ending(complete=True)     # not ours to judge: the caller gets the bytes as they are
    finish = next((c.finish_reason for c in chunk.choices if c.finish_reason), None)
    return Ending(complete=True, finish=finish, usage=_usage(chunk.usage))


def error_body(error: GatewayError, request_id: str, attempts: list[dict[str, object]]) -> bytes:
    """Return the error object of this dialect, with the calls that were made listed under the request id."""
    detail: dict[str, object] = {
        "message": error.message, "type": error.kind, "param": error.param, "code": error.code, "request_id": request_id
    }
    if attempts:
        detail["attempts"] = attempts
    return orjson.dumps({"error": detail})


def error_event(error: GatewayError, request_id: str, *, mid_event: bool) -> bytes:
    """Return the frame that ends a broken stream honestly; one cut inside an event is closed first."""
    return (b"\n\n" if mid_event else b"") + b"data: " + error_body(error, request_id, []) + b"\n\n"


def _read(data: bytes) -> _Chunk | None:
    try:
        return _chunk.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    return Usage(_count(usage.prompt_tokens), _count(usage.completion_tokens), _count(cached or 0))


def _count(tokens: int) -> int:
    """Return a number of tokens that can be one: less than none would make money of an answer, 10^400 breaks a sum."""
    return min(max(tokens, 0), MOST_TOKENS)
