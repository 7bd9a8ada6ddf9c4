"""The secret that keys are hashed with: what is configured, else a file that is made once.

Whoever serves the same keys must have the same one. With SQLite that is who shares the directory; several nodes with a
Postgres between them share no directory, so there it must be configured.
"""

import contextlib
import os
import secrets
from pathlib import Path

from gateway import keys
from gateway.config import LedgerConfig
from gateway.keys import NoSecret, OtherSecret

BYTES = 32
NAME = "secret"


def secret_of(ledger: LedgerConfig) -> bytes:
    """Return the secret. Raises NoSecret, with what to do."""
    if ledger.secret is not None:
        return ledger.secret.reveal().encode()
    if not ledger.on:
        raise NoSecret("keys are stored nowhere: `ledger.url` is none", "leave `ledger.url` out, or give a store's")
    if not ledger.url.reveal().startswith("sqlite"):
        raise NoSecret(
            "several nodes may share this store, and nothing says what they hash keys with",
            "set `ledger.secret` to the same long random text on all of them, such as that of `openssl rand -hex 32`",
        )
    path = Path(ledger.directory) / NAME
    try:
        return _read(path) if path.exists() else _made(path)
    except OSError as error:
        raise NoSecret(
            f"{path} cannot be read or written: {error.strerror or error}",
            "give a directory that is the gateway's own as `ledger.directory`, or set `ledger.secret`",
        ) from None


def check(ledger: LedgerConfig, made_with: str | None) -> None:
    """Raise OtherSecret unless stored keys were made with our secret (`made_with` is the store's), NoSecret."""
    if keys.check_of(secret_of(ledger)) != made_with:
        raise OtherSecret


def _read(path: Path) -> bytes:
    try:
        found = bytes.fromhex(path.read_text(encoding="ascii"))
    except ValueError:
        found = b""
    if len(found) != BYTES:
        hint = "put it back from a copy; or remove it, and make every key anew"
        raise NoSecret(f"{path} is not the file that the gateway wrote", hint)
    return found


def _made(path: Path) -> bytes:
    """Write it beside its place and link it there: it appears whole, and the first of several that try wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{NAME}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
    return _read(path)
