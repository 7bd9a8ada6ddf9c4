"""What a model of Anthropic's takes, by its name; how much it may think, from other dialects' words for it.

Models up to 4.5 think within a budget that is asked for; 4.6 and 4.7 began to decide for themselves ("adaptive") under
an effort, and from 4.7 on a budget is refused, as are the sampling fields. From 5 on they think unless told not to, and
Fable and Mythos always do. (platform.claude.com/docs, thinking, effort and the migration guide; read 2026-11.)
"""

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from gateway.dialects.anthropic.fields import DIALECT
from gateway.dialects.neutral import Call, Choice, Losses, Reasoning, Result, Thinking, Turn

# What a request may generate where its caller set no limit: Anthropic wants one. Every model since Claude 4 takes it.
DEFAULT_MAX_TOKENS = 32_000
DEFAULT_MAX_TOKENS_BEFORE_4 = 4_096

LEAST_BUDGET = 1_024
# An effort as tokens, for models that take a budget; Anthropic sees little gain above 32,000. And back.
BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 24_576, "max": 32_000}
EFFORT_OF_BUDGET = ((2_048, "low"), (8_192, "medium"))
EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
DISPLAYS = {"none": "omitted", "auto": "summarized", "concise": "summarized", "detailed": "summarized"}
FORCED = ("any", "one")
NEWEST = (99, 0)
UNKNOWN = (4, 0)        # another house's model behind this dialect: what all of them take

_version = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[.-](\d{1,2}))?(?!\d)")


class Control(Enum):
    """What a model lets a caller say about its thinking."""

    NOTHING = "nothing"
    BUDGET = "budget"
    EITHER = "either"
    EFFORT = "effort"


class Facts(NamedTuple):
    """What a model takes."""

    control: Control
    sampling: bool = True           # temperature, top_p, top_k
    one_of_both: bool = True        # temperature or top_p, not both
    structured: bool = True         # an output schema, strict tools
    thinks: bool = False            # unless it is told not to
    always: bool = False            # and cannot be told
    max_tokens: int = DEFAULT_MAX_TOKENS


class Thought(NamedTuple):
    """The request's fields about thinking, and the limit on tokens that goes with them."""

    thinking: dict[str, Any] | None
    effort: str | None
    max_tokens: int


def facts(model: str) -> Facts:
    """Return what a model takes. A Claude without a version is taken for a new one."""
    named = model.lower()
    found = _version.search(named)
    version = (int(found[1]), int(found[2] or 0)) if found else NEWEST if "claude" in named else UNKNOWN
    if version < (4, 0):
        control = Control.BUDGET if version >= (3, 7) else Control.NOTHING
        return Facts(control, one_of_both=False, structured=False, max_tokens=DEFAULT_MAX_TOKENS_BEFORE_4)
    if version < (4, 6):
        return Facts(Control.BUDGET, one_of_both=version >= (4, 1), structured=version >= (4, 5))
    if version < (4, 7):
        return Facts(Control.EITHER)
    always = "fable" in named or "mythos" in named
    return Facts(Control.EFFORT, sampling=False, thinks=version >= (5, 0), always=always)


class Asking(NamedTuple):
    """What in a request bears upon its thinking."""

    reasoning: Reasoning | None
    choice: Choice | None
    max_output: int | None
    turns: Sequence[Turn]


def write_thinking(asked: Asking, model: Facts, losses: Losses) -> Thought:
    """Return the fields that come nearest to what another dialect asks for."""
    most = model.max_tokens if asked.max_output is None else asked.max_output
    reasoning = asked.reasoning
    if reasoning is None or reasoning == Reasoning(shown=reasoning.shown):
        return Thought(None, None, most)
    if reasoning.budget == 0 or (reasoning.budget is None and reasoning.effort == "none"):
        return Thought(*_off(model, losses), most)
    if model.control is Control.NOTHING:
        losses.lose("reasoning")
        return Thought(None, None, most)
    if model.control is Control.BUDGET or (model.control is Control.EITHER and (reasoning.budget or 0) > 0):
        return Thought(_within_budget(asked, reasoning, most, losses), None, most)
    effort = _effort(reasoning, model, losses)
    if asked.choice is not None and asked.choice.mode in FORCED:
        losses.lose("reasoning")        # a call that is forced leaves no room for thinking
        return Thought(None, effort, most)
    display = {"display": DISPLAYS[reasoning.shown]} if reasoning.shown in DISPLAYS else {}
    return Thought({"type": "adaptive", **display}, effort, most)


def _off(model: Facts, losses: Losses) -> tuple[dict[str, Any] | None, str | None]:
    if model.always:
        losses.lose("reasoning")
        return None, "low"
    return ({"type": "disabled"} if model.thinks else None), None


def _effort(reasoning: Reasoning, model: Facts, losses: Losses) -> str | None:
    if (reasoning.budget or 0) > 0:
        losses.lose("reasoning.budget")
    if reasoning.effort is None and (reasoning.budget or 0) > 0:
        return next((effort for most, effort in EFFORT_OF_BUDGET if (reasoning.budget or 0) <= most), "high")
    effort = EFFORTS.get(reasoning.effort or "")
    if effort == "xhigh" and model.control is Control.EITHER:
        effort = "high"
    if effort != reasoning.effort:
        losses.lose("reasoning.effort")
    return effort


def _within_budget(asked: Asking, reasoning: Reasoning, most: int, losses: Losses) -> dict[str, Any] | None:
    """Return a budget, none where the answer would have no room beside it or thinking may not begin here."""
    wanted = reasoning.budget or 0
    if wanted > 0:
        budget = min(max(wanted, LEAST_BUDGET), most - 1)
        if budget != wanted:
            losses.lose("reasoning.budget")
    else:
        budget = min(BUDGETS.get(reasoning.effort or "", BUDGETS["medium"]), most // 2)
    forced = asked.choice is not None and asked.choice.mode in FORCED
    if budget < LEAST_BUDGET or forced or unthought(asked.turns):
        losses.lose("reasoning")
        return None
    return {"type": "enabled", "budget_tokens": budget}


def unthought(turns: Sequence[Turn]) -> bool:
    """Say whether results of calls that were made without thinking are about to be answered."""
    if not turns or not any(isinstance(part, Result) for part in turns[-1].parts):
        return False
    for turn in reversed(turns):
        if turn.role == "assistant" and any(isinstance(part, Call) for part in turn.parts):
            return not any(isinstance(part, Thinking) and part.dialect == DIALECT for part in turn.parts)
    return False
