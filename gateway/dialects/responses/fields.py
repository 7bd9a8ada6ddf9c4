"""Reading one object of a Responses request at a time: a wrong field is named by the path to it.

OpenAI's SDKs write null for what is not set, so null is as good as not there.
"""

from collections.abc import Collection
from typing import Any, TypeVar

import msgspec

from gateway.dialects import reading
from gateway.errors import BadRequest

DIALECT = "responses"

T = TypeVar("T", bound=msgspec.Struct)


def typed(kind: type[T], value: Any, path: str) -> tuple[T, dict[str, Any]]:
    """Return what `kind` knows of an object, and the rest of its fields. Raises BadRequest with the path at fault."""
    known, rest = reading.typed(kind, value, path)
    return known, {name: field for name, field in rest.items() if field is not None}


def one_of(value: str | None, allowed: Collection[str], path: str) -> str | None:
    """Return the value where it is allowed or not given. Raises BadRequest."""
    if value is None or value in allowed:
        return value
    names = ", ".join(f"`{name}`" for name in allowed)
    raise wrong(path, f"it is {value[:40]!r}, expected one of {names}")


def wrong(path: str, what: str) -> BadRequest:
    """Return the answer to a field that cannot be read."""
    return BadRequest(f"`{path}` is wrong: {what}.", param=path)
