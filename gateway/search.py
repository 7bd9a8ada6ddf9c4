"""From a plan to the first answer: which target is called when, and when one is called again.

    next target that is well ─→ call ─┬─→ it says something ─→ the answer
             ↑                        ├─→ it failed: another target at once, the next endpoint of the same model first
             │                        └─→ it cannot (context, feature): a target that may
    none is left: wait a little, within the deadline, for a slot, a cool-down or better luck

Rules: nobody waits while another target is well. A target is asked again for the same request only as far as its pool's
retry budget goes. A breaker that is open is an opinion: where it would leave a request with nowhere to go, it is asked
all the same. Nothing is called once an answer has been handed out.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from gateway.accounting import Accounting
from gateway.config import RouteConfig, ServerConfig
from gateway.dialects.door import Upstream
from gateway.errors import BadRequest, Blame, GatewayError, Inexpressible, TimedOut, Unavailable, more_telling
from gateway.pricing import Usage
from gateway.race import Race
from gateway.receipt import Attempt, Receipt
from gateway.router import Plan, Reason, Target
from gateway.through import Way
from gateway.translate import Translator
from gateway.upstream.deadline import NEVER
from gateway.upstream.health import Health
from gateway.upstream.hedging import Hedges
from gateway.upstream.model import Deployment, Model
from gateway.upstream.pool import Answer, Call, Lease, Limits, Pool
from gateway.upstream.refusal import Cure, cure
from gateway.wire import ChatRequest, counting

LEAST_S = 0.02              # what is left of a deadline that is worth a call; a busy loop's timers are early by less
THROTTLED = 429
UNUSED = "Another target was quicker."
BROKE = "The answer broke off and was continued."


MayCall = Callable[[str], bool]         # says whether a model's limits have room for the request


def any_model(_: str) -> bool:
    """Let every model be called, as where nothing is limited."""
    return True


class Ground(NamedTuple):
    """What all searches of a configuration share."""

    models: Mapping[str, Model]
    routes: Mapping[str, RouteConfig]
    server: ServerConfig
    hedges: Mapping[str, Hedges]
    accounting: Accounting
    clock: Callable[[], float]


class Choice(NamedTuple):
    """Where to call: a target of the plan, its model, and one of the model's deployments."""

    target: Target
    model: Model
    deployment: Deployment


class Held(NamedTuple):
    """An answer whose first output is here, with what must be given back and what the relay must know."""

    answer: Answer
    way: Way
    lease: Lease
    choice: Choice
    attempt: Attempt
    reason: Reason
    lost: tuple[str, ...]


class Search:
    """One request on its way to its first answer."""

    def __init__(
        self, ground: Ground, plan: Plan, request: ChatRequest, receipt: Receipt, may_call: MayCall = any_model
    ) -> None:
        # configuration
        self._server = ground.server
        self._models = ground.models
        self._accounting = ground.accounting
        self._clock = ground.clock
        self._route = None if plan.route is None else ground.routes[plan.route]
        self._hedges = ground.hedges.get(plan.route or "") if request.stream else None
        # request
        self._plan = plan
        self._may_call = may_call
        self._request = request
        self._receipt = receipt
        self._translator = Translator(request, receipt.request_id, int(time.time()))
        self._deadlines = None if self._route is None else self._route.deadlines
        of_route = None if self._deadlines is None else self._deadlines.total_ms
        self._ends = receipt.started + min(of_route or NEVER, request.deadline_ms or NEVER) / 1000
        # so far
        self._targets = list(plan.targets)              # those that may be able to
        self._tried: dict[Deployment, bool] = {}        # in this round, and whether it may do better in a moment
        self._rounds = 0
        self._asked: set[str] = set()                   # pools
        self._slot: Pool | None = None                  # where one was waited for, and is ours
        self._refusal: GatewayError = Unavailable("No target is left to try.", headers={"Retry-After": "1"})
        self._spare: Held | None = None                 # a refusal that blames the request, for want of better
        self.serving: Held | None = None                # whose answer is being relayed

    def __repr__(self) -> str:
        return f"<Search {len(self._receipt.attempts)} attempts, {len(self._targets)} targets left>"

    async def run(self) -> Held:
        """Return the first answer. Raises the most telling refusal."""
        self._receipt.threshold = self._plan.threshold
        try:
            while (held := await self._round()) is None:
                await self._pause()
        finally:
            self._give_back()
        self._book(held.choice.target, held.reason)
        self._receipt.lost = held.lost
        return held

    async def _round(self) -> Held | None:
        """Call one target after the other, each deployment once."""
        while (choice := self._next()) is not None:
            hedges = None if self._receipt.attempts else self._hedges
            held = await (self._attempt(choice) if hedges is None else self._hedged(choice, hedges))
            if held is not None:
                return held
        return self._spare

    # ---- who is next

    @property
    def _left_s(self) -> float:
        return self._ends - self._clock()

    @property
    def _spent(self) -> bool:
        """Whether there may be no further call."""
        return len(self._receipt.attempts) >= self._server.attempts or self._left_s < LEAST_S

    def _next(self, beside: Choice | None = None) -> Choice | None:
        """Return where to call now: the first target that is well and has a slot, else one of doubtful health."""
        if self._spent:
            return None
        found = (
            choice for desperate in (False, True) for target in self._targets
            if (beside is None or target is not beside.target)
            and (choice := self._at(target, desperate=desperate)) is not None
        )
        return next(found, None)

    def _at(self, target: Target, *, desperate: bool) -> Choice | None:
        model, now = self._models[target.model], self._clock()
        if (model.pool.slots.full and model.pool is not self._slot) or not self._may_ask(model.pool):
            return None
        deployment = model.choose(now, self._tried, desperate=desperate)
        if deployment is None or not self._may_call(target.model):
            return None
        return Choice(target, model, deployment)

    def _may_ask(self, pool: Pool) -> bool:
        """Say whether it has not been asked yet, or may be asked again."""
        return pool.name not in self._asked or pool.budget.left(self._clock()) >= 1

    async def _pause(self) -> None:
        """Wait for a slot, or until a target may do better, within `wait_ms` and the deadline; or raise the refusal."""
        self._give_back()                                # it could not be used
        patience_s, now = min(self._server.wait_ms / 1000, self._left_s), self._clock()
        models = [model for model in (self._models[each.model] for each in self._targets) if self._may_ask(model.pool)]
        if self._spent:
            raise self._given_up()
        full = [model for model in models if model.pool.slots.full]
        crowded = [model.pool for model in full if model.choose(now, self._tried, desperate=True) is not None]
        if crowded:
            await self._queue(crowded[0])
            return
        self._tried = {each: again for each, again in self._tried.items() if not again}
        left = [each for model in models for each in model.deployments if each not in self._tried]
        waits = [each.health.wait_s(now) for each in left if each.health.cooling(now)]
        well = len(waits) < len(left)
        backoff_s = self._server.backoff_ms / 1000 * 2**self._rounds * random.uniform(0.5, 1.5)  # noqa: S311 - spreads
        seconds = backoff_s if well or not waits else max(backoff_s, min(waits))
        self._rounds += 1
        if not left or seconds > patience_s:
            raise self._given_up(min(waits, default=0))
        await asyncio.sleep(seconds)

    async def _queue(self, pool: Pool) -> None:
        started = self._clock()
        try:
            await pool.slots.wait(self._receipt.caller or "", self._server.wait_ms / 1000, self._left_s)
        except (Unavailable, TimedOut) as error:
            self._refusal = more_telling(self._refusal, error)
            raise self._given_up() from None
        finally:
            self._receipt.queued_s += self._clock() - started
        self._slot = pool

    def _give_back(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.slots.give()

    def _given_up(self, again_s: float = 0) -> GatewayError:
        """Return what the caller is told; `again_s`: when a target may be asked that wants to be left alone."""
        if self._left_s < LEAST_S and not self._refusal.telling:
            return TimedOut("The request's deadline passed before any target had answered.")
        if again_s and not self._refusal.telling:
            return Unavailable("Every target asked to be left alone.", headers={"Retry-After": f"{int(again_s) + 1}"})
        return self._refusal

    async def _attempt(self, choice: Choice, hedged: Reason | None = None) -> Held | None:
        """Make one call. Returns None where it failed in a way that another may cure; raises where not."""
        target, model, deployment = choice
        pool, same = model.pool, model.pool.dialect == self._request.surface
        ours = self._request.stream and pool.stream_usage and not (same and self._request.counted)  # we ask, not they
        try:
            body, lost = self._translator.body_for(pool.dialect, model.upstream_name, counted=pool.stream_usage)
        except Inexpressible as error:                   # nothing was sent: it is no attempt
            self._targets.remove(target)
            self._refusal = more_telling(self._refusal, error)
            return None
        reason = hedged or self._reason(target)
        if hedged is None:
            self._book(target, reason)
        attempt = self._receipt.attempt(target.model, self._clock())
        kind, passed = self._request.kind, self._request.passed if same else None
        url = deployment.url(kind, stream=self._request.stream)
        call = Call(url, body, self._limits(model), self._request.stream, kind, passed, worded=not same)
        with contextlib.ExitStack() as held:
            try:
                lease = held.enter_context(self._lease(pool, deployment))
            except Unavailable as error:                 # another task was quicker
                attempt.ended, attempt.error = attempt.started, error.booked
                self._refusal = more_telling(self._refusal, error)
                self._tried[deployment] = True
                return None
            answer = await self._send(lease, call, attempt, choice)
            if answer is None:
                return None
            if ours and counting.refused(answer.status, answer.first):
                pool.leave_uncounted()
                self._asked.discard(pool.name)           # to ask without our question is no retry
                return None
            way = self._way(pool, same=same, ours=ours)
            found = Held(answer, way, lease, choice, attempt, reason, lost)
            if self._may_be_cured(found):
                return None
            held.pop_all()
            return found

    def _way(self, pool: Pool, *, same: bool, ours: bool) -> Way:
        """Return how the answer goes back: as it is, unless the dialects differ or it may have to be continued."""
        carry_on = self.carry_on if self._may_go_on() else None
        asked = None if same and carry_on is None else self._translator.asked
        return Way(self._translator.surface, pool.speaks, asked, uncount=ours, carry_on=carry_on)

    def _may_go_on(self) -> bool:
        if self._route is None or not self._route.continuation or not self._request.stream:
            return False
        with contextlib.suppress(BadRequest):            # what we cannot read passes, and cannot be continued
            return bool(self._translator.conversation.turns)
        return False

    async def carry_on(self, said: str, used: Usage | None) -> tuple[Answer, Upstream] | None:
        """Call a model that goes on from what has been said, where an answer broke off. None where there is none."""
        broken = self.serving
        assert broken is not None  # noqa: S101 - for the type checker: an answer is being relayed
        broken.lease.leave()
        self._translator.said = said.rstrip()            # white space at the end is refused by some
        self._targets = [target for target in self._plan.targets if self._models[target.model].continues]
        self._tried, self._spare = {broken.choice.deployment: False}, None
        held = None
        with contextlib.suppress(GatewayError):
            held = await self._round()
        if held is None or held.answer.status >= 400:
            (held or broken).lease.leave()
            self._book(broken.choice.target, broken.reason)
            return None
        broken.choice.deployment.health.failed(self._clock(), broken.attempt.started)
        broken.attempt.error = BROKE
        self._accounting.broke_off(self._receipt, broken.choice.target.model, self._request, used)
        self.serving = held
        self._receipt.continued.append(held.choice.target.model)
        self._book(held.choice.target, held.reason)
        return held.answer, held.way.upstream

    def _lease(self, pool: Pool, deployment: Deployment) -> Lease:
        """Take a slot, or the one that is ours. Raises Unavailable."""
        if pool.name in self._asked:
            pool.budget.allows(self._clock())
        else:
            pool.budget.called()
            self._asked.add(pool.name)
        taken, self._slot = self._slot is pool, None if self._slot is pool else self._slot
        return pool.lease(deployment.endpoint, taken=taken)

    async def _send(self, lease: Lease, call: Call, attempt: Attempt, choice: Choice) -> Answer | None:
        """Send it and keep the deployment's record. Returns None where it failed and another target may do better."""
        health = choice.deployment.health
        health.started(attempt.started)
        try:
            answer = await lease.send(call)
        except GatewayError as error:
            attempt.ended, attempt.error, attempt.status = self._clock(), error.booked, error.upstream_status
            self._blame(health, error, attempt)
            if not error.retryable:
                raise
            self._refusal = more_telling(self._refusal, error)
            self._tried[choice.deployment] = error.transient
            return None
        except asyncio.CancelledError:      # the client left, or another target was quicker
            health.dropped(attempt.started)
            attempt.ended = self._clock()
            raise
        attempt.ended, attempt.status = self._clock(), answer.status
        health.answered(attempt.ended - attempt.started if call.stream else None, attempt.started)
        return answer

    def _blame(self, health: Health, error: GatewayError, attempt: Attempt) -> None:
        """Keep the record of a failure: a deployment that asked to be left alone is, and one in fault is counted."""
        now = self._clock()
        if error.upstream_status == THROTTLED or error.retry_after_s is not None:
            health.cool(now, error.retry_after_s, attempt.started)
        elif error.blames is not Blame.UPSTREAM or (isinstance(error, TimedOut) and self._left_s < LEAST_S):
            health.dropped(attempt.started)      # it was the request's own deadline, which says little of the target
        else:
            health.failed(now, attempt.started)

    def _may_be_cured(self, found: Held) -> bool:
        """Say whether a target that is left may do what this one refused; then only such are left."""
        missing = cure(found.answer.status, found.answer.first)
        if missing is None:
            return False
        able = [
            target for target in self._targets if target is not found.choice.target
            and (missing is Cure.FEATURE or self._models[target.model].context > found.choice.model.context)
        ]
        self._targets, self._spare = able, self._spare or found
        return True

    def _limits(self, model: Model) -> Limits:
        limits, left_s = model.limits(self._deadlines), self._left_s
        return limits._replace(first_output_s=min(limits.first_output_s, left_s), total_s=min(limits.total_s, left_s))

    # ---- two calls at once

    async def _hedged(self, choice: Choice, hedges: Hedges) -> Held | None:
        """Make the call, and where it is late another at the next target; the first that says something is used."""
        hedges.seen()

        def beside() -> Coroutine[Any, Any, Held | None] | None:
            """Return the other call, where there may be one."""
            other = self._next(choice)
            return None if other is None or not hedges.allows(self._clock()) else self._attempt(other, Reason.HEDGED)

        late_s = hedges.after_s(choice.deployment.health)
        race = Race[Held](self._attempt(choice), beside, late_s, lambda held: held.answer.status < 400)
        used = None
        try:
            if (used := await race.run()) is not None:
                used.answer.adopt()
        finally:
            self._book_unused(hedges, used, race.answered)      # even where the client left
        return used

    def _book_unused(self, hedges: Hedges, used: Held | None, answered: list[Held]) -> None:
        """Give back what is not used, and book what it will cost: its prompt, as far as is known."""
        for held in answered:
            if held is not used:
                held.lease.leave()
        for attempt in self._receipt.attempts:
            if used is not None and attempt is not used.attempt and not attempt.error and (attempt.status or 0) < 400:
                attempt.error = UNUSED
                hedges.spent(self._clock(), self._accounting.unused(self._receipt, attempt.model, self._request))

    def _reason(self, target: Target) -> Reason:
        if target is (first := self._plan.targets[0]):
            return self._plan.reason
        return Reason.FALLBACK if first in self._targets else Reason.CAPABILITY

    def _book(self, target: Target, reason: Reason) -> None:
        self._receipt.model, self._receipt.rung, self._receipt.reason = target.model, target.rung or None, reason
        self._receipt.upstream = self._models[target.model].pool.name
