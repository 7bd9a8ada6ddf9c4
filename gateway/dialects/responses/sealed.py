"""What another provider's model thought, on its way through a caller who keeps the history.

A stateless agent sends reasoning items back as it got them. Their `encrypted_content` is free for us to fill, so it
takes the signature there and back: of the thinking itself, or of a call that follows. It is packed and not encrypted:
what is inside is sealed by its provider already, or was shown anyway.
"""

from base64 import b64decode, b64encode

import msgspec

from gateway.dialects.responses.fields import wrong
from gateway.errors import BadRequest

PREFIX = "tg1:"


class Sealed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The contents of a reasoning item. With `call`, it is the signature of the call of that id."""

    dialect: str = ""
    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    call: str | None = None


_sealed = msgspec.json.Decoder(Sealed)


def pack(sealed: Sealed) -> str:
    """Return the `encrypted_content` that says this."""
    return PREFIX + b64encode(msgspec.json.encode(sealed)).decode()


def unpack(content: str, path: str) -> Sealed | None:
    """Return what was packed, None for what OpenAI itself sealed. Raises BadRequest for what is cut or changed."""
    if not content.startswith(PREFIX):
        return None
    try:
        return _sealed.decode(b64decode(content.removeprefix(PREFIX), validate=True))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise _altered(path) from None


def _altered(path: str) -> BadRequest:
    return wrong(path, "it is not as this gateway gave it. Send reasoning items back unchanged, or leave them out")
