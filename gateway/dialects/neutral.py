"""The neutral conversation: what a request of any dialect is read into, and an answer's events likewise. Values only.

A dialect reads and writes these and knows no other dialect. Nothing here is sent anywhere: where the caller and the
upstream speak the same dialect, the bytes pass and none of this is made.

Rule: a field is here when two dialects can say it. What only one can say stays with it as `Native`, or among
`Conversation.others` by its own name, and `Losses` says what becomes of it on another's wire: refused with a 400 that
names it, or left out and logged. Nothing is left out in silence.
"""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

from gateway.errors import Inexpressible
from gateway.pricing import Usage

OPENAI, RESPONSES, ANTHROPIC, GEMINI = "openai", "responses", "anthropic", "gemini"


class Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """A frozen value; two with equal fields are equal."""


class Text(Value, frozen=True):
    """Words, of whoever's turn it is."""

    text: str
    cache: str | None = None                # a prompt-cache mark behind it: how long it lives ("5m", "1h")
    citations: tuple[dict[str, Any], ...] = ()    # as the answering dialect gave them


class Media(Value, frozen=True):
    """An image, a sound or a document: its data in base64, or where it lies."""

    kind: str                               # image, audio, file
    type: str | None = None                 # "image/png", "application/pdf"; None where the dialect does not say
    data: str | None = None
    url: str | None = None
    file_id: str | None = None              # uploaded to one provider: no other can read it
    name: str | None = None
    detail: str | None = None               # low, high, auto
    cache: str | None = None


class Call(Value, frozen=True):
    """The assistant calls a tool. `arguments` is JSON text as the model wrote it, whole or broken."""

    id: str
    name: str
    arguments: str
    signature: str | None = None            # the thinking behind it, sealed by its provider
    cache: str | None = None


class Result(Value, frozen=True):
    """What a tool gave back, in a user's turn. `name` where the dialect goes by names."""

    id: str
    parts: tuple["Text | Media | Native", ...]
    name: str | None = None
    error: bool = False
    cache: str | None = None


class Thinking(Value, frozen=True):
    """What the model thought, as far as it is shown. Sealed parts are of use to `dialect` alone."""

    dialect: str
    text: str = ""
    signature: str | None = None
    redacted: str | None = None             # sealed whole: there is no text
    id: str | None = None


class Refusal(Value, frozen=True):
    """The assistant's words for "no", where a dialect keeps them apart from text."""

    text: str


class Native(Value, frozen=True):
    """What one dialect alone can say, as it said it."""

    dialect: str
    value: dict[str, Any]


Part: TypeAlias = Text | Media | Call | Result | Thinking | Refusal | Native


class Turn(Value, frozen=True):
    """One turn. Tool results stand in user turns; a system turn may stand anywhere."""

    role: str                               # system, user, assistant
    parts: tuple[Part, ...]
    name: str | None = None
    developer: bool = False                 # a system turn that its dialect called `developer`


class Tool(Value, frozen=True):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None      # a JSON schema
    strict: bool | None = None
    cache: str | None = None


class Choice(Value, frozen=True):
    """Which tool must be called."""

    mode: str = "auto"                      # auto, none, any, one
    name: str | None = None                 # of the one
    names: tuple[str, ...] = ()             # the only ones allowed, for any and auto


class Output(Value, frozen=True):
    """What form the answer must have."""

    kind: str                               # json, schema
    schema: dict[str, Any] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class Reasoning(Value, frozen=True):
    """How much the model may think, and whether it shows it."""

    effort: str | None = None               # none, minimal, low, medium, high, xhigh, max
    budget: int | None = None               # tokens; -1: as it sees fit, 0: not at all
    shown: str | None = None                # none, auto, concise, detailed


class Conversation(Value, frozen=True):
    """A request, whoever sent it."""

    turns: tuple[Turn, ...]
    tools: tuple[Tool | Native, ...] = ()
    choice: Choice | None = None
    parallel: bool | None = None            # several calls in one turn
    output: Output | None = None
    reasoning: Reasoning | None = None
    max_output: int | None = None           # tokens
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    n: int | None = None
    logprobs: int | None = None             # how many alternatives a token; None: not asked for
    user: str | None = None
    metadata: dict[str, Any] | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    stream: bool = False
    usage_in_stream: bool = False           # asked for by name; most dialects give it anyway
    others: Mapping[str, Any] = {}          # fields that only the caller's dialect has, by its names for them


MOST_KEPT = 40              # losses that a header can name
_name = re.compile("[ -~]{1,80}")


class Losses:
    """What becomes of the fields that another dialect cannot express; `dialect` is the one that is written.

    `kept` collects what was left out, for the log and the response's header.
    """

    def __init__(self, dialect: str, table: Mapping[str, str]) -> None:
        self.dialect = dialect
        self.table = table                  # field → "drop" or "refuse"; see dialects.table
        self.kept: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"<Losses {self.dialect} {', '.join(self.kept) or 'none'}>"

    def lose(self, field: str, param: str | None = None) -> None:
        """Leave `field` out, or raise Inexpressible where the table says that it matters too much."""
        if self.table.get(field, "drop") == "refuse":
            raise Inexpressible(
                f"`{param or field}` cannot be expressed in the dialect of the model this goes to ({self.dialect}). "
                "Leave it out, or name a model whose upstream speaks your dialect.",
                param=param or field,
            )
        self.note(field)

    def note(self, field: str) -> None:
        """Keep a loss that matters to nobody. A caller's own name for a field may be unfit for a header."""
        fit = _name.fullmatch(field) is not None and len(self.kept) < MOST_KEPT
        self.kept[field if fit or field in self.kept else "others"] = None


# ---- an answer, as events; a whole answer is all of them at once


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    SEQUENCE = "sequence"                   # one of the caller's stop sequences
    LENGTH = "length"
    TOOLS = "tools"
    FILTER = "filter"                       # a safety system cut it
    REFUSAL = "refusal"                     # the model itself would not
    PAUSE = "pause"                         # a long turn that the caller may have continued


class Began(Value, frozen=True):
    """The answer begins."""

    id: str = ""
    model: str = ""
    usage: Usage | None = None              # as far as it is known by then


class Said(Value, frozen=True):
    """More text. `choice` counts the answers where several were asked for."""

    text: str
    choice: int = 0
    logprobs: tuple[dict[str, Any], ...] = ()     # a token each, in OpenAI's form


class Refused(Value, frozen=True):
    """More of a refusal in words."""

    text: str
    choice: int = 0


class Thought(Value, frozen=True):
    """More thinking. A signature seals what was thought since the last one; `redacted` is a block of its own."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    dialect: str = ""


class Called(Value, frozen=True):
    """A tool call begins; `index` counts the calls of the answer from 0."""

    index: int
    id: str
    name: str
    signature: str | None = None
    choice: int = 0


class Argued(Value, frozen=True):
    """More of a call's arguments, JSON text."""

    index: int
    text: str
    choice: int = 0


class Cited(Value, frozen=True):
    """A source for the text before it, in the form of `dialect`."""

    dialect: str
    value: dict[str, Any]


class Shown(Value, frozen=True):
    """A whole part of an answer that is neither text nor call: an image, a provider's own block."""

    part: Media | Native


class Ended(Value, frozen=True):
    """One choice is finished."""

    reason: Finish
    sequence: str | None = None             # the stop sequence that was met
    choice: int = 0


class Used(Value, frozen=True):
    """What the answer used, all in all; a later one replaces an earlier."""

    usage: Usage


class Failed(Value, frozen=True):
    """The upstream ended its answer with an error."""

    message: str
    kind: str = "upstream_error"


def whole(events: Iterable["Event"]) -> list["Event"]:
    """Return the events of a whole answer. Raises ValueError for one that failed."""
    said = list(events)
    failed = next((event for event in said if isinstance(event, Failed)), None)
    if failed is not None:
        raise ValueError(failed.message)
    return said


Event: TypeAlias = Began | Said | Refused | Thought | Called | Argued | Cited | Shown | Ended | Used | Failed


class Asked(Value, frozen=True):
    """What a surface must know of the request to word the answer to it."""

    id: str                                 # of the answer, without a dialect's prefix
    model: str                              # as the caller named it
    created: int                            # seconds since 1970
    conversation: Conversation
