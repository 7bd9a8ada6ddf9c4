"""The heads in numpy: what they say, and how they are kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from classifier.features import STRUCTURE, TASKS
from classifier.heads import EMBEDDING, JUDGEMENTS, Floats, Heads

TRUNK, WIDTH, AROUND = 3, 4, len(STRUCTURE)
JOINED = TRUNK + WIDTH + AROUND
SHAPES = {
    "trunk": (TRUNK, WIDTH + AROUND),
    "trunk_bias": (TRUNK,),
    "judge": (len(JUDGEMENTS), JOINED),
    "judge_bias": (len(JUDGEMENTS),),
    "task": (len(TASKS), JOINED),
    "task_bias": (len(TASKS),),
    "embed": (EMBEDDING, WIDTH),
}


def made(seed: int = 0) -> Heads:
    """Small random heads."""
    rng = np.random.default_rng(seed)
    return Heads(**{name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()})


def column(*values: float) -> Floats:
    """A vector as the encoder gives it."""
    return np.array(values, dtype=np.float32)


def test_what_they_say() -> None:
    """A logit a judgement, a logit a task, an embedding of length one."""
    said = made()(column(1, -2, 3, -4), np.linspace(0, 1, AROUND, dtype=np.float32))

    assert (len(JUDGEMENTS),) == said.logits.shape
    assert (len(TASKS),) == said.tasks.shape
    assert (EMBEDDING,) == said.embedding.shape
    assert float(np.linalg.norm(said.embedding)) == pytest.approx(1, abs=1e-6)


def test_the_trunk_is_rectified_and_stands_beside_the_straight_path() -> None:
    """What the last layers see: the trunk's positive part, then state and structure as they came."""
    heads = made()._replace(
        trunk=np.vstack([np.eye(WIDTH + AROUND, dtype=np.float32)[:2], np.zeros((1, WIDTH + AROUND), np.float32)]),
        trunk_bias=column(0, 0, 5),
    )
    pooled, structure = column(2, -3, 0.5, 0), np.full(AROUND, 0.25, np.float32)

    assert heads.joined(pooled, structure).tolist() == [2, 0, 5, 2, -3, 0.5, 0, *[0.25] * AROUND]


def test_the_last_layers_are_linear() -> None:
    """A judgement is its weights times what is seen, plus its bias; the embedding is of the state alone."""
    heads = made()
    pooled, structure = column(1, 2, 3, 4), np.zeros(AROUND, np.float32)
    said, joined = heads(pooled, structure), heads.joined(pooled, structure)
    elsewhere = heads(pooled, np.ones(AROUND, np.float32))

    assert np.allclose(said.logits, heads.judge @ joined + heads.judge_bias)
    assert np.allclose(said.tasks, heads.task @ joined + heads.task_bias)
    assert np.array_equal(said.embedding, elsewhere.embedding)


def test_a_state_of_nothing_has_an_embedding_of_nothing() -> None:
    """No division by zero: a state of zeros gives zeros."""
    said = made()(np.zeros(WIDTH, np.float32), np.zeros(AROUND, np.float32))

    assert not said.embedding.any()


def test_they_come_back_as_they_were(tmp_path: Path) -> None:
    """What was saved is loaded, to the bit."""
    path, heads = tmp_path / "heads.npy", made()
    heads.save(path)

    assert [array.tobytes() for array in heads] == [array.tobytes() for array in Heads.load(path)]
    assert [array.shape for array in heads] == [array.shape for array in Heads.load(path)]


def test_equal_heads_are_equal_bytes(tmp_path: Path) -> None:
    """A file has nothing in it but the heads; other heads are other bytes."""
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        made(seed).save(tmp_path / f"{name}.npy")
    one, again, other = ((tmp_path / f"{name}.npy").read_bytes() for name in ("one", "again", "other"))

    assert one == again
    assert one != other


def save_array(path: Path) -> None:
    """A plain array."""
    np.save(path, np.zeros(3))


def save_archive(path: Path) -> None:
    """An .npz under another name."""
    with path.open("wb") as file:
        np.savez(file, trunk=np.zeros(3))


def save_part(path: Path) -> None:
    """A record with one field."""
    np.save(path, np.zeros((), [("trunk", "<f4", (2,))]))


def save_half(path: Path) -> None:
    """A file cut short."""
    made().save(path)
    path.write_bytes(path.read_bytes()[:-8])


def save_nothing(path: Path) -> None:
    """An empty file."""
    path.touch()


def save_text(path: Path) -> None:
    """Something else."""
    path.write_bytes(b"{}")


@pytest.mark.parametrize("save", [save_array, save_archive, save_part, save_half, save_nothing, save_text])
def test_what_is_no_heads_is_refused(tmp_path: Path, save: Callable[[Path], None]) -> None:
    """Any other file is a `ValueError`, whatever is wrong with it."""
    path = tmp_path / "heads.npy"
    save(path)

    with pytest.raises(ValueError, match=r"\w"):
        Heads.load(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """A file that is not there says so."""
    with pytest.raises(OSError, match=r"heads\.npy"):
        Heads.load(tmp_path / "heads.npy")


def test_the_embedding_is_of_the_even_mean() -> None:
    """What stands behind the mean in a pooled state changes judgements, not the embedding."""
    heads = made()
    wide = heads._replace(embed=np.ascontiguousarray(heads.embed[:, :2]))
    structure = np.zeros(AROUND, np.float32)
    one, other = (wide(column(1, 2, *rest), structure) for rest in ((3, 4), (-3, 9)))

    assert np.array_equal(one.embedding, other.embedding)
    assert not np.allclose(one.logits, other.logits)
