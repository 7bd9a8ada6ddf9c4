"""Logits to probabilities."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier import calibration
from classifier.calibration import Calibration

FITTED = Calibration(weights=(-0.5, -0.5, -1.0), bias=0.3, means=(0.0, 0.1, -0.4), scales=(1.0, 0.5, 2.0))


def logits(*values: float) -> np.ndarray:
    """Three logits as the network gives them."""
    return np.array(values, dtype=np.float32)


def test_p_cheap_is_the_logistic_of_the_blend() -> None:
    """Weights times logits plus bias, through the logistic function."""
    expected = 1 / (1 + np.exp(-(-0.5 * 1 - 0.5 * 2 + 1.0 * 3 + 0.3)))

    assert expected == pytest.approx(calibration.p_cheap(logits(1, 2, -3), FITTED))


def test_score_is_half_at_the_means() -> None:
    """A prompt that is average in every head scores one half."""
    assert pytest.approx(calibration.score(logits(0.0, 0.1, -0.4), FITTED)) == 0.5


@pytest.mark.parametrize("head", [0, 1, 2])
def test_harder_is_higher_and_less_cheap(head: int) -> None:
    """Each head raises the score and lowers p_cheap."""
    easy, hard = logits(0, 0, 0), logits(0, 0, 0)
    hard[head] = 1

    assert calibration.score(easy, FITTED) < calibration.score(hard, FITTED)
    assert calibration.p_cheap(easy, FITTED) > calibration.p_cheap(hard, FITTED)


@pytest.mark.parametrize("head", [0, 1, 2])
def test_ranks_choose_the_heads_of_the_score(head: int) -> None:
    """A score of one head alone follows that head and no other; p_cheap does not ask for ranks."""
    ranks = (float(head == 0), float(head == 1), float(head == 2))
    alone = msgspec.structs.replace(FITTED, ranks=ranks)
    plain, moved, other = logits(0, 0, 0), logits(0, 0, 0), logits(1, 1, 1)
    moved[head], other[head] = 1, 0

    assert calibration.score(plain, alone) < calibration.score(moved, alone)
    assert calibration.score(plain, alone) == calibration.score(other, alone)
    assert calibration.p_cheap(moved, alone) == calibration.p_cheap(moved, FITTED)


def test_ranks_are_even_where_nothing_is_said() -> None:
    """Without ranks every head counts alike, whatever its scale."""
    scores = []
    for head, (mean, scale) in enumerate(zip(FITTED.means, FITTED.scales, strict=True)):
        moved = logits(*FITTED.means)
        moved[head] = mean + scale
        scores.append(calibration.score(moved, FITTED))

    assert scores == pytest.approx([calibration.sigmoid(1 / 3)] * 3)


@given(st.floats(allow_nan=False))
def test_sigmoid_is_safe_for_any_float(x: float) -> None:
    """No overflow, however large the logit, and symmetric."""
    assert 0 <= calibration.sigmoid(x) <= 1
    assert pytest.approx(calibration.sigmoid(x) + calibration.sigmoid(-x)) == 1
