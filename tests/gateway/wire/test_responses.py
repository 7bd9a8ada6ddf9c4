"""What the path reads of an OpenAI Responses request."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.wire import ChatRequest, responses

PICTURE = "data:image/png;base64," + "A" * 2000
ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": [
        {"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": PICTURE},
    ]},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "a cat"},
]


def asked(**fields: Any) -> ChatRequest:
    """Decode a small body with these fields."""
    raw = msgspec.json.encode({"model": "auto", "input": "hi", **fields})
    return responses.decode(raw, {"x-thriftgate-session": "s"})


def test_a_text() -> None:
    """A plain input is the user's turn."""
    assert [(m.role, m.text()) for m in asked().messages] == [("user", "hi")]


def test_what_decides() -> None:
    """Instructions, items, tools, images, form, length and the session are read."""
    request = asked(
        instructions="Be brief.", input=ITEMS, tools=[{"type": "function", "name": "look"}], stream=True,
        max_output_tokens=9, text={"format": {"type": "json_schema", "name": "x", "schema": {}}},
    )

    assert [(m.role, m.text()) for m in request.messages] == [
        ("system", "Be brief."), ("user", "What is this?"), ("tool", "a cat"),
    ]
    assert (request.surface, request.stream, request.tools, request.images) == ("responses", True, 1, 1)
    assert (request.structured, request.max_output, request.session) == (True, 9, "s")
    assert len(request.raw) - request.text_bytes == len(PICTURE)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"input": []}, "input"), ({"input": 5}, "input"), ({"input": ["x"]}, "input[0]"), ({"stream": 1}, "stream")],
)
def test_refused(fields: dict[str, Any], param: str) -> None:
    """What is of the wrong type is named."""
    with pytest.raises(BadRequest) as caught:
        asked(**fields)

    assert caught.value.param == param


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["type", "text", "content", "output", "role", "function_call_output", "x"]), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, derandomize=True, database=None, max_examples=150)
@given(items=st.lists(st.dictionaries(st.sampled_from(["type", "role", "content", "output"]), JSON), max_size=3))
def test_arbitrary_values(items: list[dict[str, Any]]) -> None:
    """Any JSON is either read, and goes on as it came, or refused with a BadRequest."""
    request = None
    with contextlib.suppress(BadRequest):
        request = asked(input=items)

    assert request is None or request.body_for(request.model) == request.raw
    assert request is None or isinstance(request.last_user_text(), str)
