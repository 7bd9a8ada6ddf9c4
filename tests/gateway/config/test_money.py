"""What can be set about money, as values."""

import re
from typing import Any

import pytest

from gateway.config.money import AdminConfig, BudgetConfig, LedgerConfig, LimitsConfig, SharedConfig
from gateway.config.strict import Secret

NAN = float("nan")


def budget(**given: Any) -> BudgetConfig:
    """A budget of some size."""
    return BudgetConfig(**{"usd": 10, **given})


# What is set, the values that are refused with the reason, and the last ones on either side that are not.
LIMITS: list[tuple[Any, str, list[Any], str, list[Any]]] = [
    *((LimitsConfig, name, [-1], f"`{name}` of at least 0", [0]) for name in LimitsConfig.__struct_fields__),
    (LimitsConfig, "requests_burst", [1], "`requests_burst` only with `requests_per_minute`", [0]),
    (LimitsConfig, "tokens_burst", [1], "`tokens_burst` only with `tokens_per_minute`", [0]),
    (budget, "usd", [-0.01, NAN, 1e10], "`usd` from 0 to 1000000000", [0, 1e9]),
    (budget, "soft", [[0], [1.1], [0.5, NAN]], "`soft` shares above 0 and up to 1", [[], [1], [0.5, 0.9]]),
    (budget, "webhook", [Secret("ftp://x")], "`webhook` to begin with http", [None, Secret("https://x")]),
    (LedgerConfig, "url", [Secret(url) for url in ("", "mysql://x", "sqlite://", "sqlite:///", "postgresql://")],
     "`url`: sqlite, sqlite:///PATH, postgresql://… or none",
     [Secret(url) for url in ("sqlite", "none", "sqlite:///a", "postgresql://h/d", "postgres://h/d")]),
    (LedgerConfig, "receipts_days", [0], "`receipts_days` of at least 1", [7]),
    (LedgerConfig, "hours_days", [0], "`hours_days` of at least 1", [1, 1100]),
    (LedgerConfig, "days_days", [89], "`days_days` of at least `hours_days`", [90]),
    (LedgerConfig, "prompts_days", [0, 31], "`prompts_days` from 1 to `receipts_days`", [1, 30]),
    (LedgerConfig, "secret", [Secret("x" * 15)], "`secret` of at least 16 characters", [None, Secret("x" * 16)]),
    (AdminConfig, "key", [Secret("x" * 15)], "`key` of at least 16 characters", [None, Secret("x" * 16)]),
    (SharedConfig, "url", [Secret("http://x")], "`url` to begin with redis://", [None, Secret("rediss://x")]),
    (SharedConfig, "url", [Secret(f"redis://{rest}") for rest in ("", ":pass/word@h", "h:65536", "[h", "/0")],
     "`url` to name a host", [Secret("redis://:pass%2Fword@h:6379/0"), Secret("redis://[::1]")]),
    (SharedConfig, "timeout_ms", [0], "`timeout_ms` of at least 1", [1]),
    (SharedConfig, "lease_ms", [-1], "`lease_ms` of at least 0", [0]),
]


@pytest.mark.parametrize(("kind", "name", "wrong", "reason", "good"), LIMITS)
def test_what_is_out_of_bounds_is_refused(kind: Any, name: str, wrong: list[Any], reason: str, good: list[Any]) -> None:
    """With what was expected; the last values within are taken."""
    for value in wrong:
        with pytest.raises(ValueError, match=re.escape(reason)):
            kind(**{name: value})

    assert [getattr(kind(**{name: value}), name) for value in good] == good


def test_nothing_that_may_be_secret_shows() -> None:
    """Addresses of stores and webhooks carry passwords."""
    told = repr((
        LedgerConfig(url=Secret("postgresql://me:hidden@h/d"), secret=Secret("hidden-" * 3)),
        SharedConfig(url=Secret("redis://:hidden@h")), budget(webhook=Secret("https://h/hidden")),
    ))

    assert "hidden" not in told


def test_no_limit_is_none() -> None:
    """A section without numbers limits nothing; any one of them is a limit."""
    assert not LimitsConfig().any
    assert all(LimitsConfig(**{name: 1}).any for name in ("requests_per_minute", "tokens_per_minute", "concurrency"))


def test_receipts_are_kept_unless_it_is_off() -> None:
    """In the default store, too."""
    assert (LedgerConfig().on, LedgerConfig(url=Secret("none")).on) == (True, False)
