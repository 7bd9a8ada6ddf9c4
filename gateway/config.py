"""The configuration: parsed once, whole, into frozen values, or refused with every fault named.

Rule: modules receive the values they need and read neither files nor the environment; this room does both, once, at
start. A fault says where it is, what was expected and what to do. Each policy's default stands here, with its unit.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from gateway.faults import ConfigError, Fault, Section, closest
from gateway.pricing import MODELS, Price

Dialect = Literal["openai", "anthropic", "gemini"]
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# YAML reads `{key: ${NAME}}` as a broken mapping: a reference is parsed under these brackets and looked up afterwards.
_REFERENCE = re.compile(r"⟦([A-Za-z0-9_]+)⟧")


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


_TABLES: dict[str, type[msgspec.Struct]] = {
    "upstreams": UpstreamConfig, "models": ModelConfig, "routes": RouteConfig, "keys": KeyConfig,
}
_SECTIONS: dict[str, type[msgspec.Struct]] = {"classifier": ClassifierConfig, "server": ServerConfig}


def load(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check the file, or raise ConfigError with every fault in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fault = Fault(str(path), f"cannot be read: {error}", "give the path of a YAML file in UTF-8")
        raise ConfigError([fault]) from None
    return parse(text, os.environ if environment is None else environment)


def parse(text: str, environment: Mapping[str, str]) -> Config:
    """Check the text, with `${NAME}` taken from `environment`; raise ConfigError with every fault."""
    faults: list[Fault] = []
    tree = _tree(text)
    try:
        tree = {key: _substituted(value, str(key), environment, faults) for key, value in tree.items()}
    except RecursionError:
        raise ConfigError([Fault("(file)", "contains itself", "take the alias out of its own anchor")]) from None
    for key in (key for key in tree if key not in _TABLES and key not in _SECTIONS):
        hint = closest(str(key), [*_TABLES, *_SECTIONS])
        faults.append(Fault(str(key), "is not a section", hint or f"sections are {', '.join([*_TABLES, *_SECTIONS])}"))
    tables = {name: _table(tree, name, kind, faults) for name, kind in _TABLES.items()}
    sections = {
        name: Section(name, {} if tree.get(name) is None else tree[name], kind, _decode_secret).read(faults)
        for name, kind in _SECTIONS.items()
    }
    names = {name: list(map(str, tree[name])) if isinstance(tree.get(name), dict) else [] for name in _TABLES}
    _check_references(tables, names, faults)
    if faults:
        raise ConfigError(faults)
    return Config(
        upstreams=tables["upstreams"],
        models={name: _completed(name, model) for name, model in tables["models"].items()},
        routes=tables["routes"], keys=tables["keys"],
        classifier=sections["classifier"], server=sections["server"],
    )


def _tree(text: str) -> dict[Any, Any]:
    try:
        tree = msgspec.yaml.decode(_VARIABLE.sub(r"⟦\1⟧", text))
    except msgspec.DecodeError as error:
        raise ConfigError([Fault("(file)", f"is not YAML: {error}", "check indentation and quotes there")]) from None
    if not isinstance(tree, dict):
        raise ConfigError([Fault("(file)", "expected a mapping of sections", "start with `upstreams:` and `models:`")])
    return tree


def _substituted(value: Any, path: str, environment: Mapping[str, str], faults: list[Fault]) -> Any:
    """Return `value` with `${NAME}` in its strings replaced, after parsing, so that a value cannot become structure."""
    if isinstance(value, dict):
        return {k: _substituted(v, f"{path}.{k}", environment, faults) for k, v in value.items()}
    if isinstance(value, list):
        return [_substituted(v, f"{path}[{i}]", environment, faults) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value
    faults.extend(
        Fault(path, f"the environment variable {name} is not set", f"export {name}=… before starting")
        for name in _REFERENCE.findall(value) if not environment.get(name)
    )
    return _REFERENCE.sub(lambda match: environment.get(match[1], ""), value)


def _table(tree: dict[Any, Any], name: str, kind: type[msgspec.Struct], faults: list[Fault]) -> dict[str, Any]:
    entries = tree.get(name)
    required = name in ("upstreams", "models")
    if entries is None and not required:
        return {}
    if not isinstance(entries, dict) or (required and not entries):
        faults.append(Fault(name, "expected a mapping of names to settings", f"add at least one entry under `{name}:`"))
        return {}
    read = {
        str(entry): Section(f"{name}.{entry}", settings, kind, _decode_secret).read(faults)
        for entry, settings in entries.items()
    }
    return {entry: value for entry, value in read.items() if value is not None}


def _decode_secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str) and value.strip().isprintable() and value.strip():
        return Secret(value)
    raise ValueError("Expected a key as text")


def _check_references(tables: dict[str, dict[str, Any]], names: dict[str, list[str]], faults: list[Fault]) -> None:
    """Every name that points at something must find it, and no two things may answer to one name.

    `names` has the entries that could not be read as well: what points at them is not at fault.
    """
    models, routes = tables["models"], tables["routes"]
    taken = dict.fromkeys(names["models"], "a model")
    keys = tables["keys"] if len(routes) == len(names["routes"]) else {}     # else not every alias is known
    for name, route in routes.items():
        for path, public in [(f"routes.{name}", name), *((f"routes.{name}.aliases", a) for a in route.aliases)]:
            if public in taken:
                faults.append(Fault(path, f"{public!r} is already the name of {taken[public]}", "choose another name"))
            taken[public] = f"route {name!r}"
    references = [
        *((f"models.{name}.upstream", model.upstream, "upstream", names["upstreams"])
          for name, model in models.items()),
        *((f"routes.{name}.ladder[{i}]", rung, "model", names["models"])
          for name, route in routes.items() for i, rung in enumerate(route.ladder)),
        *((f"routes.{name}.rules[{i}].use", rule.use, "model", names["models"])
          for name, route in routes.items() for i, rule in enumerate(route.rules)),
        *((f"keys.{name}.models[{i}]", allowed, "model or route", taken)
          for name, key in keys.items() for i, allowed in enumerate(key.models or ())),
    ]
    held: dict[Secret, str] = {}
    for name, key in tables["keys"].items():
        if key.secret in held:
            fault = Fault(f"keys.{name}.secret", f"is that of keys.{held[key.secret]}", "give every caller their own")
            faults.append(fault)
        held[key.secret] = name
    for path, name, what, among in references:
        if name not in among:
            hint = closest(name, among) or f"defined are: {', '.join(among) or 'none'}"
            faults.append(Fault(path, f"there is no {what} called {name!r}", hint))


def _completed(name: str, model: ModelConfig) -> ModelConfig:
    """Fill in what the built-in table knows of the provider's model."""
    upstream_name = model.name or name
    facts = MODELS.get(upstream_name)
    return msgspec.structs.replace(
        model,
        name=upstream_name,
        price=model.price or (facts.price if facts else None),
        context=model.context or (facts.context if facts else 128_000),
    )


class Provider(msgspec.Struct, frozen=True):
    """What `serve` without a file makes of a provider's key: its endpoint and two rungs."""

    variable: str
    dialect: Dialect
    base_url: str
    cheap: str
    premium: str


PROVIDERS: dict[str, Provider] = {
    "openai": Provider("OPENAI_API_KEY", "openai", "https://api.openai.com/v1", "gpt-5.4-mini", "gpt-5.4"),
    "anthropic": Provider(
        "ANTHROPIC_API_KEY", "anthropic", "https://api.anthropic.com", "claude-haiku-4-5", "claude-opus-4-7"
    ),
    "gemini": Provider(
        "GEMINI_API_KEY", "gemini", "https://generativelanguage.googleapis.com", "gemini-2.5-flash", "gemini-2.5-pro"
    ),
}


def from_environment(environment: Mapping[str, str]) -> Config:
    """Build upstreams, models and routes from whichever provider keys are set; raise ConfigError when none is.

    `auto` climbs from the cheapest cheap model to the dearest premium one of all providers; `auto-NAME` stays with one.
    """
    found = {name: provider for name, provider in PROVIDERS.items() if environment.get(provider.variable)}
    if not found:
        names = ", ".join(provider.variable for provider in PROVIDERS.values())
        raise ConfigError([
            Fault("(no file)", f"no configuration was given and none of {names} is set",
                  "set one of them, or give -c FILE, or try `thriftgate demo`, which needs no key"),
        ])
    models = {
        model: _completed(model, ModelConfig(upstream=name))
        for name, provider in found.items() for model in (provider.cheap, provider.premium)
    }
    cheap = min((p.cheap for p in found.values()), key=lambda name: MODELS[name].price.output)
    premium = max((p.premium for p in found.values()), key=lambda name: MODELS[name].price.output)
    routes = {f"auto-{name}": RouteConfig(ladder=[p.cheap, p.premium]) for name, p in found.items()}
    return Config(
        upstreams={
            name: UpstreamConfig(base_url=p.base_url, dialect=p.dialect, key=Secret(environment[p.variable]))
            for name, p in found.items()
        },
        models=models,
        routes={"auto": RouteConfig(ladder=[cheap, premium]), **routes},
    )
