"""Reading a Messages request, or one that asks only how many tokens it has.

Wire format: platform.claude.com/docs/en/api/messages of version 2023-06-01, and the types of anthropic 2.14; read
2026-11. What only Anthropic has goes to `others` by its path from the top ("thinking.block_binding").
"""

from typing import Annotated, Any, Literal

import msgspec

from gateway.dialects.anthropic.fields import DIALECT, read_mark, typed
from gateway.dialects.anthropic.parts import read_content
from gateway.dialects.neutral import Choice, Conversation, Native, Output, Reasoning, Text, Tool, Turn
from gateway.dialects.reading import missing, whole
from gateway.errors import BadRequest

MODES = {"auto": "auto", "any": "any", "tool": "one", "none": "none"}
TIERS = {"auto": "auto", "standard_only": "default"}
SHOWN = {"summarized": "auto", "omitted": "none"}
BUDGETS = {"adaptive": -1, "disabled": 0}       # of the kinds of thinking that name none
SCHEMA = "json_schema"

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Budget = Annotated[int, msgspec.Meta(ge=1, le=2**31)]


class _Body(msgspec.Struct):
    messages: list[Any]
    model: str | None = None            # the one that was chosen counts
    max_tokens: Count | None = None
    system: str | list[Any] | None = None
    stream: bool = False
    tools: list[Any] = []
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    output_format: dict[str, Any] | None = None
    stop_sequences: list[str] = []
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Any]


class _Tool(msgspec.Struct):
    name: str
    input_schema: dict[str, Any]
    type: str | None = None
    description: str | None = None
    strict: bool | None = None
    cache_control: Any = None


class _Kind(msgspec.Struct):
    type: str | None = None


class _Choice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct):
    type: str
    budget_tokens: Budget | None = None
    display: str | None = None


class _OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: dict[str, Any] | None = None


class _Format(msgspec.Struct):
    type: str
    schema: dict[str, Any] | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


def read_request(raw: bytes, model: str) -> Conversation:  # noqa: ARG001 - the body has it too
    """Read a request whole. Raises BadRequest with the field at fault."""
    conversation = whole(raw, _conversation)
    if conversation.max_output is None:
        raise missing("max_tokens")
    return conversation


def _conversation(value: Any) -> Conversation:
    body, others = typed(_Body, value, "")
    if not body.messages:
        raise BadRequest("`messages` is empty: send at least one message.", param="messages")
    turns, unread = _turns(body)
    tools, declared = _tools(body.tools)
    fields: dict[str, Any] = {}
    for read, said in (
        (_choice, body.tool_choice), (_thinking, body.thinking), (_metadata, body.metadata),
    ):
        if said is not None:
            known, rest = read(said)
            fields |= known
            others |= rest
    fields["output"], effort, rest = _output(body)
    others |= rest | unread | ({"tools": declared} if declared else {})
    if effort is not None:
        fields["reasoning"] = msgspec.structs.replace(fields.get("reasoning") or Reasoning(), effort=effort)
    return Conversation(
        turns=turns, tools=tools, max_output=body.max_tokens, temperature=body.temperature, top_p=body.top_p,
        top_k=body.top_k, stop=tuple(body.stop_sequences), stream=body.stream,
        service_tier=body.service_tier and TIERS.get(body.service_tier, body.service_tier),
        others={"": DIALECT, **others}, **fields,
    )


def _turns(body: _Body) -> tuple[tuple[Turn, ...], dict[str, Any]]:
    """Return the turns, the system's first, and what else is said of the messages by its path."""
    system = read_content(body.system, "system") if body.system else ()
    turns = [Turn("system", system)] if system else []
    unread: dict[str, Any] = {}
    for at, value in enumerate(body.messages):
        path = f"messages[{at}]"
        message, rest = typed(_Message, value, path)
        turns.append(Turn(message.role, read_content(message.content, f"{path}.content")))
        unread |= {f"{path}.{name}": field for name, field in rest.items()}
    for turn in turns:
        if turn.role == "system" and not all(isinstance(part, Text | Native) for part in turn.parts):
            raise BadRequest("`system` is wrong: a system prompt holds text.", param="system")
    return tuple(turns), unread


def _tools(values: list[Any]) -> tuple[tuple[Tool | Native, ...], dict[str, Any]]:
    """Return the tools, and by the names of functions what else is declared of them."""
    tools: list[Tool | Native] = []
    more: dict[str, Any] = {}
    for at, value in enumerate(values):
        path = f"tools[{at}]"
        kind, _ = typed(_Kind, value, path)
        if kind.type not in (None, "custom"):
            tools.append(Native(DIALECT, value))
            continue
        known, rest = typed(_Tool, value, path)
        mark = read_mark(known.cache_control, path)
        tools.append(Tool(known.name, known.description, known.input_schema, known.strict, mark))
        more |= {known.name: rest} if rest else {}
    return tuple(tools), more


def _choice(value: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    choice, rest = typed(_Choice, value, "tool_choice")
    if choice.type == "tool" and choice.name is None:
        raise missing("tool_choice.name")
    alone = choice.disable_parallel_tool_use
    fields = {
        "choice": Choice(MODES[choice.type], choice.name if choice.type == "tool" else None),
        "parallel": None if alone is None else not alone,
    }
    return fields, _paths("tool_choice", rest)


def _thinking(value: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return how much thinking is asked for; a kind that is not known here stays whole among the others."""
    known, rest = typed(_Thinking, value, "thinking")
    if known.type == "enabled" and known.budget_tokens is None:
        raise missing("thinking.budget_tokens")
    budget = known.budget_tokens if known.type == "enabled" else BUDGETS.get(known.type)
    if budget is None or (known.display is not None and known.display not in SHOWN):
        return {}, {"thinking": value}
    shown = SHOWN[known.display] if known.display else None
    return {"reasoning": Reasoning(budget=budget, shown=shown)}, _paths("thinking", rest)


def _metadata(value: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    known, rest = typed(_Metadata, value, "metadata")
    return {"user": known.user_id, "metadata": rest or None}, {}


def _output(body: _Body) -> tuple[Output | None, str | None, dict[str, Any]]:
    """Return the form that the answer must have, the effort, and what else is said there."""
    config, rest = typed(_OutputConfig, body.output_config or {}, "output_config")
    others = _paths("output_config", rest)
    path, form = "output_config.format", config.format
    if form is None and body.output_format is not None:
        path, form = "output_format", body.output_format
    if form is None:
        return None, config.effort, others
    known, rest = typed(_Format, form, path)
    if known.type != SCHEMA:
        return None, config.effort, {**others, path: form}
    if known.schema is None:
        raise missing(f"{path}.schema")
    return Output("schema", known.schema), config.effort, others | _paths("output_config.format", rest)


def _paths(place: str, rest: dict[str, Any]) -> dict[str, Any]:
    return {f"{place}.{name}": value for name, value in rest.items()}
