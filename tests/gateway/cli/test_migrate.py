"""`thriftgate migrate`."""

import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import migrate
from gateway.store import migrating
from tests.services import Database

CONFIG = """
upstreams: {{provider: {{base_url: "http://127.0.0.1:9/v1"}}}}
models: {{small: {{upstream: provider, name: gpt-4o-mini}}}}
ledger: {{url: "{url}", directory: "{directory}"}}
"""


def run(tmp_path: Path, url: str) -> tuple[int, str]:
    """Migrate the store at a URL; return the exit code and everything printed."""
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG.format(url=url, directory=tmp_path))
    result = CliRunner().invoke(migrate.command, ["-c", str(file)])
    return result.exit_code, result.output


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_store_is_made_and_then_left(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    """It says from which revision to which; the second time there is nothing to do."""
    url = kind
    if kind == "postgres":
        database: Database = request.getfixturevalue("postgres")
        url = database.url

    assert run(tmp_path, url) == (0, f"The store was empty; it is of revision {migrating.HEAD} now.\n")
    assert run(tmp_path, url) == (0, f"The store is of revision {migrating.HEAD} already: nothing to do.\n")


def test_an_older_store_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The revision that was there is named."""
    with monkeypatch.context() as patch:
        patch.setattr(migrating.upgrade, "__defaults__", ("0001",))
        run(tmp_path, "sqlite")

    assert run(tmp_path, "sqlite") == (0, f"The store was of revision 0001; it is of revision {migrating.HEAD} now.\n")


def test_a_newer_store_is_exit_1(tmp_path: Path) -> None:
    """A store that a newer version has changed is left alone."""
    run(tmp_path, "sqlite")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.close()
    code, said = run(tmp_path, "sqlite")

    assert code == 1
    assert "revision 0999" in said


def test_a_store_that_is_not_there_is_exit_1(tmp_path: Path) -> None:
    """Why is said, and the password is not."""
    code, said = run(tmp_path, "postgresql://user:marked-secret@127.0.0.1:1/x")

    assert code == 1
    assert "cannot be reached" in said
    assert "marked-secret" not in said


def test_no_ledger_is_no_store(tmp_path: Path) -> None:
    """Where receipts are kept nowhere, nothing is made."""
    assert run(tmp_path, "none") == (0, "ledger.url is none: there is no store.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.yaml"]
