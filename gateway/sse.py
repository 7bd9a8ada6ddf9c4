"""Sans-I/O parser of server-sent events, after the WHATWG HTML standard, §9.2.6 (read 2026-11).

Promise: any way of cutting the byte stream gives the same events, and no byte string raises. It is never in the way
of the bytes: the relay forwards what arrived and feeds a copy here, so a line this parser cannot read still reaches
the client. Unlike a browser it reports the last event even when the stream ends before the blank line that should
close it.
"""

from typing import NamedTuple

DONE = b"[DONE]"
CLOSED = (b"\n\n", b"\r\n\r\n", b"\r\r")     # the end of an event


class Event(NamedTuple):
    """One event: its type (empty when the stream gave none) and its data, lines joined by a newline."""

    type: bytes
    data: bytes


class Parser:
    """Feed bytes, get the events they complete."""

    __slots__ = ("_data", "_rest", "_type")

    def __init__(self) -> None:
        self._rest = b""                 # the unfinished line
        self._data: list[bytes] = []     # the data lines of the unfinished event
        self._type = b""

    def __repr__(self) -> str:
        return f"<Parser {'between events' if self.between_events else 'inside an event'}>"

    @property
    def between_events(self) -> bool:
        """Whether what was fed ends where an event may begin: nothing is half said."""
        return not (self._rest.strip(b"\r") or self._data or self._type)

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes."""
        text = self._rest + chunk
        # A lone CR at the end may be the first half of CRLF: wait for the next byte before calling it a line end.
        held = b"\r" if text.endswith(b"\r") else b""
        lines = text.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + held
        return [event for line in lines if (event := self._line(line)) is not None]

    def close(self) -> list[Event]:
        """Return what the end of the stream leaves half said, as one event at most."""
        events = self.feed(b"\n\n")
        self._rest = b""
        return events

    def _line(self, line: bytes) -> Event | None:
        if not line:
            data, self._data = self._data, []
            kind, self._type = self._type, b""
            return Event(kind, b"\n".join(data)) if data else None
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._type = value
        return None


def looks_whole(event: Event) -> bool:
    """Say whether an event's data looks like a JSON object, as all providers' does but the mark at the end."""
    return event.data.startswith(b"{") and event.data.endswith(b"}")
