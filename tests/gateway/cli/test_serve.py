"""`thriftgate serve`: what it refuses to start with. (That it serves and stops is shown in tests/path.)"""

import io
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from click.testing import CliRunner, Result

from gateway import config, keys, logs
from gateway.cli.serve import _again, _check_closed, command
from gateway.config import Config, GrantConfig
from gateway.faults import ConfigError
from gateway.store import keys as store
from gateway.store.once import once
from gateway.store.secret import secret_of
from tests.services import Database

CONFIG = """
upstreams:
  provider: {base_url: "http://127.0.0.1:9/v1"}
models:
  small: {upstream: provider}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration without keys; the process's log stays as it is."""
    monkeypatch.setattr(logs, "configure", lambda: None)
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    return path


def run(file: Path, *arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, ["-c", str(file), *arguments])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "gateway.example"])
def test_an_open_gateway_stays_at_home(file: Path, host: str) -> None:
    """Without keys only a loopback address is listened on: elsewhere anybody could spend the operator's money."""
    result = run(file, "--host", host)

    assert 2 == result.exit_code
    assert "no `keys` are configured" in result.output
    hint = "hint: add a `keys:` section, or make one with `thriftgate keys create`, or listen on 127.0.0.1"
    assert hint in result.output


class TestKeysElsewhere:
    """An address that others reach, and no `keys` in the configuration."""

    @staticmethod
    def parse(directory: Path, more: str = "", url: str = "sqlite", ledger: str = "") -> Config:
        """A configuration with a store."""
        return config.parse(f'{CONFIG}\nledger: {{directory: "{directory}", url: "{url}", {ledger}}}\n{more}', {})

    @staticmethod
    def make(read: Config, name: str) -> None:
        """Make a key in its store."""
        kept = keys.kept(secret_of(read.ledger), keys.text_of(b"0" * 32))
        made = keys.new(name, GrantConfig(), kept, 1_000)
        once(read.ledger, lambda engine: store.create(engine, made, kept.check))

    def test_a_key_of_the_store_will_do(self, tmp_path: Path) -> None:
        """It may start, and is open to nobody else."""
        read = self.parse(tmp_path)
        self.make(read, "web")

        assert not _check_closed(read, "0.0.0.0")

    def test_so_will_an_admin(self, tmp_path: Path) -> None:
        """Who can make keys; until then nobody enters."""
        assert not _check_closed(self.parse(tmp_path, "admin: {key: sixteen-characters}"), "0.0.0.0")

    def test_at_home_nothing_is_looked_at(self, tmp_path: Path) -> None:
        """It may be open, as long as there are no keys; the store may be away."""
        assert _check_closed(self.parse(tmp_path, url="postgresql://me@127.0.0.1:1/none"), "localhost")
        assert _check_closed(self.parse(tmp_path, "keys: {app: {secret: tg-app}}"), "::1")
        assert list(tmp_path.iterdir()) == []

    def test_a_revoked_one_will_not(self, tmp_path: Path) -> None:
        """Nobody could enter."""
        read = self.parse(tmp_path)
        self.make(read, "web")
        once(read.ledger, lambda engine: store.revoke(engine, "web", 2_000))

        with pytest.raises(ConfigError, match="no `keys` are configured: anybody could spend"):
            _check_closed(read, "0.0.0.0")

    @pytest.mark.parametrize(
        ("url", "ledger", "said"),
        [
            ("none", "", "no `keys` are configured: anybody could spend"),
            ("postgresql://me:hidden@127.0.0.1:1/none", "", "those of the store cannot be used: the store"),
            ("sqlite", "secret: another-secret-of-ours", "were made with another secret than this gateway's"),
        ],
        ids=["no store", "away", "another secret"],
    )
    def test_keys_that_cannot_be_used(self, tmp_path: Path, url: str, ledger: str, said: str) -> None:
        """It does not start: whoever waits for the gateway is told what is missing, without an address's password."""
        self.make(self.parse(tmp_path), "web")
        with pytest.raises(ConfigError) as caught:
            _check_closed(self.parse(tmp_path, url=url, ledger=ledger), "0.0.0.0")

        assert said in str(caught.value)
        assert "hidden" not in str(caught.value)

    def test_a_store_without_its_secret(self, tmp_path: Path, postgres: Database) -> None:
        """PostgreSQL has keys, and nothing says what they were hashed with: the remedy is named."""
        self.make(self.parse(tmp_path, url=postgres.url, ledger="secret: sixteen-characters"), "web")
        with pytest.raises(ConfigError, match="nothing says what they hash keys with"):
            _check_closed(self.parse(tmp_path, url=postgres.url), "0.0.0.0")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_taken_port_is_said(file: Path, host: str) -> None:
    """A port that somebody else listens on: exit 2, with the way out. (To come so far, loopback must be allowed.)"""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run(file, "--host", host, "--port", str(taken.getsockname()[1]))

    assert 2 == result.exit_code
    assert "cannot be listened on" in result.output
    assert "hint: choose another with --port" in result.output


def test_a_bad_configuration_is_refused(file: Path) -> None:
    """A fault in the file: exit 2, with its path."""
    file.write_text(CONFIG + "routs: {}\n")
    result = run(file)

    assert 2 == result.exit_code
    assert "routs: is not a section" in result.output


@pytest.fixture
def log() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What is logged, line by line."""
    stream = io.BytesIO()
    logs.configure(stream)
    yield lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


Logged = Callable[[], list[dict[str, Any]]]


class TestReadingAgain:
    """What a SIGHUP finds: a configuration, or None and a line of the log."""

    def test_a_good_file(self, log: Logged, tmp_path: Path) -> None:
        """It is read as it is now, and nothing is said."""
        path = tmp_path / "gateway.yaml"
        path.write_text(CONFIG.replace("small", "renamed"))
        found = _again(path, "127.0.0.1")

        assert found is not None
        assert (list(found.models), log()) == (["renamed"], [])

    def test_no_file(self, log: Logged) -> None:
        """What came from the environment is as it was."""
        assert _again(None, "127.0.0.1") is None
        assert [(line["event"], line["level"]) for line in log()] == [("not reloaded", "warning")]
        assert "no file to read again" in log()[0]["faults"][0]

    @pytest.mark.parametrize(
        ("more", "host", "fault"),
        [
            ("routs: {}\n", "127.0.0.1", "routs: is not a section"),
            ("routes: {a: {ladder: [small], rules: [{when: {task: cod}, use: small}]}}", "127.0.0.1", "no task 'cod'"),
            ("", "0.0.0.0", "0.0.0.0: can be reached by others"),
            ("classifier: {bundle: /nowhere/at/all}", "127.0.0.1", "classifier.bundle: /nowhere/at/all"),
            ("keys: 2026-99-99", "127.0.0.1", ""),
        ],
        ids=["setting", "task", "keys withdrawn from an open gateway", "classifier", "unforeseen"],
    )
    def test_a_bad_file(self, log: Logged, tmp_path: Path, more: str, host: str, fault: str) -> None:
        """One line with the file and every fault, also for what would be none at the start, or none of the file's."""
        path = tmp_path / "gateway.yaml"
        path.write_text(CONFIG + more)

        assert _again(path, host) is None
        (line,) = log()
        assert (line["event"], line["level"], line["file"]) == ("not reloaded", "error", str(path))
        assert fault in "".join(line.get("faults", ()))
