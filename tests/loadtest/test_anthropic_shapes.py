"""A Messages request has the API's fields and no others, and the refusal names the one at fault."""

import base64
from typing import Any

import pytest

from loadtest import anthropic_shapes
from loadtest.asking import RefusalError

USER = [{"role": "user", "content": "hi"}]
PNG = base64.b64encode(b"not quite a picture").decode()
TOOL = {"name": "f", "input_schema": {"type": "object"}}


def fault(*, counting: bool = False, **body: object) -> str:
    """The words of the refusal; none for a request that is in order."""
    try:
        anthropic_shapes.check({"model": "m", "messages": USER, "max_tokens": 9, **body}, counting=counting)
    except RefusalError as refused:
        return refused.message
    return ""


def content(*blocks: object, role: str = "user") -> dict[str, Any]:
    """A conversation of one turn."""
    return {"messages": [{"role": role, "content": list(blocks)}]}


def test_everything_at_once_is_in_order() -> None:
    """Every kind of block, tool and setting."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    text = {"type": "text", "text": "hm", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    blocks = [
        text,
        image,
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PNG}, "title": "t"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
        {"type": "document", "source": {"type": "content", "content": [text, image]}},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}, "context": None},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text, image], "is_error": True},
        {"type": "tool_result", "tool_use_id": "toolu_1"},
        {"type": "thinking", "thinking": "", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]},
    ]
    settings: dict[str, Any] = {
        "system": [text],
        "tools": [TOOL, {"type": "custom", **TOOL, "strict": True}, {"type": "bash_20250124", "name": "bash"}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {}}},
        "stop_sequences": ["a"],
        "temperature": 0.5,
        "top_k": 3,
        "metadata": {"user_id": "u"},
        "stream": True,
        "service_tier": "auto",
        "mock": {"tokens": 3},
    }

    assert fault(**settings, **content(*blocks)) == ""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"n": 1}, "n: Extra inputs are not permitted"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
        ({"temperature": 1.5}, "temperature: Input should be less than or equal to 1"),
        ({"temperature": "hot"}, "temperature: Input should be a valid number"),
        ({"stream": 1}, "stream: Input should be a valid boolean"),
        ({"stop_sequences": "a"}, "stop_sequences: Input should be a valid list"),
        ({"metadata": {"team": "x"}}, "metadata.team: Extra inputs are not permitted"),
        ({"metadata": 3}, "metadata: Input should be a valid dictionary or object to extract fields from"),
        ({"system": [{"type": "text"}]}, "system.0.text.text: Field required"),
        ({"thinking": {"type": "enabled"}}, "thinking.enabled.budget_tokens: Field required"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1000}},
            "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
        ),
        (
            {"thinking": {"type": "on"}},
            "thinking: Input tag 'on' found using 'type' does not match any of the expected tags: 'adaptive', "
            "'between_tools', 'disabled', 'enabled'",
        ),
        ({"thinking": {}}, "thinking: Unable to extract tag using discriminator 'type'"),
        ({"tool_choice": "auto"}, "tool_choice: Input should be a valid dictionary or object to extract fields from"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.tool.name: Field required"),
        ({"tools": [{"name": "f"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tools": [{**TOOL, "name": "a b"}]}, "tools.0.custom.name: String should match pattern "
                                               "'^[a-zA-Z0-9_-]{1,128}$'"),
        ({"tools": [{**TOOL, "parameters": {}}]}, "tools.0.custom.parameters: Extra inputs are not permitted"),
        ({"tools": [{**TOOL, "input_schema": {}}]}, "tools.0.custom.input_schema.type: Field required"),
        ({"tools": [{**TOOL, "input_schema": 3}]}, "tools.0.custom.input_schema: Input should be a valid dictionary"),
        (
            {"tools": [{**TOOL, "input_schema": {"type": "string"}}]},
            "tools.0.custom.input_schema.type: Input should be 'object'",
        ),
        (
            {"tools": [{**TOOL, "input_schema": {"type": "object", "anyOf": []}}]},
            "tools.0.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level",
        ),
        ({"service_tier": "fast"}, "service_tier: Input should be 'auto' or 'standard_only'"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: Input should be 'user' or 'assistant'"),
        (
            {"messages": [{"role": "user", "content": "x", "name": "bob"}]},
            "messages.0.name: Extra inputs are not permitted",
        ),
        (content({"type": "text", "text": 3}), "messages.0.content.0.text.text: Input should be a valid string"),
        (
            content({"type": "tool_use", "id": "a.b", "name": "f", "input": {}}),
            "messages.0.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        ),
        (
            content({"type": "tool_use", "id": "a", "name": "f", "input": "{}"}),
            "messages.0.content.0.tool_use.input: Input should be a valid dictionary",
        ),
        (
            content({"type": "image", "source": {"type": "base64", "media_type": "image/bmp", "data": PNG}}),
            "messages.0.content.0.image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', "
            "'image/gif' "
            "or 'image/webp'",
        ),
        (
            content({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "data:,"}}),
            "messages.0.content.0.image.source.base64.data: Invalid base64 data",
        ),
        (
            content({"type": "image", "source": {"type": "url", "url": "http://a"}}),
            "messages.0.content.0.image.source.url.url: Only HTTPS URLs are supported.",
        ),
    ],
)
def test_the_field_at_fault_is_named(body: dict[str, Any], said: str) -> None:
    """In the words that callers search for."""
    assert fault(**body) == said


def test_openais_blocks_and_tools_are_unknown() -> None:
    """What a translation forgot is told by its tag."""
    assert fault(**content({"type": "image_url"})).startswith("messages.0.content.0: Input tag 'image_url' found")
    assert fault(tools=[{"type": "function", "function": {}}]).startswith("tools.0: Input tag 'function' found")


def test_counting_takes_no_limit_and_a_message_needs_one() -> None:
    """The two requests differ."""
    with pytest.raises(RefusalError, match="max_tokens: Field required"):
        anthropic_shapes.check({"model": "m", "messages": USER})
    anthropic_shapes.check({"model": "m", "messages": USER}, counting=True)

    assert fault(counting=True) == "max_tokens: Extra inputs are not permitted"
