"""The package is a door: whoever has it needs none of its rooms."""

from gateway.dialects import responses
from gateway.dialects.door import Surface

SURFACE: Surface = responses        # mypy compares every signature


def test_the_package_has_what_a_surface_has() -> None:
    """Each function of a surface is found in the package itself."""
    assert {name for name in vars(Surface) if not name.startswith("_") and not hasattr(responses, name)} == set()
