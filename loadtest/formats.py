"""The seam between the mock provider and the APIs it speaks: what a format must know, and where each is served. Pure.

A format is a module. Adding one is writing that module and its routes here; dials, faults, pace and journal come along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from loadtest import anthropic_format, gemini_format, openai_format
from loadtest.asking import Arrived, Ask, Moment, RefusalError, Want
from loadtest.script import Words


class Format(Protocol):
    """A provider's API: what it demands of a request, how it frames an answer and words a refusal."""

    NAME: str
    WORDS: Words

    def authenticate(self, arrived: Arrived, key: str) -> None:
        """Raise the refusal of a caller without the key; the key "" is open to all."""

    def named_model(self, arrived: Arrived) -> str:
        """The model asked for, as it was written, or the refusal of a request that names none."""

    def no_such_model(self, name: str, *, listing: bool = False) -> RefusalError:
        """The refusal of a model that is not on offer: to talk to it, or to list it."""

    def understood(self, arrived: Arrived) -> Want:
        """What the request wants said, or the refusal of one that the provider would not take."""

    def key(self, ask: Ask) -> object:
        """What canned frames depend on besides the model and its dials."""

    def stream(self, ask: Ask, moment: Moment) -> list[bytes]:
        """The events of the healthy stream."""

    def whole(self, ask: Ask, moment: Moment) -> bytes:
        """The healthy whole answer."""

    def refusal(self, refused: RefusalError, moment: Moment) -> bytes:
        """The body of a refusal."""

    def headers(self, moment: Moment, refused: RefusalError | None = None) -> dict[str, str]:
        """The headers that come with every answer, and with a refusal."""

    def listing(self, names: Sequence[str]) -> object:
        """The list of models."""

    def listed(self, name: str) -> object:
        """One model of the list."""


class Route(NamedTuple):
    """Where a format is asked to speak; `{model}` in the path is the model."""

    path: str
    speaks: Format
    verb: str = ""


ROUTES = (
    Route("/v1/chat/completions", openai_format),
    Route("/v1/messages", anthropic_format),
    Route("/v1/messages/count_tokens", anthropic_format, "count"),
    *(
        Route(f"/{version}/models/{{model}}:{method}", gemini_format, verb)
        for version in ("v1beta", "v1")  # Google's SDKs ask the second since their version 3
        for method, verb in (("generateContent", ""), ("streamGenerateContent", "stream"), ("countTokens", "count"))
    ),
)
LISTINGS = ("/v1/models", "/v1beta/models")


def of_listing(path: str, headers: Mapping[str, str]) -> Format:
    """Who is asked for the models: all three share a path, but only OpenAI's callers have no header of their own."""
    if path.startswith("/v1beta/") or "x-goog-api-key" in headers:
        return gemini_format
    return anthropic_format if "anthropic-version" in headers else openai_format
