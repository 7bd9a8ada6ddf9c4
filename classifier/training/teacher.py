"""Meaning, as the whole of all-MiniLM-L6-v2 sees it: unit vectors that the small network's embedding learns from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from classifier import features
from classifier.features import Prompt
from classifier.training import base
from classifier.training.fit import Floats

WHOLE = (6, 30_522, 1536)  # layers, word pieces, feed-forward units
LONGEST = 64  # tokens read: the meaning of a prompt is in its beginning


class Teacher:
    """The base network with all of its layers."""

    def __init__(self, directory: Path) -> None:
        """Load the base weights. Raises `OSError`."""
        self._model, self._tokenizer = base.load_base(directory, *WHOLE)
        self._model.eval()

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Unit vectors, (len(texts), width)."""
        ids = [features.token_ids(self._tokenizer, Prompt(text))[0][:LONGEST] for text in texts]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        found = np.zeros((len(ids), self._model.shape.width), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), 64):
                chunk = order[start : start + 64]
                padded, real = map(torch.from_numpy, features.padded([ids[i] for i in chunk], 0))
                pooled = self._model.pool(padded, real, real.sum(1))
                found[chunk] = torch.nn.functional.normalize(pooled, dim=1).numpy()
        return found
