"""Routes from the keys in the environment, where there is no file."""

from pathlib import Path
from typing import cast

import pytest

from gateway import config
from gateway.config import RouteConfig, Secret, UpstreamConfig
from gateway.faults import ConfigError
from gateway.pricing import Facts, Price, PriceList, built_in, encode

PROVIDERS = {
    "openai": ("OPENAI_API_KEY", "https://api.openai.com/v1", ["gpt-5.4-mini", "gpt-5.4"]),
    "anthropic": ("ANTHROPIC_API_KEY", "https://api.anthropic.com", ["claude-haiku-4-5", "claude-opus-4-7"]),
    "gemini": (
        "GEMINI_API_KEY", "https://generativelanguage.googleapis.com",
        ["gemini-2.5-flash", "gemini-2.5-pro"],
    ),
}


class TestFromEnvironment:
    """Without a file: routes from whichever provider keys are set."""

    @pytest.mark.parametrize(
        ("names", "auto"),
        [
            (["openai"], ["gpt-5.4-mini", "gpt-5.4"]),
            (["anthropic"], ["claude-haiku-4-5", "claude-opus-4-7"]),
            (["gemini"], ["gemini-2.5-flash", "gemini-2.5-pro"]),
            (["openai", "anthropic"], ["gpt-5.4-mini", "claude-opus-4-7"]),
            (["openai", "gemini"], ["gemini-2.5-flash", "gpt-5.4"]),
            (["anthropic", "gemini"], ["gemini-2.5-flash", "claude-opus-4-7"]),
            (["openai", "anthropic", "gemini"], ["gemini-2.5-flash", "claude-opus-4-7"]),
        ],
        ids="+".join,
    )
    def test_each_combination(self, names: list[str], auto: list[str]) -> None:
        """`auto` from the cheapest to the dearest of all, one route a provider, and nothing of those without a key."""
        made = config.from_environment({PROVIDERS[name][0]: f"sk-{name}" for name in names})
        upstreams = {
            name: UpstreamConfig(PROVIDERS[name][1], cast("config.Dialect", name), Secret(f"sk-{name}"))
            for name in names
        }
        models = {model: name for name in names for model in PROVIDERS[name][2]}

        assert upstreams == made.upstreams
        assert models == {name: model.upstream for name, model in made.models.items()}
        known = built_in().models
        assert {name: (name, known[name].price, known[name].context, known[name].max_output) for name in models} == {
            name: (model.name, model.price, model.context, model.max_output) for name, model in made.models.items()
        }
        assert {"auto": RouteConfig(ladder=auto)} | {
            f"auto-{name}": RouteConfig(ladder=PROVIDERS[name][2]) for name in names
        } == made.routes

    def test_prices_that_were_imported(self, tmp_path: Path) -> None:
        """They are in force here as well: also in which model is the dearest."""
        (tmp_path / "prices.json").write_bytes(encode(PriceList("2027-01-01", "", {"gpt-5.4": Facts(Price(30, 90))})))
        keys = {"OPENAI_API_KEY": "a", "ANTHROPIC_API_KEY": "b"}
        made = config.from_environment({"THRIFTGATE_DATA": str(tmp_path), **keys})

        assert Price(30, 90, search=10) == made.models["gpt-5.4"].price
        assert ["gpt-5.4-mini", "gpt-5.4"] == made.routes["auto"].ladder

    @pytest.mark.parametrize("environment", [{}, {"OPENAI_API_KEY": ""}, {"MISTRAL_API_KEY": "x"}])
    def test_none(self, environment: dict[str, str]) -> None:
        """The message names the keys and the demo that needs none."""
        with pytest.raises(ConfigError) as caught:
            config.from_environment(environment)

        (fault,) = caught.value.faults
        assert fault.problem == (
            "no configuration was given and none of OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY is set"
        )
        assert "thriftgate demo" in fault.hint
