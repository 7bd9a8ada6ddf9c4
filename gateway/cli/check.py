"""`thriftgate check`: validate a configuration. Exit 0 when it is good, 2 with every fault when it is not."""

from pathlib import Path

import click

from gateway.cli import files


@click.command("check")
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), required=True, metavar="FILE",
              help="The configuration, in YAML.")
def command(path: Path) -> None:
    """Validate a configuration; every fault with its path, what was expected and a hint."""
    config = files.load(path)
    click.echo(
        f"{path}: good. {len(config.upstreams)} upstreams, {len(config.models)} models, {len(config.routes)} routes, "
        f"{len(config.keys)} keys."
    )
    for name, model in config.models.items():
        if model.price is None:
            click.echo(f"  models.{name}: no price is known for {model.name!r}; its costs will be unknown, not zero.")
    for name, route in config.routes.items():
        if route.promise is not None and route.threshold is None:
            click.echo(f"  routes.{name}: the promise is kept by the classifier's conservative default threshold.")
