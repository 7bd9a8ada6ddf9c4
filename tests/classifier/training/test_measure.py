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


# Strong is right on all ten, weak is wrong on those scored 10, 9, 8 and 2: .6 and 1. Going down, a call at a time, the
# gap is recovered by 1/4 at the first, second, third and ninth call.
TEN = np.arange(1.0, 11.0)
WRONG_AT = vector(1, 0, 1, 1, 1, 1, 1, 0, 0, 0)
TENTHS = [0, 0.25, 0.5, *[0.75] * 6, 1, 1]


def test_recovered() -> None:
    """Share of calls and share of the gap, from nothing to all of it; the highest scores go first."""
    share, found = measure.recovered(TEN, WRONG_AT, np.ones(10))

    assert share == pytest.approx(np.linspace(0, 1, 11))
    assert found == pytest.approx(TENTHS)


def test_recovering_needs_a_gap() -> None:
    """Where strong is no better there is nothing to recover."""
    with pytest.raises(ValueError, match="no better"):
        measure.recovered(TEN, np.ones(10), WRONG_AT)


def test_apgr_by_hand() -> None:
    """The area under the tenths."""
    assert measure.apgr(TEN, WRONG_AT, np.ones(10)) == pytest.approx(np.trapezoid(TENTHS, dx=0.1)) == 0.675


@pytest.mark.parametrize(("target", "share"), [(0.2, 0.08), (0.25, 0.1), (0.5, 0.2), (0.8, 0.82)])
def test_cpt(target: float, share: float) -> None:
    """The share of calls at which the target is met, interpolated between the tenths."""
    assert measure.cpt(TEN, WRONG_AT, np.ones(10), target) == pytest.approx(share)


@pytest.mark.parametrize(("quality", "share"), [(0.6, 0.0), (0.7, 0.1), (0.9, 0.3), (0.91, 0.9), (1.0, 0.9)])
def test_calls_for_a_quality(quality: float, share: float) -> None:
    """The first call at which that much of strong's quality is kept."""
    assert measure.calls_for(TEN, WRONG_AT, np.ones(10), quality) == pytest.approx(share)


def test_dollars_saved() -> None:
    """Three calls in ten to strong, seven at a tenth of its price: .63 of the bill is saved."""
    assert measure.dollars_saved(TEN, WRONG_AT, np.ones(10), 0.9, price=0.1) == pytest.approx(0.63)
    assert measure.dollars_saved(TEN, WRONG_AT, np.ones(10), 0.5, price=0.0) == pytest.approx(1)


def test_of_oracle() -> None:
    """One for the oracle's order, nothing for random, below nothing for the reverse."""
    rng = np.random.default_rng(0)
    random = np.mean([measure.of_oracle(rng.random(100), WEAK, STRONG) for _ in range(200)])

    assert measure.of_oracle(1 - WEAK, WEAK, STRONG) == pytest.approx(1)
    assert measure.of_oracle(WEAK, WEAK, STRONG) == pytest.approx(-1)
    assert random == pytest.approx(0, abs=0.03)


def test_auc() -> None:
    """Pairs in the right order; a tie is half a pair; a chance counts on both sides."""
    assert measure.auc(vector(1, 2, 3, 4), vector(0, 0, 1, 1)) == 1
    assert measure.auc(vector(4, 3, 2, 1), vector(0, 0, 1, 1)) == 0
    assert measure.auc(vector(1, 2, 2, 3), vector(0, 1, 0, 1)) == pytest.approx(3.5 / 4)
    assert measure.auc(vector(1, 2), vector(0.5, 0.5)) == pytest.approx(0.5)
    assert measure.auc(vector(1, 2), vector(0.25, 0.75)) == pytest.approx(0.75)


@pytest.mark.parametrize("chances", [np.zeros(3), np.ones(3)])
def test_auc_needs_both_sides(chances: np.ndarray) -> None:
    """With one side empty there are no pairs."""
    with pytest.raises(ValueError, match="one side is empty"):
        measure.auc(vector(1, 2, 3), chances)
