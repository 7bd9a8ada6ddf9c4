"""`thriftgate classify`: the classifier's verdicts, for people and for scripts."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from classifier import conversation
from classifier.bundle import BundleError
from classifier.conversation import Message
from classifier.predict import Prediction, Predictor, Prompt

BATCH = 256


class _Line(msgspec.Struct):
    """A line to judge: what is asked, and a conversation's user turns; without a prompt the last of them is asked."""

    id: str | int
    prompt: str = ""
    turns: list[str] = []


@click.command("classify")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--jsonl", "path", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE",
              help='Read {"id","prompt"[,"turns"]} lines (-: standard input), write {"id","score","p_cheap","task"}.')
@click.option("--bundle", type=click.Path(path_type=Path), help="A classifier of your own.  [default: the one shipped]")
def command(texts: tuple[str, ...], path: Path | None, bundle: Path | None) -> None:
    """Judge prompts. A higher score needs premium more; p_cheap is the chance that a cheap answer is as good."""
    if bool(texts) == (path is not None):
        raise click.UsageError("give TEXT, or --jsonl FILE")
    try:
        predictor = Predictor.load(bundle)
    except BundleError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    if path is None:
        for text in texts:
            said = predictor.predict(conversation.read([Message("user", text)]))
            click.echo(f"score {said.score:.3f}  p_cheap {said.p_cheap:.3f}  {said.task:<12} {_short(text)}")
        return
    try:
        opened = sys.stdin.buffer if str(path) == "-" else path.open("rb")
    except OSError as error:
        click.echo(f"{path} cannot be read: {error.strerror}\n    hint: give the path of a JSON Lines file", err=True)
        sys.exit(2)
    with opened as file:
        _judge_lines(predictor, file)


def _judge_lines(predictor: Predictor, file: BinaryIO) -> None:
    batch: list[_Line] = []
    for line in _lines(file):
        batch.append(line)
        if len(batch) == BATCH:
            _write(predictor, batch)
            batch = []
    _write(predictor, batch)


def _lines(file: BinaryIO) -> Iterator[_Line]:
    decoder = msgspec.json.Decoder(_Line)
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            yield decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            hint = 'every line is an object {"id": …, "prompt": "…"}'
            click.echo(f"line {number}: {error}\n    hint: {hint}", err=True)
            sys.exit(2)


def _write(predictor: Predictor, batch: list[_Line]) -> None:
    said = predictor.predict_many([_prompt(line) for line in batch])
    sys.stdout.buffer.write(b"".join(map(_output, batch, said)))
    sys.stdout.buffer.flush()


def _prompt(line: _Line) -> Prompt:
    turns, asked = line.turns, line.prompt
    if asked:
        turns = turns[: turns.index(asked) + 1] if asked in turns else [*turns, asked]
    return conversation.read([Message("user", text) for text in turns])


def _output(line: _Line, said: Prediction) -> bytes:
    fields = {"id": line.id, "score": round(said.score, 6), "p_cheap": round(said.p_cheap, 6), "task": said.task}
    return msgspec.json.encode(fields) + b"\n"      # not orjson: an id may be larger than 64 bits


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 70 else flat[:69] + "…"
