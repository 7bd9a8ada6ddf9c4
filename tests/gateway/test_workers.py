"""Several processes on one port, as an operator runs them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from gateway import config, workers

CONFIG = """
upstreams: {acme: {base_url: "http://127.0.0.1:9/v1"}}
models: {small: {upstream: acme}}
server: {drain_s: 1}
"""
BOUND_S = 60.0       # how long anything is waited for; reached only by a test that fails


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children(pid: int) -> list[int]:
    """The processes that a process started and that still run."""
    started = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in started.read_text().split()] if started.exists() else []


def running(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def port() -> int:
    """Where this test's gateway listens."""
    return free_port()


@pytest.fixture
def gateway(port: int, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`serve --workers 2`, ended after the test with everything it started."""
    file, log = tmp_path / "gateway.yaml", tmp_path / "log"
    file.write_text(CONFIG)
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(file), "--port", str(port), "--workers", "2"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        yield process
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)
        process.kill()


async def ready(port: int) -> bool:
    """Whether a new connection finds a gateway that is ready."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=BOUND_S)) as session,
            session.get(f"http://127.0.0.1:{port}/readyz") as response,
        ):
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def test_two_serve_on_one_port_and_stop(gateway: subprocess.Popen[bytes], port: int) -> None:
    """Each of two processes answers while the other stands still; SIGTERM ends all of them with 0."""
    until = time.monotonic() + BOUND_S
    while not await ready(port):
        assert gateway.poll() is None
        assert time.monotonic() < until
    processes = children(gateway.pid)
    answered = []
    for standing in processes:
        os.kill(standing, signal.SIGSTOP)
        answered.append(await ready(port))
        os.kill(standing, signal.SIGCONT)
    gateway.terminate()
    code = gateway.wait(BOUND_S)

    assert answered == [True, True]
    assert code == 0
    assert not [process for process in processes if running(process)]
    assert not await ready(port)


class TestReadingAgain:
    """What the first process does of a SIGHUP before its workers do the rest; tests/path/test_reload.py has that."""

    def test_a_good_file(self) -> None:
        """Workers are given as long as its drain takes."""
        before, after = (config.parse(CONFIG.replace("drain_s: 1", f"drain_s: {s}"), {}) for s in (1, 7))
        several = workers._Several(before, {}, lambda: after)
        patience = several.cfg.graceful_timeout

        assert several.read_again()
        assert (patience, several.cfg.graceful_timeout, several._config) == (6, 12, after)

    def test_a_bad_one(self) -> None:
        """Nothing changes, and the workers need not know."""
        before = config.parse(CONFIG, {})
        several = workers._Several(before, {}, lambda: None)

        assert not several.read_again()
        assert (several.cfg.graceful_timeout, several._config) == (6, before)
