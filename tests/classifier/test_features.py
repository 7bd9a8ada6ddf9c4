"""What is read of a prompt: bounded, head and tail, and the same numbers for the same text."""


import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from classifier import features
from classifier.features import HEAD_CHARS, MAX_TOKENS, STRUCTURE, TAIL_CHARS, Prompt


def feature(prompt: Prompt, name: str) -> float:
    """One structure feature by name."""
    return float(features.structure(prompt)[STRUCTURE.index(name)])


def test_short_text_is_read_whole(tokenizer: Tokenizer) -> None:
    """A short prompt's tokens stand between the two marks, none lost."""
    ids = features.token_ids(tokenizer, "hello river")

    assert [tokenizer.id_to_token(index) for index in ids] == ["[CLS]", "hello", "river", "[SEP]"]


def test_empty_text_has_the_marks(tokenizer: Tokenizer) -> None:
    """Nothing to read is still a valid input."""
    assert len(features.token_ids(tokenizer, "  \n ")) == 2


@pytest.mark.parametrize("filler", ["river ", "x", "\n", "é", "🙂 "])
def test_megabyte_is_capped(tokenizer: Tokenizer, filler: str) -> None:
    """A megabyte of anything gives at most MAX_TOKENS ids, and features in range."""
    text = "hello" + filler * (1_000_000 // len(filler)) + "prove"
    ids = features.token_ids(tokenizer, text)
    found = features.structure(Prompt(text))

    assert len(ids) <= MAX_TOKENS
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("middle", [200, 100_000])
def test_head_and_tail_are_read(tokenizer: Tokenizer, middle: int) -> None:
    """The first and the last words of a long prompt are seen, whatever stands between."""
    text = "prove " + "river " * middle + "code"
    ids = features.token_ids(tokenizer, text)
    words = [tokenizer.id_to_token(index) for index in ids]

    assert len(ids) == MAX_TOKENS
    assert [words[1], words[-2]] == ["prove", "code"]


def test_middle_is_not_tokenised() -> None:
    """No more than the excerpt is handed to the tokenizer, however long the prompt is."""
    seen: list[int] = []

    class Ids:
        def __init__(self) -> None:
            self.ids = [5]

    class Counting:
        def encode(self, sequence: str, *, add_special_tokens: bool) -> Ids:
            assert not add_special_tokens
            seen.append(len(sequence))
            return Ids()

        def token_to_id(self, token: str) -> int:
            return len(token)

    features.token_ids(Counting(), "a" * 500_000)

    assert seen == [HEAD_CHARS, TAIL_CHARS]


def test_tokenizer_without_marks_is_refused() -> None:
    """A vocabulary that lacks [CLS] is a fault that names it."""
    bare = Tokenizer(WordPiece({"[UNK]": 0}, unk_token="[UNK]"))

    with pytest.raises(ValueError, match=r"\[CLS\]"):
        features.token_ids(bare, "a")


def test_lone_surrogates_are_read(tokenizer: Tokenizer) -> None:
    """Half a surrogate pair, which JSON escapes can carry, is no reason to fail."""
    text = "hello \ud83d river"
    ids = features.token_ids(tokenizer, text)

    assert tokenizer.id_to_token(ids[-2]) == "river"
    assert np.isfinite(features.structure(Prompt(text))).all()


@given(st.text(max_size=300), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_structure_is_finite_and_in_range(text: str, turns: int, tools: int, images: int) -> None:
    """Whatever comes in, every feature is a number between 0 and 1."""
    found = features.structure(Prompt(text, turns, tools, images))

    assert (len(STRUCTURE),) == found.shape
    assert np.float32 == found.dtype
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize(
    ("name", "less", "more"),
    [
        ("log_chars", "short", "short" * 50),
        ("log_lines", "a b", "a\nb"),
        ("code_marks", "call it", "call(it);"),
        ("code_fence", "a", "```\na\n```"),
        ("maths_marks", "x is y", "x = y^2"),
        ("question_marks", "is it", "is it?"),
        ("list_items", "a b", "1. a\n2. b"),
        ("digit_share", "a", "7"),
        ("non_ascii_share", "e", "é"),
        ("upper_share", "a", "A"),
        ("mean_word", "a b", "antidisestablishment"),
        ("truncated", "a", "a" * 3000),
    ],
)
def test_structure_rises_with_its_mark(name: str, less: str, more: str) -> None:
    """Each feature moves with what it is named after."""
    assert feature(Prompt(less), name) < feature(Prompt(more), name)


@pytest.mark.parametrize("name", ["turns", "tools", "images"])
def test_context_enters(name: str) -> None:
    """Turns, tools and images are features of their own."""
    assert feature(Prompt("a"), name) < feature(Prompt("a", **{name: 5}), name)


def test_padded_marks_what_is_real() -> None:
    """Rows of different length become one array, and padding is known as such."""
    ids, real = features.padded([[4, 5, 6], [7]], pad=0)

    assert ids.tolist() == [[4, 5, 6], [7, 0, 0]]
    assert real.tolist() == [[True, True, True], [True, False, False]]
