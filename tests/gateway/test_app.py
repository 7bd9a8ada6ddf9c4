"""The composition root: what is built, what is missing, and the order of the end."""

import asyncio
import functools
import io
import shutil
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import structlog

from classifier import bundle
from classifier.predict import Predictor
from gateway import app, config, logs, serving
from gateway.app import Gateway, Generation
from gateway.classify import Classify
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


def closed(generation: Generation) -> bool:
    """Whether a generation's connections are closed, all or none of them."""
    models = generation.with_.models.values()
    (said,) = {endpoint.session.closed for model in models for endpoint in model.pool.endpoints}
    return said


async def retired(gateway: Gateway) -> None:
    """Return when every old configuration is closed."""
    async with asyncio.timeout(LONG_S):
        while gateway._retiring:
            await asyncio.wait(gateway._retiring)
            await asyncio.sleep(0)


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
            answer: asyncio.Task[object] = group.create_task(asyncio.Event().wait())
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
    assert closed(gateway.current)


async def test_a_taken_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises, and leaves nothing open behind it."""
    monkeypatch.setattr("sys.setswitchinterval", lambda _: None)
    monkeypatch.setattr(Predictor, "load", shipped)
    build, made = app.create, list[Gateway]()

    async def remembering(read: config.Config, *, open_: bool) -> Gateway:
        """Create one and remember it."""
        made.append(await build(read, open_=open_))
        return made[0]

    monkeypatch.setattr(app, "create", remembering)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(app.CannotListen, match="in use"):
            await app.serve(config.parse(TEXT, {}), "127.0.0.1", taken.getsockname()[1], lambda: None, open_=True)

    assert closed(made[0].current)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Classify]:
    """The classifiers' places that were closed, in their order."""
    close, seen = Classify.close, list[Classify]()

    def closing(self: Classify) -> None:
        """Close it and take note."""
        seen.append(self)
        close(self)

    monkeypatch.setattr(Classify, "close", closing)
    return seen


def changed(more: str = "") -> config.Config:
    """The configuration with another name for its route, and more."""
    return config.parse(TEXT.replace("auto", "renamed") + more, {})


class TestReloading:
    """Another configuration takes over; the ledger, the metrics and what the classifier remembers stay."""

    async def test_who_is_new_and_who_stays(self, create: Creates) -> None:
        """Everything is built from the new configuration, but what belongs to the process."""
        gateway = await create()
        before = gateway.current
        await gateway.reload(changed("server: {drain_s: 7}"))
        await retired(gateway)
        ledger, classify = before.with_.ledger, before.with_.classify

        assert (list(gateway.config.routes), gateway.with_.server.drain_s) == (["renamed"], 7)
        assert (gateway.with_.ledger is ledger, gateway.with_.classify is classify) == (True, True)
        assert gateway.handler is not before.handler
        assert (closed(before), closed(gateway.current)) == (True, False)
        assert repr(gateway.current) == "<Generation 2 models, 0 being served>"

    async def test_the_same_classifier_is_not_loaded_again(
        self, create: Creates, monkeypatch: pytest.MonkeyPatch, ended: list[Classify]
    ) -> None:
        """Its files are looked at, no more; with other settings it has a place of its own, and the old one ends."""
        gateway = await create()
        first = gateway.with_.classify
        monkeypatch.setattr(Predictor, "load", None)
        await gateway.reload(changed("classifier: {deadline_ms: 9}"))
        await retired(gateway)

        assert ended == [first]
        assert gateway.with_.classify is not first
        assert gateway.with_.classify.predictor is shipped(None)
        assert gateway.with_.router.default_threshold == shipped(None).default_threshold

    async def test_a_shared_classifier_ends_with_its_last_generation(
        self, create: Creates, ended: list[Classify]
    ) -> None:
        """One that an older generation still serves with is not taken from it."""
        gateway = await create()
        first, shared = gateway.current, gateway.with_.classify
        first._at_rest.clear()                                     # as if it served
        await gateway.reload(changed())                            # shares it, and is at rest
        second = gateway.current
        await gateway.reload(changed("classifier: {deadline_ms: 9}"))
        await asyncio.wait(gateway._retiring, return_when=asyncio.FIRST_COMPLETED)
        before = (list(ended), closed(second), closed(first))
        first._at_rest.set()
        await retired(gateway)

        assert before == ([], True, False)
        assert ended == [shared]

    async def test_another_classifier(self, create: Creates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Other files in the directory, or another threshold in its manifest, are loaded."""
        gateway = await create()
        copied = shutil.copytree(bundle.DEFAULT_DIRECTORY, tmp_path / "own")
        manifest = bundle.read_manifest(copied)
        bundle.write_manifest(copied, msgspec.structs.replace(manifest, default_threshold=0.5))
        monkeypatch.setattr(Predictor, "load", LOAD)
        await gateway.reload(changed(f"classifier: {{bundle: {copied}}}"))
        await retired(gateway)

        assert gateway.with_.router.default_threshold == 0.5
        assert gateway.with_.classify.predictor is gateway.current.predictor is not shipped(None)

    async def test_a_classifier_that_cannot_be_loaded(self, create: Creates, tmp_path: Path) -> None:
        """It raises, and nothing has changed: what serves is not given up for it."""
        gateway = await create()
        before = gateway.current
        with pytest.raises(bundle.BundleError):
            await gateway.reload(changed(f"classifier: {{bundle: {tmp_path}}}"))

        assert gateway.current is before
        assert not closed(before)

    async def test_a_classifier_that_is_there_at_last(
        self, create: Creates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A gateway that began without one is ready after the reload."""
        monkeypatch.setattr(Predictor, "load", lambda _: LOAD(tmp_path))
        gateway = await create()
        faults = list(gateway.faults)
        monkeypatch.setattr(Predictor, "load", shipped)
        await gateway.reload(changed())
        await retired(gateway)

        assert (faults, gateway.faults) == (["classifier"], {})
        assert gateway.with_.classify.predictor is shipped(None)

    async def test_closing_while_an_old_one_still_serves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both are closed, and nobody goes on waiting."""
        monkeypatch.setattr(Predictor, "load", shipped)
        gateway = await app.create(config.parse(TEXT, {}))
        old = gateway.current
        old._at_rest.clear()                                       # as if it served
        await gateway.reload(changed())
        await gateway.close()

        assert closed(old)
        assert closed(gateway.current)
        assert not gateway._generations
        assert all(task.done() for task in gateway._retiring)

    async def test_one_that_cannot_be_closed_is_logged(
        self, create: Creates, monkeypatch: pytest.MonkeyPatch, log: Logged
    ) -> None:
        """The failure of a task that nobody waits for is not lost."""
        gateway = await create()

        async def fail() -> None:
            """Fail to close."""
            raise OSError("no such socket")

        with monkeypatch.context() as patch:
            patch.setattr(gateway.current, "close", fail)
            await gateway.reload(changed())
            await retired(gateway)

        (line,) = log()
        assert (line["event"], line["level"]) == ("an old configuration could not be closed", "error")
        assert "no such socket" in line["exception"]


class Asked:
    """What a SIGHUP reads: one configuration after another, or an error, or None; it can be held."""

    def __init__(self, *given: config.Config | Exception | None) -> None:
        self._given = list(given)
        self.reading = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> config.Config | None:
        self.reading.set()
        assert self.go.wait(LONG_S)
        given = self._given.pop(0)
        if isinstance(given, Exception):
            raise given
        return given


class TestReloadingOn:
    """What becomes of a signal."""

    async def test_one_that_comes_meanwhile_is_done_after(self, create: Creates) -> None:
        """The file may have changed since it was read: it is read once more."""
        gateway, again = await create(), asyncio.Event()
        asked = Asked(changed("server: {drain_s: 1}"), changed("server: {drain_s: 2}"))
        reloading = asyncio.get_running_loop().create_task(
            app.reload_on(again, asked, gateway, serving.Runner(gateway.application, gateway.config.server))
        )
        again.set()
        await asyncio.to_thread(asked.reading.wait, LONG_S)
        again.set()
        asked.go.set()
        async with asyncio.timeout(LONG_S):
            while gateway.config.server.drain_s != 2:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
        reloading.cancel()
        await asyncio.wait({reloading})
        await retired(gateway)

        assert asked._given == []

    async def test_what_fails_changes_nothing(self, create: Creates, log: Logged, tmp_path: Path) -> None:
        """Nothing to read, a classifier that cannot be loaded, any failure: the next signal finds somebody."""
        gateway, again = await create(), asyncio.Event()
        runner = serving.Runner(gateway.application, gateway.config.server)
        broken = changed(f"classifier: {{bundle: {tmp_path}}}")
        asked = Asked(None, broken, OSError("unforeseen"), changed())
        asked.go.set()
        reloading = asyncio.get_running_loop().create_task(app.reload_on(again, asked, gateway, runner))
        async with asyncio.timeout(LONG_S):
            while asked._given:
                again.set()
                await asyncio.sleep(0)
            while "reloaded" not in [line["event"] for line in log()]:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
        reloading.cancel()
        await asyncio.wait({reloading})
        await retired(gateway)
        refused, failed, reloaded, _ = log()        # and that it is open

        assert (refused["event"], failed["event"], reloaded["event"]) == ("not reloaded", "not reloaded", "reloaded")
        assert str(tmp_path) in refused["faults"][0]
        assert "unforeseen" in failed["exception"]
        assert list(gateway.config.routes) == ["renamed"]


async def test_what_waits_for_a_restart_is_said(create: Creates, log: Logged) -> None:
    """The store and what nodes share stay those of the start, whatever a reload says of them."""
    gateway = await create()
    await gateway.reload(changed())
    await gateway.reload(msgspec.structs.replace(changed(), ledger=config.LedgerConfig(receipts_days=9)))
    await retired(gateway)

    assert [line["sections"] for line in log() if line["event"] == "waits for a restart"] == [["ledger"]]
