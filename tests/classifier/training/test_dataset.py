"""Rows to examples, and the augmentation that keeps format from teaching anything."""

import random
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from classifier.features import TASKS, Prompt
from classifier.training import dataset
from classifier.training.dataset import Augment, Example
from classifier.training.labels import KINDS, SKILLS

OPTIONS = Example("mmlu_pro", Prompt("How far?\nA. one\nB. two"))
CODE = Example("zeroeval_crux", Prompt("Complete it.\n\n[PYTHON]\nassert f(1) == ??\n[/PYTHON]"))
TALK = Example("own:chat", Prompt("And in winter?", before="Is it warm? / Yes.", turns=3, results=1, system=40))


@pytest.fixture(scope="module")
def loaded(data_directory: Path, own_directory: Path) -> list[Example]:
    """Everything in the made-up data directory and the made-up own set."""
    return dataset.load(data_directory, own_directory)


def group(examples: list[Example], name: str) -> list[Example]:
    """The examples of one group."""
    return [example for example in examples if example.group == name]


def one(examples: list[Example], text: str) -> Example:
    """The example that asks this."""
    return next(example for example in examples if example.text == text)


def judged(directory: Path, row: dict[str, Any]) -> Example:
    """One row of an own set, read."""
    judged = {"id": "d-1", "fails": 0.8, "rescue": 0.5, "task": "code", "skills": ["trace", "debug"], "area": "trees"}
    (directory / "definite.jsonl").write_bytes(orjson.dumps(judged | {"lang": "en"} | row))
    for name in ("chat.jsonl", "second.jsonl"):
        (directory / name).write_bytes(b"")
    (example,) = dataset.load(None, directory)
    return example


def test_every_source_is_read(loaded: list[Example]) -> None:
    """Each file is a group, the tasks of the uiuc file and the categories of a further file groups of their own.

    A file that neither has tiers nor is known is left aside.
    """
    expected = {
        "own:definite",
        "own:chat",
        "mmlu_pro",
        "zeroeval_crux",
        "zeroeval_math_l5",
        "uiuc:gsm8k",
        "further:art",
        "math_levels",
        "arena_hard_prompts",
        "mtbench101_prompts",
        "clinc150_intents",
    }

    assert {example.group for example in loaded} == expected
    assert {example.task for example in group(loaded, "further:art")} == {TASKS.index("writing")}


def test_our_own_set_alone(own_directory: Path, loaded: list[Example]) -> None:
    """Without outcomes our own set is all there is; with them it is the same."""
    alone = dataset.load(None, own_directory)

    assert {example.group for example in alone} == {"own:definite", "own:chat"}
    assert all(example.own for example in alone)
    assert [example for example in loaded if example.own] == alone


def test_a_judged_prompt(tmp_path: Path) -> None:
    """Difficulty is the judged failure, gain and need the chance that cheap fails and premium does not."""
    example = judged(tmp_path, {"prompt": "find the cycle"})

    assert example.prompt == Prompt("find the cycle")
    assert (example.difficulty, example.gain, example.need) == (0.8, 0.4, 0.4)
    assert (example.task, example.kind) == (TASKS.index("code"), KINDS.index("first"))
    assert example.skills == {SKILLS.index("trace"), SKILLS.index("debug")}
    assert (example.group, example.area, example.trainable, example.weak) == ("own:definite", "trees", True, None)


def test_a_judged_conversation(tmp_path: Path) -> None:
    """It is read as the gateway reads one: the last user turn, what came before, what stands around."""
    said = [["system", "be kind"], ["user", "draw a tree"], ["assistant", "done"], ["user", "<a-b>1</a-b>mirror it"]]
    example = judged(tmp_path, {"messages": [*said, ["tool", "ok"]], "kind": "revise"})

    assert example.prompt == Prompt("mirror it", before="draw a tree / done", turns=2, results=1, system=7)
    assert example.kind == KINDS.index("revise")


def test_second_readings_are_heeded(own_directory: Path, tmp_path: Path) -> None:
    """The label of a row that was read twice lies between both readings; a task that a third reader decided is its."""
    home = Path(shutil.copytree(own_directory, tmp_path / "own"))
    plain = dataset.judged(home)[0]
    again = {"id": "d-0", "reader": "r", "fails": 0.9, "rescue": 0.9, "task": "math", "decided": "writing"}
    rest = [row for row in dataset.rows(home / dataset.SECOND) if row["id"] != "d-0"]
    (home / dataset.SECOND).write_bytes(b"\n".join(map(orjson.dumps, [again, *rest])))
    read = dataset.judged(home)[0]

    assert plain.difficulty is not None
    assert read.difficulty is not None
    assert plain.difficulty + 0.1 < read.difficulty < 0.9
    assert (plain.task, read.task) == (TASKS.index("knowledge"), TASKS.index("writing"))


@pytest.mark.parametrize("wrong", [{"task": "sport"}, {"skills": ["luck"]}, {"kind": "last"}])
def test_words_that_nobody_knows_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    """A task, skill or kind that is not the rubric's ends the reading."""
    with pytest.raises(ValueError, match="not in"):
        judged(tmp_path, {"prompt": "x"} | wrong)


def test_targets_are_tier_means(loaded: list[Example]) -> None:
    """w and s are means over the tier's models that have an outcome; gain is s (1 - w)."""
    both, half = one(loaded, "find $0$ stones"), one(loaded, "find $3$ stones")

    assert (both.weak, both.strong, both.difficulty, both.gain) == (1.0, 1.0, 0.0, 0.0)
    assert (half.weak, half.strong, half.difficulty, half.gain, half.need) == (0.5, 1.0, 0.5, 0.5, 0.5)


def test_unparsed_outcomes_are_dropped() -> None:
    """A model whose answer stated no option counts as missing, not as wrong; a tier without any drops the row."""
    row = {"prompt": "a", "category": "math", "outcomes": {"a": 0.0, "b": 1.0, "c": 1.0}}
    tiers = {"weak": ["a", "b"], "strong": ["c"]}
    read = dataset.READERS["mmlu_pro"]
    kept = read(row | {"labels": {"unparsed": ["a"]}}, tiers)

    assert kept is not None
    assert kept.weak == 1.0
    assert read(row | {"labels": {"unparsed": ["c"]}}, tiers) is None


def test_word_lists_are_not_used() -> None:
    """The uiuc file's commongen rows agree with nothing and are left out."""
    row = {"prompt": "a, b", "category": "commongen", "outcomes": {}, "labels": {}}

    assert dataset.READERS["llmrouter_uiuc"](row, {}) is None


def test_share_alike_is_never_trainable(loaded: list[Example]) -> None:
    """Rows under a share-alike licence are marked for evaluation only, and only those."""
    marked = [example for example in group(loaded, "uiuc:gsm8k") if not example.trainable]

    assert len(marked) == 8
    assert all(example.trainable for example in loaded if example.group != "uiuc:gsm8k")


def test_rows_without_outcomes(loaded: list[Example]) -> None:
    """Levels give a difficulty, commands a need that is nearly nothing, open prompts neither."""
    level, command, open_ = (
        group(loaded, name)[0] for name in ("math_levels", "clinc150_intents", "arena_hard_prompts")
    )

    assert (level.difficulty, level.gain, level.need) == (0.5, None, None)
    assert (command.difficulty, command.need, command.task) == (None, 0.03, TASKS.index("command"))
    assert (open_.difficulty, open_.gain, open_.need, open_.task) == (None, None, None, -1)


def test_questions_shared_by_files_are_held_out_together() -> None:
    """Holding out goes by the text alone, whatever its file and spacing, and so does what calibrates."""
    texts = [f"question {number}" for number in range(200)]
    one = [Example("a", Prompt(text)) for text in texts]
    other = [Example("own:b", Prompt(f"  {text.upper()}\n", turns=2)) for text in texts]

    assert [(e.held_out, e.calibrates) for e in one] == [(e.held_out, e.calibrates) for e in other]
    assert 10 < sum(example.held_out for example in one) < 60
    assert 3 < sum(example.held_out and example.calibrates for example in one) < 40


def test_options_and_wrappers_come_off_half_of_the_time() -> None:
    """Half of the readings have no options and no fixed instruction; the question is always there."""
    rng = random.Random(1)
    options = [dataset.unwrapped(OPTIONS, rng) for _ in range(400)]
    code = [dataset.unwrapped(CODE, rng) for _ in range(400)]

    assert all(text.startswith("How far?") for text in options)
    assert 140 < sum("A. one" in text for text in options) < 260
    assert all("assert f(1) == ??" in text for text in code)
    assert 140 < sum("Complete it." in text for text in code) < 260


@pytest.mark.parametrize("seed", range(3))
def test_what_stands_alone_gets_company_without_regard_to_the_target(seed: int) -> None:
    """Turns, tools, images, results and instructions vary for every prompt that stands alone."""
    plain, hard = (Example("own:definite", Prompt("prove it"), need=need) for need in (dataset.EASY, 1.0))
    augments = [Augment([plain, hard], random.Random(seed)) for _ in range(2)]
    prompts, others = ([augment(e) for _ in range(300)] for augment, e in zip(augments, (plain, hard), strict=True))

    assert prompts == others
    for name in ("turns", "tools", "images", "results", "system"):
        assert len({getattr(prompt, name) for prompt in prompts}) > 1
    assert all(bool(prompt.before) == (prompt.turns > 1) for prompt in prompts)
    assert all(prompt.tools for prompt in prompts if prompt.results)
    assert 0.6 < sum(prompt.turns == 1 for prompt in prompts) / 300 < 0.95


def test_easy_prompts_are_talked_up_more_often() -> None:
    """They are what somebody would talk up; what is said of them apart from their words is not different."""
    rows = [Example("own:definite", Prompt("prove it"), need=need) for need in (0.0, 1.0)]
    augment = Augment(rows, random.Random(1))
    easy, hard = ([augment(row).text for _ in range(600)] for row in rows)

    assert sum(text != "prove it" for text in easy) > 1.2 * sum(text != "prove it" for text in hard)
    assert 0.1 < sum(text == "prove it" for text in easy) / 600


def test_what_stands_around_a_conversation_stays() -> None:
    """A judged conversation keeps its own turns, results and instructions; only its words change form."""
    augment = Augment([TALK], random.Random(3))
    readings = [augment(TALK) for _ in range(100)]

    assert {dataset.said(prompt, "") for prompt in readings} == {dataset.said(TALK.prompt, "")}
    assert len({prompt.text for prompt in readings}) > 5


def test_most_readings_are_plain() -> None:
    """Phrases, case and slips come on often enough to be disregarded, and seldom enough to keep the prompt itself."""
    example = Example("own:definite", Prompt("which numbers below thirty have four divisors"))
    augment = Augment([example], random.Random(0))
    plain = sum(augment(example).text == example.text for _ in range(400)) / 400

    assert 0.4 < plain < 0.7


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (OPTIONS, "How far?"),
        (CODE, "assert f(1) == ??"),
        (Example("own:definite", Prompt("How far?\nA. one\nB. two\nC. three")), "How far?"),
        (Example("own:definite", Prompt("How far?\n(a) one\n(b) two\n(c) three\n(d) four")), "How far?"),
        (Example("own:definite", Prompt("Sort:\n- one\n- two\nby size")), "Sort:\n- one\n- two\nby size"),
        (Example("own:definite", Prompt("Pick\nA. one\nB. two")), "Pick\nA. one\nB. two"),
        (Example("uiuc:gsm8k", Prompt("How far?\nA. one\nB. two\nC. three")), "How far?\nA. one\nB. two\nC. three"),
        (Example("clinc150_intents", Prompt("hi")), "hi"),
    ],
    ids=["exam", "code", "own", "own in brackets", "a list within", "two are none", "another source", "a greeting"],
)
def test_bare_shows_no_format(example: Example, expected: str) -> None:
    """The boards rank questions without options and code without its instruction."""
    assert dataset.bare(example) == expected


def test_families_leave_together(loaded: list[Example]) -> None:
    """Leaving out maths leaves out every file that shares its questions."""
    rest = {example.group for example in dataset.without_family(loaded, ("maths",))}

    assert rest == {example.group for example in loaded} - {"math_levels", "zeroeval_math_l5"}


@pytest.mark.parametrize("name", ["tiers.json", "definite.jsonl", "chat.jsonl"])
def test_missing_file_raises(data_directory: Path, own_directory: Path, tmp_path: Path, name: str) -> None:
    """An incomplete directory, of outcomes or of our own set, is an error that names the file."""
    for home in (data_directory, own_directory):
        shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()

    with pytest.raises(OSError, match=name.replace(".", r"\.")):
        dataset.load(tmp_path, tmp_path)


def test_shipped_set_is_read() -> None:
    """What is shipped loads without outcomes: every row asks something and has its judgements."""
    examples = dataset.load(None)

    assert {example.group for example in examples} == {"own:definite", "own:chat"}
    assert [example for example in examples if not example.text.strip()] == []
    assert all(example.need is not None and 0 <= example.need <= (example.difficulty or 0) for example in examples)
    assert all(example.skills and example.task >= 0 and example.kind >= 0 for example in examples)
