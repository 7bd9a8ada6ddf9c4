"""Google's schemas as JSON schemas."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.gemini.schema import json_schema

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=200)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "types": ({"type": "STRING"}, {"type": "string"}),
    "no type": ({"type": "TYPE_UNSPECIFIED", "title": "x"}, {"title": "x"}),
    "a list of types": ({"type": ["STRING", "NULL"]}, {"type": ["string", "null"]}),
    "a JSON schema is one already": (
        {"type": "object", "properties": {"a_b": {"type": "string"}}, "additionalProperties": False, "$defs": {}},
        {"type": "object", "properties": {"a_b": {"type": "string"}}, "additionalProperties": False, "$defs": {}},
    ),
    "nested": (
        {"type": "OBJECT", "properties": {"type": {"type": "ARRAY", "items": {"type": "INTEGER"}}},
         "required": ["type"]},
        {"type": "object", "properties": {"type": {"type": "array", "items": {"type": "integer"}}},
         "required": ["type"]},
    ),
    "snake case": (
        {"any_of": [{"type": "NUMBER", "max_items": "3"}], "additional_properties": {"type": "NULL"}},
        {"anyOf": [{"type": "number", "maxItems": 3}], "additionalProperties": {"type": "null"}},
    ),
    "counts": (
        {"minItems": "1", "maxItems": 2, "minLength": "x", "maxLength": "9" * 30},
        {"minItems": 1, "maxItems": 2, "minLength": "x", "maxLength": "9" * 30},
    ),
    "nullable": ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
    "not nullable": ({"type": "STRING", "nullable": False}, {"type": "string"}),
    "nullable choice": ({"anyOf": [{"type": "STRING"}], "nullable": True},
                        {"anyOf": [{"type": "string"}, {"type": "null"}]}),
    "nullable enum": (
        {"type": "STRING", "format": "enum", "enum": ["a"], "nullable": True},
        {"type": ["string", "null"], "enum": ["a", None]},
    ),
    "a real format": ({"type": "STRING", "format": "date-time"}, {"type": "string", "format": "date-time"}),
    "an example": ({"example": 3}, {"examples": [3]}),
    "references": (
        {"ref": "#/defs/Pet", "defs": {"Pet": {"type": "OBJECT"}}},
        {"$ref": "#/$defs/Pet", "$defs": {"Pet": {"type": "object"}}},
    ),
}


@pytest.mark.parametrize(("google", "expected"), CASES.values(), ids=CASES)
def test_a_schema_says_the_same(google: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each of Google's ways is said in the words of JSON schema."""
    assert expected == json_schema(google)


def test_the_order_of_properties_is_kept() -> None:
    """propertyOrdering becomes the order in the text; properties that it forgets come last."""
    properties = {"a": {"type": "STRING"}, "b": {"type": "STRING"}, "c": {"type": "STRING"}}
    read = json_schema({"properties": properties, "propertyOrdering": ["c", "b", "x", 3]})

    assert ["c", "b", "a"] == list(read["properties"])
    assert ["properties"] == list(read)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "properties", "items", "anyOf", "any_of", "nullable", "enum", "maxItems", "defs",
                         "ref", "example", "format", "propertyOrdering", "x"]), inner, max_size=4),
    max_leaves=15,
)


@STEADY
@given(schema=st.dictionaries(st.sampled_from(["type", "properties", "nullable", "anyOf", "format"]), JSON))
def test_anything_is_read(schema: dict[str, Any]) -> None:
    """What is no schema raises nothing, and a second reading changes no more types."""
    assert isinstance(json_schema(schema), dict)
