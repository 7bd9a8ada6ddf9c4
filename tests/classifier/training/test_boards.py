"""What is measured of a bundle."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from classifier.predict import Predictor
from classifier.training import boards, dataset, fit
from classifier.training.dataset import Example
from classifier.training.model import Router, Shape
from tests.classifier.conftest import Tiny


@pytest.fixture(scope="module")
def predictor(tiny: Tiny) -> Predictor:
    """A predictor on the tiny bundle."""
    return Predictor.load(tiny.directory)


def test_ranked_rows(examples: list[Example]) -> None:
    """A judge that knows the weak outcome ranks perfectly; every row stands beside length, with an interval."""
    truth = {example.text: 1 - (example.weak or 0) for example in examples}
    rows = boards.ranked(examples, lambda prompts: [truth[prompt.text] for prompt in prompts])

    assert [row["source"] for row in rows] == ["mmlu_pro", "uiuc:gsm8k"]
    assert all(row["spearman_difficulty"] == 1 for row in rows)
    assert all(row["apgr_interval"][0] <= row["apgr"] <= row["apgr_interval"][1] for row in rows)
    assert all("apgr_length" in row for row in rows)


def test_no_gap_no_apgr() -> None:
    """Where the tiers are as good as each other there is no gap to recover, and no figure."""
    rows = [Example("a", "x" * n, weak=0.5, strong=0.51) for n in range(1, 31)]
    found = boards.ranked(rows, lambda prompts: [float(len(prompt.text)) for prompt in prompts])

    assert "apgr" not in found[0]


def test_left_out_networks_never_see_their_fold(tokenizer: Tokenizer, examples: list[Example]) -> None:
    """Each fold with rows is ranked by a fresh network; folds without rows are skipped."""
    made: list[Router] = []

    def fresh() -> tuple[Router, Tokenizer]:
        torch.manual_seed(0)
        made.append(Router(Shape(tokenizer.get_vocab_size(), layers=1, width=16, heads=2, inner=16, trunk=8)))
        return made[-1], tokenizer

    rows = boards.left_out(examples, fresh, fit.Knobs(steps=2, batch=8))

    assert [row["source"] for row in rows] == ["mmlu_pro", "uiuc:gsm8k"]
    assert len(made) == 2


def test_anchor_shares(predictor: Predictor, examples: list[Example]) -> None:
    """Rows held out of training are counted apart from all rows."""
    rows = {row["source"]: row for row in boards.at_threshold(examples, predictor)}
    held = [example for example in examples if example.group == "clinc150_intents" and example.held_out]

    assert rows.keys() == {"clinc150_intents", "arena_hard_prompts"}
    assert rows["clinc150_intents"]["held_out_rows"] == len(held)
    assert 0 <= rows["clinc150_intents"]["cheap"] <= 1


def test_calibration_is_of_held_out_rows(predictor: Predictor, examples: list[Example]) -> None:
    """Only held-out rows count, and task recall carries its number of rows."""
    row = boards.calibrated(examples, predictor)

    assert row["rows"] == sum(example.held_out for example in examples)
    assert 0 <= row["ece"] <= 1
    assert row["task_recall"]["math"][1] == sum(e.held_out and e.task >= 0 for e in examples)


def test_probes_are_counted_and_the_wrong_ones_shown(predictor: Predictor, tmp_path: Path) -> None:
    """Every probe is in the confusion, every wrong one is listed with its p_cheap."""
    path = tmp_path / "probes.tsv"
    path.write_text("# side\tprompt\ncheap\thello\npremium\thello\n")
    found = boards.probed(predictor, path)

    assert sum(sum(line.values()) for line in found["confusion"].values()) == 2
    assert len(found["wrong"]) == 1


def test_shipped_probes_are_well_formed() -> None:
    """About as many of each side, none twice, none of them trained on."""
    probes = boards.read_probes()
    sides = [side for side, _ in probes]

    assert set(sides) == {"cheap", "premium"}
    assert abs(sides.count("cheap") - sides.count("premium")) <= 6
    assert len({text for _, text in probes}) == len(probes) >= 40
    assert not {text for _, text in probes} & {example.text for example in list(dataset.read_anchors(dataset.ANCHORS))}
