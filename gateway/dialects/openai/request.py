"""Reading a Chat Completions request.

Wire format: the types of openai 3.57 (chat.completion_create_params), read 2026-11, and what compatible servers add to
it: `top_k` (vLLM), `reasoning_content` (DeepSeek, vLLM), `reasoning` and `cache_control` (OpenRouter), a call's
`extra_content` (Google).

What is not known goes to `others`: a field of the request by its name, and what stands deeper by its path, under the
name of the field that it is in: {"messages": {"messages[2].prefix": true}}. Nulls and empty lists say nothing.
"""

import re
from typing import Annotated, Any, Literal

import msgspec

from gateway.dialects.neutral import OPENAI as DIALECT
from gateway.dialects.neutral import (
    Call,
    Choice,
    Conversation,
    Media,
    Native,
    Output,
    Part,
    Reasoning,
    Refusal,
    Result,
    Text,
    Thinking,
    Tool,
    Turn,
)
from gateway.dialects.openai.parts import Function, known, read_call, read_part
from gateway.dialects.reading import lifetime, typed, whole
from gateway.errors import BadRequest

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Words = dict[str, Any]
CHOICES = {"auto": "auto", "none": "none", "required": "any"}


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None
    max_tokens: int | None = None
    exclude: bool | None = None


class _Body(msgspec.Struct):
    messages: list[Any]
    model: str = ""                         # the decoder of the path has looked at it
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    tool_choice: str | Words | None = None
    function_call: str | Words | None = None
    parallel_tool_calls: bool | None = None
    response_format: Words | None = None
    reasoning_effort: str | None = None
    reasoning: Words | None = None
    max_completion_tokens: Count | None = None
    max_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Count | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: Words | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    stream: bool | None = None
    stream_options: Words | None = None
    store: bool | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Any] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Words | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    audio: Words | None = None              # an earlier spoken answer, by its id


class _FunctionTool(msgspec.Struct):
    function: Words
    type: str = "function"
    cache_control: Words | None = None


class _Declared(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: Words | None = None
    strict: bool | None = None


class _Allowed(msgspec.Struct):
    tools: list[Words]
    mode: Literal["auto", "required"] = "auto"


class _Schema(msgspec.Struct):
    name: str
    schema: Words | None = None
    description: str | None = None
    strict: bool | None = None


def read_request(raw: bytes, model: str) -> Conversation:  # noqa: ARG001 - the dialects that have it in the path need it
    """Read a request whole. Raises BadRequest with the field at fault."""
    return whole(raw, _Reading().conversation)


class _Reading:
    """One request: what is not known in it, and the calls of the old form, which have no ids."""

    def __init__(self) -> None:
        self._others: Words = {}
        self._old_calls: dict[str, str] = {}        # function → the id that its last call was given

    def conversation(self, value: Words) -> Conversation:
        """Return the whole request."""
        body, unknown = typed(_Body, value, "")
        self._others |= unknown
        if not body.messages:
            raise BadRequest("`messages` is empty: send at least one message.", param="messages")
        return Conversation(
            turns=tuple(self._turn(message, f"messages[{at}]") for at, message in enumerate(body.messages)),
            tools=(
                *(self._tool(tool, f"tools[{at}]") for at, tool in enumerate(body.tools or ())),
                *(self._declared(tool, f"functions[{at}]") for at, tool in enumerate(body.functions or ())),
            ),
            choice=_choice(body),
            parallel=body.parallel_tool_calls,
            output=self._output(body.response_format),
            reasoning=self._reasoning(body),
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            presence_penalty=body.presence_penalty,
            frequency_penalty=body.frequency_penalty,
            seed=body.seed,
            stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
            n=body.n,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            metadata=body.metadata,
            verbosity=body.verbosity,
            service_tier=body.service_tier,
            stream=bool(body.stream),
            **self._settings(body),
            others={"": DIALECT, **self._others},
        )

    def _keep(self, path: str, value: Any) -> None:
        if value is not None and value != []:
            self._others.setdefault(re.split(r"[.\[]", path, maxsplit=1)[0], {})[path] = value

    def _settings(self, body: _Body) -> Words:
        """Return the fields that have two names, or that keep something."""
        options = known(_StreamOptions, body.stream_options or {}, "stream_options", self._keep)
        if body.store:                      # not to store is what happens anyway
            self._others["store"] = True
        if body.user is not None and body.safety_identifier is not None:
            self._others |= {"user": body.user, "safety_identifier": body.safety_identifier}
        if body.top_logprobs is not None and not body.logprobs:
            self._others["top_logprobs"] = body.top_logprobs
        limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        return {
            "max_output": limit,
            "user": body.user if body.safety_identifier is None else body.safety_identifier,
            "usage_in_stream": bool(options.include_usage),
        }

    def _reasoning(self, body: _Body) -> Reasoning | None:
        given = known(_Reasoning, body.reasoning or {}, "reasoning", self._keep)
        effort, shown = body.reasoning_effort or given.effort, "none" if given.exclude else None
        reasoning = Reasoning(effort, given.max_tokens, shown)
        return None if reasoning == Reasoning() else reasoning

    def _turn(self, value: Any, at: str) -> Turn:
        message = known(_Message, value, at, self._keep)
        said = message.content
        parts = (Text(said),) if isinstance(said, str) else tuple(
            read_part(part, f"{at}.content[{number}]", self._keep) for number, part in enumerate(said or ())
        )
        if message.role in ("tool", "function"):
            return Turn("user", (self._result(message, parts, at),))
        if message.role != "assistant":
            role = "system" if message.role == "developer" else message.role
            return Turn(role, parts, message.name, message.role == "developer")
        calls = [
            read_call(call, f"{at}.tool_calls[{number}]", self._keep)
            for number, call in enumerate(message.tool_calls or ())
        ]
        if message.function_call is not None:
            called = known(Function, message.function_call, f"{at}.function_call", self._keep)
            calls.append(Call(self._made_id(called.name, at), called.name, called.arguments))
        thought = message.reasoning_content or message.reasoning
        before: tuple[Part, ...] = (Thinking(DIALECT, thought),) if thought else ()
        refusal: tuple[Part, ...] = (Refusal(message.refusal),) if message.refusal else ()
        spoken: tuple[Part, ...] = (Native(DIALECT, {"audio": message.audio}),) if message.audio else ()
        # an empty text beside calls is how some SDKs write "no text"
        kept = tuple(part for part in parts if not (calls and isinstance(part, Text) and not part.text))
        return Turn("assistant", (*before, *kept, *refusal, *spoken, *calls), message.name)

    def _made_id(self, name: str, at: str) -> str:
        """Return an id for a call of the old form, by where it stands: names come again."""
        made = self._old_calls[name] = "call_" + at.removeprefix("messages[").removesuffix("]")
        return made

    def _result(self, message: _Message, parts: tuple[Part, ...], at: str) -> Result:
        given, name = message.tool_call_id, message.name
        if message.role == "function" and given is None:
            given = self._old_calls.get(name or "", name)
        if given is None:
            field = f"{at}.{'name' if message.role == 'function' else 'tool_call_id'}"
            raise BadRequest(f"`{field}` is missing: say which call this is the result of.", param=field)
        return Result(given, tuple(part for part in parts if isinstance(part, Text | Media | Native)), name)

    def _tool(self, value: Any, at: str) -> Tool | Native:
        if isinstance(value, dict) and value.get("type") != "function":
            return Native(DIALECT, value)
        tool = known(_FunctionTool, value, at, self._keep)
        return self._declared(tool.function, f"{at}.function", lifetime(tool.cache_control))

    def _declared(self, value: Any, at: str, cache: str | None = None) -> Tool:
        tool = known(_Declared, value, at, self._keep)
        return Tool(tool.name, tool.description, tool.parameters, tool.strict, cache)

    def _output(self, form: Words | None) -> Output | None:
        kind = (form or {}).get("type")
        if form is None or kind in (None, "text"):
            return None
        if kind == "json_object":
            return Output("json")
        if kind != "json_schema":
            raise BadRequest(
                "`response_format.type` is wrong: expected text, json_object or json_schema.",
                param="response_format.type",
            )
        schema = known(_Schema, form.get("json_schema"), "response_format.json_schema", self._keep)
        return Output("schema", schema.schema, schema.name, schema.description, schema.strict)


def _choice(body: _Body) -> Choice | None:
    """Read tool_choice, or the old function_call."""
    given = body.tool_choice if body.tool_choice is not None else body.function_call
    param = "tool_choice" if body.tool_choice is not None else "function_call"
    if given is None:
        return None
    if isinstance(given, str):
        if given not in CHOICES:
            raise BadRequest(f"`{param}` is wrong: expected one of {', '.join(CHOICES)} or an object.", param=param)
        return Choice(CHOICES[given])
    if given.get("type") == "allowed_tools":
        allowed, _ = typed(_Allowed, given.get("allowed_tools"), f"{param}.allowed_tools")
        names = (_name_of(tool, f"{param}.allowed_tools.tools[{at}]") for at, tool in enumerate(allowed.tools))
        return Choice(CHOICES[allowed.mode], names=tuple(names))
    return Choice("one", _name_of(given, param))


def _name_of(tool: Words, at: str) -> str:
    kind = tool.get("type")
    inner = tool.get(kind) if isinstance(kind, str) else tool
    name = inner.get("name") if isinstance(inner, dict) else None
    if not isinstance(name, str):
        field = f"{at}.{kind}.name" if isinstance(kind, str) else f"{at}.name"
        raise BadRequest(f"`{field}` is missing: name the tool.", param=at)
    return name
