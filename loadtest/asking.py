"""A request in no provider's words: what arrived, what it wants said, and the answer to it. Pure.

Each provider's format (`loadtest.formats`) makes the one into the other and frames the answer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import orjson

from loadtest import answers
from loadtest.answers import Answer, Length, Tool
from loadtest.dials import Dials

THOUGHTS = 12  # tokens of a thought that was asked for, unless the dial `reasoning` says otherwise
_PREFACE = 6  # tokens said before a call that nobody demanded


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as it came: what the handler knows of it."""

    headers: Mapping[str, str]
    body: Mapping[str, object] = field(default_factory=dict)
    fault: str = ""  # why the body is not a JSON object; `body` is then empty
    size: int = 0  # bytes of the body
    query: Mapping[str, str] = field(default_factory=dict)
    model: str = ""  # from the path, where the format has it there
    verb: str = ""  # of the path: "" | stream | count (tokens)
    prefixes: Set[str] = frozenset()  # of prompts that the provider's cache holds


@dataclass(frozen=True, slots=True)
class Want:
    """What a request wants said."""

    said: str  # the last turn; the answer depends on it
    prompt: int  # tokens
    pictures: int = 0  # of them, for images
    streamed: bool = False
    limit: int = 0  # on output tokens; 0 = none
    stops: Sequence[str] = ()
    tools: Sequence[Tool] = ()  # those that may be called
    demanded: bool = False  # one of them must be
    named: bool = False  # the caller said which
    parallel: bool = True  # several may be called at once
    answered: bool = False  # the last turn brought what tools returned
    json: bool = False
    schema: Mapping[str, object] | None = None  # of the JSON
    thinks: bool = False
    unseen: int = 0  # tokens thought without showing them
    choices: int = 1
    cached: int = 0  # prompt tokens read from the provider's cache
    stored: Mapping[str, int] = field(default_factory=dict)  # prompt tokens written to it, by time to live
    prefixes: frozenset[str] = frozenset()  # of the prompt, written to it with the answer


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that has been understood, under its dials."""

    arrived: Arrived
    want: Want
    model: str  # without its dials
    dials: Dials
    rng: random.Random = field(repr=False)

    @property
    def unseen(self) -> int:
        """Tokens thought without showing them: as dialled, or as the request suggests."""
        return self.dials.reasoning_tokens or self.want.unseen


@dataclass(frozen=True, slots=True)
class Moment:
    """When and as which of all requests this one is answered; ids and headers are made of it."""

    serial: int
    now: int  # Unix seconds
    spent_ms: int = 0

    def unique(self, *parts: object, bits: int = 80) -> str:
        """Hexadecimal digits: distinct for each request, and the same in every run."""
        digits = bits // 4
        return f"{answers.seeded(*parts, self.serial).getrandbits(bits):0{digits}x}"


class RefusalError(Exception):
    """The provider refuses the request. Without a message, in the provider's usual words for the status."""

    def __init__(
        self, status: int, message: str = "", *, param: str = "", code: str = "", details: object = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param  # OpenAI's: which parameter is at fault
        self.code = code  # OpenAI's
        self.details = details  # Google's
        self.retry_after_s = 1.0


def decoded(raw: bytes) -> tuple[Mapping[str, object], str]:
    """The body as a JSON object, or an empty one and why not."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as fault:
        return {}, str(fault)
    return (body, "") if isinstance(body, dict) else ({}, "not an object")


def answer(ask: Ask) -> Answer:
    """One answer: calls or JSON where the request demands them, else prose; thoughts first where they are wanted."""
    want, dials = ask.want, ask.dials
    if dials.fault == "role-only":
        return Answer([])
    thoughts: Sequence[str] = ()
    if want.thinks:
        length = Length(exact=dials.reasoning or THOUGHTS)
        thoughts = answers.prose(ask.model, answers.seeded(dials.seed, "thought", want.said), length).pieces
    left = want.limit - len(thoughts) - ask.unseen
    if want.limit and left <= 0:
        return Answer([], "length", thoughts=thoughts[: want.limit])
    return replace(_said(ask, Length(exact=dials.tokens, limit=left if want.limit else 0)), thoughts=thoughts)


def _said(ask: Ask, length: Length) -> Answer:
    want = ask.want
    tools = _called(want, ask.dials.calls)
    if tools:
        preface = None if want.demanded else answers.prose(ask.model, ask.rng, Length(exact=_PREFACE))
        return answers.tool_answer(tools, length, preface)
    if want.json:
        return answers.json_answer(want.schema, length)
    told = answers.prose(ask.model, ask.rng, length, multibyte=ask.dials.multibyte)
    return answers.stopped(told, want.stops)


def _called(want: Want, dialled: int) -> Sequence[Tool]:
    """The tools to call, in turn when there are fewer than calls. Where nobody demands one, the model rather talks."""
    wanted = dialled if want.parallel else min(1, dialled)
    if want.demanded:
        wanted = max(1, wanted)
    elif dialled < 2 or want.answered:
        return ()
    return [want.tools[at % len(want.tools)] for at in range(wanted)] if want.tools else ()
