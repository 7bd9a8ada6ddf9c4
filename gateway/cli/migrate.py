"""`thriftgate migrate`: bring the ledger's store to this version's schema. Exit 1 when the store cannot be reached."""

import asyncio
import sys
from pathlib import Path

import click

from gateway.cli import files
from gateway.config import LedgerConfig


@click.command("migrate")
@files.option
def command(path: Path | None) -> None:
    """Bring the ledger's store to the schema of this version. `serve` does so at its start as well."""
    from gateway.store.opening import StoreError  # noqa: PLC0415 - SQLAlchemy takes its time; --help need not wait

    ledger = files.load(path).ledger
    if not ledger.on:
        click.echo("ledger.url is none: there is no store.")
        return
    try:
        before, after = asyncio.run(_migrated(ledger))
    except StoreError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    if before == after:
        click.echo(f"The store is of revision {after} already: nothing to do.")
    else:
        click.echo(f"The store was {f'of revision {before}' if before else 'empty'}; it is of revision {after} now.")


async def _migrated(ledger: LedgerConfig) -> tuple[str | None, str | None]:
    from gateway.store import migrating, opening  # noqa: PLC0415 - likewise

    engine = opening.engine(ledger)
    try:
        before = await migrating.revision(engine)
        await migrating.upgrade(engine)
        return before, await migrating.revision(engine)
    finally:
        await engine.dispose()
