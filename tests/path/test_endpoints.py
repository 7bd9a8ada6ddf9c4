"""Everything beside the path: health, readiness, the list of models, metrics, and the time by part."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from classifier import bundle
from loadtest.mock_upstream import MockUpstream
from tests.conftest import Start, chat, two_rungs

PARTS = ("auth", "classify", "queue", "upstream", "gateway")


def timing(header: str) -> dict[str, float]:
    """Return the parts of a Server-Timing header in milliseconds."""
    parts = (re.fullmatch(r"([a-z]+);dur=(\d+\.\d{3})", part) for part in header.split(", "))
    return {part[1]: float(part[2]) for part in parts if part}


async def test_it_says_that_it_is_alive(serve: Start) -> None:
    """GET /healthz needs no key and no classifier."""
    running = await serve(more="keys: {alice: {secret: sk-alice}}")
    running.gateway.with_.classify.predictor = None
    reply = await running.get("/healthz")

    assert (reply.status, reply.json) == (200, {"status": "ok"})


async def test_it_is_ready_with_its_classifier(serve: Start) -> None:
    """GET /readyz: traffic may come."""
    running = await serve()
    reply = await running.get("/readyz")

    assert (reply.status, reply.json) == (200, {"status": "ready", "faults": {}})


async def test_without_its_classifier_it_is_not_ready_and_serves(
    gateway: Start, first: MockUpstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The files are not there: 503 names the fault and the remedy, and requests are answered from the safe rung."""
    monkeypatch.setattr(bundle, "DEFAULT_DIRECTORY", tmp_path)
    running = await gateway(two_rungs(first.base_url, first.base_url), load=True)
    ready = await running.get("/readyz")
    reply = await running.ask()

    assert (ready.status, ready.json["status"]) == (503, "not ready")
    assert str(tmp_path) in ready.json["faults"]["classifier"]
    assert "make train" in ready.json["faults"]["classifier"]
    assert (reply.status, reply.headers["x-thriftgate-reason"]) == (200, "safe-default")


async def test_a_draining_gateway_is_not_ready(serve: Start) -> None:
    """A balancer that still asks is told to go elsewhere."""
    running = await serve()
    await running.gateway.drain()
    reply = await running.get("/readyz")

    assert (reply.status, reply.json["faults"]) == (503, {"shutdown": "draining"})


async def test_the_list_of_models_is_what_can_be_asked_for(serve: Start) -> None:
    """Routes, aliases and models, in OpenAI's form."""
    running = await serve()
    reply = await running.get("/v1/models")
    listed = reply.json["data"]

    assert reply.json["object"] == "list"
    assert [entry["id"] for entry in listed] == ["auto", "gpt-4", "cheap", "premium"]
    assert {entry["object"] for entry in listed} == {"model"}
    assert [entry["owned_by"] for entry in listed] == ["thriftgate", "thriftgate", "first", "second"]


async def test_the_list_of_models_is_the_callers_own(serve: Start) -> None:
    """A key sees what it may use; without one nothing is listed."""
    running = await serve(more="keys: {bob: {secret: sk-bob, models: [premium]}}")
    mine = await running.get("/v1/models", {"Authorization": "Bearer sk-bob"})
    nobodys = await running.get("/v1/models")

    assert [entry["id"] for entry in mine.json["data"]] == ["premium"]
    assert (nobodys.status, nobodys.error["code"]) == (401, "invalid_api_key")


async def test_prometheus_can_read_the_metrics(serve: Start) -> None:
    """Every family parses, has a help text and our prefix; the path's are there after one request."""
    running = await serve()
    await running.ask()
    reply = await running.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(reply.body.decode())}

    assert reply.headers["Content-Type"].startswith("text/plain")
    assert all(name.startswith("thriftgate_") and family.documentation for name, family in families.items())
    assert {f"thriftgate_{name}" for name in ("requests", "ttft_seconds", "verdicts", "cost_usd")} <= set(families)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_the_time_is_told_by_part(serve: Start, first: MockUpstream, *, streamed: bool) -> None:
    """Server-Timing has every part; the provider's own slowness is under its name and not under ours."""
    first.turn(ttft_ms=60)
    running = await serve()
    reply = await running.ask(chat(stream=streamed))
    parts = timing(reply.headers["Server-Timing"])
    receipt = await running.receipt()

    assert tuple(parts) == PARTS
    assert parts["upstream"] > 50
    assert parts["classify"] > 0
    told = parts["classify"] + parts["upstream"] + parts["gateway"]      # all but the time the client took to send
    assert receipt["ttft_ms"] - 20 < told < receipt["ttft_ms"] + 0.01


async def test_the_time_lost_at_a_failed_target_is_the_upstreams(serve: Start, first: MockUpstream) -> None:
    """The wait for the first target counts as waiting for providers."""
    first.turn(fault="hang")
    running = await serve(deadlines="first_output_ms: 80")
    reply = await running.ask(chat(stream=True))

    assert timing(reply.headers["Server-Timing"])["upstream"] > 70


async def test_an_errors_time_is_told_as_well(serve: Start) -> None:
    """Refused requests have the header, with nothing under upstream."""
    running = await serve()
    reply = await running.ask(b"not JSON")
    parts = timing(reply.headers["Server-Timing"])

    assert tuple(parts) == PARTS
    assert (parts["upstream"], parts["classify"]) == (0, 0)
