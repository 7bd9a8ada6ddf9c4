"""Rows to examples, and the augmentation that keeps format from teaching anything."""

import random
from pathlib import Path

import pytest

from classifier.features import TASKS
from classifier.training import dataset
from classifier.training.dataset import Example

OPTIONS = Example("mmlu_pro", "How far?\nA. one\nB. two")
CODE = Example("zeroeval_crux", "Complete it.\n\n[PYTHON]\nassert f(1) == ??\n[/PYTHON]")


@pytest.fixture(scope="module")
def loaded(data_directory: Path) -> list[Example]:
    """Everything in the made-up data directory, and the shipped anchors."""
    return dataset.load(data_directory)


def group(examples: list[Example], name: str) -> list[Example]:
    """The examples of one group."""
    return [example for example in examples if example.group == name]


def test_every_source_is_read(loaded: list[Example]) -> None:
    """Each file becomes a group, the ten tasks of the uiuc file groups of their own."""
    expected = {
        "mmlu_pro",
        "zeroeval_crux",
        "zeroeval_math_l5",
        "uiuc:gsm8k",
        "math_levels",
        "misguided_attention",
        "arena_hard_prompts",
        "mtbench101_prompts",
        "clinc150_intents",
        "anchors",
    }

    assert {example.group for example in loaded} == expected


def test_targets_are_tier_means(loaded: list[Example]) -> None:
    """w and s are means over the tier's models that have an outcome; p_cheap is 1 - s (1 - w)."""
    by_text = {example.text: example for example in loaded}
    both, one = by_text["find $0$ stones"], by_text["find $3$ stones"]

    assert (both.weak, both.strong, both.p_cheap) == (1.0, 1.0, 1.0)
    assert (one.weak, one.strong, one.p_cheap, one.gain) == (0.5, 1.0, 0.5, 0.5)


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


def test_anchors_are_well_formed() -> None:
    """Every shipped anchor has a level, a known task and a text, and no two are alike."""
    anchors = list(dataset.read_anchors(dataset.ANCHORS))

    assert len(anchors) >= 300
    assert len({example.text for example in anchors}) == len(anchors)
    assert {example.task for example in anchors} == set(range(len(TASKS)))
    assert all(example.p_cheap is not None and 0 < example.p_cheap < 1 for example in anchors)


def test_questions_shared_by_files_are_held_out_together() -> None:
    """Holding out goes by the text alone, whatever its file and spacing."""
    texts = [f"question {number}" for number in range(200)]
    one = [Example("a", text).held_out for text in texts]
    other = [Example("b", f"  {text.upper()}\n").held_out for text in texts]

    assert one == other
    assert 10 < sum(one) < 60


def test_options_and_wrappers_come_off_half_of_the_time() -> None:
    """Half of the readings have no options and no fixed instruction; the question is always there."""
    rng = random.Random(1)
    options = [dataset.unwrapped(OPTIONS, rng) for _ in range(400)]
    code = [dataset.unwrapped(CODE, rng) for _ in range(400)]

    assert all(text.startswith("How far?") for text in options)
    assert 140 < sum("A. one" in text for text in options) < 260
    assert all("assert f(1) == ??" in text for text in code)
    assert 140 < sum("Complete it." in text for text in code) < 260


def test_context_is_drawn_without_regard_to_the_target() -> None:
    """Turns, tools and images vary for every example, and a conversation is read at any of its turns."""
    rng = random.Random(2)
    talk = Example("mtbench101_prompts", "first", turns=("first", "second", "third"))
    readings = [dataset.augmented(talk, rng) for _ in range(300)]

    assert any("third" in prompt.text and prompt.turns == 3 for prompt in readings)
    assert any(prompt.tools for prompt in readings)
    assert any(prompt.images for prompt in readings)


def test_plain_shows_no_format() -> None:
    """The boards rank questions without options and code without its instruction."""
    assert dataset.plain(OPTIONS).text == "How far?"
    assert dataset.plain(CODE).text == "assert f(1) == ??"
    assert dataset.plain(Example("anchors", "hi")).text == "hi"


def test_composed_requests_carry_a_text() -> None:
    """A composed request wraps another prompt in an easy task, and says which."""
    carrier = Example("a", "prove that every river converges")
    made = dataset.composed([carrier], random.Random(0), 20)

    assert len(made) == 20
    assert all(carrier.text in example.text for example in made)
    assert {TASKS[example.task] for example in made} <= {"translation", "extraction", "writing"}
    assert max(len(example.text) for example in made) > 3 * len(carrier.text)


def test_families_leave_together(loaded: list[Example]) -> None:
    """Leaving out maths leaves out every file that shares its questions."""
    rest = {example.group for example in dataset.without_family(loaded, ("maths",))}

    assert rest == {example.group for example in loaded} - {"math_levels", "zeroeval_math_l5"}


def test_missing_file_raises(tmp_path: Path) -> None:
    """An incomplete data directory is an error that names the file."""
    with pytest.raises(OSError, match=r"tiers\.json"):
        dataset.load(tmp_path)
