"""`thriftgate demo`: a mock provider, the gateway before it, twelve prompts by streaming, a live table, what it saved.

Everything runs on 127.0.0.1 and needs no key. Both servers are processes of their own, ended by the ids they were
given. It stays up until Ctrl-C; DEMO_EXIT=1 makes it exit after the table.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import aiohttp
import click
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from gateway.config import Config, load
from gateway.pricing import Usage, tariff

# Written for the demo: what people type into chat products, easy and hard, without giveaway keywords.
PROMPTS = (
    "hi, are you there?",
    "Translate to French: The meeting is moved to Tuesday.",
    "What's the capital of Australia?",
    "Set a reminder for 7 tomorrow morning to water the plants",
    "Make this sound friendlier: Send me the report today.",
    "Some cards are charged twice when the payment webhook is retried while the first one still runs. Find the race in"
    " read order, call provider, write status, and show a fix that survives a crash between the two writes.",
    "Show that a connected graph in which every vertex has even degree can be walked along each edge exactly once.",
    "write a haiku about rain",
    "Migrate a 4 TB PostgreSQL table to a partitioned one without downtime: the plan, the triggers, the throttled"
    " backfill and the rollback; explain what breaks if the replica lags.",
    "Design a replicated counter for five servers that accepts writes during a network split and merges them afterwards"
    " without losing an increment. Prove that it converges, and write the merge function in Rust with tests.",
    "thanks, that's all!",
    "A 58-year-old on warfarin and amiodarone starts an antibiotic for pneumonia and bleeds four days later. Which"
    " interactions could explain it, how would you tell them apart, and what do you change first?",
)
READY_S = 30
OUTPUT_BYTES = 65_536        # of a process's output, from its beginning: enough to say that it is ready, or why not
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Row(NamedTuple):
    """One prompt's way through the gateway. Money in nano-dollars."""

    prompt: str
    score: str
    model: str
    reason: str
    ttft_ms: float
    cost: int
    premium: int


@click.command("demo")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="The gateway's; 0: any.")
def command(port: int) -> None:
    """Run the demo: mock provider, gateway, twelve prompts, a live table."""
    try:
        asyncio.run(_demo(port, stay=os.environ.get("DEMO_EXIT") != "1"))
    except click.ClickException as error:
        error.show()
        sys.exit(2)


async def _demo(port: int, *, stay: bool) -> None:
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)
    import loadtest  # noqa: PLC0415 - found where it is installed, in a checkout and in a wheel
    file = Path(loadtest.__file__).parent / "gateway.yaml"
    async with _process("loadtest.mock_upstream", "--realistic", "--port", "0") as mock:
        mock_url = (await mock.says(rb"mock upstream on (\S+)")).decode()
        serve = ("serve", "-c", str(file), "--port", str(port))
        async with _process("gateway", *serve, MOCK_URL=mock_url) as gateway, aiohttp.ClientSession() as session:
            listening = await gateway.says(rb'"port":(\d+).*"listening"')
            base = f"http://127.0.0.1:{int(listening)}"
            await _table(session, base, load(file, {"MOCK_URL": mock_url}), console, stop)
            if stop.is_set():
                return
            receipt = f"\nA receipt, as the gateway logs one for every request:\n{_last_receipt(gateway)}"
            console.print(receipt, soft_wrap=True, style="dim", highlight=False)
            console.print(_what_next(base), soft_wrap=True)
            if stay:
                console.print("[dim]The gateway stays up. Ctrl-C ends it.[/]")
                await stop.wait()


async def _table(
    session: aiohttp.ClientSession, base: str, config: Config, console: Console, stop: asyncio.Event
) -> None:
    rows: list[Row] = []
    with Live(_render(rows, config), console=console, refresh_per_second=8) as live:
        for prompt in PROMPTS:
            if stop.is_set():
                return
            rows.append(await _ask(session, base, config, prompt))
            live.update(_render(rows, config))


async def _ask(session: aiohttp.ClientSession, base: str, config: Config, prompt: str) -> Row:
    """Stream one prompt and return what it took; the usage in the last chunk gives the money."""
    body = {"model": "auto", "stream": True, "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": prompt}]}
    started = time.perf_counter()
    ttft = 0.0
    usage = Usage(0, 0)
    async with session.post(f"{base}/v1/chat/completions", data=orjson.dumps(body)) as response:
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            chunk: dict[str, Any] = orjson.loads(line[6:])
            if not ttft and any(choice["delta"].get("content") for choice in chunk["choices"]):
                ttft = time.perf_counter() - started
            if chunk.get("usage"):
                usage = Usage(chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"])
        headers = response.headers
    model, top = headers["x-thriftgate-model"], config.routes["auto"].ladder[-1]
    return Row(
        prompt, headers.get("x-thriftgate-score", "-"), model, headers["x-thriftgate-reason"], ttft * 1000,
        _cost(config, model, usage), _cost(config, top, usage),
    )


def _cost(config: Config, model: str, usage: Usage) -> int:
    price = config.models[model].price
    return 0 if price is None else tariff(price).cost(usage).total


def _render(rows: list[Row], config: Config) -> Table:
    colours = dict(zip(config.routes["auto"].ladder, ("green", "yellow", "magenta"), strict=True))
    title = "Twelve prompts through Thriftgate (mock provider, real classifier)"
    table = Table(title=title, box=SIMPLE_HEAD, expand=True, padding=(0, 1, 0, 0))
    table.add_column("prompt", ratio=1, no_wrap=True)
    for name, width in (("score", 6), ("model", 7), ("reason", 12)):
        table.add_column(name, width=width, no_wrap=True)
    for name, width in (("TTFT", 6), ("cost", 8), ("premium", 8)):
        table.add_column(name, justify="right", width=width, no_wrap=True)
    for row in rows:
        model = f"[{colours[row.model]}]{row.model}[/]"
        money = (_usd(row.cost), _usd(row.premium))
        table.add_row(row.prompt, row.score, model, row.reason, f"{row.ttft_ms:.0f} ms", *money)
    cost, premium = sum(row.cost for row in rows), sum(row.premium for row in rows)
    if len(rows) == len(PROMPTS) and premium:
        saved = f"saved {_usd(premium - cost)} of {_usd(premium)}: {100 * (premium - cost) / premium:.0f} %"
        table.caption = f"{saved} (the mock's list prices; quality is not measured here)"
    return table


def _last_receipt(gateway: "_Process") -> str:
    lines = os.pread(gateway.output.fileno(), OUTPUT_BYTES, 0).decode(errors="replace").splitlines()
    return next((line for line in reversed(lines) if '"event":"receipt"' in line), "(not written yet)")


def _usd(nanos: int) -> str:
    return f"${nanos / 1e9:.5f}"


def _what_next(base: str) -> str:
    return f"""
[bold]Next:[/]
  curl -N {base}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "auto", "stream": true, "messages": [{{"role": "user", "content": "hello"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{base}/v1", api_key="any")
  client.chat.completions.create(model="auto", messages=[{{"role": "user", "content": "hello"}}])

  curl {base}/v1/route -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Why is 91 not prime?"}}]}}'

With your own keys: [bold]OPENAI_API_KEY=… thriftgate serve[/]
"""


class _Process(NamedTuple):
    """A process of the demo and the file that its output goes to: a pipe could fill up and stall it."""

    process: Process
    output: IO[bytes]

    async def says(self, pattern: bytes) -> bytes:
        """Wait for a line of its output, return what the pattern's group matched; fail with all it said instead."""
        give_up = time.monotonic() + READY_S
        said, ended = b"", False
        while not ended and time.monotonic() < give_up:
            ended = self.process.returncode is not None       # asked before reading, so that its last words count
            said = os.pread(self.output.fileno(), OUTPUT_BYTES, 0)     # not `seek`: the process writes at the offset
            if found := re.search(pattern, said):
                return found[1]
            await asyncio.sleep(0.02)
        raise click.ClickException(f"A part of the demo did not start. It said:\n{said.decode(errors='replace')}")


@contextlib.asynccontextmanager
async def _process(module: str, *arguments: str, **environment: str) -> AsyncIterator[_Process]:
    """Run a module as a process for as long as the block lasts; its data goes with it."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryDirectory(prefix="thriftgate-") as data:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, "THRIFTGATE_DATA": data, **environment}, start_new_session=True,     # Ctrl-C is ours
        )
        try:
            yield _Process(process, output)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
