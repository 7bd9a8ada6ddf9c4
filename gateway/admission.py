"""Where a request is let in or told to come later: by what this process knows, or by what all nodes share.

Without Redis the limits are exact for this process. With it, a request that has limits costs one round trip, and all
else is booked behind its back. This process keeps its own account all the same: it knows at once who is over a limit by
what passed here alone, and can go on by itself.

Where Redis does not answer, this node goes by its share for `lease_ms`: the limit divided by the nodes it last heard
of, but one request at least. After that, and where it never heard of any, `then` decides. What passes meanwhile is
booked as soon as Redis answers again.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence

from gateway import logs
from gateway.config import SharedConfig
from gateway.errors import GatewayError, RateLimited, Unavailable
from gateway.limits import MINUTE_US, Denied, Limited, Limits, Taken
from gateway.metrics import Metrics
from gateway.shared.client import Shared, Unreachable
from gateway.shared.limits import RUNS_S, Together
from gateway.tasks import spawn

BEAT_S = 1.0            # how often a node says that it is there
JOIN_S = 1.0            # how long a start waits for Redis
KEEP_US = int(RUNS_S / 3 * 1e6)     # how often Redis is told that a request still runs
NOBODY_KNOWS = "The limits that all nodes share cannot be looked up. Try again shortly."
FEW = 1_024             # refusals that are remembered without a look at which are over


class Admission:
    """Lets requests in as far as their limits go. There is one in a process; the limits come with each request."""

    def __init__(
        self, config: SharedConfig, shared: Shared | None, metrics: Metrics, clock: Callable[[], float],
        limits: Limits | None = None,
    ) -> None:
        self._lease_us = config.lease_ms * 1_000
        self._lets_pass = config.then == "open"
        self._metrics = metrics
        self._clock = clock
        self.limits = Limits() if limits is None else limits        # or what the workers of this machine have in common
        self.together = None if shared is None else Together(shared)
        self._missed_us: int | None = None              # when Redis did not answer, and has not since
        self._over: dict[Limited, int] = {}             # of what all nodes together ask too much, and until when
        self._running: dict[Entry, int] = {}            # what Redis counts, and when it last heard of it
        self._beating: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Admission {self.limits!r}, {self.together or 'alone'}>"

    async def start(self) -> None:
        """Join the other nodes, if there are any, and stay among them until closed."""
        if self.together is not None:
            await self.beat(JOIN_S)
            self._beating = spawn(self._beat_on())

    async def close(self) -> None:
        """Leave the other nodes; may be called again."""
        if self._beating is not None and self.together is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._beating = None
            self.together.leave()

    # ---- the path

    def peek(self, required: Sequence[Limited]) -> None:
        """Raise RateLimited where it is known here and now that one of these has no room."""
        now_us = self.now_us()
        for limited in required:
            if not limited.limits.any:
                continue
            over_us = self._over.get(limited, 0) - now_us
            denied = (
                Denied(limited, "requests", over_us / 1e6) if over_us > 0 else self.limits.refusal(limited, 1, now_us)
            )
            if denied is not None:
                raise self._refusal(denied)

    async def admit(self, required: Sequence[Limited], alternatives: Sequence[Limited], tokens: int) -> "Ticket":
        """Take one request, and hold a guess of its tokens, of all that are required and of one of the alternatives.

        Nothing is awaited without Redis. Raises RateLimited, and Unavailable where nobody can say.
        """
        now_us = self.now_us()
        if self.together is None:
            taken = self.limits.take(required, alternatives, tokens, now_us)
            if isinstance(taken, Denied):
                raise self._refusal(taken)
            return Ticket(self, taken, required, alternatives)
        return await self._admit_together(self.together, required, alternatives, tokens)

    async def _admit_together(
        self, together: Together, required: Sequence[Limited], alternatives: Sequence[Limited], tokens: int
    ) -> "Ticket":
        required = [limited for limited in required if limited.limits.any]
        free = next((number for number, each in enumerate(alternatives) if not each.limits.any), None)
        asked = alternatives[:free]             # behind it none is needed
        entry = Entry(together.number(tokens), [*required, *asked], tokens)
        if not entry.names:
            return Ticket(self, Taken(0, {}, tokens, 1), required, alternatives, entry)
        try:
            said = await together.take(entry.request, required, asked, spare=free is not None)
        except Unreachable as error:
            entry.doubtful = error.sent
            taken = self._alone(together, entry, required, alternatives)
            return Ticket(self, taken, required, alternatives, entry)
        except asyncio.CancelledError:          # the client left; it may have been taken
            self.ended(entry, {})
            raise
        self._answered()
        now_us = self.now_us()
        if isinstance(said, Denied):
            if said.kind == "requests":         # of the others nobody knows how soon they are given back
                self._remember(said, now_us)
            raise self._refusal(said)
        entry.names = [*required, *asked[said.chosen:said.chosen + 1]]
        entry.owed_us = said.owed_us
        taken = self.limits.book(entry.names, said.chosen, tokens, now_us)
        self._running[entry] = now_us
        return Ticket(self, taken, required, alternatives, entry)

    def _alone(
        self, together: Together, entry: "Entry", required: Sequence[Limited], alternatives: Sequence[Limited]
    ) -> Taken:
        """Decide without Redis, and have it told when it is back."""
        now_us = self.now_us()
        taken = self._decide(together.nodes, entry.tokens, required, alternatives)
        own = [each for each in entry.names if isinstance(taken, Taken) and each.name in taken.standings]
        if not entry.doubtful:
            entry.names = own                   # else it may have been taken of any of them
        if isinstance(taken, Taken):
            together.book(entry.request, own, now_us)
            self._running[entry] = now_us
            return taken
        self.ended(entry, {})
        raise taken

    def _decide(
        self, nodes: int, tokens: int, required: Sequence[Limited], alternatives: Sequence[Limited]
    ) -> Taken | GatewayError:
        """Return what is taken without Redis, or why nothing is."""
        self._unanswered()
        now_us = self.now_us()
        if nodes and self._missed_us is not None and now_us - self._missed_us < self._lease_us:
            self._metrics.alone.labels("share").inc()
            taken = self.limits.take(required, alternatives, tokens, now_us, nodes)
            return self._refusal(taken) if isinstance(taken, Denied) else taken
        if self._lets_pass:
            self._metrics.alone.labels("open").inc()
            names = [each for each in (*required, *alternatives[:1]) if each.limits.any]
            return self.limits.book(names, 0, tokens, now_us)
        self._metrics.alone.labels("closed").inc()
        return Unavailable(NOBODY_KNOWS, headers={"Retry-After": "1"})

    # ---- what tickets need

    def now_us(self) -> int:
        """Return what time it is."""
        return round(self._clock() * 1e6)

    def also(self, taken: Taken, limited: Limited, entry: "Entry | None") -> bool:
        """Take the same of another alternative, and say whether it has it."""
        now_us = self.now_us()
        if self._over.get(limited, 0) > now_us or not self.limits.also(taken, limited, now_us):
            return False
        if entry is not None and self.together is not None:
            self.together.book(entry.request, [limited], now_us)
            entry.names.append(limited)
            self._running.setdefault(entry, now_us)
        return True

    def ended(self, entry: "Entry", used: Mapping[str, int]) -> None:
        """Tell Redis that a request has ended, and what it used of whom."""
        self._running.pop(entry, None)
        if self.together is not None and entry.names:
            self.together.settle(entry.request, [(limited, used.get(limited.name, 0)) for limited in entry.names])

    # ---- Redis, there or not

    async def beat(self, within_s: float | None = None) -> None:
        """Say that this node is there, and which of its requests still run."""
        if self.together is None:
            return
        try:
            await self.together.beat(self.now_us(), within_s)
        except Unreachable:
            self._unanswered()
            return
        self._answered()
        now_us = self.now_us()
        for entry in [each for each, heard_us in self._running.items() if now_us - heard_us >= KEEP_US]:
            self.together.keep(entry.request, entry.names)
            self._running[entry] = now_us

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self.beat()
            except Exception:  # noqa: BLE001 - whatever it was, there is a next time
                logs.say("limits failed", "error", exc_info=True)

    def _answered(self) -> None:
        if self._missed_us is not None:
            self._missed_us = None
            logs.say("limits are shared again")

    def _unanswered(self) -> None:
        if self._missed_us is None:
            self._missed_us = self.now_us()
            logs.say("limits are not shared", "warning", nodes=self.together and self.together.nodes)

    def _remember(self, denied: Denied, now_us: int) -> None:
        if len(self._over) >= FEW:
            self._over = {limited: until_us for limited, until_us in self._over.items() if until_us > now_us}
        self._over[denied.limited] = now_us + round(denied.retry_after_s * 1e6)

    def _refusal(self, denied: Denied) -> RateLimited:
        whose, _, name = denied.limited.name.partition(":")
        self._metrics.limited.labels(whose, denied.kind).inc()
        seconds = max(math.ceil(denied.retry_after_s), 1)
        limits = denied.limited.limits
        may = {
            "requests": f"may send {limits.requests_per_minute} requests a minute",
            "tokens": f"may use {limits.tokens_per_minute} tokens a minute",
            "concurrency": f"may have {limits.concurrency} requests at once",
        }[denied.kind]
        return RateLimited(
            f"The {whose} {name!r} {may}; try again in {seconds} s.", headers={"Retry-After": str(seconds)}
        )


class Entry:
    """A request as Redis knows it."""

    __slots__ = ("doubtful", "names", "owed_us", "request", "tokens")

    def __init__(self, request: str, names: list[Limited], tokens: int) -> None:
        self.request = request
        self.tokens = tokens
        self.names = names                              # of which it was taken, or may have been
        self.doubtful = False                           # Redis was asked, and gave no answer
        self.owed_us: tuple[int, int] | None = None     # by the first that is required, in all nodes together

    def __repr__(self) -> str:
        return f"<Entry {self.request}>"


class Ticket:
    """Leave to go on: what a request has taken, to be given back when it is over."""

    __slots__ = ("_admission", "_alternatives", "_closed", "_entry", "_required", "_taken", "_used", "chosen")

    def __init__(
        self, admission: Admission, taken: Taken, required: Sequence[Limited], alternatives: Sequence[Limited],
        entry: Entry | None = None,
    ) -> None:
        self.chosen = taken.chosen              # which of the alternatives
        self._admission = admission
        self._taken = taken
        self._required = required
        self._alternatives = alternatives
        self._entry = entry
        self._used: dict[str, int] = {}         # tokens, by the names that they are taken from
        self._closed = False

    def __repr__(self) -> str:
        return f"<Ticket {self._taken!r}>"

    def may_call(self, model: str) -> bool:
        """Say whether another model has room for the request, as far as is known here; then it is taken as well."""
        name = f"model:{model}"
        if name in self._taken.standings:
            return True
        limited = next((each for each in self._alternatives if each.name == name), None)
        if limited is None or not limited.limits.any:
            return True
        return not self._closed and self._admission.also(self._taken, limited, self._entry)

    def settle(self, tokens: int, model: str | None = None) -> None:
        """Say how many tokens were used, and by which model where another was called than the last; once is enough.

        Where nothing was said until `close`, none were.
        """
        if self._closed or self._taken.settled:
            return
        models = [name for name in self._taken.standings if name.startswith("model:")]
        answered = f"model:{model}" if model is not None else models[-1] if models else None
        spared = [name for name in models if name != answered]
        self._used = {name: tokens for name in self._taken.standings if name not in spared}
        self._taken.settle(tokens, self._admission.now_us(), spared)

    def close(self) -> None:
        """Give back what a request has only while it runs. Once is enough."""
        if not self._closed:
            self._closed = True
            self._taken.close(self._admission.now_us())
            if self._entry is not None:
                self._admission.ended(self._entry, self._used)

    def headers(self) -> dict[str, str]:
        """Return what is left to the key, as OpenAI words it; nothing for a key without rates."""
        limited = next((each for each in self._required if each.limits.any), None)
        if limited is None or not limited.name.startswith("key:") or self._closed:
            return {}
        requests_us, tokens_us = (self._entry and self._entry.owed_us) or self._taken.standings[limited.name].owed(
            self._admission.now_us()
        )
        limits, found = limited.limits, {}
        for what, per_minute, burst, owed_us in (
            ("requests", limits.requests_per_minute, limits.requests_burst, requests_us),
            ("tokens", limits.tokens_per_minute, limits.tokens_burst, tokens_us),
        ):
            if per_minute:
                left = max((burst or per_minute) * MINUTE_US - owed_us * per_minute, 0) // MINUTE_US
                found[f"x-ratelimit-limit-{what}"] = str(per_minute)
                found[f"x-ratelimit-remaining-{what}"] = str(left)
                found[f"x-ratelimit-reset-{what}"] = _duration(owed_us)
        return found


def _duration(microseconds: int) -> str:
    """Return a time as OpenAI's headers word it: 12ms, 1.5s, 6m0s."""
    thousandths = -(-microseconds // 1_000)
    if thousandths < 1_000:
        return f"{thousandths}ms"
    minutes, thousandths = divmod(thousandths, 60_000)
    return f"{minutes}m{thousandths / 1_000:g}s" if minutes else f"{thousandths / 1_000:g}s"
