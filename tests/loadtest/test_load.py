"""The load run compares both sides, and fails when a stream failed."""

from typing import Any

import pytest

from loadtest import load
from loadtest.load import Options

OPTIONS = Options(seconds=4, users=2, rate_per_s=5, ttft_ms=1, tokens_per_s=0, tokens=3, seed=1)


def figures(first: float, **other: Any) -> dict[str, Any]:
    """A run's figures as the locustfile writes them."""
    times = dict.fromkeys(load._TIMES, 2.0)
    return {"streams": 9, "per_s": 3.0, "errors": {}, **times, "first_p50_ms": first, **other}


def test_both_sides_and_their_difference_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mock and gateway really start; locust itself is tested with the locustfile."""
    asked: list[tuple[str, str]] = []

    def locust(kind: str, url: str, model: str, _: Options) -> dict[str, Any]:
        asked.append((kind, model))
        assert url.startswith("http://127.0.0.1:")
        return figures(1.5 if model == "auto" else 1.0)

    monkeypatch.setattr(load, "locust", locust)
    found = load.measure(OPTIONS)
    shown = load.summary(found, OPTIONS)

    assert asked == [(kind, model) for kind in ("ClosedUser", "Arrivals") for model in ("mock-cheap", "auto")]
    assert shown.count("+0.50") == 2
    assert "2 closed users; 5 arrivals/s" in shown
    assert load.failures(found) == []


def test_errors_and_silence_fail_the_run() -> None:
    """Each kind of error is counted, and a run without streams is one."""
    found = {"a, direct": figures(1, errors={"stream without [DONE]": 3}), "b, direct": figures(1, streams=0)}

    assert load.failures(found) == ["b, direct: nothing was measured", "a, direct: 3 x stream without [DONE]"]


def test_the_command_exits_with_1_on_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make load` is a gate, not a show."""
    names = [f"{title}, {side}" for title in ("closed users", "arrivals") for side in ("direct", "gateway")]
    good = {name: figures(1) for name in names}
    monkeypatch.setattr(load, "measure", lambda _: good)
    passed = load.main(["--seconds", "4"])
    good["arrivals, gateway"]["errors"] = {"status 502": 1}
    failed = load.main([])

    assert (passed, failed) == (0, 1)
    assert "arrivals, gateway: 1 x status 502" in capsys.readouterr().out


def test_a_locust_that_dies_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, no table."""
    monkeypatch.setenv("LOADTEST_RATE", "1")
    with pytest.raises(RuntimeError, match="locust ended with"):
        load.locust("NoSuchUser", "http://127.0.0.1:9/v1", "auto", OPTIONS)
