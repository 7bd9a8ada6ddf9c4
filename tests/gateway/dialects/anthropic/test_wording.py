"""Other dialects' conversations as Messages requests: what is said, what is lost, what is refused."""

from importlib import import_module
from typing import Any

import msgspec
import orjson
import pytest

from gateway.dialects.anthropic.request import read_request
from gateway.dialects.anthropic.wording import LOSSES, write_request
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
    Result,
    Text,
    Thinking,
    Tool,
    Turn,
)
from gateway.errors import BadRequest, Inexpressible

BUDGET, EITHER, EFFORT = "claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-8"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}
CLOSED = {
    "type": "object", "properties": {"a": {"type": "integer", "description": 'Constraints: {"minimum":1}'}},
    "additionalProperties": False,
}
LOOK = Tool("look", "Look.", SCHEMA)


def user(*parts: Part) -> Turn:
    """Return a turn of the user's."""
    return Turn("user", parts)


def assistant(*parts: Part) -> Turn:
    """Return a turn of the assistant's."""
    return Turn("assistant", parts)


def system(text: str) -> Turn:
    """Return a turn of the system's."""
    return Turn("system", (Text(text),))


HI = user(Text("Hi"))


def written(*turns: Turn, model: str = EITHER, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the body for a conversation without what every body has, and what was lost."""
    losses = Losses("anthropic", LOSSES)
    body = orjson.loads(write_request(Conversation(turns or (HI,), **fields), model, losses))

    assert body.pop("model") == model
    if body["max_tokens"] == 32_000:
        del body["max_tokens"]
    if not turns:
        assert body.pop("messages") == [{"role": "user", "content": "Hi"}]
    return body, list(losses.kept)


def test_the_whole_of_a_foreign_request() -> None:
    """What both dialects can say is said, in this one's words."""
    body, lost = written(
        system("Be brief."), user(Text("What is it?"), Media("image", "image/png", "iVBORw0KGgo=")),
        assistant(Text("I look."), Call("call_1", "look", '{"a": 1.0}')), user(Result("call_1", (Text("a cat"),))),
        tools=(LOOK,), choice=Choice("any"), parallel=False, max_output=100, temperature=0.5, stop=("END",),
        user="u1", stream=True, service_tier="auto", n=1, usage_in_stream=True,
    )

    assert lost == []
    assert body == {
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
            ]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "call_1", "name": "look", "input": {"a": 1.0}},
            ]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "a cat"}]},
        ],
        "max_tokens": 100, "temperature": 0.5, "stop_sequences": ["END"], "metadata": {"user_id": "u1"},
        "service_tier": "auto", "stream": True,
        "tools": [{"name": "look", "description": "Look.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    }


CALLS = assistant(Call("a", "f", "{}"), Call("b", "f", "{}"))
SAID_CALLS = {"role": "assistant", "content": [
    {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    {"type": "tool_use", "id": "b", "name": "f", "input": {}},
]}
A, B = user(Result("a", (Text("1"),))), user(Result("b", (Text("2"),)))
SAID_A, SAID_B = (
    {"type": "tool_result", "tool_use_id": "a", "content": "1"},
    {"type": "tool_result", "tool_use_id": "b", "content": "2"},
)
SAID_HI = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("turns", "said_system", "messages", "lost"),
    [
        ((system("a"), system("b"), HI),
         [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], [SAID_HI], []),
        ((HI, system("late")), "late", [SAID_HI], ["turn.system"]),
        ((HI, HI), None, [SAID_HI, SAID_HI], []),
        ((system("Say hi."),), None, [{"role": "user", "content": "Say hi."}], []),
        ((assistant(Text("Hello")), HI), None,
         [{"role": "user", "content": "(The assistant speaks first.)"}, {"role": "assistant", "content": "Hello"},
          SAID_HI], ["turn.first"]),
        ((HI, user(Text(" ")), assistant(Thinking("gemini", "Hm"))), None, [SAID_HI], ["thinking"]),
        ((Turn("user", (Text("Hi"),), name="Ann"),), None, [SAID_HI], ["turn.name"]),
        ((HI, CALLS, A, B), None, [SAID_HI, SAID_CALLS, {"role": "user", "content": [SAID_A, SAID_B]}], []),
        ((HI, CALLS, A, system("late"), B, HI), "late",
         [SAID_HI, SAID_CALLS, {"role": "user", "content": [SAID_A, SAID_B, {"type": "text", "text": "Hi"}]}],
         ["turn.system"]),
        ((HI, CALLS, HI, user(Text("and"), *A.parts), B), None,
         [SAID_HI, SAID_CALLS, {"role": "user", "content": [
             SAID_A, SAID_B, {"type": "text", "text": "Hi"}, {"type": "text", "text": "and"},
         ]}], []),
    ],
)
def test_turns(
    turns: tuple[Turn, ...], said_system: Any, messages: list[dict[str, Any]], lost: list[str]
) -> None:
    """System turns go to the front, results stand together and first, empty turns are left out."""
    body, losses = written(*turns)

    assert (body.get("system"), body["messages"], losses) == (said_system, messages, lost)


@pytest.mark.parametrize("turns", [(), (user(),), (user(Text("")), system("  "))])
def test_nothing_said(turns: tuple[Turn, ...]) -> None:
    """A conversation without a word is refused."""
    with pytest.raises(BadRequest, match="Nothing is said"):
        write_request(Conversation(turns), EITHER, Losses("anthropic", LOSSES))


SETTINGS: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    (EITHER, {"temperature": 1.5}, {"temperature": 1.0}, ["temperature"]),
    (EITHER, {"temperature": 1}, {}, []),
    (EITHER, {"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2}, ["top_p"]),
    (EITHER, {"top_p": 0.9, "top_k": 5}, {"top_p": 0.9, "top_k": 5}, []),
    (EITHER, {"top_p": 1.0}, {}, []),
    ("claude-3-7-sonnet", {"temperature": 0.2, "top_p": 0.9, "max_output": 9},
     {"temperature": 0.2, "top_p": 0.9, "max_tokens": 9}, []),
    (EFFORT, {"temperature": 0.2, "top_p": 0.9, "top_k": 5}, {}, ["temperature", "top_p", "top_k"]),
    (BUDGET, {"temperature": 0.2, "top_p": 0.9, "top_k": 5, "reasoning": Reasoning("low")},
     {"thinking": {"type": "enabled", "budget_tokens": 2_048}}, ["temperature", "top_p", "top_k"]),
    (BUDGET, {"top_p": 0.97, "reasoning": Reasoning("low")},
     {"thinking": {"type": "enabled", "budget_tokens": 2_048}, "top_p": 0.97}, []),
    (EFFORT, {"reasoning": Reasoning("high", shown="auto")},
     {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}}, []),
    ("claude-opus-5", {"reasoning": Reasoning("none"), "temperature": 1.0}, {"thinking": {"type": "disabled"}}, []),
    (EITHER, {"presence_penalty": 1.0, "frequency_penalty": 1.0, "seed": 1, "verbosity": "low"}, {},
     ["presence_penalty", "frequency_penalty", "seed", "verbosity"]),
    (EITHER, {"metadata": {"a": "b"}, "user": "u" * 257}, {}, ["metadata", "user"]),
    (EITHER, {"service_tier": "default"}, {"service_tier": "standard_only"}, []),
    (EITHER, {"service_tier": "flex"}, {}, ["service_tier"]),
    (EITHER, {"output": Output("json")},
     {"system": "Answer with one JSON object and nothing else: no words around it, no code fence."}, ["output.json"]),
    (EITHER, {"output": Output("schema", SCHEMA, name="n", description="D.")},
     {"output_config": {"format": {"type": "json_schema", "schema": {"description": "D.", **CLOSED}}}},
     ["output.name"]),
    (EITHER, {"output": Output("schema")}, {}, []),
    (EITHER, {"others": {"": "openai", "store": True}}, {}, ["others.store"]),
]


@pytest.mark.parametrize(("model", "fields", "said", "lost"), SETTINGS)
def test_settings(model: str, fields: dict[str, Any], said: dict[str, Any], lost: list[str]) -> None:
    """Settings are said as the model takes them; those that it does not take are left out and logged."""
    assert written(model=model, **fields) == (said, lost)


TOOLS: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    (EITHER, {"tools": (Tool("f"),)},
     {"tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]}, []),
    (EITHER, {"tools": (Tool("f", parameters={"properties": {"a": {}}}, strict=False, cache="1h"),)},
     {"tools": [{"name": "f", "input_schema": {"type": "object", "properties": {"a": {}}},
                 "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}, []),
    (EITHER, {"tools": (Tool("f", parameters=SCHEMA, strict=True),)},
     {"tools": [{"name": "f", "input_schema": CLOSED, "strict": True}]}, []),
    (EITHER, {"tools": (Tool("f", parameters={"type": "object"}, strict=True),)},
     {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}, ["tool.strict"]),
    ("claude-opus-4-1", {"tools": (Tool("f", parameters=SCHEMA, strict=True),)},
     {"tools": [{"name": "f", "input_schema": SCHEMA}]}, ["tool.strict"]),
    (EITHER, {"tools": (Native("anthropic", {"type": "bash_20250124", "name": "bash"}),)},
     {"tools": [{"type": "bash_20250124", "name": "bash"}]}, []),
    (EITHER, {"choice": Choice("auto"), "parallel": False}, {}, []),
]


@pytest.mark.parametrize(("model", "fields", "said", "lost"), TOOLS)
def test_tools(model: str, fields: dict[str, Any], said: dict[str, Any], lost: list[str]) -> None:
    """A tool has a schema, and is strict where the model can be held to it."""
    assert written(model=model, **fields) == (said, lost)


@pytest.mark.parametrize(
    ("choice", "parallel", "said", "names"),
    [
        (None, None, None, "abc"),
        (None, True, None, "abc"),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}, "abc"),
        (Choice("auto"), True, {"type": "auto"}, "abc"),
        (Choice("none"), False, {"type": "none"}, "abc"),
        (Choice("one", "b"), None, {"type": "tool", "name": "b"}, "abc"),
        (Choice("any", names=("a", "c")), None, {"type": "any"}, "ac"),
        (Choice("auto", names=("b",)), False, {"type": "auto", "disable_parallel_tool_use": True}, "b"),
    ],
)
def test_choices(choice: Choice | None, parallel: bool | None, said: Any, names: str) -> None:
    """The choice and whether calls may come together are one field; of allowed tools only those are offered."""
    body, lost = written(tools=tuple(Tool(name) for name in "abc"), choice=choice, parallel=parallel)

    assert (body.get("tool_choice"), lost) == (said, [])
    assert "".join(tool["name"] for tool in body["tools"]) == names


@pytest.mark.parametrize(
    ("model", "fields", "param"),
    [
        (EITHER, {"n": 2}, "n"),
        (EITHER, {"logprobs": 0}, "logprobs"),
        (EITHER, {"stop": ("\n",)}, "stop"),
        (EITHER, {"tools": (Native("openai", {"type": "web_search"}),)}, "web_search"),
        (EITHER, {"choice": Choice("any")}, "tool_choice"),
        (EITHER, {"choice": Choice("any", names=("nobody",)), "tools": (Tool("f"),)}, "tool_choice"),
        ("claude-opus-4-1", {"output": Output("schema", SCHEMA)}, "schema"),
        (EITHER, {"output": Output("schema", {"type": "object"})}, "schema"),
        (EITHER, {"others": {"": "gemini", "cachedContent": "c"}}, "cachedContent"),
        (EITHER, {"turns": (user(Native("gemini", {"videoMetadata": {}})),)}, "videoMetadata"),
    ],
)
def test_what_would_make_another_answer(model: str, fields: dict[str, Any], param: str) -> None:
    """Such fields are refused by their names, so that another target may be tried."""
    conversation = msgspec.structs.replace(Conversation((HI,)), **fields)

    with pytest.raises(Inexpressible) as refused:
        write_request(conversation, model, Losses("anthropic", LOSSES))

    assert refused.value.param == param


def test_a_lenient_table() -> None:
    """Where the table says drop, the field is left out and logged, and nothing else is said in its place."""
    losses = Losses("anthropic", {})
    conversation = Conversation(
        (HI,), n=2, logprobs=0, output=Output("schema", {"type": "object"}), max_output=9,
        tools=(Native("openai", {"type": "web_search"}),),
    )

    assert orjson.loads(write_request(conversation, EITHER, losses)) == {
        "model": EITHER, "max_tokens": 9, "messages": [SAID_HI],
    }
    assert sorted(losses.kept) == ["logprobs", "n", "output", "tool.native"]


def test_every_loss_is_in_the_table() -> None:
    """Each rule is one of the two, and the fields that are lost above have one."""
    lost = {field for table in (SETTINGS, TOOLS) for *_, fields in table for field in fields}

    assert set(LOSSES.values()) == {"drop", "refuse"}
    assert {field for field in lost if not field.startswith("others.")} <= set(LOSSES)


def test_what_is_nested_too_deeply() -> None:
    """Values that no encoder can walk through are refused like any other."""
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"type": "object", "properties": {"a": schema}}

    for tool in (Tool("f", parameters=schema), Tool("f", parameters=schema, strict=True)):
        with pytest.raises(BadRequest, match="too deeply"):
            write_request(Conversation((HI,), tools=(tool,)), EITHER, Losses("anthropic", LOSSES))


def test_the_official_types_take_what_is_written() -> None:
    """Each block, tool and setting of a written request is one that Anthropic's own SDK would send."""
    types = import_module("anthropic.types")
    adapter = import_module("pydantic").TypeAdapter
    body, _ = written(
        system("Be brief."), user(
            Text("Hi", cache="1h"), Media("image", "image/png", "iVBORw0KGgo="), Media("image", url="https://a/b.png"),
            Media("file", "application/pdf", "JVBERi0=", name="a.pdf"), Media("file", "text/plain", "SGk="),
        ),
        assistant(Thinking("anthropic", "Hm", "s"), Thinking("anthropic", redacted="R"), Call("a", "look", '{"a":1}')),
        user(Result("a", (Text("no"), Media("image", url="https://a/b.png")), error=True)), HI,
        model=EFFORT, tools=(msgspec.structs.replace(LOOK, strict=True),), choice=Choice("auto"), parallel=False,
        output=Output("schema", SCHEMA), reasoning=Reasoning("xhigh", shown="auto"), user="u",
    )

    assert body.keys() <= types.message_create_params.MessageCreateParamsBase.__annotations__.keys()
    blocks = [block for turn in body["messages"] if isinstance(turn["content"], list) for block in turn["content"]]
    checks: list[tuple[Any, list[Any]]] = [
        (types.ContentBlockParam, blocks), (types.ToolUnionParam, body["tools"]),
        (types.ToolChoiceParam, [body["tool_choice"]]), (types.ThinkingConfigParam, [body["thinking"]]),
        (types.OutputConfigParam, [body["output_config"]]), (types.MetadataParam, [body["metadata"]]),
    ]
    for kind, values in checks:
        for value in values:
            adapter(kind).validate_python(value)
    assert len(blocks) == 10


def test_what_is_written_is_read_again() -> None:
    """A foreign conversation that is written can be read by this dialect's own surface, to the same turns."""
    turns = (system("Be brief."), HI, CALLS, user(*A.parts, *B.parts))
    body = write_request(Conversation(turns, tools=(LOOK,), max_output=9), EITHER, Losses("anthropic", LOSSES))
    read = read_request(body, EITHER)

    assert (read.turns, read.tools, read.max_output) == (turns, (LOOK,), 9)


@pytest.mark.parametrize(("thinker", "kind"), [("anthropic", "enabled"), ("openai", "disabled")])
def test_thinking_may_not_begin_behind_anothers_calls(thinker: str, kind: str) -> None:
    """Anthropic refuses a budget where the calls that are answered had no thinking of its own before them."""
    thinking = Thinking(thinker, "m", "c2ln")
    body, lost = written(
        HI, assistant(thinking, Call("a", "f", "{}")), user(Result("a", (Text("r"),))),
        reasoning=Reasoning(budget=2048), others={"": "anthropic"},
    )

    assert body["thinking"]["type"] == kind
    assert ("reasoning" in lost) is (kind == "disabled")
