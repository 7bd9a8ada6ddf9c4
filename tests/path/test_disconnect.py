"""The client leaves: the call to the provider ends at once, whatever it was doing, and nothing is left behind."""

import asyncio
import statistics
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Start, Wire, chat, request_bytes, two_rungs
from tests.path.conftest import EVENT, STREAM, Scripted, chunk

SILENCES: dict[str, tuple[dict[str, object], int]] = {       # dials, and how many pieces were sent when it falls silent
    "before the headers": ({"fault": "hang"}, 0),
    "after the first word": ({"fault": "stall", "after": 2}, 2),
    "in mid-stream": ({"fault": "stall", "after": 5}, 5),
}


async def leave_after(wire: Wire, first: MockUpstream, sent: int) -> float:
    """Hang up once the provider has sent so much and the client has received it; return when."""
    await first.journal.until(lambda journal: journal.in_flight == 1 and journal.last.chunks_sent == sent)
    for _ in range(sent):
        await wire.until(b"\n\n")
    return wire.leave()


@pytest.mark.parametrize(("dials", "sent"), SILENCES.values(), ids=SILENCES)
async def test_the_upstream_call_ends_within_a_tenth_of_a_second(
    serve: Start, first: MockUpstream, second: MockUpstream, dials: dict[str, object], sent: int
) -> None:
    """Measured by the provider's clock, the median of five; the receipts say that the answer was abandoned."""
    first.turn(**dials)
    running = await serve()
    delays = []
    for _ in range(5):
        left = await leave_after(await running.wire(chat(stream=True)), first, sent)
        await first.journal.until(lambda journal: journal.in_flight == 0)
        delays.append(first.journal.last.ended - left)
    receipts = await running.receipts.until(5)

    assert statistics.median(delays) <= 0.1
    assert [receipt["outcome"] for receipt in receipts] == ["abandoned"] * 5
    assert [receipt["sent_bytes"] > 0 for receipt in receipts] == [sent > 0] * 5
    assert second.journal.requests == 0


async def test_a_whole_answer_is_given_up_as_well(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """Not streamed: nobody waits for the answer any more, so nobody pays for its end."""
    first.turn(fault="hang")
    running = await serve()
    delays = []
    for _ in range(5):
        left = await leave_after(await running.wire(chat()), first, 0)
        await first.journal.until(lambda journal: journal.in_flight == 0)
        delays.append(first.journal.last.ended - left)
    receipts = await running.receipts.until(5)

    assert statistics.median(delays) <= 0.1
    assert [receipt["outcome"] for receipt in receipts] == ["abandoned"] * 5
    assert second.journal.requests == 0


async def test_a_whole_answer_is_given_up_when_half_of_it_is_here(serve: Start, first: MockUpstream) -> None:
    """The provider has begun to send the body; the client leaves."""
    first.turn(fault="stall")
    running = await serve()
    wire = await running.wire(chat())
    await first.journal.until(lambda journal: journal.chunks_sent == 1)
    wire.leave()
    await first.journal.until(lambda journal: journal.cancelled == 1)
    receipt = await running.receipt()

    assert (receipt["outcome"], receipt["sent_bytes"]) == ("abandoned", 0)


async def test_leaving_a_running_stream_stops_it(serve: Start, first: MockUpstream) -> None:
    """Tokens are still coming when the client goes: they stop coming."""
    first.turn(tokens=100_000, tokens_per_s=500)
    running = await serve()
    wire = await running.wire(chat(stream=True))
    for _ in range(3):
        await wire.until(b"\n\n")
    wire.leave()
    await first.journal.until(lambda journal: journal.cancelled == 1)
    receipt = await running.receipt()

    assert receipt["outcome"] == "abandoned"
    assert first.journal.last.chunks_sent < 100_000


@pytest.mark.parametrize("how", [Wire.leave, Wire.close], ids=["reset", "farewell"])
async def test_both_ways_of_leaving_count(serve: Start, first: MockUpstream, how: Callable[[Wire], Any]) -> None:
    """A connection that is reset and one that is closed in good manners."""
    first.turn(fault="stall", after=2)
    running = await serve()
    wire = await running.wire(chat(stream=True))
    await wire.until(b"\n\n")
    leaving = how(wire)
    if leaving is not None and not isinstance(leaving, float):
        await leaving
    await first.journal.until(lambda journal: journal.cancelled == 1)
    receipt = await running.receipt()

    assert receipt["outcome"] == "abandoned"


async def test_a_client_that_stops_reading_holds_the_provider_back(serve: Start, first: MockUpstream) -> None:
    """Nothing is gathered for a client that does not read: the provider is slowed, and set free when it leaves."""
    first.turn(raw=(b"x" * 1_000_000,) * 64)
    running = await serve()
    wire = await running.wire(chat(stream=True))
    await wire.until(b"\r\n\r\n")
    await first.journal.until(lambda journal: journal.chunks_sent >= 1)
    sent = first.journal.chunks_sent
    wire.leave()
    await first.journal.until(lambda journal: journal.cancelled == 1)

    assert sent < 64
    assert first.journal.chunks_sent < 64


async def test_leaving_during_the_fallback_ends_the_second_call(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """The first target failed, the second is silent: leaving ends that one."""
    first.turn(error_rate=1)
    second.turn(fault="hang")
    running = await serve()
    wire = await running.wire(chat(stream=True))
    await second.journal.until(lambda journal: journal.in_flight == 1)
    wire.leave()
    await second.journal.until(lambda journal: journal.cancelled == 1)
    receipt = await running.receipt()

    assert (receipt["outcome"], receipt["reason"]) == ("abandoned", "fallback")
    assert [attempt["status"] for attempt in receipt["attempts"]] == [500, None]


async def test_leaving_before_the_request_is_whole_is_booked(serve: Start, first: MockUpstream) -> None:
    """Half a body, then nobody: one receipt, nothing sent upstream."""
    running = await serve()
    wire = await running.wire()
    body = orjson.dumps(chat())
    await wire.send(request_bytes(body[:10], f"Content-Length: {len(body)}", "Expect: 100-continue"))
    await wire.until(b"100 Continue\r\n\r\n")       # the gateway is reading now
    wire.leave()
    receipt = await running.receipt()

    assert (receipt["outcome"], receipt["model"]) == ("abandoned", None)
    assert first.journal.requests == 0


async def test_others_are_not_disturbed(serve: Start, first: MockUpstream) -> None:
    """Sixteen leave, sixteen stay: those get everything."""
    running = await serve()
    stall = {"fault": "stall", "after": 2}
    leaving = [await running.wire(chat(f"prompt {n}", stream=True, mock=stall)) for n in range(16)]
    for wire in leaving:
        await wire.until(b"\n\n")
    staying = [await running.wire(chat(f"prompt {n}", stream=True, mock={"tokens": 5})) for n in range(16)]
    for wire in leaving:
        wire.leave()
    received = [await wire.until(b"data: [DONE]\n\n") for wire in staying]
    await first.journal.until(lambda journal: journal.cancelled == 16 and journal.answered == 16)
    receipts = await running.receipts.until(32)

    assert [stream.count(b"data: ") for stream in received] == [8] * 16
    assert sorted(receipt["outcome"] for receipt in receipts) == ["abandoned"] * 16 + ["ok"] * 16


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_leaving_while_the_answer_is_written_is_nobodys_error(
    gateway: Start, scripted: Scripted, streamed: bool
) -> None:
    """At whatever moment of the writing the client leaves: one receipt, and no error in the log (the fixture looks)."""
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
    outcomes = []
    for steps in range(14):
        go = asyncio.Event()
        pieces = (STREAM + chunk(EVENT), go, *[chunk(EVENT * 500)] * 20) if streamed else (go, big)
        script = await scripted(*pieces)
        running = await gateway(two_rungs(script.base_url, script.base_url))
        wire = await running.wire(chat(stream=streamed))
        await (wire.until(EVENT) if streamed else script.asked.wait())
        if steps % 2:
            go.set()
        for _ in range(steps // 2):
            await asyncio.sleep(0)
        wire.leave()
        go.set()
        outcomes.append((await running.receipt())["outcome"])

    assert {"abandoned"} >= set(outcomes) - {"ok", "broken"}
