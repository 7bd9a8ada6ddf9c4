"""Percentiles and tables. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed (nearest rank); NaN when there are none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1))]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median with its range: `41.2 (39.9-44.0)`."""
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table whose columns line up, so that it reads in a terminal too. Numbers stand to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[at]) for row in cells)) for at in range(len(head))]
    right = [
        all(row[at][:1].isdigit() or row[at][:1] in "-+" for row in cells[1:]) and at > 0 for at in range(len(head))
    ]
    lines = [
        "| "
        + " | ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
        + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
