"""The rival that every learned router must beat: words and pairs of words, letters in runs, and a ridge.

Trained on the same rows with the same targets and balance as the network. ROUTING has it at APGR .61-.67 on exams with
labels of the same exams, above every published small router.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from classifier.features import Prompt
from classifier.training.dataset import Example
from classifier.training.fit import balance
from classifier.training.measure import Vector

MOST = 40_000  # n-grams kept of each kind
STRENGTH = 3.0  # of the ridge


class NGrams:
    """Fitted on the gain, centred within each source; higher is more in need of premium."""

    def __init__(self, examples: Sequence[Example]) -> None:
        """Fit on the examples that have a gain."""
        rows = [example for example in examples if example.gain is not None]
        texts = [example.text[:2000] for example in rows]
        self._words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=MOST)
        self._letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, max_features=MOST)
        columns = hstack([self._words.fit_transform(texts), self._letters.fit_transform(texts)])
        self._ridge = Ridge(STRENGTH)
        weights = balance(rows)
        self._ridge.fit(columns, _centred(rows), sample_weight=weights / weights.mean())

    def __call__(self, prompts: Sequence[Prompt]) -> list[float]:
        """Score prompts."""
        texts = [prompt.text[:2000] for prompt in prompts]
        columns = hstack([self._words.transform(texts), self._letters.transform(texts)])
        return [float(score) for score in self._ridge.predict(columns)]


def _centred(rows: Sequence[Example]) -> Vector:
    """Gains without their source's mean; our own set is one source."""
    gains = np.array([example.gain for example in rows], dtype=np.float64)
    groups = np.array(["" if example.own else example.group for example in rows])
    for group in np.unique(groups):
        if group:
            gains[groups == group] -= gains[groups == group].mean()
    gains[groups == ""] -= gains[groups == ""].mean() if (groups == "").any() else 0
    return gains
