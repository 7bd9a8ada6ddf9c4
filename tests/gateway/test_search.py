"""Which target is called when, on a clock that jumps: pools, slots, budgets and health are real, only nothing is sent.

What is asked of a provider is noted with the moment; what it does is scripted by the test. When a search has ended, in
whatever way, no slot is taken, no task is left and no place of a probe.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import orjson
import pytest
from multidict import CIMultiDict

from gateway.accounting import Accounting
from gateway.config import (
    Deadlines,
    EndpointConfig,
    HealthConfig,
    HedgeConfig,
    ModelConfig,
    RouteConfig,
    RouteDeadlines,
    ServerConfig,
    UpstreamConfig,
)
from gateway.counterfactual import Counterfactual
from gateway.errors import (
    BadRequest,
    GatewayError,
    Inexpressible,
    Refused,
    TimedOut,
    Unavailable,
    Unreachable,
)
from gateway.estimating import Ratios
from gateway.pricing import Price, Usage
from gateway.receipt import Receipt
from gateway.router import Plan, Reason, Target
from gateway.search import BROKE, UNUSED, Ground, Held, Search
from gateway.upstream.deadline import Deadline
from gateway.upstream.health import Health
from gateway.upstream.hedging import Hedges
from gateway.upstream.model import Model, build
from gateway.upstream.pool import Answer, Call, First, Lease
from gateway.wire import ChatRequest, chat, plain
from tests.jumping import jumping

GOOD = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
TOO_LONG = b'{"error":{"message":"This model\'s maximum context length is 8192 tokens."}}'
NO_TOOLS = b'{"error":{"message":"`tools` is not supported with this model."}}'
NEVER_S = 1e6
LONG = Deadlines(connect_ms=3_600_000, first_output_ms=3_600_000, idle_ms=3_600_000, total_ms=3_600_000)
PATIENT = ServerConfig(attempts=20, wait_ms=60_000)
HEALTH = HealthConfig(failures=1, open_ms=30_000)
DOWN = Refused("down", 503)


class Does(NamedTuple):
    """What a provider does with a call: an answer or an error, after some time."""

    what: Exception | bytes = GOOD
    after_s: float = 0.0
    status: int = 200


class Asked(NamedTuple):
    """A call that was made: when, at which endpoint, for which model."""

    at: float
    endpoint: str
    model: str


class World:
    """Targets on one ladder, what they do, and what was asked of them."""

    def __init__(self, models: dict[str, Model], route: RouteConfig, server: ServerConfig, does: Any) -> None:
        hedges = {} if route.hedge is None else {"auto": Hedges(route.hedge)}
        self.models = models
        accounting = Accounting(models, {"auto": route}, Ratios(), Counterfactual())
        self.ground = Ground(models, {"auto": route}, server, hedges, accounting, asyncio.get_running_loop().time)
        self.does: dict[str, list[Does]] = does
        self.asked: list[Asked] = []
        self.calls: list[Call] = []
        self.tasks: list[asyncio.Task[Held]] = []
        self.receipt = Receipt("r-1", self.now)

    @property
    def now(self) -> float:
        """The clock's time, to the microsecond."""
        return round(asyncio.get_running_loop().time(), 6)

    @property
    def names(self) -> list[str]:
        """The endpoints that were asked, in order."""
        return [asked.endpoint for asked in self.asked]

    async def send(self, lease: Lease, call: Call) -> Answer:
        """Stand in for the one thing that is not real."""
        endpoint = lease._endpoint.name
        self.asked.append(Asked(self.now, endpoint, orjson.loads(call.body)["model"]))
        self.calls.append(call)
        script = self.does[endpoint]
        does = script.pop(0) if len(script) > 1 else script[0]
        deadline = lease._deadline = Deadline(call.limits.total_s)
        with deadline.wait("first_output", call.limits.first_output_s):
            await asyncio.sleep(does.after_s)
        if isinstance(does.what, Exception):
            raise does.what
        said: Any = SimpleNamespace(status=does.status, headers=CIMultiDict(), close=lambda: None)
        lease._response = said
        return Answer(said, First(does.what), deadline, call.limits.idle_s)

    def search(self, *targets: str, request: ChatRequest | None = None) -> Search:
        """Return a search for an answer from these targets, by default from all."""
        plan = Plan(
            tuple(Target(name, f"rung-{name}") for name in targets or self.models), Reason.LEARNED, "why", "auto", 0.7
        )
        return Search(self.ground, plan, asking() if request is None else request, self.receipt)

    def start(self, *targets: str, request: ChatRequest | None = None) -> asyncio.Task[Held]:
        """Begin one beside the test."""
        task = asyncio.get_running_loop().create_task(self.search(*targets, request=request).run())
        self.tasks.append(task)
        return task

    async def find(self, *targets: str, request: ChatRequest | None = None) -> Held:
        """Return the answer, whose lease is left already."""
        held = await self.search(*targets, request=request).run()
        held.lease.leave()
        return held

    async def fail(self, *targets: str, request: ChatRequest | None = None) -> GatewayError:
        """Search in vain."""
        with pytest.raises(GatewayError) as caught:
            await self.search(*targets, request=request).run()
        return caught.value

    def health(self, model: str, at: int = 0) -> Any:
        """A deployment's record."""
        return self.models[model].deployments[at].health

    def open(self, *models: str) -> None:
        """Open the breakers of these."""
        for model in models:
            for deployment in self.models[model].deployments:
                deployment.health.started(self.now)
                deployment.health.failed(self.now, self.now)

    def at_rest(self) -> None:
        """Nothing is taken, nobody waits, nothing runs."""
        pools = {model.pool for model in self.models.values()}
        left = asyncio.all_tasks() - {asyncio.current_task()}

        assert {repr(pool.slots) for pool in pools if pool.slots.in_flight or pool.slots.waiting} == set()
        assert [endpoint for pool in pools for endpoint in pool.endpoints if endpoint.in_flight] == []
        assert [each for model in self.models.values() for each in model.deployments if each.health._probing] == []
        assert left == set()


@asynccontextmanager
async def world(
    does: Mapping[str, Any], *, upstreams: Mapping[str, Mapping[str, Any]] | None = None,
    models: Mapping[str, Mapping[str, Any]] | None = None, route: Mapping[str, Any] | None = None,
    server: ServerConfig = PATIENT,
) -> AsyncIterator[World]:
    """Build one with a target for each upstream; the rest is added to their configurations.

    `does` has an endpoint's script: one step or several, the last of which goes on for ever.
    """
    script = {name: list(steps) if isinstance(steps, list) else [steps] for name, steps in does.items()}
    names = list(dict.fromkeys(name.rstrip("0123456789-") for name in does))
    model: dict[str, Any] = {"price": Price(2, 8), "context": 9, "deadlines": LONG}
    upstream: dict[str, Any] = {"stream_usage": False}
    built = build(
        {name: ModelConfig(upstream=name, name=name, **{**model, **(models or {}).get(name, {})}) for name in names},
        {name: UpstreamConfig(base_url=f"http://{name}.example/v1", **{**upstream, **(upstreams or {}).get(name, {})})
         for name in names},
    )
    made = World(built, RouteConfig(ladder=names, **(route or {})), server, script)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Lease, "send", lambda lease, call: made.send(lease, call))  # noqa: PLW0108 - it takes the lease
        patched.setattr(random, "uniform", lambda low, high: (low + high) / 2)
        yield made
    for task in made.tasks:
        if task.done() and not task.cancelled() and task.exception() is None:
            task.result().lease.leave()
    made.at_rest()
    for pool in {model.pool for model in built.values()}:
        await pool.close()


def asking(**more: Any) -> ChatRequest:
    """A request for a stream that says what it used; `more` of it as the path sees it."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "x" * 4_000}], "stream": True}
    request = chat.decode(orjson.dumps({**body, "stream_options": {"include_usage": True}}), {})
    return msgspec.structs.replace(request, **{"text_bytes": 4_000, **more})


ONE = asking(stream=False)


class TestWhoIsNext:
    """One target after the other."""

    @jumping
    async def test_the_first_that_answers(self) -> None:
        """It is booked, with the reason of the plan; no other is called."""
        async with world({"small": Does(after_s=0.5), "large": Does()}) as w:
            held = await w.find()
            receipt = w.receipt

        assert (w.asked, held.answer.first) == ([Asked(0, "small", "small")], GOOD)
        assert (receipt.model, receipt.rung, receipt.reason, receipt.threshold) == (
            "small", "rung-small", Reason.LEARNED, 0.7
        )
        assert [(a.model, a.started, a.ended, a.status, a.error) for a in receipt.attempts] == [
            ("small", 0, 0.5, 200, None)
        ]
        assert w.health("small").latency_s == 0.5

    @pytest.mark.parametrize("error", [
        Unreachable("no"), TimedOut("late"), Refused("down", 500), Refused("full", 429), Refused("key", 401),
        Unavailable("busy"),
    ])
    @jumping
    async def test_after_a_failure_another_at_once(self, error: GatewayError) -> None:
        """Nobody waits while another target is well; both calls are booked."""
        async with world({"small": Does(error, 2), "large": Does(after_s=3)}) as w:
            await w.find()
            receipt = w.receipt

        assert w.asked == [Asked(0, "small", "small"), Asked(2, "large", "large")]
        assert (receipt.model, receipt.reason) == ("large", Reason.FALLBACK)
        assert [(a.model, a.ended, a.status, a.error) for a in receipt.attempts] == [
            ("small", 2, getattr(error, "upstream_status", None), error.booked), ("large", 5, 200, None)
        ]

    @jumping
    async def test_an_error_that_no_target_can_cure(self) -> None:
        """It is raised, and no other is called."""
        async with world({"small": Does(BadRequest("no")), "large": Does()}) as w:
            error = await w.fail()

        assert (w.names, error.message) == (["small"], "no")

    @jumping
    async def test_the_next_endpoint_of_the_same_model_first(self) -> None:
        """The model was chosen for what it is; another one only when none of its endpoints answers."""
        two = {"small": {"endpoints": [EndpointConfig()]}}
        async with world({"small-1": Does(DOWN), "small-2": Does(DOWN), "large": Does()}, upstreams=two) as w:
            await w.find()

        assert sorted(w.names[:2]) == ["small-1", "small-2"]
        assert w.names[2:] == ["large"]

    @jumping
    async def test_a_full_one_is_passed_over(self) -> None:
        """Where another has a slot, nobody queues."""
        async with world({"small": Does(), "large": Does()}, upstreams={"small": {"slots": 1}}) as w:
            with w.models["small"].pool.lease():
                await w.find()

        assert (w.asked, w.receipt.queued_s) == ([Asked(0, "large", "large")], 0)
        assert w.receipt.reason is Reason.FALLBACK

    @jumping
    async def test_one_whose_breaker_is_open_is_passed_over(self) -> None:
        """Where another is well."""
        async with world({"small": Does(), "large": Does()}, upstreams={"small": {"health": HEALTH}}) as w:
            w.open("small")
            await w.find()

        assert w.names == ["large"]

    @jumping
    async def test_a_breaker_is_an_opinion(self) -> None:
        """Where all are open they are asked all the same, in order, at once; an answer closes the breaker."""
        sick = {"small": {"health": HEALTH}, "large": {"health": HEALTH}}
        async with world({"small": Does(DOWN), "large": Does()}, upstreams=sick) as w:
            w.open("small", "large")
            await w.find()
            states = w.health("small").state(w.now), w.health("large").state(w.now)

        assert (w.asked, states) == ([Asked(0, "small", "small"), Asked(0, "large", "large")], ("open", "closed"))

    @jumping
    async def test_one_that_asked_to_be_left_alone_is(self) -> None:
        """Where no other is left it is waited for, exactly as long as it said."""
        async with world({"small": Does()}) as w:
            w.health("small").cool(w.now, 7.0)
            await w.find()

        assert w.asked == [Asked(7, "small", "small")]

    @jumping
    async def test_one_that_wants_to_be_left_alone_for_too_long(self) -> None:
        """Nobody waits in vain: the refusal comes at once."""
        async with world({"small": Does(Refused("later", 429, retry_after_s=61))}) as w:
            error = await w.fail()

        assert (w.names, w.now, error.message, error.status) == (["small"], 0, "later", 429)

    @jumping
    async def test_a_target_that_comes_back_is_preferred(self) -> None:
        """After a wait the first of the plan is asked first again."""
        script = {"small": [Does(DOWN), Does()], "large": Does(DOWN)}
        async with world(script) as w:
            await w.find()

        assert w.names == ["small", "large", "small"]
        assert w.receipt.reason is Reason.LEARNED


class TestAgain:
    """The same target, asked again for the same request."""

    @jumping
    async def test_a_little_later(self) -> None:
        """Each round is waited for twice as long as the one before."""
        async with world({"small": [Does(DOWN)] * 3 + [Does()]}) as w:
            await w.find()

        assert [asked.at for asked in w.asked] == [0, 0.1, 0.3, 0.7]

    @pytest.mark.parametrize(("attempts", "calls"), [(1, 1), (2, 2), (3, 3), (5, 5)])
    @jumping
    async def test_attempts_are_bounded(self, attempts: int, calls: int) -> None:
        """However many targets there are."""
        server = ServerConfig(attempts=attempts, wait_ms=60_000)
        async with world({"small": Does(DOWN), "large": Does(DOWN)}, server=server) as w:
            error = await w.fail()

        assert (len(w.names), len(w.receipt.attempts), error.message) == (calls, calls, "down")

    @jumping
    async def test_only_as_far_as_the_budget_goes(self) -> None:
        """Without one it is asked once; another target of the same upstream, too, counts as asking again."""
        none = {"small": {"retries": 0.0}}
        two = {"small": {"retries": 0.0, "endpoints": [EndpointConfig()]}}
        async with world({"small": Does(DOWN)}, upstreams=none) as w:
            await w.fail()
        async with world({"small-1": Does(DOWN), "small-2": Does(DOWN)}, upstreams=two) as both:
            await both.fail()

        assert (w.names, w.now, len(both.names)) == (["small"], 0, 1)

    @jumping
    async def test_each_second_call_takes_from_the_budget(self) -> None:
        """Of the ten that are there to begin with three are gone, and not all of one has come back in the meantime."""
        async with world({"small": Does(DOWN)}, server=ServerConfig(attempts=4)) as w:
            await w.fail()
            left = w.models["small"].pool.budget.left(w.now)

        assert (len(w.names), w.now) == (4, 0.7)
        assert 7 <= left < 8

    @jumping
    async def test_not_where_the_wait_is_too_long(self) -> None:
        """Nothing is waited for longer than `wait_ms`."""
        server = ServerConfig(attempts=20, wait_ms=150)
        async with world({"small": Does(DOWN)}, server=server) as w:
            await w.fail()

        assert [asked.at for asked in w.asked] == [0, 0.1]

    @pytest.mark.parametrize("status", [401, 402, 403, 404, 501])
    @jumping
    async def test_not_where_it_would_say_the_same(self, status: int) -> None:
        """A wrong key does not get better by waiting."""
        async with world({"small": Does(Refused("never", status))}) as w:
            error = await w.fail()

        assert (w.names, w.now, error.message) == (["small"], 0, "never")

    @pytest.mark.parametrize("names", [("small", "large"), ("large", "small")])
    @jumping
    async def test_each_is_judged_by_its_own_error(self, names: tuple[str, str]) -> None:
        """One that is broken for good does not keep another from being asked again, nor is it asked again itself."""
        async with world({"small": Does(Refused("never", 401)), "large": [Does(DOWN), Does()]}) as w:
            await w.find(*names)

        assert w.names == [*names, "large"]

    @jumping
    async def test_the_most_telling_refusal_is_told(self) -> None:
        """Of all that were heard, in whichever order."""
        heard = Unreachable("no"), Refused("wait", 429), TimedOut("late")
        script = dict(zip(("small", "middle", "large"), map(Does, heard), strict=True))
        async with world(script, server=ServerConfig(attempts=3)) as w:
            error = await w.fail()

        assert error.message == "wait"

    @jumping
    async def test_nobody_to_ask(self) -> None:
        """Where none may be called and none is waited for, the caller is told when the first may be asked again."""
        async with world({"small": Does(), "large": Does()}) as w:
            w.health("small").cool(w.now, 99.5)
            w.health("large").cool(w.now, 200)
            error = await w.fail()

        assert (w.names, w.now, error.status, error.headers) == ([], 0, 503, {"Retry-After": "100"})


class TestSlots:
    """Where every slot is taken."""

    @jumping
    async def test_one_is_waited_for(self) -> None:
        """And called as soon as it is given back; the time is booked."""
        async with world({"small": Does()}, upstreams={"small": {"slots": 1}}) as w:
            lease = w.models["small"].pool.lease()
            searching = w.start()
            asyncio.get_running_loop().call_later(2, lease.leave)
            await searching

        assert (w.asked, w.receipt.queued_s) == ([Asked(2, "small", "small")], 2)

    @jumping
    async def test_nobody_gives_one(self) -> None:
        """After `wait_ms` the caller is told, and the queue is empty again."""
        server = ServerConfig(wait_ms=3_000)
        async with world({"small": Does()}, upstreams={"small": {"slots": 1}}, server=server) as w:
            with w.models["small"].pool.lease():
                error = await w.fail()

        assert (w.names, w.now, error.status, w.receipt.queued_s) == ([], 3, 503, 3)
        assert error.message == "All 1 slots of upstream 'small' are taken. Try again shortly."

    @jumping
    async def test_the_queue_is_full(self) -> None:
        """Then nobody waits, and what another target said is told rather."""
        settings = {"small": {"slots": 1, "queue": 0}}
        async with world({"small": Does(), "large": Does(Refused("key", 401))}, upstreams=settings) as w:
            with w.models["small"].pool.lease():
                error = await w.fail()

        assert (w.names, w.now, error.message) == (["large"], 0, "key")

    @jumping
    async def test_a_slot_that_cannot_be_used_any_more(self) -> None:
        """Its target asked to be left alone meanwhile: it is given back, and not held while that is waited for."""
        async with world({"small": Does()}, upstreams={"small": {"slots": 1}}) as w:
            pool = w.models["small"].pool
            lease = pool.lease()
            searching = w.start()
            await asyncio.sleep(1)
            w.health("small").cool(w.now, 5)
            lease.leave()
            await asyncio.sleep(1)
            during = pool.slots.in_flight
            await searching

        assert (during, w.asked) == (0, [Asked(6, "small", "small")])

    @jumping
    async def test_a_slot_that_is_not_needed_any_more(self) -> None:
        """A better target came back while it was waited for: that one answers, and the slot is given back."""
        async with world({"small": Does(), "large": Does()}, upstreams={"large": {"slots": 1}}) as w:
            w.health("small").cool(w.now, 3)
            lease = w.models["large"].pool.lease()
            searching = w.start()
            asyncio.get_running_loop().call_later(4, lease.leave)
            await searching

        assert w.asked == [Asked(4, "small", "small")]

    @jumping
    async def test_a_slot_is_kept_for_when_the_better_target_fails(self) -> None:
        """Then it is used."""
        script = {"small": Does(DOWN), "large": Does()}
        async with world(script, upstreams={"large": {"slots": 1}, "small": {"retries": 0.0}}) as w:
            w.health("small").cool(w.now, 3)
            lease = w.models["large"].pool.lease()
            searching = w.start()
            asyncio.get_running_loop().call_later(4, lease.leave)
            await searching

        assert w.asked == [Asked(4, "small", "small"), Asked(4, "large", "large")]

    @jumping
    async def test_no_slot_is_waited_for_that_the_budget_forbids(self) -> None:
        """Where the upstream may not be asked again, its slots are of no use."""
        settings = {"small": {"slots": 1, "retries": 0.0, "endpoints": [EndpointConfig()]}}
        script = {"small-1": Does(DOWN, 1), "small-2": Does(DOWN, 1)}
        async with world(script, upstreams=settings) as w:
            searching = w.start()
            await asyncio.sleep(0.5)
            other = w.start("small")         # it takes the slot as soon as it is free
            with pytest.raises(Refused):
                await searching
            ended = w.now
            with pytest.raises(Refused):
                await other

        assert (ended, len(w.names)) == (1, 2)

    @jumping
    async def test_two_pools_are_waited_for_one_after_the_other(self) -> None:
        """A slot of the first is not kept, and lost, while one of the second is waited for."""
        full = {"small": {"slots": 1}, "large": {"slots": 1}}
        async with world({"small": Does(), "large": Does()}, upstreams=full) as w:
            small, large = w.models["small"].pool.lease(), w.models["large"].pool.lease()
            searching = w.start()
            await asyncio.sleep(1)
            w.health("small").cool(w.now, 50)
            small.leave()
            await asyncio.sleep(1)
            taken = w.models["small"].pool.slots.in_flight
            large.leave()
            await searching

        assert (taken, w.asked) == (0, [Asked(2, "large", "large")])


class TestLeaving:
    """A client that leaves, wherever the search is."""

    @pytest.mark.parametrize("probed", [False, True])
    @jumping
    async def test_during_a_call(self, *, probed: bool) -> None:
        """The call ends, and blames nobody; a probe's place is given back."""
        async with world({"small": Does(after_s=NEVER_S)}, upstreams={"small": {"health": HEALTH}}) as w:
            if probed:
                w.open("small")
                await asyncio.sleep(31)
            before = w.health("small").failed_calls
            searching = w.start()
            await asyncio.sleep(1)
            searching.cancel()
            await asyncio.wait([searching])

        assert (searching.cancelled(), w.health("small").failed_calls - before) == (True, 0)
        assert [(a.status, a.error, a.ended is None) for a in w.receipt.attempts] == [(None, None, False)]

    @jumping
    async def test_while_it_waits_for_a_slot(self) -> None:
        """It leaves the queue."""
        async with world({"small": Does()}, upstreams={"small": {"slots": 1}}) as w:
            with w.models["small"].pool.lease():
                searching = w.start()
                await asyncio.sleep(1)
                searching.cancel()
                await asyncio.wait([searching])

        assert (searching.cancelled(), w.names, w.receipt.queued_s) == (True, [], 1)

    @jumping
    async def test_as_it_gets_one(self) -> None:
        """In the same moment: the slot goes on."""
        async with world({"small": Does()}, upstreams={"small": {"slots": 1}}) as w:
            lease = w.models["small"].pool.lease()
            searching = w.start()
            await asyncio.sleep(1)
            lease.leave()
            searching.cancel()
            await asyncio.wait([searching])

        assert (searching.cancelled(), w.names) == (True, [])

    @jumping
    async def test_while_it_waits_for_better_luck(self) -> None:
        """Nothing is held meanwhile."""
        async with world({"small": Does(DOWN)}) as w:
            searching = w.start()
            await asyncio.sleep(0.05)
            searching.cancel()
            await asyncio.wait([searching])

        assert (searching.cancelled(), w.names) == (True, ["small"])


class TestDeadline:
    """The request's own, from when it came."""

    @pytest.mark.parametrize(
        ("asked_ms", "route", "at"),
        [
            (2_000, {}, 2), (None, {"deadlines": RouteDeadlines(total_ms=3_000)}, 3),
            (2_000, {"deadlines": RouteDeadlines(total_ms=3_000)}, 2),
            (4_000, {"deadlines": RouteDeadlines(total_ms=3_000)}, 3),
        ],
        ids=["caller", "route", "caller first", "route first"],
    )
    @jumping
    async def test_it_bounds_a_call(self, asked_ms: int | None, route: dict[str, Any], at: float) -> None:
        """Whoever set the smaller one; it says little of the target, which is not blamed, and no other is called."""
        script = {"small": Does(after_s=NEVER_S), "large": Does()}
        async with world(script, route=route, upstreams={"small": {"health": HEALTH}}) as w:
            error = await w.fail(request=asking(deadline_ms=asked_ms))

        assert isinstance(error, TimedOut)
        assert (w.names, w.now, w.health("small").failed_calls) == (["small"], at, 0)

    @jumping
    async def test_it_bounds_several_calls(self) -> None:
        """Each call gets what is left."""
        script = {"small": Does(DOWN, 1.5), "large": Does(after_s=NEVER_S)}
        async with world(script) as w:
            error = await w.fail(request=asking(deadline_ms=2_000))
            limits = w.calls[1].limits

        assert (w.now, w.names, error.message) == (2, ["small", "large"], "down")
        assert (limits.first_output_s, limits.total_s, limits.idle_s) == (0.5, 0.5, 3600)

    @jumping
    async def test_it_bounds_the_wait_for_a_slot(self) -> None:
        """The caller is told that it was the deadline."""
        async with world({"small": Does()}, upstreams={"small": {"slots": 1}}) as w:
            with w.models["small"].pool.lease():
                error = await w.fail(request=asking(deadline_ms=2_000))

        assert (w.now, error.status, error.headers) == (2, 504, {})
        assert error.message.startswith("The request's deadline passed while it waited")

    @jumping
    async def test_it_bounds_the_wait_for_better_luck(self) -> None:
        """What would end after it does not begin."""
        async with world({"small": Does(DOWN)}) as w:
            await w.fail(request=asking(deadline_ms=250))

        assert [asked.at for asked in w.asked] == [0, 0.1]

    @jumping
    async def test_one_that_has_passed(self) -> None:
        """Reading the request took all of it: nobody is called."""
        async with world({"small": Does()}) as w:
            await asyncio.sleep(1)
            error = await w.fail(request=asking(deadline_ms=1_000))

        assert (w.names, error.status) == ([], 504)

    @jumping
    async def test_without_one(self) -> None:
        """The model's own limits, or the route's where it has any."""
        route = {"deadlines": RouteDeadlines(first_output_ms=5_000)}
        async with world({"small": Does()}, route=route) as w:
            await w.find()

        assert w.calls[0].limits == (3600, 5, 3600, 3600)

    @jumping
    async def test_a_targets_own_deadline_blames_it(self) -> None:
        """It was slower than it may be."""
        route = {"deadlines": RouteDeadlines(first_output_ms=5_000)}
        async with world({"small": Does(after_s=NEVER_S), "large": Does()}, route=route) as w:
            await w.find()

        assert (w.asked[1], w.health("small").failed_calls) == (Asked(5, "large", "large"), 1)


class TestRecord:
    """What a failure says of its deployment."""

    @pytest.mark.parametrize(
        ("error", "failed", "throttled", "wait_s"),
        [
            (Refused("down", 500), 1, 0, 0), (Unreachable("no"), 1, 0, 0), (Refused("full", 429), 0, 1, 1),
            (Refused("full", 429, retry_after_s=9), 0, 1, 9), (Refused("down", 503, retry_after_s=9), 0, 1, 9),
            (Unavailable("ours"), 0, 0, 0),
        ],
    )
    @jumping
    async def test_each(self, error: GatewayError, failed: int, throttled: int, wait_s: float) -> None:
        """One in fault is counted, one that asked to be left alone is left alone, and we ourselves blame nobody."""
        async with world({"small": Does(error), "large": Does()}) as w:
            await w.find()
            health = w.health("small")
            seen = health.failed_calls, health.throttled, health.wait_s(w.now)

        assert seen == (failed, throttled, wait_s)

    @jumping
    async def test_a_whole_answers_time_is_no_first_output(self) -> None:
        """Only streams say how fast a target begins."""
        async with world({"small": Does(after_s=9)}) as w:
            await w.find(request=ONE)

        assert (w.health("small").latency_s, w.health("small").total_calls) == (None, 1)


CURES = {"small": {"context": 8_000}, "middle": {"context": 8_000}, "large": {"context": 100_000}}


class TestCures:
    """A refusal that blames the request, which another model may not have to make."""

    @pytest.mark.parametrize(
        ("body", "names"), [(TOO_LONG, ["small", "large"]), (NO_TOOLS, ["small", "middle"])], ids=["room", "feature"]
    )
    @jumping
    async def test_another_model_may(self, body: bytes, names: list[str]) -> None:
        """More context for a conversation that is too long; for anything else whoever is next."""
        script = {"small": Does(body, status=400), "middle": Does(), "large": Does()}
        async with world(script, models=CURES) as w:
            await w.find()

        assert w.names == names
        assert (w.receipt.model, w.receipt.reason) == (names[1], Reason.CAPABILITY)
        assert [(a.status, a.error) for a in w.receipt.attempts] == [(400, None), (200, None)]
        assert w.health("small").failed_calls == 0

    @pytest.mark.parametrize("then", [
        Does(DOWN), Does(Refused("key", 401)), Does(b'{"error":"context_length_exceeded"}', status=400),
    ], ids=["down", "no key", "it refuses as well"])
    @jumping
    async def test_none_that_may_is_left(self, then: Does) -> None:
        """The first refusal is passed on with its body, and booked as its model's."""
        script = {"small": Does(TOO_LONG, status=400), "middle": Does(), "large": then}
        async with world(script, models=CURES, server=ServerConfig(attempts=2)) as w:
            held = await w.find()

        assert (w.names, held.answer.status, held.answer.first) == (["small", "large"], 400, TOO_LONG)
        assert (w.receipt.model, w.receipt.reason) == ("small", Reason.LEARNED)

    @pytest.mark.parametrize("names", [("large", "small", "middle"), ("small",), ("small", "middle")])
    @jumping
    async def test_there_is_none_that_may(self, names: tuple[str, ...]) -> None:
        """No model with less or the same context is asked."""
        script = {name: Does(TOO_LONG, status=413) for name in CURES}
        async with world(script, models=CURES) as w:
            held = await w.find(*names)

        assert (w.names, held.answer.first, held.choice.target.model) == ([names[0]], TOO_LONG, names[0])

    @jumping
    async def test_the_callers_own_fault(self) -> None:
        """Every model would say the same: it is passed on at once."""
        script = {"small": Does(b'{"error":"messages is empty"}', status=400), "large": Does()}
        async with world(script) as w:
            held = await w.find()

        assert (w.names, held.answer.status) == (["small"], 400)

    @jumping
    async def test_the_one_that_may_refuses_for_another_reason(self) -> None:
        """That is what the caller can do something about."""
        script = {"small": Does(TOO_LONG, status=400), "large": Does(b'{"error":"bad schema"}', status=400)}
        async with world(script, models=CURES) as w:
            held = await w.find("small", "large")

        assert (w.names, held.answer.first) == (["small", "large"], b'{"error":"bad schema"}')

    @jumping
    async def test_what_a_dialect_cannot_say(self) -> None:
        """Nothing is sent, so it is no attempt; another target may speak the caller's."""
        request = plain.decode(b'{"model":"auto","input":"hi"}', {}, "embeddings")
        async with world({"small": Does(), "large": Does()}, upstreams={"small": {"dialect": "anthropic"}}) as w:
            await w.find(request=request)
            alone = await w.fail("small", request=request)

        assert (w.names, len(w.receipt.attempts), w.receipt.reason) == (["large"], 1, Reason.CAPABILITY)
        assert isinstance(alone, Inexpressible)
        assert str(w.calls[0].url) == "http://large.example/v1/embeddings"

    @jumping
    async def test_a_server_that_cannot_count(self) -> None:
        """It is asked again without our question, and no stream asks it any more."""
        refusal = Does(b'{"error":{"message":"Unrecognized request argument: stream_options"}}', status=400)
        request = chat.decode(b'{"model":"auto","messages":[{"role":"user","content":"x"}],"stream":true}', {})
        async with world({"small": [refusal, Does()]}, upstreams={"small": {"stream_usage": True}}) as w:
            held = await w.find(request=request)
            again = await w.find(request=request)

        assert [b"stream_options" in call.body for call in w.calls] == [True, False, False]
        assert (held.answer.status, held.way.uncount, again.way.uncount) == (200, False, False)
        assert w.now == 0


class TestWay:
    """How an answer goes back."""

    @jumping
    async def test_in_the_callers_dialect(self) -> None:
        """As it is; headers that mean something to this provider go with the request."""
        async with world({"small": Does()}) as w:
            held = await w.find(request=asking(passed={"openai-beta": "x"}))

        assert (held.way.asked, held.way.uncount, held.way.carry_on, held.lost) == (None, False, None, ())
        assert w.calls[0].headers == {"openai-beta": "x"}

    @jumping
    async def test_in_another_dialect(self) -> None:
        """Worded anew; what was left out is booked."""
        request = chat.decode(orjson.dumps({
            "model": "auto", "messages": [{"role": "user", "content": "x"}], "stream": True, "seed": 5,
        }), {"openai-beta": "x"})
        async with world({"small": Does()}, upstreams={"small": {"dialect": "anthropic"}}) as w:
            held = await w.find(request=request)

        assert held.way.asked is not None
        assert ("seed" in held.lost, held.lost == w.receipt.lost, w.calls[0].headers) == (True, True, None)

    @jumping
    async def test_usage_that_only_we_asked_for(self) -> None:
        """It is taken out again."""
        request = chat.decode(b'{"model":"auto","messages":[{"role":"user","content":"x"}],"stream":true}', {})
        async with world({"small": Does()}, upstreams={"small": {"stream_usage": True}}) as w:
            asked = (await w.find(request=request)).way.uncount, (await w.find()).way.uncount

        assert asked == (True, False)


HEDGE = {"hedge": HedgeConfig(after_ms=2_000)}
SLOW = Does(after_s=9)
SCHEMA = Does(b'{"error":"bad schema"}', 3, status=400)


class TestHedging:
    """A second call where the first is late."""

    @jumping
    async def test_one_that_is_in_time(self) -> None:
        """There is no second."""
        async with world({"small": Does(after_s=1.9), "large": Does()}, route=HEDGE) as w:
            await w.find()

        assert (w.names, repr(w.ground.hedges["auto"])) == (
            ["small"], "<Hedges 0 made, 0 refused, $0.0000 in the last hour>"
        )

    @jumping
    async def test_the_second_is_quicker(self) -> None:
        """It is used; the first is ended, gives its slot back, is paid for and not blamed."""
        async with world({"small": SLOW, "large": Does(after_s=3)}, route=HEDGE) as w:
            held = await w.search().run()
            taken = w.models["small"].pool.slots.in_flight, w.models["large"].pool.slots.in_flight
            held.lease.leave()
            receipt = w.receipt

        assert (w.asked, w.now) == ([Asked(0, "small", "small"), Asked(2, "large", "large")], 5)
        assert (receipt.model, receipt.rung, receipt.reason) == ("large", "rung-large", Reason.HEDGED)
        assert [(a.model, a.ended, a.status, a.error) for a in receipt.attempts] == [
            ("small", 5, None, UNUSED), ("large", 5, 200, None)
        ]
        assert (taken, receipt.unused_nanos) == ((0, 1), 2_000_000)       # 1,000 tokens at two dollars a million
        assert (w.health("small").failed_calls, w.health("small").latency_s) == (0, None)
        assert repr(w.ground.hedges["auto"]) == "<Hedges 1 made, 0 refused, $0.0020 in the last hour>"

    @jumping
    async def test_the_first_is_quicker_after_all(self) -> None:
        """Then it is used, for the plan's reason."""
        async with world({"small": Does(after_s=4), "large": SLOW}, route=HEDGE) as w:
            await w.find()

        assert (w.now, w.receipt.model, w.receipt.reason) == (4, "small", Reason.LEARNED)
        assert [(a.model, a.error) for a in w.receipt.attempts] == [("small", None), ("large", UNUSED)]

    @pytest.mark.parametrize("first", ["small", "large"])
    @pytest.mark.parametrize("error", [DOWN, BadRequest("no"), ValueError("a fault of ours")])
    @jumping
    async def test_an_error_never_wins(self, first: str, error: Exception) -> None:
        """While the other runs it is waited for, whatever kind of error it was and whose."""
        async with world({"small": SLOW, "large": SLOW} | {first: Does(error, 3)}, route=HEDGE) as w:
            await w.find()

        assert len(w.names) == 2
        assert w.receipt.model == ({"small", "large"} - {first}).pop()

    @jumping
    async def test_a_refusal_does_not_win_either(self) -> None:
        """The other may know better. It was no call that another was quicker than, and cost nothing."""
        async with world({"small": SCHEMA, "large": SLOW}, route=HEDGE) as w:
            held = await w.find()

        assert (held.choice.target.model, held.answer.status) == ("large", 200)
        assert [(a.status, a.error) for a in w.receipt.attempts] == [(400, None), (200, None)]
        assert w.receipt.unused_nanos == 0

    @pytest.mark.parametrize("then", [Does(DOWN, 5), Does(BadRequest("no"), 5), Does(b"{}", 5, status=400)])
    @jumping
    async def test_a_refusal_where_the_other_does_no_better(self, then: Does) -> None:
        """It is the answer: the first that came."""
        async with world({"small": SCHEMA, "large": then}, route=HEDGE) as w:
            held = await w.find()

        assert (held.choice.target.model, held.answer.first, w.now) == ("small", SCHEMA.what, 7)

    @jumping
    async def test_a_refusal_that_the_other_cures(self) -> None:
        """It was no call that another was quicker than."""
        async with world({"small": Does(NO_TOOLS, 3, status=400), "large": SLOW}, route=HEDGE) as w:
            await w.find()

        assert [(a.status, a.error) for a in w.receipt.attempts] == [(400, None), (200, None)]
        assert (w.receipt.unused_nanos, w.names) == (0, ["small", "large"])

    @jumping
    async def test_both_fail(self) -> None:
        """The search goes on with whoever is left, one at a time."""
        script = {"small": Does(DOWN, 3), "middle": Does(DOWN, 3), "large": Does()}
        async with world(script, route=HEDGE) as w:
            await w.find()

        assert w.asked == [Asked(0, "small", "small"), Asked(2, "middle", "middle"), Asked(5, "large", "large")]

    @jumping
    async def test_both_fail_and_one_for_good(self) -> None:
        """What no target can cure is raised."""
        script = {"small": Does(BadRequest("no"), 3), "middle": Does(DOWN, 3), "large": Does()}
        async with world(script, route=HEDGE) as w:
            error = await w.fail()

        assert (error.message, w.names) == ("no", ["small", "middle"])

    @pytest.mark.parametrize(("small", "large"), [(5, 3), (5.0000001, 3)], ids=["at once", "as good as"])
    @jumping
    async def test_both_answer_at_once(self, small: float, large: float) -> None:
        """One is used, and the other's slot is back."""
        async with world({"small": Does(after_s=small), "large": Does(after_s=large)}, route=HEDGE) as w:
            held = await w.search().run()
            taken = {name: model.pool.slots.in_flight for name, model in w.models.items()}
            held.lease.leave()
            ended = [(a.model, a.error) for a in w.receipt.attempts if a is not held.attempt]

        used, (unused,) = held.choice.target.model, ended
        assert taken == {"small": 0, "large": 0} | {used: 1}
        assert unused == (({"small", "large"} - {used}).pop(), UNUSED)
        assert w.receipt.unused_nanos == 2_000_000

    @pytest.mark.parametrize("at", [1.0, 2.0, 4.0, 5.0])
    @jumping
    async def test_the_client_leaves(self, at: float) -> None:
        """Before the second call, as it begins, while both run, and in the very moment in which one answers."""
        async with world({"small": SLOW, "large": Does(after_s=3)}, route=HEDGE) as w:
            searching = w.start()
            asyncio.get_running_loop().call_at(at, searching.cancel)
            await asyncio.wait([searching])

        assert (searching.cancelled(), w.receipt.unused_nanos) == (True, 0)
        assert all(attempt.ended is not None for attempt in w.receipt.attempts)

    @jumping
    async def test_the_client_leaves_as_an_answer_is_there(self) -> None:
        """The call has ended well and nobody has taken it yet: its slot is given back all the same."""
        async with world({"small": Does(after_s=1), "large": Does()}, route=HEDGE) as w:
            searching, answered = w.start(), Health.answered

            def leave(health: Health, *args: Any) -> None:
                """Note the answer, and leave."""
                answered(health, *args)
                searching.cancel()

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(Health, "answered", leave)
                await asyncio.wait([searching])

        assert (searching.cancelled(), w.names) == (True, ["small"])

    @pytest.mark.parametrize(
        ("route", "settings", "stream"),
        [
            ({"hedge": HedgeConfig()}, {}, True), ({}, {}, True), (HEDGE, {"large": {"slots": 1}}, True),
            (HEDGE, {}, False),
            ({"hedge": HedgeConfig(after_ms=2_000, usd_per_hour=0.0)}, {}, True),
        ],
        ids=["nobody knows what late is", "not configured", "no slot", "no stream", "no money"],
    )
    @jumping
    async def test_there_is_none(self, route: dict[str, Any], settings: dict[str, Any], *, stream: bool) -> None:
        """Where it is not configured or not known, where there is no place or no money, or no stream to be late."""
        async with world({"small": SLOW, "large": Does()}, route=route, upstreams=settings) as w:
            with w.models["large"].pool.lease():
                await w.find(request=asking(stream=stream))

        assert (w.names, w.receipt.model) == (["small"], "small")
        assert sum(hedges.made for hedges in w.ground.hedges.values()) == 0

    @jumping
    async def test_no_hedge_is_taken_where_there_is_no_other_target(self) -> None:
        """It stays for a request that has one."""
        async with world({"small": SLOW, "large": Does()}, route=HEDGE) as w:
            await w.find("small")
            made, w.receipt = w.ground.hedges["auto"].made, Receipt("r-2", w.now)
            await w.find()

        assert (made, w.ground.hedges["auto"].made) == (0, 1)

    @jumping
    async def test_as_late_as_is_usual(self) -> None:
        """What the model's own first outputs took."""
        async with world({"small": SLOW, "large": Does()}, route={"hedge": HedgeConfig()}) as w:
            for _ in range(20):
                w.health("small").answered(0.75)
            await w.find()

        assert w.asked[1] == Asked(0.75, "large", "large")

    @jumping
    async def test_only_a_requests_first_call_is_hedged(self) -> None:
        """One that has failed already is late for a reason."""
        script = {"small": Does(DOWN), "middle": SLOW, "large": Does()}
        async with world(script, route=HEDGE) as w:
            await w.find()

        assert w.names == ["small", "middle"]

    @jumping
    async def test_attempts_are_bounded(self) -> None:
        """A hedge is one of them."""
        async with world({"small": SLOW, "large": Does()}, route=HEDGE, server=ServerConfig(attempts=1)) as w:
            await w.find()

        assert w.names == ["small"]

    @jumping
    async def test_the_deadline_bounds_both(self) -> None:
        """Neither is blamed, and there is one error."""
        script = {"small": Does(after_s=NEVER_S), "large": Does(after_s=NEVER_S)}
        async with world(script, route=HEDGE) as w:
            error = await w.fail(request=asking(deadline_ms=5_000))

        assert (w.now, w.names, error.status) == (5, ["small", "large"], 504)
        assert (w.health("small").failed_calls, w.health("large").failed_calls) == (0, 0)

    @jumping
    async def test_whoever_searched_waits_for_the_rest(self) -> None:
        """The answer's deadlines end its waiting, not that of the task that made the call."""
        async with world({"small": Does(), "large": Does()}, route=HEDGE) as w:
            held = await w.search().run()
            with pytest.raises(TimedOut, match="idle"), held.answer._deadline.wait("idle", 1):
                await asyncio.sleep(NEVER_S)
            held.lease.leave()

        assert w.now == 1


CONTINUED = {"continuation": True}


class TestCarryingOn:
    """Another model goes on where an answer broke off."""

    @staticmethod
    async def broken(w: World) -> Search:
        """A search whose answer is being relayed, and breaks."""
        search = w.search()
        search.serving = await search.run()
        assert search.serving.way.carry_on == search.carry_on
        return search

    @jumping
    async def test_one_that_can(self) -> None:
        """It gets what was said, in the end of the request; what the broken one cost is booked, and it is blamed."""
        script = {"small": Does(), "middle": Does(), "large": Does()}
        async with world(script, route=CONTINUED, models={"large": {"continues": True}}) as w:
            search = await self.broken(w)
            found = await search.carry_on("So far \n", Usage(100, 10))
            assert found is not None
            assert search.serving is not None
            search.serving.lease.leave()

        assert (w.names, w.receipt.continued, w.receipt.model) == (["small", "large"], ["large"], "large")
        assert orjson.loads(w.calls[1].body)["messages"][-1] == {"role": "assistant", "content": "So far"}
        assert (w.receipt.unused_nanos, w.receipt.unpriced, w.receipt.attempts[0].error) == (280_000, False, BROKE)
        assert w.health("small").failed_calls == 1

    @pytest.mark.parametrize(("price", "nanos", "unpriced"), [(Price(2, 8), 2_000_000, False), (None, 0, True)])
    @jumping
    async def test_what_it_used_may_be_unknown(self, price: Price | None, nanos: int, *, unpriced: bool) -> None:
        """It is estimated where the broken answer did not say; without a price its cost stays unknown."""
        models: dict[str, dict[str, Any]] = {"small": {"price": price}, "large": {"continues": True}}
        async with world({"small": Does(), "large": Does()}, route=CONTINUED, models=models) as w:
            search = await self.broken(w)
            await search.carry_on("So far", None)
            assert search.serving is not None
            search.serving.lease.leave()

        assert (w.receipt.unused_nanos, w.receipt.unpriced) == (nanos, unpriced)

    @pytest.mark.parametrize(
        ("then", "continues", "names"),
        [
            (Does(), False, ["small"]), (Does(Refused("key", 401)), True, ["small", "large"]),
            (Does(b'{"error":"no prefill"}', status=400), True, ["small", "large"]),
            (Does(BadRequest("no")), True, ["small", "large"]),
        ],
        ids=["none can", "it fails", "it refuses", "it cannot be asked"],
    )
    @jumping
    async def test_there_is_none(self, then: Does, names: list[str], *, continues: bool) -> None:
        """The broken answer is what was given, and by whom is booked; no slot is left taken."""
        models = {"large": {"continues": continues}}
        async with world({"small": Does(), "large": then}, route=CONTINUED, models=models) as w:
            search = await self.broken(w)
            found = await search.carry_on("So far", Usage(100, 10))

        assert (found, w.names) == (None, names)
        assert (w.receipt.model, w.receipt.reason, w.receipt.continued) == ("small", Reason.LEARNED, [])

    @jumping
    async def test_a_slot_that_was_given_back_is_not_used_again(self) -> None:
        """The one that the search waited for before its answer was another's."""
        settings = {"large": {"slots": 1}}
        models = {"large": {"continues": True}}
        async with world({"small": Does(), "large": Does()}, route=CONTINUED, models=models, upstreams=settings) as w:
            w.health("small").cool(w.now, 3)
            lease = w.models["large"].pool.lease()
            asyncio.get_running_loop().call_later(4, lease.leave)
            search = await self.broken(w)
            await search.carry_on("So far", None)
            taken = w.models["large"].pool.slots.in_flight
            assert search.serving is not None
            search.serving.lease.leave()

        assert (w.names, taken) == (["small", "large"], 1)

    @pytest.mark.parametrize("request_", [
        ONE, plain.decode(b'{"model":"auto","prompt":"hi","stream":true}', {}, "completions"),
    ], ids=["no stream", "no conversation"])
    @jumping
    async def test_what_cannot_be_continued(self, request_: ChatRequest) -> None:
        """A whole answer, and what is not a chat."""
        async with world({"small": Does()}, route=CONTINUED) as w:
            held = await w.find(request=request_)

        assert (held.way.carry_on, held.way.asked) == (None, None)


@jumping
async def test_the_repr() -> None:
    """An operator reads how far it is."""
    async with world({"small": Does(DOWN), "large": Does()}) as w:
        search = w.search()
        before = repr(search)
        (await search.run()).lease.leave()

    assert (before, repr(search)) == ("<Search 0 attempts, 2 targets left>", "<Search 2 attempts, 2 targets left>")
