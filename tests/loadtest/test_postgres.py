"""A database server that a run may stop and start, and of which nothing is left."""

import shutil
from pathlib import Path

import pytest

from loadtest import postgres

pytestmark = pytest.mark.usefixtures("postgres_server")     # where there is none, the tests of the services say so


def test_it_is_stopped_and_started_with_its_data() -> None:
    """At the same address; what was in it is still there; and it is gone in the end."""
    with postgres.running() as server:
        url = server.url
        server.rows("CREATE TABLE kept (number int)")
        server.rows("INSERT INTO kept VALUES (1), (2)")
        server.stop()
        with pytest.raises(RuntimeError, match="psql"):
            server.rows("SELECT 1")
        server.start()
        kept = server.rows("SELECT number FROM kept ORDER BY 1")
        folder = server._folder

    assert kept == ["1", "2"]
    assert server.url == url
    assert not folder.exists()


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Its last words are in the error."""
    with postgres.running() as server:
        server.stop()
        shutil.rmtree(server._folder / "data")
        with pytest.raises(RuntimeError, match="PostgreSQL ended"):
            server.start()


def test_a_machine_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is an error that can be told from others."""
    monkeypatch.setattr(shutil, "which", lambda _: str(tmp_path / "initdb"))
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))

    with pytest.raises(postgres.Missing), postgres.running():
        pass
