"""Limits, held against the plainest model there is: a log of everything, looked at from every moment in it."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import LimitsConfig
from gateway.limits import FEW, Denied, Limited, Limits, Rate, Standing, Taken

MINUTE_US = 60_000_000
STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=150)
FREE = LimitsConfig()

PAUSES = st.one_of(st.just(0), st.integers(1, 50), st.integers(0, 3 * MINUTE_US))
RATES = st.tuples(st.integers(1, 5_000), st.integers(0, 300))


class Step(NamedTuple):
    """What happens after a pause: somebody asks for so many tokens, and one who runs may end with so many."""

    pause_us: int
    tokens: int
    used: int
    ends: int


STEPS = st.lists(
    st.builds(Step, PAUSES, st.integers(0, 400), st.integers(0, 600), st.integers(0, 5)), min_size=1, max_size=60
)


class Log:
    """Everything that was taken, and when."""

    def __init__(self, per_minute: int, burst: int) -> None:
        self.per_minute, self.burst = per_minute, burst or per_minute
        self.taken: list[tuple[int, int]] = []

    def owed(self, now_us: int) -> int:
        """Return what was taken beyond what the rate gave, at worst, since any moment; a minute's worth is one part."""
        return max([
            0, *(
                sum(cost for _, cost in self.taken[first:]) * MINUTE_US - (now_us - at) * self.per_minute
                for first, (at, _) in enumerate(self.taken)
            ),
        ])

    def passes(self, cost: int, held: int, now_us: int) -> bool:
        """Say whether so many may come while others are held."""
        owed = self.owed(now_us) + held * MINUTE_US
        return owed == 0 or owed + cost * MINUTE_US <= self.burst * MINUTE_US


@STEADY
@given(RATES, st.lists(st.tuples(PAUSES, st.integers(1, 400)), min_size=1, max_size=60))
def test_a_rate_lets_through_what_the_log_would(rate: tuple[int, int], asked: list[tuple[int, int]]) -> None:
    """Exactly: what may come does, whatever the pauses and costs, and over no time more than burst and rate give."""
    kept, log, now_us = Rate(*rate), Log(*rate), 0
    for pause_us, cost in asked:
        now_us += pause_us
        passes = kept.wait_us(cost, 0, now_us) == 0

        assert log.passes(cost, 0, now_us) == passes
        if passes:
            kept.take(cost, now_us)
            log.taken.append((now_us, cost))

    for first, (began_us, cost) in enumerate(log.taken):
        for last, (ended_us, _) in enumerate(log.taken[first:], first):
            total = sum(cost for _, cost in log.taken[first:last + 1])
            most = max(log.burst, *(cost for _, cost in log.taken))

            assert total * MINUTE_US <= most * MINUTE_US + (ended_us - began_us) * log.per_minute


@STEADY
@given(RATES, st.lists(st.tuples(PAUSES, st.integers(1, 400)), min_size=1, max_size=40), st.integers(1, 400))
def test_the_wait_is_as_short_as_it_can_be(rate: tuple[int, int], asked: list[tuple[int, int]], cost: int) -> None:
    """Whoever comes again when they were told to passes, and a microsecond earlier would not."""
    kept, now_us = Rate(*rate), 0
    for pause_us, taken in asked:
        now_us += pause_us
        kept.take(taken, now_us)
    wait_us = kept.wait_us(cost, 0, now_us)

    assert kept.wait_us(cost, 0, now_us + wait_us) == 0
    assert wait_us == 0 or kept.wait_us(cost, 0, now_us + wait_us - 1) > 0


@STEADY
@given(RATES, RATES, st.integers(0, 4), STEPS)
def test_all_limits_together_are_those_of_the_log(
    requests: tuple[int, int], tokens: tuple[int, int], concurrency: int, steps: list[Step]
) -> None:
    """Requests, tokens and concurrency, with estimates held and settled in any order: exactly what three logs allow."""
    limited = Limited("key:app", LimitsConfig(
        requests_per_minute=requests[0], requests_burst=requests[1], tokens_per_minute=tokens[0],
        tokens_burst=tokens[1], concurrency=concurrency,
    ))
    limits, request_log, token_log, now_us = Limits(), Log(*requests), Log(*tokens), 0
    running: list[tuple[int, Taken]] = []
    for step in steps:
        now_us += step.pause_us
        if step.ends < len(running):
            _, ended = running.pop(step.ends)
            ended.settle(step.used, now_us)
            ended.close(now_us)
            token_log.taken.append((now_us, step.used))
        held = sum(estimate for estimate, _ in running)
        may = (
            request_log.passes(1, 0, now_us) and token_log.passes(step.tokens, held, now_us)
            and (not concurrency or len(running) < concurrency)
        )
        taken = limits.take([limited], [], step.tokens, now_us)

        assert may == isinstance(taken, Taken)
        if isinstance(taken, Taken):
            running.append((step.tokens, taken))
            request_log.taken.append((now_us, 1))


@STEADY
@given(RATES, STEPS)
def test_wrong_estimates_let_nothing_more_through(rate: tuple[int, int], steps: list[Step]) -> None:
    """Over any time no more tokens are used than burst and rate give, however much more was estimated."""
    limited = Limited("key:app", LimitsConfig(tokens_per_minute=rate[0], tokens_burst=rate[1]))
    limits, running, used, now_us = Limits(), [], list[tuple[int, int]](), 0
    most = max(rate[1] or rate[0], *(step.tokens for step in steps))
    for step in steps:
        now_us += step.pause_us
        taken = limits.take([limited], [], step.tokens, now_us)
        if isinstance(taken, Taken):
            running.append((taken, min(step.used, step.tokens)))
        if step.ends < len(running):
            ended, tokens = running.pop(step.ends)
            ended.settle(tokens, now_us)
            used.append((now_us, tokens))

    for first, (began_us, _) in enumerate(used):
        for last, (ended_us, _) in enumerate(used[first:], first):
            total = sum(tokens for _, tokens in used[first:last + 1])

            assert total * MINUTE_US <= most * MINUTE_US + (ended_us - began_us) * rate[0]


def standing(**limits: int) -> Standing:
    """Return a standing with these limits."""
    return Standing(LimitsConfig(**limits))


def take(limits: Limits, required: Sequence[Limited], alternatives: Sequence[Limited] = (), tokens: int = 0) -> Taken:
    """Take it at the beginning of time; it must be there."""
    taken = limits.take(required, alternatives, tokens, 0)
    assert isinstance(taken, Taken)
    return taken


def limited(name: str, **limits: int) -> Limited:
    """Return a name with these limits."""
    return Limited(name, LimitsConfig(**limits))


def test_a_burst_comes_at_once_and_the_rest_at_the_rate() -> None:
    """Ten at once, then one a second: 60 a minute with a burst of ten."""
    rate, passed = Rate(60, 10), []
    for now_us in range(0, 5_000_001, 100_000):
        while rate.wait_us(1, 0, now_us) == 0:
            rate.take(1, now_us)
            passed.append(now_us)

    assert [0] * 10 + [1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000] == passed


def test_more_tokens_than_the_burst_pass_when_nothing_is_owed_or_held() -> None:
    """They could never pass otherwise; afterwards the whole of them is to be earned."""
    limits, key = Limits(), limited("key:app", tokens_per_minute=600, tokens_burst=100)
    first = take(limits, [key], tokens=50)

    assert isinstance(limits.take([key], [], 300, 0), Denied)
    first.close(0)
    second = take(limits, [key], tokens=300)
    assert limits.take([key], [], 1, 0) == Denied(key, "tokens", 20.1)
    second.settle(300, 0)
    assert limits.take([key], [], 1, 0) == Denied(key, "tokens", 20.1)
    assert isinstance(limits.take([key], [], 1, 20_100_000), Taken)


def test_too_low_an_estimate_is_paid_for_by_those_who_come_next() -> None:
    """What was used beyond it is taken all the same."""
    limits, key = Limits(), limited("key:app", tokens_per_minute=60, tokens_burst=10)
    taken = take(limits, [key], tokens=1)
    taken.settle(30, 0)

    assert limits.take([key], [], 1, 0) == Denied(key, "tokens", 21.0)


def test_the_limit_that_refuses_longest_is_named() -> None:
    """Whoever comes back when it says so is not told of another one then."""
    limits = Limits()
    key = limited("key:app", requests_per_minute=60, requests_burst=1, tokens_per_minute=60, tokens_burst=10)
    route = limited("route:auto", requests_per_minute=6, requests_burst=1)
    take(limits, [key], tokens=10)

    assert limits.take([key], [], 5, 0) == Denied(key, "tokens", 5.0)
    take(limits, [route])
    assert limits.take([key, route], [], 5, 0) == Denied(route, "requests", 10.0)
    assert limits.take([route], [], 5, 9_000_000) == Denied(route, "requests", 1.0)


def test_concurrency_is_given_back_at_the_end() -> None:
    """As many as may run do; one more passes when one has ended."""
    limits, key = Limits(), limited("key:app", concurrency=2)
    first, _ = take(limits, [key]), take(limits, [key])

    assert limits.take([key], [], 0, 0) == Denied(key, "concurrency", 1.0)
    first.close(0)
    first.close(0)
    assert isinstance(limits.take([key], [], 0, 0), Taken)
    assert isinstance(limits.take([key], [], 0, 0), Denied)


def test_all_or_nothing() -> None:
    """A request that one limit refuses has taken nothing of the others."""
    limits = Limits()
    key, route = limited("key:app", requests_per_minute=2), limited("route:auto", concurrency=1)
    running = take(limits, [key, route])
    for _ in range(10):
        assert isinstance(limits.take([key, route], [], 0, 0), Denied)
    running.close(0)

    assert isinstance(limits.take([key, route], [], 0, 0), Taken)
    assert limits.take([key, route], [], 0, 0) == Denied(key, "requests", 30.0)


def test_the_first_alternative_with_room_is_taken() -> None:
    """In the order of the plan; one without limits always has room."""
    limits, key = Limits(), limited("key:app", requests_per_minute=100)
    small, large, free = limited("model:s", concurrency=1), limited("model:l", concurrency=1), Limited("model:f", FREE)
    chosen = [take(limits, [key], [small, large, free]).chosen for _ in range(4)]

    assert [0, 1, 2, 2] == chosen


def test_without_an_alternative_that_has_room_it_is_denied() -> None:
    """By the one that will have room first, and nothing is taken of what is required."""
    limits, key = Limits(), limited("key:app", requests_per_minute=60, requests_burst=2)
    slow, quick = limited("model:s", requests_per_minute=1), limited("model:q", requests_per_minute=2, requests_burst=1)
    for _ in range(2):
        take(limits, [], [slow, quick])

    assert limits.take([key], [slow, quick], 0, 0) == Denied(quick, "requests", 30.0)
    assert [None, None] == [limits.refusal(key, 0, 0) for _ in range(2)]


def test_what_is_not_used_of_an_alternative_is_not_charged() -> None:
    """A model that was called in vain is spared, and no longer holds the estimate."""
    limits = Limits()
    small, large = limited("model:s", tokens_per_minute=100), limited("model:l", tokens_per_minute=100)
    taken = take(limits, [], [small], tokens=90)
    taken.also(large.name, limits.standing(large, 0), 0)
    taken.settle(100, 0, spared=[small.name])

    assert limits.refusal(small, 100, 0) is None
    assert limits.refusal(large, 100, 0) == Denied(large, "tokens", 60.0)


def test_settling_is_done_once() -> None:
    """However often it is said, and closing does not undo it."""
    limits, key = Limits(), limited("key:app", tokens_per_minute=60, tokens_burst=60)
    taken = take(limits, [key], tokens=30)
    for _ in range(3):
        taken.settle(60, 0)
        taken.close(0)

    assert limits.refusal(key, 1, 0) == Denied(key, "tokens", 1.0)
    assert repr(limits.standing(key, 0)) == (
        "<Standing 0 running, 0 tokens held, None, <Rate 60 a minute, 60 at once>>"
    )


def test_one_of_several_goes_by_its_share() -> None:
    """A third of the rate, of the burst and of what may run, but one at least."""
    rate, lone = Rate(60, 9), standing(concurrency=2)
    passed = 0
    while rate.wait_us(1, 0, 0, 3) == 0:
        rate.take(1, 0, 3)
        passed += 1
    lone.take(0, 0, 3)

    assert (3, 3_000_000) == (passed, rate.wait_us(1, 0, 0, 3))
    assert lone.refusal(0, 0, 3) == ("concurrency", 1_000_000)
    assert lone.refusal(0, 0, 1) is None


def test_other_limits_leave_what_was_taken() -> None:
    """A configuration that is put in force gives nobody a second burst, and an older request still ends right."""
    limits = Limits()
    before, after = limited("key:app", requests_per_minute=10), limited("key:app", requests_per_minute=600)
    running = [take(limits, [before], tokens=5) for _ in range(10)]

    assert limits.refusal(after, 0, 0) is None
    assert isinstance(limits.take([limited("key:app", requests_per_minute=5)], [], 0, 0), Denied)
    tight = limited("key:app", tokens_per_minute=60, tokens_burst=50)
    assert isinstance(limits.take([tight], [], 1, 0), Denied)
    for each in running:
        each.settle(0, 0)
        each.close(0)
    assert isinstance(limits.take([tight], [], 50, 0), Taken)


def test_idle_names_are_forgotten() -> None:
    """However many names come and go, only those that still owe something or run are kept."""
    limits, busy = Limits(), limited("key:busy", concurrency=1)
    take(limits, [busy])
    for number in range(5 * FEW):
        taken = limits.take([limited(f"key:{number}", requests_per_minute=60)], [], 0, number * MINUTE_US)
        assert isinstance(taken, Taken)
        taken.close(number * MINUTE_US)

    assert len(limits._standings) <= FEW + 1
    assert limits.refusal(busy, 0, 0) == Denied(busy, "concurrency", 1.0)


def test_names_without_limits_are_not_kept() -> None:
    """What has no limits costs nothing and is always let through."""
    limits = Limits()
    taken = take(limits, [Limited("key:app", FREE)], [Limited("model:s", FREE)], tokens=10**9)

    assert (0, {}, "<Limits of 0 names>") == (taken.chosen, taken.standings, repr(limits))


@pytest.mark.parametrize(
    ("tokens", "requests_us", "tokens_us"), [(0, 1_000_000, 0), (30, 1_000_000, 500_000), (3_600, 1_000_000, MINUTE_US)]
)
def test_what_is_owed_is_told_in_time(tokens: int, requests_us: int, tokens_us: int) -> None:
    """How long it takes until everything that was taken, or is held, has been earned."""
    limits, key = Limits(), limited("key:app", requests_per_minute=60, tokens_per_minute=3_600)
    taken = take(limits, [key], tokens=tokens)
    held = limits.standing(key, 0).owed(0)
    taken.settle(tokens, 0)

    assert (requests_us, tokens_us) == held == limits.standing(key, 0).owed(0)
