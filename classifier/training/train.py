"""`make train`: data in, a verified bundle out. Train, calibrate, export, quantise, measure parity, write the manifest.

    python -m classifier.training.train --data ../shared/data --out onnx_models

Seeded; about half an hour on two cores. Without `--data` it trains on our own set alone. Refuses to write a
bundle whose int8 file strays from the torch network (parity.py).
"""

import argparse
import platform
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
from classifier.training import base, boards, dataset, export, fit, parity
from classifier.training.dataset import Example
from classifier.training.model import Router
from classifier.training.teacher import Taught, Teacher

LAYERS = 1  # two took 1.5 to 2.0 ms at 64 tokens where 1.0 is allowed (2026-11)
INNER = 768  # of 1536 feed-forward units: a third of the time
VOCABULARY = 22_000  # 0.4 kB a piece; what is dropped falls into pieces that are kept
PARITY_PROMPTS = 300
NATURAL_THRESHOLD = 0.7  # "seven in ten are as good" is what a route without a threshold promises, if the anchors allow

LICENCES = {
    "own": "Apache-2.0 (written for Thriftgate)",
    "mmlu_pro": "Apache-2.0 (TIGER-AI-Lab/MMLU-Pro)",
    "zeroeval_crux": "Apache-2.0 (WildEval/ZeroEval)",
    "zeroeval_math_l5": "Apache-2.0 (WildEval/ZeroEval); problems of MATH",
    "math_levels": "MIT (microsoft/ToRA); problems of MATH",
    "uiuc": "MIT (ulab-uiuc/LLMRouter); share-alike rows left out",
    "arena_hard_prompts": "Apache-2.0 (lm-sys/arena-hard-auto)",
    "mtbench101_prompts": "Apache-2.0 (mtbench101/mt-bench-101)",
    "clinc150_intents": "CC-BY-3.0 (clinc/oos-eval; Larson et al., EMNLP 2019)",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write a bundle, as the command line says."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    knobs = fit.Knobs(steps=options.steps, seed=options.seed)
    home = base.base_directory(options.base)
    model, tokenizer = base.load_base(home, LAYERS, VOCABULARY, INNER, options.seed)
    examples = dataset.load(options.data, options.own)
    training, _ = split(examples)
    taught = Teacher(home).teach(training)
    built = build(model, tokenizer, examples, knobs, options.out, taught)
    print(f"{options.out}: {built.default_threshold:.2f} is the default threshold, digest {bundle.digest(built)}")


def build(
    model: Router,
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    knobs: fit.Knobs,
    out: Path,
    taught: Taught | None = None,
) -> bundle.Manifest:
    """Train `model` on `examples` and write the whole bundle to `out`. Raises `SystemExit` when parity fails.

    `taught`: the teacher's word on each training row of `split`.
    """
    began = time.monotonic()
    training, held = split(examples)
    fit.fit(model, tokenizer, training, knobs, taught)
    prompts = [example.prompt for example in held]
    logits = fit.judge(model, tokenizer, prompts)
    half = [i for i, example in enumerate(held) if example.calibrates]
    fitted = fit.calibrate(logits[half], [held[i] for i in half])
    threshold = default_threshold(logits[half], [held[i] for i in half], fitted)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        found = _export(model, tokenizer, prompts, fitted, threshold, made)
        if faults := parity.faults(found):
            raise SystemExit(f"the int8 network strays from the trained one: {'; '.join(faults)}")
        manifest = bundle.Manifest(
            format=1,
            feature_version=FEATURES_VERSION,
            files={name: bundle.sha256(made / name) for name in bundle.FILES},
            tasks=TASKS,
            calibration=fitted,
            default_threshold=threshold,
            provenance=_provenance(model, training, held, knobs),
            metrics={
                "parity": found,
                "shares": shares(logits, held, fitted, threshold),
                "reference": _reference(model, tokenizer),
                "training_s": round(time.monotonic() - began),
            },
        )
        out.mkdir(parents=True, exist_ok=True)
        for name in bundle.FILES:
            shutil.copyfile(made / name, out / name)
    bundle.write_manifest(out, manifest)
    return manifest


def split(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """What is trained on, and what calibration and held-out figures come from."""
    usable = [example for example in examples if example.trainable]
    return [e for e in usable if not e.held_out], [e for e in usable if e.held_out]


def default_threshold(logits: Any, held: Sequence[Example], fitted: Calibration) -> float:
    """`NATURAL_THRESHOLD` if it keeps real prompts well apart on held-out rows, else the threshold that does so best.

    Well apart: at least 95 % of the everyday commands cheap and 65 % of the hard requests not.
    """
    predicted = np.array([calibration.p_cheap(row, fitted) for row in logits])
    groups = np.array([example.group for example in held])
    easy, hard = predicted[groups == "clinc150_intents"], predicted[groups == "arena_hard_prompts"]
    if not len(easy) or not len(hard):
        return NATURAL_THRESHOLD

    def margin(threshold: float) -> float:
        return float(min((easy >= threshold).mean() - 0.95, (hard < threshold).mean() - 0.65))

    if margin(NATURAL_THRESHOLD) >= 0:
        return NATURAL_THRESHOLD
    return max((percent / 100 for percent in range(40, 96)), key=margin)


def shares(logits: Any, examples: Sequence[Example], fitted: Calibration, threshold: float) -> dict[str, float]:
    """By group: the share of prompts that `threshold` sends cheap."""
    predicted = np.array([calibration.p_cheap(row, fitted) for row in logits])
    groups = np.array([example.group for example in examples])
    return {name: round(float((predicted[groups == name] >= threshold).mean()), 3) for name in np.unique(groups)}


def _export(
    model: Router, tokenizer: Tokenizer, prompts: Sequence[Prompt], fitted: Calibration, threshold: float, made: Path
) -> dict[str, Any]:
    """Write the files that serve, and an fp32 network beside them, into `made`, and measure parity."""
    fp32, int8 = made / "router.fp32.onnx", made / bundle.MODEL
    export.write_onnx(model, fp32, int8=False)
    export.write(model, tokenizer, made)
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
    parser.add_argument("--data", type=Path, help="directory of outcome files (default: our own set alone)")
    parser.add_argument("--own", type=Path, default=dataset.OWN, help="directory of the judged prompts")
    parser.add_argument("--out", type=Path, default=bundle.DEFAULT_DIRECTORY)
    parser.add_argument("--base", type=Path, help="base weights (default: the installed package)")
    parser.add_argument("--steps", type=int, default=fit.Knobs().steps)
    parser.add_argument("--seed", type=int, default=fit.Knobs().seed)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
