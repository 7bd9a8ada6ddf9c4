"""What Gemini demands of a request beyond the shape of its fields, and the words of its refusals. Pure.

Requests come in as `gemini_shapes.read` gives them: snake_case, lists in brackets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from loadtest import signatures
from loadtest.asking import RefusalError

LIMIT_BYTES = 20 * 2**20
# Google documents these for calls that another model made: they stand for a signature that is not checked.
UNCHECKED = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_ROLES = ("user", "model", "function")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_INVALID_NAME = (
    "Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, 0-9), "
    "underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 64."
)
_NEEDED = (
    ("function_call", "name"),
    ("function_response", "name"),
    ("inline_data", "mime_type"),
    ("file_data", "file_uri"),
)
_STOPS = 5
_BUDGET = 32_768
_SIGNATURES_DOC = "https://ai.google.dev/gemini-api/docs/thought-signatures"

Turn = Mapping[str, Any]
Fault = tuple[str, str]


def check(request: Mapping[str, Any]) -> None:
    """Raise the 400 that the API gives, if it would refuse."""
    contents: Sequence[Turn] = request.get("contents", [])
    faults: list[Fault] = []
    if not contents:
        faults.append(("contents", "contents is not specified"))
    for at, turn in enumerate(contents):
        if turn.get("role", "user") not in _ROLES:
            raise RefusalError(400, "Please use a valid role: user, model.")
        faults += _empty_parts(turn, f"contents[{at}]")
    if "system_instruction" in request:
        faults += _empty_parts(request["system_instruction"], "system_instruction")
    faults += _generation_faults(request.get("generation_config", {}))
    faults += _tool_faults(request)
    if faults:
        raise RefusalError(400, "".join(f"* GenerateContentRequest.{where}: {what}\n" for where, what in faults))
    _check_thinking(request.get("generation_config", {}).get("thinking_config", {}))
    _check_calls(contents)
    _check_signatures(contents)


def call_text(call: Mapping[str, Any]) -> str:
    """What the signature of a function call is made of."""
    return f"{call.get('name')}{orjson.dumps(call.get('args') or {}, option=orjson.OPT_SORT_KEYS).decode()}"


def declarations(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All functions that the request declares."""
    return [one for tool in request.get("tools", ()) for one in tool.get("function_declarations", ())]


def of_kind(turn: Turn, kind: str) -> list[Mapping[str, Any]]:
    """The function calls of a turn, or the responses."""
    return [part[kind] for part in turn.get("parts", ()) if kind in part]


def _empty_parts(turn: Turn, path: str) -> list[Fault]:
    """Parts without anything in them, and turns without parts."""
    if not turn.get("parts"):
        return [(f"{path}.parts", "contents.parts must not be empty.")]
    faults: list[Fault] = []
    for at, part in enumerate(turn["parts"]):
        where = f"{path}.parts[{at}]"
        if not set(part) - {"thought", "thought_signature", "video_metadata", "media_resolution", "part_metadata"}:
            faults.append((f"{where}.data", "required oneof field 'data' must have one initialized field"))
        faults += [
            (f"{where}.{name}.{needed}", f"{needed.capitalize()} cannot be empty.")
            for name, needed in _NEEDED
            if name in part and not part[name].get(needed)
        ]
    return faults


def _generation_faults(config: Mapping[str, Any]) -> list[Fault]:
    """Numbers out of their range, and settings that exclude each other."""
    where = "generation_config"
    faults: list[Fault] = []
    for name, most in (("temperature", 2.0), ("top_p", 1.0)):
        if not 0 <= config.get(name, 0) <= most:
            faults.append((f"{where}.{name}", f"{name} must be in the range [0.0, {most}]."))
    low = [name for name in ("max_output_tokens", "candidate_count") if config.get(name, 1) < 1]
    faults += [(f"{where}.{name}", f"{name} must be positive.") for name in low]
    if len(config.get("stop_sequences", ())) > _STOPS:
        faults.append((f"{where}.stop_sequences", f"only up to {_STOPS} stop sequences are supported."))
    if {"response_schema", "response_json_schema"} <= set(config):
        faults.append((f"{where}.response_json_schema", "response_schema and response_json_schema are exclusive."))
    if config.get("response_mime_type") != "application/json":
        schemas = [name for name in ("response_schema", "response_json_schema") if name in config]
        faults += [(f"{where}.{name}", "only allowed when response_mime_type is application/json") for name in schemas]
    if "response_schema" in config:
        faults += _schema_faults(config["response_schema"], f"{where}.response_schema")
    return faults


def _check_thinking(thinking: Mapping[str, Any]) -> None:
    """One way to say how much, and within the model's range."""
    if {"thinking_budget", "thinking_level"} <= set(thinking):
        raise RefusalError(400, "You can only set only one of thinking budget and thinking level.")
    budget = thinking.get("thinking_budget", 0)
    if not -1 <= budget <= _BUDGET:
        message = f"The thinking budget {budget} is invalid. Please choose a value between 128 and {_BUDGET}."
        raise RefusalError(400, message)


def _tool_faults(request: Mapping[str, Any]) -> list[Fault]:
    """Functions whose name or parameters are not allowed, and calls demanded of functions that are not there."""
    faults: list[Fault] = []
    names = [one.get("name", "") for one in declarations(request)]
    for at, tool in enumerate(request.get("tools", ())):
        for place, one in enumerate(tool.get("function_declarations", ())):
            where = f"tools[{at}].function_declarations[{place}]"
            if not _NAME.fullmatch(one.get("name", "")):
                faults.append((f"{where}.name", _INVALID_NAME))
            if {"parameters", "parameters_json_schema"} <= set(one):
                message = "parameters and parameters_json_schema are exclusive."
                faults.append((f"{where}.parameters_json_schema", message))
            faults += _schema_faults(one.get("parameters", {"type": "NULL"}), f"{where}.parameters")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RefusalError(400, f"Duplicate function declaration found: {twice}")
    config = request.get("tool_config", {}).get("function_calling_config", {})
    allowed = config.get("allowed_function_names", [])
    where = "tool_config.function_calling_config.allowed_function_names"
    if allowed and config.get("mode") not in ("ANY", "VALIDATED"):
        faults.append((where, "should be set only when function calling mode is ANY or VALIDATED."))
    faults += [(where, f"{name} is not in the function declarations") for name in allowed if name not in names]
    return faults


def _schema_faults(schema: Mapping[str, Any], path: str) -> list[Fault]:
    """What Gemini's own schemas do not allow, although JSON Schema does."""
    faults: list[Fault] = []
    kind = schema.get("type", "TYPE_UNSPECIFIED")
    properties = schema.get("properties", {})
    if kind == "OBJECT" and not properties:
        faults.append((f"{path}.properties", "should be non-empty for OBJECT type"))
    if kind == "ARRAY" and "items" not in schema:
        faults.append((f"{path}.items", "missing field."))
    if "enum" in schema and kind not in ("STRING", "TYPE_UNSPECIFIED"):
        faults.append((f"{path}.enum", "only allowed for STRING type"))
    if kind == "STRING" and schema.get("format", "enum") not in ("enum", "date-time"):
        faults.append((f"{path}.format", "only 'enum' and 'date-time' are supported for STRING type"))
    for at, name in enumerate(schema.get("required", ())):
        if name not in properties:
            faults.append((f"{path}.required[{at}]", "property is not defined"))
    for name, inner in properties.items():
        faults += _schema_faults(inner, f"{path}.properties[{name}]")
    for at, inner in enumerate(schema.get("any_of", ())):
        faults += _schema_faults(inner, f"{path}.any_of[{at}]")
    return faults + (_schema_faults(schema["items"], f"{path}.items") if "items" in schema else [])


def _check_calls(contents: Sequence[Turn]) -> None:
    """Every turn with calls is followed by one with as many responses, to the same calls."""
    called: list[Mapping[str, Any]] = []
    for at, turn in enumerate(contents):
        calls, responses = of_kind(turn, "function_call"), of_kind(turn, "function_response")
        if responses and not called:
            message = "Please ensure that function response turn comes immediately after a function call turn."
            raise RefusalError(400, message)
        if len(responses) != len(called):
            _refuse_count()
        for response in responses:
            matched = [call for call in called if _answers(response, call)]
            if not matched:
                what = response.get("id") or response["name"]
                message = f"Function response `{what}` matches no function call of the function call turn."
                raise RefusalError(400, message)
            called.remove(matched[0])
        if calls and (turn.get("role") != "model" or not at or contents[at - 1].get("role", "user") == "model"):
            raise RefusalError(
                400,
                "Please ensure that function call turn comes immediately after a user turn or after a function "
                "response turn.",
            )
        called = calls
    if called:
        _refuse_count()


def _answers(response: Mapping[str, Any], call: Mapping[str, Any]) -> bool:
    """By the id where it has one, and by the name in any case."""
    return bool(response["name"] == call["name"] and response.get("id") in (None, call.get("id")))


def _refuse_count() -> None:
    raise RefusalError(
        400,
        "Please ensure that the number of function response parts is equal to the number of function call parts of the "
        "function call turn.",
    )


def _check_signatures(contents: Sequence[Turn]) -> None:
    """No foreign signature anywhere; and since the last words of the user, none missing on a step's first call."""
    spoken = [at for at, turn in enumerate(contents) if turn.get("role", "user") == "user"]
    last = max((at for at in spoken if not of_kind(contents[at], "function_response")), default=-1)
    for at, turn in enumerate(contents):
        for part in turn["parts"]:
            signature = part.get("thought_signature")
            signed = call_text(part["function_call"]) if "function_call" in part else "text"
            if signature is not None and signature not in UNCHECKED and not signatures.genuine(signature, signed):
                raise RefusalError(400, "Thought signature is not valid.")
        first = next((part for part in turn["parts"] if "function_call" in part), None)
        if at > last and first is not None and "thought_signature" not in first:
            raise RefusalError(
                400,
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                "work correctly, and missing thought_signature may lead to degraded model performance. Additional "
                f"data, function call `default_api:{first['function_call']['name']}` , position {at + 1}. Please refer "
                f"to {_SIGNATURES_DOC} for more details.",
            )
