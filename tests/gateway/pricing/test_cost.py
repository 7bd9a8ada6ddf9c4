"""What an answer costs, in whole nano-dollars."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pricing import Above, Cost, Price, Tier, Tiers, Usage, tariff

STEADY = settings(deadline=None, derandomize=True, database=None)
OPUS = Price(15, 75, 1.5, 18.75, 30)
LONG = Price(
    1.25, 10, 0.125, search=35, audio_input=5, above=(Above(tokens=200_000, input=2.5, output=15),),
    tiers=Tiers(
        batch=0.5, flex=Tier(1, 8), priority=Tier(2, 20, above=(Above(tokens=200_000, input=9),)),
        fast=Tier(3, 30, above=(Above(tokens=50_000, input=6),)),
    ),
)

# By hand: a dollar per million tokens is a thousand nano-dollars per token.
COSTS = {
    "nothing": (OPUS, Usage(0, 0), Cost(0, 0)),
    "input and output": (OPUS, Usage(10, 2), Cost(150_000, 150_000)),
    "read from the cache": (OPUS, Usage(100, 0, 40), Cost(900_000, 0, cached=60_000)),
    "written to it": (OPUS, Usage(100, 0, 10, 50), Cost(600_000, 0, cached=15_000, cache_write=937_500)),
    "written for an hour": (
        OPUS, Usage(100, 0, 0, 50, cache_write_1h=20), Cost(750_000, 0, cache_write=562_500, cache_write_1h=600_000)
    ),
    "thinking": (OPUS, Usage(0, 10, reasoning=8), Cost(0, 150_000, reasoning=600_000)),
    "thinking at a price of its own": (
        Price(1, 2, reasoning=9), Usage(0, 10, reasoning=8), Cost(0, 4_000, reasoning=72_000)
    ),
    "images and sounds": (
        Price(1, 2, image_input=3, audio_input=4, image_output=50, audio_output=60),
        Usage(10, 10, image_input=2, audio_input=3, image_output=4, audio_output=5),
        Cost(5_000, 2_000, image_input=6_000, audio_input=12_000, image_output=200_000, audio_output=300_000),
    ),
    "whatever has no price costs what its whole does": (
        Price(1, 2), Usage(100, 100, 10, 20, 30, 5, 6, 7, 8, 9),
        Cost(57_000, 106_000, 10_000, 15_000, 5_000, 60_000, 6_000, 7_000, 16_000, 18_000),
    ),
    "an hour's cache costs what a cache does": (
        Price(1, 2, None, 3), Usage(5, 0, 0, 5, 0, 5), Cost(0, 0, cache_write_1h=15_000)
    ),
    "cached for nothing": (Price(2, 8, 0), Usage(100, 10, 60), Cost(80_000, 80_000)),
    "searches, by the thousand": (LONG, Usage(0, 0, searches=3), Cost(0, 0, search=105_000_000)),
    "searches without a price": (OPUS, Usage(0, 0, searches=3), Cost(0, 0)),
    "as long as may be": (LONG, Usage(200_000, 1), Cost(250_000_000, 10_000)),
    "longer: all of it is dearer": (LONG, Usage(200_001, 1), Cost(500_002_500, 15_000)),
    "and what is not named there as much as its whole": (
        LONG, Usage(300_000, 0, 1000, audio_input=10), Cost(747_475_000, 0, cached=250_000, audio_input=100_000)
    ),
    "a tier": (LONG, Usage(1000, 100, 100, tier="batch"), Cost(562_500, 500_000, cached=6_250)),
    "but searches": (LONG, Usage(0, 0, searches=1, tier="batch"), Cost(0, 0, search=35_000_000)),
    "a tier, longer": (LONG, Usage(300_000, 1, tier="batch"), Cost(375_000_000, 7_500)),
    "a tier's own prices": (LONG, Usage(1000, 100, 100, tier="flex"), Cost(900_000, 800_000, cached=10_000)),
    "a tier's own prices, longer: as much dearer": (LONG, Usage(300_000, 1, tier="flex"), Cost(600_000_000, 12_000)),
    "a tier's own prices for longer ones": (LONG, Usage(300_000, 1, tier="priority"), Cost(2_700_000_000, 30_000)),
    "a tier's own length": (LONG, Usage(60_000, 1, tier="fast"), Cost(360_000_000, 30_000)),
    "a tier's own length, and the usual one": (LONG, Usage(300_000, 1, tier="fast"), Cost(1_800_000_000, 45_000)),
    "a tier that has no price": (OPUS, Usage(10, 2, tier="batch"), Cost(150_000, 150_000)),
    "a tier that nobody knows": (LONG, Usage(10, 2, tier="gold"), Cost(12_500, 20_000)),
    "a half is rounded up": (Price(0.0005, 0), Usage(1, 0), Cost(1, 0)),
    "less than a half is not": (Price(0.000499, 0), Usage(1, 0), Cost(0, 0)),
    "each part by itself": (Price(0.0005, 0.0005), Usage(1, 1), Cost(1, 1)),
    "more cached than there is": (OPUS, Usage(100, 0, 150), Cost(0, 0, cached=150_000)),
    "more written than there is": (
        OPUS, Usage(100, 0, 60, 60, 0, 90), Cost(0, 0, cached=90_000, cache_write_1h=1_200_000)
    ),
    "more sound than there is": (
        Price(1, 2, audio_input=5), Usage(10, 0, 4, audio_input=9), Cost(0, 0, cached=4_000, audio_input=30_000)
    ),
    "more thinking than there is": (OPUS, Usage(0, 5, reasoning=9, image_output=3), Cost(0, 0, reasoning=375_000)),
    "less than nothing": (OPUS, Usage(-5, 4, -3, reasoning=-2, searches=-1), Cost(0, 300_000)),
    "less than nothing of a prompt that could be longer": (LONG, Usage(-5, 1), Cost(0, 10_000)),
    "less than nothing cached": (OPUS, Usage(5, 0, -3), Cost(75_000, 0)),
    "a free model": (Price(0, 0, above=(Above(tokens=5, input=0),)), Usage(10_000, 10_000, 5), Cost(0, 0)),
    "free up to a length": (
        Price(0, 1, above=(Above(tokens=5, input=2),)), Usage(10, 0, 5), Cost(10_000, 0, cached=10_000)
    ),
    "free but for the cache": (
        Price(0, 1, 3, above=(Above(tokens=5, input=2),)), Usage(10, 0, 5), Cost(10_000, 0, cached=15_000)
    ),
}


@pytest.mark.parametrize(("price", "usage", "expected"), COSTS.values(), ids=COSTS)
def test_cost(price: Price, usage: Usage, expected: Cost) -> None:
    """Every token at its price, once; a part that does not fit into its whole is cut to it."""
    cost = tariff(price).cost(usage)

    assert expected == cost
    assert sum(expected) == cost.total
    assert all(type(nanos) is int for nanos in cost)


def test_parts_are_those_that_cost_something() -> None:
    """What is nothing is not in the ledger."""
    assert tariff(OPUS).cost(Usage(10, 0, 4)).parts() == {"input": 90_000, "cached": 6_000}


def test_a_tariff_is_made_once() -> None:
    """For equal prices it is the same one: making it takes longer than using it."""
    assert tariff(Price(1, 2)) is tariff(Price(1, 2))


PRICE = st.decimals(0, 999, places=6).map(float)
OWN = st.none() | PRICE
PRICES = st.builds(Price, PRICE, PRICE, OWN, OWN, OWN, OWN, OWN, OWN, OWN, OWN, OWN)
ANY = st.builds(Usage, *[st.integers(-5, 10**6)] * 11)
TOKENS = st.integers(0, 10**5)
SPLIT = st.builds(      # parts that fit into their wholes
    lambda n: Usage(
        sum(n[:5]), sum(n[5:9]), cached=n[0], cache_write=n[1], cache_write_1h=min(n[1], n[10]), image_input=n[2],
        audio_input=n[3], reasoning=n[5], image_output=n[6], audio_output=n[7], searches=n[9],
    ),
    st.lists(TOKENS, min_size=11, max_size=11),
)


def exactly(price: Price, usage: Usage) -> list[Fraction]:
    """Return the parts of a cost in nano-dollars, in fractions, the long way round."""
    def of(name: str, whole: float) -> float:
        own = getattr(price, name)
        return whole if own is None else own

    write = of("cache_write", price.input)
    each = {
        "input": (usage.input - usage.cached - usage.cache_write - usage.image_input - usage.audio_input, price.input),
        "output": (usage.output - usage.reasoning - usage.image_output - usage.audio_output, price.output),
        "cached": (usage.cached, of("cached_input", price.input)),
        "cache_write": (usage.cache_write - usage.cache_write_1h, write),
        "cache_write_1h": (usage.cache_write_1h, of("cache_write_1h", write)),
        "reasoning": (usage.reasoning, of("reasoning", price.output)),
        "image_input": (usage.image_input, of("image_input", price.input)),
        "audio_input": (usage.audio_input, of("audio_input", price.input)),
        "image_output": (usage.image_output, of("image_output", price.output)),
        "audio_output": (usage.audio_output, of("audio_output", price.output)),
        "search": (usage.searches, 1000 * of("search", 0)),
    }
    return [tokens * Fraction(str(dollars)) * 1000 for tokens, dollars in each.values()]


@STEADY
@given(price=PRICES, usage=SPLIT)
def test_it_is_exact(price: Price, usage: Usage) -> None:
    """Each part is what fractions make of it, to half a nano-dollar."""
    cost = tariff(price).cost(usage)

    assert all(abs(nanos - exact) <= Fraction(1, 2) for nanos, exact in zip(cost, exactly(price, usage), strict=True))


@STEADY
@given(price=PRICES, usage=SPLIT)
def test_nothing_costs_more_than_the_most(price: Price, usage: Usage) -> None:
    """However a text's tokens are divided; hours of cache, images, sound, searches and tiers apart."""
    text = Usage(usage.input, usage.output, usage.cached, usage.cache_write, usage.reasoning)

    assert tariff(price).cost(text).total <= tariff(price).most(text)


@pytest.mark.parametrize(("tokens", "nanos"), [(200_000, 200_000 * 1_250), (200_001, 200_001 * 2_500)])
def test_the_most_is_no_more_than_that(tokens: int, nanos: int) -> None:
    """But for what rounding may add; a long prompt is dearer as a whole."""
    assert tariff(LONG).most(Usage(tokens, 0)) == nanos + 2


@STEADY
@given(price=PRICES, usage=ANY)
def test_it_is_never_negative(price: Price, usage: Usage) -> None:
    """Whatever a provider says, no part is below nothing, and all tokens cost at most what the dearest of them does."""
    cost = tariff(price).cost(usage)
    dearest = max(getattr(price, name) or 0 for name in price.__struct_fields__[:10])

    assert min(cost) >= 0
    assert cost.total - cost.search <= (max(usage.input, 0) + max(usage.output, 0)) * dearest * 1000 + 10


@STEADY
@given(price=PRICES, one=SPLIT, other=SPLIT)
def test_it_adds_up(price: Price, one: Usage, other: Usage) -> None:
    """Two answers cost what one costs that used as much as both, part by part, but for the rounding of each."""
    both = one._replace(**{name: getattr(one, name) + getattr(other, name) for name in Usage._fields[:11]})
    first, second, together = (tariff(price).cost(usage) for usage in (one, other, both))

    assert all(abs(a + b - c) <= 1 for a, b, c in zip(first, second, together, strict=True))


@STEADY
@given(price=PRICES, usage=ANY, which=st.sampled_from(["input", "output", "searches"]), more=st.integers(0, 10**6))
def test_more_never_costs_less(price: Price, usage: Usage, which: str, more: int) -> None:
    """A cost grows with the prompt, the answer and the searches, whatever the parts are."""
    grown = usage._replace(**{which: getattr(usage, which) + more})

    assert tariff(price).cost(usage).total <= tariff(price).cost(grown).total


@STEADY
@given(prices=st.tuples(PRICE, PRICE), usage=SPLIT)
def test_longer_prompts_are_priced_as_a_whole(prices: tuple[float, float], usage: Usage) -> None:
    """Above a length a request costs what it would if these were all the prices that there are."""
    both = Price(1, 2, 0.5, above=(Above(tokens=max(usage.input - 1, 1), input=prices[0], output=prices[1]),))
    alone = Price(prices[0], prices[1], prices[0] / 2)
    cost, expected = tariff(both).cost(usage), tariff(alone).cost(usage)

    assert usage.input < 2 or all(abs(a - b) <= 1 + usage.input // 1000 for a, b in zip(cost, expected, strict=True))


@pytest.mark.parametrize("price", [Price(0.1, 0.3), Price(0.000001, 0.0075), Price(3.3, 17.7, 0.33)])
def test_a_million_sums_do_not_drift(price: Price) -> None:
    """A million times what one answer costs is what a million of them cost; with floats it would not be."""
    each = tariff(price).cost(Usage(1_000, 1_000, 1_000))
    total = 0
    for _ in range(1_000_000):
        total += each.total
    exact = sum(exactly(price, Usage(10**9, 10**9, 10**9)), Fraction(0))

    assert 1_000_000 * each.total == total
    assert abs(total - exact) <= Fraction(1_000_000)


@pytest.mark.parametrize(("usage", "nanos"), [
    (Usage(1_000, 10), 1_000 * 1_250 + 10 * 10_000), (Usage(1_000, 10, tier="priority"), 1_000 * 2_000 + 10 * 20_000),
    (Usage(1_000, 10, tier="scale"), 1_000 * 1_250 + 10 * 10_000),
])
def test_the_most_of_a_tier(usage: Usage, nanos: int) -> None:
    """It is that of the tier; one without a price costs what is usual."""
    assert tariff(LONG).most(usage) == nanos + 2


def test_the_most_of_an_hour() -> None:
    """What is to be kept for an hour is dearer."""
    assert [tariff(OPUS).most(Usage(1_000, 0, cache_write_1h=hour)) for hour in (0, 1)] == [18_750_002, 30_000_002]
