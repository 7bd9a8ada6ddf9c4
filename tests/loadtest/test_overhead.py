"""The bench measures CPU of a process, side by side, and says where each figure stands."""

import time

import pytest

from loadtest import overhead, processes
from loadtest.driver import Tally
from loadtest.overhead import Added, Bounded, Options, Pair

SMALL = Options(
    rounds=1, requests=20, distinct=10, streams=3, chunks=5, tokens_per_s=200, latencies=5, starts=1
)  # fmt: skip


def test_the_whole_bench_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Mock, relay and gateway, every row, on whatever cores there are."""
    arguments = [f"--{name.replace('_', '-')}={getattr(SMALL, name)}" for name in SMALL.__dataclass_fields__]
    status = overhead.main(arguments)
    shown = capsys.readouterr().out

    assert status == 0
    for row in ("verdict cached", "distinct prompts", "streamed chunk", "added latency p99", "memory at rest, resident",
                "start to first answer", "direct", "keys, limits, budgets, receipts"):  # fmt: skip
        assert row in shown
    assert "nan" not in shown


def test_cpu_is_the_servers_own() -> None:
    """A server that does nothing costs nothing, however long the work takes elsewhere."""

    async def elsewhere() -> tuple[Tally, int]:
        """CPU time spent in this process."""
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        return Tally(), 1

    with processes.mock() as mock:
        spent_us = overhead.cpu_per_unit(mock, elsewhere())

    assert spent_us < 100_000


def test_ratios_are_taken_within_a_round() -> None:
    """The machine's mood of one round does not reach another."""
    assert Pair("x", [10, 20], [15, 30], 1.5).ratios() == [1.5, 1.5]


@pytest.mark.parametrize(
    ("value", "target", "said"),
    [(1, 1.5, "yes"), (1.5, 1.5, "yes"), (2, 1.5, "within twice"), (4.5, 1.5, "no (3.0 x the target)"), (9, 0, "-")],
)
def test_a_verdict_is_against_the_target(value: float, target: float, said: str) -> None:
    """Within, within twice, or by how much not."""
    assert overhead.verdict(value, target) == said


def test_the_report_shows_both_sides() -> None:
    """Relay, gateway, ratio, target; absolute figures beside theirs."""
    pairs = [Pair("chunk", [40, 42], [20, 21], 0.7), Pair("distinct", [1, 1], [5, 5], 0)]
    shown = overhead.report(pairs, [Bounded("memory", 100, 120, "MB")], {"direct": [1.0]}, "where")

    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()]

    assert ["chunk", "41.0 (40.0-42.0)", "20.5 (20.0-21.0)", "0.50 (0.50-0.50)", "0.7", "yes"] in cells
    assert "100.00 MB" in shown


def test_distinct_prompts_never_repeat() -> None:
    """Not within a round, and not between rounds: the verdict cache must not help."""
    some = overhead.distinct()
    asked = [*some(50), *some(50)]

    assert len(set(asked)) == 100


def test_what_translating_costs() -> None:
    """A line a dialect: straight, translated, the ratio of a round, and whether it is within three times."""
    table = overhead.by_dialect([("of a", [10.0, 20.0], [20.0, 30.0]), ("of b", [10.0], [50.0])])

    assert "1.75 (1.50-2.00)" in table
    assert "| yes" in table
    assert "| within twice" in table


def test_what_is_added_is_the_difference_within_a_round() -> None:
    """Against its target, where it has one."""
    table = overhead.adds([Added("a", [10, 20], [60, 80], 60), Added("b", [10, 20], [90, 80], 0)])

    assert [[cell.strip() for cell in row.split("|")[4:7]] for row in table.splitlines()[2:]] == [
        ["55.0 (50.0-60.0)", "60", "yes"], ["70.0 (60.0-80.0)", "-", "-"]
    ]  # fmt: skip
