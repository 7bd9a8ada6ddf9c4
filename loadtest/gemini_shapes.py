"""The shape of a Gemini request, and the 400 for any other, in the API's (protobuf's) words. Pure.

The tables hold the fields of `google.ai.generativelanguage.v1beta` as Google's SDK 3.6 sends them to the Gemini API. A
field may be written in camelCase or snake_case, a list of one without its brackets, a number as a text: all that the
API takes. What comes out is snake_case, with the brackets. In the tables: `[X]` is a list, `{X}` a map, `A|B` an enum.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from loadtest.asking import RefusalError

_PACKAGE = "google.ai.generativelanguage.v1beta"
_MODALITIES = "MODALITY_UNSPECIFIED|TEXT|IMAGE|AUDIO"
_MESSAGES: Mapping[str, Mapping[str, str]] = {
    "GenerateContentRequest": {
        "model": "string",
        "contents": "[Content]",
        "system_instruction": "Content",
        "tools": "[Tool]",
        "tool_config": "ToolConfig",
        "safety_settings": "[SafetySetting]",
        "generation_config": "GenerationConfig",
        "cached_content": "string",
        "labels": "{string}",
        "service_tier": "string",
        "store": "bool",
        "mock": "any",  # the dials
    },
    "CountTokensRequest": {
        "model": "string",
        "contents": "[Content]",
        "generate_content_request": "GenerateContentRequest",
        "mock": "any",
    },
    "Content": {"role": "string", "parts": "[Part]"},
    "Part": {
        "text": "string",
        "inline_data": "Blob",
        "file_data": "FileData",
        "function_call": "FunctionCall",
        "function_response": "FunctionResponse",
        "executable_code": "any",
        "code_execution_result": "any",
        "thought": "bool",
        "thought_signature": "bytes",
        "video_metadata": "any",
        "media_resolution": "any",
        "part_metadata": "any",
    },
    "Blob": {"mime_type": "string", "data": "bytes", "display_name": "string"},
    "FileData": {"mime_type": "string", "file_uri": "string", "display_name": "string"},
    "FunctionCall": {"id": "string", "name": "string", "args": "struct"},
    "FunctionResponse": {
        "id": "string",
        "name": "string",
        "response": "struct",
        "parts": "[any]",
        "will_continue": "bool",
        "scheduling": "string",
    },
    "Tool": {
        "function_declarations": "[FunctionDeclaration]",
        "google_search": "any",
        "google_search_retrieval": "any",
        "code_execution": "any",
        "url_context": "any",
        "computer_use": "any",
        "file_search": "any",
        "google_maps": "any",
        "mcp_servers": "[any]",
    },
    "FunctionDeclaration": {
        "name": "string",
        "description": "string",
        "parameters": "Schema",
        "parameters_json_schema": "any",
        "response": "Schema",
        "response_json_schema": "any",
        "behavior": "UNSPECIFIED|BLOCKING|NON_BLOCKING",
    },
    "ToolConfig": {
        "function_calling_config": "FunctionCallingConfig",
        "retrieval_config": "any",
        "include_server_side_tool_invocations": "bool",
    },
    "FunctionCallingConfig": {
        "mode": "MODE_UNSPECIFIED|AUTO|ANY|NONE|VALIDATED",
        "allowed_function_names": "[string]",
    },
    "SafetySetting": {"category": "string", "threshold": "string"},
    "GenerationConfig": {
        "temperature": "float",
        "top_p": "float",
        "top_k": "float",
        "candidate_count": "int",
        "max_output_tokens": "int",
        "stop_sequences": "[string]",
        "response_logprobs": "bool",
        "logprobs": "int",
        "presence_penalty": "float",
        "frequency_penalty": "float",
        "seed": "int",
        "response_mime_type": "string",
        "response_schema": "Schema",
        "response_json_schema": "any",
        "response_modalities": f"[{_MODALITIES}]",
        "media_resolution": "string",
        "speech_config": "any",
        "thinking_config": "ThinkingConfig",
        "image_config": "any",
        "enable_enhanced_civic_answers": "bool",
        "audio_transcription_config": "any",
    },
    "ThinkingConfig": {
        "include_thoughts": "bool",
        "thinking_budget": "int",
        "thinking_level": "THINKING_LEVEL_UNSPECIFIED|MINIMAL|LOW|MEDIUM|HIGH|XHIGH",
    },
    "Schema": {
        "type": "TYPE_UNSPECIFIED|STRING|NUMBER|INTEGER|BOOLEAN|ARRAY|OBJECT|NULL",
        "format": "string",
        "title": "string",
        "description": "string",
        "nullable": "bool",
        "enum": "[string]",
        "items": "Schema",
        "min_items": "int",
        "max_items": "int",
        "properties": "{Schema}",
        "required": "[string]",
        "min_properties": "int",
        "max_properties": "int",
        "minimum": "float",
        "maximum": "float",
        "min_length": "int",
        "max_length": "int",
        "pattern": "string",
        "example": "any",
        "any_of": "[Schema]",
        "property_ordering": "[string]",
        "default": "any",
    },
}
_DATA = (
    "text",
    "inline_data",
    "file_data",
    "function_call",
    "function_response",
    "executable_code",
    "code_execution_result",
)  # of these a part has one
_SCALARS = {
    "string": "TYPE_STRING",
    "bytes": "TYPE_BYTES",
    "bool": "TYPE_BOOL",
    "int": "TYPE_INT32",
    "float": "TYPE_FLOAT",
}


def read(body: Mapping[str, object], message: str = "GenerateContentRequest") -> dict[str, Any]:
    """The request in snake_case, or the 400 that names everything wrong with its fields at once."""
    faults: list[tuple[str, str]] = []
    value = _message(body, message, "", faults)
    if faults:
        violations = [{"field": where, "description": what} for where, what in faults]
        details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}]
        raise RefusalError(400, "\n".join(what for _, what in faults), details=details)
    return value


def _message(value: Mapping[str, object], kind: str, path: str, faults: list[tuple[str, str]]) -> dict[str, Any]:
    """A message of the table; whatever is wrong with it is added to the faults."""
    known = _MESSAGES[kind]
    at = f" at '{path}'" if path else ""
    result: dict[str, Any] = {}
    for name, inner in value.items():
        field = re.sub(r"(?<!^)([A-Z])", lambda found: f"_{found[1].lower()}", name)
        if field not in known:
            faults.append((path, f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.'))
        elif kind == "Part" and field in _DATA and (set(_DATA) & set(result)):
            what = f"Invalid value{at} (oneof), oneof field 'data' is already set. Cannot set '{name}'"
            faults.append((path, what))
        elif inner is not None:
            shape = known[field]
            if isinstance(inner, list) and shape[0] != "[" and shape not in ("any", "struct"):
                what = f'Unknown name "{name}"{at}: Proto field is not repeating, cannot start list.'
                faults.append((path, f"Invalid JSON payload received. {what}"))
            else:
                result[field] = _value(inner, shape, f"{path}.{field}" if path else field, faults)
    return result


def _value(value: object, shape: str, path: str, faults: list[tuple[str, str]]) -> Any:
    """A field's value."""
    if shape[0] == "[":
        values = value if isinstance(value, list) else [value]
        return [_value(one, shape[1:-1], f"{path}[{at}]", faults) for at, one in enumerate(values)]
    if shape[0] == "{" and isinstance(value, dict):
        items = enumerate(value.items())
        return {name: _value(one, shape[1:-1], f"{path}[{at}].value", faults) for at, (name, one) in items}
    if shape in _MESSAGES and isinstance(value, dict):
        return _message(value, shape, path, faults)
    scalar = _scalar(value, shape)
    if scalar is not None:
        return scalar
    kind = _SCALARS.get(shape, f"type.googleapis.com/{_PACKAGE}.{'Enum' if '|' in shape else shape.strip('{}')}")
    why = "Base64 decoding failed for " if shape == "bytes" and isinstance(value, str) else ""
    faults.append((path, f"Invalid value at '{path}' ({kind}), {why}{orjson.dumps(value).decode()}"))
    return None


def _scalar(value: object, shape: str) -> object:
    """What has no fields of its own, in its own type; None if it is of another."""
    match shape, value:
        case ("any", _) | ("struct", dict()) | ("bool", bool()) | ("string", str()):
            return value
        case "bytes", str():
            return value if _is_base64(value) else None
        case ("int" | "float"), int() | float() | str() if not isinstance(value, bool):
            return _number(value, whole=shape == "int")
        case _, str() if value.upper() in shape.split("|"):
            return value.upper()
    return None


def _number(value: float | str, *, whole: bool) -> float | None:
    """The number, which may be written as a text; None if it is none."""
    try:
        number = float(value)
    except ValueError:
        return None
    if not whole:
        return number
    return int(number) if number.is_integer() else None


def _is_base64(text: str) -> bool:
    """In either alphabet, with or without its padding."""
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def parts(contents: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All parts of the contents."""
    return [part for content in contents for part in content.get("parts", ())]
