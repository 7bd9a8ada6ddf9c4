"""Keys made and withdrawn as the command line does it: in the store, beside a gateway that runs and is told nothing."""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from gateway import config, keys
from gateway.config import GrantConfig
from gateway.store import keys as store
from gateway.store.once import once
from gateway.store.secret import secret_of
from tests.conftest import BOUND_S, ROOT, Reply

Ask = Callable[[], Awaitable[Reply]]


class Clerk:
    """Looks after the keys of the store that a configuration names."""

    def __init__(self, text: str, directory: Path) -> None:
        self._ledger = config.parse(text, {"THRIFTGATE_DATA": str(directory)}).ledger

    async def create(self, name: str, **grant: Any) -> str:
        """Make a key, and return its text."""
        text, kept = self._cut()
        key = keys.new(name, keys.read_grant(grant), kept, _now_ms())
        await asyncio.to_thread(once, self._ledger, lambda engine: store.create(engine, key, kept.check))
        return text

    async def rotate(self, name: str, grace_s: int) -> str:
        """Put another text in a key's place, and return it."""
        text, kept = self._cut()
        grace_ms, now_ms = 1_000 * grace_s, _now_ms()
        await asyncio.to_thread(once, self._ledger, lambda e: store.rotate(e, name, kept, grace_ms, now_ms))
        return text

    async def revoke(self, name: str) -> None:
        """Withdraw one."""
        await asyncio.to_thread(once, self._ledger, lambda engine: store.revoke(engine, name, _now_ms()))

    async def expire(self, name: str) -> None:
        """Have one be over since a second ago."""
        ended = datetime.fromtimestamp(time.time() - 1, UTC)

        def over(grant: GrantConfig) -> GrantConfig:
            """Return the grant with that end."""
            return msgspec.structs.replace(grant, expires=ended)

        await asyncio.to_thread(once, self._ledger, lambda engine: store.change(engine, name, over))

    def _cut(self) -> tuple[str, keys.Kept]:
        text = keys.text_of(secrets.token_bytes(keys.RANDOM_BYTES))
        return text, keys.kept(secret_of(self._ledger), text)


async def command(directory: Path, *arguments: str) -> str:
    """Run `thriftgate keys` on the configuration of the process in that directory, and return what it prints."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "keys", *arguments, "-c", str(directory / "gateway.yaml"), cwd=ROOT,
        env={**os.environ, "THRIFTGATE_DATA": str(directory)}, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, wrong = await running.communicate()
    assert running.returncode == 0, wrong
    return said.decode().strip()


def bearer(key: str) -> dict[str, str]:
    """Return the header that a key is sent in."""
    return {"Authorization": f"Bearer {key}"}


async def becomes(status: int, ask: Ask) -> Reply:
    """Ask until the answer has this status, and return it."""
    async with asyncio.timeout(BOUND_S):
        while (reply := await ask()).status != status:  # noqa: ASYNC110 - nobody tells a client
            await asyncio.sleep(0.02)
    return reply


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
