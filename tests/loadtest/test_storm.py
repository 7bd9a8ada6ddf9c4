"""The storm is followed on three sides, and whatever does not hold makes it fail."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from loadtest import judging, storm
from loadtest.judging import Judged
from loadtest.processes import Server
from loadtest.reception import Seen
from loadtest.storm import Options, Result
from tests.loadtest import cases as made

SMALL = Options(seconds=2, rate_per_s=10, faulty=0.3, deadline_s=15, seed=1)


def held(*seen: Seen, **more: Any) -> tuple[Result, Judged]:
    """A storm in which everything went well, for these clients."""
    receipts = [made.receipt(one.number) for one in seen]
    calls = [made.call(one.number, serial=one.number) for one in seen]
    good: dict[str, Any] = {"asked": len(seen), "memory_mb": (120.0, 121.0), "in_flight": 0.0}
    result = Result(seen=list(seen), receipts=receipts, calls=calls, **{**good, **more})
    cases = judging.join(result.seen, result.receipts, result.calls, 24, 1)
    return result, judging.judged(cases, result.asked, len(receipts))


def cells(table: str, row: str) -> list[str]:
    """A row of a table, without its name."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {row}"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_the_whole_storm_blows() -> None:
    """Two seconds with a kill and a revival: nobody is lost or answered twice, and faults did strike."""
    result = storm.run(SMALL)
    cases = judging.join(result.seen, result.receipts, result.calls, storm.TOKENS, storm.SEED)
    judged = judging.judged(cases, result.asked, len(result.receipts))
    shown = storm.report(result, judged)

    assert (judged.lost, judged.doubled, result.in_flight) == ([], [], 0)
    assert result.asked == len(result.seen) == len(result.receipts) > 4
    assert {call.fault for call in result.calls} > {""}
    assert all(case.calls for case in cases if case.fate is judging.Fate.WHOLE)
    assert cells(shown, "requests")[0] == str(result.asked)
    assert min(result.memory_mb) > 20


def test_a_good_storm_is_held() -> None:
    """Every row, and no failure."""
    result, judged = held(made.seen(0), made.seen(1))
    shown = storm.report(result, judged)

    assert cells(shown, "whole answers, of all") == ["100.00%", "-", "-"]
    assert cells(shown, "… no fault struck (2)") == ["100.00%", "99.5%", "yes"]
    assert cells(shown, "… struck before the first output (0)") == ["nan%", "99.5%", "-"]
    assert cells(shown, "lost") == ["0", "0", "yes"]
    assert cells(shown, "first token, added p50") == ["40.0 ms", "-", "-"]
    assert cells(shown, "gateway's memory")[2] == "yes"
    assert storm.failures(result, judged) == []
    assert storm.stories(judged) == []


@pytest.mark.parametrize(
    ("seen", "more", "said"),
    [
        ([made.seen(ended=False)], {}, "1 dishonest"),
        ([made.seen(text=made.TEXT * 2)], {}, "1 doubled"),
        ([made.seen(status=0, text="")], {}, "1 lost"),
        ([made.seen()], {"asked": 2}, "1 lost"),
        ([made.seen()], {"in_flight": 3.0}, "3 calls in flight at the end"),
        ([made.seen(status=503, text="", error="no")], {}, "0.00% whole answers where no fault struck, 99.5% wanted"),
        ([], {}, "nothing was asked"),
    ],
)
def test_each_broken_promise_fails_the_storm(seen: list[Seen], more: dict[str, Any], said: str) -> None:
    """One at a time, and it is told with what is known of it."""
    result, judged = held(*seen, **more)

    assert said in storm.failures(result, judged)
    assert bool(storm.stories(judged)) == (said.split()[1] in {"lost", "doubled", "dishonest", "whole"})


def test_growth_is_shown() -> None:
    """Ten MB or more are too much."""
    shown = storm.report(*held(made.seen(), memory_mb=(120.0, 130.5)))

    assert cells(shown, "gateway's memory") == ["120.0 and 130.5 MB", "+10 MB", "no"]


def test_calls_in_flight_are_summed() -> None:
    """Over all upstreams; a metric that is not there is an error, not a zero."""
    metrics = 'a 1\nthriftgate_upstream_in_flight{upstream="a"} 2.0\nthriftgate_upstream_in_flight{upstream="b"} 1.0\n'

    assert storm.in_flight(metrics) == 3
    with pytest.raises(ValueError, match="no metric"):
        storm.in_flight("a 1\n")


def test_the_last_line_of_a_call_counts() -> None:
    """A line that a kill cut in half does not."""
    begun, ended = made.call(outcome="open"), made.call()
    lines = b"\n".join(orjson.dumps(call) for call in (begun, made.call(serial=2, outcome="open"), ended))

    assert storm.logged(lines + b'\n{"serial":3,"mod') == [ended, made.call(serial=2, outcome="open")]


def test_clients_that_never_came_back_are_counted() -> None:
    """The clients' process says how many were asked; where it could not, the numbers do."""
    lines = b"\n".join(orjson.dumps(made.seen(number)) for number in (3, 1))

    assert storm.witnesses(lines + b'\n{"asked":7}') == (7, [made.seen(1), made.seen(3)])
    assert storm.witnesses(lines)[0] == 4
    assert storm.witnesses(b"") == (0, [])


def test_the_command_exits_with_1_when_it_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make chaos` is a gate, not a show."""
    good, _ = held(made.seen())
    monkeypatch.setattr(storm, "run", lambda _: good)
    stood = storm.main(["--seconds", "1"])
    good.receipts.clear()
    fell = storm.main([])
    shown = capsys.readouterr().out

    assert (stood, fell) == (0, 1)
    assert "the gateway stood" in shown
    assert "FAILED: 1 lost" in shown


def test_clients_that_cannot_start_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No clients, no storm: their last words are in the error."""
    monkeypatch.setattr(storm, "USERS", tmp_path / "missing.py")
    monkeypatch.setattr(storm.Weather, "pass_over", lambda *_: None)
    with pytest.raises(RuntimeError, match="locust ended with 1"):
        storm.run(SMALL)


def test_clients_do_not_outlive_a_storm_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are ended where the storm is left early."""
    real = subprocess.Popen

    def patient(*_: Any, **more: Any) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-c", "import time; time.sleep(60)"], **more)

    monkeypatch.setattr(subprocess, "Popen", patient)
    server = Server("gateway", 0, "http://127.0.0.1:9/v1", tmp_path / "out", 0.0)
    with pytest.raises(ZeroDivisionError), storm.locust(tmp_path / "seen", server, SMALL) as users:  # noqa: PT012
        assert users.poll() is None
        raise ZeroDivisionError

    assert users.returncode == -9
