"""What the path reads of an Anthropic Messages request."""

import contextlib
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.wire import ChatRequest, messages

PICTURE = "A" * 2000
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
    ]},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]},
    {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t1", "content": [
            {"type": "text", "text": "a cat"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
        ]},
    ]},
]


def asked(**fields: Any) -> ChatRequest:
    """Decode a small body with these fields."""
    body = {"model": "auto", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}], **fields}
    return messages.decode(msgspec.json.encode(body), {"x-thriftgate-rung": "cheap"})


def test_what_decides() -> None:
    """System, turns, tools, images, form, length and the pinned rung are read."""
    request = asked(
        system=[{"type": "text", "text": "Be brief."}], messages=TURNS, tools=[{"name": "look", "input_schema": {}}],
        stream=True, output_config={"format": {"type": "json_schema", "schema": {}}},
    )

    assert [(m.role, m.text()) for m in request.messages] == [
        ("system", "Be brief."), ("user", "What is this?"), ("assistant", ""), ("tool", "a cat"),
    ]
    assert (request.surface, request.stream, request.tools, request.images) == ("anthropic", True, 1, 2)
    assert (request.structured, request.max_output, request.rung) == (True, 64, "cheap")


def test_a_turn_of_results_is_none_of_the_users() -> None:
    """What tools gave back is not what the user says: the classifier still reads the question."""
    assert asked(messages=TURNS).last_user_text() == "What is this?"


def test_attached_data_is_not_text() -> None:
    """An image's bytes are no tokens, in a turn or in a tool's result."""
    request = asked(messages=TURNS)

    assert len(request.raw) - request.text_bytes == 2 * len(PICTURE)


def test_only_the_model_is_exchanged() -> None:
    """Fields that nobody here knows, and the bytes of every value, go on as they came."""
    raw = b'{"model":"auto","brand_new":[1.50, 2e3],"messages":[{"role":"user","content":"\\u00e9"}],"max_tokens":5}'
    sent = messages.decode(raw, {}).body_for("claude")

    assert b'"brand_new":[1.50, 2e3]' in sent
    assert b'"\\u00e9"' in sent
    assert orjson.loads(sent)["model"] == "claude"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"), ({"messages": [{"role": "user"}]}, "messages[0]"), ({"model": 1}, "model"),
        ({"max_tokens": -1}, "max_tokens"), ({"system": 3}, "system"),
    ],
)
def test_refused(fields: dict[str, Any], param: str) -> None:
    """What is of the wrong type is named."""
    with pytest.raises(BadRequest) as caught:
        asked(**fields)

    assert caught.value.param == param


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["type", "text", "content", "source", "role", "tool_result", "image", "x"]), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, derandomize=True, database=None, max_examples=150)
@given(content=st.lists(JSON, max_size=3))
def test_arbitrary_values(content: list[Any]) -> None:
    """Any JSON is either read, and goes on as it came, or refused with a BadRequest."""
    request = None
    with contextlib.suppress(BadRequest):
        request = asked(messages=[{"role": "user", "content": content}])

    assert request is None or request.body_for(request.model) == request.raw
    assert request is None or isinstance(request.last_user_text(), str)
