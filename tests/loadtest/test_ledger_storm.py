"""What may not be lost is asked for, and whatever does not hold makes the storm fail."""

import dataclasses
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loadtest import ledger_storm, postgres
from loadtest.arrivals import Asked, Down
from loadtest.ledger_storm import Options, Part

SMALL = Options(
    rate_per_s=20, calm_s=0.3, outage_s=0.5, full_s=0.5, kills=1, stores=("SQLite",), seed=1, parts=ledger_storm.PARTS
)


def part(*stored: str, **more: Any) -> Part:
    """A part of two requests, whose receipts must be there."""
    asked = [Asked(1, 2, "a"), Asked(2, 3, "b")]
    values: dict[str, Any] = {"noticed": True, "asked": asked, "summed": len(stored), "settled_s": 0.25}
    return Part("a part", stored=list(stored), **{**values, **more})


def cells(table: str, row: str) -> list[str]:
    """A row of a table, without its name."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {row}"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


@pytest.mark.parametrize("play", [ledger_storm.outage, ledger_storm.full, ledger_storm.kills])
def test_the_whole_storm_blows(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of each: whatever could be taken away here was, was noticed, and cost no request and no receipt."""
    monkeypatch.setattr(ledger_storm, "BETWEEN_S", (0.3, 0.3))
    played = play(SMALL)
    blown = [one for one in played if not one.left_out]

    assert [line for one in played for line in ledger_storm.failures(one)] == []
    assert all(len(one.due) > 5 and one.settled_s >= 0 for one in blown)
    assert all(bool(one.downs) != bool(one.trouble) for one in blown)


def test_a_good_part_is_held() -> None:
    """Its row has everything, and it fails nothing."""
    good = part("a", "b", "c", trouble=Down(2.5, 4))
    shown = ledger_storm.report([good])

    assert ledger_storm.failures(good) == []
    assert cells(shown, "a part") == ["2", "0", "0", "1000", "1000", "2", "0", "0", "0.2 s", "yes"]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (part("a"), "1 receipts lost, such as b"),
        (part("a", "b", summed=3), "1 receipts too many: 2 stored, 3 counted"),
        (part("a", "b", summed=1), "-1 receipts too many: 2 stored, 1 counted"),
        (part("a", "b", "b", summed=2), "1 receipts too many: 3 stored, 2 counted"),
        (part("a", "b", "b", summed=3), "1 receipts too many: 3 stored, 3 counted"),
        (part("a", "b", asked=[Asked(1, 2, "a", "status 500")]), "1 requests failed, such as: status 500"),
        (part("a", asked=[]), "nothing was asked"),
        (part("a", "b", noticed=False), "the gateway noticed nothing"),
    ],
)
def test_each_broken_promise_fails_the_storm(broken: Part, said: str) -> None:
    """One at a time."""
    assert ledger_storm.failures(broken) == [f"a part: {said}"]
    assert cells(ledger_storm.report([broken]), "a part")[-1] == "no"


def test_what_a_kill_may_cost() -> None:
    """The request that it cut, and the receipts of the last second before it."""
    asked = [Asked(1, 2, "a"), Asked(9, 9.5, "b"), Asked(9, 10.5, "", "cut off")]
    killed = part("a", asked=asked, downs=[Down(10, 11)])

    assert ledger_storm.failures(killed) == []
    assert cells(ledger_storm.report([killed]), "a part")[1:3] == ["1", "0"]


def test_a_part_that_is_left_out_says_so() -> None:
    """It neither holds nor fails."""
    left_out = Part("a part", left_out="mount: permission denied")

    assert ledger_storm.failures(left_out) == []
    assert cells(ledger_storm.report([left_out]), "a part")[-1] == "not run: mount: permission denied"


def test_without_the_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be mounted, and there is no PostgreSQL: those parts are left out."""
    def refused(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 32, "", "mount: permission denied.\n")

    def missing() -> Path:
        raise postgres.Missing("PostgreSQL is not installed")

    monkeypatch.setattr(subprocess, "run", refused)
    monkeypatch.setattr(postgres, "_programs", missing)

    assert [one.left_out for one in ledger_storm.full(SMALL)] == ["mount: permission denied."]
    assert [one.left_out for one in ledger_storm.outage(SMALL)] == ["PostgreSQL is not installed"]
    with_postgres = dataclasses.replace(SMALL, stores=("PostgreSQL",))
    assert [one.left_out for one in ledger_storm.kills(with_postgres)] == ["PostgreSQL is not installed"]


def test_a_machine_without_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as one where nothing may be mounted."""
    def missing(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("mount")

    monkeypatch.setattr(subprocess, "run", missing)

    with pytest.raises(PermissionError, match="mount"), ledger_storm.mounted(1):
        pass


def test_what_postgres_says() -> None:
    """Its rows; nothing where there is no table yet."""
    class Server(postgres.Postgres):
        def __init__(self) -> None:
            pass

        def rows(self, query: str) -> list[str]:
            if "receipts" in query:
                raise RuntimeError("no such table")
            return ["1"]

    assert ledger_storm.of_postgres(Server(), "SELECT 1") == ["1"]
    assert ledger_storm.of_postgres(Server(), "SELECT request_id FROM receipts") == []


def test_what_sqlite_says(tmp_path: Path) -> None:
    """Its rows; nothing where there is no store, or no table in it yet."""
    nothing = ledger_storm.of_sqlite(tmp_path, "SELECT 1")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as store:
        no_table = ledger_storm.of_sqlite(tmp_path, "SELECT request_id FROM receipts")
        store.execute("CREATE TABLE receipts (request_id)")
        store.execute("INSERT INTO receipts VALUES ('a'), ('b')")
    store.close()

    assert (nothing, no_table) == ([], [])
    assert ledger_storm.of_sqlite(tmp_path, "SELECT request_id FROM receipts") == ["a", "b"]


def test_the_command_exits_with_1_when_it_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make chaos-ledger` is a gate; it plays the parts that were asked for."""
    monkeypatch.setattr(ledger_storm, "outage", lambda _: [part("a", "b")])
    monkeypatch.setattr(ledger_storm, "kills", lambda _: [part("a")])
    stood = ledger_storm.main(["--parts", "outage"])
    fell = ledger_storm.main(["--parts", "outage", "kills"])
    shown = capsys.readouterr().out

    assert (stood, fell) == (0, 1)
    assert "every receipt is where it belongs" in shown
    assert "FAILED: a part: 1 receipts lost, such as b" in shown
