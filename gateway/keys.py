"""Virtual keys as values: their text, what is kept of it, what becomes of them. No clock and no chance of its own.

Rule: a key's text is nowhere but with its holder. Kept is its digest under the gateway's secret: who reads the store
can neither use a key nor tell from a guess whether one exists. Lost is lost; `rotate` gives a new text.
"""

import base64
import hmac
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from gateway.config import Config, GrantConfig, Secret
from gateway.faults import ConfigError, Fault, Section, closest

RANDOM_BYTES = 32
PREFIX = "tg-"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
RESERVED = {"anyone"}               # who asks where there are no keys
MOST_TEXT = 200                     # of an owner, and of a word of the metadata
MOST_ENTRIES = 50                   # of the metadata
MOST_S = 100 * 365 * 86_400
_SPAN = re.compile(r"(\d{1,6})([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class KeyFault(Exception):
    """What was asked of the keys cannot be done; the message says why, `hint` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class NoSuchKey(KeyFault):
    """Nothing has this name."""

    def __init__(self, name: str, names: Collection[str] = ()) -> None:
        super().__init__(f"there is no key called {name[:100]!r}", closest(name, names) or "the list has their names")


class NameTaken(KeyFault):
    """Two keys of one name would be one caller in the ledger and one budget."""


class OtherSecret(KeyFault):
    """The stored digests were made with a secret that is not ours."""

    def __init__(self) -> None:
        super().__init__(
            "the stored keys were made with another secret than this gateway's",
            "give all nodes the `ledger.secret` (or the file `secret` in `ledger.directory`) that the keys were made "
            "with; where it is lost, revoke them and make new ones",
        )


class NoSecret(KeyFault):
    """There is nothing to hash keys with."""


class Kept(NamedTuple):
    """What is kept of a key's text."""

    digest: bytes
    hint: str               # its last four characters, for the eyes of whoever has several
    check: str              # of the secret it was hashed with

    def __repr__(self) -> str:
        return f"Kept(…{self.hint})"


class Former(NamedTuple):
    """A text that was replaced, and until when it is good."""

    digest: bytes
    until_ms: int

    def __repr__(self) -> str:
        return f"Former(until_ms={self.until_ms})"


class StoredKey(msgspec.Struct, frozen=True):
    """A key as the store has it. Times are of the wall clock, in milliseconds."""

    name: str
    digest: bytes
    hint: str
    grant: GrantConfig
    created_ms: int
    former: tuple[Former, ...] = ()
    revoked_ms: int | None = None

    def __repr__(self) -> str:
        return f"<StoredKey {self.name} …{self.hint}>"

    @property
    def expires_ms(self) -> int | None:
        """When it ends."""
        return None if self.grant.expires is None else int(self.grant.expires.timestamp() * 1000)

    def state(self, now_ms: int) -> str:
        """Say how it stands."""
        if self.revoked_ms is not None:
            return "revoked"
        return "expired" if self.expires_ms is not None and now_ms >= self.expires_ms else "live"

    def texts(self) -> Iterator[tuple[bytes, int | None]]:
        """Yield the digest of every text that it was ever good for, with its end."""
        ends = self.expires_ms
        yield self.digest, ends
        for digest, until in self.former:
            yield digest, until if ends is None else min(until, ends)

    def rotated(self, kept: Kept, grace_ms: int, now_ms: int) -> "StoredKey":
        """Return it with another text. The one it had, and those before it, stay good for what grace they have."""
        former = [old for old in self.former if old.until_ms > now_ms]
        if grace_ms > 0:
            former.append(Former(self.digest, now_ms + grace_ms))
        return msgspec.structs.replace(self, digest=kept.digest, hint=kept.hint, former=tuple(former))

    def revoked(self, now_ms: int) -> "StoredKey":
        """Return it without any text that is good."""
        return self if self.revoked_ms is not None else msgspec.structs.replace(self, revoked_ms=now_ms, former=())


def new(name: str, grant: GrantConfig, kept: Kept, now_ms: int) -> StoredKey:
    """Return a new key. Raises ConfigError where it would be over before it began."""
    key = StoredKey(name, kept.digest, kept.hint, grant, now_ms)
    if key.state(now_ms) != "live":
        raise ConfigError([Fault("expires", "is in the past", "give a day to come, or leave it out")])
    return key


def text_of(random: bytes) -> str:
    """Return a key's text; whoever knows it is its holder."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"Expected {RANDOM_BYTES} random bytes")
    return PREFIX + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


def digest(secret: bytes, text: str) -> bytes:
    """Return what a key is known by. Whatever stood in a header is taken."""
    return hmac.digest(secret, text.encode("utf-8", "surrogateescape"), "sha256")


def check_of(secret: bytes) -> str:
    """Return what tells two secrets apart and neither of them to anybody."""
    return hmac.digest(secret, b"thriftgate: the secret that keys are hashed with", "sha256").hex()


def kept(secret: bytes, text: str) -> Kept:
    """Return what is kept of a text."""
    return Kept(digest(secret, text), text[-4:], check_of(secret))


def seconds(span: str) -> int:
    """Return how long `90d`, `24h`, `30m` or `45s` is. Raises ValueError."""
    match = _SPAN.fullmatch(span.strip())
    if match is None:
        raise ValueError("Expected a time such as 90d, 24h, 30m or 45s")
    if (span_s := int(match[1]) * _SECONDS[match[2]]) > MOST_S:
        raise ValueError("Expected a time of at most 100 years")
    return span_s


def read_grant(value: Any) -> GrantConfig:
    """Return what a key is for from what a caller wrote, or raise ConfigError with every fault."""
    faults: list[Fault] = []
    grant = Section("key", value, GrantConfig, _secret).read(faults)
    if faults:
        raise ConfigError([fault._replace(path=fault.path.removeprefix("key.")) for fault in faults])
    read: GrantConfig = grant
    return read


def merged(value: Any, change: Any) -> Any:
    """Return a JSON value with another merged into it: objects by field, where null takes a field out (RFC 7396)."""
    if not isinstance(change, Mapping):
        return change
    base = dict(value) if isinstance(value, Mapping) else {}
    for name, inner in change.items():
        if inner is None:
            base.pop(name, None)
        else:
            base[name] = merged(base.get(name), inner)
    return base


def check_name(name: str, config: Config) -> None:
    """Raise ConfigError for a name that cannot be given, NameTaken for one of the configuration."""
    if name in config.keys:
        raise NameTaken(f"the configuration has a key called {name!r}", "choose another name")
    if not NAME.fullmatch(name) or name in RESERVED:
        hint = "use up to 100 letters, digits and . _ @ -, a letter or digit first"
        raise ConfigError([Fault("name", f"{name[:100]!r} cannot be the name of a key", hint)])


def check_grant(grant: GrantConfig, config: Config) -> None:
    """Raise ConfigError where a key names what the configuration does not have, or has what is not kept with a key."""
    public = [*config.routes, *(alias for route in config.routes.values() for alias in route.aliases), *config.models]
    faults = [
        Fault(f"models[{i}]", f"there is no model or route called {name[:100]!r}",
              closest(name, public) or f"defined are: {', '.join(public)}")
        for i, name in enumerate(grant.models or ()) if name not in public
    ]
    owner, owners = grant.owner, config.owners
    if owner is not None and (not 0 < len(owner) <= MOST_TEXT or not owner.isprintable()):
        faults.append(Fault("owner", "is no name", f"use up to {MOST_TEXT} printable characters"))
    elif owner is not None and owners and owner not in owners:
        hint = closest(owner, owners) or f"defined are: {', '.join(owners)}"
        faults.append(Fault("owner", f"there is no owner called {owner!r}", hint))
    if grant.budget is not None and grant.budget.webhook is not None:
        hint = "give it to the budget of an owner or of all, in the configuration"
        faults.append(Fault("budget.webhook", "is not kept with a key: such an address is a secret", hint))
    words = [*grant.metadata, *grant.metadata.values()]
    if len(words) > 2 * MOST_ENTRIES or any(len(word) > MOST_TEXT for word in words):
        hint = f"use up to {MOST_ENTRIES} entries of {MOST_TEXT} characters"
        faults.append(Fault("metadata", "is too much", hint))
    if faults:
        raise ConfigError(faults)


def shown(key: StoredKey, now_ms: int) -> dict[str, Any]:
    """Return what is told of a key: everything but what it is known by."""
    grant = msgspec.to_builtins(key.grant)
    if grant["budget"] is not None:
        del grant["budget"]["webhook"]
    former = [old.until_ms for old in key.former if old.until_ms > now_ms]
    return {
        "name": key.name,
        "state": key.state(now_ms),
        "hint": key.hint,
        **{name: grant[name] for name in ("owner", "models", "expires", "limits", "budget", "metadata")},
        "created": _moment(key.created_ms),
        "revoked": _moment(key.revoked_ms),
        "former_until": _moment(max(former, default=None)),     # when the last text that it had before ends
    }


def _moment(ms: int | None) -> str | None:
    """Return a time as text, to the second."""
    return None if ms is None else datetime.fromtimestamp(ms // 1000, UTC).isoformat().replace("+00:00", "Z")


def _secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str) and value.strip():
        return Secret(value)
    raise ValueError("Expected a text")
