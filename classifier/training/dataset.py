"""Files of prompts → examples with targets, and what is done to them so that format teaches nothing.

Two kinds of files, described in `data/README.md`: *outcomes*, a directory in which every row says how many models did
on it, and *our own set*, prompts written and judged for this project. An example's targets, each present or not:

    difficulty  1 - w: the chance that a cheap model fails; w and s are the mean outcomes of a tier, because two models
                of one tier agree at r = .26-.49 only; in our own set the judged chance, on the scale of measured ones
    gain        s (1 - w): cheap fails and premium does not
    need        1 - p_cheap. The same number as gain, but on one scale for all sources
    task, skills, kind    what is asked for, what it takes, what sort of turn it is

Outcomes of different files are not on one scale (fit.py gives every source an intercept of its own), our own set is;
everyday commands to an assistant are anchors of its cheap end.
Rows marked share-alike are read for evaluation and never trained on.
"""

import gzip
import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from classifier.conversation import Message, read
from classifier.features import TASKS, Prompt
from classifier.training import perturb, readers
from classifier.training.labels import KINDS, SKILLS

OWN = Path(__file__).with_name("data")
OWN_FILES = ("definite.jsonl", "chat.jsonl")
SECOND = "second.jsonl"
MEASURED = "measured.jsonl"
SCALE = "scale.json"

# Share of a batch by group, relative to each other. By rows the exams would drown the rest; too many short commands,
# and "short" means "easy". Twice as much of the outcome files costs .01 of AUC on held-out rows of our own set and
# orders other sources no better (2026-11).
SHARES = {
    "own:definite": 1.0,
    "own:chat": 0.45,
    "mmlu_pro": 0.05,
    "zeroeval_crux": 0.03,
    "zeroeval_math_l5": 0.015,
    "math_levels": 0.02,
    "uiuc:math": 0.01,
    "uiuc:gsm8k": 0.02,
    "uiuc:mbpp": 0.02,
    "uiuc:mmlu": 0.015,
    "uiuc:openbook_qa": 0.01,
    "uiuc:commonsense_qa": 0.01,
    "arena_hard_prompts": 0.015,
    "mtbench101_prompts": 0.015,
    "clinc150_intents": 0.03,
}
OTHER_SHARE = 0.02  # of a group that is not named above
EASY, HARD = 0.2, 0.6  # need: talked up the more often below, lends the words for it above

# What is left out together: files that share questions.
FAMILIES = {"zeroeval_math_l5": "maths", "math_levels": "maths", "uiuc:math": "maths"}

_UIUC_TASK = {
    "math": "math",
    "gsm8k": "math",
    "mbpp": "code",
    "openbook_qa": "knowledge",
    "commonsense_qa": "reasoning",
    "arc_challenge": "knowledge",
    "natural_qa": "knowledge",
    "agentverse-logicgrid": "reasoning",
}
_OPTIONS = re.compile(r"\nA\. .*\Z", re.DOTALL)
_CHOICES = re.compile(r"(?:\n[ \t]*(?:\(?[A-Fa-f1-6][.):]|[-*•]|\([A-Fa-f1-6]\))[ \t]+[^\n]+){3,6}[ \t]*\Z")
_LONG_WORD = re.compile(r"\b[a-z]{8,}\b")
_CRUX = re.compile(r"\[PYTHON\]\n(.*)\n\[/PYTHON\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and what is known of it."""

    group: str  # for balance and intercepts
    prompt: Prompt
    task: int = -1  # index in TASKS; -1 unknown
    kind: int = -1  # index in labels.KINDS
    skills: frozenset[int] = field(default=frozenset())  # indices in labels.SKILLS; empty: unknown
    difficulty: float | None = None
    gain: float | None = None
    need: float | None = None
    weak: float | None = None  # tier means, for the boards
    strong: float | None = None
    trainable: bool = True  # false: evaluation only (share-alike)
    area: str = ""
    lang: str = ""
    name: tuple[str, str] = ("", "")  # of an outcome file's row: the file and its id there

    @property
    def text(self) -> str:
        """What is asked."""
        return self.prompt.text

    @property
    def family(self) -> str:
        """What is left out together with this example."""
        return FAMILIES.get(self.group, self.group)

    @property
    def own(self) -> bool:
        """Whether it is of our own set."""
        return self.group.startswith("own:")

    @property
    def anchor(self) -> bool:
        """Whether it is known to be cheap without any outcome: it counts on the scale of our own set."""
        return self.group == "clinc150_intents"

    @property
    def held_out(self) -> bool:
        """One in five, by text, so that files that share a question agree."""
        return self._drawn(0) % 5 == 0

    @property
    def calibrates(self) -> bool:
        """Half of what is held out fits the calibration; the other half measures it."""
        return self._drawn(1) % 2 == 0

    def _drawn(self, place: int) -> int:
        """A number from 0 to 255 that depends on the text only."""
        plain = " ".join(self.text.lower().split())
        return hashlib.sha256(plain.encode("utf-8", "replace")).digest()[place]


def load(outcomes: Path | None, own: Path = OWN) -> list[Example]:
    """Every usable example of our own set and, if there is one, of a directory of outcomes. Raises `OSError`."""
    found = judged(own)
    if outcomes is not None:
        tiers = orjson.loads((outcomes / "tiers.json").read_bytes())
        present = {path.name.removesuffix(".jsonl.gz") for path in outcomes.glob("*.jsonl.gz")}
        for name in sorted(present & (tiers.keys() | READERS.keys())):
            reader = READERS.get(name, _generic)
            for row in rows(outcomes / f"{name}.jsonl.gz"):
                if example := reader(row, tiers.get(name, {})):
                    found.append(replace(example, name=(name, row["id"])))
    return found


def judged(own: Path) -> list[Example]:
    """Every row of our own set in the order of its files, labels on the measured scale (readers.py).

    Raises `OSError`.
    """
    parts = [(name, row) for name in OWN_FILES for row in rows(own / name)]
    plain, second = [row for _, row in parts], readings(own, SECOND)
    levels = readers.on_one_scale(plain, second, readings(own, MEASURED))
    labels = readers.agreed(levels, plain, readers.read_scale(own / SCALE))
    decided = {row["id"]: row["decided"] for row in second if "decided" in row}
    return [
        _judged({**row, "task": decided.get(row["id"], row["task"])}, name, *label)
        for (name, row), label in zip(parts, labels, strict=True)
    ]


def readings(own: Path, name: str) -> list[dict[str, Any]]:
    """Readings beside the first ones; none without the file."""
    return rows(own / name) if (own / name).exists() else []


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of one JSON Lines file, gzipped if its name says so."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        return [orjson.loads(line) for line in lines]


def _judged(row: dict[str, Any], file: str, fails: float, rescue: float) -> Example:
    """A row of our own set."""
    messages = [Message(*pair) for pair in row["messages"]] if "messages" in row else [Message("user", row["prompt"])]
    gain = fails * rescue
    return Example(
        f"own:{file.removesuffix('.jsonl')}",
        read(messages),
        TASKS.index(row["task"]),
        KINDS.index(row.get("kind", "first")),
        frozenset(map(SKILLS.index, row["skills"])),
        difficulty=fails,
        gain=gain,
        need=gain,
        area=row["area"],
        lang=row["lang"],
    )


def _measured(row: dict[str, Any], tiers: dict[str, list[str]], group: str, task: str | None) -> Example | None:
    """Make an example of a row with outcomes; none where a tier has none left."""
    skip = set(row["labels"].get("unparsed", []))
    means = {}
    for tier in ("weak", "strong"):
        seen = [row["outcomes"][m] for m in tiers[tier] if m in row["outcomes"] and m not in skip]
        if not seen:
            return None
        means[tier] = sum(seen) / len(seen)
    weak, strong = means["weak"], means["strong"]
    return Example(
        group,
        read([Message("user", row["prompt"])]),
        TASKS.index(task) if task else -1,
        difficulty=1 - weak,
        gain=strong * (1 - weak),
        need=strong * (1 - weak),
        weak=weak,
        strong=strong,
        trainable=not row["labels"].get("share_alike", False),
    )


def _generic(row: dict[str, Any], tiers: dict[str, list[str]]) -> Example | None:
    """A further file of outcomes; its categories are groups."""
    task = row["labels"].get("task")
    category = row.get("category")
    return _measured(row, tiers, f"{row['source']}:{category}" if category else row["source"], task)


def _mmlu_pro(row: dict[str, Any], tiers: dict[str, list[str]]) -> Example | None:
    """Exam questions."""
    return _measured(row, tiers, "mmlu_pro", None)


def _crux(row: dict[str, Any], tiers: dict[str, list[str]]) -> Example | None:
    """What does this function return."""
    return _measured(row, tiers, "zeroeval_crux", "code")


def _math_l5(row: dict[str, Any], tiers: dict[str, list[str]]) -> Example | None:
    """Competition maths of the hardest level."""
    return _measured(row, tiers, "zeroeval_math_l5", "math")


def _uiuc(row: dict[str, Any], tiers: dict[str, list[str]]) -> Example | None:
    """Ten tasks, a group each, so that each has its own scale."""
    category = row["category"]
    if category == "commongen":  # bare word lists; the models agree no better than chance on them
        return None
    return _measured(row, tiers, f"uiuc:{category}", _UIUC_TASK.get(category))


def _math_levels(row: dict[str, Any], _: dict[str, list[str]]) -> Example:
    """Competition maths with a human's level and no outcome."""
    prompt = read([Message("user", row["prompt"])])
    return Example("math_levels", prompt, TASKS.index("math"), difficulty=(2 * row["labels"]["level"] - 1) / 10)


def _unlabelled(row: dict[str, Any], _: dict[str, list[str]]) -> Example:
    """Real prompts without an outcome: they keep the embedding honest."""
    return Example(row["source"], read([Message("user", row["prompt"])]))


def _clinc(row: dict[str, Any], _: dict[str, list[str]]) -> Example:
    """Everyday commands; out-of-scope rows are ordinary small questions of no known task."""
    task = -1 if row["category"] == "oos" else TASKS.index("command")
    return Example("clinc150_intents", read([Message("user", row["prompt"])]), task, need=0.03)


READERS: dict[str, Callable[[dict[str, Any], dict[str, list[str]]], Example | None]] = {
    "mmlu_pro": _mmlu_pro,
    "zeroeval_crux": _crux,
    "zeroeval_math_l5": _math_l5,
    "llmrouter_uiuc": _uiuc,
    "math_levels": _math_levels,
    "arena_hard_prompts": _unlabelled,
    "mtbench101_prompts": _unlabelled,
    "clinc150_intents": _clinc,
}


class Augment:
    """Readings of examples as other people would have sent them: the target stays, the form does not.

    Options and fixed instructions come off every other time. Then half of the readings stay as they are; the others get
    phrases, case and slips, and turns, tools and instructions at random where a prompt stands alone, because no outcome
    here was measured with them. Easy prompts are changed and talked up more often: that is where it pays to try.
    """

    def __init__(self, examples: Sequence[Example], rng: random.Random) -> None:
        """`examples` lend their beginnings as what came before, the hard ones of them words that sound hard."""
        self._rng = rng
        self._changes = list(perturb.changes(held_out=False).values())
        self._openings = [example.text[:200] for example in examples]
        hard = [example.text[:400] for example in examples if example.own and (example.need or 0) > HARD]
        self._hard_words = sorted({word for text in hard for word in _LONG_WORD.findall(text)}) or ["theorem"]

    def __call__(self, example: Example) -> Prompt:
        """One reading of an example."""
        rng, prompt = self._rng, example.prompt
        text = unwrapped(example, rng)
        easy = example.need is not None and example.need < EASY
        if rng.random() < (0.3 if easy else 0.5):
            return said(prompt, text)
        for chance in (0.9, 0.3):
            if rng.random() < chance:
                text = rng.choice(self._changes)(text, rng)
        if rng.random() < (0.6 if easy else 0.4):
            text = self._stuffed(text)
        if prompt.turns > 1 or prompt.system or prompt.results:
            return said(prompt, text)
        later = rng.random() < 0.2
        tools = rng.randint(1, 12) if rng.random() < 0.08 else 0
        return Prompt(
            text,
            before=rng.choice(self._openings) if later else "",
            turns=rng.randint(2, 9) if later else 1,
            tools=tools,
            images=rng.randint(1, 3) if rng.random() < 0.04 else 0,
            results=rng.randint(1, 6) if tools and rng.random() < 0.3 else 0,
            system=rng.randint(20, 6000) if rng.random() < 0.2 else 0,
        )

    def _stuffed(self, text: str) -> str:
        """A text with words of other prompts before or after it: words alone say nothing of how hard it is.

        A few of another's beginning, or long ones of hard prompts, listed as by one who wants a better model.
        """
        rng = self._rng
        if rng.random() < 0.5:
            words = rng.choice(self._openings).split()
            few = " ".join(rng.sample(words, min(len(words), rng.randint(2, 10))))
        else:
            few = rng.choice((", ", " ", " and ")).join(rng.choices(self._hard_words, k=rng.randint(3, 10)))
        return f"{few}{rng.choice('.:!')} {text}" if rng.random() < 0.6 else f"{text} {few}"


def said(prompt: Prompt, text: str) -> Prompt:
    """The same prompt in other words."""
    return replace(prompt, text=text)


def unwrapped(example: Example, rng: random.Random) -> str:
    """The text, its multiple-choice options or its fixed instruction removed half of the time."""
    text = example.text
    if rng.random() < 0.5:
        return text
    if example.group == "zeroeval_crux" and (code := _CRUX.search(text)):
        body = code[1]
        return rng.choice((body, f"```python\n{body}\n```\nWhat goes in place of ??", f"What is ?? here\n\n{body}"))
    return bare(example)


def bare(example: Example) -> str:
    """An example as a stranger would send it: no options, no fixed instruction."""
    if example.group == "mmlu_pro":
        return _OPTIONS.sub("", example.text)
    if example.group == "zeroeval_crux" and (code := _CRUX.search(example.text)):
        return code[1]
    return _CHOICES.sub("", example.text) if example.own else example.text


def without_family(examples: Sequence[Example], families: Sequence[str]) -> list[Example]:
    """What is left when whole families are left out."""
    return [example for example in examples if example.family not in families]
