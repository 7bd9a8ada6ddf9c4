"""The package is a dialect as the house knows one."""

from gateway.dialects import openai
from gateway.dialects.door import Surface, Upstream


def test_it_is_spoken_on_both_sides() -> None:
    """To the type checker and by its names."""
    surface: Surface = openai
    upstream: Upstream = openai

    assert {name for name in dir(Surface) if not name.startswith("_")} <= set(dir(surface))
    assert {name for name in dir(Upstream) if not name.startswith("_")} <= set(dir(upstream))
