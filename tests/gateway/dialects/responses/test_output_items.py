"""Each item by itself: the names of its events in order, and what it is in the end."""

from typing import Any

import pytest

from gateway.dialects.neutral import Called, Media
from gateway.dialects.responses.output_items import Call, Image, Message, Reasoning
from gateway.dialects.responses.sealed import Sealed, unpack

Told = list[tuple[str, dict[str, Any]]]


def names(told: Told) -> list[str]:
    """Return the events' names, without what they have in common."""
    return [name.removeprefix("response.") for name, _ in told]


def test_a_message() -> None:
    """A part for text and a part for the refusal, each closed before the next one."""
    told: Told = []
    message = Message("r", 2, lambda name, fields: told.append((name, fields)))
    message.begin()
    message.say("output_text", "a", [])
    message.say("output_text", "b", [])
    message.say("refusal", "no", [])
    message.end("completed")
    text = {"type": "output_text", "text": "ab", "annotations": [], "logprobs": []}
    refusal = {"type": "refusal", "refusal": "no"}
    begun = {"id": "msg_r_2", "type": "message", "status": "in_progress", "content": [], "role": "assistant"}
    at: dict[str, Any] = {"item_id": "msg_r_2", "output_index": 2}
    first, second = at | {"content_index": 0}, at | {"content_index": 1}

    assert [
        ("response.output_item.added", {"output_index": 2, "item": begun}),
        ("response.content_part.added", first | {"part": text | {"text": ""}}),
        ("response.output_text.delta", first | {"delta": "a", "logprobs": []}),
        ("response.output_text.delta", first | {"delta": "b", "logprobs": []}),
        ("response.output_text.done", first | {"text": "ab", "logprobs": []}),
        ("response.content_part.done", first | {"part": text}),
        ("response.content_part.added", second | {"part": refusal | {"refusal": ""}}),
        ("response.refusal.delta", second | {"delta": "no"}),
        ("response.refusal.done", second | {"refusal": "no"}),
        ("response.content_part.done", second | {"part": refusal}),
        ("response.output_item.done",
         {"output_index": 2, "item": begun | {"status": "completed", "content": [text, refusal]}}),
    ] == told


def test_sources() -> None:
    """A source is for the text since the last one; several may be for the same text, and a refusal has none."""
    told: Told = []
    message = Message("r", 0, lambda name, fields: told.append((name, fields)))
    message.cite({"url": "too early"})
    message.say("output_text", "abc", [])
    message.cite({"url": "a"})
    message.cite({"url": "b"})
    message.say("output_text", "de", [])
    message.cite({"url": "c"})
    message.say("refusal", "no", [])
    message.cite({"url": "too late"})
    added = [fields for name, fields in told if name == "response.output_text.annotation.added"]

    assert [
        (0, "a", 0, 3), (1, "b", 0, 3), (2, "c", 3, 5),
    ] == [
        (one["annotation_index"], *(one["annotation"][name] for name in ("url", "start_index", "end_index")))
        for one in added
    ]
    assert [one["annotation"] for one in added] == message.words()["content"][0]["annotations"]


@pytest.mark.parametrize(
    ("dialect", "signature", "redacted", "call", "sealed"),
    [
        ("anthropic", "c2ln", None, None, Sealed("anthropic", "hm", "c2ln")),
        ("anthropic", None, "cmVk", None, Sealed("anthropic", "hm", None, "cmVk")),
        ("openai", None, None, None, Sealed("openai", "hm")),
        ("", "c2ln", None, "c", Sealed("", "hm", "c2ln", None, "c")),
    ],
)
def test_reasoning(
    dialect: str, signature: str | None, redacted: str | None, call: str | None, sealed: Sealed
) -> None:
    """Words are a summary of one part; whose they are and the seal is packed when it is done, and not before."""
    told: Told = []
    thought = Reasoning("r", 0, lambda name, fields: told.append((name, fields)), dialect)
    thought.begin()
    thought.think("h")
    thought.think("m")
    thought.signature, thought.redacted, thought.call = signature, redacted, call
    before = thought.words()
    thought.end("completed")

    assert [
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.delta", "reasoning_summary_text.done", "reasoning_summary_part.done",
        "output_item.done",
    ] == names(told)
    assert before == {"id": "rs_r_0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    assert sealed == unpack(thought.words()["encrypted_content"], "p")


@pytest.mark.parametrize(
    ("dialect", "signature", "sealed"), [("responses", "gAAA", "gAAA"), ("responses", None, None), ("", None, None)]
)
def test_reasoning_that_needs_no_packing(dialect: str, signature: str | None, sealed: str | None) -> None:
    """OpenAI's own seal stays as it is, and nothing is sealed where nobody knows whose thoughts they are."""
    thought = Reasoning("r", 0, lambda _, fields: fields.clear(), dialect)
    thought.signature = signature
    thought.end("completed")

    assert sealed == thought.words().get("encrypted_content")


@pytest.mark.parametrize(
    ("pieces", "status", "whole", "arguments"),
    [
        (['{"x"', ":1}"], "completed", True, '{"x":1}'), (['{"x"'], "incomplete", False, '{"x"'),
        (["[1]"], "completed", False, "[1]"), ([], "completed", False, "{}"), ([], "incomplete", False, ""),
    ],
)
def test_a_call(pieces: list[str], status: str, whole: bool, arguments: str) -> None:
    """Its arguments are what its deltas are, and JSON at least where the model wrote none."""
    told: Told = []
    call = Call("r", 1, lambda name, fields: told.append((name, fields)), Called(0, "call_x", "f"))
    call.begin()
    for piece in pieces:
        call.argue(piece)
    assert whole == call.whole
    call.end(status)
    deltas = [fields["delta"] for name, fields in told if name.endswith(".delta")]
    done = {
        "id": "fc_r_1", "type": "function_call", "status": status, "arguments": arguments, "call_id": "call_x",
        "name": "f",
    }

    assert arguments == "".join(deltas)
    assert ("response.function_call_arguments.done", {
        "item_id": "fc_r_1", "output_index": 1, "arguments": arguments, "name": "f"}) == told[-2]
    assert ("response.output_item.done", {"output_index": 1, "item": done}) == told[-1]


def test_a_call_without_an_id_gets_one() -> None:
    """Whoever answers a call needs an id to answer to."""
    assert Call("r", 1, lambda _, fields: fields.clear(), Called(0, "", "f")).call == "call_r_1"


def test_an_image() -> None:
    """It is told from beginning to end at once, its data when it is done."""
    told: Told = []
    image = Image("r", 0, lambda name, fields: told.append((name, fields)), Media("image", "image/png", "aaaa"))
    image.show()

    assert [
        "output_item.added", "image_generation_call.in_progress", "image_generation_call.generating",
        "image_generation_call.completed", "output_item.done",
    ] == names(told)
    assert [(None, None), ("aaaa", "png")] == [
        (fields["item"]["result"], fields["item"].get("output_format")) for _, fields in (told[0], told[-1])
    ]
