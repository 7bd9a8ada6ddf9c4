"""Streams that say what they used, though their caller did not ask.

OpenAI's streams have usage only where the request asks for it, and then a null in every other frame. So that every
stream has a cost, we ask in the caller's stead and take the answer out again: what reaches the caller is what would
have come without us. All other dialects tell unasked.
"""

import re
from typing import Any

import msgspec

from gateway.sse import CLOSED
from gateway.wire.request import fields

ASKED = b'"stream_options":{"include_usage":true}'
HELD_BYTES = 65_536      # of an event whose end is not here yet; usage is far shorter

COMPACT = b',"usage":null'

_NULL = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,')      # in a string its quotes would be escaped
_BORDER = re.compile(b"|".join(map(re.escape, CLOSED)))


class _Frame(msgspec.Struct):
    choices: list[Any]
    usage: dict[str, Any]


_frame = msgspec.json.Decoder(_Frame)


def asks(options: Any) -> bool:
    """Say whether a request's `stream_options` ask for usage; what is no object is for the upstream to refuse."""
    return options.get("include_usage") is True if isinstance(options, dict) else options is not None


def asking(body: bytes) -> bytes:
    """Return the body of a request that does not ask for usage as one that does."""
    if b'"stream_options"' not in body:
        start = body.index(b"{") + 1
        return body[:start] + ASKED + b"," + body[start:]      # a decoded request has at least a model
    given = fields(body)
    options = msgspec.json.decode(given.get("stream_options", b"null")) or {}
    given["stream_options"] = msgspec.Raw(msgspec.json.encode({**options, "include_usage": True}))
    return msgspec.json.encode(given)


def unasking(body: bytes) -> bytes:
    """Return a body of ours without the question, for a server that does not know it."""
    given = fields(body)
    given.pop("stream_options", None)
    return msgspec.json.encode(given)


def refused(status: int, body: bytes) -> bool:
    """Say whether a server refuses a request because of the question."""
    return status in (400, 422) and b"stream_options" in body


class Uncount:
    """Takes out of a stream what only the gateway asked for; all else passes as it came, once its event is whole."""

    __slots__ = ("_held", "inside")

    def __init__(self) -> None:
        self._held = b""
        self.inside = False      # what has passed ends inside an event, which was too long to be held

    def __repr__(self) -> str:
        return f"<Uncount holding {len(self._held)} bytes>"

    def feed(self, chunk: bytes) -> bytes:
        """Return what the caller gets of a chunk; empty where it ends inside its first event."""
        if self._held:
            chunk, self._held = self._held + chunk, b""
        if chunk.endswith(CLOSED):
            self.inside = False
        else:
            chunk = self._whole_events(chunk)
        return _taken_out(chunk)

    def close(self) -> bytes:
        """Return what is left: an event that nothing closed."""
        held, self._held = self._held, b""
        return _taken_out(held)

    def _whole_events(self, chunk: bytes) -> bytes:
        """Return `chunk` up to the end of its last event, and hold the rest unless it is too long to be usage."""
        end = max((border.end() for border in _BORDER.finditer(chunk)), default=0)
        if len(chunk) - end <= HELD_BYTES:
            chunk, self._held = chunk[:end], chunk[end:]
            self.inside = self.inside and not end
        else:
            self.inside = True
        return chunk


def _taken_out(events: bytes) -> bytes:
    events = events.replace(COMPACT, b"")        # as OpenAI writes it: an eighth of what the expression takes
    if b'"usage"' not in events:
        return events
    return _without_counts(_NULL.sub(b"", events))


def _without_counts(events: bytes) -> bytes:
    """Return events without those that say nothing but what was used."""
    kept, start = [], 0
    while start < len(events):
        border = _BORDER.search(events, start)
        end = len(events) if border is None else border.end()
        if not _only_counts(events[start:end]):
            kept.append(events[start:end])
        start = end
    return b"".join(kept)


def _only_counts(event: bytes) -> bool:
    line = event.strip()
    if b'"usage"' not in line or not line.startswith(b"data:"):
        return False
    try:
        return not _frame.decode(line[5:]).choices
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
