"""The request as a value: what is read of it, what is refused and how, and that its bytes go on as they came."""

import re
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.wire import ChatRequest, Message, chat

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=100)
HELLO = {"role": "user", "content": "hello"}
PIXEL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
DEEP = b"[" * 200_000 + b"]" * 200_000


def asked(raw: bytes | None = None, headers: dict[str, str] | None = None, **fields: Any) -> ChatRequest:
    """Decode a body: the one given, or a small one with these fields."""
    made = orjson.dumps({"model": "auto", "messages": [HELLO], **fields}) if raw is None else raw
    return chat.decode(made, headers or {})


def refusal(raw: bytes) -> BadRequest:
    """Decode a body that must be refused."""
    with pytest.raises(BadRequest) as caught:
        chat.decode(raw, {})
    return caught.value


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "model, a number": ({"model": 1}, "model", "`model` is wrong: expected `str`, got `int`."),
    "model, null": ({"model": None}, "model", "`model` is wrong: expected `str`, got `null`."),
    "messages, a text": ({"messages": "hi"}, "messages", "`messages` is wrong: expected `array`, got `str`."),
    "messages, null": ({"messages": None}, "messages", "`messages` is wrong: expected `array`, got `null`."),
    "messages, empty": ({"messages": []}, "messages", "`messages` is empty: send at least one message."),
    "a message, a text": (
        {"messages": [HELLO, "hi"]}, "messages[1]", "`messages[1]` is wrong: expected `object`, got `str`."
    ),
    "a message without a role": (
        {"messages": [{"content": "hi"}]}, "messages[0]",
        "`messages[0]` is wrong: object missing required field `role`.",
    ),
    "a role, a number": (
        {"messages": [{"role": 1}]}, "messages[0].role", "`messages[0].role` is wrong: expected `str`, got `int`."
    ),
    "content, a number": (
        {"messages": [{"role": "user", "content": 5}]}, "messages[0].content",
        "`messages[0].content` is wrong: expected `str | array | null`, got `int`.",
    ),
    "a part, a text": (
        {"messages": [{"role": "user", "content": ["hi"]}]}, "messages[0].content[0]",
        "`messages[0].content[0]` is wrong: expected `object`, got `str`.",
    ),
    "stream, a text": ({"stream": "yes"}, "stream", "`stream` is wrong: expected `bool | null`, got `str`."),
    "stream, a number": ({"stream": 1}, "stream", "`stream` is wrong: expected `bool | null`, got `int`."),
    "tools, an object": ({"tools": {}}, "tools", "`tools` is wrong: expected `array | null`, got `object`."),
    "a tool, a number": ({"tools": [1]}, "tools[0]", "`tools[0]` is wrong: expected `object`, got `int`."),
    "functions, a text": ({"functions": "f"}, "functions", "`functions` is wrong: expected `array | null`, got `str`."),
    "response_format, a text": (
        {"response_format": "json"}, "response_format",
        "`response_format` is wrong: expected `object | null`, got `str`.",
    ),
    "max_tokens, a text": (
        {"max_tokens": "9"}, "max_tokens", "`max_tokens` is wrong: expected `int | null`, got `str`."
    ),
    "max_tokens, a fraction": (
        {"max_tokens": 1.5}, "max_tokens", "`max_tokens` is wrong: expected `int | null`, got `float`."
    ),
    "max_completion_tokens, true": (
        {"max_completion_tokens": True}, "max_completion_tokens",
        "`max_completion_tokens` is wrong: expected `int | null`, got `bool`.",
    ),
}


@pytest.mark.parametrize(("fields", "param", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_type_names_its_field(fields: dict[str, Any], param: str, message: str) -> None:
    """Each wrong field is a 400 that names it, in `param` and in words, with what was expected."""
    error = refusal(orjson.dumps({"model": "auto", "messages": [HELLO], **fields}))

    assert (400, param, message) == (error.status, error.param, error.message)


@pytest.mark.parametrize(
    ("raw", "param"),
    [(b"{}", "model"), (b'{"messages":[{"role":"user"}]}', "model"), (b'{"model":"auto"}', "messages")],
)
def test_a_missing_field_is_named(raw: bytes, param: str) -> None:
    """What has no default is asked for by name."""
    error = refusal(raw)

    assert (400, param, f"`{param}` is missing: it is required.") == (error.status, error.param, error.message)


@pytest.mark.parametrize(
    ("raw", "got"), [(b"[]", "array"), (b"1", "int"), (b'"x"', "str"), (b"null", "null"), (b"true", "bool")]
)
def test_not_an_object(raw: bytes, got: str) -> None:
    """JSON that is no object is told so."""
    error = refusal(raw)
    expected = f"The body must be a JSON object: expected `object`, got `{got}`."

    assert (400, None, expected) == (error.status, error.param, error.message)


NOT_JSON = {
    "empty": b"",
    "spaces": b"  ",
    "prose": b"hello",
    "cut short": b'{"model":"auto","messages":[{"role":"us',
    "something after it": b'{"model":"auto","messages":[{"role":"user"}]} x',
    "a byte order mark": b'\xef\xbb\xbf{"model":"auto","messages":[{"role":"user"}]}',
    "NaN": b'{"model":"auto","messages":[{"role":"user"}],"temperature":NaN}',
    "not UTF-8": b"\xff\xfe",
    "not UTF-8 in the model": b'{"model":"a\xff","messages":[{"role":"user"}]}',
    "not UTF-8 in a message": b'{"model":"a","messages":[{"role":"user","content":"\xc3("}]}',
    "a lone surrogate in the model": b'{"model":"\\ud800","messages":[{"role":"user"}]}',
    "a lone surrogate in a message": b'{"model":"a","messages":[{"role":"user","content":"\\udc00 x"}]}',
    "a lone surrogate in an unknown field": b'{"model":"a","messages":[{"role":"user"}],"x":"\\ud83d"}',
}


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON)
def test_not_json(raw: bytes) -> None:
    """What cannot be read is a 400 that says what to send."""
    error = refusal(raw)

    assert (error.status, error.param) == (400, None)
    assert error.message.startswith("The body is not valid JSON: ")
    assert error.message.endswith("Send one JSON object in UTF-8.")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"a","messages":[{"role":"user"}],"x":' + DEEP + b"}",
        b'{"model":"a","messages":[{"role":"user"}],"tools":[{"x":' + DEEP + b"}]}",
        b'{"model":"a","messages":[{"role":"user","content":[{"x":' + DEEP + b"}]}]}",
    ],
    ids=["unknown field", "tool", "part"],
)
def test_nested_too_deeply(raw: bytes) -> None:
    """A body that would exhaust the stack is a 400."""
    error = refusal(raw)
    expected = "The body is nested too deeply to be read. Send a flatter JSON object."

    assert (400, expected) == (error.status, error.message)


@STEADY
@given(raw=st.binary(max_size=80))
def test_arbitrary_bytes(raw: bytes) -> None:
    """No bytes raise anything but BadRequest, alone or as the value of any field."""
    start = b'{"model":"a","messages":'
    for body in (raw, start + raw + b"}", start + b'[{"role":"user"}],"x":' + raw + b"}"):
        try:
            said = chat.decode(body, {}).body_for("other")
        except BadRequest as refused:
            said = orjson.dumps({"model": "other", "refused": refused.message})

        assert orjson.loads(said)["model"] == "other"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)


@STEADY
@given(body=st.dictionaries(st.sampled_from(sorted(chat._Body.__struct_fields__)), JSON))
def test_arbitrary_values(body: dict[str, Any]) -> None:
    """Any JSON in the fields that decide is either read or refused, and a refusal names a field of the body."""
    named: str | None = None
    try:
        asked(msgspec.json.encode({"model": "auto", "messages": [HELLO], **body})).body_for("other")
    except BadRequest as error:
        named = error.param

    assert named is None or re.split(r"[.\[]", named)[0] in body


def test_the_defaults() -> None:
    """The smallest request is not streamed, asks for nothing special and belongs to no session."""
    raw = b'{"model":"auto","messages":[{"role":"user"}]}'
    expected = ChatRequest(
        raw=raw, surface="openai", model="auto", messages=[Message("user")], stream=False, tools=0,
        images=0, structured=False, max_output=0, text_bytes=len(raw), rung=None, session=None,
    )

    assert expected == asked(raw)


@pytest.mark.parametrize(("value", "stream"), [(True, True), (False, False), (None, False)])
def test_stream(value: object, *, stream: bool) -> None:
    """`stream` may be left out or null, as OpenAI's clients send it."""
    assert stream is asked(stream=value).stream


def test_rung_and_session_come_from_headers() -> None:
    """What a caller pins is not part of the body, which goes upstream."""
    headers = {"x-thriftgate-rung": "cheap", "x-thriftgate-session": "s-1", "x-other": "y"}
    request = asked(headers=headers)

    assert (request.rung, request.session) == ("cheap", "s-1")


@pytest.mark.parametrize(("fields", "answers"), [({}, 1), ({"n": 3}, 3), ({"n": "3"}, 1), ({"n": None}, 1)])
def test_how_many_answers(fields: dict[str, Any], answers: int) -> None:
    """Each costs as much as one; a wrong number is the provider's to refuse."""
    assert asked(**fields).answers == answers


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 0),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
        ({"max_tokens": None}, 0),
    ],
)
def test_max_output(fields: dict[str, Any], expected: int) -> None:
    """The newer name of the limit goes before the older; no limit is 0."""
    assert expected == asked(**fields).max_output


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 0), ({"tools": []}, 0), ({"tools": None, "functions": None}, 0), ({"tools": [{}, {}]}, 2),
        ({"functions": [{}]}, 1), ({"tools": [{}], "functions": [{}]}, 2),
    ],
)
def test_tools_are_counted_in_both_forms(fields: dict[str, Any], expected: int) -> None:
    """`tools` and the older `functions` count alike."""
    assert expected == asked(**fields).tools


@pytest.mark.parametrize(
    ("value", "structured"),
    [
        (None, False), ({}, False), ({"type": "text"}, False), ({"type": "json_object"}, False), ({"type": 5}, False),
        ({"type": "json_schema", "json_schema": {}}, True),
    ],
)
def test_structured_is_a_schema(value: object, *, structured: bool) -> None:
    """Only a JSON schema asks for what not every model can do."""
    assert structured is asked(response_format=value).structured


TEXTS: dict[str, tuple[list[Any], str]] = {
    "one": ([HELLO], "hello"),
    "the last user turn, not the last turn": (
        [HELLO, {"role": "user", "content": "two"}, {"role": "assistant", "content": "three"}], "two"
    ),
    "no user": ([{"role": "system", "content": "be kind"}], ""),
    "null": ([{"role": "user", "content": None}], ""),
    "left out": ([{"role": "user"}], ""),
    "an empty last turn is the last": ([HELLO, {"role": "user", "content": ""}], ""),
    "text parts": (
        [{"role": "user", "content": [{"type": "text", "text": "a"}, PIXEL, {"type": "text", "text": "b"}]}], "a\nb"
    ),
    "strange parts": (
        [{"role": "user", "content": [{"type": "text"}, {"type": "text", "text": 5}, {"type": "x", "text": "y"},
                                      {"text": "z"}, {}, {"type": "text", "text": "a"}]}], "a"
    ),
}


@pytest.mark.parametrize(("messages", "expected"), TEXTS.values(), ids=TEXTS)
def test_last_user_text(messages: list[Any], expected: str) -> None:
    """What the classifier reads is the text of the last user turn, from a string or from its text parts."""
    assert expected == asked(messages=messages).last_user_text()


def test_images_are_counted_over_all_turns() -> None:
    """Every image part of the conversation counts: the model has to read the history too."""
    messages = [HELLO, {"role": "user", "content": [PIXEL, PIXEL, {"type": "text", "text": "?"}]},
                {"role": "user", "content": [PIXEL]}]

    assert asked(messages=messages).images == 3


@pytest.mark.parametrize(
    ("content", "attached"),
    [
        ("data:image/png;base64,AAAA", 0),
        (None, 0),
        ([{"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}], 0),
        ([PIXEL], len("data:image/png;base64,AAAA") + len("low")),
        ([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}], 7),
        ([{"type": "file", "file": {"file_data": "AAAAAA", "size": 3}}, {"type": "x", "y": "z"}, PIXEL], 6 + 29),
    ],
    ids=["text", "null", "text part", "image", "audio", "file and image"],
)
def test_attached_data_is_not_text(content: object, attached: int) -> None:
    """Image and file data does not count as tokens by its bytes; all the rest of the body does."""
    request = asked(messages=[{"role": "user", "content": content}])

    assert attached == request.messages[0].attached_bytes()
    assert len(request.raw) - attached == request.text_bytes


@STEADY
@given(content=st.lists(st.dictionaries(st.sampled_from(["type", "text", "a"]), JSON | st.just("text"), max_size=3)))
def test_attached_data_is_never_more_than_there_is(content: list[dict[str, Any]]) -> None:
    """Whatever the parts look like, what is left as text is not negative."""
    raw = msgspec.json.encode({"model": "auto", "messages": [{"role": "user", "content": content}]})
    try:
        request = asked(raw)
    except BadRequest:      # a number that is out of range
        return

    assert 0 < request.text_bytes <= len(raw)
    assert isinstance(request.last_user_text(), str)


def test_the_same_name_passes_the_body_itself() -> None:
    """Nothing is rewritten where nothing changes."""
    request = asked(b' { "model":"auto", "messages":[{"role":"user"}] , "x":1.0 }\n')

    assert request.raw is request.body_for("auto")


def test_only_the_models_name_is_exchanged() -> None:
    """Numbers, escapes, spaces, key order and repeated keys inside a value go on as the caller wrote them."""
    request = asked(
        b'{ "seed" : 123456789012345678901234567890, "a":1.0 ,"b":1E+2,"c":1e400,"model":"auto",\n'
        b' "s":"\\u00e9\\/\\n\xc3\xa9", "o":{"b": 1,  "a" :[ 1,\t2 ],"b":2},"messages":[ {"role" :"user"} ],"e":"" }'
    )
    expected = (
        b'{"seed":123456789012345678901234567890,"a":1.0,"b":1E+2,"c":1e400,"model":"gpt \\"x\\"",'
        b'"s":"\\u00e9\\/\\n\xc3\xa9","o":{"b": 1,  "a" :[ 1,\t2 ],"b":2},"messages":[ {"role" :"user"} ],"e":""}'
    )

    assert expected == request.body_for('gpt "x"')


def test_of_a_repeated_field_the_last_counts() -> None:
    """What is decided on is what goes upstream: the last of two fields, in both places."""
    request = asked(b'{"model":"a","model":"auto","messages":[{"role":"user"}],"n":1,"n":2}')

    assert request.model == "auto"
    assert request.body_for("x") == b'{"model":"x","messages":[{"role":"user"}],"n":2}'


def test_a_field_whose_name_is_not_utf8_is_the_callers_fault() -> None:
    """It passes where nothing is rewritten; where the body must be rewritten it is a 400 and not our crash."""
    request = asked(b'{"model":"auto","messages":[{"role":"user"}],"\xff":1}')

    assert request.raw == request.body_for("auto")
    with pytest.raises(BadRequest, match="not valid JSON"):
        request.body_for("other")


SPACES = st.text(" \t\n\r", max_size=3).map(str.encode)
NUMBERS = st.sampled_from([b"1.0", b"-0", b"1e400", b"1E-7", b"123456789012345678901234567890", b"0.10"])
STRINGS = st.sampled_from([b'"\\u00e9"', '"é🦊"'.encode(), b'"\\ud83e\\udd8a"', b'"\\/\\b"', b'""', b'"model"'])
ATOMS = NUMBERS | STRINGS | st.sampled_from([b"null", b"true", b"false"])


@st.composite
def nested(draw: st.DrawFn, inner: st.SearchStrategy[bytes]) -> bytes:
    """An array or object in the caller's own spelling, spaces and repeated keys included."""
    items = draw(st.lists(inner, max_size=3))
    if draw(st.booleans()):
        return b"[" + draw(SPACES) + (draw(SPACES) + b",").join(items) + b"]"
    pairs = [draw(STRINGS) + draw(SPACES) + b":" + item for item in items]
    return b"{" + draw(SPACES) + b",".join(pairs) + draw(SPACES) + b"}"


@STEADY
@given(
    fields=st.dictionaries(st.sampled_from("abcdefg"), st.recursive(ATOMS, nested, max_leaves=6), max_size=5),
    space=SPACES, name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=10),
)
def test_every_value_keeps_its_bytes(fields: dict[str, bytes], space: bytes, name: str) -> None:
    """Whatever other fields a caller sends, each value goes upstream byte for byte and the new name is read back."""
    values = {"model": b'"auto"', "messages": b'[{"role" : "user"}]', **fields}
    pairs = [b'"' + key.encode() + b'"' + space + b":" + space + value for key, value in values.items()]
    rewritten = asked(b"{" + (space + b"," + space).join(pairs) + space + b"}").body_for(name)
    read = {key: bytes(value) for key, value in msgspec.json.decode(rewritten, type=dict[str, msgspec.Raw]).items()}

    assert list(values) == list(read)
    assert name == msgspec.json.decode(read.pop("model"))
    assert {key: value for key, value in values.items() if key != "model"} == read
