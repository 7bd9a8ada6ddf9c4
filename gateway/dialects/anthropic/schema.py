"""JSON schemas as Anthropic's structured outputs take them.

Every object must be closed, and of the keywords that bound a value only few are known; a schema with others is refused.
They are told to the model in the description instead, as Anthropic's own SDK does. (platform.claude.com/docs,
structured outputs, "JSON Schema limitations"; read 2026-11.)
"""

from collections.abc import Mapping
from typing import Any

import msgspec

KEPT = {
    "type", "title", "description", "enum", "const", "default", "required", "$ref", "properties", "items", "anyOf",
    "allOf", "$defs", "definitions", "additionalProperties",
}
FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
SAID_ANYWAY = {"$schema", "$id", "propertyOrdering", "examples", "strict"}      # that bind nothing
WITH_KEYS = {"properties", "anyOf", "oneOf", "allOf", "$ref"}
OF_SCHEMAS, OF_NAMES = ("anyOf", "allOf"), ("properties", "$defs", "definitions")

Schema = dict[str, Any]


def closed(schema: Mapping[str, Any]) -> Schema:
    """Return a schema whose objects are closed and that says in words what has no keyword."""
    said: Schema = {}
    told: Schema = {}
    for name, value in schema.items():
        if name == "oneOf":
            said["anyOf"] = _all(value)
        elif name in OF_SCHEMAS:
            said[name] = _all(value)
        elif name in OF_NAMES and isinstance(value, dict):
            said[name] = {key: _one(inner) for key, inner in value.items()}
        elif name == "items":
            said[name] = _one(value)
        elif name in KEPT or _known(name, value):
            said[name] = value
        elif name not in SAID_ANYWAY:
            told[name] = value
    if said.get("type") == "object" or "properties" in said:
        said["additionalProperties"] = False
    if told:
        words = f"Constraints: {msgspec.json.encode(told).decode()}"
        before = said.get("description")
        said["description"] = f"{before}\n\n{words}" if isinstance(before, str) and before else words
    return said


def closable(schema: Any) -> bool:
    """Say whether closing the objects of a schema leaves them a use: one of any keys would be held to none at all."""
    if isinstance(schema, list):
        return all(closable(inner) for inner in schema)
    if not isinstance(schema, dict):
        return True
    free = schema.get("type") == "object" and schema.get("additionalProperties") is not False
    if free and (isinstance(schema.get("additionalProperties"), dict) or not schema.keys() & WITH_KEYS):
        return False
    return all(closable(inner) for inner in schema.values())


def _known(name: str, value: Any) -> bool:
    return (name == "format" and value in FORMATS) or (name == "minItems" and value in (0, 1))


def _one(value: Any) -> Any:
    return closed(value) if isinstance(value, dict) else value


def _all(value: Any) -> Any:
    return [_one(inner) for inner in value] if isinstance(value, list) else value
