"""From a YAML file to the configuration, or every fault in it: where it is, what was expected and what to do."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from gateway import pricing
from gateway.config.money import AdminConfig, BudgetConfig, LedgerConfig, OwnerConfig, SharedConfig
from gateway.config.settings import (
    ClassifierConfig,
    Config,
    KeyConfig,
    ModelConfig,
    RouteConfig,
    ServerConfig,
    UpstreamConfig,
)
from gateway.config.strict import Secret
from gateway.faults import ConfigError, Fault, Section, closest
from gateway.pricing import Prices

DATA = "THRIFTGATE_DATA"        # the variable that says where the data belongs
IMPORTED = "prices.json"        # there, if prices were imported
CONTEXT, MAX_OUTPUT = 128_000, 32_000       # tokens, of models that nothing is known of
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# YAML reads `{key: ${NAME}}` as a broken mapping: a reference is parsed under these brackets and looked up afterwards.
_REFERENCE = re.compile(r"⟦([A-Za-z0-9_]+)⟧")
_TABLES: dict[str, type[msgspec.Struct]] = {
    "upstreams": UpstreamConfig, "models": ModelConfig, "routes": RouteConfig, "keys": KeyConfig, "owners": OwnerConfig,
}
_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "budget": BudgetConfig, "ledger": LedgerConfig, "shared": SharedConfig, "admin": AdminConfig,
    "classifier": ClassifierConfig, "server": ServerConfig,
}


def load(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check the file, or raise ConfigError with every fault in it."""
    return parse(_text(path), os.environ if environment is None else environment)


def load_as_written(path: Path) -> Config:
    """Read and check the file likewise, and fill in nothing but where the data belongs."""
    return as_written(_text(path), os.environ)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fault = Fault(str(path), f"cannot be read: {error}", "give the path of a YAML file in UTF-8")
        raise ConfigError([fault]) from None


def parse(text: str, environment: Mapping[str, str]) -> Config:
    """Check the text, with `${NAME}` taken from `environment`; raise ConfigError with every fault.

    What models do not say of themselves is filled in from what is known of them.
    """
    written = as_written(text, environment)
    prices, upstreams = known_prices(written.ledger), written.upstreams
    models = {
        name: completed(name, model, upstreams[model.upstream], prices) for name, model in written.models.items()
    }
    return msgspec.structs.replace(written, models=models)


def as_written(text: str, environment: Mapping[str, str]) -> Config:
    """Check the text likewise, and fill in nothing but where the data belongs."""
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
        for name, kind in _SECTIONS.items() if name != "budget" or tree.get(name) is not None
    }
    names = {name: list(map(str, tree[name])) if isinstance(tree.get(name), dict) else [] for name in _TABLES}
    _check_references(tables, names, faults)
    _check_budgets(tables, sections, faults)
    if faults:
        raise ConfigError(faults)
    sections["ledger"] = placed(sections["ledger"], environment)
    return Config(**{**tables, **sections})


def _tree(text: str) -> dict[Any, Any]:
    try:
        tree = msgspec.yaml.decode(_VARIABLE.sub(r"⟦\1⟧", text))
    except (msgspec.DecodeError, ValueError) as error:       # the latter for a date that there is not
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
    owners = names["owners"] or [key.owner for key in tables["keys"].values() if key.owner is not None]
    references = [
        *((f"models.{name}.upstream", model.upstream, "upstream", names["upstreams"])
          for name, model in models.items()),
        *((f"routes.{name}.ladder[{i}]", rung, "model", names["models"])
          for name, route in routes.items() for i, rung in enumerate(route.ladder)),
        *((f"routes.{name}.rules[{i}].use", rule.use, "model", names["models"])
          for name, route in routes.items() for i, rule in enumerate(route.rules)),
        *((f"keys.{name}.models[{i}]", allowed, "model or route", taken)
          for name, key in keys.items() for i, allowed in enumerate(key.models or ())),
        *((f"keys.{name}.owner", key.owner, "owner", owners)
          for name, key in tables["keys"].items() if key.owner is not None),
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


def _check_budgets(tables: dict[str, dict[str, Any]], sections: dict[str, Any], faults: list[Fault]) -> None:
    """What was spent of a budget is known from the receipts that are kept, also where nodes share it."""
    ledger = sections["ledger"]
    if ledger is None or ledger.on:
        return
    budgeted = [f"keys.{name}" for name, key in tables["keys"].items() if key.budget is not None]
    budgeted += [f"owners.{name}" for name in tables["owners"]]
    hint = "leave `ledger.url` out, or give a store"
    faults.extend(
        Fault(f"{path}budget", "nobody would remember what was spent: `ledger.url` is none", hint)
        for path in [*(f"{path}." for path in budgeted), *([""] if sections.get("budget") else [])]
    )


def placed(ledger: LedgerConfig, environment: Mapping[str, str]) -> LedgerConfig:
    """Fill in where the data belongs."""
    directory = ledger.directory or environment.get(DATA) or platformdirs.user_data_dir("thriftgate", appauthor=False)
    return msgspec.structs.replace(ledger, directory=str(Path(directory).expanduser().absolute()))


def known_prices(ledger: LedgerConfig) -> Prices:
    """Return what models are known to cost: what was imported where the data belongs, and the built-in table."""
    path = Path(ledger.directory) / IMPORTED
    try:
        return Prices(pricing.decode(path.read_bytes()))
    except FileNotFoundError:
        return Prices()
    except (OSError, ValueError) as error:
        hint = "import it again (`thriftgate prices update FILE`), or remove it: then the built-in prices are in force"
        raise ConfigError([Fault(str(path), f"cannot be read as imported prices: {error}", hint)]) from None


def completed(name: str, model: ModelConfig, upstream: UpstreamConfig, prices: Prices) -> ModelConfig:
    """Fill in what is known of the provider's model."""
    upstream_name = model.name or name
    known = prices.find(upstream_name, pricing.provider_of(upstream.base_url))
    facts = None if known is None else known.facts
    return msgspec.structs.replace(
        model,
        name=upstream_name,
        price=model.price or (facts.price if facts else None),
        context=model.context or (facts and facts.context) or CONTEXT,
        max_output=model.max_output or (facts and facts.max_output) or MAX_OUTPUT,
    )
