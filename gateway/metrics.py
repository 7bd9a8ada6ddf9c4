"""Counters and histograms in Prometheus' text form. Everything is counted from the receipt, once, when it is closed."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
CLASSIFY_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.05)


class Metrics:
    """The gateway's metrics, in a registry of their own so that two gateways in one process do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "thriftgate_requests", "Requests by route, model and outcome.", ["route", "model", "outcome"],
            registry=self.registry,
        )
        self.ttft = Histogram(
            "thriftgate_ttft_seconds", "Time to the first byte of an answer.", ["model"], buckets=SECONDS,
            registry=self.registry,
        )
        self.total = Histogram(
            "thriftgate_request_seconds", "Time from accept to the last byte.", ["model"], buckets=SECONDS,
            registry=self.registry,
        )
        self.verdicts = Counter(
            "thriftgate_verdicts", "Verdicts by source: classifier, cache, or why there was none.", ["source"],
            registry=self.registry,
        )
        self.classify = Histogram(
            "thriftgate_classify_seconds", "Time a request waited for its verdict.", buckets=CLASSIFY_SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "thriftgate_tokens", "Tokens by model and kind.", ["model", "kind"], registry=self.registry
        )
        self.cost = Counter(
            "thriftgate_cost_usd", "Dollars spent, where the cost is known.", ["model"], registry=self.registry
        )
        self.unreadable = Counter(
            "thriftgate_unreadable_events", "Events that are no objects, of answers as far as they are read.",
            ["model"], registry=self.registry,
        )
        self.dropped = Counter(
            "thriftgate_receipts_dropped", "Receipts lost because they could not be written, or not in time.",
            registry=self.registry,
        )
        self.limited = Counter(
            "thriftgate_limited", "Requests refused by a limit of a key, route or model.", ["of", "limit"],
            registry=self.registry,
        )
        self.alone = Counter(
            "thriftgate_limits_alone", "Requests decided without Redis: by this node's share, let through, refused.",
            ["by"], registry=self.registry,
        )
        self.in_flight = Gauge(
            "thriftgate_upstream_in_flight", "Calls in flight.", ["upstream"], registry=self.registry
        )
        self.waiting = Gauge(
            "thriftgate_upstream_waiting", "Requests waiting for a slot.", ["upstream"], registry=self.registry
        )
        self.state = Gauge(
            "thriftgate_deployment_state", "0 closed, 1 half-open, 2 cooling down, 3 open.", ["deployment"],
            registry=self.registry,
        )
        self.calls = Counter(
            "thriftgate_upstream_calls", "Calls by model and result: answered, a status, failed, abandoned.",
            ["model", "result"], registry=self.registry,
        )
        self._keep()

    def _keep(self) -> None:
        """Set up those of the ledger."""
        self.lines_dropped = Counter(
            "thriftgate_receipt_lines_dropped", "Receipts missing in the log, though not in the ledger.",
            registry=self.registry,
        )
        self.receipts_held = Gauge(
            "thriftgate_receipts_held", "Receipts that are in memory only.", registry=self.registry
        )
        self.spool_writable = Gauge(
            "thriftgate_spool_writable", "1: receipts reach the disk; 0: it refuses them.", registry=self.registry
        )
        self.spool_bytes = Gauge(
            "thriftgate_spool_bytes", "Receipts on disk that wait to be stored.", registry=self.registry
        )
        self.spool_segments = Gauge(
            "thriftgate_spool_segments", "Files of such receipts.", registry=self.registry
        )
        self.stored = Counter("thriftgate_receipts_stored", "Receipts stored.", registry=self.registry)
        self.refused = Counter(
            "thriftgate_receipts_refused", "Receipts set aside on disk because the store refuses them alone.",
            registry=self.registry,
        )
        self.store_up = Gauge(
            "thriftgate_store_up", "1: the store took the last receipts; 0: it is away.", registry=self.registry
        )
        self.store_errors = Counter(
            "thriftgate_store_errors", "Failures of the store, by what was raised.", ["error"], registry=self.registry
        )

    def count(self, receipt: dict[str, Any]) -> None:
        """Book one closed receipt. Routes and models come from the configuration, so the labels stay bounded."""
        model = receipt["model"] or ""
        self.requests.labels(receipt["route"] or "", model, receipt["outcome"]).inc()
        self.total.labels(model).observe(receipt["total_ms"] / 1000)
        if receipt["ttft_ms"] is not None:
            self.ttft.labels(model).observe(receipt["ttft_ms"] / 1000)
        if receipt["verdict"] is not None:
            self.verdicts.labels(receipt["verdict"]).inc()
        if receipt["classify_ms"] is not None:
            self.classify.observe(receipt["classify_ms"] / 1000)
        if "unreadable" in receipt:
            self.unreadable.labels(model).inc(receipt["unreadable"])
        for attempt in receipt["attempts"]:
            self.calls.labels(attempt["model"], _result(attempt)).inc()
        if receipt["input_tokens"] is not None:
            self.tokens.labels(model, "input").inc(receipt["input_tokens"])
            self.tokens.labels(model, "output").inc(receipt["output_tokens"])
        if receipt["cost_usd_nanos"] is not None:
            self.cost.labels(model).inc(receipt["cost_usd_nanos"] / 1e9)

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


def _result(attempt: dict[str, Any]) -> str:
    """Return a word of few for how a call ended, so that the labels stay bounded."""
    if attempt["status"] is None:
        return "failed" if attempt["error"] else "abandoned"
    return "answered" if attempt["status"] < 400 and not attempt["error"] else str(attempt["status"])
