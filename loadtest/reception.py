"""What a client gets: one request on each of the four surfaces, and what came back read as its SDK would. Pure.

Nothing is believed: an event that is not JSON is counted, an end is an end only in the surface's own words, and whether
the connection ended properly is told by whoever read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

SURFACES = ("openai", "responses", "anthropic", "gemini")
_WHOLE = {  # where a whole answer has its text, and why it ended
    "openai": (("choices", 0, "message", "content"), ("choices", 0, "finish_reason")),
    "responses": (("output", 0, "content", 0, "text"), ("status",)),
    "anthropic": (("content", 0, "text"), ("stop_reason",)),
    "gemini": (("candidates", 0, "content", "parts", 0, "text"), ("candidates", 0, "finishReason")),
}
_STREAM = {  # and an event of a stream
    "openai": (("choices", 0, "delta", "content"), ("choices", 0, "finish_reason")),
    "responses": (("delta",), ("response", "status")),
    "anthropic": (("delta", "text"), ("delta", "stop_reason")),
    "gemini": _WHOLE["gemini"],
}
_LAST = {"openai": "", "responses": "response.completed", "anthropic": "message_stop", "gemini": ""}
_GOOD = {"openai": "stop", "responses": "completed", "anthropic": "end_turn", "gemini": "STOP"}
_WRONG = ("error", "response.failed", "response.incomplete")  # types of events


@dataclass(slots=True)
class Seen:
    """What a client saw of one request. Times are seconds on the monotonic clock, which all processes share."""

    number: int
    surface: str
    stream: bool
    prompt: str
    begun: float = 0.0
    status: int = 0  # 0 = no answer at all
    request_id: str = ""
    model: str = ""  # as the gateway named it
    text: str = ""
    finish: str = ""
    last: bool = False  # the surface's own word for the end
    error: str = ""  # told in the surface's form
    unreadable: int = 0  # events, or bodies, that are not what they should be
    ended: bool = False  # properly, as HTTP sees it
    hung: bool = False  # nothing more came, up to the client's own deadline
    broke: str = ""  # what the connection did instead
    first_text: float = 0.0  # when; 0 = never
    over: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether it was told that the answer is over, and well. OpenAI's SDK does not miss a `[DONE]` behind that."""
        return self.finish == _GOOD[self.surface] and (self.last or not self.stream or not _LAST[self.surface])


def asked(surface: str, prompt: str, *, stream: bool) -> tuple[str, bytes]:
    """The path and the body of a request for the route `auto`."""
    said = [{"role": "user", "content": prompt}]
    if surface == "gemini":
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        contents = {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}
        return f"/v1beta/models/auto:{verb}", orjson.dumps(contents)
    surfaces: dict[str, tuple[str, dict[str, object]]] = {
        "openai": ("/v1/chat/completions", {"messages": said}),
        "responses": ("/v1/responses", {"input": prompt}),
        "anthropic": ("/v1/messages", {"messages": said, "max_tokens": 1000}),
    }
    path, body = surfaces[surface]
    return path, orjson.dumps({"model": "auto", **body, **({"stream": True} if stream else {})})


def read(seen: Seen, pieces: Sequence[tuple[float, bytes]]) -> None:
    """Note what the body says; its pieces come with the times at which they arrived."""
    if seen.stream and seen.status == 200:
        for when, event in _events(pieces):
            _read_event(seen, when, event)
    else:
        _read_body(seen, b"".join(piece for _, piece in pieces))


def _events(pieces: Sequence[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """The data of each event, with the time at which it was there."""
    rest, when = b"", 0.0
    for when, piece in pieces:
        *whole, rest = (rest + piece).split(b"\n\n")
        yield from ((when, data) for block in whole if (data := _data(block)))
    if data := _data(rest):
        yield when, data


def _data(block: bytes) -> bytes:
    lines = block.replace(b"\r\n", b"\n").split(b"\n")
    return b"\n".join(line.removeprefix(b"data:").strip(b" ") for line in lines if line.startswith(b"data:"))


def _read_event(seen: Seen, when: float, data: bytes) -> None:
    if data == b"[DONE]":
        seen.last = True
        return
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        seen.unreadable += 1
        return
    if error := _error(event):
        seen.error = error
        return
    where, why = _STREAM[seen.surface]
    kind = event.get("type", "")
    text = _at(event, where) if kind in ("", "response.output_text.delta", "content_block_delta") else None
    if isinstance(text, str) and text:
        seen.text += text
        seen.first_text = seen.first_text or when
    finish = _at(event, why) if kind in ("", "response.completed", "message_delta") else None
    seen.finish = finish if isinstance(finish, str) else seen.finish
    seen.last = seen.last or kind == _LAST[seen.surface] != ""


def _read_body(seen: Seen, body: bytes) -> None:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        seen.unreadable += 1
        return
    seen.error = _error(said)
    where, why = _WHOLE[seen.surface]
    text, finish = _at(said, where), _at(said, why)
    if seen.status != 200 or seen.error:
        seen.unreadable += not seen.error
    elif isinstance(text, str):
        seen.text, seen.finish = text, str(finish)
    else:
        seen.unreadable += 1


def _error(said: Any) -> str:
    """What an error says, in any surface's form; "" for what is none."""
    if not isinstance(said, Mapping):
        return ""
    error = said.get("error") or _at(said, ("response", "error"))
    if isinstance(error, Mapping):
        return str(error.get("message") or "an error without words")
    return str(said.get("message") or "an error without words") if said.get("type") in _WRONG else ""


def _at(value: Any, where: Sequence[str | int]) -> Any:
    """What stands there; None when nothing does."""
    for step in where:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value
