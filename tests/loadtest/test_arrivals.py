"""Requests come at their rate, and each is known by what became of it."""

import time
from collections.abc import Callable

import pytest

from loadtest import arrivals, processes
from loadtest.arrivals import Arrivals, Asked, Down

BOUND_S = 15.0


def asked(began: float, ended: float, request_id: str = "", fault: str = "") -> Asked:
    """A request that is over."""
    return Asked(began, ended, request_id, fault)


def wait_for(reached: Callable[[], bool]) -> None:
    """Wait until it is so."""
    processes.wait_until(reached, BOUND_S)


def over(asking: Arrivals, count: int) -> bool:
    """Whether so many requests are over."""
    return sum(one.ended > 0 for one in asking.asked) >= count


def test_they_arrive_and_are_whole() -> None:
    """Streamed and not, in the order in which they were asked; the address may change meanwhile."""
    with processes.mock("--tokens", "2") as first, processes.mock("--tokens", "2") as second:
        with Arrivals(first.base_url, 200, "mock-cheap") as asking:
            wait_for(lambda: over(asking, 4))
            asking.base_url = second.base_url
            now = len(asking.asked)
            wait_for(lambda: over(asking, now + 4))
        times = [one.began for one in asking.asked]

    assert [one.fault for one in asking.asked if one.fault] == []
    assert all(one.ended > one.began and one.took_ms > 0 for one in asking.asked)
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("dials", "fault"),
    [(["--error-rate", "1", "--status", "503"], "status 503"), (["--fault", "cut-rst"], "Client"),
     (["--fault", "end"], "status 200")],
)
def test_what_goes_wrong_is_noted(dials: list[str], fault: str) -> None:
    """A refusal, a broken connection, an answer that is not whole."""
    with processes.mock("--tokens", "2", *dials) as mock, Arrivals(mock.base_url, 100, "mock-cheap") as asking:
        wait_for(lambda: over(asking, 2))

    assert asking.asked[0].fault.startswith(fault)


def test_nobody_there() -> None:
    """The others are asked all the same."""
    with processes.mock() as mock:
        url = mock.base_url
    with Arrivals(url, 100) as asking:
        wait_for(lambda: over(asking, 3))

    assert all("ClientConnectorError" in one.fault for one in asking.asked)


def test_an_answer_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after a while."""
    monkeypatch.setattr(arrivals, "_PATIENCE_S", 0.05)
    with processes.mock("--fault", "hang") as mock, Arrivals(mock.base_url, 100, "mock-cheap") as asking:
        wait_for(lambda: over(asking, 1))

    assert "Timeout" in asking.asked[0].fault


def test_who_is_cut_and_who_fails() -> None:
    """Whoever was there at a kill, or came before the next process was ready, is cut; others fail."""
    down = [Down(10, 12)]
    before, over_it, meanwhile, after = (
        asked(8, 9, fault="x"), asked(9, 10.5, fault="x"), asked(11, 11, fault="x"), asked(12.5, 13, fault="x")
    )
    whole = asked(9, 10.5, "id")
    everybody = [before, over_it, meanwhile, after, whole]

    assert arrivals.cut(everybody, down) == [over_it, meanwhile]
    assert arrivals.failed(everybody, down) == [before, after]


def test_which_receipts_are_due() -> None:
    """Those a second old at the kill, those after it, and none that nobody was told of."""
    everybody = [
        asked(8, 8.9, "old"), asked(8, 9.1, "young"), asked(9, 11, "cut"), asked(12, 13, "later"), asked(7, 8, ""),
        asked(6, 7, "failed", fault="status 500"),
    ]

    assert arrivals.due(everybody, [Down(10, 12)], 1.0) == {"old", "later", "failed"}


def test_the_rate() -> None:
    """They come no faster than they should."""
    with processes.mock("--tokens", "1") as mock:
        begun = time.monotonic()
        with Arrivals(mock.base_url, 50, "mock-cheap") as asking:
            wait_for(lambda: len(asking.asked) >= 10)
        took = time.monotonic() - begun

    assert took >= 9 / 50
