"""`thriftgate route`: the dry run on a terminal. Needs no provider and sends nothing."""

import sys
from pathlib import Path

import click
import orjson

from classifier.bundle import BundleError
from classifier.predict import Predictor
from gateway.classify import prompt_of
from gateway.cli import files
from gateway.errors import GatewayError
from gateway.explain import explain
from gateway.router import Router, Source, Verdict
from gateway.wire import chat


@click.command("route")
@files.option
@click.option("--model", default=None, metavar="NAME", help="The route or model to ask for; default: the first route.")
@click.argument("text")
def command(path: Path | None, model: str | None, text: str) -> None:
    """Say which model TEXT would get, why, and what it would cost."""
    config = files.load(path)
    name = model or next(iter(config.routes), next(iter(config.models)))
    try:
        predictor = Predictor.load(config.classifier.directory)
        text = text.encode(errors="replace").decode()      # an argument may be bytes that are not UTF-8
        request = chat.decode(orjson.dumps({"model": name, "messages": [{"role": "user", "content": text}]}), {})
        said = predictor.predict(prompt_of(request))
        verdict = Verdict(Source.CLASSIFIER, said.score, said.p_cheap, said.task)
        plan = Router(config.routes, config.models, predictor.default_threshold).plan(request, verdict)
    except (BundleError, GatewayError) as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    click.echo(orjson.dumps(explain(plan, verdict, request, config.models), option=orjson.OPT_INDENT_2))
