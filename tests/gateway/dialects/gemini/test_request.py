"""Reading generateContent requests: every field in its place, faults named, and nothing else raised by any bytes."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.gemini.request import read_request
from gateway.dialects.neutral import (
    Call,
    Choice,
    Conversation,
    Media,
    Native,
    Output,
    Reasoning,
    Result,
    Text,
    Thinking,
    Tool,
    Turn,
)
from gateway.errors import BadRequest

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=300)
HI = {"contents": [{"parts": [{"text": "Hi"}]}]}
USER = Turn("user", (Text("Hi"),))


def read(**fields: Any) -> Conversation:
    """Read a request that says Hi, with more fields."""
    return read_request(orjson.dumps(HI | fields), "gemini-3-flash")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"systemInstruction": {"parts": [{"text": "a"}, {"text": "b"}]}},
         {"turns": (Turn("system", (Text("a"), Text("b"))), USER)}),
        ({"system_instruction": {"role": "user", "parts": {"text": "a"}}},
         {"turns": (Turn("system", (Text("a"),)), USER)}),
        ({"contents": {"role": "user", "parts": {"text": "Hi"}}}, {}),
        ({"contents": [{"role": "user"}, {"role": "model", "parts": []}, HI["contents"][0]]},
         {"turns": (Turn("user", ()), Turn("assistant", ()), USER)}),
        ({"model": "models/other"}, {}),
        ({"serviceTier": "FLEX"}, {"service_tier": "flex"}),
        ({"service_tier": "standard"}, {"service_tier": "default"}),
        ({"safetySettings": [], "cached_content": "x"},
         {"others": {"": "gemini", "safetySettings": [], "cachedContent": "x"}}),
        ({"generationConfig": None, "tools": None}, {}),
        ({"generationConfig": {"responseModalities": ["TEXT"]}}, {}),
        ({"generationConfig": {"responseModalities": ["AUDIO"]}},
         {"others": {"": "gemini", "generationConfig.responseModalities": ["AUDIO"]}}),
    ],
)
def test_the_top_of_a_request(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Turns and the fields beside them are read in both spellings; the unknown are kept by name."""
    assert msgspec.structs.replace(Conversation((USER,)), **expected) == read(**fields)


SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"temperature": 1, "topP": 0.5, "top_k": 40.0}, {"temperature": 1.0, "top_p": 0.5, "top_k": 40}),
    ({"maxOutputTokens": 9, "candidate_count": 2, "seed": -1}, {"max_output": 9, "n": 2, "seed": -1}),
    ({"presencePenalty": 0.5, "frequency_penalty": -0.5}, {"presence_penalty": 0.5, "frequency_penalty": -0.5}),
    ({"stopSequences": ["a", "b"]}, {"stop": ("a", "b")}),
    ({"stop_sequences": "a"}, {"stop": ("a",)}),
    ({"responseLogprobs": True}, {"logprobs": 0}),
    ({"responseLogprobs": True, "logprobs": 5}, {"logprobs": 5}),
    ({"responseLogprobs": False}, {}),
    ({"logprobs": 5}, {"others": {"": "gemini", "generationConfig.logprobs": 5}}),
    ({"responseMimeType": "text/plain"}, {}),
    ({"responseMimeType": "application/json"}, {"output": Output("json")}),
    ({"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"}},
     {"output": Output("schema", {"type": "object"})}),
    ({"response_mime_type": "application/json", "response_json_schema": {"type": "OBJECT"}},
     {"output": Output("schema", {"type": "OBJECT"})}),
    ({"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a"]}},
     {"others": {"": "gemini", "generationConfig.responseMimeType": "text/x.enum",
                 "generationConfig.responseJsonSchema": {"type": "string", "enum": ["a"]}}}),
    ({"responseFormat": [{"text": {"mimeType": "APPLICATION_JSON", "schema": {"type": "object"}}}]},
     {"output": Output("schema", {"type": "object"})}),
    ({"responseFormat": {"text": {}}}, {}),
    ({"responseFormat": [{"image": {}}]},
     {"others": {"": "gemini", "generationConfig.responseFormat": [{"image": {}}]}}),
    ({"responseFormat": []}, {"others": {"": "gemini", "generationConfig.responseFormat": []}}),
    ({"thinkingConfig": {"thinkingBudget": 5, "x": 1}},
     {"reasoning": Reasoning(budget=5), "others": {"": "gemini", "generationConfig.thinkingConfig.x": 1}}),
    ({"response_modalities": ["TEXT", "IMAGE"], "speechConfig": {"a_b": 1}},
     {"others": {"": "gemini", "generationConfig.responseModalities": ["TEXT", "IMAGE"],
                 "generationConfig.speechConfig": {"a_b": 1}}}),
]


@pytest.mark.parametrize(("config", "expected"), SETTINGS)
def test_generation_config(config: dict[str, Any], expected: dict[str, Any]) -> None:
    """Settings are read in both spellings; what only Gemini has is kept by its path."""
    wanted = msgspec.structs.replace(Conversation((USER,)), **expected)

    assert wanted == read(generationConfig=config) == read(generation_config=config)


def test_tools() -> None:
    """Functions become tools with JSON schemas, Google's own stay native, and the rest of a declaration is kept."""
    conversation = read(tools=[
        {"googleSearch": {}, "function_declarations": [
            {"name": "a", "description": "A", "parameters": {"type": "OBJECT"}, "response": {"type": "STRING"}},
            {"name": "b", "parameters_json_schema": {"type": "object"}, "parameters": {"type": "ARRAY"}},
        ]},
        {"url_context": {}}, {"functionDeclarations": {"name": "c"}},
    ])

    assert (
        Tool("a", "A", {"type": "object"}), Tool("b", None, {"type": "object"}), Native("gemini", {"googleSearch": {}}),
        Native("gemini", {"urlContext": {}}), Tool("c"),
    ) == conversation.tools
    assert {"": "gemini", "tools": {"a": {"response": {"type": "STRING"}}}} == conversation.others


@pytest.mark.parametrize(
    ("calling", "choice", "others"),
    [
        ({"mode": "AUTO"}, Choice(), {}), ({"mode": "NONE"}, Choice("none"), {}), ({"mode": "ANY"}, Choice("any"), {}),
        ({"mode": "any", "allowed_function_names": ["a"]}, Choice("one", "a"), {}),
        ({"mode": "ANY", "allowedFunctionNames": ["a", "b"]}, Choice("any", names=("a", "b")), {}),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["a"]}, Choice(names=("a",)), {"mode": "VALIDATED"}),
        ({"mode": "MODE_UNSPECIFIED"}, None, {}), ({"allowedFunctionNames": ["a"]}, Choice(names=("a",)), {}),
        ({"streamFunctionCallArguments": True}, None, {"streamFunctionCallArguments": True}),
    ],
)
def test_choice(calling: dict[str, Any], choice: Choice | None, others: dict[str, Any]) -> None:
    """Which functions may or must be called is read; VALIDATED is an AUTO of its own, and remembered."""
    conversation = read(tool_config={"function_calling_config": calling, "retrievalConfig": {}})
    kept = {f"toolConfig.functionCallingConfig.{name}": value for name, value in others.items()}

    assert choice == conversation.choice
    assert {"": "gemini", "toolConfig.retrievalConfig": {}, **kept} == conversation.others


def call(name: str, call_id: str | None = None) -> dict[str, Any]:
    """Return a part that calls."""
    return {"functionCall": {"name": name, "args": {}} | ({"id": call_id} if call_id else {})}


def result(name: str, call_id: str | None = None) -> dict[str, Any]:
    """Return a part that answers a call."""
    return {"functionResponse": {"name": name, "response": {"output": "x"}} | ({"id": call_id} if call_id else {})}


@pytest.mark.parametrize(
    ("parts", "ids"),
    [
        ([call("f"), result("f")], ["call_0", "call_0"]),
        ([call("f"), call("g"), result("g"), result("f")], ["call_0", "call_1", "call_1", "call_0"]),
        ([call("f"), call("f"), result("f"), result("f")], ["call_0", "call_1", "call_0", "call_1"]),
        ([call("f", "x"), result("f", "x"), call("f"), result("f")], ["x", "x", "call_1", "call_1"]),
        ([call("f", "x"), call("f"), result("f", "x"), result("f")], ["x", "call_1", "x", "call_1"]),
        ([call("f", "x"), result("f")], ["x", "x"]),
        ([call("f", "call_1"), call("f"), call("f")], ["call_1", "call_2", "call_3"]),
        ([result("f"), call("f")], ["call_0", "call_1"]),
        ([result("f", "y"), call("f")], ["y", "call_0"]),
    ],
)
def test_calls_and_results_find_each_other(parts: list[dict[str, Any]], ids: list[str]) -> None:
    """By id where there is one, else by name in order; made ids are counted and never taken twice."""
    conversation = read(contents=[{"role": "model", "parts": parts}])

    assert ids == [part.id for part in conversation.turns[0].parts if isinstance(part, Call | Result)]


def test_many_calls_are_read_in_good_time() -> None:
    """Ids that collide with every made one, and results that answer nothing, cost no more than others."""
    many = 20_000
    explicit = [call("f", f"call_{many + at}") for at in range(many)]
    conversation = read(contents=[{"parts": [*explicit, *[call("f")] * many, *[result("f", "z")] * many]}])

    assert 3 * many == len(conversation.turns[0].parts)


def test_roles() -> None:
    """A function's content is a user's turn, the model's an assistant's; signatures stay with what they seal."""
    conversation = read(contents=[
        {"role": "user", "parts": [{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": "x"}}]},
        {"role": "model", "parts": [{"text": "b", "thought": True}, {"text": "c", "thoughtSignature": "s"}]},
        {"role": "function", "parts": [result("f", "i")]},
    ])

    assert (
        Turn("user", (Text("a"), Media("image", "image/png", "x"))),
        Turn("assistant", (Thinking("gemini", "b"), Thinking("gemini", signature="s"), Text("c"))),
        Turn("user", (Result("i", (Text("x"),), "f"),)),
    ) == conversation.turns


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"contents": []}, "contents"), ({"contents": "Hi"}, "contents"), ({"contents": [1]}, "contents[0]"),
        ({"contents": [{"parts": [{"text": 1}]}]}, "contents[0].parts[0].text"),
        ({"contents": [{"parts": "x"}]}, "contents[0].parts"),
        ({"contents": [{"role": "system", "parts": []}]}, "contents[0].role"),
        ({"contents": [{"role": 3}]}, "contents[0].role"),
        ({"system_instruction": "be kind"}, "systemInstruction"),
        ({"systemInstruction": {"parts": [{"functionCall": {}}]}}, "systemInstruction.parts[0].functionCall.name"),
        ({"tools": [3]}, "tools[0]"),
        ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
        ({"tools": [{}, {"functionDeclarations": [{"name": "a", "parameters": 1}]}]},
         "tools[1].functionDeclarations[0].parameters"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}}, "toolConfig.functionCallingConfig.mode"),
        ({"toolConfig": {"functionCallingConfig": {"allowedFunctionNames": [1]}}},
         "toolConfig.functionCallingConfig.allowedFunctionNames[0]"),
        ({"generationConfig": {"temperature": "1"}}, "generationConfig.temperature"),
        ({"generation_config": {"max_output_tokens": -1}}, "generationConfig.maxOutputTokens"),
        ({"generationConfig": {"topK": 1.5}}, "generationConfig.topK"),
        ({"generationConfig": {"stopSequences": [1]}}, "generationConfig.stopSequences[0]"),
        ({"generationConfig": {"responseSchema": {}}}, "generationConfig.responseMimeType"),
        ({"generationConfig": {"responseFormat": [3]}}, "generationConfig.responseFormat[0]"),
        ({"generationConfig": {"responseFormat": [{"text": {"schema": 1}}]}},
         "generationConfig.responseFormat[0].text.schema"),
        ({"generationConfig": {"thinkingConfig": {"thinkingBudget": "x"}}},
         "generationConfig.thinkingConfig.thinkingBudget"),
    ],
)
def test_faults_are_named(fields: dict[str, Any], param: str) -> None:
    """A wrong type of a known field is refused by its path, in Google's spelling."""
    with pytest.raises(BadRequest) as caught:
        read(**fields)

    assert param == caught.value.param
    assert f"`{param}`" in caught.value.message


@pytest.mark.parametrize("raw", [b"", b"[]", b"3", b"{}", b'{"contents": null}', b"[" * 9_999, b"\x80"])
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    """So is a body that is no object, or has no contents."""
    with pytest.raises(BadRequest):
        read_request(raw, "m")


@pytest.mark.parametrize("depth", [100, 250, 400, 900, 2_000])
def test_depth_never_breaks_the_reader(depth: int) -> None:
    """Schemas and arguments of any depth are read, or refused as too deep."""
    deep: Any = b'{"items":' * depth + b"{}" + b"}" * depth
    tool = b'{"functionDeclarations":[{"name":"f","parameters":' + deep + b"}]}"
    part = b'{"functionCall":{"name":"f","args":' + deep + b"}}"
    for raw in (b'{"contents":[{"parts":[{"text":"a"}]}],"tools":[' + tool + b"]}",
                b'{"contents":[{"parts":[' + part + b"]}]}"):
        try:
            assert isinstance(read_request(raw, "m"), Conversation)
        except BadRequest as error:
            assert "nested too deeply" in error.message  # noqa: PT017 - either is right, and both are asserted


NAMES = [
    "contents", "parts", "role", "text", "thought", "thoughtSignature", "inlineData", "inline_data", "mimeType", "data",
    "fileData", "fileUri", "functionCall", "functionResponse", "name", "id", "args", "response", "error", "output",
    "tools", "functionDeclarations", "parameters", "parametersJsonSchema", "toolConfig", "functionCallingConfig",
    "mode", "allowedFunctionNames", "generationConfig", "responseSchema", "responseMimeType", "responseFormat",
    "schema", "thinkingConfig", "thinkingLevel", "topK", "logprobs", "responseLogprobs", "stopSequences",
    "systemInstruction", "type", "properties", "", "x_y",
]
LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | (
    st.sampled_from(["", "a", "user", "model", "ANY", "application/json", "https://x/y.png", '{"a":1}', "\u20ac"])
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=20,
)
BODIES = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6)


@STEADY
@given(body=BODIES, parts=st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3), max_size=3))
def test_any_json_is_read_or_refused(body: dict[str, Any], parts: list[Any]) -> None:
    """Whatever JSON comes, the answer is a Conversation or a BadRequest."""
    for raw in (orjson.dumps(body), orjson.dumps({"contents": [{"parts": parts}]} | body)):
        try:
            assert isinstance(read_request(raw, "m"), Conversation)
        except BadRequest as error:
            assert error.message  # noqa: PT017 - either is right, and both are asserted


@STEADY
@given(raw=st.binary(max_size=60) | st.tuples(st.just(orjson.dumps(HI)), st.binary(max_size=9)).map(b"".join))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """So do bytes that are no JSON."""
    try:
        assert isinstance(read_request(raw, "m"), Conversation)
    except BadRequest as error:
        assert error.message  # noqa: PT017 - either is right, and both are asserted
