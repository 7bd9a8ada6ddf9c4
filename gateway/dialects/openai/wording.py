"""Wording a Chat Completions request for an upstream, from a conversation of another dialect.

Compatible servers differ in what they know. What is written is what nearly all of them read: `max_tokens` for those
that are not OpenAI's own models, `max_completion_tokens` for OpenAI's reasoning models, which refuse the older name.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.dialects.neutral import OPENAI as DIALECT
from gateway.dialects.neutral import (
    Call,
    Choice,
    Conversation,
    Losses,
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

Words = dict[str, Any]

LOSSES: Mapping[str, str] = {
    "cache": "drop",                # caching is automatic
    "citations": "drop",
    "thinking": "drop",             # sealed by its provider; the text alone would be words the model did not say
    "reasoning.budget": "drop",     # becomes an effort
    "reasoning.shown": "drop",
    "top_k": "drop",
    "result.error": "drop",         # said in words before the result
    "result.media": "drop",         # moved into a user message behind the results
    "service_tier": "drop",
    "part.native": "refuse",
    "tool.native": "refuse",
    "media.file_id": "refuse",
    "media.url": "refuse",          # of a document: only images have addresses
    "media.audio": "refuse",        # by address, or of a type that is neither wav nor mp3
    "others": "drop",
}
# Of others' fields those without which the answer would not be what was asked for.
MATTERS = frozenset({
    "mcp_servers", "container", "cachedContent", "background", "conversation", "previous_response_id", "prompt",
    "generationConfig.responseModalities", "generationConfig.speechConfig",
})
SOUNDS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
MODES = {"auto": "auto", "none": "none", "any": "required"}
# Tokens up to which an effort thinks, where only a budget was given.
EFFORTS = ((0, "none"), (2_048, "low"), (16_384, "medium"))
THINKS = re.compile(r"(?:^|/)(?:o\d|gpt-[5-9])")       # OpenAI's models that refuse `max_tokens`
TIERS = frozenset({"auto", "default", "flex", "priority", "scale"})


def write_request(conversation: Conversation, model: str, losses: Losses) -> bytes:
    """Word a request. Raises Inexpressible for what must not be left out and cannot be said."""
    own = conversation.others.get("") == DIALECT
    body: Words = {
        "model": model,
        "messages": [message for turn in conversation.turns for message in _messages(turn, losses)],
        **_tools(conversation, losses),
        **_form(conversation.output),
        **_reasoning(conversation.reasoning, losses),
        **_settings(conversation, model, losses),
        **({name: value for name, value in conversation.others.items() if name} if own else {}),
    }
    if conversation.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    if not own:
        for name in filter(None, conversation.others):
            losses.lose("part.native" if name in MATTERS else "others", name)
    return msgspec.json.encode(body)


def _settings(conversation: Conversation, model: str, losses: Losses) -> Words:
    """Return the plain fields."""
    length = "max_completion_tokens" if THINKS.search(model) else "max_tokens"
    settings: Words = {
        length: conversation.max_output,
        "temperature": conversation.temperature,
        "top_p": conversation.top_p,
        "presence_penalty": conversation.presence_penalty,
        "frequency_penalty": conversation.frequency_penalty,
        "seed": conversation.seed,
        "stop": list(conversation.stop) or None,
        "n": conversation.n if conversation.n != 1 else None,
        "user": conversation.user,
        "metadata": conversation.metadata,
        "verbosity": conversation.verbosity,
    }
    if conversation.top_k is not None:
        losses.lose("top_k")
    if conversation.service_tier in TIERS:
        settings["service_tier"] = conversation.service_tier
    elif conversation.service_tier is not None:
        losses.lose("service_tier")
    if conversation.logprobs is not None:
        settings |= {"logprobs": True, "top_logprobs": conversation.logprobs}
    return {name: value for name, value in settings.items() if value is not None}


def _reasoning(reasoning: Reasoning | None, losses: Losses) -> Words:
    if reasoning is None:
        return {}
    if reasoning.shown not in (None, "none"):
        losses.lose("reasoning.shown")
    if reasoning.effort is not None:
        return {"reasoning_effort": reasoning.effort}
    budget = reasoning.budget
    if budget is None or budget < 0:
        return {}
    losses.lose("reasoning.budget")
    return {"reasoning_effort": next((effort for most, effort in EFFORTS if budget <= most), "high")}


def _form(output: Output | None) -> Words:
    if output is None:
        return {}
    if output.kind == "json":
        return {"response_format": {"type": "json_object"}}
    form: Words = {"name": output.name or "answer", "schema": output.schema or {}}
    if output.description is not None:
        form["description"] = output.description
    form["strict"] = output.strict
    kept = {name: value for name, value in form.items() if value is not None}
    return {"response_format": {"type": "json_schema", "json_schema": kept}}


def _tools(conversation: Conversation, losses: Losses) -> Words:
    written = [_tool(tool, losses) for tool in conversation.tools]
    body: Words = {"tools": [tool for tool in written if tool is not None]} if written else {}
    if conversation.choice is not None and written:
        body["tool_choice"] = _choice(conversation.choice)
    if conversation.parallel is not None and written:
        body["parallel_tool_calls"] = conversation.parallel
    return body


def _tool(tool: Tool | Native, losses: Losses) -> Words | None:
    if isinstance(tool, Native):
        if tool.dialect == DIALECT:
            return tool.value
        losses.lose("tool.native", str(tool.value.get("type") or next(iter(tool.value), "tools")))
        return None
    if tool.cache:
        losses.lose("cache")
    function: Words = {
        "name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": tool.strict
    }
    return {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}


def _choice(choice: Choice) -> str | Words:
    if choice.mode == "one":
        return {"type": "function", "function": {"name": choice.name}}
    mode = MODES[choice.mode]
    if not choice.names:
        return mode
    tools = [{"type": "function", "function": {"name": name}} for name in choice.names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def _messages(turn: Turn, losses: Losses) -> Iterable[Words]:
    """Yield the messages of a turn: results first, each for itself, then what is said with them."""
    if turn.role == "assistant":
        yield _assistant(turn, losses)
        return
    shown: list[Part] = []
    for part in turn.parts:
        if isinstance(part, Result):
            message, media = _result(part, losses)
            shown += media
            yield message
    said = [part for part in turn.parts if not isinstance(part, Result)]
    if shown or said or not turn.parts:
        role = "developer" if turn.developer else turn.role
        named = {"name": turn.name} if turn.name else {}
        yield {"role": role, "content": _content([*shown, *said], losses), **named}


def _result(result: Result, losses: Losses) -> tuple[Words, list[Part]]:
    """Return a tool's message, and what it shows that is no text: tools speak text only here."""
    if result.cache:
        losses.lose("cache")
    texts = [part.text for part in result.parts if isinstance(part, Text)]
    media: list[Part] = [part for part in result.parts if not isinstance(part, Text)]
    if media:
        losses.lose("result.media")
        texts.append("(What it shows follows in the next message.)")
    if result.error:
        losses.lose("result.error")
        texts.insert(0, "The tool failed:")
    return {"role": "tool", "tool_call_id": result.id, "content": "\n".join(texts)}, media


def _assistant(turn: Turn, losses: Losses) -> Words:
    calls, refusals, said = [], [], []
    thought = ""
    for part in turn.parts:
        if isinstance(part, Call):
            if part.cache:
                losses.lose("cache")
            calls.append({
                "id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments or "{}"}
            })
        elif isinstance(part, Native) and part.dialect == DIALECT and "function" not in part.value:
            calls.append(part.value)
        elif isinstance(part, Refusal):
            refusals.append(part.text)
        elif isinstance(part, Thinking):
            if part.dialect == DIALECT:
                thought += part.text
            else:
                losses.lose("thinking")
        else:
            said.append(part)
    message: Words = {"role": "assistant", "content": _content(said, losses) if said else None}
    for name, value in (
        ("refusal", "".join(refusals)), ("tool_calls", calls), ("reasoning_content", thought), ("name", turn.name)
    ):
        if value:
            message[name] = value
    return message


def _content(parts: Sequence[Part], losses: Losses) -> str | list[Words]:
    """Return a message's content: a text alone as a text, which every server reads."""
    if len(parts) == 1 and isinstance(parts[0], Text):
        _note(parts[0], losses)
        return parts[0].text
    written = [_part(part, losses) for part in parts]
    return [part for part in written if part is not None]


def _part(part: Part, losses: Losses) -> Words | None:
    if isinstance(part, Text):
        _note(part, losses)
        return {"type": "text", "text": part.text}
    if isinstance(part, Media):
        if part.cache:
            losses.lose("cache")
        return _media(part, losses)
    if isinstance(part, Native):
        if part.dialect == DIALECT:
            return part.value
        losses.lose("part.native", str(part.value.get("type") or next(iter(part.value), "part")))
    return None


def _note(text: Text, losses: Losses) -> None:
    if text.cache:
        losses.lose("cache")
    if text.citations:
        losses.lose("citations")


def _media(part: Media, losses: Losses) -> Words | None:
    if part.kind == "image":
        if part.file_id is not None:
            losses.lose("media.file_id", "image")
        url = part.url or f"data:{part.type or 'image/png'};base64,{part.data or ''}"
        return {"type": "image_url", "image_url": {"url": url, **({"detail": part.detail} if part.detail else {})}}
    if part.kind == "audio":
        form = SOUNDS.get(part.type or "")
        if form is None or part.data is None:
            losses.lose("media.audio", "audio")
            return None
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": form}}
    if part.data is None:
        losses.lose("media.file_id" if part.file_id else "media.url", "file")
        return None
    name = part.name or ("document.pdf" if part.type in (None, "application/pdf") else "document")
    data = f"data:{part.type or 'application/pdf'};base64,{part.data}"
    return {"type": "file", "file": {"filename": name, "file_data": data}}
