"""`thriftgate prices`: what models cost and who says so; and the import of LiteLLM's public price file."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import orjson

from gateway import config
from gateway.cli import files
from gateway.config import LedgerConfig
from gateway.faults import ConfigError
from gateway.pricing import Facts, Known, Price, PriceList, Prices, built_in, encode, litellm, named, provider_of

SHOWN = ("input", "output", "cached_input", "cache_write")      # where many are listed


class Model(NamedTuple):
    """A model of the configuration: what its provider calls it, and the price that it is given there."""

    name: str
    provider: str
    price: Price | None


class Row(NamedTuple):
    """A model with what is known of it, and who says so."""

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
        ledger, models = _configured(path)
        prices = config.known_prices(ledger)
    if name:
        rows = [_row(name, models.get(name, Model(name, "", None)), prices)]
    else:
        rows = [_row(each, model, prices) for each, model in models.items()]
    if not rows:
        rows = [_row(each, Model(each, "", None), prices) for each in prices.names()]
    if json:
        click.echo(orjson.dumps([_shown(row) for row in rows], option=orjson.OPT_INDENT_2))
    elif name:
        _print_one(rows[0])
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
        ledger = config.placed(LedgerConfig(), os.environ) if path is None else config.load_as_written(path).ledger
    try:
        read = litellm.read(file.read_bytes(), f"LiteLLM's price file, {file.name}", f"{datetime.now(UTC):%Y-%m-%d}")
    except (OSError, ValueError) as error:
        _refuse(f"{file}: cannot be read as LiteLLM's price file: {error}", "give its "
                "model_prices_and_context_window.json; nothing was changed")
    if not read.prices.models:
        _refuse(f"{file}: no model in it has a price that can be taken", "nothing was changed")
    target = Path(ledger.directory) / config.IMPORTED
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


def _configured(path: Path | None) -> tuple[LedgerConfig, dict[str, Model]]:
    """Return where data belongs, and the models as the configuration has them; without one, what there are keys for."""
    if path is not None:
        written = config.load_as_written(path)
    else:
        try:
            written = config.from_environment(os.environ)
        except ConfigError:
            return config.placed(LedgerConfig(), os.environ), {}
    return written.ledger, {
        name: Model(
            model.name or name, provider_of(written.upstreams[model.upstream].base_url),
            model.price if path is not None else None,
        )
        for name, model in written.models.items()
    }


def _row(name: str, model: Model, prices: Prices) -> Row:
    known = prices.find(model.name, model.provider)
    if model.price is not None:
        facts = Facts(model.price) if known is None else known.facts
        return Row(name, msgspec.structs.replace(facts, price=model.price, source="", as_of=""), "configuration")
    return Row(name, None, "unknown") if known is None else Row(name, known.facts, _said_by(known))


def _said_by(known: Known) -> str:
    return f"{known.origin}, {known.facts.as_of}, as {known.name}"


def _shown(row: Row) -> dict[str, Any]:
    return {"name": row.name, "from": row.origin, **({} if row.facts is None else msgspec.to_builtins(row.facts))}


def _print_one(row: Row) -> None:
    if row.facts is None:
        click.echo(f"{row.name}: no price is known; its costs will be unknown, not zero", err=True)
        click.echo("    hint: give it one (`models.NAME.price`), or import a newer price list", err=True)
        return
    lines: dict[str, object] = {"from": row.origin, "source": row.facts.source}
    lines |= {part: f"{dollars:g}" for part, dollars in named(row.facts.price).items()}
    lines |= {"context": row.facts.context, "max_output": row.facts.max_output}
    click.echo(row.name)
    for what, value in lines.items():
        if value:
            click.echo(f"  {what:<34}{value}")


def _print_all(rows: list[Row]) -> None:
    _print_table([("model", *SHOWN, "from"), *((row.name, *_numbers(row), row.origin) for row in rows)])


def _numbers(row: Row) -> list[str]:
    return [_number(None if row.facts is None else getattr(row.facts.price, part)) for part in SHOWN]


def _print_differences(imported: PriceList) -> None:
    """Say where the built-in table has other prices."""
    table, prices = built_in(), Prices(imported)
    differences: list[tuple[str, ...]] = []
    absent = 0
    for name, facts in table.models.items():
        known = prices.find(name, facts.provider)
        if known is None or known.origin != "imported":
            absent += 1
            continue
        before, after = named(facts.price), named(known.facts.price)
        differences += [
            (name, part, _number(before.get(part)), _number(after.get(part)))
            for part in {**before, **after} if before.get(part) != after.get(part)
        ]
    models = len({name for name, *_ in differences})
    click.echo(
        f"\nThe built-in table of {table.as_of} has {len(table.models)} models: {absent} are not in the file and keep"
        f" their prices, {models} have other ones now{':' if models else '.'}"
    )
    if differences:
        _print_table([("model", "what", "built-in", "imported"), *differences])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _replace(target: Path, data: bytes) -> None:
    """Write the file at once: whoever reads meanwhile has the one before or this one."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
