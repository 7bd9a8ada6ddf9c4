"""The store's keys, for the life of a process: read when they change, handed to every configuration that still serves.

The bookkeeper asks twice a second for one number, which every change of a key raises. What it reads is made ready for
looking up in its own thread; the path's loop only exchanges one reference. While the store does not answer, the keys
that are known stay in force.
"""

import asyncio
import secrets
import weakref
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import auth, logs
from gateway.auth import Keyring, Stored
from gateway.config import KeyConfig, LedgerConfig
from gateway.keys import KeyFault, OtherSecret, StoredKey, check_of
from gateway.store import keys as store
from gateway.store import opening
from gateway.store.secret import secret_of

EVERY_S = 0.5       # a change is in force everywhere within a second


class StoredKeys:
    """The keys of the store as last read. Made in the path's loop, which is told of every change.

    `fault` says why none of them can be used, as long as that is so.
    """

    def __init__(self, ledger: LedgerConfig) -> None:
        self.fault: KeyFault | None = None
        self._lacks: KeyFault | None = None         # why there is no secret
        try:
            self.secret = secret_of(ledger)
        except KeyFault as error:
            self.secret, self._lacks = secrets.token_bytes(), error      # the configured keys are hashed all the same
        # the bookkeeper's thread
        self._keys: dict[str, StoredKey] = {}
        self._change: int | None = None             # what the counter said when they were read
        self._turn = asyncio.Lock()
        # the path's loop
        self._loop = asyncio.get_running_loop()
        self._stored: Stored | None = None if ledger.on and not _is_new(ledger) else auth.NOTHING
        self._rings: weakref.WeakSet[Keyring] = weakref.WeakSet()
        self._known = asyncio.Event()
        if not ledger.on:
            self._known.set()

    def __repr__(self) -> str:
        return f"<StoredKeys {self._stored!r}>"

    def keyring(self, configured: Mapping[str, KeyConfig], *, open_: bool) -> Keyring:
        """Return the keyring of a configuration; as long as it is used it has the keys that are stored."""
        ring = Keyring(configured, self.secret, open_=open_, stored=self._stored)
        self._rings.add(ring)
        if self._stored is not None:
            self._put_aside(ring.replace(self._stored))
        return ring

    async def known(self, limit_s: float) -> bool:
        """Wait until the store was read, so that the first request finds its key; say whether it was."""
        try:
            async with asyncio.timeout(limit_s):
                await self._known.wait()
        except TimeoutError:
            return False
        return True

    def ours(self) -> bytes:
        """Return the secret that new keys are hashed with. Raises KeyFault where there is none to share."""
        if self._lacks is not None:
            raise self._lacks
        return self.secret

    async def watch(self, engine: AsyncEngine) -> None:
        """Read the keys if they changed. For the bookkeeper's loop, every EVERY_S seconds; raises StoreError."""
        async with self._turn:                      # what was read first is in force first
            number, known = await store.watch(engine), self._change
            if number != known:
                await self._read(engine, known if known is not None and number > known else None)

    async def _read(self, engine: AsyncEngine, since: int | None) -> None:
        loaded = await store.load(engine, since)
        if since is None:                           # the first time, or the store is another, put back from a copy
            self._keys.clear()
        for key in loaded.keys:
            self._keys[key.name] = key
        for name in [*loaded.unreadable, *(key.name for key in loaded.keys if key.revoked_ms is not None)]:
            self._keys.pop(name, None)
        fault = self._lacks
        if loaded.check is not None and fault is None and loaded.check != check_of(self.secret):
            fault = OtherSecret()
        stored = auth.stored(() if fault else self._keys.values(), closes=loaded.closes)
        self._change = loaded.change
        self._loop.call_soon_threadsafe(self._put, stored, fault if self._keys else None, loaded.unreadable)

    def _put(self, stored: Stored, fault: KeyFault | None, unreadable: list[str]) -> None:
        before, self._stored, self.fault = self._stored, stored, fault
        self._known.set()
        if fault is not None:
            logs.say("stored keys cannot be used", "error", fault=str(fault), hint=fault.hint)
        if unreadable:
            logs.say("stored keys cannot be read", "error", keys=unreadable)
        if stored.closes or before is not None:
            logs.say("keys", stored=len(stored.names))
        for ring in tuple(self._rings):
            self._put_aside(ring.replace(stored))

    @staticmethod
    def _put_aside(names: list[str]) -> None:
        if names:
            logs.say("stored keys put aside", "warning", keys=names, reason="the configuration has keys of these names")


def _is_new(ledger: LedgerConfig) -> bool:
    """Say whether there is no store yet, and so no key in it, whether it can be made or not."""
    file = opening.file_of(ledger)
    return file is not None and not file.exists()
