"""What the path looks at in a Gemini generateContent request. The model and the kind of answer stand in the path."""

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
    several,
    wishes,
)

ROLES = {"model": "assistant", "function": "tool"}
LONG = 512      # characters from which a string inside attached data is the data


class _Content(msgspec.Struct, frozen=True):
    said: list[Part] | Part | None = msgspec.field(default=None, name="parts")
    role: str | None = None

    @property
    def parts(self) -> list[Part]:
        """The parts; Google reads one that stands alone as well."""
        return [self.said] if isinstance(self.said, dict) else self.said or []


class _Generation(msgspec.Struct, frozen=True):
    max_camel: Tokens | None = msgspec.field(default=None, name="maxOutputTokens")
    max_snake: Tokens | None = msgspec.field(default=None, name="max_output_tokens")
    count_camel: Any = msgspec.field(default=None, name="candidateCount")
    count_snake: Any = msgspec.field(default=None, name="candidate_count")
    schema_camel: Any = msgspec.field(default=None, name="responseSchema")
    schema_snake: Any = msgspec.field(default=None, name="response_schema")
    json_camel: Any = msgspec.field(default=None, name="responseJsonSchema")
    json_snake: Any = msgspec.field(default=None, name="response_json_schema")


class _Body(msgspec.Struct, frozen=True):
    """The fields of a request that decide something; Google reads both spellings of a name."""

    contents: list[_Content]
    tools: list[dict[str, Any]] | None = None
    system_camel: _Content | None = msgspec.field(default=None, name="systemInstruction")
    system_snake: _Content | None = msgspec.field(default=None, name="system_instruction")
    config_camel: _Generation | None = msgspec.field(default=None, name="generationConfig")
    config_snake: _Generation | None = msgspec.field(default=None, name="generation_config")


_body = msgspec.json.Decoder(_Body)


def decode(raw: bytes, headers: Mapping[str, str], model: str, *, stream: bool) -> ChatRequest:
    """Return the request, or raise BadRequest with the field that is wrong and what was expected."""
    body = read(_body, raw)
    if not body.contents:
        raise BadRequest("`contents` is empty: send at least one content.", param="contents")
    system, config = body.system_camel or body.system_snake, body.config_camel or body.config_snake or _Generation()
    data = [found for content in body.contents for part in content.parts if (found := _attached(part))]
    schemas = (config.schema_camel, config.schema_snake, config.json_camel, config.json_snake)
    return ChatRequest(
        raw=raw,
        surface="gemini",
        model=model,
        messages=[
            *([Message("system", _text(system))] if system else []),
            *(message for content in body.contents for message in _messages(content)),
        ],
        stream=stream,
        tools=sum(_offered(tool) for tool in body.tools or ()),
        images=sum(_is_image(found) for found in data),
        structured=any(schema is not None for schema in schemas),
        max_output=config.max_camel or config.max_snake or 0,
        text_bytes=len(raw) - sum(long_texts(found, LONG) for found in data),
        answers=several(config.count_camel, config.count_snake),
        **wishes(headers),
    )


def _messages(content: _Content) -> Iterator[Message]:
    """Yield a content as the classifier counts turns: tool results apart from what the user says with them."""
    results = [part for part in content.parts if "functionResponse" in part or "function_response" in part]
    yield from (Message("tool", "") for _ in results)
    if len(results) < len(content.parts) or not results:
        role = content.role or "user"
        yield Message(ROLES.get(role, role), _text(content))


def _text(content: _Content) -> str:
    found = (part.get("text") for part in content.parts if not part.get("thought"))
    return "\n".join(text for text in found if isinstance(text, str))


def _attached(part: Part) -> Part | None:
    """Return the data or the address of the data that a part carries."""
    for name in ("inlineData", "inline_data", "fileData", "file_data"):
        found = part.get(name)
        if isinstance(found, dict):
            return found
    return None


def _is_image(data: Part) -> bool:
    kind = data.get("mimeType") or data.get("mime_type")
    return isinstance(kind, str) and kind.startswith("image/")


def _offered(tool: dict[str, Any]) -> int:
    """Return how many functions a tool declares; one that is Google's own counts as one."""
    declared = tool.get("functionDeclarations") or tool.get("function_declarations")
    return len(declared) if isinstance(declared, list) else 1
