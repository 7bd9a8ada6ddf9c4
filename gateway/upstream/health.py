"""How well a deployment (a model at an endpoint) does: a circuit breaker, a cool-down, how long its answers take. Pure.

    closed ── failures in a row, or too large a share ──→ open ── its time is over ──→ half-open: one call is a probe
      ↑                                                    ↑                              │
      └───────────────── the probe succeeded ──────────────┼──────────────────────────────┤
                                                           └── twice as long: it failed ──┘

A 429 is no failure: the deployment cools down for as long as it asked, and its record stays clean. What ends without
a word on the deployment (a client that left, a caller's fault) gives the probe's place back and blames nobody. A call
that began before the breaker opened says nothing of how the deployment is since then: it neither closes it nor is it
the probe.
"""

from collections import deque

from gateway.config import HealthConfig

EWMA = 0.2               # weight of the newest first output in the average
KEPT = 128               # first outputs that the quantile is taken of
KNOWN = 20               # and how many it takes
COOL_S = 1.0             # where a 429 does not say how long
MAX_COOL_S = 300.0       # whatever it says


class Health:
    """One deployment's record. Every method is given the time, in monotonic seconds.

    `began`: when the call that ended was started; None: a moment ago.
    """

    __slots__ = (
        "_config", "_cool_until", "_open_for_s", "_open_until", "_opened_at", "_probing", "_recent", "_took",
        "failed_calls", "in_a_row", "latency_s", "opened", "throttled", "total_calls",
    )

    def __init__(self, config: HealthConfig) -> None:
        self._config = config
        self._open_for_s = config.open_ms / 1000
        self._open_until: float | None = None            # None: closed
        self._opened_at = 0.0
        self._probing = False
        self._cool_until = 0.0
        self._recent: deque[tuple[float, bool]] = deque(maxlen=max(256, config.calls))     # when, and whether it failed
        self._took: deque[float] = deque(maxlen=KEPT)
        self.latency_s: float | None = None              # average time to the first output
        self.in_a_row = 0
        # counters since the start
        self.total_calls = 0
        self.failed_calls = 0
        self.throttled = 0
        self.opened = 0

    def __repr__(self) -> str:
        latency = "untried" if self.latency_s is None else f"{self.latency_s * 1000:.0f} ms"
        record = f"{self.failed_calls} of {self.total_calls} failed"
        return f"<Health {'open' if self._open_until is not None else 'closed'}, {record}, {latency}>"

    def state(self, now: float) -> str:
        """Return closed, cooling, open or half-open."""
        if self._open_until is not None:
            return "open" if now < self._open_until else "half-open"
        return "cooling" if now < self._cool_until else "closed"

    def available(self, now: float) -> bool:
        """Say whether a call may go there: not while it cools down or is open, and one at a time where it is tried."""
        if now < self._cool_until:
            return False
        return self._open_until is None or (now >= self._open_until and not self._probing)

    def wait_s(self, now: float) -> float:
        """Return in how many seconds it may be asked again, as far as is known."""
        return max(0.0, self._cool_until - now, (self._open_until or 0.0) - now)

    def cooling(self, now: float) -> bool:
        """Say whether it asked to be left alone; an open breaker is only our opinion."""
        return now < self._cool_until

    def started(self, now: float) -> None:
        """Note a call. In half-open it is the probe."""
        self.total_calls += 1
        if self._open_until is not None and now >= self._open_until:
            self._probing = True

    def answered(self, first_output_s: float | None = None, began: float | None = None) -> None:
        """Note that an answer has begun, and how long that took where it says something (of streams)."""
        if self._open_until is not None and (began is None or began >= self._opened_at):
            self._probing = False
            self._open_until, self._open_for_s = None, self._config.open_ms / 1000
            self._recent.clear()
            self.in_a_row = 0
        if first_output_s is not None:
            self._took.append(first_output_s)
            before = first_output_s if self.latency_s is None else self.latency_s
            self.latency_s = before + EWMA * (first_output_s - before)

    def succeeded(self, now: float) -> None:
        """Note that an answer was whole."""
        self.in_a_row = 0
        self._recent.append((now, False))

    def failed(self, now: float, began: float | None = None) -> None:
        """Note a failure that is the deployment's fault."""
        self.failed_calls += 1
        self.in_a_row += 1
        self._recent.append((now, True))
        if self._open_until is None:
            if self.in_a_row >= self._config.failures or self._too_many(now):
                self.opened += 1
                self._open(now)
        elif (now if began is None else began) >= self._open_until:
            self._open_for_s = min(2 * self._open_for_s, self._config.open_max_ms / 1000)
            self._open(now)

    def cool(self, now: float, seconds: float | None, began: float | None = None) -> None:
        """Note that it asked to be left alone."""
        self.throttled += 1
        self.dropped(began)
        self._cool_until = max(self._cool_until, now + min(COOL_S if seconds is None else seconds, MAX_COOL_S))

    def dropped(self, began: float | None = None) -> None:
        """Note a call that ended without a word on the deployment."""
        if began is None or self._open_until is None or began >= self._open_until:
            self._probing = False

    def late_after_s(self, share: float = 0.95) -> float | None:
        """Return what the first output took in `share` of the last calls, None while too few are known."""
        if len(self._took) < KNOWN:
            return None
        return sorted(self._took)[min(len(self._took) - 1, int(share * len(self._took)))]

    def _open(self, now: float) -> None:
        self._opened_at, self._open_until, self._probing = now, now + self._open_for_s, False

    def _too_many(self, now: float) -> bool:
        since = now - self._config.window_ms / 1000
        while self._recent and self._recent[0][0] < since:
            self._recent.popleft()
        if len(self._recent) < self._config.calls:
            return False
        return sum(failed for _, failed in self._recent) / len(self._recent) >= self._config.error_rate


class RetryBudget:
    """How often a pool may be asked again for the same request, so that retries cannot multiply an outage.

    Every first call adds `share` of a retry, up to a hundred; ten are there to begin with, and one comes back a second.
    (After Finagle's retry budgets.)
    """

    __slots__ = ("_left", "_seen", "_share", "refused")

    FIRST, MOST, PER_S = 10.0, 100.0, 1.0

    def __init__(self, share: float) -> None:
        self._share = share
        self._left = self.FIRST if share else 0.0
        self._seen: float | None = None
        self.refused = 0

    def __repr__(self) -> str:
        return f"<RetryBudget {self._left:.1f} left, {self.refused} refused>"

    def called(self) -> None:
        """Note a first call."""
        self._left = min(self.MOST, self._left + self._share)

    def left(self, now: float) -> float:
        """Return how many retries are left."""
        if self._share:
            passed = 0.0 if self._seen is None else now - self._seen
            self._left = max(self._left, min(self.FIRST, self._left + passed * self.PER_S))
            self._seen = now
        return self._left

    def allows(self, now: float) -> bool:
        """Take one retry, or say that there is none left."""
        if self.left(now) < 1:
            self.refused += 1
            return False
        self._left -= 1
        return True
