"""What a run starts answers, is measured, and is gone afterwards."""

import os
import sys
import time
from pathlib import Path

import pytest

from loadtest import processes
from loadtest.processes import Cores, Server


def gone(pid: int) -> bool:
    """Whether there is no such process any more."""
    return not Path(f"/proc/{pid}").exists()


def test_a_server_is_ready_measured_and_stopped() -> None:
    """The mock answers inside the block and is gone after it."""
    with processes.mock("--tokens", "2") as server:
        port = int(server.base_url.removesuffix("/v1").rsplit(":", 1)[1])
        answered = processes.answers(port, "/v1/models")
        cpu_ns = server.cpu_ns()
        resident_mb, proportional_mb = server.memory_mb()
        printed = server.lines()

    assert answered
    assert cpu_ns > 0
    assert 5 < proportional_mb <= resident_mb < 500
    assert printed == [f"mock upstream on {server.base_url}"]
    assert server.ready_s > 0
    assert gone(server.pid)
    assert not processes.answers(port, "/v1/models")


def test_a_failure_inside_still_stops_the_server() -> None:
    """No run leaves a process behind."""
    with pytest.raises(ZeroDivisionError), processes.mock() as server:
        raise ZeroDivisionError

    assert gone(server.pid)


def test_a_server_that_ends_at_once_says_why() -> None:
    """Its last words are in the error."""
    with pytest.raises(RuntimeError, match="unknown fault"), processes.mock("--fault", "boom"):
        pass


def test_a_server_that_ignores_the_request_to_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL after the grace period."""
    monkeypatch.setattr(processes, "_STOP_S", 0.05)
    deaf = "import signal,sys; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    serve = "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)\n"
    say = "print(f'on http://127.0.0.1:{s.server_port}/v1', flush=True); s.serve_forever()"
    with processes._started("deaf", [sys.executable, "-c", deaf + serve + say], "/", on=None) as server:
        pass

    assert gone(server.pid)


def test_receipts_are_the_json_lines_that_say_so(tmp_path: Path) -> None:
    """Other log lines and half lines are passed over."""
    output = tmp_path / "stdout"
    output.write_text('{"event":"receipt","rung":"cheap"}\nready\n{"event":"start"}\n[1]\n{"event":"rec')

    assert processes.receipts(Server("g", 1, "", output, 0)) == [{"event": "receipt", "rung": "cheap"}]


def test_pinning_holds_for_a_while() -> None:
    """Children inherit it; this process gets its cores back."""
    before = os.sched_getaffinity(0)
    one = frozenset(sorted(before)[:1])
    with processes.pinned(one):
        inside = os.sched_getaffinity(0)

    assert inside == one
    assert os.sched_getaffinity(0) == before


def test_one_core_is_shared_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores are split; one is shared, and the report says so."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    alone = processes.cores()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 3, 4})
    several = processes.cores()

    assert (alone.pinned, str(alone)[:10]) == (False, "not pinned")
    assert several == Cores(frozenset({3}), frozenset({4}))
    assert str(several) == "server on core 3, mock and driver on core 4"


def test_waiting_has_an_end() -> None:
    """What never comes is an error, not a hang."""
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        processes.wait_until(lambda: False, 0.01)

    assert time.monotonic() - begun < 5
