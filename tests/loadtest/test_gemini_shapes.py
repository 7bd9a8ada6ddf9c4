"""A Gemini request has the API's fields and no others, and the refusal lists everything that is wrong with them."""

from typing import Any

import pytest

from loadtest import gemini_shapes
from loadtest.asking import RefusalError

HI = [{"role": "user", "parts": [{"text": "hi"}]}]


def fault(**body: object) -> RefusalError:
    """The refusal of this request."""
    with pytest.raises(RefusalError) as refused:
        gemini_shapes.read({"contents": HI, **body})
    return refused.value


def test_either_spelling_is_read() -> None:
    """camelCase as the SDKs write it, snake_case as the documentation does; lists of one without brackets; texts as
    numbers; enums in small letters; nulls are nothing."""
    camel = {
        "contents": {"role": "user", "parts": {"inlineData": {"mimeType": "image/png", "data": "aGk="}}},
        "generationConfig": {"maxOutputTokens": "5", "temperature": "0.5", "responseModalities": "text"},
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "object", "minProperties": "1"}}]}],
        "systemInstruction": None,
    }
    snake = {
        "contents": [{"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": "aGk="}}]}],
        "generation_config": {"max_output_tokens": 5, "temperature": 0.5, "response_modalities": ["TEXT"]},
        "tools": [{"function_declarations": [{"name": "f", "parameters": {"type": "OBJECT", "min_properties": 1}}]}],
    }

    assert gemini_shapes.read(camel) == gemini_shapes.read(snake) == snake


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": []}, 'Invalid JSON payload received. Unknown name "messages": Cannot find field.'),
        (
            {"generationConfig": {"stop": 1}},
            "Invalid JSON payload received. Unknown name \"stop\" at 'generation_config': Cannot find field.",
        ),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"properties": {
                "a": {"items": {"additionalProperties": False}}}}}]}]},
            'Invalid JSON payload received. Unknown name "additionalProperties" at '
            "'tools[0].function_declarations[0].parameters.properties[0].value.items': Cannot find field.",
        ),
        (
            {"generationConfig": {"responseSchema": {"type": ["string", "null"]}}},
            "Invalid JSON payload received. Unknown name \"type\" at 'generation_config.response_schema': Proto "
            "field is not "
            "repeating, cannot start list.",
        ),
        (
            {"generationConfig": {"temperature": "hot"}},
            "Invalid value at 'generation_config.temperature' (TYPE_FLOAT), \"hot\"",
        ),
        (
            {"generationConfig": {"maxOutputTokens": 1.5}},
            "Invalid value at 'generation_config.max_output_tokens' (TYPE_INT32), 1.5",
        ),
        ({"generationConfig": {"seed": True}}, "Invalid value at 'generation_config.seed' (TYPE_INT32), true"),
        ({"store": "yes"}, "Invalid value at 'store' (TYPE_BOOL), \"yes\""),
        (
            {"systemInstruction": "be"},
            "Invalid value at 'system_instruction' (type.googleapis.com/google.ai.generativelanguage.v1beta.Content), "
            '"be"',
        ),
        (
            {"toolConfig": {"functionCallingConfig": {"mode": "REQUIRED"}}},
            "Invalid value at 'tool_config.function_calling_config.mode' "
            '(type.googleapis.com/google.ai.generativelanguage.v1beta.Enum), "REQUIRED"',
        ),
        (
            {"contents": [{"parts": [{"inlineData": {"data": "data:,", "mimeType": "image/png"}}]}]},
            "Invalid value at 'contents[0].parts[0].inline_data.data' (TYPE_BYTES), Base64 decoding failed for "
            '"data:,"',
        ),
        (
            {"contents": [{"parts": [{"text": "a", "functionCall": {"name": "f"}}]}]},
            "Invalid value at 'contents[0].parts[0]' (oneof), oneof field 'data' is already set. Cannot set "
            "'functionCall'",
        ),
        (
            {"contents": [{"parts": [{"functionCall": {"name": "f", "args": "{}"}}]}]},
            "Invalid value at 'contents[0].parts[0].function_call.args' "
            '(type.googleapis.com/google.ai.generativelanguage.v1beta.struct), "{}"',
        ),
    ],
)  # fmt: skip
def test_the_field_at_fault_is_named(body: dict[str, Any], said: str) -> None:
    """In the words that callers search for."""
    assert fault(**body).message == said


def test_all_faults_are_told_at_once() -> None:
    """In the message, a line each, and as field violations in the details."""
    refused = fault(temperature=1, generationConfig={"n": 1, "topP": "x"})

    assert len(refused.message.splitlines()) == 3
    assert [one["field"] for one in refused.details[0]["fieldViolations"]] == [  # type: ignore[index]
        "", "generation_config", "generation_config.top_p",
    ]  # fmt: skip


def test_the_parts_of_all_contents() -> None:
    """A content may have none."""
    assert gemini_shapes.parts([*HI, {"role": "user"}, *HI]) == [{"text": "hi"}, {"text": "hi"}]
