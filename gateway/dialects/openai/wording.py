"""Wording a Chat Completions request for an upstream, and what becomes of the fields that it has no words for.

Compatible servers differ in what they know. What another dialect's conversation becomes is what nearly all of them
read; one of this dialect comes out as it was.

- `max_tokens`, which Ollama knows alone (ollama/ollama#7125, open 2026-08); `max_completion_tokens` for OpenAI's
  reasoning models, which refuse the older name.
- Texts alone as one string: DeepSeek takes no list, Groq none from the system.
- Tool results follow their calls at once, in text; what else tools show comes behind the last of them, as the user's.
- No metadata: OpenAI refuses them unless answers are stored. No name of a user's that is longer than it takes, and ids
  of calls cut to its length.
- A stream always has its usage; whether the caller sees it is the surface's business.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

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
from gateway.dialects.openai.parts import SOUNDS, Words, as_text, fit, sealed
from gateway.dialects.openai.thinking import FIXED, reasons, takeable, write_reasoning
from gateway.dialects.reading import too_deep

V = TypeVar("V")

LOSSES: Mapping[str, str] = {
    "cache": "drop",                # caching is automatic
    "citations": "drop",
    **dict.fromkeys(FIXED, "drop") | {"logprobs": "refuse"},     # on models that reason
    "metadata": "drop",
    "reasoning": "drop",            # on models that do not reason
    "reasoning.budget": "drop",     # becomes an effort
    "reasoning.effort": "drop",     # the nearest that servers know is taken
    "reasoning.shown": "drop",
    "result.error": "drop",         # said in words before the result
    "result.media": "drop",         # moved into a user message behind the results
    "service_tier": "drop",         # a tier of another provider's
    "signature": "drop",
    "thinking": "drop",             # sealed by its provider; the text alone would be words the model did not say
    "top_k": "drop",
    "user": "drop",                 # longer than OpenAI takes
    "media.assistant": "refuse",    # what the model showed: here it can only speak
    "media.audio": "refuse",        # by address, or of a type that is neither wav nor mp3
    "media.detail": "drop",         # of anything but an image
    "media.file_id": "refuse",
    "media.name": "drop",           # of anything but a document
    "media.url": "refuse",          # of a document: only images have addresses
    "part.native": "refuse",
    "tool.native": "refuse",
    "others": "drop",               # each under its own name
}
# Of others' fields those without which the answer would not be what was asked for.
MATTERS = frozenset({
    "mcp_servers", "container", "thread", "cachedContent", "background", "conversation", "previous_response_id",
    "prompt", "generationConfig.responseModalities", "generationConfig.speechConfig",
})
MODES = {"auto": "auto", "none": "none", "any": "required"}
FORMATS = {**{kind: form for form, kind in SOUNDS.items()}, "audio/x-wav": "wav", "audio/mp3": "mp3"}
TIERS = frozenset({"auto", "default", "flex", "priority", "scale", "fast"})
MARKED = re.compile("~?(?:anthropic|google)/")          # OpenRouter's models that take marks for the cache
SAYS_JSON = "Answer with one JSON object."              # OpenAI refuses the form where no message has the word
MOST_USER = 64                                          # characters that OpenAI takes
FOLLOWS = "(What it shows follows in the next message.)"
_step = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def write_request(conversation: Conversation, model: str, losses: Losses) -> bytes:
    """Word a request. Raises Inexpressible for what must not be left out and cannot be said."""
    try:
        return msgspec.json.encode(_Wording(conversation, model, losses).body())
    except RecursionError:
        raise too_deep() from None


class _Wording:
    """One request on its way out."""

    def __init__(self, conversation: Conversation, model: str, losses: Losses) -> None:
        self._asked = conversation
        self._model = model
        self._losses = losses
        self._own = conversation.others.get("") == DIALECT
        self._marked = self._own or MARKED.match(model) is not None
        self._custom = {
            str(tool.value.get("custom", {}).get("name")) for tool in conversation.tools
            if isinstance(tool, Native) and isinstance(tool.value.get("custom"), dict)
        }

    def body(self) -> Words:
        """Return the request."""
        thinking = write_reasoning(self._asked.reasoning or Reasoning(), self._model, self._losses, own=self._own)
        settings, messages = self._settings(), list(self._messages())
        if not self._own:
            settings = takeable(settings, thinking.get("reasoning_effort"), self._model, self._losses)
        body: Words = {"model": self._model, "messages": messages, **self._tools(), **settings, **thinking}
        if self._asked.output is not None:
            body["response_format"] = self._form(self._asked.output, body["messages"])
        if self._asked.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        for name, value in self._asked.others.items():
            if name and self._own:
                _put_back(body, name, value)
            elif name:
                self._losses.lose("part.native" if name in MATTERS else f"others.{name}", name)
        return body

    def _settings(self) -> Words:
        """Return the plain fields."""
        asked = self._asked
        settings: Words = {
            "max_completion_tokens" if reasons(self._model) else "max_tokens": asked.max_output,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "top_k": self._if_own("top_k", asked.top_k),
            "presence_penalty": asked.presence_penalty,
            "frequency_penalty": asked.frequency_penalty,
            "seed": asked.seed,
            "stop": list(asked.stop) or None,
            "n": asked.n,
            "user": asked.user if len(asked.user or "") <= MOST_USER else self._if_own("user", asked.user),
            "metadata": self._if_own("metadata", asked.metadata),
            "verbosity": asked.verbosity,
            "logprobs": None if asked.logprobs is None else True,
            "top_logprobs": asked.logprobs or None,
        }
        known = asked.service_tier in TIERS
        settings["service_tier"] = asked.service_tier if known else self._if_own("service_tier", asked.service_tier)
        return {name: value for name, value in settings.items() if value is not None}

    def _if_own(self, field: str, value: V) -> V | None:
        if value is None or self._own:
            return value
        self._losses.lose(field)
        return None

    def _form(self, output: Output, messages: list[Words]) -> Words:
        if output.kind == "json":
            if not self._own and not _says_json(self._asked.turns):
                _instruct(messages)
            return {"type": "json_object"}
        form = {
            "name": output.name or "answer", "description": output.description, "schema": output.schema,
            "strict": output.strict,
        }
        kept = {name: value for name, value in form.items() if value is not None}
        return {"type": "json_schema", "json_schema": kept}

    def _tools(self) -> Words:
        """Return the tools and what is said of them. Without any, OpenAI refuses words about their choice."""
        written = [tool for tool in map(self._tool, self._asked.tools) if tool is not None]
        body: Words = {"tools": written} if written else {}
        choice = self._asked.choice
        if choice is not None and (written or choice.mode in ("any", "one")):
            body["tool_choice"] = self._choice(choice)
        if self._asked.parallel is not None and written:
            body["parallel_tool_calls"] = self._asked.parallel
        return body

    def _tool(self, tool: Tool | Native) -> Words | None:
        if isinstance(tool, Native):
            return self._native(tool, "tool.native")
        function = {
            "name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": tool.strict
        }
        kept = {name: value for name, value in function.items() if value is not None}
        return {"type": "function", "function": kept, **self._mark(tool.cache)}

    def _choice(self, choice: Choice) -> str | Words:
        if choice.mode == "one":
            return self._named(choice.name or "")
        mode = MODES[choice.mode]
        if not choice.names:
            return mode
        tools = [self._named(name) for name in choice.names]
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}

    def _named(self, name: str) -> Words:
        kind = "custom" if name in self._custom else "function"
        return {"type": kind, kind: {"name": name}}

    def _messages(self) -> Iterator[Words]:
        """Yield the messages, no other among the results of one turn's calls."""
        shown: list[Part] = []
        for turn in self._asked.turns:
            if turn.role == "assistant":
                yield from self._shown(shown)
                yield self._assistant(turn)
                continue
            results = [part for part in turn.parts if isinstance(part, Result)]
            for result in results:
                message, media = self._result(result)
                shown += media
                yield message
            said = [part for part in turn.parts if not isinstance(part, Result)]
            if results and not said:
                continue
            if turn.role != "user":
                yield from self._shown(shown)
            yield self._message(turn, [*shown, *said])
            shown.clear()
        yield from self._shown(shown)

    def _shown(self, parts: list[Part]) -> Iterator[Words]:
        if parts:
            yield {"role": "user", "content": self._content(parts)}
            parts.clear()

    def _message(self, turn: Turn, parts: Sequence[Part]) -> Words:
        role = "developer" if turn.developer and self._own else turn.role       # a name that only OpenAI knows
        named = {"name": turn.name} if turn.name else {}
        return {"role": role, "content": self._content(parts), **named}

    def _result(self, result: Result) -> tuple[Words, list[Part]]:
        """Return a tool's message, and what it shows that is no text."""
        message: Words = {"role": "tool", "tool_call_id": result.id if self._own else fit(result.id)}
        if self._own:
            named = {"name": result.name} if result.name else {}
            return {**message, "content": self._content(result.parts), **named}, []
        texts = [part for part in result.parts if isinstance(part, Text)]
        media: list[Part] = [part for part in result.parts if not isinstance(part, Text)]
        cache = result.cache or any(text.cache for text in texts)
        citations = any(text.citations for text in texts)
        for field, lost in (
            ("cache", cache), ("citations", citations), ("result.error", result.error), ("result.media", media)
        ):
            if lost:
                self._losses.lose(field)
        said = [text.text for text in texts]
        told = [*(["The tool failed:"] if result.error else []), *said, *([FOLLOWS] if media else [])]
        return {**message, "content": "\n".join(told)}, media

    def _assistant(self, turn: Turn) -> Words:
        said: list[Part] = []
        calls: list[Words] = []
        more: Words = {"name": turn.name, "refusal": "", "reasoning_content": ""}
        for part in turn.parts:
            if isinstance(part, Call):
                calls.append(self._call(part))
            elif isinstance(part, Native) and part.dialect == DIALECT and "id" in part.value:
                calls.append(part.value)
            elif isinstance(part, Native) and part.dialect == DIALECT and set(part.value) == {"audio"}:
                more |= part.value
            elif isinstance(part, Refusal):
                more["refusal"] += part.text
            elif isinstance(part, Thinking):
                more["reasoning_content"] += self._thought(part)
            else:
                said.append(part)
        more["tool_calls"] = calls
        kept = {name: value for name, value in more.items() if value}
        silent = None if calls or "refusal" in kept or "audio" in kept else ""
        return {"role": "assistant", "content": self._content(said, spoken=True) if said else silent, **kept}

    def _call(self, call: Call) -> Words:
        self._mark(call.cache)
        seal: Words = {}
        if call.signature is not None:
            if self._marked:
                seal = sealed(call.signature)
            else:
                self._losses.lose("signature")
        function = {"name": call.name, "arguments": call.arguments or "{}"}
        return {"id": call.id if self._own else fit(call.id), "type": "function", "function": function, **seal}

    def _thought(self, thinking: Thinking) -> str:
        if thinking.dialect == DIALECT:
            return thinking.text
        self._losses.lose("thinking")
        return ""

    def _content(self, parts: Sequence[Part], *, spoken: bool = False) -> str | list[Words]:
        """Return a message's content: texts alone as one, which every server reads."""
        texts = [part for part in parts if isinstance(part, Text)]
        cited = any(text.citations for text in texts)
        marked = self._marked and any(text.cache for text in texts)
        if len(texts) == len(parts) and not marked and (len(texts) < 2 or not self._own):
            for text in texts:
                self._mark(text.cache)
            if cited:
                self._losses.lose("citations")
            return ("" if cited else "\n").join(text.text for text in texts)     # sources cut sentences apart
        return [written for part in parts if (written := self._part(part, spoken=spoken)) is not None] or ""

    def _part(self, part: Part, *, spoken: bool) -> Words | None:
        if isinstance(part, Text):
            if part.citations:
                self._losses.lose("citations")
            return {"type": "text", "text": part.text, **self._mark(part.cache)}
        if isinstance(part, Media):
            if spoken and not self._own:
                self._losses.lose("media.assistant", part.kind)
            written = self._media(part)
            return None if written is None else {**written, **self._mark(part.cache)}
        if isinstance(part, Refusal):
            return {"type": "refusal", "refusal": part.text}
        return self._native(part, "part.native") if isinstance(part, Native) else None

    def _native(self, native: Native, field: str) -> Words | None:
        if native.dialect == DIALECT:
            return native.value
        self._losses.lose(field, str(native.value.get("type") or next(iter(native.value), field)))
        return None

    def _mark(self, cache: str | None) -> Words:
        """Return a mark for the cache where the model takes one."""
        if cache is None:
            return {}
        if not self._marked:
            self._losses.lose("cache")
            return {}
        return {"cache_control": {"type": "ephemeral", **({} if cache == "5m" else {"ttl": cache})}}

    def _media(self, part: Media) -> Words | None:
        if part.file_id is not None and not (self._own and part.kind == "file"):
            self._losses.lose("media.file_id", part.kind)
            return None
        for field, kind in (("name", "file"), ("detail", "image")):
            if getattr(part, field) and part.kind != kind:
                self._losses.lose(f"media.{field}")
        if part.kind == "image":
            url = part.url or f"data:{part.type or 'image/png'};base64,{part.data or ''}"
            return {"type": "image_url", "image_url": {"url": url, **({"detail": part.detail} if part.detail else {})}}
        if part.kind == "audio":
            form = FORMATS.get(part.type or "") or ((part.type or "").removeprefix("audio/") if self._own else None)
            if form is None or part.data is None:
                self._losses.lose("media.audio", "audio")
                return None
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": form}}
        return self._file(part)

    def _file(self, part: Media) -> Words | None:
        if self._own:
            kind = part.type and f"data:{part.type};base64,"
            given = {
                "file_data": part.url or (part.data and f"{kind or ''}{part.data}"), "file_id": part.file_id,
                "filename": part.name,
            }
            return {"type": "file", "file": {name: value for name, value in given.items() if value is not None}}
        if part.data is None:
            self._losses.lose("media.url", "file")
            return None
        if (part.type or "").startswith("text/") and (text := as_text(part.data)) is not None:
            return {"type": "text", "text": f"{part.name}:\n{text}" if part.name else text}
        data = f"data:{part.type or 'application/pdf'};base64,{part.data}"
        return {"type": "file", "file": {"filename": part.name or "document.pdf", "file_data": data}}


def _says_json(turns: Iterable[Turn]) -> bool:
    return any(isinstance(part, Text) and "json" in part.text.lower() for turn in turns for part in turn.parts)


def _instruct(messages: list[Words]) -> None:
    first = messages[0] if messages else {}
    if first.get("role") == "system" and isinstance(first["content"], str):
        first["content"] += f"\n\n{SAYS_JSON}"       # some templates take one system message
    else:
        messages.insert(0, {"role": "system", "content": SAYS_JSON})


def _put_back(body: Words, name: str, value: Any) -> None:
    """Put a field of the request back, or what stood deep inside one, by the paths to it."""
    deep = isinstance(value, dict) and value and all(path.startswith((f"{name}.", f"{name}[")) for path in value)
    if not deep:
        body[name] = value
        return
    for path, given in value.items():
        *way, last = (key or int(number) for key, number in _step.findall(path))
        try:
            at: Any = body
            for step in way:
                before, at = at, at.setdefault(step, {}) if isinstance(at, dict) else at[step]
                if step == "content" and isinstance(at, str):
                    at = before["content"] = [{"type": "text", "text": at}]
            at[last] = given
        except (LookupError, TypeError, AttributeError):
            continue            # it stood in what has another form now
        if last == "prompt_cache_breakpoint":
            at.pop("cache_control", None)       # the same mark, in OpenAI's own words
