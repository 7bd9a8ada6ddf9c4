"""The composition root: what is built, what is missing, and the order of the end."""

import asyncio
import functools
import io
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from classifier.predict import Predictor
from gateway import app, config, logs
from gateway.app import Gateway
from gateway.receipt import Receipt

TEXT = """
upstreams: {acme: {base_url: "http://127.0.0.1:9/v1", key: sk-hidden}, other: {base_url: "http://127.0.0.1:9/v1"}}
models: {small: {upstream: acme}, large: {upstream: other}}
routes: {auto: {ladder: [small, large]}}
"""
LONG_S = 30.0
LOAD = Predictor.load


@functools.cache
def shipped(directory: Path | None = None) -> Predictor:
    """The shipped classifier, loaded once; a configuration here names no other."""
    assert directory is None
    return LOAD()


Creates = Callable[..., Awaitable[Gateway]]
Logged = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    """What is logged, line by line."""
    stream = io.BytesIO()
    logs.configure(stream)
    monkeypatch.setattr(app, "log", structlog.get_logger())      # one that was used keeps its stream
    yield lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


@pytest.fixture
async def create(monkeypatch: pytest.MonkeyPatch, log: Logged) -> AsyncIterator[Creates]:
    """Create gateways with the shipped classifier; they are closed after the test."""
    build, created = app.create, list[Gateway]()
    monkeypatch.setattr(Predictor, "load", shipped)

    async def create(more: str = "") -> Gateway:
        """Create one."""
        created.append(await build(config.parse(TEXT + more, {})))
        return created[-1]

    yield create
    for gateway in created:
        await gateway.close()


async def test_everybody_is_there(create: Creates) -> None:
    """A pool for each upstream, the classifier's own threshold, and nothing at fault."""
    gateway = await create()

    assert gateway.faults == {}
    assert {"small": "acme", "large": "other"} == {name: m.pool.name for name, m in gateway.with_.models.items()}
    assert shipped(None).default_threshold == gateway.with_.router.default_threshold
    assert gateway.with_.classify.predictor is shipped(None)
    assert repr(gateway) == "<Gateway <Handler 0 running> <Ledger 0 waiting, 0 dropped>>"


async def test_a_busy_loop_lets_the_classifier_in(create: Creates) -> None:
    """Python's own switch interval is most of the classifier's deadline; every process gets a shorter one."""
    sys.setswitchinterval(0.005)
    await create()

    assert sys.getswitchinterval() == pytest.approx(app.SWITCH_S)


async def test_without_a_classifier(
    create: Creates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Logged
) -> None:
    """A bundle that cannot be loaded makes it not ready, not dead: no prompt is ever cheap."""
    monkeypatch.setattr(Predictor, "load", lambda _: LOAD(tmp_path))
    gateway = await create()

    assert list(gateway.faults) == ["classifier"]
    assert str(tmp_path) in gateway.faults["classifier"]
    assert (None, 1.01) == (gateway.with_.classify.predictor, gateway.with_.router.default_threshold)
    assert log()[0]["event"] == "classifier not loaded: every route answers from its top rung"


async def test_receipts_are_log_lines(create: Creates, log: Logged) -> None:
    """Where nothing else is said, a receipt is one line of the log with all of its fields."""
    gateway = await create()
    receipt = Receipt("r-1", 0.0).close(1.0)
    gateway.with_.ledger.record(receipt)
    await gateway.with_.ledger.flush()
    (line,) = log()

    assert (line["event"], line["level"]) == ("receipt", "info")
    assert receipt.fields().items() <= line.items()


class TestDraining:
    """Running answers are waited for, up to a limit."""

    async def test_nobody_is_served(self, create: Creates) -> None:
        """It is over at once, and says that the gateway stops."""
        gateway = await create()
        await gateway.drain()

        assert gateway.faults == {"shutdown": "draining"}

    async def test_an_answer_that_ends(self, create: Creates, log: Logged) -> None:
        """It is waited for and not cut."""
        gateway = await create(f"server: {{drain_s: {LONG_S}}}")
        free = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            answer: asyncio.Task[object] = group.create_task(free.wait())
            gateway.handler.running.add(answer)
            answer.add_done_callback(gateway.handler.running.discard)
            drained = group.create_task(gateway.drain())
            while "shutdown" not in gateway.faults:  # noqa: ASYNC110 - it begins when its task does
                await asyncio.sleep(0)
            before = drained.done()
            free.set()

        assert (before, answer.cancelled()) == (False, False)
        assert [line["event"] for line in log()] == ["draining"]

    async def test_an_answer_that_does_not_end(self, create: Creates, log: Logged) -> None:
        """After the limit it is cut, which is said."""
        gateway = await create("server: {drain_s: 0}")
        async with asyncio.TaskGroup() as group:
            answer: asyncio.Task[object] = group.create_task(asyncio.sleep(LONG_S))
            gateway.handler.running.add(answer)
            answer.add_done_callback(gateway.handler.running.discard)
            await gateway.drain()

        assert answer.cancelled()
        assert [(line["event"], line["running"]) for line in log()] == [("draining", 1), ("cut", 1)]


async def test_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last receipt is written and every connection closed."""
    monkeypatch.setattr(Predictor, "load", shipped)
    written: list[dict[str, Any]] = []
    gateway = await app.create(config.parse(TEXT, {}), written.append)
    gateway.with_.ledger.record(Receipt("r-1", 0.0).close(1.0))
    await gateway.close()

    assert [receipt["request_id"] for receipt in written] == ["r-1"]
    assert all(model.pool.session.closed for model in gateway.with_.models.values())


async def test_a_taken_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises, and leaves nothing open behind it."""
    monkeypatch.setattr("sys.setswitchinterval", lambda _: None)
    monkeypatch.setattr(Predictor, "load", shipped)
    build, made = app.create, list[Gateway]()

    async def remembering(read: config.Config) -> Gateway:
        """Create one and remember it."""
        made.append(await build(read))
        return made[0]

    monkeypatch.setattr(app, "create", remembering)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(app.CannotListen, match="in use"):
            await app.serve(config.parse(TEXT, {}), "127.0.0.1", taken.getsockname()[1])

    assert all(model.pool.session.closed for model in made[0].with_.models.values())
