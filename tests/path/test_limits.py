"""Limits of keys, routes and models on the path: who is over one is told when to come again; nobody else notices."""

from collections import Counter
from typing import Any

import orjson
import pytest

from gateway import config
from gateway.limits import Standing
from loadtest.mock_upstream import MockUpstream
from tests.conftest import Reply, Running, Start, Upstream, chat, request_bytes, two_rungs
from tests.path.clerk import bearer
from tests.path.conftest import EVENT, FINISH, STREAM, Scripted, chunk
from tests.path.surfaces import KINDS, SURFACES, asked, error_of

APP, OTHER = bearer("sk-app"), bearer("sk-other")
ONE = "requests_per_minute: 1"
WHOSE = ("key", "route", "model")
OTHERS = {      # what the mock provider does not serve: a path, a body, and what is answered
    "embeddings": ("/v1/embeddings", {"model": "cheap", "input": "hi"}, b'{"data":[],"usage":{"prompt_tokens":9}}'),
    "completions": (
        "/v1/completions", {"model": "cheap", "prompt": "hi"},
        b'{"choices":[{"text":"a","finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":4}}',
    ),
}


def limited(first: str, second: str, *, more: str = "", **limits: str) -> str:
    """Return a configuration where a key, the route, the model `cheap` or `premium` have these limits."""
    keys = f"keys: {{app: {{secret: sk-app, limits: {{{limits.get('key', '')}}}}}, other: {{secret: sk-other}}}}"
    route = f"threshold: 0, limits: {{{limits.get('route', '')}}}"
    text = two_rungs(first, second, route=route, more=f"{keys}\n{more}")
    text = text.replace("deadlines: {}", f"limits: {{{limits.get('model', '')}}}")
    return text.replace("name: mock-premium,", f"name: mock-premium, limits: {{{limits.get('premium', '')}}},")


def standings(running: Running) -> dict[str, Standing]:
    """Return how each name stands with its limits."""
    return running.gateway._books.admission.limits._standings


def at_rest(running: Running) -> None:
    """Nothing is taken any more that is given back at the end."""
    taken = {name: (each.running, each.held) for name, each in standings(running).items()}
    assert {name: those for name, those in taken.items() if any(those)} == {}


def refusal(surface: str, reply: Reply) -> str:
    """Return what a refusal says, which is in the surface's form."""
    kind, message, request_id = error_of(surface, reply)
    assert (reply.status, kind) == (429, KINDS[surface][429])
    assert request_id == reply.headers["x-thriftgate-request-id"]
    assert int(reply.headers["Retry-After"]) >= 1
    return message


# ── who is over a limit ──


@pytest.mark.parametrize("of", WHOSE)
@pytest.mark.parametrize("surface", SURFACES)
async def test_every_surface_says_when_to_come_again(
    gateway: Start, first: MockUpstream, second: MockUpstream, surface: str, of: str
) -> None:
    """429 with Retry-After in the vendor's words; nothing is sent upstream, and the receipt says `refused`."""
    running = await gateway(limited(first.base_url, second.base_url, **{of: ONE}))
    path, body = asked(surface, "cheap" if of == "model" else "auto")
    served, refused = [await running.ask(body, APP, path) for _ in range(2)]
    receipts = await running.receipts.until(2)
    name = {"key": "app", "route": "auto", "model": "cheap"}[of]

    assert served.status == 200
    assert refusal(surface, refused).startswith(f"The {of} {name!r} may send 1 requests a minute; try again in ")
    assert 30 < int(refused.headers["Retry-After"]) <= 60
    assert (first.journal.requests, second.journal.requests) == (1, 0)
    assert [receipt["outcome"] for receipt in receipts] == ["ok", "refused"]
    assert (receipts[1]["caller"], receipts[1]["status"], receipts[1]["cost_usd_nanos"]) == ("app", 429, None)
    at_rest(running)


@pytest.mark.parametrize("of", WHOSE)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_tokens_are_limited(
    gateway: Start, first: MockUpstream, second: MockUpstream, of: str, *, streamed: bool
) -> None:
    """Of a key, a route or a model: what an answer used is waited for. Another key is held to that of its own."""
    first.turn(tokens=500)
    running = await gateway(limited(first.base_url, second.base_url, **{of: "tokens_per_minute: 100"}))
    body = chat(model="cheap" if of == "model" else "auto", stream=streamed)
    served, refused, other = [await running.ask(body, key) for key in (APP, APP, OTHER)]

    assert (served.status, served.whole) == (200, True)
    assert "may use 100 tokens a minute" in refusal("openai", refused)
    assert 200 < int(refused.headers["Retry-After"]) < 400
    assert (other.status, first.journal.requests) == ((200, 2) if of == "key" else (429, 1))
    at_rest(running)


@pytest.mark.parametrize("of", WHOSE)
async def test_what_runs_at_once_is_limited(
    gateway: Start, first: MockUpstream, second: MockUpstream, of: str
) -> None:
    """Of a key, a route or a model: while a stream runs the next one is told to come again, and may when it is over."""
    running = await gateway(limited(first.base_url, second.base_url, **{of: "concurrency: 1"}))
    name = "cheap" if of == "model" else "auto"
    body = chat(model=name, stream=True, mock={"fault": "stall", "after": 2})
    wire = await running.wire()
    await wire.send(request_bytes(orjson.dumps(body), "Authorization: Bearer sk-app"))
    await wire.until(b"data: ")
    refused, other = [await running.ask(chat(model=name), key) for key in (APP, OTHER)]
    wire.leave()
    await running.receipts.until(3)
    after = await running.ask(chat(model=name), APP)

    assert "may have 1 requests at once" in refusal("openai", refused)
    assert (refused.headers["Retry-After"], other.status) == ("1", 200 if of == "key" else 429)
    assert after.status == 200
    at_rest(running)


@pytest.mark.parametrize("of", ["key", "model"])
@pytest.mark.parametrize("kind", OTHERS)
async def test_what_is_not_a_chat_is_limited_as_well(gateway: Start, scripted: Scripted, kind: str, of: str) -> None:
    """Embeddings and old completions take requests and tokens like everything else."""
    path, body, answer = OTHERS[kind]
    script = await scripted(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
    )
    limits = "requests_per_minute: 2, tokens_per_minute: 10, tokens_burst: 1"
    running = await gateway(limited(script.base_url, script.base_url, **{of: limits}))
    served, refused = [await running.ask(body, APP, path) for _ in range(2)]

    assert (served.status, script.calls) == (200, 1)
    assert "may use 10 tokens a minute" in refusal("openai", refused)
    at_rest(running)


async def test_a_refusal_costs_nobody_anything(gateway: Start, first: MockUpstream) -> None:
    """Who is refused by the route has taken nothing of the key's, and the other way round."""
    running = await gateway(limited(
        first.base_url, first.base_url, key="requests_per_minute: 3", route=ONE, model="concurrency: 9",
    ))
    statuses = [(await running.ask(headers=APP)).status for _ in range(6)]
    named = [(await running.ask(chat(model="cheap"), APP)).status for _ in range(3)]

    assert (statuses, named) == ([200, 429, 429, 429, 429, 429], [200, 200, 429])


async def test_what_cannot_be_served_takes_nothing(gateway: Start, first: MockUpstream) -> None:
    """A body that is none, a model that is not there, a key without the right."""
    running = await gateway(limited(first.base_url, first.base_url, key=ONE))
    bad = [(await running.ask(body, APP)).status for body in (b"no JSON", chat(model="gpt-99"), b"{}")]
    good = [(await running.ask(headers=APP)).status for _ in range(2)]

    assert (bad, good) == ([400, 404, 400], [200, 429])


# ── the ladder ──


async def test_a_model_at_its_limit_sends_the_request_one_rung_on(
    gateway: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """The route goes on with its next model, as the reason says; a request that names the model is told to wait."""
    running = await gateway(limited(first.base_url, second.base_url, model=ONE, premium="requests_per_minute: 1"))
    replies = [await running.ask(headers=APP) for _ in range(3)]
    named = await running.ask(chat(model="cheap"), APP)
    receipts = await running.receipts.until(4)

    assert [reply.status for reply in replies] == [200, 200, 429]
    assert [(r["model"], r["reason"], r["rung"]) for r in receipts[:2]] == [
        ("cheap", "learned", "cheap"), ("premium", "limit", "premium"),
    ]
    assert [reply.headers["x-thriftgate-reason"] for reply in replies[:2]] == ["learned", "limit"]
    assert "The model " in refusal("openai", replies[2])
    assert "The model 'cheap'" in refusal("openai", named)
    assert (first.journal.requests, second.journal.requests) == (1, 1)
    at_rest(running)


async def test_a_model_at_its_limit_is_no_way_out(gateway: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Where the first rung fails the next is not called beyond its limit: the caller is told of the failure."""
    running = await gateway(limited(first.base_url, second.base_url, premium=ONE))
    await running.ask(chat(model="premium"), APP)
    first.turn(error_rate=1, status=500)
    reply = await running.ask(headers=APP)
    receipts = await running.receipts.until(2)

    assert (reply.status, second.journal.requests) == (502, 1)
    assert {attempt["model"] for attempt in receipts[1]["attempts"]} == {"cheap"}
    at_rest(running)


async def test_a_fallback_counts_where_it_goes(gateway: Start, first: MockUpstream, second: MockUpstream) -> None:
    """The tokens are those of the model that answered; the one that failed used none."""
    first.turn(error_rate=1, status=500)
    second.turn(tokens=400)
    running = await gateway(limited(
        first.base_url, second.base_url, model="tokens_per_minute: 1000", premium="tokens_per_minute: 1000",
    ))
    assert (await running.ask(chat(max_tokens=400), APP)).status == 200
    await running.receipt()
    now_us = running.gateway._books.admission.now_us()
    owed = {name: each.owed(now_us)[1] > 0 for name, each in standings(running).items()}

    assert owed == {"model:cheap": False, "model:premium": True}
    at_rest(running)


# ── given back, whatever happens ──


ENDS: dict[str, dict[str, Any]] = {
    "whole": {},
    "streamed": {"stream": True},
    "refused there": {"mock": {"error_rate": 1, "status": 400}},
    "failed": {"mock": {"error_rate": 1, "status": 500}},
    "cut before a word": {"stream": True, "mock": {"fault": "cut-rst", "after": 0}},
    "broken": {"stream": True, "mock": {"fault": "cut-rst", "after": 3}},
    "ended early": {"stream": True, "mock": {"fault": "end", "after": 3}},
    "an error in it": {"stream": True, "mock": {"fault": "error-frame", "after": 3}},
    "no tools": {"tools": "none"},
}


async def test_concurrency_is_given_back_whatever_happens(
    gateway: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """One at a time, of the key, the route and both models: each of many requests that end badly lets in the next."""
    one = "concurrency: 1, tokens_per_minute: 100000000"
    running = await gateway(limited(first.base_url, second.base_url, key=one, route=one, model=one, premium=one))
    seen = {}
    for how, more in ENDS.items():
        seen[how] = (await running.ask(chat(**more), APP)).status
        at_rest(running)

    assert Counter(seen.values()) == {200: 5, 400: 2, 502: 2}
    assert (await running.ask(headers=APP)).status == 200


@pytest.mark.parametrize("after", [None, 3], ids=["before a word", "in the middle"])
async def test_concurrency_is_given_back_by_who_leaves(
    gateway: Start, first: MockUpstream, second: MockUpstream, after: int | None
) -> None:
    """Whoever hangs up, before the answer or in it, lets in the next."""
    one = "concurrency: 1, tokens_per_minute: 100000000"
    text = limited(first.base_url, second.base_url, route=one, model=one, premium=one)
    running = await gateway(text.replace("keys: {app: {secret: sk-app, limits: {}}, other: {secret: sk-other}}", ""))
    fault = {"fault": "hang"} if after is None else {"fault": "stall", "after": after}
    wire = await running.wire(chat(stream=True, mock=fault))
    await first.journal.until(lambda journal: journal.requests == 1)
    if after is not None:
        await wire.until(EVENT[:6])
    during = await running.ask()
    wire.leave()
    await running.receipts.until(2)

    assert "requests at once" in refusal("openai", during)
    at_rest(running)
    assert (await running.ask()).status == 200


@pytest.mark.parametrize("told", [True, False], ids=["told", "estimated"])
async def test_tokens_of_a_stream_are_taken_when_it_ends(
    gateway: Start, first: MockUpstream, scripted: Scripted, *, told: bool
) -> None:
    """As the provider counts them, or estimated where it says nothing: the next request is told to wait for them."""
    script = await scripted(STREAM + chunk(EVENT * 300) + chunk(FINISH) + b"0\r\n\r\n")
    first.turn(tokens=300)
    at = first.base_url if told else script.base_url
    running = await gateway(limited(at, first.base_url, key="tokens_per_minute: 60"))
    served = await running.ask(chat(stream=True), APP)
    receipt = await running.receipt()
    refused = await running.ask(headers=APP)
    used = receipt["input_tokens"] + receipt["output_tokens"]

    assert (served.status, receipt.get("estimated", False)) == (200, not told)
    assert "may use 60 tokens a minute" in refusal("openai", refused)
    assert used > 60
    assert int(refused.headers["Retry-After"]) in range(used - 90, used + 1)         # one is earned a second


# ── what the headers say ──


@pytest.mark.parametrize("kind", ["whole", "streamed", "translated"])
async def test_the_headers_are_those_of_the_callers_key(gateway: Start, upstream: Upstream, kind: str) -> None:
    """What the provider says of our key at it is not the caller's business, where the caller's own has limits."""
    mock = await upstream(headers={"X-RateLimit-Limit-Requests": "77", "X-Ratelimit-Remaining-Tokens": "78"})
    running = await gateway(limited(mock.base_url, mock.base_url, key="requests_per_minute: 5"))
    path, body = asked("anthropic" if kind == "translated" else "openai", stream=kind == "streamed")
    reply = await running.ask(body, APP, path)
    other = await running.ask(body, OTHER, path)
    said = [(name.lower(), value) for name, value in reply.headers.items() if "ratelimit" in name.lower()]

    assert reply.status == 200
    assert sorted(said)[:2] == [("x-ratelimit-limit-requests", "5"), ("x-ratelimit-remaining-requests", "4")]
    assert [name for name, _ in sorted(said)[2:]] == ["x-ratelimit-reset-requests"]
    assert other.headers["x-ratelimit-limit-requests"] == "77"


# ── a change of the configuration ──


async def test_another_limit_holds_at_once_and_forgets_nothing(gateway: Start, first: MockUpstream) -> None:
    """After a reload: what was taken before counts against the new limit."""
    def text(limit: int) -> str:
        """Return the configuration with that limit."""
        return limited(first.base_url, first.base_url, key=f"requests_per_minute: {limit}") + "\nledger: {url: none}\n"

    running = await gateway(text(1))
    before = [(await running.ask(headers=APP)).status for _ in range(2)]
    await running.gateway.reload(config.parse(text(3), {}))
    after = [(await running.ask(headers=APP)).status for _ in range(3)]

    assert (before, after) == ([200, 429], [200, 200, 429])
