"""A deployment's record and the retry budget, with time as an argument: nothing here waits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import HealthConfig
from gateway.upstream.health import COOL_S, KNOWN, MAX_COOL_S, Health, RetryBudget

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=200)
CONFIG = HealthConfig(failures=3, error_rate=0.5, calls=8, window_ms=10_000, open_ms=1_000, open_max_ms=4_000)
RATE_ONLY = HealthConfig(failures=1_000, error_rate=0.5, calls=8, window_ms=10_000)


def fail(health: Health, now: float, times: int = 1) -> None:
    """Make calls that fail at once."""
    for _ in range(times):
        health.started(now)
        health.failed(now, now)


def opened(now: float = 0.0, config: HealthConfig = CONFIG) -> Health:
    """A record whose breaker opened at `now`."""
    health = Health(config)
    fail(health, now, config.failures)
    assert health.state(now) == "open"
    return health


def end(health: Health, how: str, now: float, began: float, cool_s: float = 0.0) -> None:
    """End a call."""
    if how == "succeeded":
        health.answered(now - began, began)
        health.succeeded(now)
    elif how == "failed":
        health.failed(now, began)
    elif how == "cool":
        health.cool(now, cool_s, began)
    else:
        health.dropped(began)


class TestOpening:
    """The breaker opens when it should, and not before."""

    def test_failures_in_a_row(self) -> None:
        """So many, and none less; one answer in between and the count begins anew."""
        health = Health(CONFIG)
        fail(health, 0.0, 2)
        health.succeeded(0.0)
        fail(health, 0.0, 2)
        before = health.state(0.0), health.available(0.0)
        fail(health, 0.0)

        assert ("closed", True) == before
        assert ("open", False, 1) == (health.state(0.0), health.available(0.0), health.opened)

    def test_answers_that_break_off(self) -> None:
        """One that began well and broke is a failure like any other: only a whole answer makes the count begin anew."""
        health = Health(CONFIG)
        for _ in range(3):
            health.started(0.0)
            health.answered(0.1, 0.0)
            health.failed(1.0, 0.0)

        assert (3, "open") == (health.in_a_row, health.state(1.0))

    def test_too_large_a_share(self) -> None:
        """Half of the calls, once there are enough of them to say so."""
        health = Health(RATE_ONLY)
        for _ in range(3):
            health.succeeded(0.0)
        fail(health, 0.0, 4)
        before = health.state(0.0)
        fail(health, 0.0)

        assert ("closed", "open") == (before, health.state(0.0))

    def test_a_smaller_share_is_borne(self) -> None:
        """However many calls there are."""
        health = Health(RATE_ONLY)
        for now in range(100):
            health.succeeded(now / 100)
            health.succeeded(now / 100)
            fail(health, now / 100)

        assert ("closed", 0) == (health.state(1.0), health.opened)

    def test_what_is_long_ago_does_not_count(self) -> None:
        """Only the calls of the window are looked at."""
        health = Health(RATE_ONLY)
        fail(health, 0.0, 7)
        fail(health, 10.1)

        assert health.state(10.1) == "closed"

    def test_a_window_of_more_calls_than_are_kept_by_default(self) -> None:
        """Where many calls are asked for, so many are kept."""
        health = Health(HealthConfig(failures=1_000, error_rate=1, calls=600))
        fail(health, 0.0, 599)
        before = health.state(0.0)
        fail(health, 0.0)

        assert ("closed", "open") == (before, health.state(0.0))


class TestHalfOpen:
    """When its time is over, one call shows whether the deployment is well."""

    def test_one_probe(self) -> None:
        """It is closed to all until its time is over, then open to one, whose place nobody else takes."""
        health = opened()
        before = health.available(0.999), health.state(0.999)
        ready = health.available(1.0), health.state(1.0)
        health.started(1.0)

        assert (False, "open") == before
        assert (True, "half-open") == ready
        assert [False, False] == [health.available(1.0), health.available(100.0)]

    def test_a_probe_that_succeeds_closes(self) -> None:
        """And all is forgotten: how long it was open, the failures in a row, and those of the window."""
        health = opened()
        health.started(1.0)
        health.failed(1.0, 1.0)
        health.started(3.0)
        health.answered(began=3.0)
        closed = health.state(3.5), health.available(3.5), health.in_a_row
        fail(health, 3.5, 2)
        still = health.state(3.5)
        fail(health, 3.5)

        assert ("closed", True, 0) == closed
        assert ("closed", "open", 2) == (still, health.state(3.5), health.opened)
        assert health.wait_s(3.5) == 1.0

    def test_the_window_begins_anew(self) -> None:
        """One failure after the probe is no reason to open again, however bad it was before."""
        health = Health(RATE_ONLY)
        fail(health, 0.0, 8)
        health.started(1.0)
        health.answered(began=1.0)
        fail(health, 1.1)

        assert ("closed", 1) == (health.state(1.1), health.opened)

    def test_each_probe_that_fails_doubles_the_time(self) -> None:
        """Up to the most that is configured; it stays one opening."""
        health, now, waits = opened(), 0.0, []
        for _ in range(5):
            waits.append(health.wait_s(now))
            now += waits[-1]
            assert health.available(now)
            fail(health, now)

        assert [1.0, 2.0, 4.0, 4.0, 4.0] == waits
        assert health.opened == 1

    @pytest.mark.parametrize("ends", ["dropped", "cool"])
    def test_a_probe_that_says_nothing_gives_its_place_back(self, ends: str) -> None:
        """A client that left, or a 429: the next call is the probe, and the time is not doubled."""
        health = opened()
        health.started(1.0)
        end(health, ends, 1.5, 1.0)
        free = health.available(1.5), health.state(1.5)
        fail(health, 1.5)

        assert (True, "half-open") == free
        assert health.wait_s(1.5) == 2.0

    @pytest.mark.parametrize("ends", ["succeeded", "failed", "dropped", "cool"])
    def test_calls_from_before(self, ends: str) -> None:
        """What began before it opened neither closes it nor doubles its time nor takes the probe's place."""
        health = opened(now=5.0)
        health.started(6.0)
        end(health, ends, 6.5, 4.0)
        during = health.state(6.5), health.available(6.5)
        health.failed(7.0, 6.0)

        assert ("half-open", False) == during
        assert (2.0, "open") == (health.wait_s(7.0), health.state(7.0))

    def test_a_call_in_spite_of_it(self) -> None:
        """Where a request has nowhere else to go: its answer closes the breaker early, its failure changes nothing."""
        answered, broken = opened(), opened()
        answered.started(0.5)
        answered.answered(began=0.5)
        fail(broken, 0.5)

        assert answered.state(0.6) == "closed"
        assert ("open", 0.5) == (broken.state(0.5), broken.wait_s(0.5))

    def test_without_its_beginning(self) -> None:
        """A call of which nobody says when it began is taken for one of a moment ago."""
        failed, answered, left = opened(), opened(), opened()
        for health in (failed, answered, left):
            health.started(1.0)
        failed.failed(1.5)
        answered.answered()
        left.dropped()

        assert (2.0, "closed", True) == (failed.wait_s(1.5), answered.state(1.5), left.available(1.5))


class TestCooling:
    """A deployment that asks to be left alone is, and is not blamed."""

    def test_a_429(self) -> None:
        """It cools for as long as it asked; its record stays as it was."""
        health = Health(CONFIG)
        fail(health, 0.0, 2)
        health.started(0.0)
        health.cool(0.0, 7.5, 0.0)
        during = health.state(7.4), health.available(7.4), health.cooling(7.4), health.wait_s(7.0)

        assert ("cooling", False, True, 0.5) == during
        assert ("closed", True, False, 0.0) == (
            health.state(7.5), health.available(7.5), health.cooling(7.5), health.wait_s(7.5)
        )
        assert (2, 2, 1, 0) == (health.failed_calls, health.in_a_row, health.throttled, health.opened)

    @pytest.mark.parametrize(("asked", "cools"), [(None, COOL_S), (0.0, 0.0), (0.25, 0.25), (1e9, MAX_COOL_S)])
    def test_how_long(self, asked: float | None, cools: float) -> None:
        """A second where it does not say, five minutes at most."""
        health = Health(CONFIG)
        health.cool(0.0, asked)

        assert health.wait_s(0.0) == cools

    def test_a_shorter_wish_does_not_shorten_a_longer_one(self) -> None:
        """Of several the longest holds."""
        health = Health(CONFIG)
        health.cool(0.0, 10.0)
        health.cool(1.0, 1.0)

        assert health.wait_s(1.0) == 9.0

    def test_an_open_breaker_that_cools(self) -> None:
        """Both must be over; only the wish is the deployment's own."""
        health = opened()
        own = health.cooling(0.5)
        health.cool(0.5, 2.0)

        assert own is False
        assert [False, False, True] == [health.available(now) for now in (1.0, 2.4, 2.5)]
        assert health.wait_s(0.5) == 2.0


class TestLatency:
    """How long first outputs take."""

    def test_the_average_follows(self) -> None:
        """The first call sets it, each later one moves it by a fifth; what is no stream says nothing."""
        health = Health(CONFIG)
        untried = health.latency_s
        health.answered(1.0)
        first = health.latency_s
        health.answered(2.0)
        health.answered()

        assert (None, 1.0) == (untried, first)
        assert health.latency_s == pytest.approx(1.2)

    def test_late_is_unknown_at_first(self) -> None:
        """It takes twenty streams."""
        health = Health(CONFIG)
        for _ in range(KNOWN - 1):
            health.answered(1.0)
        before = health.late_after_s()
        health.answered(1.0)

        assert (None, 1.0) == (before, health.late_after_s())

    @STEADY
    @given(took=st.lists(st.floats(0, 100), min_size=KNOWN, max_size=300), share=st.floats(0, 1))
    def test_late_is_what_most_were_not(self, took: list[float], share: float) -> None:
        """It is one of the last 128, and at least the share asked for took no longer."""
        health = Health(CONFIG)
        for seconds in took:
            health.answered(seconds)
        kept, late = took[-128:], health.late_after_s(share)

        assert late in kept
        assert late is not None
        assert sum(seconds <= late for seconds in kept) / len(kept) >= share


def test_what_an_operator_reads() -> None:
    """The state, the record and how quick it is."""
    health = Health(CONFIG)
    untried = repr(health)
    health.started(0.0)
    health.answered(0.2124)
    fail(health, 0.0, 3)

    assert untried == "<Health closed, 0 of 0 failed, untried>"
    assert repr(health) == "<Health open, 3 of 4 failed, 212 ms>"


FRAGILE = HealthConfig(failures=1, window_ms=10_000, open_ms=1_000, open_max_ms=4_000)
# Eighths of a second, so that sums are exact.
STEPS = st.tuples(
    st.sampled_from(["start", "start", "spite", "succeeded", "failed", "failed", "dropped", "cool"]),
    st.integers(0, 24), st.integers(0, 7),
)


@STEADY
@given(steps=st.lists(STEPS, max_size=80))
def test_any_life_of_a_deployment(steps: list[tuple[str, int, int]]) -> None:
    """Calls begin and end in any order: one probe at a time by the rules, no counter shrinks, and it comes back."""
    health, now, running, before = Health(FRAGILE), 0.0, list[float](), (0, 0, 0, 0)
    for what, eighths, which in steps:
        now += eighths / 8
        if what == "spite" or (what == "start" and health.available(now)):
            health.started(now)
            running.append(now)
        elif running and what not in ("start", "spite"):
            began = running.pop(which % len(running))
            end(health, what, now, began, cool_s=which / 2)
        if what == "start" and health.state(now) == "half-open":
            assert not health.available(now)
        counted = (health.total_calls, health.failed_calls, health.throttled, health.opened)
        assert all(new >= old for new, old in zip(counted, before, strict=True))
        before = counted
        assert health.state(now) in ("closed", "cooling", "open", "half-open")
        assert health.available(now) <= (health.wait_s(now) == 0.0)
        assert 0.0 <= health.wait_s(now) <= max(4.0, MAX_COOL_S)
    for began in running:
        health.dropped(began)

    assert health.available(now + health.wait_s(now))


BUDGET_STEPS = st.lists(st.tuples(st.sampled_from(["call", "look", "retry"]), st.floats(0, 5)), max_size=150)


class TestRetryBudget:
    """Retries cannot multiply an outage."""

    @STEADY
    @given(share=st.floats(0, 10), steps=BUDGET_STEPS)
    def test_never_more_than_the_share(self, share: float, steps: list[tuple[str, float]]) -> None:
        """In whatever order calls and retries come: ten, the share of the calls, and one a second."""
        budget, now, calls, retries, refused = RetryBudget(share), 0.0, 0, 0, 0
        for what, passed in steps:
            now += passed
            if what == "call":
                budget.called()
                calls += 1
            elif what == "look":
                assert 0 <= budget.left(now) <= RetryBudget.MOST
            else:
                could = budget.left(now) >= 1
                allowed = budget.allows(now)
                assert could == allowed
                retries, refused = retries + allowed, refused + (not allowed)
            assert retries <= RetryBudget.FIRST + share * calls + now + 1e-6

        assert budget.refused == refused

    def test_none_at_all(self) -> None:
        """A share of 0 forbids every retry, whatever was called and however long ago."""
        budget = RetryBudget(0)
        first = budget.allows(0.0)
        for _ in range(1_000):
            budget.called()

        assert [False, False] == [first, budget.allows(1e6)]
        assert repr(budget) == "<RetryBudget 0.0 left, 2 refused>"

    def test_to_begin_with(self) -> None:
        """Ten at once, then no more; one comes back a second, up to ten, and calls bring their share."""
        budget = RetryBudget(0.5)
        at_once = [budget.allows(0.0) for _ in range(11)]
        later = [budget.allows(1.0) for _ in range(2)]
        full = budget.left(1_000.0)
        for _ in range(4):
            budget.called()

        assert [True] * 10 + [False] == at_once
        assert [True, False] == later
        assert (10.0, 12.0) == (full, budget.left(1_000.0))

    def test_what_is_saved_is_bounded(self) -> None:
        """A quiet day's calls do not pay for a storm: a hundred at most."""
        budget = RetryBudget(1)
        for _ in range(10_000):
            budget.called()

        assert 100 == sum(budget.allows(0.0) for _ in range(1_000))
