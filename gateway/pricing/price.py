"""What stands in a configuration or a price list: dollars per million tokens, and where they are others."""

import msgspec

MOST = 1e6          # dollars per million tokens: a dollar a token
PARTS = (
    "input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning", "image_input", "audio_input",
    "image_output", "audio_output", "search",
)


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Dollars per million tokens. A part without a price of its own costs what its whole does."""

    input: float | None = None
    output: float | None = None
    cached_input: float | None = None       # of `input`: read from the prompt cache
    cache_write: float | None = None        # of `input`: written to it
    cache_write_1h: float | None = None     # of `cache_write`: for an hour
    reasoning: float | None = None          # of `output`
    image_input: float | None = None        # of `input`
    audio_input: float | None = None        # of `input`
    image_output: float | None = None       # of `output`
    audio_output: float | None = None       # of `output`
    search: float | None = None             # dollars per thousand web searches; default: they cost nothing

    def __post_init__(self) -> None:
        wrong = [name for name in PARTS if not 0 <= (getattr(self, name) or 0) < MOST]
        if wrong:
            raise ValueError(f"Expected dollars per million tokens for `{'`, `'.join(wrong)}`, from 0 to 1,000,000")


class Above(Rates, frozen=True, kw_only=True):
    """What the whole request costs when its prompt is longer than `tokens`."""

    tokens: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens < 1:
            raise ValueError("Expected `tokens` of at least 1")


class Tier(Rates, frozen=True):
    """What it costs served in another way than the usual one."""

    above: tuple[Above, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_steps(self.above)


class Tiers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The ways of being served that have other prices: so many times the usual ones, or their own."""

    batch: float | Tier | None = None
    flex: float | Tier | None = None
    priority: float | Tier | None = None
    fast: float | Tier | None = None

    def __post_init__(self) -> None:
        factors = {name: getattr(self, name) for name in self.__struct_fields__}
        wrong = [name for name, given in factors.items() if isinstance(given, float | int) and not 0 <= given <= 100]
        if wrong:
            raise ValueError(f"Expected a factor for `{'`, `'.join(wrong)}`, from 0 to 100")


NO_TIERS = Tiers()


class Price(Rates, frozen=True):
    """What a model costs.

    In a tier, or above a length, a part that is not named there is dearer or cheaper as its whole is: where input
    costs twice as much, what is read from the cache does too.
    """

    input: float
    output: float
    above: tuple[Above, ...] = ()
    tiers: Tiers = NO_TIERS

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_steps(self.above)


def _check_steps(above: tuple[Above, ...]) -> None:
    if len({step.tokens for step in above}) < len(above):
        raise ValueError("Expected `above` to name each number of `tokens` once")


def named(price: Price) -> dict[str, float]:
    """Return every number that a price names, under a name that a reader understands: `input above 200000, batch`."""
    found = _parts(price, "")
    for step in price.above:
        found |= _parts(step, f" above {step.tokens}")
    for tier in price.tiers.__struct_fields__:
        given = getattr(price.tiers, tier)
        if isinstance(given, Tier):
            found |= _parts(given, f", {tier}")
            for step in given.above:
                found |= _parts(step, f" above {step.tokens}, {tier}")
        elif given is not None:
            found[f"{tier} factor"] = given
    return found


def _parts(rates: Rates, where: str) -> dict[str, float]:
    return {f"{part}{where}": given for part in PARTS if (given := getattr(rates, part)) is not None}
