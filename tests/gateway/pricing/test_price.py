"""What tokens cost, in whole micro-dollars."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway import pricing
from gateway.pricing import MODELS, Price, Usage, cost_micros

STEADY = hypothesis_settings(deadline=None, derandomize=True, database=None)
MINI = Price(0.15, 0.60, 0.075)
OPUS = Price(15, 75, 1.5, 18.75)

# By hand: dollars per million tokens are micro-dollars per token.
COSTS = {
    "nothing": (MINI, Usage(0, 0), 0),
    "input and output": (MINI, Usage(1000, 500), 150 + 300),
    "a million of each": (MINI, Usage(1_000_000, 1_000_000), 750_000),
    "cached input is cheaper": (MINI, Usage(1000, 0, 400), 90 + 30),
    "all of it cached": (OPUS, Usage(2000, 10, 2000), 3000 + 750),
    "cached at the price of input where no other is named": (Price(2, 8), Usage(100, 10, 60), 200 + 80),
    "cached for nothing": (Price(2, 8, 0), Usage(100, 10, 60), 80 + 80),
    "more cached than there is": (Price(2, 8, 1), Usage(100, 0, 150), 150),
    "written to the cache": (OPUS, Usage(1000, 10, 400, 500), 1500 + 600 + 9375 + 750),
    "written at the price of input where no other is named": (Price(2, 8), Usage(100, 10, 0, 60), 200 + 80),
    "reasoning is part of the output": (Price(2, 8), Usage(100, 10, reasoning=8), 200 + 80),
    "a half is rounded up": (Price(0.5, 0), Usage(1, 0), 1),
    "less than a half is rounded down": (Price(0.25, 0), Usage(1, 0), 0),
    "only the sum is rounded": (Price(0.25, 0.25), Usage(1, 1), 1),
    "a free model": (Price(0, 0), Usage(10_000, 10_000), 0),
}


@pytest.mark.parametrize(("price", "usage", "expected"), COSTS.values(), ids=COSTS)
def test_cost(price: Price, usage: Usage, expected: int) -> None:
    """Fresh input, cached input and output, each at its price."""
    cost = cost_micros(price, usage)

    assert expected == cost
    assert type(cost) is int


@STEADY
@given(
    price=st.builds(Price, st.floats(0, 999), st.floats(0, 999), st.none() | st.floats(0, 999)),
    usage=st.builds(Usage, *[st.integers(0, 10**6)] * 5),
    more=st.integers(0, 10**6),
)
def test_more_never_costs_less(price: Price, usage: Usage, more: int) -> None:
    """A cost is never negative, and grows with the answer."""
    cost = cost_micros(price, usage)

    assert 0 <= cost <= cost_micros(price, usage._replace(output=usage.output + more))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"input": -1, "output": 1}, "`input`,"), ({"input": 1, "output": 1e6}, "`output`,"),
        ({"input": 1, "output": 1, "cached_input": float("nan")}, "`cached_input`,"),
        ({"input": 1, "output": 1, "cache_write": float("inf")}, "`cache_write`,"),
        ({"input": -1, "output": -1, "cached_input": 0}, "`input`, `output`,"),
    ],
)
def test_a_price_is_a_price(fields: dict[str, float], named: str) -> None:
    """Below nothing and beyond a dollar a token are refused, by name, all of them."""
    with pytest.raises(ValueError, match=f"^Expected dollars per million tokens for {named} from 0 to 1,000,000$"):
        Price(**fields)


def test_the_ends_of_the_range() -> None:
    """Nothing, and just below a dollar a token, are prices."""
    assert Price(0, 999_999.99).cached_input is None


@pytest.mark.parametrize("name", MODELS)
def test_the_built_in_table(name: str) -> None:
    """Output costs more than input, cached input less, writing the cache more; a context holds a document."""
    price, context = MODELS[name]

    assert 0 < price.input < price.output
    assert price.cached_input is not None
    assert price.cached_input < price.input
    assert price.cache_write is None or price.cache_write > price.input
    assert 128_000 <= context <= 2_000_000


def test_the_table_is_dated() -> None:
    """A reader can see how old the prices are."""
    assert pricing.PRICES_AS_OF >= "2026-01-01"


def test_a_price_is_strict() -> None:
    """A misspelt price in the configuration is not a free one."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"input": 1, "output": 1, "cached": 1}, Price)
