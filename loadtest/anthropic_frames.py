"""Anthropic's Messages wire format as bytes: whole messages, stream events, errors. Pure.

Names and order of the keys are those of the API (version 2026-10-21 as the SDK 2.14 types it). Left out: citations,
server tools and containers, and the spaces with which the API pads its events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

from loadtest.answers import Answer, seeded
from loadtest.frames import BAD_GATEWAY
from loadtest.signatures import sign

_Value = dict[str, object]
GARBAGE = b'event: content_block_delta\ndata: {"type":"content_block_delta","in\x00 this is not JSON\n\n'


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call; `input` is what neither came from the cache nor went to it."""

    input: int
    output: int
    read: int = 0
    stored_5m: int = 0
    stored_1h: int = 0
    thinking: int = 0  # counted in `output`

    def as_json(self, output: int | None = None) -> _Value:
        """The usage object of a message; `output` stands for what is said so far."""
        usage: _Value = {
            "input_tokens": self.input,
            "cache_creation_input_tokens": self.stored_5m + self.stored_1h,
            "cache_read_input_tokens": self.read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.stored_5m,
                "ephemeral_1h_input_tokens": self.stored_1h,
            },
            "output_tokens": self.output if output is None else output,
            "service_tier": "standard",
        }
        return usage | (self._thinking() if output is None else {})

    def as_delta(self) -> _Value:
        """The usage object of `message_delta`: totals, not differences."""
        return {
            "input_tokens": self.input,
            "cache_creation_input_tokens": self.stored_5m + self.stored_1h,
            "cache_read_input_tokens": self.read,
            "output_tokens": self.output,
            **self._thinking(),
        }

    def _thinking(self) -> _Value:
        return {"output_tokens_details": {"thinking_tokens": self.thinking}} if self.thinking else {}


@dataclass(frozen=True, slots=True)
class Head:
    """What the message says of itself."""

    id: str
    model: str  # as the caller wrote it
    hidden: bool = False  # thoughts are signed but not shown (`display: omitted`)


def event(value: Mapping[str, object]) -> bytes:
    """One server-sent event; its name is the value's type."""
    return b"event: %s\ndata: %s\n\n" % (str(value["type"]).encode(), orjson.dumps(value))


def message(head: Head, answer: Answer, usage: Usage) -> bytes:
    """The body of a non-streamed answer."""
    content = [block for block, _, _ in _grown(head, answer)]
    return orjson.dumps(_message(head, usage.as_json(), content, _ending(answer)))


def stream(head: Head, answer: Answer, usage: Usage) -> list[bytes]:
    """All events of a streamed answer, `message_stop` included."""
    nothing: _Value = {"stop_reason": None, "stop_sequence": None}
    frames = [event({"type": "message_start", "message": _message(head, usage.as_json(1), [], nothing)})]
    for index, (block, empty, deltas) in enumerate(_grown(head, answer)):
        frames.append(event({"type": "content_block_start", "index": index, "content_block": {**block, **empty}}))
        if not index:
            frames.append(event({"type": "ping"}))
        frames += [event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas]
        frames.append(event({"type": "content_block_stop", "index": index}))
    frames.append(event({"type": "message_delta", "delta": _ending(answer), "usage": usage.as_delta()}))
    frames.append(event({"type": "message_stop"}))
    return frames


def error(status: int, text: str = "", request_id: str = "") -> bytes:
    """The body of a refusal: Anthropic's error object (the 502 is the proxy's in front of it: HTML)."""
    if status == 502:
        return BAD_GATEWAY
    kind, usual = _ERRORS.get(status, _ERRORS[500])
    body: _Value = {"type": "error", "error": {"type": kind, "message": text or usual}}
    return orjson.dumps(body | ({"request_id": request_id} if request_id else {}))


def error_frame() -> bytes:
    """What Anthropic sends inside a stream that it cannot go on with."""
    return b"event: error\ndata: " + error(529) + b"\n\n"


_ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request_error", "Your request was malformed."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the Anthropic API."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not Found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit of 50 requests per minute."),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service Unavailable"),
    504: ("timeout_error", "Request timed out"),
    529: ("overloaded_error", "Overloaded"),
}
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def _message(head: Head, usage: _Value, content: list[_Value], ending: _Value) -> _Value:
    return {
        "model": head.model,
        "id": head.id,
        "type": "message",
        "role": "assistant",
        "content": content,
        **ending,
        "usage": usage,
    }


def _ending(answer: Answer) -> _Value:
    """Why it ended, and by which of the caller's texts."""
    reason = "stop_sequence" if answer.stopped_by else _REASONS[answer.finish]
    return {"stop_reason": reason, "stop_sequence": answer.stopped_by or None}


def _grown(head: Head, answer: Answer) -> Iterator[tuple[_Value, _Value, list[_Value]]]:
    """Each block of the content: whole, what it opens with instead, and how it grows."""
    if answer.thoughts:
        thoughts = [] if head.hidden else answer.thoughts
        block: _Value = {"type": "thinking", "thinking": "".join(thoughts), "signature": sign("".join(thoughts))}
        deltas: list[_Value] = [{"type": "thinking_delta", "thinking": piece} for piece in thoughts]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        yield block, {"thinking": "", "signature": ""}, deltas
    if answer.pieces:
        deltas = [{"type": "text_delta", "text": piece} for piece in answer.pieces]
        yield {"type": "text", "text": answer.text}, {"text": ""}, deltas
    for at, call in enumerate(answer.calls):
        unique = f"toolu_01{seeded(head.id, at).getrandbits(88):022x}"
        block = {"type": "tool_use", "id": unique, "name": call.name, "input": _input(call.arguments)}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *call.pieces)]
        yield block, {"input": {}}, deltas


def _input(arguments: str) -> object:
    """The arguments as a value. Cut short by `max_tokens` they are no JSON, and nothing of them is given."""
    try:
        return orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {}
