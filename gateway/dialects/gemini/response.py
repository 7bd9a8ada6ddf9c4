"""Gemini as a surface: answers and errors in the words of generateContent.

Every frame of a stream is a whole answer with what is new. Calls are whole in Gemini, so their arguments are held until
they are. The reason for finishing is held until the usage is known, and goes out in one frame with it, as Google's own
last frame has them: its SDKs take the usage of the last frame.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from gateway.dialects.gemini.fields import DIALECT
from gateway.dialects.gemini.parts import FOREIGN, write_media
from gateway.dialects.gemini.usage import worded
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
from gateway.dialects.reading import arguments_of, object_of, pages
from gateway.errors import GatewayError
from gateway.pricing import Usage

FINISHES = {
    Finish.STOP: "STOP", Finish.SEQUENCE: "STOP", Finish.TOOLS: "STOP", Finish.LENGTH: "MAX_TOKENS",
    Finish.FILTER: "SAFETY", Finish.REFUSAL: "SAFETY",
    Finish.PAUSE: "MAX_TOKENS",     # Google's CONTINUATION would have its SDK ask again with a token that we lack
}
STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 408: "CANCELLED",
    409: "ABORTED", 413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL",
    501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED", 529: "UNAVAILABLE",
}
DETAIL = "type.googleapis.com/google.rpc.ErrorInfo"

Words = dict[str, Any]


class _Choice:
    """One answer that is being written."""

    __slots__ = ("called", "calls", "extra", "finish", "logprobs", "parts", "seal", "sources")

    def __init__(self) -> None:
        # for the next frame
        self.parts: list[Words] = []
        self.extra: Words = {}
        self.logprobs: list[Words] = []
        self.seal: str | None = None            # a signature for the part that comes
        self.called = False                     # only an answer's first call needs a signature
        # until the end
        self.calls: dict[int, tuple[Called, list[str]]] = {}
        self.sources: list[Words] = []
        self.finish: str | None = None

    def say(self, text: str, *, thought: bool = False) -> None:
        """Add text to the part before it, where that is of its kind."""
        if not text:
            return
        kind: Words = {"thought": True} if thought else {}
        last = self.parts[-1] if self.parts and self.seal is None else {}
        if last.keys() == {"text", *kind}:
            last["text"] += text
        else:
            self.add({"text": text, **kind})

    def add(self, part: Words) -> None:
        """Add a part, under the seal that waits for one; on a thought or a call it would say something else."""
        seal, self.seal = self.seal, None
        if seal and part.keys() & {"thought", "functionCall", "thoughtSignature"}:
            self.parts.append({"text": "", "thoughtSignature": seal})
            seal = None
        self.parts.append({**part, "thoughtSignature": seal} if seal else part)

    def settle(self, *, all_of_them: bool = False) -> None:
        """Say the calls whose arguments are whole, in order."""
        while self.calls:
            index, (call, arguments) = next(iter(self.calls.items()))
            text = "".join(arguments)
            if not all_of_them and object_of(text) is None:
                return
            del self.calls[index]
            sealed = call.signature or (None if self.called else FOREIGN)
            signature, self.called = {"thoughtSignature": sealed} if sealed else {}, True
            self.add({"functionCall": {"id": call.id, "name": call.name, "args": arguments_of(text)}, **signature})

    def taken(self, index: int, finish: str | None) -> Words | None:
        """Return what is new as a candidate, None where nothing is."""
        if self.seal:
            self.add({"text": ""})
        words: Words = {"content": {"parts": self.parts, "role": "model"}} if self.parts else {}
        if finish is not None:
            words["finishReason"] = finish
        words |= self.extra
        if self.logprobs:
            words["logprobsResult"] = _logprobs(self.logprobs)
        self.parts, self.extra, self.logprobs = [], {}, []
        return {**words, "index": index} if words else None


class Writer:
    """Writes a stream, one frame for what it is given at a time."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        reasoning = asked.conversation.reasoning
        self._thoughts = reasoning is not None and reasoning.shown not in (None, "none")
        self._choices: dict[int, _Choice] = {}
        self._usage: Usage | None = None
        self._counted = False               # since the last frame, and not only at the beginning
        self._told: Usage | None = None

    def __repr__(self) -> str:
        return f"<Writer {len(self._choices)} candidates, {self._usage}>"

    def feed(self, events: Iterable[Event]) -> bytes:
        """Return the frame that says `events`; empty where there is nothing to say yet."""
        self.take(events)
        ended = any(choice.finish is not None for choice in self._choices.values())
        return _frame(self._piece(finished=ended and self._counted))

    def close(self) -> bytes:
        """Return the frame that ends the stream well; empty where it was the last one."""
        return _frame(self.rest())

    def take(self, events: Iterable[Event]) -> None:
        """Take in what is to be said."""
        for event in events:
            if isinstance(event, Began | Used):
                self._usage = event.usage or self._usage
                self._counted = self._counted or isinstance(event, Used)
            else:
                choice = self._choices.setdefault(getattr(event, "choice", 0), _Choice())
                self._take(event, choice)

    def rest(self) -> Words | None:
        """Return all that is left to say."""
        for choice in self._choices.values():
            choice.settle(all_of_them=True)
        return self._piece(finished=True)

    def _piece(self, *, finished: bool) -> Words | None:
        candidates = []
        for index, choice in sorted(self._choices.items()):
            finish, choice.finish = (choice.finish, None) if finished else (None, choice.finish)
            if (words := choice.taken(index, finish)) is not None:
                candidates.append(words)
        if not candidates and not (finished and self._usage != self._told):
            return None
        self._told, self._counted = self._usage, False
        said: Words = {"candidates": candidates} if candidates else {}
        if self._usage is not None:
            said["usageMetadata"] = worded(self._usage)
        return {**said, "modelVersion": self._asked.model, "responseId": self._asked.id}

    def _take(self, event: Event, choice: _Choice) -> None:
        if isinstance(event, Argued):
            if event.index in choice.calls:
                choice.calls[event.index][1].append(event.text)
            return
        choice.settle(all_of_them=isinstance(event, Ended))
        if isinstance(event, Said | Refused):
            choice.say(event.text)
            choice.logprobs += event.logprobs if isinstance(event, Said) else ()
        elif isinstance(event, Thought):
            self._thought(event, choice)
        elif isinstance(event, Called):
            choice.calls[event.index] = event, []
        elif isinstance(event, Ended):
            choice.finish = FINISHES[event.reason]
            if choice.sources:
                choice.extra["groundingMetadata"] = {"groundingChunks": choice.sources}
        else:
            _add(event, choice)

    def _thought(self, event: Thought, choice: _Choice) -> None:
        """Add a thought where they were asked for; a seal of another provider's would be refused by Google later."""
        own = event.dialect == DIALECT
        text = event.text if self._thoughts else ""
        if own and event.redacted:
            choice.add({"text": "", "thoughtSignature": event.redacted})
        elif own and event.signature and text:
            choice.add({"text": text, "thought": True, "thoughtSignature": event.signature})
        elif own and event.signature:
            choice.seal = event.signature
        else:
            choice.say(text, thought=True)


def _add(event: Event, choice: _Choice) -> None:
    """Add what stands beside the text. A stream's failure is told by whoever sends it, in `error_event`."""
    if isinstance(event, Cited) and event.dialect == DIALECT:
        choice.extra |= event.value
    elif isinstance(event, Cited):
        choice.sources += (
            {"web": {"uri": page.address, **({"title": page.title} if page.title else {})}}
            for page in pages(event.value)
        )
    elif isinstance(event, Shown):
        part = event.part
        words = write_media(part) if isinstance(part, Media) else part.value if part.dialect == DIALECT else None
        if words is not None:
            choice.add(words)


def writer(asked: Asked) -> Writer:
    """Begin a stream."""
    return Writer(asked)


def write_whole(asked: Asked, events: Iterable[Event]) -> bytes:
    """Word a whole answer. Raises ValueError for one that failed."""
    said = whole(events)
    written = Writer(asked)
    written.take(said)
    return msgspec.json.encode(written.rest() or {"candidates": []})


def _logprobs(tokens: Sequence[Mapping[str, Any]]) -> Words:
    said: Words = {"chosenCandidates": [_token(token) for token in tokens]}
    if any(token.get("top_logprobs") for token in tokens):
        said["topCandidates"] = [
            {"candidates": [_token(one) for one in token.get("top_logprobs") or ()]} for token in tokens
        ]
    return said


def _token(token: Mapping[str, Any]) -> Words:
    return {"token": token.get("token", ""), "logProbability": token.get("logprob", 0.0)}


def _frame(said: Words | None) -> bytes:
    return b"" if said is None else b"data: " + msgspec.json.encode(said) + b"\n\n"


def error_body(error: GatewayError, request_id: str, attempts: Sequence[Mapping[str, Any]]) -> bytes:
    """Word an error as a google.rpc.Status; what it has no field for stands in its details, as strings."""
    known = {"request_id": request_id, "type": error.kind, "param": error.param, "code": error.code}
    metadata = {name: value for name, value in known.items() if value}
    if attempts:
        metadata["attempts"] = orjson.dumps([dict(attempt) for attempt in attempts]).decode()
    detail = {
        "@type": DETAIL, "reason": (error.code or error.kind).upper(), "domain": "thriftgate", "metadata": metadata
    }
    other = "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL"
    said = {
        "code": error.status, "message": error.message, "status": STATUSES.get(error.status, other), "details": [detail]
    }
    return orjson.dumps({"error": said})


def error_event(error: GatewayError, request_id: str, *, mid_event: bool) -> bytes:
    """Return the frame that ends a broken stream honestly; one cut inside an event is closed first."""
    return (b"\n\n" if mid_event else b"") + b"data: " + error_body(error, request_id, []) + b"\n\n"
