"""`make chaos`: a minute of weather against a running gateway, and an account of every request.

    python -m loadtest.storm --seconds 60 --rate 60

Three providers serve the three rungs of a route. At two of them something of `dials.STORM` befalls 30 % of the calls;
one of these is killed after a third of the time and is back, on the same port, after two thirds. Requests arrive at a
constant rate on all four surfaces, half of them streamed, each with its number in its prompt. Each is then followed on
three sides: what its client got, the gateway's receipts, the providers' logs (`loadtest.judging`).

It exits with 1 if a request was lost, doubled or answered dishonestly, if a call is still in flight at the end, or if
fewer than 99.5 % have a whole answer: of those that no fault struck, and of those that were struck before the first
output. A stream that breaks behind its first output cannot be cured where nothing continues it: it may end honestly.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from loadtest import judging, processes
from loadtest.figures import markdown, percentile
from loadtest.judging import Call, Fate, Judged, Struck
from loadtest.processes import Server
from loadtest.reception import Seen

CONFIG = Path(__file__).with_name("storm.yaml")
USERS = Path(__file__).with_name("storm_users.py")
TOKENS, SEED = 24, 1  # of every answer
SHARE = 0.995  # of whole answers, at least
GROWTH_MB = 10.0  # of the gateway, at most
WORST = 5  # stories told of each kind of defect
_SETTLE_S = 10.0  # how long receipts and slots may take once the last client is gone
_DIALS = ("--tokens", str(TOKENS), "--seed", str(SEED), "--ttft-ms", "50", "--tokens-per-s", "100")


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how hard it blows."""

    seconds: int
    rate_per_s: float
    faulty: float  # share of the calls at the first two providers
    deadline_s: float  # of the clients
    seed: int  # of prompts and arrivals


@dataclass(frozen=True, slots=True)
class Result:
    """What was seen from all sides. Memory in MB, early and at the end."""

    asked: int
    seen: list[Seen]
    receipts: list[dict[str, Any]]
    calls: list[Call]
    memory_mb: tuple[float, float]
    in_flight: float


class Weather:
    """The processes of a storm, and what happens to them when."""

    def __init__(self, folder: Path, options: Options, started: contextlib.ExitStack) -> None:
        self._folder = folder
        self._options = options
        self._started = started
        self._load = processes.cores().load
        self.early_mb = 0.0
        self._first = self._provider("a-before", stormy=True)
        others = self._provider("b", stormy=True), self._provider("c", stormy=False)
        urls = (self._first, *others)
        named = {f"PROVIDER_{name}": server.base_url for name, server in zip("ABC", urls, strict=True)}
        self.gateway: Server = started.enter_context(
            processes.gateway("", config=CONFIG, env=named, on=processes.cores().server)
        )

    def _provider(self, name: str, *arguments: str, stormy: bool) -> Server:
        storm = str(self._options.faulty if stormy else 0)
        log = str(self._folder / f"{name}.log")
        mock = processes.mock(*_DIALS, "--storm", storm, "--log", log, *arguments, on=self._load)
        return self._started.enter_context(mock)

    def pass_over(self, begun: float) -> None:
        """Do what is due when, counted from `begun`."""
        for share, event in ((1 / 6, self._weigh), (1 / 3, self._kill), (2 / 3, self._revive)):
            time.sleep(max(0.0, begun + self._options.seconds * share - time.monotonic()))
            event()

    def _weigh(self) -> None:
        self.early_mb = self.gateway.memory_mb()[0]

    def _kill(self) -> None:
        os.kill(self._first.pid, signal.SIGKILL)

    def _revive(self) -> None:
        port = self._first.base_url.removesuffix("/v1").rpartition(":")[2]
        self._provider("a-after", "--port", port, stormy=True)

    def calls(self) -> list[Call]:
        """What befell all calls, by the last word on each."""
        return [call for log in sorted(self._folder.glob("*.log")) for call in logged(log.read_bytes())]


def run(options: Options) -> Result:
    """Start everything, let it blow, and gather what was seen."""
    with tempfile.TemporaryDirectory(prefix="thriftgate-") as name, contextlib.ExitStack() as started:
        folder = Path(name)
        weather = Weather(folder, options, started)
        started.enter_context(processes.pinned(processes.cores().load))
        out = folder / "seen.jsonl"
        with locust(out, weather.gateway, options) as users:
            processes.wait_until(lambda: users.poll() is not None or (out.exists() and out.stat().st_size > 0), 60)
            weather.pass_over(time.monotonic())
            users.wait(options.seconds + options.deadline_s + 60)
            if not out.exists():
                raise RuntimeError(f"locust ended with {users.returncode}: {(folder / 'locust').read_text()[-2000:]}")
        asked, seen = witnesses(out.read_bytes())
        gateway = weather.gateway
        with contextlib.suppress(TimeoutError):
            processes.wait_until(lambda: len(processes.receipts(gateway)) >= asked, _SETTLE_S, every_s=0.2)
        with contextlib.suppress(TimeoutError):
            processes.wait_until(lambda: in_flight(scraped(gateway)) == 0, _SETTLE_S, every_s=0.2)
        memory_mb = (weather.early_mb, gateway.memory_mb()[0])
        left = in_flight(scraped(gateway))
        return Result(asked, seen, processes.receipts(gateway), weather.calls(), memory_mb, left)


@contextlib.contextmanager
def locust(out: Path, gateway: Server, options: Options) -> Iterator[subprocess.Popen[bytes]]:
    """The clients, as a process that writes what they see to `out`."""
    command = [sys.executable, "-m", "locust", "-f", str(USERS), "--headless", "-u", "1", "-r", "1"]
    command += ["-t", f"{options.seconds}s", "-s", f"{options.deadline_s + 10:g}", "--exit-code-on-error", "0"]
    command += ["--host", gateway.base_url.removesuffix("/v1"), "--loglevel", "ERROR", "--only-summary"]
    settings = {
        "STORM_OUT": str(out),
        "STORM_RATE": str(options.rate_per_s),
        "STORM_SEED": str(options.seed),
        "STORM_DEADLINE_S": str(options.deadline_s),
    }
    with out.with_name("locust").open("wb") as said:
        users = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, **settings})
        try:
            yield users
        finally:
            if users.poll() is None:
                users.kill()
            users.wait()


def scraped(gateway: Server) -> str:
    """The gateway's metrics."""
    url = gateway.base_url.removesuffix("/v1") + "/metrics"
    with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  of a process that we started
        return str(response.read().decode())


def in_flight(metrics: str) -> float:
    """Calls in flight at all upstreams. Raises ValueError where the metric is not there."""
    found = re.findall(r"^thriftgate_upstream_in_flight\{.*\} (\S+)$", metrics, re.MULTILINE)
    if not found:
        raise ValueError("the gateway has no metric for calls in flight")
    return sum(map(float, found))


def witnesses(lines: bytes) -> tuple[int, list[Seen]]:
    """How many were asked, and what the clients saw. Without the last word on it, as many as were numbered."""
    said = [orjson.loads(line) for line in lines.splitlines()]
    seen = [Seen(**one) for one in said if "number" in one]
    asked = next((one["asked"] for one in said if "asked" in one), max((one.number for one in seen), default=-1) + 1)
    return asked, sorted(seen, key=lambda one: one.number)


def logged(lines: bytes) -> list[Call]:
    """The calls of a provider's log: the last line of each. One that a kill cut in half is passed over."""
    last: dict[int, Call] = {}
    for line in lines.splitlines():
        with contextlib.suppress(orjson.JSONDecodeError):
            call = Call(**orjson.loads(line))
            last[call.serial] = call
    return list(last.values())


def report(result: Result, judged: Judged) -> str:
    """The table."""
    added = [ms for case in judged.cases if (ms := case.added_ms) is not None]
    early_mb, late_mb = result.memory_mb
    of = Counter(case.struck for case in judged.cases)
    faulty = sum(bool(call.fault) for call in result.calls)
    killed = sum(call.killed for call in result.calls)
    rows: list[tuple[str, str, str, str]] = [
        ("requests", f"{judged.asked}", "-", "-"),
        ("upstream calls: faulty, killed, all", f"{faulty}, {killed}, {len(result.calls)}", "-", "-"),
        ("whole answers, of all", f"{judged.share():.2%}", "-", "-"),
        *(_share(judged, struck, of[struck]) for struck in (Struck.NEVER, Struck.BEFORE)),
        (f"… {Struck.AFTER} ({of[Struck.AFTER]})", f"{judged.share(Struck.AFTER):.2%}", "-", "-"),
        *((fate, f"{judged.fates[fate]}", "-", "-") for fate in (Fate.REFUSED, Fate.BROKEN, Fate.GARBLED)),
        *(_none(name, len(found)) for name, found in _defects(judged).items()),
        _none("in flight at the end", result.in_flight),
        ("first token, added p50", f"{percentile(added, 0.5):.1f} ms", "-", "-"),
        ("first token, added p99", f"{percentile(added, 0.99):.1f} ms", "-", "-"),
        (
            "gateway's memory, early and at the end",
            f"{early_mb:.1f} and {late_mb:.1f} MB",
            f"+{GROWTH_MB:g} MB",
            _yes(late_mb - early_mb < GROWTH_MB),
        ),
    ]
    return markdown(("storm", "value", "target", "held"), rows)


def failures(result: Result, judged: Judged) -> list[str]:
    """What does not hold; empty = the gateway stood."""
    wrong = [f"{len(found)} {name}" for name, found in _defects(judged).items() if found]
    if result.in_flight:
        wrong.append(f"{result.in_flight:g} calls in flight at the end")
    for struck in (Struck.NEVER, Struck.BEFORE):
        share = judged.share(struck)
        if share < SHARE:
            wrong.append(f"{share:.2%} whole answers where {struck}, {SHARE:.1%} wanted")
    if not judged.cases:
        wrong.append("nothing was asked")
    return wrong


def stories(judged: Judged) -> list[str]:
    """Some defects of each kind, and one failure of each kind where a whole answer was to be had: all that is known."""
    told = [f"{name}: {story}" for name, found in _defects(judged).items() for story in found[:WORST]]
    alike = defaultdict(list)
    for case in judged.cases:
        if case.fate is not Fate.WHOLE and case.struck is not Struck.AFTER:
            alike[case.fate, case.calls[-1].fault if case.calls else "no call"].append(case)
    return [*told, *(f"{len(cases)} not whole, such as {cases[0]}" for cases in alike.values())]


def _defects(judged: Judged) -> dict[str, list[str]]:
    return {"lost": judged.lost, "doubled": judged.doubled, "dishonest": judged.dishonest}


def _share(judged: Judged, struck: Struck, count: int) -> tuple[str, str, str, str]:
    share = judged.share(struck)
    held = "-" if math.isnan(share) else _yes(share >= SHARE)
    return f"… {struck} ({count})", f"{share:.2%}", f"{SHARE:.1%}", held


def _none(name: str, count: float) -> tuple[str, str, str, str]:
    return name, f"{count:g}", "0", _yes(not count)


def _yes(held: bool) -> str:  # noqa: FBT001  a word for it
    return "yes" if held else "no"


def main(argv: list[str]) -> int:
    """Let it blow, and say whether the gateway stood."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.storm", description="A storm against a running gateway.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rate", dest="rate_per_s", type=float, default=60, help="arrivals a second")
    parser.add_argument("--faulty", type=float, default=0.3, help="share of the calls at the first two providers")
    parser.add_argument("--deadline-s", type=float, default=20, help="how long a client waits in all")
    parser.add_argument("--seed", type=int, default=1)
    options = Options(**vars(parser.parse_args(argv)))
    result = run(options)
    cases = judging.join(result.seen, result.receipts, result.calls, TOKENS, SEED)
    judged = judging.judged(cases, result.asked, len(result.receipts))
    print(report(result, judged))
    print(f"\n{options.rate_per_s:g} arrivals/s for {options.seconds} s; {processes.cores()}")
    wrong = failures(result, judged)
    print("\n".join([*stories(judged), *(f"FAILED: {line}" for line in wrong)]) or "the gateway stood")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
