"""What models take, by their names; other dialects' reasoning as thinking."""

from typing import Any

import pytest

from gateway.dialects.anthropic.thinking import Asking, Control, Thought, facts, write_thinking
from gateway.dialects.anthropic.wording import LOSSES
from gateway.dialects.neutral import Call, Choice, Losses, Reasoning, Result, Text, Thinking, Turn

OLD, BUDGET, EITHER, EFFORT, NEW, ALWAYS = (
    "claude-3-5-haiku-20241022", "claude-haiku-4-5-20251001", "claude-sonnet-4-6", "claude-opus-4-8", "claude-opus-5",
    "claude-fable-5-1",
)
HI = Turn("user", (Text("Hi"),))
CALLED = Turn("assistant", (Call("c", "f", "{}"),))
ANSWERED = Turn("user", (Result("c", (Text("1"),)),))


def written(
    model: str, reasoning: Reasoning | None, *turns: Turn, choice: Choice | None = None, most: int | None = None
) -> tuple[Thought, list[str]]:
    """Return what is written for a model, and what was lost."""
    losses = Losses("anthropic", LOSSES)
    thought = write_thinking(Asking(reasoning, choice, most, turns or (HI,)), facts(model), losses)
    return thought, list(losses.kept)


@pytest.mark.parametrize(
    ("model", "control", "sampling", "structured", "thinks", "always"),
    [
        ("claude-3-haiku-20240307", Control.NOTHING, True, False, False, False),
        ("claude-3-7-sonnet-20250219", Control.BUDGET, True, False, False, False),
        ("claude-opus-4-20250514", Control.BUDGET, True, False, False, False),
        ("claude-opus-4-1-20250805", Control.BUDGET, True, False, False, False),
        ("claude-haiku-4-5-20251001", Control.BUDGET, True, True, False, False),
        ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", Control.BUDGET, True, True, False, False),
        ("anthropic/claude-sonnet-4.6", Control.EITHER, True, True, False, False),
        ("claude-opus-4-8", Control.EFFORT, False, True, False, False),
        ("claude-sonnet-5", Control.EFFORT, False, True, True, False),
        ("claude-haiku-5-5", Control.EFFORT, False, True, True, False),
        ("claude-mythos-preview", Control.EFFORT, False, True, True, True),
        ("claude-fable-5-2", Control.EFFORT, False, True, True, True),
        ("claude-next", Control.EFFORT, False, True, True, False),
        ("kimi-k2.5", Control.BUDGET, True, False, False, False),
    ],
)
def test_what_a_model_takes(
    *, model: str, control: Control, sampling: bool, structured: bool, thinks: bool, always: bool
) -> None:
    """The name's version decides; a new name is a new model, another house's takes what all do."""
    found = facts(model)

    assert (found.control, found.sampling, found.structured, found.thinks, found.always) == (
        control, sampling, structured, thinks, always,
    )


@pytest.mark.parametrize(("model", "most"), [(OLD, 4_096), (BUDGET, 32_000), (NEW, 32_000), ("kimi-k2.5", 32_000)])
def test_a_limit_where_the_caller_set_none(model: str, most: int) -> None:
    """Anthropic wants a limit: it is what the model can write, and the caller's where there is one."""
    assert written(model, None) == (Thought(None, None, most), [])
    assert written(model, None, most=7) == (Thought(None, None, 7), [])


ADAPTIVE = {"type": "adaptive"}
WANTED: list[tuple[str, Reasoning, dict[str, Any] | None, str | None, list[str]]] = [
    # models that cannot, and those that take a budget
    (OLD, Reasoning("high"), None, None, ["reasoning"]),
    (OLD, Reasoning("none"), None, None, []),
    (BUDGET, Reasoning("minimal"), {"type": "enabled", "budget_tokens": 1_024}, None, []),
    (BUDGET, Reasoning("low"), {"type": "enabled", "budget_tokens": 2_048}, None, []),
    (BUDGET, Reasoning("high"), {"type": "enabled", "budget_tokens": 16_000}, None, []),
    (BUDGET, Reasoning("high", shown="auto"), {"type": "enabled", "budget_tokens": 16_000}, None, []),
    (BUDGET, Reasoning(budget=-1), {"type": "enabled", "budget_tokens": 8_192}, None, []),
    (BUDGET, Reasoning(budget=5_000), {"type": "enabled", "budget_tokens": 5_000}, None, []),
    (BUDGET, Reasoning(budget=128), {"type": "enabled", "budget_tokens": 1_024}, None, ["reasoning.budget"]),
    (BUDGET, Reasoning(budget=64_000), {"type": "enabled", "budget_tokens": 31_999}, None, ["reasoning.budget"]),
    (BUDGET, Reasoning(budget=0), None, None, []),
    (BUDGET, Reasoning("none"), None, None, []),
    (BUDGET, Reasoning(shown="auto"), None, None, []),
    # 4.6 takes both
    (EITHER, Reasoning("medium"), ADAPTIVE, "medium", []),
    (EITHER, Reasoning("xhigh"), ADAPTIVE, "high", ["reasoning.effort"]),
    (EITHER, Reasoning(budget=5_000), {"type": "enabled", "budget_tokens": 5_000}, None, []),
    (EITHER, Reasoning("none"), None, None, []),
    # and the later ones an effort
    (EFFORT, Reasoning("xhigh"), ADAPTIVE, "xhigh", []),
    (EFFORT, Reasoning("minimal"), ADAPTIVE, "low", ["reasoning.effort"]),
    (EFFORT, Reasoning("hardest"), ADAPTIVE, None, ["reasoning.effort"]),
    (EFFORT, Reasoning("high", shown="concise"), {**ADAPTIVE, "display": "summarized"}, "high", []),
    (EFFORT, Reasoning("high", shown="none"), {**ADAPTIVE, "display": "omitted"}, "high", []),
    (EFFORT, Reasoning(budget=-1), ADAPTIVE, None, []),
    (EFFORT, Reasoning("high", 1_024), ADAPTIVE, "high", ["reasoning.budget"]),
    (EFFORT, Reasoning(budget=1_024), ADAPTIVE, "low", ["reasoning.budget"]),
    (EFFORT, Reasoning(budget=8_000), ADAPTIVE, "medium", ["reasoning.budget"]),
    (EFFORT, Reasoning(budget=32_000), ADAPTIVE, "high", ["reasoning.budget"]),
    (EFFORT, Reasoning("none"), None, None, []),
    (NEW, Reasoning("none"), {"type": "disabled"}, None, []),
    (NEW, Reasoning(budget=0), {"type": "disabled"}, None, []),
    (ALWAYS, Reasoning("none"), None, "low", ["reasoning"]),
]


@pytest.mark.parametrize(("model", "reasoning", "thinking", "effort", "lost"), WANTED)
def test_what_comes_nearest(
    model: str, reasoning: Reasoning, thinking: dict[str, Any] | None, effort: str | None, lost: list[str]
) -> None:
    """Efforts and budgets are written in the way that a model takes; what is not said exactly is logged."""
    thought, losses = written(model, reasoning)

    assert (thought.thinking, thought.effort, losses) == (thinking, effort, lost)


@pytest.mark.parametrize(
    ("most", "budget"), [(64_000, 16_384), (10_000, 5_000), (2_048, 1_024), (2_047, None), (100, None)]
)
def test_a_budget_leaves_room_for_the_answer(most: int, budget: int | None) -> None:
    """The tokens of thinking count toward the caller's limit: at most half of it, and none where that is too little."""
    thought, lost = written(BUDGET, Reasoning("high"), most=most)

    assert thought.max_tokens == most
    assert thought.thinking == (None if budget is None else {"type": "enabled", "budget_tokens": budget})
    assert lost == ([] if budget else ["reasoning"])


@pytest.mark.parametrize("mode", ["any", "one"])
def test_no_thinking_beside_a_forced_call(mode: str) -> None:
    """Anthropic refuses both together: the call is what must be, so the thinking goes."""
    assert written(BUDGET, Reasoning("high"), choice=Choice(mode, "f"))[0].thinking is None
    assert written(EFFORT, Reasoning("high"), choice=Choice(mode, "f")) == (
        Thought(None, "high", 32_000), ["reasoning"],
    )


def test_no_thinking_in_the_midst_of_calls_without_any() -> None:
    """A model with a budget wants the thinking behind its open calls back; where there is none it must not begin."""
    thinking = Turn("assistant", (Thinking("anthropic", "Hm", "s"), Call("c", "f", "{}")))

    assert written(BUDGET, Reasoning("high"), HI, CALLED, ANSWERED) == (Thought(None, None, 32_000), ["reasoning"])
    assert written(BUDGET, Reasoning("high"), HI, thinking, ANSWERED)[1] == []
    assert written(BUDGET, Reasoning("high"), HI, CALLED, ANSWERED, CALLED, HI)[1] == []
    assert written(BUDGET, Reasoning("high"), ANSWERED)[1] == []
    assert written(EFFORT, Reasoning("high"), HI, CALLED, ANSWERED)[1] == []
