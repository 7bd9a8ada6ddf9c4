"""Items become turns: what the model made in one row is one turn, and so are the results of parallel calls."""

from typing import Any

import pytest

from gateway.dialects.neutral import Call, Media, Native, Part, Refusal, Result, Text, Thinking, Turn
from gateway.dialects.responses.input_items import read_items
from gateway.dialects.responses.sealed import Sealed, pack
from gateway.errors import BadRequest

PNG = "iVBORw0KGgo="


def part_of(value: dict[str, Any]) -> Part:
    """Read one part of a user's message."""
    (turn,), _ = read_items([{"role": "user", "content": [value]}])
    return turn.parts[0]


def test_a_whole_history() -> None:
    """Roles, thoughts, words, calls and results stand in the turns that the other dialects have."""
    items: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."}, {"type": "message", "role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA",
         "summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "text": "Let me look.", "annotations": [{"type": "file_path"}], "logprobs": []},
            {"type": "refusal", "refusal": "No."}]},
        {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": "{}", "status": "completed"},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": '{"x":1}'},
        {"type": "function_call_output", "call_id": "a", "output": "sunny"},
        {"type": "function_call_output", "call_id": "b", "output": [
            {"type": "input_text", "text": "see"},
            {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "low"}]},
        {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "Now it rains."},
        {"role": "user", "content": "Thanks"}, {"role": "user", "content": "Bye"},
    ]
    thought = Thinking("responses", "one\n\ntwo", "gAAA", id="rs_1")
    image = Media("image", "image/png", PNG, detail="low")

    assert (
        Turn("system", (Text("Be kind."),)), Turn("system", (Text("Be brief."),), developer=True),
        Turn("user", (Text("Weather?"),)),
        Turn("assistant", (
            thought, Text("Let me look.", citations=({"type": "file_path"},)), Refusal("No."), Call("a", "f", "{}"),
            Call("b", "g", '{"x":1}'))),
        Turn("user", (Result("a", (Text("sunny"),)), Result("b", (Text("see"), image)))),
        Turn("user", (Text("And now?"),)), Turn("assistant", (Text("Now it rains."),)),
        Turn("user", (Text("Thanks"),)), Turn("user", (Text("Bye"),)),
    ) == read_items(items)[0]


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ({"type": "input_text", "text": "a"}, Text("a")),
        ({"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}, Text("a", "5m")),
        ({"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"ttl": "30m"}}, Text("a", "1h")),
        ({"type": "input_image", "image_url": "https://e.org/a.png"}, Media("image", url="https://e.org/a.png")),
        ({"type": "input_image", "file_id": "file-1", "detail": "high"},
         Media("image", file_id="file-1", detail="high")),
        ({"type": "input_file", "file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"},
         Media("file", "application/pdf", "JVBE", name="a.pdf")),
        ({"type": "input_file", "file_data": "JVBE"}, Media("file", None, "JVBE")),
        ({"type": "input_file", "file_url": "https://e.org/a.pdf"}, Media("file", url="https://e.org/a.pdf")),
        ({"type": "input_file", "file_id": "file-1"}, Media("file", file_id="file-1")),
        ({"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
         Media("audio", "audio/mp3", "AA==")),
        ({"type": "computer_screenshot", "file_id": "x"},
         Native("responses", {"type": "computer_screenshot", "file_id": "x"})),
    ],
)
def test_parts(value: dict[str, Any], part: Part) -> None:
    """Each kind of part, with its data or where they lie; an unknown one is native, whole."""
    assert part == part_of(value)


@pytest.mark.parametrize(
    ("item", "role"),
    [
        ({"type": "custom_tool_call", "call_id": "c", "name": "n", "input": "x"}, "assistant"),
        ({"type": "web_search_call", "id": "ws_1", "status": "completed"}, "assistant"),
        ({"type": "custom_tool_call_output", "call_id": "c", "output": "y"}, "user"),
        ({"type": "mcp_approval_response", "approval_request_id": "a", "approve": True}, "user"),
    ],
)
def test_other_items_are_native(item: dict[str, Any], role: str) -> None:
    """What only OpenAI has is kept whole, on the side that it comes from."""
    assert ((Turn(role, (Native("responses", item),)),), {}) == read_items([item])


def test_thoughts_of_others_come_back() -> None:
    """A packed thought is its provider's again, and a packed signature its call's."""
    thought = Sealed("anthropic", "hm", "c2ln")
    hidden = Sealed("anthropic", redacted="cmVk")
    of_call = Sealed(signature="Z2Vt", call="c")
    items: list[dict[str, Any]] = [
        {"type": "reasoning", "id": "rs_0", "summary": [], "encrypted_content": pack(thought)},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": pack(hidden)},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": pack(of_call)},
        {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    ]

    assert (
        Thinking("anthropic", "hm", "c2ln"), Thinking("anthropic", redacted="cmVk"), Call("b", "f", "{}"),
        Call("c", "f", "{}", "Z2Vt"), Call("c", "f", "{}"),
    ) == read_items(items)[0][0].parts


def test_open_reasoning() -> None:
    """Where a model shows all its thoughts and no summary, they are the text."""
    item = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "so"}], "encrypted_content": None}

    assert (Turn("assistant", (Thinking("responses", "so"),)),) == read_items([item])[0]


def test_unknown_fields_are_kept_by_name() -> None:
    """A field that nobody knows is neither an error nor lost; ids and states are."""
    items: list[dict[str, Any]] = [
        {"role": "assistant", "phase": "commentary", "id": "m", "status": "completed", "content": [
            {"type": "output_text", "text": "a", "parsed": {}}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "", "namespace": "n", "caller": None},
    ]

    assert {"input.phase": "commentary", "input.parsed": {}, "input.namespace": "n"} == read_items(items)[1]


def test_nothing_said_is_no_turn() -> None:
    """Text without words is left out, and so is a turn of nothing else."""
    items: list[dict[str, Any]] = [
        {"role": "user", "content": ""}, {"role": "assistant", "content": [{"type": "output_text", "text": ""}]},
        {"type": "function_call_output", "call_id": "c", "output": ""},
    ]

    assert (Turn("user", (Result("c", ()),)),) == read_items(items)[0]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({}, "input[0].type"), ({"type": 3}, "input[0].type"), ({"role": "user"}, "input[0].content"),
        ({"role": "tool", "content": "x"}, "input[0].role"), ({"role": 1, "content": "x"}, "input[0].role"),
        ({"role": "user", "content": 1}, "input[0].content"),
        ({"role": "user", "content": ["x"]}, "input[0].content[0]"),
        ({"role": "user", "content": [{}]}, "input[0].content[0].type"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0].image_url"),
        ({"role": "user", "content": [{"type": "input_file"}]}, "input[0].content[0].file_data"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]},
         "input[0].content[0].input_audio.format"),
        ({"type": "function_call", "call_id": "c", "arguments": "{}"}, "input[0].name"),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}, "input[0].arguments"),
        ({"type": "function_call_output", "output": "x"}, "input[0].call_id"),
        ({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text"}]},
         "input[0].output[0].text"),
        ({"type": "reasoning", "summary": [{}]}, "input[0].summary[0].text"),
        ({"type": "reasoning", "encrypted_content": "tg1:!"}, "input[0].encrypted_content"),
        ({"type": "item_reference", "id": "msg_1"}, "input[0]"), ({"id": "msg_1"}, "input[0]"),
    ],
)
def test_what_is_wrong_is_named(item: dict[str, Any], param: str) -> None:
    """The answer to a wrong item is the path to the field, and what to send instead."""
    with pytest.raises(BadRequest) as raised:
        read_items([item])

    assert param == raised.value.param


def test_a_reference_is_told_the_way_around() -> None:
    """Who refers to an item that OpenAI would have stored is told to send it."""
    with pytest.raises(BadRequest, match="Send the item itself: the whole history goes into `input`"):
        read_items([{"type": "item_reference", "id": "msg_1"}])


def test_a_refusal_in_a_result_is_text() -> None:
    """A result has no refusals; its words are kept."""
    item = {"type": "function_call_output", "call_id": "c", "output": [{"type": "refusal", "refusal": "no"}]}

    assert (Turn("user", (Result("c", (Text("no"),)),)),) == read_items([item])[0]
