"""A process' part of a budget, with time as an argument."""

import pytest

from gateway.budgets import Account, Reply
from gateway.config import BudgetConfig
from gateway.purse import DRY_S, FEW, NEVER, PACE_S, RENEWALS, Purse, Wish


def purse(lent: int = 0, *, now_s: float = 0.0, usd: float = 1.0, **more: bool) -> Purse:
    """A purse that was lent so much."""
    config = BudgetConfig(usd=usd, soft=[0.8, 0.5])
    made = Purse(Account("all", "total", int(usd * 1e9)), config, 1e12, now_s)
    if lent:
        made.ask(now_s, [Wish(lent, lent)])
        made.grant(reply(lent, **more), now_s, now_s + 60)
    return made


def reply(lent: int, settled: int = 0, free: int = 10**9, elsewhere: int = 0, *, lean: bool = False) -> Reply:
    """What a home may say."""
    return Reply(lent, settled, settled, free, elsewhere, lean)


class TestSpending:
    """What requests do with it."""

    def test_no_more_than_is_held(self) -> None:
        """What is set aside is not there for the next one."""
        one = purse(100)

        assert [True, False, True] == [one.reserve(60), one.reserve(60), one.reserve(40)]
        assert (0, 100) == (one.held, one.reserved)
        assert repr(one) == "<Purse all total 0 held, 100 reserved>"

    def test_what_others_wait_for_is_theirs(self) -> None:
        """Who comes later does not take it from them."""
        one = purse(100)
        one.pledged = 60

        assert [False, True] == [one.reserve(50), one.reserve(40)]

    @pytest.mark.parametrize(("spent", "held"), [(60, 40), (0, 100), (250, -150)])
    def test_what_was_really_spent(self, spent: int, held: int) -> None:
        """Less or more than was thought: it is booked as it is."""
        one = purse(100)
        one.reserve(80)
        one.settle(80, spent)

        assert (held, 0, spent) == (one.held, one.reserved, one.spent)

    def test_nothing_was_spent(self) -> None:
        """All is as before."""
        one = purse(100)
        one.reserve(80)
        one.release(80)

        assert (100, 0, 0) == (one.held, one.reserved, one.spent)


class TestAsking:
    """What is asked of its home."""

    def test_for_those_who_wait(self) -> None:
        """The least that helps one of them, and the need of all, less what is held."""
        one = purse(10)
        asked = one.ask(1.0, [Wish(30, 50), Wish(20, 70)])

        assert (10, 110, 10) == (asked.least_nanos, asked.need_nanos, asked.keep_nanos)

    def test_for_a_few_more(self) -> None:
        """Where nothing is known yet: requests like the first one."""
        assert purse().ask(0.0, [Wish(20, 50)]).want_nanos == FEW * 50

    def test_for_what_is_spent_meanwhile(self) -> None:
        """Later: what is spent in some ten seconds, and as many requests at once as there were."""
        one = purse(10_000)
        for second in range(1, 61):
            one.reserve(100)
            one.settle(100, 40)
            one.beat(float(second))
        one.reserve(100)
        one.held = 0
        wanted = one.ask(60.0, [Wish(1, 1)]).want_nanos

        assert 0.9 * 40 * PACE_S <= wanted <= 40 * PACE_S + 100

    def test_debts_come_first(self) -> None:
        """What was spent beyond the loan is asked for with the rest, and also where nobody waits."""
        one = purse(100)
        one.reserve(100)
        one.settle(100, 130)

        assert one.ask(0.0, [Wish(20, 20)]).need_nanos == 50
        assert (0, 30) == one.ask(0.0)[7:9]

    def test_numbers_go_up(self) -> None:
        """Also from one purse to the next of the same account."""
        first = purse()
        numbers = [first.ask(0.0).number, first.ask(0.0).number, purse(now_s=1.0).ask(1.0).number]

        assert numbers == sorted(set(numbers))

    def test_thresholds(self) -> None:
        """In nano-dollars; of a budget of nothing there are none."""
        assert purse().ask(0.0).soft == (500_000_000, 800_000_000)
        assert purse(usd=0).ask(0.0).soft == ()


class TestAnswers:
    """What it makes of them."""

    def test_what_happened_meanwhile(self) -> None:
        """Requests that came and went while the question was on its way are not forgotten."""
        one = purse(100)
        one.reserve(40)
        one.ask(0.0, [Wish(100, 100)])
        one.reserve(30)
        one.settle(40, 25)
        one.grant(reply(140), 0.0, 60.0)

        assert (140 - 30 - 25, 30, 25) == (one.held, one.reserved, one.spent)

    def test_an_answer_that_was_lost(self) -> None:
        """The next one says what became of both questions."""
        one = purse(100)
        one.ask(0.0, [Wish(200, 200)])
        asked = one.ask(0.0, [Wish(200, 200)])
        one.grant(reply(300), 0.0, 60.0)

        assert asked.keep_nanos == 100
        assert one.held == 300

    def test_the_home_has_forgotten(self) -> None:
        """A loan that ran out there is gone here: what runs and what is not settled is a debt."""
        one = purse(100)
        one.reserve(60)
        one.reserve(10)
        one.settle(10, 10)
        one.grant(reply(0), 0.0, 60.0)

        assert one.held == -70

    def test_a_home_that_lost_everything(self) -> None:
        """It is told what was spent by all, as far as that is known here."""
        one = purse(100)
        one.grant(reply(100)._replace(spent_nanos=7_000), 0.0, 60.0)

        assert one.ask(0.0).spent_nanos == 7_000

    def test_the_receipts_are_right(self) -> None:
        """Where more is settled than it knows of, that is what was spent."""
        one = purse(100)
        one.grant(reply(100, settled=30), 0.0, 60.0)

        assert (30, 70) == (one.spent, one.held)

    def test_dry(self) -> None:
        """Where not all was given, nobody asks again for a moment, but who could get what was left, or is elsewhere."""
        one = purse(100)
        one.ask(5.0, [Wish(500, 500)])
        one.grant(reply(100, free=300), 5.0, 60.0)
        at_once = [one.may_get(least, 100, 5.0) for least in (50, 400, 401)]
        one.elsewhere = 1

        assert [False, True, False] == at_once
        assert one.may_get(401, 100, 5.0)
        assert one.may_get(50, 100, 5.0 + DRY_S)

    def test_what_is_on_its_way_back_is_not_gone(self) -> None:
        """Where there seemed to be no more, but it has just given back what somebody needs now: it helps to ask."""
        one = purse()
        one.ask(5.0, [Wish(500, 500)])
        one.grant(reply(100, free=0, lean=True), 5.0, 60.0)
        one.ask(5.1)

        assert (0, 100) == (one.held, one.left)
        assert [True, False] == [one.may_get(least, 0, 5.15) for least in (100, 101)]

    def test_lost(self) -> None:
        """A loan that ran out here: nothing is held but debts, and nothing is spent from it."""
        one = purse(100)
        one.reserve(30)
        one.lost()

        assert (-30, False) == (one.held, one.reserve(1))
        assert one.ask(99.0).keep_nanos == 0


class TestGivingBack:
    """What it does not need."""

    def test_what_is_too_much(self) -> None:
        """What is held beyond twice of what it would hold."""
        one = purse(1_000)
        one.reserve(100)
        one.settle(100, 0)
        asked = one.ask(0.1)

        assert (200, 200, 200) == (asked.keep_nanos, one.lent, one.held)

    def test_what_is_not_used(self) -> None:
        """All of it, after some seconds without a request."""
        one = purse(100)
        one.reserve(50)
        one.settle(50, 50)
        one.beat(1.0)

        assert [0, 50] == [one.idle(0.9 + PACE_S), one.idle(1.0 + PACE_S)]

    def test_where_it_is_scarce(self) -> None:
        """All of it at once, and that is said, so that nobody waits for more."""
        one = purse(100, lean=True)
        one.reserve(40)
        asked = one.ask(0.0)

        assert (40, True, 0) == (asked.keep_nanos, asked.lean, one.held)

    def test_not_what_others_wait_for(self) -> None:
        """Nor where somebody is about to take it."""
        one = purse(100, lean=True)
        one.pledged = 10

        assert (0, 100) == (one.idle(99.0), one.ask(0.0, [Wish(10, 10)]).keep_nanos)


class TestLookingAhead:
    """When more is fetched before it is needed."""

    def test_not_enough_any_more(self) -> None:
        """Less than there was set aside at once; not again until some time has passed; never where money is scarce."""
        one = purse(1_000)
        one.reserve(400)
        one.settle(400, 0)
        one.beat(0.3)
        low = one.low
        one.ahead = True
        wanted = one.ask(0.3).want_nanos
        one.grant(reply(1_000, lean=True), 0.3, 60.0)
        scarce = one.low

        assert 300 < low <= 400
        assert (1, NEVER) == (wanted, scarce)

    def test_as_many_at_once_as_before_are_enough(self) -> None:
        """What is set aside will come back: it is no reason to fetch more. What is spent is."""
        one = purse(500)
        one.reserve(400)
        one.beat(0.3)
        busy = one.held + one.reserved < one.low
        one.settle(400, 300)
        one.beat(0.6)

        assert (busy, one.held + one.reserved < one.low) == (False, True)

    def test_what_must_be_renewed(self) -> None:
        """What is lent, what is set aside, and what is not settled yet."""
        one = purse(100)
        before = one.out
        one.reserve(100)
        one.settle(100, 100)
        unsettled = one.out
        one.grant(reply(100, settled=100), 1.0, 61.0)

        assert (True, True, False) == (before, unsettled, one.out)
        assert one.renew_at == 1.0 + 60 / RENEWALS
