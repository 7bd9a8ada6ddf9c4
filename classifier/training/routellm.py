"""RouteLLM's evaluation replayed from a clone of its repository: same files, same rows left out, same arithmetic.

    python -m classifier.training.evaluate --routellm CLONE

Protocol of `routellm/evals/{benchmarks,evaluate}.py` (lm-sys/RouteLLM, Apache-2.0; paper arXiv 2406.18665): prompts on
the list of contaminated ones are dropped; thresholds stand at the deciles of the score; a prompt goes to the strong
model from the threshold on (above it, for the last); APGR is the area between quality over strong share and the weak
model's line, over that of the strong model's; CPT interpolates on the same eleven points. MT-Bench routes on the first
turn and both judged turns follow. Ties, which stop the original, are broken by at most 1e-9. Nothing of it is ever
trained on.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from classifier.features import Prompt
from classifier.training.measure import Vector

STRONG, WEAK = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
EVALS = Path("routellm", "evals")

Judge = Callable[[Sequence[Prompt]], Sequence[float]]


class Benchmark(NamedTuple):
    """One of the three sets: n prompts and both models' quality on them, MT-Bench 1-10, the others 0/1."""

    name: str
    prompts: list[str]
    weak: Vector
    strong: Vector


class Replayed(NamedTuple):
    """What the original prints for a router."""

    apgr: float
    cpt20: float
    cpt50: float
    cpt80: float


def read(clone: Path) -> list[Benchmark]:
    """The three benchmarks. Raises `SystemExit` when the directory is not a clone of the repository."""
    evals = clone / EVALS
    try:
        mmlu = [row for path in sorted((evals / "mmlu" / "responses").glob("mmlu_*.csv")) for row in _table(path)]
        gsm8k = _table(evals / "gsm8k" / "gsm8k_responses.csv")
        return [
            _mt_bench(evals / "mt_bench"),
            _graded("MMLU", mmlu, _contaminated(evals / "mmlu")),
            _graded("GSM8K", gsm8k, _contaminated(evals / "gsm8k")),
        ]
    except (OSError, KeyError, ValueError) as error:
        raise SystemExit(f"{clone} is not a clone of lm-sys/RouteLLM with its evaluation data: {error!r}") from error


def replay(scores: Vector, weak: Vector, strong: Vector) -> Replayed:
    """The original's metrics for scores of any scale."""
    scores = scores + np.linspace(0, 1e-9, len(scores)) * max(1.0, float(np.abs(scores).max()))
    edges = np.quantile(scores, np.linspace(0, 1, 11))
    points = []
    for index, edge in enumerate(edges):
        chosen = scores >= edge if index < len(edges) - 1 else scores > edge
        points.append((chosen.mean(), np.where(chosen, strong, weak).mean()))
    share, quality = np.array(sorted(points)).T
    low, high = weak.mean(), strong.mean()
    width = np.trapezoid(np.ones_like(share), share)
    area = (np.trapezoid(quality, share) - low * width) / ((high - low) * width)
    cpts = (float(np.interp(low + part * (high - low), quality, share)) for part in (0.2, 0.5, 0.8))
    return Replayed(float(area), *cpts)


def _table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _lines(path: Path) -> list[dict[str, object]]:
    """The rows of a JSON Lines file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


def _contaminated(folder: Path) -> set[object]:
    """Prompts that the original leaves out."""
    return {row["eval_prompt"] for row in _lines(folder / "contaminated_prompts.jsonl")}


def _graded(name: str, rows: Sequence[dict[str, str]], dropped: set[object]) -> Benchmark:
    """A benchmark of right and wrong answers. Raises `ValueError` when nothing is left."""
    kept = [row for row in rows if row["prompt"] not in dropped]
    if not kept:
        raise ValueError(f"no rows for {name}")
    weak, strong = (np.array([row[model] == "True" for row in kept], dtype=np.float64) for model in (WEAK, STRONG))
    return Benchmark(name, [row["prompt"] for row in kept], weak, strong)


def _mt_bench(folder: Path) -> Benchmark:
    """First turns, with the mean of the judged turns."""
    dropped = _contaminated(folder)
    scores: dict[tuple[object, object], list[float]] = defaultdict(list)
    for row in _lines(folder / "judgements.jsonl"):
        scores[row["question_id"], row["model"]].append(float(str(row["score"])))
    prompts, weak, strong = [], [], []
    for row in _lines(folder / "question.jsonl"):
        turns = row["turns"]
        if not isinstance(turns, list) or any(turn in dropped for turn in turns):
            continue
        prompts.append(turns[0])
        weak.append(float(np.mean(scores[row["question_id"], WEAK])))
        strong.append(float(np.mean(scores[row["question_id"], STRONG])))
    return Benchmark("MT-Bench", prompts, np.array(weak), np.array(strong))
