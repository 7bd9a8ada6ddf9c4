"""What tokens cost, in integers: one micro-dollar is the unit of the ledger, so sums never drift.

The built-in table knows the usual models; a price in the configuration goes before it. A model that is in neither has
no known cost, which is said (`None`) and never taken for zero.
"""

from typing import NamedTuple

import msgspec

from gateway.pricing.usage import Usage

PRICES_AS_OF = "2026-11-23"


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dollars per million tokens. Cached input costs what `input` does where the provider names no other price."""

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None

    def __post_init__(self) -> None:
        wrong = [name for name in self.__struct_fields__ if not 0 <= (getattr(self, name) or 0) < 1e6]
        if wrong:
            raise ValueError(f"Expected dollars per million tokens for `{'`, `'.join(wrong)}`, from 0 to 1,000,000")


def cost_micros(price: Price, usage: Usage) -> int:
    """Return the cost of `usage` in micro-dollars, rounded half up.

    Dollars per million tokens are micro-dollars per token, so this is a sum of products. A part without a price of its
    own costs what the whole does.
    """
    cached_price = price.input if price.cached_input is None else price.cached_input
    write_price = price.input if price.cache_write is None else price.cache_write
    fresh = max(usage.input - usage.cached - usage.cache_write, 0)
    read = usage.cached * cached_price + usage.cache_write * write_price
    return int(fresh * price.input + read + usage.output * price.output + 0.5)


class ModelFacts(NamedTuple):
    """What the built-in table knows of a provider's model."""

    price: Price
    context: int    # tokens


# Facts of the providers' public price pages (developers.openai.com/api/docs/pricing, platform.claude.com/docs,
# ai.google.dev/pricing), as quoted in price lists of March to June 2026 and read on PRICES_AS_OF. Check before you rely
# on a bill; a price in the configuration goes before these.
MODELS: dict[str, ModelFacts] = {
    "gpt-4o-mini": ModelFacts(Price(0.15, 0.60, 0.075), 128_000),
    "gpt-4o": ModelFacts(Price(2.50, 10.00, 1.25), 128_000),
    "gpt-5": ModelFacts(Price(1.25, 10.00, 0.125), 400_000),
    "gpt-5.4-mini": ModelFacts(Price(0.75, 4.50, 0.075), 400_000),
    "gpt-5.4": ModelFacts(Price(2.50, 15.00, 0.25), 400_000),
    "claude-haiku-4-5": ModelFacts(Price(1.00, 5.00, 0.10, 1.25), 200_000),
    "claude-sonnet-4-6": ModelFacts(Price(3.00, 15.00, 0.30, 3.75), 200_000),
    "claude-opus-4-7": ModelFacts(Price(5.00, 25.00, 0.50, 6.25), 200_000),
    "gemini-2.5-flash": ModelFacts(Price(0.30, 2.50, 0.03), 1_048_576),
    "gemini-2.5-pro": ModelFacts(Price(1.25, 10.00, 0.125), 1_048_576),
}
