"""From the caller's dialect to the upstream's and back. Pure; where both are the same the bytes pass unread.

Else the request is read into the neutral conversation once, whatever the number of targets; the answer's bytes become
events and the events the caller's bytes, chunk by chunk.
"""

import re
from functools import cached_property

import msgspec

from gateway.dialects.door import Ending, Surface, Upstream
from gateway.dialects.neutral import (
    ANTHROPIC,
    Argued,
    Asked,
    Began,
    Called,
    Conversation,
    Ended,
    Event,
    Failed,
    Losses,
    Refused,
    Said,
    Shown,
    Text,
    Tool,
    Turn,
    Used,
)
from gateway.dialects.register import SURFACES, UPSTREAMS
from gateway.errors import Inexpressible
from gateway.pricing import Usage
from gateway.sse import DONE, Parser, looks_whole
from gateway.sse import Event as Frame
from gateway.wire import ChatRequest, counting

# How a surface marks thinking that another dialect's provider sealed, where its own provider would refuse it.
# A quote behind a backslash is one in somebody's words.
FOREIGN_SEALS = {ANTHROPIC: (b'"thriftgate.', re.compile(rb'(?<!\\)"thriftgate\.'))}

WHOLE_ONLY = (Called, Argued, Refused, Said, Shown)     # what cannot be continued half; Said: of a further choice


def passes(request: ChatRequest, dialect: str) -> bool:
    """Say whether the bytes pass as they came: the caller's dialect, and a history that its provider would take."""
    if dialect != request.surface or dialect not in FOREIGN_SEALS:
        return dialect == request.surface
    mark, exact = FOREIGN_SEALS[dialect]
    return mark not in request.raw or exact.search(request.raw) is None      # the first is quick, and mostly enough


class Translator:
    """One request, ready to be worded for any upstream."""

    def __init__(self, request: ChatRequest, answer_id: str, created: int) -> None:
        self.request = request
        self.surface: Surface = SURFACES[request.surface]
        self._answer_id = answer_id
        self._created = created
        self.said = ""          # by another model, whose answer broke off: the request then ends with it

    def __repr__(self) -> str:
        return f"<Translator from {self.request.surface}>"

    @cached_property
    def conversation(self) -> Conversation:
        """The request in neutral words. Raises BadRequest with the field at fault."""
        read = self.surface.read_request(self.request.raw, self.request.model)
        return msgspec.structs.replace(read, stream=self.request.stream)      # which Gemini has in the path

    @property
    def asked(self) -> Asked:
        """What the answer's wording needs to know of the request."""
        return Asked(self._answer_id, self.request.model, self._created, self.conversation)

    def body_for(self, dialect: str, name: str, *, counted: bool = True) -> tuple[bytes, tuple[str, ...]]:
        """Return the body for a model called `name`, and which fields were left out of it.

        A stream is asked what it used; not with `counted` false, for a server that does not know how. Raises
        Inexpressible where `dialect` lacks what is asked for.
        """
        if passes(self.request, dialect) and not self.said:
            body = self.request.body_for(name)
            return counting.asking(body) if counted and not self.request.counted else body, ()
        if self.request.kind != "chat":
            raise Inexpressible(
                f"{self.request.kind} are passed through to upstreams that speak OpenAI's dialect; "
                f"{self.request.model!r} is at one that speaks {dialect}.", param="model",
            )
        upstream = UPSTREAMS[dialect]
        losses = Losses(dialect, upstream.LOSSES)
        conversation = _offering_what_there_is(self.conversation, dialect, losses)
        if self.said:
            begun = Turn("assistant", (Text(self.said),))
            conversation = msgspec.structs.replace(conversation, turns=(*conversation.turns, begun))
        body = upstream.write_request(conversation, name, losses)
        if self.request.stream and not counted:
            body = counting.unasking(body)
        return body, tuple(losses.kept)


def _offering_what_there_is(conversation: Conversation, dialect: str, losses: Losses) -> Conversation:
    """Leave out the tools that another provider alone has, where the model still has functions to choose from.

    Agents offer hosted tools beside their own whether or not they need them; one that offers nothing else, or forces
    one, asked for it, and is refused when the request is worded.
    """
    there = tuple(tool for tool in conversation.tools if isinstance(tool, Tool) or tool.dialect == dialect)
    if len(there) == len(conversation.tools) or not any(isinstance(tool, Tool) for tool in there):
        return conversation
    losses.note("tool.native")
    return msgspec.structs.replace(conversation, tools=there)


class Translation:
    """A stream on its way from one dialect to another."""

    def __init__(self, upstream: Upstream, surface: Surface, asked: Asked, *, keeps: bool = False) -> None:
        self._parser = Parser()
        self._reader = upstream.reader()
        self._writer = surface.writer(asked)
        self._said: list[str] | None = [] if keeps else None    # None: nobody asks, or more than text: not continued
        self._lead = ""                         # white space that was said and is not said again
        self._goes_on = False
        self._finish: str | None = None
        self._usage: Usage | None = None
        self.failed: str | None = None      # the upstream's words for why it broke off
        self.unreadable = 0                 # events that are no objects

    def __repr__(self) -> str:
        return f"<Translation {self._finish or 'running'}>"

    def feed(self, chunk: bytes) -> bytes:
        """Return the caller's bytes for the upstream's; empty where they say nothing yet."""
        events = [event for frame in self._parser.feed(chunk) for event in self._read(frame)]
        return self._writer.feed(self._noted(events)) if events else b""

    def close(self) -> bytes:
        """Return what ends the stream well."""
        events = [event for frame in self._parser.close() for event in self._reader.feed(frame)]
        return self._writer.feed(self._noted([*events, *self._reader.close()])) + self._writer.close()

    @property
    def said(self) -> str:
        """The text so far, where there is nothing else and it is not finished; else empty."""
        return "" if self._said is None or self._finish is not None else "".join(self._said)

    def go_on(self, upstream: Upstream) -> None:
        """Take what follows from another answer, which continues this one."""
        self._parser, self._reader = Parser(), upstream.reader()
        text, self._goes_on = self.said, True
        self._lead = text[len(text.rstrip()):]
        self._usage, self.failed = None, None

    @property
    def ending(self) -> Ending:
        """How the answer ended, as far as it has."""
        return Ending(self._finish is not None and self.failed is None, self._finish, self._usage)

    def _read(self, frame: Frame) -> list[Event]:
        events = self._reader.feed(frame)
        if not events and frame.data != DONE and not looks_whole(frame):
            self.unreadable += 1
        return events

    def _continued(self, event: Event) -> Event:
        """Return an event without the white space that came before the break and comes again."""
        if not self._lead or not isinstance(event, Said) or not event.text:
            return event
        lead, self._lead = self._lead, ""
        return msgspec.structs.replace(event, text=event.text.removeprefix(lead))

    def _noted(self, events: list[Event]) -> list[Event]:
        """Return the events up to a failure, with what accounting wants to know taken down."""
        if self._goes_on:
            events = [self._continued(event) for event in events if not isinstance(event, Began)]
        for at, event in enumerate(events):
            if isinstance(event, Said) and event.choice == 0:
                if self._said is not None:
                    self._said.append(event.text)
            elif isinstance(event, WHOLE_ONLY):
                self._said = None
            elif isinstance(event, Ended):
                self._finish = self._finish or event.reason.value
            elif isinstance(event, Began | Used):       # Anthropic counts the prompt at the beginning
                self._usage = event.usage or self._usage
            elif isinstance(event, Failed):
                self.failed = event.message
                return events[:at]
        return events
