"""Streaming users for locust: closed ones, and arrivals at a constant rate.

    locust -f loadtest/locustfile.py --headless -s 30 -t 30s -u 16 -r 16 --host http://127.0.0.1:8080/v1 ClosedUser
    locust -f loadtest/locustfile.py --headless -s 30 -t 30s -u 1 --host http://127.0.0.1:8080/v1 Arrivals

Closed users wait for their answer before they ask again, so a slow server is asked less and its queue stays hidden.
Arrivals come whether or not earlier ones have been answered, as a crowd does. `python -m loadtest.load` runs both, with
and without the gateway.

Recorded as separate entries: `first token`, `gap` (between two reads of a stream), `stream` (start to end; its failures
are the errors). Settings come from the environment because locust owns the command line:

    LOADTEST_MODEL     model asked for (auto)             LOADTEST_RATE      arrivals a second (20)
    LOADTEST_SEED      of prompts and arrivals (1)        LOADTEST_WARMUP_S  what starts earlier is not counted (1)
    LOADTEST_OUT       file for the raw figures as JSON, which locust would round to milliseconds
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import gevent
import gevent.pool
import orjson
from locust import User, constant, events, task

from loadtest import workload
from loadtest.figures import percentile
from loadtest.streaming import Connections, Timing

MODEL = os.environ.get("LOADTEST_MODEL", "auto")
RATE_PER_S = float(os.environ.get("LOADTEST_RATE", "20"))
SEED = int(os.environ.get("LOADTEST_SEED", "1"))
WARMUP_S = float(os.environ.get("LOADTEST_WARMUP_S", "1"))


class Figures:
    """What all users of this process measured, in milliseconds."""

    def __init__(self) -> None:
        self.begun = 0.0
        self.first: list[float] = []
        self.gaps: list[float] = []
        self.total: list[float] = []
        self.errors: Counter[str] = Counter()
        self.ended = 0.0

    def add(self, timing: Timing) -> None:
        """Count one stream, unless it started while things were warming up. Errors always count."""
        if timing.error:
            self.errors[timing.error] += 1
        elif timing.started >= self.begun + WARMUP_S:
            self.first.append(timing.first_token_s * 1000)
            self.gaps += [gap * 1000 for gap in timing.gaps_s]
            self.total.append(timing.total_s * 1000)
            self.ended = time.perf_counter()

    def as_json(self) -> dict[str, object]:
        """Percentiles, the rate of good streams, errors."""
        window_s = self.ended - self.begun - WARMUP_S
        kinds = {"first": self.first, "gap": self.gaps, "total": self.total}
        shares = {"p50": 0.5, "p99": 0.99}
        return {
            "streams": len(self.total),
            "per_s": len(self.total) / window_s if window_s > 0 else 0.0,
            "errors": dict(self.errors),
            **{f"{kind}_{name}_ms": percentile(of, at) for kind, of in kinds.items() for name, at in shares.items()},
        }


FIGURES = Figures()
_SEEDS = itertools.count(SEED)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def begin(**_: Any) -> None:
    """The clock of the warm-up starts with the users."""
    FIGURES.begun = time.perf_counter()


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def write(**_: Any) -> None:
    """Leave the raw figures where `loadtest.load` looks for them."""
    if out := os.environ.get("LOADTEST_OUT"):
        Path(out).write_bytes(orjson.dumps(FIGURES.as_json()))


class StreamingUser(User):
    """Asks for streams and records them."""

    abstract = True
    wait_time = constant(0)

    def on_start(self) -> None:
        """Each user has its own connections and its own stretch of the workload."""
        self.connections = Connections(self.host)
        self.prompts = workload.prompts(next(_SEEDS))

    def on_stop(self) -> None:
        """Leave no connection open."""
        self.connections.close()

    def ask(self) -> None:
        """One stream, recorded."""
        prompt = next(self.prompts)
        options = {"include_usage": True}
        body = {"model": MODEL, "messages": prompt.messages, "stream": True, "stream_options": options}
        timing = self.connections.stream(body)
        FIGURES.add(timing)
        self._record("stream", timing.total_s, timing.received, timing.error)
        if not timing.error:
            self._record("first token", timing.first_token_s)
            for gap_s in timing.gaps_s:
                self._record("gap", gap_s)

    def _record(self, name: str, took_s: float, length: int = 0, error: str = "") -> None:
        self.environment.events.request.fire(
            request_type="SSE",
            name=name,
            response_time=took_s * 1000,
            response_length=length,
            exception=RuntimeError(error) if error else None,
            context={},
        )


class ClosedUser(StreamingUser):
    """Asks, reads the whole answer, asks again."""

    @task  # type: ignore[untyped-decorator]
    def talk(self) -> None:
        """One turn."""
        self.ask()


class Arrivals(StreamingUser):
    """One user that is a crowd: a Poisson process at LOADTEST_RATE, each arrival on its own."""

    fixed_count = 1

    @task  # type: ignore[untyped-decorator]
    def arrive(self) -> None:
        """The next one comes. One a task, because a run ends between two tasks."""
        gevent.sleep(max(0.0, self.begun + next(self.arrivals) - time.perf_counter()))
        self.crowd.spawn(self.ask)

    def on_start(self) -> None:
        """The crowd begins empty."""
        super().on_start()
        self.crowd = gevent.pool.Group()
        self.arrivals = workload.arrivals(SEED, RATE_PER_S)
        self.begun = time.perf_counter()

    def on_stop(self) -> None:
        """Those who have arrived are served to the end: the slow ones count."""
        self.crowd.join(timeout=30)
        super().on_stop()
