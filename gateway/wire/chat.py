"""What the path looks at in an OpenAI Chat Completions request."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors import BadRequest
from gateway.wire.counting import asks
from gateway.wire.request import ChatRequest, Message, Tokens, read, several, wishes


class _Body(msgspec.Struct, frozen=True):
    """The fields of a chat completion request that decide something."""

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: Any = None
    tools: list[dict[str, Any]] | None = None
    functions: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    n: Any = None


_body = msgspec.json.Decoder(_Body)


def decode(raw: bytes, headers: Mapping[str, str]) -> ChatRequest:
    """Return the request, or raise BadRequest with the field that is wrong and what was expected."""
    body = read(_body, raw)
    if not body.messages:
        raise BadRequest("`messages` is empty: send at least one message.", param="messages")
    return ChatRequest(
        raw=raw,
        surface="openai",
        model=body.model,
        messages=body.messages,
        stream=bool(body.stream),
        counted=not body.stream or asks(body.stream_options),
        tools=len(body.tools or ()) + len(body.functions or ()),
        images=sum(message.images() for message in body.messages),
        structured=(body.response_format or {}).get("type") == "json_schema",
        max_output=body.max_completion_tokens or body.max_tokens or 0,
        text_bytes=len(raw) - sum(message.attached_bytes() for message in body.messages),
        answers=several(body.n),
        **wishes(headers),
    )
