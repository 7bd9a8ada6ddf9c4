"""What Anthropic demands of a request beyond the shape of its fields, and the words of its refusals. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile

from loadtest import anthropic_shapes, signatures
from loadtest.anthropic_shapes import wrong
from loadtest.asking import Arrived, RefusalError

LIMIT_BYTES = 32 * 2**20
MAX_TOKENS = 128_000  # of output, for any of the mock's models
_VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
_REMOVED = ("temperature", "top_p", "top_k")  # with version 2026-10-21
_STRUCTURED_BETA = "structured-outputs-2025-11-13"
_CACHE_MARKS = 4

Block = Mapping[str, object]


# Fields that are known to those alone who ask for the beta.
BETAS = {"context_management": "context-management-", "mcp_servers": "mcp-client-"}


def check(arrived: Arrived) -> None:
    """Raise the refusal that the API gives, if it would refuse."""
    if arrived.size > LIMIT_BYTES:
        raise RefusalError(413)
    body = arrived.body
    _check_roles(body)
    betas = arrived.headers.get("anthropic-beta", "")
    known = {name: value for name, value in body.items() if BETAS.get(name, "\0") not in betas}
    anthropic_shapes.check(known, counting=arrived.verb == "count")
    newest = arrived.headers.get("anthropic-version") == _VERSIONS[-1]
    if "output_format" in body and _STRUCTURED_BETA not in arrived.headers.get("anthropic-beta", ""):
        raise wrong("output_format", "Extra inputs are not permitted")
    turns = [(turn["role"], blocks(turn["content"])) for turn in body["messages"]]  # type: ignore[attr-defined]  # checked
    _check_texts(body, turns)
    _check_order(turns)
    if newest:
        _check_newest(body, turns)
    _check_results(turns)
    _check_signatures(turns)
    _check_tools(body)
    _check_thinking(body, turns)
    _check_sampling(body)
    _check_schema(body)
    marks = sum("cache_control" in block for block in marked(body)) + bool(body.get("cache_control"))
    if marks > _CACHE_MARKS:
        message = f"A maximum of {_CACHE_MARKS} blocks with cache_control may be provided. Found {marks}."
        raise RefusalError(400, message)


def check_version(headers: Mapping[str, str]) -> None:
    """Raise the 400 of a missing or unknown API version."""
    version = headers.get("anthropic-version")
    if version is None:
        raise RefusalError(400, "anthropic-version: header is required")
    if version not in _VERSIONS:
        raise RefusalError(400, f'anthropic-version: "{version}" is not a valid version')


def blocks(content: object) -> Sequence[Block]:
    """The content as blocks: a string is short for one text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []


def marked(body: Mapping[str, object]) -> Iterator[Block]:
    """Everything that can end a cached prefix, in the order of the prompt: tools, system, messages."""
    tools, messages = body.get("tools"), body.get("messages")
    yield from tools if isinstance(tools, list) else ()
    yield from blocks(body.get("system", []))
    for turn in messages if isinstance(messages, list) else ():
        yield from blocks(turn["content"])


def schema_of(body: Mapping[str, object]) -> Mapping[str, object] | None:
    """The JSON schema that the answer must satisfy."""
    config = body.get("output_config")
    form = config.get("format") if isinstance(config, dict) else None
    form = form or body.get("output_format")
    return form["schema"] if isinstance(form, dict) else None


def _check_roles(body: Mapping[str, object]) -> None:
    """A system prompt stands at the top; the models that take one in mid-conversation are others than the mock's."""
    turns = body.get("messages")
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("role") == "system":
            raise RefusalError(400, "role 'system' is not supported on this model")
    if turns == []:
        raise wrong("messages", "at least one message is required")


def _check_texts(body: Mapping[str, object], turns: Sequence[tuple[str, Sequence[Block]]]) -> None:
    """No empty texts, no empty turns."""
    for where, found in (("system", blocks(body.get("system", []))), *(("messages", content) for _, content in turns)):
        for block in found:
            if block["type"] != "text":
                continue
            if not block["text"]:
                raise wrong(where, "text content blocks must be non-empty")
            if not str(block["text"]).strip():
                raise wrong(where, "text content blocks must contain non-whitespace text")
    for at, (role, content) in enumerate(turns):
        last = at == len(turns) - 1
        if not content and not (last and role == "assistant"):
            message = "all messages must have non-empty content except for the optional final assistant message"
            raise wrong(f"messages.{at}", message)
    role, content = turns[-1]
    if role == "assistant" and content and str(content[-1].get("text", "")).endswith((" ", "\n", "\t")):
        raise wrong("messages", "final assistant content cannot end with trailing whitespace")


def _check_order(turns: Sequence[tuple[str, Sequence[Block]]]) -> None:
    """The user begins; calls and thoughts are the assistant's, results the user's."""
    if turns[0][0] != "user":
        raise wrong("messages", 'first message must use the "user" role')
    for at, (role, content) in enumerate(turns):
        for place, block in enumerate(content):
            if role == "user" and block["type"] in ("tool_use", "thinking", "redacted_thinking"):
                message = f"`{block['type']}` blocks can only be in `assistant` messages"
                raise wrong(f"messages.{at}.content.{place}", message)
            if role == "assistant" and block["type"] in ("tool_result", "image"):
                message = f"`{block['type']}` blocks can only be in `user` messages"
                raise wrong(f"messages.{at}.content.{place}", message)


def _check_newest(body: Mapping[str, object], turns: Sequence[tuple[str, Sequence[Block]]]) -> None:
    """What version 2026-10-21 no longer takes."""
    for name in _REMOVED:
        if name in body:
            raise wrong(name, "Extra inputs are not permitted")
    for at, (role, content) in enumerate(turns):
        for place, block in enumerate(content):
            if role == "assistant" and block["type"] == "document":
                message = "`document` blocks can only be in `user` messages"
                raise wrong(f"messages.{at}.content.{place}", message)
            if role == "user" and block.get("citations") and block["type"] == "text":
                raise wrong(f"messages.{at}.content.{place}.text.citations", "Extra inputs are not permitted")


def _check_results(turns: Sequence[tuple[str, Sequence[Block]]]) -> None:
    """Every call has its one result at the beginning of the next message, and every result its call before."""
    used: set[object] = set()
    calls: list[object] = []
    for at, (_, content) in enumerate(turns):
        results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        leading = [b["tool_use_id"] for b in takewhile(lambda block: block["type"] == "tool_result", content)]
        open_calls = [str(call) for call in calls if call not in leading]
        if open_calls:
            _refuse_open(at - 1, open_calls)
        for place, block in enumerate(content):
            if block["type"] == "tool_result" and block["tool_use_id"] not in calls:
                raise wrong(
                    f"messages.{at}.content.{place}",
                    f"unexpected `tool_use_id` found in `tool_result` blocks: {block['tool_use_id']}. Each "
                    "`tool_result` block must have a corresponding `tool_use` block in the previous message.",
                )
        twice = next((one for one in results if results.count(one) > 1), None)
        if twice is not None:
            message = f"each tool_use must have a single result. Found multiple `tool_result` blocks with id: {twice}"
            raise wrong(f"messages.{at}.content", message)
        calls = [block["id"] for block in content if block["type"] == "tool_use"]
        if len(calls) != len({*calls} - used):
            raise wrong("messages", "`tool_use` ids must be unique")
        used.update(calls)
    if calls:
        _refuse_open(len(turns) - 1, [str(call) for call in calls])


def _refuse_open(at: int, calls: Sequence[str]) -> None:
    raise wrong(
        f"messages.{at}",
        f"`tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(calls)}. Each "
        "`tool_use` block must have a corresponding `tool_result` block in the next message.",
    )


def _check_signatures(turns: Sequence[tuple[str, Sequence[Block]]]) -> None:
    """Thoughts come back as they were given, or not at all."""
    for at, (_, content) in enumerate(turns):
        for place, block in enumerate(content):
            path = f"messages.{at}.content.{place}"
            if block["type"] == "thinking" and not _own(block):
                raise wrong(path, "Invalid `signature` in `thinking` block")
            if block["type"] == "redacted_thinking":  # the mock makes none
                raise wrong(path, "Invalid `data` in `redacted_thinking` block")


def _own(block: Block) -> bool:
    """Whether the mock thought this: aloud, or hidden (`display: omitted`), when the text is empty."""
    return signatures.genuine(block["signature"], str(block["thinking"]))


def _check_tools(body: Mapping[str, object]) -> None:
    """Names are distinct, and the one that is chosen exists."""
    tools = body.get("tools")
    tools = tools if isinstance(tools, list) else []
    names = [tool.get("name") for tool in tools]
    if len(set(names)) != len(names):
        raise wrong("tools", "Tool names must be unique.")
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return
    if not tools and choice["type"] != "none":
        raise wrong("tool_choice", "tool_choice may only be specified while providing tools")
    if choice["type"] == "tool" and choice["name"] not in names:
        raise wrong("tool_choice", f"Tool '{choice['name']}' not found in provided tools")


def _check_thinking(body: Mapping[str, object], turns: Sequence[tuple[str, Sequence[Block]]]) -> None:
    """What goes together with thinking, and what does not."""
    thinking, choice = body.get("thinking"), body.get("tool_choice")
    if not isinstance(thinking, dict) or thinking["type"] not in ("enabled", "adaptive"):
        return
    if isinstance(choice, dict) and choice["type"] in ("any", "tool"):
        raise RefusalError(400, "Thinking may not be enabled when tool_choice forces tool use.")
    if body.get("temperature", 1) != 1:
        raise RefusalError(400, "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.")
    if "top_k" in body:
        raise RefusalError(400, "`top_k` must be unset when thinking is enabled or in adaptive mode.")
    if thinking["type"] != "enabled":
        return
    most = body.get("max_tokens")
    if isinstance(most, int) and most <= thinking["budget_tokens"]:
        raise RefusalError(400, "`max_tokens` must be greater than `thinking.budget_tokens`.")
    if turns[-1][0] == "user" and any(block["type"] == "tool_result" for block in turns[-1][1]):
        at = len(turns) - 2
        found = turns[at][1][0]["type"]
        if found not in ("thinking", "redacted_thinking"):
            raise wrong(
                f"messages.{at}.content.0.type",
                f"Expected `thinking` or `redacted_thinking`, but found `{found}`. When `thinking` is enabled, a final "
                "`assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and "
                "`tool_result` blocks). To avoid this requirement, disable `thinking`.",
            )


def _check_sampling(body: Mapping[str, object]) -> None:
    """Limits that depend on the model, and texts that cannot stop anything."""
    most = body.get("max_tokens")
    if isinstance(most, int) and most > MAX_TOKENS:
        message = f"{most} > {MAX_TOKENS}, which is the maximum allowed number of output tokens for {body['model']}"
        raise wrong("max_tokens", message)
    if "temperature" in body and "top_p" in body:
        message = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
        raise RefusalError(400, message)
    stops = body.get("stop_sequences")
    if isinstance(stops, list) and not all(stop.strip() for stop in stops):
        raise wrong("stop_sequences", "each stop sequence must contain non-whitespace")


def _check_schema(body: Mapping[str, object]) -> None:
    """Every object of the answer's schema is closed."""
    waiting: list[object] = [schema_of(body)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            if part.get("type") == "object" and part.get("additionalProperties") is not False:
                message = "For 'object' type, 'additionalProperties' must be explicitly set to false"
                raise wrong("output_config.format.schema", message)
            waiting.extend(part.values())
