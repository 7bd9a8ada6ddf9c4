"""PostgreSQL and Redis of the tests' own: on free ports, in directories that vanish, to be stopped, killed and started.

`postgres` and `redis` are shared by the tests of a process, and empty at each test's start: a new database, a flushed
store. `own_postgres` and `own_redis` belong to one test, which may do anything to them; what waits there blocks the
loop, so a test with a loop that must go on calls them in a thread. Where the programs are not installed such tests are
skipped, or fail when REQUIRE_SERVICES=1.
"""

import contextlib
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "password-of-the-tests-own-services"
BOUND_S = 30.0                  # how long a service may take to start or stop; reached only when it does not
PORTS = range(20_000, 32_000)   # below those that clients are given, so that nobody takes one while its service is down
QUICK = {                       # a test's data need not survive a power cut, but they do a kill
    "fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB",
    "max_connections": "300", "autovacuum": "off", "jit": "off", "unix_socket_directories": "", "max_wal_senders": "0",
    "wal_level": "minimal", "log_min_messages": "warning",
}


class Missing(Exception):
    """The service's programs are not on this machine."""


class Service:
    """A server process that is ours: only the process started here is ever signalled."""

    end = signal.SIGTERM

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="thriftgate-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it is, password and all."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, on the port it had, with the data it had, and return when it answers."""
        deadline = time.monotonic() + BOUND_S
        while not self._started(deadline):
            assert time.monotonic() < deadline, self.log

    def stop(self) -> None:
        """Have it end in order: its clients' connections are closed."""
        self._signal(self.end)

    def kill(self) -> None:
        """End it without a warning (kill -9)."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Have it keep its connections and answer nothing (of PostgreSQL: accept no new ones)."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def log(self) -> str:
        """What it has said."""
        return (self._directory / "log").read_text(errors="replace")

    def close(self) -> None:
        """End it, and remove what it kept."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._directory)

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _as(self) -> dict[str, Any]:
        return {}

    def _answers(self) -> bool:
        raise NotImplementedError

    def _started(self, deadline: float) -> bool:
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._as()
            )
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return True
            time.sleep(0.02)
        if self._process.poll() is None:
            return False
        self._process = None            # after a kill: the memory of the one before may not be free yet
        time.sleep(0.05)
        return False

    def _signal(self, number: int) -> None:
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(number)
        if number != signal.SIGKILL:
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(BOUND_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


class Postgres(Service):
    """A PostgreSQL server with one database to begin with."""

    end = signal.SIGINT         # does not wait for clients to leave

    def __init__(self) -> None:
        self._bin = _postgres_programs()
        super().__init__()
        self._data = self._directory / "data"
        if os.geteuid() == 0:
            shutil.chown(self._directory, "postgres", "postgres")
        made = ("--no-sync", "--auth=trust", "--username=thriftgate", "--encoding=UTF8", "--locale=C")
        self._run("initdb", *made, "-D", self._data)
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.writelines(f"{name} = '{value}'\n" for name, value in QUICK.items())

    @property
    def url(self) -> str:
        """Where its first database is."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Where a database is."""
        return f"postgresql://thriftgate:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def sql(self, text: str, database: str = "postgres") -> str:
        """Run a statement, and return what it prints: columns with | between them, a line a row."""
        return self._run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", text, self.url_of(database)).strip()

    def _command(self) -> list[str]:
        return [str(self._bin / "postgres"), "-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port)]

    def _as(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        user = pwd.getpwnam("postgres")         # PostgreSQL refuses to run as root
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": self._directory}

    def _answers(self) -> bool:
        asked = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def _run(self, program: str, *arguments: str | Path) -> str:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(self._bin / program), *map(str, arguments)], capture_output=True, text=True, check=False,
            env={"LC_ALL": "C"}, **self._as(),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


class Redis(Service):
    """A Redis server that keeps nothing when it ends."""

    def __init__(self) -> None:
        self._program = shutil.which("redis-server") or shutil.which("valkey-server")
        if self._program is None:
            raise Missing("no redis-server is installed")
        super().__init__()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def flush(self) -> None:
        """Forget everything."""
        assert self._says("FLUSHALL") == b"+OK"

    def _command(self) -> list[str]:
        settings = {
            "--bind": "127.0.0.1", "--port": str(self.port), "--requirepass": PASSWORD, "--save": "",
            "--appendonly": "no", "--dir": str(self._directory),
        }
        return [str(self._program), *(part for setting in settings.items() for part in setting)]

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self._says("PING") == b"+PONG"
        return False

    def _says(self, command: str) -> bytes:
        address = ("127.0.0.1", self.port)
        with socket.create_connection(address, BOUND_S) as connection, connection.makefile("rb") as said:
            connection.sendall(f"AUTH {PASSWORD}\r\n{command}\r\n".encode())
            assert said.readline().strip() == b"+OK"
            return said.readline().strip()


class Database:
    """A database of the shared PostgreSQL server."""

    def __init__(self, server: Postgres, name: str) -> None:
        self.url = server.url_of(name)
        self._server = server
        self._name = name

    def sql(self, text: str) -> str:
        """Run a statement, and return what it prints: columns with | between them, a line a row."""
        return self._server.sql(text, self._name)


def free_port() -> int:
    """Return a port that nobody listens on."""
    drawn = random.Random(uuid.uuid4().int)
    while True:
        port = drawn.choice(PORTS)
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


def _postgres_programs() -> Path:
    """Return the folder of PostgreSQL's programs: Debian keeps most of them off the PATH."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0)
    )
    on_path = [Path(found).parent for found in [shutil.which("initdb")] if found]
    for folder in [*on_path, *reversed(installed)]:
        if all((folder / program).exists() for program in ("initdb", "postgres", "pg_isready", "psql")):
            return folder
    raise Missing("no PostgreSQL server is installed")


@contextlib.contextmanager
def running(kind: type[Service]) -> Iterator[Any]:
    """Run a service of this kind. Without its programs the test is skipped, or fails when REQUIRE_SERVICES=1."""
    try:
        service = kind()
    except Missing as missing:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The PostgreSQL server that the tests of this process share."""
    with running(Postgres) as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Database]:
    """A new database of the shared server: `.url` and `.sql(text)`."""
    name = f"test_{uuid.uuid4().hex}"
    postgres_server.sql(f"CREATE DATABASE {name}")
    yield Database(postgres_server, name)
    postgres_server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of the test's own: `.url`, `.sql(text)`, `stop()`, `kill()`, `start()`."""
    with running(Postgres) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """The Redis server that the tests of this process share."""
    with running(Redis) as server:
        yield server


@pytest.fixture
def redis(redis_server: Redis) -> Redis:
    """The shared Redis server, empty: `.url`."""
    redis_server.flush()
    return redis_server


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """A Redis server of the test's own: `.url`, `stop()`, `kill()`, `start()`, `freeze()`, `thaw()`."""
    with running(Redis) as server:
        yield server
