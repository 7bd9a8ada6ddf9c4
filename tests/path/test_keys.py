"""Keys that come and go while the gateway serves: made anywhere, in force everywhere within a second."""

import asyncio
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gateway.store.opening import StoreError
from loadtest.mock_upstream import MockUpstream
from tests.conftest import Client, Running, Start, chat, two_rungs
from tests.path.clerk import Clerk, bearer, becomes, command
from tests.path.conftest import Process, Spawn
from tests.path.surfaces import KINDS, SURFACES, asked, error_of
from tests.services import Database, Postgres

KEPT = "ledger: {url: sqlite}"
STYLES: dict[str, Callable[[str], dict[str, str]]] = {      # how each vendor's SDK sends a key
    "openai": lambda key: {"Authorization": f"Bearer {key}"},
    "responses": lambda key: {"Authorization": f"Bearer {key}"},
    "anthropic": lambda key: {"x-api-key": key},
    "gemini": lambda key: {"x-goog-api-key": key},
}


def shared(url: str, more: str = "") -> str:
    """Return the setting of a ledger in PostgreSQL."""
    return f"ledger: {{url: '{url}', secret: what-all-nodes-hash-their-keys-with}}\n{more}"


async def status(client: Client, key: str | None = None, model: str = "auto") -> int:
    """Return the status of a request."""
    return (await client.ask(chat(model=model), bearer(key) if key else None)).status


async def watched(running: Running) -> None:
    """Have the gateway look at the store's keys now. Raises StoreError."""
    books = running.gateway._books
    await books.bookkeeper.ask(books.keys.watch, 10)


# ── open, closed ──


async def test_the_first_key_closes_an_open_gateway(process: Spawn, first: MockUpstream, tmp_path: Path) -> None:
    """Open to this machine, as the log says; `keys create` beside it lets that key in, and shuts all others out."""
    running = await process(two_rungs(first.base_url, first.base_url))
    said = await running.line("open")
    before = await status(running.client)
    key = await command(tmp_path, "create", "app", "--owner", "team", "--models", "auto")
    unknown = await becomes(401, running.client.ask)
    after = [await status(running.client, key), await status(running.client, key, "premium")]
    await command(tmp_path, "revoke", "app")
    revoked = await becomes(401, partial(running.client.ask, None, bearer(key)))
    running.terminate()
    ended = await running.ended()

    assert (said["level"], before, after, ended) == ("warning", 200, [200, 403], 0)
    assert "No key was sent" in unknown.error["message"]
    assert "not known" in revoked.error["message"]
    assert ("app", "team") in {(receipt["caller"], receipt["owner"]) for receipt in running.receipts}
    assert key not in str(running.lines) + running.said


async def test_an_open_gateway_says_so_in_every_process(process: Spawn, first: MockUpstream) -> None:
    """With several workers as with one."""
    running = await process(two_rungs(first.base_url, first.base_url), workers=2)
    said = [(await running.line("open"))["level"] for _ in range(2)]
    running.terminate()

    assert (said, await running.ended()) == (["warning"] * 2, 0)


async def test_a_key_that_is_stored_is_known_to_the_first_request(serve: Start, tmp_path: Path) -> None:
    """A start waits for the store; nobody is let in without a key meanwhile, not even for a moment."""
    key = await Clerk(two_rungs("http://a", "http://b", more=KEPT), tmp_path).create("app")
    running = await serve(more=KEPT)

    assert [await status(running, key), await status(running)] == [200, 401]


@pytest.mark.parametrize("surface", SURFACES)
async def test_every_surface_takes_and_refuses_keys_in_its_own_way(serve: Start, surface: str, tmp_path: Path) -> None:
    """The key where the vendor's SDK puts it; an unknown one, and one without the right, in the vendor's words."""
    running = await serve(more=KEPT)
    key = await Clerk(two_rungs("http://a", "http://b", more=KEPT), tmp_path).create("app", models=["auto"])
    await watched(running)
    style = STYLES[surface]
    path, body = asked(surface)
    known = await running.ask(body, style(key), path)
    unknown = await running.ask(body, style("tg-nobody"), path)
    none = await running.ask(body, None, path)
    path, body = asked(surface, "premium")
    other = await running.ask(body, style(key), path)
    receipts = await running.receipts.until(4)

    assert [known.status, unknown.status, none.status, other.status] == [200, 401, 401, 403]
    for refused in (unknown, none, other):
        kind, message, request_id = error_of(surface, refused)
        assert kind == KINDS[surface][refused.status]
        assert request_id == refused.headers["x-thriftgate-request-id"]
        assert "nobody" not in message
    assert [(each["caller"], each["outcome"]) for each in receipts] == [
        ("app", "ok"), (None, "refused"), (None, "refused"), ("app", "refused"),
    ]


# ── what becomes of a key ──


async def test_a_key_that_is_withdrawn_or_over_is_refused(serve: Start, tmp_path: Path) -> None:
    """Each says which it is, and the others stay."""
    clerk = Clerk(two_rungs("http://a", "http://b", more=KEPT), tmp_path)
    stays, withdrawn, over = [await clerk.create(name) for name in ("stays", "withdrawn", "over")]
    running = await serve(more=KEPT)
    before = [await status(running, key) for key in (stays, withdrawn, over)]
    await clerk.revoke("withdrawn")
    await clerk.expire("over")
    revoked = await becomes(401, partial(running.ask, None, bearer(withdrawn)))
    expired = await becomes(401, partial(running.ask, None, bearer(over)))

    assert (before, await status(running, stays)) == ([200] * 3, 200)
    assert "not known" in revoked.error["message"]
    assert "expired" in expired.error["message"]


async def test_a_key_that_is_replaced_stays_good_for_its_grace(serve: Start, tmp_path: Path) -> None:
    """What had an hour's grace keeps it when the next text comes; without grace the old one is over at once."""
    clerk = Clerk(two_rungs("http://a", "http://b", more=KEPT), tmp_path)
    running = await serve(more=KEPT)
    one = await clerk.create("app")
    two = await clerk.rotate("app", 3_600)
    await watched(running)
    both = [await status(running, key) for key in (one, two)]
    three = await clerk.rotate("app", 0)
    await watched(running)
    without = [await status(running, key) for key in (one, two, three)]
    four = await clerk.rotate("app", 1)
    await watched(running)
    await becomes(401, partial(running.ask, None, bearer(three)))

    assert (both, without, await status(running, four)) == ([200, 200], [200, 401, 200], 200)


async def test_a_key_from_the_admin_api_is_good_at_once(serve: Start, first: MockUpstream) -> None:
    """The answer of the API is the moment: made, changed, replaced, withdrawn."""
    admin = bearer("the-admin-key-of-tests")
    running = await serve(more=f"{KEPT}\nadmin: {{key: the-admin-key-of-tests}}")
    made = await running.ask({"name": "app", "models": ["auto"]}, admin, "/admin/keys")
    key = made.json["key"]
    at_once = [await status(running, key), await status(running, key, "cheap"), await status(running)]
    async with running._http.patch(
        f"{running.base_url}/admin/keys/app", json={"models": ["cheap"]}, headers=admin
    ) as changed:
        assert changed.status == 200
    other = [await status(running, key), await status(running, key, "cheap")]
    rotated = (await running.ask({}, admin, "/admin/keys/app/rotate")).json["key"]
    replaced = [await status(running, text, "cheap") for text in (key, rotated)]
    async with running._http.delete(f"{running.base_url}/admin/keys/app", headers=admin) as gone:
        assert gone.status == 200

    assert (made.status, at_once, other) == (201, [200, 403, 401], [403, 200])
    assert (replaced, await status(running, rotated, "cheap")) == ([401, 200], 401)
    assert first.journal.requests == 3


# ── several processes, and a reload ──


async def told(running: Process, stored: int, processes: int) -> None:
    """Return when so many processes have said that they have so many keys."""
    while processes:
        processes -= (await running.line("keys"))["stored"] == stored


async def test_a_withdrawn_key_is_refused_by_every_worker(process: Spawn, first: MockUpstream, tmp_path: Path) -> None:
    """Made and withdrawn beside two processes, each of which learns of it by itself."""
    text = two_rungs(first.base_url, first.base_url, more="keys: {boss: {secret: tg-the-boss}}")
    clerk = Clerk(text, tmp_path)
    running = await process(text, workers=2)
    await running.answering()
    key = await clerk.create("app")
    await told(running, 1, 2)
    during = await _on_many_connections(running, key)
    await clerk.revoke("app")
    await told(running, 0, 2)
    after = await _on_many_connections(running, key)
    boss = await _on_many_connections(running, "tg-the-boss")
    running.terminate()

    assert (during, after, boss, await running.ended()) == ({200}, {401}, {200}, 0)


async def _on_many_connections(running: Process, key: str) -> set[int]:
    """Return the statuses of requests that both processes had their chance of."""
    return set(await asyncio.gather(*(status(running.client, key) for _ in range(24))))


async def test_a_reload_keeps_the_stored_keys(process: Spawn, first: MockUpstream, tmp_path: Path) -> None:
    """The file says which keys it has, the store which others there are."""
    text = two_rungs(first.base_url, first.base_url, more="keys: {one: {secret: tg-one}}")
    key = await Clerk(text, tmp_path).create("app")
    running = await process(text)
    before = [await status(running.client, each) for each in (key, "tg-one", "tg-two")]
    (tmp_path / "gateway.yaml").write_text(text.replace("tg-one", "tg-two"))
    running.signal(signal.SIGHUP)
    await running.line("reloaded")
    after = [await status(running.client, each) for each in (key, "tg-one", "tg-two")]
    running.terminate()

    assert (before, after, await running.ended()) == ([200, 200, 401], [200, 401, 200], 0)


async def test_a_reload_does_not_open_a_gateway_that_has_stored_keys(
    process: Spawn, first: MockUpstream, tmp_path: Path
) -> None:
    """Without any key in the file, whoever has none stays outside."""
    text = two_rungs(first.base_url, first.base_url, more="keys: {one: {secret: tg-one}}")
    key = await Clerk(text, tmp_path).create("app")
    running = await process(text)
    (tmp_path / "gateway.yaml").write_text(two_rungs(first.base_url, first.base_url))
    running.signal(signal.SIGHUP)
    await running.line("reloaded")
    after = [await status(running.client, each) for each in (key, "tg-one", None)]
    running.terminate()

    assert (after, await running.ended()) == ([200, 401, 401], 0)


# ── a store that is away ──


async def test_known_keys_outlive_the_store(own_postgres: Postgres, serve: Start, tmp_path: Path) -> None:
    """Stopped under a running gateway: who is known stays known, who is not stays outside."""
    more = shared(own_postgres.url)
    key = await Clerk(two_rungs("http://a", "http://b", more=more), tmp_path).create("app")
    running = await serve(more=more)
    before = await status(running, key)
    await asyncio.to_thread(own_postgres.stop)
    with pytest.raises(StoreError):
        await watched(running)
    after = [await status(running, each) for each in (key, "tg-nobody", None)]
    await asyncio.to_thread(own_postgres.start)

    assert (before, after) == (200, [200, 401, 401])


@pytest.mark.parametrize("harm", ["removed", "overwritten"])
async def test_known_keys_outlive_their_file(serve: Start, tmp_path: Path, harm: str) -> None:
    """A file that somebody removes or spoils under a running gateway takes nobody's key away, and opens nothing."""
    key = await Clerk(two_rungs("http://a", "http://b", more=KEPT), tmp_path).create("app")
    running = await serve(more=KEPT)
    before = await status(running, key)
    for name in await asyncio.to_thread(os.listdir, tmp_path):
        if harm == "removed" and name.startswith("ledger.sqlite"):
            (tmp_path / name).unlink()
        elif name.startswith("ledger.sqlite"):
            (tmp_path / name).write_bytes(b"this is no database" * 1_000)
    try:
        await watched(running)
    except StoreError:
        assert harm == "overwritten"
    after = [await status(running, each) for each in (key, "tg-nobody", None)]

    assert (before, after) == (200, [200, 401, 401])


async def test_a_store_that_is_not_there_yet_opens_nothing(
    own_postgres: Postgres, process: Spawn, first: MockUpstream, tmp_path: Path
) -> None:
    """A start without it: a configured key is good, of others nobody knows; when it is there they are good as well."""
    text = two_rungs(first.base_url, first.base_url, more=shared(own_postgres.url, "keys: {boss: {secret: tg-boss}}"))
    key = await Clerk(text, tmp_path).create("app")
    await asyncio.to_thread(own_postgres.stop)
    running = await process(text)
    without = [await running.client.ask(None, bearer(each)) for each in ("tg-boss", key, "tg-nobody")]
    await asyncio.to_thread(own_postgres.start)
    await becomes(200, partial(running.client.ask, None, bearer(key)))
    after = [await status(running.client, each) for each in ("tg-boss", "tg-nobody")]
    running.terminate()

    assert ([reply.status for reply in without], without[1].headers["Retry-After"]) == ([200, 503, 503], "1")
    assert (after, await running.ended()) == ([200, 401], 0)


async def test_two_gateways_on_one_store_know_the_same_keys(postgres: Database, serve: Start, tmp_path: Path) -> None:
    """Made through one of them, good at the other within a second."""
    more = shared(postgres.url, "admin: {key: the-admin-key-of-tests}")
    one, two = await serve(more=more), await serve(more=more)
    made = await one.ask({"name": "app"}, bearer("the-admin-key-of-tests"), "/admin/keys")
    key = made.json["key"]
    await becomes(401, two.ask)

    assert (made.status, [await status(each, key) for each in (one, two)], await status(one)) == (201, [200, 200], 401)
