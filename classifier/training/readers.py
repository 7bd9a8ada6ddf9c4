"""Labels of our own set on one scale: how strictly each reader judges is measured, and taken out.

Whoever writes a batch of prompts on one subject spreads the labels over the whole scale within that batch, so equal
numbers of two readers do not mean the same. Second readings go across batches, and show it: in log-odds, what a reader
says is the row's level plus the reader's own (the additive many-facet model of Linacre 1989, fitted by least squares).
The scale is the first readers' mean: what they say of sources with measured outcomes is about what was measured there.
Where a row was read twice, its label is the mean of both readings, in log-odds.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from classifier.training.measure import Vector

LABELS = ("fails", "rescue")
SMALL = 0.02  # log-odds are cut here: a reader's .01 and .02 are the same word
ROUNDS = 50  # of alternating least squares; the changes are below 1e-6 long before
STEADY = 5.0  # readings of nobody's severity that each reader is pulled to: few readings move little

Row = Mapping[str, Any]


def agreed(rows: Sequence[Row], second: Sequence[Row]) -> list[tuple[float, float]]:
    """(fails, rescue) of every row on the common scale: the mean of its readings."""
    first, again = on_one_scale(rows, second)
    levels = [(own + again.get(row["id"], own)) / 2 for row, own in zip(rows, first, strict=True)]
    return [(round(float(fails), 4), round(float(rescue), 4)) for fails, rescue in map(chances, levels)]


def on_one_scale(rows: Sequence[Row], second: Sequence[Row]) -> tuple[list[Vector], dict[str, Vector]]:
    """Log-odds of (fails, rescue): each row's first reading, and second readings by the row's id.

    `second` holds {"id", "reader", "fails", "rescue"}; readings of rows that are not there are ignored. A row's first
    reader is its id up to the last dash.
    """
    by_id = {row["id"]: row for row in rows}
    second = [row for row in second if row["id"] in by_id]
    first_level, second_level = (np.array([odds(row) for row in part]).reshape(-1, 2) for part in (rows, second))
    place = {row["id"]: index for index, row in enumerate(rows)}
    for column in range(len(LABELS)):
        gaps = [
            (reader(by_id[row["id"]]), row["reader"], first_level[place[row["id"]], column] - level[column])
            for row, level in zip(second, second_level, strict=True)
        ]
        ours, theirs = severities(gaps, [reader(row) for row in rows])
        first_level[:, column] -= [ours[reader(row)] for row in rows]
        second_level[:, column] -= [theirs[row["reader"]] for row in second]
    return list(first_level), {row["id"]: level for row, level in zip(second, second_level, strict=True)}


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
    first: dict[str, float] = dict.fromkeys(rows, 0.0)
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
