"""Receipts on their way out: taken at once, written once and in order, and lost only loudly."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import ledger as ledger_module
from gateway import logs, spool
from gateway.ledger import Ledger
from gateway.metrics import Metrics
from gateway.receipt import Receipt
from gateway.spool import Spool

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


class Disk(Spool):
    """A spool whose disk can be made to refuse, and that says when something has come of an attempt."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "me")
        self.refuses = False
        self.writes: list[bytes] = []
        self.refused = threading.Event()
        self.taken = threading.Event()

    def append(self, lines: bytes) -> None:
        """Append, or refuse."""
        if self.refuses:
            self.refused.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(lines)
        self.writes.append(lines)
        self.taken.set()

    def ids(self) -> list[str]:
        """The receipts on disk, in their order."""
        self.rotate()
        return [row["request_id"] for path in self.closed() for row in spool.read(path).rows]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A spool of the test's own."""
    disk = Disk(tmp_path / "spool")
    yield disk
    disk.close()


@pytest.fixture
async def spooled(paper: Paper, metrics: Metrics, disk: Disk) -> AsyncIterator[Ledger]:
    """A ledger of three receipts at most that spools them, closed after the test."""
    ledger = Ledger(paper.write, metrics, bound=3, spool=disk)
    yield ledger
    paper.free.set()
    await ledger.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What is logged beside the receipts."""
    said: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(logs, "say", lambda event, _, **fields: said.append((event, fields)))
    return said


def value(metrics: Metrics, name: str) -> float | None:
    """What a metric says."""
    return metrics.registry.get_sample_value(name)


async def refused(disk: Disk) -> None:
    """Wait until the disk has refused something."""
    assert await asyncio.to_thread(disk.refused.wait, LONG_S)


async def taken(disk: Disk) -> None:
    """Wait until the disk has taken something."""
    assert await asyncio.to_thread(disk.taken.wait, LONG_S)


async def test_receipts_are_on_disk_whatever_the_log_does(
    spooled: Ledger, paper: Paper, disk: Disk, metrics: Metrics
) -> None:
    """A log that stands still, and is full by then, costs its own lines and nothing else."""
    paper.free.clear()
    spooled.record(closed(0))
    await paper.until_entered()
    for number in range(1, 6):
        disk.taken.clear()
        spooled.record(closed(number))
        await taken(disk)
    kept = disk.ids()
    paper.free.set()
    await spooled.flush()

    assert kept == ["0", "1", "2", "3", "4", "5"]
    assert paper.lines == ["0", "1", "2", "3"]
    assert (spooled.dropped, dropped(metrics)) == (0, 0)
    assert value(metrics, "thriftgate_receipt_lines_dropped_total") == 2


async def test_a_line_that_cannot_be_written(spooled: Ledger, paper: Paper, disk: Disk, metrics: Metrics) -> None:
    """It is missing in the log; its receipt is kept."""
    paper.torn = {"1"}
    for number in (1, 2):
        spooled.record(closed(number))
    await spooled.flush()

    assert (paper.lines, disk.ids()) == (["2"], ["1", "2"])
    assert value(metrics, "thriftgate_receipt_lines_dropped_total") == 1
    assert spooled.dropped == 0


async def test_a_batch_is_one_write(metrics: Metrics, disk: Disk) -> None:
    """What comes in one go costs the disk one call; no log is needed for it."""
    ledger = Ledger(None, metrics, spool=disk)
    for number in range(50):
        ledger.record(closed(number))
    await ledger.close()

    assert [write.count(b"\n") for write in disk.writes] == [50]
    assert disk.ids() == [str(number) for number in range(50)]


async def test_a_large_batch_is_several(metrics: Metrics, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is larger than it may be, but for a single receipt that is."""
    monkeypatch.setattr(ledger_module, "WRITE_BYTES", 3_000)
    ledger = Ledger(None, metrics, spool=disk)
    disk.refuses = True
    for number in range(5):
        receipt = closed(number)
        receipt.prompt = "x" * (9_000 if number == 2 else 1)
        ledger.record(receipt)
    await ledger.flush()
    disk.refuses = False
    await taken(disk)
    await ledger.close()

    assert disk.ids() == [str(number) for number in range(5)]
    assert len(disk.writes) > 2
    assert all(len(write) <= 3_000 or write.count(b"\n") == 1 for write in disk.writes)


async def test_a_disk_that_refuses(
    spooled: Ledger, paper: Paper, disk: Disk, metrics: Metrics, said: list[tuple[str, dict[str, Any]]]
) -> None:
    """Receipts stay in memory, and reach the disk once and in order when it takes them again, without being asked.

    The log goes on meanwhile, a scrape does not wait, and it is said once that it began, and that it ended.
    """
    disk.refuses = True
    spooled.record(closed(1))
    await refused(disk)
    for number in (2, 3):
        spooled.record(closed(number))
        assert await spooled.flush()
    shown, lines = repr(spooled), list(paper.lines)
    gauges = [value(metrics, f"thriftgate_{name}") for name in ("receipts_held", "spool_writable")]
    disk.refuses = False
    await taken(disk)
    await spooled.flush()

    assert (shown, gauges) == ("<Ledger 3 waiting, 0 dropped>", [3, 0])
    assert lines == ["1", "2", "3"]
    assert disk.ids() == ["1", "2", "3"]
    assert (value(metrics, "thriftgate_receipts_held"), value(metrics, "thriftgate_spool_writable")) == (0, 1)
    assert said == [
        ("spool not written", {"error": "[Errno 28] No space left on device", "waiting": 1}),
        ("spool written again", {}),
    ]


async def test_a_disk_that_refuses_for_long(
    spooled: Ledger, paper: Paper, disk: Disk, metrics: Metrics, said: list[tuple[str, dict[str, Any]]]
) -> None:
    """Beyond the bound receipts are lost, which is counted, and said once; the log has them all the same."""
    disk.refuses = True
    for number in range(6):
        spooled.record(closed(number))
        await spooled.flush()
    lost = spooled.dropped
    disk.refuses = False
    await taken(disk)
    await spooled.flush()

    assert (lost, dropped(metrics)) == (3, 3)
    assert disk.ids() == ["0", "1", "2"]
    assert paper.lines == ["0", "1", "2", "3", "4", "5"]
    assert [what for what in said if what[0] == "receipts lost"] == [("receipts lost", {"lost": 1, "waiting": 3})]


async def test_large_receipts_fill_the_memory_sooner(
    metrics: Metrics, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their bytes count as well as their number; a single one has room, however large."""
    monkeypatch.setattr(ledger_module, "HELD_BYTES", 5_000)
    ledger = Ledger(None, metrics, spool=disk)
    disk.refuses = True
    for number in range(2):
        receipt = closed(number)
        receipt.prompt = "x" * 9_000
        ledger.record(receipt)
        await ledger.flush()
    disk.refuses = False
    await taken(disk)
    await ledger.close()

    assert disk.ids() == ["0"]
    assert ledger.dropped == 1


async def test_close_without_a_disk(metrics: Metrics, disk: Disk) -> None:
    """What the disk refuses to the end is lost, and counted."""
    ledger = Ledger(None, metrics, spool=disk)
    disk.refuses = True
    for number in range(2):
        ledger.record(closed(number))
    await ledger.close()

    assert (ledger.dropped, dropped(metrics)) == (2, 2)


async def test_a_disk_that_hangs(metrics: Metrics, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it without a limit, and what it may yet take is not lost by the process' doing."""
    monkeypatch.setattr(Ledger.flush, "__defaults__", (0,))
    entered, free = threading.Event(), threading.Event()

    def append(lines: bytes) -> None:
        """Hang."""
        entered.set()
        free.wait(LONG_S)

    monkeypatch.setattr(disk, "append", append)
    ledger = Ledger(None, metrics, spool=disk)
    ledger.record(closed(1))
    assert await asyncio.to_thread(entered.wait, LONG_S)
    ledger.record(closed(2))
    flushed = await ledger.flush(0)
    await ledger.close()
    free.set()

    assert not flushed
    assert ledger.dropped == 2


async def test_whatever_stands_in_a_receipt(metrics: Metrics, disk: Disk) -> None:
    """Half a character of a client's, or a number that a provider invents, costs no receipt."""
    ledger = Ledger(None, metrics, spool=disk)
    receipt = closed(1)
    receipt.caller, receipt.error, receipt.sent_bytes = "half \ud800", "nul \0", 10**30
    receipt.budgets = [("key:\udfff", "2026-11")]
    ledger.record(receipt)
    await ledger.close()
    disk.rotate()
    (row,) = spool.read(disk.closed()[0]).rows

    assert (row["caller"], row["error"], row["sent_bytes"]) == ("half ?", "nul \0", None)
    assert row["budgets"] == [["key:?", "2026-11"]]
