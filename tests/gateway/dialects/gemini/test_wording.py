"""Writing generateContent requests: what was read comes out as it was, what others say is said in Gemini's words."""

import base64
from importlib import import_module
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.gemini.parts import UNSIGNED
from gateway.dialects.gemini.request import read_request
from gateway.dialects.gemini.wording import LOSSES, write_request
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
from gateway.errors import BadRequest, Inexpressible

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=200)
SIGNATURE = base64.b64encode(b"thoughts").decode()
NEW, OLD = "gemini-3-flash", "gemini-2.5-flash"
RICH: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
    "contents": [
        {"role": "user", "parts": [
            {"text": "Look:"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
            {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
            {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.org/a.jpg"}},
            {"fileData": {"mimeType": "video/mp4", "fileUri": "files/abc"}},
            {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://a/b"}, "videoMetadata": {"fps": 1.0}},
        ]},
        {"role": "model", "parts": [
            {"text": "Hm.", "thought": True}, {"text": "Well.", "thought": True, "thoughtSignature": SIGNATURE},
            {"text": "I look.", "thoughtSignature": SIGNATURE},
            {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": SIGNATURE},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
            {"functionCall": {"name": "look", "args": {"a_b": [1, 2.5, None]}}, "thoughtSignature": SIGNATURE},
            {"functionCall": {"name": "look", "args": {}}}, {"functionCall": {"id": "i-1", "name": "go", "args": {}}},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": "look", "response": {"output": "nothing"}}},
            {"functionResponse": {"name": "look", "response": {"error": "blind"}}},
            {"functionResponse": {"id": "i-1", "name": "go", "response": {"steps": 3}, "parts": [
                {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo=", "displayName": "map.png"}}]}},
        ]},
        {"role": "model", "parts": [{"text": "", "thoughtSignature": SIGNATURE}]},
        {"role": "user", "parts": [{"text": "And"}]}, {"role": "user", "parts": [{"text": "now?"}]},
    ],
    "tools": [
        {"functionDeclarations": [
            {"name": "look", "description": "Looks.", "parametersJsonSchema": {"type": "object", "properties": {}}},
            {"name": "go", "response": {"type": "OBJECT"}, "behavior": "BLOCKING"},
        ]},
        {"googleSearch": {}}, {"codeExecution": {}},
    ],
    "toolConfig": {
        "functionCallingConfig": {"mode": "VALIDATED", "allowedFunctionNames": ["look", "go"]},
        "retrievalConfig": {"languageCode": "de"},
    },
    "generationConfig": {
        "temperature": 0.5, "topP": 0.9, "topK": 40, "maxOutputTokens": 100, "candidateCount": 1, "seed": 7,
        "stopSequences": ["a", "b"], "presencePenalty": 0.1, "frequencyPenalty": 0.2, "responseLogprobs": True,
        "logprobs": 3, "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
        "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
        "responseModalities": ["TEXT", "IMAGE"], "mediaResolution": "MEDIA_RESOLUTION_LOW",
    },
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    "serviceTier": "flex", "cachedContent": "cachedContents/x", "labels": {"team_name": "x"}, "store": False,
}


def written(conversation: Conversation, model: str = NEW, lost: list[str] | None = None) -> dict[str, Any]:
    """Write a conversation, and expect what is lost."""
    losses = Losses("gemini", LOSSES)
    body: dict[str, Any] = orjson.loads(write_request(conversation, model, losses))

    assert (lost or []) == list(losses.kept)
    return body


def parts(*given: Part, role: str = "user", model: str = NEW, lost: list[str] | None = None) -> list[dict[str, Any]]:
    """Write one turn's parts."""
    said: list[dict[str, Any]] = written(Conversation((Turn(role, given),)), model, lost)["contents"][0]["parts"]
    return said


def test_a_rich_request_comes_out_as_it_was() -> None:
    """Reading and writing is the identity on all that Gemini can say, and loses nothing."""
    assert RICH == written(read_request(orjson.dumps(RICH), NEW))


@pytest.mark.parametrize(
    ("calling", "config"),
    [
        ({"mode": "AUTO"}, {"thinkingConfig": {"thinkingBudget": 100, "includeThoughts": False}}),
        ({"mode": "NONE"}, {"topK": 1}),
        ({"mode": "ANY"}, {"responseMimeType": "application/json"}),
        ({"mode": "ANY", "allowedFunctionNames": ["a"]}, {}),
        ({"mode": "ANY", "allowedFunctionNames": ["a", "b"]}, {"responseLogprobs": True}),
    ],
)
def test_choices_come_out_as_they_were(calling: dict[str, Any], config: dict[str, Any]) -> None:
    """So do the other modes and forms."""
    body = {"contents": RICH["contents"][:1], "toolConfig": {"functionCallingConfig": calling}}
    body |= {"generationConfig": config} if config else {}

    assert body == written(read_request(orjson.dumps(body), OLD), OLD)


def test_documented_equivalents() -> None:
    """Older fields are said in the newer ones; names of files, a role of old and XHIGH have no place to come out."""
    body = {
        "contents": [
            {"parts": [{"inline_data": {"mime_type": "image/png", "data": "a-_b", "displayName": "x"}}]},
            {"role": "function", "parts": [
                {"functionResponse": {"id": "i", "name": "f", "response": {"output": '{"a":1}'}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "a", "parameters": {"type": "OBJECT"}}]}, {"urlContext": {}},
                  {"functionDeclarations": [{"name": "b"}]}],
        "generationConfig": {"responseSchema": {"type": "STRING"}, "responseMimeType": "application/json",
                             "thinkingConfig": {"thinkingLevel": "XHIGH", "includeThoughts": True},
                             "responseLogprobs": False},
    }
    said = written(read_request(orjson.dumps(body), NEW), lost=["media.name", "reasoning.effort"])

    assert {
        "contents": [
            {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "a+/b"}}]},
            {"role": "user", "parts": [{"functionResponse": {"id": "i", "name": "f", "response": {"a": 1}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "a", "parametersJsonSchema": {"type": "object"}}, {"name": "b"}]},
                  {"urlContext": {}}],
        "generationConfig": {"responseJsonSchema": {"type": "string"}, "responseMimeType": "application/json",
                             "thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True}},
    } == said


def test_system_turns_are_one_instruction() -> None:
    """Wherever they stand; that one was moved is booked. A request of nothing else asks it."""
    talk = Conversation((
        Turn("system", (Text("a"),)), Turn("user", (Text("b"),)), Turn("system", (Text("c"),), developer=True),
    ))

    assert {"systemInstruction": {"parts": [{"text": "a"}, {"text": "c"}]},
            "contents": [{"role": "user", "parts": [{"text": "b"}]}]} == written(talk, lost=["turn.system"])
    assert {"contents": [{"role": "user", "parts": [{"text": "a"}]}]} == written(Conversation(talk.turns[:1]))


@pytest.mark.parametrize("turns", [(), (Turn("user", ()),), (Turn("assistant", (Text(""),)),)])
def test_a_conversation_without_words_is_refused(turns: tuple[Turn, ...]) -> None:
    """Gemini would refuse it too."""
    with pytest.raises(BadRequest, match="at least one turn"):
        written(Conversation(turns))


def test_results_that_follow_one_another_are_one_content() -> None:
    """Gemini wants the results of parallel calls together, under the names of their calls."""
    talk = Conversation((
        Turn("assistant", (Call("x", "f", "{}"), Call("y", "g", '{"a":1}'))),
        Turn("user", (Result("y", (Text("1"), Text("2"))),)), Turn("user", (Result("x", (), error=True),)),
        Turn("user", (Text("so?"),)), Turn("assistant", (Refusal("no"), Text(""))),
    ))

    assert [
        {"role": "model", "parts": [{"functionCall": {"id": "x", "name": "f", "args": {}}},
                                    {"functionCall": {"id": "y", "name": "g", "args": {"a": 1}}}]},
        {"role": "user", "parts": [
            {"functionResponse": {"id": "y", "name": "g", "response": {"output": "1\n2"}}},
            {"functionResponse": {"id": "x", "name": "f", "response": {"error": ""}}}]},
        {"role": "user", "parts": [{"text": "so?"}]}, {"role": "model", "parts": [{"text": "no"}]},
    ] == written(talk, OLD)["contents"]


def test_turns_of_the_model_that_follow_one_another_are_one_content() -> None:
    """Parallel calls may come in turns of their own; an image of the user's is no result."""
    image = Turn("user", (Media("image", "image/png", "aa"),))
    talk = Conversation((
        image, image, Turn("assistant", (Text("a"),)), Turn("assistant", (Call("x", "f", "{}"),)),
        Turn("assistant", (Call("y", "f", "{}"),)), Turn("user", (Result("x", ()),)), image,
        Turn("user", (Result("y", ()), Text("b"))),
    ))
    said = written(talk)["contents"]

    assert [1, 1, 3, 1, 1, 2] == [len(content["parts"]) for content in said]
    assert [None, UNSIGNED, None] == [part.get("thoughtSignature") for part in said[2]["parts"]]


def test_a_result_without_a_call_is_refused() -> None:
    """Its name is nowhere to be found."""
    with pytest.raises(BadRequest, match="no earlier turn makes"):
        parts(Result("x", (Text("a"),)))


@pytest.mark.parametrize(
    ("order", "ids"), [(("call_0", "call_1"), False), (("call_1", "call_0"), True), (("call_0", "other"), True)]
)
def test_made_ids_are_left_out_where_order_says_the_same(order: tuple[str, str], *, ids: bool) -> None:
    """Results in another order than their calls of one name keep them."""
    first, second = order
    calls = (Call("call_0", "f", "{}"), Call("call_1" if second != "other" else "other", "f", "{}"))
    said = written(Conversation((Turn("assistant", calls), Turn("user", (Result(first, ()), Result(second, ()))))), OLD)

    assert ids == (b'"id"' in orjson.dumps(said))


def test_an_id_that_two_calls_share_is_written() -> None:
    """It counts nothing, then."""
    turn = Turn("assistant", (Call("call_0", "f", "{}"),))
    said = written(Conversation((turn, turn)), OLD)

    assert ["call_0", "call_0"] == [part["functionCall"]["id"] for part in said["contents"][0]["parts"]]


def test_newer_models_want_a_signature_on_the_first_call() -> None:
    """The first call of a turn gets Google's word for a call that another model made; one that is signed keeps its."""
    unsigned, signed = Call("a", "f", "{}"), Call("b", "f", "{}", SIGNATURE)

    assert [UNSIGNED, None] == [part.get("thoughtSignature") for part in parts(unsigned, unsigned, role="assistant")]
    assert [SIGNATURE] == [part.get("thoughtSignature") for part in parts(signed, role="assistant")]
    assert [None] == [part.get("thoughtSignature") for part in parts(unsigned, role="assistant", model=OLD)]


def test_seals() -> None:
    """A signature goes onto the text or the image behind it, and stands by itself where there is none."""
    seal = Thinking("gemini", signature="s")
    sealed = {"text": "", "thoughtSignature": "s"}

    assert [sealed, {"text": "a", "thoughtSignature": "s"}] == parts(seal, seal, Text(""), Text("a"))
    assert [sealed, {"text": "a", "thought": True}, sealed] == parts(seal, Thinking("gemini", "a"), seal)
    assert [sealed, {"functionCall": {"id": "i", "name": "f", "args": {}}}] == parts(
        seal, Call("i", "f", ""), model=OLD
    )


def test_images_of_a_tool() -> None:
    """Newer models read them inside the result, older ones behind it."""
    turns = (Turn("assistant", (Call("i", "f", "{}", "s"),)),
             Turn("user", (Result("i", (Text("see"), Media("image", "image/png", "aa", name="n"))),)))
    inside = written(Conversation(turns))["contents"][1]["parts"]
    behind = written(Conversation(turns), OLD, lost=["media.name"])["contents"][1]["parts"]
    response = {"id": "i", "name": "f", "response": {"output": "see"}}

    assert [{"functionResponse": response | {
        "parts": [{"inlineData": {"mimeType": "image/png", "data": "aa", "displayName": "n"}}]}}] == inside
    assert [{"functionResponse": response}, {"inlineData": {"mimeType": "image/png", "data": "aa"}}] == behind


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        ({"output": Output("json")}, {"responseMimeType": "application/json"}),
        ({"output": Output("schema", {"type": "object"}, description="d")},
         {"responseMimeType": "application/json", "responseJsonSchema": {"description": "d", "type": "object"}}),
        ({"logprobs": 0}, {"responseLogprobs": True}),
        ({"n": 2, "max_output": 5, "stop": ("a",)},
         {"candidateCount": 2, "maxOutputTokens": 5, "stopSequences": ["a"]}),
        ({"temperature": 0.0, "seed": 0}, {"temperature": 0.0, "seed": 0}),
        ({"reasoning": Reasoning("high", shown="auto")},
         {"thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True}}),
    ],
)
def test_settings_of_others(fields: dict[str, Any], config: dict[str, Any]) -> None:
    """Forms, counts and thinking are said in Gemini's fields."""
    assert config == written(Conversation((Turn("user", (Text("a"),)),), **fields))["generationConfig"]


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        (Choice(), {"mode": "AUTO"}), (Choice("any"), {"mode": "ANY"}), (Choice("none"), {"mode": "NONE"}),
        (Choice("one", "f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (Choice(names=("f", "g")), {"mode": "VALIDATED", "allowedFunctionNames": ["f", "g"]}),
    ],
)
def test_choices_of_others(choice: Choice, calling: dict[str, Any]) -> None:
    """So is the choice of tools; names that need not be called take the mode that heeds names."""
    conversation = Conversation((Turn("user", (Text("a"),)),), choice=choice)

    assert {"functionCallingConfig": calling} == written(conversation)["toolConfig"]


MARKED = Text("a", cache="5m", citations=({"x": 1},))
SIGNED: list[Part] = [Thinking("anthropic", "t", "s"), MARKED]


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        ({"user": "u", "metadata": {"a": "b"}, "verbosity": "low"}, ["user", "metadata", "verbosity"]),
        ({"parallel": False}, ["parallel"]), ({"parallel": True}, []),
        ({"service_tier": "scale"}, ["service_tier"]), ({"service_tier": "auto"}, []),
        ({"output": Output("schema", {}, "n")}, ["output.name"]),
        ({"tools": (Tool("f", strict=True, cache="5m"),)}, ["tool.strict", "cache"]),
        ({"turns": (Turn("user", (Media("image", "a/b", "x", detail="high", cache="1h"),), name="Jo"),)},
         ["turn.name", "cache", "media.detail"]),
        ({"turns": (Turn("assistant", tuple(SIGNED)),)}, ["thinking", "cache", "citations"]),
        ({"turns": (Turn("assistant", (Call("c", "f", "{}"),)), Turn("user", (Result("c", (MARKED,)),)))},
         ["cache", "citations"]),
        ({"others": {"": "openai", "store": True, "safetySettings": []}}, ["others.store", "others.safetySettings"]),
        ({"usage_in_stream": True, "stream": True}, []),
    ],
)
def test_what_is_dropped(fields: dict[str, Any], lost: list[str]) -> None:
    """Hints, labels and other models' thoughts are left out, and booked."""
    conversation = Conversation(fields.pop("turns", (Turn("user", (Text("a"),)),)), **fields)
    body = written(conversation, lost=lost)

    assert body["contents"]
    assert "safetySettings" not in body


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": (Native("openai", {"type": "web_search"}),)}, "web_search"),
        ({"turns": (Turn("user", (Media("file", file_id="file-x"),)),)}, "file_id"),
        ({"turns": (Turn("assistant", (Native("anthropic", {"type": "server_tool_use"}),)),)}, "server_tool_use"),
        ({"turns": (Turn("user", (Result("i", (Native("x", {}),), "f"),)),)}, "part.native"),
        ({"stop": tuple("abcdef")}, "stop"),
        ({"others": {"": "openai", "audio": {}}}, "audio"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], param: str) -> None:
    """What would make the answer another one is refused, and named; another target may have it."""
    conversation = Conversation(fields.pop("turns", (Turn("user", (Text("a"),)),)), **fields)
    with pytest.raises(Inexpressible) as caught:
        written(conversation)

    assert param == caught.value.param


def test_every_loss_is_decided() -> None:
    """The table says one of the two of each."""
    assert set(LOSSES.values()) == {"drop", "refuse"}


def test_depth_is_refused() -> None:
    """A schema too deep to be written is the caller's fault."""
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"items": deep}
    with pytest.raises(BadRequest, match="flatter"):
        written(Conversation((Turn("user", (Text("a"),)),), tools=(Tool("f", None, deep),)))


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
PARTS: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, WORDS), st.builds(Refusal, WORDS), st.builds(Call, WORDS, WORDS, WORDS),
    st.builds(Media, st.sampled_from(["image", "audio", "file"]), data=st.sampled_from(["", "aa", "+/"])),
    st.builds(Result, WORDS.filter(bool), st.tuples(st.builds(Text, WORDS)), st.just("f")),
    st.builds(Thinking, st.sampled_from(["gemini", "x"]), WORDS, st.none() | WORDS, st.none() | WORDS),
)
TURNS = st.lists(
    st.builds(Turn, st.sampled_from(["user", "assistant"]), st.lists(PARTS, max_size=4).map(tuple))
    | st.builds(Turn, st.just("system"), st.lists(st.builds(Text, WORDS), max_size=2).map(tuple)),
    min_size=1, max_size=5,
)


@STEADY
@given(turns=TURNS, model=st.sampled_from([NEW, OLD]))
def test_what_is_written_can_be_read_and_written_again(turns: list[Turn], model: str) -> None:
    """Any conversation is refused, or written as a request that comes out as it is."""
    losses = Losses("gemini", LOSSES)
    named = [
        msgspec.structs.replace(turn, parts=tuple(
            msgspec.structs.replace(part, name=part.name or "f") if isinstance(part, Call) else part
            for part in turn.parts
        )) for turn in turns
    ]
    try:
        once = write_request(Conversation(tuple(named)), model, losses)
    except BadRequest:
        return

    assert orjson.loads(once)["contents"] == orjson.loads(
        write_request(read_request(once, model), model, losses)
    )["contents"]


def test_googles_own_types_take_what_is_written() -> None:
    """Every field is one that Google's SDK knows, of the type that it has there."""
    types = import_module("google.genai.types")
    body = written(read_request(orjson.dumps(RICH), NEW))
    foreign = written(Conversation((Turn("assistant", (Call("i", "f", "{"),)), Turn("user", (Result("i", ()),)))))

    for content in (body["systemInstruction"], *body["contents"], *foreign["contents"]):
        types.Content.model_validate(content)
    for tool in body["tools"]:
        types.Tool.model_validate(tool)
    types.ToolConfig.model_validate(body["toolConfig"])
    assert types.GenerationConfig.model_validate(body["generationConfig"]).thinking_config.thinking_level == "LOW"


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (Reasoning("high"), True), (Reasoning(budget=100), True), (Reasoning("high", shown="none"), False),
        (Reasoning("none"), None), (Reasoning(budget=0), None),
    ],
)
def test_thinking_that_is_asked_for_is_shown(asked: Reasoning, shown: bool | None) -> None:
    """Other dialects show it unless they are told not to; Gemini shows it only when it is told to."""
    losses = Losses("gemini", LOSSES)
    turns = (Turn("user", (Text("hi"),)),)
    said = orjson.loads(write_request(Conversation(turns, reasoning=asked), "gemini-2.5-flash", losses))

    assert said["generationConfig"]["thinkingConfig"].get("includeThoughts") is shown
