"""The rival of words and letters."""

import numpy as np
import pytest

from classifier.features import Prompt
from classifier.training.dataset import Example
from classifier.training.measure import auc
from classifier.training.ngram import NGrams

EASY, HARD = ("greet the river", "name a colour of stone"), ("derive the closed form", "prove the last lemma")


def rows(group: str, count: int) -> list[Example]:
    """Rows of a group whose gain follows their words."""
    texts = [f"{(HARD if number % 2 else EASY)[number // 2 % 2]} {number}" for number in range(count)]
    return [Example(group, Prompt(text), gain=number % 2 / 2) for number, text in enumerate(texts)]


def scores(rival: NGrams, texts: tuple[str, ...]) -> list[float]:
    """Scores of texts."""
    return rival([Prompt(text) for text in texts])


def test_it_learns_words() -> None:
    """Prompts of words that needed premium score higher, also in new company."""
    rival = NGrams(rows("mmlu_pro", 40))
    easy, hard = scores(rival, ("greet a stone", "a colour")), scores(rival, ("prove this form", "derive a lemma"))

    assert max(easy) < min(hard)


def test_a_sources_own_scale_is_not_learnt() -> None:
    """Gains count within their source: a source that is harder as a whole teaches nothing about its words."""
    harder = [Example("uiuc:mbpp", Prompt(f"paint a lemma {n}"), gain=0.9 + 0.001 * (n % 2)) for n in range(40)]
    rival = NGrams([*rows("mmlu_pro", 40), *harder])
    paint, prove = scores(rival, ("paint paint paint", "prove"))

    assert paint < prove


def test_our_own_set_is_one_source() -> None:
    """Its parts share a scale: chat that is judged easy pulls its words down."""
    hard = [Example("own:definite", Prompt(f"prove lemma {n}"), gain=0.8) for n in range(30)]
    easy = [Example("own:chat", Prompt(f"greet river {n}"), gain=0.1) for n in range(30)]
    greet, prove = scores(NGrams([*hard, *easy]), ("greet river", "prove lemma"))

    assert prove - greet > 0.2


def test_rows_without_a_gain_are_left_aside() -> None:
    """What has no outcome teaches nothing."""
    unknown = [Example("arena_hard_prompts", Prompt(f"greet the river {n}")) for n in range(50)]
    with_, without = NGrams([*rows("mmlu_pro", 40), *unknown]), NGrams(rows("mmlu_pro", 40))
    texts = ("greet a stone", "prove this form")

    assert scores(with_, texts) == scores(without, texts)


def test_any_prompt_has_a_score() -> None:
    """Empty, foreign and long ones too, in their order."""
    rival = NGrams(rows("mmlu_pro", 40))
    texts = ("", "日本語", "prove " * 5000, "zzz")

    assert np.isfinite(scores(rival, texts)).all()
    assert scores(rival, texts) == [scores(rival, (text,))[0] for text in texts]


@pytest.mark.parametrize("seed", [0, 1])
def test_it_ranks_the_made_up_set(examples: list[Example], seed: int) -> None:
    """On the rows that the tests train on, it ranks those it has not seen."""
    trained = [e for index, e in enumerate(examples) if index // 2 % 2 != seed]
    asked = [e for index, e in enumerate(examples) if index // 2 % 2 == seed and e.own]
    found = np.array(NGrams(trained)([example.prompt for example in asked]))

    assert auc(found, np.array([float((example.gain or 0) > 0.5) for example in asked])) > 0.9
