"""What one process has of one budget: lent to it, and spent from without asking anybody.

    lent = held + reserved + spent

What was really spent may be more than was reserved: then there is less than nothing in it, and the next loan covers
that first. Time is an argument, in seconds of a clock that only goes forward.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from gateway.budgets import Account, Ask, Reply
from gateway.config.money import BudgetConfig

PACE_S = 10.0           # how far back one looks, and ahead
RENEWALS = 6            # in a loan's term
DRY_S = 0.2             # how long it is believed that there is no more
FEW = 4                 # requests like this one that are provided for where nothing is known yet
BEAT_S = 0.25           # a pace is measured over no less
NEVER = -(1 << 62)


class Wish(NamedTuple):
    """What a request waits for. With less than the least it does not help, more than the need does not either."""

    least_nanos: int
    need_nanos: int


class Purse:
    """A process' part of an account. Nothing here waits."""

    __slots__ = (
        "_asked", "_beat_s", "_by_all", "_number", "_pace", "_peak", "_spent_then", "_used", "_used_s", "account",
        "ahead", "config", "dry_until", "elsewhere", "ends_s", "good_until", "held", "lean", "left", "lent", "low",
        "pledged", "renew_at", "reserved", "settled", "shares", "spent",
    )

    def __init__(self, account: Account, config: BudgetConfig, ends_s: float, now_s: float) -> None:
        # configuration
        self.ends_s = ends_s            # by the wall's clock
        self.configure(account, config)
        # as its home said last
        self.lent = 0
        self.settled = 0                # of what was spent, known to all
        self._by_all = 0                # spent by everybody
        self.left = 0                   # that could be lent then
        self.elsewhere = 0              # lent to others who may give some of it back at once
        self.lean = False               # nothing is to be kept that is not needed
        self.good_until = -math.inf     # how long the loan is good
        self.dry_until = -math.inf      # how long it is believed that there is no more
        self.renew_at = now_s
        # here
        self.held = 0
        self.reserved = 0
        self.spent = 0
        self.pledged = 0                # the least that those need who wait
        self.ahead = False              # more is to be fetched before anybody needs it
        self.low = NEVER                # less than that, held and reserved together, and it is so
        self._number = int(now_s * 1e6)     # a purse of the same account that there was before is outnumbered
        self._asked = 0
        # how fast it goes
        self._peak = 0
        self._pace = 0.0                # nanos a second
        self._spent_then = 0
        self._beat_s = self._used_s = now_s
        self._used = False

    def __repr__(self) -> str:
        return f"<Purse {self.account.name} {self.account.period} {self.held} held, {self.reserved} reserved>"

    def configure(self, account: Account, config: BudgetConfig) -> None:
        """Go by this from now on: the same account with another limit, perhaps."""
        self.account = account
        self.config = config
        limit = account.limit_nanos
        self.shares = {math.ceil(limit * share): share for share in sorted(config.soft)} if limit else {}

    @property
    def room(self) -> int:
        """What nobody is waiting for."""
        return self.held - self.pledged

    @property
    def out(self) -> bool:
        """Whether its home must be told something from time to time, so that it forgets nothing."""
        return self.lent > self.settled or self.reserved > 0 or self.spent > self.settled

    # ---- what requests do

    def reserve(self, nanos: int) -> bool:
        """Set something aside, if it is there."""
        if self.room < nanos:
            return False
        self.take(nanos)
        return True

    def take(self, nanos: int) -> None:
        """Set something aside, whether it is there or not."""
        self.held -= nanos
        self.reserved += nanos
        self._used = True
        if self.reserved > self._peak:  # noqa: PLR1730 - half of the time of calling max
            self._peak = self.reserved

    def settle(self, reserved: int, spent: int) -> None:
        """Book what was really spent, and put the rest back."""
        self.reserved -= reserved
        self.spent += spent
        self.held += reserved - spent

    def release(self, reserved: int) -> None:
        """Put everything back."""
        self.settle(reserved, 0)

    # ---- what is talked about with its home

    def ask(self, now_s: float, wishes: Sequence[Wish] = ()) -> Ask:
        """Give back what is not needed, and ask for what is."""
        self.beat(now_s)
        self.give_up(0 if wishes or self.ahead else self.idle(now_s))
        need = max(sum(wish.need_nanos for wish in wishes) - self.held, 0)
        least = max(min(wish.least_nanos for wish in wishes) - self.held, 0) if wishes else 0
        wanted = max(self._target(), FEW * max((wish.need_nanos for wish in wishes), default=0)) - max(self.held, 0)
        want = max(wanted, 1) if wishes or self.ahead else 0
        self.ahead = False
        self.low = NEVER
        self._number += 1
        self._asked = need
        name, period, limit = self.account
        soft = tuple(self.shares)
        lean = self.lean and self.room <= 0
        return Ask(
            name, period, limit, self._number, self.lent, self.settled, self._by_all, least, need, want, lean, soft
        )

    def grant(self, reply: Reply, now_s: float, good_until: float) -> None:
        """Go on with what its home said, which is renewed well before it is no longer good."""
        given = reply.lent_nanos - self.lent
        self.lent, self.settled = reply.lent_nanos, reply.settled_nanos
        self.spent = max(self.spent, self.settled)      # the receipts are right
        self.held = self.lent - self.reserved - self.spent
        self._by_all = reply.spent_nanos
        self.left, self.elsewhere, self.lean = reply.free_nanos, reply.elsewhere_nanos, reply.lean
        self.good_until = good_until
        self.renew_at = now_s + (good_until - now_s) / RENEWALS
        if given < self._asked:
            self.dry_until = now_s + DRY_S
        enough = self._enough()
        self.low = enough if self.held + self.reserved > enough and not self.lean else NEVER    # else it was tried

    def give_up(self, nanos: int) -> None:
        """Hold so much less. Its home learns of it with the next question."""
        self.lent -= nanos
        self.held -= nanos
        self.left += nanos              # and is to be had again

    def lost(self) -> None:
        """Hold nothing any more: the loan was not renewed in time, and may be somebody else's by now."""
        self.lent = min(self.lent, self.settled)
        self.held = self.lent - self.reserved - self.spent
        self.good_until = -math.inf

    def may_get(self, least: int, has: int, now_s: float) -> bool:
        """Say whether it helps to ask, for a request that has so much of it and needs the least."""
        if now_s >= self.dry_until:
            return True
        return has < least and (self.elsewhere > 0 or has + max(self.left, 0) >= least)

    def idle(self, now_s: float) -> int:
        """Return how much of what it holds it does not need."""
        if self.held <= 0 or self.pledged:
            return 0
        if self.lean or now_s - self._used_s >= PACE_S:
            return self.held
        return max(self.held - 2 * self._target(), 0)

    def beat(self, now_s: float) -> None:
        """Note how fast it goes."""
        passed = now_s - self._beat_s
        if passed < BEAT_S:
            return
        fading = math.exp(-passed / PACE_S)
        self._pace = self._pace * fading + (self.spent - self._spent_then) / passed * (1 - fading)
        self._peak = max(self.reserved, int(self._peak * fading))
        self._beat_s, self._spent_then = now_s, self.spent
        self.low = NEVER if self.lean else self._enough()
        if self._used:
            self._used, self._used_s = False, now_s

    def _target(self) -> int:
        """Return what it would hold: enough for as many at once as there were, and for what is spent meanwhile."""
        return max(self._peak - self.reserved, 0) + int(self._pace * PACE_S)

    def _enough(self) -> int:
        """Return how little will do: as many at once as there were, and half of what is spent meanwhile."""
        return self._peak + int(self._pace * PACE_S / 2)
