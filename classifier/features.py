"""A prompt as numbers. Pure, and the only definition: training and serving both import it.

Two things are read. *Token ids*, at most `MAX_TOKENS` with the marks: of what is asked, head and tail, because in a
long prompt the task stands at the beginning or at the end, hardly ever in the middle of the pasted document; then a
little of what came before it, which the network may look at but which is not pooled with it. And *structure*: a few
counts that a truncated text cannot show (how long it really is) or that WordPiece blurs (code and maths marks).

Rule: the cost is bounded before anything is tokenised. At most `HEAD_CHARS + TAIL_CHARS` characters are looked at,
however long the prompt is; every regular expression here is linear in its input. Change anything that alters the
numbers, then raise `FEATURES_VERSION`: a bundle trained on other features must not load.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

FEATURES_VERSION = 2

TASKS = ("code", "math", "reasoning", "knowledge", "writing", "translation", "extraction", "chat", "command")

TEXT_TOKENS, TAIL_TOKENS, BEFORE_TOKENS = 126, 32, 32
MAX_TOKENS = TEXT_TOKENS + 2  # with [CLS] and [SEP]; what came before is taken out of the text's share
# English is about 4.5 characters a token, code about 3: these hold the head and the tail with room to spare.
HEAD_CHARS, TAIL_CHARS = 1000, 400

STRUCTURE = (
    "log_chars",
    "log_lines",
    "turns",
    "tools",
    "images",
    "results",
    "log_system",
    "code_marks",
    "code_fence",
    "maths_marks",
    "question_marks",
    "list_items",
    "digit_share",
    "non_ascii_share",
    "upper_share",
    "mean_word",
    "truncated",
)

_CODE_MARKS = ("=>", "->", "::", "==", "</")
_WORDS = "def class import from return function const let var public private fn func #include if for"
_CODE_STARTS = tuple(f"{word} " for word in _WORDS.split())
_CODE_ENDS = ("{", "}", ";", ":")
_MATHS = re.compile(r"\$|\\[a-zA-Z]|[=^√∑∫≤≥±÷π∞\u00d7]|\d ?[-+*/] ?\d")
_LIST = re.compile(r"^[ \t]*(?:[-*•]|\(?\d{1,2}[.)]|\(?[A-Ja-j][.)])[ \t]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked, and what stands around it. Any length of `text` is welcome: reading it is bounded.

    `conversation.read` makes one of a conversation.
    """

    text: str
    before: str = ""  # a little of what came before it, short already
    turns: int = 1  # user turns so far, this one included
    tools: int = 0  # tool definitions offered
    images: int = 0
    results: int = 0  # tool results since the user spoke
    system: int = 0  # characters of instructions


class Encoded(Protocol):
    """What a tokenizer gives back; only the ids are used."""

    @property
    def ids(self) -> list[int]:
        """Return the token ids."""


class Tokenizer(Protocol):
    """The part of `tokenizers.Tokenizer` that is used here; tests pass a few lines of their own."""

    def encode(self, sequence: str, *, add_special_tokens: bool) -> Encoded:
        """Cut a text into pieces."""

    def token_to_id(self, token: str) -> int | None:
        """Look a piece up."""


def excerpt(text: str) -> tuple[str, str]:
    """Head and tail of a text, blanks around it removed; the tail is empty when the head holds all of it."""
    text = text.strip()
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return _sound(text), ""
    return _sound(text[:HEAD_CHARS]), _sound(text[-TAIL_CHARS:])


def token_ids(tokenizer: Tokenizer, prompt: Prompt) -> tuple[list[int], int]:
    """[CLS] head tail [SEP], then what came before and another [SEP] if there is any; and how many ids are the text's.

    Between 2 and `MAX_TOKENS` ids, whatever the prompt.
    """
    head, tail = excerpt(prompt.text)
    first, last = _mark(tokenizer, "[CLS]"), _mark(tokenizer, "[SEP]")
    before = (
        tokenizer.encode(_sound(prompt.before), add_special_tokens=False).ids[:BEFORE_TOKENS] if prompt.before else []
    )
    budget = TEXT_TOKENS - len(before) - bool(before)
    ids = tokenizer.encode(head, add_special_tokens=False).ids
    if tail or len(ids) > budget:
        end = tokenizer.encode(tail, add_special_tokens=False).ids if tail else ids
        ids = ids[: budget - TAIL_TOKENS] + end[-TAIL_TOKENS:]
    text = [first, *ids, last]
    return [*text, *before, last] if before else text, len(text)


def structure(prompt: Prompt) -> npt.NDArray[np.float32]:
    """The `STRUCTURE` features of a prompt, each about 0..1, shape (len(STRUCTURE),).

    Counts enter by their logarithm and are capped, so that no prompt however odd leaves the range seen in training.
    """
    head, tail = excerpt(prompt.text)
    seen = f"{head}\n{tail}" if tail else head
    digits, upper, non_ascii = _shares(seen)
    words = max(1, len(seen.split()))
    return np.array(
        [
            _log(len(prompt.text), 10_000),
            _log(prompt.text.count("\n"), 300),
            _log(max(0, prompt.turns - 1), 30),
            _log(prompt.tools, 30),
            _log(prompt.images, 10),
            _log(prompt.results, 30),
            _log(prompt.system, 10_000),
            _log(_code_marks(seen), 60),
            float("```" in seen),
            _log(len(_MATHS.findall(seen)), 60),
            _log(seen.count("?"), 10),
            _log(len(_LIST.findall(seen)), 30),
            min(1.0, 5 * digits),
            non_ascii,
            min(1.0, 5 * upper),
            min(1.0, len(seen) / words / 15),
            float(len(prompt.text) > HEAD_CHARS + TAIL_CHARS),
        ],
        dtype=np.float32,
    )


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Ids of several prompts as one (rows, longest) array, and where they are real. Serving never pads."""
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    real = np.zeros((len(rows), longest), dtype=np.bool_)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        real[index, : len(row)] = True
    return ids, real


def _mark(tokenizer: Tokenizer, name: str) -> int:
    """Return the id of a special piece, or raise `ValueError` with its name."""
    found = tokenizer.token_to_id(name)
    if found is None:
        raise ValueError(f"the tokenizer has no {name}")
    return found


def _sound(text: str) -> str:
    """The text without lone surrogates, which JSON can carry and the tokenizer cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _code_marks(text: str) -> int:
    """Operators, calls, subscripts, and lines that begin or end as code does."""
    marks = sum(map(text.count, _CODE_MARKS))
    marks += sum(text.count(mark) - text.count(f" {mark}") for mark in "([")
    lines = [line.strip() for line in text.split("\n")]
    return marks + sum(line.startswith(_CODE_STARTS) + line.endswith(_CODE_ENDS) for line in lines)


def _log(count: int, full: int) -> float:
    """0 for none, 1 for `full` or more, logarithmic between."""
    return min(1.0, math.log1p(count) / math.log1p(full))


def _shares(text: str) -> tuple[float, float, float]:
    """Shares of digits, capitals and non-ASCII characters; the first two of ASCII only."""
    # as an array: ten times faster than asking character by character
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    size = max(1, len(codes))
    digits = np.count_nonzero(codes - 48 < 10)  # unsigned: what is below 48 wraps round to the far end
    capitals = np.count_nonzero(codes - 65 < 26)
    return digits / size, capitals / size, np.count_nonzero(codes > 127) / size
