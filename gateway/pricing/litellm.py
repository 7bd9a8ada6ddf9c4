"""LiteLLM's public price file, read as a price list. Its format: dollars a token, each number a field with a long name.

What cannot be told from it is left out and said: models that are paid by the image, second or request, and those that
it has at 0, which may mean that nobody knows. A cost that is not known is better than one that is wrong.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from gateway.pricing.price import NO_TIERS, Above, Price, Tier, Tiers
from gateway.pricing.table import Facts, PriceList

PARTS = {
    "input_cost_per_token": "input", "output_cost_per_token": "output", "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h", "cache_creation_input_token_cost": "cache_write",
    "output_cost_per_reasoning_token": "reasoning", "input_cost_per_image_token": "image_input",
    "input_cost_per_audio_token": "audio_input", "output_cost_per_image_token": "image_output",
    "output_cost_per_audio_token": "audio_output",
}
TIERS = {"batches": "batch", "flex": "flex", "priority": "priority"}
SILENT = ("embedding", "rerank", "moderation")          # modes that answer without tokens
FEES = ("input_cost_per_request", "input_cost_per_query")
NO_PROMPT = "no price per token"
NO_ANSWER = "no price of the answer"
AT_ZERO = "a price of 0, which may mean that it is not known"
FEE = "a fee for each request besides"
NO_NUMBER = "a price that is none"

_FIELD = re.compile(rf"({'|'.join(PARTS)})(?:_above_(\d+)k_tokens)?(?:_({'|'.join(TIERS)}))?")

Numbers = dict[str, float]


class Read(NamedTuple):
    """What was read, and what was left out: the names by why."""

    prices: PriceList
    left_out: dict[str, list[str]]


class LeftOut(Exception):
    """Why a model is not taken."""


def read(data: bytes, source: str, as_of: str) -> Read:
    """Read the file. Raises ValueError when it is none of LiteLLM's."""
    tree = msgspec.json.decode(data)
    if not isinstance(tree, dict) or not any(_is_model(name, said) for name, said in tree.items()):
        raise ValueError("it has no model with a `litellm_provider`")
    models: dict[str, Facts] = {}
    left_out: dict[str, list[str]] = {}
    for name, said in tree.items():
        if _is_model(name, said):
            try:
                models[name] = _facts(_resolved(said, tree), as_of)
            except LeftOut as why:
                left_out.setdefault(str(why), []).append(name)
    return Read(PriceList(as_of, source, models), left_out)


def _is_model(name: str, said: Any) -> bool:
    return name != "sample_spec" and isinstance(said, dict) and ("litellm_provider" in said or "alias_of" in said)


def _resolved(said: dict[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of the model that an entry is another name of."""
    other = said.get("alias_of")
    target = tree.get(other) if isinstance(other, str) else None
    return {**target, **said} if isinstance(target, dict) else said


def _facts(said: Mapping[str, Any], as_of: str) -> Facts:
    """Return what is said of a model. Raises LeftOut."""
    provider, page = said.get("litellm_provider"), said.get("source")
    return Facts(
        price=_price(said), context=_tokens(said.get("max_input_tokens")),
        max_output=_tokens(said.get("max_output_tokens")), provider=provider if isinstance(provider, str) else "",
        source=page if isinstance(page, str) else "", as_of=as_of,
    )


def _price(said: Mapping[str, Any]) -> Price:
    if any(said.get(name) for name in FEES):
        raise LeftOut(FEE)
    numbers = _numbers(said)
    usual = numbers.pop((0, ""), {})
    if "input" not in usual:
        raise LeftOut(NO_PROMPT)
    if "output" not in usual and said.get("mode") not in SILENT:
        raise LeftOut(NO_ANSWER)
    usual = {"output": 0.0, **usual}
    if not usual["input"] and not usual["output"]:
        raise LeftOut(AT_ZERO)
    try:
        return Price(
            **_own(usual), **_search(said.get("search_context_cost_per_query")), above=_above(numbers, ""),
            tiers=_tiers(usual, numbers, said),
        )
    except ValueError:
        raise LeftOut(NO_NUMBER) from None


def _numbers(said: Mapping[str, Any]) -> dict[tuple[int, str], Numbers]:
    """Return dollars per million tokens by part, for each length of the prompt and each tier."""
    found: dict[tuple[int, str], Numbers] = {}
    for at, fields in (*_ranges(said), (0, said)):
        for field, value in fields.items():
            if value is not None and (match := _FIELD.fullmatch(field)):
                part, above, tier = PARTS[match[1]], int(match[2] or 0) * 1000 or at, TIERS.get(match[3] or "", "")
                found.setdefault((above, tier), {})[part] = _per_million(value)
    if (hit := said.get("input_cost_per_token_cache_hit")) is not None and (0, "") in found:     # as it once was called
        found[0, ""].setdefault("cached_input", _per_million(hit))
    for numbers in found.values():
        if not numbers.get("cache_write", 1):       # there: nothing besides what the prompt costs
            del numbers["cache_write"]
    return found


def _ranges(said: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Return the prices of prompts by their length, as some models have them instead."""
    ranges = said.get("tiered_pricing")
    rows = [row for row in ranges if isinstance(row, dict)] if isinstance(ranges, list) else []
    starts = [row["range"][0] if isinstance(row.get("range"), list) and row["range"] else None for row in rows]
    return [(_tokens(start), row) for start, row in zip(starts, rows, strict=True) if start is not None]


def _per_million(value: Any) -> float:
    """Return dollars per million tokens, to six decimals: floats of dollars a token are seldom what they mean."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LeftOut(NO_NUMBER)
    return float(round(Decimal(str(value)) * 10**6, 6))


def _tokens(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0


def _own(usual: Numbers) -> dict[str, Any]:
    """Return the parts that do not cost what their whole does."""
    whole = {"reasoning": "output", "image_output": "output", "image_input": "input", "audio_input": "input"}
    return {part: price for part, price in usual.items() if part not in whole or price != usual[whole[part]]}


def _above(numbers: dict[tuple[int, str], Numbers], tier: str) -> tuple[Above, ...]:
    return tuple(
        Above(tokens=above, **parts) for (above, of), parts in sorted(numbers.items()) if above and of == tier
    )


def _tiers(usual: Numbers, numbers: dict[tuple[int, str], Numbers], said: Mapping[str, Any]) -> Tiers:
    tiers: dict[str, float | Tier] = {}
    for tier in TIERS.values():
        steps = {above: parts for (above, of), parts in numbers.items() if of == tier}
        if steps:
            usually = {0: usual, **{above: parts for (above, of), parts in numbers.items() if not of}}
            factor = _factor(usually, steps)
            tiers[tier] = Tier(**steps.get(0, {}), above=_above(numbers, tier)) if factor is None else factor
    extra = said.get("provider_specific_entry")
    fast = extra.get("fast") if isinstance(extra, dict) else None
    if isinstance(fast, int | float) and not isinstance(fast, bool):
        tiers["fast"] = float(fast)
    return Tiers(**tiers) if tiers else NO_TIERS


def _factor(usually: dict[int, Numbers], steps: dict[int, Numbers]) -> float | None:
    """Return how many times the usual prices those of a tier are, if it is the same for all of them."""
    if not {"input", "output"} <= steps.get(0, {}).keys():
        return None
    pairs = [
        (Decimal(str(usually.get(above, {}).get(part, 0))), Decimal(str(price)))
        for above, parts in steps.items() for part, price in parts.items()
    ]
    factors = {price / before if before else None for before, price in pairs if before or price}
    factor, *others = factors or {None}
    return None if others or factor is None or round(factor, 4) != factor else float(factor)


def _search(said: Any) -> dict[str, Any]:
    """Return what a thousand searches cost, of the usual size."""
    each = said.get("search_context_size_medium") if isinstance(said, dict) else None
    return {"search": float(round(Decimal(str(each)) * 1000, 6))} if isinstance(each, float) and each else {}
