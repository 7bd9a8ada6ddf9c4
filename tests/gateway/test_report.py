"""From sums to something that people and programs read."""

import csv
import io
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gateway import report
from gateway.report import Bounds, Figures
from gateway.store.schema import DAY_MS, HOUR_MS, SUMS

MIDNIGHT = 1_795_824_000_000                # 2026-11-28, UTC
NOW_MS = MIDNIGHT + 13 * HOUR_MS + 1_234
STORY = Figures(
    "total", requests=41_203, compared=41_200, unpriced=3, spent_nanos=480 * report.NANOS, net_nanos=480 * report.NANOS,
    premium_nanos=1_200 * report.NANOS, low_nanos=1_130_120_000_000, high_nanos=1_270_400_000_000,
)


def sums(**more: int) -> dict[str, int]:
    """Sums as the store has them."""
    return {**dict.fromkeys(SUMS, 0), **more}


def drawn(*groups: tuple[str | int, dict[str, int]], by: str = "key") -> str:
    """The table on a terminal."""
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(report.table(report.made(by, groups)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_savings_are_a_sentence() -> None:
    """What it would have cost, what it cost, what was saved, how sure that is, and what is not in it."""
    assert report.sentence(STORY) == (
        "$1,200.00 → $480.00: saved $720.00 (60.0 %), 90 % interval $650.12 to $790.40, on 41,200 requests; "
        "3 requests of unknown cost are not in it."
    )


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ({"unpriced": 0}, "on 41,200 requests."),
        ({"unpriced": 1}, "on 41,200 requests; 1 request of unknown cost is not in it."),
        ({"unpriced": 0, "compared": 1}, "on 1 request."),
        ({"unpriced": 0, "spent_nanos": 485_500_000_000},
         "on 41,200 requests; $5.50 spent is not in it where there is nothing to compare with."),
        ({"spent_nanos": 485_500_000_000},
         "3 requests of unknown cost are not in it; nor is $5.50 spent where there is nothing to compare with."),
    ],
)
def test_what_is_not_in_it_is_said(more: dict[str, Any], end: str) -> None:
    """Requests of unknown cost are counted, and money that nothing compares with is named."""
    assert report.sentence(STORY._replace(**more)).endswith(end)


def test_a_loss_is_shown_as_one() -> None:
    """Savings are signed: where routing cost more than it saved, it says so."""
    lost = STORY._replace(net_nanos=1_300 * report.NANOS, spent_nanos=1_300 * report.NANOS, unpriced=0)

    assert report.sentence(lost) == (
        "$1,200.00 → $1,300.00: saved -$100.00 (-8.3 %), 90 % interval -$169.88 to -$29.60, on 41,200 requests."
    )


def test_what_was_spent_for_nothing_is_a_loss() -> None:
    """Requests that nobody got an answer to have cost something and saved nothing."""
    wasted = Figures("total", requests=2, failed=2, spent_nanos=5_000_000, net_nanos=5_000_000)

    assert report.sentence(wasted) == (
        "$0.000000 → $0.005000: saved -$0.005000, 90 % interval -$0.005000 to -$0.005000, on 0 requests."
    )


@pytest.mark.parametrize(
    ("total", "said"),
    [
        (Figures("total"), "Nothing to compare in 0 requests."),
        (Figures("total", requests=1, spent_nanos=2_000_000_000),
         "Nothing to compare in 1 request; $2.0000 spent is not in it where there is nothing to compare with."),
        (Figures("total", requests=2, unpriced=2),
         "Nothing to compare in 2 requests; 2 requests of unknown cost are not in it."),
    ],
)
def test_nothing_to_compare_is_no_saving(total: Figures, said: str) -> None:
    """Without a counterfactual nothing is said to be saved."""
    assert said == report.sentence(total)
    assert total.saved_part(1_000) is None


def test_small_amounts_are_not_rounded_away() -> None:
    """A demo's cents are seen."""
    small = Figures("total", requests=2, compared=2, spent_nanos=1_234_567, net_nanos=1_234_567,
                    premium_nanos=9_000_000, low_nanos=9_000_000, high_nanos=9_000_000)

    assert report.sentence(small).startswith("$0.009000 → $0.001235: saved $0.007765 (86.3 %)")


def test_rows_are_in_order() -> None:
    """By time the earliest is first, by name the dearest; what nothing names comes like any other."""
    days = report.made("day", [(MIDNIGHT, sums(requests=1)), (MIDNIGHT - DAY_MS, sums(requests=2))])
    hours = report.made("hour", [(MIDNIGHT + HOUR_MS, sums())])
    spent = {"b": 1, "": 5, "a": 1}
    keys = report.made("key", [(name, sums(cost_usd_nanos=nanos)) for name, nanos in spent.items()])

    assert [row.group for row in days.rows] == ["2026-11-27", "2026-11-28"]
    assert [row.group for row in hours.rows] == ["2026-11-28T01:00Z"]
    assert [row.group for row in keys.rows] == ["", "a", "b"]
    assert (days.total.requests, keys.total.spent_nanos) == (3, 7)
    assert report.made("day", []).total == Figures("total")


_sums = st.fixed_dictionaries({name: st.integers(0, 10**15) for name in SUMS})


@given(st.lists(st.tuples(st.text(max_size=3), _sums), max_size=6, unique_by=lambda group: group[0]))
def test_rows_sum_to_the_total(groups: list[tuple[str, dict[str, int]]]) -> None:
    """Every figure of the total is the sum of the rows', in what is shown as well."""
    made = report.made("key", groups)
    rows = [report.shown(row) for row in made.rows]

    assert {
        name: sum(row[name] for row in rows) for name in report.shown(made.total) if not name.endswith("points")
    } == {name: value for name, value in report.shown(made.total).items() if not name.endswith("points")}


def test_the_table_has_a_total_and_only_columns_that_say_something() -> None:
    """What there is none of has no column; a row that cannot be compared claims no savings."""
    one = sums(requests=3, input_tokens=1_000, output_tokens=500, cost_usd_nanos=40 * report.NANOS, compared=3,
               compared_cost_nanos=40 * report.NANOS, premium_usd_nanos=100 * report.NANOS,
               premium_low_nanos=90 * report.NANOS, premium_high_nanos=110 * report.NANOS)
    other = sums(requests=1, cost_usd_nanos=report.NANOS)
    lines = drawn(("shop", one), ("", other)).splitlines()
    cells = [line.split() for line in lines if line.strip(" ─")]

    assert cells == [
        ["key", "requests", "tokens", "spent", "premium", "low", "high", "saved", "share"],
        ["shop", "3", "1,500", "$40.00", "$100.00", "$90.00", "$110.00", "$60.00", "60.0", "%"],
        ["(none)", "1", "0", "$1.00", "-", "-", "-", "-", "-"],
        ["total", "4", "1,500", "$41.00", "$100.00", "$90.00", "$110.00", "$60.00", "60.0", "%"],
    ]


def test_what_is_seldom_has_a_column_where_there_is_any() -> None:
    """Failures, estimates and unknown costs are shown when there are some."""
    text = drawn(("shop", sums(requests=4, failed=2, estimated=1, unpriced=3)))

    assert [word in text for word in ("failed", "estimated", "unpriced", "25.0 %", "total")] == [True] * 4 + [False]


def test_no_name_is_obeyed_by_the_terminal() -> None:
    """Neither an escape nor markup in a name does anything."""
    assert "�[31m[bold]x[/bold]" in drawn(("\x1b[31m[bold]x[/bold]", sums(requests=1)))


def rows_of(text: str) -> list[dict[str, str]]:
    """What a spreadsheet reads."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_is_exact() -> None:
    """Nano-dollars as integers and dollars as decimals of nine places; negative ones as well."""
    made = report.made("day", [(MIDNIGHT, sums(
        requests=7, compared=6, cost_usd_nanos=2**62 + 1, compared_cost_nanos=2**62 + 1, premium_usd_nanos=3,
        estimated=1,
    ))])
    row, = rows_of(report.as_csv(made))

    assert (row["day"], row["requests"], row["compared"]) == ("2026-11-28", "7", "6")
    assert (row["spent_nanos"], row["spent_usd"]) == ("4611686018427387905", "4611686018.427387905")
    assert (row["saved_nanos"], row["saved_usd"]) == ("-4611686018427387902", "-4611686018.427387902")
    assert row["estimated_percent"] == "14.29"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", " =1", "\N{FULLWIDTH EQUALS SIGN}1"])
def test_csv_holds_no_formula(name: str) -> None:
    """A name that a spreadsheet would compute is marked as text; nothing else is changed."""
    row, = rows_of(report.as_csv(report.made("key", [(name, sums(requests=1))])))

    assert row["key"] == f"'{name}"


@pytest.mark.parametrize("name", ["\t=x", "\r=x", "\n=x"])
def test_csv_has_a_line_a_row(name: str) -> None:
    """A name is one cell in one line, whatever is in it."""
    text = report.as_csv(report.made("key", [(name, sums(requests=1))]))

    assert len(text.splitlines()) == 2
    assert rows_of(text)[0]["key"] == "\N{REPLACEMENT CHARACTER}=x"


@pytest.mark.parametrize("name", ["shop", "", 'a,"b"', "1=1", "größe"])
def test_csv_keeps_other_names(name: str) -> None:
    """Commas and quotes in a name come back as they were."""
    row, = rows_of(report.as_csv(report.made("key", [(name, sums(requests=1))])))

    assert row["key"] == name
    assert row["saved_percent"] == ""


def test_json_is_integers() -> None:
    """Money is exact, beyond what a float could hold."""
    made = report.made("model", [("cheap", sums(
        requests=1, compared=1, cost_usd_nanos=2**53 + 1, compared_cost_nanos=2**53 + 1, premium_usd_nanos=2**54,
    ))])
    told: dict[str, Any] = orjson.loads(orjson.dumps(report.as_json(made, Bounds(MIDNIGHT), {"key": "shop"})))

    assert told["rows"][0]["model"] == "cheap"
    assert told["rows"][0]["spent_usd_nanos"] == told["total"]["spent_usd_nanos"] == 2**53 + 1
    assert told["total"]["saved_usd_nanos"] == 2**54 - 2**53 - 1
    assert told["total"]["saved_basis_points"] == 5_000
    assert (told["since"], told["until"], told["key"], told["by"]) == ("2026-11-28T00:00:00Z", None, "shop", "model")
    assert not [value for value in told["total"].values() if isinstance(value, float)]


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1d", MIDNIGHT), ("2d", MIDNIGHT - DAY_MS), ("0d", MIDNIGHT), ("1h", MIDNIGHT + 13 * HOUR_MS),
        ("3h", MIDNIGHT + 11 * HOUR_MS), ("2026-11-28", MIDNIGHT), ("2026-11-28T13:00", MIDNIGHT + 13 * HOUR_MS),
        ("2026-11-28T13:00:00Z", MIDNIGHT + 13 * HOUR_MS), ("2026-11-28T02:00+02:00", MIDNIGHT),
        ("999999d", 0), ("1969-01-01", 0), (" 1d ", MIDNIGHT),
    ],
)
def test_moments(text: str, at_ms: int) -> None:
    """A span of so many days or hours with this one, a day, or a full hour; without a zone it is UTC."""
    assert at_ms == report.moment(text, NOW_MS)


@pytest.mark.parametrize(
    "text", ["", "d", "30m", "yesterday", "2026-13-01", "2026-11-28T13:30", "2026-11-28T13:00+00:30"]
)
def test_what_is_no_moment(text: str) -> None:
    """It says what is right; figures are kept by the hour, so that half of one is nothing to ask for."""
    with pytest.raises(ValueError, match="give a span"):
        report.moment(text, NOW_MS)


def test_bounds() -> None:
    """From one moment up to another, or up to now; not backwards."""
    assert report.bounds("2d", None, NOW_MS) == (MIDNIGHT - DAY_MS, None)
    assert report.bounds("2026-11-27", "1d", NOW_MS) == (MIDNIGHT - DAY_MS, MIDNIGHT)
    with pytest.raises(ValueError, match="before it begins"):
        report.bounds("1d", "1d", NOW_MS)


@pytest.mark.parametrize(
    ("by", "asked", "refused"),
    [
        ("hour", Bounds(MIDNIGHT - 2 * DAY_MS), False),
        ("hour", Bounds(MIDNIGHT - 4 * DAY_MS), True),
        ("day", Bounds(MIDNIGHT - 4 * DAY_MS), False),
        ("day", Bounds(MIDNIGHT - 4 * DAY_MS + HOUR_MS), True),
        ("day", Bounds(MIDNIGHT - 9 * DAY_MS, MIDNIGHT - 4 * DAY_MS + HOUR_MS), True),
        ("day", Bounds(MIDNIGHT - 9 * DAY_MS, MIDNIGHT - DAY_MS + HOUR_MS), False),
    ],
)
def test_hours_that_are_gone_are_not_left_out_in_silence(by: str, asked: Bounds, *, refused: bool) -> None:
    """Where figures by the hour are not kept any more, that is said."""
    if refused:
        with pytest.raises(ValueError, match="hours are kept for 3 days"):
            report.check_hours(by, asked, 3, NOW_MS)
    else:
        report.check_hours(by, asked, 3, NOW_MS)
        assert asked.since_ms < NOW_MS


def test_months() -> None:
    """A month begins with its first day, in UTC."""
    assert report.iso(report.month(NOW_MS)) == "2026-11-01T00:00:00Z"
    assert report.iso(report.month(int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000))) == "2026-12-01T00:00:00Z"


@pytest.mark.parametrize(
    ("nanos", "digits", "text"),
    [
        (0, 2, "$0.00"), (5_000_000, 2, "$0.01"), (4_999_999, 2, "$0.00"), (-5_000_000, 2, "-$0.01"),
        (-1, 2, "$0.00"), (1_234_567_890_000_000, 2, "$1,234,567.89"), (1_500, 6, "$0.000002"),
        (-1_500, 6, "-$0.000002"),
    ],
)
def test_dollars(nanos: int, digits: int, text: str) -> None:
    """Rounded half away from zero, and nothing is less than nothing by rounding."""
    assert text == report.dollars(nanos, digits)


@given(st.integers(-(10**30), 10**30))
def test_decimals_are_exact(nanos: int) -> None:
    """The digits are all there."""
    whole, _, rest = report.decimal(nanos).partition(".")

    assert len(rest) == 9
    assert int(whole.removeprefix("-") + rest) * (-1 if nanos < 0 else 1) == nanos


@pytest.mark.parametrize(
    ("part", "text"),
    [(1, "33.3 %"), (2, "66.7 %"), (-1, "-33.3 %"), (3, "100.0 %"), (0, "0.0 %"), (-6, "-200.0 %")],
)
def test_shares(part: int, text: str) -> None:
    """A third is 33.3 %."""
    assert text == report.percent(Figures("x", premium_nanos=3, net_nanos=3 - part).saved_part(1_000))
