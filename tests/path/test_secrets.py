"""Nothing secret is anywhere that somebody looks: a run with marked secrets through all that can happen, then a grep.

What is looked through: everything the process wrote, every answer that it gave, its pages, its objects, its ledger,
what it keeps on disk, and what it keeps in Redis.
"""

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import redis.asyncio as client

from loadtest.mock_upstream import MockUpstream
from tests.conftest import BOUND_S, Client, Reply, Start, Upstream, chat, request_bytes, two_rungs
from tests.path.clerk import bearer, becomes
from tests.path.conftest import Process, Spawn
from tests.path.surfaces import SURFACES, asked
from tests.services import PASSWORD, Postgres, Redis

CALLER, ADMIN, UNKNOWN = "sk-MARKED-caller-1", "sk-MARKED-admin-of-all-2", "sk-MARKED-unknown-3"
PROMPT = "MARKED-prompt-4"
TOKEN, LEDGER = "MARKED-token-5", "MARKED-secret-of-the-ledger-6"
SECRETS = {
    "the password of PostgreSQL and Redis": PASSWORD, "a configured key": CALLER, "the admin's key": ADMIN,
    "a key that nobody has": UNKNOWN, "the key at the first upstream": "sk-MARKED-first-7",
    "the key at the second upstream": "sk-MARKED-second-8", "what keys are hashed with": LEDGER,
    "the webhook's address": TOKEN, "a prompt": PROMPT,
}
PAGES = (
    "/metrics", "/upstreams", "/readyz", "/healthz", "/v1/models", "/v1beta/models", "/v1/usage", f"/no?key={CALLER}",
)
STYLES: tuple[dict[str, str], ...] = (
    bearer(UNKNOWN), {"x-api-key": UNKNOWN}, {"x-goog-api-key": UNKNOWN}, {"Authorization": UNKNOWN}, {},
)
TABLES = ("receipts", "rollups", "segments", "keys", "changes", "accounts", "loans")


def secretive(first: MockUpstream, second: MockUpstream, ledger: str, shared: str) -> str:
    """Return a configuration full of secrets."""
    webhook = f"http://127.0.0.1:9/{TOKEN}"
    sections = [
        f"keys: {{app: {{secret: {CALLER}, owner: team, limits: {{requests_per_minute: 900, concurrency: 50}}, "
        f"budget: {{usd: 0.0001, soft: [0.1], webhook: '{webhook}'}}}}, free: {{secret: {CALLER}-free}}}}",
        f"owners: {{team: {{budget: {{usd: 1, soft: [0.0001], webhook: '{webhook}'}}}}}}",
        f"ledger: {{url: '{ledger}', secret: {LEDGER}}}",
        f"shared: {{url: '{shared}', lease_ms: 0}}",
        f"admin: {{key: {ADMIN}}}",
    ]
    text = two_rungs(first.base_url, second.base_url, more="\n".join(sections))
    return text.replace("sk-first-upstream", "sk-MARKED-first-7").replace("sk-second-upstream", "sk-MARKED-second-8")


class Seen:
    """All that somebody could read, by where."""

    def __init__(self) -> None:
        self.secrets = dict(SECRETS)
        self._seen: list[tuple[str, bytes]] = []

    def look(self, where: str, what: bytes | str) -> None:
        """Take something in."""
        self._seen.append((where, what if isinstance(what, bytes) else what.encode()))

    def reply(self, where: str, reply: Reply) -> Reply:
        """Take an answer in; a good one may say what the provider says."""
        self.look(where, f"{reply.status} {reply.headers!r}")
        if reply.status >= 400 or not where.startswith("served"):
            self.look(where, reply.body)
        return reply

    @property
    def found(self) -> set[tuple[str, str]]:
        """Which secret is where."""
        return {
            (name, where) for where, what in self._seen for name, secret in self.secrets.items()
            if secret.encode() in what
        }

    @property
    def looked(self) -> int:
        """How many bytes were looked at."""
        return sum(len(what) for _, what in self._seen)


def requests() -> list[tuple[str, Any]]:
    """Return the path and body of requests of all kinds."""
    kinds: list[tuple[str, Any]] = []
    for surface in SURFACES:
        for streamed in (False, True):
            path, body = asked(surface, stream=streamed)
            kinds.append((path, body.replace(b'"hi"', orjson.dumps(PROMPT))))
    plain = "/v1/chat/completions"
    kinds += [
        (plain, chat(PROMPT, stream=True, mock={"fault": "cut-rst", "after": 3})),
        (plain, chat(PROMPT, stream=True, mock={"fault": "error-frame", "after": 0})),
        (plain, chat(PROMPT, mock={"error_rate": 1, "status": 500})),
        (plain, chat(PROMPT, mock={"error_rate": 1, "status": 401})),
        (plain, chat("a", model=f"gpt-99 {PROMPT[:3]}")),
        (plain, b'{"messages":[' + orjson.dumps(PROMPT)),
        ("/v1/embeddings", {"model": "cheap", "input": PROMPT}),
        ("/v1/route", chat(PROMPT)),
    ]
    return kinds


async def ask_all(to: Client, seen: Seen, when: str, keys: list[str]) -> None:
    """Ask everything, with every key, in every place where a key can stand."""
    for key in keys:
        for path, body in requests():
            seen.reply(f"served {when} {path}", await to.ask(body, bearer(key), path))
    for headers in STYLES:
        for path, body in requests()[:8:2]:
            seen.reply(f"refused {when} {path}", await to.ask(body, headers, path))
    for path in PAGES:
        for headers in (bearer(CALLER), bearer(UNKNOWN), {}):
            seen.reply(f"page {when} {path[:5]}", await to.get(path, headers))


async def administer(to: Client, seen: Seen, when: str) -> None:
    """Do everything with the admin API, well and badly. The texts of keys that it hands out are secrets as well."""
    made = {"name": f"app-{when}", "owner": "team", "budget": {"usd": 1}}
    hooked = {"name": "hooked", "budget": {"usd": 1, "webhook": f"http://127.0.0.1:9/{TOKEN}"}}
    for headers in (bearer(ADMIN), bearer(UNKNOWN), bearer(CALLER), {}):
        for path, body in (
            ("/admin/keys", made),
            ("/admin/keys", hooked),
            ("/admin/keys", {"name": "app"}),
            ("/admin/keys", {"name": ADMIN[:4], "limits": {"concurrency": -1}}),
            ("/admin/keys", b"no JSON " + ADMIN.encode()),
            (f"/admin/keys/app-{when}/rotate", {"grace": "1h"}),
            ("/admin/keys/nobody/rotate", {"grace": "soon"}),
        ):
            reply = await to.ask(body, headers, path)
            if reply.status in (200, 201):
                seen.secrets[f"a stored key {when} {path}"] = reply.json["key"]
            else:
                seen.reply(f"admin {when} {path}", reply)
        seen.reply(f"admin list {when}", await to.get("/admin/keys", headers))


async def in_redis(redis: Redis) -> bytes:
    """Return everything that is in Redis."""
    async with client.Redis.from_url(redis.url) as there:
        names = [name async for name in there.scan_iter()]
        return b"\n".join([*names, *[await there.dump(name) or b"" for name in names]])


def on_disk(directory: Path) -> bytes:
    """Return everything that is kept there, but for the configuration, which is the operator's."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name not in ("gateway.yaml", "secret")]
    return b"\n".join(str(path.name).encode() + path.read_bytes() for path in files)


def in_postgres(postgres: Postgres) -> str:
    """Return everything that is in the store."""
    there = postgres.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'").split()
    assert set(TABLES) < set(there)
    return "\n".join(postgres.sql(f"SELECT t::text FROM {table} t") for table in there)  # noqa: S608 - its own tables


@contextlib.asynccontextmanager
async def read(running: Process) -> AsyncIterator[None]:
    """Read what a process writes, all the time: one whose pipe is full says nothing more."""
    async def on() -> None:
        """Read on."""
        while True:
            with contextlib.suppress(TimeoutError):
                await running.line("an event that there is not")

    reading = asyncio.gather(on())
    yield
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def said(running: Process, event: str, times: int = 1) -> None:
    """Return when it has said this so often."""
    async with asyncio.timeout(BOUND_S):
        while sum(line["event"] == event for line in running.lines) < times:  # noqa: ASYNC110 - see `read`
            await asyncio.sleep(0.02)


async def outage(running: Process, seen: Seen, postgres: Postgres, redis: Redis, directory: Path) -> None:
    """Have both be away, and look at what waits on disk meanwhile."""
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(redis.kill)
    await ask_all(running.client, seen, "alone", [CALLER, f"{CALLER}-free"])
    await administer(running.client, seen, "alone")
    await said(running, "store away")
    seen.look("on disk alone", await asyncio.to_thread(on_disk, directory))
    await asyncio.to_thread(postgres.start)
    await asyncio.to_thread(redis.start)
    await becomes(200, lambda: running.client.get("/v1/usage", bearer(CALLER)))


async def test_no_secret_is_anywhere(
    own_postgres: Postgres, own_redis: Redis, process: Spawn, upstream: Upstream, tmp_path: Path
) -> None:
    """A real process with marked secrets: served, refused, failed, administered, cut off from everything, reloaded."""
    seen, first, second = Seen(), await upstream(), await upstream()
    text = secretive(first, second, own_postgres.url, own_redis.url)
    running = await process(text)
    async with read(running):
        await administer(running.client, seen, "before")
        await ask_all(running.client, seen, "before", [CALLER, f"{CALLER}-free"])
        first.key = second.key = "another"              # both refuse our keys, and quote them
        await ask_all(running.client, seen, "refused", [CALLER, f"{CALLER}-free"])
        first.key = second.key = ""
        async with asyncio.timeout(BOUND_S):
            while not any(line["event"] == "budget threshold" for line in running.lines):
                await running.client.ask(chat(PROMPT, model="cheap", max_tokens=9), bearer(CALLER))
        await outage(running, seen, own_postgres, own_redis, tmp_path)
        wrong = [("redis://", "redis//"), ("postgresql://", "postgres//"), ("keys:", "kays:"), ("{key:", "{kee:")]
        for number, (old, new) in enumerate(wrong):
            (tmp_path / "gateway.yaml").write_text(text.replace(old, new))
            running.signal(signal.SIGHUP)
            await said(running, "not reloaded", number + 1)
    seen.look("in Redis", await in_redis(own_redis))
    running.terminate()
    status = await running.ended()
    seen.look("the log", orjson.dumps(running.lines))
    seen.look("stderr", running.said)
    seen.look("in the store", await asyncio.to_thread(in_postgres, own_postgres))
    seen.look("on disk", await asyncio.to_thread(on_disk, tmp_path))

    assert seen.found == set()
    assert (status, running.said) == (0, "")
    assert (seen.looked > 100_000, len(seen.secrets)) == (True, len(SECRETS) + 2)
    assert {"budget threshold", "store away", "limits are not shared"} <= {line["event"] for line in running.lines}


async def test_no_object_shows_a_secret(
    own_postgres: Postgres, own_redis: Redis, gateway: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """Whatever a debugger or a traceback shows: what the gateway is made of, with a request under way."""
    seen = Seen()
    running = await gateway(secretive(first, second, own_postgres.url, own_redis.url))
    await administer(running, seen, "before")
    body = orjson.dumps(chat(PROMPT, stream=True, mock={"fault": "stall", "after": 2}))
    wire = await running.wire()
    await wire.send(request_bytes(body, f"Authorization: Bearer {CALLER}-free"))
    await wire.until(b"data: ")
    shown: set[str] = set()
    for thing in gc.get_objects():
        if str(type(thing).__module__).startswith("gateway."):
            shown.add(type(thing).__qualname__)
            seen.look(type(thing).__qualname__, repr(thing))
    wire.leave()
    await running.receipt()

    assert seen.found == set()
    assert {"Config", "KeyConfig", "Keyring", "Gateway", "Books", "Treasury", "Receipt", "Search", "Admin"} <= shown
