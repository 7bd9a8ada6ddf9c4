"""What the path looks at in a request that is passed through and not judged: embeddings, legacy completions."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.wire.counting import asks
from gateway.wire.request import ChatRequest, Tokens, read, several, wishes


class _Body(msgspec.Struct, frozen=True):
    model: str
    stream: bool | None = None
    stream_options: Any = None
    max_tokens: Tokens | None = None
    n: Any = None
    best_of: Any = None


_body = msgspec.json.Decoder(_Body)


def decode(raw: bytes, headers: Mapping[str, str], kind: str) -> ChatRequest:
    """Return the request, or raise BadRequest with the field that is wrong and what was expected."""
    body = read(_body, raw)
    return ChatRequest(
        raw=raw,
        surface="openai",
        model=body.model,
        messages=[],
        stream=bool(body.stream),
        counted=not body.stream or asks(body.stream_options),
        tools=0,
        images=0,
        structured=False,
        max_output=body.max_tokens or 0,
        text_bytes=len(raw),
        answers=several(body.n, body.best_of),
        kind=kind,
        **wishes(headers),
    )
