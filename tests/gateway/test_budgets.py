"""The rules of accounts and loans; and, whatever several processes do with them, no budget is overspent."""

from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.budgets import (
    QUIET_MS,
    SHARE,
    TERM_MS,
    WANTED_MS,
    Account,
    Ask,
    Book,
    Reply,
    ends_at,
    ends_in_s,
    period_of,
)
from gateway.config import BudgetConfig
from gateway.purse import Purse, Wish

NOON_S = 1_795_867_200              # 2026-11-28, 12:00 UTC
NOW_MS = NOON_S * 1000


def ask(number: int, **more: int | bool | tuple[int, ...]) -> Ask:
    """A question about an account with a limit of 1,000."""
    told = {"keep_nanos": 0, **more}
    return Ask("all", "total", 1_000, number, **told)  # type: ignore[arg-type]


def need(number: int, nanos: int, **more: int) -> Ask:
    """A question for no more than this."""
    return ask(number, least_nanos=nanos, need_nanos=nanos, want_nanos=1, **more)


class TestLending:
    """What is lent, and to whom."""

    def test_what_is_needed(self) -> None:
        """It is lent whole, and is nobody else's then."""
        book = Book()
        first = book.answer("a", need(1, 700), NOW_MS)
        second = book.answer("b", need(1, 400), NOW_MS)
        third = book.answer("b", need(2, 300), NOW_MS)

        assert [700, 0, 300] == [first.lent_nanos, second.lent_nanos, third.lent_nanos]
        assert [300, 300, 0] == [first.free_nanos, second.free_nanos, third.free_nanos]

    def test_as_much_as_helps(self) -> None:
        """Where there is not enough for all who wait, it is lent as far as it is enough for one."""
        book = Book()

        assert book.answer("a", ask(1, least_nanos=10, need_nanos=5_000), NOW_MS).lent_nanos == 1_000

    @pytest.mark.parametrize(("want", "lent", "lean"), [(20, 20, False), (500, 1_000 // SHARE, False)])
    def test_for_later(self, want: int, lent: int, lean: bool) -> None:
        """What would save the next questions, up to a share of what is left."""
        reply = Book().answer("a", ask(1, least_nanos=5, need_nanos=5, want_nanos=want), NOW_MS)

        assert (lent, lean) == (reply.lent_nanos, reply.lean)

    def test_near_the_end(self) -> None:
        """Where the share is no more than what is needed, that is lent and nothing for later, and it is said."""
        book = Book(spent_nanos=900)
        reply = book.answer("a", ask(1, least_nanos=30, need_nanos=30, want_nanos=500), NOW_MS)

        assert (30, True) == (reply.lent_nanos, reply.lean)

    def test_what_is_given_back(self) -> None:
        """It is another's at once."""
        book = Book()
        book.answer("a", need(1, 1_000), NOW_MS)
        book.answer("a", ask(2, keep_nanos=400), NOW_MS)

        assert book.answer("b", need(1, 600), NOW_MS).lent_nanos == 600

    def test_what_was_spent_is_not_given_back(self) -> None:
        """A holder that keeps less than was settled keeps that."""
        book = Book()
        book.answer("a", need(1, 500), NOW_MS)
        book.settle("a", 300)

        assert book.answer("a", ask(2, keep_nanos=100), NOW_MS).lent_nanos == 300
        assert book.free(1_000, NOW_MS) == 700

    def test_a_late_question_changes_nothing(self) -> None:
        """One that was overtaken by a later one is only answered; so is one that comes twice."""
        book = Book()
        book.answer("a", need(2, 100), NOW_MS)
        late = [book.answer("a", need(number, 500, keep_nanos=100), NOW_MS) for number in (1, 2)]

        assert [100, 100] == [reply.lent_nanos for reply in late]

    def test_a_limit_that_falls(self) -> None:
        """Nothing more is lent; what is free is less than nothing."""
        book = Book()
        book.answer("a", need(1, 900), NOW_MS)
        reply = book.answer("b", need(1, 1)._replace(limit_nanos=500), NOW_MS)

        assert (0, -400) == (reply.lent_nanos, reply.free_nanos)


class TestSettling:
    """What was really spent."""

    def test_it_comes_out_of_the_loan(self) -> None:
        """Spent and lent together stay what they were."""
        book = Book()
        book.answer("a", need(1, 500), NOW_MS)
        book.settle("a", 200)

        assert (200, 500) == (book.spent_nanos, book.free(1_000, NOW_MS))

    def test_of_somebody_unknown(self) -> None:
        """It was spent all the same."""
        book = Book()
        book.settle("gone", 200)

        assert book.free(1_000, NOW_MS) == 800

    def test_by_an_account_that_was_lost(self) -> None:
        """What somebody knows to be spent is spent: the store may have forgotten, as a Redis that was restarted."""
        book = Book()
        reply = book.answer("a", need(1, 500, spent_nanos=700), NOW_MS)

        assert (0, 700, 300) == (reply.lent_nanos, reply.spent_nanos, reply.free_nanos)
        assert book.answer("b", need(1, 1, spent_nanos=600), NOW_MS).spent_nanos == 700

    def test_more_than_was_lent(self) -> None:
        """It is booked as it is, and the next loan covers it first."""
        book = Book()
        book.answer("a", need(1, 100), NOW_MS)
        book.settle("a", 250)
        free = book.free(1_000, NOW_MS)
        reply = book.answer("a", need(2, 160, keep_nanos=100), NOW_MS)

        assert (750, 260, 740) == (free, reply.lent_nanos, reply.free_nanos)


class TestExpiry:
    """What is not renewed."""

    def test_it_is_anothers_then(self) -> None:
        """To the millisecond."""
        book = Book()
        book.answer("a", need(1, 1_000), NOW_MS)
        early = book.answer("b", need(1, 1_000), NOW_MS + TERM_MS - 1)
        late = book.answer("b", need(2, 1_000), NOW_MS + TERM_MS)

        assert (0, 1_000) == (early.lent_nanos, late.lent_nanos)

    def test_every_question_renews(self) -> None:
        """Also one for nothing."""
        book = Book()
        book.answer("a", need(1, 1_000), NOW_MS)
        book.answer("a", ask(2, keep_nanos=1_000), NOW_MS + TERM_MS - 1)

        assert book.free(1_000, NOW_MS + 2 * TERM_MS - 2) == 0

    def test_who_comes_too_late(self) -> None:
        """Learns that it has nothing; what it spent meanwhile is a debt of its own."""
        book = Book()
        book.answer("a", need(1, 500), NOW_MS)
        book.settle("a", 100)
        reply = book.answer("a", ask(2, keep_nanos=500), NOW_MS + TERM_MS)

        assert (100, 100) == (reply.lent_nanos, reply.settled_nanos)

    def test_a_forgotten_loan(self) -> None:
        """It goes on from what the holder knows to be settled."""
        reply = Book(spent_nanos=300).answer("a", need(7, 50, keep_nanos=400, settled_nanos=300), NOW_MS)

        assert (350, 300, 650) == (reply.lent_nanos, reply.settled_nanos, reply.free_nanos)


class TestWanting:
    """Others are asked for what they can spare."""

    def test_for_a_while(self) -> None:
        """Who may give it back is waited for; after that they are taken for dead, and not asked for some time."""
        book = Book()
        book.answer("a", ask(1, least_nanos=10, need_nanos=900, want_nanos=1), NOW_MS)
        book.loans["a"].lean = False
        moments = [0, WANTED_MS - 1, WANTED_MS, WANTED_MS + QUIET_MS - 1, WANTED_MS + QUIET_MS]
        replies = [book.answer("b", need(1 + i, 200), NOW_MS + ms) for i, ms in enumerate(moments)]

        assert [900, 900, 0, 0, 900] == [reply.elsewhere_nanos for reply in replies]
        assert book.wanted_ms == NOW_MS + moments[-1]

    def test_not_who_has_nothing_to_spare(self) -> None:
        """Who keeps nothing that it does not need is not waited for."""
        book = Book()
        book.answer("a", need(1, 900), NOW_MS)
        book.answer("a", ask(2, keep_nanos=900, lean=True), NOW_MS)

        assert book.answer("b", need(1, 200), NOW_MS).elsewhere_nanos == 0
        assert book.wanted_ms == 0

    def test_not_where_there_is_enough(self) -> None:
        """Nobody is asked for anything."""
        book = Book()
        book.answer("a", ask(1, least_nanos=10, need_nanos=100, want_nanos=1), NOW_MS)
        book.answer("b", need(1, 200), NOW_MS)

        assert book.wanted_ms == 0


class TestThresholds:
    """Who is told that much is spent."""

    def test_the_first_who_asks(self) -> None:
        """And nobody after that; each threshold for itself."""
        book = Book()
        book.settle("a", 850)
        told = [book.answer(who, ask(1, soft=(500, 800, 900)), NOW_MS).crossed for who in ("a", "b")]
        book.settle("a", 50)
        told.append(book.answer("b", ask(2, soft=(500, 800, 900)), NOW_MS).crossed)

        assert [(500, 800), (), (900,)] == told


class TestPeriods:
    """When a budget begins anew, by UTC."""

    @pytest.mark.parametrize(("per", "name", "ends_s"), [
        ("day", "2026-11-28", 12 * 3_600), ("month", "2026-11", 2.5 * 86_400), ("total", "total", None),
    ])
    def test_of_a_moment(self, per: str, name: str, ends_s: float | None) -> None:
        """Its name, and how long it goes on."""
        assert (name, ends_s) == (period_of(per, NOON_S), ends_in_s(per, NOON_S))  # type: ignore[arg-type]

    @pytest.mark.parametrize(("moment", "day", "month"), [
        ("2026-12-31T23:59:59", "2027-01-01", "2027-01-01"), ("2028-02-28T00:00:00", "2028-02-29", "2028-03-01"),
        ("2026-01-31T12:00:00", "2026-02-01", "2026-02-01"),
    ])
    def test_ends(self, moment: str, day: str, month: str) -> None:
        """At the end of years and of Februaries too."""
        from datetime import datetime

        now_s = datetime.fromisoformat(f"{moment}+00:00").timestamp()

        assert [day, month] == [f"{ends_at(per, now_s):%Y-%m-%d}" for per in ("day", "month")]
        assert ends_at("total", now_s) is None


class Paid(NamedTuple):
    """A request that has ended, whose receipt is on its way."""

    holder: str
    nanos: int


class Process:
    """A process with its purse, requests that run, and a question on its way."""

    def __init__(self, holder: str, account: Account, now_s: float) -> None:
        self.holder = holder
        self.purse = Purse(account, BudgetConfig(usd=1), 1e12, now_s)
        self.running: list[int] = []
        self.late: list[Ask] = []           # questions that nobody waits for any more, and that may arrive yet


@settings(max_examples=150, stateful_step_count=60, deadline=None)
class Spending(RuleBasedStateMachine):
    """Several processes spend one budget; messages are lost, come late or twice; processes are killed."""

    @initialize(limit=st.sampled_from([0, 1, 100, 10_000]), processes=st.integers(1, 4))
    def begin(self, limit: int, processes: int) -> None:
        """Start them."""
        self.account = Account("all", "total", limit)
        self.book = Book()
        self.now_ms = NOW_MS
        self.started = 0
        self.spent = 0
        self.unsettled: list[Paid] = []
        self.processes = [self.start() for _ in range(processes)]
        self.dead: list[Process] = []

    def start(self) -> Process:
        """Start a process."""
        self.started += 1
        return Process(f"process-{self.started}", self.account, self.now_ms / 1000)

    def talk(self, process: Process, wishes: list[Wish], fate: str = "heard") -> Reply | None:
        """Have a process ask; the question or its answer may be lost, and the question come late."""
        question = process.purse.ask(self.now_ms / 1000, wishes)
        if fate == "lost":
            process.late.append(question)
            return None
        reply = self.book.answer(process.holder, question, self.now_ms)
        if fate == "unheard":
            return None
        process.purse.grant(reply, self.now_ms / 1000, self.now_ms / 1000 + TERM_MS / 1000)
        return reply

    fates = st.sampled_from(["heard", "heard", "heard", "lost", "unheard"])
    which = st.integers(0, 100)

    @rule(which=which, nanos=st.integers(0, 60) | st.integers(0, 8_000), fate=fates)
    def reserve(self, which: int, nanos: int, fate: str) -> None:
        """A request comes: it is paid for by the purse, or after a question, or not at all."""
        process = self.processes[which % len(self.processes)]
        if not process.purse.reserve(nanos):
            reply = self.talk(process, [Wish(nanos, nanos)], fate)
            if not process.purse.reserve(nanos):
                # Nobody is refused what is there to be lent.
                assert reply is None or reply.free_nanos + process.purse.held < nanos
                return
        process.running.append(nanos)

    @precondition(lambda self: any(process.running for process in self.processes))
    @rule(which=which, share=st.floats(0, 1))
    def settle(self, which: int, share: float) -> None:
        """A request ends; it has cost what was set aside for it, or less, or nothing."""
        process = [one for one in self.processes if one.running][which % sum(bool(p.running) for p in self.processes)]
        reserved = process.running.pop(which % len(process.running))
        spent = int(reserved * share)
        process.purse.settle(reserved, spent)
        self.spent += spent
        self.unsettled.append(Paid(process.holder, spent))

    @precondition(lambda self: self.unsettled)
    @rule(which=which)
    def save(self, which: int) -> None:
        """A receipt is stored, in whatever order."""
        paid = self.unsettled.pop(which % len(self.unsettled))
        self.book.settle(paid.holder, paid.nanos)

    @rule(which=which, fate=fates, wanted=st.booleans())
    def renew(self, which: int, fate: str, wanted: bool) -> None:
        """A process renews its loan, and gives back what it does not need, or what others ask for."""
        process = self.processes[which % len(self.processes)]
        process.purse.lean |= wanted
        self.talk(process, [], fate)

    @precondition(lambda self: any(process.late for process in [*self.processes, *self.dead]))
    @rule(which=which)
    def arrive(self, which: int) -> None:
        """A question arrives at last, perhaps after its process is dead."""
        late = [process for process in [*self.processes, *self.dead] if process.late]
        process = late[which % len(late)]
        self.book.answer(process.holder, process.late.pop(which % len(process.late)), self.now_ms)

    @rule(which=which)
    def kill(self, which: int) -> None:
        """A process dies with all that it was doing, and another is started."""
        number = which % len(self.processes)
        self.dead.append(self.processes[number])
        self.processes[number] = self.start()

    @rule(seconds=st.sampled_from([1, 9, 31, 59]))
    def wait(self, seconds: int) -> None:
        """Time passes; who lives renews in time, and what the dead have spent is stored before they are forgotten."""
        for process in self.processes:
            self.talk(process, [])
        for paid in self.unsettled:
            self.book.settle(paid.holder, paid.nanos)
        self.unsettled.clear()
        self.now_ms += seconds * 1000

    @invariant()
    def no_budget_is_overspent(self) -> None:
        """What is spent and what is set aside is never more than the budget; nor is that and all that is held."""
        reserved = sum(sum(process.running) for process in self.processes)
        held = sum(max(process.purse.held, 0) for process in self.processes)

        assert self.spent + reserved + held <= self.account.limit_nanos

    @invariant()
    def the_books_know(self) -> None:
        """A process never believes to have more than it was lent; and what is lent is not lent twice."""
        for process in self.processes:
            loan = self.book.loans.get(process.holder)
            assert process.purse.lent <= (loan.lent_nanos if loan else 0)
        assert self.book.free(self.account.limit_nanos, self.now_ms) >= 0

    def teardown(self) -> None:
        """Once all is settled and the dead are forgotten, every last bit can be spent, by anybody."""
        for process in self.processes:
            for reserved in process.running:
                process.purse.release(reserved)
            process.purse.lean = True
            self.talk(process, [])
        for paid in self.unsettled:
            self.book.settle(paid.holder, paid.nanos)
        self.now_ms += TERM_MS
        left = self.account.limit_nanos - self.spent
        heir = self.start()
        self.talk(heir, [Wish(left, left)])

        assert heir.purse.reserve(left)


TestSpending = Spending.TestCase
