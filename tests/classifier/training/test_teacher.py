"""What the whole of the base network sees: meaning, judgements and tasks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classifier.features import TASKS, Prompt
from classifier.heads import JUDGEMENTS
from classifier.training import dataset
from classifier.training.teacher import WHOLE, Taught, Teacher


@pytest.fixture(scope="module")
def teacher(base_weights: Path) -> Teacher:
    """A teacher of made-up weights."""
    return Teacher(base_weights)


def test_unit_vectors_in_order(teacher: Teacher) -> None:
    """One vector of length one a text; each is the same alone and among longer and shorter ones."""
    texts = ["prove that the river is blue", "hello", "", "write code " * 30, "hello"]
    found = teacher.meaning([Prompt(text) for text in texts])

    assert len(texts) == len(found)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(found[1], found[4], atol=1e-5)
    assert float(found[0] @ found[1]) < 0.99
    for text, vector in zip(texts, found, strict=True):
        assert np.allclose(teacher.meaning([Prompt(text)])[0], vector, atol=1e-5)


def test_more_than_a_chunk(teacher: Teacher) -> None:
    """Any number of texts, none lost."""
    found = teacher.meaning([Prompt(f"river {number}") for number in range(130)])

    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(found[129], teacher.meaning([Prompt("river 129")])[0], atol=1e-5)


def test_no_texts(teacher: Teacher) -> None:
    """Nothing in, nothing out."""
    assert len(teacher.meaning([])) == 0


def test_what_came_before_is_looked_at_and_not_pooled(teacher: Teacher) -> None:
    """The first state is the mean of the embeddings of what is asked; only those above see what came before."""
    alone, later = teacher.states([Prompt("hello river"), Prompt("hello river", before="write code")])

    assert np.allclose(alone[0], later[0], atol=1e-5)
    assert not np.allclose(alone[-1], later[-1], atol=1e-3)


@pytest.fixture(scope="module")
def rows(own_directory: Path) -> list[dataset.Example]:
    """A made-up own set, and prompts without a label."""
    judged = dataset.judged(own_directory)
    return [*judged, *(dataset.Example("uiuc:math", prompt) for prompt in (Prompt("hello again"), judged[1].prompt))]


@pytest.fixture(scope="module")
def taught(teacher: Teacher, rows: list[dataset.Example]) -> Taught:
    """What the teacher says of them."""
    return teacher.teach(rows)


def test_it_says_chances_of_every_row(taught: Taught, rows: list[dataset.Example]) -> None:
    """A chance for each judgement, chances of the tasks that sum to one, a unit vector."""
    assert taught.judged.shape == (len(rows), len(JUDGEMENTS))
    assert ((taught.judged > 0) & (taught.judged < 1)).all()
    assert taught.tasks.shape == (len(rows), len(TASKS))
    assert np.allclose(taught.tasks.sum(1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(taught.meaning, axis=1), 1, atol=1e-5)


def test_it_learns_from_our_own_set(taught: Taught, rows: list[dataset.Example]) -> None:
    """Of rows that its fold has not seen it knows which are hard, in log-odds more than half of the way."""
    needed = np.array([row.need or 0 for row in rows[:-2]])
    said = taught.judged[:-2, JUDGEMENTS.index("need")]

    assert said[needed > 0.5].mean() - said[needed < 0.5].mean() > 0.3


def test_a_row_does_not_teach_itself(teacher: Teacher, rows: list[dataset.Example]) -> None:
    """A label that is turned round changes what is said of a stranger with the same text, not of the row itself."""
    other = [*rows[:1], replace(rows[1], difficulty=0.02, need=0.02), *rows[2:]]
    before, after = teacher.teach(rows).judged, teacher.teach(other).judged

    assert np.allclose(before[1], after[1], atol=0.005)
    assert before[-1][0] - after[-1][0] > 0.05


def test_anchors_need_no_teacher(teacher: Teacher, rows: list[dataset.Example]) -> None:
    """Of what is known to be cheap the teacher says just that, whatever it looks like."""
    hard = next(row for row in rows if (row.need or 0) > 0.5)
    anchor = dataset.Example("clinc150_intents", hard.prompt, need=0.03)
    said = teacher.teach([*rows, anchor]).judged[-1]

    assert np.allclose(said, 0.03, atol=1e-4)


def test_some_of_what_is_said(taught: Taught) -> None:
    """Rows are chosen alike in all that is said."""
    few = taught.of([3, 0])

    assert np.array_equal(few.judged, taught.judged[[3, 0]])
    assert np.array_equal(few.meaning[1], taught.meaning[0])


def test_it_is_whole(teacher: Teacher) -> None:
    """All layers of the base are used, unlike in the network that is served."""
    assert len(teacher._model.layers) == WHOLE[0] == 6
    assert not teacher._model.training


def test_missing_weights_raise(tmp_path: Path) -> None:
    """A directory without weights is an `OSError` that names the file."""
    with pytest.raises(OSError, match=r"config\.json"):
        Teacher(tmp_path)
