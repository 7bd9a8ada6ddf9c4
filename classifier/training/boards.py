"""What is measured, and how. Each function gives plain rows that go into the manifest; nothing here prints.

In-sample and left-out never share a table. *Left out*: a network trained from the base weights without a whole family
of files (same recipe, fewer steps: five of them must fit into minutes) ranks that family. *Never trained*:
share-alike rows, ranked by the shipped network itself. *In-sample*: the shipped network on its own sources, an upper
bound and no more.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from classifier import calibration
from classifier.features import TASKS, Prompt
from classifier.predict import Predictor
from classifier.training import dataset, fit, measure
from classifier.training.dataset import Example
from classifier.training.model import Router

PROBES = Path(__file__).with_name("data") / "probes.tsv"
# Families left out together, to have five trainings and not eleven; each is ranked by a network that saw none of its
# fold.
FOLDS = (
    ("mmlu_pro",),
    ("zeroeval_crux",),
    ("maths",),
    ("uiuc:gsm8k", "uiuc:mbpp"),
    ("uiuc:mmlu", "uiuc:openbook_qa", "uiuc:commonsense_qa"),
)
SMALLEST_GAP = 0.03  # below it the share of the gap recovered is a ratio of two noises
LARGEST = 1500  # rows ranked of one source: the interval is narrow enough

Judge = Callable[[Sequence[Prompt]], list[float]]
Row = dict[str, Any]


def left_out(examples: Sequence[Example], fresh: Callable[[], tuple[Router, Tokenizer]], knobs: fit.Knobs) -> list[Row]:
    """Leave each of `FOLDS` out of a training from `fresh` weights, and rank it."""
    found: list[Row] = []
    for fold in FOLDS:
        rest = dataset.without_family([e for e in examples if e.trainable], fold)
        fold_rows = [e for e in examples if e.family in fold and e.weak is not None]
        if not rest or not fold_rows:
            continue
        print(f"without {', '.join(fold)}: {len(rest)} rows", flush=True)
        model, tokenizer = fresh()
        rest += dataset.composed(rest, random.Random(knobs.seed), 300)
        fit.fit(model, tokenizer, rest, knobs)
        fitted = fit.calibrate(fit.judge(model, tokenizer, [dataset.plain(e) for e in rest[::5]]), rest[::5])
        found += ranked(fold_rows, _torch_judge(model, tokenizer, fitted))
    return found


def ranked(examples: Iterable[Example], judge: Judge) -> list[Row]:
    """One row a source: how well the score ranks what the strong tier adds, beside prompt length (random: APGR .5)."""
    by_group: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.weak is not None and example.strong is not None:
            by_group[example.group].append(example)
    return [_ranked(name, rows, judge) for name, rows in sorted(by_group.items()) if len(rows) >= 20]


def by_predictor(predictor: Predictor) -> Judge:
    """The shipped network's score as a judge."""
    return lambda prompts: [prediction.score for prediction in predictor.predict_many(prompts)]


def at_threshold(examples: Sequence[Example], predictor: Predictor) -> list[Row]:
    """The anchors' shares on the cheap side at the default threshold; rows held out of training apart from all rows."""
    found = []
    for name in ("clinc150_intents", "mtbench101_prompts", "misguided_attention", "arena_hard_prompts"):
        rows = [example for example in examples if example.group == name]
        if not rows:
            continue
        predictions = predictor.predict_many([dataset.plain(example) for example in rows])
        cheap = np.array([p.p_cheap >= predictor.default_threshold for p in predictions])
        held = np.array([example.held_out for example in rows])
        found.append(
            {
                "source": name,
                "rows": len(rows),
                "cheap": round(float(cheap.mean()), 3),
                "held_out_rows": int(held.sum()),
                "held_out_cheap": round(float(cheap[held].mean()), 3) if held.any() else None,
            }
        )
    return found


def calibrated(examples: Sequence[Example], predictor: Predictor) -> Row:
    """ECE and reliability of the int8 network on held-out rows, sources balanced; task accuracy by task."""
    held = [e for e in examples if e.held_out and e.trainable and e.p_cheap is not None]
    predictions = predictor.predict_many([dataset.plain(example) for example in held])
    predicted = np.array([p.p_cheap for p in predictions])
    actual = np.array([e.p_cheap for e in held], dtype=np.float64)
    weights = fit.balance(held)
    recall = {}
    for index, task in enumerate(TASKS):
        of_task = [p.task == task for e, p in zip(held, predictions, strict=True) if e.task == index]
        if of_task:
            recall[task] = [round(sum(of_task) / len(of_task), 3), len(of_task)]
    table = measure.reliability(predicted, actual, weights)
    return {
        "rows": len(held),
        "ece": round(measure.calibration_error(predicted, actual, weights), 4),
        "reliability": [[round(value, 3) for value in line] for line in table],
        "task_recall": recall,
    }


def probed(predictor: Predictor, path: Path = PROBES) -> Row:
    """Our own probe prompts: which of them stand on the wrong side of the default threshold."""
    probes = read_probes(path)
    predictions = predictor.predict_many([Prompt(text) for _, text in probes])
    confusion = {"cheap": {"cheap": 0, "premium": 0}, "premium": {"cheap": 0, "premium": 0}}
    wrong = []
    for (side, text), prediction in zip(probes, predictions, strict=True):
        given = "cheap" if prediction.p_cheap >= predictor.default_threshold else "premium"
        confusion[side][given] += 1
        if given != side:
            wrong.append({"prompt": text[:90], "expected": side, "p_cheap": round(prediction.p_cheap, 3)})
    return {"confusion": confusion, "wrong": wrong}


def read_probes(path: Path = PROBES) -> list[tuple[str, str]]:
    """(expected side, prompt) of every probe."""
    lines = path.read_text(encoding="utf-8").splitlines()
    parts = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [(side, text.replace("\\n", "\n")) for side, text in parts]


def _ranked(name: str, rows: list[Example], judge: Judge) -> Row:
    """Rank one source, or a fixed sample of a large one."""
    rows = rows if len(rows) <= LARGEST else random.Random(0).sample(rows, LARGEST)
    prompts = [dataset.plain(example) for example in rows]
    scores = np.array(judge(prompts), dtype=np.float64)
    lengths = np.array([len(prompt.text) for prompt in prompts], dtype=np.float64)
    weak = np.array([example.weak for example in rows], dtype=np.float64)
    strong = np.array([example.strong for example in rows], dtype=np.float64)
    row: Row = {
        "source": name,
        "rows": len(rows),
        "spearman_gain": round(measure.spearman(scores, strong - weak), 3),
        "spearman_difficulty": round(measure.spearman(scores, 1 - weak), 3),
    }
    if strong.mean() - weak.mean() >= SMALLEST_GAP:
        row["apgr"] = round(measure.apgr(scores, weak, strong), 3)
        row["apgr_interval"] = [round(x, 3) for x in measure.interval(measure.apgr, scores, weak, strong)]
        row["apgr_length"] = round(measure.apgr(lengths, weak, strong), 3)
    return row


def _torch_judge(model: Router, tokenizer: Tokenizer, fitted: calibration.Calibration) -> Judge:
    """Make a judge of a network that is still in torch."""
    return lambda prompts: [calibration.score(row, fitted) for row in fit.judge(model, tokenizer, prompts)]
