"""What receipts add up to."""

from typing import Any

import pytest

from gateway.store.cleaning import cleaned
from gateway.store.schema import DAY_MS, HOUR_MS, SUMS
from gateway.store.summing import KEY, added_up
from tests.gateway.store.conftest import AT_MS, receipt

UNKNOWN = {"cost_usd_nanos": None, "input_tokens": None, "output_tokens": None}


def sums(*receipts: dict[str, Any]) -> list[dict[str, Any]]:
    """The roll-ups of receipts, by name."""
    return [dict(zip((*KEY, *SUMS), found, strict=True)) for found in added_up(map(cleaned, receipts))]


def test_receipts_of_an_hour_are_one_figure_by_the_hour_and_by_the_day() -> None:
    """Two receipts of one kind and hour make one row a span, with the sums of both."""
    day, hour = sums(receipt(1), receipt(2, ttft_ms=None))

    assert (day["span"], day["start_ms"], hour["span"], hour["start_ms"]) == (
        "day", AT_MS - AT_MS % DAY_MS, "hour", AT_MS - AT_MS % HOUR_MS
    )
    assert {name: day[name] for name in SUMS} == {name: hour[name] for name in SUMS} == {
        "requests": 2, "failed": 0, "unpriced": 0, "estimated": 0, "input_tokens": 2_000, "cached_tokens": 800,
        "cache_write_tokens": 20, "output_tokens": 400, "reasoning_tokens": 100, "cost_usd_nanos": 600_000,
        "unused_usd_nanos": 2_000, "compared_cost_nanos": 600_000, "premium_usd_nanos": 18_000_000,
        "premium_low_nanos": 16_000_000, "premium_high_nanos": 20_000_000, "ttft_ms_sum": 100.5, "ttft_count": 1,
        "compared": 2,
    }


def test_hours_add_up_to_their_day() -> None:
    """Receipts of two hours are two rows by the hour and one by the day; the next day is another."""
    found = sums(receipt(1), receipt(2, at_ms=AT_MS + HOUR_MS), receipt(3, at_ms=AT_MS + DAY_MS))

    assert [(row["span"], row["requests"]) for row in found] == [
        ("day", 2), ("day", 1), ("hour", 1), ("hour", 1), ("hour", 1)
    ]


@pytest.mark.parametrize("name", ["caller", "owner", "route", "model", "rung", "task"])
def test_what_differs_is_kept_apart(name: str) -> None:
    """Who asked, for what and who answered make a row of their own; nobody is the empty text."""
    found = sums(receipt(1), receipt(2, **{name: None}))

    assert sorted({row[name] for row in found}) == sorted({"", receipt(1)[name]})
    assert [row["requests"] for row in found] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("more", "counted"),
    [
        ({"outcome": "failed"}, {"failed": 1}),
        ({"outcome": "broken"}, {"failed": 1}),
        ({"outcome": "refused"}, {"failed": 0}),
        ({"outcome": "abandoned"}, {"failed": 0}),
        ({"estimated": True}, {"estimated": 1}),
        ({"cost_usd_nanos": None}, {"unpriced": 1, "cost_usd_nanos": 0}),
        ({"cost_usd_nanos": None}, {"compared_cost_nanos": 0, "premium_usd_nanos": 0}),
        ({"cost_usd_nanos": 0}, {"unpriced": 0, "compared_cost_nanos": 0, "premium_usd_nanos": 9_000_000}),
        (UNKNOWN, {"unpriced": 1}),
        ({**UNKNOWN, "outcome": "failed"}, {"unpriced": 0}),
        ({**UNKNOWN, "kind": "count_tokens"}, {"unpriced": 0}),
        ({"premium_usd_nanos": None}, {"cost_usd_nanos": 300_000, "compared_cost_nanos": 0, "premium_low_nanos": 0}),
        ({"premium_usd_nanos": None}, {"compared": 0}),
        ({"premium_usd_nanos": None, "outcome": "failed"}, {"compared": 0, "compared_cost_nanos": 300_000}),
        ({"premium_usd_nanos": None, "outcome": "failed", "route": None}, {"compared_cost_nanos": 0}),
        ({"premium_usd_nanos": None, "outcome": "abandoned"}, {"compared_cost_nanos": 0}),
        ({"premium_usd_nanos": None, "outcome": "abandoned", "output_tokens": None}, {"compared_cost_nanos": 300_000}),
        ({"premium_low_nanos": None, "premium_high_nanos": None},
         {"premium_low_nanos": 9_000_000, "premium_high_nanos": 9_000_000}),
    ],
)
def test_each_figure_counts_what_it_says(more: dict[str, Any], counted: dict[str, int]) -> None:
    """An unknown cost is counted as unknown. Savings compare requests of which both sides are known, net of what was
    spent on a route's requests that got no answer.
    """
    hour = sums(receipt(1, **more))[1]

    assert {name: hour[name] for name in counted} == counted


def test_the_order_is_the_same_for_all() -> None:
    """Two writers take the rows in one order, so that neither waits for the other."""
    one, other = receipt(1, caller="a", task=None), receipt(2, caller="b")

    assert added_up(map(cleaned, [one, other])) == added_up(map(cleaned, [other, one]))


def test_nothing_adds_up_to_nothing() -> None:
    """No receipts make no roll-ups."""
    assert [] == added_up([])
