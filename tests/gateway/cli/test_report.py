"""`thriftgate report`."""

import asyncio
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from gateway import config
from gateway.cli import main
from gateway.cli.report import _print
from gateway.report import made
from gateway.store import migrating, opening, receipts
from gateway.store.schema import DAY_MS, HOUR_MS, SUMS
from tests.gateway.store.conftest import receipt

MIDNIGHT = 1_795_824_000_000                # 2026-11-28, UTC
NOW_MS = MIDNIGHT + 13 * HOUR_MS + 1_234
NANOS = 1_000_000_000
CONFIG = """
upstreams: {{provider: {{base_url: "http://127.0.0.1:9/v1"}}}}
models: {{small: {{upstream: provider, name: gpt-4o-mini}}}}
ledger: {{url: "{url}", directory: "{directory}", hours_days: 3, days_days: 90}}
"""


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one moment, on a terminal that is as wide as nobody knows."""
    monkeypatch.setattr("gateway.cli.report.time.time_ns", lambda: NOW_MS * 1_000_000)


class Reporting:
    """A ledger, and the command."""

    def __init__(self, directory: Path, url: str) -> None:
        self._file = directory / "gateway.yaml"
        self._file.write_text(CONFIG.format(url=url, directory=directory))

    def write(self, *rows: dict[str, Any]) -> None:
        """Put receipts into the ledger."""
        async def written() -> None:
            """Do so."""
            engine = opening.engine(config.load(self._file).ledger)
            await migrating.upgrade(engine)
            await receipts.save(engine, "one", "one", rows, settle=False)
            await engine.dispose()

        asyncio.run(written())

    def __call__(self, *options: str) -> Result:
        """Report."""
        return CliRunner().invoke(main, ["report", "-c", str(self._file), *options])


@pytest.fixture(params=["sqlite", "postgres"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Reporting:
    """A ledger of either kind."""
    url = "sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres").url
    return Reporting(tmp_path, url)


@pytest.fixture
def report(tmp_path: Path) -> Reporting:
    """A ledger."""
    return Reporting(tmp_path, "sqlite")


def story() -> Iterator[dict[str, Any]]:
    """Two models' days that add up to what is told of them."""
    for number in range(120):
        cheap = number % 4 != 0
        yield receipt(
            number, at_ms=MIDNIGHT - number % 10 * DAY_MS + number, model="cheap" if cheap else "large",
            caller="=shop" if cheap else "app",
            cost_usd_nanos=(2 if cheap else 10) * NANOS, premium_usd_nanos=10 * NANOS,
            premium_low_nanos=(9 if cheap else 10) * NANOS, premium_high_nanos=(11 if cheap else 10) * NANOS,
        )


SAID = (
    "$1,200.00 → $480.00: saved $720.00 (60.0 %), 90 % interval $630.00 to $810.00, on 120 requests; "
    "3 requests of unknown cost are not in it.\n"
)


def test_the_first_line_says_it_all(both: Reporting) -> None:
    """From the ledger alone, on either store: a sentence, and a row for each model with a total."""
    both.write(*story(), *(receipt(200 + number, cost_usd_nanos=None, at_ms=MIDNIGHT) for number in range(3)))
    done = both("--by", "model")
    lines = [line.split() for line in done.output.splitlines()[1:] if line.strip(" ─")]

    assert done.exit_code == 0, done.output
    assert done.output.startswith(SAID)
    assert [[line[0], line[3]] for line in lines] == [
        ["model", "spent"], ["large", "$300.00"], ["cheap", "$180.00"], ["total", "$480.00"]
    ]


COLUMNS = ("day", "requests", "failed", "tokens", "spent", "premium", "low", "high", "saved", "share")


@pytest.mark.parametrize(
    ("width", "spared"),
    [
        (200, set()), (100, {"tokens"}), (80, {"tokens", "low", "high"}), (68, {"tokens", "low", "high", "failed"}),
    ],
)
def test_a_narrow_terminal_has_fewer_columns(width: int, spared: set[str]) -> None:
    """No figure is broken in two: what the sentence or another column says is left out first."""
    added = dict.fromkeys(SUMS, 0) | {
        "requests": 4_000, "compared": 4_000, "failed": 3, "input_tokens": 8_900_000, "cost_usd_nanos": 480 * NANOS,
        "compared_cost_nanos": 480 * NANOS, "premium_usd_nanos": 1_200 * NANOS,
        "premium_low_nanos": 1_130 * NANOS, "premium_high_nanos": 1_270 * NANOS,
    }
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    _print(made("day", [(MIDNIGHT, added), (MIDNIGHT + DAY_MS, added)]), console)
    assert isinstance(console.file, io.StringIO)
    text = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())
    head = text.split("─")[0].split()

    assert {*COLUMNS} - spared == {*head}
    assert max(map(len, text.splitlines())) <= width
    assert [line.split()[0] for line in text.splitlines()[-5:] if line.strip()] == ["2026-11-28", "2026-11-29", "total"]


def test_by_day_unless_told_otherwise(report: Reporting) -> None:
    """The days of the last thirty, the earliest first."""
    report.write(*story(), receipt(500, at_ms=MIDNIGHT - 30 * DAY_MS))
    days = [line.split()[0] for line in report().output.splitlines() if line.strip().startswith("2026-")]

    assert days == [f"2026-11-{day}" for day in range(19, 29)]


def test_csv_is_rows_and_nothing_else(report: Reporting) -> None:
    """A spreadsheet finds its columns in the first line, no name is a formula, and the sentence is for eyes."""
    report.write(*story())
    done = report("--by", "key", "--format", "csv")
    rows = {row["key"]: row for row in csv.DictReader(io.StringIO(done.stdout))}

    assert sorted(rows) == ["'=shop", "app"]
    assert rows["'=shop"]["saved_nanos"] == str(720 * NANOS)
    assert rows["'=shop"]["saved_usd"] == "720.000000000"
    assert done.stderr.startswith("$1,200.00 → $480.00")


def test_json_says_what_was_asked(report: Reporting) -> None:
    """Exact integers, the filters, the sentence, the rows and their total."""
    report.write(*story())
    done = report("--by", "hour", "--format", "json", "--since", "2d", "--until", "2026-11-28", "--key", "=shop")
    told = orjson.loads(done.stdout)

    assert (told["by"], told["key"], told["owner"], told["route"]) == ("hour", "=shop", None, None)
    assert (told["since"], told["until"]) == ("2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z")
    assert [row["hour"] for row in told["rows"]] == ["2026-11-27T00:00Z"]
    assert told["total"]["saved_usd_nanos"] == told["rows"][0]["saved_usd_nanos"] > 0
    assert told["summary"].startswith("$")


@pytest.mark.parametrize(
    ("options", "requests"),
    [
        (["--owner", "sales"], 120), (["--owner", "x"], 0), (["--route", "auto"], 120), (["--key", "app"], 30),
        (["--since", "2026-11-28"], 12), (["--since", "1h"], 0), (["--since", "2026-11-28T00:00"], 12),
    ],
)
def test_filters(report: Reporting, options: list[str], requests: int) -> None:
    """Only what one asks for."""
    report.write(*story())
    told = orjson.loads(report("--format", "json", *options).stdout)

    assert requests == told["total"]["requests"]


def test_an_empty_ledger_has_nothing_to_compare(report: Reporting) -> None:
    """One sentence, and no table of nothing."""
    assert report().output == "Nothing to compare in 0 requests.\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--since", "soon"], "'soon' is no time"),
        (["--since", "1d", "--until", "2026-11-01"], "before it begins"),
        (["--by", "hour"], "hours are kept for 3 days"),
        (["--by", "colour"], "'colour' is not one of"),
        (["--format", "xml"], "'xml' is not one of"),
    ],
)
def test_what_cannot_be_asked_is_exit_2(report: Reporting, options: list[str], said: str) -> None:
    """It says what is right."""
    done = report(*options)

    assert done.exit_code == 2
    assert said in done.output


def test_no_ledger_is_exit_2(tmp_path: Path) -> None:
    """Where receipts are kept nowhere, there is nothing to report."""
    done = Reporting(tmp_path, "none")()

    assert done.exit_code == 2
    assert "ledger.url is none" in done.output


def test_a_store_that_is_not_there_is_exit_1(tmp_path: Path) -> None:
    """Why is said, and the password is not."""
    done = Reporting(tmp_path, "postgresql://user:marked-secret@127.0.0.1:1/x")()

    assert done.exit_code == 1
    assert "cannot be reached" in done.output
    assert "marked-secret" not in done.output
