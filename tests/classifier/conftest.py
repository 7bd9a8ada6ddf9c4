"""A classifier small enough to train in a test: random weights, a tokenizer of letters, a handful of made-up rows.

The made-up data directory and own set have the format of the real ones and none of their texts.
"""

import gzip
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from classifier import bundle
from classifier.features import TASKS, Prompt
from classifier.training import base, dataset, fit, train
from classifier.training.dataset import Example
from classifier.training.model import Router, Shape

WORDS = ("the", "prove", "hello", "river", "write", "code", "that", "##ing")
EASY = ("hello river", "set the light", "thanks a lot", "hello again", "the river is blue")
HARD = ("prove that the river sum converges", "write a proof", "derive the closed form", "find the deadlock")


@dataclass(frozen=True)
class Tiny:
    """A trained tiny classifier and the bundle made of it."""

    model: Router
    tokenizer: Tokenizer
    directory: Path
    manifest: bundle.Manifest


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """So small a network gains nothing by a second thread, and on a busy machine it would wait for it all the time.

    Before every test, because the commands set the number themselves.
    """
    torch.set_num_threads(1)


def vocabulary() -> dict[str, int]:
    """Marks, letters, their continuations, a few words."""
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [*base.SPECIAL, *letters, *(f"##{letter}" for letter in letters), *WORDS]
    return {piece: index for index, piece in enumerate(pieces)}


def make_examples() -> list[Example]:
    """Made-up rows of two measured and two anchoring groups, enough of each to hold some out."""
    rng = random.Random(3)
    found = []
    for number in range(60):
        easy = number % 2 == 0
        text = f"{rng.choice(EASY if easy else HARD)} {number}"
        weak = 0.9 if easy else rng.random() / 2
        gain = 0.9 * (1 - weak)
        found.append(
            Example(
                "mmlu_pro" if number % 4 < 2 else "uiuc:gsm8k",
                Prompt(text),
                TASKS.index("math"),
                difficulty=1 - weak,
                gain=gain,
                need=gain,
                weak=weak,
                strong=0.9,
            )
        )
        found.append(Example("clinc150_intents", Prompt(f"{rng.choice(EASY)} and {number}"), need=0.03))
        found.append(Example("arena_hard_prompts", Prompt(f"{rng.choice(HARD)} and {number}")))
    return found


def own_rows() -> dict[str, list[dict[str, Any]]]:
    """A made-up own set: definite questions with answers, open chat in which every third row is a conversation."""
    rng = random.Random(5)
    definite, chat = [], []
    for number in range(100):
        easy = number % 2 == 0
        judged = {"fails": 0.1 if easy else 0.8, "rescue": 0.9, "lang": "en", "area": f"area {number % 7}"}
        text = f"{rng.choice(EASY if easy else HARD)} at {number}"
        shown = {"answer": "x", "task": "knowledge" if easy else "math", "skills": ["recall"] if easy else ["steps"]}
        definite.append({"id": f"d-{number}", "prompt": text, **judged, **shown})
        asked: dict[str, Any] = {"prompt": f"{text} please"}
        if number % 3 == 0:
            said = [["system", "be brief"], ["user", "hello"], ["assistant", "hi"], ["user", f"{text} now"]]
            asked = {"messages": said, "kind": "followup"}
        chat.append({"id": f"c-{number}", **asked, **judged, "task": "chat", "skills": ["context", "style"]})
    return {"definite.jsonl": definite, "chat.jsonl": chat}


def write_own(home: Path) -> Path:
    """Write the made-up own set, some of it read twice, in the real one's format."""
    rows = own_rows()
    rows["second.jsonl"] = [
        {"id": row["id"], "reader": "r", "fails": row["fails"] + 0.1, "rescue": row["rescue"], "task": row["task"]}
        for row in [*rows["definite.jsonl"][::5], *rows["chat.jsonl"][::5]]
    ]
    for name, lines in rows.items():
        (home / name).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return home


def make_tokenizer() -> Tokenizer:
    """A WordPiece tokenizer over letters and a few words."""
    made = Tokenizer(WordPiece(vocabulary(), unk_token="[UNK]"))
    made.normalizer = BertNormalizer(lowercase=True)
    made.pre_tokenizer = BertPreTokenizer()
    return made


def make_tiny(tokenizer: Tokenizer, examples: list[Example], out: Path) -> Tiny:
    """A tiny network trained for a few steps, and its bundle."""
    torch.manual_seed(0)
    shape = Shape(len(vocabulary()), layers=2, width=32, heads=4, inner=64, trunk=16)
    model = Router(shape)
    manifest = train.build(model, tokenizer, examples, fit.Knobs(steps=6, batch=8), out)
    return Tiny(model, tokenizer, out, manifest)


@pytest.fixture(scope="session")
def own_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the made-up own set."""
    return write_own(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="session")
def examples(own_directory: Path) -> list[Example]:
    """Made-up training rows, outcomes and our own set."""
    return make_examples() + dataset.load(None, own_directory)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A WordPiece tokenizer over letters and a few words."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny(tokenizer: Tokenizer, examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny network trained for a few steps, and its bundle."""
    return make_tiny(tokenizer, examples, tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def base_weights(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory like the base weights' package: BERT's names, random values."""
    home = tmp_path_factory.mktemp("base")
    width, inner, layers = 32, 64, 6
    config = {"hidden_size": width, "num_attention_heads": 4, "intermediate_size": inner}
    (home / "config.json").write_bytes(orjson.dumps(config))
    tokenizer.save(str(home / "tokenizer.json"))
    shapes = {
        "embeddings.word_embeddings.weight": (len(vocabulary()), width),
        "embeddings.position_embeddings.weight": (512, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    parts = {
        "attention.self.query": (width, width),
        "attention.self.key": (width, width),
        "attention.self.value": (width, width),
        "attention.output.dense": (width, width),
        "attention.output.LayerNorm": (width,),
        "intermediate.dense": (inner, width),
        "output.dense": (width, inner),
        "output.LayerNorm": (width,),
    }
    for layer in range(layers):
        for name, size in parts.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = size
            shapes[f"encoder.layer.{layer}.{name}.bias"] = size[:1]
    generator = torch.Generator().manual_seed(1)
    weights = {name: torch.randn(size, generator=generator) / 10 for name, size in shapes.items()}
    for name in shapes:
        if name.endswith("LayerNorm.weight"):
            weights[name] += 1  # as trained ones are: near nought, every text would have the same state
    save_file(weights, home / "model.safetensors")
    return home


@pytest.fixture(scope="session")
def data_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in the real one's format: every file, a few made-up rows each."""
    home = tmp_path_factory.mktemp("data")
    models = {"weak": ["small-a", "small-b"], "mid": ["middle"], "strong": ["large"]}
    measured = ("mmlu_pro", "zeroeval_crux", "zeroeval_math_l5", "llmrouter_uiuc", "further")
    (home / "tiers.json").write_bytes(orjson.dumps(dict.fromkeys(measured, models)))
    for source, row in _SOURCES.items():
        lines = [orjson.dumps(_row(source, number, row)) for number in range(30)]
        with gzip.open(home / f"{source}.jsonl.gz", "wb") as file:
            file.write(b"\n".join(lines))
    return home


_SOURCES: dict[str, dict[str, Any]] = {
    "mmlu_pro": {"prompt": "the river of {n} stones\nA. one\nB. two", "category": "physics", "measured": True},
    "zeroeval_crux": {
        "prompt": "Complete the line.\n\n[PYTHON]\ndef f(x):\n    return x + {n}\nassert f(1) == ??\n[/PYTHON]",
        "category": "code-reasoning",
        "measured": True,
    },
    "zeroeval_math_l5": {"prompt": "find ${n}$ stones", "category": "maths", "measured": True},
    "llmrouter_uiuc": {"prompt": "count stone {n} by hand", "category": "gsm8k", "measured": True},
    "math_levels": {"prompt": "add {n} stones", "category": "Algebra", "labels": {"level": 3}},
    "further": {"prompt": "paint {n} stones", "category": "art", "measured": True},
    "nobody_knows": {"prompt": "a boat with {n} sheep", "category": "sheep"},
    "arena_hard_prompts": {"prompt": "write a compiler in {n} steps", "category": "compilers"},
    "mtbench101_prompts": {
        "prompt": "tell me {n} tales",
        "category": "CR",
        "turns": ["tell me {n} tales", "now rhyme"],
    },
    "clinc150_intents": {"prompt": "set {n} alarms", "category": "alarm"},
}


def _row(source: str, number: int, row: dict[str, Any]) -> dict[str, Any]:
    """Make one row of a made-up source."""
    made = {"id": f"{source}/{number}", "source": source, "outcomes": {}, "labels": {}, **row}
    made["prompt"] = row["prompt"].replace("{n}", str(number))
    if row.get("measured"):
        made["outcomes"] = {"small-a": float(number % 3 == 0), "small-b": float(number % 5 == 0), "large": 1.0}
        # a share-alike row of the uiuc file is read, ranked and never trained on
        made["labels"] = {"share_alike": True} if source == "llmrouter_uiuc" and number % 4 == 0 else {}
    if source == "further":
        made["labels"] = {"task": "writing"}
    return made
