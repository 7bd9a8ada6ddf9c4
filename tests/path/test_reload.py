"""SIGHUP: what arrives is served by the new configuration, what runs ends with the old one, and no request is lost.

The signal is sent to the real process; what a process does not show (closed connections) is looked at in this one.
"""

import asyncio
import io
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import orjson
import pytest

from gateway import config
from gateway.app import Generation
from loadtest.mock_upstream import MockUpstream
from tests.conftest import BOUND_S, Reply, Start, chat, two_rungs
from tests.path.befalling import until
from tests.path.conftest import END, EVENT, FINISH, STREAM, Process, Script, Scripted, Spawn, chunk

Held = tuple[Script, asyncio.Event]
Serves = Callable[..., Awaitable[Process]]
DRAIN = "server: {drain_s: 0.2}"        # no stream here may depend on it


@pytest.fixture
async def held(scripted: Scripted) -> Held:
    """A provider that sends one event and holds the rest until it is let go."""
    go = asyncio.Event()
    return await scripted(STREAM + chunk(EVENT), go, chunk(FINISH) + END), go


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The configuration file of the process."""
    return tmp_path / "gateway.yaml"


def at(upstream: Script | MockUpstream, more: str = "", alias: str = "gpt-4") -> str:
    """Return a configuration with that one provider."""
    return two_rungs(upstream.base_url, upstream.base_url, more=more).replace("gpt-4", alias)


def hang_up(running: Process, file: Path, text: str) -> None:
    """Put a text into the file and send the signal."""
    file.write_text(text)
    running.signal(signal.SIGHUP)


async def reload(running: Process, file: Path, text: str, processes: int = 1) -> set[int]:
    """Have a process read this text, and return which processes did when all have."""
    hang_up(running, file, text)
    return {(await running.line("reloaded"))["pid"] for _ in range(processes)}


async def test_a_running_stream_ends_with_the_old_one(
    process: Spawn, held: Held, second: MockUpstream, file: Path
) -> None:
    """A request that arrives meanwhile, on a connection that was there already, is the new configuration's."""
    script, go = held
    running = await process(at(script, DRAIN))
    before = await running.client.get("/v1/models")
    wire = await running.client.wire(chat(stream=True))
    received = await wire.until(EVENT)
    await reload(running, file, at(second, alias="renamed"))
    listed = await running.client.get("/v1/models")
    reply = await running.client.ask(chat(stream=True))
    go.set()
    received += await wire.until(b"\r\n" + END)
    running.terminate()
    status = await running.ended()

    assert ["gpt-4" in str(names.json) for names in (before, listed)] == [True, False]
    assert "renamed" in str(listed.json)
    assert received.endswith(FINISH + b"\r\n" + END)
    assert (reply.status, reply.events[-1], second.journal.requests, script.calls) == (200, b"[DONE]", 1, 1)
    assert (status, running.said) == (0, "")
    assert [receipt["outcome"] for receipt in running.receipts] == ["ok", "ok"]


async def test_a_new_key_and_a_withdrawn_one(process: Spawn, first: MockUpstream, file: Path) -> None:
    """Who may call is asked of the new configuration at once."""
    old, new = ({"Authorization": f"Bearer {key}"} for key in ("tg-old", "tg-new"))
    running = await process(at(first, "keys: {app: {secret: tg-old}}"))
    before = [(await running.client.ask(headers=key)).status for key in (old, new)]
    await reload(running, file, at(first, "keys: {app: {secret: tg-new}}"))
    after = [(await running.client.ask(headers=key)).status for key in (old, new)]
    running.terminate()
    await running.ended()

    assert (before, after) == ([200, 401], [401, 200])


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_bad_file_changes_nothing(
    serves: Serves, first: MockUpstream, file: Path, workers: int
) -> None:
    """Every fault of it is in one line of the log, and the old configuration goes on. A good one is taken after it."""
    running = await serves(at(first), workers)
    hang_up(running, file, "routs: {}\n" + at(first).replace("upstream: second", "upstream: secnd"))
    said = await running.line("not reloaded")
    reply = await running.client.ask(chat(stream=True))
    await reload(running, file, at(first, alias="renamed"), workers)
    listed = await running.client.get("/v1/models")
    running.terminate()
    status = await running.ended()

    assert (said["level"], said["file"], len(said["faults"])) == ("error", str(file), 2)
    assert said["faults"][0].startswith("routs: is not a section")
    assert said["faults"][1].startswith("models.premium.upstream: there is no upstream called 'secnd'\n    hint: ")
    assert (reply.status, reply.events[-1], status) == (200, b"[DONE]", 0)
    assert "renamed" in str(listed.json)
    assert len([line for line in running.lines if line["event"] == "not reloaded"]) == 1


async def test_a_file_that_nobody_foresaw_changes_nothing(process: Spawn, first: MockUpstream, file: Path) -> None:
    """What cannot even be refused in an orderly way is logged, and the gateway serves on."""
    running = await process(at(first))
    hang_up(running, file, "models: {small: 2026-99-99}")
    said = await running.line("not reloaded")
    reply = await running.client.ask()
    running.terminate()

    assert (said["level"], reply.status, await running.ended()) == ("error", 200, 0)


async def test_the_listening_side_is_bounded_anew(process: Spawn, first: MockUpstream, file: Path) -> None:
    """A client that is too slow by the new configuration is told so."""
    running = await process(at(first, "server: {header_ms: 3600000}"))
    await reload(running, file, at(first, "server: {header_ms: 1}"))
    wire = await running.client.wire()
    await wire.send(b"GET /healthz HT")
    told = await wire.rest()
    running.terminate()
    await running.ended()

    assert told.startswith(b"HTTP/1.1 408 ")


async def test_hang_ups_in_a_row_are_all_heeded(process: Spawn, first: MockUpstream, file: Path) -> None:
    """One that comes while another is under way is done after it: what the file said last is in force."""
    running = await process(at(first))
    for number in range(20):
        hang_up(running, file, at(first, alias=f"name-{number}"))
    async with asyncio.timeout(BOUND_S):
        while "name-19" not in str((await running.client.get("/v1/models")).json):
            await running.line("reloaded")
    running.terminate()

    assert await running.ended() == 0


class TestInProcess:
    """The same of a gateway in this process, whose insides can be looked at."""

    async def test_two_hundred_requests_around_ten_reloads(
        self, gateway: Start, first: MockUpstream, second: MockUpstream
    ) -> None:
        """None is lost and none is answered with an error; exactly one receipt each; old connections are closed."""
        mocks = (first, second)
        for mock in mocks:
            mock.turn(tokens=8, tokens_per_s=80)
        running = await gateway(at(first))
        generations = [running.gateway.current]
        asking: list[asyncio.Task[Reply]] = []
        async with asyncio.TaskGroup() as group:
            for number in range(1, 11):
                asking += [group.create_task(running.ask(chat(f"{number}-{i}", stream=i % 2 == 0))) for i in range(10)]
                calls = running.receipts.requests + 1
                await until(lambda calls=calls: running.receipts.requests >= calls)  # type: ignore[misc]
                reloading = group.create_task(running.gateway.reload(config.parse(at(mocks[number % 2]), {})))
                asking += [group.create_task(running.ask(chat(f"{number}+{i}", stream=i % 2 == 0))) for i in range(10)]
                await reloading
                generations.append(running.gateway.current)
        replies = [task.result() for task in asking]
        receipts = await running.receipts.until(200)
        await until(lambda: not running.gateway._retiring)

        assert [(reply.status, reply.whole) for reply in replies] == [(200, True)] * 200
        assert all(reply.events[-1] == b"[DONE]" for reply in replies if reply.events)
        assert {receipt["outcome"] for receipt in receipts} == {"ok"}
        assert {receipt["request_id"] for receipt in receipts} == {
            reply.headers["x-thriftgate-request-id"] for reply in replies
        }
        assert first.journal.answered + second.journal.answered == 200
        assert min(first.journal.answered, second.journal.answered) > 0
        assert [_closed(generation) for generation in generations] == [True] * 10 + [False]

    async def test_old_connections_are_closed_after_the_last_stream(
        self, gateway: Start, held: Held, second: MockUpstream
    ) -> None:
        """Not before: the stream would break. Not later: an old configuration must not stay for ever."""
        script, go = held
        running = await gateway(at(script))
        old = running.gateway.current
        wire = await running.wire(chat(stream=True))
        await wire.until(EVENT)
        await running.gateway.reload(config.parse(at(second), {}))
        await running.get("/healthz")
        during = _closed(old)
        go.set()
        await wire.until(b"\r\n" + END)
        await until(lambda: not running.gateway._retiring)

        assert (during, _closed(old), _closed(running.gateway.current)) == (False, True, False)

    async def test_a_shutdown_waits_for_old_streams_too(self, gateway: Start, held: Held, second: MockUpstream) -> None:
        """`drain` returns when what runs with any configuration has ended."""
        script, go = held
        running = await gateway(at(script))
        wire = await running.wire(chat(stream=True))
        await wire.until(EVENT)
        await running.gateway.reload(config.parse(at(second), {}))
        async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
            draining = group.create_task(running.gateway.drain())
            await until(lambda: "shutdown" in running.gateway.faults)
            waited = not draining.done()
            go.set()
        rest = await wire.until(b"\r\n" + END)

        assert waited
        assert FINISH in rest

    async def test_a_shutdown_ends_old_streams_honestly(self, gateway: Start, held: Held, second: MockUpstream) -> None:
        """Beyond the limit, which is the new configuration's, the client of an old one is told as well."""
        script, _ = held
        running = await gateway(at(script))
        old = running.gateway.current
        wire = await running.wire(chat(stream=True))
        await wire.until(EVENT)
        await running.gateway.reload(config.parse(at(second, "server: {drain_s: 0}"), {}))
        await running.gateway.drain()
        told = await wire.rest()
        await until(lambda: not running.gateway._retiring)

        assert b"shutting down" in told
        assert _closed(old)
        assert (await running.receipt())["outcome"] == "broken"

    async def test_a_larger_body(self, gateway: Start, first: MockUpstream) -> None:
        """`max_body_bytes` holds as it is now, in both directions, also beyond what aiohttp would read by itself."""
        small = orjson.dumps(chat())
        large = small + b" " * 3_000_000
        running = await gateway(at(first, "server: {max_body_bytes: 10}"))
        statuses = [(await running.ask(small)).status]
        wide = at(first, "server: {max_body_bytes: 4000000}").replace("name: mock-cheap", "context: 9000000")
        await running.gateway.reload(config.parse(wide, {}))
        statuses.append((await running.ask(small)).status)
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{running.base_url}/v1/route", data=io.BytesIO(large)) as response,
        ):
            statuses.append(response.status)
        await running.gateway.reload(config.parse(at(first, "server: {max_body_bytes: 10}"), {}))
        statuses.append((await running.ask(small)).status)

        assert statuses == [413, 200, 200, 413]

    async def test_metrics_go_on(self, gateway: Start, first: MockUpstream) -> None:
        """Requests are counted on; an upstream that is gone is not told of for ever."""
        running = await gateway(at(first))
        await running.ask()
        before = (await running.get("/metrics")).body
        renamed = at(first).replace("upstream: first", "upstream: third").replace("  first:", "  third:")
        await running.gateway.reload(config.parse(renamed, {}))
        await running.ask()
        after = (await running.get("/metrics")).body
        gauge = b'thriftgate_upstream_in_flight{upstream="%s"}'
        counter = b'model="cheap",outcome="ok",route="auto"} %d.0'

        assert [gauge % name in before for name in (b"first", b"third")] == [True, False]
        assert [gauge % name in after for name in (b"first", b"third")] == [False, True]
        assert (counter % 1 in before, counter % 2 in after) == (True, True)

    async def test_a_dry_run_is_waited_for(self, gateway: Start, first: MockUpstream) -> None:
        """What leaves no receipt ends with its own configuration as well."""
        running = await gateway(at(first))
        old = running.gateway.current
        wire = await running.wire()
        await wire.send(b"POST /v1/route HTTP/1.1\r\nHost: gateway\r\nContent-Length: 64\r\n\r\n")
        await until(lambda: old._serving == 1)
        await running.gateway.reload(config.parse(at(first, alias="renamed"), {}))
        await running.get("/healthz")
        during = _closed(old)
        await wire.send(b'{"model": "gpt-4", "messages": [{"role":"user","content":"hi"}]}')
        reply = await wire.reply()
        await until(lambda: not running.gateway._retiring)

        assert (during, reply.status, reply.json["route"], _closed(old)) == (False, 200, "auto", True)


class TestSeveral:
    """`--workers 2`: each of them reloads as a single one does."""

    async def test_streams_outlast_it(self, serves: Serves, held: Held, second: MockUpstream, file: Path) -> None:
        """No worker ends for it, so that no stream is cut and no connection closed."""
        script, go = held
        running = await serves(at(script, DRAIN), 2)
        wire = await running.client.wire(chat(stream=True))
        received = await wire.until(EVENT)
        pids = await reload(running, file, at(second, DRAIN, alias="renamed"), 2)
        replies = await asyncio.gather(*(running.client.ask() for _ in range(16)))
        again = await reload(running, file, at(second, DRAIN, alias="third"), 2)
        go.set()
        received += await wire.until(b"\r\n" + END)
        running.terminate()
        status = await running.ended()

        assert (len(pids), again, status) == (2, pids, 0)
        assert received.endswith(FINISH + b"\r\n" + END)
        assert [reply.status for reply in replies] == [200] * 16
        assert (script.calls, second.journal.requests) == (1, 16)
        assert [receipt["outcome"] for receipt in running.receipts] == ["ok"] * 17

    async def test_none_is_lost(self, serves: Serves, first: MockUpstream, second: MockUpstream, file: Path) -> None:
        """Requests in flight and arriving around ten signals: all answered, one receipt each."""
        for mock in (first, second):
            mock.turn(tokens=8, tokens_per_s=80)
        running = await serves(at(first), 2)
        async with asyncio.TaskGroup() as group:
            asking: list[asyncio.Task[Reply]] = []
            for number in range(1, 11):
                asking += [group.create_task(running.client.ask(chat(f"{number}-{i}", stream=True))) for i in range(20)]
                await reload(running, file, at((first, second)[number % 2]), 2)
        running.terminate()
        status = await running.ended()

        assert [(task.result().status, task.result().events[-1]) for task in asking] == [(200, b"[DONE]")] * 200
        assert status == 0
        assert len({receipt["request_id"] for receipt in running.receipts}) == len(running.receipts) == 200
        assert {receipt["outcome"] for receipt in running.receipts} == {"ok"}

    async def test_a_signal_while_they_load_is_remembered(
        self, process: Spawn, first: MockUpstream, file: Path
    ) -> None:
        """They begin with what they were given and reload as soon as they can."""
        running = await process(at(first), workers=2)
        pids = await reload(running, file, at(first, alias="renamed"), 2)
        running.terminate()

        assert (len(pids), await running.ended()) == (2, 0)

    async def test_a_worker_that_is_replaced(self, serves: Serves, first: MockUpstream, file: Path) -> None:
        """It has the configuration that is in force, not the one of the start."""
        running = await serves(at(first), 2)
        for pid in await reload(running, file, at(first, alias="renamed"), 2):
            os.kill(pid, signal.SIGKILL)
        await running.answering()
        listed = await running.client.get("/v1/models")
        running.terminate()
        await running.ended()

        assert "renamed" in str(listed.json)


@pytest.fixture
def serves(process: Spawn) -> Serves:
    """`await serves(text, workers)`: a process, or several on one port, that answer."""

    async def start(text: str, workers: int) -> Process:
        """Start them."""
        running = await process(text, workers=workers)
        await running.answering()
        return running

    return start


def _closed(generation: Generation) -> bool:
    """Return whether a generation's connections are closed, all or none of them."""
    models = generation.with_.models.values()
    closed = {endpoint.session.closed for model in models for endpoint in model.pool.endpoints}
    assert len(closed) == 1
    return closed.pop()
