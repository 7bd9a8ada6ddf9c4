"""Gemini as an upstream: where a request goes, and what its answers say.

A stream is a row of whole answers, each with what is new; no frame marks its end. It is complete when a candidate says
why it finished, or when the prompt was blocked, which leaves no candidates. An error may come in any frame.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from gateway.dialects.door import Ending
from gateway.dialects.gemini.fields import DIALECT
from gateway.dialects.gemini.parts import read_part
from gateway.dialects.gemini.usage import searches, usage_of
from gateway.dialects.neutral import (
    Argued,
    Began,
    Call,
    Called,
    Cited,
    Ended,
    Event,
    Failed,
    Finish,
    Media,
    Native,
    Part,
    Said,
    Shown,
    Text,
    Thinking,
    Thought,
    Used,
    whole,
)
from gateway.dialects.reading import objects, string
from gateway.errors import BadRequest
from gateway.pricing import Usage
from gateway.sse import Event as Frame

LAST_FRAMES: tuple[bytes, ...] = ()
VERSIONS = ("v1", "v1alpha", "v1beta")
ID_LENGTH = 31          # of an answer's id, inside those of its calls: OpenAI takes 40 characters for them
UNFINISHED = ("", "FINISH_REASON_UNSPECIFIED")

# A reason that is in neither table is a new one: it is taken for a good end.
FINISHES = {
    "STOP": Finish.STOP, "MAX_TOKENS": Finish.LENGTH, "CONTINUATION": Finish.PAUSE,
    **dict.fromkeys((
        "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "OTHER", "ESCALATION",
        "MODEL_ARMOR", "PUP_LIMITED_DISABLED", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
    ), Finish.FILTER),
}
# What the model began and could not end: an answer only in form, and another attempt may well succeed.
FAILURES = {
    "MALFORMED_FUNCTION_CALL": "The model wrote a function call that cannot be read",
    "UNEXPECTED_TOOL_CALL": "The model called a function that it was not offered",
    "TOO_MANY_TOOL_CALLS": "The model called too many tools",
    "MALFORMED_RESPONSE": "The model wrote an answer that cannot be read",
    "MISSING_THOUGHT_SIGNATURE": "A call in the conversation lacks its thought signature",
    "NO_IMAGE": "The model was to make an image and made none",
    "IMAGE_OTHER": "The model could not make the image",
}
SOURCES = ("citationMetadata", "groundingMetadata", "urlContextMetadata")


def url(base: str, model: str, *, stream: bool) -> str:
    """Where a request goes: below `base`, which may name the API's version or leave it to us."""
    name = quote(model if "/" in model else f"models/{model}", safe="/-._~@:")
    return f"{_root(base)}/{name}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"


def models_url(base: str) -> str:
    """Where the models are listed."""
    return f"{_root(base)}/models"


def _root(base: str) -> str:
    root = base.rstrip("/")
    return root if root.rpartition("/")[2] in VERSIONS else f"{root}/v1beta"


def headers(key: str | None) -> dict[str, str]:
    """How a request is authorised."""
    return {} if key is None else {"x-goog-api-key": key}


class _Candidate:
    """One of the answers that are being written."""

    __slots__ = ("calls", "ended")

    def __init__(self) -> None:
        self.calls = 0
        self.ended = False


class Reader:
    """Reads a stream. What it cannot read it passes over."""

    def __init__(self) -> None:
        self._began = False
        self._id = ""
        self._calls = 0                     # of all candidates
        self._candidates: dict[int, _Candidate] = {}
        self._usage: Usage | None = None
        self._searched = 0                  # the web, so far

    def __repr__(self) -> str:
        return f"<Reader {len(self._candidates)} candidates, {self._calls} calls>"

    def feed(self, frame: Frame) -> list[Event]:
        """Return what one frame says."""
        said = _read(frame.data)
        if said is None:
            return []
        if (message := _error(said)) is not None:
            return [Failed(message)]
        self._searched = max(self._searched, searches(said))
        usage = usage_of(said.get("usageMetadata"), self._searched)
        events: list[Event] = []
        if not self._began:
            self._began, self._id = True, string(said.get("responseId"))
            events.append(Began(self._id, string(said.get("modelVersion")), usage))
        candidates = objects(said.get("candidates"))
        for candidate in candidates:
            events += self._candidate(candidate)
        if not candidates and _blocked(said):
            events += self._ended("SAFETY", 0, None)
        if usage is not None and usage != self._usage:
            self._usage = usage
            events.append(Used(usage))
        return events

    def close(self) -> list[Event]:
        """Return nothing: every frame is whole."""
        return []

    def _candidate(self, candidate: dict[str, Any]) -> list[Event]:
        choice = candidate.get("index")
        choice = choice if isinstance(choice, int) and 0 <= choice < 128 else 0
        content = candidate.get("content")
        events: list[Event] = []
        for part in objects(content.get("parts")) if isinstance(content, dict) else []:
            for read in _parts(part):
                events += self._part(read, choice)
        logprobs = _logprobs(candidate.get("logprobsResult"))
        if logprobs:
            at = next((at for at, event in enumerate(events) if isinstance(event, Said)), None)
            if at is None:
                events.append(Said("", choice, logprobs))
            else:
                events[at] = msgspec.structs.replace(events[at], logprobs=logprobs)
        events += [
            Cited(DIALECT, {name: source}) for name in SOURCES
            if isinstance(source := candidate.get(name), dict) and source
        ]
        reason = string(candidate.get("finishReason"))
        return events + self._ended(reason, choice, candidate.get("finishMessage"))

    def _part(self, part: Part, choice: int) -> list[Event]:
        if isinstance(part, Text):
            return [Said(part.text, choice)] if part.text else []
        if isinstance(part, Thinking):
            return [Thought(part.text, part.signature, part.redacted, DIALECT)]
        if isinstance(part, Media | Native):
            return [Shown(part)]
        if not isinstance(part, Call):
            return []
        candidate = self._candidates.setdefault(choice, _Candidate())
        index, number = candidate.calls, self._calls
        candidate.calls, self._calls = index + 1, number + 1
        call = part.id or self._made_id(number)
        return [Called(index, call, part.name, part.signature, choice), Argued(index, part.arguments, choice)]

    def _made_id(self, number: int) -> str:
        """Return an id for a call without one: the answer's, where it has one, so that no two turns share any."""
        kept = "".join(c for c in self._id if c.isascii() and (c.isalnum() or c in "_-"))[:ID_LENGTH]
        return f"call_{kept}_{number}" if kept else f"call_{number}"

    def _ended(self, reason: str, choice: int, message: object) -> list[Event]:
        candidate = self._candidates.setdefault(choice, _Candidate())
        if reason in UNFINISHED or candidate.ended:
            return []
        candidate.ended = True
        if reason in FAILURES:
            return [Failed(_failure(reason, message))]
        finish = FINISHES.get(reason, Finish.STOP)
        return [Ended(Finish.TOOLS if finish is Finish.STOP and candidate.calls else finish, choice=choice)]


def reader() -> Reader:
    """Begin to read a stream."""
    return Reader()


def read_whole(body: bytes) -> list[Event]:
    """Read a whole answer. Raises ValueError where it is none."""
    said = _read(body)
    if said is None:
        raise ValueError("It is not a JSON object.")
    if not objects(said.get("candidates")) and not _blocked(said) and _error(said) is None:
        raise ValueError("It has no candidates.")
    return whole(Reader().feed(Frame(b"", body)))


def error_of_body(body: bytes) -> str | None:
    """Return the message of an error object, None where the body is none."""
    said = _read(body) if b'"error"' in body[:256] else None
    return None if said is None else _error(said)


def ending_of_stream(frames: Iterable[Frame]) -> Ending:
    """Read the last frames of a stream. It is complete if a candidate finished or there are none to come."""
    finish: str | None = None
    usage: Usage | None = None
    error = called = False
    searched = 0
    for frame in frames:
        said = _read(frame.data) or {}
        called = called or b'"functionCall"' in frame.data
        error = error or _error(said) is not None
        finish = _finish(said) or finish
        searched = max(searched, searches(said))
        usage = usage_of(said.get("usageMetadata"), searched) or usage
    if called and finish == Finish.STOP:
        finish = Finish.TOOLS.value
    return Ending(finish is not None and not error, finish, usage, error)


def ending_of_body(body: bytes) -> Ending:
    """Read a whole answer's end."""
    ending = ending_of_stream([Frame(b"", body)])
    return Ending(complete=True, finish=ending.finish, usage=ending.usage)


def _finish(said: dict[str, Any]) -> str | None:
    reasons = [string(candidate.get("finishReason")) for candidate in objects(said.get("candidates"))]
    reason = next((reason for reason in reasons if reason not in UNFINISHED), None)
    if reason is None:
        return Finish.FILTER.value if not reasons and _blocked(said) else None
    return reason.lower()[:40] if reason in FAILURES else FINISHES.get(reason, Finish.STOP).value


def _read(data: bytes) -> dict[str, Any] | None:
    try:
        said = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(said, list):              # errors come in brackets where no stream of events was asked for
        said = next(iter(said), None)
    return said if isinstance(said, dict) else None


def _error(said: dict[str, Any]) -> str | None:
    error = said.get("error")
    if error is None:
        return None
    message = error.get("message") if isinstance(error, dict) else error
    return message[:500] if isinstance(message, str) else "an error without a message"


def _failure(reason: str, message: object) -> str:
    return f"{FAILURES[reason]}: {message[:300]}" if isinstance(message, str) and message else f"{FAILURES[reason]}."


def _blocked(said: dict[str, Any]) -> bool:
    feedback = said.get("promptFeedback")
    return isinstance(feedback, dict) and bool(feedback.get("blockReason"))


def _parts(part: dict[str, Any]) -> list[Part]:
    try:
        return read_part(part, "")
    except (BadRequest, RecursionError):
        return []


def _logprobs(result: object) -> tuple[dict[str, Any], ...]:
    """Return the tokens of a logprobsResult in OpenAI's form."""
    if not isinstance(result, dict):
        return ()
    others = objects(result.get("topCandidates"))
    tokens = []
    for at, chosen in enumerate(objects(result.get("chosenCandidates"))):
        top = objects(others[at].get("candidates")) if at < len(others) else []
        tokens.append(_token(chosen) | {"top_logprobs": [_token(one) for one in top]})
    return tuple(tokens)


def _token(candidate: dict[str, Any]) -> dict[str, Any]:
    token, logprob = string(candidate.get("token")), candidate.get("logProbability")
    number = float(logprob) if isinstance(logprob, int | float) and abs(logprob) < 1e9 else 0.0
    return {"token": token, "logprob": number, "bytes": list(token.encode())}
