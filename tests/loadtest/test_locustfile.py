"""Locust runs both kinds of users against a provider, and the figures come out.

In processes of their own: importing locust patches the sockets of the whole process.
"""

import pytest

from loadtest import load, processes
from loadtest.load import Options

OPTIONS = Options(seconds=8, users=3, rate_per_s=20, ttft_ms=5, tokens_per_s=500, tokens=8, seed=1)


@pytest.fixture(autouse=True)
def without_warmup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count from the start, for a short run."""
    monkeypatch.setenv("LOADTEST_WARMUP_S", "0")


@pytest.mark.parametrize("kind", ["ClosedUser", "Arrivals"])
def test_users_measure_streams(kind: str) -> None:
    """First token, gap and total, with no errors, for closed users and for arrivals."""
    with processes.mock("--ttft-ms", "5", "--tokens-per-s", "500", "--tokens", "8") as mock:
        figures = load.locust(kind, mock.base_url, "mock-cheap", OPTIONS)

    assert figures["errors"] == {}
    assert figures["streams"] >= 5
    assert 5 <= figures["first_p50_ms"] <= figures["first_p99_ms"]
    assert 0 < figures["gap_p50_ms"] <= figures["gap_p99_ms"]
    assert figures["first_p50_ms"] < figures["total_p50_ms"]


def test_arrivals_do_not_wait_for_slow_answers() -> None:
    """The open model: an answer takes half the run, and still as many arrive."""
    with processes.mock("--ttft-ms", "1000", "--tokens", "1") as mock:
        figures = load.locust("Arrivals", mock.base_url, "mock-cheap", OPTIONS)

    assert figures["errors"] == {}
    assert figures["streams"] > 10  # one user that waited could not have had more than two


def test_broken_streams_are_errors() -> None:
    """A stream without [DONE] is no fast answer."""
    with processes.mock("--fault", "end") as mock:
        figures = load.locust("ClosedUser", mock.base_url, "mock-cheap", Options(4, 1, 1, 0, 0, 8, 1))

    assert set(figures["errors"]) == {"stream without [DONE]"}
    assert figures["streams"] == 0
