"""Reading one object of a Messages body at a time: what is known of it, what else it says, what is wrong with it.

A field that is null is as good as absent: the SDK's models write out every optional field of an answer, and callers
send them back as the next turn.
"""

from typing import Any, TypeVar

import msgspec

from gateway.dialects import reading
from gateway.errors import BadRequest

DIALECT = "anthropic"
LIFETIME = "5m"         # of a prompt-cache mark that names none

T = TypeVar("T", bound=msgspec.Struct)


class _Mark(msgspec.Struct):
    type: str
    ttl: str | None = None


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are not null."""
    return {name: value for name, value in fields.items() if value is not None}


def typed(kind: type[T], value: Any, path: str) -> tuple[T, dict[str, Any]]:
    """Return what `kind` knows of an object, and the rest of its fields. Raises BadRequest with the path at fault."""
    return reading.typed(kind, given(value) if isinstance(value, dict) else value, path)


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
