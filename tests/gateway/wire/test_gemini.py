"""What the path reads of a Gemini request."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.wire import ChatRequest, gemini

PICTURE = "A" * 2000
CONTENTS: list[dict[str, Any]] = [
    {"role": "user", "parts": [
        {"text": "What is this?"}, {"inlineData": {"mimeType": "image/png", "data": PICTURE}},
    ]},
    {"role": "model", "parts": [{"text": "hm", "thought": True}, {"functionCall": {"name": "look", "args": {}}}]},
    {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"seen": "a cat"}}}]},
]


def asked(*, stream: bool = False, **fields: Any) -> ChatRequest:
    """Decode a small body with these fields."""
    body = {"contents": [{"parts": [{"text": "hi"}]}], **fields}
    return gemini.decode(msgspec.json.encode(body), {}, "auto", stream=stream)


def test_what_decides() -> None:
    """The model and the kind of answer come from the path, the rest from the body; thoughts are nobody's words."""
    request = asked(
        stream=True, contents=CONTENTS, systemInstruction={"parts": [{"text": "Be brief."}]},
        tools=[{"functionDeclarations": [{"name": "a"}, {"name": "b"}]}, {"googleSearch": {}}],
        generationConfig={"maxOutputTokens": 9, "responseSchema": {"type": "OBJECT"}},
    )

    assert [(m.role, m.text()) for m in request.messages] == [
        ("system", "Be brief."), ("user", "What is this?"), ("assistant", ""), ("tool", ""),
    ]
    assert (request.surface, request.model, request.stream) == ("gemini", "auto", True)
    assert (request.tools, request.images, request.structured, request.max_output) == (3, 1, True, 9)
    assert len(request.raw) - request.text_bytes == len(PICTURE)


def test_both_spellings() -> None:
    """Google reads snake_case as well, and so do we."""
    request = asked(
        system_instruction={"parts": [{"text": "Be brief."}]},
        generation_config={"max_output_tokens": 9, "candidate_count": 2},
        contents=[{"parts": [{"inline_data": {"mime_type": "image/png", "data": PICTURE}}]}],
    )

    assert (request.messages[0].text(), request.max_output, request.images) == ("Be brief.", 9, 1)
    assert request.answers == 2


def test_the_body_goes_on_untouched() -> None:
    """The model's name stands in the path, so no byte of the body changes."""
    request = asked()

    assert request.body_for("gemini-2.5-flash") is request.raw


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"contents": []}, "contents"), ({"contents": "hi"}, "contents"), ({"tools": 1}, "tools"),
     ({"contents": [{"parts": ["x"]}]}, "contents[0].parts[0]")],
)
def test_refused(fields: dict[str, Any], param: str) -> None:
    """What is of the wrong type is named."""
    with pytest.raises(BadRequest) as caught:
        asked(**fields)

    assert caught.value.param == param


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["text", "inlineData", "data", "mimeType", "thought", "functionResponse"]), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, derandomize=True, database=None, max_examples=150)
@given(parts=st.lists(st.dictionaries(st.sampled_from(["text", "inlineData", "fileData"]), JSON), max_size=3))
def test_arbitrary_values(parts: list[dict[str, Any]]) -> None:
    """Any JSON is either read, and goes on as it came, or refused with a BadRequest."""
    request = None
    with contextlib.suppress(BadRequest):
        request = asked(contents=[{"parts": parts}])

    assert request is None or request.body_for(request.model) == request.raw
    assert request is None or isinstance(request.last_user_text(), str)
