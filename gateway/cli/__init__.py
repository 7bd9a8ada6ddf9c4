"""The command line: one file a command. Commands import what they need when they run, so `--help` is quick."""

import importlib
from typing import Any

import click

COMMANDS = {
    "serve": "Run the gateway.",
    "demo": "Run the demo: mock provider, gateway, twelve prompts, a live table.",
    "keys": "Make, list, replace and withdraw the keys that are in the store.",
    "report": "What was spent, and what was saved against the top rung, with an interval.",
    "migrate": "Bring the ledger's store to the schema of this version.",
    "prices": "Show what models cost and where that is from; import a price list.",
    "check": "Validate a configuration; every fault with its path and a hint.",
    "classify": "Judge prompts: score, p_cheap and task.",
    "train": "Fit the classifier to your own outcomes; a worse one is not written.",
    "route": "Dry run: which model a prompt would get, why, and what it would cost.",
}


class _Commands(click.Group):
    """Finds a command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"gateway.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - likewise
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="thriftgate", message="thriftgate %(version)s")
def main(**_: Any) -> None:
    """Thriftgate: the LLM gateway that pays for itself."""
