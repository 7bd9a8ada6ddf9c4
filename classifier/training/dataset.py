"""Rows of the data directory → examples with targets, and what is done to them so that format teaches nothing.

An example's targets, each present or not:

    p_cheap     1 - s (1 - w): a cheap answer is as good unless the strong tier is right where the weak tier is wrong;
    w and s are the mean outcomes of a tier, because two models of one tier agree at r = .26-.49 only
    difficulty  1 - w, or a human's level; compared within its source only (fit.py gives every source an intercept)
    gain        s (1 - w), likewise
    task        one of features.TASKS, where the source fixes it

Sources without outcomes are anchors: everyday commands for the cheap end, hard requests of real users for the premium
end, and `data/anchors.tsv`, prompts written and judged for this project one by one. Their levels are judgement,
stated in `LEVELS`.

Rows marked share-alike are read for evaluation and never trained on.
"""

import gzip
import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from classifier.features import TASKS, Prompt

ANCHORS = Path(__file__).with_name("data") / "anchors.tsv"

# Share of a batch by group. By rows the exams would drown the rest; more than some 6 % of commands and "short" means
# "easy".
SHARES = {
    "mmlu_pro": 0.14,
    "zeroeval_crux": 0.09,
    "zeroeval_math_l5": 0.04,
    "math_levels": 0.08,
    "uiuc:math": 0.02,
    "uiuc:gsm8k": 0.05,
    "uiuc:mbpp": 0.06,
    "uiuc:mmlu": 0.04,
    "uiuc:openbook_qa": 0.03,
    "uiuc:commonsense_qa": 0.03,
    "uiuc:agentverse-logicgrid": 0.01,
    "misguided_attention": 0.01,
    "arena_hard_prompts": 0.12,
    "mtbench101_prompts": 0.06,
    "clinc150_intents": 0.06,
    "anchors": 0.13,
    "composed": 0.06,
}

# Judged chance that a cheap answer is as good, where nothing was measured.
LEVELS = {"clinc150_intents": 0.97, "arena_hard_prompts": 0.3, "misguided_attention": 0.5}
MATH_LEVELS = {1: 0.93, 2: 0.87, 3: 0.78, 4: 0.67, 5: 0.52}  # level 5 as measured in zeroeval_math_l5
# mt-bench-101's task types: chat follow-ups are easy, reasoning and maths less so.
MTBENCH = {"MR": (0.65, "math"), "GR": (0.7, "reasoning")}
_REWRITING = ("CR", "FR")  # an ordinary question first, "now as a list" after it: no one task fits every turn

# What is left out together: files that share questions, or a format.
FAMILIES = {
    "zeroeval_math_l5": "maths",
    "math_levels": "maths",
    "uiuc:math": "maths",
}

_UIUC_TASK = {
    "math": "math",
    "gsm8k": "math",
    "mbpp": "code",
    "openbook_qa": "knowledge",
    "commonsense_qa": "knowledge",
    "arc_challenge": "knowledge",
    "natural_qa": "knowledge",
    "agentverse-logicgrid": "reasoning",
}
_MMLU_TASK = {
    "math": "math",
    "physics": "reasoning",
    "chemistry": "reasoning",
    "engineering": "reasoning",
    "business": "reasoning",
    "biology": "knowledge",
    "psychology": "knowledge",
    "economics": "knowledge",
    "computer science": "knowledge",
}
_OPTIONS = re.compile(r"\nA\. .*\Z", re.DOTALL)
_CRUX = re.compile(r"\[PYTHON\]\n(.*)\n\[/PYTHON\]", re.DOTALL)
_FILLERS = ("Please help me with this: ", "Hi! ", "Question: ", "hey, quick one. ", "I need help.\n\n", "Q: ")
_ENDINGS = (" Thanks!", " Please be accurate.", "\n\nThank you in advance.", " Explain your answer.", " pls")


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and what is known of it."""

    group: str  # for balance and intercepts
    text: str
    task: int = -1  # index in TASKS; -1 unknown
    p_cheap: float | None = None
    difficulty: float | None = None
    gain: float | None = None
    weak: float | None = None  # tier means, for the boards
    strong: float | None = None
    turns: tuple[str, ...] = ()  # a conversation's user turns; the text is the first
    trainable: bool = True  # false: evaluation only (share-alike)

    @property
    def family(self) -> str:
        """What is left out together with this example."""
        return FAMILIES.get(self.group, self.group)

    @property
    def held_out(self) -> bool:
        """One in seven, by text, so that files that share a question agree."""
        plain = " ".join(self.text.lower().split())
        return hashlib.sha256(plain.encode()).digest()[0] % 7 == 0


def load(directory: Path, anchors: Path = ANCHORS) -> list[Example]:
    """Every usable example of `directory` and the anchors. Raises `OSError` when a file is missing."""
    tiers = orjson.loads((directory / "tiers.json").read_bytes())
    found: list[Example] = []
    for name, read in READERS.items():
        found += [example for row in rows(directory, name) if (example := read(row, tiers.get(name, {})))]
    return found + list(read_anchors(anchors))


def rows(directory: Path, name: str) -> list[dict[str, Any]]:
    """The rows of one gzipped JSON Lines file."""
    with gzip.open(directory / f"{name}.jsonl.gz") as lines:
        return [orjson.loads(line) for line in lines]


def read_anchors(path: Path) -> Iterator[Example]:
    """Lines of `p_cheap <tab> task <tab> prompt`, a newline in a prompt written as a backslash and an n."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            level, task, text = line.split("\t")
            yield Example("anchors", text.replace("\\n", "\n"), TASKS.index(task), p_cheap=float(level))


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
        row["prompt"],
        TASKS.index(task) if task else -1,
        p_cheap=1 - strong * (1 - weak),
        difficulty=1 - weak,
        gain=strong * (1 - weak),
        weak=weak,
        strong=strong,
        trainable=not row["labels"].get("share_alike", False),
    )


def _mmlu_pro(row: dict[str, Any], tiers: dict[str, list[str]]) -> Example | None:
    """Exam questions; the task goes by subject."""
    return _measured(row, tiers, "mmlu_pro", _MMLU_TASK.get(row["category"]))


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
    level = row["labels"]["level"]
    group, task = "math_levels", TASKS.index("math")
    return Example(group, row["prompt"], task, p_cheap=MATH_LEVELS[level], difficulty=(2 * level - 1) / 10)


def _misguided(row: dict[str, Any], _: dict[str, list[str]]) -> Example:
    """Trick questions: short, familiar and hard."""
    task, level = TASKS.index("reasoning"), LEVELS["misguided_attention"]
    return Example("misguided_attention", row["prompt"], task, p_cheap=level)


def _arena(row: dict[str, Any], _: dict[str, list[str]]) -> Example:
    """Hard requests of real chat users."""
    return Example("arena_hard_prompts", row["prompt"], p_cheap=LEVELS["arena_hard_prompts"])


def _mtbench(row: dict[str, Any], _: dict[str, list[str]]) -> Example:
    """Conversations; any of their user turns may be read."""
    level, task = MTBENCH.get(row["category"], (0.85, "chat"))
    known = -1 if row["category"] in _REWRITING else TASKS.index(task)
    return Example("mtbench101_prompts", row["prompt"], known, p_cheap=level, turns=tuple(row["turns"]))


def _clinc(row: dict[str, Any], _: dict[str, list[str]]) -> Example:
    """Everyday commands; out-of-scope rows are ordinary small questions of no known task."""
    task = -1 if row["category"] == "oos" else TASKS.index("command")
    return Example("clinc150_intents", row["prompt"], task, p_cheap=LEVELS["clinc150_intents"])


READERS: dict[str, Callable[[dict[str, Any], dict[str, list[str]]], Example | None]] = {
    "mmlu_pro": _mmlu_pro,
    "zeroeval_crux": _crux,
    "zeroeval_math_l5": _math_l5,
    "llmrouter_uiuc": _uiuc,
    "math_levels": _math_levels,
    "misguided_attention": _misguided,
    "arena_hard_prompts": _arena,
    "mtbench101_prompts": _mtbench,
    "clinc150_intents": _clinc,
}


def composed(examples: Sequence[Example], rng: random.Random, count: int) -> list[Example]:
    """Requests whose task is in the wrapper and not in the text: translate, extract or condense another prompt.

    They teach that a hard-looking text inside an easy request is easy, and so is a long one: a third carry several
    prompts in a row, as a pasted document would.
    """
    carriers = [example.text for example in examples if 20 < len(example.text) < 700]
    wrappers = (
        ("translation", 0.93, "Translate into {language}: {text}"),
        ("translation", 0.92, "How do you say this in {language}?\n\n{text}"),
        ("extraction", 0.9, "List the names and numbers that occur in this text:\n\n{text}"),
        ("extraction", 0.88, "{text}\n\nSummarise the text above in one sentence."),
        ("extraction", 0.87, "Summarise this article: {text}"),
        ("extraction", 0.87, "Give me the main points of the following in three bullets.\n\n{text}"),
        ("writing", 0.93, "Fix spelling and grammar, do not answer it: {text}"),
        ("writing", 0.9, "Rephrase this more politely: {text}"),
        ("extraction", 0.92, "Give this message a short title:\n{text}"),
        ("extraction", 0.9, "What language is this written in? {text}"),
    )
    languages = ("French", "Spanish", "German", "Italian", "Japanese", "Polish", "Dutch", "Turkish", "Arabic", "Hindi")
    made = []
    for _ in range(count):
        task, level, wrapper = rng.choice(wrappers)
        parts = rng.randint(3, 12) if rng.random() < 0.35 else 1
        carried = "\n\n".join(rng.choice(carriers) for _ in range(parts))
        text = wrapper.format(language=rng.choice(languages), text=carried)
        made.append(Example("composed", text, TASKS.index(task), p_cheap=level))
    return made


def augmented(example: Example, rng: random.Random) -> Prompt:
    """One reading of an example: options and wrappers off every other time, filler on, structure at random.

    Turns, tools and images are drawn without regard to the target: no outcome here was measured with them, so the
    network should learn to leave them alone (routes have rules for them).
    """
    text, turns = unwrapped(example, rng), 1
    if example.turns and rng.random() < 0.6:
        turns = rng.randrange(len(example.turns)) + 1
        text = example.turns[turns - 1]
    elif rng.random() < 0.25:
        turns = rng.randint(2, 9)
    if rng.random() < 0.15:
        text = rng.choice(_FILLERS) + text
    if rng.random() < 0.15:
        text += rng.choice(_ENDINGS)
    if rng.random() < 0.15:
        text = text.rstrip("?.! ")
    if rng.random() < 0.1:
        text = text.lower()
    tools = rng.randint(1, 12) if rng.random() < 0.08 else 0
    images = rng.randint(1, 3) if rng.random() < 0.04 else 0
    return Prompt(text, turns, tools, images)


def unwrapped(example: Example, rng: random.Random) -> str:
    """The text, its multiple-choice options or its fixed instruction removed half of the time."""
    if rng.random() < 0.5:
        return example.text
    if example.group == "mmlu_pro":
        return _OPTIONS.sub("", example.text)
    if example.group == "zeroeval_crux" and (code := _CRUX.search(example.text)):
        body = code[1]
        return rng.choice((body, f"```python\n{body}\n```\nWhat goes in place of ??", f"What is ?? here\n\n{body}"))
    return example.text


def plain(example: Example) -> Prompt:
    """An example as a stranger would send it: no options, no fixed instruction. What the boards rank."""
    if example.group == "mmlu_pro":
        return Prompt(_OPTIONS.sub("", example.text))
    if example.group == "zeroeval_crux" and (code := _CRUX.search(example.text)):
        return Prompt(code[1])
    return Prompt(example.text)


def without_family(examples: Sequence[Example], families: Sequence[str]) -> list[Example]:
    """What is left when whole families are left out."""
    return [example for example in examples if example.family not in families]
