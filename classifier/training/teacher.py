"""What the whole of all-MiniLM-L6-v2 sees in a prompt, for the small network to learn from.

*Meaning*: its last states, the similarities of which the embedding learns. *Judgements*: kernel ridge regression on
some of its states and the structure, fitted on our own set. It ranks held-out rows better than one layer or all six
that are fine-tuned on the same rows (2026-11), but takes too long to serve. Of a row that it is fitted on it says what
it would say without it (leave-one-out in closed form, Cawley & Talbot 2003); prompts without a label can be asked about
as well (distillation, Hinton et al. 2015).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import spotri

from classifier import features
from classifier.features import TASKS, Prompt
from classifier.heads import JUDGEMENTS
from classifier.training import base
from classifier.training.dataset import Example

Floats = npt.NDArray[np.float32]

WHOLE = (6, 30_522, 1536)  # layers, word pieces, feed-forward units
SEEN = (2, 3, 4, 6)  # layers whose states it judges by: the middle ones say how hard, the last what is asked for
RIDGE, NARROW = 0.5, 0.5  # by AUC on held-out rows, which hardly changes around them
SMALL = 0.02  # judged chances are cut here before they become log-odds


class Taught(NamedTuple):
    """What the teacher says of n prompts."""

    meaning: Floats  # (n, width), unit vectors
    judged: Floats  # (n, len(JUDGEMENTS)), chances on the scale of our own set
    tasks: Floats  # (n, len(TASKS)), chances

    def of(self, rows: Sequence[int]) -> Self:
        """What is said of some of them."""
        return self._replace(**{name: part[rows] for name, part in self._asdict().items()})


class Teacher:
    """The base network with all of its layers."""

    def __init__(self, directory: Path) -> None:
        """Load the base weights. Raises `OSError`."""
        self._model, self._tokenizer = base.load_base(directory, *WHOLE)
        self._model.eval()

    def states(self, prompts: Sequence[Prompt]) -> Floats:
        """Mean states over what is asked, the embeddings' first: (len(prompts), 1 + layers, width)."""
        ids = [features.token_ids(self._tokenizer, prompt) for prompt in prompts]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index][0]))
        found = np.zeros((len(ids), 1 + WHOLE[0], self._model.shape.width), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), 64):
                chunk = order[start : start + 64]
                padded, real = map(torch.from_numpy, features.padded([ids[i][0] for i in chunk], 0))
                asked = torch.tensor([ids[i][1] for i in chunk])
                counted = (torch.arange(padded.shape[1]) < asked[:, None]).unsqueeze(-1)
                states = [(x * counted).sum(1) / asked[:, None] for x in self._model.states(padded, real)]
                found[chunk] = torch.stack(states, 1).numpy()
        return found

    def meaning(self, prompts: Sequence[Prompt]) -> Floats:
        """Unit vectors, (len(prompts), width)."""
        return _meaning(self.states(prompts))

    def teach(self, examples: Sequence[Example]) -> Taught:
        """What is said of every example, after fitting on those of our own set."""
        prompts = [example.prompt for example in examples]
        states = self.states(prompts)
        columns = _columns(states, prompts)
        own = np.array([example.own for example in examples])
        targets = _targets([example for example in examples if example.own])
        said = np.zeros((len(examples), targets.shape[1]), np.float32)
        said[own], said[~own] = _regress(columns[own], targets, columns[~own])
        for place, example in enumerate(examples):
            if example.anchor and example.need:
                said[place, :2] = np.log(example.need / (1 - example.need))  # it is known: there is nothing to teach
        fails, need, *tasks = said.T
        likely = np.clip(np.array(tasks).T, 1e-3, None)
        difficulty, needed = (1 / (1 + np.exp(-odds)) for odds in (fails, need))
        chances = {"difficulty": difficulty, "gain": needed, "need": needed}
        return Taught(
            _meaning(states),
            np.array([chances[name] for name in JUDGEMENTS], np.float32).T,
            (likely / likely.sum(1, keepdims=True)).astype(np.float32),
        )


def _meaning(states: Floats) -> Floats:
    """The last states as unit vectors."""
    last = states[:, -1]
    found: Floats = last / np.maximum(np.linalg.norm(last, axis=1, keepdims=True), 1e-9)
    return found


def _columns(states: Floats, prompts: Sequence[Prompt]) -> Floats:
    """What the machine is fitted on, standardised: states and structure."""
    structure = np.array([features.structure(prompt) for prompt in prompts])
    columns = np.concatenate([states[:, SEEN].reshape(len(states), -1), structure], 1)
    found: Floats = ((columns - columns.mean(0)) / (columns.std(0) + 1e-3)).astype(np.float32)
    return found


def _regress(columns: Floats, targets: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Kernel ridge regression: of each row what is said without it, and what is said of others.

    In single precision and by hand: a library's takes doubles and fits as often as there are folds, ten times as long.
    """
    mean = targets.mean(0)
    kernel = _kernel(columns, columns)
    kernel[np.diag_indices(len(kernel))] += RIDGE
    factor = cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
    weights = cho_solve(factor, targets - mean, check_finite=False)
    parts = [_kernel(others[start : start + 1000], columns) @ weights for start in range(0, len(others), 1000)]
    inverse, _ = spotri(factor[0], lower=True, overwrite_c=True)
    left_out = targets - weights / np.diag(inverse)[:, None]
    return left_out, (np.concatenate(parts) if parts else np.zeros((0, targets.shape[1]), np.float32)) + mean


def _kernel(a: Floats, b: Floats) -> Floats:
    """Gaussian similarities of rows, (len(a), len(b)); the width goes with the number of columns."""
    found = a @ b.T
    found *= 2
    found -= (a * a).sum(1)[:, None]
    found -= (b * b).sum(1)
    np.minimum(found, 0, out=found)
    found *= NARROW / a.shape[1]
    np.exp(found, out=found)
    return found


def _targets(examples: Sequence[Example]) -> Floats:
    """Log-odds of "cheap fails" and "premium is needed", then one column a task."""
    judged = np.clip([[e.difficulty or 0.0, e.need or 0.0] for e in examples], SMALL, 1 - SMALL)
    tasks = np.eye(len(TASKS))[[example.task for example in examples]]
    return np.concatenate([np.log(judged / (1 - judged)), tasks], 1).astype(np.float32)
