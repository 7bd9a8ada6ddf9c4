"""The configuration that `serve` without a file makes of the providers' keys in the environment."""

from collections.abc import Mapping

import msgspec

from gateway.config.money import LedgerConfig
from gateway.config.reading import completed, known_prices, placed
from gateway.config.settings import Config, Dialect, ModelConfig, RouteConfig, UpstreamConfig
from gateway.config.strict import Secret
from gateway.faults import ConfigError, Fault


class Provider(msgspec.Struct, frozen=True):
    """What `serve` without a file makes of a provider's key: its endpoint and two rungs."""

    variable: str
    dialect: Dialect
    base_url: str
    cheap: str
    premium: str


PROVIDERS: dict[str, Provider] = {
    "openai": Provider("OPENAI_API_KEY", "openai", "https://api.openai.com/v1", "gpt-5.4-mini", "gpt-5.4"),
    "anthropic": Provider(
        "ANTHROPIC_API_KEY", "anthropic", "https://api.anthropic.com", "claude-haiku-4-5", "claude-opus-4-7"
    ),
    "gemini": Provider(
        "GEMINI_API_KEY", "gemini", "https://generativelanguage.googleapis.com", "gemini-2.5-flash", "gemini-2.5-pro"
    ),
}


def from_environment(environment: Mapping[str, str]) -> Config:
    """Build upstreams, models and routes from whichever provider keys are set; raise ConfigError when none is.

    `auto` climbs from the cheapest cheap model to the dearest premium one of all providers; `auto-NAME` stays with one.
    """
    found = {name: provider for name, provider in PROVIDERS.items() if environment.get(provider.variable)}
    if not found:
        names = ", ".join(provider.variable for provider in PROVIDERS.values())
        raise ConfigError([
            Fault("(no file)", f"no configuration was given and none of {names} is set",
                  "set one of them, or give -c FILE, or try `thriftgate demo`, which needs no key"),
        ])
    upstreams = {
        name: UpstreamConfig(base_url=p.base_url, dialect=p.dialect, key=Secret(environment[p.variable]))
        for name, p in found.items()
    }
    ledger = placed(LedgerConfig(), environment)
    prices = known_prices(ledger)
    models = {
        model: completed(model, ModelConfig(upstream=name), upstreams[name], prices)
        for name, provider in found.items() for model in (provider.cheap, provider.premium)
    }
    cheap = min((p.cheap for p in found.values()), key=lambda name: _output_price(models[name]))
    premium = max((p.premium for p in found.values()), key=lambda name: _output_price(models[name]))
    routes = {f"auto-{name}": RouteConfig(ladder=[p.cheap, p.premium]) for name, p in found.items()}
    return Config(
        upstreams=upstreams,
        models=models,
        routes={"auto": RouteConfig(ladder=[cheap, premium]), **routes},
        ledger=ledger,
    )


def _output_price(model: ModelConfig) -> float:
    return 0.0 if model.price is None else model.price.output
