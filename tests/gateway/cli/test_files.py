"""The configuration a command was given."""

from pathlib import Path

import pytest

from gateway.cli import files
from gateway.config import PROVIDERS


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without provider keys."""
    for provider in PROVIDERS.values():
        monkeypatch.delenv(provider.variable, raising=False)


def test_without_a_file_the_environment_decides(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider's key in the environment is a configuration."""
    monkeypatch.setenv("OPENAI_API_KEY", "marked-secret")

    assert ["openai"] == list(files.load(None).upstreams)


def test_with_neither_the_demo_is_named(bare: None, capsys: pytest.CaptureFixture[str]) -> None:
    """No file and no key: exit 2 with a message that names `thriftgate demo`."""
    with pytest.raises(SystemExit) as stopped:
        files.load(None)

    assert 2 == stopped.value.code
    assert "thriftgate demo" in capsys.readouterr().err


def test_faults_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad file: exit 2, with the file, the number of faults and each of them."""
    file = tmp_path / "bad.yaml"
    file.write_text("upstreams: {}\n")
    with pytest.raises(SystemExit) as stopped:
        files.load(file)

    said = capsys.readouterr().err
    assert 2 == stopped.value.code
    assert "bad.yaml: 2 faults" in said
    assert "upstreams: expected" in said
    assert "models: expected" in said
