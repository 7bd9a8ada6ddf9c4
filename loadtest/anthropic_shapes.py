"""The shape of a Messages request, field by field, and the 400 for any other, in the API's (pydantic's) words. Pure.

A shape is a function of a value and its path: it returns, or raises RefusalError. The fields are those of Anthropic's
SDK 2.14, and the samplers (`temperature`, `top_p`, `top_k`) that the API took before version 2026-10-21.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping

from loadtest.asking import RefusalError

Shape = Callable[[object, str], None]


def check(value: object, path: str = "", *, counting: bool = False) -> None:
    """Raise the 400 unless it is a request to create a message, or to count its tokens."""
    (COUNT if counting else MESSAGE)(value, path)


def wrong(path: str, what: str) -> RefusalError:
    """The 400 that names the field."""
    return RefusalError(400, f"{path}: {what}")


def text(pattern: str = "") -> Shape:
    """A string."""

    def shape(value: object, path: str) -> None:
        if not isinstance(value, str):
            raise wrong(path, "Input should be a valid string")
        if pattern and not re.fullmatch(pattern, value):
            raise wrong(path, f"String should match pattern '^{pattern}$'")

    return shape


def number(kind: type[int] | type[float], least: float, most: float | None = None) -> Shape:
    """A number in a range; an integer is a number too."""

    def shape(value: object, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | kind):
            raise wrong(path, f"Input should be a valid {'integer' if kind is int else 'number'}")
        if value < least:
            raise wrong(path, f"Input should be greater than or equal to {least}")
        if most is not None and value > most:
            raise wrong(path, f"Input should be less than or equal to {most}")

    return shape


def literal(*values: str) -> Shape:
    """One of the words."""

    def shape(value: object, path: str) -> None:
        if value not in values:
            quoted = [f"'{one}'" for one in values]
            listed = quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
            raise wrong(path, f"Input should be {listed}")

    return shape


def flag(value: object, path: str) -> None:
    """A truth value."""
    if not isinstance(value, bool):
        raise wrong(path, "Input should be a valid boolean")


def mapping(value: object, path: str) -> None:
    """Any object."""
    if not isinstance(value, dict):
        raise wrong(path, "Input should be a valid dictionary")


def base64_data(value: object, path: str) -> None:
    """Bytes in base64."""
    try:
        base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except (binascii.Error, ValueError):
        raise wrong(path, "Invalid base64 data") from None


def web_address(value: object, path: str) -> None:
    """A URL that the API would fetch."""
    if not isinstance(value, str) or not value.startswith("https://"):
        raise wrong(path, "Only HTTPS URLs are supported.")


def sequence(of: Shape) -> Shape:
    """A list of such values."""

    def shape(value: object, path: str) -> None:
        if not isinstance(value, list):
            raise wrong(path, "Input should be a valid list")
        for at, one in enumerate(value):
            of(one, f"{path}.{at}")

    return shape


def text_or(of: Shape) -> Shape:
    """A string, or the other shape."""
    return lambda value, path: None if isinstance(value, str) else of(value, path)


def optional(of: Shape) -> Shape:
    """Null, or the shape."""
    return lambda value, path: None if value is None else of(value, path)


def fields(required: Mapping[str, Shape], others: Mapping[str, Shape] | None = None) -> Shape:
    """An object with these fields and no more."""
    known = {**required, **(others or {})}

    def shape(value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong(path, "Input should be a valid dictionary or object to extract fields from")
        prefix = f"{path}." if path else ""
        for name in required:
            if name not in value:
                raise wrong(f"{prefix}{name}", "Field required")
        for name, inner in value.items():
            if name not in known:
                raise wrong(f"{prefix}{name}", "Extra inputs are not permitted")
            known[name](inner, f"{prefix}{name}")

    return shape


def tagged(shapes: Mapping[str, Shape], default: str = "") -> Shape:
    """An object whose `type` says which of the shapes it has."""

    def shape(value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong(path, "Input should be a valid dictionary or object to extract fields from")
        tag = value.get("type") or default
        if not tag:
            raise wrong(path, "Unable to extract tag using discriminator 'type'")
        if tag not in shapes:
            expected = ", ".join(f"'{one}'" for one in sorted(shapes))
            message = f"Input tag '{tag}' found using 'type' does not match any of the expected tags: {expected}"
            raise wrong(path, message)
        shapes[tag](value, f"{path}.{tag}")

    return shape


def _anything(_: object, __: str) -> None:
    """Whatever it is: for what the mock does not look into."""


def _input_schema(value: object, path: str) -> None:
    """The schema of a tool's input: of an object, and no choice between schemas at its top."""
    if not isinstance(value, dict):
        raise wrong(path, "Input should be a valid dictionary")
    if "type" not in value:
        raise wrong(f"{path}.type", "Field required")
    literal("object")(value["type"], f"{path}.type")
    if {"oneOf", "allOf", "anyOf"} & set(value):
        raise wrong(path, "input_schema does not support oneOf, allOf, or anyOf at the top level")


_TYPE: Mapping[str, Shape] = {"type": _anything}  # `tagged` has looked at it
_CACHE: Mapping[str, Shape] = {
    "cache_control": optional(fields({"type": literal("ephemeral")}, {"ttl": literal("5m", "1h")}))
}
_TEXT = fields({"text": text(), **_TYPE}, {"citations": optional(sequence(mapping)), **_CACHE})
_IMAGE_SOURCE = tagged(
    {
        "base64": fields(
            {"media_type": literal("image/jpeg", "image/png", "image/gif", "image/webp"), "data": base64_data, **_TYPE}
        ),
        "url": fields({"url": web_address, **_TYPE}),
        "file": fields({"file_id": text(), **_TYPE}),
    }
)
_IMAGE = fields({"source": _IMAGE_SOURCE, **_TYPE}, {"transformations": optional(mapping), **_CACHE})
_DOCUMENT_SOURCE = tagged(
    {
        "base64": fields({"media_type": literal("application/pdf"), "data": base64_data, **_TYPE}),
        "text": fields({"media_type": literal("text/plain"), "data": text(), **_TYPE}),
        "content": fields({"content": text_or(sequence(tagged({"text": _TEXT, "image": _IMAGE}))), **_TYPE}),
        "url": fields({"url": web_address, **_TYPE}),
        "file": fields({"file_id": text(), **_TYPE}),
    }
)
_DOCUMENT = fields(
    {"source": _DOCUMENT_SOURCE, **_TYPE},
    {"title": optional(text()), "context": optional(text()), "citations": optional(mapping), **_CACHE},
)
_SEARCH_RESULT = fields(
    {"content": sequence(tagged({"text": _TEXT})), "source": text(), "title": text(), **_TYPE},
    {"citations": mapping, **_CACHE},
)
_RETURNED = tagged({"text": _TEXT, "image": _IMAGE, "document": _DOCUMENT, "search_result": _SEARCH_RESULT})
_TOOL_ID = text("[a-zA-Z0-9_-]+")
_TOOL_NAME = text("[a-zA-Z0-9_-]{1,128}")
BLOCK = tagged(
    {
        "text": _TEXT,
        "image": _IMAGE,
        "document": _DOCUMENT,
        "search_result": _SEARCH_RESULT,
        "thinking": fields({"thinking": text(), "signature": text(), **_TYPE}),
        "redacted_thinking": fields({"data": text(), **_TYPE}),
        "tool_use": fields(
            {"id": _TOOL_ID, "name": _TOOL_NAME, "input": mapping, **_TYPE}, {"caller": mapping, **_CACHE}
        ),
        "tool_result": fields(
            {"tool_use_id": _TOOL_ID, **_TYPE}, {"content": text_or(sequence(_RETURNED)), "is_error": flag, **_CACHE}
        ),
    }
)
_SERVER_TOOLS = (
    "bash_20250124",
    "text_editor_20250728",
    "memory_20250818",
    "web_search_20260318",
    "web_fetch_20260318",
    "code_execution_20260521",
)
_CUSTOM_TOOL = fields(
    {"name": _TOOL_NAME, "input_schema": _input_schema},
    {
        "type": _anything,
        "description": text(),
        "strict": flag,
        "defer_loading": flag,
        "eager_input_streaming": optional(flag),
        "input_examples": sequence(mapping),
        "allowed_callers": sequence(text()),
        **_CACHE,
    },
)
_PARALLEL: Mapping[str, Shape] = {"disable_parallel_tool_use": flag}
_DISPLAY: Mapping[str, Shape] = {"display": optional(literal("summarized", "omitted"))}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_FORMAT = optional(fields({"type": literal("json_schema"), "schema": mapping}))
_SHARED: Mapping[str, Shape] = {
    "system": text_or(sequence(tagged({"text": _TEXT}))),
    "tools": sequence(tagged({"custom": _CUSTOM_TOOL, **dict.fromkeys(_SERVER_TOOLS, mapping)}, default="custom")),
    "tool_choice": tagged(
        {
            "auto": fields(_TYPE, _PARALLEL),
            "any": fields(_TYPE, _PARALLEL),
            "tool": fields({"name": text(), **_TYPE}, _PARALLEL),
            "none": fields(_TYPE),
        }
    ),
    "thinking": tagged(
        {
            "enabled": fields({"budget_tokens": number(int, 1024), **_TYPE}, _DISPLAY),
            "adaptive": fields(_TYPE, _DISPLAY),
            "disabled": fields(_TYPE),
            "between_tools": fields(_TYPE),
        }
    ),
    "output_config": fields({}, {"effort": optional(literal(*_EFFORTS)), "format": _FORMAT}),
    "output_format": _FORMAT,  # the older name; `anthropic_rules` wants its beta header
    "speed": optional(literal("standard", "fast")),
    **_CACHE,
    "mock": _anything,  # the dials
}
_ASKED: Mapping[str, Shape] = {
    "model": text(),
    "messages": sequence(fields({"role": literal("user", "assistant"), "content": text_or(sequence(BLOCK))})),
}
COUNT = fields(_ASKED, _SHARED)
MESSAGE = fields(
    {**_ASKED, "max_tokens": number(int, 1)},
    {
        **_SHARED,
        "stream": flag,
        "stop_sequences": sequence(text()),
        "temperature": number(float, 0, 1),
        "top_p": number(float, 0, 1),
        "top_k": number(int, 0),
        "metadata": fields({}, {"user_id": optional(text())}),
        "service_tier": literal("auto", "standard_only"),
        "container": optional(_anything),
        "diagnostics": optional(fields({}, {"previous_message_id": optional(text())})),
        "inference_geo": optional(text()),
    },
)
