"""Every stream of the crowd is counted, and one that is not whole is dropped."""

import resource
import socket
from typing import Any

import pytest

from loadtest import crowd
from loadtest.crowd import Memory, Options, Side
from loadtest.mock_upstream import MockUpstream

SMALL = Options(streams=10, seconds=0.4, tokens_per_s=20, stagger_s=0.1)


async def crowded(mock: MockUpstream, options: Options = SMALL) -> Side:
    """A crowd before the mock, at its pace."""
    mock.turn(tokens=options.tokens, tokens_per_s=options.tokens_per_s)
    return await crowd.crowd("direct", mock.base_url, "mock-cheap", options, lambda: None)


def side(name: str, **more: Any) -> Side:
    """A side on which all went well."""
    return Side(name, 10, **{"tokens": 80, "first_ms": [50.0], "gaps_ms": [500.0], "open_at_reading": 10, **more})


def test_the_crowd_comes_through_the_gateway() -> None:
    """The real thing, small: both sides, all tokens, and the gateway's memory."""
    sides, memory = crowd.measure(SMALL)

    assert [(one.name, one.dropped, one.tokens) for one in sides] == [("direct", [], 80), ("gateway", [], 80)]
    assert all(len(one.first_ms) == 10 and len(one.gaps_ms) == 70 for one in sides)
    assert 20 < memory.rest_mb <= memory.full_mb + 5


async def test_the_reading_is_taken_once(mock: MockUpstream) -> None:
    """Also where the crowd has left by then, and it is then seen that nobody was there."""
    mock.turn(error_rate=1)
    read: list[int] = []
    found = await crowd.crowd("direct", mock.base_url, "mock-cheap", SMALL, lambda: read.append(1))

    assert (read, found.open_at_reading) == ([1], 0)


@pytest.mark.parametrize("fault", ["cut-rst", "cut-fin", "end"])
async def test_a_stream_without_its_end_is_dropped(mock: MockUpstream, fault: str) -> None:
    """However it ends; what it had brought is told."""
    mock.turn(fault=fault, after=3)
    found = await crowded(mock)

    assert len(found.dropped) == 10
    assert found.dropped[0] == "<Stream 'HTTP/1.1 200 OK', 2 tokens, not done>"


async def test_a_stream_with_a_token_too_few_is_dropped(mock: MockUpstream) -> None:
    """A proper end does not help it."""
    mock.turn("mock-cheap", tokens=7)
    found = await crowded(mock)

    assert found.dropped[0] == "<Stream 'HTTP/1.1 200 OK', 7 tokens, done>"


async def test_a_refusal_is_a_dropped_stream(mock: MockUpstream) -> None:
    """It says so with its status, and nobody waits for more."""
    mock.turn(error_rate=1, status=503)
    found = await crowded(mock)

    assert len(found.dropped) == 10
    assert "503" in found.dropped[0]


async def test_a_stream_that_falls_silent_is_dropped(mock: MockUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A while after it should have ended, nobody waits for it any more."""
    monkeypatch.setattr(crowd, "_PATIENCE_S", 0)
    mock.turn(fault="stall", after=1)
    found = await crowded(mock)
    await mock.journal.until(lambda journal: journal.cancelled == 10)

    assert found.dropped == ["<Stream 'HTTP/1.1 200 OK', 0 tokens, not done>"] * 10


async def test_nobody_listens() -> None:
    """Each that could not connect is dropped."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        found = await crowd.crowd("direct", url, "mock-cheap", SMALL, lambda: None)

    assert len(found.dropped) == 10
    assert found.dropped[0].startswith("not connected")


def test_memory_is_shared_out() -> None:
    """What was added, for each stream."""
    assert Memory(100.0, 164.0, 1000).stream_kb == 64


def test_the_report_shows_both_sides_and_the_cost() -> None:
    """A row a side; memory against its target."""
    shown = crowd.report([side("direct"), side("gateway", dropped=["x"])], Memory(100.0, 200.0, 1000))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()]

    assert ["direct", "10", "10", "0", "80", "50.0", "50.0", "500.0", "500.0"] in rows
    assert ["gateway", "10", "10", "1", "80", "50.0", "50.0", "500.0", "500.0"] in rows
    assert ["for each stream", "100.0 KB", "64 KB", "no"] in rows


def test_a_dropped_stream_fails_the_run() -> None:
    """As does a crowd that was never all there."""
    assert crowd.failures([side("direct"), side("gateway")]) == []
    assert crowd.failures([side("gateway", dropped=["a", "b"])]) == ["gateway: 2 dropped, such as a"]
    assert crowd.failures([side("gateway", open_at_reading=9)]) == ["gateway: 9 of 10 streams were open at once"]


def test_the_command_exits_with_1_on_a_dropped_stream(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a gate, not a show."""
    sides = [side("direct"), side("gateway")]
    monkeypatch.setattr(crowd, "measure", lambda _: (sides, Memory(100.0, 110.0, 10)))
    passed = crowd.main(["--streams", "10"])
    sides[1].dropped.append("<Stream>")
    failed = crowd.main([])

    assert (passed, failed) == (0, 1)
    assert "FAILED: gateway: 1 dropped, such as <Stream>" in capsys.readouterr().out


def test_room_for_files_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to what the machine allows; what it forbids is said before anything starts."""
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 5000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: made.append(limits))
    crowd.make_room(1000)
    crowd.make_room(4200)
    with pytest.raises(ValueError, match="6000 open files are needed"):
        crowd.make_room(6000)

    assert made == [(4200, 5000)]
