"""The heads: pooled states and structure in; judgements, a task and an embedding out. In numpy.

They stand outside of the network's file so that `thriftgate train` can fit them to a user's own outcomes in seconds,
without torch and without touching the encoder. A rectified layer (the trunk) beside a straight path: what the trunk
has no room for is still there to be fitted.
"""

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

JUDGEMENTS = ("difficulty", "gain", "need")
EMBEDDING = 128


class Says(NamedTuple):
    """What the heads say of one prompt, nothing calibrated yet."""

    logits: Floats  # (len(JUDGEMENTS),)
    tasks: Floats  # (len(TASKS),) logits
    embedding: Floats  # (EMBEDDING,), of length 1


class Heads(NamedTuple):
    """Weights and biases; D is the width of a pooled state, W of the mean it begins with, S the number of structural
    features, H = trunk + D + S.
    """

    trunk: Floats  # (trunk, D + S)
    trunk_bias: Floats
    judge: Floats  # (len(JUDGEMENTS), H)
    judge_bias: Floats
    task: Floats  # (len(TASKS), H)
    task_bias: Floats
    embed: Floats  # (EMBEDDING, W)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises `OSError`, or `ValueError` for anything else."""
        try:
            record = np.load(path, allow_pickle=False)
            return cls(*(np.ascontiguousarray(record[name]) for name in cls._fields))
        except (EOFError, IndexError, KeyError) as error:
            raise ValueError(f"no record of heads: {error}") from error

    def save(self, path: Path) -> None:
        """Write one record to `path`, an .npy: unlike an .npz it has no clock in it, so equal heads are equal bytes."""
        record = np.zeros((), [(name, "<f4", array.shape) for name, array in self._asdict().items()])
        for name, array in self._asdict().items():
            record[name] = array
        np.save(path, record, allow_pickle=False)

    def joined(self, pooled: Floats, structure: Floats) -> Floats:
        """The (H,) numbers that the last layers see; `pooled` (D,), `structure` (S,)."""
        seen = np.concatenate([pooled, structure])
        hidden = np.maximum(self.trunk @ seen + self.trunk_bias, 0)
        return np.concatenate([hidden, seen])

    def __call__(self, pooled: Floats, structure: Floats) -> Says:
        """Judge one prompt."""
        joined = self.joined(pooled, structure)
        meaning = self.embed @ pooled[: self.embed.shape[1]]
        return Says(
            self.judge @ joined + self.judge_bias,
            self.task @ joined + self.task_bias,
            meaning / max(float(np.sqrt(meaning @ meaning)), 1e-9),
        )
