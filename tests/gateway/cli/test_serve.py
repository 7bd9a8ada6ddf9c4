"""`thriftgate serve`: what it refuses to start with. (That it serves and stops is shown in tests/path.)"""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway import logs
from gateway.cli.serve import command

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
    assert "hint: add a `keys:` section, or listen on 127.0.0.1" in result.output


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
