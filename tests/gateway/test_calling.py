"""The call of a request, over real sockets: the first answer, and what its end says of who gave it.

(Which target is called when: tests/gateway/test_search.py.)
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import orjson
import pytest

from gateway.accounting import Accounting
from gateway.calling import Calling
from gateway.config import HealthConfig, HedgeConfig, ModelConfig, RouteConfig, ServerConfig, UpstreamConfig
from gateway.counterfactual import Counterfactual
from gateway.errors import GatewayError, Refused, Unavailable, Unreachable
from gateway.estimating import Ratios
from gateway.receipt import Outcome, Receipt
from gateway.router import Plan, Reason, Target
from gateway.search import UNUSED, Held
from gateway.upstream.model import Model, build
from gateway.wire import ChatRequest, chat
from tests.gateway.provider import Provider, hanging, running

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}'
PLAN = Plan((Target("cheap", "cheap"), Target("premium", "premium")), Reason.LEARNED, "why", "auto")
LATE = RouteConfig(ladder=["cheap", "premium"], hedge=HedgeConfig(after_ms=1))


@pytest.fixture
async def first() -> AsyncIterator[Provider]:
    """The provider of the cheap rung."""
    async with running() as provider:
        yield provider


@pytest.fixture
async def second() -> AsyncIterator[Provider]:
    """The provider of the other rung."""
    async with running() as provider:
        yield provider


class Bound:
    """A calling with its models, and how a request goes through it."""

    def __init__(self, models: Mapping[str, Model], route: RouteConfig, server: ServerConfig) -> None:
        self.models = models
        accounting = Accounting(models, {"auto": route}, Ratios(), Counterfactual())
        self.calling = Calling(models, {"auto": route}, server, accounting)
        self.receipt = Receipt("r-1", time.monotonic())

    def health(self, name: str) -> Any:
        """A model's record."""
        return self.models[name].deployments[0].health

    async def answer(
        self, outcome: Outcome = Outcome.OK, *, stream: bool = True, plan: Plan = PLAN
    ) -> tuple[Held, bytes]:
        """Read the first answer to its end, and say how it went."""
        async with self.calling.first_answer(plan, asking(stream=stream), self.receipt) as held:
            read = held.answer.first
            while stream and held.answer.status < 400 and DONE not in read and (chunk := await held.answer.next()):
                read += chunk
            self.receipt.outcome = outcome
        return held, read

    async def fail(self, *, stream: bool = True, plan: Plan = PLAN) -> GatewayError:
        """Ask in vain."""
        with pytest.raises(GatewayError) as caught:
            await self.answer(stream=stream, plan=plan)
        return caught.value


Binds = Callable[..., Bound]


@pytest.fixture
async def bound(first: Provider, second: Provider) -> AsyncIterator[Binds]:
    """Bind two rungs to the providers; afterwards nothing may be taken."""
    made: list[Bound] = []

    def bind(
        route: RouteConfig | None = None, *, server: ServerConfig | None = None, slots: int = 9, failures: int = 5
    ) -> Bound:
        """Bind them."""
        upstreams = {
            name: UpstreamConfig(
                base_url=provider.base_url, slots=slots, stream_usage=False, health=HealthConfig(failures=failures)
            )
            for name, provider in (("first", first), ("second", second))
        }
        models = {"cheap": ModelConfig(upstream="first", name="a"), "premium": ModelConfig(upstream="second", name="b")}
        made.append(Bound(
            build(models, upstreams), route or RouteConfig(ladder=[*models]), server or ServerConfig(attempts=2)
        ))
        return made[-1]

    yield bind
    pools = [model.pool for each in made for model in each.models.values()]
    for pool in pools:
        await pool.close()

    assert [repr(pool) for pool in pools if pool.slots.in_flight or pool.slots.waiting] == []
    assert [endpoint for pool in pools for endpoint in pool.endpoints if endpoint.in_flight] == []


def asking(*, stream: bool) -> ChatRequest:
    """A request."""
    messages = [{"role": "user", "content": "hi"}]
    return chat.decode(orjson.dumps({"model": "auto", "messages": messages, "stream": stream}), {})


class TestFirstAnswer:
    """What the plan's targets give."""

    @pytest.mark.parametrize("stream", [False, True])
    async def test_of_the_first_that_is_well(
        self, first: Provider, second: Provider, bound: Binds, *, stream: bool
    ) -> None:
        """All of it, from the first target alone; its model's name is in the body."""
        first.streams(ROLE, WORD, DONE) if stream else first.says(WHOLE)
        held, read = await (b := bound()).answer(stream=stream)

        assert read == (ROLE + WORD + DONE if stream else WHOLE)
        assert (held.choice.target, held.reason, b.receipt.model) == (PLAN.targets[0], Reason.LEARNED, "cheap")
        assert [orjson.loads(body)["model"] for _, _, body in first.seen] == ["a"]
        assert second.seen == []

    @pytest.mark.parametrize("how", ["status", "hang-up", "error frame", "role only", "no stream"])
    async def test_of_the_next_where_the_first_fails(
        self, first: Provider, second: Provider, bound: Binds, how: str
    ) -> None:
        """Nothing of a stream has been shown before its first word, so anything before it may be tried elsewhere."""
        {
            "status": lambda: first.says(b'{"error":{"message":"down"}}', 500),
            "hang-up": lambda: first.streams(then="break"),
            "error frame": lambda: first.streams(ROLE, b'data: {"error":{"message":"overloaded"}}\n\n'),
            "role only": lambda: first.streams(ROLE, then="break"),
            "no stream": lambda: first.says(WHOLE, Content_Type="application/json"),
        }[how]()
        second.streams(WORD, DONE)
        held, read = await (b := bound()).answer()

        assert (read, held.choice.target.model, held.reason) == (WORD + DONE, "premium", Reason.FALLBACK)
        assert [attempt.error is None for attempt in b.receipt.attempts] == [False, True]
        assert (b.health("cheap").failed_calls, b.health("premium").failed_calls) == (1, 0)

    async def test_of_none(self, first: Provider, second: Provider, bound: Binds) -> None:
        """The most telling refusal is raised."""
        first.says(b'{"error":{"message":"slow down"}}', 429, Retry_After="7")
        second.says(b"", 500)
        error = await bound().fail()

        assert isinstance(error, Refused)
        assert (error.status, error.headers) == (429, {"Retry-After": "7"})
        assert "slow down" in error.message

    async def test_of_the_same_again(self, first: Provider, second: Provider, bound: Binds) -> None:
        """A moment later, where no other target is left."""
        first.says(b"", 503)
        only = Plan(PLAN.targets[:1], Reason.EXPLICIT, "why")
        b = bound(server=ServerConfig(attempts=2, backoff_ms=1))
        await b.fail(plan=only)

        assert (len(first.seen), second.seen) == (2, [])

    async def test_a_refusal_that_blames_the_request(self, first: Provider, second: Provider, bound: Binds) -> None:
        """It is an answer, with its body."""
        first.says(b'{"error":{"message":"messages is empty"}}', 400)
        held, read = await bound().answer()

        assert (held.answer.status, read, second.seen) == (400, b'{"error":{"message":"messages is empty"}}', [])

    async def test_the_quicker_of_two(self, first: Provider, second: Provider, bound: Binds) -> None:
        """The other's call ends at its provider too, and it is not blamed."""
        first.handle = hanging
        second.streams(WORD, DONE)
        held, read = await (b := bound(LATE)).answer()
        await first.left.wait()

        assert (read, held.choice.target.model, held.reason) == (WORD + DONE, "premium", Reason.HEDGED)
        assert (b.receipt.attempts[0].error, b.health("cheap").failed_calls) == (UNUSED, 0)

    async def test_the_quicker_answers_slowly_after_all(self, first: Provider, second: Provider, bound: Binds) -> None:
        """Its call was made in a task of its own; its rest is read in this one."""
        first.handle = hanging
        second.streams(WORD, then="break")
        with pytest.raises(GatewayError, match="broke off"):
            await bound(LATE).answer()


class TestItsEnd:
    """What the end of an answer says of who gave it."""

    @pytest.mark.parametrize(
        ("outcome", "in_a_row", "failed"),
        [(Outcome.OK, 0, 0), (Outcome.REFUSED, 0, 0), (Outcome.BROKEN, 2, 1), (Outcome.ABANDONED, 1, 0)],
    )
    async def test_by_outcome(
        self, first: Provider, bound: Binds, outcome: Outcome, in_a_row: int, failed: int
    ) -> None:
        """A whole one makes the count of failures begin anew, a broken one adds to it, one that was left does not."""
        first.streams(WORD, DONE)
        b = bound()
        b.health("cheap").in_a_row = 1
        await b.answer(outcome)

        assert (b.health("cheap").in_a_row, b.health("cheap").failed_calls) == (in_a_row, failed)

    async def test_answers_that_begin_well_and_break(self, first: Provider, bound: Binds) -> None:
        """They open the breaker as failures do, and the next request goes elsewhere."""
        first.streams(WORD, DONE)
        b = bound(failures=2)
        for _ in range(2):
            await b.answer(Outcome.BROKEN)

        assert b.health("cheap").state(time.monotonic()) == "open"

    async def test_an_error_while_it_is_relayed(self, first: Provider, second: Provider, bound: Binds) -> None:
        """It goes on as it is: no other target is called, and the slot is back."""
        first.streams(WORD, then="hang")
        b = bound()
        with pytest.raises(Refused, match="cannot be read"):
            async with b.calling.first_answer(PLAN, asking(stream=True), b.receipt):
                raise Refused("It cannot be read", 502)
        await first.left.wait()

        assert (len(first.seen), second.seen, len(b.receipt.attempts)) == (1, [], 1)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_client_that_leaves(self, first: Provider, bound: Binds, *, stream: bool) -> None:
        """The call ends at the provider as well, and blames nobody."""
        first.handle = hanging
        b = bound()
        searching = asyncio.gather(b.answer(stream=stream))
        await first.entered.wait()
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching
        await first.left.wait()

        assert (b.health("cheap").failed_calls, b.health("cheap").total_calls) == (0, 1)


async def test_nobody_listens(bound: Binds, first: Provider) -> None:
    """A provider that is gone is one that another may stand in for; where none is, that is what is told."""
    await first.stop()
    error = await bound(server=ServerConfig(attempts=1)).fail()

    assert isinstance(error, Unreachable)


async def test_every_slot_is_taken(bound: Binds, first: Provider) -> None:
    """A request waits for one and gets it."""
    first.streams(WORD, DONE)
    b = bound(slots=1)
    only = Plan(PLAN.targets[:1], Reason.EXPLICIT, "why")
    lease = b.models["cheap"].pool.lease()
    asyncio.get_running_loop().call_later(0.01, lease.leave)
    _, read = await b.answer(plan=only)

    assert (read, b.receipt.queued_s > 0) == (WORD + DONE, True)


async def test_nobody_waits(bound: Binds) -> None:
    """Where nothing may be waited for it is told at once."""
    b = bound(slots=1, server=ServerConfig(wait_ms=0))
    with b.models["cheap"].pool.lease(), b.models["premium"].pool.lease():
        error = await b.fail()

    assert isinstance(error, Unavailable)


async def test_the_repr(bound: Binds) -> None:
    """An operator reads for how many models it calls."""
    assert repr(bound().calling) == "<Calling 2 models>"
