"""The parts of a message and its calls: each in its place, and what is not known kept by its path."""

from typing import Any

import pytest

from gateway.dialects.neutral import Call, Media, Native, Part, Refusal, Text
from gateway.dialects.openai.parts import read_call, read_part, sealed, signature_of
from gateway.errors import BadRequest

UNKEPT: dict[str, Any] = {}      # for what is not looked at


@pytest.mark.parametrize(
    ("value", "part", "kept"),
    [
        ({"type": "text", "text": "t"}, Text("t"), {}),
        ({"type": "text", "text": "t", "x": 1}, Text("t"), {"p.x": 1}),
        ({"type": "text", "text": "t", "cache_control": {"ttl": "1h"}}, Text("t", "1h"), {}),
        ({"type": "text", "text": "t", "prompt_cache_breakpoint": {"mode": "explicit"}}, Text("t", "5m"),
         {"p.prompt_cache_breakpoint": {"mode": "explicit"}}),
        ({"type": "text", "text": "t", "prompt_cache_breakpoint": {"ttl": "30m"}}, Text("t", "1h"),
         {"p.prompt_cache_breakpoint": {"ttl": "30m"}}),
        ({"type": "refusal", "refusal": "no"}, Refusal("no"), {}),
        ({"type": "image_url", "image_url": {"url": "u", "x": 1}}, Media("image", url="u"), {"p.image_url.x": 1}),
        ({"type": "input_audio", "input_audio": {"data": "AA", "format": "flac"}}, Media("audio", "audio/flac", "AA"),
         {}),
        ({"type": "file", "file": {"file_data": "https://a/b.pdf"}}, Media("file", url="https://a/b.pdf"), {}),
        ({"type": "file", "file": {"file_data": "AA"}}, Media("file", data="AA"), {}),
        ({"type": "file", "file": {"file_id": "f"}}, Media("file", file_id="f"), {}),
        ({"type": "later", "x": 1}, Native("openai", {"type": "later", "x": 1}), {}),
    ],
)
def test_parts(value: dict[str, Any], part: Part, kept: dict[str, Any]) -> None:
    """Every kind, with both kinds of marks for the cache."""
    found: dict[str, Any] = {}

    assert (read_part(value, "p", found.__setitem__), found) == (part, kept)


@pytest.mark.parametrize(
    ("value", "param"),
    [({}, "p.type"), ({"type": "text"}, "p.text"), ({"type": "file", "file": 5}, "p.file"),
     ({"type": "image_url", "image_url": {"url": 5}}, "p.image_url.url"), (5, "p")],
)
def test_faults_are_named(value: Any, param: str) -> None:
    """With the path to the field."""
    with pytest.raises(BadRequest) as caught:
        read_part(value, "p", UNKEPT.__setitem__)

    assert caught.value.param == param


SEALED = {"google": {"thought_signature": "s"}}


@pytest.mark.parametrize(
    ("more", "signature", "kept"),
    [({}, None, {}), ({"extra_content": SEALED}, "s", {}),
     ({"extra_content": {"a": 1}}, None, {"p.extra_content": {"a": 1}}), ({"x": 1}, None, {"p.x": 1})],
)
def test_calls(more: dict[str, Any], signature: str | None, kept: dict[str, Any]) -> None:
    """With the seal, where Google's server has it."""
    found: dict[str, Any] = {}
    value = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, **more}
    call = read_call(value, "p", lambda path, given: found.update({path: given} if given is not None else {}))

    assert (call, found) == (Call("c", "f", "{}", signature), kept)


def test_a_custom_call_stays_as_it_is() -> None:
    """Its input is no JSON."""
    value = {"id": "c", "type": "custom", "custom": {"name": "r", "input": "x"}}

    assert read_call(value, "p", UNKEPT.__setitem__) == Native("openai", value)


@pytest.mark.parametrize(
    "call", [{}, {"extra_content": 5}, {"extra_content": {"google": []}}, {"extra_content": {"google": {}}}]
)
def test_no_seal(call: dict[str, Any]) -> None:
    """Nothing else is taken for one."""
    assert signature_of(call) is None
    assert signature_of(sealed("s")) == "s"
