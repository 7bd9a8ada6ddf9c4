"""Every fault a provider is known for, after its first word, and what only looks like one.

PEERS.md §2d has eight stream faults and what a gateway should do; they are `TestTheEight` at the end, whose tests bear
the names of the rows of the README's table. What happens before the first word is in `test_chaos`. Each fixture
asserts besides: one receipt a request, every slot back, no task left.
"""

import asyncio
import contextlib
import itertools
import time
from typing import NamedTuple

import aiohttp
import orjson
import pytest

from gateway.config import Deadlines
from loadtest.mock_upstream import MockUpstream
from tests.conftest import BOUND_S, Reply, Running, Start, chat, two_rungs, unasked
from tests.path.conftest import END, EVENT, FINISH, STREAM, Scripted, chunk
from tests.path.faults import HASTY, assert_blamed, health_of
from tests.path.surfaces import BEGIN, BOOM, SURFACES, asked, error_in, three
from tests.path.surfaces import FINISH as FINISHES

EVERY = list(itertools.product(SURFACES, BEGIN))
IDLE = "idle_ms: 300"
ENDS = (b"[DONE]", b"message_stop", b'"STOP"', b'"stop"', b"response.completed")


class Break(NamedTuple):
    """What follows the first words."""

    then: bytes | None = b""        # None: nothing, and no end
    reset: bool = False
    deadlines: str = ""


BREAKS = {
    "a reset": Break(reset=True),
    "a farewell": Break(),
    "a clean end": Break(END),
    "silence": Break(None, deadlines=IDLE),
    "half an event": Break(chunk(b'data: {"choi'), reset=True),
    "half an event, well ended": Break(chunk(b'data: {"choi') + END),
    "half a character": Break(chunk(b'data: {"pad":"gr\xc3'), reset=True),
    "half a chunk of HTTP": Break(b"400\r\ndata: "),
    "no HTTP any more": Break(b"<html>502</html>\r\n\r\n", deadlines=IDLE),
    "a clean end after a large event": Break(chunk(b'data: {"pad":"' + b"x" * 100_000 + b'"}\n\n') + END),
}


def at_one(mock: MockUpstream, provider: str, script: str, deadlines: str = "") -> str:
    """A configuration whose model of this dialect is at the script."""
    text = three(mock, **{provider: script})
    return text.replace(" price:", f" deadlines: {{{deadlines}}}, price:")


async def read(running: Running, path: str, body: bytes, go: asyncio.Event) -> bytes:
    """Return what a client reads that lets the provider go on once it has the text."""
    received = b""
    async with (
        asyncio.timeout(BOUND_S), aiohttp.ClientSession() as http,
        http.post(running.base_url + path, data=body, headers={"Content-Type": "application/json"}) as response,
    ):
        while b"birds" not in received:
            received += await response.content.readany()
        go.set()
        with contextlib.suppress(aiohttp.ClientPayloadError):
            while more := await response.content.readany():
                received += more
            raise AssertionError("a broken answer was given a clean end")
    return received


@pytest.mark.parametrize("pair", EVERY, ids="-".join)
@pytest.mark.parametrize("fault", BREAKS.values(), ids=BREAKS)
async def test_a_break_in_mid_stream_is_told(
    gateway: Start, scripted: Scripted, first: MockUpstream, pair: tuple[str, str], fault: Break
) -> None:
    """What came is shown, an error event in the client's dialect is the last, and no end is invented."""
    surface, provider = pair
    model, go = f"of-{provider}", asyncio.Event()
    then = asyncio.Event() if fault.then is None else fault.then
    script = await scripted(STREAM + chunk(b"".join(BEGIN[provider])), go, then, reset=fault.reset)
    running = await gateway(at_one(first, provider, script.base_url, fault.deadlines))
    received = await read(running, *asked(surface, model, stream=True), go)
    receipt = await running.receipt()

    assert error_in(surface, received)[1]
    assert not any(end in received for end in ENDS)
    assert (receipt["outcome"], receipt["status"], receipt["finish"]) == ("broken", 200, None)
    assert receipt["error"]
    assert [(attempt["model"], attempt["status"]) for attempt in receipt["attempts"]] == [(model, 200)]
    assert_booked_so_far(receipt, provider)
    assert_blamed(health_of(running, model), "failed")


def assert_booked_so_far(receipt: dict[str, object], provider: str) -> None:
    """What was used is estimated, and marked; the prompt is as said where it has been: Anthropic counts it first."""
    assert receipt["estimated"] is True
    assert (receipt["input_tokens"] == 9) is (provider == "anthropic")
    assert isinstance(receipt["cost_usd_nanos"], int)
    assert receipt["cost_usd_nanos"] > 0


@pytest.mark.parametrize("pair", EVERY, ids="-".join)
@pytest.mark.parametrize("large", [b"", b'data: {"pad":"' + b"x" * 100_000 + b'"}\n\n'], ids=["", "large"])
async def test_an_error_frame_in_mid_stream_is_told(
    gateway: Start, scripted: Scripted, first: MockUpstream, pair: tuple[str, str], large: bytes
) -> None:
    """The provider says itself that it broke: that, or what it says in the client's dialect, is the last."""
    surface, provider = pair
    model = f"of-{provider}"
    script = await scripted(STREAM + chunk(b"".join(BEGIN[provider]) + large), chunk(BOOM[provider]) + END)
    running = await gateway(at_one(first, provider, script.base_url))
    path, body = asked(surface, model, stream=True)
    reply = await running.ask(body, path=path)
    receipt = await running.receipt()

    assert "boom" in error_in(surface, reply.body)[1]
    assert not any(end in reply.body for end in ENDS)
    assert (receipt["outcome"], receipt["finish"]) == ("broken", None)
    assert receipt["error"]
    assert_booked_so_far(receipt, provider)
    assert_blamed(health_of(running, model), "failed")


@pytest.mark.parametrize("after", [2, 5])
@pytest.mark.parametrize(("fault", "code"), [
    ("cut-rst", "stream_broken"), ("cut-fin", "stream_broken"), ("end", "stream_broken"), ("stall", "upstream_timeout"),
])
async def test_nobody_else_is_asked(
    serve: Start, first: MockUpstream, second: MockUpstream, fault: str, code: str, after: int
) -> None:
    """Two answers in one would be worse than half of one. What it cost is estimated."""
    first.turn(fault=fault, after=after)
    running = await serve(deadlines=IDLE if fault == "stall" else "")
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert (reply.whole, reply.last_error["code"]) == (False, code)
    assert (receipt["outcome"], receipt["model"], receipt["estimated"]) == ("broken", "cheap", True)
    assert receipt["cost_usd_nanos"] > 0
    assert_blamed(health_of(running), "failed")
    assert second.journal.requests == 0


@pytest.mark.parametrize("fault", ["cut-rst", "cut-fin", "end", "error-frame", "stall"])
async def test_breaks_in_mid_stream_open_the_breaker(
    serve: Start, first: MockUpstream, second: MockUpstream, fault: str
) -> None:
    """As other failures do; the next request is spared the fault."""
    first.turn(fault=fault)
    deadlines = IDLE if fault == "stall" else ""
    running = await serve(upstream="health: {failures: 2, open_ms: 30000}", deadlines=deadlines)
    for asked_before in (1, 2):
        await running.ask(chat(stream=True))
        await running.receipts.until(asked_before)
    reply = await running.ask(chat(stream=True))
    health = health_of(running)

    assert (health.failed_calls, health.in_a_row, health.opened) == (2, 2, 1)
    assert (first.journal.requests, health.state(time.monotonic())) == (2, "open")
    assert (reply.whole, reply.body) == (True, unasked(second.journal.last))


async def test_a_client_that_leaves_in_mid_stream_blames_nobody(serve: Start, first: MockUpstream) -> None:
    """The provider had stalled, but nobody waited to see."""
    first.turn(fault="stall")
    running = await serve()
    wire = await running.wire(chat(stream=True))
    await wire.until(b"\n\n")
    wire.leave()
    receipt = await running.receipt()

    assert (receipt["outcome"], receipt["finish"]) == ("abandoned", None)
    assert_blamed(health_of(running), "nothing")


# ── what only looks like a fault ──

LARGE = b'data: {"pad":"' + b"x" * 5_000_000 + b'"}\n\n'
HARMLESS = {
    "a character in two writes": [EVENT[:-4], "é".encode()[:1], "é".encode()[1:], EVENT[-4:]],
    "a gigantic line": [EVENT, LARGE],
    "a gigantic line first": [LARGE, EVENT],
    "garbage in the middle": [EVENT, b"data: {garbage\n\n", EVENT],
    "half a character at the end": [EVENT, b"data: \xc3\n\n"],
    "one byte a write": [bytes([byte]) for byte in EVENT],
    "comments and pings": [b": hello\n\n", EVENT, b": ping\n\n", EVENT],
}


@pytest.mark.parametrize("pieces", HARMLESS.values(), ids=HARMLESS)
async def test_what_passes(serve: Start, first: MockUpstream, pieces: list[bytes]) -> None:
    """It reaches the client as it is, the answer is whole, and nobody is blamed."""
    first.turn(raw=(*pieces, FINISH))
    running = await serve()
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert (reply.status, reply.whole, reply.body) == (200, True, b"".join(pieces) + FINISH)
    assert (receipt["outcome"], receipt["finish"], receipt["model"]) == ("ok", "stop", "cheap")
    assert_blamed(health_of(running), "nothing")


@pytest.mark.parametrize("pair", EVERY, ids="-".join)
@pytest.mark.parametrize("how", ["one byte a write", "a gigantic line", "garbage", "a second end"])
async def test_what_is_understood_all_the_same(
    gateway: Start, scripted: Scripted, first: MockUpstream, pair: tuple[str, str], how: str
) -> None:
    """From every dialect to every other: the text is whole, so is its end, and what it used is booked."""
    surface, provider = pair
    begin, end = b"".join(BEGIN[provider]).replace(b"birds", "größe".encode()), b"".join(FINISHES[provider])
    pieces = {
        "one byte a write": [bytes([byte]) for byte in begin + end], "a gigantic line": [begin, LARGE, end],
        "garbage": [begin, b"data: {garbage\n\n", end], "a second end": [begin, end + end],
    }[how]
    script = await scripted(STREAM, *map(chunk, pieces), END)
    running = await gateway(at_one(first, provider, script.base_url))
    path, body = asked(surface, f"of-{provider}", stream=True)
    reply = await running.ask(body, path=path)
    receipt = await running.receipt()

    assert (reply.status, reply.whole, "größe".encode() in reply.body) == (200, True, True)
    assert (receipt["outcome"], receipt["finish"], receipt["error"]) == ("ok", "stop", None)
    assert (receipt["input_tokens"], receipt["output_tokens"], receipt["cost_usd_micros"]) == (9, 4, 17)
    assert receipt.get("unreadable", 0) == (how == "garbage")
    assert_blamed(health_of(running, f"of-{provider}"), "nothing")


@pytest.mark.parametrize("more", [FINISH, EVENT, b": late\n\n"], ids=["a second finish", "more text", "a comment"])
async def test_what_comes_after_the_end_is_not_waited_for(gateway: Start, scripted: Scripted, more: bytes) -> None:
    """The answer is over with its `[DONE]`, whatever the provider still has to say."""
    script = await scripted(STREAM + chunk(EVENT + FINISH), chunk(more) + END)
    running = await gateway(two_rungs(script.base_url, script.base_url))
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert reply.body.startswith(EVENT + FINISH)
    assert (reply.whole, receipt["outcome"]) == (True, "ok")


# ── PEERS.md §2d ──


class TestTheEight:
    """The faults of the peers' run: a provider at fault, a healthy one beside it, a streaming client.

    The names are the rows of the README's table, and what a docstring begins with is our column.
    """

    async def ask(
        self, serve: Start, first: MockUpstream, deadlines: str = "", **dials: object
    ) -> tuple[Running, Reply]:
        """Ask with the first provider at fault."""
        first.turn(**dials)
        running = await serve(deadlines=deadlines)
        return running, await running.ask(chat(stream=True))

    async def test_the_first_frame_is_an_error(self, serve: Start, first: MockUpstream, second: MockUpstream) -> None:
        """Falls back."""
        _, reply = await self.ask(serve, first, fault="error-frame", after=0)

        assert (reply.whole, reply.body) == (True, unasked(second.journal.last))

    @pytest.mark.parametrize(("deadlines", "stall_ms"), [("", 1), (HASTY, 8_000)], ids=["the end", "the deadline"])
    async def test_a_role_8_s_of_silence_an_end(
        self, serve: Start, first: MockUpstream, second: MockUpstream, deadlines: str, stall_ms: int
    ) -> None:
        """Falls back, at the end without a word or at the deadline for the first output, whichever is first."""
        _, reply = await self.ask(serve, first, deadlines, fault="role-only", stall_ms=stall_ms)

        assert (reply.whole, reply.body) == (True, unasked(second.journal.last))

    async def test_cut_after_three_chunks(self, serve: Start, first: MockUpstream) -> None:
        """Error event."""
        _, reply = await self.ask(serve, first, fault="cut-rst", after=4)

        assert (reply.whole, reply.last_error["code"]) == (False, "stream_broken")

    async def test_a_clean_end_without_a_finish(self, serve: Start, first: MockUpstream) -> None:
        """Error event: the truncation is noticed."""
        _, reply = await self.ask(serve, first, fault="end", after=4)

        assert (reply.whole, reply.last_error["code"]) == (False, "stream_broken")

    async def test_an_error_frame_in_mid_stream(self, serve: Start, first: MockUpstream) -> None:
        """Error event: the provider's own is the last."""
        running, reply = await self.ask(serve, first, fault="error-frame", after=4)

        assert orjson.loads(reply.events[-1])["error"]["message"]
        assert (await running.receipt())["outcome"] == "broken"

    async def test_a_line_that_is_no_json(self, serve: Start, first: MockUpstream) -> None:
        """Passed on, and counted; the stream goes on."""
        running, reply = await self.ask(serve, first, fault="garbage", after=4)

        assert (reply.whole, reply.events[-1]) == (True, b"[DONE]")
        assert (await running.receipt())["unreadable"] == 1

    async def test_8_s_of_silence_in_mid_stream(self, serve: Start, first: MockUpstream) -> None:
        """Waits: the default idle deadline is longer. One that is shorter makes it an error event."""
        _, reply = await self.ask(serve, first, IDLE, fault="stall", after=4, stall_ms=8_000)

        assert (reply.whole, reply.last_error["code"]) == (False, "upstream_timeout")
        assert Deadlines().idle_ms > 8_000

    async def test_the_client_leaves(self, serve: Start, first: MockUpstream) -> None:
        """Cancelled: the provider's call ends with it (how soon: `test_disconnect`)."""
        first.turn(tokens=100_000, tokens_per_s=500)
        running = await serve()
        wire = await running.wire(chat(stream=True))
        await wire.until(b"\n\n")
        wire.leave()
        await first.journal.until(lambda journal: journal.cancelled == 1)

        assert (await running.receipt())["outcome"] == "abandoned"
