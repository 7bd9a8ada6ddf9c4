"""Reading a Responses request.

Wire format: the types of openai 3.57 (responses.create); read 2026-11. Nothing is stored here, so what refers to
something stored is refused with the way around it. `store` itself is no wish that an answer depends on: it is read
over, and the answer says false. What only this dialect has goes to `others`, inner fields with the path to them.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from gateway.dialects.neutral import Choice, Conversation, Native, Output, Reasoning, Text, Tool, Turn
from gateway.dialects.reading import whole
from gateway.dialects.responses.fields import DIALECT, one_of, typed, wrong
from gateway.dialects.responses.input_items import read_items
from gateway.errors import BadRequest

STORED = {      # what needs a memory → the way around it
    "previous_response_id": "Leave it out and send the whole history in `input`.",
    "conversation": "Leave it out and send the whole history in `input`.",
    "background": "Leave it out, send the whole history in `input`, and wait for the answer or stream it.",
    "prompt": "Leave it out and send the template's words in `instructions` and the whole history in `input`.",
}
MODES = {"auto": "auto", "none": "none", "required": "any"}
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SUMMARIES = ("auto", "concise", "detailed")
VERBOSITIES = ("low", "medium", "high")
TRUNCATIONS = ("auto", "disabled")
FORMATS = ("text", "json_object", "json_schema")
LOGPROBS = "message.output_text.logprobs"
GIVEN_ANYWAY = (LOGPROBS, "reasoning.encrypted_content")

Values = dict[str, Any]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Alternatives = Annotated[int, msgspec.Meta(ge=0, le=20)]


class _Body(msgspec.Struct):
    input: str | list[Values]
    model: str | None = None                # the one that was routed by counts
    instructions: str | None = None
    tools: list[Values] | None = None
    tool_choice: str | Values | None = None
    parallel_tool_calls: bool | None = None
    text: Values | None = None
    reasoning: Values | None = None
    max_output_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: Alternatives | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    truncation: str | None = None
    max_tool_calls: Count | None = None
    prompt_cache_key: str | None = None
    stream: bool | None = None
    stream_options: Values | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | Values | None = None
    prompt: Values | None = None


class _Typed(msgspec.Struct):
    type: str


class _Function(_Typed):
    name: str
    description: str | None = None
    parameters: Values | None = None
    strict: bool | None = None


class _Named(_Typed):
    name: str


class _Allowed(_Typed):
    mode: str
    tools: list[Values]


class _Text(msgspec.Struct):
    format: Values | None = None
    verbosity: str | None = None


class _Schema(_Typed):
    name: str
    schema: Values
    description: str | None = None
    strict: bool | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None     # the older name


class _StreamOptions(msgspec.Struct):
    include_obfuscation: bool | None = None     # a padding against listeners: not ours to add


def read_request(raw: bytes, model: str) -> Conversation:  # noqa: ARG001 - for the dialects that lack it in the body
    """Read a request whole. Raises BadRequest with the field at fault."""
    return whole(raw, _conversation)


def _conversation(value: Any) -> Conversation:
    body, others = typed(_Body, value, "")
    _check_stateless(body)
    if not body.input:
        raise BadRequest("`input` is empty: send a text or at least one item.", param="input")
    turns, more = _turns(body)
    tools, of_tools = _tools(body.tools or [])
    choice, of_choice = _choice(body.tool_choice)
    text, of_text = _text(body.text or {})
    reasoning, of_reasoning = _reasoning(body.reasoning or {})
    others |= more | of_tools | of_choice | of_text | of_reasoning | _rest(body)
    return Conversation(
        turns=turns, tools=tools, choice=choice, parallel=body.parallel_tool_calls, reasoning=reasoning,
        max_output=body.max_output_tokens, temperature=body.temperature, top_p=body.top_p, logprobs=_logprobs(body),
        user=body.user or body.safety_identifier, metadata=body.metadata, service_tier=body.service_tier,
        stream=bool(body.stream), others={**others, "": DIALECT} if others else {}, **text,
    )


def _check_stateless(body: _Body) -> None:
    for name, remedy in STORED.items():
        if getattr(body, name):
            raise BadRequest(f"`{name}` needs what is stored, and this gateway stores nothing. {remedy}", param=name)


def _turns(body: _Body) -> tuple[tuple[Turn, ...], Values]:
    """Return what was said, the instructions first."""
    first = (Turn("system", (Text(body.instructions),)),) if body.instructions else ()
    if isinstance(body.input, str):
        return (*first, Turn("user", (Text(body.input),))), {}
    turns, others = read_items(body.input)
    if not turns:
        raise BadRequest("`input` says nothing: send at least one item with words in it.", param="input")
    return (*first, *turns), others


def _tools(values: list[Values]) -> tuple[tuple[Tool | Native, ...], Values]:
    """Return the tools, and what else is declared of functions."""
    tools: list[Tool | Native] = []
    others: Values = {}
    for at, value in enumerate(values):
        path = f"tools[{at}]"
        if typed(_Typed, value, path)[0].type != "function":
            tools.append(Native(DIALECT, value))
            continue
        if "name" not in value and "function" in value:
            raise wrong(f"{path}.function", "this API has name, description and parameters beside `type`; unwrap them")
        known, rest = typed(_Function, value, path)
        tools.append(Tool(known.name, known.description, known.parameters, known.strict))
        others |= {f"tools.{name}": field for name, field in rest.items()}
    return tuple(tools), others


def _choice(value: str | Values | None) -> tuple[Choice | None, Values]:
    """Return which tool must be called; a choice among tools that only OpenAI has stays as it is."""
    if value is None:
        return None, {}
    if isinstance(value, str):
        one_of(value, MODES, "tool_choice")
        return Choice(MODES[value]), {}
    kind = typed(_Typed, value, "tool_choice")[0].type
    if kind == "function":
        return Choice("one", typed(_Named, value, "tool_choice")[0].name), {}
    if kind != "allowed_tools":
        return None, {"tool_choice": value}
    known, _ = typed(_Allowed, value, "tool_choice")
    one_of(known.mode, ("auto", "required"), "tool_choice.mode")
    if not known.tools:
        raise wrong("tool_choice.tools", "it is empty, expected at least one tool")
    allowed = [(tool, f"tool_choice.tools[{at}]") for at, tool in enumerate(known.tools)]
    if any(typed(_Typed, tool, path)[0].type != "function" for tool, path in allowed):
        return None, {"tool_choice": value}
    return Choice(MODES[known.mode], names=tuple(typed(_Named, tool, path)[0].name for tool, path in allowed)), {}


def _text(value: Values) -> tuple[Values, Values]:
    """Return a Conversation's fields that stand in `text`, and the others by their paths."""
    known, rest = typed(_Text, value, "text")
    verbosity = one_of(known.verbosity, VERBOSITIES, "text.verbosity")
    return {"verbosity": verbosity, "output": _format(known.format)}, _below("text", rest)


def _format(value: Values | None) -> Output | None:
    if value is None:
        return None
    kind = typed(_Typed, value, "text.format")[0].type
    one_of(kind, FORMATS, "text.format.type")
    if kind == "text":
        return None
    if kind == "json_object":
        return Output("json")
    known, _ = typed(_Schema, value, "text.format")
    return Output("schema", known.schema, known.name, known.description, known.strict)


def _reasoning(value: Values) -> tuple[Reasoning | None, Values]:
    known, rest = typed(_Reasoning, value, "reasoning")
    effort = one_of(known.effort, EFFORTS, "reasoning.effort")
    summary = one_of(known.summary, SUMMARIES, "reasoning.summary")
    summary = summary or one_of(known.generate_summary, SUMMARIES, "reasoning.generate_summary")
    asked = Reasoning(effort, shown=summary)
    return (None if asked == Reasoning() else asked), _below("reasoning", rest)


def _logprobs(body: _Body) -> int | None:
    """Return how many alternatives are wanted: asked for by number, or by `include` alone."""
    return body.top_logprobs or (0 if LOGPROBS in (body.include or ()) else None)


def _rest(body: _Body) -> Values:
    """Return what is known, and said by this dialect alone; what has no effect when left out is left out."""
    _, stream_options = typed(_StreamOptions, body.stream_options or {}, "stream_options")
    truncation = one_of(body.truncation, TRUNCATIONS, "truncation")
    others: Values = {
        "include": [name for name in body.include or () if name not in GIVEN_ANYWAY],
        "safety_identifier": body.safety_identifier if body.user else None,
        "truncation": truncation if truncation != "disabled" else None,
        "max_tool_calls": body.max_tool_calls,
        "prompt_cache_key": body.prompt_cache_key,
    }
    given = {name: value for name, value in others.items() if value not in (None, [], "")}
    return given | _below("stream_options", stream_options)


def _below(path: str, rest: Mapping[str, Any]) -> Values:
    return {f"{path}.{name}": value for name, value in rest.items()}
