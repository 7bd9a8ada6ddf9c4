"""A request as the mock provider understands it: checked as OpenAI checks it, and answered in words. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from loadtest import answers, frames
from loadtest.answers import Answer, Length
from loadtest.dials import Dials


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that has been understood."""

    body: Mapping[str, object]
    model: str  # without its dials
    dials: Dials
    messages: Sequence[object]
    rng: random.Random = field(repr=False)

    @property
    def streamed(self) -> bool:
        """Whether the caller wants a stream."""
        return self.body.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        """Whether the caller wants the usage at the end of the stream."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True


class RefusalError(Exception):
    """The provider refuses the request; the body is OpenAI's error object."""

    def __init__(self, status: int, message: str = "", *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = 1.0
        self.body = frames.error(status, message, param=param, code=code)


def authenticate(header: str, key: str) -> None:
    """Raise the 401 that OpenAI gives, unless the Authorization header carries the key. No key = open to all."""
    given = header.removeprefix("Bearer ").strip()
    if not key or given == key:
        return
    if not given:
        raise RefusalError(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using "
            "Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
        )
    shown = f"{given[:4]}{'*' * max(0, len(given) - 8)}{given[-4:]}"
    raise RefusalError(401, f"Incorrect API key provided: {shown}.")


def decoded(raw: bytes) -> Mapping[str, object]:
    """The body as a JSON object, or the 400 that OpenAI gives."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise RefusalError(
            400, "We could not parse the JSON body of your request. (HINT: it must be a valid JSON object.)"
        )
    return body


def named_model(body: Mapping[str, object]) -> str:
    """The model asked for, as it was written, or the 400 that OpenAI gives."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise RefusalError(400, "you must provide a model parameter")
    return name


def messages(body: Mapping[str, object]) -> Sequence[object]:
    """The conversation, or the 400 that OpenAI gives."""
    if "messages" not in body:
        raise RefusalError(
            400,
            "Missing required parameter: 'messages'.",
            param="messages",
            code="missing_required_parameter",
        )
    given = body["messages"]
    if not isinstance(given, list):
        what = "a string" if isinstance(given, str) else f"a value of type {type(given).__name__}"
        message = f"Invalid type for 'messages': expected an array of objects, but got {what} instead."
        raise RefusalError(400, message, param="messages", code="invalid_type")
    if not given:
        message = (
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        raise RefusalError(400, message, param="messages", code="empty_array")
    return given


def say(ask: Ask, serial: int, created: int) -> tuple[frames.Head, list[Answer], frames.Usage]:
    """The completion: who says it, what, and what it costs in tokens. `created` in Unix seconds."""
    dials = ask.dials
    wanted = ask.body.get("n")
    choices = [_answer(ask) for _ in range(wanted if isinstance(wanted, int) and wanted > 1 else 1)]
    prompt = answers.count_tokens(answers.prompt_text(ask.messages)) + 3 * len(ask.messages)
    said = sum(len(choice.pieces) for choice in choices) + dials.reasoning_tokens
    usage = frames.Usage(prompt, said, min(dials.cached_tokens, prompt), dials.reasoning_tokens)
    unique = (
        f"{serial:09x}{answers.seeded(dials.seed, serial).getrandbits(80):020x}"  # distinct, and the same in every run
    )
    logprobs = ask.body.get("logprobs") is True
    return (
        frames.Head(f"chatcmpl-{unique}", created, str(ask.body["model"]), logprobs=logprobs),
        choices,
        usage,
    )


def _answer(ask: Ask) -> Answer:
    """One choice: a tool call or JSON where the request demands it, else prose."""
    if ask.dials.fault == "role-only":
        return Answer([])
    length = Length(exact=ask.dials.tokens, limit=_limit(ask.body))
    tool, named = _demanded_tool(ask.body)
    if tool is not None:
        return answers.tool_answer(tool, length, named=named)
    form = ask.body.get("response_format")
    if isinstance(form, dict) and form.get("type") in ("json_object", "json_schema"):
        return answers.json_answer(_schema(form), length)
    stops = ask.body.get("stop")
    told = answers.prose(ask.model, ask.rng, length, multibyte=ask.dials.multibyte)
    return answers.stopped(told, [stops] if isinstance(stops, str) else stops if isinstance(stops, list) else [])


def _limit(body: Mapping[str, object]) -> int:
    """The caller's limit on output tokens; 0 = none. The newer name wins."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return 0


def _demanded_tool(body: Mapping[str, object]) -> tuple[Mapping[str, object] | None, bool]:
    """The tool that must be called, and whether the caller named it; (None, False) leaves the model free."""
    tools = body.get("tools")
    choice = body.get("tool_choice")
    if not isinstance(tools, list) or not tools or choice in (None, "auto", "none"):
        return None, False
    if isinstance(choice, dict):
        function = choice.get("function")
        wanted = function.get("name") if isinstance(function, dict) else None
        for tool in tools:
            if (
                isinstance(tool, dict)
                and isinstance(tool.get("function"), dict)
                and tool["function"].get("name") == wanted
            ):
                return tool, True
        raise RefusalError(400, f"Tool choice 'function' not found in 'tools' parameter: {wanted}", param="tool_choice")
    return (tools[0], False) if isinstance(tools[0], dict) else (None, False)


def _schema(form: Mapping[str, object]) -> Mapping[str, object] | None:
    """The schema of a json_schema response format."""
    inner = form.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    return schema if isinstance(schema, dict) else None
