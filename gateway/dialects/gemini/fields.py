"""Reading one object of Google's at a time: names in both spellings, and a wrong type named by the path to it.

Google's JSON is protobuf's: every field has a camelCase and a snake_case name, and null is as good as not there. Only
the objects that have a type here are renamed; what a caller may fill freely (arguments, labels) keeps its keys.
"""

import re
from typing import Any, TypeVar

import msgspec

from gateway.errors import BadRequest

DIALECT = "gemini"

T = TypeVar("T", bound=msgspec.Struct)

_within = re.compile("(?<=[A-Za-z0-9])_([A-Za-z0-9])")


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


def camel(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields by their camelCase names, without nulls; of two spellings the camelCase one counts."""
    given = {name: value for name, value in fields.items() if value is not None}
    return {_within.sub(lambda found: found[1].upper(), name): value for name, value in given.items()} | {
        name: value for name, value in given.items() if not _within.search(name)
    }


def typed(kind: type[T], value: Any, path: str) -> tuple[T, dict[str, Any]]:
    """Return what `kind` knows of an object, and the rest of its fields. Raises BadRequest with the path at fault."""
    named = camel(value) if isinstance(value, dict) else value
    try:
        known = msgspec.convert(named, kind)
    except msgspec.ValidationError as error:
        raise _wrong(str(error), path) from None
    return known, {name: field for name, field in named.items() if name not in kind.__struct_encode_fields__}


def listed(value: Any) -> list[Any]:
    """Return a repeated field as a list: Google takes a single one without brackets."""
    return value if isinstance(value, list) else [value]


def missing(path: str) -> BadRequest:
    """Return the answer to a field that must be there."""
    return BadRequest(f"`{path}` is missing: it is required.", param=path)


def _wrong(message: str, path: str) -> BadRequest:
    what, _, inner = message.partition(" - at `")
    if what.startswith("Object missing required field"):
        return missing(f"{path}.{what.split('`')[1]}".lstrip("."))
    field = (path + inner.removesuffix("`").removeprefix("$")).lstrip(".")
    if not field:
        return BadRequest(f"The body must be a JSON object: {what.lower()}.")
    return BadRequest(f"`{field}` is wrong: {what[0].lower()}{what[1:]}.", param=field)
