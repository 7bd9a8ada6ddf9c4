"""The package is a door: whoever has it needs none of its rooms."""

import pytest

from gateway.dialects import anthropic
from gateway.dialects.door import Surface, Upstream

SURFACE: Surface = anthropic        # mypy compares every signature
UPSTREAM: Upstream = anthropic


@pytest.mark.parametrize("protocol", [Surface, Upstream])
def test_the_package_has_what_a_dialect_has(protocol: type) -> None:
    """Each function and table of a surface and of an upstream is found in the package itself."""
    wanted = {name for name in (*vars(protocol), *protocol.__annotations__) if not name.startswith("_")}

    assert {name for name in wanted if not hasattr(anthropic, name)} == set()
