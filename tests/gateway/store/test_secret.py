"""The secret that keys are hashed with."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import keys
from gateway.config import LedgerConfig, Secret
from gateway.keys import NoSecret, OtherSecret
from gateway.store.secret import check, secret_of

CONFIGURED = Secret("of sixteen characters or more")


def ledger(directory: Path, url: str = "sqlite", secret: Secret | None = None) -> LedgerConfig:
    """A ledger in a directory."""
    return LedgerConfig(url=Secret(url), directory=str(directory), secret=secret)


@pytest.mark.parametrize("url", ["sqlite", "postgresql://h/d"])
def test_a_configured_one(tmp_path: Path, url: str) -> None:
    """Is taken as it is, and no file is made."""
    assert secret_of(ledger(tmp_path, url, CONFIGURED)) == b"of sixteen characters or more"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite", "sqlite:///somewhere/else.sqlite"])
def test_a_file_is_made_once(tmp_path: Path, url: str) -> None:
    """32 bytes that nobody else may read, in a directory that may not have been there; the next start finds them."""
    home = tmp_path / "a" / "b"
    found = secret_of(ledger(home, url))

    assert (len(found), secret_of(ledger(home, url))) == (32, found)
    assert [path.name for path in home.iterdir()] == ["secret"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (home / "secret", home)] == [0o600, 0o700]
    assert secret_of(ledger(tmp_path / "other", url)) != found


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    """Whoever is first, all have the same secret, and none saw half of one."""
    program = (
        "import sys; from pathlib import Path; from gateway.config import LedgerConfig; "
        "from gateway.store.secret import secret_of; sys.stdin.read(1); "
        f"print(secret_of(LedgerConfig(directory={str(tmp_path)!r})).hex())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    said = {process.communicate()[0].strip() for process in started}

    assert said == {(tmp_path / "secret").read_text().strip()}
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_who_comes_second_takes_the_first_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that appears while one's own is being written is the one that counts."""
    real = Path.hardlink_to

    def late(self: Path, target: Path) -> None:
        """Have somebody else's be there first."""
        self.write_text("ab" * 32)
        real(self, target)

    monkeypatch.setattr(Path, "hardlink_to", late)

    assert secret_of(ledger(tmp_path)) == b"\xab" * 32
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize("text", ["", "no hex", "ab" * 31, "ab" * 33, "ä" * 64])
def test_a_file_that_is_not_ours(tmp_path: Path, text: str) -> None:
    """Half a secret would make keys that the whole one does not know."""
    (tmp_path / "secret").write_text(text)
    with pytest.raises(NoSecret, match="secret is not the file that the gateway wrote") as caught:
        secret_of(ledger(tmp_path))

    assert "put it back from a copy" in caught.value.hint


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """Says which, why, and what else would do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NoSecret, match=r"/secret cannot be read or written: (Not a dir|File exists)") as caught:
        secret_of(ledger(tmp_path / "file"))

    assert "`ledger.secret`" in caught.value.hint


def test_several_nodes_have_no_file_between_them(tmp_path: Path) -> None:
    """With PostgreSQL it must be configured: the remedy says how."""
    with pytest.raises(NoSecret, match="nothing says what they hash keys with") as caught:
        secret_of(ledger(tmp_path, "postgresql://h/d"))

    assert "set `ledger.secret` to the same long random text on all of them" in caught.value.hint


def test_where_nothing_is_stored(tmp_path: Path) -> None:
    """There are no keys either."""
    with pytest.raises(NoSecret, match="keys are stored nowhere"):
        secret_of(ledger(tmp_path, "none"))


def test_the_secret_of_stored_keys(tmp_path: Path) -> None:
    """It is ours, or somebody is told."""
    ours = ledger(tmp_path, secret=CONFIGURED)
    check(ours, keys.check_of(CONFIGURED.reveal().encode()))

    with pytest.raises(OtherSecret):
        check(ours, keys.check_of(b"another"))
