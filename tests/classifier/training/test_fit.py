"""One training run, and the calibration after it."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from classifier import calibration
from classifier.features import Prompt
from classifier.training import fit
from classifier.training.dataset import SHARES, Example
from classifier.training.model import Router, Shape

KNOBS = fit.Knobs(steps=40, batch=16, head_rate=1e-2, seed=1)


def network(tokenizer: Tokenizer) -> Router:
    """A small random network for the tests' tokenizer."""
    torch.manual_seed(0)
    return Router(Shape(tokenizer.get_vocab_size(), layers=1, width=16, heads=2, inner=32, trunk=16))


def test_learns_and_repeats(tokenizer: Tokenizer, examples: list[Example]) -> None:
    """After a few steps hard rows are judged to need more than easy ones, and the same seed gives the same network."""
    prompts = [Prompt("hello river and 3"), Prompt("derive the closed form and 3")]
    found = []
    for _ in range(2):
        model = network(tokenizer)
        fit.fit(model, tokenizer, examples, KNOBS)
        found.append(fit.judge(model, tokenizer, prompts))

    assert found[0][0, 2] < found[0][1, 2]
    assert np.array_equal(found[0], found[1])
    assert not model.training


def test_batches_follow_the_shares(tokenizer: Tokenizer) -> None:
    """Groups come by their share of a batch and not by their rows."""
    many = [Example("mmlu_pro", f"river {n}", p_cheap=0.5) for n in range(1000)]
    few = [Example("anchors", "hello", p_cheap=0.9)]
    groups = ["anchors", "mmlu_pro"]
    drawn = torch.cat([batch.groups for batch in islice(fit.batches(many + few, groups, tokenizer, KNOBS), 16)])

    assert 0.35 < float((drawn == 0).float().mean()) < 0.65


def test_missing_targets_are_marked(tokenizer: Tokenizer) -> None:
    """What is not known is NaN, need is one minus p_cheap, an unknown task is -1."""
    rows = [(Example("a", "x", p_cheap=0.75), Prompt("x")), (Example("a", "y", 2, difficulty=0.5), Prompt("y"))]
    batch = fit.collate(rows, [[1, 2], [1]], ["a"])

    assert torch.equal(torch.isnan(batch.targets), torch.tensor([[True, True, False], [False, True, True]]))
    assert batch.targets[0, 2] == 0.25
    assert batch.tasks.tolist() == [-1, 2]
    assert batch.real.tolist() == [[True, True], [True, False]]


def test_rate_warms_up_and_runs_out() -> None:
    """The learning rate rises over the warm-up and ends near nothing."""
    knobs = fit.Knobs(steps=100, warmup=0.1)
    rates = [fit._rate(step, knobs) for step in range(100)]

    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1
    assert rates[-1] < 0.02


def test_calibration_recovers_soft_labels() -> None:
    """Labels that are a logistic of the need logit come back as probabilities, though each is soft."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(600, 3)).astype(np.float32)
    levels = [1 / (1 + math.exp(2 * float(row[2]) - 0.5)) for row in logits]
    rows = [Example("anchors", str(n), p_cheap=level) for n, level in enumerate(levels)]
    fitted = fit.calibrate(logits, rows)
    gaps = [abs(calibration.p_cheap(row, fitted) - level) for row, level in zip(logits, levels, strict=True)]

    assert max(gaps) < 0.02


def test_groups_weigh_by_share() -> None:
    """A group of one weighs as its share says, beside a group of a hundred."""
    rows = [Example("anchors", "a"), *(Example("mmlu_pro", str(n)) for n in range(100))]
    weights = fit.balance(rows)

    assert weights.sum() == pytest.approx(1)
    assert weights[0] / weights[1:].sum() == pytest.approx(SHARES["anchors"] / SHARES["mmlu_pro"])


def test_tasks_are_judged(tokenizer: Tokenizer) -> None:
    """One task index a prompt, in the prompts' order."""
    model = network(tokenizer).eval()
    prompts = [Prompt("hello " * n) for n in (9, 1, 5)]
    together = fit.judge_tasks(model, tokenizer, prompts)

    assert together.tolist() == [int(fit.judge_tasks(model, tokenizer, [prompt])[0]) for prompt in prompts]
