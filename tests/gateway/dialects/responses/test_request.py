"""A request read whole: every field of it, the stateless rule, and any bytes at all."""

from contextlib import suppress
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.neutral import Choice, Conversation, Native, Output, Reasoning, Text, Tool, Turn
from gateway.dialects.responses.request import read_request
from gateway.errors import BadRequest

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=500)
HI = (Turn("user", (Text("Hi"),)),)
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}


def read(**fields: Any) -> Conversation:
    """Read a request that says Hi."""
    return read_request(orjson.dumps({"model": "m", "input": "Hi", **fields}), "m")


def test_the_least() -> None:
    """A text is a user's turn, and nothing else is made up."""
    assert Conversation(HI) == read()


def test_everything() -> None:
    """Each setting finds its place; what only this dialect has is kept under its name, with the dialect's."""
    asked = read(
        instructions="Be kind.",
        tools=[
            {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True},
            {"type": "function", "name": "g", "parameters": None, "strict": None, "defer_loading": True},
            {"type": "web_search", "filters": {}},
        ],
        tool_choice="required", parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True, "description": "d"},
              "verbosity": "low"},
        reasoning={"effort": "high", "summary": "auto", "mode": "pro"}, max_output_tokens=100, temperature=0.5,
        top_p=1, top_logprobs=3, include=["message.output_text.logprobs", "reasoning.encrypted_content", "x"],
        metadata={"k": "v"}, user="u", safety_identifier="s", prompt_cache_key="p", service_tier="flex",
        truncation="auto", max_tool_calls=2, stream=True, store=True, moderation={"model": "x"}, background=False,
        stream_options={"include_obfuscation": False, "other": 1}, previous_response_id=None, conversation=None,
    )

    assert Conversation(
        turns=(Turn("system", (Text("Be kind."),)), *HI),
        tools=(Tool("f", "d", SCHEMA, strict=True), Tool("g"),
               Native("responses", {"type": "web_search", "filters": {}})),
        choice=Choice("any"), parallel=False, output=Output("schema", SCHEMA, "n", "d", strict=True),
        reasoning=Reasoning("high", shown="auto"), max_output=100, temperature=0.5, top_p=1.0, logprobs=3, user="u",
        metadata={"k": "v"}, verbosity="low", service_tier="flex", stream=True,
        others={
            "": "responses", "tools.defer_loading": True, "reasoning.mode": "pro", "include": ["x"],
            "safety_identifier": "s", "prompt_cache_key": "p", "truncation": "auto", "max_tool_calls": 2,
            "moderation": {"model": "x"}, "stream_options.other": 1,
        },
    ) == asked


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"safety_identifier": "s"}, {"user": "s"}), ({"truncation": "disabled", "store": False}, {}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": 0}), ({"top_logprobs": 0}, {}),
        ({"text": {"format": {"type": "text"}}}, {}), ({"text": {"format": {"type": "json_object"}}},
                                                       {"output": Output("json")}),
        ({"reasoning": {"generate_summary": "concise"}}, {"reasoning": Reasoning(shown="concise")}),
        ({"reasoning": {"effort": None}}, {}), ({"reasoning": None, "text": None, "tools": None, "include": None}, {}),
        ({"tool_choice": "auto"}, {"choice": Choice()}), ({"tool_choice": "none"}, {"choice": Choice("none")}),
        ({"tool_choice": {"type": "function", "name": "f"}}, {"choice": Choice("one", "f")}),
        ({"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}},
         {"choice": Choice("any", names=("f",))}),
        ({"tool_choice": {"type": "web_search"}},
         {"others": {"": "responses", "tool_choice": {"type": "web_search"}}}),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}},
         {"others": {"": "responses", "tool_choice": {
             "type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}}}),
        ({"": "gemini"}, {"others": {"": "responses"}}),
        ({"input": [{"role": "assistant", "content": "Hi", "phase": "commentary"}]},
         {"turns": (Turn("assistant", (Text("Hi"),)),), "others": {"": "responses", "input.phase": "commentary"}}),
    ],
)
def test_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """One thing said, one thing read; defaults that are written out are no wishes."""
    assert Conversation(**{"turns": HI, **expected}) == read(**fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [("previous_response_id", "resp_1"), ("conversation", "conv_1"), ("conversation", {"id": "conv_1"}),
     ("background", True), ("prompt", {"id": "pmpt_1"})],
)
def test_nothing_is_stored(name: str, value: Any) -> None:
    """What needs a memory is refused by its name, and the remedy is to send the whole history."""
    with pytest.raises(BadRequest, match=r"stores nothing\. .*the whole history in `input`") as raised:
        read(**{name: value})

    assert name == raised.value.param
    assert name in raised.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"), ({"input": []}, "input"), ({"input": None}, "input"), ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "user", "content": ""}]}, "input"), ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"instructions": ["x"]}, "instructions"), ({"tools": {}}, "tools"), ({"tools": [1]}, "tools[0]"),
        ({"tools": [{}]}, "tools[0].type"), ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "name": "f", "parameters": "x"}]}, "tools[0].parameters"),
        ({"tool_choice": "any"}, "tool_choice"), ({"tool_choice": 1}, "tool_choice"),
        ({"tool_choice": {}}, "tool_choice.type"), ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "none", "tools": [{}]}}, "tool_choice.mode"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice.tools"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function"}]}},
         "tool_choice.tools[0].name"),
        ({"text": {"verbosity": "huge"}}, "text.verbosity"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"reasoning": {"effort": "extreme"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "x"}}, "reasoning.summary"),
        ({"reasoning": {"generate_summary": "x"}}, "reasoning.generate_summary"), ({"reasoning": 1}, "reasoning"),
        ({"max_output_tokens": -1}, "max_output_tokens"), ({"temperature": "hot"}, "temperature"),
        ({"top_logprobs": 21}, "top_logprobs"), ({"include": "x"}, "include"),
        ({"metadata": {"k": 1}}, "metadata[...]"),
        ({"truncation": "x"}, "truncation"), ({"stream": "yes"}, "stream"),
        ({"stream_options": 1}, "stream_options"), ({"background": "yes"}, "background"),
        ({"max_tool_calls": 1.5}, "max_tool_calls"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    """A wrong field is refused with the path to it."""
    with pytest.raises(BadRequest) as raised:
        read(**fields)

    assert param == raised.value.param


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"1", b'{"input":"\xff"}', b'{"input":' + b"[" * 100_000])
def test_no_object(raw: bytes) -> None:
    """What is no JSON object is told so."""
    with pytest.raises(BadRequest):
        read_request(raw, "m")


NAMES = st.sampled_from([
    "input", "instructions", "tools", "tool_choice", "text", "format", "reasoning", "type", "role", "content", "output",
    "call_id", "name", "arguments", "summary", "encrypted_content", "image_url", "schema", "mode", "id", "parameters",
    "include", "metadata", "stream_options", "",
])
WORDS = st.sampled_from([
    "user", "assistant", "message", "function", "function_call", "function_call_output", "reasoning", "input_text",
    "input_image", "input_file", "input_audio", "refusal", "json_schema", "allowed_tools", "auto", "tg1:", "tg1:e30=",
    "item_reference", "data:;base64,", "x", "",
])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=40,
)


@STEADY
@given(st.binary(max_size=80))
def test_any_bytes(raw: bytes) -> None:
    """Bytes of any kind are read or refused."""
    with pytest.raises(BadRequest):
        read_request(raw, "m")


@STEADY
@given(st.dictionaries(NAMES, JSON, max_size=6), JSON)
def test_any_json(body: dict[str, Any], items: Any) -> None:
    """JSON of any shape, with the right names in the wrong places, is read or refused."""
    for fields in (body, {"input": items, **body}, {**body, "input": [items]}):
        with suppress(BadRequest):
            assert read_request(msgspec.json.encode(fields), "m").turns
