"""Labels of our own set on one scale, and that scale tied to what was measured.

Whoever writes a batch of prompts on one subject spreads the labels over the whole scale within that batch, so equal
numbers of two readers do not mean the same. Second readings go across batches, and show it: in log-odds, what a reader
says is the row's level plus the reader's own (the additive many-facet model of Linacre 1989, fitted by least squares).
Where a row was read twice, its level is the mean of both readings.

Readers put prompts in the right order and are far too kind to cheap models. They have read prompts of outcome files
beside our own, not seeing the outcomes: `Scale` is the line from their log-odds to what was measured there.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression

from classifier.training.measure import Vector

LABELS = ("fails", "rescue")
SMALL = 0.02  # log-odds are cut here: a reader's .01 and .02 are the same word
ROUNDS = 50  # of alternating least squares; the changes are below 1e-6 long before
STEADY = 5.0  # readings of nobody's severity that each reader is pulled to: few readings move little

Row = Mapping[str, Any]


class Levels(NamedTuple):
    """Log-odds of (fails, rescue) without the readers' severity."""

    first: list[Vector]  # of each row's first reading
    again: dict[str, Vector]  # of second readings, by the row's id
    measured: list[Vector]  # of prompts with measured outcomes


class Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From readers' log-odds of "cheap fails" to the measured ones: a line. Rescue is left as it was judged.

    The outcomes say what premium models of 2024 did; the judgements mean today's.
    """

    shift: float = 0.0
    slope: float = 1.0
    sources: tuple[dict[str, Any], ...] = ()  # what it rests on, for the card

    def chances(self, level: Vector) -> tuple[float, float]:
        """(fails, rescue) as chances."""
        fails, rescue = chances(np.array([self.shift + self.slope * level[0], level[1]]))
        return round(float(fails), 4), round(float(rescue), 4)


def read_scale(path: Path) -> Scale:
    """The scale in a file; readers are believed to the letter where there is none. Raises `msgspec.ValidationError`."""
    return msgspec.json.decode(path.read_bytes(), type=Scale) if path.exists() else Scale()


def fit_scale(levels: Vector, failed: Vector, sources: Sequence[str]) -> tuple[float, float]:
    """(shift, slope) by logistic regression of measured shares of failures, every source counting the same."""
    names, which, counts = np.unique(sources, return_inverse=True, return_counts=True)
    even = 1 / (counts[which] * len(names))
    fitted = LogisticRegression(C=1e6)
    fitted.fit(
        np.concatenate([levels, levels])[:, None],
        np.concatenate([np.ones(len(levels)), np.zeros(len(levels))]),
        sample_weight=len(levels) * np.concatenate([even * failed, even * (1 - failed)]),
    )
    return round(float(fitted.intercept_[0]), 4), round(float(fitted.coef_[0][0]), 4)


def agreed(levels: Levels, rows: Sequence[Row], scale: Scale) -> list[tuple[float, float]]:
    """(fails, rescue) of every row: the mean of its readings, as chances on the measured scale."""
    return [
        scale.chances((own + levels.again.get(row["id"], own)) / 2) for row, own in zip(rows, levels.first, strict=True)
    ]


def on_one_scale(rows: Sequence[Row], second: Sequence[Row], measured: Sequence[Row] = ()) -> Levels:
    """Take every reader's severity out of all readings.

    `second` holds {"id", "reader", "fails", "rescue"}; readings of rows that are not there are ignored. A row's first
    reader is its id up to the last dash. `measured` holds the same with the "source" of a prompt of outcome files:
    readers got random samples of each, so that the mean level of a source ties them together.
    """
    by_id = {row["id"]: row for row in rows}
    second = [row for row in second if row["id"] in by_id]
    first_level, second_level, measured_level = (
        np.array([odds(row) for row in part]).reshape(-1, 2) for part in (rows, second, measured)
    )
    place = {row["id"]: index for index, row in enumerate(rows)}
    for column in range(len(LABELS)):
        gaps = [
            (reader(by_id[row["id"]]), row["reader"], first_level[place[row["id"]], column] - level[column])
            for row, level in zip(second, second_level, strict=True)
        ]
        gaps += [
            (f"source {row['source']}", row["reader"], -level[column])
            for row, level in zip(measured, measured_level, strict=True)
        ]
        ours, theirs = severities(gaps, [reader(row) for row in rows])
        first_level[:, column] -= [ours[reader(row)] for row in rows]
        second_level[:, column] -= [theirs[row["reader"]] for row in second]
        measured_level[:, column] -= [theirs[row["reader"]] for row in measured]
    again = {row["id"]: level for row, level in zip(second, second_level, strict=True)}
    return Levels(list(first_level), again, list(measured_level))


def reader(row: Row) -> str:
    """Who wrote and first read a row."""
    return str(row["id"]).rpartition("-")[0]


def severities(
    differences: Sequence[tuple[str, str, float]], rows: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """How much higher than the common scale each first and each second reader judges, in log-odds.

    `differences`: (first reader, second reader, how much higher the first judged one row); `rows`: the first reader of
    every row there is, over which the first readers' mean severity is nought.
    """
    by_first: dict[str, list[tuple[str, float]]] = defaultdict(list)
    by_second: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for one, other, gap in differences:
        by_first[one].append((other, gap))
        by_second[other].append((one, gap))
    first: dict[str, float] = dict.fromkeys([*rows, *by_first], 0.0)
    second: dict[str, float] = dict.fromkeys(by_second, 0.0)
    for _ in range(ROUNDS):
        for name, gaps in by_second.items():
            second[name] = sum(first[one] - gap for one, gap in gaps) / len(gaps)
        for name, gaps in by_first.items():
            first[name] = sum(gap + second[other] for other, gap in gaps) / (len(gaps) + STEADY)
        mean = sum(first[name] for name in rows) / len(rows)
        first = {name: value - mean for name, value in first.items()}
    return first, second


def odds(row: Row) -> Vector:
    """Log-odds of a reading's (fails, rescue)."""
    cut = np.clip([row[label] for label in LABELS], SMALL, 1 - SMALL)
    found: Vector = np.log(cut / (1 - cut))
    return found


def chances(level: Vector) -> Vector:
    """Chances of log-odds."""
    found: Vector = 1 / (1 + np.exp(-level))
    return found
