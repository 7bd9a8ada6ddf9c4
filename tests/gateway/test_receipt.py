"""The record of a request: stamped by every stage, closed once, told in plain fields."""

import pytest

from gateway.errors import BadRequest, Forbidden, GatewayError, Refused, StreamBroken, TimedOut, Unavailable
from gateway.pricing import Usage
from gateway.receipt import Outcome, Premium, Receipt

NAMES = [
    "request_id", "at_ms", "caller", "owner", "surface", "kind", "conversation", "route", "model", "upstream", "rung",
    "reason", "propensity", "score", "p_cheap", "threshold", "task", "verdict", "stream", "status", "outcome", "error",
    "finish", "attempts", "classify_ms", "queued_ms", "ttft_ms", "total_ms", "sent_bytes", "input_tokens",
    "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost_usd_nanos", "cost_usd_micros",
    "cost_parts", "unused_usd_nanos", "unused_usd_micros", "premium_usd_nanos", "premium_usd_micros",
    "premium_low_nanos", "premium_high_nanos",
]


def test_an_untouched_receipt() -> None:
    """What no stage has stamped is None; what was not booked by the end is our fault and says so."""
    fields = Receipt("r-1", 5.0).close(5.25).fields()
    stamped = {
        "request_id": "r-1", "at_ms": 0, "kind": "chat", "outcome": "failed", "attempts": [], "total_ms": 250.0,
        "sent_bytes": 0, "queued_ms": 0.0, "cost_parts": {}, "unused_usd_nanos": 0, "unused_usd_micros": 0,
    }

    assert list(fields) == NAMES
    assert {**dict.fromkeys(NAMES), **stamped} == fields


def test_every_stage() -> None:
    """Times are milliseconds, money is nano-dollars and for readers micro-dollars, scores have four digits."""
    receipt = Receipt("r-1", 10.0, 1_790_000_000_123)
    receipt.owner, receipt.conversation, receipt.upstream, receipt.propensity = "team", "c-1", "openai", 0.5
    receipt.caller, receipt.authenticated, receipt.decoded, receipt.stream = "app", 10.001, 10.002, True
    receipt.route, receipt.score, receipt.p_cheap, receipt.task = "auto", 0.123456, 0.876544, "chat"
    receipt.source, receipt.classified, receipt.threshold = "classifier", 10.0045, 0.7
    receipt.model, receipt.rung, receipt.reason = "large", "premium", "fallback"
    first = receipt.attempt("small", 10.005)
    first.status, first.error, first.ended = 500, "boom", 10.1
    second = receipt.attempt("large", 10.1)
    second.status, second.ended, receipt.first_byte = 200, 10.35, 10.3501234
    receipt.status, receipt.outcome, receipt.finish, receipt.sent_bytes = 200, Outcome.OK, "stop", 321
    receipt.usage, receipt.cost_nanos, receipt.premium = Usage(12, 3, 8, 4, 2), 70_499, Premium(500, 400, 600)
    receipt.cost_parts, receipt.budgets = {"input": 30_499}, [("key:app", "2026-11")]
    receipt.surface, receipt.lost = "anthropic", ("seed",)
    receipt.queued_s, receipt.unused_nanos, receipt.unreadable = 0.0123456, 40_000, 2
    receipt.continued.append("huge")
    expected = {
        "request_id": "r-1", "at_ms": 1_790_000_000_123, "caller": "app", "owner": "team", "kind": "chat",
        "conversation": "c-1", "upstream": "openai", "propensity": 0.5, "route": "auto",
        "model": "large", "rung": "premium",
        "reason": "fallback", "score": 0.1235, "p_cheap": 0.8765, "threshold": 0.7, "task": "chat",
        "verdict": "classifier", "surface": "anthropic", "stream": True, "status": 200, "outcome": "ok",
        "error": None, "finish": "stop",
        "attempts": [
            {"model": "small", "status": 500, "wait_ms": 95.0, "error": "boom"},
            {"model": "large", "status": 200, "wait_ms": 250.0, "error": None},
        ],
        "classify_ms": 2.5, "queued_ms": 12.346, "ttft_ms": 350.123, "total_ms": 1500.0, "sent_bytes": 321,
        "input_tokens": 12, "cached_tokens": 8, "cache_write_tokens": 4, "output_tokens": 3, "reasoning_tokens": 2,
        "cost_usd_nanos": 70_499, "cost_usd_micros": 70, "cost_parts": {"input": 30_499}, "unused_usd_nanos": 40_000,
        "unused_usd_micros": 40, "premium_usd_nanos": 500, "premium_usd_micros": 1, "premium_low_nanos": 400,
        "premium_high_nanos": 600, "budgets": [("key:app", "2026-11")], "lost": ["seed"], "unreadable": 2,
        "continued": ["huge"],
    }

    assert expected == receipt.close(11.5).fields()


def test_what_is_seldom_used_is_told_where_it_was() -> None:
    """Hours of cache, pictures, sound, searches, another tier, and that the count is our own."""
    receipt = Receipt("r-1", 0.0)
    plain = receipt.close(1.0).fields()
    receipt.usage = Usage(9, 5, 0, 3, 0, 3, 2, 1, 4, 1, 7, "batch", estimated=True)
    expected = {
        "cache_write_1h_tokens": 3, "image_input_tokens": 2, "audio_input_tokens": 1, "image_output_tokens": 4,
        "audio_output_tokens": 1, "searches": 7, "tier": "batch", "estimated": True,
    }

    assert {name: value for name, value in receipt.fields().items() if name not in plain} == expected


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [
        (BadRequest("no"), Outcome.REFUSED, 400), (Forbidden("no"), Outcome.REFUSED, 403),
        (Unavailable("no"), Outcome.FAILED, 503), (TimedOut("no"), Outcome.FAILED, 504),
        (Refused("no", 429), Outcome.FAILED, 429), (StreamBroken("no"), Outcome.FAILED, 502),
        (GatewayError("no"), Outcome.FAILED, 500),
    ],
)
def test_an_error_is_booked_by_blame(error: GatewayError, outcome: Outcome, status: int) -> None:
    """The caller's faults are refusals, all others failures; the error's name and words are kept."""
    receipt = Receipt("r-1", 0.0)
    receipt.fail(error)

    assert (outcome, status, f"{type(error).__name__}: no") == (receipt.outcome, receipt.status, receipt.error)
    assert outcome is receipt.close(1.0).outcome


def test_closing_keeps_what_was_booked() -> None:
    """The end is stamped, the outcome stands, and the receipt is handed on."""
    receipt = Receipt("r-1", 0.0)
    receipt.outcome = Outcome.ABANDONED
    closed = receipt.close(2.0)

    assert closed is receipt
    assert (closed.outcome, closed.ended) == (Outcome.ABANDONED, 2.0)


def test_the_prompt_only_when_it_was_asked_for() -> None:
    """There is no such field otherwise; an empty prompt is one."""
    receipt = Receipt("r-1", 0.0)
    silent = receipt.close(1.0).fields()
    receipt.prompt = ""

    assert "prompt" not in silent
    assert receipt.fields()["prompt"] == ""


class TestUpstreamWait:
    """How long upstreams were waited for before the first byte."""

    def test_no_call(self) -> None:
        """Nothing was waited for."""
        assert Receipt("r-1", 0.0).upstream_wait_s() == 0

    def test_every_call_up_to_its_end(self) -> None:
        """A failed call up to its failure, the good one up to its first byte; one that has not ended not at all."""
        receipt = Receipt("r-1", 0.0)
        receipt.attempt("small", 1.0).ended = 4.0
        receipt.attempt("large", 4.5).ended = 5.0
        receipt.attempt("huge", 6.0)
        receipt.first_byte = 9.0

        assert receipt.upstream_wait_s() == 3.5


def test_the_repr() -> None:
    """An operator reads which request, who answers and how it ended."""
    receipt = Receipt("r-1", 0.0)
    opened = repr(receipt)
    receipt.model, receipt.outcome = "small", Outcome.OK

    assert opened == "<Receipt r-1 - open>"
    assert repr(receipt) == "<Receipt r-1 small ok>"


def test_nothing_else_can_be_stamped() -> None:
    """A misspelt stamp is an error and not a lost figure."""
    with pytest.raises(AttributeError):
        Receipt("r-1", 0.0).modle = "x"  # type: ignore[attr-defined]
