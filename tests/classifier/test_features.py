"""What is read of a prompt: bounded, head and tail, and the same numbers for the same text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from classifier import features
from classifier.features import BEFORE_TOKENS, HEAD_CHARS, MAX_TOKENS, STRUCTURE, TAIL_CHARS, Prompt


def feature(prompt: Prompt, name: str) -> float:
    """One structure feature by name."""
    return float(features.structure(prompt)[STRUCTURE.index(name)])


def words(tokenizer: Tokenizer, prompt: Prompt) -> list[str | None]:
    """What is read of a prompt, as pieces."""
    ids, _ = features.token_ids(tokenizer, prompt)
    return [tokenizer.id_to_token(index) for index in ids]


def test_short_text_is_read_whole(tokenizer: Tokenizer) -> None:
    """A short prompt's tokens stand between the two marks, none lost, and all are the text's."""
    ids, asked = features.token_ids(tokenizer, Prompt("hello river"))

    assert [tokenizer.id_to_token(index) for index in ids] == ["[CLS]", "hello", "river", "[SEP]"]
    assert asked == len(ids)


def test_what_came_before_stands_behind(tokenizer: Tokenizer) -> None:
    """It follows the text and has a mark of its own; it does not count as the text's."""
    ids, asked = features.token_ids(tokenizer, Prompt("hello river", before="write code"))
    pieces = [tokenizer.id_to_token(index) for index in ids]

    assert pieces == ["[CLS]", "hello", "river", "[SEP]", "write", "code", "[SEP]"]
    assert asked == 4


def test_what_came_before_is_taken_out_of_the_texts_share(tokenizer: Tokenizer) -> None:
    """A long text gives way to it: together they fill the input, head and tail are still read, the rest of it not."""
    prompt = Prompt("prove " + "river " * 200 + "code", before="hello " * 40)
    ids, asked = features.token_ids(tokenizer, prompt)
    pieces = [tokenizer.id_to_token(index) for index in ids]

    assert len(ids) == MAX_TOKENS
    assert asked == MAX_TOKENS - BEFORE_TOKENS - 1
    assert [pieces[1], pieces[asked - 2], pieces[asked - 1]] == ["prove", "code", "[SEP]"]
    assert pieces[asked:] == ["hello"] * BEFORE_TOKENS + ["[SEP]"]


def test_before_that_says_nothing_adds_no_mark(tokenizer: Tokenizer) -> None:
    """Blanks before the text are as good as nothing before it."""
    blank, nothing = (features.token_ids(tokenizer, Prompt("hello", before=before)) for before in (" \n", ""))

    assert blank == nothing


def test_empty_text_has_the_marks(tokenizer: Tokenizer) -> None:
    """Nothing to read is still a valid input."""
    ids, asked = features.token_ids(tokenizer, Prompt("  \n "))

    assert (len(ids), asked) == (2, 2)


@given(st.text(max_size=2000), st.text(max_size=400))
def test_input_is_bounded(tokenizer: Tokenizer, text: str, before: str) -> None:
    """Whatever the prompt: 2 to MAX_TOKENS ids, of which at least the two marks are the text's."""
    ids, asked = features.token_ids(tokenizer, Prompt(text, before=before))

    assert 2 <= asked <= len(ids) <= MAX_TOKENS
    assert tokenizer.id_to_token(ids[asked - 1]) == tokenizer.id_to_token(ids[-1]) == "[SEP]"


@pytest.mark.parametrize("filler", ["river ", "x", "\n", "é", "🙂 "])
def test_megabyte_is_capped(tokenizer: Tokenizer, filler: str) -> None:
    """A megabyte of anything gives at most MAX_TOKENS ids, and features in range."""
    prompt = Prompt("hello" + filler * (1_000_000 // len(filler)) + "prove", before="code")
    ids, _ = features.token_ids(tokenizer, prompt)
    found = features.structure(prompt)

    assert len(ids) <= MAX_TOKENS
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("middle", [200, 100_000])
def test_head_and_tail_are_read(tokenizer: Tokenizer, middle: int) -> None:
    """The first and the last words of a long prompt are seen, whatever stands between."""
    pieces = words(tokenizer, Prompt("prove " + "river " * middle + "code"))

    assert len(pieces) == MAX_TOKENS
    assert [pieces[1], pieces[-2]] == ["prove", "code"]


def test_middle_is_not_tokenised() -> None:
    """No more than the excerpt is handed to the tokenizer, however long the prompt is."""
    seen: list[int] = []

    class Ids:
        """One id."""

        def __init__(self) -> None:
            """Have it."""
            self.ids = [5]

    class Counting:
        """A tokenizer that keeps the length of what it is given."""

        def encode(self, sequence: str, *, add_special_tokens: bool) -> Ids:
            """Count."""
            assert not add_special_tokens
            seen.append(len(sequence))
            return Ids()

        def token_to_id(self, token: str) -> int:
            """Know every mark."""
            return len(token)

    features.token_ids(Counting(), Prompt("a" * 500_000))

    assert seen == [HEAD_CHARS, TAIL_CHARS]


def test_tokenizer_without_marks_is_refused() -> None:
    """A vocabulary that lacks [CLS] is a fault that names it."""
    bare = Tokenizer(WordPiece({"[UNK]": 0}, unk_token="[UNK]"))

    with pytest.raises(ValueError, match=r"\[CLS\]"):
        features.token_ids(bare, Prompt("a"))


@pytest.mark.parametrize(
    "prompt", [Prompt("hello \ud83d river"), Prompt("river", before="hello \ud83d")], ids=["text", "before"]
)
def test_lone_surrogates_are_read(tokenizer: Tokenizer, prompt: Prompt) -> None:
    """Half a surrogate pair, which JSON escapes can carry, is no reason to fail, wherever it stands."""
    pieces = words(tokenizer, prompt)

    assert {"hello", "river"} <= set(pieces)
    assert np.isfinite(features.structure(prompt)).all()


COUNT = st.integers(0, 10**6)


@given(st.text(max_size=300), st.tuples(COUNT, COUNT, COUNT, COUNT, COUNT))
def test_structure_is_finite_and_in_range(text: str, around: tuple[int, int, int, int, int]) -> None:
    """Whatever comes in, every feature is a number between 0 and 1."""
    found = features.structure(Prompt(text, "", *around))

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


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("turns", Prompt("a", turns=5)),
        ("tools", Prompt("a", tools=5)),
        ("images", Prompt("a", images=5)),
        ("results", Prompt("a", results=5)),
        ("log_system", Prompt("a", system=5)),
    ],
)
def test_context_enters(name: str, prompt: Prompt) -> None:
    """Turns, tools, images, tool results and instructions are features of their own, and move no other."""
    moved = np.flatnonzero(features.structure(Prompt("a")) != features.structure(prompt))

    assert [STRUCTURE[index] for index in moved] == [name]
    assert feature(Prompt("a"), name) < feature(prompt, name)


def test_one_feature_a_name() -> None:
    """Names and numbers are as many, and no name stands twice."""
    assert (len(STRUCTURE),) == features.structure(Prompt("")).shape
    assert len(set(STRUCTURE)) == len(STRUCTURE)


def test_padded_marks_what_is_real() -> None:
    """Rows of different length become one array, and padding is known as such."""
    ids, real = features.padded([[4, 5, 6], [7]], pad=0)

    assert ids.tolist() == [[4, 5, 6], [7, 0, 0]]
    assert real.tolist() == [[True, True, True], [True, False, False]]
