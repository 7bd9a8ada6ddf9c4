"""What stands in a configuration or a price list."""

from typing import Any

import msgspec
import pytest

from gateway.pricing import Above, Price, Tier, Tiers, named

WHOLE = {
    "input": 1.25, "output": 10, "cached_input": 0.125, "search": 35,
    "above": [{"tokens": 200_000, "input": 2.5, "output": 15}],
    "tiers": {"batch": 0.5, "priority": {"input": 2.25, "output": 18, "above": [{"tokens": 200_000, "input": 4.5}]}},
}


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"input": -1, "output": 1}, "`input`,"), ({"input": 1, "output": 1e6}, "`output`,"),
        ({"input": 1, "output": 1, "cached_input": float("nan")}, "`cached_input`,"),
        ({"input": 1, "output": 1, "cache_write": float("inf")}, "`cache_write`,"),
        ({"input": 1, "output": 1, "search": -0.1}, "`search`,"),
        ({"input": -1, "output": -1, "cached_input": 0}, "`input`, `output`,"),
    ],
)
def test_a_price_is_a_price(fields: dict[str, Any], wrong: str) -> None:
    """Below nothing and beyond a dollar a token are refused, by name, all of them."""
    with pytest.raises(ValueError, match=f"^Expected dollars per million tokens for {wrong} from 0 to 1,000,000$"):
        Price(**fields)


def test_the_ends_of_the_range() -> None:
    """Nothing, and just below a dollar a token, are prices."""
    assert Price(0, 999_999.99).cached_input is None


def test_all_that_can_be_said() -> None:
    """Parts, longer prompts and tiers, as they are written."""
    expected = Price(
        1.25, 10, 0.125, search=35, above=(Above(tokens=200_000, input=2.5, output=15),),
        tiers=Tiers(batch=0.5, priority=Tier(2.25, 18, above=(Above(tokens=200_000, input=4.5),))),
    )

    assert expected == msgspec.convert(WHOLE, Price)
    assert expected == msgspec.json.decode(msgspec.json.encode(expected), type=Price)
    assert len({expected, msgspec.convert(WHOLE, Price)}) == 1      # one price, one tariff


@pytest.mark.parametrize(
    "changed",
    [
        {"cached": 1}, {"tiers": {"batches": 0.5}}, {"tiers": {"batch": {"inputs": 1}}}, {"tiers": {"batch": "half"}},
        {"above": [{"tokens": 5, "inputs": 1}]}, {"above": [{"input": 1}]}, {"above": {"tokens": 5, "input": 1}},
        {"tiers": {"batch": -0.5}}, {"tiers": {"flex": 101}}, {"tiers": {"fast": float("nan")}},
        {"tiers": {"priority": {"input": -1}}}, {"above": [{"tokens": 0, "input": 1}]},
        {"above": [{"tokens": 5, "input": -1}]}, {"above": [{"tokens": 5, "input": 1}, {"tokens": 5, "input": 2}]},
        {"tiers": {"batch": {"above": [{"tokens": 5}, {"tokens": 5}]}}}, {"input": None}, {"output": "1"},
    ],
    ids=str,
)
def test_a_price_is_strict(changed: dict[str, Any]) -> None:
    """What is misspelt, misplaced or no price is refused: it would be another price than was meant."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**WHOLE, **changed}, Price)


@pytest.mark.parametrize("missing", ["input", "output"])
def test_what_every_price_has(missing: str) -> None:
    """A prompt and an answer cost something, or it is said that they do not."""
    with pytest.raises(msgspec.ValidationError, match=missing):
        msgspec.convert({name: value for name, value in WHOLE.items() if name != missing}, Price)


def test_every_number_has_a_name() -> None:
    """What a price names, and nothing that it does not."""
    assert named(msgspec.convert(WHOLE, Price)) == {
        "input": 1.25, "output": 10, "cached_input": 0.125, "search": 35, "input above 200000": 2.5,
        "output above 200000": 15, "batch factor": 0.5, "input, priority": 2.25, "output, priority": 18,
        "input above 200000, priority": 4.5,
    }
