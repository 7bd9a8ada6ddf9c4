"""The storm's clients for locust: arrivals at a constant rate, on all four surfaces, half of them streamed.

`loadtest.storm` runs this. Each request has a connection of its own and carries its number in its prompt; what its
client saw goes to a file as a line of JSON, to be judged later. Settings come from the environment:

    STORM_OUT    file for the lines; the last one says how many were asked
    STORM_RATE   arrivals a second (60)      STORM_SEED   of prompts and arrivals (1)
    STORM_DEADLINE_S   how long a client waits in all (20)
"""

from __future__ import annotations

import http.client
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
import gevent.pool
import orjson
from locust import User, constant, events, task

from loadtest import reception, workload
from loadtest.reception import SURFACES, Seen

RATE_PER_S = float(os.environ.get("STORM_RATE", "60"))
SEED = int(os.environ.get("STORM_SEED", "1"))
DEADLINE_S = float(os.environ.get("STORM_DEADLINE_S", "20"))
OUT = Path(os.environ["STORM_OUT"])


def requests(seed: int) -> Iterator[Seen]:
    """What is asked, numbered, in an endless row: the surfaces in turn, streamed and whole in turn."""
    said = (prompt.messages[-1]["content"] for prompt in workload.prompts(seed) if prompt.kind != "document")
    for number, prompt in enumerate(said):
        surface, stream = SURFACES[number % 4], number // 4 % 2 == 0
        yield Seen(number, surface, stream, f"{prompt} [storm {number}]")


def ask(base_url: str, seen: Seen) -> None:
    """Ask, and note what comes. Never raises: what went wrong is part of what was seen."""
    url = urlsplit(base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    path, body = reception.asked(seen.surface, seen.prompt, stream=seen.stream)
    headers = {"Content-Type": "application/json", "anthropic-version": "2023-06-01"}
    pieces: list[tuple[float, bytes]] = []
    seen.begun = time.monotonic()
    try:
        with gevent.Timeout(DEADLINE_S):
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            seen.status = response.status
            seen.request_id = response.headers.get("x-thriftgate-request-id", "")
            seen.model = response.headers.get("x-thriftgate-model", "")
            while piece := response.read1(65_536):
                pieces.append((time.monotonic(), piece))
            seen.ended = not response.length  # bytes that were promised and did not come
    except gevent.Timeout:
        seen.hung = True
    except (OSError, http.client.HTTPException) as fault:
        seen.broke = f"{type(fault).__name__}: {fault}"
    seen.over = time.monotonic()
    connection.close()
    if seen.status:
        reception.read(seen, pieces)


class Storm(User):
    """One user that is a crowd: a Poisson process, each arrival on its own."""

    fixed_count = 1
    wait_time = constant(0)

    def on_start(self) -> None:
        """The crowd begins empty."""
        self.asked = itertools.count()
        self.requests = requests(SEED)
        self.crowd = gevent.pool.Group()
        self.arrivals = workload.arrivals(SEED, RATE_PER_S)
        self.begun = time.monotonic()

    @task  # type: ignore[untyped-decorator]
    def arrive(self) -> None:
        """The next one comes. One a task, because a run ends between two tasks."""
        gevent.sleep(max(0.0, self.begun + next(self.arrivals) - time.monotonic()))
        self.crowd.spawn(self.one, next(self.requests))
        next(self.asked)

    def one(self, seen: Seen) -> None:
        """One request, and its line."""
        ask(self.host, seen)
        LINES.write(orjson.dumps(seen) + b"\n")

    def on_stop(self) -> None:
        """Those who have arrived wait for their answers."""
        self.crowd.join(timeout=DEADLINE_S + 5)
        LINES.write(orjson.dumps({"asked": next(self.asked)}) + b"\n")


LINES = OUT.open("ab", buffering=0)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def close(**_: Any) -> None:
    """The last line is written."""
    LINES.close()
