"""One receipt for each request, whatever happened; honest money; and nothing in it that nobody may see."""

import asyncio
import contextlib
import re
from collections import Counter
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Client, Running, Start, Upstream, chat, two_rungs
from tests.path.conftest import Scripted, Spawn

SECRETS = {
    "prompt": "MARKED-PROMPT-7Q",
    "caller": "sk-MARKED-CALLER-8W",
    "unknown key": "sk-MARKED-UNKNOWN-9E",
    "upstream": "sk-MARKED-UPSTREAM-1R",
}
FIELDS = {
    "request_id", "caller", "route", "model", "rung", "reason", "score", "p_cheap", "threshold", "task", "verdict",
    "surface", "stream", "status", "outcome", "error", "finish", "attempts", "classify_ms", "ttft_ms", "total_ms",
    "sent_bytes", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
    "cost_usd_micros", "premium_usd_micros", "queued_ms", "unused_usd_micros", "cost_usd_nanos", "premium_usd_nanos",
    "unused_usd_nanos", "premium_low_nanos", "premium_high_nanos", "cost_parts", "at_ms", "owner", "conversation",
    "kind", "upstream", "propensity",
}


async def metrics(running: Running) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample of /metrics by its name and labels."""
    text = (await running.get("/metrics")).body.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text) for sample in family.samples
    }


def total(samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    """Return the sum of the samples with these labels."""
    return sum(value for (known, has), value in samples.items() if known == name and set(labels.items()) <= has)


# ── tokens and money ──


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_usage_and_cost_are_those_the_provider_named(
    serve: Start, first: MockUpstream, *, streamed: bool
) -> None:
    """Tokens as reported, cost by the configured price, and what the top of the ladder would have charged."""
    first.turn(tokens=1_000, cached_tokens=3)
    running = await serve()
    options = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    reply = await running.ask(chat("one two three four five", **options))
    receipt = await running.receipt()
    usage = orjson.loads(reply.events[-2])["usage"] if streamed else reply.json["usage"]
    fresh, cached, output = usage["prompt_tokens"] - 3, 3, usage["completion_tokens"]

    assert (receipt["input_tokens"], receipt["cached_tokens"]) == (fresh + cached, cached)
    assert receipt["output_tokens"] == output == 1_000
    assert receipt["cost_usd_micros"] == int(fresh * 0.15 + cached * 0.075 + output * 0.6 + 0.5)
    assert receipt["premium_usd_micros"] == (fresh + cached) * 5 + output * 25
    assert (receipt["finish"], receipt["outcome"], receipt["status"]) == ("stop", "ok", 200)


async def test_the_price_is_that_of_the_model_that_answered(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """After a fallback the dearer price is booked, not the one that was hoped for."""
    first.turn(error_rate=1)
    second.turn(tokens=10)
    running = await serve()
    reply = await running.ask()
    receipt = await running.receipt()
    usage = reply.json["usage"]

    assert receipt["cost_usd_micros"] == usage["prompt_tokens"] * 5 + 10 * 25
    assert receipt["premium_usd_micros"] == receipt["cost_usd_micros"]


@pytest.mark.parametrize("dials", [{}, {"split": 7}, {"crlf": True}], ids=["", "split", "crlf"])
@pytest.mark.parametrize("asked", [{}, {"stream_options": {"include_usage": False}}], ids=["unsaid", "declined"])
async def test_complaint_13_a_stream_is_counted_though_nobody_asked(
    serve: Start, first: MockUpstream, asked: dict[str, Any], dials: dict[str, object]
) -> None:
    """The receipt has tokens and cost; the caller gets what would have come had the gateway not asked."""
    running = await serve()
    first.turn(tokens=20, **dials)
    async with contextlib.AsyncExitStack() as held:
        direct = Client(first.root_url)
        held.push_async_callback(direct.close)
        unasked_for = await direct.ask(chat(stream=True, **asked) | {"model": "mock-cheap"})
    reply = await running.ask(chat(stream=True, **asked))
    receipt = await running.receipt()

    assert first.journal.last.json["stream_options"]["include_usage"] is True
    assert _anonymous(reply.body) == _anonymous(unasked_for.body)
    assert b"usage" not in reply.body
    assert (receipt["outcome"], receipt["finish"], receipt["output_tokens"]) == ("ok", "stop", 20)
    assert receipt["cost_usd_micros"] == int(receipt["input_tokens"] * 0.15 + 20 * 0.6 + 0.5)
    assert receipt["sent_bytes"] == len(reply.body)


def _anonymous(stream: bytes) -> bytes:
    """Return a stream of the mock provider's without what differs from call to call."""
    return re.sub(rb'"id":"chatcmpl-\w+"|"created":\d+|"obfuscation":"\w*"', b"", stream)


@pytest.mark.parametrize("surface", ["openai", "anthropic"])
async def test_an_older_server_is_asked_once_and_never_again(
    serve: Start, first: MockUpstream, second: MockUpstream, surface: str
) -> None:
    """It refuses `stream_options`: the request goes to it again without, and so do all that follow. Cost: estimated."""
    first.turn(unknown="stream_options")
    running = await serve()
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}[surface]
    replies = [await running.ask(chat(stream=True, max_tokens=9), path=path) for _ in range(2)]
    receipts = await running.receipts.until(2)

    assert [(reply.status, reply.whole) for reply in replies] == [(200, True)] * 2
    assert [len(receipt["attempts"]) for receipt in receipts] == [2, 1]
    assert [(receipt["estimated"], receipt["cost_usd_nanos"] > 0) for receipt in receipts] == [(True, True)] * 2
    assert [(r["model"], r["reason"], r["outcome"]) for r in receipts] == [("cheap", "learned", "ok")] * 2
    assert (first.journal.requests, second.journal.requests) == (3, 0)


async def test_a_caller_who_asks_an_older_server_gets_its_refusal(serve: Start, first: MockUpstream) -> None:
    """It was the caller's question: the provider's words are passed on."""
    first.turn(unknown="stream_options")
    running = await serve()
    reply = await running.ask(chat(model="cheap", stream=True, stream_options={"include_usage": True}))

    assert (reply.status, reply.error["param"], first.journal.requests) == (400, "stream_options", 1)


async def test_an_upstream_may_be_left_unasked(gateway: Start, first: MockUpstream) -> None:
    """`stream_usage: false`: nothing is added, and what was used is estimated from what was sent."""
    running = await gateway(two_rungs(first.base_url, first.base_url).replace(
        'base_url: "', 'stream_usage: false, base_url: "'
    ))
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()
    used = [receipt[f"{name}_tokens"] for name in ("input", "cached", "output")]

    assert b"stream_options" not in first.journal.last.body
    assert (reply.whole, receipt["outcome"], receipt["estimated"], used[1]) == (True, "ok", True, 0)
    assert used[0] * 150 + used[2] * 600 == receipt["cost_usd_nanos"] < receipt["premium_usd_nanos"]


async def test_a_model_without_a_price_has_an_unknown_cost(gateway: Start, first: MockUpstream) -> None:
    """The tokens are known all the same."""
    text = two_rungs(first.base_url, first.base_url)
    running = await gateway(text.replace("price: {input: 0.15, output: 0.6, cached_input: 0.075}", "tools: true"))
    await running.ask()
    receipt = await running.receipt()

    assert receipt["input_tokens"] > 0
    assert receipt["cost_usd_micros"] is None
    assert receipt["premium_usd_micros"] > 0


async def test_a_receipt_says_what_happened(serve: Start) -> None:
    """All its fields, and what the headers said before."""
    running = await serve(more="keys: {alice: {secret: sk-alice}}")
    reply = await running.ask(chat(stream=True), {"Authorization": "Bearer sk-alice"})
    receipt = await running.receipt()

    assert set(receipt) == FIELDS
    assert (receipt["caller"], receipt["stream"], receipt["sent_bytes"]) == ("alice", True, len(reply.body))
    assert receipt["request_id"] == reply.headers["x-thriftgate-request-id"]
    assert 0 <= receipt["classify_ms"] <= receipt["ttft_ms"] <= receipt["total_ms"]
    assert orjson.loads(orjson.dumps(receipt)) == receipt


# ── exactly one, whatever happens ──


async def test_thirty_two_mixed_requests_leave_thirty_two_receipts(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """Eight ways to end, four of each, all at once: each is booked once, as what it was, and counted so."""
    running = await serve(deadlines="first_output_ms: 5000")
    refused = {"error_rate": 1}
    kinds: list[Any] = [
        chat("whole"),
        chat("streamed", stream=True),
        chat("cut", stream=True, mock={"fault": "cut-rst", "after": 2}),
        chat("ends early", stream=True, mock={"fault": "end", "after": 2}),
        chat("fails everywhere", mock=refused),
        chat(model="gpt-99"),
        b"not JSON",
    ]
    leaving = [await running.wire(chat(f"leaves {n}", stream=True, mock={"fault": "hang"})) for n in range(4)]
    asking = asyncio.gather(*(running.ask(kind) for kind in kinds * 4))
    await first.journal.until(lambda journal: sum(call.json.get("mock") == {"fault": "hang"} and
                                                  call.outcome == "open" for call in journal.calls) == 4)
    for wire in leaving:
        wire.leave()
    replies = await asking
    receipts = await running.receipts.until(32)
    samples = await metrics(running)
    outcomes = {"ok": 8, "broken": 8, "failed": 4, "refused": 8, "abandoned": 4}

    assert Counter(reply.status for reply in replies) == {200: 16, 502: 4, 404: 4, 400: 4}
    assert Counter(receipt["outcome"] for receipt in receipts) == outcomes
    assert {name: total(samples, "thriftgate_requests_total", outcome=name) for name in outcomes} == outcomes
    assert total(samples, "thriftgate_request_seconds_count") == 32
    assert total(samples, "thriftgate_receipts_dropped_total") == 0
    assert {value for (name, _), value in samples.items() if name == "thriftgate_upstream_in_flight"} == {0}


async def test_the_metrics_are_the_sum_of_the_receipts(serve: Start, first: MockUpstream) -> None:
    """Requests, tokens, dollars and verdicts: every number on /metrics is in the receipts."""
    first.turn(tokens=7)
    running = await serve()
    for number in range(6):
        await running.ask(chat(f"prompt {number % 3}"))
    receipts = await running.receipts.until(6)
    samples = await metrics(running)
    inputs = sum(receipt["input_tokens"] for receipt in receipts)
    dollars = sum(receipt["cost_usd_nanos"] for receipt in receipts) / 1e9

    assert total(samples, "thriftgate_requests_total", route="auto", model="cheap", outcome="ok") == 6
    assert total(samples, "thriftgate_tokens_total", model="cheap", kind="input") == inputs
    assert total(samples, "thriftgate_tokens_total", model="cheap", kind="output") == 42
    assert total(samples, "thriftgate_cost_usd_total", model="cheap") == pytest.approx(dollars)
    assert total(samples, "thriftgate_verdicts_total", source="classifier") == 3
    assert total(samples, "thriftgate_verdicts_total", source="cache") == 3
    assert total(samples, "thriftgate_ttft_seconds_count", model="cheap") == 6
    assert total(samples, "thriftgate_classify_seconds_count") == 6


async def test_calls_in_flight_are_on_the_metrics(serve: Start, first: MockUpstream) -> None:
    """While one runs it is counted, afterwards it is not."""
    first.turn(fault="stall", after=2)
    running = await serve()
    wire = await running.wire(chat(stream=True))
    await wire.until(b"\n\n")
    during = total(await metrics(running), "thriftgate_upstream_in_flight", upstream="first")
    wire.leave()
    await running.receipt()
    after = total(await metrics(running), "thriftgate_upstream_in_flight", upstream="first")

    assert (during, after) == (1, 0)


# ── what nobody may see ──


async def shown(running: Running, first: MockUpstream) -> bytes:
    """Return all that the gateway says of itself after every kind of request that carries something secret."""
    prompt, key = SECRETS["prompt"], {"Authorization": f"Bearer {SECRETS['caller']}"}
    replies = [
        await running.ask(chat(prompt), key),
        await running.ask(chat(prompt, stream=True, mock={"fault": "cut-rst", "after": 0}), key),
        await running.ask(chat(prompt, mock={"error_rate": 1}), key),
        await running.ask(chat(prompt, model="gpt-99"), key),
        await running.ask(chat(prompt), {"Authorization": f"Bearer {SECRETS['unknown key']}"}),
        await running.ask(f'{{"model":"auto","messages":["{prompt}"]}}'.encode(), key),
        await running.ask(f'{{"model":"auto","{prompt}'.encode(), key),
    ]
    first.key = "another"          # the provider refuses our key, and quotes it
    replies += [await running.ask(chat(prompt, model="cheap", stream=streamed), key) for streamed in (True, False)]
    pages = [await running.get(path, key) for path in ("/metrics", "/readyz", "/v1/models")]
    said = [page.body + str(page.headers).encode() for page in (*replies[1:], *pages)]
    return b"\n".join([orjson.dumps(running.receipts.written), *said])


def secret_config(first: MockUpstream, second: MockUpstream, more: str = "") -> str:
    """Return a configuration with marked keys."""
    return two_rungs(
        first.base_url, second.base_url, more=f"keys: {{alice: {{secret: {SECRETS['caller']}}}}}\n{more}"
    ).replace("sk-first-upstream", SECRETS["upstream"]).replace("sk-second-upstream", SECRETS["upstream"])


async def test_no_secret_and_no_prompt_leaves_the_gateway(
    gateway: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """Not in receipts, error bodies, headers or metrics, also when the provider quotes our key at us."""
    running = await gateway(secret_config(first, second))
    said = await shown(running, first)
    found = [name for name, secret in SECRETS.items() if secret.encode() in said]

    assert found == []
    assert SECRETS["upstream"][-4:].encode() not in said
    assert b'"alice"' in said


async def test_prompts_are_written_only_when_asked_for(
    gateway: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """`log_prompts` puts the prompt into the receipts, and nothing else becomes visible by it."""
    running = await gateway(secret_config(first, second, "server: {log_prompts: true}"))
    await shown(running, first)
    receipts = running.receipts.written
    written = orjson.dumps(receipts)

    assert receipts[0]["prompt"] == SECRETS["prompt"]
    assert [name for name, secret in SECRETS.items() if secret.encode() in written] == ["prompt"]


async def test_the_log_of_the_real_process_has_no_secret_and_no_prompt(process: Spawn, upstream: Upstream) -> None:
    """Everything it writes to both of its outputs, and every line is JSON."""
    first, second = await upstream(), await upstream()
    running = await process(secret_config(first, second))
    key = {"Authorization": f"Bearer {SECRETS['caller']}"}
    first.key = "another"
    for body in (chat(SECRETS["prompt"]), chat(SECRETS["prompt"], model="cheap"), chat(SECRETS["prompt"], stream=True)):
        await running.client.ask(body, key)
    await running.client.ask(chat(SECRETS["prompt"]), {"Authorization": f"Bearer {SECRETS['unknown key']}"})
    running.terminate()
    status = await running.ended()
    said = orjson.dumps(running.lines) + running.said.encode()

    assert status == 0
    assert len(running.receipts) == 4
    assert [name for name, secret in SECRETS.items() if secret.encode() in said] == []
    assert running.said == ""


async def test_an_absurd_usage_costs_no_receipt(gateway: Start, scripted: Scripted) -> None:
    """A provider that counts beyond all measure is answered and booked like any other."""
    body = b'{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":%s,"completion_tokens":1}}' % (b"9" * 400)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    script = await scripted(head % len(body) + body)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    reply = await running.ask(chat())
    receipt = await running.receipt()

    assert (200, body, "ok") == (reply.status, reply.body, receipt["outcome"])


async def test_an_upstreams_words_do_not_carry_the_prompt_into_the_receipt(gateway: Start, scripted: Scripted) -> None:
    """Providers quote their input in errors: the caller may read that, the receipt does not keep it."""
    body = b'{"error":{"message":"cannot serve: marked-prompt"}}'
    head = b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    script = await scripted(head % len(body) + body)
    running = await gateway(two_rungs(script.base_url, script.base_url, upstream="slots: 1"))
    reply = await running.ask(chat(text="marked-prompt", model="cheap"))
    receipt = await running.receipt()

    assert b"marked-prompt" in reply.body
    assert "marked-prompt" not in str(receipt)


async def test_a_name_of_any_length_is_cut(serve: Start) -> None:
    """A caller's words enter the receipt shortened."""
    running = await serve()
    reply = await running.ask(chat(model="m" * 100_000))
    receipt = await running.receipt()

    assert 404 == reply.status
    assert len(str(receipt)) < 3_000
