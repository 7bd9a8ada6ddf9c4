"""Ways to say the same thing differently."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.training import perturb

NAMES = tuple(perturb.changes(held_out=False))
TEXT = "Explain, please, which numbers below thirty have exactly four divisors and why."
PHRASES = {
    "filler": perturb.FILLERS,
    "wrapper in another language": perturb.WRAPPERS,
    "talked up": perturb.TALK_UP,
    "talked down": perturb.TALK_DOWN,
    "keywords": perturb.KEYWORDS,
}


def said(name: str, text: str = TEXT, times: int = 200, *, held_out: bool = False) -> set[str]:
    """What a change makes of a text, several times."""
    change, rng = perturb.changes(held_out=held_out)[name], random.Random(name)
    return {change(text, rng) for _ in range(times)}


def letters(text: str) -> str:
    """A text without blanks and case."""
    return "".join(text.lower().split())


@given(st.text(max_size=200), st.sampled_from(NAMES), st.booleans(), st.integers(0, 99))
def test_any_text_can_be_changed(text: str, name: str, held_out: bool, seed: int) -> None:
    """No change raises, for whatever text: empty, one letter, signs of other alphabets."""
    assert isinstance(perturb.changes(held_out=held_out)[name](text, random.Random(seed)), str)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_says_what_is_said(name: str) -> None:
    """The same randomness makes the same text, on every machine."""
    assert said(name) == said(name)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "typos"])
def test_the_question_is_still_there(name: str) -> None:
    """Whatever stands around it or however it is set, every letter of it is left, in order."""
    assert all(letters(TEXT) in letters(text) for text in said(name))


@pytest.mark.parametrize("name", NAMES)
def test_something_changes(name: str) -> None:
    """A change is one."""
    assert said(name) != {TEXT}


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("name", PHRASES)
def test_phrases_are_of_one_half(name: str, held_out: bool) -> None:
    """Training and measuring draw from different halves of every list, and each uses all of its half."""
    mine, others = (PHRASES[name][start::2] for start in ((1, 0) if held_out else (0, 1)))
    texts = said(name, held_out=held_out)

    def used(phrases: Iterable[str]) -> set[str]:
        """The phrases that stand in a text."""
        return {phrase for phrase in phrases if any(phrase.replace("{}", TEXT) in text for text in texts)}

    assert used(mine) == set(mine)
    assert used(others) == set()


@pytest.mark.parametrize("phrases", [*PHRASES.values(), perturb.ENDINGS])
def test_no_phrase_stands_twice(phrases: tuple[str, ...]) -> None:
    """One that stood in both halves would be known when it is measured."""
    assert len({phrase.strip().lower() for phrase in phrases}) == len(phrases)


def test_wrappers_have_one_place_for_the_question() -> None:
    """A wrapper without a place would lose the question, one with two would say it twice."""
    assert {wrapper.count("{}") for wrapper in perturb.WRAPPERS} == {1}


def test_braces_in_the_question_are_its_own() -> None:
    """Code in braces is put into a wrapper as it is."""
    text = "why does f'{x!r:{y}}' fail, and {} too?"

    assert all(text in found for found in said("wrapper in another language", text))


def test_typos_are_few_and_in_long_words() -> None:
    """About every ninth long word has one slip of one letter; short words, digits and signs have none."""
    text = " ".join(["remember the", "x1 = 42;", "Numbers"] * 300)
    found = next(iter(said("typos", text, times=1))).split(" ")
    pairs = list(zip(text.split(" "), found, strict=True))
    slips = [(was, now) for was, now in pairs if was != now]

    assert 0.07 < len(slips) / 600 < 0.15
    assert {was for was, _ in slips} == {"remember", "Numbers"}
    assert all(abs(len(was) - len(now)) <= 1 and was[0] == now[0] for was, now in slips)
