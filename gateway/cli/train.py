"""`thriftgate train`: the classifier's heads fitted to one's own outcomes, compared, and written if they are better."""

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, NoReturn

import click
import msgspec

from classifier import adapt, bundle, conversation
from classifier.bundle import BundleError
from classifier.conversation import Message, Turn
from classifier.predict import Predictor, Prompt
from gateway import wire

HINT = (
    'every line is an object with "prompt" (a text) or "messages" ([{"role","content"}]), and with "harm" (true: the '
    'cheap answer was materially worse) or "cheap" and "premium" (how good both answers were, 0 to 1)'
)


class _Line(msgspec.Struct):
    """One outcome."""

    prompt: str = ""
    messages: list[wire.Message] = []
    tools: Annotated[int, msgspec.Meta(ge=0)] = 0
    harm: bool | None = None
    cheap: float | None = None
    premium: float | None = None


@click.command("train")
@click.option("--from", "source", required=True, metavar="FILE|ledger",
              help="Outcomes as JSON Lines (-: standard input), or the ledger.")
@click.option("--bundle", "old", type=click.Path(path_type=Path), default=bundle.DEFAULT_DIRECTORY,
              help="The classifier to start from.  [default: the one shipped]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("my-classifier"), show_default=True,
              help="Directory of the new one; name it in the configuration as classifier.bundle.")
def command(source: str, old: Path, out: Path) -> None:
    """Fit the classifier's heads to your own outcomes.

    Old and new are compared on a fifth of the rows, which neither saw; a worse one is not written (exit 1).
    """
    if source == "ledger":
        _fail("the ledger keeps no outcomes yet\n    hint: collect them in a file and give its name")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        _fail(f"{out} is there already\n    hint: give the name of a new directory with --out")
    try:
        fitted = adapt.fit(Predictor.load(old), list(_outcomes(source)))
    except (BundleError, adapt.TooFew) as error:
        _fail(str(error))
    _show(fitted)
    if not fitted.better:
        click.echo("not written: on rows that neither saw the new one is not surely better")
        sys.exit(1)
    try:
        adapt.write(fitted, old, out, {"rows": fitted.rows, "date": datetime.now(UTC).date().isoformat()})
    except OSError as error:
        _fail(f"{out} cannot be written: {error.strerror}")
    click.echo(f"written: {out}\nuse it:  classifier: {{bundle: {out}}}")


def _outcomes(source: str) -> Iterator[adapt.Outcome]:
    """Read the outcomes, or exit 2 with the line that is wrong."""
    try:
        opened = sys.stdin.buffer if source == "-" else Path(source).open("rb")  # noqa: SIM115 - closed by `with` below
    except OSError as error:
        _fail(f"{source} cannot be read: {error.strerror}\n    hint: give the path of a JSON Lines file")
    with opened as file:
        yield from _lines(file)


def _lines(file: BinaryIO) -> Iterator[adapt.Outcome]:
    decoder = msgspec.json.Decoder(_Line)
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            line = decoder.decode(text)
            yield adapt.Outcome(_read(line), _needed(line))
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            _fail(f"line {number}: {error}\n    hint: {HINT}")


def _read(line: _Line) -> Prompt:
    messages: Sequence[Turn] = line.messages or [Message("user", line.prompt)]
    if not any(message.role == "user" and message.text().strip() for message in messages):
        raise ValueError("there is no prompt")
    return conversation.read(messages, tools=line.tools)


def _needed(line: _Line) -> float:
    """Return how much premium was needed, from the verdict of a judge or from two scores."""
    if line.harm is not None:
        return float(line.harm)
    if line.cheap is None or line.premium is None:
        raise ValueError("there is no outcome")
    if not (0 <= line.cheap <= 1 and 0 <= line.premium <= 1):
        raise ValueError("`cheap` and `premium` are between 0 and 1")
    return max(0.0, line.premium - line.cheap)


def _show(fitted: adapt.Fitted) -> None:
    click.echo(f"{fitted.rows} outcomes, {fitted.held_out} of them held out; pull {fitted.pull:g}")
    click.echo(f"log loss gained {fitted.gained:+.4f}, with 95 % confidence more than {fitted.surely:+.4f}")
    click.echo(f"{'held out':<10}{'log loss':>10}{'AUC':>8}{'sent cheap':>12}{'harmful, of all':>17}")
    for name, row in (("old", fitted.old), ("new", fitted.new)):
        click.echo(f"{name:<10}{row.log_loss:>10.4f}{row.auc:>8.3f}{row.sent_cheap:>12.1%}{row.harm:>17.1%}")


def _fail(message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(2)
