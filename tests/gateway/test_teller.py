"""Questions to the home of the accounts, one at a time for all, and what is looked after in the background."""

import asyncio
from typing import Any

import pytest

from gateway import logs
from gateway.alerts import Alerts
from gateway.budgets import TERM_MS, Account, Ask, Reply
from gateway.config import BudgetConfig
from gateway.purse import PACE_S, RENEWALS, Purse, Wish
from gateway.tasks import spawn
from gateway.teller import AGAIN_S, BEAT_S, CLOSE_S, MARGIN, TOGETHER, Teller
from tests.gateway.homes import MOMENT_MS, Books
from tests.jumping import jumping

LIMIT = 1_000_000
RENEW_S = TERM_MS / 1000 / RENEWALS * MARGIN


class Seen(Alerts):
    """Alerts that are only noted."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, float, int]] = []

    def crossed(self, account: Account, _: BudgetConfig, share: float, spent_nanos: int) -> None:
        """Note it."""
        self.seen.append((account.name, share, spent_nanos))


class Bench:
    """A home, and tellers of several processes, by the loop's clock."""

    def __init__(self) -> None:
        self.clock = asyncio.get_running_loop().time
        self.home = Books()
        self.home.clock_ms = lambda: MOMENT_MS + int(self.clock() * 1000)
        self.alerts = Seen()
        self.tellers: dict[str, Teller] = {}

    def teller(self, holder: str = "a") -> Teller:
        """The teller of a process."""
        if holder not in self.tellers:
            self.tellers[holder] = Teller(self.home, holder, self.clock, self.alerts)
        return self.tellers[holder]

    def purse(self, name: str = "all", limit: int = LIMIT, soft: tuple[float, ...] = ()) -> Purse:
        """A purse."""
        config = BudgetConfig(usd=limit / 1e9, soft=list(soft))
        return Purse(Account(name, "total", limit), config, 1e12, self.clock())

    async def filled(self, nanos: int, holder: str = "a", name: str = "all", limit: int = LIMIT) -> Purse:
        """A purse that holds something."""
        purse = self.purse(name, limit)
        assert await self.teller(holder).fetch([(purse, Wish(nanos, nanos))])
        return purse

    def out(self, holder: str, name: str = "all") -> int:
        """What a holder has of an account, as its home sees it."""
        loan = self.home.book((name, "total")).loans.get(holder)
        return 0 if loan is None else loan.out(self.home.clock_ms())

    async def close(self) -> None:
        """Close the tellers."""
        for teller in self.tellers.values():
            await teller.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged."""
    lines: list[str] = []
    monkeypatch.setattr(logs, "say", lambda event, *_, **__: lines.append(event))
    return lines


class TestFetching:
    """Purses are filled."""

    @jumping
    async def test_a_crowd_asks_twice(self) -> None:
        """The first asks alone; all who come meanwhile ask together, whatever they need."""
        bench = Bench()
        bench.home.gate = asyncio.Event()
        purses = [bench.purse(), bench.purse("key:shop")]
        first = spawn(bench.teller().fetch([(purses[0], Wish(5, 5))]))
        await bench.home.called.wait()
        crowd = [spawn(bench.teller().fetch([(purse, Wish(7, 7)) for purse in purses])) for _ in range(100)]
        await asyncio.sleep(0)
        bench.home.gate.set()

        assert [True] * 101 == [await each for each in [first, *crowd]]
        assert [1, 2] == [len(asks) for asks in bench.home.calls]
        assert all(purse.held >= 700 for purse in purses)
        await bench.close()

    @jumping
    async def test_those_who_wait_come_first(self) -> None:
        """And no question is about more accounts than a transaction should lock."""
        bench = Bench()
        many = [await bench.filled(10, name=f"key:{number}") for number in range(TOGETHER + 10)]
        bench.home.calls.clear()
        for purse in many:
            bench.teller().fetch_ahead(purse)
        late = bench.purse("key:late")
        await bench.teller().fetch([(late, Wish(10, 10))])

        assert len(bench.home.calls[0]) == TOGETHER
        assert bench.home.calls[0][0].name == "key:late"
        await bench.close()

    @jumping
    async def test_who_leaves_is_not_counted(self) -> None:
        """A request that is cancelled while it waits leaves nothing behind: no pledge, and no need that others see."""
        bench = Bench()
        bench.home.gate = asyncio.Event()
        purse = bench.purse()
        first = spawn(bench.teller().fetch([(purse, Wish(5, 5))]))
        await bench.home.called.wait()
        leaving = spawn(bench.teller().fetch([(purse, Wish(900, 900))]))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        bench.home.gate.set()
        await first

        assert purse.pledged == 0
        assert [5] == [ask.need_nanos for asks in bench.home.calls for ask in asks if ask.need_nanos]
        await bench.close()

    @jumping
    async def test_thresholds_are_told(self) -> None:
        """By whoever hears of them first."""
        bench = Bench()
        bench.home.settle("gone", {("all", "total"): 900_000})
        for holder in ("a", "b"):
            purse = bench.purse(soft=(0.5, 0.8, 0.95))
            await bench.teller(holder).fetch([(purse, Wish(5, 5))])

        assert bench.alerts.seen == [("all", 0.5, 900_000), ("all", 0.8, 900_000)]
        await bench.close()


class TestAway:
    """The home does not answer."""

    @jumping
    async def test_nobody_waits(self, said: list[str]) -> None:
        """One finds out; for a while the others are told at once; then one asks again. The log says both, once."""
        bench = Bench()
        bench.home.deaf = True
        purse = bench.purse()
        heard = [await bench.teller().fetch([(purse, Wish(5, 5))]) for _ in range(3)]
        calls = len(bench.home.calls)
        bench.teller().fetch_ahead(purse)
        bench.home.deaf = False
        await asyncio.sleep(AGAIN_S)
        heard.append(await bench.teller().fetch([(purse, Wish(5, 5))]))

        assert ([False, False, False, True], 1) == (heard, calls)
        assert said == ["budgets cannot be looked up", "budgets can be looked up again"]
        await bench.close()

    @jumping
    async def test_an_answer_that_is_lost(self) -> None:
        """What was lent is not lost: the next answer tells."""
        bench = Bench()
        bench.home.mute = True
        purse = bench.purse()
        heard = await bench.teller().fetch([(purse, Wish(500, 500))])
        lent, held = bench.out("a"), purse.held
        bench.home.mute = False
        await asyncio.sleep(AGAIN_S)
        await bench.teller().fetch([(purse, Wish(500, 500))])

        assert (False, 0) == (heard, held)
        assert lent == purse.held == bench.out("a")
        await bench.close()

    @jumping
    async def test_a_loan_that_cannot_be_renewed(self, said: list[str]) -> None:
        """It counts as lost here before it does there; when the home answers again, what was spent is covered first."""
        bench = Bench()
        purse = await bench.filled(1_000)
        purse.reserve(100)
        purse.settle(100, 60)
        purse.reserve(200)
        bench.home.deaf = True
        while purse.held >= 0:
            assert bench.out("a") >= 260, "it is still its own while it believes so"
            await asyncio.sleep(BEAT_S)
        lost = purse.held
        bench.home.deaf = False
        await asyncio.sleep(2 * BEAT_S)

        assert lost == -260
        assert (260, 0) == (bench.out("a"), purse.held)
        assert said == ["budgets cannot be looked up", "budgets can be looked up again"]
        await bench.close()

    @jumping
    async def test_a_fault_of_ours(self, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever waits is told, and the next question is asked."""
        bench = Bench()

        async def broken(*_: object) -> list[Reply]:
            """Fail."""
            raise KeyError("what")

        with monkeypatch.context() as patch:
            patch.setattr(bench.home, "call", broken)
            heard = await bench.teller().fetch([(bench.purse(), Wish(5, 5))])

        assert (False, ["budgets failed"]) == (heard, said)
        assert (await bench.filled(5)).held >= 5
        await bench.close()

    @jumping
    async def test_others_cannot_be_asked(self) -> None:
        """That what others want is not known does not end the background."""
        bench = Bench()
        purse = await bench.filled(1_000)
        bench.home.deaf = True
        await asyncio.sleep(3 * BEAT_S)
        bench.home.deaf = False
        await asyncio.sleep(PACE_S + 2 * RENEW_S)

        assert (0, 0) == (purse.held, bench.out("a"))
        await bench.close()


class TestBackground:
    """Nobody asks for it."""

    @jumping
    async def test_loans_are_renewed(self) -> None:
        """As long as a request runs, however long that is."""
        bench = Bench()
        purse = await bench.filled(100)
        purse.reserve(100)
        await asyncio.sleep(600)

        assert bench.out("a") == 100
        assert 600 / (RENEW_S + BEAT_S) - 1 <= len(bench.home.calls) <= 600 / RENEW_S + 1
        await bench.close()

    @jumping
    async def test_what_is_idle_is_given_back(self) -> None:
        """And then nothing is asked any more."""
        bench = Bench()
        purse = await bench.filled(100)
        await asyncio.sleep(PACE_S + 2 * RENEW_S)
        given_back, calls = bench.out("a"), len(bench.home.calls)
        await asyncio.sleep(600)

        assert (0, 0, calls) == (given_back, purse.held, len(bench.home.calls))
        await bench.close()

    @jumping
    async def test_others_want_it(self) -> None:
        """What is idle is theirs within about a second."""
        bench = Bench()
        rich = await bench.filled(10, "a", limit=1_000)
        held, poor = rich.held, bench.purse(limit=1_000)
        await bench.teller("b").fetch([(poor, Wish(1_000, 1_000))])
        asked = poor.elsewhere
        await asyncio.sleep(BEAT_S + 0.2)
        await bench.teller("b").fetch([(poor, Wish(1_000, 1_000))])

        assert held == asked > 0
        assert (0, 1_000) == (rich.held, poor.held)
        await bench.close()

    @jumping
    async def test_where_it_is_scarce(self) -> None:
        """What a request leaves over is given back at once, with what others leave over in that moment."""
        bench = Bench()
        purse = await bench.filled(900, limit=1_000)
        purse.reserve(900)
        purse.lean = True
        bench.home.calls.clear()
        for _ in range(3):
            purse.settle(300, 100)
            bench.teller().left_over(purse)
        await asyncio.sleep(0.2)

        assert (300, 1) == (bench.out("a"), len(bench.home.calls))
        await bench.close()

    @jumping
    async def test_ahead(self) -> None:
        """What is half gone is fetched before it is needed."""
        bench = Bench()
        purse = await bench.filled(100)
        purse._pace = 100.0
        bench.teller().fetch_ahead(purse)
        await asyncio.sleep(0.01)

        assert purse.held == 100 * PACE_S
        await bench.close()

    @jumping
    async def test_which_purses_are_kept(self) -> None:
        """Those that a home must be told of."""
        bench = Bench()
        purse = await bench.filled(100)
        found = [bench.teller().kept(*account) for account in (("all", "total"), ("all", "2026-11"))]
        await asyncio.sleep(PACE_S + 2 * RENEW_S)

        assert ([purse, None], None) == (found, bench.teller().kept("all", "total"))
        await bench.close()


class TestClosing:
    """A shutdown."""

    @jumping
    async def test_what_is_not_spent_is_given_back(self) -> None:
        """All but what is not settled yet; nothing is asked after that, and closing again does nothing."""
        bench = Bench()
        purse = await bench.filled(100)
        purse.reserve(30)
        purse.settle(30, 20)
        await bench.teller().close()
        await bench.teller().close()
        calls = len(bench.home.calls)

        assert bench.out("a") == 20
        assert not await bench.teller().fetch([(purse, Wish(50, 50))])
        assert calls == len(bench.home.calls) == 2

    @jumping
    async def test_nobody_is_left_waiting(self) -> None:
        """A home that hangs does not hold it up, nor those who still wait for it."""
        bench = Bench()
        bench.home.gate = asyncio.Event()
        waiting = spawn(bench.teller().fetch([(bench.purse(), Wish(50, 50))]))
        await bench.home.called.wait()
        began = bench.clock()
        await bench.teller().close()

        assert not await waiting
        assert bench.clock() - began <= CLOSE_S + 0.1


@jumping
async def test_it_says_how_it_is() -> None:
    """What an operator would read of it; and what was spent, by all."""
    bench = Bench()
    await bench.filled(100)
    well = repr(bench.teller())
    bench.home.settle("b", {("all", "total"): 70})
    spent: Any = await bench.teller().spent([("all", "total"), ("all", "2026-11")])

    assert ("<Teller 1 purses, well>", [70, 0]) == (well, spent)
    assert isinstance(bench.home.calls[0][0], Ask)
    await bench.close()
