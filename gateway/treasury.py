"""Budgets on the path: what a request may cost at most is set aside before the call, in memory where there is enough.

    reserve (a ceiling for each target) → call → settle (what it cost) or release

Of several budgets all are reserved from or none. What a process holds was lent to it (see gateway/budgets.py), and only
where that is used up does a request wait: for a loan, once for all that need one. Where nobody can be asked, what is
held is spent; then `shared.then` says whether requests go on unchecked or are refused.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.budgets import Account, NoHome, ends_at, ends_in_s, period_of
from gateway.config.money import BudgetConfig, Period
from gateway.errors import BudgetExceeded, GatewayError, Unavailable, Unpriced
from gateway.purse import Purse, Wish
from gateway.teller import Teller

PATIENCE_S = 3.0        # how long a request waits at most; a home answers, or does not, well before that
PAUSE_S = 0.1           # before it is asked again, while others give back what they do not need
BUSY = "The budgets are being asked for by too many at once. Try again shortly."
AWAY = "The budgets cannot be looked up. Try again shortly."
EVERY = [tuple(range(number)) for number in range(17)]
FOREVER_S = 3_600       # Retry-After, where a budget never begins anew
PER = {"day": " a day", "month": " a month", "total": ""}


class Budget(NamedTuple):
    """Whose money it is, and how much."""

    name: str               # key:NAME, owner:NAME or all
    config: BudgetConfig


class Standing(NamedTuple):
    """How a budget stands."""

    account: Account
    per: Period
    spent_nanos: int        # by all, as far as it is known here
    ends_s: float | None    # since the epoch; None: never


class Reservation:
    """What is set aside for one request. It is settled or released once, synchronously; more often does no harm."""

    __slots__ = ("_nanos", "_purses", "_teller", "affordable", "purses")

    def __init__(self, teller: Teller | None, purses: Sequence[Purse], nanos: int, affordable: Sequence[int]) -> None:
        self.affordable = affordable        # which targets it pays for, the one to begin with first
        self.purses = purses
        self._purses = purses
        self._nanos = nanos
        self._teller = teller

    def __repr__(self) -> str:
        return f"<Reservation {self._nanos} nanos of {len(self.purses)} budgets>"

    def settle(self, spent_nanos: int) -> None:
        """Book what it cost."""
        purses, self._purses = self._purses, ()
        for purse in purses:
            purse.settle(self._nanos, spent_nanos)
            if purse.lean and self._teller is not None:
                self._teller.left_over(purse)

    def release(self) -> None:
        """Put everything back: nothing was spent."""
        self.settle(0)

    def accounts(self) -> list[tuple[str, str]]:
        """Return the budgets and their periods, for the receipt."""
        return [purse.account[:2] for purse in self.purses]


NOTHING = Reservation(None, (), 0, ())


class _Case(NamedTuple):
    """What one request asks."""

    purses: list[Purse]
    ceilings: Sequence[int | None]
    known: Sequence[int]
    first: int

    def has(self, purse: Purse, *, waited: bool) -> int:
        """Return what is there for it. Those who have waited take what they need in the order in which they came."""
        return purse.held if waited else purse.room

    def least(self, purse: Purse) -> int:
        """Return with how little of a budget the request can be served at all."""
        return self.first if purse.config.on_budget == "refuse" else min(self.known)


class Treasury:
    """Sets money aside for requests. There is one in a process; the budgets come with each request."""

    def __init__(
        self, teller: Teller, clock: Callable[[], float], wall: Callable[[], float], *, lets_pass: bool
    ) -> None:
        self._teller = teller
        self._clock = clock
        self._wall = wall
        self._lets_pass = lets_pass             # where nobody can be asked
        self._purses: dict[str, Purse] = {}     # of the current periods, by the budget's name
        self.unchecked = 0                      # requests that went on so

    def __repr__(self) -> str:
        return f"<Treasury {len(self._purses)} budgets, {self._teller!r}>"

    async def reserve(
        self, budgets: Sequence[Budget], ceilings: Sequence[int | None], models: Sequence[str] = ()
    ) -> Reservation:
        """Set aside what the dearest target that can be paid for costs at most, all ceilings in the plan's order.

        Raises BudgetExceeded, Unpriced where the first has no known price, and Unavailable.
        """
        if not budgets:
            return NOTHING
        known = [nanos for nanos in ceilings if nanos is not None]
        first = ceilings[0]
        if first is None:
            raise _unpriced(budgets[0], models)
        most = max(known)
        now, wall = self._clock(), self._wall()
        purses, ready = [], True
        for budget in budgets:
            purse = self._purses.get(budget.name)
            if purse is None or wall >= purse.ends_s or purse.config is not budget.config:
                purse = self._opened(budget, wall, now)
            if purse.held - purse.pledged < most or now >= purse.good_until:
                ready = False
            purses.append(purse)
        if most and not ready:
            return await self._borrowed(_Case(purses, ceilings, known, first))
        for purse in purses:
            purse.take(most)
            if purse.held + purse.reserved < purse.low:
                self._teller.fetch_ahead(purse)
        every = EVERY[len(known)] if len(known) == len(ceilings) < len(EVERY) else _fitting(ceilings, most)
        return Reservation(self._teller, purses, most, every)

    async def standings(self, budgets: Sequence[Budget]) -> list[Standing]:
        """Return how budgets stand now. Raises Unavailable."""
        wall = self._wall()
        accounts = [_account(budget, wall) for budget in budgets]
        try:
            spent = await self._teller.spent([account[:2] for account in accounts])
        except NoHome:
            raise Unavailable(AWAY, headers={"Retry-After": "1"}) from None
        standings = []
        for budget, account, nanos in zip(budgets, accounts, spent, strict=True):
            ends_in = ends_in_s(budget.config.per, wall)
            standings.append(Standing(account, budget.config.per, nanos, None if ends_in is None else wall + ends_in))
        return standings

    async def close(self) -> None:
        """Give back what is not spent; may be called again."""
        await self._teller.close()

    def _taken(self, purses: Sequence[Purse], ceilings: Sequence[int | None], affordable: Sequence[int]) -> Reservation:
        """Set aside what the dearest of these targets costs at most."""
        most = max(ceilings[index] or 0 for index in affordable)
        for purse in purses:
            purse.take(most)
            if purse.held + purse.reserved < purse.low:
                self._teller.fetch_ahead(purse)
        return Reservation(self._teller, purses, most, affordable)

    def _opened(self, budget: Budget, wall: float, now: float) -> Purse:
        """Return the budget's purse of now: a new one where a period begins, the same where only its size changed."""
        name, config = budget
        account = _account(budget, wall)
        ends_in = ends_in_s(config.per, wall)
        purse = self._purses.get(name)
        if purse is None or purse.account.period != account.period:
            purse = self._teller.kept(name, account.period) or Purse(account, config, math.inf, now)
            self._purses[name] = purse
        if purse.account.limit_nanos > account.limit_nanos:
            purse.give_up(max(purse.held, 0))       # to be lent anew, if it may be
        elif purse.account.limit_nanos < account.limit_nanos:
            purse.dry_until = -math.inf             # there is more now
        purse.configure(account, config)
        purse.ends_s = math.inf if ends_in is None else wall + ends_in
        return purse

    # ---- where there is not enough in the purses

    async def _borrowed(self, case: _Case) -> Reservation:
        until = self._clock() + PATIENCE_S
        most = max(case.known)
        waited = False
        while True:
            now = self._clock()
            for purse in case.purses:
                if now >= purse.good_until:
                    purse.lost()
            thin = [
                purse for purse in case.purses
                if purse.room < most and purse.may_get(case.least(purse), case.has(purse, waited=waited), now)
            ]
            if not thin or (waited and min(purse.held for purse in case.purses) >= case.first):
                return self._afforded(case, waited=waited)
            if now >= until:
                raise Unavailable(BUSY, headers={"Retry-After": "1"})
            if any(now < purse.dry_until and purse.elsewhere for purse in thin):
                await asyncio.sleep(PAUSE_S)
            if not await self._teller.fetch([(purse, Wish(case.least(purse), most)) for purse in thin]):
                return self._unheard(case)
            waited = True

    def _afforded(self, case: _Case, *, waited: bool) -> Reservation:
        """Return what can be paid for of what there is: the first target and others, or the cheapest, or nothing."""
        has = {purse: case.has(purse, waited=waited) for purse in case.purses}
        if not case.first or min(has.values()) >= case.first:
            most = max(case.first, min(purse.room for purse in case.purses))
            return self._taken(case.purses, case.ceilings, _fitting(case.ceilings, most))
        poor = [purse for purse in case.purses if has[purse] < case.first]
        strict = next((purse for purse in poor if purse.config.on_budget == "refuse"), None)
        fitting = _fitting(case.ceilings, min(has.values()))
        if strict is not None or not fitting:
            raise self._exceeded(strict or poor[0], case)
        return self._taken(case.purses, case.ceilings, sorted(fitting, key=lambda index: case.ceilings[index] or 0))

    def _unheard(self, case: _Case) -> Reservation:
        """Go on with what is held; with more only where that is how it is configured."""
        if case.first and min(purse.held for purse in case.purses) < case.first:
            if not self._lets_pass:
                raise Unavailable(AWAY, headers={"Retry-After": "1"})
            self.unchecked += 1
            for purse in case.purses:
                self._teller.keep(purse)
            return self._taken(case.purses, case.ceilings, _fitting(case.ceilings, max(case.known)))
        return self._afforded(case, waited=True)

    def _exceeded(self, purse: Purse, case: _Case) -> GatewayError:
        account, per, wall = purse.account, purse.config.per, self._wall()
        left = max(purse.room, 0) + max(purse.left, 0)
        size = f"The budget of {_whose(account.name)}, {_dollars(account.limit_nanos)}{PER[per]}"
        end = ends_at(per, wall)
        anew = "It does not begin anew." if end is None else f"It begins anew at {end:%Y-%m-%dT%H:%M:%SZ}."
        why = f"{size}, has {_dollars(left)} left, and this request may cost {_dollars(case.least(purse))}. "
        hint = "With a lower limit for the answer's tokens it may cost less. " if left else ""
        ends_in = ends_in_s(per, wall)
        retry_s = FOREVER_S if ends_in is None else max(math.ceil(ends_in), 1)
        # The clients of OpenAI and Anthropic would try a 429 again; this one will not pass.
        headers = {"Retry-After": str(retry_s), "x-should-retry": "false"}
        return BudgetExceeded((why + hint if left else f"{size}, is used up. ") + anew, headers=headers)


def _account(budget: Budget, wall: float) -> Account:
    return Account(budget.name, period_of(budget.config.per, wall), round(budget.config.usd * 1e9))


def _fitting(ceilings: Sequence[int | None], most: int) -> tuple[int, ...]:
    return tuple(index for index, nanos in enumerate(ceilings) if nanos is not None and nanos <= most)


def _unpriced(budget: Budget, models: Sequence[str]) -> GatewayError:
    model = f"The model {models[0]!r}" if models else "This model"
    name = models[0] if models else "NAME"
    return Unpriced(
        f"{model} has no known price, so the budget of {_whose(budget.name)} cannot be held with it. The gateway's "
        f"operator can give it one: `models.{name}.price: {{input: …, output: …}}`, in dollars per million tokens.",
        param="model",
    )


def _whose(name: str) -> str:
    kind, _, whose = name.partition(":")
    return f"the {kind} {whose!r}" if whose else "all callers together"


def _dollars(nanos: int) -> str:
    """Return an amount with cents, and with more digits where it is less than a dollar."""
    if nanos >= 1_000_000_000 or not nanos:
        return f"${nanos / 1e9:,.2f}"
    return f"${nanos / 1e9:.9f}".rstrip("0")
