"""SIGTERM: nothing new is taken, what runs is finished up to a limit, every receipt is written, the exit status is 0.

These run the real process; what it waits for is held and let go by the tests, not by the clock.
"""

import asyncio
import signal

import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import BOUND_S, Reply, Start, Upstream, chat, two_rungs
from tests.path.conftest import END, EVENT, FINISH, STREAM, Script, Scripted, Spawn, chunk

Held = tuple[Script, asyncio.Event]


@pytest.fixture
async def held(scripted: Scripted) -> Held:
    """A provider that sends one event and holds the rest until it is let go."""
    go = asyncio.Event()
    return await scripted(STREAM + chunk(EVENT), go, chunk(FINISH) + END), go


def config(upstream: Script | MockUpstream, drain_s: float = 30) -> str:
    """Return a configuration with that one provider."""
    return two_rungs(upstream.base_url, upstream.base_url, more=f"server: {{drain_s: {drain_s}}}")


async def test_a_running_stream_is_finished(process: Spawn, held: Held) -> None:
    """It ends as if nothing had happened; then the process ends with 0, its receipt written."""
    script, go = held
    running = await process(config(script))
    wire = await running.client.wire(chat(stream=True))
    await wire.until(EVENT)
    running.terminate()
    draining = await running.line("draining")
    go.set()
    rest = await wire.rest()
    status = await running.ended()

    assert draining["running"] == 1
    assert rest.endswith(FINISH + b"\r\n" + END)
    assert (status, running.said) == (0, "")
    assert [receipt["outcome"] for receipt in running.receipts] == ["ok"]
    assert running.lines[-1]["event"] == "stopped"


async def test_a_running_whole_answer_is_finished(process: Spawn, scripted: Scripted) -> None:
    """Not streamed, the caller still gets its answer."""
    go = asyncio.Event()
    script = await scripted(go, b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"choices":[]}')
    running = await process(config(script))
    wire = await running.client.wire(chat())
    await script.asked.wait()
    running.terminate()
    await running.line("draining")
    go.set()
    reply = await wire.reply()
    status = await running.ended()

    assert (status, reply.status, reply.body) == (0, 200, b'{"choices":[]}')
    assert [receipt["outcome"] for receipt in running.receipts] == ["ok"]


async def test_new_connections_are_refused_while_it_drains(process: Spawn, held: Held) -> None:
    """A balancer's next request goes elsewhere at once instead of being lost here."""
    script, go = held
    running = await process(config(script))
    wire = await running.client.wire(chat(stream=True))
    await wire.until(EVENT)
    running.terminate()
    await running.line("draining")
    with pytest.raises(ConnectionRefusedError):
        await running.client.wire()
    go.set()
    status = await running.ended()

    assert status == 0
    assert script.calls == 1


async def test_beyond_the_limit_a_stream_is_ended_honestly(process: Spawn, held: Held) -> None:
    """The client is told in the stream, the provider is let go, the receipt is written, and it is still no failure."""
    script, _ = held
    running = await process(config(script, drain_s=0.2))
    wire = await running.client.wire(chat(stream=True))
    received = await wire.until(EVENT)
    running.terminate()
    received += await wire.rest()
    status = await running.ended()

    assert received.count(b'data: {"error":') == 1
    assert b"shutting down" in received
    assert b"[DONE]" not in received
    assert b"\r\n0\r\n" not in received
    assert (status, running.said) == (0, "")
    assert [receipt["outcome"] for receipt in running.receipts] == ["broken"]
    assert [line["running"] for line in running.lines if line["event"] == "cut"] == [1]


async def test_idle_connections_do_not_delay_the_end(process: Spawn, held: Held) -> None:
    """A kept-alive connection without a request is closed, and nobody waits for it."""
    running = await process(config(held[0]))
    wire = await running.client.wire()
    await wire.send(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
    alive = await wire.reply()
    running.terminate()
    rest = await wire.rest()
    status = await running.ended()

    assert (alive.status, rest, status) == (200, b"", 0)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_every_receipt_is_written_before_the_end(
    process: Spawn, upstream: Upstream, sent: signal.Signals
) -> None:
    """The last answer has just been read when the signal comes: all receipts are on the output all the same."""
    mock = await upstream()
    running = await process(config(mock))
    replies: list[Reply] = await asyncio.gather(*(running.client.ask(chat(stream=True)) for _ in range(24)))
    running.signal(sent)
    status = await running.ended()

    assert status == 0
    assert {receipt["request_id"] for receipt in running.receipts} == {
        reply.headers["x-thriftgate-request-id"] for reply in replies
    }
    assert len(running.receipts) == 24


async def test_several_processes_share_a_port_and_stop_together(process: Spawn, upstream: Upstream) -> None:
    """`--workers 2`: requests are answered, receipts are whole lines on one output, SIGTERM ends both with 0."""
    mock = await upstream()
    running = await process(config(mock), workers=2)
    await running.answering()
    replies = [await running.client.ask(chat(f"prompt {number}")) for number in range(8)]
    running.terminate()
    status = await running.ended()

    assert {reply.status for reply in replies} == {200}
    assert status == 0
    assert len(running.receipts) == 8


async def test_processes_that_still_start_stop_at_once(process: Spawn, upstream: Upstream) -> None:
    """A SIGTERM while the workers load is not lost: nothing waits to be killed."""
    mock = await upstream()
    running = await process(config(mock), workers=2)
    running.terminate()

    assert await running.ended() == 0


async def test_draining_in_process_waits_for_the_answer(gateway: Start, held: Held) -> None:
    """The same promise without a process: `drain` returns when the stream has ended, and not before."""
    script, go = held
    running = await gateway(config(script))
    wire = await running.wire(chat(stream=True))
    await wire.until(EVENT)
    draining = asyncio.get_running_loop().create_task(running.gateway.drain())
    rest = asyncio.get_running_loop().create_task(wire.until(b"\r\n" + END))
    await asyncio.wait({draining}, timeout=0)
    waited = not draining.done()
    go.set()
    async with asyncio.timeout(BOUND_S):
        await draining

    assert waited
    assert FINISH in await rest
    assert (await running.receipt())["outcome"] == "ok"


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_a_client_that_has_seen_nothing_is_told_to_come_back(
    serve: Start, first: MockUpstream, streamed: bool
) -> None:
    """Cut by a shutdown before its first byte: a 503 with Retry-After in OpenAI's form, not a closed connection."""
    first.turn(fault="hang")
    running = await serve(more="server: {drain_s: 0}")
    asking = asyncio.gather(running.ask(chat(stream=streamed)))
    await first.journal.until(lambda journal: journal.in_flight == 1)
    await running.gateway.drain()
    (reply,) = await asking
    receipt = await running.receipt()

    assert (503, "overloaded", "1") == (reply.status, reply.error["code"], reply.headers["Retry-After"])
    assert ("abandoned", 503) == (receipt["outcome"], receipt["status"])
