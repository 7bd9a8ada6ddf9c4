"""The keys in the store: on SQLite and on PostgreSQL."""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import auth, keys
from gateway.auth import Keyring
from gateway.config import BudgetConfig, GrantConfig, LedgerConfig, LimitsConfig
from gateway.errors import Unauthenticated
from gateway.faults import ConfigError
from gateway.keys import KeyFault, NameTaken, NoSuchKey, OtherSecret
from gateway.store import keys as store
from gateway.store import migrating, opening, schema
from gateway.store.opening import StoreError

SECRET, OTHER = b"the gateway's secret", b"another's secret"


@asynccontextmanager
async def store_of(ledger: LedgerConfig) -> AsyncIterator[AsyncEngine]:
    """The store of a ledger, for as long as the block."""
    engine = opening.engine(ledger)
    try:
        await migrating.upgrade(engine)
        yield engine
    finally:
        await engine.dispose()


def cut(secret: bytes = SECRET) -> tuple[str, keys.Kept]:
    """A new text and what is kept of it."""
    made = keys.text_of(secrets.token_bytes(32))
    return made, keys.kept(secret, made)


async def create(engine: AsyncEngine, name: str, secret: bytes = SECRET, **more: Any) -> str:
    """Make a key, and return its text."""
    made, kept = cut(secret)
    await store.create(engine, keys.new(name, GrantConfig(**more), kept, 1_000), kept.check)
    return made


async def rotate(engine: AsyncEngine, name: str, grace_ms: int = 0, secret: bytes = SECRET) -> str:
    """Rotate a key after two seconds, and return its text."""
    made, kept = cut(secret)
    await store.rotate(engine, name, kept, grace_ms, 2_000)
    return made


async def enters(engine: AsyncEngine, now_s: float, *texts: str) -> list[str | None]:
    """Say who enters with each of these texts."""
    loaded = await store.load(engine)
    keyring = Keyring({}, SECRET, open_=True, stored=auth.stored(loaded.keys, closes=loaded.closes))
    return [entered(keyring, text, now_s) for text in texts]


def entered(keyring: Keyring, text: str, now_s: float) -> str | None:
    """Say who enters with a text."""
    try:
        return keyring.authenticate({"Authorization": f"Bearer {text}"}, now_s).name
    except Unauthenticated:
        return None


FULL = GrantConfig(
    owner="team", models=["auto", "small"], expires=datetime(2027, 1, 1, 12, 30, 15, 250_000, UTC),
    limits=LimitsConfig(requests_per_minute=60, requests_burst=5, concurrency=3),
    budget=BudgetConfig(usd=12.5, per="day", on_budget="cheapest", soft=[0.5]), metadata={"app": "chat ☂"},
)


async def test_an_empty_store(engine: AsyncEngine) -> None:
    """There are no keys, and nobody ever made one."""
    assert await store.load(engine) == (0, [], False, None, [])
    assert await store.listed(engine) == []


@pytest.mark.parametrize("grant", [GrantConfig(), FULL, GrantConfig(models=[])], ids=["default", "full", "no model"])
async def test_a_key_comes_back_as_it_was(engine: AsyncEngine, grant: GrantConfig) -> None:
    """Every part of it, and no part of its text but the last four characters."""
    made, kept = cut()
    key = keys.new("web", grant, kept, 1_000)
    await store.create(engine, key, kept.check)

    assert [key] == await store.listed(engine) == (await store.load(engine)).keys == [await store.one(engine, "web")]
    async with engine.connect() as connection:
        assert made[3:-4] not in str((await connection.execute(select(schema.keys))).all())


async def test_every_change_is_counted(engine: AsyncEngine) -> None:
    """One number tells whoever watches; what was refused does not raise it."""
    counted = [await store.watch(engine)]

    async def note() -> None:
        """Look at the counter."""
        counted.append(await store.watch(engine))

    await create(engine, "web")
    await note()
    await rotate(engine, "web")
    await note()
    await store.change(engine, "web", lambda grant: grant)
    await note()
    await store.revoke(engine, "web", 5_000)
    await note()
    for refused in (rotate(engine, "web"), rotate(engine, "none"), store.revoke(engine, "none", 5_000)):
        with pytest.raises(KeyFault):
            await refused
    await note()

    assert counted == [0, 1, 2, 3, 4, 4]


async def test_what_changed_since(engine: AsyncEngine) -> None:
    """Among many keys only those are read, the revoked with them."""
    for name in ("web", "app", "old"):
        await create(engine, name)
    number = await store.watch(engine)
    await store.revoke(engine, "old", 5_000)
    await rotate(engine, "app")
    changed = await store.load(engine, number)

    assert sorted((key.name, key.state(6_000)) for key in changed.keys) == [("app", "live"), ("old", "revoked")]
    assert (changed.change, changed.closes) == (number + 2, True)
    assert (await store.load(engine, number + 2)).keys == []


async def test_a_name_is_one_callers(engine: AsyncEngine) -> None:
    """A second key of that name is refused, until the first is revoked; that one's text stays dead."""
    first = await create(engine, "web")
    with pytest.raises(NameTaken, match="there is a key called 'web' already"):
        await create(engine, "web")
    await store.revoke(engine, "web", 5_000)
    second = await create(engine, "web", owner="team")

    assert await enters(engine, 6, first, second) == [None, "web"]
    assert [key.grant.owner for key in await store.listed(engine)] == ["team"]


async def test_of_two_at_once_one_is_made(ledger: LedgerConfig) -> None:
    """Two processes that make a key of the same name: one of them is told."""
    async with store_of(ledger) as here, store_of(ledger) as there:
        made = await asyncio.gather(create(here, "web"), create(there, "web"), return_exceptions=True)

        assert sorted(type(result).__name__ for result in made) == ["NameTaken", "str"]
        assert await store.watch(here) == 1


async def test_rotations_at_once_lose_nothing(ledger: LedgerConfig) -> None:
    """Each takes the place of the one before: all texts are good for their grace, and the last for good."""
    async with store_of(ledger) as here, store_of(ledger) as there:
        first = await create(here, "web")
        texts = await asyncio.gather(*(rotate(engine, "web", 60_000) for engine in (here, there, here, there)))

        assert await enters(here, 3, first, *texts) == ["web"] * 5
        assert sorted(map(str, await enters(here, 62, first, *texts))) == ["None"] * 4 + ["web"]


async def test_revoking_is_for_good(engine: AsyncEngine) -> None:
    """It ends the grace of earlier texts too; doing it again changes nothing, and nothing else is done with it."""
    first = await create(engine, "web")
    second = await rotate(engine, "web", 60_000)
    revoked = await store.revoke(engine, "web", 5_000)

    assert await enters(engine, 6, first, second) == [None, None]
    assert await store.revoke(engine, "web", 9_000) == revoked == await store.one(engine, "web")
    assert ((await store.load(engine)).keys, (await store.load(engine)).closes) == ([], True)
    for refused in (rotate(engine, "web"), store.change(engine, "web", lambda grant: grant)):
        with pytest.raises(KeyFault, match="the key 'web' is revoked") as caught:
            await refused
        assert caught.value.hint == "make a new one; it may have the same name"


async def test_changing_what_it_is_for(engine: AsyncEngine) -> None:
    """The text stays; what `to` refuses is not done."""
    made = await create(engine, "web")

    def refuse(_: GrantConfig) -> GrantConfig:
        """Refuse."""
        raise ConfigError([])

    changed = await store.change(engine, "web", lambda grant: msgspec.structs.replace(grant, owner="team"))
    with pytest.raises(ConfigError):
        await store.change(engine, "web", refuse)

    assert changed == await store.one(engine, "web")
    assert (changed.grant.owner, await enters(engine, 6, made)) == ("team", ["web"])


async def test_unknown_names(engine: AsyncEngine) -> None:
    """Say which was probably meant."""
    await create(engine, "web")

    for asked in (store.one(engine, "wbe"), store.revoke(engine, "wbe", 1), rotate(engine, "wbe")):
        with pytest.raises(NoSuchKey, match="there is no key called 'wbe'") as caught:
            await asked
        assert caught.value.hint == "did you mean 'web'?"


class TestSecrets:
    """Two gateways with different secrets would refuse each other's keys."""

    async def test_another_secret_is_noticed(self, engine: AsyncEngine) -> None:
        """Nothing is made or replaced with it; to revoke needs none."""
        await create(engine, "web")

        with pytest.raises(OtherSecret):
            await create(engine, "app", OTHER)
        with pytest.raises(OtherSecret):
            await rotate(engine, "web", secret=OTHER)
        assert [key.name for key in (await store.load(engine)).keys] == ["web"]
        assert (await store.load(engine)).check == keys.check_of(SECRET)

    async def test_a_lost_one_is_left_behind(self, engine: AsyncEngine) -> None:
        """When every key of it is revoked, the next is made with the new secret."""
        await create(engine, "web")
        await store.revoke(engine, "web", 5_000)
        await create(engine, "app", OTHER)

        assert (await store.load(engine)).check == keys.check_of(OTHER)

    async def test_a_refusal_settles_nothing(self, engine: AsyncEngine) -> None:
        """The first secret is that of the first key which is there."""
        await create(engine, "web")
        await store.revoke(engine, "web", 5_000)
        with pytest.raises(NoSuchKey):
            await rotate(engine, "none", secret=OTHER)

        assert (await store.load(engine)).check == keys.check_of(SECRET)


async def test_what_a_newer_gateway_wrote(engine: AsyncEngine) -> None:
    """A key with a setting that this one does not know stays outside, by name; the others enter."""
    made = await create(engine, "web")
    await create(engine, "new")
    async with opening.writing(engine) as connection:
        strange = update(schema.keys).where(schema.keys.c.name == "new").values(limits={"requests_per_year": 1})
        await connection.execute(strange)

    assert (await store.load(engine)).unreadable == ["new"]
    assert await enters(engine, 6, made) == ["web"]


async def test_a_store_that_fails(tmp_path: Path) -> None:
    """Is a StoreError, whatever is asked of it."""
    (tmp_path / "ledger.sqlite").write_bytes(b"this is no database" * 100)
    engine = opening.engine(LedgerConfig(directory=str(tmp_path)))

    for asked in (store.watch(engine), store.load(engine), store.listed(engine), create(engine, "web")):
        with pytest.raises(StoreError):
            await asked
    await engine.dispose()


async def test_the_digests_are_apart(engine: AsyncEngine) -> None:
    """The store itself sees that no two keys have one text."""
    await create(engine, "web")
    async with engine.connect() as connection:
        row = dict((await connection.execute(select(schema.keys))).mappings().one())

    with pytest.raises(StoreError, match="refused"):
        async with opening.writing(engine) as connection:
            await connection.execute(insert(schema.keys).values({**row, "name": "other"}))
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM keys"))).scalar_one() == 1


NAMES = st.sampled_from(["a", "b"])
SPANS = st.sampled_from([0, 1_000, 3_000])
STEPS = st.one_of(
    st.tuples(st.just("create"), NAMES, SPANS), st.tuples(st.just("rotate"), NAMES, SPANS),
    st.tuples(st.just("revoke"), NAMES, st.just(0)), st.tuples(st.just("change"), NAMES, SPANS),
    st.tuples(st.just("wait"), NAMES, SPANS),
)


class Model:
    """Who may enter, as one would write it down on paper: each text with its end, each key with its own."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.ends: dict[str, int | None] = {}           # of each key that is not revoked
        self.texts: dict[str, tuple[str, int | None]] = {}      # each text that could be good: its key, its own end
        self.last: dict[str, str] = {}                  # each key's text
        self.every: list[str] = []

    def created(self, name: str, text: str, end: int | None) -> None:
        """A key was made."""
        self.ends[name] = end
        self._given(name, text)

    def rotated(self, name: str, text: str, grace_ms: int) -> None:
        """A key has another text."""
        self.texts[self.last[name]] = (name, self.now_ms + grace_ms)
        self._given(name, text)

    def revoked(self, name: str) -> None:
        """A key is over, and every text of it."""
        self.ends.pop(name, None)
        self.texts = {text: kept for text, kept in self.texts.items() if kept[0] != name}

    def enters(self, text: str) -> str | None:
        """Say who enters with a text."""
        name, end = self.texts.get(text, ("", 0))
        good = name in self.ends and all(e is None or self.now_ms < e for e in (end, self.ends[name]))
        return name if good else None

    def _given(self, name: str, text: str) -> None:
        self.texts[text] = (name, None)
        self.last[name] = text
        self.every.append(text)


async def step(engine: AsyncEngine, model: Model, what: str, name: str, span: int) -> None:
    """Do one thing to both. Raises KeyFault, with the model as it was."""
    end = model.now_ms + span if span else None
    grant = GrantConfig(expires=None if end is None else datetime.fromtimestamp(end / 1000, UTC))
    made, kept = cut()
    if what == "create":
        await store.create(engine, keys.new(name, grant, kept, model.now_ms), kept.check)
        model.created(name, made, end)
    elif what == "rotate":
        await store.rotate(engine, name, kept, span, model.now_ms)
        model.rotated(name, made, span)
    elif what == "revoke":
        await store.revoke(engine, name, model.now_ms)
        model.revoked(name)
    elif what == "change":
        await store.change(engine, name, lambda _: grant)
        model.ends[name] = end
    else:
        model.now_ms += span


def is_refused(model: Model, what: str, name: str) -> bool:
    """Say whether a step is one that must be refused."""
    if what == "create":
        return name in model.ends
    if what == "revoke":
        return name not in model.last
    return what in ("rotate", "change") and name not in model.ends


async def check_entering(steps: list[tuple[str, str, int]], directory: str) -> None:
    """Take the steps, and compare after each who enters with every text that there ever was."""
    model = Model()
    async with store_of(LedgerConfig(directory=directory)) as engine:
        for what, name, span in steps:
            refused, before = is_refused(model, what, name), await store.watch(engine)
            try:
                await step(engine, model, what, name, span)
            except KeyFault:
                assert refused, (what, name)
            else:
                assert not refused, (what, name)
            assert await store.watch(engine) - before == (not refused and what != "wait")
            found = await enters(engine, model.now_ms / 1000, *model.every)
            assert found == [model.enters(text) for text in model.every]


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=20))
def test_who_may_enter(steps: list[tuple[str, str, int]]) -> None:
    """Whatever is made, replaced, changed, withdrawn and outlived in whichever order: nobody else ever enters."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(check_entering(steps, directory))
