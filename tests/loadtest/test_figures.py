"""Percentiles are by nearest rank, and tables line up."""

import math

from loadtest import figures


def test_percentiles_are_values_that_occurred() -> None:
    """Nearest rank: never an average of two."""
    values = list(range(1, 101))

    assert [figures.percentile(values, share) for share in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert figures.percentile([3.0], 0.99) == 3.0
    assert math.isnan(figures.percentile([], 0.5))


def test_a_spread_is_the_median_with_its_range() -> None:
    """One figure alone hides how shaky it is."""
    assert figures.spread([3, 1, 2]) == "2.0 (1.0-3.0)"
    assert figures.spread([]) == "-"


def test_a_table_lines_up() -> None:
    """Names to the left, numbers to the right, legal markdown."""
    table = figures.markdown(("what", "ms"), [("short", 1), ("much longer", 12.5)])

    assert table.splitlines() == [
        "| what        |   ms |",
        "|-------------|-----:|",
        "| short       |    1 |",
        "| much longer | 12.5 |",
    ]
