"""Anthropic's Messages API: how a request is understood and refused, and which headers come with the answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import orjson

from loadtest import anthropic_cache, anthropic_frames, anthropic_rules, asking
from loadtest.answers import Tool, prompt_text
from loadtest.asking import Arrived, Ask, Moment, RefusalError, Want
from loadtest.script import Words

NAME = "anthropic"
WORDS = Words(anthropic_frames.error_frame(), anthropic_frames.error(500), anthropic_frames.GARBAGE)


def authenticate(arrived: Arrived, key: str) -> None:
    """Raise the 401 that Anthropic gives without the key, then the 400 of a missing API version. No key = open to all.

    The key is in x-api-key, or, as the SDKs send it since their version 2, a bearer token.
    """
    given = arrived.headers.get("x-api-key", "")
    bearer = arrived.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    if key and not given and not bearer:
        raise RefusalError(401, "x-api-key header is required")
    if key and (given or bearer) != key:
        raise RefusalError(401, "invalid x-api-key" if given else "Invalid bearer token")
    anthropic_rules.check_version(arrived.headers)


def named_model(arrived: Arrived) -> str:
    """The model asked for, as it was written, or the 400 that Anthropic gives."""
    if arrived.fault:
        raise RefusalError(400, f"The request body is not valid JSON: {arrived.fault}")
    if "model" not in arrived.body:
        raise RefusalError(400, "model: Field required")
    name = arrived.body["model"]
    if not isinstance(name, str):
        raise RefusalError(400, "model: Input should be a valid string")
    return name


def no_such_model(name: str, *, listing: bool = False) -> RefusalError:
    """The 404 of a model that is not on offer."""
    return RefusalError(404, f"Model not found: {name}" if listing else f"model: {name}")


def understood(arrived: Arrived) -> Want:
    """What the request wants said, or the refusal that Anthropic gives."""
    anthropic_rules.check(arrived)
    body = arrived.body
    prompt = anthropic_cache.weigh(body, arrived.prefixes)
    messages = body["messages"]
    last: Sequence[Mapping[str, object]] = messages[-1:] if isinstance(messages, list) else []
    limit, stops = body.get("max_tokens"), body.get("stop_sequences")
    choice, thinking = body.get("tool_choice"), body.get("thinking")
    choice = choice if isinstance(choice, dict) else {"type": "auto"}
    asked = [block for turn in last for block in anthropic_rules.blocks(turn["content"])]
    schema = anthropic_rules.schema_of(body)
    return Want(
        said=prompt_text(last),
        prompt=prompt.tokens,
        streamed=body.get("stream") is True and arrived.verb != "count",
        limit=limit if isinstance(limit, int) else 0,
        stops=stops if isinstance(stops, list) else (),
        tools=_tools(body, choice),
        demanded=choice["type"] in ("any", "tool"),
        named=choice["type"] == "tool",
        parallel=choice.get("disable_parallel_tool_use") is not True,
        answered=any(block["type"] == "tool_result" for block in asked),
        json=schema is not None,
        schema=schema,
        thinks=isinstance(thinking, dict) and thinking["type"] in ("enabled", "adaptive"),
        cached=prompt.read,
        stored=prompt.stored,
        prefixes=prompt.marks,
    )


def key(ask: Ask) -> object:
    """What canned frames depend on besides the model and its dials."""
    return ask.arrived.verb


def stream(ask: Ask, moment: Moment) -> list[bytes]:
    """The events of the healthy stream."""
    answer = asking.answer(ask)
    return anthropic_frames.stream(_head(ask, moment), answer, _usage(ask, answer.tokens, len(answer.thoughts)))


def whole(ask: Ask, moment: Moment) -> bytes:
    """The healthy whole answer; to count_tokens, the number."""
    if ask.arrived.verb == "count":
        return orjson.dumps({"input_tokens": ask.want.prompt})
    answer = asking.answer(ask)
    return anthropic_frames.message(_head(ask, moment), answer, _usage(ask, answer.tokens, len(answer.thoughts)))


def refusal(refused: RefusalError, moment: Moment) -> bytes:
    """The body of a refusal."""
    return anthropic_frames.error(refused.status, refused.message, _request_id(moment))


def headers(moment: Moment, refused: RefusalError | None = None) -> dict[str, str]:
    """The headers that Anthropic sends with every answer, and with a refusal."""
    reset = _written(moment.now + 1)
    always = {
        "request-id": _request_id(moment),
        "anthropic-organization-id": "00000000-0000-4000-8000-00000000mock",
    }
    for what, limit in (("requests", 50), ("tokens", 90_000), ("input-tokens", 50_000), ("output-tokens", 40_000)):
        spent = refused is not None and refused.status == 429 and what == "requests"
        always[f"anthropic-ratelimit-{what}-limit"] = str(limit)
        always[f"anthropic-ratelimit-{what}-remaining"] = "0" if spent else str(limit - 1)
        always[f"anthropic-ratelimit-{what}-reset"] = reset
    if refused is not None and refused.status in (429, 503, 529):
        always["retry-after"] = str(max(1, round(refused.retry_after_s)))
    if refused is not None:
        always["x-should-retry"] = "true" if refused.status == 429 or refused.status >= 500 else "false"
    return always


def listing(names: Sequence[str]) -> object:
    """The list of models: a page that is the last."""
    first, last = (names[0], names[-1]) if names else (None, None)
    return {"data": [listed(name) for name in names], "has_more": False, "first_id": first, "last_id": last}


def listed(name: str) -> object:
    """One model of the list."""
    return {
        "type": "model",
        "id": name,
        "display_name": name.replace("-", " ").title(),
        "created_at": "2025-10-09T00:00:00Z",
        "lifecycle": "active",
        "line": None,
        "max_input_tokens": 200_000,
        "max_tokens": anthropic_rules.MAX_TOKENS,
        "deprecated_at": None,
        "retires_at": None,
    }


def _tools(body: Mapping[str, object], choice: Mapping[str, object]) -> Sequence[Tool]:
    """The caller's own tools that may be called; the provider's (web search and the like) are never."""
    given = body.get("tools")
    if choice["type"] == "none" or not isinstance(given, list):
        return ()
    tools = [Tool(tool["name"], tool["input_schema"]) for tool in given if "input_schema" in tool]
    return [tool for tool in tools if choice["type"] != "tool" or tool.name == choice["name"]]


def _head(ask: Ask, moment: Moment) -> anthropic_frames.Head:
    thinking = ask.arrived.body.get("thinking")
    hidden = isinstance(thinking, dict) and thinking.get("display") == "omitted"
    unique = f"msg_01{moment.unique('message', bits=88)}"
    return anthropic_frames.Head(unique, str(ask.arrived.body["model"]), hidden=hidden)


def _usage(ask: Ask, said: int, thought: int) -> anthropic_frames.Usage:
    """What it costs. Where the caller marked nothing for the cache, the dial says what came from it."""
    want = ask.want
    read = want.cached or (0 if want.prefixes else min(ask.dials.cached_tokens, want.prompt))
    stored = sum(want.stored.values())
    return anthropic_frames.Usage(
        input=want.prompt - read - stored,
        output=said + ask.unseen,
        read=read,
        stored_5m=want.stored["5m"],
        stored_1h=want.stored["1h"],
        thinking=thought + ask.unseen,
    )


def _request_id(moment: Moment) -> str:
    return f"req_011{moment.unique('request')}"


def _written(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
