"""Turns, results, signatures and settings go together as Anthropic demands."""

from collections.abc import Mapping
from typing import Any

import pytest

from loadtest import anthropic_rules, signatures
from loadtest.asking import Arrived, RefusalError

USER = {"role": "user", "content": "hi"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
THINKING: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": signatures.sign("hm")}
OLD, NEW = "2023-06-01", "2026-10-21"


def turn(*blocks: object) -> dict[str, Any]:
    """What the assistant said."""
    return {"role": "assistant", "content": list(blocks)}


def user(*blocks: object) -> dict[str, Any]:
    """What the user said."""
    return {"role": "user", "content": list(blocks)}


def use(name: str) -> dict[str, Any]:
    """A call with this id."""
    return {"type": "tool_use", "id": name, "name": "f", "input": {}}


def result(name: str) -> dict[str, Any]:
    """The result of the call with this id."""
    return {"type": "tool_result", "tool_use_id": name, "content": "42"}


def text(said: str, **more: object) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": said, **more}


def fault(*turns: object, version: str = OLD, headers: Mapping[str, str] | None = None, **body: Any) -> str:
    """The words of the refusal; none for a request that is in order."""
    full = {"model": "m", "messages": list(turns) or [USER], "max_tokens": 9, **body}
    try:
        anthropic_rules.check(Arrived({"anthropic-version": version, **(headers or {})}, full))
    except RefusalError as refused:
        return refused.message
    return ""


@pytest.mark.parametrize(
    "turns",
    [
        (USER,),
        (USER, turn(text("a")), USER),
        (USER, USER),
        (USER, turn(text("So:"))),
        (USER, turn(text("a"), use("1"), use("2")), user(result("2"), result("1"), text("and?"))),
        (USER, turn(use("1")), user(result("1")), turn(use("2")), user(result("2"))),
        (USER, turn(THOUGHT, text("a")), USER),
        (USER, turn({**THOUGHT, "thinking": "", "signature": signatures.sign("")}, text("a")), USER),
    ],
)
def test_conversations_in_order(turns: tuple[object, ...]) -> None:
    """Multi-turn, prefilled, with calls in parallel and in sequence, with thoughts that came from here."""
    assert fault(*turns) == ""


OPEN = (
    "`tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must have a "
    "corresponding `tool_result` block in the next message."
)


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ((turn(text("a")),), 'messages: first message must use the "user" role'),
        (({"role": "system", "content": "be"}, USER), "role 'system' is not supported on this model"),
        ((user(text("")),), "messages: text content blocks must be non-empty"),
        ((user(text(" ")),), "messages: text content blocks must contain non-whitespace text"),
        ((user(), turn(text("a"))), "messages.0: all messages must have non-empty content except for the optional "
                                    "final "
         "assistant message"),
        ((USER, turn(text("So: "))), "messages: final assistant content cannot end with trailing whitespace"),
        ((USER, turn(use("1"), use("2"))), "messages.1: " + OPEN.format("1, 2")),
        ((USER, turn(use("1")), USER), "messages.1: " + OPEN.format("1")),
        ((USER, turn(use("1"), use("2")), user(result("1"))), "messages.1: " + OPEN.format("2")),
        ((USER, turn(use("1"), use("2")), user(result("1")), user(result("2"))), "messages.1: " + OPEN.format("2")),
        ((USER, turn(use("1")), user(text("so"), result("1"))), "messages.1: " + OPEN.format("1")),
        ((user(result("1")),), "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: 1. Each "
         "`tool_result` block must have a corresponding `tool_use` block in the previous message."),
        ((USER, turn(use("1")), user(result("1"), result("1"))), "messages.2.content: each tool_use must have a single "
         "result. Found multiple `tool_result` blocks with id: 1"),
        ((USER, turn(use("1")), user(result("1")), turn(use("1")), user(result("1"))),
         "messages: `tool_use` ids must be unique"),
        ((user(use("1")),), "messages.0.content.0: `tool_use` blocks can only be in `assistant` messages"),
        ((USER, turn(result("1"))), "messages.1.content.0: `tool_result` blocks can only be in `user` messages"),
        ((USER, turn({**THOUGHT, "signature": "foreign"}, text("a")), USER),
         "messages.1.content.0: Invalid `signature` in `thinking` block"),
        ((USER, turn({**THOUGHT, "thinking": "hm!"}, text("a")), USER),
         "messages.1.content.0: Invalid `signature` in `thinking` block"),
        ((USER, turn({"type": "redacted_thinking", "data": "x"}, text("a")), USER),
         "messages.1.content.0: Invalid `data` in `redacted_thinking` block"),
    ],
)  # fmt: skip
def test_conversations_out_of_order(turns: tuple[object, ...], said: str) -> None:
    """The refusal says where and what."""
    assert fault(*turns) == said


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": []}, "messages: at least one message is required"),
        ({"system": ""}, "system: text content blocks must be non-empty"),
        ({"max_tokens": 10**6}, "max_tokens: 1000000 > 128000, which is the maximum allowed number of output tokens "
                                "for m"),
        ({"temperature": 1, "top_p": 1}, "`temperature` and `top_p` cannot both be specified for this model. Please "
                                         "use "
         "only one."),
        ({"stop_sequences": ["\n"]}, "stop_sequences: each stop sequence must contain non-whitespace"),
        ({"tools": [TOOL, TOOL]}, "tools: Tool names must be unique."),
        ({"tool_choice": {"type": "any"}}, "tool_choice: tool_choice may only be specified while providing tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}},
         "tool_choice: Tool 'g' not found in provided tools"),
        ({**THINKING, "max_tokens": 1024}, "`max_tokens` must be greater than `thinking.budget_tokens`."),
        ({**THINKING, "temperature": 0}, "`temperature` may only be set to 1 when thinking is enabled or in adaptive "
                                         "mode."),
        ({**THINKING, "top_k": 3}, "`top_k` must be unset when thinking is enabled or in adaptive mode."),
        ({**THINKING, "tools": [TOOL], "tool_choice": {"type": "any"}},
         "Thinking may not be enabled when tool_choice forces tool use."),
        ({"system": [text("a", cache_control={"type": "ephemeral"})] * 5},
         "A maximum of 4 blocks with cache_control may be provided. Found 5."),
        ({"output_format": {"type": "json_schema", "schema": {}}}, "output_format: Extra inputs are not permitted"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"anyOf": [{"type": "object"}]}}}},
         "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(body: dict[str, Any], said: str) -> None:
    """The refusal is in the API's words."""
    assert fault(**body) == said


def test_a_call_after_a_thought_comes_back_with_the_thought() -> None:
    """While thinking is enabled, and only in the turn that is still going on."""
    bare, whole = (USER, turn(use("1")), user(result("1"))), (USER, turn(THOUGHT, use("1")), user(result("1")))

    assert fault(*bare, **THINKING).startswith(
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."
    )
    assert fault(*bare, thinking={"type": "adaptive"}) == fault(*bare) == fault(*whole, **THINKING) == ""
    assert fault(*bare, turn(text("a")), USER, **THINKING) == ""


@pytest.mark.parametrize(
    ("turns", "body"),
    [
        ((), {"temperature": 1}),
        ((), {"top_p": 0.5}),
        ((), {"top_k": 1}),
        ((USER, turn({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}})), {}),
        ((user(text("a", citations=[{"type": "page_location"}])),), {}),
    ],
)
def test_the_newest_version_takes_less(turns: tuple[object, ...], body: dict[str, Any]) -> None:
    """The samplers, assistants' documents and users' citations went with 2026-10-21."""
    assert fault(*turns, version=OLD, **body) == ""
    assert fault(*turns, version=NEW, **body)


def test_the_older_name_of_the_answers_schema_needs_its_beta() -> None:
    """`output_format` was that name."""
    form = {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}
    beta = {"anthropic-beta": "x,structured-outputs-2025-11-13"}

    assert fault(output_format=form, headers=beta) == ""
    assert anthropic_rules.schema_of({"output_format": form}) == form["schema"]


@pytest.mark.parametrize(("headers", "said"), [({}, "header is required"), ({"anthropic-version": "1"}, "not a valid")])
def test_a_version_is_demanded(headers: dict[str, str], said: str) -> None:
    """And it must be one that there is."""
    with pytest.raises(RefusalError, match=said):
        anthropic_rules.check_version(headers)


def test_a_request_may_be_too_large() -> None:
    """That is a 413."""
    with pytest.raises(RefusalError) as refused:
        anthropic_rules.check(Arrived({}, size=anthropic_rules.LIMIT_BYTES + 1))

    assert refused.value.status == 413


def test_a_beta_knows_its_fields() -> None:
    """A field of a beta is known to those who ask for the beta, and to nobody else."""
    beta = {"anthropic-beta": "interleaved-thinking-2025-05-14,context-management-2025-06-27"}

    assert fault(context_management={"edits": []}, headers=beta) == ""
    assert fault(context_management={"edits": []}) == "context_management: Extra inputs are not permitted"
    assert fault(mcp_servers=[], headers=beta) == "mcp_servers: Extra inputs are not permitted"
