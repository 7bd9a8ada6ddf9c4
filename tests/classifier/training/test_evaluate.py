"""The evaluation command, end to end on made-up data."""

import shutil
from pathlib import Path

import pytest

from classifier import bench, bundle
from classifier.predict import Predictor
from classifier.training import card, evaluate
from tests.classifier.conftest import Tiny

BOARDS = {"latency", "held_out", "robust", "stuffed", "embedding", "anchors", "probes", "in_sample", "never_trained"}


@pytest.fixture
def home(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny bundle; its timing, which takes long, is made up."""
    monkeypatch.setattr(bench, "timings", lambda _: [bench.Timing("16 tokens", 0.1, 0.2)])
    return Path(shutil.copytree(tiny.directory, tmp_path / "bundle"))


def test_command_measures_and_renders(
    tiny: Tiny,
    data_directory: Path,
    own_directory: Path,
    base_weights: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Boards go into the manifest, the card is rendered from it and printed; verdicts do not change."""
    options = ["--data", data_directory, "--own", own_directory, "--base", base_weights, "--bundle", home]
    evaluate.main([*map(str, options), "--loso-steps", "1", "--threads", "1"])
    manifest = bundle.read_manifest(home)
    written = (home / bundle.CARD).read_text(encoding="utf-8")

    assert manifest.metrics["boards"].keys() >= BOARDS | {"left_out", "own_alone"}
    assert {row["source"] for row in manifest.metrics["boards"]["left_out"]} >= {"mmlu_pro", "zeroeval_crux"}
    assert {row["source"] for row in manifest.metrics["boards"]["own_alone"]} >= {"mmlu_pro", "further:art"}
    assert (home / card.RELIABILITY).read_text(encoding="utf-8").startswith("<?xml")
    assert written == card.render(manifest, evaluate.sizes(home))
    assert written in capsys.readouterr().out
    assert bundle.digest(manifest) == bundle.digest(tiny.manifest)


def test_our_own_set_alone(own_directory: Path, base_weights: Path, home: Path) -> None:
    """Without outcomes there is no ranking, and everything else; a board that was measured before stays."""
    options = ["--own", own_directory, "--base", base_weights, "--bundle", home]
    manifest = bundle.read_manifest(home)
    manifest.metrics["boards"] = {"frontier": [], "latency": ["old"]}
    bundle.write_manifest(home, manifest)
    evaluate.main([*map(str, options), "--threads", "1"])
    boards = bundle.read_manifest(home).metrics["boards"]

    assert boards.keys() >= BOARDS | {"frontier"}
    assert not {"left_out", "own_alone"} & boards.keys()
    assert boards["in_sample"] == boards["never_trained"] == []
    assert boards["latency"] != ["old"]


def test_left_out_trainings_can_be_skipped(
    data_directory: Path, own_directory: Path, base_weights: Path, home: Path
) -> None:
    """`--loso-steps 0` makes no left-out table."""
    options = ["--data", data_directory, "--own", own_directory, "--base", base_weights, "--bundle", home]
    evaluate.main([*map(str, options), "--loso-steps", "0", "--threads", "1"])

    assert not {"left_out", "own_alone"} & bundle.read_manifest(home).metrics["boards"].keys()


def test_share_alike_rows_are_ranked_apart(
    data_directory: Path, own_directory: Path, base_weights: Path, home: Path
) -> None:
    """Rows that are never trained on stand on a board of their own, and on no other."""
    options = ["--data", data_directory, "--own", own_directory, "--base", base_weights, "--bundle", home]
    evaluate.main([*map(str, options), "--loso-steps", "0", "--threads", "1"])
    boards = bundle.read_manifest(home).metrics["boards"]
    rows = {row["source"]: row["rows"] for row in boards["in_sample"]}

    assert rows["uiuc:gsm8k"] == 22
    assert rows["mmlu_pro"] == 30
    assert boards["never_trained"] == []


def test_replaying_routellm(clone: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--routellm CLONE` prints its three benchmarks for the score and for length, and changes no file."""
    before = {file.name: file.read_bytes() for file in home.iterdir()}
    evaluate.main(["--bundle", str(home), "--routellm", str(clone)])
    printed = capsys.readouterr().out

    assert {file.name: file.read_bytes() for file in home.iterdir()} == before
    for benchmark in ("MT-Bench", "MMLU", "GSM8K"):
        for by in ("score", "length"):
            assert f"| {benchmark} | {4 if benchmark == 'MMLU' else 2} | {by} | " in printed


def test_what_is_no_clone(tmp_path: Path, home: Path) -> None:
    """Another directory ends the command with what it wants."""
    with pytest.raises(SystemExit, match="is not a clone of lm-sys/RouteLLM"):
        evaluate.main(["--bundle", str(home), "--routellm", str(tmp_path)])


def test_replayed_figures(clone: Path, tiny: Tiny) -> None:
    """Each benchmark has the original's figures and ours, for the same scores."""
    rows = {row["source"]: row for row in evaluate.replayed(clone, Predictor.load(tiny.directory))}

    assert rows.keys() == {"MT-Bench", "MMLU", "GSM8K"}
    assert all(row["replayed"].keys() == {"score", "length"} for row in rows.values())
    assert all(0 <= row["replayed"]["score"]["apgr"] <= 1 for row in rows.values())


def test_sizes_are_of_the_files_that_serve(tiny: Tiny) -> None:
    """Network, heads and tokenizer, in bytes."""
    assert evaluate.sizes(tiny.directory) == {name: len((tiny.directory / name).read_bytes()) for name in bundle.FILES}
