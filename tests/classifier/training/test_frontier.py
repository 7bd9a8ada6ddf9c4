"""Quality against time for other shapes."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from classifier import bench, bundle
from classifier.predict import Prompt
from classifier.training import dataset, frontier
from classifier.training.dataset import Example
from classifier.training.frontier import Point
from tests.classifier.conftest import Tiny

LINE = {"name": "a", "mb": 9.0, "ms64": 0.5, "ms128": 0.9, "auc": 0.8, "of_oracle": 0.1, "task_accuracy": 0.7}


@pytest.fixture
def _timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing, which takes long, is made up."""
    rows = [bench.Timing(f"{tokens} tokens", tokens / 100, 2.0) for tokens in bench.TOKENS]
    monkeypatch.setattr(bench, "timings", lambda _: rows)


def made(name: str, p_cheap: list[float], **more: tuple[float, float]) -> Point:
    """A point that gives our own set these p_cheap, and the score their opposite."""
    column = np.array(p_cheap)
    judged = {"": column, "exam": column}
    return Point(name, 4.0, more.get("ms", (1.0, 2.0)), judged, {key: 1 - value for key, value in judged.items()}, 0.5)


def sources(count: int) -> dict[str, list[Example]]:
    """Our own rows, of which the last half needs premium, and an exam on which weak fails there."""
    hard = [number >= count / 2 for number in range(count)]
    own = [Example("own:definite", Prompt(str(n)), need=0.9 if h else 0.1) for n, h in enumerate(hard)]
    exam = [Example("exam", Prompt(str(n)), weak=float(not h), strong=1.0) for n, h in enumerate(hard)]
    return {"": own, "exam": exam}


def test_what_is_scored(examples: list[Example], monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out rows of our own set, and up to LARGEST rows of each source with outcomes."""
    monkeypatch.setattr(frontier, "LARGEST", 20)
    found = frontier.by_source(examples)

    assert found.keys() == {"", "mmlu_pro", "uiuc:gsm8k"}
    assert all(example.own and example.held_out for example in found[""])
    assert [len(found[name]) for name in ("mmlu_pro", "uiuc:gsm8k")] == [20, 20]


@pytest.mark.usefixtures("_timed")
def test_a_point_is_measured(tiny: Tiny, examples: list[Example]) -> None:
    """Size and time of the file that would serve; a chance and a score for every row; the share of right tasks."""
    found = frontier.by_source(examples)
    point = frontier.point("tiny", tiny.model, tiny.tokenizer, found)
    size = sum((tiny.directory / name).stat().st_size for name in bundle.FILES) / 1e6

    assert (point.name, point.ms) == ("tiny", (0.64, 1.28))
    assert point.mb == pytest.approx(size, rel=1e-3)
    assert {name: len(column) for name, column in point.p_cheap.items()} == {n: len(rows) for n, rows in found.items()}
    assert all(0 <= column.min() <= column.max() <= 1 for column in [*point.p_cheap.values(), *point.score.values()])
    assert 0 <= point.task_accuracy <= 1


def test_a_line_of_the_table() -> None:
    """AUC over our own definite rows, and the mean share of the oracle's gain over sources with a gap."""
    right, wrong = made("right", [0.9, 0.8, 0.2, 0.1]), made("wrong", [0.1, 0.2, 0.8, 0.9])
    rows = sources(4)
    rows["flat"] = [Example("flat", Prompt("x"), weak=1.0, strong=1.0)] * 4
    for point, auc, share in ((right, 1, 1), (wrong, 0, -1)):
        point.score["flat"] = np.zeros(4)
        line = frontier.row(point, rows)

        assert (line["name"], line["mb"], line["ms64"], line["ms128"]) == (point.name, 4, 1, 2)
        assert (line["auc"], line["of_oracle"], line["task_accuracy"]) == (auc, pytest.approx(share), 0.5)


def test_a_cascade() -> None:
    """Where the first is near the threshold the second is asked, and its time is spent there only."""
    first, second = made("one", [0.9, 0.7, 0.6, 0.1]), made("two", [0.2, 0.3, 0.4, 0.5], ms=(10.0, 20.0))
    both = frontier.cascade(first, second)

    assert both.p_cheap[""].tolist() == [0.9, 0.3, 0.4, 0.1]
    assert both.score["exam"].tolist() == pytest.approx([0.1, 0.7, 0.6, 0.9])
    assert (both.name, both.mb, both.ms) == ("one, then two for 50%", 8, (6, 12))


def test_the_picture(tmp_path: Path) -> None:
    """Every network has its name in it, and equal figures are equal bytes."""
    rows = [LINE, LINE | {"name": "a, then b", "ms64": 1.5}]
    for name in ("one.svg", "two.svg"):
        frontier.draw(rows, tmp_path / name)

    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert b"a, then b" in (tmp_path / "one.svg").read_bytes()


@pytest.fixture
def options(data_directory: Path, base_weights: Path, tiny: Tiny, tmp_path: Path) -> dict[str, Path]:
    """What the command is told; the bundle is a copy of the tiny one."""
    home = Path(shutil.copytree(tiny.directory, tmp_path / "bundle"))
    return {"--data": data_directory, "--base": base_weights, "--out": home}


@pytest.mark.usefixtures("_timed")
def test_command(
    options: dict[str, Path], own_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It trains every shape, prints a line each, puts the table into the manifest and draws it; no verdict changes."""
    monkeypatch.setattr(frontier, "SHAPES", ((0, 0), (1, 16)))
    monkeypatch.setattr(frontier, "CASCADES", (("0 layers", "1 layer, 16"),))
    monkeypatch.setattr(dataset, "load", partial(dataset.load, own=own_directory))
    before = bundle.digest(bundle.read_manifest(options["--out"]))
    frontier.main([*(str(word) for pair in options.items() for word in pair), "--steps", "2"])
    manifest = bundle.read_manifest(options["--out"])
    lines = manifest.metrics["boards"]["frontier"]

    assert [line["name"] for line in lines][:2] == ["0 layers", "1 layer, 16"]
    assert len(lines) == 3
    assert lines[0]["mb"] < lines[1]["mb"] < lines[2]["mb"]
    assert lines[2]["name"] in capsys.readouterr().out
    assert (options["--out"] / frontier.PICTURE).is_file()
    assert bundle.digest(manifest) == before
