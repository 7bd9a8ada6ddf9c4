"""`make evaluate`: measures the shipped bundle, prints the boards, puts them into the manifest and renders the card
from it.

    python -m classifier.training.evaluate --data ../shared/data

About five minutes on two cores, nearly all of it in the five left-out trainings (`--loso-steps 0` skips them).
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec
import torch

from classifier import bench, bundle
from classifier.predict import Predictor
from classifier.training import base, boards, card, dataset, fit, train

LOSO_STEPS, LOSO_BATCH = 80, 24


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and rewrite the manifest's boards and the card."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    predictor = Predictor.load(options.bundle)
    examples = dataset.load(options.data, options.anchors)
    trained = [example for example in examples if example.trainable]
    judge = boards.by_predictor(predictor)
    measured = {
        "machine": bench.machine(),
        "latency": [asdict(row) for row in bench.timings(predictor)],
        "short_prompts_per_s": round(bench.throughput(predictor)),
        "anchors": boards.at_threshold(examples, predictor),
        "probes": boards.probed(predictor),
        "calibration": boards.calibrated(examples, predictor),
        "never_trained": boards.ranked([e for e in examples if not e.trainable], judge),
        "in_sample": boards.ranked(trained, judge),
    }
    if options.loso_steps:
        home = base.base_directory(options.base)
        knobs = fit.Knobs(steps=options.loso_steps, batch=LOSO_BATCH, seed=options.seed)
        measured["left_out"] = boards.left_out(
            examples, lambda: base.load_base(home, train.LAYERS, train.VOCABULARY, train.INNER), knobs
        )
        measured["left_out_steps"] = options.loso_steps
    directory = options.bundle or bundle.DEFAULT_DIRECTORY
    manifest = bundle.read_manifest(directory)
    manifest = msgspec.structs.replace(manifest, metrics={**manifest.metrics, "boards": measured})
    bundle.write_manifest(directory, manifest)
    text = card.render(manifest, sizes(directory))
    (directory / bundle.CARD).write_text(text, encoding="utf-8")
    print(text)


def sizes(directory: Path) -> dict[str, int]:
    """Bytes of the files that serve."""
    return {name: (directory / name).stat().st_size for name in (bundle.MODEL, bundle.TOKENIZER)}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure the classifier and render its card.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="directory of the outcome files")
    parser.add_argument("--anchors", type=Path, default=dataset.ANCHORS, help="prompts judged for this project")
    parser.add_argument("--bundle", type=Path, help="the bundle to measure (default: the one shipped)")
    parser.add_argument("--base", type=Path, help="base weights (default: the installed package)")
    parser.add_argument("--loso-steps", type=int, default=LOSO_STEPS, help="steps of a left-out training; 0: skip")
    parser.add_argument("--seed", type=int, default=fit.Knobs().seed)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
