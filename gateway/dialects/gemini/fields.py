"""Reading one object of Google's at a time: names in both spellings, and a wrong type named by the path to it.

Google's JSON is protobuf's: every field has a camelCase and a snake_case name, and null is as good as not there. Only
the objects that have a type here are renamed; what a caller may fill freely (arguments, labels) keeps its keys.
"""

import re
from typing import Any, TypeVar

import msgspec

from gateway.dialects import reading

DIALECT = "gemini"

T = TypeVar("T", bound=msgspec.Struct)

_within = re.compile("(?<=[A-Za-z0-9])_([A-Za-z0-9])")


def camel(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields by their camelCase names, without nulls; of two spellings the camelCase one counts."""
    given = {name: value for name, value in fields.items() if value is not None}
    return {_within.sub(lambda found: found[1].upper(), name): value for name, value in given.items()} | {
        name: value for name, value in given.items() if not _within.search(name)
    }


def typed(kind: type[T], value: Any, path: str) -> tuple[T, dict[str, Any]]:
    """Return what `kind` knows of an object, and the rest of its fields. Raises BadRequest with the path at fault."""
    return reading.typed(kind, camel(value) if isinstance(value, dict) else value, path)


def listed(value: Any) -> list[Any]:
    """Return a repeated field as a list: Google takes a single one without brackets."""
    return value if isinstance(value, list) else [value]
