"""What the top rung would have cost, and how sure that is."""

import random
from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.counterfactual import (
    EXACTLY,
    LEAST_CACHED,
    LENGTHS,
    SURE,
    TOKENISERS,
    TTL_S,
    Answered,
    Counterfactual,
    Learned,
    Ratio,
    Top,
    tokenisers,
)
from gateway.pricing import Cost, Price, Tariff, Usage
from gateway.receipt import Premium

USED = Usage(2_000, 500)


def priced(prompt: int = 3_000, answer: int = 15_000) -> Tariff:
    """A price in nano-dollars a token: a tenth for what is cached, a quarter more for what is written."""
    dollars = prompt / 1_000
    return Tariff(Price(dollars, answer / 1_000, cached_input=dollars / 10, cache_write=dollars * 1.25, search=10.0))


def premium(usage: Usage, top: Top | None = None, *, model: str = "cheap", cost: int | None = 77) -> Premium:
    """What a first turn would have cost."""
    found = Counterfactual().premium(Answered(model, usage, cost), top or Top("large", priced(), EXACTLY), 0.0)
    assert found is not None
    return found


def test_the_tokens_are_counted_by_the_other_tokeniser() -> None:
    """A tokeniser that makes a fifth more of the prompt makes it a fifth dearer, and the answer as well."""
    found = premium(USED, Top("large", priced(), Ratio(1.2, 0.1)))

    assert found.nanos == 2_400 * 3_000 + 600 * 15_000


def test_the_top_rungs_own_answer_is_what_it_cost() -> None:
    """Where it answered itself there is nothing to estimate, whatever its price says."""
    assert premium(USED, model="large", cost=123_456) == (123_456, 123_456, 123_456)


def test_an_answer_of_its_own_without_a_cost_has_none() -> None:
    """What is not known is not known on either side."""
    assert Counterfactual().premium(Answered("large", USED, None), Top("large", priced()), 0.0) is None


def test_no_price_is_no_figure() -> None:
    """A top rung without a price makes no counterfactual, rather than one of nothing."""
    assert Counterfactual().premium(Answered("cheap", USED, 77), Top("large", None), 0.0) is None


def test_before_audits_an_answer_is_as_long_give_or_take_a_factor_of_two() -> None:
    """Without audits the answer counts as long as it was; half and twice as long lie within the interval."""
    found = premium(Usage(0, 1_000))

    assert found.nanos == 15_000_000
    assert found.low < 15_000_000 // 2
    assert found.high > 15_000_000 * 2
    assert found.high == round(15_000_000 * exp(SURE * LENGTHS.deviation))


@given(
    st.floats(0.5, 2.0), st.integers(0, 100_000), st.integers(0, 20_000), st.integers(0, 30_000), st.integers(1, 30_000)
)
def test_the_assumption_holds_for_answers_of_half_to_twice_the_length(
    ratio: float, prompt: int, answer: int, in_price: int, out_price: int
) -> None:
    """Whatever the prices and the sizes, the true cost is within the interval before anything was learned."""
    found = premium(Usage(prompt, answer), Top("large", priced(in_price, out_price), EXACTLY))
    truth = priced(in_price, out_price).cost(Usage(prompt, round(answer * ratio))).total
    token = priced(0, out_price).cost(Usage(0, 1)).total        # there is no half of one

    assert found.low - token <= truth <= found.high + token


def test_prompt_and_answer_deviate_for_themselves() -> None:
    """Two errors that have nothing to do with each other are put together by squares."""
    top = Top("large", priced(1_000, 0), Ratio(1.0, 0.1))
    one = premium(Usage(1_000_000, 0), top)
    other = premium(Usage(0, 1_000_000), Top("large", priced(0, 1_000), EXACTLY))
    both = premium(Usage(1_000_000, 1_000_000), Top("large", priced(1_000, 1_000), Ratio(1.0, 1e-9)))

    assert one.high - one.nanos == round(10**9 * (exp(SURE * 0.1) - 1))
    assert one.nanos - one.low == round(10**9 * (1 - exp(-SURE * 0.1)))
    assert both.high - both.nanos == pytest.approx(other.high - other.nanos, rel=1e-6)


def test_searches_are_as_they_were() -> None:
    """What was searched on the web is paid by the piece, and nothing about it is uncertain."""
    plain, searched = premium(USED), premium(USED._replace(searches=3))

    assert [with_ - without for with_, without in zip(searched, plain, strict=True)] == [30_000_000] * 3


def test_pictures_and_sound_are_as_they_were_counted() -> None:
    """A tokeniser's ratio is one of text."""
    used = Usage(1_500, 700, image_input=300, audio_input=200, image_output=100, audio_output=100)
    found = premium(used, Top("large", priced(), Ratio(2.0)))

    assert found.nanos == (2 * 1_000 + 500) * 3_000 + (2 * 500 + 200) * 15_000
    fixed = premium(Usage(500, 200, image_input=300, audio_input=200, image_output=200))

    assert fixed.low == fixed.nanos == fixed.high == 500 * 3_000 + 200 * 15_000


def test_without_a_conversation_the_cache_held_the_same_part() -> None:
    """What was read from and written to the answering model's cache is so of the top rung's, in its own tokens."""
    used = Usage(4_000, 0, cached=2_000, cache_write=1_000, cache_write_1h=500)
    top = Noted()
    premium(used, Top("large", top, Ratio(1.5)))

    assert top.seen == [Usage(6_000, 0, cached=3_000, cache_write=1_500, cache_write_1h=750)]


class Noted(Tariff):
    """A price that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(Price(3, 15))
        self.seen: list[Usage] = []

    def cost(self, usage: Usage) -> Cost:
        """Remember, and price."""
        self.seen.append(usage)
        return super().cost(usage)


def turns(*answered: tuple[str, Usage, float], most: int = 100) -> list[Premium | None]:
    """What the turns of one conversation would have cost, each by a model, at a time."""
    counterfactual, top = Counterfactual(most), Top("large", priced(), EXACTLY)
    return [counterfactual.premium(Answered(model, used, 1, "talk"), top, now) for model, used, now in answered]


def nanos(fresh: int, cached: int, output: int) -> int:
    """The price of so many tokens."""
    return fresh * 3_000 + cached * 300 + output * 15_000


def test_the_turn_before_would_have_been_in_the_cache() -> None:
    """Of a conversation that goes on, all that was said before counts as cached, thoughts but for."""
    _, second = turns(("cheap", Usage(3_000, 500, reasoning=100), 0.0), ("cheap", Usage(4_000, 100), 60.0))

    assert second is not None
    assert second.nanos == nanos(600, 3_400, 100)


def test_no_more_is_cached_than_was_asked() -> None:
    """A conversation that was shortened is cached whole, and no more than that."""
    _, second = turns(("cheap", Usage(9_000, 500), 0.0), ("cheap", Usage(2_000, 100), 60.0))

    assert second is not None
    assert second.nanos == nanos(0, 2_000, 100)


def test_a_cache_forgets() -> None:
    """Five minutes later nothing is there any more, but for what was written to stay an hour."""
    again = ("cheap", Usage(4_000, 100), TTL_S + 1)
    _, forgotten = turns(("cheap", Usage(3_000, 500), 0.0), again)
    _, kept = turns(("cheap", Usage(3_000, 500, cache_write=3_000, cache_write_1h=3_000), 0.0), again)

    assert forgotten is not None
    assert kept is not None
    assert forgotten.nanos == nanos(4_000, 0, 100)
    assert kept.nanos == nanos(500, 3_500, 100)


def test_a_short_prompt_is_cached_by_nobody() -> None:
    """Providers cache from a thousand tokens on."""
    before = Usage(LEAST_CACHED - 101, 100)
    _, second = turns(("cheap", before, 0.0), ("cheap", Usage(1_100, 10), 1.0))

    assert second is not None
    assert second.nanos == nanos(1_100, 0, 10)


def test_a_conversation_that_moved_up_is_priced_as_if_it_had_been_there() -> None:
    """The top rung's cold cache is a price of routing: the counterfactual has it warm, and nothing is uncertain."""
    _, moved, stayed = turns(
        ("cheap", Usage(3_000, 500), 0.0), ("large", Usage(4_000, 100), 1.0), ("large", Usage(5_000, 100), 2.0)
    )

    assert moved == (nanos(500, 3_500, 100),) * 3
    assert stayed == (1, 1, 1)


def test_conversations_are_forgotten_the_oldest_first() -> None:
    """What is remembered is bounded."""
    counterfactual, top = Counterfactual(2), Top("large", priced(), EXACTLY)
    for talk in ("a", "b", "a", "c"):
        counterfactual.premium(Answered("cheap", Usage(3_000, 0), 1, talk), top, 0.0)
    cached = {
        talk: found.nanos for talk in ("a", "b")
        if (found := counterfactual.premium(Answered("cheap", Usage(3_000, 0), 1, talk), top, 1.0)) is not None
    }

    assert cached == {"a": nanos(0, 3_000, 0), "b": nanos(3_000, 0, 0)}
    assert "2 conversations" in repr(counterfactual)


def test_routes_with_other_tops_do_not_share_a_conversation() -> None:
    """Each top rung would have had its own cache."""
    counterfactual = Counterfactual()
    counterfactual.premium(Answered("cheap", Usage(3_000, 0), 1, "talk"), Top("other", priced(), EXACTLY), 0.0)
    found = counterfactual.premium(Answered("cheap", Usage(3_000, 0), 1, "talk"), Top("large", priced(), EXACTLY), 0.0)

    assert found is not None
    assert found.nanos == nanos(3_000, 0, 0)


def test_audits_say_how_long_the_answers_are() -> None:
    """With audits the ratio comes to theirs, and the interval becomes narrow."""
    counterfactual, top = Counterfactual(), Top("large", priced(), TOKENISERS)
    widths = []
    for _ in range(3):
        for _ in range(100):
            counterfactual.learn_pair("cheap", "large", Usage(1_000, 200), Usage(1_100, 300))
        prompts, answers = counterfactual.ratios("cheap", top)
        widths.append(answers.deviation)

    assert prompts.times == pytest.approx(1.1, rel=0.01)
    assert answers.times == pytest.approx(1.5, rel=0.01)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.05
    assert (TOKENISERS, Ratio(1.0, (0.2**2 + 0.45**2) ** 0.5)) == counterfactual.ratios("other", top)


def test_an_audit_of_nothing_teaches_nothing() -> None:
    """An answer that is empty says nothing of lengths."""
    counterfactual, top = Counterfactual(), Top("large", priced(), EXACTLY)
    counterfactual.learn_pair("cheap", "large", Usage(0, 0), Usage(0, 10))

    assert counterfactual.ratios("cheap", top) == (EXACTLY, LENGTHS)


def test_tokenisers_are_compared_on_the_same_text() -> None:
    """What prompts teach moves the ratio half of the way: the models' prompts were others. More of them do no more."""
    assert tokenisers(None, Learned(100, 9, 0.1)) == tokenisers(Learned(0, 9, 0.1), Learned(100, 9, 0.1)) == TOKENISERS
    few, many = (tokenisers(Learned(100, n, 0.3), Learned(130, n, 0.3)) for n in (2, 10_000))

    assert 1.0 < few.times < many.times < 1.3
    assert 0.1 < many.deviation < few.deviation < TOKENISERS.deviation


def holds(rng: random.Random, audits: int, requests: int) -> bool:
    """Say whether, in a world with ratios of its own, the interval of a sum holds what the sum would have cost."""
    price = priced()
    of_prompts, of_answers = exp(rng.gauss(0, 0.15)), exp(rng.uniform(log(0.5), log(2)))
    told = of_prompts * exp(rng.gauss(0, 0.1))      # by prompts that are not the same
    top = Top("large", price, tokenisers(Learned(100, 200, 0.15), Learned(100 * told, 200, 0.15)))
    counterfactual = Counterfactual()

    def asked() -> tuple[Usage, Usage]:
        """What a request uses with the one and with the other."""
        prompt, answer = rng.lognormvariate(6, 1), rng.lognormvariate(5.3, 0.9)
        other = answer * of_prompts * of_answers * rng.lognormvariate(-0.6**2 / 2, 0.6)
        return Usage(round(prompt) + 1, round(answer) + 1), Usage(round(prompt * of_prompts) + 1, round(other) + 1)

    for _ in range(audits):
        counterfactual.learn_pair("cheap", "large", *asked())
    low = high = truth = 0
    for _ in range(requests):
        one, other = asked()
        found = counterfactual.premium(Answered("cheap", one, 0), top, 0.0)
        assert found is not None
        low, high, truth = low + found.low, high + found.high, truth + price.cost(other).total
    return low <= truth <= high


@pytest.mark.parametrize("audits", [0, 5, 20, 60])
def test_the_interval_of_a_sum_holds_the_truth(audits: int) -> None:
    """In at least 90 % of worlds: without audits, with few and with many, though answers vary by a factor of two."""
    rng = random.Random(audits)
    worlds = [holds(rng, audits, 300) for _ in range(200)]

    assert sum(worlds) >= 0.9 * len(worlds)
