"""Starts the processes of a run, waits until they answer, reads what they cost, and ends them by their id.

Everything is a context manager: whatever happens in between, what was started is stopped. Output goes to a file, never
to a pipe that could fill up and stall the process under test.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

CONFIG = Path(__file__).with_name("gateway.yaml")
_READY_S = 60.0
_STOP_S = 15.0


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores the server under test and the load (mock and driver) run on. The same ones = not pinned."""

    server: frozenset[int]
    load: frozenset[int]

    @property
    def pinned(self) -> bool:
        """Whether the two are apart."""
        return not self.server & self.load

    def __str__(self) -> str:
        if not self.pinned:
            return "not pinned: this machine lends one core only, server and load share it"
        return f"server on core {_listed(self.server)}, mock and driver on core {_listed(self.load)}"


@dataclass(frozen=True, slots=True)
class Server:
    """A process that was started and answers. `base_url` ends in /v1; `ready_s` counts from its start to ready."""

    name: str
    pid: int
    base_url: str
    output: Path  # its standard output
    ready_s: float

    def lines(self) -> list[str]:
        """What it has printed so far."""
        return self.output.read_text(errors="replace").splitlines()

    def cpu_ns(self) -> int:
        """CPU time of all its threads, from the scheduler, in nanoseconds."""
        total = 0
        for schedstat in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                total += int(schedstat.read_text().split()[0])
        return total

    def path_ns(self) -> int:
        """CPU time of its first thread, which runs the event loop, in nanoseconds."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/schedstat").read_text().split()[0])

    def memory_mb(self) -> tuple[float, float]:
        """Resident and proportional set size, in MB of 10^6 bytes."""
        kib = dict(re.findall(r"^(Rss|Pss):\s+(\d+)", Path(f"/proc/{self.pid}/smaps_rollup").read_text(), re.MULTILINE))
        return int(kib["Rss"]) * 1024 / 1e6, int(kib["Pss"]) * 1024 / 1e6


def cores() -> Cores:
    """One core for the server, the next for the load; shared where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(frozenset(usable[:1]), frozenset(usable[1:2] or usable[:1]))


@contextlib.contextmanager
def pinned(to: frozenset[int] | None) -> Iterator[None]:
    """Run this process, and what it starts meanwhile, on these cores only."""
    before = os.sched_getaffinity(0)
    if to:
        os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def mock(*arguments: str, on: frozenset[int] | None = None) -> Iterator[Server]:
    """The mock provider, with command line dials such as "--ttft-ms", "50"."""
    command = [sys.executable, "-m", "loadtest.mock_upstream", "--port", "0", *arguments]
    with _started("mock", command, "/v1/models", on=on) as server:
        yield server


@contextlib.contextmanager
def gateway(
    upstream: str,
    *,
    config: Path = CONFIG,
    more: str = "",
    on: frozenset[int] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Thriftgate in front of the provider at `upstream` (a base URL that ends in /v1), or those that `env` names.

    `more`: sections besides those of the file.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(f"{config.read_text()}\n{more}\n")
        file.flush()
        command = [sys.executable, "-m", "gateway", "serve", "-c", file.name, "--port", "0"]
        with _started("gateway", command, "/readyz", on=on, env={"MOCK_URL": upstream, **(env or {})}) as server:
            yield server


@contextlib.contextmanager
def relay(upstream: str, *, on: frozenset[int] | None = None) -> Iterator[Server]:
    """The bare aiohttp relay in front of the provider at `upstream`."""
    command = [sys.executable, "-m", "loadtest.bare_relay", "--upstream", upstream, "--port", "0"]
    with _started("bare relay", command, "/readyz", on=on) as server:
        yield server


def wait_until(reached: Callable[[], bool], timeout_s: float, *, every_s: float = 0.005) -> None:
    """Ask until it is so. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not reached within {timeout_s:g} s")
        time.sleep(every_s)


def answers(port: int, path: str) -> bool:
    """Whether GET on the loopback says 200. Port 0 = not yet known."""
    if not port:
        return False
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def receipts(server: Server) -> list[dict[str, Any]]:
    """The receipts that the gateway has printed: the JSON lines whose event is "receipt"."""
    found: list[dict[str, Any]] = []
    for line in server.lines():
        with contextlib.suppress(orjson.JSONDecodeError):
            value = orjson.loads(line)
            if isinstance(value, dict) and value.get("event") == "receipt":
                found.append(value)
    return found


@contextlib.contextmanager
def _started(
    name: str,
    command: Sequence[str],
    ready_path: str,
    *,
    on: frozenset[int] | None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="thriftgate-") as folder:
        output, errors = Path(folder, "stdout"), Path(folder, "stderr")
        begun = time.monotonic()
        with pinned(on), output.open("wb") as out, errors.open("wb") as err:
            own = {**os.environ, "THRIFTGATE_DATA": folder, **(env or {})}
            process = subprocess.Popen(command, stdout=out, stderr=err, env=own)
        try:
            wait_until(lambda: process.poll() is not None or answers(_port(output), ready_path), _READY_S)
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}: {errors.read_text()[-2000:]}")
            url = f"http://127.0.0.1:{_port(output)}/v1"
            yield Server(name, process.pid, url, output, time.monotonic() - begun)
        finally:
            _stop(process)


def _port(output: Path) -> int:
    """The port that a server of ours says it listens on; 0 = it has not said so yet.

    They choose it themselves (`--port 0`): a port that is picked for them may be gone by the time they take it.
    """
    said = re.search(r"on http://127\.0\.0\.1:(\d+)/v1\n|\"port\":\s?(\d+)[,}].*\n", output.read_text(errors="replace"))
    return int(said[1] or said[2]) if said else 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, and end it if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _listed(numbers: frozenset[int]) -> str:
    return ",".join(map(str, sorted(numbers)))
