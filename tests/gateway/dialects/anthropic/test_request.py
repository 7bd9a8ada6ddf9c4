"""Reading Messages requests, and writing them back as they were."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.anthropic.request import read_request
from gateway.dialects.anthropic.wording import LOSSES, write_request
from gateway.dialects.neutral import Choice, Conversation, Losses, Native, Output, Reasoning, Text, Tool, Turn
from gateway.errors import BadRequest

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=300)
PNG, PDF = "iVBORw0KGgo=", "JVBERi0="
MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}
HI = {"role": "user", "content": "Hi"}
SIMPLE: dict[str, Any] = {"model": "m", "max_tokens": 64, "messages": [HI]}
CALLS = {"role": "assistant", "content": [
    {"type": "tool_use", "id": "a", "name": "n", "input": {}},
    {"type": "tool_use", "id": "b", "name": "n", "input": {}},
]}
TOOLS: list[dict[str, Any]] = [
    {"name": "look", "description": "Look.", "input_schema": SCHEMA, "strict": True, **MARK},
    {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
    {"name": "plain", "input_schema": {"type": "object"}, "input_examples": [{}], "eager_input_streaming": True},
]

RICH: dict[str, dict[str, Any]] = {
    "the least": SIMPLE,
    "everything at the top": {
        **SIMPLE, "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Rules.", **MARK}],
        "stop_sequences": ["END", "\n"], "temperature": 0.5, "top_p": 0.9, "top_k": 5, "stream": True,
        "metadata": {"user_id": "u1", "team": "t"}, "service_tier": "standard_only", "container": {"id": "c"},
        "mcp_servers": [{"type": "url", "url": "https://m", "name": "m"}], "context_management": {"edits": []},
        "cache_control": {"type": "ephemeral"}, "inference_geo": "eu", "speed": "fast", "betas": ["b"],
        "hologram": {"depth": [1, {"a": None}]},
    },
    "tools, one forced": {
        **SIMPLE, "tools": TOOLS,
        "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True, "seriously": 1},
    },
    "any tool": {**SIMPLE, "tools": TOOLS, "tool_choice": {"type": "any"}},
    "several at once": {**SIMPLE, "tools": TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": False}},
    "no tool": {**SIMPLE, "tools": TOOLS, "tool_choice": {"type": "none"}},
    "a choice without tools": {**SIMPLE, "tool_choice": {"type": "none"}},
    "thinking within a budget": {
        **SIMPLE, "thinking": {"type": "enabled", "budget_tokens": 2048, "display": "omitted"},
    },
    "thinking as it sees fit": {
        **SIMPLE, "thinking": {"type": "adaptive", "display": "summarized", "block_binding": {}},
        "output_config": {"effort": "xhigh", "task_budget": {"type": "tokens", "total": 9}},
    },
    "no thinking": {**SIMPLE, "thinking": {"type": "disabled"}},
    "a new kind of thinking": {**SIMPLE, "thinking": {"type": "between_tools"}},
    "a new display": {**SIMPLE, "thinking": {"type": "adaptive", "display": "updates"}},
    "effort alone": {**SIMPLE, "output_config": {"effort": "low"}},
    "a schema": {
        **SIMPLE, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA, "version": 2}, "effort": "max"},
    },
    "a new form of output": {**SIMPLE, "output_config": {"format": {"type": "yaml", "indent": 2}}},
    "a tier of its own": {**SIMPLE, "service_tier": "gold"},
    "a conversation": {
        **SIMPLE, "system": "Be brief.", "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What are these?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}, **MARK},
                {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
                {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                 "title": "A", "context": "C", "citations": {"enabled": True}},
                {"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}, "title": "B"},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "naïve"}},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
                {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "Sg=="},
                {"type": "redacted_thinking", "data": "Rd=="},
                {"type": "text", "text": "I look.", "citations": [{"type": "page_location", "cited_text": "x"}]},
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1}},
                {"type": "tool_use", "id": "toolu_2", "name": "look", "input": {}, **MARK},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": True, "content": [
                    {"type": "text", "text": "broken"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                ], **MARK},
                {"type": "text", "text": "Go on."},
            ]},
            {"role": "system", "content": "Now be long."},
            {"role": "assistant", "content": "It is"},
        ],
    },
}
WRONG: list[tuple[Any, str | None]] = [
    ([], None),
    ({}, "messages"),
    ({**SIMPLE, "messages": []}, "messages"),
    ({**SIMPLE, "messages": "Hi"}, "messages"),
    ({**SIMPLE, "messages": ["Hi"]}, "messages[0]"),
    ({**SIMPLE, "messages": [HI, {"role": "tool", "content": "Hi"}]}, "messages[1].role"),
    ({**SIMPLE, "messages": [{"role": "user"}]}, "messages[0].content"),
    ({**SIMPLE, "messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    ({**SIMPLE, "messages": [{"role": "user", "content": [{"type": 1}]}]}, "messages[0].content[0].type"),
    ({"messages": [HI]}, "max_tokens"),
    ({**SIMPLE, "max_tokens": -1}, "max_tokens"),
    ({**SIMPLE, "max_tokens": 1.5}, "max_tokens"),
    ({**SIMPLE, "max_tokens": "64"}, "max_tokens"),
    ({**SIMPLE, "model": 1}, "model"),
    ({**SIMPLE, "system": 1}, "system"),
    ({**SIMPLE, "system": [{"type": "text"}]}, "system[0].text"),
    ({**SIMPLE, "system": [{"type": "image", "source": {"type": "url", "url": "u"}}]}, "system"),
    ({**SIMPLE, "stream": "yes"}, "stream"),
    ({**SIMPLE, "temperature": "hot"}, "temperature"),
    ({**SIMPLE, "top_k": 1.5}, "top_k"),
    ({**SIMPLE, "stop_sequences": "END"}, "stop_sequences"),
    ({**SIMPLE, "stop_sequences": ["END", 1]}, "stop_sequences[1]"),
    ({**SIMPLE, "tools": {}}, "tools"),
    ({**SIMPLE, "tools": [1]}, "tools[0]"),
    ({**SIMPLE, "tools": [{"name": "n"}]}, "tools[0].input_schema"),
    ({**SIMPLE, "tools": [{"type": "custom", "input_schema": {}}]}, "tools[0].name"),
    ({**SIMPLE, "tools": [{"type": 1}]}, "tools[0].type"),
    ({**SIMPLE, "tool_choice": "auto"}, "tool_choice"),
    ({**SIMPLE, "tool_choice": {"type": "one"}}, "tool_choice.type"),
    ({**SIMPLE, "tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({**SIMPLE, "thinking": True}, "thinking"),
    ({**SIMPLE, "thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({**SIMPLE, "thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens"),
    ({**SIMPLE, "output_config": {"effort": 3}}, "output_config.effort"),
    ({**SIMPLE, "output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ({**SIMPLE, "output_format": {"type": "json_schema", "schema": 1}}, "output_format.schema"),
    ({**SIMPLE, "metadata": {"user_id": 7}}, "metadata.user_id"),
    ({**SIMPLE, "service_tier": 1}, "service_tier"),
]


def read(body: Any) -> Conversation:
    """Read a body."""
    return read_request(orjson.dumps(body), "m")


def rewritten(body: Any) -> Any:
    """Return a body that was read and written again, without losses."""
    losses = Losses("anthropic", LOSSES)
    written = orjson.loads(write_request(read(body), "m", losses))

    assert list(losses.kept) == []
    return written


@pytest.mark.parametrize("body", RICH.values(), ids=RICH)
def test_what_is_read_is_written_as_it_was(body: dict[str, Any]) -> None:
    """Reading and writing is the identity on everything that a caller of this dialect can say."""
    assert rewritten(body) == body


@pytest.mark.parametrize(
    ("body", "same"),
    [
        (
            {**SIMPLE, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
            SIMPLE,
        ),
        ({**SIMPLE, "stream": False, "tools": [], "metadata": {}, "system": "", "stop_sequences": [], "top_p": None},
         SIMPLE),
        (
            {**SIMPLE, "output_format": {"type": "json_schema", "schema": SCHEMA}},
            {**SIMPLE, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        (
            {**SIMPLE, "tools": [{"type": "custom", "name": "n", "input_schema": SCHEMA, "cache_control": None}]},
            {**SIMPLE, "tools": [{"name": "n", "input_schema": SCHEMA}]},
        ),
        (
            {**SIMPLE, "messages": [{"role": "system", "content": "Be brief."}, HI]},
            {**SIMPLE, "system": "Be brief."},
        ),
        (
            {**SIMPLE, "messages": [
                HI, CALLS, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "1"}]},
                {"role": "user", "content": [{"type": "text", "text": "Go on."},
                                             {"type": "tool_result", "tool_use_id": "b", "content": "2"}]}]},
            {**SIMPLE, "messages": [HI, CALLS, {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                {"type": "tool_result", "tool_use_id": "b", "content": "2"}, {"type": "text", "text": "Go on."},
            ]}]},
        ),
    ],
)
def test_two_ways_to_say_it(body: dict[str, Any], same: dict[str, Any]) -> None:
    """Of two spellings of one thing the plainer one is written."""
    assert rewritten(body) == same


def test_what_the_neutral_words_are() -> None:
    """The fields are read for what they mean elsewhere, and what only Anthropic has by its path."""
    conversation = read({
        **SIMPLE, "system": "Be brief.", "tools": TOOLS, "thinking": {"type": "adaptive", "display": "omitted", "x": 1},
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": SCHEMA}},
        "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        "metadata": {"user_id": "u", "team": "t"}, "service_tier": "standard_only", "stop_sequences": ["END"],
        "container": "c",
    })

    assert conversation == Conversation(
        turns=(Turn("system", (Text("Be brief."),)), Turn("user", (Text("Hi"),))),
        tools=(Tool("look", "Look.", SCHEMA, strict=True, cache="1h"), Native("anthropic", TOOLS[1]),
               Tool("plain", parameters={"type": "object"})),
        choice=Choice("one", "look"), parallel=False, output=Output("schema", SCHEMA),
        reasoning=Reasoning("high", -1, "none"), max_output=64, stop=("END",), user="u", metadata={"team": "t"},
        service_tier="default",
        others={"": "anthropic", "container": "c", "thinking.x": 1,
                "tools": {"plain": {"input_examples": [{}], "eager_input_streaming": True}}},
    )


def test_a_message_has_no_other_fields() -> None:
    """What else a message says is kept by its path, for the log, and not written back."""
    body = {**SIMPLE, "messages": [{**HI, "name": "Ann"}]}

    assert read(body).others == {"": "anthropic", "messages[0].name": "Ann"}
    assert rewritten(body) == SIMPLE


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_wrong_requests(body: Any, param: str | None) -> None:
    """A field that is missing or of a wrong type is refused by its path, in the message too."""
    with pytest.raises(BadRequest) as refused:
        read(body)

    assert refused.value.param == param
    assert (param or "JSON object") in refused.value.message


def nested(depth: int) -> bytes:
    """Return a request whose tool has arguments that are nested this deep."""
    inner = b'{"a":' * depth + b"1" + b"}" * depth
    block = b'{"type":"tool_use","id":"a","name":"n","input":' + inner + b"}"
    return b'{"max_tokens":1,"messages":[{"role":"assistant","content":[' + block + b"]}]}"


def written_or_refused(raw: bytes) -> bytes:
    """Return a request written anew, or the message of the refusal; nothing else may come of any bytes."""
    try:
        return write_request(read_request(raw, "m"), "m", Losses("anthropic", LOSSES))
    except BadRequest as refused:
        return msgspec.json.encode({"refused": refused.message})


def test_nested_requests() -> None:
    """A request of any depth is read and written, or refused: also where it can be decoded and no more."""
    depths = (10, 400, *range(800, 1_010), 5_000, 100_000)
    outcomes = {depth: written_or_refused(nested(depth)) for depth in depths}

    assert (b'"refused"' in outcomes[10], b'"refused"' in outcomes[100_000]) == (False, True)
    assert all(outcomes.values())


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
NAMES = sorted({
    *RICH["everything at the top"], *RICH["a schema"], "tools", "tool_choice", "thinking", "output_format", "type",
    "text", "role", "content", "source", "data", "input", "id", "name", "tool_use_id", "cache_control", "signature",
})
TYPES = [
    "text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking", "base64", "url", "enabled",
]


def shaken(draw: Any, value: Any) -> Any:
    """Return a value some of whose parts were exchanged for others."""
    if draw(st.integers(0, 14)) == 0:
        return draw(VALUES | st.sampled_from(TYPES))
    if isinstance(value, dict):
        kept = {name: shaken(draw, inner) for name, inner in value.items() if draw(st.integers(0, 19))}
        return {**kept, draw(st.sampled_from(NAMES)): draw(VALUES)} if draw(st.integers(0, 9)) == 0 else kept
    return [shaken(draw, inner) for inner in value] if isinstance(value, list) else value


@st.composite
def requests(draw: Any) -> Any:
    """Draw a request that is a little wrong."""
    return shaken(draw, draw(st.sampled_from(list(RICH.values()))))


@STEADY
@given(body=requests())
def test_wrong_in_any_way(body: Any) -> None:
    """A request is read, or refused with a message; what is read is written, or refused likewise."""
    assert isinstance(msgspec.json.decode(written_or_refused(msgspec.json.encode(body))), dict)


@STEADY
@given(raw=st.binary(max_size=60) | st.sampled_from(list(RICH.values())).map(orjson.dumps), cut=st.integers(0, 400))
def test_any_bytes(raw: bytes, cut: int) -> None:
    """No bytes, whole or cut off, raise anything but BadRequest."""
    for bytes_ in (raw, raw[:cut], raw[cut:]):
        assert isinstance(msgspec.json.decode(written_or_refused(bytes_)), dict)
