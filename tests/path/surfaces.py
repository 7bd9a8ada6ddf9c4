"""The four surfaces as a caller sees them: how each asks, and where each finds what an error says."""

from typing import Any

import orjson

from loadtest.mock_upstream import MockUpstream
from tests.conftest import COMPLETIONS, Reply

SURFACES = ("openai", "responses", "anthropic", "gemini")
OPENAIS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "invalid_request_error",
    429: "rate_limit_error", 502: "upstream_error", 503: "upstream_error",
}
KINDS = {       # what an error is called, by status
    "openai": OPENAIS,
    "responses": OPENAIS,
    "anthropic": {
        400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
        429: "rate_limit_error", 502: "api_error", 503: "overloaded_error",
    },
    "gemini": {
        400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE",
    },
}


def three(mock: MockUpstream, *, more: str = "", ladder: str = "of-openai, of-anthropic, of-gemini", **at: str) -> str:
    """Return a configuration with a model of each dialect, all at `mock` but those whose dialect `at` has."""
    urls = dict.fromkeys(("openai", "anthropic", "gemini"), mock.base_url) | at
    upstreams = "".join(f'  {name}: {{dialect: {name}, base_url: "{url}", key: sk-{name}}}\n'
                        for name, url in urls.items())
    models = "".join(f"  of-{name}: {{upstream: {name}, name: mock-cheap, price: {{input: 1, output: 2}}}}\n"
                     for name in urls)
    routes = f"routes: {{auto: {{ladder: [{ladder}], threshold: 0}}}}\nclassifier: {{deadline_ms: 5000}}\n"
    return f"upstreams:\n{upstreams}models:\n{models}{routes}{more}\n"


def asked(surface: str, model: str = "auto", *, stream: bool = False, **more: Any) -> tuple[str, bytes]:
    """Return the path and the body of a request."""
    said = [{"role": "user", "content": "hi"}]
    streams = {"stream": True} if stream else {}
    if surface == "gemini":
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], **more}
        return f"/v1beta/models/{model}:{verb}", orjson.dumps(body)
    if surface == "responses":
        return "/v1/responses", orjson.dumps({"model": model, "input": "hi", **streams, **more})
    if surface == "anthropic":
        return "/v1/messages", orjson.dumps({"model": model, "max_tokens": 99, "messages": said, **streams, **more})
    return COMPLETIONS, orjson.dumps({"model": model, "messages": said, **streams, **more})


def error_of(surface: str, reply: Reply) -> tuple[str, str, str | None]:
    """Return an error's kind, message and request id from where the surface has them."""
    body = reply.json
    error = body["error"]
    if surface == "anthropic":
        assert body["type"] == "error"
        return error["type"], error["message"], body.get("request_id")
    if surface == "gemini":
        assert error["code"] == reply.status
        details = [detail.get("metadata", {}) for detail in error.get("details", [])]
        return error["status"], error["message"], next((each.get("request_id") for each in details), None)
    assert {"message", "type", "param", "code"} <= set(error)
    return error["type"], error["message"], error.get("request_id")


def _frames(*said: dict[str, Any]) -> list[bytes]:
    return [
        (b"event: %b\n" % each["type"].encode() if "type" in each else b"") + b"data: " + orjson.dumps(each) + b"\n\n"
        for each in said
    ]


def _message(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


# How each provider's stream begins, says "Two " and "birds", and ends: 9 tokens of prompt, 4 of answer.
BEGIN = {
    "openai": _frames(
        {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Two "}}]},
        {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"content": "birds"}}]},
    ),
    "anthropic": _frames(
        _message("message_start", message={
            "id": "x", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
            "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1},
        }),
        _message("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        _message("content_block_delta", index=0, delta={"type": "text_delta", "text": "Two "}),
        _message("content_block_delta", index=0, delta={"type": "text_delta", "text": "birds"}),
    ),
    "gemini": _frames(
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "Two "}]}}], "responseId": "x"},
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "birds"}]}}], "responseId": "x"},
    ),
}
FINISH = {
    "openai": [
        *_frames({"id": "x", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                 {"id": "x", "model": "m", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}),
        b"data: [DONE]\n\n",
    ],
    "anthropic": _frames(
        _message("content_block_stop", index=0),
        _message("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 4}),
        _message("message_stop"),
    ),
    "gemini": _frames({
        "candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4}, "responseId": "x",
    }),
}
BOOM = {
    "openai": b'data: {"error":{"message":"boom","type":"server_error","code":null}}\n\n',
    "anthropic": b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"boom"}}\n\n',
    "gemini": b'data: {"error":{"code":503,"message":"boom","status":"UNAVAILABLE"}}\n\n',
}
PAIRS = [(surface, provider) for surface in SURFACES for provider in BEGIN if surface != provider]


def error_in(surface: str, body: bytes) -> tuple[str | None, str]:
    """Return the name and the message of the error event that a stream ends with."""
    assert body.endswith(b"\n\n")
    *named, data = body.removesuffix(b"\n\n").rpartition(b"\n\n")[2].splitlines()
    said = orjson.loads(data.removeprefix(b"data: "))
    name = named[0].removeprefix(b"event: ").decode() if named else None

    assert surface not in {"anthropic", "responses"} or said["type"] == "error"
    return name, said["error"]["message"]
