"""One training run, and the calibration after it.

Heads and their targets: `need` learns 1 - p_cheap on the scale of our own set; every file of outcomes has intercepts of
its own in all three judgements that are thrown away afterwards, or "looks like competition maths" would be the first
thing learnt, and it is worthless on new traffic. All targets are soft (tier means, judged chances), the loss is cross
entropy. A teacher (teacher.py) that sees more than a small network can says what it thinks of every row, too; the
embedding learns the similarities that it sees between the prompts of a batch (relational distillation, Park et al.
2019). All of it of the texts before they were changed: so the network learns to disregard the changes.
"""

import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from classifier import features
from classifier.calibration import Calibration
from classifier.features import Prompt
from classifier.heads import JUDGEMENTS
from classifier.training.dataset import OTHER_SHARE, SHARES, Augment, Example
from classifier.training.labels import SKILLS
from classifier.training.model import Output, Router
from classifier.training.teacher import Floats, Taught

WEIGHTS = {"difficulty": 0.5, "gain": 0.5, "need": 1.0, "task": 0.8, "skill": 1.0, "kind": 0.1, "embedding": 3.0}
TAUGHT = {"judged": 1.0, "tasks": 1.0}  # the teacher's word, beside the labels' as above


@dataclass(frozen=True, slots=True)
class Knobs:
    """Every setting of a run, with what it does."""

    steps: int = 6000  # a quarter of a second each on two cores; 2000 rank as well, but keywords fool them more
    batch: int = 48
    encoder_rate: float = 2e-4
    head_rate: float = 1.5e-3
    warmup: float = 0.1  # share of the steps
    decay: float = 0.02
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs and targets of B prompts; a missing target is NaN, a missing task or kind -1."""

    ids: Tensor
    real: Tensor
    asked: Tensor
    structure: Tensor
    targets: Tensor  # (B, 3) in the order of JUDGEMENTS
    tasks: Tensor
    kinds: Tensor
    skills: Tensor  # (B, len(SKILLS)); NaN where unknown
    groups: Tensor  # index of the intercept, 0 for our own set
    rows: list[int]  # index of the example


def fit(
    model: Router, tokenizer: Tokenizer, examples: Sequence[Example], knobs: Knobs, taught: Taught | None = None
) -> None:
    """Train `model` in place on `examples`, balanced over their groups.

    `taught` is what the teacher says of each example; without it the embedding is not trained.
    """
    torch.manual_seed(knobs.seed)
    groups = ["", *sorted({example.group for example in examples if not (example.own or example.anchor)})]
    intercepts = nn.Parameter(torch.zeros(len(groups), len(JUDGEMENTS)))
    heads = (model.look, model.trunk, model.judge, model.task, model.skill, model.kind, model.embed)
    fresh = [parameter for head in heads for parameter in head.parameters()]
    known = {id(parameter) for parameter in fresh}
    words = [model.words.weight]
    encoder = [p for p in model.parameters() if id(p) not in known and p is not words[0]]
    optimizer = torch.optim.AdamW(
        [
            # without decay a word that no training prompt holds stays as pre-training left it
            {"params": words, "lr": knobs.encoder_rate, "weight_decay": 0.0},
            {"params": encoder, "lr": knobs.encoder_rate},
            {"params": [*fresh, intercepts], "lr": knobs.head_rate},
        ],
        weight_decay=knobs.decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, knobs))
    model.train()
    began, recent = time.monotonic(), 0.0
    for step, batch in zip(range(knobs.steps), batches(examples, groups, tokenizer, knobs), strict=False):
        output = model(batch.ids, batch.real, batch.asked, batch.structure)
        loss = _loss(output, batch, intercepts)
        if taught is not None:
            loss = loss + _distance(output, taught.of(batch.rows))
        loss.backward()
        nn.utils.clip_grad_norm_([*words, *encoder, *fresh], 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        recent += loss.item()
        if (step + 1) % 200 == 0:
            print(f"step {step + 1:5d}  loss {recent / 200:.4f}  {time.monotonic() - began:5.0f} s", flush=True)
            recent = 0.0
    model.eval()


def batches(examples: Sequence[Example], groups: Sequence[str], tokenizer: Tokenizer, knobs: Knobs) -> Iterator[Batch]:
    """Endless batches: groups by their share, rows at random, prompts of similar length together."""
    rng = random.Random(knobs.seed)
    augment = Augment(examples, rng)
    by_group: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        by_group[example.group].append(index)
    names = sorted(by_group)
    shares = [SHARES.get(name, OTHER_SHARE) for name in names]
    while True:
        drawn = [rng.choice(by_group[name]) for name in rng.choices(names, shares, k=8 * knobs.batch)]
        prompts = [augment(examples[index]) for index in drawn]
        ids = [features.token_ids(tokenizer, prompt) for prompt in prompts]
        order = sorted(range(len(drawn)), key=lambda place: len(ids[place][0]))
        chunks = [order[start : start + knobs.batch] for start in range(0, len(order), knobs.batch)]
        rng.shuffle(chunks)
        for chunk in chunks:
            inputs = _inputs([ids[i] for i in chunk], [prompts[i] for i in chunk])
            yield Batch(*inputs, *_targets([examples[drawn[i]] for i in chunk], groups), [drawn[i] for i in chunk])


def judge(model: Router, tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> Floats:
    """Logits of many prompts in torch, shape (len(prompts), len(JUDGEMENTS))."""
    return run(model, tokenizer, prompts)[0]


def run(model: Router, tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> tuple[Floats, Floats, Floats]:
    """Logits, task logits and embeddings of many prompts in torch, in their order."""
    ids = [features.token_ids(tokenizer, prompt) for prompt in prompts]
    order = sorted(range(len(ids)), key=lambda index: len(ids[index][0]))
    found: list[tuple[list[int], tuple[Tensor, ...]]] = []
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            chunk = order[start : start + 64]
            output = model(*_inputs([ids[i] for i in chunk], [prompts[i] for i in chunk]))
            found.append((chunk, output[:3]))
    places = np.argsort(np.concatenate([chunk for chunk, _ in found])) if found else np.zeros(0, int)
    logits, tasks, embedding = (
        np.concatenate([output[part].numpy() for _, output in found])[places] for part in range(3)
    )
    return logits, tasks, embedding


def calibrate(logits: Floats, examples: Sequence[Example]) -> Calibration:
    """Platt scaling of the judgements with soft labels on held-out examples, groups weighted by their share.

    A soft label p is two rows, one of each class, weighted p and 1 - p.
    """
    levels = 1 - np.array([_nan(example.need) for example in examples])
    weights = balance(examples)
    keep = ~np.isnan(levels)
    x, y, w = logits[keep], levels[keep], weights[keep]
    fitted = LogisticRegression(C=1e4)
    fitted.fit(
        np.concatenate([x, x]),
        np.concatenate([np.ones(len(y)), np.zeros(len(y))]),
        sample_weight=np.concatenate([w * y, w * (1 - y)]),
    )
    means = np.average(logits, axis=0, weights=weights)
    scales = np.sqrt(np.average((logits - means) ** 2, axis=0, weights=weights))
    return Calibration(
        weights=_triple(fitted.coef_[0]),
        bias=round(float(fitted.intercept_[0]), 6),
        means=_triple(means),
        scales=_triple(scales / 1.7),  # a logistic of 1.7 standard deviations is about the normal's share
    )


def balance(examples: Sequence[Example]) -> npt.NDArray[np.float64]:
    """A weight for each example such that groups count by their share, summing to one."""
    counts: dict[str, int] = defaultdict(int)
    for example in examples:
        counts[example.group] += 1
    weights = np.array([SHARES.get(e.group, OTHER_SHARE) / counts[e.group] for e in examples])
    balanced: npt.NDArray[np.float64] = weights / weights.sum()
    return balanced


def _inputs(ids: Sequence[tuple[list[int], int]], prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids, which of them are real, how many are pooled, and structure, as tensors."""
    padded, real = features.padded([row for row, _ in ids], 0)
    return (
        torch.from_numpy(padded),
        torch.from_numpy(real),
        torch.tensor([asked for _, asked in ids]),
        torch.from_numpy(np.stack([features.structure(prompt) for prompt in prompts])),
    )


def _targets(chosen: Sequence[Example], groups: Sequence[str]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What is known of examples, in the order of `Batch`."""
    unknown = [math.nan] * len(SKILLS)
    return (
        torch.tensor([[_nan(e.difficulty), _nan(e.gain), _nan(e.need)] for e in chosen]),
        torch.tensor([e.task for e in chosen]),
        torch.tensor([e.kind for e in chosen]),
        torch.tensor([[float(s in e.skills) for s in range(len(SKILLS))] if e.skills else unknown for e in chosen]),
        torch.tensor([0 if e.own or e.anchor else groups.index(e.group) for e in chosen]),
    )


def _loss(output: Output, batch: Batch, intercepts: Tensor) -> Tensor:
    """Cross entropy of what is known of each row; unknown targets count nothing."""
    shift = intercepts[batch.groups] * (batch.groups > 0)[:, None]
    judged = _entropy(output.logits + shift, batch.targets)
    loss = judged @ torch.tensor([WEIGHTS[name] for name in JUDGEMENTS])
    loss = loss + WEIGHTS["skill"] * _entropy(output.skills, batch.skills).mean()
    for name, logits, known in (("task", output.tasks, batch.tasks), ("kind", output.kinds, batch.kinds)):
        if bool((known >= 0).any()):
            loss = loss + WEIGHTS[name] * F.cross_entropy(logits, known, ignore_index=-1)
    return loss


def _distance(output: Output, taught: Taught) -> Tensor:
    """How far the network is from the teacher: judgements on our own scale, tasks, similarities within the batch."""
    meaning, judged, tasks = map(torch.from_numpy, taught)
    ours = output.embedding
    weights = torch.tensor([WEIGHTS[name] for name in JUDGEMENTS])
    return (
        TAUGHT["judged"] * (_entropy(output.logits, judged) @ weights)
        + TAUGHT["tasks"] * WEIGHTS["task"] * F.cross_entropy(output.tasks, tasks)
        + WEIGHTS["embedding"] * F.mse_loss(ours @ ours.T, meaning @ meaning.T)
    )


def _entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross entropy by column over the targets that are not NaN."""
    known = ~torch.isnan(targets)
    each = F.binary_cross_entropy_with_logits(logits, torch.where(known, targets, 0.5), reduction="none")
    return (each * known).sum(0) / known.sum(0).clamp(min=1)


def _rate(step: int, knobs: Knobs) -> float:
    """Linear up over the warm-up, linear down to nothing."""
    warm = max(1, math.ceil(knobs.warmup * knobs.steps))
    return min((step + 1) / warm, max(0.0, (knobs.steps - step) / max(1, knobs.steps - warm)))


def _nan(value: float | None) -> float:
    """Return NaN for a missing target."""
    return math.nan if value is None else value


def _triple(values: npt.NDArray[np.floating]) -> tuple[float, float, float]:
    """Return three numbers as the manifest holds them."""
    a, b, c = (round(float(value), 6) for value in values)
    return a, b, c
