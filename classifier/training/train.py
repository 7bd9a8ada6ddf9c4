"""`make train`: data in, a verified bundle out. Train, calibrate, export, quantise, measure parity, write the manifest.

    python -m classifier.training.train --data ../shared/data --out onnx_models

Seeded; six to ten minutes on two cores. Refuses to write a bundle whose int8 file strays from the torch network
(parity.py).
"""

import argparse
import platform
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from classifier import bundle, calibration
from classifier.calibration import Calibration
from classifier.features import FEATURES_VERSION, TASKS, Prompt
from classifier.training import base, boards, dataset, export, fit, measure, parity
from classifier.training.dataset import Example
from classifier.training.model import Router

LAYERS = 2  # layers 2 and 3 rank alike (base.py), and each costs its share of the latency
INNER = 768  # of 1536 feed-forward units: a third of the time
VOCABULARY = 18_000  # 0.4 kB a piece; what is dropped falls into pieces that are kept
COMPOSED = 600
PARITY_PROMPTS = 300
NATURAL_THRESHOLD = 0.7  # "seven in ten are as good" is what a route without a threshold promises, if the anchors allow

LICENCES = {
    "mmlu_pro": "Apache-2.0 (TIGER-AI-Lab/MMLU-Pro)",
    "zeroeval_crux": "Apache-2.0 (WildEval/ZeroEval)",
    "zeroeval_math_l5": "Apache-2.0 (WildEval/ZeroEval); problems of MATH",
    "math_levels": "MIT (microsoft/ToRA); problems of MATH",
    "uiuc": "MIT (ulab-uiuc/LLMRouter); share-alike rows left out",
    "misguided_attention": "CC0-1.0 (cpldcpu/MisguidedAttention)",
    "arena_hard_prompts": "Apache-2.0 (lm-sys/arena-hard-auto)",
    "mtbench101_prompts": "Apache-2.0 (mtbench101/mt-bench-101)",
    "clinc150_intents": "CC-BY-3.0 (clinc/oos-eval; Larson et al., EMNLP 2019)",
    "anchors": "Apache-2.0 (written for Thriftgate)",
    "composed": "as the rows wrapped",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write a bundle, as the command line says."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    knobs = fit.Knobs(steps=options.steps, seed=options.seed)
    model, tokenizer = base.load_base(base.base_directory(options.base), LAYERS, VOCABULARY, INNER)
    examples = dataset.load(options.data, options.anchors)
    built = build(model, tokenizer, examples, knobs, options.out)
    print(f"{options.out}: {built.default_threshold:.2f} is the default threshold, digest {bundle.digest(built)}")


def build(
    model: Router, tokenizer: Tokenizer, examples: Sequence[Example], knobs: fit.Knobs, out: Path
) -> bundle.Manifest:
    """Train `model` on `examples` and write the whole bundle to `out`. Raises `SystemExit` when parity fails."""
    began = time.monotonic()
    training, held = split(examples, knobs.seed)
    fit.fit(model, tokenizer, training, knobs)
    prompts = [dataset.plain(example) for example in held]
    logits = fit.judge(model, tokenizer, prompts)
    fitted = fit.calibrate(logits, held)
    metrics = held_out_metrics(logits, held, fitted)
    metrics["held_out"]["task_accuracy"] = _task_accuracy(model, tokenizer, held)
    threshold = default_threshold(logits, held, fitted)
    metrics["held_out"]["shares"] = shares(logits, held, fitted, threshold)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        metrics["parity"] = _export(model, tokenizer, prompts, fitted, threshold, made)
        metrics["reference"] = _reference(model, tokenizer)
        metrics["training_s"] = round(time.monotonic() - began)
        manifest = bundle.Manifest(
            format=1,
            feature_version=FEATURES_VERSION,
            files={name: bundle.sha256(made / name) for name in (bundle.MODEL, bundle.TOKENIZER)},
            tasks=TASKS,
            calibration=fitted,
            default_threshold=threshold,
            provenance=_provenance(model, training, held, knobs),
            metrics=metrics,
        )
        if faults := parity.faults(metrics["parity"]):
            raise SystemExit(f"the int8 network strays from the trained one: {'; '.join(faults)}")
        out.mkdir(parents=True, exist_ok=True)
        for name in (bundle.MODEL, bundle.TOKENIZER):
            shutil.copyfile(made / name, out / name)
    bundle.write_manifest(out, manifest)
    return manifest


def split(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """What is trained on, composed requests included, and what calibration and held-out figures come from."""
    usable = [example for example in examples if example.trainable]
    training = [example for example in usable if not example.held_out]
    held = [example for example in usable if example.held_out]
    rng = random.Random(seed)
    training += dataset.composed(training, rng, COMPOSED)
    held += dataset.composed(held, rng, COMPOSED // 6)
    return training, held


def held_out_metrics(logits: Any, held: Sequence[Example], fitted: Calibration) -> dict[str, Any]:
    """Calibration on rows of the training sources that were held out: honest about rows, not about new sources."""
    predicted = np.array([calibration.p_cheap(row, fitted) for row in logits])
    actual = np.array([np.nan if e.p_cheap is None else e.p_cheap for e in held])
    weights = fit.balance(held)
    ece = measure.calibration_error(predicted, actual, weights)
    table = [[round(value, 3) for value in line] for line in measure.reliability(predicted, actual, weights)]
    return {"held_out": {"rows": len(held), "ece": round(ece, 4), "reliability": table}}


def default_threshold(logits: Any, held: Sequence[Example], fitted: Calibration) -> float:
    """`NATURAL_THRESHOLD` if it keeps the anchors well apart on held-out rows, else the threshold that does so best.

    Well apart: at least 95 % of the everyday commands cheap and 75 % of the hard requests not.
    """
    predicted = np.array([calibration.p_cheap(row, fitted) for row in logits])
    groups = np.array([example.group for example in held])
    easy, hard = predicted[groups == "clinc150_intents"], predicted[groups == "arena_hard_prompts"]
    if not len(easy) or not len(hard):
        return NATURAL_THRESHOLD

    def margin(threshold: float) -> float:
        return float(min((easy >= threshold).mean() - 0.95, (hard < threshold).mean() - 0.75))

    if margin(NATURAL_THRESHOLD) >= 0:
        return NATURAL_THRESHOLD
    return max((percent / 100 for percent in range(40, 96)), key=margin)


def shares(logits: Any, examples: Sequence[Example], fitted: Calibration, threshold: float) -> dict[str, float]:
    """By group: the share of prompts that `threshold` sends cheap."""
    predicted = np.array([calibration.p_cheap(row, fitted) for row in logits])
    groups = np.array([example.group for example in examples])
    return {name: round(float((predicted[groups == name] >= threshold).mean()), 3) for name in np.unique(groups)}


def _task_accuracy(model: Router, tokenizer: Tokenizer, held: Sequence[Example]) -> float:
    """Return the share of held-out rows whose task is recognised, sources balanced."""
    known = [example for example in held if example.task >= 0]
    weights = fit.balance(known)
    found = fit.judge_tasks(model, tokenizer, [dataset.plain(example) for example in known])
    right = found == np.array([example.task for example in known])
    return round(float((right * weights).sum()), 3)


def _export(
    model: Router, tokenizer: Tokenizer, prompts: Sequence[Prompt], fitted: Calibration, threshold: float, made: Path
) -> dict[str, Any]:
    """Write both ONNX files and the tokenizer into `made`, and measure parity."""
    fp32, int8 = made / "router.fp32.onnx", made / bundle.MODEL
    export.write_onnx(model, fp32, int8=False)
    export.write_onnx(model, int8, int8=True)
    tokenizer.save(str(made / bundle.TOKENIZER), pretty=False)
    sample = prompts[:: max(1, len(prompts) // PARITY_PROMPTS)]
    found = parity.compare(model, tokenizer, sample, (fp32, int8), fitted)
    found["int8_flipped"] = parity.flipped(found, threshold)
    del found["p_torch"], found["p_int8"]
    found["reduce_range"] = export.REDUCE_RANGE
    return found


def _reference(model: Router, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Torch's logits for the probe prompts, so that any machine can check the int8 file against the trained network."""
    texts = [text for _, text in boards.read_probes()]
    logits = fit.judge(model, tokenizer, [Prompt(text) for text in texts])
    return [
        {"prompt": text, "logits": [round(float(x), 4) for x in row]} for text, row in zip(texts, logits, strict=True)
    ]


def _provenance(
    model: Router, training: Sequence[Example], held: Sequence[Example], knobs: fit.Knobs
) -> dict[str, Any]:
    """Say where this network comes from. No paths: the manifest travels."""
    trained, kept = (Counter(example.group for example in part) for part in (training, held))
    sources = [
        {"name": name, "licence": LICENCES.get(name.split(":")[0], "unknown"), "trained": count, "held_out": kept[name]}
        for name, count in sorted(trained.items())
    ]
    packages = ("torch", "onnx", "onnxruntime", "tokenizers", "numpy", "scikit-learn")
    return {
        "base": base.ORIGIN,
        "network": asdict(model.shape),
        "sources": sources,
        "command": f"python -m classifier.training.train --data DIR --steps {knobs.steps} --seed {knobs.seed}",
        "knobs": asdict(knobs),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "date": datetime.now(UTC).date().isoformat(),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train the classifier and write its bundle.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="directory of the outcome files")
    parser.add_argument("--anchors", type=Path, default=dataset.ANCHORS, help="prompts judged for this project")
    parser.add_argument("--out", type=Path, default=bundle.DEFAULT_DIRECTORY)
    parser.add_argument("--base", type=Path, help="base weights (default: the installed package)")
    parser.add_argument("--steps", type=int, default=fit.Knobs().steps)
    parser.add_argument("--seed", type=int, default=fit.Knobs().seed)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
