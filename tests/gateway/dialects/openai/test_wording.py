"""Wording a chat completion request for an upstream, from what other dialects can say."""

from typing import Any

import msgspec
import pytest

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
    Result,
    Text,
    Thinking,
    Tool,
    Turn,
)
from gateway.errors import Inexpressible

USER = Turn("user", (Text("Hi"),))


def written(conversation: Conversation, model: str = "llama") -> tuple[dict[str, Any], list[str]]:
    """The body for a conversation, and what was lost on the way."""
    losses = Losses("openai", openai.LOSSES)
    body: dict[str, Any] = msgspec.json.decode(openai.write_request(conversation, model, losses))
    return body, list(losses.kept)


def messages(*turns: Turn) -> list[dict[str, Any]]:
    """The messages of some turns."""
    found: list[dict[str, Any]] = written(Conversation(turns))[0]["messages"]
    return found


def test_the_smallest() -> None:
    """A model and a message, and nothing that a server might not know."""
    assert written(Conversation((USER,))) == ({"model": "llama", "messages": [{"role": "user", "content": "Hi"}]}, [])


def test_a_stream_asks_for_its_usage() -> None:
    """Else nobody would know what it cost (complaint 13)."""
    body, _ = written(Conversation((USER,), stream=True))

    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-5.4", "max_completion_tokens"), ("o3-mini", "max_completion_tokens"),
        ("openai/gpt-5", "max_completion_tokens"), ("gpt-4o", "max_tokens"), ("llama-3", "max_tokens"),
    ],
)
def test_the_length_under_the_name_that_a_model_takes(model: str, name: str) -> None:
    """Reasoning models refuse the older name, other servers do not know the newer."""
    assert written(Conversation((USER,), max_output=9), model)[0][name] == 9


def test_results_become_messages_of_their_own() -> None:
    """Each for itself and before what the user says with them; a failure and a picture are said in words."""
    turn = Turn("user", (
        Text("and?"), Result("a", (Text("one"), Text("two"))), Result("b", (Text("boom"),), error=True),
        Result("c", (Media("image", "image/png", "AAAA"),)),
    ))
    body, lost = written(Conversation((turn,)))

    assert body["messages"] == [
        {"role": "tool", "tool_call_id": "a", "content": "one\ntwo"},
        {"role": "tool", "tool_call_id": "b", "content": "The tool failed:\nboom"},
        {"role": "tool", "tool_call_id": "c", "content": "(What it shows follows in the next message.)"},
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"type": "text", "text": "and?"},
        ]},
    ]
    assert lost == ["result.error", "result.media"]


def test_thinking_of_others_is_left_out() -> None:
    """It is sealed for its provider, and its text are no words of the answer (complaint 18)."""
    turn = Turn("assistant", (Thinking("anthropic", "hm", "sealed"), Text("Hello"), Call("t", "look", "{}")))
    body, lost = written(Conversation((USER, turn)))

    assert body["messages"][1] == {"role": "assistant", "content": "Hello", "tool_calls": [
        {"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}},
    ]}
    assert lost == ["thinking"]


@pytest.mark.parametrize(
    ("budget", "effort"), [(0, "none"), (1024, "low"), (2048, "low"), (8000, "medium"), (30_000, "high")]
)
def test_a_budget_becomes_an_effort(budget: int, effort: str) -> None:
    """By table, and said."""
    body, lost = written(Conversation((USER,), reasoning=Reasoning(budget=budget)))

    assert (body["reasoning_effort"], lost) == (effort, ["reasoning.budget"])


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice("any"), "required"), (Choice("none"), "none"),
        (Choice("one", "look"), {"type": "function", "function": {"name": "look"}}),
        (Choice("any", names=("look",)), {"type": "allowed_tools", "allowed_tools": {
            "mode": "required", "tools": [{"type": "function", "function": {"name": "look"}}]}}),
    ],
)
def test_choices(choice: Choice, expected: object) -> None:
    """By table."""
    assert written(Conversation((USER,), tools=(Tool("look"),), choice=choice))[0]["tool_choice"] == expected


def test_structured_answers() -> None:
    """A schema gets the name that it must have here."""
    body, _ = written(Conversation((USER,), output=Output("schema", {"type": "object"})))

    assert body["response_format"] == {
        "type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }
    assert written(Conversation((USER,), output=Output("json")))[0]["response_format"] == {"type": "json_object"}


LOST: list[tuple[dict[str, Any], list[str]]] = [
    ({"top_k": 5}, ["top_k"]),
    ({"service_tier": "standard_only"}, ["service_tier"]),
    ({"reasoning": Reasoning("low", shown="auto")}, ["reasoning.shown"]),
    ({"tools": (Tool("x", cache="5m"),)}, ["cache"]),
    ({"others": {"": "anthropic", "inference_geo": "eu"}}, ["others"]),
    ({"turns": (Turn("user", (Text("x", "5m"),)),)}, ["cache"]),
    ({"turns": (Turn("assistant", (Text("x", citations=({"a": 1},)),)),)}, ["citations"]),
]


@pytest.mark.parametrize(("fields", "lost"), LOST)
def test_what_is_left_out_is_named(fields: dict[str, Any], lost: list[str]) -> None:
    """Hints and marks: the answer is what was asked for without them."""
    assert written(msgspec.structs.replace(Conversation((USER,)), **fields))[1] == lost


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tools": (Native("anthropic", {"type": "web_search_20250305"}),)}, "web_search_20250305"),
    ({"others": {"": "anthropic", "mcp_servers": []}}, "mcp_servers"),
]
PARTS: list[tuple[Part, str]] = [
    (Native("gemini", {"executableCode": {}}), "executableCode"),
    (Media("image", file_id="f"), "image"),
    (Media("file", url="http://a/b.pdf"), "file"),
    (Media("audio", "audio/ogg", "AAAA"), "audio"),
]


@pytest.mark.parametrize(
    ("fields", "param"), [*REFUSED, *(({"turns": (Turn("user", (part,)),)}, param) for part, param in PARTS)]
)
def test_what_matters_is_refused(fields: dict[str, Any], param: str) -> None:
    """With the field, and what can be done."""
    with pytest.raises(Inexpressible) as caught:
        written(msgspec.structs.replace(Conversation((USER,)), **fields))

    assert caught.value.param == param
    assert "Leave it out, or name a model" in caught.value.message


def test_every_loss_is_in_the_table() -> None:
    """What the tests above lose or refuse has its line."""
    assert {"cache", "citations", "thinking", "top_k", "part.native", "tool.native", "media.url"} <= set(openai.LOSSES)
    assert set(openai.LOSSES.values()) == {"drop", "refuse"}
