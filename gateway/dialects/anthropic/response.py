"""Anthropic as a surface: answers and errors in the words of the Messages API.

Its streams have one open block at a time, so a call whose turn has not come is held until the calls before it are
whole. The last counts come with the reason for stopping, so both are said when the stream is closed.

What Anthropic has no block for and is part of the answer becomes text: a refusal in words, an image as Markdown.
Thinking of other models is shown where it was asked for, under a signature of ours (parts.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from gateway.dialects.anthropic.fields import DIALECT
from gateway.dialects.anthropic.parts import NOBODY, signed, to_json
from gateway.dialects.anthropic.usage import worded
from gateway.dialects.neutral import (
    Argued,
    Asked,
    Began,
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
    whole,
)
from gateway.dialects.reading import Page, arguments_of, object_of, pages
from gateway.errors import GatewayError
from gateway.pricing import Usage

REASONS = {
    Finish.STOP: "end_turn", Finish.SEQUENCE: "stop_sequence", Finish.LENGTH: "max_tokens", Finish.TOOLS: "tool_use",
    Finish.FILTER: "refusal", Finish.REFUSAL: "refusal", Finish.PAUSE: "pause_turn",
}
KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 408: "timeout_error", 413: "request_too_large", 429: "rate_limit_error",
    503: "overloaded_error", 504: "timeout_error", 529: "overloaded_error",
}
NOTHING = Usage(0, 0)
# What tells the SDK's tool runner to send the history whole instead of a thread.
THREADLESS = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}

Words = dict[str, Any]


class _Waiting:
    """A call, with the arguments that wait for its turn."""

    __slots__ = ("call", "held", "text")

    def __init__(self, call: Called) -> None:
        self.call = call
        self.text: list[str] = []       # all of them, to know when they are whole
        self.held: list[str] = []

    def whole(self) -> bool:
        """Say whether the arguments are all there."""
        return bool(self.text) and "}" in self.text[-1] and object_of("".join(self.text)) is not None


class _Blocks:
    """The events of a message, as values."""

    def __init__(self, asked: Asked) -> None:
        # answer
        self._asked = asked
        reasoning = asked.conversation.reasoning
        self._thinks = reasoning is not None and reasoning.budget not in (None, 0) and reasoning.shown != "none"
        # A call without thinking is refused where it was asked for, should the history come to Anthropic
        self._owed = reasoning is not None and (reasoning.budget or 0) > 0
        self._usage = NOTHING
        self._started = False
        self._called = False
        self._refused = False
        self._ended: Ended | None = None
        # block
        self._index = 0
        self._open: str | None = None
        self._cited = False
        self._spoken = False
        self._seals: list[Thought] = []                 # of other models, behind text: for a call, if one comes
        self._unsigned: str | None = None               # the dialect of open thinking that has no signature yet
        self._calls: dict[int, _Waiting] = {}           # the first one is open
        self._later: list[Event] = []                   # what was said before a call was whole
        self._words: dict[type, Callable[[Any], Iterator[Words]]] = {
            Said: self._said, Refused: self._refused_in_words, Thought: self._thought, Called: self._call,
            Cited: self._citation, Shown: self._shown,
        }

    def __repr__(self) -> str:
        return f"<_Blocks {self._index} ended, {self._open or 'none'} open>"

    def take(self, event: Event) -> Iterator[Words]:
        """Yield what a stream says for one event."""
        if isinstance(event, Began | Used):
            self._usage = event.usage or self._usage
        if isinstance(event, Began):
            yield from self.start()
        elif getattr(event, "choice", 0):               # a message is one answer
            return
        elif isinstance(event, Argued):
            yield from self._argue(event)
        elif isinstance(event, Ended):
            self._ended = self._ended or event
        elif self._calls and not isinstance(event, Called) and not self._whole():
            self._later.append(event)
        elif (words := self._words.get(type(event))) is not None:
            yield from self.start()
            yield from words(event)

    def start(self) -> Iterator[Words]:
        """Yield the beginning, once."""
        if self._started:
            return
        self._started = True
        yield {"type": "message_start", "message": {
            "id": f"msg_{self._asked.id}", "type": "message", "role": "assistant", "model": self._asked.model,
            "content": [], "stop_reason": None, "stop_sequence": None, "usage": worded(self._usage),
        }}

    def end(self) -> Iterator[Words]:
        """Yield what is left to say, and the end."""
        yield from self.start()
        yield from self._close()
        yield from self._resume()
        yield from self._close()
        ended = self._ended or Ended(Finish.STOP)
        reason = REASONS[ended.reason]
        if ended.reason is Finish.STOP and (self._refused or self._called):
            reason = "refusal" if self._refused else "tool_use"
        delta = {"stop_reason": reason, "stop_sequence": ended.sequence}
        yield {"type": "message_delta", "delta": delta, "usage": worded(self._usage)}
        yield {"type": "message_stop"}

    def _begin(self, block: Words) -> Iterator[Words]:
        yield from self._close()
        self._open, self._cited = block["type"], False
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, kind: str, name: str, value: Any) -> Words:
        return {"type": "content_block_delta", "index": self._index, "delta": {"type": kind, name: value}}

    def _close(self) -> Iterator[Words]:
        """Yield the end of the open block, and the calls that wait behind it whole."""
        yield from self._stop()
        while self._calls:
            yield from self._next_call()
            yield from self._stop()

    def _stop(self) -> Iterator[Words]:
        if self._open is None:
            return
        if self._unsigned is not None:
            yield self._delta("signature_delta", "signature", signed(self._unsigned, None))
        if self._calls:
            del self._calls[next(iter(self._calls))]
        self._open, self._unsigned = None, None
        yield {"type": "content_block_stop", "index": self._index}
        self._index += 1

    def _said(self, event: Said) -> Iterator[Words]:
        if not event.text:
            return
        self._spoken = True
        if self._open != "text" or self._cited:         # a citation speaks of the whole block that it is in
            yield from self._begin({"type": "text", "text": ""})
        yield self._delta("text_delta", "text", event.text)

    def _refused_in_words(self, event: Refused) -> Iterator[Words]:
        self._refused = True
        yield from self._said(Said(event.text))

    def _thought(self, event: Thought) -> Iterator[Words]:
        own = event.dialect == DIALECT
        if not (own or self._thinks):
            return
        if event == Thought(dialect=event.dialect):
            return
        if not own and self._spoken and not event.text and self._open != "thinking":
            self._seals.append(event)       # Gemini seals its last words, too; clients take a last block for the answer
            return
        yield from self._sealed(event, own=own)

    def _sealed(self, event: Thought, *, own: bool) -> Iterator[Words]:
        self._owed = False
        if event.redacted is not None:
            data = event.redacted if own else signed(event.dialect, event.redacted)
            yield from self._begin({"type": "redacted_thinking", "data": data})
            yield from self._stop()
            return
        if self._open != "thinking":
            yield from self._begin({"type": "thinking", "thinking": "", "signature": ""})
            self._unsigned = None if own else event.dialect
        if event.text:
            yield self._delta("thinking_delta", "thinking", event.text)
        if event.signature is not None:
            self._unsigned = None
            signature = event.signature if own else signed(event.dialect, event.signature)
            yield self._delta("signature_delta", "signature", signature)
            yield from self._stop()

    def _call(self, event: Called) -> Iterator[Words]:
        self._called = True
        seals, self._seals = self._seals, []
        for seal in seals or [Thought(dialect=NOBODY)] * self._owed:
            yield from self._sealed(seal, own=False)
        waiting = _Waiting(event)
        if self._calls and event.index not in self._calls:
            self._calls[event.index] = waiting
            yield from self._advance()
            return
        yield from self._close()
        self._calls[event.index] = waiting
        yield from self._next_call()

    def _next_call(self) -> Iterator[Words]:
        """Yield the beginning of the call whose turn it is, with the arguments that waited."""
        waiting = next(iter(self._calls.values()))
        self._open = "tool_use"
        call = waiting.call.id or f"toolu_{self._asked.id}_{waiting.call.index}"
        block = {"type": "tool_use", "id": call, "name": waiting.call.name, "input": {}}
        yield {"type": "content_block_start", "index": self._index, "content_block": block}
        if waiting.held:
            yield self._delta("input_json_delta", "partial_json", "".join(waiting.held))
            waiting.held.clear()

    def _argue(self, event: Argued) -> Iterator[Words]:
        waiting = self._calls.get(event.index)
        if waiting is None or not event.text:
            return
        waiting.text.append(event.text)
        if waiting is next(iter(self._calls.values())):
            yield self._delta("input_json_delta", "partial_json", event.text)
            yield from self._advance()
        else:
            waiting.held.append(event.text)
        if self._later and self._whole():
            yield from self._resume()

    def _advance(self) -> Iterator[Words]:
        """Yield the next calls, as far as those before them are whole."""
        while len(self._calls) > 1 and next(iter(self._calls.values())).whole():
            yield from self._stop()
            yield from self._next_call()

    def _whole(self) -> bool:
        return all(waiting.whole() for waiting in self._calls.values())

    def _resume(self) -> Iterator[Words]:
        """Yield what had to wait for the calls."""
        later, self._later = self._later, []
        for event in later:
            yield from self.take(event)

    def _citation(self, event: Cited) -> Iterator[Words]:
        own = event.dialect == DIALECT
        for citation in [event.value] if own else [_page(page) for page in pages(event.value)]:
            if self._open != "text":
                yield from self._begin({"type": "text", "text": ""})
            self._cited = True
            yield self._delta("citations_delta", "citation", citation)

    def _shown(self, event: Shown) -> Iterator[Words]:
        part = event.part
        if isinstance(part, Media):
            yield from self._begin({"type": "text", "text": ""})
            yield self._delta("text_delta", "text", _markdown(part))
            yield from self._stop()
        elif part.dialect == DIALECT and isinstance(part.value.get("type"), str):
            given = part.value.get("input")
            streamed = isinstance(given, dict) and given
            yield from self._begin({**part.value, "input": {}} if streamed else part.value)
            if streamed:
                yield self._delta("input_json_delta", "partial_json", to_json(given))
            yield from self._stop()


class Writer:
    """Writes a stream, event by event."""

    def __init__(self, asked: Asked) -> None:
        self._blocks = _Blocks(asked)

    def __repr__(self) -> str:
        return f"<Writer {self._blocks!r}>"

    def feed(self, events: Iterable[Event]) -> bytes:
        """Return the frames that say `events`; empty where there is nothing to say yet."""
        return b"".join(_frame(words) for event in events for words in self._blocks.take(event))

    def close(self) -> bytes:
        """Return the frames that end the stream well."""
        return b"".join(_frame(words) for words in self._blocks.end())


def writer(asked: Asked) -> Writer:
    """Begin a stream."""
    return Writer(asked)


def write_whole(asked: Asked, events: Iterable[Event]) -> bytes:
    """Word a whole answer. Raises ValueError for one that failed."""
    said = whole(events)
    blocks = _Blocks(asked)
    frames = [*(words for event in said for words in blocks.take(event)), *blocks.end()]
    message: Words = frames[0]["message"]
    content: list[_Filled] = []
    for frame in frames:
        if frame["type"] == "content_block_start":
            content.append(_Filled(frame["content_block"]))
        elif frame["type"] == "content_block_delta":
            content[-1].take(**frame["delta"])
        elif frame["type"] == "message_delta":
            message |= {**frame["delta"], "usage": frame["usage"]}
    message["content"] = [filled.block() for filled in content]
    return msgspec.json.encode(message)


class _Filled:
    """A block, filled by its deltas."""

    def __init__(self, block: Words) -> None:
        self._block = block
        self._texts: dict[str, list[str]] = {}
        self._citations: list[Words] = []

    def take(self, type: str, **said: Any) -> None:  # noqa: A002 - a delta's own word for it
        """Take in a delta."""
        if type == "citations_delta":
            self._citations.append(said["citation"])
            return
        for name, text in said.items():
            self._texts.setdefault(name, []).append(text)

    def block(self) -> Words:
        """Return the block with all that was said of it."""
        texts = {name: "".join(text) for name, text in self._texts.items()}
        arguments = texts.pop("partial_json", None)
        return {
            **self._block, **texts, **({} if arguments is None else {"input": arguments_of(arguments)}),
            **({"citations": self._citations} if self._citations else {}),
        }


def error_body(error: GatewayError, request_id: str, attempts: Sequence[Mapping[str, Any]]) -> bytes:
    """Word an error; what Anthropic has no field for stands beside its words."""
    kind = KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    known: Words = {"param": error.param, "code": error.code, "attempts": [dict(attempt) for attempt in attempts]}
    known["details"] = THREADLESS if error.param == "thread" else None
    detail = {"type": kind, "message": error.message, **{name: value for name, value in known.items() if value}}
    return orjson.dumps({"type": "error", "error": detail, "request_id": request_id})


def error_event(error: GatewayError, request_id: str, *, mid_event: bool) -> bytes:
    """Return the frame that ends a broken stream honestly; one cut inside an event is closed first."""
    return (b"\n\n" if mid_event else b"") + b"event: error\ndata: " + error_body(error, request_id, []) + b"\n\n"


def _frame(words: Words) -> bytes:
    kind: str = words["type"]
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(words) + b"\n\n"


def _page(page: Page) -> Words:
    """Return a page that another dialect cites, as Anthropic names one."""
    return {
        "type": "web_search_result_location", "url": page.address, "title": page.title, "cited_text": "",
        "encrypted_index": "",
    }


def _markdown(media: Media) -> str:
    address = media.url or f"data:{media.type or 'application/octet-stream'};base64,{media.data or ''}"
    return f"{'!' if media.kind == 'image' else ''}[{media.name or media.kind}]({address})"
