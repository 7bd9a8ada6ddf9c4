"""What can be set: every section of the configuration as a frozen value, each policy's default with its unit."""

from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from gateway.config.money import AdminConfig, BudgetConfig, LedgerConfig, LimitsConfig, OwnerConfig, SharedConfig
from gateway.config.strict import Secret, Strict, refuse
from gateway.pricing import Price

Dialect = Literal["openai", "anthropic", "gemini"]


class Deadlines(Strict, frozen=True):
    """How long a call may take, in milliseconds, each phase apart."""

    connect_ms: int = 2_000             # DNS, TCP and TLS
    first_output_ms: int = 30_000       # from sending the request to the first text, thought or call of a stream
    idle_ms: int = 30_000               # between two reads of a running answer
    total_ms: int = 600_000             # the whole call

    def __post_init__(self) -> None:
        wrong = [name for name in self.__struct_fields__ if getattr(self, name) <= 0]
        if wrong:
            raise ValueError(f"Expected milliseconds above 0 for `{'`, `'.join(wrong)}`")


class RouteDeadlines(Strict, frozen=True):
    """What a route asks of all its models instead; None: each model's own."""

    connect_ms: int | None = None
    first_output_ms: int | None = None
    idle_ms: int | None = None
    total_ms: int | None = None         # of the request as a whole, retries among it

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        wrong = [name for name, value in given.items() if value is not None and value <= 0]
        if wrong:
            raise ValueError(f"Expected milliseconds above 0 for `{'`, `'.join(wrong)}`")


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return "://" not in url or (bool(parts.hostname) and (parts.port or 0) < 65_536)
    except ValueError:
        return False


def _wrong_url(url: str) -> dict[str, bool]:
    return {
        "`base_url` to start with http:// or https://": not url.startswith(("http://", "https://")),
        "`base_url` to name a host, and a port below 65536 if any": not _has_host(url),
        "`base_url` to end before /chat/completions": url.rstrip("/").endswith("/chat/completions"),
    }


def _wrong_weight(weight: float) -> dict[str, bool]:
    return {"`weight` above 0 and up to 1000000": not 0 < weight <= 1_000_000}


class EndpointConfig(Strict, frozen=True):
    """Another address or key of an upstream; what it does not say is the upstream's own."""

    base_url: str | None = None
    key: Secret | None = None
    weight: float = 1.0                 # its share of the calls, beside the others' weights

    def __post_init__(self) -> None:
        refuse({**_wrong_weight(self.weight), **(_wrong_url(self.base_url) if self.base_url is not None else {})})


class HealthConfig(Strict, frozen=True):
    """When a model at an endpoint is left alone for a while, where another target can answer."""

    failures: int = 5                   # in a row
    error_rate: float = 0.5             # or this share of the calls of the last `window_ms`, of at least `calls`
    calls: int = 20
    window_ms: int = 30_000
    open_ms: int = 1_000                # how long at first; twice as long after each probe that fails
    open_max_ms: int = 30_000
    probe_ms: int = 0                   # how often one that is left alone is asked for its models; 0: never

    def __post_init__(self) -> None:
        refuse({
            "`failures` of at least 1": self.failures < 1,
            "`error_rate` above 0 and up to 1": not 0 < self.error_rate <= 1,
            "`calls` of at least 1": self.calls < 1,
            "`window_ms` of at least 1": self.window_ms < 1,
            "`open_ms` of at least 1": self.open_ms < 1,
            "`open_max_ms` of at least `open_ms`": self.open_max_ms < self.open_ms,
            "`probe_ms` of at least 100, or 0": self.probe_ms != 0 and self.probe_ms < 100,
        })


class UpstreamConfig(Strict, frozen=True):
    """A provider: one endpoint or several that offer the same."""

    base_url: str
    dialect: Dialect = "openai"
    key: Secret | None = None
    weight: float = 1.0                 # of this endpoint, where there are more
    endpoints: list[EndpointConfig] = []
    slots: int = 512                    # calls in flight at once; beyond it the next target is tried
    queue: int = 256                    # requests that wait for a slot where no target has one; beyond it 503
    retries: float = 0.2                # calls again for the same request, as a share of all, with ten to begin with
    health: HealthConfig = HealthConfig()
    stream_usage: bool = True           # it knows `stream_options`: streams are asked what they used (openai only)

    def __post_init__(self) -> None:
        wrong = {
            **_wrong_url(self.base_url),
            **_wrong_weight(self.weight),
            "`slots` of at least 1": self.slots < 1,
            "`queue` of at least 0": self.queue < 0,
            "`retries` from 0 to 10": not 0 <= self.retries <= 10,
        }
        refuse(wrong)


class ModelConfig(Strict, frozen=True):
    """An LLM behind an upstream, under the name that routes and callers use."""

    upstream: str
    name: str = ""                      # the provider's name for it; default: the name it has here
    price: Price | None = None          # default: the built-in table's, if it knows the name
    context: int = 0                    # tokens; default: the built-in table's, else 128,000
    tools: bool = True                  # can call tools
    images: bool = True                 # can read images
    structured: bool = True             # can follow a JSON schema
    continues: bool = False             # goes on where the request ends with a turn of the assistant's
    max_output: int = 0                 # tokens of an answer, at most; default: the built-in table's, else 32,000
    deadlines: Deadlines = Deadlines()
    limits: LimitsConfig = LimitsConfig()

    def __post_init__(self) -> None:
        refuse({
            "`context` of at least 0 tokens": self.context < 0,
            "`max_output` of at least 0 tokens": self.max_output < 0,
        })


class Condition(Strict, frozen=True):
    """What a rule looks at; every part that is given must hold."""

    tools: bool | None = None
    images: bool | None = None
    structured: bool | None = None
    task: str | None = None


class Rule(Strict, frozen=True):
    """When the condition holds, this model is used."""

    when: Condition
    use: str


class Promise(Strict, frozen=True):
    """The harm that cheap traffic may do at most, and how sure that must be.

    Read and checked now; until evidence from a route's own traffic certifies more, the conservative default keeps it.
    """

    harm: float = 0.02
    confidence: float = 0.95

    def __post_init__(self) -> None:
        refuse({
            "`harm` from 0 to 1": not 0 <= self.harm <= 1,
            "`confidence` above 0 and below 1": not 0 < self.confidence < 1,
        })


class HedgeConfig(Strict, frozen=True):
    """A stream that is late is asked for at the next target as well; the first that says something is used."""

    after_ms: int = 0                   # 0: what the model's first output took in 95 of 100 calls, once 20 are known
    share: float = 0.05                 # of the route's streams, at most
    usd_per_hour: float = 1.0           # what the calls that were not used may cost, at most

    def __post_init__(self) -> None:
        refuse({
            "`after_ms` of at least 0": self.after_ms < 0,
            "`share` from 0 to 1": not 0 <= self.share <= 1,
            "`usd_per_hour` of at least 0": not self.usd_per_hour >= 0,
        })


class RouteConfig(Strict, frozen=True):
    """A public model name with a ladder of models, cheapest first."""

    ladder: list[str]
    deadlines: RouteDeadlines | None = None
    hedge: HedgeConfig | None = None
    continuation: bool = False          # a text that breaks off is continued by the next model that `continues`
    aliases: list[str] = []
    threshold: float | None = None      # cheap iff p_cheap >= threshold; default: the classifier's own, conservative
    promise: Promise | None = None
    rules: list[Rule] = []
    limits: LimitsConfig = LimitsConfig()       # of all callers together

    def __post_init__(self) -> None:
        refuse({
            "`ladder` to name at least one model, cheapest first": not self.ladder,
            "`ladder` to name each model once": len(set(self.ladder)) < len(self.ladder),
            "`threshold` from 0 (always cheap) to 1.01 (never)": not 0 <= (self.threshold or 0) <= 1.01,
        })


class GrantConfig(Strict, frozen=True):
    """What a key is for. Default: every model and route, without an end."""

    owner: str | None = None            # whose it is: a team, a customer
    models: list[str] | None = None     # models and routes
    expires: datetime | None = None
    limits: LimitsConfig = LimitsConfig()
    budget: BudgetConfig | None = None
    metadata: dict[str, str] = {}

    def __post_init__(self) -> None:
        refuse({
            "`expires` with a time zone, such as 2027-01-01T00:00:00Z": _is_local(self.expires),
            "`expires` before the year 9000": self.expires is not None and self.expires.year >= 9_000,
        })


def _is_local(moment: datetime | None) -> bool:
    return moment is not None and moment.tzinfo is None


class KeyConfig(GrantConfig, frozen=True, kw_only=True):
    """A caller's key and what it is for."""

    secret: Secret


class ClassifierConfig(Strict, frozen=True):
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
        refuse({
            "`deadline_ms` above 0 and at most 60000": not 0 < self.deadline_ms <= 60_000,
            "`cache_entries` of at least 0": self.cache_entries < 0,
            "`queue` of at least 1": self.queue < 1,
            "`bundle` that is not empty": self.bundle == "",
        })


class ServerConfig(Strict, frozen=True):
    """The listening side."""

    max_body_bytes: int = 20_000_000    # larger requests get 413
    drain_s: float = 30.0               # how long SIGTERM waits for running answers
    log_prompts: bool = False           # write prompt text into the receipts
    attempts: int = 4                   # upstream calls for one request, at most
    backoff_ms: int = 100               # before a target is asked again, doubled each time, more or less by chance
    wait_ms: int = 2_000                # how long a request waits for a target or a slot where none is free, at most
    keepalive_ms: int = 15_000          # silence after which a waiting stream's client gets a comment; 0: never
    concurrency: int = 4_096            # requests being served at once; beyond it they queue
    queue: int = 1_024                  # requests that queue, callers in turn; beyond it 503
    header_ms: int = 10_000             # until a request's line and headers are here; else 408
    body_ms: int = 60_000               # until its body is here, or goes on at 16 kB/s; and until an answer is taken
    connections: int = 10_000           # of clients, open at once in a process; beyond it 503

    def __post_init__(self) -> None:
        refuse({
            "`max_body_bytes` of at least 1": self.max_body_bytes < 1,
            "`drain_s` from 0 to 86400": not 0 <= self.drain_s <= 86_400,
            "`attempts` from 1 to 20": not 1 <= self.attempts <= 20,
            "`backoff_ms` of at least 1": self.backoff_ms < 1,
            "`wait_ms` of at least 0": self.wait_ms < 0,
            "`keepalive_ms` of at least 100, or 0": self.keepalive_ms != 0 and self.keepalive_ms < 100,
            "`concurrency` of at least 1": self.concurrency < 1,
            "`queue` of at least 0": self.queue < 0,
            "`header_ms` of at least 1": self.header_ms < 1,
            "`body_ms` of at least 1": self.body_ms < 1,
            "`connections` of at least 1": self.connections < 1,
        })


class Config(Strict, frozen=True):
    """The whole configuration."""

    upstreams: dict[str, UpstreamConfig]
    models: dict[str, ModelConfig]
    routes: dict[str, RouteConfig] = {}
    keys: dict[str, KeyConfig] = {}
    owners: dict[str, OwnerConfig] = {}
    budget: BudgetConfig | None = None          # of all callers together
    ledger: LedgerConfig = LedgerConfig()
    shared: SharedConfig = SharedConfig()
    admin: AdminConfig = AdminConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    server: ServerConfig = ServerConfig()
