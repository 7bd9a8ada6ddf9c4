"""The evaluation command, end to end on made-up data."""

import shutil
from pathlib import Path

import pytest

from classifier import bench, bundle
from classifier.training import card, evaluate
from tests.classifier.conftest import Tiny


def test_command_measures_and_renders(
    tiny: Tiny,
    data_directory: Path,
    base_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Boards go into the manifest, the card is rendered from it and printed; verdicts do not change."""
    monkeypatch.setattr(bench, "timings", lambda _: [bench.Timing("16 tokens", 0.1, 0.2)])
    home = Path(shutil.copytree(tiny.directory, tmp_path / "bundle"))
    options = ["--data", data_directory, "--base", base_weights, "--bundle", home, "--loso-steps", "1"]
    evaluate.main([*map(str, options), "--threads", "1"])
    manifest = bundle.read_manifest(home)
    written = (home / bundle.CARD).read_text(encoding="utf-8")

    assert manifest.metrics["boards"].keys() >= {"latency", "anchors", "probes", "calibration", "in_sample", "left_out"}
    assert written == card.render(manifest, evaluate.sizes(home))
    assert written in capsys.readouterr().out
    assert bundle.digest(manifest) == bundle.digest(tiny.manifest)


def test_left_out_trainings_can_be_skipped(tiny: Tiny, data_directory: Path, tmp_path: Path) -> None:
    """`--loso-steps 0` needs no base weights and makes no left-out table."""
    home = Path(shutil.copytree(tiny.directory, tmp_path / "bundle"))
    evaluate.main(["--data", str(data_directory), "--bundle", str(home), "--loso-steps", "0", "--threads", "1"])

    assert "left_out" not in bundle.read_manifest(home).metrics["boards"]


def test_sizes_are_of_the_files_that_serve(tiny: Tiny) -> None:
    """Network and tokenizer, in bytes."""
    assert evaluate.sizes(tiny.directory).keys() == {bundle.MODEL, bundle.TOKENIZER}
