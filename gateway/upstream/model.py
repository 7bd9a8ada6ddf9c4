"""The configured models, each at one endpoint of its upstream or at several.

A model at an endpoint is a *deployment*: it has a health of its own, since a provider may be short of one model and not
of another, and one key may be at its limit and not the next.
"""

import random
from collections.abc import Collection, Mapping

from yarl import URL

from gateway.config import Deadlines, ModelConfig, RouteDeadlines, UpstreamConfig
from gateway.pricing import tariff
from gateway.upstream.health import Health
from gateway.upstream.pool import Endpoint, Limits, Pool

PLAIN = ("embeddings", "completions")       # passed through to a model that is named, at an address of their own


class Deployment:
    """A model at an endpoint."""

    def __init__(self, model: str, name: str, endpoint: Endpoint, pool: Pool) -> None:
        self.name = f"{model}@{endpoint.name}"
        self.endpoint = endpoint
        self.health = Health(pool.health)
        self._urls = {
            stream: URL(pool.speaks.url(endpoint.base_url, name, stream=stream)) for stream in (False, True)
        }
        self._plain_urls = {kind: URL(f"{endpoint.base_url.rstrip('/')}/{kind}") for kind in PLAIN} | {
            "count_tokens": self._urls[False] / "count_tokens"
        }

    def __repr__(self) -> str:
        return f"<Deployment {self.name} {self.health!r}>"

    def url(self, kind: str, *, stream: bool) -> URL:
        """Return where a request goes."""
        return self._urls[stream] if kind == "chat" else self._plain_urls[kind]


class Model:
    """A configured model bound to its upstream's pool."""

    def __init__(self, name: str, config: ModelConfig, pool: Pool) -> None:
        self.name = name
        self.upstream_name = config.name
        self.tariff = None if config.price is None else tariff(config.price)     # None: what it costs is unknown
        self.context = config.context
        self.max_output = config.max_output
        self.tools = config.tools
        self.images = config.images
        self.structured = config.structured
        self.continues = config.continues
        self.deadlines = config.deadlines
        self._limits: dict[RouteDeadlines | None, Limits] = {}
        self.pool = pool
        self.deployments = [Deployment(name, config.name, endpoint, pool) for endpoint in pool.endpoints]

    def __repr__(self) -> str:
        return f"<Model {self.name} at {self.pool!r}>"

    def choose(
        self, now: float, tried: Collection[Deployment] = (), *, desperate: bool = False
    ) -> Deployment | None:
        """Return where to call it: of two that are well, drawn by weight, the one with less to do.

        `desperate`: also one whose breaker is open, which is our opinion; but none that asked to be left alone.
        """
        well = [
            each for each in self.deployments
            if each not in tried and (each.health.available(now) or (desperate and not each.health.cooling(now)))
        ]
        if len(well) < 2:
            return well[0] if well else None
        drawn = random.choices(well, [each.endpoint.weight for each in well], k=2)  # noqa: S311 - spreads load
        return min(drawn, key=lambda each: each.endpoint.load)

    def limits(self, route: RouteDeadlines | None = None) -> Limits:
        """Return how long a call may take, on a route or by itself."""
        if route not in self._limits:
            names = Deadlines.__struct_fields__
            asked = [(route and getattr(route, name)) or getattr(self.deadlines, name) for name in names]
            self._limits[route] = Limits(*(milliseconds / 1000 for milliseconds in asked))
        return self._limits[route]


def build(models: Mapping[str, ModelConfig], upstreams: Mapping[str, UpstreamConfig]) -> dict[str, Model]:
    """Open one pool per upstream in use and return the models bound to them. Needs a running loop."""
    used = {config.upstream for config in models.values()}
    pools = {name: Pool(name, upstreams[name]) for name in sorted(used)}
    return {name: Model(name, config, pools[config.upstream]) for name, config in models.items()}
