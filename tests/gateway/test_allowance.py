"""What a request may use."""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import msgspec
import orjson
import pytest

from gateway import config
from gateway.admission import Admission
from gateway.alerts import Alerts
from gateway.allowance import Allowance, Allowing
from gateway.auth import Caller
from gateway.budgets import Ask, Book, Reply
from gateway.config import BudgetConfig, LimitsConfig
from gateway.errors import BudgetExceeded, RateLimited, Unpriced
from gateway.estimating import Ratios
from gateway.metrics import Metrics
from gateway.pricing import Usage
from gateway.receipt import Receipt
from gateway.router import Plan, Reason, Target
from gateway.teller import Teller
from gateway.treasury import Treasury
from gateway.upstream.model import build
from gateway.wire import ChatRequest, chat

TEXT = """
upstreams: {u: {base_url: "http://u.example/v1"}}
models:
  small: {upstream: u, price: {input: 1, output: 2}, max_output: 1000}
  large: {upstream: u, price: {input: 10, output: 20}, max_output: 1000}
  free:  {upstream: u, name: of-unknown-price}
routes:
  auto:   {ladder: [small, large], limits: {concurrency: 3}}
  hedged: {ladder: [small, large], hedge: {}}
"""
PLAN = Plan((Target("small", "cheap"), Target("large", "premium")), Reason.LEARNED, "sure", "auto")
MOST = {"small": 201 * 1_000 + 100 * 2_000 + 2, "large": 201 * 10_000 + 100 * 20_000 + 2}      # nano-dollars


class Here:
    """A home of accounts in memory."""

    term_s = 60.0

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}

    async def call(self, holder: str, asks: Sequence[Ask]) -> Sequence[Reply]:
        """Answer."""
        return [self.books.setdefault(ask.name, Book()).answer(holder, ask, 1) for ask in asks]

    async def spent(self, accounts: Sequence[tuple[str, str]]) -> Sequence[int]:
        """Say what is settled."""
        return [self.books[name].spent_nanos for name, _ in accounts]

    async def wanted(self) -> Collection[tuple[str, str]]:
        """Nobody wants anything."""
        return ()


class World:
    """What grants, and what it grants from."""

    def __init__(self, text: str) -> None:
        self.config = config.parse(TEXT + text, {})
        self.models = build(self.config.models, self.config.upstreams)
        self.home = Here()
        self.admission = Admission(self.config.shared, None, Metrics(), lambda: 1.0)
        teller = Teller(self.home, "me", lambda: 1.0, Alerts())
        self.treasury = Treasury(teller, lambda: 1.0, lambda: 1.0, lets_pass=False)
        self.allowing = Allowing(self.config, self.models, self.admission, self.treasury, Ratios())
        self.receipt = Receipt("r-1", 0.0)

    async def allow(self, caller: Caller, plan: Plan = PLAN, **more: Any) -> Allowance:
        """Ask for a request."""
        return await self.allowing.allow(caller, plan, asked(**more), self.receipt)

    async def close(self) -> None:
        """Close everything."""
        await self.treasury.close()
        for pool in {model.pool for model in self.models.values()}:
            await pool.close()


@pytest.fixture
async def world() -> AsyncIterator[Any]:
    """`world(text)`: one with this added to its configuration."""
    made: list[World] = []

    def make(text: str = "") -> World:
        """Make one."""
        made.append(World(text))
        return made[-1]

    yield make
    for each in made:
        await each.close()


def asked(**more: Any) -> ChatRequest:
    """A request of 400 bytes for at most 100 tokens."""
    request = chat.decode(orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": "x"}]}), {})
    return msgspec.structs.replace(request, **{"text_bytes": 400, "max_output": 100, **more})


def budget(nanos: int, **more: Any) -> BudgetConfig:
    """A budget of so much in all."""
    return BudgetConfig(usd=nanos / 1e9, per="total", **more)


def models_of(allowance: Allowance) -> list[str]:
    """The targets that are left."""
    return [target.model for target in allowance.plan.targets]


async def test_nothing_is_set_is_nothing_asked(world: Any) -> None:
    """The plan stays as it is, and no account is opened."""
    w = world()
    allowance = await w.allow(Caller("app"))
    allowance.end(w.receipt)

    assert (allowance.plan is PLAN, allowance.headers(), w.receipt.budgets, w.home.books) == (True, {}, [], {})


async def test_whose_money_it_is(world: Any) -> None:
    """The key's, its owner's and everybody's, each in its period; the receipt says so."""
    w = world("owners: {team: {budget: {usd: 5, per: day}}}\nbudget: {usd: 9, per: month}\n")
    caller = Caller("app", owner="team", budget=budget(10**9))
    await w.allow(caller)

    assert w.receipt.budgets == [("key:app", "total"), ("owner:team", "1970-01-01"), ("all", "1970-01")]
    assert [each.name for each in w.allowing.budgets(Caller("b", owner="other"))] == ["all"]


@pytest.mark.parametrize(("nanos", "targets"), [
    (MOST["large"], ["small", "large"]), (MOST["large"] - 1, ["small"]), (MOST["small"], ["small"]),
])
async def test_a_plan_is_what_is_paid_for(world: Any, nanos: int, targets: list[str]) -> None:
    """A target that costs more than is left is taken out, and the request is not refused for it."""
    allowance = await world().allow(Caller("app", budget=budget(nanos)))

    assert (models_of(allowance), allowance.plan.reason) == (targets, Reason.LEARNED)


async def test_less_than_the_first_costs(world: Any) -> None:
    """It is refused, and nothing is taken."""
    w, alone = world(), LimitsConfig(concurrency=1)
    with pytest.raises(BudgetExceeded):
        await w.allow(Caller("app", budget=budget(MOST["small"] - 1), limits=alone))

    assert await w.allow(Caller("app", limits=alone))


async def test_down_the_ladder(world: Any) -> None:
    """Where that is how it is configured: what is left goes to the cheapest, for that reason."""
    up = PLAN.only([1, 0], Reason.FALLBACK)
    caller = Caller("app", budget=budget(MOST["small"], on_budget="cheapest"))
    allowance = await world().allow(caller, up)

    assert (models_of(allowance), allowance.plan.reason) == (["small"], Reason.BUDGET)


async def test_what_was_not_used_can_be_used_again(world: Any) -> None:
    """At the end the real cost is booked, however little was known of it before."""
    w, caller = world(), Caller("app", budget=budget(MOST["small"]))
    first = await w.allow(caller)
    w.receipt.cost_nanos, w.receipt.usage = 1_000, Usage(1, 0)
    first.end(w.receipt)
    first.end(w.receipt)
    allowed = await w.allow(caller, max_output=99)

    assert models_of(allowed) == ["small"]
    with pytest.raises(BudgetExceeded):
        await w.allow(caller)


async def test_two_calls_may_be_made(world: Any) -> None:
    """On a route that hedges, both must be paid for."""
    plan = msgspec.structs.replace(PLAN, route="hedged")
    with pytest.raises(BudgetExceeded):
        await world().allow(Caller("app", budget=budget(2 * MOST["small"] - 1)), plan)

    assert await world().allow(Caller("app", budget=budget(2 * MOST["small"])), plan)


async def test_several_answers_may_be_wanted(world: Any) -> None:
    """Each of them may be as long as one."""
    w, caller = world(), Caller("app", budget=budget(MOST["small"] + 2 * 100 * 2_000))
    with pytest.raises(BudgetExceeded):
        await w.allow(caller, answers=4)

    assert models_of(await w.allow(caller, answers=3)) == ["small"]


async def test_a_price_that_nobody_knows(world: Any) -> None:
    """It cannot be held to a budget; as a fallback it is left out."""
    caller = Caller("app", budget=budget(10**9))
    with pytest.raises(Unpriced, match=r"models\.free\.price"):
        await world().allow(caller, Plan((Target("free"),), Reason.EXPLICIT, ""))
    behind = await world().allow(caller, Plan((Target("small"), Target("free")), Reason.EXPLICIT, ""))

    assert models_of(behind) == ["small"]


async def test_counting_tokens_costs_nothing(world: Any) -> None:
    """Nothing is reserved for it, of whatever budget."""
    w = world()
    allowance = await w.allow(Caller("app", budget=budget(1)), kind="count_tokens")

    assert (allowance.plan is PLAN, w.receipt.budgets) == (True, [])


class TestLimits:
    """What was not the budget's to refuse."""

    async def test_a_model_that_is_full(self, world: Any) -> None:
        """The next one is the first now, for that reason; named outright it is a refusal."""
        w = world()
        w.allowing._limits["small"] = w.allowing._limits["small"]._replace(limits=LimitsConfig(concurrency=1))
        first = await w.allow(Caller("app"))
        second = await w.allow(Caller("app"))
        with pytest.raises(RateLimited, match="model 'small'"):
            await w.allow(Caller("app"), Plan((Target("small"),), Reason.EXPLICIT, ""))
        first.end(w.receipt)

        assert (models_of(first), models_of(second), second.plan.reason) == (
            ["small", "large"], ["large"], Reason.LIMIT
        )
        assert models_of(await w.allow(Caller("app"))) == ["small", "large"]

    async def test_money_is_put_back(self, world: Any) -> None:
        """A request that a limit refuses has not cost anything."""
        w = world()
        caller = Caller("app", budget=budget(2 * MOST["small"]), limits=LimitsConfig(requests_per_minute=1))
        await w.allow(caller)
        with pytest.raises(RateLimited):
            await w.allow(caller)
        with pytest.raises(RateLimited):
            w.allowing.peek(caller, "auto")

        assert await w.allow(msgspec.structs.replace(caller, limits=LimitsConfig()))

    async def test_the_route_counts_all_callers(self, world: Any) -> None:
        """And not those who name a model."""
        w = world()
        for name in "abc":
            await w.allow(Caller(name))
        with pytest.raises(RateLimited, match="route 'auto'"):
            w.allowing.peek(Caller("d"), "auto")
        w.allowing.peek(Caller("d"), None)

        assert await w.allow(Caller("d"), Plan((Target("small"),), Reason.EXPLICIT, ""))

    async def test_tokens_are_those_that_were_used(self, world: Any) -> None:
        """What was thought of before is forgotten."""
        w, caller = world(), Caller("app", limits=LimitsConfig(tokens_per_minute=1_000))
        allowance = await w.allow(caller)
        w.receipt.usage, w.receipt.model = Usage(30, 12), "small"
        allowance.end(w.receipt)
        headers = (await w.allow(caller)).headers()

        assert headers["x-ratelimit-limit-tokens"] == "1000"
        assert headers["x-ratelimit-remaining-tokens"] == str(1_000 - 42 - 200)


async def test_the_reprs(world: Any) -> None:
    """An operator reads how much there is of what."""
    w = world()

    assert repr(await w.allow(Caller("app"))) == "<Allowance 2 targets>"
    assert repr(w.allowing).startswith("<Allowing <Admission")
