"""Wording a chat completion request for an upstream, from what other dialects can say."""

from typing import Any, get_type_hints

import msgspec
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import TypeAdapter

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


def test_ids_are_no_longer_than_openai_takes() -> None:
    """A call and its result keep to each other; two that begin alike stay apart."""
    long, other = "toolu_" + "x" * 40, "toolu_" + "x" * 41
    said = messages(
        Turn("assistant", (Call(long, "f", "{}"), Call(other, "f", "{}"), Call("x" * 40, "f", "{}"))),
        Turn("user", (Result(long, ()), Result(other, ()), Result("x" * 40, ()))),
    )
    called = [call["id"] for call in said[0]["tool_calls"]]

    assert called == [message["tool_call_id"] for message in said[1:]]
    assert [len(each) for each in called[:2]] == [37, 37]
    assert (len(set(called)), called[2]) == (3, "x" * 40)


def test_nothing_stands_between_results() -> None:
    """What tools show waits for the last of them, and for the user's words if they come next."""
    picture = Media("image", "image/png", "AAAA")
    calls = Turn("assistant", (Call("a", "f", "{}"), Call("b", "f", "{}")))
    results = Turn("user", (Result("a", (picture,)),)), Turn("user", (Result("b", (Text("x"),)),))

    assert [m["role"] for m in messages(USER, calls, *results)] == ["user", "assistant", "tool", "tool", "user"]
    assert [m["role"] for m in messages(calls, *results, USER)] == ["assistant", "tool", "tool", "user"]
    assert [m["role"] for m in messages(calls, *results, calls)][-2:] == ["user", "assistant"]
    assert [m["role"] for m in messages(calls, *results, Turn("system", (Text("s"),)))][-2:] == ["user", "system"]


@pytest.mark.parametrize(
    ("turn", "content"),
    [
        (Turn("system", (Text("a"), Text("b"))), "a\nb"),
        (Turn("assistant", (Text("The lake", citations=({"a": 1},)), Text(" is cold."))), "The lake is cold."),
        (Turn("user", ()), ""), (Turn("assistant", (Thinking("anthropic", "hm"),)), ""),
        (Turn("user", (Media("file", "text/plain", "SGk=", name="a.txt"),)), [{"type": "text", "text": "a.txt:\nHi"}]),
        (Turn("user", (Media("file", "text/plain", "SGk="),)), [{"type": "text", "text": "Hi"}]),
        (Turn("user", (Media("file", "text/plain", "/w=="),)), [{"type": "file", "file": {
            "filename": "document.pdf", "file_data": "data:text/plain;base64,/w=="}}]),
        (Turn("user", (Media("audio", "audio/x-wav", "AA=="),)),
         [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]),
    ],
)
def test_contents(turn: Turn, content: object) -> None:
    """A text where texts can be one: half the servers read no list (DeepSeek, Groq's system messages)."""
    assert messages(turn)[0]["content"] == content


def test_developer_is_a_word_of_openais() -> None:
    """Other servers' templates know system."""
    assert messages(Turn("system", (Text("s"),), developer=True))[0]["role"] == "system"


@pytest.mark.parametrize("model", ["anthropic/claude-sonnet-4.6", "google/gemini-3-flash"])
def test_marks_for_the_cache_where_they_are_read(model: str) -> None:
    """OpenRouter passes them on, and the seals of calls; OpenAI itself refuses a field that it does not know."""
    conversation = Conversation(
        (Turn("user", (Text("a", "5m"), Text("b", "1h"))), Turn("assistant", (Call("c", "f", "{}", "seal"),))),
        tools=(Tool("f", cache="5m"),),
    )
    body, lost = written(conversation, model)

    assert lost == []
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert body["messages"][1]["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "seal"}}
    assert body["tools"][0]["cache_control"] == {"type": "ephemeral"}
    assert written(conversation)[1] == ["cache", "signature"]


def test_no_word_of_a_choice_without_tools() -> None:
    """OpenAI refuses it, and Codex always has one; but who must call a tool that is not there should hear it."""
    body, _ = written(Conversation((USER,), parallel=True, choice=Choice("auto")))

    assert {"tool_choice", "parallel_tool_calls"} & set(body) == set()
    assert written(Conversation((USER,), choice=Choice("any")))[0]["tool_choice"] == "required"


def test_json_is_asked_for_in_words_too() -> None:
    """OpenAI refuses the form where nobody says so; who has said it is left alone."""
    form = Output("json")

    assert written(Conversation((USER,), output=form))[0]["messages"][0] == {
        "role": "system", "content": "Answer with one JSON object."}
    assert written(Conversation((Turn("system", (Text("Be brief."),)), USER), output=form))[0]["messages"][0] == {
        "role": "system", "content": "Be brief.\n\nAnswer with one JSON object."}
    assert len(written(Conversation((Turn("user", (Text("as json"),)),), output=form))[0]["messages"]) == 1


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
    ({"metadata": {"a": "b"}}, ["metadata"]),
    ({"service_tier": "standard_only"}, ["service_tier"]),
    ({"reasoning": Reasoning("low", shown="auto")}, ["reasoning.shown"]),
    ({"tools": (Tool("x", cache="5m"),)}, ["cache"]),
    ({"others": {"": "anthropic", "inference_geo": "eu"}}, ["others.inference_geo"]),
    ({"turns": (Turn("user", (Text("x", "5m"),)),)}, ["cache"]),
    ({"turns": (Turn("user", (Result("c", (Text("x", "5m", ({"a": 1},)),)),)),)}, ["cache", "citations"]),
    ({"user": "u" * 65}, ["user"]), ({"user": "u" * 64}, []),
    ({"turns": (Turn("assistant", (Text("x", citations=({"a": 1},)),)),)}, ["citations"]),
]


@pytest.mark.parametrize(("fields", "lost"), LOST)
def test_what_is_left_out_is_named(fields: dict[str, Any], lost: list[str]) -> None:
    """Hints and marks: the answer is what was asked for without them."""
    assert written(msgspec.structs.replace(Conversation((USER,)), **fields))[1] == lost


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tools": (Native("anthropic", {"type": "web_search_20250305"}),)}, "web_search_20250305"),
    ({"others": {"": "anthropic", "mcp_servers": []}}, "mcp_servers"),
    ({"others": {"": "anthropic", "thread": {"type": "create"}}}, "thread"),
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


def test_what_only_other_dialects_say_of_a_file() -> None:
    """A picture's name and how closely to read a document have no place, and that is said."""
    picture = Media("image", "image/png", "AA==", name="cat.png", detail="low")
    document = Media("file", "application/pdf", "AA==", name="a.pdf", detail="high")

    assert written(Conversation((Turn("user", (picture,)),)))[1] == ["media.name"]
    assert written(Conversation((Turn("user", (document,)),)))[1] == ["media.detail"]


def test_every_loss_is_in_the_table() -> None:
    """What the tests above lose or refuse has its line."""
    assert {"cache", "citations", "thinking", "top_k", "part.native", "tool.native", "media.url"} <= set(openai.LOSSES)
    assert set(openai.LOSSES.values()) == {"drop", "refuse"}


def test_what_the_model_showed_is_refused() -> None:
    """Its own words may refer to it, and here it can only speak."""
    with pytest.raises(Inexpressible):
        messages(Turn("assistant", (Media("image", "image/png", "AAAA"),)))


REQUEST: dict[str, Any] = {
    "turns": (
        Turn("system", (Text("Be brief."),)),
        Turn("user", (Text("a"), Media("image", "image/png", "AA=="), Media("file", "application/pdf", "AA=="))),
        Turn("assistant", (Text("b"), Call("c", "f", "{}"))), Turn("user", (Result("c", (Text("r"),)),)),
        Turn("assistant", (Refusal("no"),)), USER,
    ),
    "tools": (Tool("f", "F", {"type": "object"}, True),), "choice": Choice("any", names=("f",)), "parallel": False,
    "output": Output("schema", {"type": "object"}, strict=True), "reasoning": Reasoning("low"), "max_output": 5,
    "temperature": 0.5, "top_p": 0.5, "presence_penalty": 0.5, "frequency_penalty": 0.5, "seed": 1, "stop": ("x",),
    "n": 2, "logprobs": 3, "user": "u", "verbosity": "low", "service_tier": "flex", "stream": True,
}


def test_the_sdk_would_send_it_too() -> None:
    """A request with every field there is has the types of OpenAI's SDK, field by field, and none besides."""
    body, lost = written(Conversation(**REQUEST), "gpt-oss-120b")
    TypeAdapter(CompletionCreateParamsStreaming).validate_python(body)

    assert lost == []
    assert set(body) <= set(get_type_hints(CompletionCreateParamsStreaming))
