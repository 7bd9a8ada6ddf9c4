"""A stream is timed read by read, and counts as good only if it ended as it should."""

import asyncio

import pytest

from loadtest.mock_upstream import MockUpstream
from loadtest.streaming import Connections, Timing


async def stream(mock: MockUpstream, **dials: object) -> Timing:
    """One stream, read in a thread because the client blocks."""
    connections = Connections(mock.base_url)
    body = {"model": "mock-cheap", "messages": [{"role": "user", "content": "hi"}], "stream": True, "mock": dials}
    try:
        return await asyncio.to_thread(connections.stream, body)
    finally:
        connections.close()


async def test_a_good_stream_is_timed(mock: MockUpstream) -> None:
    """Time to the first text, the gaps after it, the total; all bytes counted."""
    timing = await stream(mock, ttft_ms=20, tokens_per_s=200, tokens=5)

    assert timing.error == ""
    assert 0.02 <= timing.first_token_s <= timing.total_s
    assert 1 <= len(timing.gaps_s) <= 6
    assert sum(timing.gaps_s) <= timing.total_s
    assert timing.received == mock.journal.last.bytes_sent


async def test_the_role_frame_is_no_token(mock: MockUpstream) -> None:
    """A provider that opens its stream and then thinks has not answered yet."""
    timing = await stream(mock, fault="stall", after=1, stall_ms=30)

    assert timing.error == ""
    assert timing.first_token_s >= 0.03


@pytest.mark.parametrize(
    ("dials", "error"),
    [
        ({"fault": "end"}, "stream without [DONE]"),
        ({"fault": "error-frame"}, "error frame in the stream"),
        ({"fault": "role-only", "stall_ms": 1}, "stream without [DONE]"),
        ({"raw": ["ZGF0YTogW0RPTkVdCgo="]}, "stream without text"),
        ({"fault": "cut-fin"}, "IncompleteRead"),
        ({"fault": "cut-rst"}, "ConnectionResetError"),
        ({"error_rate": 1, "status": 503}, "status 503"),
    ],
)
async def test_a_bad_stream_says_what_was_wrong(mock: MockUpstream, dials: dict[str, object], error: str) -> None:
    """Nothing broken passes for a fast answer."""
    timing = await stream(mock, **dials)

    assert error in timing.error


async def test_a_good_connection_is_kept_and_a_bad_one_is_not(mock: MockUpstream) -> None:
    """Connections are part of what is measured: users keep theirs."""
    connections = Connections(mock.base_url)
    body: dict[str, object] = {"model": "mock-cheap", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    first = connections.take()
    connections.give(first, good=True)
    kept = connections.take()
    connections.give(kept, good=False)
    timing = await asyncio.to_thread(connections.stream, body)
    connections.close()

    assert kept is first
    assert timing.error == ""
    assert connections.take() is not first
