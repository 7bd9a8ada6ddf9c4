"""The configuration a command was given, or exit 2 with every fault."""

import os
import sys
from pathlib import Path

import click

from gateway import config
from gateway.config import Config
from gateway.faults import ConfigError

option = click.option(
    "-c", "--config", "path", type=click.Path(path_type=Path), metavar="FILE", help="The configuration, in YAML."
)


def load(path: Path | None) -> Config:
    """Return the file's configuration, or without a file the one that the provider keys in the environment give."""
    try:
        return config.from_environment(os.environ) if path is None else config.load(path)
    except ConfigError as error:
        count = len(error.faults)
        click.echo(f"{path or 'environment'}: {count} fault{'s' if count > 1 else ''}\n", err=True)
        for fault in error.faults:
            click.echo(str(fault), err=True)
        sys.exit(2)
