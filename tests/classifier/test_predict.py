"""The gateway's door: verdicts, threads, batches, and life without torch."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from classifier import bundle, calibration
from classifier.bundle import FILES, HEADS, MODEL, TOKENIZER, BundleError
from classifier.predict import TASKS, Prediction, Predictor, Prompt
from tests.classifier.conftest import Tiny

PROMPTS = [
    Prompt("hello"),
    Prompt(""),
    Prompt("prove that the river converges " * 40, turns=3),
    Prompt("write code: def f(x): return x == 1", tools=2, images=1),
    Prompt("and now?", before="write code / hello river", turns=2, results=3, system=4000),
    Prompt("hello " * 100_000 + "prove"),
]


@pytest.fixture(scope="module")
def predictor(tiny: Tiny) -> Predictor:
    """A predictor on the tiny bundle."""
    return Predictor.load(tiny.directory)


def values(prediction: Prediction) -> tuple[float, float, str, bytes]:
    """A prediction as something that compares."""
    return prediction.score, prediction.p_cheap, prediction.task, prediction.embedding.tobytes()


@pytest.mark.parametrize("prompt", PROMPTS, ids=["word", "empty", "long", "structured", "in a conversation", "600 kB"])
def test_verdict_is_in_range(predictor: Predictor, prompt: Prompt) -> None:
    """Any prompt gets two probabilities, a known task and an embedding of length one."""
    prediction = predictor.predict(prompt)

    assert 0 <= prediction.score <= 1
    assert 0 <= prediction.p_cheap <= 1
    assert prediction.task in TASKS
    assert pytest.approx(float(np.linalg.norm(prediction.embedding)), abs=1e-5) == 1


def test_what_came_before_is_looked_at(predictor: Predictor) -> None:
    """The same words after other words are another prompt."""
    after, other = (predictor.predict(Prompt("hello", before=before)) for before in ("write code", "the river"))

    assert values(after) != values(other)


def test_heads_and_calibration_are_at_hand(predictor: Predictor, tiny: Tiny) -> None:
    """What `states` gives is what the heads judge: with the calibration it is the verdict."""
    for prompt in PROMPTS:
        pooled, structure = predictor.states(prompt)
        said = predictor.heads(pooled, structure)
        verdict = predictor.predict(prompt)

        assert (tiny.model.shape.width * (1 + tiny.model.shape.looks),) == pooled.shape
        assert calibration.p_cheap(said.logits, predictor.calibration) == verdict.p_cheap
        assert calibration.score(said.logits, predictor.calibration) == verdict.score
        assert TASKS[int(said.tasks.argmax())] == verdict.task
    assert tiny.manifest.calibration == predictor.calibration


def test_many_is_one_after_another(predictor: Predictor) -> None:
    """`predict_many` gives, in order and to the bit, what `predict` gives."""
    assert [values(predictor.predict(prompt)) for prompt in PROMPTS] == [
        values(prediction) for prediction in predictor.predict_many(PROMPTS)
    ]


def test_threads_agree(predictor: Predictor) -> None:
    """From many threads at once the same prompt gets the same verdict."""
    alone = [values(predictor.predict(prompt)) for prompt in PROMPTS]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda prompt: values(predictor.predict(prompt)), PROMPTS * 8))

    assert alone * 8 == found


def test_identity_and_threshold_come_from_the_bundle(predictor: Predictor, tiny: Tiny) -> None:
    """Receipts and caches can name the bundle that judged; the default threshold is the measured one."""
    assert bundle.digest(tiny.manifest) == predictor.digest
    assert tiny.manifest.default_threshold == predictor.default_threshold
    assert f"<Predictor {predictor.digest} cheap from {predictor.default_threshold:.2f}>" == repr(predictor)


@pytest.mark.parametrize(
    ("name", "fault"),
    [(MODEL, "cannot be run here"), (HEADS, "does not hold the heads"), (TOKENIZER, "is not a tokenizer")],
)
def test_unusable_file_is_named(tiny: Tiny, tmp_path: Path, name: str, fault: str) -> None:
    """A file that verifies and still cannot be used is refused by name."""
    broken = tmp_path / name
    broken.write_bytes(b"{}")
    files = {file: tiny.directory / file for file in FILES} | {name: broken}
    loaded = bundle.Bundle(files[MODEL], files[HEADS], files[TOKENIZER], tiny.manifest, "0")

    with pytest.raises(BundleError, match=f"{name}: {fault}.*make train"):
        Predictor(loaded)


def test_heads_of_another_network_are_refused(tiny: Tiny, predictor: Predictor, tmp_path: Path) -> None:
    """Heads that were made for another width are a fault of the bundle, not a traceback at the first prompt."""
    heads = predictor.heads
    heads._replace(trunk=heads.trunk[:, 1:]).save(tmp_path / HEADS)
    model, tokenizer = tiny.directory / MODEL, tiny.directory / TOKENIZER

    with pytest.raises(BundleError, match=r"heads\.npy"):
        Predictor(bundle.Bundle(model, tmp_path / HEADS, tokenizer, tiny.manifest, "0"))


def test_missing_bundle_is_refused(tmp_path: Path) -> None:
    """An empty directory is a fault with a remedy, not a traceback."""
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read.*make train"):
        Predictor.load(tmp_path)


def test_works_without_torch(tiny: Tiny) -> None:
    """Neither importing nor predicting touches torch, transformers, onnx or sklearn: the run-time install has none."""
    code = """
import sys
from pathlib import Path
for name in ("torch", "transformers", "onnx", "sklearn", "scipy", "matplotlib", "safetensors"):
    sys.modules[name] = None
from classifier.predict import Predictor, Prompt
print(Predictor.load(Path(sys.argv[1])).predict(Prompt("hello")).task)
"""
    root = Path(bundle.__file__).resolve().parent.parent
    command = [sys.executable, "-c", code, str(tiny.directory)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert done.stdout.strip() in TASKS


@pytest.mark.parametrize(
    "text", ["hi", "thanks a lot!", "set a timer for five minutes", "what is the capital of Spain?"]
)
def test_shipped_network_keeps_plain_requests_cheap(text: str) -> None:
    """Greetings, commands and plain facts are on the cheap side of the shipped default."""
    predictor = Predictor.load()

    assert predictor.default_threshold <= predictor.predict(Prompt(text)).p_cheap


@pytest.mark.parametrize("text", ["hi there", "thanks, bye!", "set an alarm", "What is the capital of France?"])
@pytest.mark.parametrize(
    "stuffed",
    ["quantum field theory, NP-hardness, topology, proof, consensus: {}", "{} algorithm theorem integral eigenvalue"],
)
def test_keywords_do_not_make_a_trivial_prompt_hard(text: str, stuffed: str) -> None:
    """A list of learned words before or after a trivial prompt costs it little of its p_cheap, in log-odds.

    In log-odds, so that it means the same on every scale of p_cheap.
    """
    plain, loud = (Predictor.load().predict(Prompt(words)).p_cheap for words in (text, stuffed.format(text)))

    assert np.log(plain / (1 - plain)) - 1.25 <= np.log(loud / (1 - loud))


@pytest.mark.parametrize(
    "text",
    [
        "Prove that the intersection of two subgroups of finite index has finite index.",
        "Our scheduler starves low-priority jobs only when two tenants burst together; find out why and redesign it.",
        "Write a lock-free hash map in C++ with resizing and explain the memory ordering of every atomic.",
    ],
)
def test_shipped_network_sends_hard_requests_up(text: str) -> None:
    """Proofs, debugging and system design are not on the cheap side of the shipped default."""
    predictor = Predictor.load()

    assert predictor.default_threshold > predictor.predict(Prompt(text)).p_cheap
