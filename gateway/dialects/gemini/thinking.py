"""How much a Gemini may think: its own fields, and what the efforts of other dialects come to.

Gemini 2.5 takes a budget in tokens; later ones take a level, or a budget alone (both at once are an error); earlier
ones answer any of it with an error. The equivalents are Google's own, of its OpenAI-compatible endpoint
(ai.google.dev/gemini-api/docs/openai, "Thinking"); its table ends at high, so what lies above is written as high: a
level that a model does not know would cost the caller the answer.
"""

import re
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from gateway.dialects.gemini.fields import typed
from gateway.dialects.neutral import Losses, Reasoning
from gateway.errors import BadRequest

EFFORTS = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high", "XHIGH": "xhigh"}
LEVELS = {
    "none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH",
    "max": "HIGH",
}
BUDGETS = {
    "none": 0, "minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576, "xhigh": 24_576, "max": 24_576,
}
SHOWN = {True: "auto", False: "none"}
AS_IT_SEES_FIT = -1


class Control(Enum):
    """What a model lets a caller say about its thinking."""

    NOTHING = "nothing"
    BUDGET = "budget"
    LEVEL = "level"


class Bounds(NamedTuple):
    """What a budget must lie between."""

    least: int
    most: int


PRO, OTHER = Bounds(128, 32_768), Bounds(0, 24_576)     # a pro cannot be told not to think

_version = re.compile(r"gemini-(\d{1,3})(?:\.(\d{1,3}))?")


class _Thinking(msgspec.Struct, rename="camel"):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


def control(model: str) -> Control:
    """Return what a model takes, by its name. An unknown name is taken for that of a new model."""
    if "gemma" in model:
        return Control.NOTHING
    found = _version.search(model)
    version = (int(found[1]), int(found[2] or 0)) if found else (3, 0)
    if version >= (3, 0):
        return Control.LEVEL
    return Control.BUDGET if version >= (2, 5) else Control.NOTHING


def read_thinking(value: Any, path: str) -> tuple[Reasoning | None, dict[str, Any]]:
    """Return what a thinkingConfig asks for, and what else it says. Raises BadRequest."""
    known, rest = typed(_Thinking, value, path)
    level = (known.thinking_level or "THINKING_LEVEL_UNSPECIFIED").upper()
    if level not in EFFORTS and level != "THINKING_LEVEL_UNSPECIFIED":
        field = f"{path}.thinkingLevel"
        raise BadRequest(f"`{field}` is wrong: expected one of {', '.join(EFFORTS)}.", param=field)
    shown = None if known.include_thoughts is None else SHOWN[known.include_thoughts]
    asked = Reasoning(EFFORTS.get(level), known.thinking_budget, shown)
    return (None if asked == Reasoning() else asked), rest


def write_thinking(asked: Reasoning, model: str, losses: Losses) -> dict[str, Any]:
    """Return the thinkingConfig that comes nearest on this model."""
    takes = control(model)
    if takes is Control.NOTHING:
        losses.lose("reasoning")
        return {}
    pro = "pro" in model
    said: dict[str, Any] = {}
    if takes is Control.LEVEL and asked.effort in LEVELS:
        level = LEVELS[asked.effort]
        said["thinkingLevel"] = "LOW" if pro and level == "MINIMAL" else level
        if EFFORTS[said["thinkingLevel"]] != asked.effort:
            losses.lose("reasoning.effort")
        if asked.budget is not None:
            losses.lose("reasoning.budget")
    elif (budget := BUDGETS.get(asked.effort or "") if asked.budget is None else asked.budget) is not None:
        bounds = PRO if pro else OTHER
        said["thinkingBudget"] = budget if budget == AS_IT_SEES_FIT else min(max(budget, bounds.least), bounds.most)
        if said["thinkingBudget"] != budget:
            losses.lose("reasoning.effort" if asked.budget is None else "reasoning.budget")
    if asked.shown is not None:
        said["includeThoughts"] = asked.shown != "none"
    return said
