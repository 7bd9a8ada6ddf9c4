"""JSON schemas of other dialects, as Anthropic takes them."""

from typing import Any

import pytest

from gateway.dialects.anthropic.schema import closable, closed

STRING = {"type": "string"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "what is plain stays": ({"type": "integer", "enum": [1, 2]}, {"type": "integer", "enum": [1, 2]}),
    "objects are closed": (
        {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": STRING}}}, "required": ["a"]},
        {"type": "object", "properties": {
            "a": {"type": "object", "properties": {"b": STRING}, "additionalProperties": False},
        }, "required": ["a"], "additionalProperties": False},
    ),
    "open ones too": (
        {"properties": {"a": STRING}, "additionalProperties": True},
        {"properties": {"a": STRING}, "additionalProperties": False},
    ),
    "bounds are told": (
        {"type": "integer", "minimum": 1, "description": "A month."},
        {"type": "integer", "description": 'A month.\n\nConstraints: {"minimum":1}'},
    ),
    "without a description too": (
        {"type": "string", "pattern": "a+", "maxLength": 4},
        {"type": "string", "description": 'Constraints: {"pattern":"a+","maxLength":4}'},
    ),
    "lists": (
        {"type": "array", "items": {"type": "number", "maximum": 1}, "minItems": 1},
        {"type": "array", "items": {"type": "number", "description": 'Constraints: {"maximum":1}'}, "minItems": 1},
    ),
    "long lists": (
        {"type": "array", "items": STRING, "minItems": 2},
        {"type": "array", "items": STRING, "description": 'Constraints: {"minItems":2}'},
    ),
    "formats": ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
    "other formats": (
        {"type": "string", "format": "iban"}, {"type": "string", "description": 'Constraints: {"format":"iban"}'}
    ),
    "one of": ({"oneOf": [STRING, {"type": "null"}]}, {"anyOf": [STRING, {"type": "null"}]}),
    "references": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {}}}, "$schema": "s"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {}, "additionalProperties": False}}},
    ),
    "a field that is called like a keyword": (
        {"type": "object", "properties": {"minimum": STRING, "items": STRING}},
        {"type": "object", "properties": {"minimum": STRING, "items": STRING}, "additionalProperties": False},
    ),
    "what is no schema": (
        {"anyOf": "x", "items": True, "properties": []},
        {"anyOf": "x", "items": True, "properties": [], "additionalProperties": False},
    ),
}


@pytest.mark.parametrize(("schema", "said"), CASES.values(), ids=CASES)
def test_closed(schema: dict[str, Any], said: dict[str, Any]) -> None:
    """Objects are closed and bounds told in words; closing again changes nothing."""
    assert closed(schema) == said
    assert closed(said) == said


@pytest.mark.parametrize(
    ("schema", "may_be"),
    [
        (STRING, True),
        ({"type": "object", "properties": {"a": STRING}}, True),
        ({"type": "object", "additionalProperties": False}, True),
        ({"type": "object", "anyOf": [{"properties": {}}]}, True),
        ({"type": "object"}, False),
        ({"type": "object", "additionalProperties": True}, False),
        ({"type": "object", "properties": {"a": STRING}, "additionalProperties": STRING}, False),
        ({"type": "array", "items": {"anyOf": [STRING, {"type": "object"}]}}, False),
    ],
)
def test_closable(schema: dict[str, Any], *, may_be: bool) -> None:
    """An object of any keys at all would be held to none: such a schema cannot be kept to."""
    assert closable(schema) == may_be
