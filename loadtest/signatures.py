"""Signatures of thoughts: a provider knows its own again, and refuses those that it did not make. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib

_KEY = b"the mock provider's own thoughts"
_MARK = b"mock\x01"


def sign(thought: str) -> str:
    """A signature of the text, as the providers give them: base64 of bytes that mean nothing to the caller."""
    return base64.b64encode(_MARK + hashlib.blake2b(thought.encode(), key=_KEY, digest_size=32).digest()).decode()


def genuine(signature: object, thought: str) -> bool:
    """Whether `sign` made it for this text. Google's SDKs send bytes back in the URL-safe alphabet."""
    if not isinstance(signature, str):
        return False
    try:
        given = base64.b64decode(signature.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return False
    return given == base64.b64decode(sign(thought))
