"""The store's keys, for the life of a process."""

import asyncio
import gc
import io
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import keys, logs
from gateway.auth import NOT_SENT, UNKNOWN, Keyring, Stored
from gateway.bookkeeper import Bookkeeper
from gateway.config import GrantConfig, KeyConfig, LedgerConfig, Secret
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.store import keys as store
from gateway.store import migrating, opening, schema
from gateway.store.opening import StoreError
from gateway.storedkeys import EVERY_S, StoredKeys

BOUND_S = 15.0
NOT_YET = "The gateway has not read its keys yet. Try again shortly."
Logged = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def ledger(tmp_path: Path) -> LedgerConfig:
    """A ledger of the test's own."""
    return LedgerConfig(directory=str(tmp_path))


@pytest.fixture
async def engine(ledger: LedgerConfig) -> AsyncIterator[AsyncEngine]:
    """Its store."""
    made = opening.engine(ledger)
    await migrating.upgrade(made)
    yield made
    await made.dispose()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    """What is logged, line by line."""
    stream = io.BytesIO()
    logs.configure(stream)
    yield lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


async def create(engine: AsyncEngine, name: str, secret: bytes) -> str:
    """Make a key, and return its text."""
    text = keys.text_of(secrets.token_bytes(32))
    kept = keys.kept(secret, text)
    await store.create(engine, keys.new(name, GrantConfig(), kept, 1_000), kept.check)
    return text


async def watch(stored: StoredKeys, engine: AsyncEngine) -> None:
    """Have the store looked at, and what was found put in force."""
    await stored.watch(engine)
    await asyncio.sleep(0)          # it is put in force by the loop's next turn


def told(keyring: Keyring, text: str | None) -> str:
    """Say who somebody with this key is, or what they are told."""
    try:
        return keyring.authenticate({} if text is None else {"Authorization": f"Bearer {text}"}, 5.0).name
    except GatewayError as error:
        return error.message


async def test_a_change_reaches_every_configuration(ledger: LedgerConfig, engine: AsyncEngine) -> None:
    """Those that still serve, the one that serves now, and the one to come."""
    stored = StoredKeys(ledger)
    first = stored.keyring({}, open_=True)
    answers = [told(first, None)]
    await watch(stored, engine)
    answers.append(told(first, None))
    second = stored.keyring({}, open_=True)
    text = await create(engine, "web", stored.secret)
    await watch(stored, engine)
    third = stored.keyring({}, open_=True)

    assert answers == [NOT_YET, "anyone"]
    assert [told(keyring, text) for keyring in (first, second, third)] == ["web"] * 3
    assert [told(keyring, None) for keyring in (first, second, third)] == [NOT_SENT] * 3


async def test_what_did_not_change_is_not_read(ledger: LedgerConfig, engine: AsyncEngine) -> None:
    """Twice a second one number is asked for; and where it rose, the rows that it rose for."""
    stored = StoredKeys(ledger)
    keyring = stored.keyring({}, open_=True)
    text = await create(engine, "web", stored.secret)
    await watch(stored, engine)
    async with opening.writing(engine) as connection:       # a change that nobody counted
        await connection.execute(update(schema.keys).values(revoked_ms=1))
    await watch(stored, engine)
    unseen = told(keyring, text)
    await create(engine, "app", stored.secret)
    await watch(stored, engine)

    assert (unseen, told(keyring, text)) == ("web", "web")


async def test_a_store_that_is_put_back(ledger: LedgerConfig, engine: AsyncEngine) -> None:
    """A number that falls is that of an older copy: everything is read again."""
    stored = StoredKeys(ledger)
    keyring = stored.keyring({}, open_=True)
    texts = [await create(engine, name, stored.secret) for name in ("web", "app")]
    await watch(stored, engine)
    async with opening.writing(engine) as connection:
        await connection.execute(delete(schema.keys).where(schema.keys.c.name == "app"))
        await connection.execute(update(schema.changes).values(keys=1))
    await watch(stored, engine)

    assert [told(keyring, text) for text in texts] == ["web", UNKNOWN]


async def test_a_key_that_goes(ledger: LedgerConfig, engine: AsyncEngine) -> None:
    """What is revoked, or became unreadable, is not known any more; the others stay."""
    stored = StoredKeys(ledger)
    keyring = stored.keyring({}, open_=True)
    texts = [await create(engine, name, stored.secret) for name in ("web", "app", "new")]
    await watch(stored, engine)
    await store.revoke(engine, "web", 2_000)
    await store.change(engine, "new", lambda grant: grant)
    async with opening.writing(engine) as connection:
        strange = update(schema.keys).where(schema.keys.c.name == "new").values(limits={"requests_per_year": 1})
        await connection.execute(strange)
    await watch(stored, engine)

    assert [told(keyring, text) for text in texts] == [UNKNOWN, "app", UNKNOWN]


async def test_a_store_that_goes_away(ledger: LedgerConfig, engine: AsyncEngine, tmp_path: Path) -> None:
    """The keys that are known stay in force."""
    stored = StoredKeys(ledger)
    keyring = stored.keyring({}, open_=True)
    text = await create(engine, "web", stored.secret)
    await watch(stored, engine)
    broken = opening.engine(LedgerConfig(url=Secret(f"sqlite:///{tmp_path}")))
    with pytest.raises(StoreError):
        await stored.watch(broken)
    await broken.dispose()

    assert told(keyring, text) == "web"


async def test_a_configuration_that_is_gone(ledger: LedgerConfig) -> None:
    """Its keyring is held by nobody: a thousand reloads leave nothing behind."""
    stored = StoredKeys(ledger)
    stored.keyring({}, open_=True)
    gc.collect()

    assert len(stored._rings) == 0


async def test_the_configuration_wins(ledger: LedgerConfig, engine: AsyncEngine, log: Logged) -> None:
    """A stored key of a configured one's name is put aside, which is logged: when it is read, and at each reload."""
    stored = StoredKeys(ledger)
    configured = {"web": KeyConfig(secret=Secret("tg-web"))}
    keyring = stored.keyring(configured, open_=False)
    text = await create(engine, "web", stored.secret)
    await watch(stored, engine)
    stored.keyring(configured, open_=False)

    assert (told(keyring, text), told(keyring, "tg-web")) == (UNKNOWN, "web")
    lines = [line for line in log() if line["event"] == "stored keys put aside"]
    assert [(line["level"], line["keys"]) for line in lines] == [("warning", ["web"])] * 2


class TestWhatCannotBeUsed:
    """Keys that are there and open nothing: whoever operates the gateway is told, and it stays closed."""

    async def test_another_secret(self, ledger: LedgerConfig, engine: AsyncEngine, log: Logged) -> None:
        """They were made with one that is not ours; when they are replaced all is well again."""
        stored = StoredKeys(ledger)
        keyring = stored.keyring({}, open_=True)
        text = await create(engine, "web", b"another")
        await watch(stored, engine)
        (line, _), fault = log(), stored.fault
        closed = told(keyring, text), told(keyring, None)
        await store.revoke(engine, "web", 2_000)
        await watch(stored, engine)

        assert closed == (UNKNOWN, NOT_SENT)
        assert (line["event"], line["level"]) == ("stored keys cannot be used", "error")
        assert line["fault"] == "the stored keys were made with another secret than this gateway's"
        assert (str(fault), stored.fault) == (line["fault"], None)

    async def test_no_secret(self, engine: AsyncEngine, log: Logged) -> None:
        """With PostgreSQL there is none but the configured: it is said as soon as keys are there, and none are made."""
        stored = StoredKeys(LedgerConfig(url=Secret("postgresql://h/d")))
        keyring = stored.keyring({"ops": KeyConfig(secret=Secret("tg-ops"))}, open_=True)
        await watch(stored, engine)
        before = stored.fault, len(log())
        await create(engine, "web", b"another")
        await watch(stored, engine)

        assert before == (None, 0)
        assert "set `ledger.secret`" in log()[0]["hint"]
        assert told(keyring, "tg-ops") == "ops"
        with pytest.raises(keys.NoSecret):
            stored.ours()

    async def test_what_a_newer_gateway_wrote(self, ledger: LedgerConfig, engine: AsyncEngine, log: Logged) -> None:
        """By name."""
        stored = StoredKeys(ledger)
        await create(engine, "new", stored.secret)
        async with opening.writing(engine) as connection:
            await connection.execute(update(schema.keys).values(limits={"requests_per_year": 1}))
        await watch(stored, engine)

        assert (log()[0]["event"], log()[0]["keys"]) == ("stored keys cannot be read", ["new"])


async def test_no_text_is_logged(ledger: LedgerConfig, engine: AsyncEngine, log: Logged) -> None:
    """Neither the text nor its digest, nor the secret: only how many keys there are."""
    stored = StoredKeys(ledger)
    text = await create(engine, "web", stored.secret)
    await watch(stored, engine)

    assert [(line["event"], line["stored"]) for line in log()] == [("keys", 1)]
    said = f"{log()} {stored!r} {stored.keyring({}, open_=True)!r}"
    assert not any(s in said for s in (text, keys.digest(stored.secret, text).hex(), stored.secret.hex()))


async def test_without_a_store() -> None:
    """Nothing has to be read: it is known at once that there is none."""
    stored = StoredKeys(LedgerConfig(url=Secret("none")))

    assert await stored.known(0)
    assert told(stored.keyring({}, open_=True), None) == "anyone"


async def test_waiting_for_the_first_look(ledger: LedgerConfig, engine: AsyncEngine) -> None:
    """It ends with the look, or with the limit."""
    stored = StoredKeys(ledger)
    late = await stored.known(0)
    await watch(stored, engine)

    assert (late, await stored.known(0)) == (False, True)


async def test_within_a_second(
    ledger: LedgerConfig, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the bookkeeper, in whose thread it is read: another process's change is in force here."""
    stored, bookkeeper = StoredKeys(ledger), Bookkeeper(ledger, Metrics(), "test", settle=False)
    keyring, changed = stored.keyring({}, open_=True), asyncio.Event()
    replace = keyring.replace

    def replaced(new: Stored) -> list[str]:
        """Say that it happened."""
        changed.set()
        return replace(new)

    monkeypatch.setattr(keyring, "replace", replaced)
    bookkeeper.every(EVERY_S, stored.watch)
    bookkeeper.start()
    try:
        assert await stored.known(BOUND_S)
        text = await create(engine, "web", stored.secret)
        async with asyncio.timeout(BOUND_S):
            while told(keyring, text) != "web":
                changed.clear()
                await changed.wait()
    finally:
        await bookkeeper.close()

    assert EVERY_S <= 0.5


async def test_a_store_that_cannot_be_made_keeps_nobody_out(tmp_path: Path) -> None:
    """There is no key in it. One that is there and cannot be read may have some."""
    (tmp_path / "file").touch()
    new = StoredKeys(LedgerConfig(directory=str(tmp_path / "file" / "below")))
    there = StoredKeys(LedgerConfig(url=Secret(f"sqlite:///{tmp_path}/file"), directory=str(tmp_path)))
    rings = [stored.keyring({}, open_=True) for stored in (new, there)]

    assert [ring.open for ring in rings] == [True, False]
