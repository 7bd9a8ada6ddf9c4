"""How much a model may think, in the efforts that it takes, by its name.

Only OpenAI's own names tell: its older models refuse an effort, its reasoning models know more of them than other
servers do. (developers.openai.com/api/docs/guides/reasoning, read 2026-11.)
"""

import re
from typing import Any

from gateway.dialects.neutral import Losses, Reasoning

# Tokens up to which an effort thinks, where only a budget was given.
EFFORTS = ((2_048, "low"), (16_384, "medium"))
NEAREST = {"minimal": "low", "xhigh": "high", "max": "high"}        # for servers that know three efforts
THINKS = re.compile(r"(?:^|/)o\d|(?:^|[^a-z])gpt-[5-9]")           # OpenAI's reasoning models
PLAIN = re.compile(r"(?:^|[^a-z])(?:gpt-[34]|chatgpt-)")            # and those that refuse an effort
# What comes nearest to not thinking; the first that matches.
LEAST = ((re.compile(r"gpt-(?:5\.|[6-9])"), "none"), (re.compile("gpt-5"), "minimal"), (THINKS, "low"))

# What its reasoning models take in this one value alone (None: not at all), and which of it those take that can be
# told not to think, as they are unless an effort is given. (Guides "reasoning" and "latest model", read 2026-11.)
FIXED = {
    "temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": None, "stop": None,
}
FREE = frozenset({"temperature", "top_p", "logprobs"})
FREED = re.compile(r"gpt-5\.[1-5](?!.*(?:codex|pro))")


def reasons(model: str) -> bool:
    """Say whether a model is one of OpenAI's that reason."""
    return THINKS.search(model) is not None


def write_reasoning(asked: Reasoning, model: str, losses: Losses, *, own: bool) -> dict[str, Any]:
    """Return the request's fields about thinking; what came in this dialect goes out as it came."""
    if own:
        more = {"max_tokens": asked.budget, "exclude": True if asked.shown == "none" else None}
        kept = {name: value for name, value in more.items() if value is not None}
        effort = {} if asked.effort is None else {"reasoning_effort": asked.effort}
        return {**effort, "reasoning": kept} if kept else effort
    if asked.shown not in (None, "none"):
        losses.lose("reasoning.shown")
    taken = _effort(asked, model, losses)
    return {} if taken is None else {"reasoning_effort": taken}


def _effort(asked: Reasoning, model: str, losses: Losses) -> str | None:
    """Return the effort that a model takes, None where there is nothing to say."""
    if PLAIN.search(model):
        if asked.effort not in (None, "none") or asked.budget not in (None, 0):     # these it does as it is
            losses.lose("reasoning")
        return None
    if asked.effort is not None:
        if asked.budget not in (None, -1):
            losses.lose("reasoning.budget")
        effort = asked.effort if reasons(model) else NEAREST.get(asked.effort, asked.effort)
        if effort != asked.effort:
            losses.lose("reasoning.effort")
        return effort
    if asked.budget is None or asked.budget < 0:
        return None
    losses.lose("reasoning.budget")
    if asked.budget == 0:
        return next((least for named, least in LEAST if named.search(model)), "none")
    return next((effort for most, effort in EFFORTS if asked.budget <= most), "high")


def takeable(settings: dict[str, Any], effort: str | None, model: str, losses: Losses) -> dict[str, Any]:
    """Return the settings that a model takes: one that reasons refuses most sampling, and stop sequences."""
    if not reasons(model) or "-chat" in model:
        return settings
    free = FREE if FREED.search(model) and effort in (None, "none") else frozenset()
    lost = {name for name in settings if name in FIXED and name not in free and settings[name] != FIXED[name]}
    for name in sorted(lost):
        losses.lose(name)
    return {name: value for name, value in settings.items() if name not in lost}
