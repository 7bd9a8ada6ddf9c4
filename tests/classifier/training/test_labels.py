"""The words of the rubric."""

import re
from pathlib import Path

from classifier.features import TASKS
from classifier.training import labels
from classifier.training.labels import KINDS, SKILLS

RUBRIC = (Path(labels.__file__).with_name("data") / "RUBRIC.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """What the rubric says under a heading that begins so."""
    return RUBRIC.split(f"## {title}", 1)[1].split("\n## ", 1)[0]


def defined(title: str) -> set[str]:
    """The words that a section defines: between dots, what stands in brackets left aside."""
    _, text = section(title).split("\n", 1)
    return {word.strip() for word in re.sub(r"\([^)]*\)", "", text).split("·")}


def test_no_word_stands_twice() -> None:
    """An index means one skill, one kind."""
    assert len(set(SKILLS)) == len(SKILLS)
    assert len(set(KINDS)) == len(KINDS)


def test_the_rubric_defines_them() -> None:
    """Readers and code use the same words: skills, kinds, and the tasks that are served."""
    rows = re.findall(r"^\| (\w+) \|", section("Task"), re.MULTILINE)

    assert set(SKILLS) == defined("Skills")
    assert set(KINDS) == defined("Turn kind")
    assert set(TASKS) == {row for row in rows if row != "task"}


def test_a_row_without_a_kind_is_a_first_turn() -> None:
    """The reader of rows takes `first` where none is given."""
    assert "first" in KINDS
