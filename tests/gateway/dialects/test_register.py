"""The register of dialects."""

from typing import get_args

from gateway.config import Dialect
from gateway.dialects.register import SURFACES, UPSTREAMS


def test_every_configured_dialect_is_spoken() -> None:
    """The names of the configuration are the upstreams there are; every one of them is a surface as well."""
    assert set(get_args(Dialect)) == set(UPSTREAMS)
    assert set(SURFACES) == {*UPSTREAMS, "responses"}
