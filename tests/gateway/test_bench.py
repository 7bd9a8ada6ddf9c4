"""The bench of what stands between a request and its answer."""

import pytest

from gateway import bench
from gateway.bench import Figures


async def test_both_sides_are_measured() -> None:
    """As many rounds as were asked for; with everything on there is more to do."""
    figures = await bench.measure(200, 3)

    assert (len(figures.off), len(figures.on)) == (3, 3)
    assert figures.added > 0


def test_what_is_added_is_taken_within_a_round() -> None:
    """The machine's mood of one round does not reach another."""
    assert Figures([10, 20, 30], [15, 28, 37]).added == 7


@pytest.mark.parametrize(("on", "reached"), [(70.0, "yes"), (70.1, "no")])
def test_the_table(monkeypatch: pytest.MonkeyPatch, on: float, reached: str) -> None:
    """Both sides, what is added, and whether that is within the target."""
    said: list[str] = []

    async def measured() -> Figures:
        """Return what was measured."""
        return Figures([10.0], [on])

    monkeypatch.setattr(bench, "measure", measured)
    bench.main(said.append)

    assert [cell.strip() for cell in said[0].splitlines()[2].split("|")[2:7]] == [
        "10.0", f"{on:.1f}", f"{on - 10:.1f}", "60", reached
    ]
