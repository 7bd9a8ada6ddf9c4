"""The frontier of quality against time: the same recipe on networks of other shapes, and cascades of two.

    python -m classifier.training.frontier

Every point is trained on our own set alone, so that all outcome files are unseen by all of them; quality is AUC on our
held-out rows and the mean share of the oracle's gain over the unseen sources of `--data`. Time is of the int8 file with
tokenising, features and heads. Writes the table and the picture beside the shipped bundle.
A cascade asks its second network only where the first one's p_cheap is within `NEAR` of the default threshold.
"""

import argparse
import random
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import msgspec
import numpy as np
import torch
from matplotlib import pyplot as plt
from tokenizers import Tokenizer

from classifier import bench, bundle, calibration
from classifier.features import FEATURES_VERSION, TASKS, Prompt
from classifier.predict import Predictor
from classifier.training import base, dataset, export, fit, measure, train
from classifier.training.dataset import Example
from classifier.training.measure import Vector
from classifier.training.model import Router
from classifier.training.teacher import Teacher

SHAPES = ((0, 0), (1, 768), (1, 1536), (2, 768), (3, 768), (6, 1536))  # layers, feed-forward units
CASCADES = (("0 layers", "2 layers, 768"), ("1 layer, 768", "3 layers, 768"))
NEAR = 0.15
STEPS = 350
LARGEST = 500  # rows of an unseen source
PICTURE = "frontier.svg"


class Point(NamedTuple):
    """One trained network and what it says of everything that is scored."""

    name: str
    mb: float
    ms: tuple[float, float]  # at 64 and at 128 tokens
    p_cheap: dict[str, Vector]  # by source; "" is our own set's held-out rows
    score: dict[str, Vector]
    task_accuracy: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every point, print the table, put it into the manifest, draw the picture."""
    options = _options(arguments)
    torch.set_num_threads(2)
    examples = dataset.load(options.data)
    sources = by_source(examples)
    home = base.base_directory(options.base)
    training = [e for e in examples if e.own and not e.held_out]
    taught = Teacher(home).teach(training)
    points = {}
    for layers, inner in SHAPES:
        name = "0 layers" if not layers else f"{layers} layer{'s' if layers > 1 else ''}, {inner}"
        print(name, flush=True)
        model, tokenizer = base.load_base(home, layers, train.VOCABULARY, inner)
        fit.fit(model, tokenizer, training, fit.Knobs(steps=options.steps), taught)
        points[name] = point(name, model, tokenizer, sources)
    found = [row(each, sources) for each in points.values()]
    found += [row(cascade(points[a], points[b]), sources) for a, b in CASCADES]
    manifest = bundle.read_manifest(options.out)
    metrics = {**manifest.metrics, "boards": {**manifest.metrics.get("boards", {}), "frontier": found}}
    bundle.write_manifest(options.out, msgspec.structs.replace(manifest, metrics=metrics))
    draw(found, options.out / PICTURE)
    for line in found:
        print(line)


def by_source(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """What is scored: held-out rows of our own set under "", and some of each other source."""
    by_group: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.weak is not None:
            by_group[example.group].append(example)
    rng = random.Random(0)
    some = {name: rows if len(rows) <= LARGEST else rng.sample(rows, LARGEST) for name, rows in by_group.items()}
    return {"": [e for e in examples if e.own and e.held_out], **some}


def point(name: str, model: Router, tokenizer: Tokenizer, sources: dict[str, list[Example]]) -> Point:
    """Quality in torch, size and time of the int8 file."""
    own = sources[""]
    logits, tasks, _ = fit.run(model, tokenizer, [e.prompt for e in own])
    fitted = fit.calibrate(logits, own)
    p_cheap, score = {}, {}
    for source, rows in sources.items():
        said = fit.judge(model, tokenizer, [e.prompt if e.own else Prompt(dataset.bare(e)) for e in rows])
        p_cheap[source] = np.array([calibration.p_cheap(line, fitted) for line in said])
        score[source] = np.array([calibration.score(line, fitted) for line in said])
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        export.write(model, tokenizer, made)
        files = {name: bundle.sha256(made / name) for name in bundle.FILES}
        manifest = bundle.Manifest(1, FEATURES_VERSION, files, TASKS, fitted, train.NATURAL_THRESHOLD, {}, {})
        bundle.write_manifest(made, manifest)
        mb = sum((made / name).stat().st_size for name in bundle.FILES) / 1e6
        timings = bench.timings(Predictor.load(made))
    ms = {timing.name: timing.p50_ms for timing in timings}
    right = float(np.mean(tasks.argmax(1) == [e.task for e in own]))
    return Point(name, mb, (ms["64 tokens"], ms["128 tokens"]), p_cheap, score, right)


def cascade(first: Point, second: Point) -> Point:
    """The second network's word where the first is near the threshold."""
    near = {source: np.abs(p - train.NATURAL_THRESHOLD) < NEAR for source, p in first.p_cheap.items()}
    share = float(near[""].mean())

    def mixed(a: dict[str, Vector], b: dict[str, Vector]) -> dict[str, Vector]:
        return {source: np.where(near[source], b[source], a[source]) for source in a}

    ms = (first.ms[0] + share * second.ms[0], first.ms[1] + share * second.ms[1])
    accuracy = (1 - share) * first.task_accuracy + share * second.task_accuracy
    name = f"{first.name}, then {second.name} for {share:.0%}"
    both = mixed(first.p_cheap, second.p_cheap)
    return Point(name, first.mb + second.mb, ms, both, mixed(first.score, second.score), accuracy)


def row(each: Point, sources: dict[str, list[Example]]) -> dict[str, Any]:
    """One line of the table."""
    own = sources[""]
    definite = np.array([e.group == "own:definite" for e in own])
    hard = np.array([float((e.need or 0) > 0.5) for e in own])
    shares = []
    for source, rows in sources.items():
        if not source:
            continue
        weak, strong = (np.array([getattr(e, side) for e in rows], np.float64) for side in ("weak", "strong"))
        if strong.mean() - weak.mean() >= measure.SMALLEST_GAP:
            shares.append(measure.of_oracle(each.score[source], weak, strong))
    return {
        "name": each.name,
        "mb": round(each.mb, 2),
        "ms64": round(each.ms[0], 3),
        "ms128": round(each.ms[1], 3),
        "auc": round(measure.auc(-each.p_cheap[""][definite], hard[definite]), 4),
        "of_oracle": round(float(np.mean(shares)), 4),
        "task_accuracy": round(each.task_accuracy, 4),
    }


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Both qualities against time at 64 tokens."""
    mpl.rcParams["svg.hashsalt"] = "thriftgate"  # equal figures are equal bytes
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5))
    for axis, key, title in zip(
        axes, ("auc", "of_oracle"), ("AUC, own set held out", "share of the oracle's gain, unseen sources"), strict=True
    ):
        axis.set(xlabel="ms at 64 tokens (p50, one thread)", ylabel=title)
        axis.axvline(1.0, color="0.8", zorder=0)
        for line in rows:
            axis.plot(line["ms64"], line[key], "s" if "then" in line["name"] else "o", color="C0")
            axis.annotate(
                line["name"], (line["ms64"], line[key]), fontsize=7, xytext=(3, 3), textcoords="offset points"
            )
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure networks of other shapes.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="directory of outcome files")
    parser.add_argument("--base", type=Path, help="base weights (default: the installed package)")
    parser.add_argument("--out", type=Path, default=bundle.DEFAULT_DIRECTORY, help="the bundle that keeps the table")
    parser.add_argument("--steps", type=int, default=STEPS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
