"""What can be set about money: budgets, limits, the ledger that keeps the receipts and what several nodes share."""

from typing import Literal
from urllib.parse import urlsplit

import msgspec

from gateway.config.strict import Secret, Strict, refuse

OnBudget = Literal["refuse", "cheapest"]
Period = Literal["day", "month", "total"]


class LimitsConfig(Strict, frozen=True):
    """How much may be asked, evenly over time; 0: no limit. What was not used may come at once, up to the burst."""

    requests_per_minute: int = 0
    requests_burst: int = 0             # at once; 0: a minute's
    tokens_per_minute: int = 0          # of prompts and answers together
    tokens_burst: int = 0               # at once; 0: a minute's
    concurrency: int = 0                # requests being served at once

    def __post_init__(self) -> None:
        refuse({
            **{f"`{name}` of at least 0": getattr(self, name) < 0 for name in self.__struct_fields__},
            "`requests_burst` only with `requests_per_minute`": self.requests_burst > self.requests_per_minute == 0,
            "`tokens_burst` only with `tokens_per_minute`": self.tokens_burst > self.tokens_per_minute == 0,
        })

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return bool(self.requests_per_minute or self.tokens_per_minute or self.concurrency)


class BudgetConfig(Strict, frozen=True):
    """How many dollars may be spent. Days and months are those of UTC."""

    usd: float
    per: Period = "month"
    on_budget: OnBudget = "refuse"      # or the cheapest rung that it still pays for
    soft: list[float] = msgspec.field(default_factory=lambda: [0.8])      # shares at which the log says so
    webhook: Secret | None = None       # and this address is sent a JSON object

    def __post_init__(self) -> None:
        refuse({
            "`usd` from 0 to 1000000000": not 0 <= self.usd <= 1e9,
            "`soft` shares above 0 and up to 1": not all(0 < share <= 1 for share in self.soft),
            "`webhook` to begin with http:// or https://": self.webhook is not None
            and not self.webhook.reveal().startswith(("http://", "https://")),
        })


class OwnerConfig(Strict, frozen=True):
    """Whose keys they are, and what all of them together may spend."""

    budget: BudgetConfig


class LedgerConfig(Strict, frozen=True):
    """Where receipts are kept, and for how long."""

    url: Secret = Secret("sqlite")      # in `directory`; or sqlite:///PATH, postgresql://…; none: nowhere
    directory: str = ""                 # what waits to be stored, and sqlite; default: the user's data directory
    receipts_days: int = 30             # the single ones; what they add up to is kept on:
    hours_days: int = 90                # by the hour
    days_days: int = 1_100              # by the day
    prompts_days: int = 7               # the text of prompts, where `server.log_prompts` has it kept at all
    log: bool = True                    # write receipts to the log as well
    secret: Secret | None = None        # what keys are hashed with; default: a file in `directory`

    def __post_init__(self) -> None:
        url, beginnings = self.url.reveal(), ("sqlite:///", "postgresql://", "postgres://")
        refuse({
            "`url`: sqlite, sqlite:///PATH, postgresql://… or none": url not in ("sqlite", "none")
            and (url in beginnings or not url.startswith(beginnings)),
            "`receipts_days` of at least 1": self.receipts_days < 1,
            "`hours_days` of at least 1": self.hours_days < 1,
            "`days_days` of at least `hours_days`": self.days_days < self.hours_days,
            "`prompts_days` from 1 to `receipts_days`": not 1 <= self.prompts_days <= max(self.receipts_days, 1),
            "`secret` of at least 16 characters": self.secret is not None and len(self.secret.reveal()) < 16,
        })

    @property
    def on(self) -> bool:
        """Whether receipts are kept."""
        return self.url.reveal() != "none"


class SharedConfig(Strict, frozen=True):
    """Where several nodes keep what must hold for all of them together: limits and budgets."""

    url: Secret | None = None           # redis://…; default: limits hold for a machine, budgets for the ledger's store
    timeout_ms: int = 25                # how long a request waits for it
    lease_ms: int = 10_000              # how long a node goes on alone, on its share, when it does not answer
    then: Literal["open", "closed"] = "closed"      # after that: let everything pass, or nothing

    def __post_init__(self) -> None:
        refuse({
            "`url` to begin with redis:// or rediss://": self.url is not None
            and not self.url.reveal().startswith(("redis://", "rediss://")),
            "`url` to name a host, and a port below 65536 if any; in a password, % and two digits for / ? # @":
            self.url is not None and not _names_a_host(self.url.reveal()),
            "`timeout_ms` of at least 1": self.timeout_ms < 1,
            "`lease_ms` of at least 0": self.lease_ms < 0,
        })


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port or 0) < 65_536
    except ValueError:
        return False


class AdminConfig(Strict, frozen=True):
    """The key of the admin API; without one it is not there."""

    key: Secret | None = None

    def __post_init__(self) -> None:
        refuse({"`key` of at least 16 characters": self.key is not None and len(self.key.reveal()) < 16})
