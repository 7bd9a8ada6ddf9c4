"""`thriftgate serve`: the gateway on a port."""

import ipaddress
import os
import sys
from functools import partial
from pathlib import Path

import click
import uvloop

from gateway import logs
from gateway.cli import files
from gateway.config import Config
from gateway.faults import ConfigError, Fault
from gateway.keys import KeyFault


@click.command("serve")
@files.option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="The port; 0: any.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes on that port.")
def command(path: Path | None, host: str, port: int, workers: int) -> None:
    """Run the gateway. Without a file: routes from OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY."""
    config = files.load(path)
    try:
        open_ = _check_closed(config, host)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    logs.configure()
    again = partial(_again, path, host)
    if workers > 1:
        from gateway import workers as several  # noqa: PLC0415 - gunicorn, only where it is asked for

        try:
            several.serve(config, (host, port), workers, again, open_=open_)
        except OSError as error:
            _cannot_listen(host, port, os.strerror(error.errno) if error.errno else str(error))
        return
    from gateway import app  # noqa: PLC0415 - loads onnxruntime: not for a configuration that is refused

    try:
        uvloop.run(app.serve(config, host, port, again, open_=open_))
    except app.CannotListen as error:
        _cannot_listen(host, port, str(error))


def _again(path: Path | None, host: str) -> Config | None:
    """Return what the file says now; None where there is none or it is bad, which is logged with every fault."""
    if path is None:
        logs.say("not reloaded", "warning", faults=["there is no file to read again: `serve` was started without one"])
        return None
    try:
        config = files.read_again(path)
        _check_closed(config, host)
    except ConfigError as error:
        logs.say("not reloaded", "error", file=str(path), faults=list(map(str, error.faults)))
        return None
    except Exception:  # noqa: BLE001 - whatever a file may hold, what serves goes on
        logs.say("not reloaded", "error", file=str(path), exc_info=True)
        return None
    return config


def _check_closed(config: Config, host: str) -> bool:
    """Say whether the gateway may be open to whoever has no key, as long as there is none: where nobody else comes.

    Elsewhere it needs keys, or somebody who can make them; raises ConfigError.
    """
    if _is_loopback(host):
        return True
    if not config.keys and config.admin.key is None and (problem := _lacks_keys(config)):
        hint = "add a `keys:` section, or make one with `thriftgate keys create`, or listen on 127.0.0.1"
        raise ConfigError([Fault(host, f"can be reached by others and {problem}", hint)])
    return False


def _lacks_keys(config: Config) -> str | None:
    """Return why no key of the store is good, None where one is."""
    nobody = "no `keys` are configured: anybody could spend your money"
    if not config.ledger.on:
        return nobody
    from gateway.store import keys, once, secret  # noqa: PLC0415 - SQLAlchemy, only where it is needed
    from gateway.store.opening import StoreError  # noqa: PLC0415 - likewise

    try:
        found = once.once(config.ledger, keys.load)
        if not found.keys:
            return nobody
        secret.check(config.ledger, found.check)
    except (StoreError, KeyFault) as error:
        return f"no `keys` are configured, and those of the store cannot be used: {error}"
    return None


def _cannot_listen(host: str, port: int, why: str) -> None:
    click.echo(f"{host}:{port} cannot be listened on: {why}", err=True)
    click.echo("    hint: choose another with --port, or 0 for any free one", err=True)
    sys.exit(2)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
