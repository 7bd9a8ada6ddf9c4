"""`thriftgate demo`, run as a newcomer runs it: its own provider and gateway, a table, and gone without a trace."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gateway.cli.demo import PROMPTS

DEMO = [sys.executable, "-m", "gateway", "demo"]
WAIT_S = 60


def environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without a terminal's width, and with `extra`."""
    return {**os.environ, "COLUMNS": "160", **extra}


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the demo to its end."""
    return subprocess.run(
        [*DEMO, *arguments], env=environment(DEMO_EXIT="1"), capture_output=True, text=True, timeout=WAIT_S, check=False
    )


def test_it_shows_where_every_prompt_went_and_exits_0() -> None:
    """DEMO_EXIT=1: a row a prompt, both cheap and better models, the total saved, what to type next; exit 0."""
    done = run("--port", "0")
    rows = [line for line in done.stdout.splitlines() if re.search(r" \d+ ms +\$", line)]

    assert (0, "") == (done.returncode, done.stderr)
    assert len(PROMPTS) == len(rows)
    assert any("cheap" in row for row in rows)
    assert any("premium " in row for row in rows)
    assert re.search(r"saved \$\d+\.\d+ of \$\d+\.\d+: \d+ %", done.stdout)
    assert "curl -N http://127.0.0.1:" in done.stdout
    assert 'base_url="http://127.0.0.1:' in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_it_stays_up_until_it_is_stopped(number: signal.Signals, tmp_path: Path) -> None:
    """It stays up after the table; a signal ends it with 0 and nothing it started is left."""
    with subprocess.Popen([*DEMO, "--port", "0"], env=environment(), stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            said = "".join(iter(demo.stdout.readline, "The gateway stays up. Ctrl-C ends it.\n"))
            children = psutil.Process(demo.pid).children()
            demo.send_signal(number)
            code = demo.wait(WAIT_S)
        finally:
            demo.kill()

    assert "saved" in said
    assert (0, 2) == (code, len(children))
    assert [] == [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_a_taken_port_is_said() -> None:
    """A port that somebody else listens on: exit 2, and the gateway's own words with the way out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("--port", str(taken.getsockname()[1]))

    assert 2 == done.returncode
    assert "cannot be listened on" in done.stderr
    assert "--port" in done.stderr
