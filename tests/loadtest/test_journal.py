"""The journal counts each call once and wakes whoever waits for it."""

import asyncio
from pathlib import Path

import orjson
import pytest
from multidict import CIMultiDict

from loadtest.journal import Call, Journal


def call() -> Call:
    """A call that has just arrived."""
    return Call("/v1/chat/completions", CIMultiDict(), b'{"a":1}', 1.0)


def test_a_call_ends_once() -> None:
    """The first outcome counts, and the call is in flight until then."""
    journal = Journal(keep=2)
    journal.begin(one := call())
    journal.wrote(one, b"abc")
    before = journal.in_flight
    journal.end(one, "cut")
    journal.end(one, "cancelled")

    assert (before, journal.in_flight) == (1, 0)
    assert (one.outcome, one.chunks_sent, one.bytes_sent, one.sent) == ("cut", 1, 3, [b"abc"])
    assert journal.counters() == {
        "requests": 1, "answered": 0, "refused": 0, "cut": 1, "cancelled": 0,
        "in_flight": 0, "chunks_sent": 1, "bytes_sent": 3,
    }  # fmt: skip
    assert repr(journal) == "<Journal 1 requests, 0 in flight, 0 cancelled>"


def test_only_so_many_calls_are_kept() -> None:
    """A load run must not fill the memory."""
    journal = Journal(keep=0)
    journal.begin(one := call())
    journal.wrote(one, b"abc")

    assert (len(journal.calls), one.sent, journal.requests) == (0, [], 1)


def test_the_body_reads_as_json() -> None:
    """What the gateway sent can be asserted on directly."""
    assert call().json == {"a": 1}


async def test_waiting_ends_with_the_event() -> None:
    """No test has to sleep: the change itself wakes it."""
    journal = Journal(keep=9)

    async def live() -> None:
        """A call's whole life."""
        journal.begin(one := call())
        await asyncio.sleep(0)
        journal.wrote(one, b"x")
        await asyncio.sleep(0)
        journal.end(one, "answered")

    async with asyncio.TaskGroup() as group:
        group.create_task(journal.until(lambda journal: journal.chunks_sent == 1 and journal.in_flight == 1))
        group.create_task(journal.until(lambda journal: journal.answered == 1))
        group.create_task(live())

    assert journal.last.outcome == "answered"


async def test_waiting_has_an_end() -> None:
    """What never happens fails the test instead of hanging it."""
    with pytest.raises(TimeoutError):
        await Journal(keep=0).until(lambda journal: journal.requests > 0, timeout_s=0.01)


def test_a_log_has_the_last_word_on_each_call(tmp_path: Path) -> None:
    """A line when it was understood and one when it ended, readable before anything is closed."""
    log = tmp_path / "log"
    journal = Journal(keep=0, log=log)
    one, other = call(), call()
    for each in (one, other):
        journal.begin(each)
        journal.understood(each)
    journal.wrote(one, b"role")
    journal.wrote(one, b"text")
    journal.end(one, "answered")
    lines = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    journal.close()
    journal.end(other, "stopped")

    assert [(line["serial"], line["outcome"]) for line in lines] == [(1, "open"), (2, "open"), (1, "answered")]
    assert one.first_byte <= one.second_chunk == lines[2]["second_chunk"] <= one.ended
    assert len(log.read_bytes().splitlines()) == 3
