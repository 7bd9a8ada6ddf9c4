"""The model card is the manifest, rendered."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from classifier import bundle
from classifier.bundle import Manifest
from classifier.predict import Predictor
from classifier.training import boards, card, evaluate
from classifier.training.dataset import Example
from classifier.training.ngram import NGrams
from classifier.training.teacher import Teacher
from tests.classifier.conftest import Tiny

FRONTIER = {"mb": 9.1, "ms64": 0.512, "ms128": 0.9, "auc": 0.7654, "of_oracle": 0.0321, "task_accuracy": 0.8}


def test_shipped_card_is_rendered_from_its_manifest() -> None:
    """Nobody has typed into the shipped card: it is exactly what its manifest renders to."""
    loaded = bundle.load()
    home = loaded.model.parent

    assert (home / bundle.CARD).read_text(encoding="utf-8") == card.render(loaded.manifest, evaluate.sizes(home))


def with_boards(manifest: Manifest, **measured: Any) -> Manifest:
    """The manifest with boards."""
    return msgspec.structs.replace(manifest, metrics={**manifest.metrics, "boards": measured})


@pytest.fixture(scope="module")
def measured(tiny: Tiny, examples: list[Example], base_weights: Path) -> dict[str, Any]:
    """Every board of the tiny bundle."""
    predictor, rival = Predictor.load(tiny.directory), NGrams(examples)
    ranked = boards.ranked(examples, boards.by_predictor(predictor), rival)
    return {
        "machine": "a machine",
        "latency": [{"name": "64 tokens", "p50_ms": 0.5, "p99_ms": 1.25}],
        "short_prompts_per_s": 1234,
        "held_out": boards.held_out(examples, predictor, rival),
        "robust": boards.robust(examples, predictor),
        "stuffed": boards.stuffed(examples, predictor),
        "embedding": boards.embedding(examples, predictor, Teacher(base_weights)),
        "anchors": boards.at_threshold(examples, predictor),
        "probes": boards.probed(predictor),
        "frontier": [{"name": "1 layer, 768", **FRONTIER}],
        "in_sample": ranked,
        "left_out": ranked[:1],
        "own_alone": ranked[1:],
        "left_out_steps": 300,
        "never_trained": [],
    }


def test_card_before_evaluation(tiny: Tiny) -> None:
    """A bundle that was never evaluated has a card all the same, without boards."""
    text = card.render(tiny.manifest, evaluate.sizes(tiny.directory))

    assert bundle.digest(tiny.manifest) in text
    assert "## Parity" in text
    assert "## Ranking" not in text


def test_every_board_has_its_place(tiny: Tiny, measured: dict[str, Any]) -> None:
    """What was measured is shown, in tables whose rows are as wide as their heads; what has no rows is not."""
    text = card.render(with_boards(tiny.manifest, **measured), evaluate.sizes(tiny.directory))
    tables = [table.split("\n") for table in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)]

    for title in ("Latency", "Our own set", "The same thing said differently", "Sides", "Frontier", "Parity", "Data"):
        assert f"\n## {title}" in text
    assert "Ranking, source left out of training" in text
    assert "Ranking, trained on our own set alone: every source unseen (networks of 300 steps)" in text
    assert "in-sample" in text
    assert "never trained on (the shipped network)" not in text
    assert "1,234 a second" in text
    assert "| 1 layer, 768 | 9.1 | 0.51 | 0.90 | 0.765 | +0.032 | 80.0 % |" in text
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table if line}) == 1


@pytest.mark.parametrize("board", ["latency", "held_out", "robust", "anchors", "frontier"])
def test_boards_do_not_need_each_other(tiny: Tiny, measured: dict[str, Any], board: str) -> None:
    """A board that was not measured leaves its section out and no other."""
    whole = card.render(with_boards(tiny.manifest, **measured), {})
    rest = {name: found for name, found in measured.items() if name != board}
    text = card.render(with_boards(tiny.manifest, **rest), {})

    assert len(re.findall(r"^## ", text, re.MULTILINE)) == len(re.findall(r"^## ", whole, re.MULTILINE)) - 1


def test_written_and_read_again_it_is_the_same_card(tiny: Tiny, measured: dict[str, Any], tmp_path: Path) -> None:
    """The card is of what the manifest file says: writing and reading it changes no letter."""
    manifest = with_boards(tiny.manifest, **measured)
    bundle.write_manifest(tmp_path, manifest)

    assert card.render(bundle.read_manifest(tmp_path), {}) == card.render(manifest, {})


def test_the_frontier_argues_from_its_points(tiny: Tiny) -> None:
    """The best point within the budget is named, and what the best of all would cost; none within it: nothing is."""
    points = [("small", 0.2, 0.7), ("right", 0.9, 0.8), ("large", 3.6, 0.82)]
    row = {"mb": 9.0, "ms128": 2.0, "of_oracle": 0.1, "task_accuracy": 0.8}
    rows = [row | {"name": name, "ms64": ms, "auc": auc} for name, ms, auc in points]

    assert "right ranks our own rows best (AUC 0.800); large, the best of all, has +0.020 for 4.0 times the time" in (
        card.render(with_boards(tiny.manifest, frontier=rows), {})
    )
    assert "the best of all" not in card.render(with_boards(tiny.manifest, frontier=rows[2:]), {})


def test_a_source_without_a_gap(tiny: Tiny) -> None:
    """It has a line that says so, as wide as the others."""
    row = {"source": "flat", "rows": 40, "auc": 0.5, "spearman_gain": 0.0, "order_of_failures": 0.0}
    text = card.render(with_boards(tiny.manifest, in_sample=[row]), {})
    (line,) = [line for line in text.split("\n") if line.startswith("| flat ")]

    assert line.startswith("| flat | 40 | no gap | - |")
    assert line.count("|") == 13


def test_a_wrong_probe_cannot_break_its_table(tiny: Tiny, measured: dict[str, Any]) -> None:
    """Bars and line breaks in a prompt stay inside of its cell."""
    wrong = [{"prompt": "a | b\nc", "expected": "cheap", "p_cheap": 0.1}]
    probes = {**measured["probes"], "wrong": wrong}
    text = card.render(with_boards(tiny.manifest, **{**measured, "probes": probes}), {})

    assert "| cheap | 0.10 | a \\| b c |" in text


def test_figures_follow_the_manifest(tiny: Tiny) -> None:
    """Another measurement is another card."""
    changed = msgspec.structs.replace(tiny.manifest, default_threshold=0.61)

    assert "p_cheap ≥ 0.61" in card.render(changed, evaluate.sizes(tiny.directory))


def test_the_protocol_of_routellm() -> None:
    """A line for each way of ranking, and the same benchmarks with intervals below."""
    figures = {"apgr": 0.6, "cpt20": 0.1, "cpt50": 0.4, "cpt80": 0.7}
    replayed = {"score": figures, "length": {**figures, "apgr": 0.5}}
    row = {"source": "GSM8K", "rows": 40, "auc": 0.5, "order_of_failures": 0.1, "replayed": replayed}
    text = card.routellm([row])

    assert "| GSM8K | 40 | score | 0.600 | 10.0 % | 40.0 % | 70.0 % |" in text
    assert "| GSM8K | 40 | length | 0.500 |" in text
    assert "The same, with intervals" in text


def test_the_reliability_plot(tmp_path: Path) -> None:
    """A picture, the same bytes for the same figures."""
    lines = [(0.3, 0.35, 0.4), (0.8, 0.75, 0.6)]
    for name in ("one.svg", "two.svg"):
        card.draw_reliability(lines, tmp_path / name)

    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert "judged, held-out rows" in (tmp_path / "one.svg").read_text(encoding="utf-8")


def test_table() -> None:
    """Rows of cells become Markdown."""
    assert card.table(["a", "b"], [[1, 2]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
