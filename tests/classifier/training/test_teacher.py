"""Meaning, as the whole of the base network sees it."""

from pathlib import Path

import numpy as np
import pytest

from classifier.training.teacher import LONGEST, WHOLE, Teacher


@pytest.fixture(scope="module")
def teacher(base_weights: Path) -> Teacher:
    """A teacher of made-up weights."""
    return Teacher(base_weights)


def test_unit_vectors_in_order(teacher: Teacher) -> None:
    """One vector of length one a text; each is the same alone and among longer and shorter ones."""
    texts = ["prove that the river is blue", "hello", "", "write code " * 30, "hello"]
    found = teacher(texts)

    assert len(texts) == len(found)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(found[1], found[4], atol=1e-5)
    assert float(found[0] @ found[1]) < 0.99
    for text, vector in zip(texts, found, strict=True):
        assert np.allclose(teacher([text])[0], vector, atol=1e-5)


def test_more_than_a_chunk(teacher: Teacher) -> None:
    """Any number of texts, none lost."""
    found = teacher([f"river {number}" for number in range(130)])

    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(found[129], teacher(["river 129"])[0], atol=1e-5)


def test_no_texts(teacher: Teacher) -> None:
    """Nothing in, nothing out."""
    assert len(teacher([])) == 0


def test_it_reads_the_beginning(teacher: Teacher) -> None:
    """The meaning of a long text is that of its first LONGEST tokens."""
    begin = "river " * LONGEST
    one, other = teacher([f"{begin}prove", f"{begin}hello code"])

    assert np.array_equal(one, other)


def test_it_is_whole(teacher: Teacher) -> None:
    """All layers of the base are used, unlike in the network that is served."""
    assert len(teacher._model.layers) == WHOLE[0] == 6
    assert not teacher._model.training


def test_missing_weights_raise(tmp_path: Path) -> None:
    """A directory without weights is an `OSError` that names the file."""
    with pytest.raises(OSError, match=r"config\.json"):
        Teacher(tmp_path)
