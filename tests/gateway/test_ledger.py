"""Receipts on their way out: taken at once, written once and in order, and lost only loudly."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.ledger import Ledger
from gateway.metrics import Metrics
from gateway.receipt import Receipt

LONG_S = 30.0      # a wait that only a broken test sees the end of
Opens = Callable[..., Ledger]


def closed(number: int) -> Receipt:
    """A closed receipt."""
    return Receipt(str(number), 0.0).close(1.0)


class Paper:
    """What a ledger writes on: it can be made to hold still, and to tear."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.entered = threading.Event()
        self.free = threading.Event()
        self.free.set()
        self.torn: set[str] = set()
        self.threads: set[str] = set()

    def write(self, fields: dict[str, Any]) -> None:
        """Keep one receipt's id, when free to."""
        self.entered.set()
        self.free.wait(LONG_S)
        if fields["request_id"] in self.torn:
            raise BrokenPipeError("the reader is gone")
        self.threads.add(threading.current_thread().name.partition("_")[0])
        self.lines.append(fields["request_id"])

    async def until_entered(self) -> None:
        """Wait until the writer is at work."""
        assert await asyncio.to_thread(self.entered.wait, LONG_S)


@pytest.fixture
def paper() -> Paper:
    """A paper that takes everything at once."""
    return Paper()


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of their own."""
    return Metrics()


@pytest.fixture
async def ledger(paper: Paper, metrics: Metrics) -> AsyncIterator[Ledger]:
    """A ledger of three receipts at most, closed after the test."""
    ledger = Ledger(paper.write, metrics, bound=3)
    yield ledger
    paper.free.set()
    await ledger.close()


def dropped(metrics: Metrics) -> float | None:
    """What the metric says was lost."""
    return metrics.registry.get_sample_value("thriftgate_receipts_dropped_total")


async def test_everything_once_and_in_order(paper: Paper, metrics: Metrics) -> None:
    """Recorded in batches of any size, each receipt is written and counted exactly once, in its order."""
    ledger = Ledger(paper.write, metrics)
    for number in range(500):
        ledger.record(closed(number))
        if number % 97 == 0:
            await ledger.flush()
    await ledger.close()

    assert [str(number) for number in range(500)] == paper.lines
    labels = {"route": "", "model": "", "outcome": "failed"}
    assert metrics.registry.get_sample_value("thriftgate_requests_total", labels) == 500
    assert dropped(metrics) == 0


async def test_written_without_being_asked(ledger: Ledger, paper: Paper) -> None:
    """A batch starts by itself, again and again, on the ledger's own thread."""
    for number in (1, 2):
        ledger.record(closed(number))
        await paper.until_entered()
        paper.entered.clear()
    await ledger.flush()

    assert (["1", "2"], {"ledger"}) == (paper.lines, paper.threads)


async def test_record_is_synchronous(ledger: Ledger, paper: Paper) -> None:
    """It returns before anything is written, even while the writer stands still."""
    paper.free.clear()
    ledger.record(closed(1))
    await paper.until_entered()
    ledger.record(closed(2))
    ledger.record(closed(3))
    before = list(paper.lines)
    paper.free.set()
    await ledger.flush()

    assert before == []
    assert paper.lines == ["1", "2", "3"]


async def test_beyond_the_bound(ledger: Ledger, paper: Paper, metrics: Metrics) -> None:
    """A writer that cannot keep up costs receipts, which are counted; those that were taken are written."""
    paper.free.clear()
    ledger.record(closed(0))
    await paper.until_entered()
    for number in range(1, 6):
        ledger.record(closed(number))
    lost, shown = ledger.dropped, repr(ledger)
    paper.free.set()
    await ledger.flush()
    ledger.record(closed(6))
    await ledger.flush()

    assert (lost, shown) == (2, "<Ledger 3 waiting, 2 dropped>")
    assert dropped(metrics) == 2
    assert paper.lines == ["0", "1", "2", "3", "6"]


async def test_nobody_waits_for_a_writer_that_hangs(ledger: Ledger, paper: Paper) -> None:
    """A scrape gives up after its limit; once the writer goes on, everything is written in order."""
    paper.free.clear()
    ledger.record(closed(1))
    await paper.until_entered()
    ledger.record(closed(2))
    gave_up = await ledger.flush(0)
    paper.free.set()

    assert not gave_up
    assert await ledger.flush()
    assert paper.lines == ["1", "2"]


async def test_close_gives_up_a_writer_that_hangs(
    paper: Paper, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full pipe does not keep the process from ending; what could not be written is counted."""
    monkeypatch.setattr(Ledger.flush, "__defaults__", (0,))
    ledger = Ledger(paper.write, metrics)
    paper.free.clear()
    ledger.record(closed(1))
    await paper.until_entered()
    ledger.record(closed(2))
    await ledger.close()
    lost = ledger.dropped
    paper.free.set()

    assert lost == 1


async def test_a_writer_that_raises(ledger: Ledger, paper: Paper, metrics: Metrics) -> None:
    """What could not be written is counted as lost; the others are written, and nobody who flushes is hurt."""
    paper.torn = {"1", "3"}
    for number in (1, 2, 3):
        ledger.record(closed(number))
    await ledger.flush()
    ledger.record(closed(4))
    await ledger.flush()

    assert paper.lines == ["2", "4"]
    assert (ledger.dropped, dropped(metrics)) == (2, 2)
    labels = {"route": "", "model": "", "outcome": "failed"}
    assert metrics.registry.get_sample_value("thriftgate_requests_total", labels) == 4


async def test_close_writes_the_rest(paper: Paper, metrics: Metrics) -> None:
    """What was recorded a moment ago is written; the timer and the thread are gone."""
    ledger = Ledger(paper.write, metrics)
    ledger.record(closed(1))
    ledger.record(closed(2))
    timer = ledger._timer
    await ledger.close()

    assert paper.lines == ["1", "2"]
    assert timer is not None
    assert timer.cancelled()


async def test_close_without_anything(paper: Paper, metrics: Metrics) -> None:
    """A gateway that served nobody stops as well."""
    ledger = Ledger(paper.write, metrics)
    await ledger.close()

    assert (paper.lines, repr(ledger)) == ([], "<Ledger 0 waiting, 0 dropped>")
