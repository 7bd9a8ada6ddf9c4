"""`thriftgate prices`: what models cost and who says so; and the import of LiteLLM's public price file."""

import contextlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import click
import orjson

from gateway import config
from gateway.cli import files
from gateway.config import Config, LedgerConfig
from gateway.faults import ConfigError, closest
from gateway.pricing import Facts, Known, Price, PriceList, Prices, built_in, encode, litellm, named, provider_of

SHOWN = ("input", "output", "cached_input", "cache_write")      # where many are listed
DIFFERENCES = 40                                                # that are listed, at most


class Row(NamedTuple):
    """A model with its price, if it is known, and who says so."""

    name: str
    facts: Facts | None
    origin: str


@click.group("prices")
def command() -> None:
    """Show what models cost and where that is from; import a price list."""


@command.command("list")
@files.option
@click.option("--json", "json", is_flag=True, help="Print JSON.")
@click.argument("name", required=False)
def list_(path: Path | None, name: str | None, *, json: bool) -> None:
    """Show the prices that are in force, in dollars per million tokens.

    NAME is a model of the configuration or a provider's name for one; without it all models of the configuration are
    shown, and without a configuration all that there is a price for.
    """
    with files.faults_of(path):
        written = _written(path)
        prices = config.known_prices(_ledger(written))
    rows = [_found(name, written, prices)] if name else _all(written, prices)
    if json:
        click.echo(orjson.dumps([_shown(row) for row in rows], option=orjson.OPT_INDENT_2))
    elif name:
        _print_one(rows[0], prices)
    else:
        _print_all(rows)
    if name and rows[0].facts is None:
        sys.exit(1)


@command.command("update")
@files.option
@click.argument("file", type=click.Path(path_type=Path))
def update(path: Path | None, file: Path) -> None:
    """Import FILE: LiteLLM's model_prices_and_context_window.json.

    Its prices go before the built-in ones, and those of the configuration before both.
    """
    with files.faults_of(path):
        directory = Path(_ledger(None if path is None else config.load_as_written(path)).directory)
    try:
        read = litellm.read(file.read_bytes(), f"LiteLLM's price file, {file.name}", f"{datetime.now(UTC):%Y-%m-%d}")
    except (OSError, ValueError) as error:
        _refuse(f"{file}: cannot be read as LiteLLM's price file: {error}", "give its "
                "model_prices_and_context_window.json; nothing was changed")
    if not read.prices.models:
        _refuse(f"{file}: no model in it has a price that can be taken", "nothing was changed")
    target = directory / config.IMPORTED
    try:
        _replace(target, encode(read.prices))
    except OSError as error:
        _refuse(f"{target}: cannot be written: {error}", "see `ledger.directory` in the configuration")
    left_out = sum(map(len, read.left_out.values()))
    click.echo(f"{len(read.prices.models):,} models are taken, {left_out:,} are left out{':' if left_out else '.'}")
    for why, names in sorted(read.left_out.items(), key=lambda item: -len(item[1])):
        click.echo(f"  {len(names):>5,}  {why}, such as {', '.join(names[:2])}")
    _print_differences(read.prices)
    click.echo(f"\nThey are in {target}. A running gateway goes by them once it reloads (SIGHUP).")


def _refuse(problem: str, hint: str) -> None:
    click.echo(f"{problem}\n    hint: {hint}", err=True)
    sys.exit(2)


def _written(path: Path | None) -> Config | None:
    """Return the configuration as it is written; without a file, what the environment makes, if it makes one."""
    if path is not None:
        return config.load_as_written(path)
    with contextlib.suppress(ConfigError):
        return config.from_environment(os.environ)
    return None


def _ledger(written: Config | None) -> LedgerConfig:
    return config.placed(LedgerConfig(), os.environ) if written is None else written.ledger


def _found(name: str, written: Config | None, prices: Prices) -> Row:
    """Return the model of the configuration, or what a provider calls so."""
    if written is not None and name in written.models:
        return _configured(name, written, prices)
    return _row(name, prices.find(name))


def _all(written: Config | None, prices: Prices) -> list[Row]:
    if written is None:
        return [_row(name, prices.find(name)) for name in prices.names()]
    return [_configured(name, written, prices) for name in written.models]


def _configured(name: str, written: Config, prices: Prices) -> Row:
    model = written.models[name]
    known = prices.find(model.name or name, provider_of(written.upstreams[model.upstream].base_url))
    row = _row(name, known)
    return row if model.price is None or _is_given(written, model.price, known) else row
