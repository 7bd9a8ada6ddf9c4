"""The whole of training, end to end, on made-up data and weights."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

from classifier import bundle
from classifier.calibration import Calibration
from classifier.predict import Predictor, Prompt
from classifier.training import fit, parity, train
from classifier.training.dataset import Example
from classifier.training.teacher import Floats
from tests.classifier.conftest import Tiny

NEED_ONLY = Calibration(weights=(0.0, 0.0, -1.0), bias=0.0, means=(0.0, 0.0, 0.0), scales=(1.0, 1.0, 1.0))


def command(data: Path | None, own: Path, weights: Path, out: Path) -> bundle.Manifest:
    """Run the command for a few steps and return the manifest it wrote."""
    options = ["--own", own, "--base", weights, "--out", out, "--steps", "3", "--threads", "1"]
    train.main([str(option) for option in (options if data is None else ["--data", data, *options])])
    return bundle.read_manifest(out)


def test_one_command_makes_a_bundle(
    data_directory: Path, own_directory: Path, base_weights: Path, tmp_path: Path
) -> None:
    """`make train`: data, our own set and base weights in, a bundle out that loads and predicts."""
    out = tmp_path / "onnx_models"
    made = command(data_directory, own_directory, base_weights, out).provenance

    assert Predictor.load(out).predict(Prompt("hello")).p_cheap > 0
    assert {"own:definite", "own:chat", "further:art"} <= {source["name"] for source in made["sources"]}
    assert made["command"] == "python -m classifier.training.train --data DIR --steps 3 --seed 7"
    assert str(tmp_path) not in (out / bundle.MANIFEST).read_text()
    assert {file.name for file in out.iterdir()} == {*bundle.FILES, bundle.MANIFEST}


def test_our_own_set_alone_makes_a_bundle(own_directory: Path, base_weights: Path, tmp_path: Path) -> None:
    """Without outcomes there is a bundle too, with the natural threshold."""
    made = command(None, own_directory, base_weights, tmp_path / "out")

    assert {source["name"] for source in made.provenance["sources"]} == {"own:definite", "own:chat"}
    assert made.default_threshold == train.NATURAL_THRESHOLD
    assert Predictor.load(tmp_path / "out").predict(Prompt("hello")).p_cheap > 0


def test_the_same_seed_makes_the_same_bundle(own_directory: Path, base_weights: Path, tmp_path: Path) -> None:
    """Everything that serves is the same to the byte."""
    one, two = (command(None, own_directory, base_weights, tmp_path / name) for name in ("one", "two"))

    assert one.files == two.files
    assert bundle.digest(one) == bundle.digest(two)


def test_provenance_is_complete(tiny: Tiny) -> None:
    """The manifest says what was trained on what, by which versions, from which seed, and under which licences."""
    made = tiny.manifest.provenance
    rows = {source["name"]: source["trained"] for source in made["sources"]}

    assert made["base"]["licence"] == "Apache-2.0"
    assert all(count > 0 for count in rows.values())
    assert {"torch", "onnx", "onnxruntime", "python"} <= made["versions"].keys()
    assert made["knobs"]["seed"] == 7


def test_sources_have_licences(tiny: Tiny) -> None:
    """Every group that the tests train on is under a licence that is written down."""
    assert {source["licence"] for source in tiny.manifest.provenance["sources"]} <= set(train.LICENCES.values())


def test_share_alike_and_held_out_rows_are_not_trained_on(examples: list[Example]) -> None:
    """Neither half of the split holds what may not be trained on, and the halves share no text."""
    forbidden = Example("uiuc:arc_challenge", Prompt("hello"), need=0.5, trainable=False)
    training, held = train.split([*examples, forbidden])

    assert forbidden not in training + held
    assert len(training) + len(held) == len(examples)
    assert not {e.text.lower() for e in training} & {e.text.lower() for e in held}


def test_rows_that_measure_do_not_calibrate(
    tiny: Tiny, examples: list[Example], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Calibration and threshold are fitted on one half of the held-out rows: the other half is left to measure them."""
    seen: list[Example] = []

    def calibrate(logits: Floats, rows: Sequence[Example]) -> Calibration:
        """Keep the rows."""
        seen.extend(rows)
        return calibrated(logits, rows)

    def threshold(logits: Floats, rows: Sequence[Example], fitted: Calibration) -> float:
        """Keep the rows."""
        seen.extend(rows)
        return chosen(logits, rows, fitted)

    calibrated, chosen = fit.calibrate, train.default_threshold
    monkeypatch.setattr(fit, "calibrate", calibrate)
    monkeypatch.setattr(train, "default_threshold", threshold)
    train.build(deepcopy(tiny.model), tiny.tokenizer, examples, fit.Knobs(steps=1, batch=4), tmp_path / "out")

    assert seen
    assert all(example.held_out and example.calibrates for example in seen)


def anchors(easy: Sequence[float], hard: Sequence[float]) -> tuple[np.ndarray, list[Example]]:
    """Anchor rows whose p_cheap under NEED_ONLY is as given, and their logits."""
    levels = np.array([*easy, *hard])
    logits = np.zeros((len(levels), 3), np.float32)
    logits[:, 2] = np.log((1 - levels) / levels)
    names = ["clinc150_intents"] * len(easy) + ["arena_hard_prompts"] * len(hard)
    return logits, [Example(name, Prompt(str(number))) for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("easy", "hard", "low", "high"),
    [
        ([0.9, 0.95], [0.3, 0.4], 0.7, 0.7),
        ([0.6, 0.65], [0.3, 0.4], 0.4, 0.6),
        ([0.9, 0.95], [0.75, 0.8], 0.8, 0.9),
        ([], [0.2], 0.7, 0.7),
    ],
    ids=["natural", "lower", "higher", "no anchors"],
)
def test_default_threshold_separates_the_anchors(easy: list[float], hard: list[float], low: float, high: float) -> None:
    """The natural threshold where it serves, else one between the easy and the hard anchors."""
    threshold = train.default_threshold(*anchors(easy, hard), NEED_ONLY)

    assert low <= threshold <= high


def test_shares_count_the_cheap_side() -> None:
    """By group, the share at or above the threshold."""
    found = train.shares(*anchors([0.9, 0.5], [0.2]), NEED_ONLY, 0.7)

    assert found == {"arena_hard_prompts": 0.0, "clinc150_intents": 0.5}


def test_straying_export_is_not_written(
    tiny: Tiny, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network whose int8 file strays leaves no bundle behind."""
    monkeypatch.setattr(parity, "INT8_P_CHEAP", -1.0)

    with pytest.raises(SystemExit, match="int8_p_cheap_max"):
        train.build(deepcopy(tiny.model), tiny.tokenizer, examples, fit.Knobs(steps=1, batch=4), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_reference_is_what_torch_says(tiny: Tiny) -> None:
    """The manifest carries torch's logits for the probes, so that any machine can check its int8 file."""
    rows = tiny.manifest.metrics["reference"]
    logits = fit.judge(tiny.model, tiny.tokenizer, [Prompt(row["prompt"]) for row in rows])

    assert np.abs(np.array([row["logits"] for row in rows]) - logits).max() < 1e-3
