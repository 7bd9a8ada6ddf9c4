"""Budgets as plain rules: what an account has spent, what of the rest is lent to whom, and what is left to be lent.

    limit ≥ spent + what is lent and not spent yet

A process (a *holder*) borrows a part of what is left and spends from that without asking anybody. A loan lasts for a
term and is renewed; what is not renewed is forgotten, so that a process that was killed keeps nothing. What was really
spent comes with the stored receipts: it raises `spent` and lowers the loan by the same.

A loan is two figures that only say what happened so far, `lent` and `settled`. Their difference is what is still out,
and a holder that did not hear an answer learns from the next one what became of its question. Questions are numbered:
one that comes late, after a later one, changes nothing.

The rules are here once, for SQL (gateway/store/accounts.py), and once in Lua (gateway/shared/accounts.py).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from gateway.config.money import Period

TERM_MS = 60_000        # how long a loan is good
SHARE = 8               # of what is free, at most this part is lent for later
WANTED_MS = 2_000       # how long others are asked for what they do not need
QUIET_MS = 5_000        # and how long after that they are not asked again: who has not answered is dead


class NoHome(Exception):
    """Whoever keeps the accounts did not answer, or not in time; what was asked may have been done."""


class Account(NamedTuple):
    """A budget in one of its periods."""

    name: str               # key:NAME, owner:NAME or all
    period: str             # 2026-11-28, 2026-11 or total
    limit_nanos: int


class Ask(NamedTuple):
    """What a holder says and asks about one account. All of it is absolute, so that it may be asked again."""

    name: str
    period: str
    limit_nanos: int
    number: int             # of the holder's questions
    keep_nanos: int         # of all that was ever lent to it, this much stays so: the rest is given back
    settled_nanos: int = 0  # what of it is settled, for an account that has forgotten the loan
    spent_nanos: int = 0    # by everybody, as the holder knows it, for a home that has forgotten everything
    least_nanos: int = 0    # less than this more would not help
    need_nanos: int = 0     # this much more is needed now
    want_nanos: int = 0     # and this much would save the next questions
    lean: bool = False      # it keeps nothing that it does not need
    soft: tuple[int, ...] = ()      # the first who asks after one of these was spent is told


class Reply(NamedTuple):
    """How an account stands after that."""

    lent_nanos: int         # to this holder, all in all
    settled_nanos: int      # of that
    spent_nanos: int        # by everybody
    free_nanos: int         # to be lent
    elsewhere_nanos: int    # lent to others who were asked to give back what they do not need, and may do so yet
    lean: bool              # there is so little that it is lent as it is needed, and nothing is to be kept
    crossed: tuple[int, ...] = ()


class Loan:
    """What one holder has of an account."""

    __slots__ = ("expires_ms", "lean", "lent_nanos", "number", "settled_nanos")

    def __init__(
        self, lent_nanos: int, settled_nanos: int, number: int = 0, expires_ms: int = 0, *, lean: bool = False
    ) -> None:
        self.lent_nanos = lent_nanos
        self.settled_nanos = settled_nanos
        self.number = number
        self.expires_ms = expires_ms
        self.lean = lean

    def __repr__(self) -> str:
        return f"<Loan {self.lent_nanos} lent, {self.settled_nanos} settled>"

    def out(self, now_ms: int) -> int:
        """Return what is lent and not settled."""
        return max(self.lent_nanos - self.settled_nanos, 0) if self.expires_ms > now_ms else 0


class Book:
    """One account and its loans."""

    __slots__ = ("loans", "spent_nanos", "told_nanos", "wanted_ms")

    def __init__(self, spent_nanos: int = 0, told_nanos: int = 0, wanted_ms: int = 0) -> None:
        self.spent_nanos = spent_nanos
        self.told_nanos = told_nanos        # the highest soft threshold that somebody was told of
        self.wanted_ms = wanted_ms          # since when others are asked for what they do not need
        self.loans: dict[str, Loan] = {}

    def __repr__(self) -> str:
        return f"<Book {self.spent_nanos} spent, {len(self.loans)} loans>"

    def free(self, limit_nanos: int, now_ms: int) -> int:
        """Return what is neither spent nor lent."""
        return limit_nanos - self.spent_nanos - sum(loan.out(now_ms) for loan in self.loans.values())

    def answer(self, holder: str, ask: Ask, now_ms: int, term_ms: int = TERM_MS) -> Reply:
        """Give back, renew and lend."""
        loan = self.loans.get(holder)
        if loan is None:
            loan = self.loans[holder] = Loan(ask.settled_nanos, ask.settled_nanos)
        if loan.expires_ms <= now_ms:
            loan.lent_nanos = min(loan.lent_nanos, loan.settled_nanos)
        elsewhere = 0
        crossed: tuple[int, ...] = ()
        if ask.number > loan.number:
            self.spent_nanos = max(self.spent_nanos, ask.spent_nanos)
            loan.number, loan.expires_ms, loan.lean = ask.number, now_ms + term_ms, ask.lean
            loan.lent_nanos = min(loan.lent_nanos, max(ask.keep_nanos, loan.settled_nanos))
            if not self._lend(loan, ask, now_ms):
                elsewhere = self._want(holder, now_ms)
            crossed = self._crossed(ask.soft)
        free = self.free(ask.limit_nanos, now_ms)
        return Reply(loan.lent_nanos, loan.settled_nanos, self.spent_nanos, free, elsewhere, loan.lean, crossed)

    def settle(self, holder: str, nanos: int) -> None:
        """Book what was spent. Only once for each receipt, which is the caller's to see to."""
        self.spent_nanos += nanos
        if holder in self.loans:
            self.loans[holder].settled_nanos += nanos

    def _lend(self, loan: Loan, ask: Ask, now_ms: int) -> bool:
        """Lend what is there, and say whether it is enough. What the holder owes is covered before it has any."""
        if not ask.need_nanos and not ask.want_nanos:
            return True
        owed = max(loan.settled_nanos - loan.lent_nanos, 0)
        most = max(self.free(ask.limit_nanos, now_ms) + owed, 0)
        share = min(ask.want_nanos, most // SHARE)
        if ask.want_nanos:
            loan.lean = share < ask.want_nanos and share <= ask.need_nanos
        if ask.least_nanos > most:
            return False
        loan.lent_nanos += min(max(ask.need_nanos, share), most)
        return True

    def _want(self, holder: str, now_ms: int) -> int:
        """Ask the others for what they do not need, and return what they may have."""
        out = sum(
            other.out(now_ms) for name, other in self.loans.items() if name != holder and not other.lean
        )
        if out and now_ms >= self.wanted_ms + WANTED_MS + QUIET_MS:
            self.wanted_ms = now_ms
        return out if now_ms < self.wanted_ms + WANTED_MS else 0

    def _crossed(self, soft: Sequence[int]) -> tuple[int, ...]:
        crossed = tuple(nanos for nanos in soft if self.told_nanos < nanos <= self.spent_nanos)
        self.told_nanos = max(self.told_nanos, *crossed, 0)
        return crossed


def period_of(per: Period, now_s: float) -> str:
    """Return the period that a moment lies in, by UTC."""
    if per == "total":
        return "total"
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%d" if per == "day" else "%Y-%m")


def ends_at(per: Period, now_s: float) -> datetime | None:
    """Return when that period ends; None: never."""
    if per == "total":
        return None
    midnight = datetime.fromtimestamp(now_s, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "day":
        return midnight + timedelta(days=1)
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)


def ends_in_s(per: Period, now_s: float) -> float | None:
    """Return how long it goes on; None: for ever."""
    end = ends_at(per, now_s)
    return None if end is None else end.timestamp() - now_s
