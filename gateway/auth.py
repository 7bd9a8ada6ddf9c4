"""Key → caller. Pure; keys are looked up by their digest under the gateway's secret, so the time it takes to refuse one
says nothing of those there are.
"""

import hmac
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from gateway import keys
from gateway.config import BudgetConfig, GrantConfig, KeyConfig, LimitsConfig
from gateway.errors import Forbidden, Unauthenticated, Unavailable
from gateway.keys import StoredKey


class Caller(msgspec.Struct, frozen=True):
    """Who asks. `models` are the public names they may use; None is all."""

    name: str
    models: frozenset[str] | None = None
    owner: str | None = None
    limits: LimitsConfig = LimitsConfig()
    budget: BudgetConfig | None = None
    expires_s: float | None = None      # since the epoch

    def check_may_use(self, model: str) -> None:
        """Raise Forbidden unless this caller may ask for `model`."""
        if self.models is not None and model not in self.models:
            allowed = ", ".join(sorted(self.models))
            raise Forbidden(f"The key {self.name!r} may not use {model[:100]!r}. It may use: {allowed}.", param="model")


class Entry(NamedTuple):
    """A text that is good, or was."""

    digest: bytes
    caller: Caller
    until_s: float | None       # the caller's end, or before it that of a text that was replaced

    def __repr__(self) -> str:
        return f"Entry({self.caller.name!r})"


class Stored(NamedTuple):
    """What the store says, ready to be looked up. `closes`: keys were made, even if none of them is good any more."""

    entries: Mapping[bytes, Entry]
    names: frozenset[str]
    closes: bool

    def __repr__(self) -> str:
        return f"<Stored {len(self.names)} keys>"


ANYONE = Caller("anyone")
KEY_HEADERS = ("x-api-key", "x-goog-api-key")       # Anthropic's and Google's
NOTHING = Stored(MappingProxyType({}), frozenset(), closes=False)
UNKNOWN = "This key is not known here. Check it, or ask the gateway's operator for one."
NOT_SENT = "No key was sent. Send `Authorization: Bearer YOUR_KEY`."
EXPIRED = "This key has expired. Ask the gateway's operator for another."


class Keyring:
    """The keys of one configuration, and those of the store, which come and go while it serves.

    Who has none stays outside. Only where `open_` says that nobody else can reach the gateway, and as long as nobody
    made a key anywhere, everybody is `anyone`. Until the store was read (`stored` is None) nobody can say whether a key
    is good: whoever has none of the configuration's is asked to come again.
    """

    def __init__(
        self, configured: Mapping[str, KeyConfig], secret: bytes, *, open_: bool, stored: Stored | None = None
    ) -> None:
        self._secret = secret
        self._open = open_ and not configured
        self._names = frozenset(configured)
        callers = {key.secret.reveal(): caller_of(name, key) for name, key in configured.items()}
        self._configured = _by_digest(
            Entry(keys.digest(secret, text), caller, caller.expires_s) for text, caller in callers.items()
        )
        self._stored = stored

    def __repr__(self) -> str:
        stored = "unknown" if self._stored is None else len(self._stored.names)
        return f"<Keyring {len(self._configured)} configured keys, {stored} stored>"

    @property
    def open(self) -> bool:
        """Whether everybody is let in: nobody else can reach the gateway, and nobody has made a key."""
        return self._open and self._stored is not None and not self._stored.closes

    def replace(self, stored: Stored) -> list[str]:
        """Have these stored keys hold from now on. Returns the names of those that a configured key puts aside."""
        self._stored = stored
        return sorted(self._names & stored.names)

    def authenticate(self, headers: Mapping[str, str], now_s: float) -> Caller:
        """Return the caller whose key stands where one of the dialects has it, or raise Unauthenticated.

        `now_s` is the time of the wall clock, since the epoch.
        """
        if self.open:
            return ANYONE
        text = key_in(headers)
        if text is None:
            if self._open and self._stored is None:
                raise self._not_yet()
            raise Unauthenticated(NOT_SENT)
        digest = keys.digest(self._secret, text)
        entry = self._configured.get(digest) or self._find(digest)
        if entry is None or not hmac.compare_digest(entry.digest, digest):
            raise Unauthenticated(UNKNOWN)
        if entry.until_s is not None and now_s >= entry.until_s:
            raise Unauthenticated(EXPIRED)
        return entry.caller

    def _find(self, digest: bytes) -> Entry | None:
        if self._stored is None:
            raise self._not_yet()
        entry = self._stored.entries.get(digest)
        return None if entry is None or entry.caller.name in self._names else entry

    @staticmethod
    def _not_yet() -> Unavailable:
        return Unavailable("The gateway has not read its keys yet. Try again shortly.", headers={"Retry-After": "1"})


def key_in(headers: Mapping[str, str]) -> str | None:
    """Return the key that was sent, or None."""
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        key = next(filter(None, map(headers.get, KEY_HEADERS)), "")
    return key.strip() or None


def caller_of(name: str, grant: GrantConfig) -> Caller:
    """Return whom a key makes its holder."""
    return Caller(
        name,
        None if grant.models is None else frozenset(grant.models),
        grant.owner,
        grant.limits,
        grant.budget,
        None if grant.expires is None else grant.expires.timestamp(),
    )


def stored(live: Iterable[StoredKey], *, closes: bool) -> Stored:
    """Return the store's keys, ready to be looked up. Takes a while with very many: not for the path's loop."""
    entries = _by_digest(entry for key in live for entry in _entries(key))
    return Stored(entries, frozenset(entry.caller.name for entry in entries.values()), closes)


def _entries(key: StoredKey) -> Iterable[Entry]:
    caller = caller_of(key.name, key.grant)
    return (Entry(digest, caller, None if until is None else until / 1000) for digest, until in key.texts())


def _by_digest(entries: Iterable[Entry]) -> dict[bytes, Entry]:
    return {entry.digest: entry for entry in entries}
