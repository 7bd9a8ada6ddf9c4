"""`thriftgate report`: what was spent and what was saved. The store is enough; no running gateway is needed."""

import sys
import time
from pathlib import Path

import click
import orjson
from rich.console import Console

from gateway import report
from gateway.cli import files
from gateway.report import Report
from gateway.store import reports
from gateway.store.once import once
from gateway.store.opening import StoreError
from gateway.store.reports import Asked

WIDTH = 200         # of what is no terminal
# What is left out on a narrow one, as little as will do.
_INTERVAL = ("tokens", "low", "high")
SPARED = ((), ("tokens",), _INTERVAL, (*_INTERVAL, "estimated", "failed"))


@click.command("report")
@files.option
@click.option("--by", default="day", show_default=True, type=click.Choice(reports.BY), help="What the rows are.")
@click.option("--since", default="30d", show_default=True, metavar="WHEN", help="A span (30d, 12h), a day or an hour.")
@click.option("--until", metavar="WHEN", help="Up to this day or hour (UTC), without it; default: now.")
@click.option("--key", metavar="K", help="Only this key's.")
@click.option("--owner", metavar="O", help="Only this owner's keys'.")
@click.option("--route", metavar="R", help="Only this route's.")
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "csv", "json"]))
def command(path: Path | None, by: str, since: str, until: str | None, form: str, **whose: str | None) -> None:
    """Report what was spent, and what was saved against the top rung of the ladder."""
    ledger, now_ms = files.load(path).ledger, time.time_ns() // 1_000_000
    try:
        asked = report.bounds(since, until, now_ms)
        report.check_hours(by, asked, ledger.hours_days, now_ms)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not ledger.on:
        raise click.UsageError("ledger.url is none: there are no figures.")
    try:
        wanted = Asked(*asked, key=whose["key"], owner=whose["owner"], route=whose["route"])
        found = once(ledger, lambda engine: reports.grouped(engine, by, wanted))
    except StoreError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    made = report.made(by, found)
    if form == "json":
        click.echo(orjson.dumps(report.as_json(made, asked, whose), option=orjson.OPT_INDENT_2))
        return
    click.echo(report.sentence(made.total), err=form == "csv")      # what a spreadsheet reads has nothing but rows
    if form == "csv":
        click.echo(report.as_csv(made), nl=False)
    elif made.rows:
        _print(made, Console(width=None if sys.stdout.isatty() else WIDTH))


def _print(made: Report, console: Console) -> None:
    """Print the table, on a narrow terminal without the columns that the others say as well."""
    tables = [report.table(made, spared) for spared in SPARED]
    free = console.options.update(max_width=10 * WIDTH)
    fitting = (table for table in tables if console.measure(table, options=free).maximum <= console.width)
    console.print(next(fitting, tables[-1]))
