"""The gateway's only door: a prompt in, a verdict out. Features, network and calibration in one call.

Nothing here waits, logs or keeps state between calls: a `Predictor` may be shared by any number of threads, and the
same prompt always gets the same verdict, alone or among others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from classifier import bundle, calibration, features
from classifier.encoder import Encoder
from classifier.features import FEATURES_VERSION, TASKS, Prompt
from classifier.heads import Floats, Heads, Says

__all__ = ["FEATURES_VERSION", "TASKS", "Prediction", "Predictor", "Prompt"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The classifier's word on one prompt."""

    score: float  # 0..1, higher = more in need of premium
    p_cheap: float  # calibrated chance that a cheap-tier answer is as good as a premium one's
    task: str  # one of TASKS
    embedding: Floats  # (heads.EMBEDDING,), of length 1; near for prompts that mean the same


class Predictor:
    """A loaded classifier. Make it with `load`; `predict` is thread-safe."""

    def __init__(self, loaded: bundle.Bundle, threads: int = 1) -> None:
        """Open a verified bundle and run it once. Raises `bundle.BundleError`."""
        self.digest = loaded.digest
        self.default_threshold = loaded.manifest.default_threshold
        self.calibration = loaded.manifest.calibration
        self._tokenizer = _tokenizer(loaded.tokenizer)
        self._encoder = _encoder(loaded.model, threads)
        self.heads = _heads(loaded.heads)
        try:
            self.predict(Prompt("warm"))  # the first run allocates; better at start than in a request
        except ValueError as error:
            raise bundle.BundleError(loaded.heads, f"does not fit the network ({error})") from error

    @classmethod
    def load(cls, directory: Path | None = None, threads: int = 1) -> Self:
        """Load the bundle in `directory` (default: the one shipped). Raises `bundle.BundleError`."""
        return cls(bundle.load(directory), threads)

    def __repr__(self) -> str:
        return f"<Predictor {self.digest} cheap from {self.default_threshold:.2f}>"

    def predict(self, prompt: Prompt) -> Prediction:
        """Judge one prompt. Never raises for a prompt's content."""
        said = self._says(prompt)
        return Prediction(
            score=calibration.score(said.logits, self.calibration),
            p_cheap=calibration.p_cheap(said.logits, self.calibration),
            task=TASKS[int(said.tasks.argmax())],
            embedding=said.embedding,
        )

    def predict_many(self, prompts: Sequence[Prompt]) -> list[Prediction]:
        """Judge many, in their order; each verdict is exactly what `predict` gives.

        Not batched, on purpose: see `encoder`. Short prompts pass at well over a thousand a second on one core.
        """
        return [self.predict(prompt) for prompt in prompts]

    def states(self, prompt: Prompt) -> tuple[Floats, Floats]:
        """The pooled state and the structure of a prompt: what the heads are fitted on."""
        ids, asked = features.token_ids(self._tokenizer, prompt)
        return self._encoder(ids, asked), features.structure(prompt)

    def _says(self, prompt: Prompt) -> Says:
        """The heads' word, not calibrated."""
        return self.heads(*self.states(prompt))


def _tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer, its errors translated."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for a file it cannot read
        raise bundle.BundleError(path, f"is not a tokenizer ({error})") from error


def _encoder(path: Path, threads: int) -> Encoder:
    """Load the network, its errors translated."""
    try:
        return Encoder(path, threads)
    except Exception as error:  # onnxruntime has some fifteen exception classes, none with a common parent but this
        raise bundle.BundleError(path, f"cannot be run here ({error})") from error


def _heads(path: Path) -> Heads:
    """Load the heads, errors translated."""
    try:
        return Heads.load(path)
    except (OSError, ValueError) as error:
        raise bundle.BundleError(path, f"does not hold the heads ({error})") from error
