"""Money is set aside before a call: at once where there is some, never more than the budget, and never for nothing."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import pytest

from gateway.budgets import TERM_MS, Account
from gateway.config import BudgetConfig
from gateway.errors import BudgetExceeded, GatewayError, Unavailable, Unpriced
from gateway.tasks import spawn
from gateway.teller import BEAT_S, Teller
from gateway.treasury import NOTHING, PATIENCE_S, Budget, Reservation, Treasury
from tests.gateway.homes import MOMENT_MS, Books
from tests.gateway.test_teller import Seen
from tests.jumping import jumping

DAY_S = 86_400


class Town:
    """A home, and the treasuries of several processes, by the loop's clock. It begins on 2026-11-28 at noon."""

    def __init__(self, *, lets_pass: bool = False) -> None:
        self.clock = asyncio.get_running_loop().time
        self.home = Books()
        self.home.clock_ms = lambda: MOMENT_MS + int(self.clock() * 1000)
        self.alerts = Seen()
        self._lets_pass = lets_pass
        self._there: dict[str, Treasury] = {}

    def wall(self) -> float:
        """What time it is."""
        return MOMENT_MS / 1000 + self.clock()

    def of(self, holder: str = "a") -> Treasury:
        """The treasury of a process."""
        if holder not in self._there:
            teller = Teller(self.home, holder, self.clock, self.alerts)
            self._there[holder] = Treasury(teller, self.clock, self.wall, lets_pass=self._lets_pass)
        return self._there[holder]

    async def spend(self, budgets: Sequence[Budget], nanos: int, holder: str = "a") -> None:
        """Have a request spend so much."""
        (await self.of(holder).reserve(budgets, [nanos])).settle(nanos)

    def kill(self, holder: str) -> None:
        """Have a process vanish, with what it has."""
        teller = self._there.pop(holder)._teller
        if teller._beating is not None:
            teller._beating.cancel()

    async def close(self) -> None:
        """Close the treasuries."""
        for treasury in self._there.values():
            await treasury.close()

    def out(self, holder: str, account: tuple[str, str]) -> int:
        """What a process has of an account, as its home sees it."""
        loan = self.home.book(account).loans.get(holder)
        return 0 if loan is None else loan.out(self.home.clock_ms())


def budget(nanos: int, name: str = "all", per: str = "total", on_budget: str = "refuse") -> Budget:
    """A budget of so much."""
    return Budget(name, BudgetConfig(usd=nanos / 1e9, per=per, on_budget=on_budget))  # type: ignore[arg-type]


def at_once(reserving: Callable[[], object]) -> Reservation:
    """Return what a coroutine returns that waits for nothing."""
    with pytest.raises(StopIteration) as ended:
        reserving().send(None)  # type: ignore[attr-defined]
    reservation = ended.value.value
    assert isinstance(reservation, Reservation)
    return reservation


async def refused(
    town: Town, budgets: Sequence[Budget], ceilings: Sequence[int | None], models: Sequence[str] = ()
) -> GatewayError:
    """Return the error that is raised instead."""
    with pytest.raises(GatewayError) as error:
        await town.of().reserve(budgets, ceilings, models)
    return error.value


class TestReserving:
    """Where there is enough."""

    @jumping
    async def test_without_budgets(self) -> None:
        """Nothing is asked and nothing is made; whatever is done with it does nothing."""
        town = Town()
        got = at_once(lambda: town.of().reserve([], [5, None]))
        got.settle(5)

        assert got is NOTHING
        assert ([], 0) == (got.accounts(), len(town.home.calls))

    @jumping
    async def test_one_question_for_all(self) -> None:
        """The first request asks once, about all of its budgets; the next ones wait for nothing at all."""
        town = Town()
        budgets = [budget(10**9, "key:shop", "day"), budget(10**9, "owner:sales", "month"), budget(10**9)]
        first = await town.of().reserve(budgets, [100, 50])
        second = at_once(lambda: town.of().reserve(budgets, [100, 50]))

        assert [["key:shop", "owner:sales", "all"]] == [[ask.name for ask in asks] for asks in town.home.calls]
        assert [("key:shop", "2026-11-28"), ("owner:sales", "2026-11"), ("all", "total")] == second.accounts()
        assert ((0, 1), "<Reservation 100 nanos of 3 budgets>") == (tuple(first.affordable), repr(second))
        await town.close()

    @jumping
    async def test_once(self) -> None:
        """What was set aside is settled or released, and after that nothing."""
        town = Town()
        all_ = [budget(1_000)]
        got = await town.of().reserve(all_, [400])
        got.settle(300)
        got.settle(300)
        got.release()
        purse = got.purses[0]

        assert (0, 300) == (purse.reserved, purse.spent)
        assert [("all", "total")] == got.accounts()
        await town.close()

    @jumping
    async def test_released(self) -> None:
        """It is there for the next one."""
        town = Town()
        (await town.of().reserve([budget(1_000)], [1_000])).release()

        assert (await town.of().reserve([budget(1_000)], [1_000])).affordable == (0,)
        await town.close()

    @jumping
    async def test_what_costs_nothing(self) -> None:
        """A target without a price to pay needs no money, and nobody is asked, whatever is left."""
        town = Town()

        assert at_once(lambda: town.of().reserve([budget(0)], [0])).affordable == (0,)
        assert town.home.calls == []

    @jumping
    async def test_what_costs_nothing_goes_on(self) -> None:
        """Where the first target is free, it is served whatever is left; others only as far as they are paid for."""
        town = Town()
        (await town.of().reserve([budget(100)], [50])).settle(150)

        assert (0,) == (await town.of().reserve([budget(100)], [0, 50])).affordable
        town.home.deaf = True
        await asyncio.sleep(1)
        assert (0,) == (await town.of().reserve([budget(100)], [0, 50])).affordable
        await town.close()

    @jumping
    async def test_all_or_none(self) -> None:
        """Where one budget does not pay, nothing is set aside of the others."""
        town = Town()
        rich, poor = budget(10**9), budget(100, "key:shop")
        error = await refused(town, [poor, rich], [500])
        after = await town.of().reserve([rich], [500])

        assert isinstance(error, BudgetExceeded)
        assert after.purses[0].reserved == 500
        await town.close()

    @jumping
    async def test_more_was_spent(self) -> None:
        """It is booked as it is, and paid for by what comes after."""
        town = Town()
        (await town.of().reserve([budget(1_000)], [100])).settle(950)
        left = await town.of().reserve([budget(1_000)], [50])
        error = await refused(town, [budget(1_000)], [1])

        assert (left.affordable, isinstance(error, BudgetExceeded)) == ((0,), True)
        await town.close()


class TestTargets:
    """Which targets are paid for."""

    @jumping
    async def test_all_that_fit(self) -> None:
        """Where the first fits: it, and of the others those that do; the dearest of them is set aside."""
        town = Town()
        got = await town.of().reserve([budget(1_000)], [100, 5_000, 700, None])

        assert ([0, 2], 700) == (list(got.affordable), got.purses[0].reserved)
        await town.close()

    @jumping
    async def test_not_at_the_expense_of_others(self) -> None:
        """While others wait for their first target, nobody is given more than the first."""
        town = Town()
        got = await asyncio.gather(*(town.of().reserve([budget(1_000)], [100, 900]) for _ in range(10)))

        assert [[0]] * 10 == [list(each.affordable) for each in got]
        await town.close()

    @jumping
    async def test_a_price_that_nobody_knows(self) -> None:
        """A target that cannot be held to a budget is left out; where it is the first, that is an error."""
        town = Town()
        got = await town.of().reserve([budget(1_000)], [10, None, 20])
        error = await refused(town, [budget(1_000, "key:shop")], [None, 10], ["my-model", "other"])
        unnamed = await refused(town, [budget(1_000)], [None])

        assert [0, 2] == list(got.affordable)
        assert (403, Unpriced) == (error.status, type(error))
        assert error.message == (
            "The model 'my-model' has no known price, so the budget of the key 'shop' cannot be held with it. The "
            "gateway's operator can give it one: `models.my-model.price: {input: …, output: …}`, in dollars per "
            "million tokens."
        )
        assert unnamed.message.startswith("This model has no known price, so the budget of all callers together")
        await town.close()

    @jumping
    async def test_a_step_down(self) -> None:
        """Where the first does not fit: those that do, the cheapest first, if the budget is configured so."""
        town = Town()
        low = budget(1_000, on_budget="cheapest")
        got = await town.of().reserve([low], [5_000, 700, None, 100, 900])
        reserved = got.purses[0].reserved
        next_ = await town.of().reserve([low], [5_000, 700, None, 100, 900])
        nothing = await refused(town, [low], [5_000, 700])

        assert ([3, 1, 4], 900) == (list(got.affordable), reserved)
        assert [3] == list(next_.affordable)
        assert isinstance(nothing, BudgetExceeded)
        await town.close()

    @jumping
    async def test_a_budget_that_refuses(self) -> None:
        """Where that one does not pay for the first, no other has the request step down."""
        town = Town()
        strict = await refused(town, [budget(1_000, "key:shop", on_budget="cheapest"), budget(1_000)], [5_000, 100])
        mild = await town.of().reserve(
            [budget(1_000, "key:shop", on_budget="cheapest"), budget(10_000, "owner:sales")], [5_000, 100]
        )

        assert "all callers together" in strict.message
        assert [1] == list(mild.affordable)
        await town.close()


class TestRefusing:
    """What the caller is told."""

    @jumping
    async def test_used_up(self) -> None:
        """Whose budget, how much it is, and when it begins anew: 429, with that many seconds to wait."""
        town = Town()
        day = [budget(10_000_000_000, "key:shop", "day")]
        await town.spend(day, 10_000_000_000)
        error = await refused(town, day, [1])

        assert (429, "insufficient_quota", "insufficient_quota") == (error.status, error.kind, error.code)
        assert error.headers == {"Retry-After": str(DAY_S // 2), "x-should-retry": "false"}
        assert error.message == (
            "The budget of the key 'shop', $10.00 a day, is used up. It begins anew at 2026-11-29T00:00:00Z."
        )
        await town.close()

    @jumping
    async def test_not_enough(self) -> None:
        """What is left, what the request may cost, and how it may cost less."""
        town = Town()
        month = [budget(1_234_500_000_000, "owner:sales", "month")]
        await town.spend(month, 1_234_475_000_000)
        error = await refused(town, month, [50_000_000])

        assert error.message == (
            "The budget of the owner 'sales', $1,234.50 a month, has $0.025 left, and this request may cost $0.05. "
            "With a lower limit for the answer's tokens it may cost less. It begins anew at 2026-12-01T00:00:00Z."
        )
        await town.close()

    @jumping
    async def test_for_good(self) -> None:
        """A budget that never begins anew."""
        town = Town()
        error = await refused(town, [budget(0)], [1])

        assert error.headers["Retry-After"] == "3600"
        assert error.message == "The budget of all callers together, $0.00, is used up. It does not begin anew."
        await town.close()

    @jumping
    async def test_a_crowd_is_refused_together(self) -> None:
        """Whoever comes to a budget that is used up costs its keeper next to nothing."""
        town = Town()
        await town.spend([budget(100)], 100)
        calls = len(town.home.calls)
        errors = await asyncio.gather(
            *(town.of().reserve([budget(100)], [1]) for _ in range(1_000)), return_exceptions=True
        )

        assert all(isinstance(error, BudgetExceeded) for error in errors)
        assert len(town.home.calls) - calls <= 2
        await town.close()


class TestCrowds:
    """Many at once."""

    @pytest.mark.parametrize("cost", [1, 7, 1_000])
    def test_exactly_what_there_is(self, cost: int) -> None:
        """As many as are paid for, and not one more; all of it with a few questions."""
        @jumping
        async def play() -> None:
            """Play it."""
            town = Town()
            there = budget(700 * cost)
            got = await asyncio.gather(
                *(town.of().reserve([there], [cost]) for _ in range(1_000)), return_exceptions=True
            )

            assert all(isinstance(each, Reservation) for each in got[:700]), "who came first is served"
            assert all(isinstance(each, BudgetExceeded) for each in got[700:])
            assert len(town.home.calls) <= 5
            await town.close()

        play()

    @jumping
    async def test_three_processes(self) -> None:
        """Together too; and what one of them gives back, another can spend, to the last bit."""
        town = Town()
        there = budget(1_000)

        async def spender(holder: str) -> int:
            """Spend until refused for good."""
            spent = refusals = 0
            while refusals < 10:
                try:
                    got = await town.of(holder).reserve([there], [10])
                except BudgetExceeded:
                    refusals += 1
                    await asyncio.sleep(0.3)
                    continue
                await asyncio.sleep(0.01)
                got.settle(7)
                spent += 7
            return spent

        spent = sum(await asyncio.gather(*(spender(holder) for holder in "abc" for _ in range(5))))

        assert 1_000 - 10 < spent <= 1_000
        await town.close()

    @jumping
    async def test_a_steady_stream_does_not_wait(self) -> None:
        """What is spent is fetched before it is needed: after the first seconds hardly a request waits."""
        town = Town()
        there, waited = [budget(10**9)], 0
        for number in range(600):
            reserving = spawn(town.of().reserve(there, [1_000]))
            await asyncio.sleep(0)
            waited += number > 50 and not reserving.done()
            (await reserving).settle(400)
            await asyncio.sleep(0.1)

        assert waited <= 3
        assert len(town.home.calls) <= 40
        await town.close()


class TestIdleMoney:
    """What one process has and does not need."""

    @jumping
    async def test_nobody_is_refused_for_it(self) -> None:
        """A request waits a moment for what others give back, and is served."""
        town = Town()
        there = [budget(1_000)]
        await town.spend(there, 10, "rich")
        lent = town.out("rich", ("all", "total"))
        began = town.clock()
        got = await town.of("poor").reserve(there, [990])

        assert lent > 10
        assert (0,) == got.affordable
        assert town.clock() - began < 2
        await town.close()

    @jumping
    async def test_the_dead_are_waited_for_once(self) -> None:
        """Who does not give anything back is not waited for again at once; what it had is free when it expires."""
        town = Town()
        there = [budget(1_000)]
        await town.of("dead").reserve(there, [10])
        town.kill("dead")
        took = []
        for _ in range(3):
            began = town.clock()
            with pytest.raises(BudgetExceeded):
                await town.of("b").reserve(there, [990])
            took.append(town.clock() - began)
        await asyncio.sleep(TERM_MS / 1000)
        got = await town.of("b").reserve(there, [1_000])

        assert took[0] < PATIENCE_S
        assert took[1] == took[2] == 0
        assert (0,) == got.affordable
        await town.close()


class TestAway:
    """Nobody can be asked."""

    @jumping
    async def test_what_is_held_is_spent(self) -> None:
        """And then requests are refused with a 503: nobody knows what is left."""
        town = Town()
        there = [budget(10**9)]
        await town.spend(there, 100)
        town.home.deaf = True
        served = [await town.of().reserve(there, [100, 10**6])]
        served += [at_once(lambda: town.of().reserve(there, [100, 10**6])) for _ in range(2)]
        error = await refused(town, there, [10**6])

        assert [[0]] * 3 == [list(each.affordable) for each in served]
        assert (503, Unavailable, "1") == (error.status, type(error), error.headers["Retry-After"])
        await town.close()

    @jumping
    async def test_going_on_unchecked(self) -> None:
        """Where it is configured so; it is counted, and booked as soon as that is possible."""
        town = Town(lets_pass=True)
        there = [budget(1_000)]
        town.home.deaf = True
        for _ in range(3):
            (await town.of().reserve(there, [200, 400])).settle(300)
        town.home.deaf = False
        await asyncio.sleep(3 * BEAT_S)
        error = await refused(town, there, [200])

        assert town.of().unchecked == 3
        assert town.out("a", ("all", "total")) == 900
        assert isinstance(error, BudgetExceeded)
        await town.close()

    @jumping
    async def test_a_home_that_hangs(self) -> None:
        """It is the home that bounds how long it is waited for; whoever leaves meanwhile leaves nothing set aside."""
        town = Town()
        town.home.gate = asyncio.Event()
        leaving = spawn(town.of().reserve([budget(1_000)], [10]))
        await town.home.called.wait()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        town.home.gate.set()
        got = await town.of().reserve([budget(1_000)], [10])

        assert (10, 0) == (got.purses[0].reserved, got.purses[0].pledged)
        await town.close()

    @jumping
    async def test_too_many_at_once(self) -> None:
        """A request that others are always quicker than gives up in the end: it is told to come again."""
        town = Town()
        answer = town.home.answer
        town.home.answer = lambda holder, ask: answer(holder, ask)._replace(free_nanos=10**6)  # type: ignore[method-assign]
        real = town.home.call

        async def slow(holder: str, asks: Sequence[object]) -> object:
            """Take a moment."""
            await asyncio.sleep(0.05)
            return await real(holder, asks)  # type: ignore[arg-type]

        town.home.call = slow  # type: ignore[method-assign, assignment]
        began = town.clock()
        error = await refused(town, [budget(100)], [101])

        assert (503, "1") == (error.status, error.headers["Retry-After"])
        assert PATIENCE_S <= town.clock() - began < PATIENCE_S + 1
        await town.close()


class TestPeriods:
    """Midnight, the first of the month, and a new configuration."""

    @pytest.mark.parametrize(("per", "moment", "before", "after"), [
        ("day", "2026-11-28T23:59:59", "2026-11-28", "2026-11-29"),
        ("month", "2026-11-30T23:59:59", "2026-11", "2026-12"),
        ("total", "2026-12-31T23:59:59", "total", "total"),
    ])
    def test_in_the_middle_of_a_request(self, per: str, moment: str, before: str, after: str) -> None:
        """It is paid for by the period in which it began; the next one has all of the new one."""
        @jumping
        async def play() -> None:
            """Play it."""
            town = Town()
            there = [budget(1_000, "key:shop", per)]
            await asyncio.sleep(datetime.fromisoformat(f"{moment}+00:00").timestamp() - town.wall())
            late = await town.of().reserve(there, [900])
            await asyncio.sleep(2)
            if before == after:
                with pytest.raises(BudgetExceeded):
                    await town.of().reserve(there, [900])
            else:
                early = await town.of().reserve(there, [900])
                assert [("key:shop", after)] == early.accounts()
                assert early.purses[0].held == early.purses[0].lent - 900
            late.settle(800)
            town.home.settle("a", {("key:shop", before): 800})
            await asyncio.sleep(60)

            assert [("key:shop", before)] == late.accounts()
            assert 0 == town.out("a", ("key:shop", before))
            assert (800, 800) == (late.purses[0].spent, late.purses[0].settled)
            await town.close()

        play()

    @jumping
    async def test_a_smaller_budget(self) -> None:
        """It holds at once: what was fetched for later is given back, and lent anew if it may be."""
        town = Town()
        await town.spend([budget(10**9)], 500)
        with pytest.raises(BudgetExceeded):
            await town.of().reserve([budget(600)], [200])
        got = await town.of().reserve([budget(600)], [100])

        assert (0,) == got.affordable
        await town.close()

    @jumping
    async def test_a_larger_budget(self) -> None:
        """It is there for the next request, also where there was no more a moment ago."""
        town = Town()
        await town.spend([budget(500)], 500)
        with pytest.raises(BudgetExceeded):
            await town.of().reserve([budget(500)], [400])
        got = await town.of().reserve([budget(900)], [400])

        assert (0,) == got.affordable
        await town.close()

    @jumping
    async def test_the_clock_is_put_back(self) -> None:
        """A period that was over begins again with what was spent in it."""
        town = Town()
        there = [budget(1_000, per="day")]
        await town.spend(there, 900)
        clock = town.wall
        town.wall = lambda: clock() + DAY_S  # type: ignore[method-assign]
        town.of()._wall = town.wall
        await town.spend(there, 900)
        town.of()._wall = clock
        with pytest.raises(BudgetExceeded):
            await town.of().reserve(there, [900])
        await town.close()


@jumping
async def test_standings() -> None:
    """How budgets stand, as far as receipts are stored; nobody knows where nobody can be asked."""
    town = Town()
    budgets = [budget(1_000, "key:shop", "day"), budget(5_000)]
    town.home.settle("b", {("key:shop", "2026-11-28"): 70})
    standings = await town.of().standings(budgets)
    town.home.deaf = True
    with pytest.raises(Unavailable):
        await town.of().standings(budgets)

    assert [
        (Account("key:shop", "2026-11-28", 1_000), "day", 70, MOMENT_MS / 1000 + DAY_S / 2),
        (Account("all", "total", 5_000), "total", 0, None),
    ] == standings
    assert repr(town.of()).startswith("<Treasury 0 budgets, <Teller 0 purses")
    await town.close()
