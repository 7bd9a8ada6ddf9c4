"""`thriftgate keys`: make, list, replace and withdraw the keys that are in the store. No running gateway is needed."""

import contextlib
import secrets
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import orjson

from gateway import keys
from gateway.cli import files
from gateway.config import GrantConfig, LedgerConfig
from gateway.faults import ConfigError, Fault
from gateway.keys import Kept, KeyFault, StoredKey
from gateway.store import keys as store
from gateway.store.once import once
from gateway.store.opening import StoreError
from gateway.store.secret import secret_of

HEAD = ("name", "state", "ends in", "owner", "models", "expires", "budget")
LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrency")
as_json = click.option("--json", "json", is_flag=True, help="Print JSON.")


@click.group("keys")
def command() -> None:
    """Make, list, replace and withdraw keys. A running gateway goes by them within a second."""


@command.command("create")
@files.option
@click.argument("name")
@click.option("--owner", metavar="NAME", help="Whose it is: a team, a customer.")
@click.option("--models", metavar="A,B", help="The models and routes it may use; default: all.")
@click.option("--expires", metavar="WHEN", help="A day (2027-01-01, UTC), a moment with its zone, or a span (90d).")
@click.option("--requests-per-minute", type=int, metavar="N", help="How much may be asked, evenly over time.")
@click.option("--tokens-per-minute", type=int, metavar="N", help="Likewise, of prompts and answers together.")
@click.option("--concurrency", type=int, metavar="N", help="Requests being served at once.")
@click.option("--budget-usd", type=float, metavar="X", help="What may be spent with it.")
@click.option("--per", type=click.Choice(["day", "month", "total"]), help="What the budget is for; default: month.")
@click.option("--on-budget", type=click.Choice(["refuse", "cheapest"]), help="What happens beyond; default: refuse.")
@click.option("--metadata", multiple=True, metavar="K=V", help="To be listed with it; may be given several times.")
@as_json
def create(path: Path | None, name: str, *, json: bool, **given: Any) -> None:
    """Make a key, and print it: it is shown this once."""
    config, now_ms = files.load(path), _now_ms()
    with _refusals():
        keys.check_name(name, config)
        grant = _grant(given, now_ms)
        keys.check_grant(grant, config)
        text, kept = _cut(config.ledger)
        key = keys.new(name, grant, kept, now_ms)
        once(config.ledger, lambda engine: store.create(engine, key, kept.check))
    _hand_out(text, key, "is made", json=json)


@command.command("list")
@files.option
@as_json
def list_(path: Path | None, *, json: bool) -> None:
    """List the keys of the store; those of the configuration are not among them."""
    config, now_ms = files.load(path), _now_ms()
    with _refusals():
        found = once(config.ledger, store.listed)
    if json:
        click.echo(orjson.dumps([keys.shown(key, now_ms) for key in found], option=orjson.OPT_INDENT_2))
        return
    rows = [HEAD, *(_line(key, now_ms) for key in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@command.command("revoke")
@files.option
@click.argument("name")
def revoke(path: Path | None, name: str) -> None:
    """Have a key be good no more. What was spent with it stays in the ledger."""
    config = files.load(path)
    with _refusals():
        once(config.ledger, lambda engine: store.revoke(engine, name, _now_ms()))
    click.echo(f"{name} is revoked", err=True)


@command.command("rotate")
@files.option
@click.argument("name")
@click.option("--grace", default="0s", show_default=True, metavar="SPAN", help="How long the old one stays good: 24h.")
@as_json
def rotate(path: Path | None, name: str, grace: str, *, json: bool) -> None:
    """Put another text in a key's place, and print it. Its limits, its budget and what it has spent stay."""
    config = files.load(path)
    with _refusals():
        grace_ms = 1000 * _seconds("grace", grace)
        text, kept = _cut(config.ledger)
        key = once(config.ledger, lambda engine: store.rotate(engine, name, kept, grace_ms, _now_ms()))
    _hand_out(text, key, "is rotated", json=json)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Say what cannot be done and what to do instead, and exit 2."""
    said = None
    try:
        yield
    except ConfigError as error:
        said = "\n".join(str(fault._replace(path=_option(fault.path))) for fault in error.faults)
    except KeyFault as error:
        said = f"{error}\n    hint: {error.hint}"
    except StoreError as error:
        said = f"the store cannot be used: {error}\n    hint: see `ledger.url` in the configuration"
    if said is not None:
        click.echo(said, err=True)
        sys.exit(2)


def _option(path: str) -> str:
    """Return the option that a setting was given with, where it has one: `limits.concurrency` is --concurrency."""
    setting = path.partition("[")[0].removeprefix("limits.").removeprefix("budget.")
    named = {"name": "NAME", "usd": "--budget-usd"}.get(setting, "--" + setting.replace("_", "-"))
    known = {option for told in (create, rotate) for parameter in told.params for option in parameter.opts}
    return named if named in {"NAME", *known} else path


def _grant(given: dict[str, Any], now_ms: int) -> GrantConfig:
    """Return what the options say. Raises ConfigError."""
    value: dict[str, Any] = {"limits": {name: given[name] for name in LIMITS if given[name] is not None}}
    if given["owner"] is not None:
        value["owner"] = given["owner"]
    if given["models"] is not None:
        value["models"] = [name.strip() for name in given["models"].split(",") if name.strip()]
    if given["expires"] is not None:
        value["expires"] = _end(given["expires"], now_ms)
    if given["metadata"]:
        value["metadata"] = dict(_pair(text) for text in given["metadata"])
    budget = {"usd": given["budget_usd"], "per": given["per"], "on_budget": given["on_budget"]}
    budget = {name: part for name, part in budget.items() if part is not None}
    if budget and "usd" not in budget:
        raise ConfigError([Fault("budget.usd", "is missing", "say how much, or leave --per and --on-budget out")])
    return keys.read_grant({**value, "budget": budget} if budget else value)


def _end(text: str, now_ms: int) -> str:
    """Return the moment that a day, a moment or a span names."""
    with contextlib.suppress(ValueError, OverflowError):
        return (datetime.fromtimestamp(now_ms / 1000, UTC) + timedelta(seconds=keys.seconds(text))).isoformat()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        hint = "give a day (2027-01-01), a moment (2027-01-01T18:00:00Z) or a span (90d)"
        raise ConfigError([Fault("expires", f"{text[:50]!r} is no time", hint)]) from None
    return f"{moment:%Y-%m-%d}T00:00:00Z" if len(text) <= len("2027-01-01") else moment.isoformat()


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError([Fault("metadata", f"{text[:50]!r} is no pair", "give a name and a value, as in app=chat")])
    return name, value


def _seconds(option: str, text: str) -> int:
    try:
        return keys.seconds(text)
    except ValueError:
        raise ConfigError([Fault(option, f"{text[:50]!r} is no span", "give one such as 24h, 30m or 7d")]) from None


def _cut(ledger: LedgerConfig) -> tuple[str, Kept]:
    text = keys.text_of(secrets.token_bytes(keys.RANDOM_BYTES))
    return text, keys.kept(secret_of(ledger), text)


def _hand_out(text: str, key: StoredKey, done: str, *, json: bool) -> None:
    """Print the key alone on stdout, for `KEY=$(thriftgate keys create app)`; the rest is for eyes."""
    now_ms = _now_ms()
    if json:
        click.echo(orjson.dumps({"key": text, **keys.shown(key, now_ms)}, option=orjson.OPT_INDENT_2))
        return
    click.echo(text)
    click.echo(f"{key.name} {done}. Keep the key: it is not shown again.", err=True)
    if key.state(now_ms) == "expired":
        click.echo("It has expired all the same: a key's end does not change with its text.", err=True)


def _line(key: StoredKey, now_ms: int) -> tuple[str, ...]:
    budget, expires = key.grant.budget, key.grant.expires
    return (
        key.name,
        key.state(now_ms),
        f"…{key.hint}",
        key.grant.owner or "",
        "all" if key.grant.models is None else ",".join(key.grant.models),
        "" if expires is None else f"{expires.astimezone(UTC):%Y-%m-%d %H:%M}",
        "" if budget is None else f"${budget.usd:g} a {budget.per}".replace("a total", "in total"),
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
