"""Turns, signatures, schemas and settings go together as Gemini demands."""

from typing import Any

import pytest

from loadtest import gemini_rules
from loadtest.asking import RefusalError
from loadtest.signatures import sign

USER = {"role": "user", "parts": [{"text": "hi"}]}
PREFIX = "* GenerateContentRequest."


def call(name: str, *, signature: str | None = "", **more: object) -> dict[str, Any]:
    """A call, signed by the mock unless told otherwise; None = not signed."""
    made = {"name": name, "args": {"a": 1}, **more}
    signed = {} if signature is None else {"thought_signature": signature or sign(gemini_rules.call_text(made))}
    return {"function_call": made, **signed}


def response(name: str, **more: object) -> dict[str, Any]:
    """A function's answer."""
    return {"function_response": {"name": name, "response": {}, **more}}


def turn(*parts: object, role: str = "model") -> dict[str, Any]:
    """A turn of these parts."""
    return {"role": role, "parts": list(parts)}


def user(*parts: object) -> dict[str, Any]:
    """A turn of the user."""
    return turn(*parts, role="user")


def fault(*contents: object, **request: object) -> str:
    """The words of the refusal; none for a request that is in order."""
    try:
        gemini_rules.check({"contents": list(contents) or [USER], **request})
    except RefusalError as refused:
        return refused.message
    return ""


def functions(*declared: dict[str, Any]) -> dict[str, Any]:
    """A request's tools."""
    return {"tools": [{"function_declarations": list(declared)}]}


@pytest.mark.parametrize(
    "contents",
    [
        (USER,),
        ({"parts": [{"text": "hi"}]},),
        (USER, turn({"text": "a", "thought_signature": sign("text")}), USER),
        (USER, turn(call("f")), user(response("f"))),
        (USER, turn(call("f", id="1"), call("g", signature=None, id="2")), user(response("g", id="2"), response("f"))),
        (USER, turn(call("f")), user(response("f")), turn(call("f")), user(response("f")), turn({"text": "a"}), USER),
        (USER, turn(call("f", signature=None)), user(response("f")), turn({"text": "a"}), USER),
        (USER, turn(call("f", signature=gemini_rules.UNCHECKED[0])), turn(response("f"), role="function")),
    ],
)
def test_conversations_in_order(contents: tuple[object, ...]) -> None:
    """Calls in parallel and in sequence; old calls need no signature, and Google's own stand-ins are taken for one."""
    assert fault(*contents) == ""


COUNT = "Please ensure that the number of function response parts is equal to the number of function call parts of the "
COUNT += "function call turn."


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (({"role": "assistant", "parts": [{"text": "a"}]},), "Please use a valid role: user, model."),
        ((user(),), f"{PREFIX}contents[0].parts: contents.parts must not be empty.\n"),
        ((user({"thought": True}),), f"{PREFIX}contents[0].parts[0].data: required oneof field 'data' must have one "
         "initialized field\n"),
        ((USER, turn(call("")), user(response(""))), f"{PREFIX}contents[1].parts[0].function_call.name: Name cannot be "
         f"empty.\n{PREFIX}contents[2].parts[0].function_response.name: Name cannot be empty.\n"),
        ((user({"inline_data": {"data": "aGk="}}),), f"{PREFIX}contents[0].parts[0].inline_data.mime_type: Mime_type "
                                                     f"cannot "
         "be empty.\n"),
        ((USER, turn(call("f"))), COUNT),
        ((USER, turn(call("f")), USER), COUNT),
        ((USER, turn(call("f"), call("g")), user(response("f"))), COUNT),
        ((USER, turn(call("f")), user(response("f"), response("f"))), COUNT),
        ((user(response("f")),),
         "Please ensure that function response turn comes immediately after a function call turn."),
        ((USER, turn(call("f")), user(response("g"))), "Function response `g` matches no function call of the function "
         "call turn."),
        ((USER, turn(call("f", id="1")), user(response("f", id="2"))), "Function response `2` matches no function "
                                                                       "call of "
         "the function call turn."),
        ((turn(call("f")), user(response("f"))), "Please ensure that function call turn comes immediately after a user "
         "turn or after a function response turn."),
        ((USER, turn({"text": "a", "thought_signature": "Zm9yZWlnbg=="}), USER), "Thought signature is not valid."),
        ((USER, turn(call("f", signature=sign("text"))), user(response("f"))), "Thought signature is not valid."),
    ],
)  # fmt: skip
def test_conversations_out_of_order(contents: tuple[object, ...], said: str) -> None:
    """The refusal says where and what."""
    assert fault(*contents) == said


def test_a_call_of_the_turn_that_goes_on_is_signed() -> None:
    """The first of each step; the API tells the function and its position."""
    said = fault(USER, turn(call("f", signature=None)), user(response("f")))

    assert said.startswith("Function call is missing a thought_signature in functionCall parts.")
    assert "`default_api:f` , position 2." in said


@pytest.mark.parametrize(
    ("request_", "where", "said"),
    [
        ({"contents": []}, "contents", "contents is not specified"),
        ({"system_instruction": {}}, "system_instruction.parts", "contents.parts must not be empty."),
        ({"generation_config": {"temperature": 2.5}}, "generation_config.temperature",
         "temperature must be in the range [0.0, 2.0]."),
        ({"generation_config": {"max_output_tokens": 0}}, "generation_config.max_output_tokens",
         "max_output_tokens must be positive."),
        ({"generation_config": {"stop_sequences": list("abcdef")}}, "generation_config.stop_sequences",
         "only up to 5 stop sequences are supported."),
        ({"generation_config": {"response_json_schema": {}}}, "generation_config.response_json_schema",
         "only allowed when response_mime_type is application/json"),
        ({"generation_config": {"response_schema": {"type": "ARRAY"}, "response_mime_type": "application/json"}},
         "generation_config.response_schema.items", "missing field."),
        (functions({"name": "1f"}), "tools[0].function_declarations[0].name", gemini_rules._INVALID_NAME),
        (functions({"name": "f", "parameters": {"type": "OBJECT"}}),
         "tools[0].function_declarations[0].parameters.properties", "should be non-empty for OBJECT type"),
        (functions({"name": "f", "parameters": {"type": "OBJECT", "required": ["b"], "properties": {"a": {}}}}),
         "tools[0].function_declarations[0].parameters.required[0]", "property is not defined"),
        (functions({"name": "f", "parameters": {"any_of": [{"type": "INTEGER", "enum": ["1"]}]}}),
         "tools[0].function_declarations[0].parameters.any_of[0].enum", "only allowed for STRING type"),
        (functions({"name": "f", "parameters": {"type": "STRING", "format": "uri"}}),
         "tools[0].function_declarations[0].parameters.format", "only 'enum' and 'date-time' are supported for "
                                                                "STRING type"),
        (functions({"name": "f", "parameters": {"type": "STRING"}, "parameters_json_schema": {}}),
         "tools[0].function_declarations[0].parameters_json_schema", "parameters and parameters_json_schema are "
                                                                     "exclusive."),
        ({**functions({"name": "f"}), "tool_config": {"function_calling_config": {"allowed_function_names": ["f"]}}},
         "tool_config.function_calling_config.allowed_function_names", "should be set only when function calling "
                                                                       "mode is ANY "
         "or VALIDATED."),
        ({"tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}}},
         "tool_config.function_calling_config.allowed_function_names", "f is not in the function declarations"),
    ],
)  # fmt: skip
def test_settings_that_are_not_allowed(request_: dict[str, Any], where: str, said: str) -> None:
    """The refusal has the field's path and the API's words."""
    with pytest.raises(RefusalError) as refused:
        gemini_rules.check({"contents": [USER], **request_})

    assert refused.value.message == f"{PREFIX}{where}: {said}\n"


@pytest.mark.parametrize(
    ("thinking", "said"),
    [
        ({"thinking_budget": 10**6}, "The thinking budget 1000000 is invalid."),
        ({"thinking_budget": 1, "thinking_level": "LOW"}, "You can only set only one of"),
    ],
)
def test_thinking_is_said_once_and_within_range(thinking: dict[str, Any], said: str) -> None:
    """-1 leaves it to the model, 0 turns it off."""
    assert fault(generation_config={"thinking_config": thinking}).startswith(said)
    assert fault(generation_config={"thinking_config": {"thinking_budget": -1}}) == ""


def test_a_function_is_declared_once() -> None:
    """The refusal names it."""
    assert fault(**functions({"name": "f"}, {"name": "f"})) == "Duplicate function declaration found: f"
