"""What is measured of a bundle."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from tokenizers import Tokenizer

from classifier.predict import Predictor, Prompt
from classifier.training import boards, dataset, measure, perturb, train
from classifier.training.dataset import Example
from classifier.training.model import Router, Shape
from classifier.training.ngram import NGrams
from classifier.training.teacher import Taught, Teacher
from tests.classifier.conftest import Tiny


@pytest.fixture(scope="module")
def predictor(tiny: Tiny) -> Predictor:
    """A predictor on the tiny bundle."""
    return Predictor.load(tiny.directory)


def by_weak(examples: list[Example]) -> boards.Judge:
    """A judge that knows the weak outcome."""
    truth = {example.text: 1 - (example.weak or 0) for example in examples}
    return lambda prompts: [truth[prompt.text] for prompt in prompts]


def test_ranked_rows(examples: list[Example]) -> None:
    """A judge that knows the weak outcome ranks perfectly; every row stands beside its rivals, with an interval."""
    rows = boards.ranked(examples, by_weak(examples), NGrams(examples))

    assert [row["source"] for row in rows] == ["mmlu_pro", "uiuc:gsm8k"]
    assert all(row["spearman_gain"] == row["of_oracle"] == 1 for row in rows)
    assert all(row["apgr_interval"][0] <= row["apgr"] <= row["apgr_interval"][1] for row in rows)
    assert all(row["apgr_of"].keys() == {"length", "n-grams"} for row in rows)
    assert all(row["apgr"] >= max(row["apgr_of"].values()) for row in rows)
    assert all(len(row["calls"]) == len(row["saved"]) == len(boards.QUALITIES) for row in rows)


def test_figures_of_a_source() -> None:
    """By hand: a hundred prompts, weak wrong on the fifty that score highest, strong on none."""
    weak, strong = np.array([1.0] * 50 + [0.0] * 50), np.ones(100)
    row = boards.standing("s", np.arange(100.0), weak, strong, {"length": -np.arange(100.0)})

    assert (row["source"], row["rows"], row["auc"], row["of_oracle"]) == ("s", 100, 1, 1)
    assert (row["apgr"], row["apgr_of"]) == (0.75, {"length": 0.25})
    assert row["order_of_failures"] == pytest.approx(0.866, abs=1e-3)
    assert (row["cpt50"], row["cpt80"]) == (0.25, 0.4)
    assert row["calls"] == [0.45, 0.48, 0.49, 0.5]
    assert row["saved"] == pytest.approx([(1 - share) * (1 - boards.PRICE) for share in row["calls"]], abs=1e-3)


def test_judged_quality_is_ranked_too() -> None:
    """Answers judged 1 to 10 instead of right and wrong, as on MT-Bench, have the same figures."""
    rng = np.random.default_rng(0)
    weak = rng.uniform(4, 9, 80)
    strong = np.minimum(10, weak + rng.uniform(0, 2, 80))
    row = boards.standing("judged", strong - weak, weak, strong, {})

    assert 0.5 < row["apgr"] < 1
    assert row["of_oracle"] == 1


def test_no_gap_no_apgr() -> None:
    """Where the tiers are as good as each other there is no gap to recover, and no figure."""
    rows = [Example("a", Prompt("x" * n), weak=0.5, strong=0.51) for n in range(1, 31)]
    found = boards.ranked(rows, lambda prompts: [float(len(prompt.text)) for prompt in prompts])

    assert "apgr" not in found[0]


def test_small_sources_are_not_ranked() -> None:
    """Under twenty rows there is nothing to say."""
    rows = [Example("a", Prompt("x" * n), weak=0.0, strong=1.0) for n in range(1, 20)]

    assert boards.ranked(rows, lambda prompts: [0.0] * len(prompts)) == []


def test_large_sources_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more rows than LARGEST a fixed sample is ranked, for the judge and its rival alike."""
    monkeypatch.setattr(boards, "LARGEST", 25)
    rows = [Example("a", Prompt("x" * n), weak=n % 2, strong=1.0) for n in range(1, 101)]
    asked: list[list[str]] = []

    def judge(prompts: object) -> list[float]:
        """Keep what is asked."""
        assert isinstance(prompts, list)
        asked.append([prompt.text for prompt in prompts])
        return [float(len(prompt.text)) for prompt in prompts]

    found = boards.ranked(rows, judge, judge) + boards.ranked(rows, judge, judge)

    assert [row["rows"] for row in found] == [25, 25]
    assert all(texts == asked[0] for texts in asked)


class Kept:
    """A training that keeps what it is given and learns nothing."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Nothing was given yet."""
        self.rows: list[list[Example]] = []
        self.said: list[Taught] = []
        self._tokenizer = tokenizer

    def __call__(self, rows: Sequence[Example], said: Taught) -> tuple[Router, Tokenizer]:
        """Keep, and give a random network."""
        self.rows.append(list(rows))
        self.said.append(said)
        torch.manual_seed(0)
        made = Router(Shape(self._tokenizer.get_vocab_size(), layers=1, width=16, heads=2, inner=16, trunk=8))
        return made.eval(), self._tokenizer


def numbered(rows: Sequence[Example]) -> Taught:
    """A teacher's word that says of each row which it is."""
    number = np.arange(len(rows), dtype=np.float32)[:, None]
    return Taught(number, number, number)


def test_left_out_networks_never_see_their_fold(tokenizer: Tokenizer, examples: list[Example]) -> None:
    """Each fold with rows is ranked by a network that saw none of it; the teacher's word is of the rows that it saw."""
    training, kept = train.split(examples)[0], Kept(tokenizer)
    rows = boards.left_out(examples, training, numbered(training), kept)
    families = [{row.family for row in each} for each in kept.rows]

    assert [row["source"] for row in rows] == ["mmlu_pro", "uiuc:gsm8k"]
    assert all("n-grams" in row["apgr_of"] for row in rows)
    assert [{"mmlu_pro", "uiuc:gsm8k"} - each for each in families] == [{"mmlu_pro"}, {"uiuc:gsm8k"}]
    for each, said in zip(kept.rows, kept.said, strict=True):
        assert [training[int(number)] for number in said.judged[:, 0]] == each


def test_our_own_set_alone_ranks_every_source(tokenizer: Tokenizer, examples: list[Example]) -> None:
    """One network, which saw no outcome file, ranks them all."""
    training, kept = train.split(examples)[0], Kept(tokenizer)
    rows = boards.own_alone(examples, training, numbered(training), kept)

    assert [row["source"] for row in rows] == ["mmlu_pro", "uiuc:gsm8k"]
    assert len(kept.rows) == 1
    assert {row.own for row in kept.rows[0]} == {True}
    assert len(kept.rows[0]) == sum(row.own for row in training)


def test_large_groups_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the networks that are trained to be measured some of every group are enough, the same every time."""
    monkeypatch.setattr(boards, "SAMPLED", 5)
    monkeypatch.setattr(boards, "SAMPLED_OWN", 7)
    sizes = {"own:chat": 9, "big": 9, "small": 4}
    rows = [Example(name, Prompt(str(number))) for name, size in sizes.items() for number in range(size)]
    found = boards.sample(rows)

    assert Counter(row.group for row in found) == {"own:chat": 7, "big": 5, "small": 4}
    assert set(map(id, found)) <= set(map(id, rows))
    assert found == boards.sample(rows)


def test_a_network_in_torch_judges(tiny: Tiny, examples: list[Example]) -> None:
    """Its score is the one that its bundle gives, but for scale: the same order to a hair."""
    prompts = [example.prompt for example in examples if example.own][:60]
    in_torch = np.array(boards.by_network(tiny.model, tiny.tokenizer, examples)(prompts))
    served = np.array(boards.by_predictor(Predictor.load(tiny.directory))(prompts))

    assert measure.spearman(in_torch, served) > 0.9


def test_held_out_rows_of_our_own_set(predictor: Predictor, examples: list[Example]) -> None:
    """Only held-out rows count; AUC is of the definite ones; calibration is of those that did not fit it."""
    row = boards.held_out(examples, predictor, NGrams(examples))
    held = [example for example in examples if example.own and example.held_out]

    assert row["rows"] == len(held)
    assert row["definite_rows"] == sum(example.group == "own:definite" for example in held)
    assert row["calibration_rows"] == sum(not example.calibrates for example in held)
    assert row["auc"].keys() == row["auc_interval"].keys() == {"cheap fails", "premium needed"}
    for side, found in row["auc"].items():
        assert found.keys() == row["spearman"].keys() == {"p_cheap", "by length", "by n-grams"}
        assert row["auc_interval"][side][0] <= found["p_cheap"] <= row["auc_interval"][side][1]
        assert found["by n-grams"] > 0.9
    for cut, share, auc in row["cuts"]:
        assert cut in boards.CUTS
        assert 0 < share < 1
        assert 0 <= auc <= 1
    assert 0 <= row["ece"] <= 1
    assert sum(count for _, count in row["task_recall"].values()) == len(held)


def test_the_same_thing_said_differently(predictor: Predictor, examples: list[Example]) -> None:
    """A row for each change: shares of decisions that stay on each side, and of rows that are found again."""
    rows = boards.robust(examples, predictor)

    assert [row["change"] for row in rows] == list(perturb.changes(held_out=True))
    for row in rows:
        assert 0 <= min(row["unchanged"], row["cheap_stays"], row["premium_stays"], row["found_again"])
        assert max(row["unchanged"], row["cheap_stays"], row["premium_stays"], row["found_again"]) <= 1
    assert rows[0] == rows[0] | {"change": "lower case", "unchanged": 1, "mean_move": 0, "found_again": 1}


@pytest.mark.parametrize("threshold", [0.0, 1.01])
def test_all_on_one_side(tiny: Tiny, examples: list[Example], threshold: float) -> None:
    """Where a threshold sends every row one way, nothing is said of the other way, and the board is still JSON."""
    predictor = Predictor.load(tiny.directory)
    predictor.default_threshold = threshold
    rows = boards.robust(examples, predictor)

    assert all(row["unchanged"] == 1 for row in rows)
    assert orjson.loads(orjson.dumps(rows)) == rows


def test_trivial_prompts_stuffed_with_keywords(tiny: Tiny) -> None:
    """Only short held-out rows that need no premium count; those that are sent cheap stay or do not."""
    need = {"easy": 0.02, "hard": 0.9}
    rows = [Example("own:chat", Prompt(f"{name} {n}"), need=level) for name, level in need.items() for n in range(60)]
    rows.append(Example("own:chat", Prompt("easy " * 40), need=0.02))
    predictor = Predictor.load(tiny.directory)
    counted = sum(row.held_out for row in rows[:60])
    found = []
    for predictor.default_threshold in (0.0, 1.01):
        found.append(boards.stuffed(rows, predictor))

    assert found[0] == found[0] | {"rows": counted, "cheap": 1, "stay": 1}
    assert found[1] == found[1] | {"rows": counted, "cheap": 0, "stay": None}
    assert boards.stuffed([], predictor) == {"rows": 0, "cheap": None, "stay": None, "mean_fall": None}


def test_shipped_network_keeps_stuffed_trivial_prompts_cheap() -> None:
    """Keywords that sound hard turn few trivial prompts, all of them held out, away from the cheap side."""
    found = boards.stuffed(dataset.load(None), Predictor.load())

    assert found["rows"] > 150
    assert found["cheap"] > 0.75
    assert found["stay"] > 0.9


def test_embedding_against_its_teacher(predictor: Predictor, examples: list[Example], base_weights: Path) -> None:
    """Over held-out rows: correlation of similarities and the share of nearest neighbours that agree."""
    row = boards.embedding(examples, predictor, Teacher(base_weights))

    assert row["rows"] == sum(example.own and example.held_out for example in examples)
    assert -1 <= row["rank_correlation"] <= 1
    assert 0 <= row["same_neighbour"] <= 1


def test_anchor_shares(predictor: Predictor, examples: list[Example]) -> None:
    """Rows that neither trained the network nor chose the threshold are counted apart from all rows."""
    rows = {row["source"]: row for row in boards.at_threshold(examples, predictor)}
    every = [example for example in examples if example.group == "clinc150_intents"]
    held = [example for example in every if example.held_out and not example.calibrates]

    assert rows.keys() == {"clinc150_intents", "arena_hard_prompts"}
    assert rows["clinc150_intents"]["held_out_rows"] == len(held)
    assert 0 <= rows["clinc150_intents"]["cheap"] <= 1


def test_probes_are_counted_and_the_wrong_ones_shown(predictor: Predictor, tmp_path: Path) -> None:
    """Every probe is in the confusion, every wrong one is listed with its p_cheap."""
    path = tmp_path / "probes.tsv"
    path.write_text("# side\tprompt\ncheap\thello\npremium\thello\n")
    found = boards.probed(predictor, path)

    assert sum(sum(line.values()) for line in found["confusion"].values()) == 2
    assert len(found["wrong"]) == 1


def test_shipped_probes_are_well_formed() -> None:
    """About as many of each side, none twice."""
    probes = boards.read_probes()
    sides = [side for side, _ in probes]

    assert set(sides) == {"cheap", "premium"}
    assert abs(sides.count("cheap") - sides.count("premium")) <= 6
    assert len({text for _, text in probes}) == len(probes) >= 40
