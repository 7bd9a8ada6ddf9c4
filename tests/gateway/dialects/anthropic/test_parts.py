"""Blocks into parts and back: what is kept, what becomes native, what another dialect's parts become."""

from typing import Any

import pytest

from gateway.dialects.anthropic.parts import Wording, fit, label, read_block, read_content, signed, to_json, unsigned
from gateway.dialects.anthropic.wording import LOSSES
from gateway.dialects.neutral import Call, Losses, Media, Native, Part, Refusal, Result, Text, Thinking
from gateway.dialects.reading import arguments_of, object_of
from gateway.errors import BadRequest, Inexpressible

PNG, PDF = "iVBORw0KGgo=", "JVBERi0="
MARK = {"cache_control": {"type": "ephemeral"}}
CITED = {"type": "char_location", "cited_text": "a", "document_index": 0, "start_char_index": 0, "end_char_index": 1}

BLOCKS: dict[str, tuple[dict[str, Any], Part]] = {
    "text": ({"type": "text", "text": "Hi"}, Text("Hi")),
    "marked text": ({"type": "text", "text": "Hi", **MARK}, Text("Hi", cache="5m")),
    "cited text": ({"type": "text", "text": "Hi", "citations": [CITED]}, Text("Hi", citations=(CITED,))),
    "image": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        Media("image", "image/png", PNG),
    ),
    "image by address": (
        {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}, **MARK},
        Media("image", url="https://a/b.png", cache="5m"),
    ),
    "image by file": ({"type": "image", "source": {"type": "file", "file_id": "f"}}, Media("image", file_id="f")),
    "pdf": (
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}, "title": "T"},
        Media("file", "application/pdf", PDF, name="T"),
    ),
    "pdf by address": (
        {"type": "document", "source": {"type": "url", "url": "https://a/b"}},
        Media("file", "application/pdf", url="https://a/b"),
    ),
    "document by file": (
        {"type": "document", "source": {"type": "file", "file_id": "f"}, "title": "T"},
        Media("file", file_id="f", name="T"),
    ),
    "plain document": (
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "größe"}, **MARK},
        Media("file", "text/plain", "Z3LDtsOfZQ==", cache="5m"),
    ),
    "call": (
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1.5, "b": [None]}, **MARK},
        Call("toolu_1", "look", '{"a":1.5,"b":[null]}', cache="5m"),
    ),
    "result": (
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "42", **MARK},
        Result("toolu_1", (Text("42"),), cache="5m"),
    ),
    "empty result": ({"type": "tool_result", "tool_use_id": "toolu_1"}, Result("toolu_1", ())),
    "error with an image": (
        {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": [
            {"type": "text", "text": "no"},
            {"type": "image", "source": {"type": "url", "url": "https://a"}},
            {"type": "search_result", "source": "s", "title": "t", "content": []},
        ]},
        Result("toolu_1", (
            Text("no"), Media("image", url="https://a"),
            Native("anthropic", {"type": "search_result", "source": "s", "title": "t", "content": []}),
        ), error=True),
    ),
    "thinking": (
        {"type": "thinking", "thinking": "Hm", "signature": "Sg=="}, Thinking("anthropic", "Hm", "Sg=="),
    ),
    "thinking that is not shown": (
        {"type": "thinking", "thinking": "", "signature": "Sg=="}, Thinking("anthropic", "", "Sg=="),
    ),
    "redacted thinking": ({"type": "redacted_thinking", "data": "R"}, Thinking("anthropic", redacted="R")),
}
NATIVE: dict[str, dict[str, Any]] = {
    "a server's tool": {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    "its result": {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    "a new block": {"type": "hologram", "depth": 3, "none": None},
    "a document with citations": {
        "type": "document", "source": {"type": "url", "url": "https://a"}, "citations": {"enabled": True},
    },
    "a document with context": {"type": "document", "source": {"type": "url", "url": "https://a"}, "context": "c"},
    "a document of blocks": {"type": "document", "source": {"type": "content", "content": "c"}},
    "an image to be cut": {
        "type": "image", "source": {"type": "url", "url": "https://a"}, "transformations": {"oversized_image": "error"},
    },
    "a call by a program": {
        "type": "tool_use", "id": "t", "name": "n", "input": {},
        "caller": {"type": "code_execution_20250825", "tool_id": "s"},
    },
    "a toolset's result": {"type": "tool_result", "tool_use_id": "t", "content": "c", "toolset_name": "browser"},
    "text with more": {"type": "text", "text": "t", "more": 1},
    "thinking with more": {"type": "thinking", "thinking": "t", "signature": "s", "more": 1},
    "redacted thinking with more": {"type": "redacted_thinking", "data": "d", "more": 1},
}


def worded(part: Part, *, own: bool = False) -> tuple[Any, list[str]]:
    """Return the block for a part, None where there is none, and what was lost."""
    losses = Losses("anthropic", LOSSES)
    blocks = Wording(losses, own=own).blocks((part,))
    return (blocks[0] if blocks else None), list(losses.kept)


def plain(block: Any) -> Any:
    """Return a block with a call's arguments read."""
    if isinstance(block, dict) and "input" in block:
        return {**block, "input": object_of(to_json(block["input"]))}
    return block


@pytest.mark.parametrize(("block", "part"), BLOCKS.values(), ids=BLOCKS)
def test_there_and_back(block: dict[str, Any], part: Part) -> None:
    """Every block that two dialects can say is read into a part and written as it was."""
    assert read_block(block, "b") == part
    assert plain(worded(part, own=True)[0]) == block


@pytest.mark.parametrize("block", NATIVE.values(), ids=NATIVE)
def test_what_anthropic_alone_can_say(block: dict[str, Any]) -> None:
    """A block with something of Anthropic's own stays whole, and comes back untouched."""
    assert read_block(block, "b") == Native("anthropic", block)
    assert worded(Native("anthropic", block), own=True) == (block, [])


@pytest.mark.parametrize(
    ("block", "same"),
    [
        ({"type": "text", "text": "Hi", "citations": None}, {"type": "text", "text": "Hi"}),
        (
            {"type": "tool_use", "id": "t", "name": "n", "input": {}, "caller": {"type": "direct"},
             "toolset_name": None},
            {"type": "tool_use", "id": "t", "name": "n", "input": {}},
        ),
        (
            {"type": "document", "source": {"type": "url", "url": "u"}, "citations": {"enabled": False}},
            {"type": "document", "source": {"type": "url", "url": "u"}},
        ),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "42"}], "is_error": False},
            {"type": "tool_result", "tool_use_id": "t", "content": "42"},
        ),
    ],
)
def test_other_spellings(block: dict[str, Any], same: dict[str, Any]) -> None:
    """What the SDK writes of an answer that is sent back is read as the plain block that it is."""
    assert read_block(block, "b") == read_block(same, "b")


@pytest.mark.parametrize(
    ("block", "param"),
    [
        ("x", "b"),
        ({}, "b.type"),
        ({"type": "text"}, "b.text"),
        ({"type": "text", "text": 1}, "b.text"),
        ({"type": "text", "text": "t", "citations": ["x"]}, "b.citations[0]"),
        ({"type": "text", "text": "t", "cache_control": 5}, "b.cache_control"),
        ({"type": "image"}, "b.source"),
        ({"type": "image", "source": {}}, "b.source.type"),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png"}}, "b.source.data"),
        ({"type": "image", "source": {"type": "url"}}, "b.source.url"),
        ({"type": "document", "source": {"type": "file"}}, "b.source.file_id"),
        ({"type": "document", "source": {"type": "text", "data": 4}}, "b.source.data"),
        ({"type": "tool_use", "id": "t", "name": "n", "input": "{}"}, "b.input"),
        ({"type": "tool_use", "id": "t", "input": {}}, "b.name"),
        ({"type": "tool_result", "content": "c"}, "b.tool_use_id"),
        ({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text"}]}, "b.content[0].text"),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "redacted_thinking", "data": "d"}]},
            "b.content[0].type",
        ),
        ({"type": "thinking", "signature": "s"}, "b.thinking"),
        ({"type": "redacted_thinking"}, "b.data"),
    ],
)
def test_wrong_blocks(block: Any, param: str) -> None:
    """A field of a wrong type or one that is missing is refused by its path."""
    with pytest.raises(BadRequest) as refused:
        read_block(block, "b")

    assert refused.value.param == param


def test_a_string_is_one_text() -> None:
    """A content that is a string is one block of text; a list is read block by block."""
    assert read_content("Hi", "c") == (Text("Hi"),)
    assert read_content([{"type": "text", "text": "Hi"}], "c") == (Text("Hi"),)


FOREIGN: dict[str, tuple[Part, Any, list[str]]] = {
    "a refusal": (Refusal("No."), {"type": "text", "text": "No."}, []),
    "nothing said": (Text(" \n"), None, []),
    "citations": (Text("Hi", citations=({"url": "u"},)), {"type": "text", "text": "Hi"}, ["citations"]),
    "thinking": (Thinking("gemini", "Hm", "s"), None, ["thinking"]),
    "thinking without a signature": (Thinking("anthropic", "Hm"), None, ["thinking"]),
    "a signature on a call": (
        Call("call_1", "look", '{"a":1}', "s"), {"type": "tool_use", "id": "call_1", "name": "look", "input": {"a": 1}},
        ["signature"],
    ),
    "an id that Anthropic refuses": (
        Call("functions.look:0", "look", ""),
        {"type": "tool_use", "id": "functions_look_0", "name": "look", "input": {}}, [],
    ),
    "broken arguments": (
        Call("c", "look", '{"a":'),
        {"type": "tool_use", "id": "c", "name": "look", "input": {"arguments": '{"a":'}}, [],
    ),
    "a result for it": (
        Result("functions.look:0", (Text(""),), "look"), {"type": "tool_result", "tool_use_id": "functions_look_0"}, [],
    ),
    "an image whose type is seen": (
        Media("image", data=PNG),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}, [],
    ),
    "a type by its other name": (
        Media("image", "image/jpg", PNG, detail="low", name="n"),
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG}},
        ["media.detail", "media.name"],
    ),
    "an image that is called a file": (
        Media("file", "image/webp", PNG, detail="auto"),
        {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": PNG}}, [],
    ),
    "a pdf whose type is seen": (
        Media("file", data=PDF, name="a.pdf"),
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
         "title": "a.pdf"}, [],
    ),
    "text": (
        Media("file", "text/markdown", "IyBI"),
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "# H"}}, [],
    ),
    "a document by address": (
        Media("file", url="https://a/b"), {"type": "document", "source": {"type": "url", "url": "https://a/b"}}, [],
    ),
}


@pytest.mark.parametrize(("part", "block", "lost"), FOREIGN.values(), ids=FOREIGN)
def test_parts_of_other_dialects(part: Part, block: Any, lost: list[str]) -> None:
    """What another dialect says is said in Anthropic's blocks; what is left out is logged."""
    said, losses = worded(part)

    assert (plain(said), losses) == (block, lost)


@pytest.mark.parametrize(
    ("part", "param"),
    [
        (Native("gemini", {"executableCode": {}}), "executableCode"),
        (Native("openai", {"type": "refusal_extra"}), "refusal_extra"),
        (Media("audio", "audio/wav", "AAAA"), "audio"),
        (Media("image", file_id="file-1"), "file_id"),
        (Media("image", "image/tiff", "AAAA"), "image/tiff"),
        (Media("file", "video/mp4", "AAAA"), "video/mp4"),
        (Media("file", "text/csv", url="https://a"), "text/csv"),
        (Media("file", "text/csv", "no base64"), "text/csv"),
        (Media("file", data="AAAA"), "file"),
        (Result("c", (Media("audio", data="AAAA"),)), "audio"),
    ],
)
def test_parts_that_cannot_be_said(part: Part, param: str) -> None:
    """What would make another answer is refused, and the message names it."""
    with pytest.raises(Inexpressible) as refused:
        worded(part)

    assert refused.value.param == param


@pytest.mark.parametrize(
    "part",
    [Native("gemini", {}), Media("audio", data="A"), Media("file", file_id="f"), Media("file", "video/mp4", "A")],
)
def test_parts_that_a_lenient_table_leaves_out(part: Part) -> None:
    """Where the table says drop, nothing is written for the part, and its field is logged."""
    losses = Losses("anthropic", {})

    assert Wording(losses, own=False).blocks((part, Text("Hi"))) == [{"type": "text", "text": "Hi"}]
    assert len(losses.kept) == 1


def test_foreign_thinking_returns_to_whom_it_belongs() -> None:
    """Thinking that was shown under a signature of ours is read as its own model's, sealed as it was."""
    shown = {"type": "thinking", "thinking": "Hm", "signature": signed("gemini", "a.b=")}
    sealed = {"type": "redacted_thinking", "data": signed("gemini", "R")}

    assert read_block(shown, "b") == Thinking("gemini", "Hm", "a.b=")
    assert read_block(sealed, "b") == Thinking("gemini", redacted="R")
    assert unsigned(signed("openai", None)) == ("openai", None)
    assert unsigned("Sg==") == ("anthropic", "Sg==")
    assert unsigned(None) == ("anthropic", None)


def test_small_things() -> None:
    """Ids are made fit, labels found, arguments read, and the wording says whose parts it words."""
    assert (fit("a-b_C1"), fit("a.b"), fit("")) == ("a-b_C1", "a_b", "call")
    assert (label(Native("x", {"type": "t"})), label(Native("x", {"k": 1})), label(Native("x", {}))) == ("t", "k", None)
    assert (object_of("[]"), object_of("{"), object_of('{"a":1}'), object_of("\ud800")) == (None, None, {"a": 1}, None)
    assert to_json(arguments_of('{"a": 1e2}')) == '{"a": 1e2}'
    assert "foreign" in repr(Wording(Losses("anthropic", {}), own=False))
    assert "our own" in repr(Wording(Losses("anthropic", {}), own=True))
