"""Google's schemas as JSON schemas. Google's are a subset of OpenAPI 3.0's, with types in upper case.

Nothing raises: what is no schema stays as it is, and the upstream that gets it says what it thinks of it.
"""

from collections.abc import Callable
from typing import Any

from gateway.dialects.gemini.fields import camel

COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
RENAMED = {"defs": "$defs", "ref": "$ref"}


def json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema that says the same."""
    given = camel(schema)
    ordering, nullable = given.pop("propertyOrdering", None), given.pop("nullable", False)
    if "example" in given:
        given.setdefault("examples", [given.pop("example")])
    if given.get("format") == "enum":        # Google's word for a string that has an enum
        del given["format"]
    said = {RENAMED.get(name, name): _READ.get(name, _same)(value) for name, value in given.items()}
    if said.get("type") == "type_unspecified":
        del said["type"]
    if isinstance(ordering, list) and isinstance(said.get("properties"), dict):
        properties = said["properties"]      # JSON schema has no order but that of the text
        first = {name: properties[name] for name in ordering if isinstance(name, str) and name in properties}
        said["properties"] = first | properties
    return _nullable(said) if nullable is True else said


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    kind, choices, values = schema.get("type"), schema.get("anyOf"), schema.get("enum")
    if isinstance(kind, str):
        schema["type"] = [kind, "null"]
    if isinstance(choices, list):
        schema["anyOf"] = [*choices, {"type": "null"}]
    if isinstance(values, list):
        schema["enum"] = [*values, None]
    return schema


def _same(value: Any) -> Any:
    return value


def _type(value: Any) -> Any:
    if isinstance(value, list):
        return [_type(one) for one in value]
    return value.lower() if isinstance(value, str) else value


def _inner(value: Any) -> Any:
    return json_schema(value) if isinstance(value, dict) else value


def _each(value: Any) -> Any:
    return [_inner(one) for one in value] if isinstance(value, list) else value


def _named(value: Any) -> Any:
    return {name: _inner(one) for name, one in value.items()} if isinstance(value, dict) else value


def _count(value: Any) -> Any:
    """Protobuf writes a number of 64 bits as a string."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value


def _reference(value: Any) -> Any:
    return value.replace("#/defs/", "#/$defs/", 1) if isinstance(value, str) else value


_READ: dict[str, Callable[[Any], Any]] = {
    "type": _type, "items": _inner, "additionalProperties": _inner, "anyOf": _each, "properties": _named,
    "defs": _named, "ref": _reference, **dict.fromkeys(COUNTS, _count),
}
