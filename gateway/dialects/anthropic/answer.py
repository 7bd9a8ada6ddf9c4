"""Anthropic as an upstream: where a request goes, and what its answers say.

A stream is a row of blocks, each begun, filled and ended; blocks of Anthropic's own are put together here and shown
whole.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.dialects.anthropic.fields import DIALECT
from gateway.dialects.anthropic.parts import to_json
from gateway.dialects.anthropic.usage import Counts
from gateway.dialects.door import Ending
from gateway.dialects.neutral import (
    Argued,
    Began,
    Called,
    Cited,
    Ended,
    Event,
    Failed,
    Finish,
    Native,
    Said,
    Shown,
    Thought,
    Used,
)
from gateway.dialects.reading import object_of, objects, string
from gateway.sse import Event as Frame

VERSION = "2023-06-01"      # its successor of 2026-10-21 refuses the sampling fields on every model
PADDING = 64
# Anthropic pads its frames with some spaces before the closing brace.
LAST_FRAMES: tuple[bytes, ...] = tuple(b'"message_stop"' + b" " * spaces + b"}\n\n" for spaces in range(PADDING))

# A reason that is not here is a new one: it is taken for a good end.
FINISHES = {
    "end_turn": Finish.STOP, "stop_sequence": Finish.SEQUENCE, "max_tokens": Finish.LENGTH, "tool_use": Finish.TOOLS,
    "pause_turn": Finish.PAUSE, "compaction": Finish.PAUSE, "refusal": Finish.REFUSAL,
    "model_context_window_exceeded": Finish.LENGTH,
}


def url(base: str, model: str, *, stream: bool) -> str:  # noqa: ARG001 - both stand in the body
    """Where a request goes: below `base`, which may name the API's version or leave it to us."""
    return f"{base.rstrip('/').removesuffix('/v1')}/v1/messages"


def models_url(base: str) -> str:
    """Where the models are listed."""
    return f"{base.rstrip('/').removesuffix('/v1')}/v1/models"


def headers(key: str | None) -> dict[str, str]:
    """How a request is authorised, and which version of the API it speaks."""
    return {"anthropic-version": VERSION, **({} if key is None else {"x-api-key": key})}


class _Block:
    """A block that is being filled: a call with its number, or one of Anthropic's own."""

    __slots__ = ("call", "json", "value")

    def __init__(self, value: dict[str, Any], call: int | None) -> None:
        self.value = value
        self.call = call
        self.json: list[str] = []

    def ended(self) -> list[Event]:
        """Return what is known of the block at its end."""
        text = "".join(self.json)
        if self.call is not None:
            return [] if text else [Argued(self.call, _arguments(self.value.get("input")))]
        if text:
            read = object_of(text)
            self.value["input"] = text if read is None else read
        return [Shown(Native(DIALECT, self.value))]

    def take(self, delta: dict[str, Any]) -> None:
        """Add to a block of Anthropic's own what a delta of it says, whatever it is called."""
        for name, value in delta.items():
            before = self.value.get(name)
            if name == "type":
                continue
            self.value[name] = before + value if isinstance(before, str) and isinstance(value, str) else value


class Reader:
    """Reads a stream. What it cannot read it passes over."""

    def __init__(self) -> None:
        self._counts = Counts()
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._began = False
        self._ended = False
        self._read: dict[str, Callable[[dict[str, Any]], list[Event]]] = {
            "message_start": self._message_start, "content_block_start": self._block_start,
            "content_block_delta": self._block_delta, "content_block_stop": self._block_stop,
            "message_delta": self._message_delta, "message_stop": self._message_stop, "error": self._error,
        }

    def __repr__(self) -> str:
        return f"<Reader {self._calls} calls, {len(self._blocks)} open blocks{', ended' if self._ended else ''}>"

    def feed(self, frame: Frame) -> list[Event]:
        """Return what one frame says."""
        said = object_of(frame.data)
        if said is None:
            return []
        if _is_error(said):
            return self._error(said)
        read = self._read.get(string(said.get("type")) or frame.type.decode("latin-1"))
        return read(said) if read else []

    def close(self) -> list[Event]:
        """Return the calls that were begun and not ended, so that their arguments are whole as far as they go."""
        return [event for at in list(self._blocks) if self._blocks[at].call is not None for event in self._stop(at)]

    def message(self, said: dict[str, Any]) -> list[Event]:
        """Return what a whole message says."""
        events = self._message_start({"message": said})
        for at, block in enumerate(objects(said.get("content"))):
            events += [*self._start(at, block), *self._stop(at)]
        return events + self._message_delta({"delta": said, "usage": said.get("usage")})

    def _message_start(self, said: dict[str, Any]) -> list[Event]:
        message = said.get("message")
        if not isinstance(message, dict):
            return []
        self._counts.take(message.get("usage"))
        if self._began:
            return []
        self._began = True
        return [Began(string(message.get("id")), string(message.get("model")), self._counts.usage())]

    def _block_start(self, said: dict[str, Any]) -> list[Event]:
        block = said.get("content_block")
        return self._start(_index(said), block) if isinstance(block, dict) else []

    def _start(self, at: int, block: dict[str, Any]) -> list[Event]:
        kind = string(block.get("type"))
        if kind == "text":
            cited: list[Event] = [Cited(DIALECT, source) for source in objects(block.get("citations"))]
            return [*_said(string(block.get("text"))), *cited]
        if kind == "thinking":
            return _thought(string(block.get("thinking")), string(block.get("signature")))
        if kind == "redacted_thinking":
            return [Thought(redacted=string(block.get("data")), dialect=DIALECT)]
        call = None
        if kind == "tool_use":
            call, self._calls = self._calls, self._calls + 1
        before = self._stop(at)             # one that was never ended
        self._blocks[at] = _Block(dict(block), call)
        return before if call is None else [*before, Called(call, string(block.get("id")), string(block.get("name")))]

    def _block_delta(self, said: dict[str, Any]) -> list[Event]:
        delta = said.get("delta")
        if not isinstance(delta, dict):
            return []
        block = self._blocks.get(_index(said))
        kind = string(delta.get("type"))
        if block is not None and kind != "input_json_delta":
            block.take(delta)
            return []
        text = string(delta.get(DELTA_FIELDS.get(kind, "")))
        if kind == "input_json_delta" and block is not None and text:
            block.json.append(text)
            return [] if block.call is None else [Argued(block.call, text)]
        if kind == "citations_delta":
            return [Cited(DIALECT, source) for source in objects([delta.get("citation")])]
        return DELTA_EVENTS[kind](text) if kind in DELTA_EVENTS else []

    def _block_stop(self, said: dict[str, Any]) -> list[Event]:
        return self._stop(_index(said))

    def _stop(self, at: int) -> list[Event]:
        block = self._blocks.pop(at, None)
        return block.ended() if block else []

    def _message_delta(self, said: dict[str, Any]) -> list[Event]:
        events: list[Event] = []
        delta = said.get("delta")
        reason = string(delta.get("stop_reason")) if isinstance(delta, dict) else ""
        if reason and not self._ended:
            self._ended = True
            sequence = string(delta.get("stop_sequence")) or None if isinstance(delta, dict) else None
            events.append(Ended(FINISHES.get(reason, Finish.STOP), sequence))
        if self._counts.take(said.get("usage")) and (usage := self._counts.usage()) is not None:
            events.append(Used(usage))
        return events

    def _message_stop(self, _: dict[str, Any]) -> list[Event]:
        """Say that the answer is over, where it did not say why."""
        if self._ended:
            return []
        self._ended = True
        return [Ended(Finish.STOP)]

    def _error(self, said: dict[str, Any]) -> list[Event]:
        return [Failed(_message(said))]


def _said(text: str) -> list[Event]:
    return [Said(text)] if text else []


def _thought(text: str, signature: str = "") -> list[Event]:
    return [Thought(text, signature or None, dialect=DIALECT)] if text or signature else []


DELTA_FIELDS = {
    "text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature",
    "input_json_delta": "partial_json",
}
DELTA_EVENTS: dict[str, Callable[[str], list[Event]]] = {
    "text_delta": _said, "thinking_delta": _thought, "signature_delta": lambda signature: _thought("", signature),
}


def reader() -> Reader:
    """Begin to read a stream."""
    return Reader()


def read_whole(body: bytes) -> list[Event]:
    """Read a whole answer. Raises ValueError where it is none."""
    said = object_of(body)
    if said is None:
        raise ValueError("It is not a JSON object.")
    if _is_error(said):
        raise ValueError(_message(said))
    if not isinstance(said.get("content"), list):
        raise ValueError("It has no content.")      # noqa: TRY004 - that is how a foreign body shows
    return Reader().message(said)


def error_of_body(body: bytes) -> str | None:
    """Return the message of an error object, None where the body is none."""
    said = object_of(body) if b'error"' in body[:512] else None
    return None if said is None or not _is_error(said) else _message(said)


def ending_of_stream(frames: Iterable[Frame]) -> Ending:
    """Read the first and last frames of a stream. It is complete if it said so, or why it stopped."""
    counts = Counts()
    over = error = False
    finish: str | None = None
    for frame in frames:
        said = object_of(frame.data) or {}
        kind = said.get("type")
        start = said.get("message")
        over = over or kind == "message_stop"
        error = error or _is_error(said)
        if kind == "message_start" and isinstance(start, dict):
            counts.take(start.get("usage"))
        if kind == "message_delta":
            finish = _finish(said.get("delta")) or finish
            counts.take(said.get("usage"))
    return Ending((over or finish is not None) and not error, finish, counts.usage(), error)


def ending_of_body(body: bytes) -> Ending:
    """Read a whole answer's end."""
    said = object_of(body) or {}
    counts = Counts()
    counts.take(said.get("usage"))
    return Ending(complete=True, finish=_finish(said), usage=counts.usage())


def _finish(said: object) -> str | None:
    reason = string(said.get("stop_reason")) if isinstance(said, dict) else ""
    return FINISHES.get(reason, Finish.STOP).value if reason else None


def _is_error(said: Mapping[str, Any]) -> bool:
    return said.get("type") == "error" or (said.get("type") is None and said.get("error") is not None)


def _message(said: Mapping[str, Any]) -> str:
    error = said.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return message[:500] if isinstance(message, str) and message else "an error without a message"


def _index(said: Mapping[str, Any]) -> int:
    index = said.get("index")
    return index if isinstance(index, int) else 0


def _arguments(value: object) -> str:
    try:
        return to_json(value if isinstance(value, dict) else {})
    except RecursionError:
        return "{}"
