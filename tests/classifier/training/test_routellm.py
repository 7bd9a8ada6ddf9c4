"""RouteLLM's evaluation replayed, on files of its layout and against figures worked out by hand."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.training import measure, routellm
from tests.classifier.training.conftest import lines, table

# Ten prompts scored 1 to 10. Strong is right on all, weak is wrong on those scored 2, 8, 9 and 10: .6 and 1. Down from
# the top, a tenth of the calls at a time, quality is .6 .7 .8 .9 .9 .9 .9 .9 .9 1 1, and of the gap 0 1/4 1/2 3/4 (six
# times) 1 1 is recovered: trapezoids of a tenth each under it are .675. A fifth of the gap is .68 (.08 of the calls),
# half .8 (.2), four fifths .92 (.82).
SCORES = np.arange(1.0, 11.0)
RIGHT = np.ones(10)
WRONG_AT = np.array([1.0, 0, 1, 1, 1, 1, 1, 0, 0, 0])


def test_what_is_read(clone: Path) -> None:
    """Three benchmarks; quality 0 or 1, in MT-Bench the mean of both judged turns of its first turn's prompt."""
    read = {name: (prompts, weak.tolist(), strong.tolist()) for name, prompts, weak, strong in routellm.read(clone)}

    assert read == {
        "MT-Bench": (["one", "three"], [5.5, 9.5], [8.5, 9.75]),
        "MMLU": (["who?", "where?", "why?", "a, b?\nA. x"], [1, 1, 0, 0], [0, 1, 1, 1]),
        "GSM8K": (["1 + 1", "2 + 2"], [0, 1], [1, 1]),
    }


def test_contaminated_rows_are_dropped(clone: Path) -> None:
    """What the original leaves out is left out: by the prompt, in MT-Bench by either turn."""
    prompts = {prompt for _, prompts, _, _ in routellm.read(clone) for prompt in prompts}

    assert not prompts & {"seen", "known", "two", "leaked"}


def spoil(home: Path, what: str) -> None:
    """Make a clone none."""
    evals = home / "routellm/evals"
    gsm8k, known = evals / "gsm8k/gsm8k_responses.csv", evals / "gsm8k/contaminated_prompts.jsonl"
    match what:
        case "empty" | "missing" | "a file":
            shutil.rmtree(home)
            if what == "empty":
                home.mkdir()
            elif what == "a file":
                home.touch()
        case "no data":
            shutil.rmtree(evals / "mmlu")
        case "no rows":
            table(gsm8k, [])
        case "nothing left":
            table(gsm8k, [("known", True, True)])
        case "other columns":
            gsm8k.write_text("prompt,a,b\n1 + 1,True,True\n")
        case "no JSON":
            known.write_text("{")
        case _:
            lines(known, [{"prompt": "x"}])


@pytest.mark.parametrize(
    "what",
    ["empty", "missing", "a file", "no data", "no rows", "nothing left", "other columns", "no JSON", "other JSON"],
)
def test_what_is_no_clone_is_refused(clone: Path, what: str) -> None:
    """Any other directory ends the command with what it wants, not with a traceback."""
    spoil(clone, what)

    with pytest.raises(SystemExit, match=r"RouteLLM is not a clone of lm-sys/RouteLLM with its evaluation data"):
        routellm.read(clone)


def test_figures_by_hand() -> None:
    """APGR and CPT of ten prompts, worked out above."""
    found = routellm.replay(SCORES, WRONG_AT, RIGHT)

    assert found == pytest.approx((0.675, 0.08, 0.2, 0.82))
    assert found._fields == ("apgr", "cpt20", "cpt50", "cpt80")


def test_any_scale_and_order_of_rows() -> None:
    """Scores of any scale do, logits as well as thousands of letters, and rows in any order."""
    order = np.random.default_rng(0).permutation(10)
    for scores in (SCORES / 1000 - 5, 1e6 * SCORES, SCORES**3):
        assert routellm.replay(scores, WRONG_AT, RIGHT) == pytest.approx((0.675, 0.08, 0.2, 0.82))
    shuffled = routellm.replay(SCORES[order], WRONG_AT[order], RIGHT[order])

    assert shuffled == pytest.approx((0.675, 0.08, 0.2, 0.82))


def test_quality_of_any_scale() -> None:
    """Judged 1 to 10 instead of right and wrong: the gap is what counts."""
    assert routellm.replay(SCORES, 3 * WRONG_AT + 5, 3 * RIGHT + 5) == pytest.approx((0.675, 0.08, 0.2, 0.82))


def test_ties_do_not_stop_it() -> None:
    """Equal scores, which stop the original, are an order like any other: here the later row goes up first."""
    tied = routellm.replay(np.full(10, 7.0), WRONG_AT, RIGHT)

    assert tied == pytest.approx(routellm.replay(SCORES, WRONG_AT, RIGHT), abs=1e-6)


@given(st.lists(st.integers(0, 10**6), min_size=10, max_size=10, unique=True))
def test_it_agrees_with_our_own_measure(scores: list[int]) -> None:
    """Where the deciles fall between rows, our APGR and CPT are the original's."""
    column = np.array(scores, dtype=np.float64)
    found = routellm.replay(column, WRONG_AT, RIGHT)

    assert found.apgr == pytest.approx(measure.apgr(column, WRONG_AT, RIGHT))
    assert found.cpt50 == pytest.approx(measure.cpt(column, WRONG_AT, RIGHT, 0.5))
    assert found.cpt80 == pytest.approx(measure.cpt(column, WRONG_AT, RIGHT, 0.8))
