"""Reading a generateContent request. The model and the kind of answer stand in its path, so neither is looked for here.

Wire format: ai.google.dev/api/generate-content, and the types of google-genai 3.6; read 2026-11.
What only Gemini has goes to `others` by its path from the top ("generationConfig.speechConfig"), so that a caller whose
request goes elsewhere is told the field and not the object around it.
"""

from typing import Annotated, Any

import msgspec

from gateway.dialects.gemini.fields import DIALECT, listed, typed
from gateway.dialects.gemini.parts import read_part
from gateway.dialects.gemini.schema import json_schema
from gateway.dialects.gemini.thinking import read_thinking
from gateway.dialects.neutral import Call, Choice, Conversation, Native, Output, Part, Reasoning, Result, Tool, Turn
from gateway.dialects.reading import missing, whole
from gateway.errors import BadRequest

ROLES = {None: "user", "": "user", "user": "user", "function": "user", "model": "assistant"}
TIERS = {"standard": "default", "flex": "flex", "priority": "priority", "unspecified": "auto"}
MODES = {"AUTO": "auto", "VALIDATED": "auto", "ANY": "any", "NONE": "none"}
JSON, PLAIN = "application/json", "text/plain"

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class _Body(msgspec.Struct, rename="camel"):
    contents: list[Any] | dict[str, Any]
    system_instruction: dict[str, Any] | None = None
    tools: list[Any] | dict[str, Any] | None = None
    tool_config: dict[str, Any] | None = None
    generation_config: dict[str, Any] | None = None
    service_tier: str | None = None
    model: str | None = None            # the path's counts


class _Content(msgspec.Struct, rename="camel"):
    parts: list[Any] | dict[str, Any] | None = None
    role: str | None = None


class _Tool(msgspec.Struct, rename="camel"):
    function_declarations: list[Any] | dict[str, Any] | None = None


class _Declaration(msgspec.Struct, rename="camel"):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None


class _ToolConfig(msgspec.Struct, rename="camel"):
    function_calling_config: dict[str, Any] | None = None


class _Calling(msgspec.Struct, rename="camel"):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class _Generation(msgspec.Struct, rename="camel"):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | float | None = None    # Google's own SDK writes 40.0
    max_output_tokens: Count | None = None
    candidate_count: Count | None = None
    stop_sequences: list[str] | str | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool | None = None
    logprobs: Count | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    response_format: list[Any] | dict[str, Any] | None = None
    thinking_config: dict[str, Any] | None = None


class _Format(msgspec.Struct, rename="camel"):
    text: dict[str, Any] | None = None


class _TextFormat(msgspec.Struct, rename="camel"):
    mime_type: str | None = None
    schema: dict[str, Any] | None = None


class _Calls:
    """The calls of a conversation so far. Where they have no ids they get some, in order: call_0, call_1."""

    def __init__(self) -> None:
        self._count = 0
        self._next = 0                              # the least number that may be free
        self._taken: set[str] = set()
        self._open: dict[str, dict[str, None]] = {}     # name → ids of its calls that are not yet answered, in order

    def begun(self, call: Call) -> Call:
        """Return a call with an id."""
        named = call if call.id else msgspec.structs.replace(call, id=self._made())
        self._count += 1
        self._taken.add(named.id)
        self._open.setdefault(named.name, {})[named.id] = None
        return named

    def answered(self, result: Result) -> Result:
        """Return a result with the id of its call: its own, else that of the first open call of its name."""
        unanswered = self._open.get(result.name or "", {})
        found = result.id or next(iter(unanswered), None)
        unanswered.pop(found or "", None)
        return msgspec.structs.replace(result, id=found or self._made())

    def _made(self) -> str:
        number = max(self._count, self._next)
        while f"call_{number}" in self._taken:
            number += 1
        self._next = number + 1
        return f"call_{number}"


def read_request(raw: bytes, model: str) -> Conversation:  # noqa: ARG001 - in the dialects that have it in the body
    """Read a request whole. Raises BadRequest with the field at fault."""
    return whole(raw, _conversation)


def _conversation(value: Any) -> Conversation:
    body, others = typed(_Body, value, "")
    if not body.contents:
        raise BadRequest("`contents` is empty: send at least one content.", param="contents")
    turns = _turns(body)
    tools, declared = _tools(listed(body.tools or []))
    choice, config_rest = _choice(body.tool_config or {})
    tier = body.service_tier and TIERS.get(body.service_tier.lower(), body.service_tier)
    others |= config_rest | ({"tools": declared} if declared else {})
    settings, rest = _settings(body.generation_config or {})
    others |= rest
    return Conversation(
        turns=turns, tools=tools, choice=choice, service_tier=tier, others={"": DIALECT, **others} if others else {},
        **settings,
    )


def _turns(body: _Body) -> tuple[Turn, ...]:
    calls = _Calls()
    system = body.system_instruction
    first = [] if system is None else [Turn("system", _content(system, "systemInstruction", calls)[1])]
    turns = []
    for at, content in enumerate(listed(body.contents)):
        role, parts = _content(content, f"contents[{at}]", calls)
        if role not in ROLES:
            field = f"contents[{at}].role"
            raise BadRequest(f"`{field}` is {str(role)[:40]!r}: expected `user` or `model`.", param=field)
        turns.append(Turn(ROLES[role], parts))
    return (*first, *turns)


def _content(value: Any, path: str, calls: _Calls) -> tuple[str | None, tuple[Part, ...]]:
    known, _ = typed(_Content, value, path)
    values = [] if known.parts is None else listed(known.parts)
    read = (part for at, one in enumerate(values) for part in read_part(one, f"{path}.parts[{at}]"))
    return known.role, tuple(_with_id(part, calls) for part in read)


def _with_id(part: Part, calls: _Calls) -> Part:
    if isinstance(part, Call):
        return calls.begun(part)
    return calls.answered(part) if isinstance(part, Result) else part


def _tools(values: list[Any]) -> tuple[tuple[Tool | Native, ...], dict[str, Any]]:
    """Return the tools, and by the names of functions what else is declared of them."""
    tools: list[Tool | Native] = []
    more: dict[str, Any] = {}
    for at, value in enumerate(values):
        known, rest = typed(_Tool, value, f"tools[{at}]")
        for inner, one in enumerate(listed(known.function_declarations or [])):
            declared, said = typed(_Declaration, one, f"tools[{at}].functionDeclarations[{inner}]")
            schema = declared.parameters_json_schema
            if schema is None and declared.parameters is not None:
                schema = json_schema(declared.parameters)
            tools.append(Tool(declared.name, declared.description, schema))
            more |= {declared.name: said} if said else {}
        tools += [Native(DIALECT, {name: field}) for name, field in rest.items()]
    return tuple(tools), more


def _choice(value: dict[str, Any]) -> tuple[Choice | None, dict[str, Any]]:
    config, rest = typed(_ToolConfig, value, "toolConfig")
    others = {f"toolConfig.{name}": field for name, field in rest.items()}
    if config.function_calling_config is None:
        return None, others
    path = "toolConfig.functionCallingConfig"
    calling, rest = typed(_Calling, config.function_calling_config, path)
    others |= {f"{path}.{name}": field for name, field in rest.items()}
    mode, names = (calling.mode or "MODE_UNSPECIFIED").upper(), tuple(calling.allowed_function_names or ())
    if mode == "MODE_UNSPECIFIED":
        return (Choice(names=names) if names else None), others
    if mode not in MODES:
        field = f"{path}.mode"
        raise BadRequest(f"`{field}` is {mode[:40]!r}: expected one of {', '.join(MODES)}.", param=field)
    if mode == "VALIDATED":
        others[f"{path}.mode"] = mode
    if mode == "ANY" and len(names) == 1:
        return Choice("one", names[0]), others
    return Choice(MODES[mode], names=names), others


def _settings(value: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a Conversation's fields that stand in generationConfig, and the others by their paths."""
    config, rest = typed(_Generation, value, "generationConfig")
    if rest.get("responseModalities") == ["TEXT"]:      # the default, which some frameworks spell out
        del rest["responseModalities"]
    reasoning: Reasoning | None = None
    if config.thinking_config is not None:
        reasoning, more = read_thinking(config.thinking_config, "generationConfig.thinkingConfig")
        rest |= {f"thinkingConfig.{name}": field for name, field in more.items()}
    output, more = _output(config)
    rest |= more
    logprobs = (config.logprobs or 0) if config.response_logprobs else None
    if logprobs is None and config.logprobs is not None:
        rest["logprobs"] = config.logprobs
    settings = {
        "reasoning": reasoning, "output": output, "logprobs": logprobs, "top_k": _top_k(config.top_k),
        "temperature": config.temperature, "top_p": config.top_p, "max_output": config.max_output_tokens,
        "n": config.candidate_count, "stop": tuple(listed(config.stop_sequences or [])), "seed": config.seed,
        "presence_penalty": config.presence_penalty, "frequency_penalty": config.frequency_penalty,
    }
    return settings, {f"generationConfig.{name}": field for name, field in rest.items()}


def _top_k(value: float | None) -> int | None:
    if value is None or value == int(value):
        return None if value is None else int(value)
    field = "generationConfig.topK"
    raise BadRequest(f"`{field}` is wrong: expected a whole number.", param=field)


def _output(config: _Generation) -> tuple[Output | None, dict[str, Any]]:
    """Return the form that the answer must have, and what else is said of it."""
    kind = (config.response_mime_type or PLAIN).lower()
    schema = config.response_json_schema
    if schema is None and config.response_schema is not None:
        schema = json_schema(config.response_schema)
    if config.response_format is not None:
        found = _text_format(listed(config.response_format))
        if found is None:
            return None, {"responseFormat": config.response_format}
        kind, schema = found
    if kind == JSON:
        return Output("json" if schema is None else "schema", schema), {}
    if kind == PLAIN and schema is not None:
        raise missing("generationConfig.responseMimeType")
    said = {"responseMimeType": config.response_mime_type, "responseJsonSchema": schema}
    return None, {name: field for name, field in said.items() if field is not None and kind != PLAIN}


def _text_format(formats: list[Any]) -> tuple[str, dict[str, Any] | None] | None:
    """Return type and schema where the newer responseFormat asks for text and nothing else."""
    if len(formats) != 1:
        return None
    form, rest = typed(_Format, formats[0], "generationConfig.responseFormat[0]")
    if form.text is None or rest:
        return None
    text, rest = typed(_TextFormat, form.text, "generationConfig.responseFormat[0].text")
    kind = (text.mime_type or PLAIN).lower().replace("_", "/")
    return None if rest or kind not in (JSON, PLAIN) else (kind, text.schema if kind == JSON else None)
