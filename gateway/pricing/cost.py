"""A price made ready for the path: integers in, integers out, so that sums never drift.

A token costs a whole number of pico-dollars, which is exactly what a price of up to six decimals says. Each part of a
cost is rounded half up to nano-dollars, and a cost is the sum of its parts.
"""

import functools
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from gateway.pricing.price import PARTS, Price, Rates, Tier
from gateway.pricing.usage import Usage

PICOS = {part: 10**9 if part == "search" else 10**6 for part in PARTS}      # in a dollar per thousand, or per million
WHOLES = {                  # what a part is taken from; a whole stands before its parts
    "cached_input": "input", "cache_write": "input", "cache_write_1h": "cache_write", "image_input": "input",
    "audio_input": "input", "reasoning": "output", "image_output": "output", "audio_output": "output",
}

_Exact = dict[str, Decimal]


class Cost(NamedTuple):
    """What an answer costs, in nano-dollars. Every token is in one part only."""

    input: int              # what is left of the prompt without its parts below
    output: int             # likewise of the answer
    cached: int = 0
    cache_write: int = 0    # but for an hour
    cache_write_1h: int = 0
    reasoning: int = 0
    image_input: int = 0
    audio_input: int = 0
    image_output: int = 0
    audio_output: int = 0
    search: int = 0

    @property
    def total(self) -> int:
        """The sum of the parts."""
        return sum(self)

    def parts(self) -> dict[str, int]:
        """Return the parts that cost something."""
        return {name: nanos for name, nanos in zip(self._fields, self, strict=True) if nanos}


class _Step(NamedTuple):
    """What each token costs when the prompt is longer than `above`: pico-dollars, in the order of PARTS."""

    above: int
    picos: tuple[int, ...]


class Tariff:
    """A price in integers."""

    __slots__ = ("_dearest", "_tiers", "_usual")

    def __init__(self, price: Price) -> None:
        usual = _exact(price)
        longer = {step.tokens: _changed(usual, step) for step in price.above}
        given = {name: getattr(price.tiers, name) for name in price.tiers.__struct_fields__}
        self._usual = _steps(usual, longer)
        self._tiers = {name: _tier(usual, longer, tier) for name, tier in given.items() if tier is not None}
        self._dearest = {name: _dearest(steps) for name, steps in {**self._tiers, "": self._usual}.items()}

    def cost(self, usage: Usage) -> Cost:
        """Return what `usage` costs. A tier without a price costs what is usual; a part never exceeds its whole."""
        prompt, output, cached, written, thought = usage[:5]
        steps = self._tiers.get(usage[11], self._usual) if usage[11] else self._usual
        picos = steps[-1][1]
        if len(steps) > 1:
            picos = next((dearer for above, dearer in steps if prompt > above), picos)
        fresh, said = prompt - cached - written, output - thought
        if usage[5:11] == _NONE and cached >= 0 and written >= 0 and thought >= 0 and fresh >= 0 and said >= 0:
            return Cost(        # the usual case, in a third of the time
                (fresh * picos[0] + 500) // 1000, (said * picos[1] + 500) // 1000, (cached * picos[2] + 500) // 1000,
                (written * picos[3] + 500) // 1000, 0, (thought * picos[5] + 500) // 1000,
            )
        return Cost(*[(n * pico + 500) // 1000 for n, pico in zip(_divided(usage), picos, strict=True)])


    def most(self, usage: Usage) -> int:
        """Return what so many tokens of text cost at most, in nano-dollars, if all are written to the cache."""
        prompt, output = usage[:2]
        steps = self._dearest.get(usage[11]) or self._dearest[""]
        _, of_prompt, of_hour, of_output = next((step for step in steps if prompt > step[0]), steps[-1])
        picos = prompt * (of_hour if usage[5] else of_prompt) + output * of_output
        return -(-picos // 1000) + 2                # parts are rounded one by one


_NONE = (0,) * 6            # neither an hour's cache, nor images, sounds and searches


@functools.lru_cache(maxsize=4096)
def tariff(price: Price) -> Tariff:
    """Return the price made ready; once for each price."""
    return Tariff(price)


def _divided(usage: Usage) -> tuple[int, ...]:
    """Return the tokens of each part, in the order of PARTS, each counted once; wholes are cut up as far as they go."""
    prompt, output, cached, written, thought, hour, pictures, sounds, drawn, spoken, searches = (
        max(0, n) for n in usage[:11]
    )
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    hour = min(hour, written)
    fresh = prompt - cached - written
    sounds = min(sounds, fresh)
    pictures = min(pictures, fresh - sounds)
    thought = min(thought, output)
    spoken = min(spoken, output - thought)
    drawn = min(drawn, output - thought - spoken)
    return (
        fresh - sounds - pictures, output - thought - spoken - drawn, cached, written - hour, hour, thought, pictures,
        sounds, drawn, spoken, searches,
    )


def _dearest(steps: tuple[_Step, ...]) -> list[tuple[int, int, int, int]]:
    """Return what a token of a prompt, of one that is cached for an hour, and of an answer costs at most, by length."""
    return [
        (above, (usual := max(picos[0], picos[2], picos[3])), max(usual, picos[4]), max(picos[1], picos[5]))
        for above, picos in steps
    ]


def _exact(rates: Rates) -> _Exact:
    """Return the price of every part as it is written, those that have none of their own among them."""
    exact: _Exact = {}
    for part in sorted(PARTS, key=_depth):
        given = getattr(rates, part)
        exact[part] = Decimal(0) if given is None and part == "search" else (
            exact[WHOLES[part]] if given is None else Decimal(str(given))
        )
    return exact


def _depth(part: str) -> int:
    return 1 + _depth(WHOLES[part]) if part in WHOLES else 0


def _changed(usual: _Exact, rates: Rates) -> _Exact:
    """Return the prices where those of `rates` are in force; what is not named changes as its whole does."""
    changed: _Exact = {}
    for part in sorted(PARTS, key=_depth):
        given, whole = getattr(rates, part), WHOLES.get(part)
        if given is not None:
            changed[part] = Decimal(str(given))
        elif whole is None:
            changed[part] = usual[part]
        else:
            changed[part] = _scaled(usual[part], usual[whole], changed[whole])
    return changed


def _scaled(price: Decimal, before: Decimal, after: Decimal) -> Decimal:
    """Return a price that changes as another does from `before` to `after`."""
    if price == before:
        return after
    return price * after / before if before else price


def _tier(usual: _Exact, longer: dict[int, _Exact], tier: float | Tier) -> tuple[_Step, ...]:
    """Return the steps of a tier: what is above a length is as much dearer there as it usually is."""
    if not isinstance(tier, Tier):
        factor = {part: Decimal(1) if part == "search" else Decimal(str(tier)) for part in PARTS}
        return _steps(_times(usual, factor), {tokens: _times(step, factor) for tokens, step in longer.items()})
    short = _changed(usual, tier)
    named = {step.tokens: step for step in tier.above}
    steps = {}
    for tokens in longer.keys() | named.keys():
        dearer = longer.get(tokens, usual)
        step = {part: _scaled(short[part], usual[part], dearer[part]) for part in PARTS}
        steps[tokens] = _changed(step, named.get(tokens, Rates()))
    return _steps(short, steps)


def _times(prices: _Exact, factor: _Exact) -> _Exact:
    return {part: price * factor[part] for part, price in prices.items()}


def _steps(short: _Exact, longer: dict[int, _Exact]) -> tuple[_Step, ...]:
    """Return the prices by length, the longest prompts first."""
    steps = [*sorted(longer.items(), key=lambda step: -step[0]), (0, short)]
    return tuple(_Step(above, tuple(_picos(prices, part) for part in PARTS)) for above, prices in steps)


def _picos(prices: _Exact, part: str) -> int:
    return int((prices[part] * PICOS[part]).quantize(Decimal(1), ROUND_HALF_UP))
