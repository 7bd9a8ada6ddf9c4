"""The configured models: where each may be called, how long a call may take, and what the router sees of them."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from gateway.config import Deadlines, EndpointConfig, HealthConfig, ModelConfig, RouteDeadlines, UpstreamConfig
from gateway.config.settings import Dialect
from gateway.pricing import Price, tariff
from gateway.upstream.model import Deployment, Model, build
from gateway.upstream.pool import Limits

LONG = Deadlines(connect_ms=60_000, first_output_ms=60_000, idle_ms=60_000, total_ms=60_000)
HEALTH = HealthConfig(failures=1, open_ms=1_000)
Opens = Callable[..., Model]


@pytest.fixture
async def opened() -> AsyncIterator[Opens]:
    """Open a model at an upstream of so many endpoints; its connections are closed after the test."""
    models: list[Model] = []

    def opened(*weights: float, base_url: str = "http://acme.example/v1", **settings: Any) -> Model:
        """Open one."""
        first, *more = weights or (1.0,)
        endpoints = [EndpointConfig(weight=weight) for weight in more]
        upstream = UpstreamConfig(base_url=base_url, weight=first, endpoints=endpoints, health=HEALTH, **settings)
        models.append(build({"small": ModelConfig(upstream="acme", name="acme-small")}, {"acme": upstream})["small"])
        return models[-1]

    yield opened
    for model in models:
        await model.pool.close()


def fail(deployment: Deployment, now: float = 0.0) -> None:
    """Open its breaker."""
    deployment.health.started(now)
    deployment.health.failed(now, now)


async def test_build() -> None:
    """One pool for each upstream in use, shared by its models, none for the others; what the router sees is here."""
    models: Mapping[str, ModelConfig] = {
        "small": ModelConfig(upstream="a", name="a-small", price=Price(1, 2), context=5, tools=False),
        "large": ModelConfig(upstream="a", name="a-large", context=6, images=False, structured=False, continues=True),
        "other": ModelConfig(upstream="b", name="b-other", context=7, deadlines=LONG),
    }
    upstreams = {name: UpstreamConfig(base_url=f"http://{name}.example/v1", slots=9) for name in ("a", "b", "unused")}
    built = build(models, upstreams)
    pools = {model.pool for model in built.values()}
    for opened_pool in pools:
        await opened_pool.close()

    assert sorted((made.name, made.slots.limit) for made in pools) == [("a", 9), ("b", 9)]
    assert built["small"].pool is built["large"].pool
    seen = {
        name: (m.name, m.upstream_name, m.tariff, m.context, m.tools, m.images, m.structured, m.continues, m.deadlines)
        for name, m in built.items()
    }
    assert seen == {
        "small": ("small", "a-small", tariff(Price(1, 2)), 5, False, True, True, False, Deadlines()),
        "large": ("large", "a-large", None, 6, True, False, False, True, Deadlines()),
        "other": ("other", "b-other", None, 7, True, True, True, False, LONG),
    }
    assert repr(built["small"]) == "<Model small at <Pool a 0/9 in flight>>"


async def test_two_models_at_one_endpoint() -> None:
    """Each has a record of its own, since a provider may be short of one and not of the other."""
    models = {name: ModelConfig(upstream="a", name=name) for name in ("small", "large")}
    built = build(models, {"a": UpstreamConfig(base_url="http://a.example/v1", health=HEALTH)})
    small, large = built["small"].deployments[0], built["large"].deployments[0]
    fail(small)
    await built["small"].pool.close()

    assert small.endpoint is large.endpoint
    assert (small.health.state(0), large.health.state(0)) == ("open", "closed")
    assert repr(small) == "<Deployment small@a <Health open, 1 of 1 failed, untried>>"


class TestAddresses:
    """Where a request goes."""

    @pytest.mark.parametrize("end", ["", "/"])
    @pytest.mark.parametrize(
        ("kind", "path"),
        [("chat", "chat/completions"), ("embeddings", "embeddings"), ("completions", "completions")],
    )
    async def test_openai(self, opened: Opens, end: str, kind: str, path: str) -> None:
        """Each kind has its own, the same for a stream; a base URL may end with a slash."""
        (deployment,) = opened(base_url=f"https://api.example/v1{end}").deployments

        assert {str(deployment.url(kind, stream=stream)) for stream in (False, True)} == {
            f"https://api.example/v1/{path}"
        }

    @pytest.mark.parametrize(
        ("dialect", "kind", "stream", "url"),
        [
            ("anthropic", "chat", True, "https://api.example/v1/messages"),
            ("anthropic", "count_tokens", False, "https://api.example/v1/messages/count_tokens"),
            ("gemini", "chat", False, "https://api.example/v1beta/models/acme-small:generateContent"),
            ("gemini", "chat", True, "https://api.example/v1beta/models/acme-small:streamGenerateContent?alt=sse"),
        ],
    )
    async def test_others(self, opened: Opens, dialect: Dialect, kind: str, url: str, *, stream: bool) -> None:
        """By their dialect, with the provider's name for the model where it stands in the path."""
        (deployment,) = opened(base_url="https://api.example", dialect=dialect).deployments

        assert str(deployment.url(kind, stream=stream)) == url

    async def test_each_endpoint_has_its_own(self) -> None:
        """The same path at another server."""
        upstream = UpstreamConfig(base_url="http://a/v1", endpoints=[EndpointConfig(base_url="http://b/v1")])
        model = build({"small": ModelConfig(upstream="acme", name="s")}, {"acme": upstream})["small"]
        await model.pool.close()

        assert [(each.name, str(each.url("chat", stream=False))) for each in model.deployments] == [
            ("small@acme-1", "http://a/v1/chat/completions"), ("small@acme-2", "http://b/v1/chat/completions"),
        ]


class TestChoosing:
    """Which endpoint is called."""

    async def test_the_only_one(self, opened: Opens) -> None:
        """Where it is well and was not tried."""
        model = opened()
        (deployment,) = model.deployments

        assert model.choose(0.0) is deployment
        assert model.choose(0.0, [deployment]) is None

    async def test_only_those_that_are_well(self, opened: Opens) -> None:
        """Neither open, cooling nor tried ones, whatever their weight."""
        model = opened(1.0, 1e6, 1e6, 1e6)
        well, broken, cooling, tried = model.deployments
        fail(broken)
        cooling.health.cool(0.0, 5.0)

        assert {model.choose(0.5, [tried]) for _ in range(50)} == {well}

    async def test_an_open_breaker_is_an_opinion(self, opened: Opens) -> None:
        """Who has nowhere else to go asks it all the same; but none that asked to be left alone, and none twice."""
        model = opened(1.0, 1.0)
        broken, cooling = model.deployments
        fail(broken)
        cooling.health.cool(0.0, 5.0)

        assert model.choose(0.5) is None
        assert model.choose(0.5, desperate=True) is broken
        assert model.choose(0.5, [broken], desperate=True) is None
        assert model.choose(5.0, [broken]) is cooling

    async def test_a_half_open_one_is_tried_by_one_call(self, opened: Opens) -> None:
        """While its probe runs it is none that is well."""
        model = opened()
        (deployment,) = model.deployments
        fail(deployment)
        before = model.choose(1.5)
        deployment.health.started(1.5)

        assert before is deployment
        assert model.choose(1.5) is None

    async def test_by_weight(self, opened: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each endpoint gets its share, as far as chance allows."""
        model, draw = opened(1.0, 9.0), random.Random(7)
        monkeypatch.setattr(random, "choices", draw.choices)
        drawn = [model.choose(0.0) for _ in range(2_000)]

        assert 0.85 < drawn.count(model.deployments[1]) / 2_000 < 0.95

    async def test_of_two_the_one_with_less_to_do(self, opened: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
        """For its weight: three calls at one of weight 4 are less than one at one of weight 1."""
        model = opened(1.0, 4.0)
        small, large = model.deployments
        monkeypatch.setattr(random, "choices", lambda well, _weights, k: well[:k])
        small.endpoint.in_flight, large.endpoint.in_flight = 1, 3
        first = model.choose(0.0)
        large.endpoint.in_flight = 5

        assert (first, model.choose(0.0)) == (large, small)


class TestLimits:
    """How long a call may take."""

    async def test_the_configuration_is_milliseconds(self) -> None:
        """The model's own; what a route asks for goes before, each phase apart."""
        own = Deadlines(connect_ms=2_500, first_output_ms=8_000, idle_ms=4_500, total_ms=3_600_000)
        upstream = UpstreamConfig(base_url="http://a.example/v1")
        model = build({"small": ModelConfig(upstream="a", name="s", deadlines=own)}, {"a": upstream})["small"]
        await model.pool.close()

        assert model.limits() == model.limits(RouteDeadlines()) == Limits(2.5, 8.0, 4.5, 3600.0)
        assert model.limits(RouteDeadlines(first_output_ms=500, total_ms=9_000)) == Limits(2.5, 0.5, 4.5, 9.0)
