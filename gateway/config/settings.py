"""What can be set: every section of the configuration as a frozen value, each policy's default with its unit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from gateway.pricing import Price

Dialect = Literal["openai", "anthropic", "gemini"]



class Secret:
    """A key. Its text leaves only through `reveal`; printing it shows nothing."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text.strip()          # files of secrets end in a newline

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """Return the key itself, for the header it goes into."""
        return self._text


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section: unknown keys refuse to start."""


def _refuse(expected: Mapping[str, bool]) -> None:
    """Raise for all the expectations that are not met, which are those that are true here."""
    if any(expected.values()):
        raise ValueError("Expected " + ", and ".join(what for what, wrong in expected.items() if wrong))


class Deadlines(_Strict, frozen=True):
    """How long a call may take, in milliseconds, each phase apart."""

    connect_ms: int = 2_000             # DNS, TCP and TLS
    first_output_ms: int = 30_000       # from sending the request to the first byte of the answer's body
    idle_ms: int = 30_000               # between two reads of a running answer
    total_ms: int = 600_000             # the whole call

    def __post_init__(self) -> None:
        wrong = [name for name in self.__struct_fields__ if getattr(self, name) <= 0]
        if wrong:
            raise ValueError(f"Expected milliseconds above 0 for `{'`, `'.join(wrong)}`")


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return "://" not in url or (bool(parts.hostname) and (parts.port or 0) < 65_536)
    except ValueError:
        return False


class UpstreamConfig(_Strict, frozen=True):
    """A provider endpoint."""

    base_url: str
    dialect: Dialect = "openai"
    key: Secret | None = None
    slots: int = 512                    # calls in flight at once; beyond it the next target is tried
    stream_usage: bool = True           # it knows `stream_options`: streams are asked what they used (openai only)

    def __post_init__(self) -> None:
        wrong = {
            "`base_url` to start with http:// or https://": not self.base_url.startswith(("http://", "https://")),
            "`base_url` to name a host, and a port below 65536 if any": not _has_host(self.base_url),
            "`base_url` to end before /chat/completions": self.base_url.rstrip("/").endswith("/chat/completions"),
            "`slots` of at least 1": self.slots < 1,
        }
        _refuse(wrong)


class ModelConfig(_Strict, frozen=True):
    """An LLM behind an upstream, under the name that routes and callers use."""

    upstream: str
    name: str = ""                      # the provider's name for it; default: the name it has here
    price: Price | None = None          # default: the built-in table's, if it knows the name
    context: int = 0                    # tokens; default: the built-in table's, else 128,000
    tools: bool = True                  # can call tools
    images: bool = True                 # can read images
    structured: bool = True             # can follow a JSON schema
    deadlines: Deadlines = Deadlines()

    def __post_init__(self) -> None:
        _refuse({"`context` of at least 0 tokens": self.context < 0})


class Condition(_Strict, frozen=True):
    """What a rule looks at; every part that is given must hold."""

    tools: bool | None = None
    images: bool | None = None
    structured: bool | None = None
    task: str | None = None


class Rule(_Strict, frozen=True):
    """When the condition holds, this model is used."""

    when: Condition
    use: str


class Promise(_Strict, frozen=True):
    """The harm that cheap traffic may do at most, and how sure that must be.

    Read and checked now; until evidence from a route's own traffic certifies more, the conservative default keeps it.
    """

    harm: float = 0.02
    confidence: float = 0.95

    def __post_init__(self) -> None:
        _refuse({
            "`harm` from 0 to 1": not 0 <= self.harm <= 1,
            "`confidence` above 0 and below 1": not 0 < self.confidence < 1,
        })


class RouteConfig(_Strict, frozen=True):
    """A public model name with a ladder of models, cheapest first."""

    ladder: list[str]
    aliases: list[str] = []
    threshold: float | None = None      # cheap iff p_cheap >= threshold; default: the classifier's own, conservative
    promise: Promise | None = None
    rules: list[Rule] = []

    def __post_init__(self) -> None:
        _refuse({
            "`ladder` to name at least one model, cheapest first": not self.ladder,
            "`ladder` to name each model once": len(set(self.ladder)) < len(self.ladder),
            "`threshold` from 0 (always cheap) to 1.01 (never)": not 0 <= (self.threshold or 0) <= 1.01,
        })


class KeyConfig(_Strict, frozen=True):
    """A caller's key and what it may use. Default: every model and route."""

    secret: Secret
    models: list[str] | None = None


class ClassifierConfig(_Strict, frozen=True):
    """The classifier's place on the path."""

    deadline_ms: float = 8.0            # after it the session's last verdict or the safe rung is used
    cache_entries: int = 50_000         # verdicts of repeated prompts, about 200 bytes each
    queue: int = 64                     # prompts waiting for the classifier; beyond it none waits
    bundle: str | None = None           # directory of one's own classifier (`thriftgate train`)

    @property
    def directory(self) -> Path | None:
        """Where the classifier is; None: the one shipped."""
        return None if self.bundle is None else Path(self.bundle)

    def __post_init__(self) -> None:
        _refuse({
            "`deadline_ms` above 0 and at most 60000": not 0 < self.deadline_ms <= 60_000,
            "`cache_entries` of at least 0": self.cache_entries < 0,
            "`queue` of at least 1": self.queue < 1,
            "`bundle` that is not empty": self.bundle == "",
        })


class ServerConfig(_Strict, frozen=True):
    """The listening side."""

    max_body_bytes: int = 20_000_000    # larger requests get 413
    drain_s: float = 30.0               # how long SIGTERM waits for running answers
    log_prompts: bool = False           # write prompt text into the receipts

    def __post_init__(self) -> None:
        _refuse({
            "`max_body_bytes` of at least 1": self.max_body_bytes < 1,
            "`drain_s` from 0 to 86400": not 0 <= self.drain_s <= 86_400,
        })


class Config(_Strict, frozen=True):
    """The whole configuration."""

    upstreams: dict[str, UpstreamConfig]
    models: dict[str, ModelConfig]
    routes: dict[str, RouteConfig] = {}
    keys: dict[str, KeyConfig] = {}
    classifier: ClassifierConfig = ClassifierConfig()
    server: ServerConfig = ServerConfig()
