"""What the path looks at in an OpenAI Responses request."""

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

WORDS = ("input_text", "output_text", "text")
LONG = 512      # characters from which a string inside an image or a file is data and no address


class _Body(msgspec.Struct, frozen=True):
    """The fields of a request that decide something."""

    model: str
    input: str | list[Part]
    instructions: str | None = None
    stream: bool | None = None
    tools: list[dict[str, Any]] | None = None
    text: dict[str, Any] | None = None
    max_output_tokens: Tokens | None = None


_body = msgspec.json.Decoder(_Body)


def decode(raw: bytes, headers: Mapping[str, str]) -> ChatRequest:
    """Return the request, or raise BadRequest with the field that is wrong and what was expected."""
    body = read(_body, raw)
    if not body.input:
        raise BadRequest("`input` is empty: send a text or at least one item.", param="input")
    items = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
    parts = [part for item in items for part in _parts(item)]
    attached = [part for part in parts if part.get("type") in ("input_image", "input_file", "input_audio")]
    form = (body.text or {}).get("format")
    return ChatRequest(
        raw=raw,
        surface="responses",
        model=body.model,
        messages=[*_instructions(body.instructions), *(message for item in items for message in _message(item))],
        stream=bool(body.stream),
        tools=len(body.tools or ()),
        images=sum(part.get("type") == "input_image" for part in attached),
        structured=isinstance(form, dict) and form.get("type") == "json_schema",
        max_output=body.max_output_tokens or 0,
        text_bytes=len(raw) - sum(long_texts(part, LONG) for part in attached),
        **wishes(headers),
    )


def _instructions(said: str | None) -> Iterator[Message]:
    if said:
        yield Message("system", said)


def _message(item: Part) -> Iterator[Message]:
    """Yield what an item says, in the roles that the classifier knows."""
    if str(item.get("type", "")).endswith("_output"):
        output = item.get("output")
        yield Message("tool", output if isinstance(output, str) else texts(_parts(item), WORDS))
    elif isinstance(role := item.get("role"), str):
        content = item.get("content")
        yield Message(role, content if isinstance(content, str) else texts(_parts(item), WORDS))


def _parts(item: Part) -> Iterator[Part]:
    for name in ("content", "output"):
        inner = item.get(name)
        if isinstance(inner, list):
            yield from (each for each in inner if isinstance(each, dict))
