"""The statistics of the boards. Numpy only; every function is pure, randomness comes in as a seed."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

SMALLEST_GAP = 0.03  # below it the share of the gap recovered is a ratio of two noises

Vector = npt.NDArray[np.float64]


def spearman(a: Vector, b: Vector) -> float:
    """Rank correlation, ties averaged; 0 where one side does not vary."""
    if len(a) < 2 or a.min() == a.max() or b.min() == b.max():
        return 0.0
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def ranks(values: Vector) -> Vector:
    """Ranks from 1, ties share their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean_rank: Vector = ends - (counts - 1) / 2
    return np.asarray(mean_rank[inverse], dtype=np.float64)


def apgr(scores: Vector, weak: Vector, strong: Vector) -> float:
    """Average performance gap recovered: the mean quality over all shares of strong calls, 0 at weak's, 1 at strong's.

    RouteLLM's protocol (arXiv 2406.18665, `routellm/evals`): eleven thresholds at the deciles of the score,
    trapezoids over the share sent to strong. `weak` and `strong` are each prompt's quality there; .5 is what random
    routing gets. Raises `ValueError` where strong is no better than weak on average: the measure is not defined.
    """
    floor, ceiling = weak.mean(), strong.mean()
    if ceiling <= floor:
        raise ValueError("strong is no better than weak here")
    order = np.argsort(-(scores + np.linspace(0, 1e-9, len(scores))), kind="stable")
    gains = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / len(scores)
    cuts = np.rint(np.linspace(0, len(scores), 11)).astype(int)
    share, recovered = cuts / len(scores), gains[cuts] / (ceiling - floor)
    return float(np.trapezoid(recovered, share))


def interval(
    statistic: Callable[..., float], *columns: Vector, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a statistic over paired columns (Efron 1979); undefined draws are left out."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        drawn = rng.integers(0, len(columns[0]), len(columns[0]))
        try:
            found.append(statistic(*(column[drawn] for column in columns)))
        except ValueError:
            continue
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def calibration_error(predicted: Vector, actual: Vector, weights: Vector | None = None, bins: int = 10) -> float:
    """Expected calibration error with equal-width bins (Guo et al. 2017); `actual` may be soft."""
    return sum(share * abs(p - a) for p, a, share in reliability(predicted, actual, weights, bins))


def reliability(
    predicted: Vector, actual: Vector, weights: Vector | None = None, bins: int = 10
) -> list[tuple[float, float, float]]:
    """(mean predicted, mean actual, share) of every bin that is not empty."""
    weights = np.ones(len(predicted)) if weights is None else weights
    which = np.minimum((predicted * bins).astype(int), bins - 1)
    found = []
    for index in range(bins):
        here = which == index
        mass = float(weights[here].sum())
        if mass > 0:
            p, a = (float(np.average(column[here], weights=weights[here])) for column in (predicted, actual))
            found.append((p, a, mass / float(weights.sum())))
    return found


def recovered(scores: Vector, weak: Vector, strong: Vector) -> tuple[Vector, Vector]:
    """Share of calls to strong and share of the gap recovered, both rising from 0 to 1; rows + 1 entries.

    The prompts that score highest go to strong first. Raises `ValueError` where strong is no better than weak.
    """
    floor, ceiling = weak.mean(), strong.mean()
    if ceiling <= floor:
        raise ValueError("strong is no better than weak here")
    order = np.argsort(-(scores + np.linspace(0, 1e-9, len(scores))), kind="stable")
    gains = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / len(scores)
    return np.arange(len(scores) + 1) / len(scores), gains / (ceiling - floor)


def cpt(scores: Vector, weak: Vector, strong: Vector, target: float) -> float:
    """CPT(target): the share of calls to strong at which `target` of the gap is recovered (RouteLLM's protocol)."""
    share, found = recovered(scores, weak, strong)
    cuts = np.rint(np.linspace(0, len(scores), 11)).astype(int)
    return float(np.interp(target, found[cuts], share[cuts]))


def calls_for(scores: Vector, weak: Vector, strong: Vector, quality: float) -> float:
    """The smallest share of calls to strong that keeps `quality` (say .99) of strong's mean quality."""
    share, found = recovered(scores, weak, strong)
    reached = weak.mean() + found * (strong.mean() - weak.mean()) >= quality * strong.mean() - 1e-12
    return float(share[int(np.argmax(reached))])


def dollars_saved(scores: Vector, weak: Vector, strong: Vector, quality: float, price: float) -> float:
    """The share of an all-strong bill that is saved at `quality`; `price` is a weak call's cost over a strong one's."""
    return (1 - calls_for(scores, weak, strong, quality)) * (1 - price)


def of_oracle(scores: Vector, weak: Vector, strong: Vector) -> float:
    """How much of what an oracle gains over random routing is gained: 0 random, 1 oracle, below 0 worse than random."""

    def area(ranking: Vector) -> float:
        share, found = recovered(ranking, weak, strong)
        return float(np.trapezoid(found, share)) - 0.5

    return area(scores) / area(strong - weak)


def auc(scores: Vector, chances: Vector) -> float:
    """Area under the ROC curve where each row is positive with its chance: a row counts on both sides.

    Raises `ValueError` where one side is empty.
    """
    positive, negative = chances.sum(), (1 - chances).sum()
    if positive <= 0 or negative <= 0:
        raise ValueError("one side is empty")
    values, inverse = np.unique(scores, return_inverse=True)
    ups, downs = (np.bincount(inverse, side, len(values)) for side in (chances, 1 - chances))
    below = np.cumsum(downs) - downs
    return float((ups * (below + downs / 2)).sum() / (positive * negative))
