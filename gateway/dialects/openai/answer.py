"""What an upstream's Chat Completions answer says, whole or streamed, and how it ends.

Wire format: platform.openai.com/docs/api-reference/chat (streaming; error objects), read 2026-11. Compatible servers
leave fields out, send a call in one piece, number nothing: what can be understood is understood.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.dialects.door import Ending
from gateway.dialects.neutral import OPENAI as DIALECT
from gateway.dialects.neutral import (
    Argued,
    Began,
    Called,
    Cited,
    Ended,
    Event,
    Failed,
    Finish,
    Refused,
    Said,
    Thought,
    Used,
)
from gateway.pricing import Usage
from gateway.sse import Event as Frame
from gateway.sse import Parser

DONE = b"[DONE]"
LAST_FRAMES: tuple[bytes, ...] = (b"data: [DONE]\n\n", b"data: [DONE]\r\n\r\n", b"data:[DONE]\n\n")
MOST_TOKENS = 2**40
FINISHES = {
    "stop": Finish.STOP, "length": Finish.LENGTH, "tool_calls": Finish.TOOLS, "function_call": Finish.TOOLS,
    "content_filter": Finish.FILTER, "max_tokens": Finish.LENGTH, "eos": Finish.STOP,
}


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Output(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Output | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    """A chunk of a stream or a whole completion, as far as accounting looks at it."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_chunk = msgspec.json.Decoder(_Chunk)


def url(base: str, model: str, *, stream: bool) -> str:  # noqa: ARG001 - other dialects have both in the path
    """Where a request goes."""
    return base.rstrip("/") + "/chat/completions"


def headers(key: str | None) -> dict[str, str]:
    """How it is authorised."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def ending_of_stream(frames: Iterable[Frame]) -> Ending:
    """Read the last events of a stream. It is complete if it said `[DONE]` or why it finished."""
    done = error = False
    finish: str | None = None
    usage: Usage | None = None
    for frame in frames:
        if frame.data == DONE:
            done = True
            continue
        chunk = _read(frame.data)
        if chunk is None:
            continue
        error = error or chunk.error is not None
        finish = next((c.finish_reason for c in chunk.choices if c.finish_reason), finish)
        usage = _usage(chunk.usage) or usage
    return Ending(complete=(done or finish is not None) and not error, finish=finish, usage=usage, error=error)


def error_of_first(chunk: bytes) -> str | None:
    """Return the message of an answer that begins with an error frame, None for one that begins well."""
    if b'"error"' not in chunk[:256]:
        return None
    first = next(iter(Parser().feed(chunk)), None)
    said = _read(first.data) if first else None
    return None if said is None or said.error is None else _message(said.error)


def error_of_body(body: bytes) -> str | None:
    """Return the message of an error object, None where the body is none."""
    said = _read(body) if b'"error"' in body[:256] else None
    return None if said is None or said.error is None else _message(said.error)


def ending_of_body(body: bytes) -> Ending:
    """Read a whole completion."""
    chunk = _read(body)
    if chunk is None:
        return Ending(complete=True)     # not ours to judge: the caller gets the bytes as they are
    finish = next((c.finish_reason for c in chunk.choices if c.finish_reason), None)
    return Ending(complete=True, finish=finish, usage=_usage(chunk.usage))


class _ToolDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: "_FunctionDelta | None" = None


class _FunctionDelta(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Logprobs(msgspec.Struct):
    content: list[dict[str, Any]] | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolDelta] | None = None
    function_call: _FunctionDelta | None = None
    annotations: list[dict[str, Any]] | None = None


class _Said(msgspec.Struct):
    """A choice of a chunk, which has a delta, or of a whole answer, which has a message."""

    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Said] = []
    usage: _Usage | None = None
    error: Any = None


_answer = msgspec.json.Decoder(_Answer)


class _Reader:
    """Reads chunks; a whole answer is one of them."""

    def __init__(self) -> None:
        self._begun = False
        self._calls: dict[tuple[int, int | str], int] = {}       # (choice, its number or id there) → our index
        self._last: dict[int, int] = {}                          # choice → the call spoken of last
        self._ended: set[int] = set()

    def __repr__(self) -> str:
        return f"<Reader {len(self._calls)} calls, {len(self._ended)} ended>"

    def feed(self, frame: Frame) -> list[Event]:
        """Return what one frame says."""
        try:
            return self.read(_answer.decode(frame.data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []

    def close(self) -> list[Event]:
        """Return nothing: every chunk speaks for itself."""
        return []

    def read(self, chunk: _Answer) -> list[Event]:
        """Return what a chunk says."""
        if chunk.error is not None:
            return [Failed(_message(chunk.error))]
        events: list[Event] = []
        if not self._begun:
            self._begun = True
            events.append(Began(chunk.id or "", chunk.model or ""))
        for said in chunk.choices:
            events += self._said(said)
        if (usage := _usage(chunk.usage)) is not None:
            events.append(Used(usage))
        return events

    def _said(self, said: _Said) -> list[Event]:
        delta, choice = said.delta or said.message or _Delta(), said.index
        events: list[Event] = []
        if thought := delta.reasoning_content or delta.reasoning:
            events.append(Thought(thought, dialect=DIALECT))
        tokens = tuple((said.logprobs and said.logprobs.content) or ())
        if delta.content or tokens:
            events.append(Said(delta.content or "", choice, tokens))
        if delta.refusal:
            events.append(Refused(delta.refusal, choice))
        events += (Cited(DIALECT, note) for note in delta.annotations or ())
        for place, call in enumerate(delta.tool_calls or ()):
            events += self._called(choice, call, place)
        if delta.function_call is not None:
            old = _ToolDelta(0, delta.function_call.name, delta.function_call)
            events += self._called(choice, old, 0)
        if said.finish_reason and choice not in self._ended:
            self._ended.add(choice)
            reason = FINISHES.get(said.finish_reason, Finish.STOP)
            # OpenAI says "stop" where the caller named the tool
            calls = reason is Finish.STOP and any(of == choice for of, _ in self._calls)
            events.append(Ended(Finish.TOOLS if calls else reason, choice=choice))
        return events

    def _called(self, choice: int, call: _ToolDelta, place: int) -> list[Event]:
        """Say that a call begins, where it is a new one, and what is new of its arguments."""
        function = call.function or _FunctionDelta()
        index = self._index(choice, call, function)
        events: list[Event] = []
        if index is None:
            key: int | str = call.index if call.index is not None else call.id or f"place {len(self._calls) + place}"
            index = self._calls[choice, key] = sum(of == choice for of, _ in self._calls)
            events.append(Called(index, call.id or f"call_{index}", function.name or "", choice=choice))
        self._last[choice] = index
        if function.arguments:
            events.append(Argued(index, function.arguments, choice))
        return events

    def _index(self, choice: int, call: _ToolDelta, function: _FunctionDelta) -> int | None:
        """Return the index of a call that is known already. One without number or id goes on with the last."""
        if call.index is not None:
            return self._calls.get((choice, call.index))
        if call.id is not None:
            return self._calls.get((choice, call.id))
        return None if function.name else self._last.get(choice)


def reader() -> _Reader:
    """Begin to read a stream."""
    return _Reader()


def read_whole(body: bytes) -> list[Event]:
    """Read a whole answer. Raises ValueError where it is none."""
    try:
        answer = _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is no chat completion: {error}") from None
    if answer.error is not None or not answer.choices:
        raise ValueError("it has no choices")
    return _Reader().read(answer)


def _message(error: Any) -> str:
    said = error.get("message") if isinstance(error, dict) else error
    return said[:500] if isinstance(said, str) else "an error without a message"


def _read(data: bytes) -> _Chunk | None:
    try:
        return _chunk.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    thought = usage.completion_tokens_details.reasoning_tokens if usage.completion_tokens_details else None
    return Usage(
        _count(usage.prompt_tokens), _count(usage.completion_tokens), _count(cached or 0), 0, _count(thought or 0)
    )


def _count(tokens: int) -> int:
    """Return a number of tokens that can be one: less than none would make money of an answer, 10^400 breaks a sum."""
    return min(max(tokens, 0), MOST_TOKENS)
