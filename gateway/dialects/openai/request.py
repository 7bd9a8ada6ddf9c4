"""Reading a Chat Completions request.

Wire format: the types of openai 3.54 (chat.completion_create_params), read 2026-11, and what compatible servers add to
it: `top_k` (vLLM), `reasoning_content` (DeepSeek, vLLM), `reasoning` and `cache_control` (OpenRouter).
"""

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
from gateway.dialects.reading import data_url, decoded, lifetime, too_deep, typed
from gateway.errors import BadRequest

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Words = dict[str, Any]
AUDIO = {"wav": "audio/wav", "mp3": "audio/mpeg"}
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
    reasoning: _Reasoning | None = None
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
    stream_options: _StreamOptions | None = None
    store: bool | None = None               # nothing is kept here, and that is no part of the answer


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


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Words | None = None
    input_audio: Words | None = None
    file: Words | None = None
    cache_control: Words | None = None


class _Image(msgspec.Struct):
    url: str
    detail: str | None = None


class _Audio(msgspec.Struct):
    data: str
    format: str


class _File(msgspec.Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str = "{}"


class _Call(msgspec.Struct):
    id: str
    type: str = "function"
    function: _Function | None = None


class _Declared(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: Words | None = None
    strict: bool | None = None


class _Schema(msgspec.Struct):
    name: str
    schema: Words | None = None
    description: str | None = None
    strict: bool | None = None


def read_request(raw: bytes, model: str) -> Conversation:  # noqa: ARG001 - the dialects that have it in the path need it
    """Read a request whole. Raises BadRequest with the field at fault."""
    try:
        return _conversation(decoded(raw))
    except RecursionError:
        raise too_deep() from None


def _conversation(value: Words) -> Conversation:
    body, others = typed(_Body, value, "")
    if not body.messages:
        raise BadRequest("`messages` is empty: send at least one message.", param="messages")
    given = body.reasoning or _Reasoning()
    effort, shown = body.reasoning_effort or given.effort, "none" if given.exclude else None
    reasoning = Reasoning(effort, given.max_tokens, shown)
    return Conversation(
        turns=tuple(_turn(message, f"messages[{at}]") for at, message in enumerate(body.messages)),
        tools=(
            *(_tool(tool, f"tools[{at}]") for at, tool in enumerate(body.tools or ())),
            *(_declared(tool, f"functions[{at}]") for at, tool in enumerate(body.functions or ())),
        ),
        choice=_choice(body),
        parallel=body.parallel_tool_calls,
        output=_output(body.response_format),
        reasoning=None if reasoning == Reasoning() else reasoning,
        max_output=body.max_completion_tokens or body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        seed=body.seed,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        n=body.n,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        user=body.safety_identifier or body.user,
        metadata=body.metadata,
        verbosity=body.verbosity,
        service_tier=body.service_tier,
        stream=bool(body.stream),
        usage_in_stream=bool(body.stream_options and body.stream_options.include_usage),
        others={"": DIALECT, **others} if others else {},
    )


def _turn(value: Any, at: str) -> Turn:
    message, _ = typed(_Message, value, at)
    said = message.content
    parts = (Text(said),) if isinstance(said, str) else tuple(
        _part(part, f"{at}.content[{number}]") for number, part in enumerate(said or ())
    )
    if message.role in ("tool", "function"):
        inner = tuple(part for part in parts if isinstance(part, Text | Media | Native))
        return Turn("user", (Result(message.tool_call_id or message.name or "", inner, message.name),))
    if message.role != "assistant":
        role = "system" if message.role == "developer" else message.role
        return Turn(role, parts, message.name, message.role == "developer")
    thought = message.reasoning_content or message.reasoning
    calls = [_call(call, f"{at}.tool_calls[{number}]") for number, call in enumerate(message.tool_calls or ())]
    if message.function_call is not None:
        called, _ = typed(_Function, message.function_call, f"{at}.function_call")
        calls.append(Call(called.name, called.name, called.arguments))      # the old form goes by names
    before: tuple[Part, ...] = (Thinking(DIALECT, thought),) if thought else ()
    refusal: tuple[Part, ...] = (Refusal(message.refusal),) if message.refusal else ()
    # an empty text beside calls is how some SDKs write "no text"
    kept = tuple(part for part in parts if not (calls and isinstance(part, Text) and not part.text))
    return Turn("assistant", (*before, *kept, *refusal, *calls), message.name)


def _part(value: Any, at: str) -> Part:
    part, _ = typed(_Part, value, at)
    cache = lifetime(part.cache_control)
    if part.type == "text" and part.text is not None:
        return Text(part.text, cache)
    if part.type == "refusal" and part.refusal is not None:
        return Refusal(part.refusal)
    if part.type == "image_url" and part.image_url is not None:
        image, _ = typed(_Image, part.image_url, f"{at}.image_url")
        kind, data = data_url(image.url)
        url = None if data is not None else image.url
        return Media("image", kind, data, url, detail=image.detail, cache=cache)
    if part.type == "input_audio" and part.input_audio is not None:
        audio, _ = typed(_Audio, part.input_audio, f"{at}.input_audio")
        return Media("audio", AUDIO.get(audio.format, f"audio/{audio.format}"), audio.data)
    if part.type == "file" and part.file is not None:
        file, _ = typed(_File, part.file, f"{at}.file")
        kind, data = data_url(file.file_data or "")
        return Media("file", kind, data or file.file_data, file_id=file.file_id, name=file.filename, cache=cache)
    missing = f"{at}.{part.type}"
    if part.type in ("text", "refusal", "image_url", "input_audio", "file"):
        raise BadRequest(f"`{missing}` is missing: a part of this type needs it.", param=missing)
    return Native(DIALECT, value)


def _call(value: Any, at: str) -> Part:
    call, _ = typed(_Call, value, at)
    if call.type != "function" or call.function is None:
        return Native(DIALECT, value)
    return Call(call.id, call.function.name, call.function.arguments)


def _tool(value: Any, at: str) -> Tool | Native:
    if not isinstance(value, dict):
        raise BadRequest(f"`{at}` is wrong: expected `object`.", param=at)
    if value.get("type") != "function":
        return Native(DIALECT, value)
    return _declared(value.get("function"), f"{at}.function", value.get("cache_control"))


def _declared(value: Any, at: str, mark: Any = None) -> Tool:
    tool, _ = typed(_Declared, value, at)
    return Tool(
        tool.name, tool.description, tool.parameters, tool.strict, lifetime(mark) if isinstance(mark, dict) else None
    )


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
    allowed = given.get("allowed_tools")
    if isinstance(allowed, dict):
        names = [_name_of(tool) for tool in allowed.get("tools") or () if isinstance(tool, dict)]
        return Choice(CHOICES.get(str(allowed.get("mode")), "auto"), names=tuple(filter(None, names)))
    name = _name_of(given)
    if name is None:
        raise BadRequest(f"`{param}.function.name` is missing: name the tool to be called.", param=param)
    return Choice("one", name)


def _name_of(tool: Words) -> str | None:
    inner = tool.get(str(tool.get("type"))) if "type" in tool else tool
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) else None


def _output(form: Words | None) -> Output | None:
    kind = (form or {}).get("type")
    if form is None or kind in (None, "text"):
        return None
    if kind == "json_object":
        return Output("json")
    if kind != "json_schema":
        raise BadRequest(
            "`response_format.type` is wrong: expected text, json_object or json_schema.", param="response_format.type"
        )
    schema, _ = typed(_Schema, form.get("json_schema"), "response_format.json_schema")
    return Output("schema", schema.schema, schema.name, schema.description, schema.strict)
