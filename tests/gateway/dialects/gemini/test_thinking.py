"""How much a Gemini may think, in its own words and in others'."""

from typing import Any

import pytest

from gateway.dialects.gemini.thinking import BUDGETS, LEVELS, Control, control, read_thinking, write_thinking
from gateway.dialects.gemini.wording import LOSSES
from gateway.dialects.neutral import Losses, Reasoning
from gateway.errors import BadRequest


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("gemini-1.5-pro", Control.NOTHING), ("gemini-2.0-flash", Control.NOTHING), ("gemma-3-27b-it", Control.NOTHING),
        ("gemini-2.5-pro", Control.BUDGET), ("models/gemini-2.5-flash-lite", Control.BUDGET),
        ("gemini-3-pro-preview", Control.LEVEL), ("gemini-3.8-flash", Control.LEVEL), ("gemini-4-argon", Control.LEVEL),
        ("gemini-flash-latest", Control.LEVEL), ("mine", Control.LEVEL),
    ],
)
def test_what_a_model_takes(model: str, takes: Control) -> None:
    """Levels since 3, budgets in 2.5, nothing before; a name that says nothing is a new model's."""
    assert takes is control(model)


@pytest.mark.parametrize(
    ("config", "asked", "rest"),
    [
        ({"thinkingBudget": -1}, Reasoning(budget=-1), {}),
        ({"thinking_budget": 0, "include_thoughts": False}, Reasoning(budget=0, shown="none"), {}),
        ({"thinkingLevel": "low", "includeThoughts": True}, Reasoning("low", shown="auto"), {}),
        ({"thinkingLevel": "XHIGH", "newField": 1}, Reasoning("xhigh"), {"newField": 1}),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, None, {}),
        ({}, None, {}),
    ],
)
def test_reading(config: dict[str, Any], asked: Reasoning | None, rest: dict[str, Any]) -> None:
    """Budget, level and whether thoughts are shown are read; what is new is kept."""
    assert (asked, rest) == read_thinking(config, "c")


def test_a_level_that_is_none_is_refused() -> None:
    """The caller is told the levels that there are."""
    with pytest.raises(BadRequest, match="MINIMAL, LOW, MEDIUM, HIGH") as caught:
        read_thinking({"thinkingLevel": "LOTS"}, "c")

    assert caught.value.param == "c.thinkingLevel"


@pytest.mark.parametrize(
    ("model", "asked", "said", "lost"),
    [
        ("gemini-3-flash", Reasoning("low"), {"thinkingLevel": "LOW"}, []),
        ("gemini-3-flash", Reasoning("none"), {"thinkingLevel": "MINIMAL"}, ["reasoning.effort"]),
        ("gemini-3-pro", Reasoning("minimal"), {"thinkingLevel": "LOW"}, ["reasoning.effort"]),
        ("gemini-3-pro", Reasoning("max", shown="detailed"), {"thinkingLevel": "HIGH", "includeThoughts": True},
         ["reasoning.effort"]),
        ("gemini-3-pro", Reasoning("high", 500), {"thinkingLevel": "HIGH"}, ["reasoning.budget"]),
        ("gemini-3-pro", Reasoning(budget=2000), {"thinkingBudget": 2000}, []),
        ("gemini-2.5-flash", Reasoning("medium"), {"thinkingBudget": 8192}, []),
        ("gemini-2.5-flash", Reasoning("none", shown="none"), {"thinkingBudget": 0, "includeThoughts": False}, []),
        ("gemini-2.5-pro", Reasoning("none"), {"thinkingBudget": 128}, ["reasoning.effort"]),
        ("gemini-2.5-pro", Reasoning(budget=64_000), {"thinkingBudget": 32_768}, ["reasoning.budget"]),
        ("gemini-2.5-flash", Reasoning("low", 64_000), {"thinkingBudget": 24_576}, ["reasoning.budget"]),
        ("gemini-2.5-pro", Reasoning(budget=-1), {"thinkingBudget": -1}, []),
        ("gemini-2.5-pro", Reasoning(shown="auto"), {"includeThoughts": True}, []),
        ("gemini-2.5-pro", Reasoning("unheard of"), {}, []),
        ("gemini-2.0-flash", Reasoning("high"), {}, ["reasoning"]),
    ],
)
def test_writing(model: str, asked: Reasoning, said: dict[str, Any], lost: list[str]) -> None:
    """Each model gets what it takes, within its bounds, and what comes only near is booked as lost."""
    losses = Losses("gemini", LOSSES)

    assert said == write_thinking(asked, model, losses)
    assert lost == list(losses.kept)


def test_the_tables_know_every_effort() -> None:
    """No effort of the neutral conversation is forgotten in either table."""
    efforts = {"none", "minimal", "low", "medium", "high", "xhigh", "max"}

    assert efforts == set(LEVELS) == set(BUDGETS)
