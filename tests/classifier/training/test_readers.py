"""Labels on one scale: what is a reader's own severity is taken out, what is the row's stays."""

import numpy as np
import pytest

from classifier.training import readers

SEVERE = {"a": 1.0, "b": -0.5, "c": 0.25}  # of first readers, mean nought over 30, 30 and 60 rows
SECOND = {"r": -0.8, "s": 0.3}


def judged(level: float, severity: float) -> float:
    """What a reader of some severity says of a row, as a chance."""
    return float(1 / (1 + np.exp(-(level + severity))))


def batches(every: int = 3) -> tuple[list[dict[str, object]], list[dict[str, object]], np.ndarray]:
    """Rows of three writers, every third read again, and the levels that all of it was made from."""
    rng = np.random.default_rng(0)
    rows, second, levels = [], [], []
    for writer, count in (("a", 30), ("b", 30), ("c", 60)):
        for number in range(count):
            level = float(rng.normal(0, 0.8))
            name = f"{writer}-{number}"
            levels.append(level)
            rows.append({"id": name, "fails": judged(level, SEVERE[writer]), "rescue": 0.8})
            if number % every == 0:
                reader = "rs"[(number // every) % 2]
                second.append({"id": name, "reader": reader, "fails": judged(level, SECOND[reader]), "rescue": 0.8})
    return rows, second, np.array(levels)


def test_severity_is_found_and_taken_out() -> None:
    """Rows of a strict and of a mild writer that are equally hard get the same label."""
    rows, second, levels = batches()
    labels = np.array([fails for fails, _ in readers.agreed(rows, second)])
    off = np.log(labels / (1 - labels)) - levels
    raw = np.array([row["fails"] for row in rows])

    assert np.abs(off - off.mean()).max() < 0.45
    assert np.abs(off - off.mean()).mean() < 0.5 * np.abs(np.log(raw / (1 - raw)) - levels).mean()


def test_the_scale_is_the_writers_mean() -> None:
    """However mild the second readers are, the level of the whole stays that of the first readings."""
    rows, second, _ = batches()
    first, _ = readers.on_one_scale(rows, second)

    assert np.mean([level[0] for level in first]) == pytest.approx(np.mean([readers.odds(row)[0] for row in rows]))


def test_two_readings_are_averaged() -> None:
    """The label of a row read twice lies between what both said, each without its severity."""
    rows = [{"id": f"a-{n}", "fails": 0.5, "rescue": 0.5} for n in range(10)]
    second = [{"id": f"a-{n}", "reader": "r", "fails": 0.7 if n else 0.3, "rescue": 0.5} for n in range(10)]
    labels = [fails for fails, _ in readers.agreed(rows, second)]

    assert labels[0] < 0.45
    assert labels[1] > 0.5
    assert len(set(labels[1:])) == 1


def test_without_second_readings_nothing_changes() -> None:
    """The labels are what was written."""
    rows = [{"id": "a-1", "fails": 0.3, "rescue": 0.9}, {"id": "b-1", "fails": 0.02, "rescue": 0.5}]

    assert readers.agreed(rows, []) == [(0.3, 0.9), (0.02, 0.5)]


def test_readings_of_rows_that_are_not_there_are_ignored() -> None:
    """A row may be taken out of the set without its second reading."""
    gone = {"id": "z-1", "reader": "r", "fails": 0.9, "rescue": 0.5}

    assert readers.agreed([{"id": "a-1", "fails": 0.3, "rescue": 0.9}], [gone]) == [(0.3, 0.9)]


def test_few_readings_move_little() -> None:
    """One second reading says little of a writer's severity, a hundred say nearly all."""
    one, many = (
        readers.severities([("a", "r", 1.0)] * count + [("b", "r", 0.0)] * 500, ["a"] * 100 + ["b"] * 100)[0]
        for count in (1, 100)
    )

    assert 0 < one["a"] - one["b"] < 0.3
    assert 0.8 < many["a"] - many["b"] < 1.1


def test_the_reader_is_in_the_id() -> None:
    """Up to the last dash."""
    assert readers.reader({"id": "team-x-0012"}) == "team-x"
