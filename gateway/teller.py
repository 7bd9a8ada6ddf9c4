"""Where purses are filled and emptied: one question at a time goes to whoever keeps the accounts, for all of them.

What is wished for meanwhile goes together into the next one, so that a crowd waits for two questions and not in a row.
In the background loans are renewed, what nobody needs is given back, and others' wishes are looked after.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from gateway import logs
from gateway.alerts import Alerts
from gateway.budgets import Ask, NoHome, Reply
from gateway.purse import Purse, Wish
from gateway.tasks import spawn

BEAT_S = 1.0            # how often the background looks
GATHER_S = 0.05         # how long what is left over is kept where it is scarce
TOGETHER = 64           # accounts in a question
AGAIN_S = 1.0           # how long nobody waits after there was no answer
MARGIN = 0.9            # of a loan's term: then it counts as lost here, before it does elsewhere
CLOSE_S = 2.0           # how long a shutdown takes to give back


class Home(Protocol):
    """Who keeps the accounts of all processes."""

    term_s: float           # of a loan

    async def call(self, holder: str, asks: Sequence[Ask]) -> Sequence[Reply]:
        """Answer, of several accounts at a time, each once; all or nothing. Raises NoHome, within a bound."""

    async def wanted(self) -> Collection[tuple[str, str]]:
        """Return of which accounts somebody needs what others may have to spare. Raises NoHome."""

    async def spent(self, accounts: Sequence[tuple[str, str]]) -> Sequence[int]:
        """Return what was spent of accounts, as far as it is settled. Raises NoHome."""


class _Wishing:
    """A request that waits for a purse."""

    __slots__ = ("answered", "wish")

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def answer(self, *, heard: bool) -> None:
        """Have the request look for itself."""
        if not self.answered.done():
            self.answered.set_result(heard)


class Teller:
    """Talks to the home of the accounts, for one process."""

    def __init__(self, home: Home, holder: str, clock: Callable[[], float], alerts: Alerts) -> None:
        self._home = home
        self._holder = holder
        self._clock = clock
        self._alerts = alerts
        self._live: dict[Purse, None] = {}                  # what must be renewed
        self._due: dict[Purse, list[_Wishing]] = {}         # whose turn is next
        self._away_until: float | None = None               # since it did not answer
        self._exchanging: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Teller {len(self._live)} purses, {'well' if self._away_until is None else 'alone'}>"

    @property
    def away(self) -> bool:
        """Whether it has not answered just now, and need not be asked yet."""
        return self._closed or (self._away_until is not None and self._clock() < self._away_until)

    async def fetch(self, wishes: Sequence[tuple[Purse, Wish]]) -> bool:
        """Have purses filled, and say whether there was an answer. How much there is in them then, they know."""
        if self.away:
            return False
        wishing = [_Wishing(wish) for _, wish in wishes]
        for (purse, wish), one in zip(wishes, wishing, strict=True):
            purse.pledged += wish.least_nanos
            self._due.setdefault(purse, []).append(one)
        self._go()
        try:
            return all(await asyncio.gather(*(one.answered for one in wishing)))
        finally:
            for (purse, wish), one in zip(wishes, wishing, strict=True):
                purse.pledged -= wish.least_nanos
                if one in self._due.get(purse, ()):
                    self._due[purse].remove(one)

    async def spent(self, accounts: Sequence[tuple[str, str]]) -> Sequence[int]:
        """Return what all processes have spent of accounts, as far as it is settled. Raises NoHome."""
        return await self._home.spent(accounts)

    def fetch_ahead(self, purse: Purse) -> None:
        """Have a purse filled that nobody waits for yet."""
        if not self.away:
            purse.ahead = True
            self._talk_about(purse)

    def keep(self, purse: Purse) -> None:
        """Look after a purse from now on."""
        if self._closed:
            return
        self._live[purse] = None
        if self._beating is None:
            self._beating = spawn(self._beat())

    def kept(self, name: str, period: str) -> Purse | None:
        """Return the purse of an account, where it is still looked after."""
        return next((purse for purse in self._live if purse.account[:2] == (name, period)), None)

    def left_over(self, purse: Purse) -> None:
        """Have given back what a purse does not need, where money is scarce."""
        if self._gathering is None and purse.lean and purse.held > 0 and not self._closed:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._gathered)

    async def beat(self) -> None:
        """Renew what must be, and give back what others wait for."""
        now = self._clock()
        for purse in tuple(self._live):
            purse.beat(now)
            if now >= purse.good_until:
                purse.lost()
            if not purse.out and purse not in self._due:
                del self._live[purse]
            elif now >= purse.renew_at or (purse.lean and purse.idle(now)):
                self._talk_about(purse)
        spare = {purse.account[:2]: purse for purse in self._live if purse.held > 0 and not purse.lean}
        if spare and not self.away:
            try:
                wanted = await self._home.wanted()
            except NoHome as error:
                self._unheard(error)
                return
            for purse in (spare[account] for account in wanted if account in spare):
                purse.lean = True
                self._talk_about(purse)

    async def close(self) -> None:
        """Give back what is not spent; may be called again."""
        self._closed = True
        if self._gathering is not None:
            self._gathering.cancel()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        for purse in self._live:
            purse.lean = True
            self._talk_about(purse)
        self._live.clear()
        if self._exchanging is not None:
            await asyncio.wait({self._exchanging}, timeout=CLOSE_S)
            self._exchanging.cancel()
            await asyncio.gather(self._exchanging, return_exceptions=True)

    def _talk_about(self, purse: Purse) -> None:
        self._due.setdefault(purse, [])
        self._go()

    def _go(self) -> None:
        if self._exchanging is None or self._exchanging.done():
            self._exchanging = spawn(self._exchange_all())

    def _gathered(self) -> None:
        self._gathering = None
        now = self._clock()
        for purse in self._live:
            if purse.lean and purse.idle(now):
                self._talk_about(purse)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self.beat()
            except Exception:  # noqa: BLE001 - whatever it was, loans must be renewed the next time
                logs.say("budgets failed", "error", exc_info=True)

    async def _exchange_all(self) -> None:
        """Ask for everything that is due, and for what becomes so meanwhile."""
        while self._due:
            first = sorted(self._due, key=lambda purse: not self._due[purse])[:TOGETHER]
            batch = {purse: self._due.pop(purse) for purse in first}
            heard = False
            try:
                heard = await self._exchange(batch)
            finally:
                for one in (one for wishing in batch.values() for one in wishing):
                    one.answer(heard=heard)

    async def _exchange(self, batch: dict[Purse, list[_Wishing]]) -> bool:
        sent = self._clock()
        asks = [purse.ask(sent, [one.wish for one in wishing]) for purse, wishing in batch.items()]
        for purse in batch:
            purse.renew_at = sent + AGAIN_S         # where it is not heard
        try:
            replies = await self._home.call(self._holder, asks)
        except NoHome as error:
            self._unheard(error)
            return False
        except Exception:  # noqa: BLE001 - whatever it is, those who wait must be told, and there is a next time
            logs.say("budgets failed", "error", exc_info=True)
            return False
        if self._away_until is not None:
            self._away_until = None
            logs.say("budgets can be looked up again")
        for purse, reply in zip(batch, replies, strict=True):
            self._heard(purse, reply, sent)
        return True

    def _heard(self, purse: Purse, reply: Reply, sent: float) -> None:
        now = self._clock()
        purse.grant(reply, now, sent + self._home.term_s * MARGIN)
        if now >= purse.good_until:
            purse.lost()
        self.keep(purse)
        self.left_over(purse)
        for nanos in reply.crossed:
            self._alerts.crossed(purse.account, purse.config, purse.shares.get(nanos, 1.0), reply.spent_nanos)

    def _unheard(self, error: NoHome) -> None:
        if self._away_until is None:
            logs.say("budgets cannot be looked up", "warning", error=str(error))
        self._away_until = self._clock() + AGAIN_S
