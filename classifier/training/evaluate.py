"""`make evaluate`: measures the shipped bundle, prints the boards, puts them into the manifest and renders the card
from it.

    python -m classifier.training.evaluate --data ../shared/data
    python -m classifier.training.evaluate --routellm CLONE     # only replays RouteLLM's protocol, and changes no file

Under ten minutes on two cores, nearly all of it in the trainings without some sources (`--loso-steps 0` skips them).
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from tokenizers import Tokenizer

from classifier import bench, bundle
from classifier.features import Prompt
from classifier.predict import Predictor
from classifier.training import base, boards, card, dataset, fit, routellm, train
from classifier.training.dataset import Example
from classifier.training.model import Router
from classifier.training.ngram import NGrams
from classifier.training.teacher import Taught, Teacher

LOSO_STEPS = 200


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and rewrite the manifest's boards and the card."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    predictor = Predictor.load(options.bundle)
    if options.routellm:
        print(card.routellm(replayed(options.routellm, predictor)))
        return
    directory = options.bundle or bundle.DEFAULT_DIRECTORY
    manifest = bundle.read_manifest(directory)
    measured = measure(predictor, options)
    kept = {name: board for name, board in manifest.metrics.get("boards", {}).items() if name not in measured}
    manifest = msgspec.structs.replace(manifest, metrics={**manifest.metrics, "boards": {**kept, **measured}})
    bundle.write_manifest(directory, manifest)
    card.draw_reliability(measured["held_out"]["reliability"], directory / card.RELIABILITY)
    text = card.render(manifest, sizes(directory))
    (directory / bundle.CARD).write_text(text, encoding="utf-8")
    print(text)


def measure(predictor: Predictor, options: argparse.Namespace) -> dict[str, Any]:
    """Every board by its name."""
    home = base.base_directory(options.base)
    whole = Teacher(home)
    examples = dataset.load(options.data, options.own)
    training, _ = train.split(examples)
    judge, rival = boards.by_predictor(predictor), NGrams(training)
    measured: dict[str, Any] = {
        "machine": bench.machine(),
        "latency": [asdict(row) for row in bench.timings(predictor)],
        "short_prompts_per_s": round(bench.throughput(predictor)),
        "held_out": boards.held_out(examples, predictor, rival),
        "robust": boards.robust(examples, predictor),
        "stuffed": boards.stuffed(examples, predictor),
        "embedding": boards.embedding(examples, predictor, whole),
        "anchors": boards.at_threshold(examples, predictor),
        "probes": boards.probed(predictor),
        "never_trained": boards.ranked([e for e in examples if not e.trainable], judge, rival),
        "in_sample": boards.ranked([e for e in examples if e.trainable], judge, rival),
    }
    if options.loso_steps and options.data:
        rows = boards.sample(training)
        taught = whole.teach(rows)

        def trained(kept: Sequence[Example], said: Taught) -> tuple[Router, Tokenizer]:
            """A network like the shipped one, trained for fewer steps."""
            made = base.load_base(home, train.LAYERS, train.VOCABULARY, train.INNER, options.seed)
            fit.fit(*made, kept, fit.Knobs(steps=options.loso_steps, seed=options.seed), said)
            return made

        measured |= {
            "left_out": boards.left_out(examples, rows, taught, trained),
            "own_alone": boards.own_alone(examples, rows, taught, trained),
            "left_out_steps": options.loso_steps,
        }
    return measured


def replayed(clone: Path, predictor: Predictor) -> list[dict[str, Any]]:
    """RouteLLM's three benchmarks, for the score and for prompt length. Raises `SystemExit` without them."""
    found = []
    for name, prompts, weak, strong in routellm.read(clone):
        judged = predictor.predict_many([Prompt(text) for text in prompts])
        scores = np.array([prediction.score for prediction in judged])
        lengths = np.array([float(len(text)) for text in prompts])
        found += [
            boards.standing(name, scores, weak, strong, {"length": lengths})
            | {
                "replayed": {
                    by: routellm.replay(values, weak, strong)._asdict()
                    for by, values in (("score", scores), ("length", lengths))
                }
            }
        ]
    return found


def sizes(directory: Path) -> dict[str, int]:
    """Bytes of the files that serve."""
    return {name: (directory / name).stat().st_size for name in bundle.FILES}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure the classifier and render its card.")
    parser.add_argument("--data", type=Path, help="directory of outcome files (default: our own set alone)")
    parser.add_argument("--own", type=Path, default=dataset.OWN, help="directory of the judged prompts")
    parser.add_argument("--bundle", type=Path, help="the bundle to measure (default: the one shipped)")
    parser.add_argument("--base", type=Path, help="base weights (default: the installed package)")
    parser.add_argument("--routellm", type=Path, metavar="CLONE", help="replay RouteLLM's protocol from a clone")
    parser.add_argument("--loso-steps", type=int, default=LOSO_STEPS, help="steps of a left-out training; 0: skip")
    parser.add_argument("--seed", type=int, default=fit.Knobs().seed)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
