"""OpenAI's Chat Completions wire format as bytes: whole completions, stream chunks, errors. Pure.

Names, order of the keys and nulls are those of the provider (API version 2020-10-01 as served in 2026), because a
gateway that reads only what this mock happens to send would break on the real one. Left out: `obfuscation` (random
padding, off with `stream_options.include_obfuscation: false`) and audio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from loadtest.answers import Answer, ToolCall, seeded

DONE = b"data: [DONE]\n\n"
GARBAGE = b'data: {"id":"chatcmpl-\x00 this is not JSON\n\n'
BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)


@dataclass(frozen=True, slots=True)
class Head:
    """What all the objects of one completion share."""

    id: str
    created: int  # Unix seconds
    model: str  # as the caller wrote it
    fingerprint: str = "fp_3a1f60c4de"
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0  # counted in `completion`

    def as_json(self) -> dict[str, object]:
        """OpenAI's usage object."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


def event(value: object) -> bytes:
    """One server-sent event with a JSON value."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def completion(head: Head, answers: Sequence[Answer], usage: Usage) -> bytes:
    """The body of a non-streamed answer."""
    return orjson.dumps(
        {
            "id": head.id,
            "object": "chat.completion",
            "created": head.created,
            "model": head.model,
            "choices": [_choice(head, index, answer) for index, answer in enumerate(answers)],
            "usage": usage.as_json(),
            "service_tier": "default",
            "system_fingerprint": head.fingerprint,
        }
    )


def stream(head: Head, answers: Sequence[Answer], usage: Usage | None) -> list[bytes]:
    """All events of a streamed answer, `[DONE]` included; `usage` adds the last chunk and the nulls before it."""
    tail: dict[str, object] = {} if usage is None else {"usage": None}
    frames = [_chunk(head, choice, tail) for choice in _interleaved(head, answers)]
    frames += [_chunk(head, _delta(index, {}, finish=answer.finish), tail) for index, answer in enumerate(answers)]
    if usage is not None:
        frames.append(_chunk(head, None, {"usage": usage.as_json()}))
    frames.append(DONE)
    return frames


def error(status: int, message: str = "", *, param: str | None = None, code: str | None = None) -> bytes:
    """The body of a refusal: OpenAI's error object (the 502 is the proxy's in front of it: HTML)."""
    if status == 502:
        return BAD_GATEWAY
    kind, default_code, default_message = _ERRORS.get(status, _ERRORS[500])
    return orjson.dumps(
        {
            "error": {
                "message": message or default_message,
                "type": kind,
                "param": param,
                "code": code or default_code,
            }
        }
    )


def error_frame() -> bytes:
    """What OpenAI sends inside a stream whose generation failed."""
    return b"data: " + error(500) + b"\n\n"


_ERRORS: Mapping[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "Your request was malformed."),
    401: (
        "invalid_request_error",
        "invalid_api_key",
        "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
    ),
    403: (
        "invalid_request_error",
        "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    404: (
        "invalid_request_error",
        "model_not_found",
        "The model does not exist or you do not have access to it.",
    ),
    413: ("invalid_request_error", None, "Request body too large. Your request has exceeded the maximum size."),
    429: (
        "requests",
        "rate_limit_exceeded",
        "Rate limit reached on requests per min (RPM): Limit 500, Used 500, Requested 1. Please try again later.",
    ),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
    529: ("overloaded_error", None, "Overloaded"),
}


def _chunk(head: Head, choice: object | None, tail: Mapping[str, object]) -> bytes:
    return event(
        {
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
            "service_tier": "default",
            "system_fingerprint": head.fingerprint,
            "choices": [] if choice is None else [choice],
            **tail,
        }
    )


def _delta(index: int, delta: object, logprobs: object = None, finish: str | None = None) -> dict[str, object]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _interleaved(head: Head, answers: Sequence[Answer]) -> Iterator[dict[str, object]]:
    """The chunks of all choices, token by token, in turn."""
    choices = [list(_chunks(head, index, answer)) for index, answer in enumerate(answers)]
    for at in range(max(map(len, choices), default=0)):
        yield from (chunks[at] for chunks in choices if at < len(chunks))


def _chunks(head: Head, index: int, answer: Answer) -> Iterator[dict[str, object]]:
    """A choice: the role, which brings the call's id and name where nothing is said before it; then a token a chunk."""
    role: dict[str, object] = {"role": "assistant", "content": "", "refusal": None}
    at_once = bool(answer.calls) and not answer.pieces and not answer.thoughts
    if at_once:
        first = _call(head, index, 0, answer.calls[0])
        role = {"role": "assistant", "content": None, "tool_calls": [first], "refusal": None}
    yield _delta(index, role)
    for piece in answer.thoughts:
        yield _delta(index, {"reasoning_content": piece})
    for piece in answer.pieces:
        yield _delta(index, {"content": piece}, _logprobs(head, [piece]))
    for place, call in enumerate(answer.calls):
        if place or not at_once:
            yield _delta(index, {"tool_calls": [_call(head, index, place, call)]})
        for piece in call.pieces:
            yield _delta(index, {"tool_calls": [{"index": place, "function": {"arguments": piece}}]})


def _call(head: Head, index: int, place: int, call: ToolCall, *, whole: bool = False) -> dict[str, object]:
    """A tool call, whole or as the stream opens it. Its id is distinct, and the same in every run."""
    unique = f"call_{seeded(head.id, index, place).getrandbits(96):024x}"
    function = {"name": call.name, "arguments": call.arguments if whole else ""}
    place_of_it = {} if whole else {"index": place}
    return {**place_of_it, "id": unique, "type": "function", "function": function}


def _choice(head: Head, index: int, answer: Answer) -> dict[str, object]:
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if answer.calls and not answer.pieces else answer.text,
        "refusal": None,
        "annotations": [],
    }
    if answer.thoughts:
        message["reasoning_content"] = "".join(answer.thoughts)
    if answer.calls:
        message["tool_calls"] = [_call(head, index, place, call, whole=True) for place, call in enumerate(answer.calls)]
    logprobs = None if answer.calls else _logprobs(head, answer.pieces)
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": answer.finish}


def _logprobs(head: Head, pieces: Sequence[str]) -> object:
    """Made-up but repeatable confidence, where the caller asked for it."""
    if not head.logprobs:
        return None
    tokens = [
        {
            "token": piece,
            "logprob": -0.01 * (len(piece) + sum(piece.encode()) % 40),
            "bytes": list(piece.encode()),
            "top_logprobs": [],
        }
        for piece in pieces
    ]
    return {"content": tokens, "refusal": None}
