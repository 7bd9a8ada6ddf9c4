"""Google's Gemini API: how a request is understood and refused, and which headers come with the answer. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from loadtest import asking, gemini_frames, gemini_rules, gemini_shapes
from loadtest.answers import Answer, Tool, count_tokens
from loadtest.asking import Arrived, Ask, Moment, RefusalError, Want
from loadtest.script import Words

NAME = "gemini"
WORDS = Words(gemini_frames.error_frame(), gemini_frames.error(500), gemini_frames.GARBAGE)
IMAGE_TOKENS = 258  # of a picture, and of a page
_INVALID_KEY = [
    {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }
]


def authenticate(arrived: Arrived, key: str) -> None:
    """Raise what Google gives without the key (403) and with a wrong one (400). No key = open to all."""
    given = arrived.headers.get("x-goog-api-key") or arrived.query.get("key", "")
    if key and not given:
        raise RefusalError(403)
    if key and given != key:
        raise RefusalError(400, "API key not valid. Please pass a valid API key.", details=_INVALID_KEY)


def named_model(arrived: Arrived) -> str:
    """The model asked for, as the path has it, or the 400 that Google gives."""
    if arrived.fault:
        raise RefusalError(400, f"Invalid JSON payload received. {arrived.fault}")
    return arrived.model


def no_such_model(name: str, *, listing: bool = False) -> RefusalError:
    """The 404 of a model that is not on offer."""
    if listing:
        return RefusalError(404, f"Model is not found: models/{name} for api version v1beta")
    return RefusalError(
        404,
        f"models/{name} is not found for API version v1beta, or is not supported for generateContent. Call ListModels "
        "to see the list of available models and their supported methods.",
    )


def understood(arrived: Arrived) -> Want:
    """What the request wants said, or the 400 that Google gives."""
    if arrived.size > gemini_rules.LIMIT_BYTES:
        raise RefusalError(400, f"Request payload size exceeds the limit: {gemini_rules.LIMIT_BYTES} bytes.")
    request = _request(arrived)
    gemini_rules.check(request)
    config = request.get("generation_config", {})
    calling = request.get("tool_config", {}).get("function_calling_config", {})
    thinking = config.get("thinking_config", {})
    contents: Sequence[Mapping[str, Any]] = request["contents"]
    tools = _tools(request, calling)
    return Want(
        said="\n".join(part.get("text", "") for part in gemini_shapes.parts(contents[-1:])),
        prompt=sum(map(_part_tokens, _prompt_parts(request))) + _tool_tokens(request),
        pictures=sum(_part_tokens(part) for part in _prompt_parts(request) if _pictured(part)),
        streamed=arrived.verb == "stream" and arrived.query.get("alt") == "sse",
        limit=config.get("max_output_tokens", 0),
        stops=config.get("stop_sequences", ()),
        tools=tools,
        demanded=bool(tools) and calling.get("mode") == "ANY",
        answered=bool(gemini_rules.of_kind(contents[-1], "function_response")),
        json=config.get("response_mime_type") == "application/json",
        schema=_schema(config, "response_schema", "response_json_schema"),
        thinks=bool(thinking) and thinking.get("thinking_budget") != 0,
        choices=config.get("candidate_count", 1),
    )


def key(ask: Ask) -> object:
    """What canned frames depend on besides the model and its dials."""
    return ask.arrived.verb


def stream(ask: Ask, moment: Moment) -> list[bytes]:
    """The events of the healthy stream."""
    return [gemini_frames.event(value) for value in gemini_frames.chunks(*_say(ask, moment))]


def whole(ask: Ask, moment: Moment) -> bytes:
    """The healthy whole answer; to countTokens, the number; to a stream without `alt=sse`, all its chunks in a list."""
    if ask.arrived.verb == "count":
        return orjson.dumps(gemini_frames.counted(ask.want.prompt, ask.want.pictures), option=orjson.OPT_INDENT_2)
    if ask.arrived.verb == "stream":
        return orjson.dumps(gemini_frames.chunks(*_say(ask, moment)), option=orjson.OPT_INDENT_2)
    return gemini_frames.response(*_say(ask, moment))


def refusal(refused: RefusalError, _: Moment) -> bytes:
    """The body of a refusal."""
    return gemini_frames.error(refused.status, refused.message, refused.details, refused.retry_after_s)


def headers(moment: Moment, _: RefusalError | None = None) -> dict[str, str]:
    """The headers that Google sends with everything. How long to wait stands in the body, as RetryInfo."""
    return {
        "Vary": "Origin, X-Origin, Referer",
        "Server": "scaffolding on HTTPServer2",
        "X-XSS-Protection": "0",
        "X-Frame-Options": "SAMEORIGIN",
        "X-Content-Type-Options": "nosniff",
        "Server-Timing": f"gfet4t7; dur={moment.spent_ms}",
    }


def listing(names: Sequence[str]) -> object:
    """The list of models: a page that is the last."""
    return {"models": [listed(name) for name in names]}


def listed(name: str) -> object:
    """One model of the list."""
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name.replace("-", " ").title(),
        "description": "A model of the mock provider.",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
        "thinking": True,
    }


def _request(arrived: Arrived) -> dict[str, Any]:
    """The request to generate: itself, or the one whose tokens are to be counted."""
    if arrived.verb != "count":
        return gemini_shapes.read(arrived.body)
    counted = gemini_shapes.read(arrived.body, "CountTokensRequest")
    inner: dict[str, Any] = counted.get("generate_content_request", counted)
    return inner


def _say(ask: Ask, moment: Moment) -> tuple[gemini_frames.Head, list[Answer], gemini_frames.Usage]:
    """The response: who says it, what, and what it costs in tokens."""
    want, dials = ask.want, ask.dials
    said = [asking.answer(ask) for _ in range(want.choices)]
    thought = sum(len(one.thoughts) for one in said)
    usage = gemini_frames.Usage(
        want.prompt,
        sum(one.tokens for one in said) - thought,
        thought + ask.unseen,
        min(dials.cached_tokens, want.prompt),
        want.pictures,
    )
    thinking = gemini_shapes.read(ask.arrived.body).get("generation_config", {}).get("thinking_config", {})
    unique = base64.urlsafe_b64encode(bytes.fromhex(moment.unique("response", bits=120))).decode()
    return gemini_frames.Head(unique, ask.model, shown=thinking.get("include_thoughts", False)), said, usage


def _tools(request: Mapping[str, Any], calling: Mapping[str, Any]) -> Sequence[Tool]:
    """The functions that may be called."""
    if calling.get("mode") == "NONE":
        return ()
    allowed = calling.get("allowed_function_names")
    found = [one for one in gemini_rules.declarations(request) if not allowed or one["name"] in allowed]
    none: Mapping[str, object] = {"type": "object"}
    return [Tool(one["name"], _schema(one, "parameters", "parameters_json_schema") or none) for one in found]


def _schema(holder: Mapping[str, Any], own: str, json: str) -> Mapping[str, object] | None:
    """A schema in JSON Schema's words, from either of the fields that may hold it."""
    if own in holder:
        return _json_schema(holder[own])
    given = holder.get(json)
    return given if isinstance(given, dict) else None


def _json_schema(schema: Mapping[str, Any]) -> Mapping[str, object]:
    """Gemini's schema with JSON Schema's names."""
    names = {"any_of": "anyOf", "min_items": "minItems", "min_length": "minLength", "max_length": "maxLength"}
    result: dict[str, object] = {names.get(name, name): value for name, value in schema.items()}
    if "properties" in schema:
        result["properties"] = {name: _json_schema(inner) for name, inner in schema["properties"].items()}
    if "items" in schema:
        result["items"] = _json_schema(schema["items"])
    if "any_of" in schema:
        result["anyOf"] = [_json_schema(inner) for inner in schema["any_of"]]
    return result


def _prompt_parts(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return gemini_shapes.parts([request.get("system_instruction", {}), *request["contents"]])


def _pictured(part: Mapping[str, Any]) -> bool:
    return "inline_data" in part or "file_data" in part


def _part_tokens(part: Mapping[str, Any]) -> int:
    """The tokens of one part; a signature costs nothing."""
    if _pictured(part):
        return IMAGE_TOKENS
    bare = {name: value for name, value in part.items() if name != "thought_signature"}
    return count_tokens(part["text"] if "text" in part else orjson.dumps(bare).decode())


def _tool_tokens(request: Mapping[str, Any]) -> int:
    tools = request.get("tools")
    return count_tokens(orjson.dumps(tools).decode()) if tools else 0
