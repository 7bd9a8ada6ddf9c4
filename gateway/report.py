"""What was spent and what was saved, from sums of the ledger to something that people and programs read.

Money is exact: integers of nano-dollars, and dollars as decimal text made of them. Savings are signed, and of the
requests whose other price is known; what is unknown is counted and said, never taken for zero.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from gateway.store.schema import DAY_MS, HOUR_MS

NANOS = 1_000_000_000
_SPAN = re.compile(r"(\d{1,6})([dh])")
_FORMULA = ("=", "+", "-", "@")      # what spreadsheets take for the start of one
NOBODY = "(none)"
WHEN = "give a span (30d, 12h), a day (2026-11-01) or a full hour of UTC (2026-11-01T13:00)"


class Figures(NamedTuple):
    """What a group of requests adds up to."""

    group: str
    requests: int = 0
    failed: int = 0
    compared: int = 0           # their cost and the top rung's are known
    unpriced: int = 0           # something was used, and its cost is not known
    estimated: int = 0          # their tokens were counted by us
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    spent_nanos: int = 0        # all in all
    unused_nanos: int = 0       # of it: calls whose answer was not used
    net_nanos: int = 0          # of it: what savings are net of, which is the compared ones' and the unanswered ones'
    premium_nanos: int = 0      # what the compared ones would have cost on the top rung
    low_nanos: int = 0
    high_nanos: int = 0

    @property
    def saved_nanos(self) -> int:
        """What was saved; less than nothing where routing cost more than it saved."""
        return self.premium_nanos - self.net_nanos

    @property
    def saved_low_nanos(self) -> int:
        """The lower end of its interval."""
        return self.low_nanos - self.net_nanos

    @property
    def saved_high_nanos(self) -> int:
        """The upper end."""
        return self.high_nanos - self.net_nanos

    @property
    def other_nanos(self) -> int:
        """What was spent on requests that nothing can be compared with: they named a model, or the top has no price."""
        return self.spent_nanos - self.net_nanos

    def saved_part(self, scale: int) -> int | None:
        """Return the saved part, of so many; None where there is nothing to be a part of."""
        return _part(self.saved_nanos, self.premium_nanos, scale)

    def estimated_part(self, scale: int) -> int | None:
        """Return the part of the requests whose tokens were counted by us, likewise."""
        return _part(self.estimated, self.requests, scale)


_SUMS = {
    "spent_nanos": "cost_usd_nanos", "unused_nanos": "unused_usd_nanos", "net_nanos": "compared_cost_nanos",
    "premium_nanos": "premium_usd_nanos", "low_nanos": "premium_low_nanos", "high_nanos": "premium_high_nanos",
}
COUNTS = (
    "requests", "failed", "compared", "unpriced", "estimated", "input_tokens", "cached_tokens", "cache_write_tokens",
    "output_tokens", "reasoning_tokens",
)
MONEY = ("spent", "unused", "net", "premium", "low", "high", "saved", "saved_low", "saved_high")


class Report(NamedTuple):
    """Figures by something, and all of them together."""

    by: str
    rows: list[Figures]
    total: Figures


class Bounds(NamedTuple):
    """From when, and up to when without it; None: up to now."""

    since_ms: int
    until_ms: int | None = None


def made(by: str, sums: Iterable[tuple[str | int, Mapping[str, int]]]) -> Report:
    """Return the report of sums by day or hour, the earliest first, or by a name, the dearest first."""
    if by in ("day", "hour"):
        ordered = sorted((int(group), found) for group, found in sums)
        rows = [_figures(_moment(group, by), found) for group, found in ordered]
    else:
        rows = [_figures(str(group), found) for group, found in sums]
        rows.sort(key=lambda row: (-row.spent_nanos, -row.requests, row.group))
    added = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    return Report(by, rows, Figures("total", *added))


def bounds(since: str, until: str | None, now_ms: int) -> Bounds:
    """Return what is asked for. Raises ValueError with what is right."""
    found = Bounds(moment(since, now_ms), None if until is None else moment(until, now_ms))
    if found.until_ms is not None and found.until_ms <= found.since_ms:
        raise ValueError("it would end before it begins")
    return found


def moment(text: str, now_ms: int) -> int:
    """Return the beginning of a span, a day or an hour. A span is so many days or hours, the present one among them."""
    if span := _SPAN.fullmatch(text.strip()):
        unit_ms = DAY_MS if span[2] == "d" else HOUR_MS
        return max(now_ms - now_ms % unit_ms - (max(int(span[1]), 1) - 1) * unit_ms, 0)
    try:
        found = datetime.fromisoformat(text.strip())
        at_ms = int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:50]!r} is no time: {WHEN}") from None
    if at_ms % HOUR_MS:
        raise ValueError(f"{text[:50]!r} is within an hour, and figures are kept by the hour: {WHEN}")
    return max(at_ms, 0)


def month(now_ms: int) -> int:
    """Return when the month of UTC began."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return int(datetime(now.year, now.month, 1, tzinfo=UTC).timestamp()) * 1000


def check_hours(by: str, asked: Bounds, hours_days: int, now_ms: int) -> None:
    """Raise ValueError where it takes hours that are not kept any more; days are kept for longer."""
    kept_ms = now_ms - hours_days * DAY_MS
    ends = [asked.since_ms] if by == "hour" else [end for end in asked if end is not None and end % DAY_MS]
    if any(end < kept_ms for end in ends):
        raise ValueError(f"hours are kept for {hours_days} days (`ledger.hours_days`): ask for whole days of UTC")


def iso(at_ms: int) -> str:
    """Return a moment as text."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def sentence(total: Figures) -> str:
    """Return it all in one sentence."""
    digits = _digits(total)
    more = [
        _said(total.unpriced, "request of unknown cost is", "requests of unknown cost are") + " not in it"
    ] if total.unpriced else []
    if total.other_nanos:
        spent = dollars(total.other_nanos, digits)
        more.append(f"nor is {spent} spent" if more else f"{spent} spent is not in it")
        more[-1] += " where there is nothing to compare with"
    if total.compared or total.net_nanos:
        share = total.saved_part(1_000)
        head = (
            f"{dollars(total.premium_nanos, digits)} → {dollars(total.net_nanos, digits)}: "
            f"saved {dollars(total.saved_nanos, digits)}{'' if share is None else f' ({percent(share)})'}, "
            f"90 % interval {dollars(total.saved_low_nanos, digits)} to {dollars(total.saved_high_nanos, digits)}, "
            f"on {_said(total.compared, 'request', 'requests')}"
        )
    else:
        head = f"Nothing to compare in {_said(total.requests, 'request', 'requests')}"
    return "; ".join([head, *more]) + "."


def table(report: Report, without: Collection[str] = ()) -> Table:
    """Return the report for a terminal; what there is none of has no column."""
    digits = _digits(report.total)
    drawn = Table(box=SIMPLE_HEAD, show_footer=len(report.rows) > 1, pad_edge=False, collapse_padding=True)
    drawn.add_column(report.by, footer="total", overflow="fold")
    columns = _columns(digits)
    shown = [name for name in columns if name not in without and (name not in _SELDOM or getattr(report.total, name))]
    for name in shown:
        drawn.add_column(name, footer=columns[name](report.total), justify="right", overflow="fold")
    for row in report.rows:
        drawn.add_row(Text(_plain(row.group) or NOBODY), *(columns[name](row) for name in shown))
    return drawn


_SELDOM = {"failed", "estimated", "unpriced"}


def _columns(digits: int) -> dict[str, Callable[[Figures], str]]:
    """Return what each column has to say of a row."""
    def compared(name: str) -> Callable[[Figures], str]:
        return lambda row: dollars(getattr(row, name), digits) if row.compared or row.net_nanos else "-"

    return {
        "requests": lambda row: f"{row.requests:,}",
        "failed": lambda row: f"{row.failed:,}",
        "tokens": lambda row: f"{row.input_tokens + row.output_tokens:,}",
        "spent": lambda row: dollars(row.spent_nanos, digits),
        "premium": compared("premium_nanos"),
        "low": compared("low_nanos"),
        "high": compared("high_nanos"),
        "saved": compared("saved_nanos"),
        "share": lambda row: percent(row.saved_part(1_000)),
        "estimated": lambda row: percent(row.estimated_part(1_000)),
        "unpriced": lambda row: f"{row.unpriced:,}",
    }


def as_csv(report: Report) -> str:
    """Return the rows as a spreadsheet reads them: numbers are plain, and no name is taken for a formula."""
    written = io.StringIO()
    out = csv.writer(written, lineterminator="\n")
    money = [column for name in MONEY for column in (f"{name}_nanos", f"{name}_usd")]
    out.writerow([report.by, *COUNTS, *money, "saved_percent", "estimated_percent"])
    for row in report.rows:
        counts = [getattr(row, name) for name in COUNTS]
        nanos = [getattr(row, f"{name}_nanos") for name in MONEY]
        shares = [row.saved_part(10_000), row.estimated_part(10_000)]
        out.writerow([
            _cell(row.group), *counts, *(cell for n in nanos for cell in (n, decimal(n))),
            *("" if share is None else decimal(share, 2) for share in shares),
        ])
    return written.getvalue()


def as_json(report: Report, asked: Bounds, whose: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the report for a program, with what was asked."""
    return {
        "summary": sentence(report.total),
        "since": iso(asked.since_ms),
        "until": None if asked.until_ms is None else iso(asked.until_ms),
        **whose,
        "by": report.by,
        "rows": [{report.by: row.group, **shown(row)} for row in report.rows],
        "total": shown(report.total),
    }


def shown(row: Figures) -> dict[str, Any]:
    """Return figures for a program: integers, and None for the part of nothing."""
    return {
        **{name: getattr(row, name) for name in COUNTS},
        **{f"{name}_usd_nanos": getattr(row, f"{name}_nanos") for name in MONEY},
        "saved_basis_points": row.saved_part(10_000),
        "estimated_basis_points": row.estimated_part(10_000),
    }


def dollars(nanos: int, digits: int = 2) -> str:
    """Return money for people, rounded half away from zero."""
    unit = 10 ** (9 - digits)
    rounded = (abs(nanos) + unit // 2) // unit
    sign = "-" if nanos < 0 and rounded else ""
    whole, rest = divmod(rounded, 10**digits)
    return f"{sign}${whole:,}.{rest:0{digits}}"


def decimal(value: int, places: int = 9) -> str:
    """Return an integer of the last place as an exact decimal."""
    whole, rest = divmod(abs(value), 10**places)
    return f"{'-' if value < 0 else ''}{whole}.{rest:0{places}}"


def percent(per_mille: int | None) -> str:
    """Return a share for people."""
    return "-" if per_mille is None else f"{decimal(per_mille, 1)} %"


def _figures(group: str, sums: Mapping[str, int]) -> Figures:
    counts = {name: int(sums[name]) for name in COUNTS}
    return Figures(group, **counts, **{name: int(sums[of]) for name, of in _SUMS.items()})


def _moment(at_ms: int, by: str) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):{'%Y-%m-%d' if by == 'day' else '%Y-%m-%dT%H:%MZ'}}"


def _part(part: int, whole: int, scale: int) -> int | None:
    """Return it of so many, rounded half away from zero."""
    if whole <= 0:
        return None
    rounded = (2 * scale * abs(part) + whole) // (2 * whole)
    return -rounded if part < 0 else rounded


def _digits(total: Figures) -> int:
    """Return how many digits of a dollar are worth showing."""
    most = max(total.premium_nanos, total.spent_nanos)
    return 2 if most >= 100 * NANOS else 4 if most >= NANOS else 6


def _said(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _plain(name: str) -> str:
    """Return a name without what a terminal would obey, or a table's lines would break at."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def _cell(name: str) -> str:
    """Return a name that no spreadsheet takes for a formula, whatever width its letters have, nor for two rows."""
    plain = _plain(name)
    return f"'{plain}" if unicodedata.normalize("NFKC", plain).lstrip(" ").startswith(_FORMULA) else plain
