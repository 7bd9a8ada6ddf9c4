"""Labels on one scale: what is a reader's own severity is taken out, what is the row's stays."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
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


def agreed(rows: Sequence[readers.Row], second: Sequence[readers.Row]) -> list[tuple[float, float]]:
    """Labels as the readers mean them."""
    return readers.agreed(readers.on_one_scale(rows, second), rows, readers.Scale())


def test_severity_is_found_and_taken_out() -> None:
    """Rows of a strict and of a mild writer that are equally hard get the same label."""
    rows, second, levels = batches()
    labels = np.array([fails for fails, _ in agreed(rows, second)])
    off = np.log(labels / (1 - labels)) - levels
    raw = np.array([row["fails"] for row in rows])

    assert np.abs(off - off.mean()).max() < 0.45
    assert np.abs(off - off.mean()).mean() < 0.5 * np.abs(np.log(raw / (1 - raw)) - levels).mean()


def test_the_scale_is_the_writers_mean() -> None:
    """However mild the second readers are, the level of the whole stays that of the first readings."""
    rows, second, _ = batches()
    first = readers.on_one_scale(rows, second).first

    assert np.mean([level[0] for level in first]) == pytest.approx(np.mean([readers.odds(row)[0] for row in rows]))


def test_two_readings_are_averaged() -> None:
    """The label of a row read twice lies between what both said, each without its severity."""
    rows = [{"id": f"a-{n}", "fails": 0.5, "rescue": 0.5} for n in range(10)]
    second = [{"id": f"a-{n}", "reader": "r", "fails": 0.7 if n else 0.3, "rescue": 0.5} for n in range(10)]
    labels = [fails for fails, _ in agreed(rows, second)]

    assert labels[0] < 0.45
    assert labels[1] > 0.5
    assert len(set(labels[1:])) == 1


def test_without_second_readings_nothing_changes() -> None:
    """The labels are what was written."""
    rows = [{"id": "a-1", "fails": 0.3, "rescue": 0.9}, {"id": "b-1", "fails": 0.02, "rescue": 0.5}]

    assert agreed(rows, []) == [(0.3, 0.9), (0.02, 0.5)]


def test_readings_of_rows_that_are_not_there_are_ignored() -> None:
    """A row may be taken out of the set without its second reading."""
    gone = {"id": "z-1", "reader": "r", "fails": 0.9, "rescue": 0.5}

    assert agreed([{"id": "a-1", "fails": 0.3, "rescue": 0.9}], [gone]) == [(0.3, 0.9)]


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


def test_measured_prompts_tie_readers_together() -> None:
    """Two writers whose second readers never met are on one scale once both of these read from the same source."""
    rng = np.random.default_rng(1)
    rows, second, levels = [], [], []
    for writer, again, severity in (("a", "r", 0.9), ("b", "s", -0.9)):
        for number in range(60):
            level = float(rng.normal(0, 0.8))
            name = f"{writer}-{number}"
            levels.append(level)
            rows.append({"id": name, "fails": judged(level, severity), "rescue": 0.8})
            second.append({"id": name, "reader": again, "fails": judged(level, SECOND[again]), "rescue": 0.8})
    measured = [
        {
            "source": "exams",
            "id": str(n),
            "reader": "rs"[n % 2],
            "fails": judged(n // 2 / 100 - 1, SECOND["rs"[n % 2]]),
            "rescue": 0.8,
        }
        for n in range(400)
    ]

    def off(found: readers.Levels) -> float:
        """How much higher the writer a still stands than b."""
        gaps = np.array([level[0] for level in found.first]) - levels
        return float(gaps[:60].mean() - gaps[60:].mean())

    assert abs(off(readers.on_one_scale(rows, second))) > 0.3
    tied = readers.on_one_scale(rows, second, measured)
    assert abs(off(tied)) < 0.2
    assert np.ptp(np.array([level[0] for level in tied.measured]) - (np.arange(400) // 2 / 100)) < 0.1


def test_the_line_to_what_was_measured() -> None:
    """Shift and slope are found again, and a source of few rows counts as much as one of many."""
    rng = np.random.default_rng(2)
    levels = rng.normal(-1, 1, 600)
    failed = 1 / (1 + np.exp(-(1.4 + 0.8 * levels)))

    assert readers.fit_scale(levels, failed, ["x"] * 600) == pytest.approx((1.4, 0.8), abs=0.01)
    harder = np.concatenate([failed, 1 / (1 + np.exp(-(2.4 + 0.8 * levels[:60])))])
    shift, _ = readers.fit_scale(np.concatenate([levels, levels[:60]]), harder, ["x"] * 600 + ["y"] * 60)
    assert shift == pytest.approx(1.9, abs=0.1)


def test_labels_are_on_the_measured_scale() -> None:
    """What cheap fails goes along the line; rescue stays as it was judged."""
    rows = [{"id": "a-1", "fails": 0.5, "rescue": 0.9}]
    fails, rescue = readers.agreed(readers.on_one_scale(rows, []), rows, readers.Scale(1.0, 2.0))[0]

    assert fails == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-4)
    assert rescue == 0.9


def test_a_scale_in_a_file(tmp_path: Path) -> None:
    """It is read as it was written; without a file readers are believed; a field that is not known is refused."""
    path = tmp_path / "scale.json"

    assert readers.read_scale(path) == readers.Scale(0.0, 1.0)
    path.write_bytes(msgspec.json.encode(readers.Scale(1.5, 0.9)))
    assert readers.read_scale(path) == readers.Scale(1.5, 0.9)
    path.write_text('{"shfit": 1}', encoding="utf-8")
    with pytest.raises(msgspec.ValidationError, match="shfit"):
        readers.read_scale(path)
