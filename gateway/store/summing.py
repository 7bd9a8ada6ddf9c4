"""What receipts add up to, by the hour and by the day: the one definition of the roll-ups' figures.

The migration that made the roll-ups says the same in SQL; a test holds the two together.
"""

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from gateway.store.cleaning import COLUMNS, Row
from gateway.store.schema import DAY_MS, DIMENSIONS, HOUR_MS, SUMS

KEY = ("span", "start_ms", *DIMENSIONS)
_named = itemgetter(*(COLUMNS.index(name) for name in DIMENSIONS))
_figures = itemgetter(*(COLUMNS.index(name) for name in (
    "at_ms", "outcome", "kind", "estimated", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "cost_usd_nanos", "unused_usd_nanos", "premium_usd_nanos", "premium_low_nanos",
    "premium_high_nanos", "ttft_ms", "route",
)))
_BROKE = {"failed", "broken"}
_ANSWERED = {"ok", "broken"}


def added_up(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """Return what the rows add up to, each as KEY and SUMS, in an order that is the same for all who write them."""
    hours: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        at_ms = row[1]
        key = (at_ms - at_ms % HOUR_MS, *_named(row))
        _add(hours.get(key) or hours.setdefault(key, [0] * len(SUMS)), row)
    days: dict[tuple[Any, ...], list[Any]] = {}
    for (hour_ms, *named), sums in hours.items():
        key = (hour_ms - hour_ms % DAY_MS, *named)
        days[key] = [a + b for a, b in zip(days[key], sums, strict=True)] if key in days else sums
    found = [
        (span, start_ms, *(name or "" for name in named), *sums)
        for span, spans in (("day", days), ("hour", hours)) for (start_ms, *named), sums in spans.items()
    ]
    return sorted(found)


def _add(sums: list[Any], row: Row) -> None:
    (
        _, outcome, kind, estimated, input_tokens, cached, cache_write, output_tokens, reasoning, cost, unused, premium,
        low, high, ttft_ms, route,
    ) = _figures(row)
    sums[0] += 1
    if outcome in _BROKE:
        sums[1] += 1
    if estimated:
        sums[3] += 1
    sums[4] += input_tokens or 0
    sums[5] += cached or 0
    sums[6] += cache_write or 0
    sums[7] += output_tokens or 0
    sums[8] += reasoning or 0
    sums[10] += unused or 0
    if cost is not None:
        sums[9] += cost
        if premium is not None:
            sums[11] += cost
            sums[12] += premium
            sums[13] += premium if low is None else low
            sums[14] += premium if high is None else high
            sums[17] += 1
        elif route and (outcome in _BROKE or (outcome == "abandoned" and output_tokens is None)):
            sums[11] += cost            # savings are net of what was spent for nothing
    elif input_tokens is not None or output_tokens is not None or (
        outcome in _ANSWERED and kind != "count_tokens"
    ):
        sums[2] += 1
    if ttft_ms is not None:
        sums[15] += ttft_ms
        sums[16] += 1
