"""More than can be served at once: some wait, callers in turn, the rest are told at once; who leaves costs nothing."""

import asyncio
from typing import Any

import orjson
import pytest

from gateway.upstream.slots import Slots
from loadtest.journal import Call
from loadtest.mock_upstream import MockUpstream
from tests.conftest import Client, Running, Start, Wire, chat, request_bytes, two_rungs
from tests.path.befalling import until
from tests.path.surfaces import KINDS, SURFACES, asked, error_of, three

HOUR_MS = 3_600_000
PLACES = ("upstream", "server")      # where a request may have to queue
KEYS = "keys: {alice: {secret: sk-alice}, bob: {secret: sk-bob}}"


def crowded(url: str, place: str, *, queue: int = 1, wait_ms: int = HOUR_MS, more: str = "") -> str:
    """Return a configuration with one place and a queue before it, at an upstream or at the gateway itself."""
    limits = {"upstream": (f"slots: 1, queue: {queue}", ""), "server": ("", f"concurrency: 1, queue: {queue}")}
    upstream, server = limits[place]
    return two_rungs(url, url, upstream=upstream, more=f"server: {{wait_ms: {wait_ms}, {server}}}\n{more}")


def slots_of(running: Running, place: str) -> Slots:
    """Return the slots that are queued for."""
    return running.gateway.handler._slots if place == "server" else running.gateway.with_.models["cheap"].pool.slots


async def queued(running: Running, place: str, number: int) -> None:
    """Return once so many requests queue."""
    await until(lambda: slots_of(running, place).waiting == number)


async def hold(running: Running, mock: MockUpstream, key: str = "") -> Wire:
    """Take the only place with a call that does not end, and have all later calls answered."""
    mock.turn(fault="hang")
    wire = await send(running, chat("holding", model="cheap"), key)
    await mock.journal.until(lambda journal: journal.in_flight == 1)
    mock.turn(fault="")
    return wire


async def send(client: Client, body: dict[str, Any], key: str = "") -> Wire:
    """Send a request, and wait for nothing."""
    wire = await client.wire()
    await wire.send(request_bytes(orjson.dumps(body), *([f"Authorization: Bearer {key}"] if key else [])))
    return wire


def said(calls: list[Call]) -> list[str]:
    """Return what the calls said, in order."""
    return [call.said for call in calls]


# ── the queue ──


@pytest.mark.parametrize("place", PLACES)
async def test_the_second_waits_and_the_third_is_told_at_once(
    gateway: Start, first: MockUpstream, place: str
) -> None:
    """503 with Retry-After, though the patience is an hour; nothing is sent for it, and the second is served."""
    running = await gateway(crowded(first.base_url, place))
    holding = await hold(running, first)
    second = await send(running, chat("second", model="cheap"))
    await queued(running, place, 1)
    third = await running.ask(chat("third", model="cheap"))
    sent = first.journal.requests
    holding.leave()
    answered = await second.reply()
    receipts = {receipt["outcome"]: receipt for receipt in await running.receipts.until(3)}

    assert (third.status, third.error["code"], int(third.headers["Retry-After"])) == (503, "overloaded", 1)
    assert sent == 1
    assert answered.status == 200
    assert said(list(first.journal.calls)) == ["holding", "second"]
    assert {outcome: len(receipt["attempts"]) for outcome, receipt in receipts.items()} == {
        "failed": 0, "ok": 1, "abandoned": 1
    }
    assert receipts["ok"]["queued_ms"] > 0


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("place", PLACES)
async def test_it_is_told_in_the_callers_form(
    gateway: Start, first: MockUpstream, place: str, surface: str
) -> None:
    """Overloaded is an error that every SDK knows and comes back after."""
    kinds = {**KINDS[surface], 503: "server_error"} if surface in ("openai", "responses") else KINDS[surface]
    server = "concurrency: 1, queue: 0" if place == "server" else f"wait_ms: {HOUR_MS}"
    text = three(first, more=f"server: {{{server}}}")
    slots = "" if place == "server" else "slots: 1, queue: 0,"
    running = await gateway(text.replace("dialect: openai,", f"dialect: openai, {slots}"))
    first.turn(fault="hang")
    holding = await running.wire(chat(model="of-openai"))
    await first.journal.until(lambda journal: journal.in_flight == 1)
    path, body = asked(surface, "of-openai")
    reply = await running.ask(body, path=path)
    holding.leave()

    assert (reply.status, error_of(surface, reply)[0]) == (503, kinds[503])
    assert "Retry-After" in reply.headers
    assert first.journal.requests == 1


@pytest.mark.parametrize("place", PLACES)
async def test_nobody_queues_longer_than_the_patience(gateway: Start, first: MockUpstream, place: str) -> None:
    """Then it is told like those for whom there was no room; its place in the queue is free again."""
    running = await gateway(crowded(first.base_url, place, wait_ms=50))
    holding = await hold(running, first)
    replies = [await running.ask(chat(model="cheap")) for _ in range(3)]
    holding.leave()
    receipts = await running.receipts.until(4)

    assert [(reply.status, reply.headers["Retry-After"]) for reply in replies] == [(503, "1")] * 3
    assert [receipt["queued_ms"] > 25 for receipt in receipts[:3]] == [True] * 3
    assert first.journal.requests == 1


@pytest.mark.parametrize("place", PLACES)
async def test_everybody_in_the_queue_is_served(gateway: Start, first: MockUpstream, place: str) -> None:
    """Sixty-four at once through one place: one after the other, in the order they came."""
    running = await gateway(crowded(first.base_url, place, queue=64))
    holding = await hold(running, first)
    waiting = []
    for n in range(64):
        waiting.append(await send(running, chat(f"prompt {n}", model="cheap")))
        await queued(running, place, n + 1)
    holding.leave()
    replies = [await wire.reply() for wire in waiting]

    assert {reply.status for reply in replies} == {200}
    assert said(list(first.journal.calls)[1:]) == [f"prompt {n}" for n in range(64)]


async def test_another_target_comes_before_the_queue(
    gateway: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """Nobody waits for a slot while another rung has one; where both are full, the first that is free is used."""
    text = two_rungs(first.base_url, second.base_url, upstream="slots: 1", more=f"server: {{wait_ms: {HOUR_MS}}}")
    running = await gateway(text.replace("key: sk-second-upstream", "key: sk-second-upstream, slots: 1"))
    holding = await hold(running, first)
    second.turn(fault="hang")
    moved = await send(running, chat("moved"))
    await second.journal.until(lambda journal: journal.in_flight == 1)
    waiting = await send(running, chat("waiting"))
    await queued(running, "upstream", 1)
    holding.leave()
    reply = await waiting.reply()
    moved.leave()

    assert (reply.status, reply.headers["x-thriftgate-model"]) == (200, "cheap")
    assert said(list(second.journal.calls)) == ["moved"]


# ── fairness ──


@pytest.mark.parametrize("place", PLACES)
async def test_a_caller_with_much_delays_another_by_one_turn(
    gateway: Start, first: MockUpstream, place: str
) -> None:
    """Alice has twenty waiting, then Bob has one: it is served after at most one more of hers."""
    running = await gateway(crowded(first.base_url, place, queue=64, more=KEYS))
    holding = await hold(running, first, "sk-alice")
    waiting = []
    for n in range(20):
        waiting.append(await send(running, chat(f"alice {n}", model="cheap"), "sk-alice"))
        await queued(running, place, n + 1)
    waiting.append(await send(running, chat("bob", model="cheap"), "sk-bob"))
    await queued(running, place, 21)
    holding.leave()
    replies = [await wire.reply() for wire in waiting]
    order = said(list(first.journal.calls)[1:])

    assert {reply.status for reply in replies} == {200}
    assert order.index("bob") <= 1
    assert [one for one in order if one != "bob"] == [f"alice {n}" for n in range(20)]


@pytest.mark.parametrize("place", PLACES)
async def test_two_callers_with_much_take_turns(gateway: Start, first: MockUpstream, place: str) -> None:
    """One of hers, one of his."""
    running = await gateway(crowded(first.base_url, place, queue=64, more=KEYS))
    holding = await hold(running, first, "sk-alice")
    waiting = []
    for name in ("alice", "bob"):
        for _ in range(8):
            waiting.append(await send(running, chat(name, model="cheap"), f"sk-{name}"))
            await queued(running, place, len(waiting))
    holding.leave()
    replies = [await wire.reply() for wire in waiting]
    order = said(list(first.journal.calls)[1:])

    assert {reply.status for reply in replies} == {200}
    assert [set(order[at:at + 2]) for at in range(0, 16, 2)] == [{"alice", "bob"}] * 8


# ── who leaves ──


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("place", PLACES)
async def test_who_leaves_the_queue_is_not_sent(
    gateway: Start, first: MockUpstream, place: str, *, streamed: bool
) -> None:
    """Its place in the queue is another's, and the receipt says that it was abandoned."""
    running = await gateway(crowded(first.base_url, place))
    holding = await hold(running, first)
    leaving = await send(running, chat("leaving", model="cheap", stream=streamed))
    await queued(running, place, 1)
    leaving.leave()
    receipt = await running.receipt()
    stays = await send(running, chat("stays", model="cheap"))
    await queued(running, place, 1)
    holding.leave()
    reply = await stays.reply()

    assert (receipt["outcome"], receipt["attempts"], receipt["sent_bytes"]) == ("abandoned", [], 0)
    assert receipt["queued_ms"] > 0
    assert reply.status == 200
    assert said(list(first.journal.calls)) == ["holding", "stays"]


async def test_who_leaves_while_connecting_gives_the_slot_back(
    gateway: Start, unreachable: str, second: MockUpstream
) -> None:
    """A provider that takes no connection, and a client that does not wait for it: blamed is nobody."""
    text = two_rungs(unreachable, second.base_url, upstream="slots: 1", deadlines=f"connect_ms: {HOUR_MS}")
    running = await gateway(text)
    slots = slots_of(running, "upstream")
    wire = await running.wire(chat(model="cheap", stream=True))
    await until(lambda: slots.in_flight == 1)
    wire.leave()
    receipt = await running.receipt()

    assert (receipt["outcome"], len(receipt["attempts"])) == ("abandoned", 1)
    assert slots.in_flight == 0
    assert running.gateway.with_.models["cheap"].deployments[0].health.failed_calls == 0


LEAVING: dict[str, tuple[dict[str, object], int]] = {       # dials, and how many calls have ended when it leaves
    "waiting for the headers": ({"fault": "hang"}, 0),
    "waiting for the first word": ({"fault": "stall", "after": 1}, 0),
    "streaming": ({"fault": "stall", "after": 3}, 0),
    "backing off": ({"error_rate": 1, "status": 500}, 1),
    "waiting for a Retry-After": ({"error_rate": 1, "status": 429, "retry_after_s": 250}, 1),
}


@pytest.mark.parametrize(("dials", "ended"), LEAVING.values(), ids=LEAVING)
async def test_who_leaves_gives_its_place_to_the_next(
    gateway: Start, first: MockUpstream, dials: dict[str, object], ended: int
) -> None:
    """Whatever the gateway was doing for it: the call ends, no other follows, and both places are free."""
    first.turn("mock-cheap", **dials)
    server = f"server: {{backoff_ms: {HOUR_MS}, wait_ms: {3 * HOUR_MS}, concurrency: 1}}"
    running = await gateway(two_rungs(first.base_url, first.base_url, upstream="slots: 1", more=server))
    wire = await running.wire(chat("leaving", model="cheap", stream=True))
    pieces = int(str(dials.get("after", 0)))
    await first.journal.until(
        lambda journal: (journal.in_flight, journal.refused) == (1 - ended, ended) and journal.chunks_sent >= pieces
    )
    await until(lambda: slots_of(running, "upstream").in_flight == 1 - ended)
    waiting = await send(running, chat("next", model="premium"))
    await queued(running, "server", 1)
    wire.leave()
    reply = await waiting.reply()
    await first.journal.until(lambda journal: journal.in_flight == 0)
    gone = next(receipt for receipt in await running.receipts.until(2) if receipt["outcome"] != "ok")

    assert reply.status == 200
    assert first.journal.cancelled == 1 - ended
    assert (gone["outcome"], len(gone["attempts"])) == ("abandoned", 1)
    assert said(list(first.journal.calls)) == ["leaving", "next"]


async def test_a_crowd_that_leaves_leaves_nothing_behind(gateway: Start, first: MockUpstream) -> None:
    """Thirty-two queue and half of them go: the others are all served, in their order."""
    running = await gateway(crowded(first.base_url, "upstream", queue=64))
    holding = await hold(running, first)
    wires = []
    for n in range(32):
        wires.append(await send(running, chat(f"prompt {n}", model="cheap")))
        await queued(running, "upstream", n + 1)
    for wire in wires[::2]:
        wire.leave()
    await queued(running, "upstream", 16)
    holding.leave()
    replies = await asyncio.gather(*(wire.reply() for wire in wires[1::2]))
    receipts = await running.receipts.until(33)

    assert {reply.status for reply in replies} == {200}
    assert said(list(first.journal.calls)[1:]) == [f"prompt {n}" for n in range(1, 32, 2)]
    assert sorted(receipt["outcome"] for receipt in receipts) == ["abandoned"] * 17 + ["ok"] * 16
