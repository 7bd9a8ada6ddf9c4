"""What an operator reads of the upstreams."""

from gateway.config import EndpointConfig, ModelConfig, Secret, UpstreamConfig
from gateway.upstream import model
from gateway.upstream.report import STATES, report


async def test_every_deployment_is_told() -> None:
    """With its state and record, under its upstream; no key and no address."""
    upstream = UpstreamConfig(
        base_url="http://first.example/v1", key=Secret("sk-hidden"), slots=9, retries=0,
        endpoints=[EndpointConfig(base_url="http://second.example/v1")],
    )
    models = model.build({name: ModelConfig(upstream="acme", name=name) for name in ("small", "large")},
                         {"acme": upstream})
    tired, quick = models["small"].deployments
    for _ in range(5):
        tired.health.started(0.0)
        tired.health.failed(0.0, 0.0)
    quick.health.started(0.0)
    quick.health.answered(0.25, 0.0)
    models["large"].deployments[0].health.cool(0.0, 7.0)
    lease = models["small"].pool.lease()
    told = report(models.values(), 0.5)
    lease.leave()
    await models["small"].pool.close()
    acme = told["acme"]
    deployments = acme["deployments"]

    assert list(told) == ["acme"]
    assert (acme["slots"], acme["in_flight"], acme["waiting"], acme["retries_left"]) == (9, 1, 0, 0.0)
    assert {name: each["state"] for name, each in deployments.items()} == {
        "small@acme-1": "open", "small@acme-2": "closed", "large@acme-1": "cooling", "large@acme-2": "closed",
    }
    assert (deployments["small@acme-1"]["failed"], deployments["small@acme-1"]["again_in_ms"]) == (5, 500)
    assert deployments["small@acme-2"]["first_output_ms"] == 250.0
    assert deployments["large@acme-1"]["throttled"] == 1
    assert "hidden" not in repr(told)
    assert "example" not in repr(told)


def test_a_worse_state_is_a_greater_number() -> None:
    """So that an alarm can be set on it."""
    assert sorted(STATES, key=lambda name: STATES[name]) == ["closed", "half-open", "cooling", "open"]
