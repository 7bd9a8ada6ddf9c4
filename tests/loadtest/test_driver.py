"""The benchmark's client checks every answer, and counts the reads it took."""

import pytest

from loadtest import driver
from loadtest.mock_upstream import MockUpstream


async def test_whole_answers_are_counted_and_timed(mock: MockUpstream) -> None:
    """As many as were asked for, over as many connections as allowed."""
    tally = await driver.whole(mock.base_url, [driver.request("hi", "mock-cheap")] * 10, 3)

    assert (len(tally.took_s), tally.reads, mock.journal.answered) == (10, 10, 10)
    assert tally.received == mock.journal.bytes_sent


async def test_streams_are_read_to_their_end(mock: MockUpstream) -> None:
    """All bytes of all streams."""
    tally = await driver.streams(mock.base_url, driver.request("hi", "mock-cheap", stream=True), 4)

    assert (len(tally.took_s), mock.journal.answered) == (4, 4)
    assert tally.received == mock.journal.bytes_sent
    assert 4 <= tally.reads <= mock.journal.chunks_sent


async def test_a_refusal_ends_the_benchmark(mock: MockUpstream) -> None:
    """Errors are fast; counting them would flatter."""
    with pytest.raises(ExceptionGroup, match="TaskGroup") as failed:
        await driver.whole(mock.base_url, [driver.request("hi", "unknown")], 1)

    assert "status 404" in str(failed.value.exceptions[0])


async def test_a_stream_without_done_ends_the_benchmark(mock: MockUpstream) -> None:
    """A shorter stream is a cheaper one."""
    mock.turn(fault="end")
    with pytest.raises(ExceptionGroup) as failed:
        await driver.streams(mock.base_url, driver.request("hi", "mock-cheap", stream=True), 1)

    assert "the stream ended with" in str(failed.value.exceptions[0])
