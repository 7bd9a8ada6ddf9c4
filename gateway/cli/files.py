"""The configuration a command was given, or exit 2 with every fault."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from classifier import bundle
from classifier.features import TASKS
from gateway import config
from gateway.config import Config
from gateway.faults import ConfigError, Fault, closest

option = click.option(
    "-c", "--config", "path", type=click.Path(path_type=Path), metavar="FILE", help="The configuration, in YAML."
)


def load(path: Path | None) -> Config:
    """Return the file's configuration, or without a file the one that the provider keys in the environment give."""
    with faults_of(path):
        return read(path)


@contextlib.contextmanager
def faults_of(path: Path | None) -> Iterator[None]:
    """Exit 2 with every fault that is raised within."""
    try:
        yield
    except ConfigError as error:
        count = len(error.faults)
        click.echo(f"{path or 'environment'}: {count} fault{'s' if count > 1 else ''}\n", err=True)
        for fault in error.faults:
            click.echo(str(fault), err=True)
        sys.exit(2)


def read(path: Path | None) -> Config:
    """Return the same, or raise ConfigError with every fault."""
    found = config.from_environment(os.environ) if path is None else config.load(path)
    _check_tasks(found)
    return found


def read_again(path: Path) -> Config:
    """Return what the file says now. A classifier that cannot be loaded is a fault here: another serves already."""
    found = read(path)
    try:
        bundle.load(found.classifier.directory)
    except bundle.BundleError as error:
        hint = "name a directory that `thriftgate train` has written"
        raise ConfigError([Fault("classifier.bundle", str(error), hint)]) from None
    return found


def _check_tasks(found: Config) -> None:
    """A rule for a task that the classifier never says would never hold: raise ConfigError."""
    named = {
        f"routes.{name}.rules[{i}].when.task": rule.when.task
        for name, route in found.routes.items() for i, rule in enumerate(route.rules)
    }
    faults = [
        Fault(path, f"there is no task {task!r}", closest(task, TASKS) or f"tasks are {', '.join(TASKS)}")
        for path, task in named.items() if task is not None and task not in TASKS
    ]
    if faults:
        raise ConfigError(faults)
