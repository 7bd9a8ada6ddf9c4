"""Reading one object of a Messages body at a time: what is known of it, what else it says, what is wrong with it.

A field that is null is as good as absent: the SDK's models write out every optional field of an answer, and callers
send them back as the next turn.
"""

from typing import Any, TypeVar

import msgspec

from gateway.errors import BadRequest

DIALECT = "anthropic"
LIFETIME = "5m"         # of a prompt-cache mark that names none

T = TypeVar("T", bound=msgspec.Struct)


class _Mark(msgspec.Struct):
    type: str
    ttl: str | None = None


def decoded(raw: bytes) -> Any:
    """Return what a JSON text says. Raises BadRequest."""
    try:
        return msgspec.json.decode(raw)
    except RecursionError:
        raise too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}. Send one JSON object in UTF-8.") from None


def too_deep() -> BadRequest:
    """Return the answer to a body that cannot be walked through."""
    return BadRequest("The body is nested too deeply to be read. Send a flatter JSON object.")


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are not null."""
    return {name: value for name, value in fields.items() if value is not None}


def typed(kind: type[T], value: Any, path: str) -> tuple[T, dict[str, Any]]:
    """Return what `kind` knows of an object, and the rest of its fields. Raises BadRequest with the path at fault."""
    named = given(value) if isinstance(value, dict) else value
    try:
        known = msgspec.convert(named, kind)
    except msgspec.ValidationError as error:
        raise _wrong(str(error), path) from None
    return known, {name: field for name, field in named.items() if name not in kind.__struct_encode_fields__}


def missing(path: str) -> BadRequest:
    """Return the answer to a field that must be there."""
    return BadRequest(f"`{path}` is missing: it is required.", param=path)


def read_mark(value: Any, path: str) -> str | None:
    """Return how long a cache_control mark lives, None for none. What else it says is a hint, and not kept."""
    if value is None:
        return None
    mark, _ = typed(_Mark, value, f"{path}.cache_control")
    if mark.type != "ephemeral":
        field = f"{path}.cache_control.type"
        raise BadRequest(f"`{field}` is {mark.type[:40]!r}: expected 'ephemeral'.", param=field)
    return mark.ttl or LIFETIME


def write_mark(cache: str | None) -> dict[str, Any]:
    """Return the cache_control field for a mark, nothing for none."""
    if cache is None:
        return {}
    return {"cache_control": {"type": "ephemeral", **({} if cache == LIFETIME else {"ttl": cache})}}


def _wrong(message: str, path: str) -> BadRequest:
    what, _, inner = message.partition(" - at `")
    field = (path + inner.removesuffix("`").removeprefix("$")).lstrip(".")
    if what.startswith("Object missing required field"):
        return missing(f"{field}.{what.split('`')[1]}".lstrip("."))
    if not field:
        return BadRequest(f"The body must be a JSON object: {what[0].lower()}{what[1:]}.")
    return BadRequest(f"`{field}` is wrong: {what[0].lower()}{what[1:]}.", param=field)
