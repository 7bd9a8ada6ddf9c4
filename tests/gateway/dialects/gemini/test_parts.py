"""Parts of contents, each way."""

from typing import Any

import msgspec
import orjson
import pytest

from gateway.dialects.gemini.parts import read_part, write_media, write_output
from gateway.dialects.neutral import Call, Media, Native, Part, Result, Text, Thinking
from gateway.dialects.reading import arguments_of, object_of
from gateway.errors import BadRequest

PNG = "iVBORw0KGgoAAAANSUhEUg"
CASES: dict[str, tuple[dict[str, Any], list[Part]]] = {
    "text": ({"text": "a"}, [Text("a")]),
    "no thought": ({"text": "a", "thought": False}, [Text("a")]),
    "a thought": ({"text": "a", "thought": True}, [Thinking("gemini", "a")]),
    "a signed thought": ({"text": "a", "thought": True, "thoughtSignature": "s"}, [Thinking("gemini", "a", "s")]),
    "a signed text": ({"text": "a", "thought_signature": "s"}, [Thinking("gemini", signature="s"), Text("a")]),
    "a call of another's": (
        {"functionCall": {"id": "i", "name": "f", "args": {}}, "thoughtSignature": "skip/thought/signature/validator"},
        [Call("i", "f", "{}")],
    ),
    "a seal": ({"text": "", "thoughtSignature": "s"}, [Thinking("gemini", redacted="s")]),
    "a bare seal": ({"thoughtSignature": "s"}, [Thinking("gemini", redacted="s")]),
    "an image": (
        {"inline_data": {"mime_type": "image/png", "data": "-_", "displayName": "x"}},
        [Media("image", "image/png", "+/", name="x")],
    ),
    "a sound": ({"inlineData": {"mimeType": "audio/mp3", "data": ""}}, [Media("audio", "audio/mp3", "")]),
    "a film": ({"inlineData": {"mimeType": "video/mp4", "data": ""}}, [Media("file", "video/mp4", "")]),
    "a signed image": (
        {"inlineData": {"mimeType": "image/png", "data": "aa"}, "thoughtSignature": "s"},
        [Thinking("gemini", signature="s"), Media("image", "image/png", "aa")],
    ),
    "an address": (
        {"fileData": {"fileUri": "https://x.org/a.png?b"}}, [Media("image", url="https://x.org/a.png?b")],
    ),
    "Google's file": (
        {"file_data": {"file_uri": "https://generativelanguage.googleapis.com/v1beta/files/a", "mimeType": "a/b"}},
        [Media("file", "a/b", file_id="https://generativelanguage.googleapis.com/v1beta/files/a")],
    ),
    "a bucket": ({"fileData": {"fileUri": "gs://a/b.wav"}}, [Media("audio", file_id="gs://a/b.wav")]),
    "a call": ({"functionCall": {"name": "f"}}, [Call("", "f", "{}")]),
    "a signed call": (
        {"function_call": {"id": "i", "name": "f", "args": {"a_b": 1.0}}, "thoughtSignature": "s"},
        [Call("i", "f", '{"a_b":1.0}', "s")],
    ),
    "a result": ({"functionResponse": {"name": "f", "response": {"output": "x"}}}, [Result("", (Text("x"),), "f")]),
    "an object": ({"functionResponse": {"name": "f", "response": {"t": 3}}}, [Result("", (Text('{"t":3}'),), "f")]),
    "nothing": ({"functionResponse": {"id": "i", "name": "f"}}, [Result("i", (), "f")]),
    "an error": (
        {"functionResponse": {"name": "f", "response": {"error": "x"}}}, [Result("", (Text("x"),), "f", error=True)],
    ),
    "an error with an object": (
        {"functionResponse": {"name": "f", "response": {"error": {"c": 1}}}},
        [Result("", (Text('{"c":1}'),), "f", error=True)],
    ),
    "an error and more": (
        {"functionResponse": {"name": "f", "response": {"error": "x", "c": 1}}},
        [Result("", (Text('{"error":"x","c":1}'),), "f", error=True)],
    ),
    "an image from a tool": (
        {"functionResponse": {"name": "f", "response": {}, "parts": [
            {"inlineData": {"mimeType": "image/png", "data": "aa"}}, {"text": "odd"}]}},
        [Result("", (Text("{}"), Media("image", "image/png", "aa"), Native("gemini", {"text": "odd"})), "f")],
    ),
    "code": ({"executable_code": {"code": "1"}}, [Native("gemini", {"executableCode": {"code": "1"}})]),
    "a thought image": (
        {"thought": True, "inlineData": {"data": "a"}},
        [Native("gemini", {"thought": True, "inlineData": {"data": "a"}})],
    ),
    "more than we know": (
        {"text": "a", "part_metadata": {"x_y": 1}}, [Native("gemini", {"text": "a", "partMetadata": {"x_y": 1}})],
    ),
    "more inside": (
        {"inlineData": {"data": "a", "newField": 1}}, [Native("gemini", {"inlineData": {"data": "a", "newField": 1}})],
    ),
    "more beside an address": (
        {"fileData": {"fileUri": "gs://a", "x": 1}}, [Native("gemini", {"fileData": {"fileUri": "gs://a", "x": 1}})],
    ),
    "a result in pieces": (
        {"functionResponse": {"name": "f", "willContinue": True}},
        [Native("gemini", {"functionResponse": {"name": "f", "willContinue": True}})],
    ),
    "an empty part": ({}, [Native("gemini", {})]),
}


@pytest.mark.parametrize(("value", "expected"), CASES.values(), ids=CASES)
def test_a_part_is_read(value: dict[str, Any], expected: list[Part]) -> None:
    """Every kind of part becomes its neutral parts; what only Gemini can say stays whole."""
    assert expected == read_part(value, "p")


@pytest.mark.parametrize(
    ("value", "param"),
    [
        (3, "p"), ({"text": 3}, "p.text"), ({"text": "a", "functionCall": {"name": "f"}}, "p"),
        ({"inlineData": {}}, "p.inlineData.data"), ({"inlineData": {"data": 1}}, "p.inlineData.data"),
        ({"fileData": {}}, "p.fileData.fileUri"), ({"functionCall": {}}, "p.functionCall.name"),
        ({"functionCall": {"name": "f", "args": []}}, "p.functionCall.args"),
        ({"functionResponse": {"name": "f", "response": "x"}}, "p.functionResponse.response"),
        ({"functionResponse": {"name": "f", "parts": [{"inlineData": 1}]}}, "p.functionResponse.parts[0].inlineData"),
        ({"functionResponse": {"id": "f"}}, "p.functionResponse.name"),
        ({"thoughtSignature": 3}, "p.thoughtSignature"),
    ],
)
def test_a_wrong_part_is_refused(value: Any, param: str) -> None:
    """A known field of a wrong type, or two kinds in one part, is refused by its path."""
    with pytest.raises(BadRequest) as caught:
        read_part(value, "p")

    assert param == caught.value.param


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        (Media("image", "image/webp", "aa"), {"inlineData": {"mimeType": "image/webp", "data": "aa"}}),
        (Media("image", None, PNG), {"inlineData": {"mimeType": "image/png", "data": PNG}}),
        (Media("file", None, "aa", name="x.csv"), {"inlineData": {"mimeType": "text/csv", "data": "aa"}}),
        (Media("audio", None, "aa"), {"inlineData": {"mimeType": "audio/wav", "data": "aa"}}),
        (Media("image", url="https://x.org/a.GIF#b"),
         {"fileData": {"mimeType": "image/gif", "fileUri": "https://x.org/a.GIF#b"}}),
        (Media("file", url="https://[x"), {"fileData": {"mimeType": "application/pdf", "fileUri": "https://[x"}}),
        (Media("odd", url="https://x/y"), {"fileData": {"mimeType": "application/pdf", "fileUri": "https://x/y"}}),
        (Media("image", "a/b", file_id="files/x"), {"fileData": {"mimeType": "a/b", "fileUri": "files/x"}}),
        (Media("file", file_id="file-abc"), None),
    ],
)
def test_media_are_written_with_their_type(media: Media, expected: dict[str, Any] | None) -> None:
    """A type that is not said is guessed: by the data, by the ending, else the most usual one of its kind."""
    assert expected == write_media(media)


def test_a_name_is_written_where_it_is_asked_for() -> None:
    """In a tool's result the words may refer to it."""
    assert write_media(Media("image", "a/b", "x", name="n"), named=True) == {
        "inlineData": {"mimeType": "a/b", "data": "x", "displayName": "n"}
    }


def plain(value: Any) -> Any:
    """Return what a value with raw JSON in it says."""
    return orjson.loads(msgspec.json.encode(value))


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{"a":1.50}', {"a": 1.5}), ("", {}), ("  \n", {}), ('{"a":', {"arguments": '{"a":'}),
        ("[1]", {"arguments": "[1]"}), ('{"a":\n1}\r\n', {"a": 1}), ("\ud800", None),
    ],
)
def test_arguments_are_always_an_object(text: str, arguments: Any) -> None:
    """Whole arguments are an object as they are; what is broken is shown as it was."""
    if arguments is not None:
        assert arguments == plain(arguments_of(text))
    assert (object_of(text) is not None) == (text.startswith("{") and text.strip().endswith("}"))


def test_arguments_keep_their_numbers() -> None:
    """A number is written as the model wrote it, on one line."""
    assert msgspec.json.encode(arguments_of('{"a":\n1.50}')) == b'{"a": 1.50}'


@pytest.mark.parametrize(
    ("text", "error", "expected"),
    [
        ("x", False, {"output": "x"}), ("", False, {"output": ""}), ('{"t":3}', False, {"t": 3}),
        ("[1]", False, {"output": "[1]"}), ("x", True, {"error": "x"}), ('{"c":1}', True, {"error": {"c": 1}}),
        ('{"error":"x","c":1}', True, {"error": "x", "c": 1}),
    ],
)
def test_a_tools_words_become_an_object(text: str, error: bool, expected: dict[str, Any]) -> None:
    """Words go under Google's own keys; what is an object stays one."""
    assert expected == plain(write_output(text, error=error))
