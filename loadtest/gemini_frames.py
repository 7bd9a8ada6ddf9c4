"""Gemini's generateContent wire format as bytes: whole responses, stream chunks, errors. Pure.

Names and order of the keys are those of the API (v1beta as Google's SDK 3.6 reads it). A stream has no end mark: its
last chunk is the one with the finishReason. Left out: safety ratings, grounding, citations, log probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from loadtest.answers import Answer, ToolCall, seeded
from loadtest.frames import BAD_GATEWAY
from loadtest.gemini_rules import call_text
from loadtest.signatures import sign

_Value = dict[str, object]
GARBAGE = b'data: {"candidates": [{"content": \x00 this is not JSON\r\n\r\n'


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call."""

    prompt: int
    candidates: int
    thoughts: int = 0  # not counted in `candidates`
    cached: int = 0  # counted in `prompt`
    pictures: int = 0  # counted in `prompt`

    def as_json(self, said: int | None = None, thought: int | None = None) -> _Value:
        """The usageMetadata; `said` and `thought` stand for what came so far. Zeroes are left out, as protobuf does."""
        candidates = self.candidates if said is None else said
        thoughts = self.thoughts if thought is None else thought
        usage: _Value = {
            "promptTokenCount": self.prompt,
            "cachedContentTokenCount": self.cached,
            "candidatesTokenCount": candidates,
            "totalTokenCount": self.prompt + candidates + thoughts,
            "promptTokensDetails": _by_kind(self.prompt, self.pictures),
            "thoughtsTokenCount": thoughts,
        }
        return {name: value for name, value in usage.items() if value}


@dataclass(frozen=True, slots=True)
class Head:
    """What all the chunks of one response share."""

    id: str
    model: str
    shown: bool = False  # thoughts are part of the answer (`includeThoughts`)


def event(value: object) -> bytes:
    """One server-sent event with a JSON value; Google ends its lines with CRLF."""
    return b"data: " + orjson.dumps(value) + b"\r\n\r\n"


def response(head: Head, answers: Sequence[Answer], usage: Usage) -> bytes:
    """The body of a non-streamed answer, indented as the API indents it."""
    candidates = [
        _candidate(index, _parts(head, index, answer), _REASONS[answer.finish]) for index, answer in enumerate(answers)
    ]
    return orjson.dumps(_response(head, candidates, usage.as_json()), option=orjson.OPT_INDENT_2)


def chunks(head: Head, answers: Sequence[Answer], usage: Usage) -> list[object]:
    """The values of a streamed answer, a token or a call a chunk; the last of each candidate has its finishReason."""
    told = [list(_grown(head, index, answer)) for index, answer in enumerate(answers)]
    values: list[object] = []
    said = thought = 0
    for at in range(max(map(len, told))):
        for candidate, tokens, thoughts in (one[at] for one in told if at < len(one)):
            said, thought = said + tokens, thought + thoughts
            values.append(_response(head, [candidate], usage.as_json(said, thought)))
    values[-1] = values[-1] | {"usageMetadata": usage.as_json()}  # type: ignore[operator]  # a response
    return values


def counted(prompt: int, pictures: int) -> object:
    """The answer to countTokens."""
    return {"totalTokens": prompt, "promptTokensDetails": _by_kind(prompt, pictures)}


def error(status: int, text: str = "", details: object = None, retry_after_s: float = 1.0) -> bytes:
    """The body of a refusal: Google's error object (the 502 is the proxy's in front of it: HTML)."""
    if status == 502:
        return BAD_GATEWAY
    kind, usual = _ERRORS.get(status, _ERRORS[500])
    value: _Value = {"code": status, "message": text or usual, "status": kind}
    if status == 429 and not details:
        details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after_s:g}s"}]
    return orjson.dumps({"error": value | ({"details": details} if details else {})}, option=orjson.OPT_INDENT_2)


def error_frame() -> bytes:
    """What Gemini sends inside a stream that it cannot go on with."""
    return event(orjson.loads(error(503)))


_ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: (
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
    ),
    403: (
        "PERMISSION_DENIED",
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other "
        "form of API consumer identity to call this API.",
    ),
    404: ("NOT_FOUND", "Requested entity was not found."),
    413: ("INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
    429: (
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, head over to: https://ai.google.dev/gemini-api/docs/rate-limits.",
    ),
    500: (
        "INTERNAL",
        "An internal error has occurred. Please retry or report in "
        "https://developers.generativeai.google/guide/troubleshooting",
    ),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
    529: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
}
_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}


def _by_kind(prompt: int, pictures: int) -> list[_Value]:
    kinds = (("TEXT", prompt - pictures), ("IMAGE", pictures))
    return [{"modality": kind, "tokenCount": count} for kind, count in kinds if count]


def _response(head: Head, candidates: list[_Value], usage: _Value) -> _Value:
    return {"candidates": candidates, "usageMetadata": usage, "modelVersion": head.model, "responseId": head.id}


def _candidate(index: int, parts: list[_Value], reason: str = "") -> _Value:
    content: _Value = {"parts": parts} if parts else {}
    ending = {"finishReason": reason} if reason else {}
    return {"content": {**content, "role": "model"}, **ending, "index": index}


def _parts(head: Head, index: int, answer: Answer) -> list[_Value]:
    """The content of a whole answer. The thought's signature is on the text that follows it."""
    parts: list[_Value] = []
    if answer.thoughts and head.shown:
        parts.append({"text": "".join(answer.thoughts), "thought": True})
    if answer.pieces:
        signed = {"thoughtSignature": sign("text")} if answer.thoughts else {}
        parts.append({"text": answer.text, **signed})
    return parts + _calls(head, index, answer)


def _calls(head: Head, index: int, answer: Answer) -> list[_Value]:
    """A part for each call that was finished; the first is signed, whether thoughts were asked for or not."""
    parts: list[_Value] = []
    for at, call in enumerate(answer.calls):
        args = _args(call)
        if args is not None:
            made: _Value = {"id": f"{seeded(head.id, index, at).getrandbits(40):010x}", "name": call.name, "args": args}
            parts.append({"functionCall": made} | ({} if at else {"thoughtSignature": sign(call_text(made))}))
    return parts


def _args(call: ToolCall) -> object:
    """The arguments; None where maxOutputTokens cut them, and Gemini has no half calls."""
    try:
        return orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        return None


def _grown(head: Head, index: int, answer: Answer) -> Iterator[tuple[_Value, int, int]]:
    """The chunks of a candidate, each with how many tokens it says and thinks.

    Text alone ends with its last token. After thoughts and calls comes an empty text, with the thoughts' signature.
    """
    if head.shown:
        for piece in answer.thoughts:
            yield _candidate(index, [{"text": piece, "thought": True}]), 0, 1
    calls = _calls(head, index, answer)
    reason = _REASONS[answer.finish]
    plain = bool(answer.pieces) and not answer.thoughts and not answer.calls
    for at, piece in enumerate(answer.pieces, start=1):
        yield _candidate(index, [{"text": piece}], reason if plain and at == len(answer.pieces) else ""), 1, 0
    for part, call in zip(calls, answer.calls, strict=False):
        yield _candidate(index, [part]), len(call.pieces), 0
    if not plain:
        if not answer.tokens:
            yield _candidate(index, [{"text": ""}]), 0, 0
        signed = {"thoughtSignature": sign("text")} if answer.thoughts and not calls else {}
        yield _candidate(index, [{"text": "", **signed}], reason), 0, 0
