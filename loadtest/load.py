"""`make load`: streaming users against the mock provider, with and without the gateway in between.

    python -m loadtest.load --seconds 48 --users 16 --rate 20

Four runs of locust, one after the other: closed users and constant arrivals, each direct to the mock and through the
gateway. The mock answers equally fast for all models, so that the difference between the two sides is the gateway.
Exits with 1 if any stream failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from loadtest import processes
from loadtest.figures import markdown

Figures = dict[str, Any]  # as the locustfile writes them
_TIMES = ("first_p50_ms", "first_p99_ms", "gap_p50_ms", "gap_p99_ms", "total_p50_ms", "total_p99_ms")
_HEAD = ("run", "streams/s", "TTFT p50", "p99", "gap p50", "p99", "total p50", "p99", "streams", "errors")


@dataclass(frozen=True, slots=True)
class Options:
    """What the load is."""

    seconds: float  # of load in all, shared by the four runs
    users: int
    rate_per_s: float
    ttft_ms: float
    tokens_per_s: float
    tokens: int
    seed: int


def locust(kind: str, url: str, model: str, options: Options) -> Figures:
    """One headless run of locust; returns its figures. `kind` is a user class of the locustfile."""
    with tempfile.TemporaryDirectory(prefix="thriftgate-") as folder:
        out = Path(folder, "figures.json")
        users = options.users if kind == "ClosedUser" else 1
        command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py")), "--headless"]
        command += ["-u", str(users), "-r", str(users), "-t", f"{max(1, round(options.seconds / 4))}s", "-s", "30"]
        command += ["--host", url, "--exit-code-on-error", "0", "--loglevel", "ERROR", "--only-summary", kind]
        settings = {
            "LOADTEST_MODEL": model,
            "LOADTEST_RATE": str(options.rate_per_s),
            "LOADTEST_SEED": str(options.seed),
            "LOADTEST_OUT": str(out),
        }
        ran = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
        if not out.exists():
            raise RuntimeError(f"locust ended with {ran.returncode}: {ran.stderr[-2000:]}")
        figures: Figures = orjson.loads(out.read_bytes())
        return figures


def measure(options: Options) -> dict[str, Figures]:
    """All four runs, by name."""
    cores = processes.cores()
    dials = ["--ttft-ms", str(options.ttft_ms), "--tokens-per-s", str(options.tokens_per_s)]
    dials += ["--tokens", str(options.tokens), "--jitter", "0.2", "--seed", str(options.seed)]
    found = {}
    with (
        processes.mock(*dials, on=cores.load) as mock,
        processes.gateway(mock.base_url, on=cores.server) as gateway,
        processes.pinned(cores.load),
    ):
        for title, kind in (("closed users", "ClosedUser"), ("arrivals", "Arrivals")):
            for side, url, model in (("direct", mock.base_url, "mock-cheap"), ("gateway", gateway.base_url, "auto")):
                print(f"… {title}, {side}", file=sys.stderr, flush=True)
                found[f"{title}, {side}"] = locust(kind, url, model, options)
    return found


def summary(found: dict[str, Figures], options: Options) -> str:
    """The table, with a line for what the gateway added."""
    rows: list[list[object]] = []
    for title in ("closed users", "arrivals"):
        direct, gateway = found[f"{title}, direct"], found[f"{title}, gateway"]
        rows += [_row(f"{title}, direct", direct), _row(f"{title}, gateway", gateway)]
        added = [f"{gateway[name] - direct[name]:+.2f}" for name in _TIMES]
        rows.append([f"{title}, added", f"{gateway['per_s'] - direct['per_s']:+.1f}", *added, "", ""])
    said = (
        f"{options.users} closed users; {options.rate_per_s:g} arrivals/s; the mock's first byte after "
        f"{options.ttft_ms:g} ms, then {options.tokens} tokens at {options.tokens_per_s:g}/s; "
        f"{processes.cores()}. Milliseconds."
    )
    return f"{markdown(_HEAD, rows)}\n\n{said}"


def failures(found: dict[str, Figures]) -> list[str]:
    """Every error, and every run that measured nothing."""
    said = [f"{name}: nothing was measured" for name, figures in found.items() if not figures["streams"]]
    for name, figures in found.items():
        said += [f"{name}: {count} x {error}" for error, count in figures["errors"].items()]
    return said


def _row(name: str, figures: Figures) -> list[object]:
    times = [f"{figures[name]:.2f}" for name in _TIMES]
    return [name, f"{figures['per_s']:.1f}", *times, figures["streams"], sum(figures["errors"].values())]


def main(argv: list[str]) -> int:
    """Measure, print, and say whether all went well."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.load", description="Load, with and without Thriftgate.")
    parser.add_argument("--seconds", type=float, default=48, help="of load, shared by the four runs")
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--rate", dest="rate_per_s", type=float, default=20)
    parser.add_argument("--ttft-ms", type=float, default=50)
    parser.add_argument("--tokens-per-s", type=float, default=100)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = Options(**vars(parser.parse_args(argv)))
    found = measure(options)
    print(summary(found, options))
    wrong = failures(found)
    print("\n".join(wrong) or "\nno errors")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
