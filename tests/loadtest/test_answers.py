"""The mock's answers are repeatable, of the length asked for, and satisfy the schema asked for."""

import orjson

from loadtest import answers
from loadtest.answers import Answer, Length, Tool


def test_the_same_seed_says_the_same() -> None:
    """An answer depends on its seed only, not on what was said before."""
    first = answers.prose("mock-cheap", answers.seeded(1, "hello"), Length())
    again = answers.prose("mock-cheap", answers.seeded(1, "hello"), Length())
    other = answers.prose("mock-cheap", answers.seeded(2, "hello"), Length())

    assert first == again
    assert first != other


def test_models_speak_differently() -> None:
    """One can see in the text which model answered."""
    said = {model: answers.prose(model, answers.seeded(1), Length(exact=20)).text for model in answers.VOICES}

    assert len(set(said.values())) == len(said)


def test_length_is_exact_or_limited() -> None:
    """So many tokens as dialled; a limit below that ends with "length"."""
    exact = answers.prose("mock-middle", answers.seeded(1), Length(exact=77))
    limited = answers.prose("mock-middle", answers.seeded(1), Length(exact=77, limit=5))
    roomy = answers.prose("mock-middle", answers.seeded(1), Length(exact=5, limit=77))

    assert (len(exact.pieces), exact.finish) == (77, "stop")
    assert (len(limited.pieces), limited.finish) == (5, "length")
    assert (len(roomy.pieces), roomy.finish) == (5, "stop")


def test_an_answer_is_about_four_characters_a_token() -> None:
    """Both sides of a bill are of the right size."""
    answer = answers.prose("mock-premium", answers.seeded(1), Length(exact=500))

    assert 3 <= len(answer.text) / 500 <= 6
    assert answers.count_tokens("x" * 400) == 100
    assert (answers.count_tokens(""), answers.count_tokens("x")) == (0, 1)


def test_a_stop_text_ends_the_answer_before_it() -> None:
    """The earliest stop counts, and it is left out."""
    answer = Answer(["one", " two", " three"])

    assert answers.stopped(answer, ["three", "two"]).text == "one "
    assert answers.stopped(answer, ["three", "two"]).stopped_by == "two"
    assert answers.stopped(answer, ["four", ""]) is answer


def test_multibyte_text_has_characters_of_every_width() -> None:
    """Splitting it anywhere cuts characters of two, three and four bytes."""
    text = answers.prose("mock-cheap", answers.seeded(1), Length(exact=60), multibyte=True).text

    assert {len(character.encode()) for character in text} == {1, 2, 3, 4}


def test_json_satisfies_the_schema() -> None:
    """Types, required names, enums, constants, arrays."""
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "count": {"type": "integer"},
            "share": {"type": ["number", "null"]},
            "ok": {"type": "boolean"},
            "none": {"type": "null"},
            "unit": {"enum": ["m", "km"]},
            "kind": {"const": "x"},
            "list": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
        },
    }
    value = orjson.loads(answers.json_answer(schema, Length()).text)

    assert value == {
        "name": "sample", "count": 7, "share": 0.5, "ok": True, "none": None, "unit": "m", "kind": "x", "list": [7, 7],
    }  # fmt: skip
    assert isinstance(orjson.loads(answers.json_answer(None, Length()).text), dict)


def test_a_schema_is_followed_through_its_references_and_bounds() -> None:
    """`$ref`, alternatives, limits, formats, Gemini's capitals and counts as texts; a circle of references ends."""
    schema = {
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "n": {"minimum": 9}}}},
        "type": "OBJECT",
        "properties": {
            "node": {"$ref": "#/$defs/node"},
            "either": {"anyOf": [{"type": "integer", "maximum": 3}, {"type": "string"}]},
            "more": {"type": "number", "exclusiveMinimum": 2, "exclusiveMaximum": 10},
            "when": {"type": "STRING", "format": "date"},
            "long": {"type": "string", "minLength": 8},
            "short": {"type": "string", "maxLength": 2},
            "many": {"type": "ARRAY", "items": {"type": "BOOLEAN"}, "minItems": "2"},
        },
    }
    value = answers.example(schema)

    assert isinstance(value, dict)
    assert {name: value[name] for name in value if name != "node"} == {
        "either": 3, "more": 3.0, "when": "2026-01-31", "long": "samplexx", "short": "sa", "many": [True, True],
    }  # fmt: skip
    assert orjson.dumps(value["node"]).count(b"next") == answers._DEPTH - 1


def test_tools_are_called_with_valid_arguments() -> None:
    """As many calls as tools, after what is said before; the limit cuts the last one and leaves out those behind it."""
    tools = [Tool("weather", {"properties": {"city": {"type": "string"}}}), Tool("clock", {"type": "object"})]
    both = answers.tool_answer(tools, Length(), Answer(["Well", "."]))
    cut = answers.tool_answer(tools, Length(limit=3))

    assert [(call.name, orjson.loads(call.arguments)) for call in both.calls] == [
        ("weather", {"city": "sample"}),
        ("clock", {}),
    ]
    assert (both.text, both.finish, both.tokens) == ("Well.", "tool_calls", 2 + 5 + 1)
    assert ([call.arguments for call in cut.calls], cut.finish, cut.tokens) == (['{"city":"sam'], "length", 3)


def test_prompt_text_takes_both_forms_of_content() -> None:
    """Text, parts, and whatever else without failing."""
    messages = [{"role": "user", "content": "a"}, {"content": [{"type": "text", "text": "b"}, 3]}, {"content": None}, 4]

    assert answers.prompt_text(messages) == "a\nb"
