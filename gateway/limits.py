"""How much may be asked: requests, tokens and concurrency of a key, a route or a model. Pure; the time is an argument.

Rates are kept by the generic cell rate algorithm, the virtual scheduling form of ITU-T I.371 (and ATM Forum UNI 3.1):
one number for each, the moment at which everything that was taken will have been earned (the theoretical arrival time).
What may come at once is the burst; over any time, no more passes than the burst and what the rate gives in that time.

Tokens are known when an answer ends. Until then a request's estimate is held, which earns nothing; then what was really
used is taken. So a wrong estimate cannot let more through, unless it was too low, and then the next ones wait for it.
More tokens than the burst pass where nothing is owed or held: they could never pass otherwise.

All arithmetic is in whole numbers: times in microseconds, amounts in parts of which a minute's worth makes one.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

from gateway.config import LimitsConfig

MINUTE_US = 60_000_000
FREE_AGAIN_US = 1_000_000   # when to come back where all that may run is running: nobody knows
FEW = 1_024                 # names that are kept without a look at which of them are idle

Kind = Literal["requests", "tokens", "concurrency"]


class Limited(NamedTuple):
    """What has limits: "key:app", "route:auto", "model:small"."""

    name: str
    limits: LimitsConfig


class Denied(NamedTuple):
    """Which limit refuses a request, and when to come again."""

    limited: Limited
    kind: Kind
    retry_after_s: float


class Rate:
    """So many a minute, so many at once."""

    __slots__ = ("_burst", "arrival", "per_minute")

    def __init__(self, per_minute: int, burst: int) -> None:
        self.per_minute = per_minute                                 # parts a microsecond
        self._burst = (burst or per_minute) * MINUTE_US         # parts
        self.arrival = 0                                       # when all will have been earned, times the rate

    def __repr__(self) -> str:
        return f"<Rate {self.per_minute} a minute, {self._burst // MINUTE_US} at once>"

    def wait_us(self, cost: int, held: int, now_us: int, share: int = 1) -> int:
        """Return how long this many must wait; 0: they may come. As long as others are held it is a guess.

        With `share` this is one of so many who share the limit: all counts as many times as there are of them.
        """
        owed = max(self.arrival - now_us * self.per_minute, 0) + held * share * MINUTE_US
        over = owed + cost * share * MINUTE_US - self._burst
        return 0 if over <= 0 else -(-min(over, owed) // self.per_minute)

    def take(self, cost: int, now_us: int, share: int = 1) -> None:
        """Take this many, whether they may come or not."""
        self.arrival = max(self.arrival, now_us * self.per_minute) + cost * share * MINUTE_US

    def owed(self, now_us: int) -> int:
        """Return what is still to be earned, in parts."""
        return max(self.arrival - now_us * self.per_minute, 0)

    def owe(self, parts: int, now_us: int) -> None:
        """Begin with a debt."""
        self.arrival = now_us * self.per_minute + parts


class Standing:
    """How a name stands with its limits."""

    __slots__ = ("held", "limits", "requests", "running", "tokens")

    def __init__(self, limits: LimitsConfig) -> None:
        self.limits = limits
        self.requests = _rate(limits.requests_per_minute, limits.requests_burst)
        self.tokens = _rate(limits.tokens_per_minute, limits.tokens_burst)
        self.running = 0        # requests
        self.held = 0           # tokens, as estimated, of those that are not settled

    def __repr__(self) -> str:
        return f"<Standing {self.running} running, {self.held} tokens held, {self.requests}, {self.tokens}>"

    def refusal(self, tokens: int, now_us: int, share: int = 1) -> tuple[Kind, int] | None:
        """Return which limit refuses so many tokens, and for how many microseconds: the one that does so longest."""
        kind: Kind = "requests"
        wait_us, limits = 0, self.limits
        if self.requests is not None:
            wait_us = self.requests.wait_us(1, 0, now_us, share)
        if self.tokens is not None and (longer := self.tokens.wait_us(tokens, self.held, now_us, share)) > wait_us:
            kind, wait_us = "tokens", longer
        if limits.concurrency and (self.running + 1) * share > limits.concurrency and self.running:
            kind, wait_us = (kind, wait_us) if wait_us > FREE_AGAIN_US else ("concurrency", FREE_AGAIN_US)
        return (kind, wait_us) if wait_us else None

    def take(self, tokens: int, now_us: int, share: int = 1) -> None:
        """Take one request, and hold so many tokens."""
        self.running += 1
        self.held += tokens
        if self.requests is not None:
            self.requests.take(1, now_us, share)

    def settle(self, held: int, used: int, now_us: int, share: int = 1) -> None:
        """Take the tokens that were used, instead of those that were held."""
        self.held -= held
        if self.tokens is not None:
            self.tokens.take(used, now_us, share)

    def change(self, limits: LimitsConfig, now_us: int) -> None:
        """Go by other limits from now on. What was taken stays taken."""
        before = (self.requests, self.tokens)
        self.limits = limits
        self.requests = _rate(limits.requests_per_minute, limits.requests_burst)
        self.tokens = _rate(limits.tokens_per_minute, limits.tokens_burst)
        for old, new in zip(before, (self.requests, self.tokens), strict=True):
            if old is not None and new is not None:
                new.owe(old.owed(now_us), now_us)

    def owed(self, now_us: int) -> tuple[int, int]:
        """Return how many microseconds it takes to earn the requests and the tokens that are taken or held."""
        requests = 0 if self.requests is None else self.requests.owed(now_us) // self.limits.requests_per_minute
        if self.tokens is None:
            return requests, 0
        return requests, (self.tokens.owed(now_us) + self.held * MINUTE_US) // self.limits.tokens_per_minute

    def idle(self, now_us: int) -> bool:
        """Say whether it stands as if nothing had ever been asked."""
        owing = any(rate is not None and rate.owed(now_us) for rate in (self.requests, self.tokens))
        return not (self.running or self.held or owing)


class Taken:
    """What a request has taken: to be settled, and then given back."""

    __slots__ = ("_share", "chosen", "settled", "standings", "tokens")

    def __init__(self, chosen: int, standings: dict[str, Standing], tokens: int, share: int) -> None:
        self.chosen = chosen            # which of the alternatives
        self.standings = standings      # of all that it was taken from, by name
        self.tokens = tokens            # as estimated
        self._share = share
        self.settled = False

    def __repr__(self) -> str:
        return f"<Taken {self.tokens} tokens of {', '.join(self.standings) or 'nobody'}>"

    def also(self, name: str, standing: Standing, now_us: int) -> None:
        """Take the same of another as well."""
        standing.take(self.tokens, now_us, self._share)
        self.standings[name] = standing

    def settle(self, tokens: int, now_us: int, spared: Collection[str] = ()) -> None:
        """Say how many tokens were used: of all that it was taken from but of those that are spared. Once is enough."""
        if not self.settled:
            self.settled = True
            for name, standing in self.standings.items():
                standing.settle(self.tokens, 0 if name in spared else tokens, now_us, self._share)

    def close(self, now_us: int) -> None:
        """Give back what is given back at the end; where nothing was settled, no tokens were used. Once is enough."""
        Taken.settle(self, 0, now_us)
        for standing in self.standings.values():
            standing.running -= 1
        self.standings = {}


class Limits:
    """The standing of every name that has limits, as far as this process knows."""

    def __init__(self) -> None:
        self._standings: dict[str, Standing] = {}
        self._many = FEW

    def __repr__(self) -> str:
        return f"<Limits of {len(self._standings)} names>"

    def take(
        self, required: Sequence[Limited], alternatives: Sequence[Limited], tokens: int, now_us: int, share: int = 1
    ) -> Taken | Denied:
        """Take one request and hold so many tokens of all that are required and the first alternative that has them.

        All of it or nothing. Without alternatives none is needed; `chosen` is 0 then. Who is denied is told of the
        required limit that refuses longest, or else of the alternative that does so shortest.
        """
        self.tidy(now_us)
        standings, denied = {}, None
        for limited in required:
            if not limited.limits.any:
                continue
            standing = standings[limited.name] = self.standing(limited, now_us)
            refusal = standing.refusal(tokens, now_us, share)
            if refusal is not None and (denied is None or refusal[1] > denied[1][1]):
                denied = limited, refusal
        chosen = 0
        if denied is None and alternatives:
            chosen, denied = self._first(alternatives, tokens, now_us, share)
            if denied is None and (limited := alternatives[chosen]).limits.any:
                standings[limited.name] = self.standing(limited, now_us)
        if denied is not None:
            limited, (kind, wait_us) = denied
            return Denied(limited, kind, wait_us / 1e6)
        for standing in standings.values():
            standing.take(tokens, now_us, share)
        return Taken(chosen, standings, tokens, share)

    def book(self, limits: Iterable[Limited], chosen: int, tokens: int, now_us: int, share: int = 1) -> Taken:
        """Take it of all of them, whether they have it or not: somebody else has decided."""
        self.tidy(now_us)
        taken = Taken(chosen, {}, tokens, share)
        for limited in limits:
            taken.also(limited.name, self.standing(limited, now_us), now_us)
        return taken

    def also(self, taken: Taken, limited: Limited, now_us: int) -> bool:
        """Take the same of one more, and say whether it has it."""
        standing = self.standing(limited, now_us)
        if standing.refusal(taken.tokens, now_us) is not None:
            return False
        taken.also(limited.name, standing, now_us)
        return True

    def refusal(self, limited: Limited, tokens: int, now_us: int) -> Denied | None:
        """Return why a request would be denied by this limit now."""
        refusal = self.standing(limited, now_us).refusal(tokens, now_us)
        return None if refusal is None else Denied(limited, refusal[0], refusal[1] / 1e6)

    def standing(self, limited: Limited, now_us: int) -> Standing:
        """Return how a name stands, by the limits that it has now."""
        standing = self._standings.get(limited.name)
        if standing is None:
            standing = self._standings[limited.name] = Standing(limited.limits)
        elif standing.limits is not limited.limits and standing.limits != limited.limits:
            standing.change(limited.limits, now_us)
        return standing

    def _first(
        self, alternatives: Sequence[Limited], tokens: int, now_us: int, share: int
    ) -> tuple[int, tuple[Limited, tuple[Kind, int]] | None]:
        """Return the first alternative that has what is asked, or with the one that will have it first."""
        denied: tuple[Limited, tuple[Kind, int]] | None = None
        for number, limited in enumerate(alternatives):
            refusal = self.standing(limited, now_us).refusal(tokens, now_us, share) if limited.limits.any else None
            if refusal is None:
                return number, None
            if denied is None or refusal[1] < denied[1][1]:
                denied = limited, refusal
        return 0, denied

    def tidy(self, now_us: int) -> None:
        """Where there are many names, let go of those that stand as if they had never been asked for anything."""
        if len(self._standings) > self._many:
            self._standings = {name: kept for name, kept in self._standings.items() if not kept.idle(now_us)}
            self._many = max(FEW, 2 * len(self._standings))


def _rate(per_minute: int, burst: int) -> Rate | None:
    return Rate(per_minute, burst) if per_minute else None
