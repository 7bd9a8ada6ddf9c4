"""A PostgreSQL server of a run's own: on the loopback, in a directory that goes with it, to be stopped and started.

It may lose its data with the machine (no fsync), but with nothing less.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loadtest.processes import wait_until

_USER = "thriftgate"
_SYSTEM_USER = "postgres"  # whom it runs as when we are root, which it refuses to be
_BOUND_S = 30.0
_SETTINGS = ("fsync=off", "autovacuum=off", "shared_buffers=16MB", "unix_socket_directories=")


class Missing(Exception):
    """There is no PostgreSQL on this machine."""


class Postgres:
    """The server. Use `running`."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self._port = _free_port()
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(folder, _SYSTEM_USER, _SYSTEM_USER)
            self._as = {"user": _SYSTEM_USER, "group": _SYSTEM_USER, "extra_groups": []}
        self._ask("initdb", "-D", str(folder / "data"), "-U", _USER, "-A", "trust", "-N", "-E", "UTF8", "--locale=C")

    @property
    def url(self) -> str:
        """Its one database."""
        return f"postgresql://{_USER}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it, on the port it had, and return when it answers."""
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        command += ["-h", "127.0.0.1", "-p", str(self._port), *(part for one in _SETTINGS for part in ("-c", one))]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **self._as)
        wait_until(self._answers, _BOUND_S, every_s=0.05)

    def stop(self) -> None:
        """Have it throw out its clients and end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_BOUND_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def rows(self, query: str) -> list[str]:
        """What a query gives, a line a row. Raises RuntimeError."""
        return self._ask("psql", "-qAtX", "-c", query, self.url).splitlines()

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended: {(self._folder / 'log').read_text()[-2000:]}")
        asked = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        return subprocess.run(asked, check=False).returncode == 0

    def _ask(self, program: str, *arguments: str) -> str:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self._folder, **self._as)
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr[-2000:]}")
        return str(done.stdout)


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """A server that answers, for as long as the block lasts. Raises Missing."""
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="thriftgate-") as folder:
        server = Postgres(Path(folder), programs)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _programs() -> Path:
    """Where they are: Debian keeps them apart from the others, by version."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    places += sorted(debian, key=lambda place: float(place.parent.name), reverse=True)
    for place in places:
        if all((place / program).exists() for program in ("initdb", "postgres", "pg_isready", "psql")):
            return place
    raise Missing("PostgreSQL is not installed")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
