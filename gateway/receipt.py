"""What happened to one request: the single mutable record of the path.

Every stage stamps it; the handler closes it exactly once, whatever happened. It holds no prompt text and no secret: the
handler adds the prompt only when the operator asked for it.
"""

from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from gateway.errors import Blame, GatewayError
from gateway.pricing import Usage

# A receipt's names for what was used. The second are told where there is any.
_TOKENS = {
    "input_tokens": "input", "cached_tokens": "cached", "cache_write_tokens": "cache_write", "output_tokens": "output",
    "reasoning_tokens": "reasoning",
}
_SELDOM = {
    "cache_write_1h_tokens": "cache_write_1h", "image_input_tokens": "image_input",
    "audio_input_tokens": "audio_input", "image_output_tokens": "image_output", "audio_output_tokens": "audio_output",
    "searches": "searches", "tier": "tier", "estimated": "estimated",
}


class Outcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    REFUSED = "refused"        # the caller's fault: nothing was sent upstream, or the upstream said so
    FAILED = "failed"          # every target failed, or we did
    BROKEN = "broken"          # the answer broke after its first byte was shown
    ABANDONED = "abandoned"    # the client left, or the gateway had to stop before the first byte


class Attempt(msgspec.Struct):
    """One call to one target. Times are seconds on the gateway's monotonic clock."""

    model: str
    started: float
    ended: float | None = None       # its first byte was here, or it had failed
    status: int | None = None
    error: str | None = None


class Premium(NamedTuple):
    """What the top of the ladder would have cost, in nano-dollars, and the interval around it."""

    nanos: int
    low: int
    high: int


class Receipt:
    """The record. Attributes are None until their stage has happened; times are monotonic seconds."""

    __slots__ = (
        "at_ms", "attempts", "authenticated", "budgets", "caller", "classified", "continued", "continued_at",
        "conversation", "cost_nanos", "cost_parts", "decoded", "ended", "error", "finish", "first_byte", "kind",
        "lost", "model", "outcome", "owner", "p_cheap", "premium", "prompt", "propensity", "queued_s", "reason",
        "received", "request_id", "route", "rung", "score", "sent_bytes", "source", "started", "status", "stream",
        "surface", "task", "threshold", "unpriced", "unreadable", "unused_nanos", "upstream", "usage",
    )

    def __init__(self, request_id: str, now: float, at_ms: int = 0) -> None:
        # identity
        self.request_id = request_id
        self.at_ms = at_ms                   # since 1970
        self.caller: str | None = None
        self.owner: str | None = None
        # what was asked and decided
        self.surface: str | None = None
        self.kind = "chat"
        self.conversation: str | None = None
        self.lost: tuple[str, ...] = ()      # fields that the upstream's dialect cannot say
        self.stream: bool | None = None
        self.prompt: str | None = None
        self.route: str | None = None
        self.model: str | None = None
        self.upstream: str | None = None
        self.rung: str | None = None
        self.reason: str | None = None
        self.propensity: float | None = None         # the chance that this model was chosen, where chance has a say
        self.threshold: float | None = None
        self.score: float | None = None
        self.p_cheap: float | None = None
        self.task: str | None = None
        self.source: str | None = None
        # when
        self.started = now
        self.authenticated: float | None = None
        self.received: float | None = None
        self.decoded: float | None = None
        self.classified: float | None = None
        self.queued_s = 0.0                  # waited for slots
        self.first_byte: float | None = None
        self.ended: float | None = None
        # how it went
        self.attempts: list[Attempt] = []
        self.status: int | None = None
        self.outcome: Outcome | None = None
        self.error: str | None = None
        self.finish: str | None = None
        self.sent_bytes = 0
        self.unreadable = 0                  # events of the answer that are no objects, as far as it was read
        self.continued: list[str] = []       # models that went on where an answer broke off
        self.continued_at = 0                # sent bytes that are not of the last of them
        # what it cost
        self.usage: Usage | None = None
        self.cost_nanos: int | None = None   # nano-dollars, all in all
        self.cost_parts: dict[str, int] = {}         # of the answer that was used
        self.unused_nanos = 0                # of the cost: calls whose answer was not used, as far as is known
        self.unpriced = False                # a part of it has an unknown cost
        self.premium: Premium | None = None
        self.budgets: list[tuple[str, str]] = []     # whose money it was: budget and period

    def __repr__(self) -> str:
        return f"<Receipt {self.request_id} {self.model or '-'} {self.outcome or 'open'}>"

    def fail(self, error: GatewayError) -> None:
        """Book an error that became the response."""
        self.outcome = Outcome.REFUSED if error.blames is Blame.CALLER else Outcome.FAILED
        self.status = error.status
        self.error = f"{type(error).__name__}: {error.booked}"

    def attempt(self, model: str, now: float) -> Attempt:
        """Open the record of one call."""
        attempt = Attempt(model, now)
        self.attempts.append(attempt)
        return attempt

    def upstream_wait_s(self) -> float:
        """Return how long upstreams were waited for before the first byte, in seconds, over all attempts."""
        return sum((attempt.ended or attempt.started) - attempt.started for attempt in self.attempts)

    @property
    def spent_nanos(self) -> int | None:
        """What was spent, as far as it is known: on an answer, or only on calls whose answer was not used."""
        if self.cost_nanos is None and self.unused_nanos and self.usage is None and not self.unpriced:
            return self.unused_nanos
        return self.cost_nanos

    def close(self, now: float) -> "Receipt":
        """Stamp the end. What was not booked by then is our fault and says so."""
        self.ended = now
        if self.outcome is None:
            self.outcome = Outcome.FAILED
        return self

    def fields(self) -> dict[str, Any]:
        """Return the closed record as plain fields: times in milliseconds, money in nano-dollars."""
        return {
            "request_id": self.request_id,
            "at_ms": self.at_ms,
            "caller": self.caller,
            "owner": self.owner,
            "surface": self.surface,
            "kind": self.kind,
            "conversation": self.conversation,
            "route": self.route,
            "model": self.model,
            "upstream": self.upstream,
            "rung": self.rung,
            "reason": self.reason,
            "propensity": self.propensity,
            "score": _rounded(self.score, 4),
            "p_cheap": _rounded(self.p_cheap, 4),
            "threshold": self.threshold,
            "task": self.task,
            "verdict": self.source,
            "stream": self.stream,
            "status": self.status,
            "outcome": self.outcome,
            "error": self.error,
            "finish": self.finish,
            "attempts": [
                {"model": a.model, "status": a.status, "wait_ms": _ms(a.started, a.ended), "error": a.error}
                for a in self.attempts
            ],
            "classify_ms": _ms(self.decoded, self.classified),
            "queued_ms": round(self.queued_s * 1000, 3),
            "ttft_ms": _ms(self.started, self.first_byte),
            "total_ms": _ms(self.started, self.ended),
            "sent_bytes": self.sent_bytes,
            **self._money(),
            **({"lost": list(self.lost)} if self.lost else {}),
            **({"unreadable": self.unreadable} if self.unreadable else {}),
            **({"continued": self.continued} if self.continued else {}),
            **({"prompt": self.prompt} if self.prompt is not None else {}),
        }

    def _money(self) -> dict[str, Any]:
        """Return what was used and what it cost. Nano-dollars are exact, micro-dollars are for people to read."""
        told: dict[str, Any] = {
            name: None if self.usage is None else getattr(self.usage, part) for name, part in _TOKENS.items()
        }
        if self.usage is not None:
            told |= {name: said for name, part in _SELDOM.items() if (said := getattr(self.usage, part))}
        premium = self.premium
        return {
            **told,
            "cost_usd_nanos": self.spent_nanos,
            "cost_usd_micros": _micros(self.spent_nanos),
            "cost_parts": self.cost_parts,
            "unused_usd_nanos": self.unused_nanos,
            "unused_usd_micros": _micros(self.unused_nanos),
            "premium_usd_nanos": premium and premium.nanos,
            "premium_usd_micros": premium and _micros(premium.nanos),
            "premium_low_nanos": premium and premium.low,
            "premium_high_nanos": premium and premium.high,
            **({"budgets": self.budgets} if self.budgets else {}),
        }


def _micros(nanos: int | None) -> int | None:
    return None if nanos is None else (nanos + 500) // 1000


def _ms(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round((end - start) * 1000, 3)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
