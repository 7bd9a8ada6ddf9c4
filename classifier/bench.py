"""Latency by token count: `python -m classifier.bench`. Tokenising, features, network and calibration, one thread.

Timed one prompt after another on whatever machine this is, shared cores included: read the p50 first, the p99 says as
much about the neighbours.
"""

import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classifier.features import Prompt
from classifier.predict import Predictor

TOKENS = (16, 32, 64, 128)
LONG_CHARS = 1_000_000
_WORDS = ("the", "small", "river", "and", "old", "house", "near", "our", "road", "with", "some", "light")


@dataclass(frozen=True, slots=True)
class Timing:
    """One row of the table; milliseconds."""

    name: str
    p50_ms: float
    p99_ms: float


def text_of(tokens: int) -> str:
    """A text of `tokens` tokens, the two marks included: every word here is one WordPiece."""
    return " ".join(_WORDS[index % len(_WORDS)] for index in range(tokens - 2))


def timings(predictor: Predictor, runs: int = 400) -> list[Timing]:
    """Time `predict` by token count, and on a text of a million characters."""
    cases = [(f"{tokens} tokens", text_of(tokens)) for tokens in TOKENS]
    long = "".join(_WORDS) * (LONG_CHARS // 45)
    cases.append(("1 MB in words", " ".join([text_of(1000)] * 300)[:LONG_CHARS].ljust(LONG_CHARS, "x")))
    cases.append(("1 MB without a blank", long[:LONG_CHARS].ljust(LONG_CHARS, "x")))
    return [_timing(predictor, name, text, runs) for name, text in cases]


def throughput(predictor: Predictor, runs: int = 2000) -> float:
    """Short prompts a second through `predict_many`: 6 to 20 tokens, as everyday commands have."""
    prompts = [Prompt(text_of(6 + index % 15)) for index in range(runs)]
    began = time.perf_counter()
    predictor.predict_many(prompts)
    return runs / (time.perf_counter() - began)


def machine() -> str:
    """The processor and what of it matters here, as far as the system tells."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return platform.machine()
    name = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    return f"{name or platform.machine()}{', avx512_vnni' if 'avx512_vnni' in info else ''}"


def main() -> None:
    """Print the table."""
    predictor = Predictor.load()
    print(f"classification, one thread, {machine()}, {predictor!r}")
    print(f"{'prompt':<22}{'p50 ms':>8}{'p99 ms':>8}")
    for row in timings(predictor):
        print(f"{row.name:<22}{row.p50_ms:>8.2f}{row.p99_ms:>8.2f}")
    print(f"short prompts a second: {throughput(predictor):,.0f}")


def _timing(predictor: Predictor, name: str, text: str, runs: int) -> Timing:
    """Time one text, after nothing but itself: the bundle is warm from its loading."""
    prompt = Prompt(text)
    spent = []
    for _ in range(runs):
        began = time.perf_counter()
        predictor.predict(prompt)
        spent.append(1000 * (time.perf_counter() - began))
    p50, p99 = np.quantile(spent, [0.5, 0.99])
    return Timing(name, round(float(p50), 3), round(float(p99), 3))


if __name__ == "__main__":
    main()
