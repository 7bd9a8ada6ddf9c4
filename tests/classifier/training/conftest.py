"""A made-up clone of the RouteLLM repository, in the layout of its evaluation data."""

import csv
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from classifier.training.routellm import STRONG, WEAK


def table(path: Path, rows: Sequence[tuple[str, bool, bool]]) -> None:
    """Write a file of graded answers: prompt, strong's, weak's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["prompt", STRONG, WEAK])
        lines.writerows(rows)


def lines(path: Path, rows: Sequence[object]) -> None:
    """Write a JSON Lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def make_clone(home: Path) -> Path:
    """A made-up clone: two MMLU subjects, GSM8K and MT-Bench, each with a contaminated row."""
    evals = home / "routellm" / "evals"
    table(evals / "mmlu/responses/mmlu_law.csv", [("a, b?\nA. x", True, False), ("seen", True, False)])
    table(evals / "mmlu/responses/mmlu_art.csv", [("who?", False, True), ("where?", True, True), ("why?", True, False)])
    table(evals / "mmlu/responses/other.csv", [("of another set", True, True)])
    lines(evals / "mmlu/contaminated_prompts.jsonl", [{"eval_prompt": "seen"}])
    table(evals / "gsm8k/gsm8k_responses.csv", [("1 + 1", True, False), ("known", False, True), ("2 + 2", True, True)])
    lines(evals / "gsm8k/contaminated_prompts.jsonl", [{"eval_prompt": "known"}])
    turns = {81: ["one", "and?"], 82: ["two", "leaked"], 83: ["three", "so?"]}
    lines(evals / "mt_bench/question.jsonl", [{"question_id": n, "turns": said} for n, said in turns.items()])
    judged = [(81, STRONG, 9, 8), (81, WEAK, 7, 4), (82, STRONG, 1, 1), (82, WEAK, 1, 1), (83, STRONG, 10, 9.5),
              (83, WEAK, 10, 9), (81, "another/model", 1, 1)]
    scores = [(n, model, turn, both[turn - 1]) for n, model, *both in judged for turn in (1, 2)]
    keys = ("question_id", "model", "turn", "score")
    lines(evals / "mt_bench/judgements.jsonl", [dict(zip(keys, row, strict=True)) for row in scores])
    lines(evals / "mt_bench/contaminated_prompts.jsonl", [{"eval_prompt": "leaked"}])
    return home


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A made-up clone that a test may spoil."""
    return make_clone(tmp_path / "RouteLLM")
