"""Reading chat completion requests: every field in its place, faults named, and nothing else raised by any bytes."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects import openai
from gateway.dialects.neutral import (
    Call,
    Choice,
    Conversation,
    Losses,
    Media,
    Native,
    Output,
    Part,
    Reasoning,
    Refusal,
    Result,
    Text,
    Thinking,
    Tool,
    Turn,
)
from gateway.errors import BadRequest

USER = Turn("user", (Text("Hi"),))
PLAIN = Conversation((USER,), others={"": "openai"})
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": True}}

CUSTOM = {"type": "custom", "custom": {"name": "c"}}


def read(**fields: Any) -> Conversation:
    """Read a request that says Hi, with more fields."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return openai.read_request(msgspec.json.encode(body), "auto")


FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"max_tokens": 5}, {"max_output": 5}),
    ({"max_completion_tokens": 6, "max_tokens": 5}, {"max_output": 6}),
    ({"stop": "x"}, {"stop": ("x",)}),
    ({"stop": ["x", "y"]}, {"stop": ("x", "y")}),
    ({"logprobs": True}, {"logprobs": 0}),
    ({"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}),
    ({"reasoning_effort": "high"}, {"reasoning": Reasoning("high")}),
    ({"reasoning": {"max_tokens": 900, "exclude": True}}, {"reasoning": Reasoning(None, 900, "none")}),
    ({"response_format": {"type": "text"}}, {}),
    ({"response_format": {"type": "json_object"}}, {"output": Output("json")}),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}},
     {"output": Output("schema", {}, "n", None, True)}),
    ({"tools": [TOOL]}, {"tools": (Tool("look", None, {"type": "object"}, True),)}),
    ({"functions": [{"name": "look"}], "function_call": {"name": "look"}},
     {"tools": (Tool("look"),), "choice": Choice("one", "look")}),
    ({"tools": [{"type": "web_search"}]}, {"tools": (Native("openai", {"type": "web_search"}),)}),
    ({"tool_choice": "required"}, {"choice": Choice("any")}),
    ({"tool_choice": {"type": "function", "function": {"name": "look"}}}, {"choice": Choice("one", "look")}),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOL]}}},
     {"choice": Choice("any", names=("look",))}),
    ({"parallel_tool_calls": False}, {"parallel": False}),
    ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True, "usage_in_stream": True}),
    ({"user": "u"}, {"user": "u"}),
    ({"safety_identifier": "s"}, {"user": "s"}),
    ({"user": "u", "safety_identifier": "s"},
     {"user": "s", "others": {"": "openai", "user": "u", "safety_identifier": "s"}}),
    ({"max_completion_tokens": 0}, {"max_output": 0}),
    ({"top_logprobs": 2}, {"others": {"": "openai", "top_logprobs": 2}}),
    ({"store": False}, {}),
    ({"store": True}, {"others": {"": "openai", "store": True}}),
    ({"tools": [CUSTOM], "tool_choice": CUSTOM}, {"tools": (Native("openai", CUSTOM),), "choice": Choice("one", "c")}),
    ({"tools": [{**TOOL, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
     {"tools": (Tool("look", None, {"type": "object"}, True, "1h"),)}),
    ({"stream_options": {"include_obfuscation": False}},
     {"others": {"": "openai", "stream_options": {"stream_options.include_obfuscation": False}}}),
    ({"reasoning": {"effort": "low", "enabled": True}},
     {"reasoning": Reasoning("low"), "others": {"": "openai", "reasoning": {"reasoning.enabled": True}}}),
    ({"tools": [{"type": "function", "function": {"name": "f", "examples": [1]}}]},
     {"tools": (Tool("f"),), "others": {"": "openai", "tools": {"tools[0].function.examples": [1]}}}),
    ({"brand_new": [1]}, {"others": {"": "openai", "brand_new": [1]}}),
]


@pytest.mark.parametrize(("fields", "expected"), FIELDS)
def test_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each has its place; what nobody else can say is kept by its name."""
    assert read(**fields) == msgspec.structs.replace(PLAIN, **expected)


def test_plain_numbers() -> None:
    """Sampling, seeds and marks go over as they are."""
    plain: dict[str, Any] = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "presence_penalty": 1.0, "frequency_penalty": -1.0, "seed": 7,
        "n": 2, "metadata": {"a": "b"}, "verbosity": "low", "service_tier": "flex",
    }

    assert read(**plain) == msgspec.structs.replace(PLAIN, **plain)


MESSAGES: list[tuple[dict[str, Any], Turn]] = [
    ({"role": "system", "content": "s"}, Turn("system", (Text("s"),))),
    ({"role": "developer", "content": "s", "name": "n"}, Turn("system", (Text("s"),), "n", True)),
    ({"role": "tool", "tool_call_id": "t", "content": "r"}, Turn("user", (Result("t", (Text("r"),)),))),
    ({"role": "function", "name": "f", "content": "r"}, Turn("user", (Result("f", (Text("r"),), "f"),))),
    ({"role": "assistant", "content": None, "tool_calls": [
        {"id": "t", "type": "function", "function": {"name": "look", "arguments": "{"}}]},
     Turn("assistant", (Call("t", "look", "{"),))),
    ({"role": "assistant", "content": "", "tool_calls": [
        {"id": "t", "type": "custom", "custom": {"name": "look", "input": "x"}}]},
     Turn("assistant", (Native("openai", {"id": "t", "type": "custom", "custom": {"name": "look", "input": "x"}}),))),
    ({"role": "assistant", "content": "a", "reasoning_content": "hm", "refusal": "no"},
     Turn("assistant", (Thinking("openai", "hm"), Text("a"), Refusal("no")))),
    ({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
     Turn("assistant", (Call("call_0", "f", "{}"),))),
    ({"role": "assistant", "content": None, "audio": {"id": "a"}},
     Turn("assistant", (Native("openai", {"audio": {"id": "a"}}),))),
    ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "audio": None, "annotations": []},
     Turn("assistant", (Refusal("no"),))),
    ({"role": "assistant", "tool_calls": [
        {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"},
         "extra_content": {"google": {"thought_signature": "s"}}}]}, Turn("assistant", (Call("t", "f", "{}", "s"),))),
]


@pytest.mark.parametrize(("message", "turn"), MESSAGES)
def test_messages(message: dict[str, Any], turn: Turn) -> None:
    """Every role, the old forms among them."""
    assert read(messages=[message]).turns == (turn,)


def test_calls_of_the_old_form_are_told_apart() -> None:
    """They have no ids, and other dialects refuse one twice; each result goes to the call before it."""
    turns = read(messages=[
        {"role": "assistant", "function_call": {"name": "f", "arguments": "1"}},
        {"role": "function", "name": "f", "content": "a"},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "2"}},
        {"role": "function", "name": "f", "content": "b"},
    ]).turns

    assert turns == (
        Turn("assistant", (Call("call_0", "f", "1"),)), Turn("user", (Result("call_0", (Text("a"),), "f"),)),
        Turn("assistant", (Call("call_2", "f", "2"),)), Turn("user", (Result("call_2", (Text("b"),), "f"),)),
    )


def test_what_is_not_known_is_kept_by_its_path() -> None:
    """Under one name for all of a field's depth, so that a long conversation does not make a long list of losses."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi", "x": 1}], "y": {}},
                {"role": "assistant", "content": "a", "prefix": True, "z": None}]

    assert read(messages=messages).others == {"": "openai", "messages": {
        "messages[0].y": {}, "messages[0].content[0].x": 1, "messages[1].prefix": True}}


PARTS: list[tuple[dict[str, Any], Part]] = [
    ({"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}}, Text("t", "5m")),
    ({"type": "image_url", "image_url": {"url": "http://a/b.png", "detail": "low"}},
     Media("image", url="http://a/b.png", detail="low")),
    ({"type": "image_url", "image_url": {"url": "data:image/webp;base64,AAAA"}}, Media("image", "image/webp", "AAAA")),
    ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}, Media("audio", "audio/mpeg", "AAAA")),
    ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
     Media("file", "application/pdf", "AAAA", name="a.pdf")),
    ({"type": "file", "file": {"file_id": "file-1"}}, Media("file", file_id="file-1")),
    ({"type": "brand_new", "x": 1}, Native("openai", {"type": "brand_new", "x": 1})),
]


@pytest.mark.parametrize(("part", "expected"), PARTS)
def test_parts(part: dict[str, Any], expected: Part) -> None:
    """Text, images, sounds and files, by value and by address; a new kind as it came."""
    assert read(messages=[{"role": "user", "content": [part]}]).turns[0].parts == (expected,)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "wizard"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
         "messages[0].content[0].image_url.url"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].input_audio"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"type": "function"}]}]}, "messages[0].tool_calls[0].id"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].name"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": 5}}}, "tool_choice.allowed_tools.tools"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "any", "tools": []}}},
         "tool_choice.allowed_tools.mode"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [{}]}}},
         "tool_choice.allowed_tools.tools[0]"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        ({"stop": 5}, "stop"), ({"n": -1}, "n"), ({"temperature": "hot"}, "temperature"),
    ],
)
def test_faults_are_named(fields: dict[str, Any], param: str) -> None:
    """With the path to the field."""
    with pytest.raises(BadRequest) as caught:
        read(**fields)

    assert caught.value.param == param


RICH: dict[str, Any] = {
    "model": "gpt-x", "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "http://a/b.png", "detail": "low"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
        ]},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "a", "content": "a cat"},
        {"role": "tool", "tool_call_id": "b", "content": "a dog"},
        {"role": "user", "content": "Sure?", "name": "Bo"},
    ],
    "tools": [TOOL, {"type": "web_search"}], "tool_choice": {"type": "function", "function": {"name": "look"}},
    "parallel_tool_calls": False, "reasoning_effort": "low", "temperature": 0.5, "top_p": 0.9, "seed": 3,
    "stop": ["x"], "n": 2, "logprobs": True, "top_logprobs": 2, "user": "u", "metadata": {"a": "b"}, "max_tokens": 9,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "brand_new": {"a": [1]}, "stream": True, "stream_options": {"include_usage": True},
}


def test_the_round_trip_is_the_identity() -> None:
    """What this dialect says, read and written again, is what it said, fields that nobody knows among it."""
    losses = Losses("openai", openai.LOSSES)
    conversation = openai.read_request(msgspec.json.encode(RICH), "auto")
    written = openai.write_request(conversation, "gpt-x", losses)

    assert msgspec.json.decode(written) == RICH
    assert losses.kept == {}


DEEP: dict[str, Any] = {
    "model": "gpt-x", "messages": [
        {"role": "developer", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                                          {"type": "text", "text": "b"}]},
        {"role": "user", "content": [
            {"type": "text", "text": "hear", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "flac"}},
            {"type": "file", "file": {"file_id": "file-1"}}, {"type": "file", "file": {"file_data": "https://a/b.pdf"}},
            {"type": "file", "file": {"file_data": "AAAA"}}, {"type": "video_url", "video_url": {"url": "u"}},
        ]},
        {"role": "assistant", "content": [{"type": "brand_new"}], "reasoning_details": [{"a": 1}]},
        {"role": "assistant", "content": None, "audio": {"id": "au"}},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "custom", "custom": {"name": "run", "input": "x"}},
            {"id": "d", "type": "function", "function": {"name": "f", "arguments": "{}", "strange": 1},
             "extra_content": {"google": {"thought_signature": "s"}}},
            {"id": "e", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"b": 1}},
        ]},
        {"role": "tool", "tool_call_id": "c", "content": [
            {"type": "text", "text": "1"}, {"type": "text", "text": "2"}]},
        {"role": "tool", "tool_call_id": "d", "content": [{"type": "image_url", "image_url": {"url": "u", "x": 1}}]},
        {"role": "user", "content": [{"type": "text", "text": "t", "strange": True}], "weight": 0},
    ],
    "tools": [{"type": "custom", "custom": {"name": "run", "format": {"type": "text"}}},
              {"type": "function", "function": {"name": "f", "examples": []}},
              {"type": "function", "function": {"name": "g"}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
        {"type": "custom", "custom": {"name": "run"}}, {"type": "function", "function": {"name": "f"}}]}},
    "reasoning": {"max_tokens": 5, "exclude": True, "enabled": True}, "response_format": {"type": "json_object"},
    "store": True, "metadata": {"a": "b"}, "top_k": 3, "n": 1, "user": "u", "safety_identifier": "s", "top_logprobs": 0,
    "service_tier": "strange", "web_search_options": {}, "modalities": ["text", "audio"], "logit_bias": {"5": 1},
    "audio": {"voice": "v", "format": "wav"}, "prediction": {"type": "content", "content": "x"},
    "stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False},
}


def test_so_is_the_round_trip_of_the_seldom() -> None:
    """Custom tools, spoken answers, files by id, marks of both kinds, and the unknown at any depth."""
    losses = Losses("openai", openai.LOSSES)
    written = openai.write_request(openai.read_request(msgspec.json.encode(DEEP), "auto"), "gpt-x", losses)
    wanted = msgspec.json.decode(msgspec.json.encode(DEEP))
    del wanted["tools"][1]["function"]["examples"]          # an empty list says nothing

    assert msgspec.json.decode(written) == wanted
    assert losses.kept == {}


def test_documented_equivalents() -> None:
    """Two names for one thing come out under the one that more servers know; defaults and nulls come out as nothing."""
    body = {
        "messages": [
            {"role": "assistant", "content": "", "reasoning": "hm", "annotations": [], "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"role": "function", "name": "f", "content": "r"},
            {"role": "user", "content": [{"type": "text", "text": "t"}]},
        ],
        "functions": [{"name": "f"}], "function_call": "auto", "stop": "x", "max_completion_tokens": 4, "store": False,
        "safety_identifier": "s", "response_format": {"type": "text"}, "reasoning": {"effort": "low"},
        "logprobs": True, "stream": False, "temperature": None,
    }
    conversation = openai.read_request(msgspec.json.encode(body), "auto")

    assert msgspec.json.decode(openai.write_request(conversation, "llama", Losses("openai", openai.LOSSES))) == {
        "model": "llama", "messages": [
            {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "f", "content": "r", "name": "f"},
            {"role": "user", "content": "t"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto", "stop": ["x"],
        "max_tokens": 4, "user": "s", "reasoning_effort": "low", "logprobs": True,
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([
        "role", "content", "type", "text", "image_url", "url", "tool_calls", "function", "name", "id", "arguments",
        "file", "input_audio", "data", "format", "user", "assistant", "tool", "allowed_tools", "tools", "mode",
        "custom", "extra_content", "cache_control", "prompt_cache_breakpoint", "ttl", "audio", "json_schema", "schema",
    ]), inner, max_size=4),
    max_leaves=8,
)
ROLES = st.sampled_from(["user", "assistant", "tool", "system", "wizard"])


def written_or_refused(raw: bytes) -> bytes:
    """Return a request written anew, or the message of the refusal; nothing else may come of any bytes."""
    try:
        return openai.write_request(openai.read_request(raw, "auto"), "m", Losses("openai", openai.LOSSES))
    except BadRequest as refused:
        return msgspec.json.encode({"refused": refused.message})


@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(
    raw=st.binary(max_size=60),
    body=st.dictionaries(st.sampled_from(sorted(RICH)), JSON, max_size=4),
    message=st.fixed_dictionaries({"role": ROLES}, optional={"content": JSON, "tool_calls": JSON, "name": JSON}),
)
def test_nothing_but_bad_request(raw: bytes, body: dict[str, Any], message: dict[str, Any]) -> None:
    """No bytes and no JSON raise anything else."""
    for given_ in (raw, msgspec.json.encode({"messages": [message], **body}), b"[" * 5_000):
        assert isinstance(msgspec.json.decode(written_or_refused(given_)), dict)


@pytest.mark.parametrize("depth", [900, 980, 990, 993, 994, 995, 996, 997, 998, 999, 1_000, 5_000])
def test_depth(depth: int) -> None:
    """As deep as a body can be read, its parts can be written again or are refused: nothing else is raised."""
    raw = b'{"messages":[{"role":"user","content":"x","y":' + b"[" * depth + b"]" * depth + b"}]}"

    assert (b'"refused"' in written_or_refused(raw)) or depth < 1_000
