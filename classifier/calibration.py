"""From logits to probabilities, in numpy. What is fitted here is fitted in training and read from the manifest.

`p_cheap` is Platt scaling over all three heads (Platt 1999, "Probabilistic outputs for support vector machines", here
with soft labels): a smooth, strictly rising map, because the gateway lays a grid of thresholds over it and a step
function would put whole kinds of prompts on one value. `score` is a mean of the standardised heads, even in the shipped
bundle: the three targets rank unseen traffic about equally well and no one of them best everywhere.
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fitted numbers; each tuple has one entry per head (difficulty, gain, need)."""

    weights: tuple[float, float, float]
    bias: float
    means: tuple[float, float, float]
    scales: tuple[float, float, float]
    ranks: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)  # of the standardised heads in the score


def p_cheap(logits: npt.NDArray[np.float32], calibration: Calibration) -> float:
    """The chance that a cheap answer is as good as a premium one; `logits` of shape (3,)."""
    linear = sum(w * float(x) for w, x in zip(calibration.weights, logits, strict=True))
    return sigmoid(linear + calibration.bias)


def score(logits: npt.NDArray[np.float32], calibration: Calibration) -> float:
    """0..1, higher is more in need of premium; `logits` of shape (3,)."""
    standard = [
        (float(x) - mean) / scale for x, mean, scale in zip(logits, calibration.means, calibration.scales, strict=True)
    ]
    return sigmoid(sum(rank * x for rank, x in zip(calibration.ranks, standard, strict=True)))


def sigmoid(x: float) -> float:
    """The logistic function, safe for any float."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
