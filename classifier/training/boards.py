"""What is measured, and how. Each function gives plain rows that go into the manifest; nothing here prints.

In-sample and left-out never share a table. *Left out*: a network trained from the base weights without a whole family
of files ranks that family, beside an n-gram model of the same rows. *Our own set alone*: the same, of a network that
saw no outcome file at all, which is what whoever has only the repository can train. *Never trained*: share-alike rows,
ranked by the shipped network itself. *In-sample*: the shipped network on its own sources, an upper bound and no more.
*Held out*: one row in five of our own set, which the network has not seen; half of them fitted the calibration and the
default threshold, so what depends on the level of p_cheap is measured on the other half.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from classifier import calibration
from classifier.features import TASKS, Prompt
from classifier.predict import Predictor
from classifier.training import dataset, fit, measure, perturb, teacher
from classifier.training.dataset import Example
from classifier.training.measure import Vector
from classifier.training.model import Router
from classifier.training.ngram import NGrams

PROBES = Path(__file__).with_name("data") / "probes.tsv"
# Families left out together, to have few trainings and not eleven; each is ranked by a network that saw none of its
# fold.
FOLDS = (
    ("mmlu_pro", "uiuc:mmlu", "uiuc:openbook_qa", "uiuc:commonsense_qa"),
    ("zeroeval_crux", "uiuc:mbpp"),
    ("maths", "uiuc:gsm8k"),
)
LARGEST = 1500  # rows ranked of one source: the interval is narrow enough
# Rows of a group that a measured training chooses from, ours and others: its 200 steps draw 9,600 in all, and the
# teacher's reading of every row is what takes longest.
SAMPLED_OWN, SAMPLED = 6000, 1000
PERTURBED = 400  # rows of our own set that are said differently
TRIVIAL = 0.12  # need at most: every small model does it, but for accidents
CUTS = (0.2, 0.35, 0.5, 0.65)  # from which judged need on premium counts as needed; .5 is what the boards mean
QUALITIES = (0.95, 0.98, 0.99, 1.0)
# A weak call's price over a strong one's: RouteLLM's pair, $0.24 and $24.7 per million tokens (arXiv 2406.18665 v4).
PRICE = 0.24 / 24.7

Judge = Callable[[Sequence[Prompt]], Sequence[float]]
Train = Callable[[Sequence[Example], teacher.Taught], tuple[Router, Tokenizer]]
Row = dict[str, Any]


def sample(training: Sequence[Example]) -> list[Example]:
    """Training rows for the networks that are trained to be measured: some of every group."""
    by_group: dict[str, list[Example]] = defaultdict(list)
    for example in training:
        by_group[example.group].append(example)
    rng = random.Random(0)
    found: list[Example] = []
    for rows in by_group.values():
        most = SAMPLED_OWN if rows[0].own else SAMPLED
        found += rows if len(rows) <= most else rng.sample(rows, most)
    return found


def left_out(
    examples: Sequence[Example], training: Sequence[Example], taught: teacher.Taught, train: Train
) -> list[Row]:
    """Leave each of `FOLDS` out of a training on `training`, of which `taught` is the teacher's word, and rank it."""
    found: list[Row] = []
    for fold in FOLDS:
        ranked_rows = [e for e in examples if e.family in fold]
        if any(e.weak is not None for e in ranked_rows):
            kept = [index for index, e in enumerate(training) if e.family not in fold]
            print(f"without {', '.join(fold)}: {len(kept)} rows", flush=True)
            found += _trained(ranked_rows, training, taught, kept, train)
    return found


def own_alone(
    examples: Sequence[Example], training: Sequence[Example], taught: teacher.Taught, train: Train
) -> list[Row]:
    """Train on our own set alone, and rank every source of outcomes: all of them are unseen."""
    kept = [index for index, e in enumerate(training) if e.own]
    print(f"our own set alone: {len(kept)} rows", flush=True)
    return _trained(examples, training, taught, kept, train)


def _trained(
    examples: Sequence[Example],
    training: Sequence[Example],
    taught: teacher.Taught,
    kept: Sequence[int],
    train: Train,
) -> list[Row]:
    """Train on what is kept, and rank `examples`."""
    rows = [training[index] for index in kept]
    model, tokenizer = train(rows, taught.of(kept))
    return ranked(examples, by_network(model, tokenizer, rows), NGrams(rows))


def ranked(examples: Iterable[Example], judge: Judge, rival: Judge | None = None) -> list[Row]:
    """One row a source: how well the score ranks what premium adds, beside length and a rival (random: APGR .5)."""
    by_group: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.weak is not None and example.strong is not None:
            by_group[example.group].append(example)
    return [_ranked(name, rows, judge, rival) for name, rows in sorted(by_group.items()) if len(rows) >= 20]


def standing(name: str, scores: Vector, weak: Vector, strong: Vector, others: Mapping[str, Vector]) -> Row:
    """Every figure of one source for a score, and APGR for its rivals."""
    # right and wrong, or their means: the chance of "strong right, weak wrong"; on a scale of marks: strong's is better
    needed = strong * (1 - weak) if strong.max() <= 1 else (strong > weak).astype(np.float64)
    row: Row = {
        "source": name,
        "rows": len(scores),
        "auc": round(measure.auc(scores, needed), 3) if 0 < needed.mean() < 1 else None,
        "spearman_gain": round(measure.spearman(scores, strong - weak), 3),
        "order_of_failures": round(measure.spearman(scores, -weak), 3),
    }
    if strong.mean() - weak.mean() < measure.SMALLEST_GAP:
        return row
    row |= {
        "apgr": round(measure.apgr(scores, weak, strong), 3),
        "apgr_interval": [round(x, 3) for x in measure.interval(measure.apgr, scores, weak, strong)],
        "of_oracle": round(measure.of_oracle(scores, weak, strong), 3),
        "cpt50": round(measure.cpt(scores, weak, strong, 0.5), 3),
        "cpt80": round(measure.cpt(scores, weak, strong, 0.8), 3),
        "calls": [round(measure.calls_for(scores, weak, strong, quality), 3) for quality in QUALITIES],
        "saved": [round(measure.dollars_saved(scores, weak, strong, q, PRICE), 3) for q in QUALITIES],
        "apgr_of": {other: round(measure.apgr(theirs, weak, strong), 3) for other, theirs in others.items()},
    }
    return row


def by_predictor(predictor: Predictor) -> Judge:
    """The shipped network's score as a judge."""
    return lambda prompts: [prediction.score for prediction in predictor.predict_many(prompts)]


def by_network(model: Router, tokenizer: Tokenizer, trained: Sequence[Example]) -> Judge:
    """The score of a network that is still in torch, its heads standardised on some of what it was trained on."""
    sample = [example for example in trained if example.need is not None][::7]
    fitted = fit.calibrate(fit.judge(model, tokenizer, [example.prompt for example in sample]), sample)
    return lambda prompts: [calibration.score(row, fitted) for row in fit.judge(model, tokenizer, prompts)]


def held_out(examples: Sequence[Example], predictor: Predictor, rival: Judge) -> Row:
    """Our own set, what was held out: AUC for "needs premium", calibration, task."""
    rows = [example for example in examples if example.own and example.held_out]
    said = predictor.predict_many([example.prompt for example in rows])
    p_cheap = np.array([prediction.p_cheap for prediction in said])
    cheap = np.array([1 - (example.need or 0.0) for example in rows])
    definite = np.array([example.group == "own:definite" for example in rows])
    right = np.array([p.task == TASKS[e.task] for e, p in zip(rows, said, strict=True)])
    fresh = np.array([not example.calibrates for example in rows])
    scores = {
        "p_cheap": p_cheap,
        "by length": -np.array([float(len(example.text)) for example in rows]),
        "by n-grams": -np.array(rival([example.prompt for example in rows])),
    }
    fails = np.array([example.difficulty or 0.0 for example in rows])
    sides = {
        name: (column[definite] >= 0.5).astype(np.float64)
        for name, column in (("cheap fails", fails), ("premium needed", 1 - cheap))
    }
    need = 1 - cheap[definite]
    cuts = [(cut, need >= cut) for cut in CUTS]
    table = measure.reliability(p_cheap[fresh], cheap[fresh])
    return {
        "rows": len(rows),
        "definite_rows": int(definite.sum()),
        "auc": {
            side: {name: round(measure.auc(-score[definite], hard), 3) for name, score in scores.items()}
            for side, hard in sides.items()
        },
        "auc_interval": {
            side: [round(x, 3) for x in measure.interval(measure.auc, -p_cheap[definite], hard)]
            for side, hard in sides.items()
        },
        "cuts": [
            [cut, round(float(hard.mean()), 3), round(measure.auc(-p_cheap[definite], hard.astype(np.float64)), 3)]
            for cut, hard in cuts
            if 0 < hard.mean() < 1
        ],
        "spearman": {
            name: round(measure.spearman(score[definite].astype(np.float64), cheap[definite]), 3)
            for name, score in scores.items()
        },
        "calibration_rows": int(fresh.sum()),
        "ece": round(measure.calibration_error(p_cheap[fresh], cheap[fresh]), 4),
        "reliability": [[round(value, 3) for value in line] for line in table],
        "task_accuracy": round(float(right.mean()), 3),
        "task_accuracy_definite": round(float(right[definite].mean()), 3),
        "task_accuracy_english": _share(right[np.array([example.lang == "en" for example in rows])]),
        "task_recall": {
            task: [round(float(right[here].mean()), 3), int(here.sum())]
            for index, task in enumerate(TASKS)
            for here in [np.array([example.task == index for example in rows])]
            if here.any()
        },
    }


def robust(examples: Sequence[Example], predictor: Predictor) -> list[Row]:
    """Held-out rows of our own set said differently: the share of decisions that stay, and of rows found again.

    A row is found again when, of all the rows' embeddings, its own is the nearest to the changed one's.
    """
    rows = [example for example in examples if example.own and example.held_out]
    rows = random.Random(0).sample(rows, min(PERTURBED, len(rows)))
    plain = predictor.predict_many([example.prompt for example in rows])
    table = np.stack([said.embedding for said in plain])
    found = []
    for name, change in perturb.changes(held_out=True).items():
        rng = random.Random(name)
        changed = predictor.predict_many([dataset.said(example.prompt, change(example.text, rng)) for example in rows])
        sides = [np.array([p.p_cheap >= predictor.default_threshold for p in said]) for said in (plain, changed)]
        moved = np.abs([a.p_cheap - b.p_cheap for a, b in zip(plain, changed, strict=True)])
        nearest = (np.stack([said.embedding for said in changed]) @ table.T).argmax(1)
        found.append(
            {
                "change": name,
                "unchanged": round(float((sides[0] == sides[1]).mean()), 3),
                "cheap_stays": _share(sides[1][sides[0]]),
                "premium_stays": _share(~sides[1][~sides[0]]),
                "mean_move": round(float(moved.mean()), 3),
                "found_again": round(float((nearest == np.arange(len(rows))).mean()), 3),
            }
        )
    return found


def stuffed(examples: Sequence[Example], predictor: Predictor) -> Row:
    """Trivial short prompts, held out, with keywords around them that sound hard: how many of the cheap ones stay."""
    rows = [
        e for e in examples if e.held_out and (e.own or e.anchor) and (e.need or 0) <= TRIVIAL and len(e.text) < 100
    ]
    rng, change = random.Random(0), perturb.changes(held_out=True)["keywords"]
    plain, changed = (
        np.array([said.p_cheap for said in predictor.predict_many(prompts)])
        for prompts in ([e.prompt for e in rows], [dataset.said(e.prompt, change(e.text, rng)) for e in rows])
    )
    cheap = plain >= predictor.default_threshold
    return {
        "rows": len(rows),
        "cheap": _share(cheap),
        "stay": _share((changed >= predictor.default_threshold)[cheap]),
        "mean_fall": round(float((plain - changed).mean()), 3) if rows else None,
    }


def embedding(examples: Sequence[Example], predictor: Predictor, whole: teacher.Teacher) -> Row:
    """How far the embedding sees the similarities that the whole of MiniLM sees, over pairs of held-out rows."""
    rows = [example for example in examples if example.own and example.held_out][:500]
    prompts = [example.prompt for example in rows]
    ours = np.stack([said.embedding for said in predictor.predict_many(prompts)])
    theirs = whole.meaning(prompts)
    upper = np.triu_indices(len(rows), 1)
    near = [(a @ a.T - 2 * np.eye(len(rows))).argmax(1) for a in (ours, theirs)]
    return {
        "rows": len(rows),
        "rank_correlation": round(measure.spearman(*((v @ v.T)[upper].astype(np.float64) for v in (ours, theirs))), 3),
        "same_neighbour": round(float((near[0] == near[1]).mean()), 3),
    }


def at_threshold(examples: Sequence[Example], predictor: Predictor) -> list[Row]:
    """Real prompts without outcomes: shares on the cheap side at the default threshold, held-out rows apart."""
    found = []
    for name in ("clinc150_intents", "mtbench101_prompts", "arena_hard_prompts"):
        rows = [example for example in examples if example.group == name]
        if not rows:
            continue
        predictions = predictor.predict_many([example.prompt for example in rows])
        cheap = np.array([p.p_cheap >= predictor.default_threshold for p in predictions])
        held = np.array([example.held_out and not example.calibrates for example in rows])
        found.append(
            {
                "source": name,
                "rows": len(rows),
                "cheap": round(float(cheap.mean()), 3),
                "held_out_rows": int(held.sum()),
                "held_out_cheap": _share(cheap[held]),
            }
        )
    return found


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


def _share(column: npt.NDArray[np.bool_]) -> float | None:
    """The share that is true; None of nothing."""
    return round(float(column.mean()), 3) if len(column) else None


def _ranked(name: str, rows: list[Example], judge: Judge, rival: Judge | None) -> Row:
    """Rank one source, or a fixed sample of a large one."""
    rows = rows if len(rows) <= LARGEST else random.Random(0).sample(rows, LARGEST)
    prompts = [Prompt(dataset.bare(example)) for example in rows]
    others = {"length": np.array([len(prompt.text) for prompt in prompts], dtype=np.float64)}
    if rival is not None:
        others["n-grams"] = np.array(rival(prompts), dtype=np.float64)
    weak = np.array([example.weak for example in rows], dtype=np.float64)
    strong = np.array([example.strong for example in rows], dtype=np.float64)
    return standing(name, np.array(judge(prompts), dtype=np.float64), weak, strong, others)
