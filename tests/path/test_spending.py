"""Budgets on the path: what is not paid for is not sent, what was not spent is given back, and the receipts add up."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from gateway import config
from gateway.purse import Purse
from loadtest.mock_upstream import MockUpstream
from tests.conftest import BOUND_S, Reply, Running, Start, chat, request_bytes, two_rungs
from tests.path.clerk import bearer, becomes
from tests.path.conftest import Spawn
from tests.path.surfaces import SURFACES, asked, error_of

KEPT = "ledger: {url: sqlite}"
APP, OTHER = bearer("sk-app"), bearer("sk-other")
QUOTA = {
    "openai": "insufficient_quota", "responses": "insufficient_quota", "anthropic": "rate_limit_error",
    "gemini": "RESOURCE_EXHAUSTED",
}
LONGEST: dict[str, dict[str, Any]] = {      # how each surface asks for at most a hundred tokens
    "openai": {"max_tokens": 100}, "responses": {"max_output_tokens": 100}, "anthropic": {"max_tokens": 100},
    "gemini": {"generationConfig": {"maxOutputTokens": 100}},
}
CHEAP_USD = 0.0001          # a hundred tokens of the cheap model are 0.00006, of the premium one 0.0025


def budget(usd: float, more: str = "per: total") -> str:
    """Return a budget as the configuration has it."""
    return f"budget: {{usd: {usd:.9f}, {more}}}"


def money(key: str = "", owner: str = "", all_: str = "") -> str:
    """Return the sections of two keys of one owner, with these budgets."""
    whose = f"owner: team, {key}" if owner else key
    return "\n".join([
        f"keys: {{app: {{secret: sk-app, {whose}}}, other: {{secret: sk-other{', owner: team' if owner else ''}}}}}",
        f"owners: {{team: {{{owner}}}}}" if owner else "", all_, KEPT,
    ])


def purse(running: Running, name: str = "key:app") -> Purse:
    """Return what the process has of a budget."""
    return running.gateway._books.treasury._purses[name]


def untouched(running: Running, name: str = "key:app") -> bool:
    """Say whether nothing of a budget is set aside or spent."""
    there = purse(running, name)
    return (there.reserved, there.spent, there.held) == (0, 0, there.lent)


# ── what is not paid for ──


@pytest.mark.parametrize("whose", ["key", "owner", "all_"])
@pytest.mark.parametrize("surface", SURFACES)
async def test_what_is_not_paid_for_is_not_sent(serve: Start, first: MockUpstream, surface: str, whose: str) -> None:
    """429 in the vendor's words, with when it begins anew; nothing is sent upstream, and nobody else's is touched."""
    first.turn(tokens=100)
    running = await serve(more=money(**{whose: budget(CHEAP_USD, "per: month")}))
    path, body = asked(surface, "cheap", **LONGEST[surface])
    served, refused = [await running.ask(body, APP, path) for _ in range(2)]
    other = await running.ask(body, OTHER, path)
    receipts = await running.receipts.until(3)
    kind, message, _ = error_of(surface, refused)
    name = {"key": "the key 'app'", "owner": "the owner 'team'", "all_": "all callers together"}[whose]

    assert (served.status, refused.status, kind) == (200, 429, QUOTA[surface])
    assert message.startswith(f"The budget of {name}, $0.0001 a month, has $")
    assert 1 <= int(refused.headers["Retry-After"]) <= 31 * 86_400
    assert other.status == (200 if whose == "key" else 429)
    assert first.journal.requests == (2 if whose == "key" else 1)
    assert [receipt["outcome"] for receipt in receipts[:2]] == ["ok", "refused"]
    assert receipts[0]["budgets"][0][0] == {"key": "key:app", "owner": "owner:team", "all_": "all"}[whose]
    assert (receipts[1]["cost_usd_nanos"], receipts[1]["attempts"]) == (None, [])


async def test_the_tightest_of_several_decides_and_the_others_lose_nothing(serve: Start, first: MockUpstream) -> None:
    """Of a key, its owner and all: refused by one, taken from none."""
    more = money(key=budget(CHEAP_USD), owner=budget(1), all_=budget(2))
    running = await serve(more=more)
    first.turn(tokens=100)
    statuses = [(await running.ask(chat(model="cheap", max_tokens=100), APP)).status for _ in range(4)]
    cost = (await running.receipts.until(4))[0]["cost_usd_nanos"]
    purses = [purse(running, name) for name in ("key:app", "owner:team", "all")]

    assert statuses == [200, 429, 429, 429]
    assert [(each.spent, each.reserved) for each in purses] == [(cost, 0)] * 3


@pytest.mark.parametrize("per", ["day", "month", "total"])
async def test_a_budget_begins_anew_with_its_period(serve: Start, first: MockUpstream, per: str) -> None:
    """By the day, by the month of UTC, or never: the refusal says when, and then it does."""
    first.turn(tokens=100)
    running = await serve(more=money(key=budget(CHEAP_USD, f"per: {per}")))
    body = chat(model="cheap", max_tokens=100)
    statuses = [(await running.ask(body, APP)).status for _ in range(2)]
    refused = await running.ask(body, APP)
    later_s = int(refused.headers["Retry-After"])
    running.gateway._books.treasury._wall = lambda: time.time() + later_s
    anew = await running.ask(body, APP)
    receipts = await running.receipts.until(4)
    formed = {"day": "%Y-%m-%d", "month": "%Y-%m", "total": "total"}[per]
    period = datetime.fromtimestamp(receipts[0]["at_ms"] / 1000, UTC).strftime(formed)

    assert (statuses, anew.status) == ([200, 429], 429 if per == "total" else 200)
    assert receipts[0]["budgets"] == [("key:app", period)]
    assert ("begins anew at " in refused.error["message"]) is (per != "total")
    assert later_s in {"day": range(1, 86_401), "month": range(1, 31 * 86_400 + 1), "total": [3_600]}[per]


async def test_a_model_without_a_price_has_no_place_in_a_budget(gateway: Start, first: MockUpstream) -> None:
    """It is refused, with what the operator can do; without a budget it is served. No rung of a route is such a one."""
    text = two_rungs(first.base_url, first.base_url, more=money(key=budget(1)))
    cheap = "price: {input: 0.15, output: 0.6, cached_input: 0.075}"
    running = await gateway(text.replace(cheap, "tools: true"))
    refused = await running.ask(chat(model="cheap"), APP)
    routed = await running.ask(headers=APP)
    free = await running.ask(chat(model="cheap"), OTHER)

    assert (refused.status, refused.error["code"], free.status) == (403, "model_not_priced", 200)
    assert "`models.cheap.price:" in refused.error["message"]
    assert (routed.status, first.journal.requests) == (403, 1)


# ── the cheapest rung instead ──


async def test_beyond_the_budget_the_cheapest_rung_answers(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """`on_budget: cheapest`: as the header and the receipt say. What is too dear even there is refused."""
    first.turn(tokens=100)
    second.turn(tokens=100)
    cheapest = budget(0.0029, "per: total, on_budget: cheapest")
    running = await serve(more=money(key=cheapest), route="threshold: 1.01")
    replies: list[Reply] = []
    while not replies or replies[-1].status == 200:
        replies.append(await running.ask(chat(max_tokens=100), APP))
    receipts = await running.receipts.until(len(replies))
    rungs = [receipt["rung"] for receipt in receipts[:-1]]
    spent = sum(receipt["cost_usd_nanos"] for receipt in receipts[:-1])

    assert rungs == ["premium"] + ["cheap"] * (len(rungs) - 1)
    assert [reply.headers["x-thriftgate-reason"] for reply in replies[1:-1]] == ["budget"] * (len(rungs) - 1)
    assert {receipt["reason"] for receipt in receipts[1:-1]} == {"budget"}
    assert (second.journal.requests, len(rungs) > 3) == (1, True)
    assert (replies[-1].status, replies[-1].error["code"]) == (429, "insufficient_quota")
    assert 2_900_000 - 61_000 < spent <= 2_900_000


async def test_a_fallback_is_only_what_is_paid_for(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Where the first rung fails and the budget does not reach for the next, the caller is told of the failure."""
    first.turn(error_rate=1, status=500)
    running = await serve(more=money(key=budget(CHEAP_USD)))
    reply = await running.ask(chat(max_tokens=100), APP)

    assert (reply.status, second.journal.requests) == (502, 0)
    assert untouched(running)


# ── set aside, settled, given back ──


ENDS: dict[str, tuple[int, dict[str, Any]]] = {
    "refused there": (400, {"mock": {"error_rate": 1, "status": 400}}),
    "failed": (502, {"mock": {"error_rate": 1, "status": 500}}),
    "throttled": (429, {"mock": {"error_rate": 1, "status": 429, "retry_after_s": 60}}),
    "our key refused": (502, {"mock": {"error_rate": 1, "status": 401}}),
}


@pytest.mark.parametrize("how", ENDS)
async def test_what_fails_gives_everything_back(serve: Start, how: str) -> None:
    """A budget for one request serves it after as many failures as there are."""
    expected, more = ENDS[how]
    running = await serve(more=money(key=budget(CHEAP_USD)))
    failed = [await running.ask(chat(model="cheap", max_tokens=100, **more), APP) for _ in range(3)]

    assert failed[0].status == expected
    assert untouched(running)


@pytest.mark.parametrize("how", ["abandoned before", "abandoned", "broken", "ended early"])
async def test_what_ends_badly_costs_what_it_cost(serve: Start, first: MockUpstream, how: str) -> None:
    """Whoever leaves, and whatever breaks: nothing stays set aside, and what is spent is what the receipt says."""
    fault = {
        "abandoned before": {"fault": "hang"}, "abandoned": {"fault": "stall", "after": 4},
        "broken": {"fault": "cut-rst", "after": 4}, "ended early": {"fault": "end", "after": 4},
    }[how]
    running = await serve(more=money(key=budget(CHEAP_USD)))
    wire = await running.wire()
    body = orjson.dumps(chat(model="cheap", stream=True, max_tokens=100, mock=fault))
    await wire.send(request_bytes(body, "Authorization: Bearer sk-app"))
    if how == "abandoned before":
        await first.journal.until(lambda journal: journal.requests == 1)
    else:
        await wire.until(b"data: ")
    if how.startswith("abandoned"):
        wire.leave()
    receipt = await running.receipt()
    there = purse(running)

    assert receipt["outcome"] == how.split(" ", maxsplit=1)[0].replace("ended", "broken")
    assert (there.reserved, there.spent) == (0, receipt["cost_usd_nanos"])
    assert 0 < there.spent < 60_000         # whoever leaves before the first word pays for the prompt


@pytest.mark.parametrize("kind", ["hedged", "continued"])
async def test_what_is_asked_twice_stays_within(
    gateway: Start, first: MockUpstream, second: MockUpstream, kind: str
) -> None:
    """Calls that are not used, and answers in two parts, are paid from what was set aside."""
    route = {
        "hedged": "threshold: 0, hedge: {after_ms: 1, share: 1, usd_per_hour: 100}",
        "continued": "threshold: 0, continuation: true",
    }[kind]
    first.turn(tokens=100, **({"fault": "hang"} if kind == "hedged" else {"fault": "cut-rst", "after": 30}))
    second.turn(tokens=100)
    more = money(key=budget(0.02))
    text = two_rungs(first.base_url, second.base_url, route=route, more=more, deadlines="first_output_ms: 500")
    running = await gateway(text.replace("name: mock-premium,", "name: mock-premium, continues: true,"))
    replies = await asyncio.gather(*(running.ask(chat(stream=True, max_tokens=100), APP) for _ in range(40)))
    receipts = await running.receipts.until(40)
    spent = sum(receipt["cost_usd_nanos"] or 0 for receipt in receipts)
    unused = sum(receipt["unused_usd_nanos"] for receipt in receipts)

    assert 200 in {reply.status for reply in replies} <= {200, 429, 504}
    assert 0 < unused < spent <= 20_000_000
    assert (purse(running).spent, purse(running).reserved) == (spent, 0)


# ── changes and warnings ──


async def test_a_higher_budget_holds_at_once(gateway: Start, first: MockUpstream) -> None:
    """And a lower one as well; what was spent before counts."""
    first.turn(tokens=100)

    def text(times: int) -> str:
        """Return a configuration whose budget is so many times as high."""
        return two_rungs(first.base_url, first.base_url, more=money(key=budget(CHEAP_USD * times)))

    running = await gateway(text(1))
    body = chat(model="cheap", max_tokens=100)
    before = [(await running.ask(body, APP)).status for _ in range(3)]
    await running.gateway.reload(config.parse(text(2), {"THRIFTGATE_DATA": running.gateway.config.ledger.directory}))
    after = [(await running.ask(body, APP)).status for _ in range(3)]
    await running.gateway.reload(config.parse(text(1), {"THRIFTGATE_DATA": running.gateway.config.ledger.directory}))
    lower = [(await running.ask(body, APP)).status for _ in range(2)]

    assert (before, after, lower) == ([200, 429, 429], [200, 200, 429], [429, 429])


class Webhook:
    """Somebody who is told of thresholds."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.url = ""

    async def hear(self, http: web.Request) -> web.Response:
        """Hear."""
        assert http.query["token"] == "MARKED"
        self.heard.append(await http.json())
        return web.Response()

    def of(self, share: float) -> list[dict[str, Any]]:
        """Return what was heard of a threshold."""
        return [heard for heard in self.heard if heard["share"] == share]


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    """A little server."""
    hook = Webhook()
    application = web.Application()
    application.add_routes([web.post("/hook", hook.hear)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook?token=MARKED"
    yield hook
    await runner.cleanup()


async def test_thresholds_are_told_once(
    process: Spawn, first: MockUpstream, webhook: Webhook, tmp_path: Path
) -> None:
    """In the log and to the webhook, each once, however many requests follow; the log does not know the address."""
    first.turn(tokens=100)
    soft = f"per: total, soft: [0.3, 0.6], webhook: '{webhook.url}'"
    running = await process(two_rungs(first.base_url, first.base_url, more=money(key=budget(0.0012, soft))))
    body = chat(model="cheap", max_tokens=100)
    saying = asyncio.gather(running.line("budget threshold"))
    async with asyncio.timeout(BOUND_S):
        while not webhook.of(0.3):
            await running.client.ask(body, APP)
    said = [*await saying]
    saying = asyncio.gather(running.line("budget threshold"))
    async with asyncio.timeout(BOUND_S):
        while not webhook.of(0.6):
            await running.client.ask(body, APP)
    said += await saying
    await becomes(429, lambda: running.client.ask(body, APP))
    running.terminate()
    ended = await running.ended()
    lines = [line for line in running.lines if line["event"] == "budget threshold"]

    assert (ended, len(webhook.heard), lines) == (0, 2, said)
    assert {(each["budget"], each["period"]) for each in webhook.heard} == {("key:app", "total")}
    assert all(each["spent_usd"] >= each["share"] * each["limit_usd"] for each in webhook.heard)
    assert [(line["share"], line["level"]) for line in lines] == [(0.3, "warning"), (0.6, "warning")]
    assert "MARKED" not in str(running.lines)
