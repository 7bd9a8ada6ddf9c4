"""Every fault of a section in one reading: each with its path in the file, what was expected and a hint."""

from typing import Any

import msgspec
import pytest

from gateway.faults import ConfigError, Fault, Section, closest


class Colour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An inner struct with two required settings."""

    red: int
    green: int
    alpha: float = 1.0


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An item of a list."""

    when: Colour
    use: str


class Sheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section with everything a configuration nests."""

    title: str
    paper: Colour | None = None
    rules: list[Rule] = []
    words: list[str] = []
    dialect: str = "openai"

    def __post_init__(self) -> None:
        """Refuse one title, as a section's own check would."""
        if self.title == "none":
            raise ValueError("Expected a title")


RED = {"red": 1, "green": 2}
README = "see the configuration section of the README"
NO_DEFAULT = "it has no default; add it"


def read(value: Any) -> tuple[Any, list[Fault]]:
    """Read a section at `sheet`."""
    faults: list[Fault] = []
    return Section("sheet", value, Sheet, lambda kind, _: kind).read(faults), faults


def test_a_clean_section() -> None:
    """What is right is read, and no fault is told."""
    expected = Sheet("t", paper=Colour(1, 2), rules=[Rule(Colour(1, 2), "x")], words=["a"])
    value = {"title": "t", "paper": RED, "rules": [{"when": RED, "use": "x"}], "words": ["a"]}

    assert (expected, []) == read(value)


FAULTS: dict[str, tuple[Any, list[Fault]]] = {
    "not a mapping": (5, [Fault("sheet", "Expected `object`, got `int`", README)]),
    "nothing": (None, [Fault("sheet", "Expected `object`, got `null`", README)]),
    "missing": ({}, [Fault("sheet.title", "is missing", NO_DEFAULT)]),
    "missing inside, both": (
        {"title": "t", "paper": {}},
        [Fault("sheet.paper.red", "is missing", NO_DEFAULT), Fault("sheet.paper.green", "is missing", NO_DEFAULT)],
    ),
    "wrong": ({"title": 5}, [Fault("sheet.title", "Expected `str`, got `int`", README)]),
    "wrong in a list": (
        {"title": "t", "words": ["a", 1, "b", 2]},
        [Fault("sheet.words[1]", "Expected `str`, got `int`", README),
         Fault("sheet.words[3]", "Expected `str`, got `int`", README)],
    ),
    "unknown": ({"title": "t", "wrods": []}, [Fault("sheet.wrods", "is not a setting", "did you mean 'words'?")]),
    "unknown, like nothing": (
        {"title": "t", "zzz": 1},
        [Fault("sheet.zzz", "is not a setting", "known here: title, paper, rules, words, dialect")],
    ),
    "unknown in a struct that may be null": (
        {"title": "t", "paper": {**RED, "alhpa": 1}},
        [Fault("sheet.paper.alhpa", "is not a setting", "did you mean 'alpha'?")],
    ),
    "unknown in a struct in a list": (
        {"title": "t", "rules": [{"when": {**RED, "gren": 1}, "use": "x"}]},
        [Fault("sheet.rules[0].when.gren", "is not a setting", "did you mean 'green'?")],
    ),
    "a dialect we do not speak": (
        {"title": "t", "dialect": 5},
        [Fault("sheet.dialect", "expected `str`, got `int`",
               "use openai (which most providers have an endpoint for), anthropic or gemini")],
    ),
    "the section's own check": ({"title": "none"}, [Fault("sheet", "Expected a title", README)]),
    "a list item keeps its number when an earlier one is wrong": (
        {"title": "t", "rules": [5, {"when": RED, "use": "x"}, {"when": RED}, {"when": RED, "use": 1, "us": 1}]},
        [Fault("sheet.rules[0]", "Expected `object`, got `int`", README),
         Fault("sheet.rules[2].use", "is missing", NO_DEFAULT),
         Fault("sheet.rules[3].use", "Expected `str`, got `int`", README),
         Fault("sheet.rules[3].us", "is not a setting", "did you mean 'use'?")],
    ),
    "everything at once, a wrong setting not missing as well": (
        {"tilte": "t", "title": 1, "paper": {"red": "r", "gren": 2}, "words": 5},
        [Fault("sheet.tilte", "is not a setting", "did you mean 'title'?"),
         Fault("sheet.title", "Expected `str`, got `int`", README),
         Fault("sheet.paper.red", "Expected `int`, got `str`", README),
         Fault("sheet.paper.gren", "is not a setting", "did you mean 'green'?"),
         Fault("sheet.paper.green", "is missing", NO_DEFAULT),
         Fault("sheet.words", "Expected `array`, got `int`", README)],
    ),
    "a name with dots and brackets": (
        {"title": "t", "a.b[0]": 1},
        [Fault("sheet.a.b[0]", "is not a setting", "known here: title, paper, rules, words, dialect")],
    ),
    "a name that is no text": ({"title": "t", 1: 2}, [Fault("sheet", "Expected `str`", README)]),
}


@pytest.mark.parametrize(("value", "expected"), FAULTS.values(), ids=FAULTS)
def test_every_fault_with_its_path(value: Any, expected: list[Fault]) -> None:
    """All there is to mend is told in one reading, nothing twice, and what was read is not used."""
    result, faults = read(value)

    assert result is None
    assert sorted(expected) == sorted(faults)


@pytest.mark.parametrize("name", ["x` - at `$.y", "`", "$", " - at `$[9]", "a\nb"])
def test_the_strangest_name_is_only_a_fault(name: str) -> None:
    """A name that looks like the reader's own messages cannot make it raise or turn for ever."""
    result, faults = read({"title": "t", name: 1})

    assert result is None
    assert len(faults) == 1


def test_a_fault_in_words() -> None:
    """Path and problem on a line, the hint below it."""
    assert str(Fault("a.b", "is missing", "add it")) == "a.b: is missing\n    hint: add it"


def test_the_error_has_them_all() -> None:
    """The exception says every fault, and keeps them for whoever prints them."""
    faults = [Fault("a", "is wrong", "mend it"), Fault("b", "is missing", "add it")]
    error = ConfigError(faults)

    assert faults == error.faults
    assert str(error) == "a: is wrong\n    hint: mend it\nb: is missing\n    hint: add it"


@pytest.mark.parametrize(
    ("word", "hint"), [("modles", "did you mean 'models'?"), ("routs", "did you mean 'routes'?"), ("zzz", None)]
)
def test_closest(word: str, hint: str | None) -> None:
    """The nearest name is offered, none where none is near."""
    assert hint == closest(word, ["models", "routes"])
