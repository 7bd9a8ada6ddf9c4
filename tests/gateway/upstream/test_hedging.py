"""When a second call may be made, and how many a route affords, with time as an argument."""

import pytest

from gateway.config import HealthConfig, HedgeConfig
from gateway.upstream.health import KNOWN, Health
from gateway.upstream.hedging import HOUR_S, MOST, Hedges


def known(seconds: float, times: int = KNOWN) -> Health:
    """A record of so many first outputs."""
    health = Health(HealthConfig())
    for _ in range(times):
        health.answered(seconds)
    return health


class TestLate:
    """When a deployment is late."""

    def test_as_configured(self) -> None:
        """Whatever it usually takes."""
        assert Hedges(HedgeConfig(after_ms=300)).after_s(known(9.0)) == 0.3

    def test_as_measured(self) -> None:
        """What 95 of 100 calls took; nobody knows while there are too few."""
        hedges = Hedges(HedgeConfig())

        assert hedges.after_s(known(0.7)) == 0.7
        assert hedges.after_s(known(0.7, KNOWN - 1)) is None


class TestShare:
    """A share of the route's streams, at most."""

    def test_the_first_is_free(self) -> None:
        """And no second one, until enough streams have been seen."""
        hedges = Hedges(HedgeConfig(share=0.25))
        first = [hedges.allows(0.0) for _ in range(2)]
        for _ in range(3):
            hedges.seen()
        early = hedges.allows(0.0)
        hedges.seen()

        assert (first, early, hedges.allows(0.0)) == ([True, False], False, True)
        assert (hedges.made, hedges.refused) == (2, 2)

    def test_a_share_of_nothing(self) -> None:
        """Not even the first."""
        hedges = Hedges(HedgeConfig(share=0.0))
        hedges.seen()

        assert (hedges.allows(0.0), hedges.made) == (False, 0)

    @pytest.mark.parametrize("share", [0.05, 0.5])
    def test_in_the_long_run(self, share: float) -> None:
        """Where every stream is late, only the share is asked for twice."""
        hedges = Hedges(HedgeConfig(share=share))
        for _ in range(1_000):
            hedges.seen()
            hedges.allows(0.0)

        assert hedges.made == pytest.approx(1_000 * share, abs=1.5)

    def test_what_is_saved_up_has_a_bound(self) -> None:
        """A quiet night is no reason for a storm of second calls."""
        hedges = Hedges(HedgeConfig(share=1.0))
        for _ in range(1_000):
            hedges.seen()
        allowed = [hedges.allows(0.0) for _ in range(20)]

        assert allowed == [True] * int(MOST) + [False] * (20 - int(MOST))


class TestMoney:
    """What was not used costs, up to so much an hour."""

    def test_up_to_the_limit(self) -> None:
        """No hedge once it is reached; one whose cost is an hour old counts no more."""
        hedges = Hedges(HedgeConfig(share=1.0, usd_per_hour=0.01))
        for _ in range(10):
            hedges.seen()
        hedges.spent(0.0, 4_000_000)
        below = hedges.allows(1.0)
        hedges.spent(1_800.0, 6_000_000)

        assert (below, hedges.allows(1_800.0), hedges.allows(HOUR_S - 1), hedges.allows(HOUR_S)) == (
            True, False, False, True
        )
        assert repr(hedges) == "<Hedges 2 made, 2 refused, $0.0060 in the last hour>"

    def test_nothing_may_be_spent(self) -> None:
        """Then there is none."""
        assert Hedges(HedgeConfig(usd_per_hour=0.0)).allows(0.0) is False
