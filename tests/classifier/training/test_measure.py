"""The statistics of the boards, against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.training import measure

WEAK = np.array([0.0] * 50 + [1.0] * 50)
STRONG = np.ones(100)


def vector(*values: float) -> np.ndarray:
    """A column of numbers."""
    return np.array(values, dtype=np.float64)


def test_rank_correlation() -> None:
    """Perfect, reversed, and with ties averaged."""
    assert measure.spearman(vector(1, 2, 3), vector(10, 20, 90)) == pytest.approx(1)
    assert measure.spearman(vector(1, 2, 3), vector(3, 2, 1)) == pytest.approx(-1)
    assert measure.ranks(vector(5, 1, 5, 9)).tolist() == [2.5, 1, 2.5, 4]


def test_no_variation_is_no_correlation() -> None:
    """A constant side ranks nothing."""
    assert measure.spearman(vector(1, 1, 1), vector(1, 2, 3)) == 0


def test_apgr_of_oracle_random_and_worst() -> None:
    """A perfect order recovers the gap by half of the calls (area .75), the reverse order .25; no order gives .5."""
    rng = np.random.default_rng(0)
    random = np.mean([measure.apgr(rng.random(100), WEAK, STRONG) for _ in range(200)])

    assert measure.apgr(1 - WEAK, WEAK, STRONG) == pytest.approx(0.75)
    assert measure.apgr(WEAK, WEAK, STRONG) == pytest.approx(0.25)
    assert random == pytest.approx(0.5, abs=0.02)


def test_apgr_needs_a_gap() -> None:
    """Where strong is no better the measure is refused, not invented."""
    with pytest.raises(ValueError, match="no better"):
        measure.apgr(WEAK, STRONG, WEAK)


@given(st.lists(st.floats(-5, 5), min_size=100, max_size=100))
def test_apgr_goes_by_order_alone(scores: list[float]) -> None:
    """Any rising map of the scores gives the same figure, unless rounding makes ties."""
    column = np.round(vector(*scores), 3)

    assert measure.apgr(column, WEAK, STRONG) == pytest.approx(measure.apgr(3 * column + 7, WEAK, STRONG))


def test_interval_holds_the_value_and_repeats() -> None:
    """The bootstrap interval is around the statistic, and the same seed gives the same one."""
    scores = 1 - WEAK
    low, high = measure.interval(measure.apgr, scores, WEAK, STRONG, draws=200)

    assert low < 0.75 < high
    assert measure.interval(measure.apgr, scores, WEAK, STRONG, draws=200) == (low, high)


def test_interval_leaves_undefined_draws_out() -> None:
    """Draws in which the statistic does not exist do not end the measurement."""
    strong = vector(1, 0, 0, 0)
    low, high = measure.interval(measure.apgr, vector(4, 3, 2, 1), np.zeros(4), strong, draws=100)

    assert low <= high


def test_calibration_error() -> None:
    """Right on average in every bin is 0; off by a tenth everywhere is a tenth; weights count."""
    predicted = vector(0.25, 0.25, 0.85, 0.85)

    assert measure.calibration_error(predicted, vector(0, 0.5, 0.7, 1)) == pytest.approx(0)
    assert measure.calibration_error(predicted, predicted - 0.1) == pytest.approx(0.1)
    assert measure.calibration_error(predicted, vector(0.25, 0.25, 0, 0), vector(1, 1, 0, 0)) == pytest.approx(0)


def test_reliability_skips_empty_bins() -> None:
    """One line a bin that holds anything; shares sum to one."""
    lines = measure.reliability(vector(0.05, 0.06, 1.0), vector(0, 1, 1))

    assert [(round(p, 3), a, round(s, 3)) for p, a, s in lines] == [(0.055, 0.5, 0.667), (1.0, 1.0, 0.333)]
