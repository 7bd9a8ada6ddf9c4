"""Everything is counted from the receipt, once, under labels from the configuration."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import NotFound
from gateway.metrics import Metrics
from gateway.pricing import Usage
from gateway.receipt import Outcome, Receipt


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One sample, None when it does not exist."""
    return metrics.registry.get_sample_value(f"thriftgate_{name}", labels)


def served() -> Receipt:
    """The receipt of a good answer: 2 ms to classify, 0.3 s to the first byte, 1.5 s in all."""
    receipt = Receipt("r-1", 10.0)
    receipt.route, receipt.model, receipt.source = "auto", "small", "classifier"
    receipt.decoded, receipt.classified, receipt.first_byte = 10.001, 10.003, 10.3
    receipt.outcome, receipt.usage, receipt.cost_nanos = Outcome.OK, Usage(12, 3), 2_500_000_000
    return receipt.close(11.5)


def test_a_served_request() -> None:
    """Requests, times, verdicts, tokens and dollars, each under its labels."""
    metrics = Metrics()
    metrics.count(served().fields())
    metrics.count(served().fields())

    assert value(metrics, "requests_total", route="auto", model="small", outcome="ok") == 2
    assert value(metrics, "ttft_seconds_count", model="small") == 2
    assert value(metrics, "ttft_seconds_sum", model="small") == pytest.approx(0.6)
    assert value(metrics, "ttft_seconds_bucket", model="small", le="0.25") == 0
    assert value(metrics, "ttft_seconds_bucket", model="small", le="0.5") == 2
    assert value(metrics, "request_seconds_sum", model="small") == pytest.approx(3.0)
    assert value(metrics, "verdicts_total", source="classifier") == 2
    assert value(metrics, "classify_seconds_sum") == pytest.approx(0.004)
    assert value(metrics, "tokens_total", model="small", kind="input") == 24
    assert value(metrics, "tokens_total", model="small", kind="output") == 6
    assert value(metrics, "cost_usd_total", model="small") == 5.0


def test_a_refused_request() -> None:
    """What did not happen is not counted: no first byte, no verdict, no tokens, no dollars."""
    metrics = Metrics()
    receipt = Receipt("r-1", 10.0)
    receipt.fail(NotFound("no such model"))
    metrics.count(receipt.close(10.5).fields())

    assert value(metrics, "requests_total", route="", model="", outcome="refused") == 1
    assert value(metrics, "request_seconds_count", model="") == 1
    assert value(metrics, "ttft_seconds_count", model="") is None
    assert value(metrics, "classify_seconds_count") == 0
    names = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    assert not names & {f"thriftgate_{name}_total" for name in ("verdicts", "tokens", "cost_usd")}


def test_calls_by_their_results() -> None:
    """Every attempt is counted under a word of few: a status, or what else became of it."""
    metrics = Metrics()
    receipt = served()
    for status, error in ((200, None), (200, "Another target was quicker."), (429, "busy"), (None, "reset"),
                          (None, None)):
        attempt = receipt.attempt("small", 10.0)
        attempt.status, attempt.error = status, error
    metrics.count(receipt.fields())

    assert {
        result: value(metrics, "upstream_calls_total", model="small", result=result)
        for result in ("answered", "200", "429", "failed", "abandoned")
    } == dict.fromkeys(("answered", "200", "429", "failed", "abandoned"), 1)


def test_events_that_cannot_be_read() -> None:
    """They are counted by model."""
    metrics = Metrics()
    receipt = served()
    receipt.unreadable = 3
    metrics.count(receipt.fields())

    assert value(metrics, "unreadable_events_total", model="small") == 3


def test_an_unknown_cost_is_not_zero() -> None:
    """Tokens are counted, dollars are not."""
    metrics = Metrics()
    receipt = served()
    receipt.cost_nanos = None
    metrics.count(receipt.fields())

    assert value(metrics, "tokens_total", model="small", kind="input") == 12
    assert value(metrics, "cost_usd_total", model="small") is None


def test_labels_stay_bounded() -> None:
    """Whatever callers send, no label has their words: not the request, the caller, the error or the prompt."""
    metrics = Metrics()
    for number in range(50):
        receipt = Receipt(f"id-{number}", 0.0)
        receipt.caller, receipt.prompt, receipt.task = f"caller-{number}", f"prompt-{number}", f"task-{number}"
        receipt.finish = f"finish-{number}"
        receipt.fail(NotFound(f"no model called x-{number}"))
        metrics.count(receipt.close(1.0).fields())
    said = {value for family in metrics.registry.collect() for sample in family.samples
            for name, value in sample.labels.items() if name != "le"}

    assert said == {"", "refused"}
    assert value(metrics, "requests_total", route="", model="", outcome="refused") == 50


def test_two_gateways_in_one_process() -> None:
    """Each has a registry of its own."""
    one, other = Metrics(), Metrics()
    one.count(served().fields())

    assert value(other, "requests_total", route="auto", model="small", outcome="ok") is None


def test_the_exposition() -> None:
    """Prometheus reads it back, every metric with its help."""
    metrics = Metrics()
    metrics.count(served().fields())
    metrics.dropped.inc()
    metrics.in_flight.labels("openai").set(3)
    read = {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}

    assert set(read) >= {
        f"thriftgate_{name}" for name in (
            "requests", "ttft_seconds", "request_seconds", "verdicts", "classify_seconds", "tokens", "cost_usd",
            "receipts_dropped", "upstream_in_flight", "upstream_waiting", "deployment_state", "upstream_calls",
            "unreadable_events",
        )
    }
    assert all(family.documentation for family in read.values())
    assert read["thriftgate_upstream_in_flight"].samples[0].value == 3
