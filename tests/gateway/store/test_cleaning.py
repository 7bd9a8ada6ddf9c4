"""Whatever a receipt holds, its row can be stored."""

import math
from typing import Any

import pytest

from gateway.store import cleaning
from gateway.store.cleaning import COLUMNS, LARGEST, Refused, cleaned, pairs
from tests.gateway.store.conftest import receipt


def row(**more: Any) -> dict[str, Any]:
    """The row of a receipt that has these values."""
    return dict(zip(COLUMNS, cleaned(receipt(1, **more)), strict=True))


def test_a_usual_receipt_is_kept_as_it_is() -> None:
    """Every value stands in its column; lists and objects are JSON texts; what was not said is None."""
    written = receipt(1)
    kept = row()

    assert {name: kept[name] for name in COLUMNS if not isinstance(written.get(name), list | dict)} == {
        name: written.get(name) for name in COLUMNS if not isinstance(written.get(name), list | dict)
    }
    assert kept["cost_parts"] == '{"input":100000,"output":200000}'
    assert kept["budgets"] == '[["key:shop","2026-11"],["all","total"]]'


@pytest.mark.parametrize("more", [{}, {"error": "ü"}], ids=["the quick way", "the careful way"])
def test_both_ways_agree(more: dict[str, Any]) -> None:
    """A text beyond ASCII is looked at one by one, which changes nothing else."""
    assert {**row(**more), "error": None} == row()


def test_unknown_fields_are_left_out_and_missing_ones_are_none() -> None:
    """A receipt of a newer or older gateway is stored as far as it is known."""
    kept = dict(zip(COLUMNS, cleaned({"request_id": "r", "at_ms": 5, "colour": "red"}), strict=True))

    assert {name: value for name, value in kept.items() if value is not None} == {"request_id": "r", "at_ms": 5}


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("error", "a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("error", "a\ud800b", "a?b"),
        ("error", 7, "7"),
        ("caller", "k\0", "k\N{REPLACEMENT CHARACTER}"),
        ("caller", "ü" * 500, "ü" * 200),
        ("model", "m" * 500, "m" * 400),
        ("input_tokens", 2**80, LARGEST),
        ("cost_usd_nanos", -(2**80), -LARGEST),
        ("cost_usd_nanos", 12.0, 12),
        ("cost_usd_nanos", "12", None),
        ("cost_usd_nanos", math.nan, None),
        ("cost_usd_nanos", math.inf, LARGEST),
        ("input_tokens", [1], None),
        ("status", True, 1),
        ("ttft_ms", 12, 12.0),
        ("ttft_ms", 2**2000, float(LARGEST)),
        ("ttft_ms", math.inf, None),
        ("ttft_ms", "soon", None),
        ("stream", 1, True),
        ("attempts", [], None),
        ("attempts", [object()], None),
        ("attempts", ["a\0b"], '["a\\u0000b"]'),
        ("cost_parts", {"input": 2**80}, None),
        ("prompt", "漢字", "漢字"),
    ],
)
def test_what_a_store_cannot_take_is_mended(name: str, value: Any, kept: Any) -> None:
    """A value of the wrong kind, too large, or with characters that a store refuses does not keep the receipt out."""
    assert row(**{name: value})[name] == kept


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"request_id": None}, "no request_id"), ({"request_id": ""}, "no request_id"), ({"at_ms": None}, "no time"),
        ({"at_ms": -1}, "no time"), ({"at_ms": "noon"}, "no time"),
    ],
)
def test_a_receipt_of_nothing_is_refused(more: dict[str, Any], why: str) -> None:
    """Without an id it belongs to no request, without a time to no day."""
    with pytest.raises(Refused, match=why):
        row(**more)


def test_every_column_has_a_way() -> None:
    """The quick way and the careful one know all the columns, in their order."""
    assert tuple(name for name, _ in cleaning._MEND) == COLUMNS == cleaning._Usual.__struct_fields__


@pytest.mark.parametrize(
    ("budgets", "read"),
    [
        ([["key:a", "2026-11"], ("all", "total")], [("key:a", "2026-11"), ("all", "total")]),
        (None, []), ("all", []), ([["all"]], []), ([["all", 7]], []), ([7], []),
    ],
)
def test_accounts_are_pairs_of_texts(budgets: Any, read: list[tuple[str, str]]) -> None:
    """What is no account with a period is left out."""
    assert pairs(budgets) == read
