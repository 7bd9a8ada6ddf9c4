"""OpenAI's Chat Completions wire format as bytes: whole completions, stream chunks, errors. Pure.

Names, order of the keys and nulls are those of the provider (API version 2020-10-01 as served in 2026), because a
gateway that reads only what this mock happens to send would break on the real one. Left out: `obfuscation` (random
padding, off with `stream_options.include_obfuscation: false`) and audio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from loadtest.answers import Answer

DONE = b"data: [DONE]\n\n"
GARBAGE = b'data: {"id":"chatcmpl-\x00 this is not JSON\n\n'
COMMENT = b": keep-alive\n\n"


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
    frames = [_chunk(head, _opening(index, answer), tail) for index, answer in enumerate(answers)]
    frames += [_chunk(head, choice, tail) for choice in _interleaved(head, answers)]
    frames += [_chunk(head, _delta(index, {}, finish=answer.finish), tail) for index, answer in enumerate(answers)]
    if usage is not None:
        frames.append(_chunk(head, None, {"usage": usage.as_json()}))
    frames.append(DONE)
    return frames


def error(status: int, message: str = "", *, param: str | None = None, code: str | None = None) -> bytes:
    """The body of a refusal: OpenAI's error object (the 502 is the proxy's in front of it: HTML)."""
    if status == 502:
        return _BAD_GATEWAY
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


_BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)
_ERRORS: Mapping[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "Your request was malformed."),
    401: (
        "invalid_request_error",
        "invalid_api_key",
        "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
    ),
    404: (
        "invalid_request_error",
        "model_not_found",
        "The model does not exist or you do not have access to it.",
    ),
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


def _opening(index: int, answer: Answer) -> dict[str, object]:
    """The first chunk of a choice: the role, and for a tool call its id and name."""
    if not answer.tool:
        return _delta(index, {"role": "assistant", "content": "", "refusal": None})
    call = {"index": 0, "id": "call_Mock0000000000000000001", "type": "function"}
    call["function"] = {"name": answer.tool, "arguments": ""}
    return _delta(index, {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None})


def _interleaved(head: Head, answers: Sequence[Answer]) -> Iterator[dict[str, object]]:
    """Token by token, the choices in turn."""
    for at in range(max((len(answer.pieces) for answer in answers), default=0)):
        for index, answer in enumerate(answers):
            if at >= len(answer.pieces):
                continue
            piece = answer.pieces[at]
            if answer.tool:
                yield _delta(index, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
            else:
                yield _delta(index, {"content": piece}, _logprobs(head, [piece]))


def _choice(head: Head, index: int, answer: Answer) -> dict[str, object]:
    message: dict[str, object] = {
        "role": "assistant",
        "content": answer.text,
        "refusal": None,
        "annotations": [],
    }
    if answer.tool:
        message["content"] = None
        function = {"name": answer.tool, "arguments": answer.text}
        message["tool_calls"] = [{"id": "call_Mock0000000000000000001", "type": "function", "function": function}]
    logprobs = None if answer.tool else _logprobs(head, answer.pieces)
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
