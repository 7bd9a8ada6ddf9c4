"""The configuration: parsed once, whole, into frozen values, or refused with every fault named.

Rule: modules receive the values they need and read neither files nor the environment; this room does both, once, at
start.
"""

from gateway.config.environment import PROVIDERS, from_environment
from gateway.config.money import (
    AdminConfig,
    BudgetConfig,
    LedgerConfig,
    LimitsConfig,
    OwnerConfig,
    Period,
    SharedConfig,
)
from gateway.config.reading import (
    IMPORTED,
    as_written,
    known_prices,
    load,
    load_as_written,
    parse,
    placed,
)
from gateway.config.settings import (
    ClassifierConfig,
    Condition,
    Config,
    Deadlines,
    Dialect,
    EndpointConfig,
    GrantConfig,
    HealthConfig,
    HedgeConfig,
    KeyConfig,
    ModelConfig,
    Promise,
    RouteConfig,
    RouteDeadlines,
    Rule,
    ServerConfig,
    UpstreamConfig,
)
from gateway.config.strict import Secret

__all__ = [
    "IMPORTED", "PROVIDERS", "AdminConfig", "BudgetConfig", "ClassifierConfig", "Condition", "Config", "Deadlines",
    "Dialect", "EndpointConfig", "GrantConfig", "HealthConfig", "HedgeConfig", "KeyConfig", "LedgerConfig",
    "LimitsConfig", "ModelConfig", "OwnerConfig", "Period", "Promise", "RouteConfig", "RouteDeadlines", "Rule",
    "Secret", "ServerConfig", "SharedConfig", "UpstreamConfig", "as_written", "from_environment", "known_prices",
    "load", "load_as_written", "parse", "placed",
]
