"""Key → caller. Pure; keys are looked up by their SHA-256, so comparing takes the same time whatever was sent."""

import hashlib
from collections.abc import Mapping

import msgspec

from gateway.config import KeyConfig
from gateway.errors import Forbidden, Unauthenticated


class Caller(msgspec.Struct, frozen=True):
    """Who asks. `models` are the public names they may use; None is all."""

    name: str
    models: frozenset[str] | None = None

    def check_may_use(self, model: str) -> None:
        """Raise Forbidden unless this caller may ask for `model`."""
        if self.models is not None and model not in self.models:
            allowed = ", ".join(sorted(self.models))
            raise Forbidden(f"The key {self.name!r} may not use {model[:100]!r}. It may use: {allowed}.", param="model")


ANYONE = Caller("anyone")
KEY_HEADERS = ("x-api-key", "x-goog-api-key")       # Anthropic's and Google's


class Keyring:
    """The configured keys. Without any, everybody is `anyone`: for loopback addresses only, which `serve` sees to."""

    def __init__(self, keys: Mapping[str, KeyConfig]) -> None:
        self._callers = {
            _digest(key.secret.reveal()): Caller(name, None if key.models is None else frozenset(key.models))
            for name, key in keys.items()
        }

    def __repr__(self) -> str:
        return f"<Keyring {len(self._callers)} keys>"

    def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller whose key stands where one of the dialects has it, or raise Unauthenticated."""
        if not self._callers:
            return ANYONE
        scheme, _, key = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            key = next(filter(None, map(headers.get, KEY_HEADERS)), "")
        if not key.strip():
            raise Unauthenticated("No key was sent. Send `Authorization: Bearer YOUR_KEY`.")
        caller = self._callers.get(_digest(key.strip()))
        if caller is None:
            raise Unauthenticated("This key is not known here. Check it, or ask the gateway's operator for one.")
        return caller


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
