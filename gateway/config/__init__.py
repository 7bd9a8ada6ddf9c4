"""The configuration: parsed once, whole, into frozen values, or refused with every fault named.

Rule: modules receive the values they need and read neither files nor the environment; this room does both, once, at
start.
"""

from gateway.config.environment import PROVIDERS, from_environment
from gateway.config.reading import load, parse
from gateway.config.settings import (
    ClassifierConfig,
    Condition,
    Config,
    Deadlines,
    Dialect,
    EndpointConfig,
    HealthConfig,
    HedgeConfig,
    KeyConfig,
    ModelConfig,
    Promise,
    RouteConfig,
    RouteDeadlines,
    Rule,
    Secret,
    ServerConfig,
    UpstreamConfig,
)

__all__ = [
    "PROVIDERS", "ClassifierConfig", "Condition", "Config", "Deadlines", "Dialect", "EndpointConfig", "HealthConfig",
    "HedgeConfig", "KeyConfig", "ModelConfig", "Promise", "RouteConfig", "RouteDeadlines", "Rule", "Secret",
    "ServerConfig", "UpstreamConfig", "from_environment", "load", "parse",
]
