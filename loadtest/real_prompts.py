"""The proof on real input: 1,000 prompts through a running gateway with OpenAI's own SDK.

    python -m loadtest.real_prompts --data ../shared/data

500 hard prompts of real chat users (arena_hard_prompts) and 500 short commands to an assistant (clinc150_intents),
shuffled, streamed 32 at a time. What must hold, or it exits with 1:

- no error on the client's side, and every receipt says ok;
- exactly one receipt for each request, under the id that the client was told in x-thriftgate-request-id;
- at least 90 % of the commands were answered by the cheap model, at least 60 % of the hard prompts by a better one.

It says nothing about whether the routing is right, only that easy and hard are told apart: the answers are the mock's.
The gateway has a core to itself where the machine has two, because the SDK and the mock can fill one.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import orjson
import uvloop

from loadtest import processes
from loadtest.figures import markdown, percentile

HARD, EASY = "arena_hard_prompts", "clinc150_intents"
_FLUSH_S = 10.0  # how long receipts may take to be written once the last answer has come
_MOCK = ("--realistic", "--tokens", "30", "--jitter", "0.2", "--seed", "1")


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt and the set that it is from."""

    source: str
    prompt: str


@dataclass(slots=True)
class Seen:
    """What the client saw of one request."""

    item: Item
    request_id: str = ""
    model: str = ""
    rung: str = ""
    text: str = ""
    finish: str | None = None
    ttft_s: float = 0.0
    error: str = ""


@dataclass(slots=True)
class Result:
    """A finished run: both sides' records, the prices, and the time it took."""

    seen: list[Seen]
    receipts: list[dict[str, Any]]
    took_s: float
    wrong: list[str] = field(default_factory=list)


def load(data: Path, source: str, count: int, seed: int) -> list[Item]:
    """A seeded sample of a prompt file (gzipped JSON Lines)."""
    with gzip.open(data / f"{source}.jsonl.gz") as lines:
        prompts = [str(orjson.loads(line)["prompt"]) for line in lines]
    if len(prompts) < count:
        raise ValueError(f"{source} has {len(prompts)} prompts, {count} are needed")
    return [Item(source, prompt) for prompt in random.Random(seed).sample(prompts, count)]


async def ask(sdk: openai.AsyncOpenAI, item: Item) -> Seen:
    """Stream one answer through the SDK. Never raises: errors are part of what was seen."""
    seen = Seen(item)
    begun = time.perf_counter()
    try:
        raw = await sdk.chat.completions.with_raw_response.create(
            model="auto",
            messages=[{"role": "user", "content": item.prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
        headers = raw.headers
        seen.request_id = headers.get("x-thriftgate-request-id", "")
        seen.model, seen.rung = headers.get("x-thriftgate-model", ""), headers.get("x-thriftgate-rung", "")
        async for chunk in raw.parse():
            for choice in chunk.choices:
                if choice.delta.content and not seen.text:
                    seen.ttft_s = time.perf_counter() - begun
                seen.text += choice.delta.content or ""
                seen.finish = choice.finish_reason or seen.finish
    except openai.OpenAIError as fault:
        seen.error = f"{type(fault).__name__}: {fault}"
    if not seen.error and (not seen.text or seen.finish is None):
        seen.error = "the stream ended without text or without finish_reason"
    return seen


async def ask_all(base_url: str, items: Sequence[Item], at_once: int) -> list[Seen]:
    """All of them, so many at a time, in order."""
    seats = asyncio.Semaphore(at_once)

    async def seated(sdk: openai.AsyncOpenAI, item: Item) -> Seen:
        """One answer, when there is a seat."""
        async with seats:
            return await ask(sdk, item)

    async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-proof", max_retries=0) as sdk:
        return await asyncio.gather(*(seated(sdk, item) for item in items))


def run(items: Sequence[Item], at_once: int) -> Result:
    """Start mock and gateway, ask, wait for the receipts, stop both."""
    cores = processes.cores()
    with (
        processes.mock(*_MOCK, on=cores.load) as mock,
        processes.gateway(mock.base_url, on=cores.server) as gateway,
        processes.pinned(cores.load),
    ):
        begun = time.perf_counter()
        seen = uvloop.run(ask_all(gateway.base_url, items, at_once))
        took_s = time.perf_counter() - begun
        wrong = []
        try:
            processes.wait_until(lambda: len(processes.receipts(gateway)) >= len(items), _FLUSH_S, every_s=0.1)
        except TimeoutError:
            wrong.append(f"after {_FLUSH_S:g} s not all receipts had been written")
        time.sleep(0.5)  # a receipt too many would come now
        return Result(seen, processes.receipts(gateway), took_s, wrong)


def check(result: Result, *, cheap_share: float = 0.90, better_share: float = 0.60) -> list[str]:
    """What does not hold; empty = the proof stands."""
    wrong = list(result.wrong)
    for error, count in Counter(seen.error for seen in result.seen if seen.error).items():
        wrong.append(f"{count} x {error}")
    ids = Counter(str(receipt["request_id"]) for receipt in result.receipts)
    told = {seen.request_id for seen in result.seen}
    if len(result.receipts) != len(result.seen) or len(ids) != len(result.seen):
        wrong.append(f"{len(result.seen)} requests, {len(result.receipts)} receipts, {len(ids)} distinct request ids")
    if set(ids) != told:
        wrong.append(f"{len(set(ids) ^ told)} request ids are known to one side only")
    for outcome, count in Counter(str(receipt["outcome"]) for receipt in result.receipts).items():
        if outcome != "ok":
            wrong.append(f"{count} receipts say {outcome}")
    easy, hard = share(result.seen, EASY, "cheap"), 1 - share(result.seen, HARD, "cheap")
    if not easy >= cheap_share:
        wrong.append(f"{easy:.1%} of {EASY} on the cheap model, {cheap_share:.0%} wanted")
    if not hard >= better_share:
        wrong.append(f"{hard:.1%} of {HARD} on a better model, {better_share:.0%} wanted")
    return wrong


def share(seen: Sequence[Seen], source: str, rung: str) -> float:
    """Which part of a set's prompts the rung answered."""
    of_set = [one for one in seen if one.item.source == source]
    return sum(one.rung == rung for one in of_set) / max(1, len(of_set))


def table(result: Result) -> str:
    """A row for each set: where its prompts went, how soon they were answered, what they cost."""
    receipts = {str(receipt["request_id"]): receipt for receipt in result.receipts}
    known = ("cheap", "middle", "premium")
    rungs = sorted({seen.rung for seen in result.seen}, key=lambda rung: (*known, rung).index(rung))
    head = ("set", "prompts", "errors", *rungs, "TTFT p50", "p99", "cost", "all premium", "saved")
    rows = [_row(source, result.seen, receipts, rungs) for source in (EASY, HARD, "")]
    return markdown(head, rows)


def verdicts(result: Result) -> str:
    """Where the verdicts came from. Many late ones: the classifier was short of CPU, it did not judge badly."""
    counted = Counter(str(receipt.get("verdict")) for receipt in result.receipts)
    return ", ".join(f"{count} {name}" for name, count in counted.most_common())


def _row(
    source: str, all_seen: Sequence[Seen], receipts: Mapping[str, Mapping[str, Any]], rungs: Sequence[str]
) -> list[str]:
    seen = [one for one in all_seen if source in ("", one.item.source)]
    spent = [receipts.get(one.request_id, {}) for one in seen]
    cost, premium = (_usd(spent, name) for name in ("cost_usd_micros", "premium_usd_micros"))
    times = [one.ttft_s * 1000 for one in seen if not one.error]
    return [
        source or "both",
        str(len(seen)),
        str(sum(bool(one.error) for one in seen)),
        *(f"{sum(one.rung == rung for one in seen) / max(1, len(seen)):.1%}" for rung in rungs),
        f"{percentile(times, 0.5):.0f} ms",
        f"{percentile(times, 0.99):.0f} ms",
        f"${cost:.4f}",
        f"${premium:.4f}",
        f"{1 - cost / premium:.1%}" if premium else "-",
    ]


def _usd(receipts: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(receipt.get(name) or 0 for receipt in receipts) / 1e6


def main(argv: list[str]) -> int:
    """Run the proof; 0 = it stands."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.real_prompts", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the prompt files")
    parser.add_argument("--each", type=int, default=500, help="prompts of each set")
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    items = [item for source in (EASY, HARD) for item in load(options.data, source, options.each, options.seed)]
    random.Random(options.seed).shuffle(items)
    result = run(items, options.at_once)
    print(table(result))
    print(f"\n{len(items)} prompts in {result.took_s:.1f} s, {options.at_once} at a time; {processes.cores()}")
    print(f"{len(result.receipts)} receipts; verdicts: {verdicts(result)}")
    wrong = check(result)
    print("\n".join(f"FAILED: {line}" for line in wrong) or "the proof stands")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
