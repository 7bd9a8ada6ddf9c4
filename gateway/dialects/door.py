"""What a dialect is to the rest of the house: the functions that its package has, as types.

A *surface* is a dialect that callers speak to us, an *upstream* dialect one that we speak to providers; most are both.
Everything is pure: bytes and values in, bytes and values out. `gateway.dialects.register` has them all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from gateway.dialects.neutral import Asked, Conversation, Event, Losses
from gateway.errors import GatewayError
from gateway.pricing import Usage
from gateway.sse import Event as Frame


class Ending(NamedTuple):
    """What the end of an answer says: complete or not, why it stopped, what it used."""

    complete: bool = False
    finish: str | None = None
    usage: Usage | None = None
    error: bool = False        # the upstream itself ended the stream with an error frame


class Reader(Protocol):
    """Reads a provider's stream. Never raises for what a provider sends: what it cannot read it passes over."""

    def feed(self, frame: Frame) -> list[Event]:
        """Return what one frame says."""

    def close(self) -> list[Event]:
        """Return what is left to say at the end of the stream."""


class Writer(Protocol):
    """Writes a stream to a caller, in frames that its SDK reads."""

    def feed(self, events: Iterable[Event]) -> bytes:
        """Return the frames that say `events`; empty where there is nothing to say yet."""

    def close(self) -> bytes:
        """Return the frames that end the stream well."""


class Surface(Protocol):
    """A dialect that callers speak."""

    def read_request(self, raw: bytes, model: str) -> Conversation:
        """Read a request whole. Raises BadRequest with the field at fault."""

    def writer(self, asked: Asked) -> Writer:
        """Begin a stream."""

    def write_whole(self, asked: Asked, events: Iterable[Event]) -> bytes:
        """Word a whole answer."""

    def error_body(self, error: GatewayError, request_id: str, attempts: Sequence[Mapping[str, Any]]) -> bytes:
        """Word an error."""

    def error_event(self, error: GatewayError, request_id: str, *, mid_event: bool) -> bytes:
        """Return the frame that ends a broken stream honestly; one cut inside an event is closed first."""


class Upstream(Protocol):
    """A dialect that providers speak."""

    LOSSES: Mapping[str, str]              # what it cannot express: field of a Conversation → "drop" or "refuse"
    LAST_FRAMES: tuple[bytes, ...]         # how a chunk ends that ends a complete stream; empty: the end is the end

    def url(self, base: str, model: str, *, stream: bool) -> str:
        """Where a request goes."""

    def models_url(self, base: str) -> str:
        """Where the models are listed."""

    def headers(self, key: str | None) -> dict[str, str]:
        """How it is authorised, and what else its provider wants to see."""

    def write_request(self, conversation: Conversation, model: str, losses: Losses) -> bytes:
        """Word a request. Raises BadRequest for what must not be left out and cannot be said."""

    def reader(self) -> Reader:
        """Begin to read a stream."""

    def read_whole(self, body: bytes) -> list[Event]:
        """Read a whole answer. Raises ValueError where it is none."""

    def error_of_body(self, body: bytes) -> str | None:
        """Return the message of an error object, None where the body is none."""

    def ending_of_stream(self, frames: Iterable[Frame]) -> Ending:
        """Read the last frames of a stream."""

    def ending_of_body(self, body: bytes) -> Ending:
        """Read a whole answer's end."""
