"""The bench: what Thriftgate costs, beside the bare aiohttp relay, in the same run.

    python -m loadtest.overhead

- CPU time comes from the scheduler (/proc/PID/task/*/schedstat, all threads, kernel included), not from a wall clock.
- The server under test has a core to itself; mock and driver share another one, where the machine has two.
- Rounds alternate: relay, gateway, relay, gateway. A ratio is taken within a round; median and range are printed.
- A streamed chunk is one token, paced so that each is one write of the mock and one read of the server; the driver
  counts what arrived. Nothing is subtracted: opening the stream, headers and receipt are in the figure, spread over 200
  chunks.
- "cached": the same prompt every time, so the verdict comes from the cache. "distinct": the classifier always runs.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import uvloop

from loadtest import driver, processes
from loadtest.driver import Tally
from loadtest.figures import markdown, percentile, spread
from loadtest.processes import Server
from loadtest.workload import sample

PROMPT = "Explain in two sentences what a reverse proxy does for a web application."
CONNECTIONS = 8
ADDED_US = 60.0  # what keys, limits, budgets and receipts may add
STORED_S = 1.0  # by then a round's receipts are in the store
OFF = "ledger: {url: none, log: false}"
ON = """
keys:
  bench:
    {secret: sk-bench, owner: bench, budget: {usd: 1000000},
     limits: {requests_per_minute: 10000000, tokens_per_minute: 2000000000, concurrency: 1000}}
owners: {bench: {budget: {usd: 1000000}}}
budget: {usd: 1000000}
ledger: {log: false}
"""
TRANSLATED = 3.0  # times what a chunk costs that passes straight through
_DIALS = ("--canned", "true", "--jitter", "0.2", "--seed", "1")


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    rounds: int
    requests: int  # a round and side, cached
    distinct: int  # a round and side, distinct prompts
    streams: int
    chunks: int  # tokens a stream
    tokens_per_s: float
    latencies: int  # a round and side, one connection
    starts: int


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure for both sides, a value a round."""

    name: str
    relay: Sequence[float]
    gateway: Sequence[float]
    target: float  # of gateway / relay, from DESIGN.md section 7; 0 = none

    def ratios(self) -> list[float]:
        """Gateway / relay, round by round."""
        return [ours / theirs for ours, theirs in zip(self.gateway, self.relay, strict=True)]


@dataclass(frozen=True, slots=True)
class Bounded:
    """One figure of the gateway alone, against an absolute target."""

    name: str
    value: float
    target: float
    unit: str


class Added(NamedTuple):
    """One figure without and with something, a value a round."""

    name: str
    off: list[float]
    on: list[float]
    target: float  # of what is added; 0 = none


Work = Callable[[str, str], Coroutine[object, object, tuple[Tally, int]]]  # (base URL, model) → tally, what it counts


def cpu_per_unit(server: Server, work: Coroutine[object, object, tuple[Tally, int]]) -> float:
    """Microseconds of the server's CPU time for each unit (request or chunk) of the work."""
    before = server.cpu_ns()
    _, units = uvloop.run(work)
    # Receipts are written a moment after the answer; they belong to the request that made them.
    time.sleep(0.1)
    return (server.cpu_ns() - before) / units / 1000


def translated(server: Server, work: Work, rounds: int) -> list[tuple[str, list[float], list[float]]]:
    """Microseconds a chunk that passes straight through and that is translated, by the upstream's dialect."""
    found = []
    for dialect in ("anthropic", "gemini"):
        straight: list[float] = []
        through: list[float] = []
        for at in range(rounds + 1):
            for model, kept in (("cheap", straight), (f"cheap-of-{dialect}", through)):
                spent_us = cpu_per_unit(server, work(server.base_url, model))
                if at:
                    kept.append(spent_us)
        found.append((f"streamed chunk of {dialect} for OpenAI's SDK", straight, through))
    return found


def alternate(name: str, work: Work, sides: tuple[Server, Server], rounds: int, target: float) -> Pair:
    """The work on both sides in turn, after a round that is not counted."""
    relay, gateway = sides
    figures: tuple[list[float], list[float]] = ([], [])
    for at in range(rounds + 1):
        for server, model, kept in ((relay, "mock-cheap", figures[0]), (gateway, "auto", figures[1])):
            spent_us = cpu_per_unit(server, work(server.base_url, model))
            if at:
                kept.append(spent_us)
    return Pair(name, *figures, target)


def money(upstream: str, work: Work, rounds: int, on: frozenset[int]) -> list[Added]:
    """What keys, limits, budgets and receipts add to a request: on the path, and with the threads that store."""
    path, threads = Added("on the path", [], [], ADDED_US), Added("with the threads that store", [], [], 0)
    with (
        processes.gateway(upstream, more=OFF, on=on) as off,
        processes.gateway(upstream, more=ON, on=on) as all_on,
    ):
        for at in range(rounds + 1):
            for server, of_path, of_all in ((off, path.off, threads.off), (all_on, path.on, threads.on)):
                before = server.path_ns(), server.cpu_ns()
                _, units = uvloop.run(work(server.base_url, "auto"))
                time.sleep(STORED_S)
                if at:
                    of_path.append((server.path_ns() - before[0]) / units / 1000)
                    of_all.append((server.cpu_ns() - before[1]) / units / 1000)
    return [path, threads]


def requests(prompts: Callable[[int], list[str]], count: int) -> Work:
    """Whole answers over a few connections. `prompts` is asked for as many as needed."""

    async def work(url: str, model: str) -> tuple[Tally, int]:
        """One round on one side."""
        bodies = [driver.request(prompt, model) for prompt in prompts(count)]
        return await driver.whole(url, bodies, CONNECTIONS), count

    return work


def streams(options: Options, reads: list[float]) -> Work:
    """Paced streams. Notes in `reads` how many reads a chunk took at the driver: 1.0 = none was lumped."""

    async def work(url: str, model: str) -> tuple[Tally, int]:
        """One round on one side."""
        # Role, tokens, the finish reason, [DONE]: each a chunk of its own.
        chunks = options.streams * (options.chunks + 3)
        tally = await driver.streams(url, driver.request(PROMPT, model, stream=True), options.streams)
        reads.append(tally.reads / chunks)
        return tally, chunks

    return work


def distinct() -> Callable[[int], list[str]]:
    """Prompts of the mix without the long documents; never the same one twice."""
    asked = 0

    def some(count: int) -> list[str]:
        nonlocal asked
        kept = [prompt for prompt in sample(asked + 1, 2 * count) if prompt.kind != "document"][:count]
        asked += count
        return [f"{prompt.messages[-1]['content']} ({asked + at})" for at, prompt in enumerate(kept)]

    return some


def latency(urls: dict[str, tuple[str, str]], options: Options) -> dict[str, list[float]]:
    """Milliseconds for one answer over one connection, by side; the sides take turns."""
    took: dict[str, list[float]] = {side: [] for side in urls}
    for at in range(options.rounds + 1):
        for side, (url, model) in urls.items():
            bodies = [driver.request(PROMPT, model)] * options.latencies
            tally = uvloop.run(driver.whole(url, bodies, 1))
            if at:
                took[side] += [seconds * 1000 for seconds in tally.took_s]
    return took


def starts(upstream: str, options: Options) -> tuple[list[float], tuple[float, float]]:
    """Seconds from the start of a gateway to its first answer, several times; and its memory at rest, in MB."""
    took_s: list[float] = []
    memory = (0.0, 0.0)
    for _ in range(options.starts):
        with processes.gateway(upstream, on=processes.cores().server) as server:
            memory = server.memory_mb()
            tally = uvloop.run(driver.whole(server.base_url, [driver.request(PROMPT, "auto")], 1))
            took_s.append(server.ready_s + tally.took_s[0])
    return took_s, memory


def measure(options: Options) -> str:
    """Everything, as text with two tables."""
    cores = processes.cores()
    with contextlib.ExitStack() as started:
        instant = started.enter_context(processes.mock(*_DIALS, "--tokens", "20", on=cores.load))
        pace = ("--tokens", str(options.chunks), "--tokens-per-s", str(options.tokens_per_s))
        paced = started.enter_context(processes.mock(*_DIALS, *pace, on=cores.load))
        sides, slow_sides = (
            (
                started.enter_context(processes.relay(mock.base_url, on=cores.server)),
                started.enter_context(processes.gateway(mock.base_url, on=cores.server)),
            )
            for mock in (instant, paced)
        )
        started.enter_context(processes.pinned(cores.load))
        cached = requests(lambda count: [PROMPT] * count, options.requests)
        reads: list[float] = []
        pairs = [
            alternate("request, verdict cached", cached, sides, options.rounds, 1.5),
            alternate("request, distinct prompts", requests(distinct(), options.distinct), sides, options.rounds, 0),
            alternate("streamed chunk", streams(options, reads), slow_sides, options.rounds, 0.7),
        ]
        dialects = translated(slow_sides[1], streams(options, reads), options.rounds)
        added = money(instant.base_url, cached, options.rounds, cores.server)
        relay, gateway = sides
        urls = {
            "direct": (instant.base_url, "mock-cheap"),
            "relay": (relay.base_url, "mock-cheap"),
            "gateway": (gateway.base_url, "auto"),
        }
        took = latency(urls, options)
        started_s, memory = starts(instant.base_url, options)
    setting = f"{cores}; {statistics.median(reads):.2f} reads a chunk"
    tables = report(pairs, bounded(took, started_s, memory), took, setting), by_dialect(dialects), adds(added)
    return "\n\n".join(tables)


def bounded(took: dict[str, list[float]], started_s: list[float], memory: tuple[float, float]) -> list[Bounded]:
    """The figures that have absolute targets."""

    def added(share: float) -> float:
        return percentile(took["gateway"], share) - percentile(took["direct"], share)

    return [
        Bounded("added latency p50", added(0.5), 0.5, "ms"),
        Bounded("added latency p99", added(0.99), 2.0, "ms"),
        Bounded("start to first answer", statistics.median(started_s), 1.5, "s"),
        Bounded("memory at rest, resident", memory[0], 120, "MB"),
        Bounded("memory at rest, proportional", memory[1], 120, "MB"),
    ]


def report(pairs: list[Pair], alone: list[Bounded], took: dict[str, list[float]], setting: str) -> str:
    """The tables, and how they were made."""
    rows = []
    for pair in pairs:
        ratio = statistics.median(pair.ratios())
        aim = f"{pair.target:g}" if pair.target else "-"
        sides = (spread(pair.relay), spread(pair.gateway), spread(pair.ratios(), 2))
        rows.append([pair.name, *sides, aim, verdict(ratio, pair.target)])
    cpu = markdown(("CPU per", "bare relay, µs", "gateway, µs", "ratio", "target", "reached"), rows)
    values = [
        (figure.name, f"{figure.value:.2f} {figure.unit}", f"{figure.target:g}", verdict(figure.value, figure.target))
        for figure in alone
    ]
    times = [
        (side, f"{percentile(ms, 0.5):.2f}", f"{percentile(ms, 0.99):.2f}", len(ms)) for side, ms in took.items()
    ]
    return "\n\n".join(
        [
            f"Median (range) over the rounds; {setting}.",
            cpu,
            markdown(("gateway", "value", "target", "reached"), values),
            markdown(("one connection", "p50 ms", "p99 ms", "requests"), times),
        ]
    )


def by_dialect(figures: list[tuple[str, list[float], list[float]]]) -> str:
    """What translating costs, beside the same gateway's straight passage."""
    rows = []
    for name, straight, through in figures:
        ratios = [ours / theirs for ours, theirs in zip(through, straight, strict=True)]
        told = (spread(straight), spread(through), spread(ratios, 2))
        rows.append([name, *told, f"{TRANSLATED:g}", verdict(statistics.median(ratios), TRANSLATED)])
    return markdown(("CPU per", "straight, µs", "translated, µs", "ratio", "target", "reached"), rows)


def adds(figures: list[Added]) -> str:
    """What keys, limits, budgets and receipts add to a request."""
    rows = []
    for name, off, on, target in figures:
        added = [more - less for less, more in zip(off, on, strict=True)]
        told = (spread(off), spread(on), spread(added), f"{target:g}" if target else "-")
        rows.append([f"keys, limits, budgets, receipts {name}", *told, verdict(statistics.median(added), target)])
    return markdown(("CPU per request", "off, µs", "on, µs", "added, µs", "target", "reached"), rows)


def verdict(value: float, target: float) -> str:
    """Where a figure stands: the first release is held to twice the target."""
    if not target:
        return "-"
    if value <= target:
        return "yes"
    return "within twice" if value <= 2 * target else f"no ({value / target:.1f} x the target)"


def main(argv: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.overhead", description="What Thriftgate costs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--distinct", type=int, default=300)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--chunks", type=int, default=200)
    parser.add_argument("--tokens-per-s", type=float, default=100)
    parser.add_argument("--latencies", type=int, default=300)
    parser.add_argument("--starts", type=int, default=3)
    print(measure(Options(**vars(parser.parse_args(argv)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
