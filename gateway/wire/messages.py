"""What the path looks at in an Anthropic Messages request."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gateway.errors import BadRequest
from gateway.wire.request import (
    ChatRequest,
    Message,
    Part,
    Tokens,
    long_texts,
    read,
    texts,
    wishes,
)

PASSED = ("anthropic-version", "anthropic-beta")
LONG = 512      # characters from which a string inside an image or a document is data and no name


class _Turn(msgspec.Struct, frozen=True):
    role: str
    content: str | list[Part]


class _Body(msgspec.Struct, frozen=True):
    """The fields of a request that decide something."""

    model: str
    messages: list[_Turn]
    system: str | list[Part] | None = None
    stream: bool | None = None
    tools: list[dict[str, Any]] | None = None
    output_format: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    max_tokens: Tokens | None = None


_body = msgspec.json.Decoder(_Body)


def decode(raw: bytes, headers: Mapping[str, str], kind: str = "chat") -> ChatRequest:
    """Return the request, or raise BadRequest with the field that is wrong and what was expected."""
    body = read(_body, raw)
    if not body.messages:
        raise BadRequest("`messages` is empty: send at least one message.", param="messages")
    parts = [part for turn in body.messages if isinstance(turn.content, list) for part in _all(turn.content)]
    attached = [part for part in parts if part.get("type") in ("image", "document")]
    return ChatRequest(
        raw=raw,
        surface="anthropic",
        model=body.model,
        messages=[*_system(body.system), *(message for turn in body.messages for message in _messages(turn))],
        stream=bool(body.stream),
        tools=len(body.tools or ()),
        images=sum(part.get("type") == "image" for part in attached),
        structured=body.output_format is not None or "format" in (body.output_config or {}),
        max_output=body.max_tokens or 0,
        text_bytes=len(raw) - sum(long_texts(part.get("source"), LONG) for part in attached),
        kind=kind,
        passed={name: headers[name] for name in PASSED if name in headers},
        **wishes(headers),
    )


def _system(said: str | list[Part] | None) -> Iterator[Message]:
    if said:
        yield Message("system", said)


def _messages(turn: _Turn) -> Iterator[Message]:
    """Yield a turn as the classifier counts them: tool results apart from what the user says with them."""
    if isinstance(turn.content, str):
        yield Message(turn.role, turn.content)
        return
    results = [part for part in turn.content if part.get("type") == "tool_result"]
    for result in results:
        content = result.get("content")
        yield Message("tool", texts(_all([result]), ("text",)) if isinstance(content, list) else str(content or ""))
    if len(results) < len(turn.content) or not results:
        yield Message(turn.role, texts(turn.content, ("text",)))


def _all(parts: list[Part]) -> Iterator[Part]:
    """Yield parts, and those inside tool results."""
    for part in parts:
        yield part
        inner = part.get("content")
        if isinstance(inner, list):
            yield from (each for each in inner if isinstance(each, dict))
