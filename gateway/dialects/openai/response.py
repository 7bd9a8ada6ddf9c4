"""Chat Completions as a surface: an answer's words, whole and streamed, and errors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from gateway.dialects.neutral import OPENAI as DIALECT
from gateway.dialects.neutral import (
    Argued,
    Asked,
    Called,
    Cited,
    Ended,
    Event,
    Finish,
    Media,
    Refused,
    Said,
    Shown,
    Thought,
    Used,
)
from gateway.dialects.openai.parts import sealed
from gateway.dialects.openai.usage import tier_worded, worded
from gateway.dialects.reading import pages
from gateway.errors import GatewayError
from gateway.pricing import Usage

Words = dict[str, Any]
FINISHES = {
    Finish.STOP: "stop", Finish.SEQUENCE: "stop", Finish.LENGTH: "length", Finish.TOOLS: "tool_calls",
    Finish.FILTER: "content_filter", Finish.REFUSAL: "content_filter", Finish.PAUSE: "length",
}


def error_body(error: GatewayError, request_id: str, attempts: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the error object of this dialect, with the calls that were made listed under the request id."""
    detail: Words = {
        "message": error.message, "type": error.kind, "param": error.param, "code": error.code, "request_id": request_id
    }
    if attempts:
        detail["attempts"] = attempts
    return orjson.dumps({"error": detail})


def error_event(error: GatewayError, request_id: str, *, mid_event: bool) -> bytes:
    """Return the frame that ends a broken stream honestly; one cut inside an event is closed first."""
    return (b"\n\n" if mid_event else b"") + b"data: " + error_body(error, request_id, []) + b"\n\n"


class _Writer:
    """Writes chunks. Every choice begins with its role; usage comes last, if it was asked for."""

    def __init__(self, asked: Asked) -> None:
        # the stream
        self._head = {
            "id": f"chatcmpl-{asked.id}", "object": "chat.completion.chunk", "created": asked.created,
            "model": asked.model, "system_fingerprint": None,
        }
        self._wants_usage = asked.conversation.usage_in_stream
        # so far
        self._begun: set[int] = set()
        self._refused: set[int] = set()
        self._usage: Usage | None = None

    def feed(self, events: Iterable[Event]) -> bytes:
        """Return the chunks that say `events`."""
        return b"".join(self._said(event) for event in events)

    def close(self) -> bytes:
        """Return the usage, if it was asked for, and the end."""
        last = b""
        if self._wants_usage:
            last = self._chunk([], self._usage or Usage(0, 0))
        return last + b"data: [DONE]\n\n"

    def _said(self, event: Event) -> bytes:
        if isinstance(event, Used):
            self._usage = event.usage
            return b""
        if isinstance(event, Ended):
            return self._delta(event.choice, {}, finish=_finish(event, in_words=event.choice in self._refused))
        if isinstance(event, Refused):
            self._refused.add(event.choice)
        found = _delta(event)
        if found is None:
            return b""
        choice, delta = found
        logprobs = {"content": list(event.logprobs)} if isinstance(event, Said) and event.logprobs else None
        return self._delta(choice, delta, logprobs)

    def _delta(self, choice: int, delta: Words, logprobs: Words | None = None, finish: str | None = None) -> bytes:
        if choice not in self._begun:
            self._begun.add(choice)
            delta = {"role": "assistant", **({"content": ""} if not delta else {}), **delta}
        said = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._chunk([said])

    def _chunk(self, choices: list[Words], usage: Usage | None = None) -> bytes:
        shown = {"usage": usage and worded(usage), **tier_worded(usage)} if self._wants_usage else {}
        return b"data: " + msgspec.json.encode({**self._head, "choices": choices, **shown}) + b"\n\n"


def _finish(event: Ended, *, in_words: bool) -> str:
    """Return why it ended. A refusal in words is in the message; one without them is a filter's work."""
    return "stop" if event.reason is Finish.REFUSAL and in_words else FINISHES[event.reason]


def _delta(event: Event) -> tuple[int, Words] | None:
    """Return the choice that an event belongs to and its delta, None for what has no place in a chunk."""
    made = DELTAS.get(type(event))
    delta = None if made is None else made(event)
    return None if delta is None else (getattr(event, "choice", 0), delta)


def _cited(event: Cited) -> Words | None:
    """Return sources as OpenAI's annotations: as one came, or made of the pages that it names."""
    if event.dialect == DIALECT:
        return {"annotations": [event.value]}
    places = (
        {"start_index": 0, "end_index": 0, "url": page.address, "title": page.title or page.address}
        for page in pages(event.value)
    )
    made = [{"type": "url_citation", "url_citation": place} for place in places]
    return {"annotations": made} if made else None


def _picture(shown: Shown) -> str | None:
    """Return an image as Markdown: a chat completion has no other place for one."""
    part = shown.part
    if not isinstance(part, Media) or part.kind != "image":
        return None
    return f"![image]({part.url or f'data:{part.type};base64,{part.data}'})"


def _called(event: Called) -> Words:
    function = {"name": event.name, "arguments": ""}
    seal = {} if event.signature is None else sealed(event.signature)
    return {"tool_calls": [{"index": event.index, "id": event.id, "type": "function", "function": function, **seal}]}


DELTAS: dict[type, Callable[[Any], Words | None]] = {
    Said: lambda event: {"content": event.text},
    Thought: lambda event: {"reasoning_content": event.text} if event.text else None,
    Called: _called,
    Argued: lambda event: {"tool_calls": [{"index": event.index, "function": {"arguments": event.text}}]},
    Refused: lambda event: {"refusal": event.text},
    Cited: _cited,
    Shown: lambda event: None if (picture := _picture(event)) is None else {"content": picture},
}


def writer(asked: Asked) -> _Writer:
    """Begin a stream."""
    return _Writer(asked)


class _Message:
    """A choice of a whole answer, as it is put together."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.thought: list[str] = []
        self.refusal: list[str] = []
        self.calls: dict[int, Words] = {}
        self.arguments: dict[int, list[str]] = {}
        self.notes: list[Words] = []
        self.tokens: list[Words] = []
        self.finish = "stop"

    def add(self, event: Event) -> None:
        """Take in what an event says."""
        if isinstance(event, Ended):
            self.finish = _finish(event, in_words=any(self.refusal))
        elif isinstance(event, Argued):
            if event.index in self.calls:
                self.arguments[event.index].append(event.text)
        elif isinstance(event, Called):
            call = _called(event)["tool_calls"][0]
            self.calls[call.pop("index")] = call
            self.arguments[event.index] = []
        elif (found := _delta(event)) is not None:
            delta = found[1]
            self.text.append(delta.get("content", ""))
            self.thought.append(delta.get("reasoning_content", ""))
            self.refusal.append(delta.get("refusal", ""))
            self.notes += delta.get("annotations", ())
            self.tokens += event.logprobs if isinstance(event, Said) else ()

    def words(self, index: int) -> Words:
        """Return the choice."""
        text, thought, refusal = "".join(self.text), "".join(self.thought), "".join(self.refusal)
        message: Words = {
            "role": "assistant", "content": text or (None if self.calls or refusal else ""), "refusal": refusal or None
        }
        if thought:
            message["reasoning_content"] = thought
        for at, call in self.calls.items():
            call["function"]["arguments"] = "".join(self.arguments[at])
        if self.calls:
            message["tool_calls"] = list(self.calls.values())
        if self.notes:
            message["annotations"] = self.notes
        logprobs = {"content": self.tokens, "refusal": None} if self.tokens else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish}


def write_whole(asked: Asked, events: Iterable[Event]) -> bytes:
    """Word a whole answer."""
    usage = Usage(0, 0)
    choices = {0: _Message()}
    for event in events:
        if isinstance(event, Used):
            usage = event.usage
        else:
            choices.setdefault(getattr(event, "choice", 0), _Message()).add(event)
    return msgspec.json.encode({
        "id": f"chatcmpl-{asked.id}", "object": "chat.completion", "created": asked.created, "model": asked.model,
        "choices": [choices[index].words(index) for index in sorted(choices)],
        "usage": worded(usage), "system_fingerprint": None, **tier_worded(usage),
    })
