"""What can be set, as values."""

import re
from typing import Any

import pytest

from gateway.config.settings import (
    Deadlines,
    EndpointConfig,
    HealthConfig,
    HedgeConfig,
    RouteConfig,
    RouteDeadlines,
    ServerConfig,
    UpstreamConfig,
)

URL = "http://127.0.0.1:1/v1"
NAN, INFINITE = float("nan"), float("inf")
WEIGHT = "`weight` above 0 and up to 1000000"


def test_a_value_that_would_stop_the_path_is_refused() -> None:
    """Also where no file is read: the fault names every field at once."""
    with pytest.raises(ValueError, match="above 0 for `connect_ms`, `idle_ms`"):
        Deadlines(connect_ms=0, idle_ms=-1)


def test_the_defaults_of_failures_and_floods() -> None:
    """They are these, and each is accepted as it stands."""
    assert EndpointConfig(base_url=None, key=None, weight=1.0) == EndpointConfig()
    assert HealthConfig(
        failures=5, error_rate=0.5, calls=20, window_ms=30_000, open_ms=1_000, open_max_ms=30_000, probe_ms=0
    ) == HealthConfig()
    assert UpstreamConfig(
        base_url=URL, weight=1.0, endpoints=[], slots=512, queue=256, retries=0.2, health=HealthConfig()
    ) == UpstreamConfig(base_url=URL)
    assert RouteDeadlines(connect_ms=None, first_output_ms=None, idle_ms=None, total_ms=None) == RouteDeadlines()
    assert HedgeConfig(after_ms=0, share=0.05, usd_per_hour=1.0) == HedgeConfig()
    assert RouteConfig(ladder=["m"], deadlines=None, hedge=None) == RouteConfig(ladder=["m"])
    assert ServerConfig(
        attempts=4, backoff_ms=100, wait_ms=2_000, keepalive_ms=15_000, concurrency=4_096, queue=1_024
    ) == ServerConfig()


def upstream(**given: Any) -> UpstreamConfig:
    """An upstream with an address."""
    return UpstreamConfig(base_url=URL, **given)


# What is set, the values that are refused with the reason, and the last ones on either side that are not.
LIMITS: list[tuple[Any, str, list[Any], str, list[Any]]] = [
    (EndpointConfig, "weight", [0, -1, NAN, INFINITE, 1_000_001], WEIGHT, [1e-3, 1_000_000]),
    (EndpointConfig, "base_url", ["", "127.0.0.1"], "`base_url` to start with http:// or https://", [URL, None]),
    (EndpointConfig, "base_url", ["http://", "http://x:99999"], "`base_url` to name a host, and a port below", ["http://x"]),
    (EndpointConfig, "base_url", [f"{URL}/chat/completions/"], "`base_url` to end before", [f"{URL}/"]),
    (HealthConfig, "failures", [0, -1], "`failures` of at least 1", [1]),
    (HealthConfig, "error_rate", [0, 1.01, NAN], "`error_rate` above 0 and up to 1", [0.001, 1]),
    (HealthConfig, "calls", [0], "`calls` of at least 1", [1]),
    (HealthConfig, "window_ms", [0], "`window_ms` of at least 1", [1]),
    (HealthConfig, "open_ms", [0], "`open_ms` of at least 1", [1]),
    (HealthConfig, "open_max_ms", [999], "`open_max_ms` of at least `open_ms`", [1_000]),
    (HealthConfig, "probe_ms", [-1, 1, 99], "`probe_ms` of at least 100, or 0", [0, 100]),
    (upstream, "weight", [0, NAN, INFINITE], WEIGHT, [1e-3, 1_000_000]),
    (upstream, "slots", [0], "`slots` of at least 1", [1]),
    (upstream, "queue", [-1], "`queue` of at least 0", [0]),
    (upstream, "retries", [-0.1, 10.1, NAN], "`retries` from 0 to 10", [0, 10]),
    *((RouteDeadlines, name, [0, -1], f"Expected milliseconds above 0 for `{name}`", [1, None])
      for name in RouteDeadlines.__struct_fields__),
    (HedgeConfig, "after_ms", [-1], "`after_ms` of at least 0", [0, 1]),
    (HedgeConfig, "share", [-0.1, 1.1, NAN], "`share` from 0 to 1", [0, 1]),
    (HedgeConfig, "usd_per_hour", [-1, NAN], "`usd_per_hour` of at least 0", [0, INFINITE]),
    (ServerConfig, "attempts", [0, 21], "`attempts` from 1 to 20", [1, 20]),
    (ServerConfig, "backoff_ms", [0], "`backoff_ms` of at least 1", [1]),
    (ServerConfig, "wait_ms", [-1], "`wait_ms` of at least 0", [0]),
    (ServerConfig, "keepalive_ms", [-1, 1, 99], "`keepalive_ms` of at least 100, or 0", [0, 100]),
    (ServerConfig, "concurrency", [0], "`concurrency` of at least 1", [1]),
    (ServerConfig, "queue", [-1], "`queue` of at least 0", [0]),
]


@pytest.mark.parametrize(
    ("kind", "name", "wrong", "reason", "good"), LIMITS, ids=[f"{kind.__name__}.{name}" for kind, name, *_ in LIMITS]
)
def test_limits(kind: Any, name: str, wrong: list[Any], reason: str, good: list[Any]) -> None:
    """A value beyond them is refused with the setting's name and what was expected; the last ones are not."""
    for value in wrong:
        with pytest.raises(ValueError, match=re.escape(reason)):
            kind(**{name: value})

    assert [value for value in good if getattr(kind(**{name: value}), name) != value] == []


def test_deadlines_of_a_route_are_refused_together() -> None:
    """The fault names every one."""
    with pytest.raises(ValueError, match="above 0 for `connect_ms`, `total_ms`"):
        RouteDeadlines(connect_ms=0, idle_ms=5, total_ms=-1)
