"""One training run, and the calibration after it.

Heads and their targets: `need` learns p_cheap as it is, over all sources; `difficulty` and `gain` learn within a source
only: every group has an intercept of its own that is thrown away afterwards, or "looks like competition maths" would
be the first thing they learn, and it is worthless on new traffic. All targets are soft (tier means), the loss is
cross entropy.
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
from classifier.features import TASKS, Prompt
from classifier.training.dataset import SHARES, Example, augmented
from classifier.training.model import HEADS, Router


@dataclass(frozen=True, slots=True)
class Knobs:
    """Every setting of a run, with what it does."""

    steps: int = 700  # a step is one batch; about half a second on two cores
    batch: int = 32
    encoder_rate: float = 4e-5  # higher forgets what pre-training knew of words unseen here
    head_rate: float = 1.5e-3
    warmup: float = 0.1  # share of the steps
    decay: float = 0.01
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs and targets of B prompts; a missing target is NaN, a missing task -1."""

    ids: Tensor
    real: Tensor
    structure: Tensor
    targets: Tensor  # (B, 3) in the order of HEADS, need = 1 - p_cheap
    tasks: Tensor
    groups: Tensor


def fit(model: Router, tokenizer: Tokenizer, examples: Sequence[Example], knobs: Knobs) -> None:
    """Train `model` in place on `examples`, balanced over their groups."""
    torch.manual_seed(knobs.seed)
    groups = sorted({example.group for example in examples})
    intercepts = nn.Parameter(torch.zeros(len(groups), 2))
    fresh = [*model.trunk.parameters(), *model.judge.parameters(), *model.task.parameters(), intercepts]
    known = {id(parameter) for parameter in fresh}
    encoder = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    optimizer = torch.optim.AdamW(
        [{"params": encoder, "lr": knobs.encoder_rate}, {"params": fresh, "lr": knobs.head_rate}],
        weight_decay=knobs.decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, knobs))
    model.train()
    began, recent = time.monotonic(), 0.0
    for step, batch in zip(range(knobs.steps), batches(examples, groups, tokenizer, knobs), strict=False):
        loss = _loss(model, batch, intercepts)
        loss.backward()
        nn.utils.clip_grad_norm_(encoder + fresh, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        recent += loss.item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1:5d}  loss {recent / 50:.4f}  {time.monotonic() - began:5.0f} s", flush=True)
            recent = 0.0
    model.eval()


def batches(examples: Sequence[Example], groups: Sequence[str], tokenizer: Tokenizer, knobs: Knobs) -> Iterator[Batch]:
    """Endless batches: groups by their share, rows at random, prompts of similar length together."""
    rng = random.Random(knobs.seed)
    by_group: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_group[example.group].append(example)
    shares = [SHARES.get(group, 1 / len(groups)) for group in groups]
    while True:
        drawn = [rng.choice(by_group[group]) for group in rng.choices(groups, shares, k=8 * knobs.batch)]
        read = [(example, prompt) for example in drawn for prompt in [augmented(example, rng)]]
        ids = [features.token_ids(tokenizer, prompt.text) for _, prompt in read]
        order = sorted(range(len(read)), key=lambda index: len(ids[index]))
        chunks = [order[start : start + knobs.batch] for start in range(0, len(order), knobs.batch)]
        rng.shuffle(chunks)
        for chunk in chunks:
            yield collate([read[i] for i in chunk], [ids[i] for i in chunk], groups)


def collate(read: Sequence[tuple[Example, Prompt]], ids: Sequence[list[int]], groups: Sequence[str]) -> Batch:
    """Examples as read, and their ids, as tensors."""
    padded, real = features.padded(ids, 0)
    targets = [[_nan(example.difficulty), _nan(example.gain), 1 - _nan(example.p_cheap)] for example, _ in read]
    return Batch(
        ids=torch.from_numpy(padded),
        real=torch.from_numpy(real),
        structure=torch.from_numpy(np.stack([features.structure(prompt) for _, prompt in read])),
        targets=torch.tensor(targets, dtype=torch.float32),
        tasks=torch.tensor([example.task for example, _ in read]),
        groups=torch.tensor([groups.index(example.group) for example, _ in read]),
    )


def judge(model: Router, tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> npt.NDArray[np.float32]:
    """Logits of many prompts in torch, shape (len(prompts), 3)."""
    return _run(model, tokenizer, prompts)[0]


def judge_tasks(model: Router, tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> npt.NDArray[np.int64]:
    """Index of the likeliest task of each prompt."""
    found: npt.NDArray[np.int64] = _run(model, tokenizer, prompts)[1].argmax(1)
    return found


def calibrate(logits: npt.NDArray[np.float32], examples: Sequence[Example]) -> Calibration:
    """Platt scaling with soft labels on held-out examples, groups weighted by their share.

    A soft label p is two rows, one of each class, weighted p and 1 - p.
    """
    levels = np.array([_nan(example.p_cheap) for example in examples])
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
    weights = np.array([SHARES.get(e.group, 0.02) / counts[e.group] for e in examples])
    balanced: npt.NDArray[np.float64] = weights / weights.sum()
    return balanced


def _run(
    model: Router, tokenizer: Tokenizer, prompts: Sequence[Prompt]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return logits and task logits of many prompts, in their order."""
    ids = [features.token_ids(tokenizer, prompt.text) for prompt in prompts]
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    logits = np.zeros((len(ids), len(HEADS)), np.float32)
    tasks = np.zeros((len(ids), len(TASKS)), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            chunk = order[start : start + 64]
            padded, real = features.padded([ids[i] for i in chunk], 0)
            structure = np.stack([features.structure(prompts[i]) for i in chunk])
            output = model(*map(torch.from_numpy, (padded, real, structure)))
            logits[chunk], tasks[chunk] = output.logits.numpy(), output.tasks.numpy()
    return logits, tasks


def _loss(model: Router, batch: Batch, intercepts: Tensor) -> Tensor:
    """Cross entropy of what is known of each row; unknown targets count nothing."""
    output = model(batch.ids, batch.real, batch.structure)
    shift = torch.cat([intercepts[batch.groups], torch.zeros(len(batch.groups), 1)], 1)
    known = ~torch.isnan(batch.targets)
    each = F.binary_cross_entropy_with_logits(
        output.logits + shift, torch.where(known, batch.targets, 0.5), reduction="none"
    )
    judged = (each * known).sum(0) / known.sum(0).clamp(min=1)
    loss = judged @ torch.tensor([0.5, 0.5, 1.0])
    if bool((batch.tasks >= 0).any()):
        loss = loss + 0.3 * F.cross_entropy(output.tasks, batch.tasks, ignore_index=-1)
    return loss


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
