"""The heads fitted to a user's own outcomes: seconds, numpy only, the encoder stays as it is.

One logistic regression of "premium was needed" on what the heads see (trunk, mean state, structure: the trunk has taken
from the weighted means what it needs, and without them it is quick), pulled towards the shipped judgement
(a ridge on what is added to it, Hoerl & Kennard 1970): with few rows little changes, with many the traffic decides. How
strong the pull is, cross-validation on the fitted rows says. What is compared, old and new, are rows that neither saw;
a new judgement that is not better there is not written.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from classifier import bundle, calibration
from classifier.calibration import Calibration
from classifier.features import STRUCTURE, Prompt
from classifier.heads import JUDGEMENTS, Heads
from classifier.predict import Predictor

Vector = npt.NDArray[np.float64]

FEWEST = 20  # rows of each outcome, in all; fewer say nothing
MOST = 10_000  # rows used, the last ones: what is older than that is another traffic
PULLS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
FOLDS = 4
ONE_SIDED = 1.645  # standard errors: 95 % of a normal are above it, one-sided
NEED = JUDGEMENTS.index("need")


class TooFew(Exception):
    """The outcomes cannot be learnt from. The message says what is missing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A prompt, and the chance (mostly 0 or 1) that premium was needed: cheap failed and premium did not."""

    prompt: Prompt
    needed: float


@dataclass(frozen=True, slots=True)
class Compared:
    """One judgement on the held-out rows."""

    log_loss: float  # mean, nats
    auc: float  # of p_cheap against "premium was needed"
    sent_cheap: float  # share at the default threshold
    harm: float  # share of all rows that it sends cheap although premium was needed


@dataclass(frozen=True, slots=True)
class Fitted:
    """New heads, and how they stand against the old."""

    heads: Heads
    calibration: Calibration
    rows: int
    held_out: int
    pull: float
    old: Compared
    new: Compared
    gained: float  # log loss, old less new, a held-out row
    surely: float  # its one-sided 95 % bound: more than this was gained

    @property
    def better(self) -> bool:
        """Whether the new judgement may replace the old: what it gains on rows that neither saw is no luck."""
        return self.surely > 0


def fit(predictor: Predictor, outcomes: Sequence[Outcome]) -> Fitted:
    """Fit and compare. Raises `TooFew`."""
    outcomes = outcomes[-MOST:]
    needed = np.array([outcome.needed for outcome in outcomes])
    positive = float(needed.sum())
    if min(positive, len(needed) - positive) < FEWEST:
        raise TooFew(
            f"premium was needed in {positive:.0f} of {len(needed)} rows: at least {FEWEST} of either are wanted"
        )
    held = np.array([_drawn(outcome.prompt, 0) % 5 == 0 for outcome in outcomes])
    for part in (held, ~held):
        if not 0 < needed[part].sum() < part.sum():
            raise TooFew(f"{int(part.sum())} rows, held out or fitted on, are all alike: more rows are wanted")
    seen = np.stack([predictor.heads.joined(*predictor.states(outcome.prompt)) for outcome in outcomes]).astype(float)
    used = _used(predictor.heads)
    means, scales = seen[~held][:, used].mean(0), seen[~held][:, used].std(0) + 1e-3
    columns = (seen[:, used] - means) / scales
    shipped = np.array([_logit(predictor, row) for row in seen])
    fold = np.array([_drawn(outcome.prompt, 1) % FOLDS for outcome in outcomes])
    pull = _best_pull(columns[~held], shipped[~held], needed[~held], fold[~held])
    added, bias, slope = _regress(columns[~held], shipped[~held], needed[~held], pull)
    whole = np.zeros(seen.shape[1])
    whole[used] = added / scales
    heads, fitted = _as_heads(predictor, whole, bias - float(whole[used] @ means), slope, seen)
    before, after = shipped, slope * shipped + columns @ added + bias
    threshold = predictor.default_threshold
    gains = _losses(before[held], needed[held]) - _losses(after[held], needed[held])
    return Fitted(
        heads,
        fitted,
        rows=len(needed),
        held_out=int(held.sum()),
        pull=pull,
        old=_compare(before[held], needed[held], threshold),
        new=_compare(after[held], needed[held], threshold),
        gained=round(float(gains.mean()), 4),
        surely=round(float(gains.mean() - ONE_SIDED * gains.std(ddof=1) / math.sqrt(len(gains))), 4),
    )


def write(fitted: Fitted, old: Path, out: Path, provenance: dict[str, Any]) -> None:
    """Write a bundle of the `old` one's network and tokenizer and the new heads to `out`, another directory.

    Raises `OSError`. The manifest comes last: half a bundle does not load.
    """
    manifest = bundle.read_manifest(old)
    out.mkdir(parents=True, exist_ok=True)
    for name in (bundle.MODEL, bundle.TOKENIZER):
        (out / name).write_bytes((old / name).read_bytes())
    fitted.heads.save(out / bundle.HEADS)
    bundle.write_manifest(
        out,
        msgspec.structs.replace(
            manifest,
            files={name: bundle.sha256(out / name) for name in bundle.FILES},
            calibration=fitted.calibration,
            provenance={**manifest.provenance, "fitted_on": provenance, "fitted_from": bundle.digest(manifest)},
            metrics={"own_traffic": msgspec.to_builtins({"old": fitted.old, "new": fitted.new})},
        ),
    )


def _used(heads: Heads) -> npt.NDArray[np.bool_]:
    """Which of the joined columns are regressed on: all but the weighted means, which stand behind the even one."""
    joined, state = heads.judge.shape[1], heads.trunk.shape[1] - len(STRUCTURE)
    place = np.arange(joined) - len(heads.trunk)  # of the pooled state's columns: 0 to `state`
    used: npt.NDArray[np.bool_] = (place < heads.embed.shape[1]) | (place >= state)
    return used


def _drawn(prompt: Prompt, place: int) -> int:
    """A number from 0 to 255 by the text alone: a repeated prompt is on one side of every division."""
    return sha256(prompt.text.strip().lower().encode("utf-8", "replace")).digest()[place]


def _logit(predictor: Predictor, joined: Vector) -> float:
    """What the shipped heads say: the logit of "premium is needed"."""
    logits = (predictor.heads.judge @ joined + predictor.heads.judge_bias).astype(np.float32)
    p_cheap = min(max(calibration.p_cheap(logits, predictor.calibration), 1e-6), 1 - 1e-6)
    return math.log((1 - p_cheap) / p_cheap)


def _regress(columns: Vector, shipped: Vector, needed: Vector, pull: float) -> tuple[Vector, float, float]:
    """Weights added, bias and slope of the shipped logit, by Newton's method; `pull` is the ridge on the first."""
    design = np.column_stack([columns, np.ones(len(needed)), shipped])
    ridge = np.array([pull] * columns.shape[1] + [1e-3, 1.0])
    start = np.zeros(design.shape[1])
    start[-1] = 1.0
    weights = start.copy()

    def cost(at: Vector) -> float:
        return float(_losses(design @ at, needed).sum() + (ridge * (at - start) ** 2).sum() / 2)

    now = cost(weights)
    for _ in range(100):
        chance = _sigmoid(design @ weights)
        gradient = design.T @ (chance - needed) + ridge * (weights - start)
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        # halved until it helps: where the shipped judgement is sure, a whole step goes too far
        size = 1.0
        while (then := cost(weights - size * step)) > now and size > 1e-9:
            size /= 2
        weights, now = weights - size * step, then
        if np.abs(size * step).max() < 1e-7:
            break
    return weights[:-2], float(weights[-2]), float(weights[-1])


def _best_pull(columns: Vector, shipped: Vector, needed: Vector, fold: npt.NDArray[np.int_]) -> float:
    """The pull with the smallest cross-validated log loss; `fold` is each row's."""

    def loss(pull: float) -> float:
        total = 0.0
        for part in range(FOLDS):
            here = fold == part
            added, bias, slope = _regress(columns[~here], shipped[~here], needed[~here], pull)
            said = slope * shipped[here] + columns[here] @ added + bias
            total += _log_loss(said, needed[here]) * here.sum()
        return total

    return min(PULLS, key=loss)


def _as_heads(
    predictor: Predictor, added: Vector, bias: float, slope: float, seen: Vector
) -> tuple[Heads, Calibration]:
    """The regression as a head: its `need` becomes the fitted logit, which p_cheap and score then follow alone."""
    old, given = predictor.heads, np.array(predictor.calibration.weights)
    # p_cheap's logit is given @ logits + its bias; "needed" is the negative of it
    judge, judge_bias = old.judge.astype(float), old.judge_bias.astype(float)
    judge[NEED] = added - slope * (given @ old.judge)
    judge_bias[NEED] = bias - slope * float(given @ old.judge_bias + predictor.calibration.bias)
    logits = seen @ judge[NEED] + judge_bias[NEED]
    alone = tuple(float(index == NEED) for index in range(len(JUDGEMENTS)))
    means, scales = list(predictor.calibration.means), list(predictor.calibration.scales)
    means[NEED], scales[NEED] = float(logits.mean()), max(float(logits.std()) / 1.7, 1e-3)
    fitted = Calibration(
        weights=(-alone[0], -alone[1], -alone[2]),
        bias=0.0,
        means=_three(means),
        scales=_three(scales),
        ranks=_three(alone),
    )
    return old._replace(judge=judge.astype(np.float32), judge_bias=judge_bias.astype(np.float32)), fitted


def _compare(logits: Vector, needed: Vector, threshold: float) -> Compared:
    """Figures of one judgement; `logits` of "needed"."""
    cheap = 1 - _sigmoid(logits) >= threshold
    return Compared(
        round(_log_loss(logits, needed), 4),
        round(_auc(logits, needed), 4),
        round(float(cheap.mean()), 4),
        round(float((needed * cheap).mean()), 4),
    )


def _log_loss(logits: Vector, needed: Vector) -> float:
    """Mean cross entropy, nats."""
    return float(_losses(logits, needed).mean())


def _losses(logits: Vector, needed: Vector) -> Vector:
    """Cross entropy of each row, nats."""
    found: Vector = np.logaddexp(0, logits) - needed * logits
    return found


def _auc(scores: Vector, needed: Vector) -> float:
    """Area under the ROC curve; a row counts on both sides by its chance."""
    values, inverse = np.unique(scores, return_inverse=True)
    ups, downs = (np.bincount(inverse, side, len(values)) for side in (needed, 1 - needed))
    below = np.cumsum(downs) - downs
    return float((ups * (below + downs / 2)).sum() / (needed.sum() * (1 - needed).sum()))


def _sigmoid(x: Vector) -> Vector:
    """The logistic function; `x` is cut where it is flat."""
    found: Vector = 1 / (1 + np.exp(-np.clip(x, -35, 35)))
    return found


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    """Three numbers as the manifest holds them."""
    a, b, c = (round(float(value), 6) for value in values)
    return a, b, c
