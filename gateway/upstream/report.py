"""What an operator reads of the upstreams: their slots, and how each deployment does. Pure."""

from collections.abc import Iterable
from typing import Any

from gateway.upstream.model import Deployment, Model

STATES = {"closed": 0, "half-open": 1, "cooling": 2, "open": 3}      # as numbers, for a metric: worse is more


def report(models: Iterable[Model], now: float) -> dict[str, Any]:
    """Return every upstream with its deployments, as plain values. It names no key and no address."""
    told: dict[str, Any] = {}
    for model in models:
        pool = model.pool
        if pool.name not in told:
            told[pool.name] = {
                "dialect": pool.dialect,
                "slots": pool.slots.limit,
                "in_flight": pool.slots.in_flight,
                "waiting": pool.slots.waiting,
                "retries_left": round(pool.budget.left(now), 1),
                "retries_refused": pool.budget.refused,
                "deployments": {},
            }
        told[pool.name]["deployments"] |= {each.name: _told(each, now) for each in model.deployments}
    return told


def _told(deployment: Deployment, now: float) -> dict[str, Any]:
    health = deployment.health
    return {
        "state": health.state(now),
        "again_in_ms": round(health.wait_s(now) * 1000),
        "in_flight": deployment.endpoint.in_flight,
        "calls": health.total_calls,
        "failed": health.failed_calls,
        "failed_in_a_row": health.in_a_row,
        "throttled": health.throttled,
        "opened": health.opened,
        "first_output_ms": None if health.latency_s is None else round(health.latency_s * 1000, 1),
    }
