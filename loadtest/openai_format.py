"""OpenAI's Chat Completions: how a request is understood and refused, and which headers come with the answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from loadtest import answers, asking, frames
from loadtest.answers import Answer, Tool
from loadtest.asking import Arrived, Ask, Moment, RefusalError, Want
from loadtest.script import Words

NAME = "openai"
WORDS = Words(frames.error_frame(), frames.error(500), frames.GARBAGE)
IMAGE_TOKENS = 85  # of an image at low detail
_CREATED = 1_760_000_000  # when the models were "made"; a constant, so that answers can be compared
_EFFORT = {"none": 0, "minimal": 0, "low": 64, "medium": 256, "high": 1024, "xhigh": 2048}  # tokens thought


def authenticate(arrived: Arrived, key: str) -> None:
    """Raise the 401 that OpenAI gives, unless the Authorization header carries the key. No key = open to all."""
    given = arrived.headers.get("Authorization", "").removeprefix("Bearer ").strip()
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


def named_model(arrived: Arrived) -> str:
    """The model asked for, as it was written, or the 400 that OpenAI gives."""
    if arrived.fault:
        raise RefusalError(
            400, "We could not parse the JSON body of your request. (HINT: it must be a valid JSON object.)"
        )
    name = arrived.body.get("model")
    if not isinstance(name, str) or not name:
        raise RefusalError(400, "you must provide a model parameter")
    return name


def no_such_model(name: str, *, listing: bool = False) -> RefusalError:
    """The 404 of a model that is not on offer."""
    if listing:
        return RefusalError(404, f"The model '{name}' does not exist", param="model")
    return RefusalError(404, f"The model `{name}` does not exist or you do not have access to it.")


def understood(arrived: Arrived) -> Want:
    """What the request wants said, or the 400 that OpenAI gives."""
    body = arrived.body
    messages = _messages(body)
    tools, demanded, named = _tools(body)
    form = body.get("response_format")
    form = form if isinstance(form, dict) else {}
    stops, wanted, effort = body.get("stop"), body.get("n"), body.get("reasoning_effort")
    last = messages[-1]
    return Want(
        said=answers.prompt_text(messages[-1:]),
        prompt=answers.count_tokens(answers.prompt_text(messages)) + 3 * len(messages) + _pictures(messages),
        streamed=body.get("stream") is True,
        limit=_limit(body),
        stops=[stops] if isinstance(stops, str) else stops if isinstance(stops, list) else [],
        tools=tools,
        demanded=demanded,
        named=named,
        parallel=body.get("parallel_tool_calls") is not False,
        answered=isinstance(last, dict) and last.get("role") == "tool",
        json=form.get("type") in ("json_object", "json_schema"),
        schema=_schema(form),
        unseen=_EFFORT.get(effort, 0) if isinstance(effort, str) else 0,
        choices=wanted if isinstance(wanted, int) and wanted > 1 else 1,
    )


def key(ask: Ask) -> object:
    """What canned frames depend on besides the model and its dials."""
    return _wants_usage(ask)


def stream(ask: Ask, moment: Moment) -> list[bytes]:
    """The events of the healthy stream."""
    head, choices, usage = say(ask, moment)
    return frames.stream(head, choices, usage if _wants_usage(ask) else None)


def whole(ask: Ask, moment: Moment) -> bytes:
    """The healthy whole answer."""
    return frames.completion(*say(ask, moment))


def say(ask: Ask, moment: Moment) -> tuple[frames.Head, list[Answer], frames.Usage]:
    """The completion: who says it, what, and what it costs in tokens."""
    want, dials = ask.want, ask.dials
    if dials.reasoning:
        ask = replace(ask, want=replace(want, thinks=True, unseen=0))
    choices = [asking.answer(ask) for _ in range(want.choices)]
    if want.named:  # OpenAI says "stop" where the caller named the tool
        choices = [replace(one, finish="stop") if one.finish == "tool_calls" else one for one in choices]
    thought = ask.unseen + sum(len(one.thoughts) for one in choices)
    said = sum(one.tokens for one in choices) + ask.unseen
    usage = frames.Usage(want.prompt, said, min(dials.cached_tokens, want.prompt), thought)
    unique = f"{moment.serial:09x}{moment.unique(dials.seed)}"
    logprobs = ask.arrived.body.get("logprobs") is True
    head = frames.Head(f"chatcmpl-{unique}", moment.now, str(ask.arrived.body["model"]), logprobs=logprobs)
    return head, choices, usage


def refusal(refused: RefusalError, _: Moment) -> bytes:
    """The body of a refusal."""
    return frames.error(refused.status, refused.message, param=refused.param or None, code=refused.code or None)


def headers(moment: Moment, refused: RefusalError | None = None) -> dict[str, str]:
    """The headers that OpenAI sends with every answer, and with a refusal."""
    always = {
        "x-request-id": f"req_{moment.serial:012x}{moment.unique()}",
        "openai-version": "2020-10-01",
        "openai-organization": "mock-org",
        "openai-processing-ms": str(moment.spent_ms),
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-remaining-tokens": "199950",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-reset-tokens": "15ms",
    }
    if refused is not None and refused.status in (429, 503, 529):
        always["Retry-After"] = str(max(1, round(refused.retry_after_s)))
        always["Retry-After-Ms"] = str(round(refused.retry_after_s * 1000))
    return always


def listing(names: Sequence[str]) -> object:
    """The list of models."""
    return {"object": "list", "data": [listed(name) for name in names]}


def listed(name: str) -> object:
    """One model of the list."""
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "mock"}


def _wants_usage(ask: Ask) -> bool:
    options = ask.arrived.body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _messages(body: Mapping[str, object]) -> Sequence[object]:
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
    _check_results(given)
    return given


def _check_results(messages: Sequence[object]) -> None:
    """Every call is followed by a message with its result, and every result follows its call."""
    open_calls: list[str] = []
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if isinstance(message, dict) and role == "tool":
            called = str(message.get("tool_call_id"))
            if called not in open_calls:
                raise RefusalError(
                    400,
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                    "'tool_calls'.",
                    param=f"messages.[{at}].role",
                )
            open_calls.remove(called)
            continue
        _refuse_open(open_calls, at)
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        if isinstance(calls, list):
            open_calls = [str(call.get("id")) for call in calls if isinstance(call, dict)]
    _refuse_open(open_calls, len(messages))


def _refuse_open(calls: Sequence[str], at: int) -> None:
    if calls:
        raise RefusalError(
            400,
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(calls)}",
            param=f"messages.[{at}].role",
        )


def _pictures(messages: Sequence[object]) -> int:
    """Tokens of the images; the text is counted elsewhere."""
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return IMAGE_TOKENS * len([part for part in parts if isinstance(part, dict) and part.get("type") == "image_url"])


def _limit(body: Mapping[str, object]) -> int:
    """The caller's limit on output tokens; 0 = none. The newer name wins."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return 0


def _tools(body: Mapping[str, object]) -> tuple[Sequence[Tool], bool, bool]:
    """The tools that may be called, whether one must be, and whether the caller named it."""
    given = body.get("tools")
    choice = body.get("tool_choice")
    functions = [tool.get("function") for tool in given if isinstance(tool, dict)] if isinstance(given, list) else []
    tools = []
    for function in functions:
        if isinstance(function, dict):
            schema = function.get("parameters") or {"type": "object"}
            tools.append(Tool(str(function.get("name", "")), schema if isinstance(schema, dict) else {}))
    if choice == "none" or not tools:
        return (), False, False
    if not isinstance(choice, dict):
        return tools, choice == "required", False
    allowed = choice.get("allowed_tools")
    entries = allowed.get("tools") if isinstance(allowed, dict) else [choice]
    named = [entry.get("function") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    names = [function.get("name") for function in named if isinstance(function, dict)]
    unknown = next((name for name in names or [None] if name not in [tool.name for tool in tools]), "")
    if unknown != "":
        message = f"Tool choice 'function' not found in 'tools' parameter: {unknown}"
        raise RefusalError(400, message, param="tool_choice")
    chosen = [tool for tool in tools if tool.name in names]
    if isinstance(allowed, dict):
        return chosen, allowed.get("mode") == "required", False
    return chosen, True, True


def _schema(form: Mapping[str, object]) -> Mapping[str, object] | None:
    """The schema of a json_schema response format."""
    inner = form.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    return schema if isinstance(schema, dict) else None
