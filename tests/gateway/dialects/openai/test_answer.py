"""What a chat completion says, whole and in pieces, how it ends, and what its errors say."""

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects import neutral, openai
from gateway.dialects.neutral import (
    Argued,
    Began,
    Called,
    Cited,
    Ended,
    Failed,
    Finish,
    Media,
    Native,
    Refused,
    Said,
    Shown,
    Thought,
    Used,
)
from gateway.dialects.openai import Ending
from gateway.pricing import Usage
from gateway.sse import Event, Parser

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=100)
WORD = b'{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}],"usage":null}'
STOP = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
USED = b'{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}'
CACHED = b'{"usage":{"prompt_tokens":12,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":8}}}'
ERROR = b'{"error":{"message":"overloaded","type":"server_error"}}'
DONE = b"[DONE]"

STREAMS: dict[str, tuple[list[bytes], Ending]] = {
    "nothing": ([], Ending()),
    "cut after a word": ([WORD], Ending()),
    "done": ([WORD, DONE], Ending(complete=True)),
    "finished": ([WORD, STOP], Ending(complete=True, finish="stop")),
    "finished and done": ([WORD, STOP, DONE], Ending(complete=True, finish="stop")),
    "with usage": ([STOP, USED, DONE], Ending(complete=True, finish="stop", usage=Usage(12, 3, 0))),
    "with cached tokens": ([CACHED, DONE], Ending(complete=True, usage=Usage(12, 3, 8))),
    "the last usage counts": ([CACHED, USED, WORD, DONE], Ending(complete=True, usage=Usage(12, 3, 0))),
    "usage in every chunk": (
        [USED, b'{"choices":[{"finish_reason":"length"}],"usage":{"prompt_tokens":12,"completion_tokens":4}}'],
        Ending(complete=True, finish="length", usage=Usage(12, 4)),
    ),
    "several choices": (
        [b'{"choices":[{"finish_reason":null},{"finish_reason":"tool_calls"}]}'],
        Ending(complete=True, finish="tool_calls"),
    ),
    "an error frame": ([WORD, ERROR], Ending(error=True)),
    "an error frame, then done": ([ERROR, DONE], Ending(error=True)),
    "an error frame, then more": ([ERROR, STOP], Ending(error=True, finish="stop")),
    "an error as text": ([b'{"error":"overloaded"}'], Ending(error=True)),
    "no error, said so": (
        [b'{"error":null,"choices":[{"finish_reason":"stop"}]}'], Ending(complete=True, finish="stop")
    ),
    "not JSON": ([b"hello", b"", b"{", b"\xff", STOP], Ending(complete=True, finish="stop")),
    "not a chunk": ([b"[]", b"1", b'{"choices":5}', b'{"usage":{"prompt_tokens":null}}', DONE], Ending(complete=True)),
    "too deep": ([b"[" * 200_000, b'{"error":' + b"[" * 200_000, DONE], Ending(complete=True)),
    "less than no tokens": (
        [b'{"usage":{"prompt_tokens":-5,"completion_tokens":-1,"prompt_tokens_details":{"cached_tokens":-2}}}', DONE],
        Ending(complete=True),
    ),
}


@pytest.mark.parametrize(("frames", "expected"), STREAMS.values(), ids=STREAMS)
def test_the_ending_of_a_stream(frames: list[bytes], expected: Ending) -> None:
    """Complete iff it said so or why it finished, and did not say that it failed."""
    assert expected == openai.ending_of_stream(Event(b"", frame) for frame in frames)


BODIES: dict[str, tuple[bytes, Ending]] = {
    "a completion": (
        b'{"choices":[{"message":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2}}',
        Ending(complete=True, finish="stop", usage=Usage(5, 2)),
    ),
    "cached tokens": (CACHED, Ending(complete=True, usage=Usage(12, 3, 8))),
    "details without them": (
        b'{"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"audio_tokens":0}}}',
        Ending(complete=True, usage=Usage(5, 2)),
    ),
    "null details": (
        b'{"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":null}}}',
        Ending(complete=True, usage=Usage(5, 2)),
    ),
    "no usage": (STOP, Ending(complete=True, finish="stop")),
    "an error": (ERROR, Ending(complete=True)),
    "not JSON": (b"<html>", Ending(complete=True)),
    "empty": (b"", Ending(complete=True)),
}


@pytest.mark.parametrize(("body", "expected"), BODIES.values(), ids=BODIES)
def test_the_ending_of_a_body(body: bytes, expected: Ending) -> None:
    """A whole body is complete; what cannot be read is the caller's all the same."""
    assert expected == openai.ending_of_body(body)


SAID: list[tuple[bytes, str | None]] = [
    (b'{"error":{"message":"overloaded","type":"server_error"}}', "overloaded"),
    (b'{"error":{"message":"' + b"x" * 600 + b'"}}', "x" * 500),
    (b'{"error":"overloaded"}', "overloaded"),
    (b'{"error":{}}', "an error without a message"),
    (b'{"error":{"message":5}}', "an error without a message"),
    (b'{"error":[1]}', "an error without a message"),
    (b'{"error":null}', None),
    (b'{"choices":[]}', None),
    (b'{"choices":[{"delta":{"content":"\\"error\\""}}]}', None),
    (b'"error"', None),
    (b"<html>", None),
    (b"", None),
]


@pytest.mark.parametrize(("body", "expected"), SAID)
def test_what_an_error_says(body: bytes, expected: str | None) -> None:
    """The message of an error object, in a body and in a frame of a stream; None where there is none."""
    failed = [event.message for event in openai.reader().feed(Event(b"", body)) if isinstance(event, Failed)]

    assert expected == openai.error_of_body(body)
    assert failed == ([] if expected is None else [expected])


@STEADY
@given(frames=st.lists(st.binary(max_size=30) | st.sampled_from([WORD, STOP, USED, ERROR, DONE]), max_size=6))
def test_any_answer_has_an_ending(frames: list[bytes]) -> None:
    """No bytes of an upstream raise."""
    ending = openai.ending_of_stream(Event(b"", frame) for frame in frames)
    whole = b"".join(frames)

    assert openai.ending_of_body(whole).complete
    assert isinstance(openai.error_of_body(whole), str | None)
    assert ending.complete <= (DONE in frames or ending.finish is not None)


# ── the answer as events ──

HEAD = '"id":"c1","object":"chat.completion.chunk","created":1,"model":"m"'


def events_of(*data: str, size: int = 10**9) -> list[neutral.Event]:
    """Feed a stream of these frames in pieces of `size` bytes."""
    raw = b"".join(b"data: " + each.encode() + b"\n\n" for each in data)
    parser, reader, found = Parser(), openai.reader(), []
    for at in range(0, len(raw), size):
        found += [said for frame in parser.feed(raw[at:at + size]) for said in reader.feed(frame)]
    return found + reader.close()


def chunk(delta: str, *, finish: str = "null", choice: int = 0, more: str = "") -> str:
    """A chunk with one choice."""
    return f'{{{HEAD},"choices":[{{"index":{choice},"delta":{delta},"finish_reason":{finish}}}]{more}}}'


USAGE = (
    ',"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},'
    '"completion_tokens_details":{"reasoning_tokens":2}}'
)
STREAM = (
    chunk('{"role":"assistant","content":"","refusal":null}'),
    chunk('{"reasoning_content":"hm"}'),
    chunk('{"content":"größe"}'),
    chunk('{"tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"look","arguments":""}}]}'),
    chunk('{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\":"}}]}'),
    chunk('{"tool_calls":[{"index":0,"function":{"arguments":"1}"}},{"index":1,"id":"t2","function":{"name":"see"}}]}'),
    chunk("{}", finish='"tool_calls"'),
    f'{{{HEAD},"choices":[]{USAGE}}}',
    "[DONE]",
)
EVENTS = [
    Began("c1", "m"), Thought("hm", dialect="openai"), Said("größe"), Called(0, "t1", "look"), Argued(0, '{"a":'),
    Argued(0, "1}"), Called(1, "t2", "see"), Ended(Finish.TOOLS), Used(Usage(9, 5, 4, 0, 2)),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10**9])
def test_any_split_gives_the_same_events(size: int) -> None:
    """Text, thinking, calls with their arguments, the end and the counts, however the bytes are cut."""
    assert events_of(*STREAM, size=size) == EVENTS


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        (['{"tool_calls":[{"id":"a","function":{"name":"x","arguments":"{}"}}]}',
          '{"tool_calls":[{"id":"b","function":{"name":"x","arguments":"{}"}}]}'],
         [Called(0, "a", "x"), Argued(0, "{}"), Called(1, "b", "x"), Argued(1, "{}")]),
        (['{"tool_calls":[{"id":"a","function":{"name":"x","arguments":"{"}}]}',
          '{"tool_calls":[{"function":{"arguments":"}"}}]}'],
         [Called(0, "a", "x"), Argued(0, "{"), Argued(0, "}")]),
        (['{"tool_calls":[{"function":{"name":"x","arguments":"1"}},{"function":{"name":"y","arguments":"2"}}]}'],
         [Called(0, "call_0", "x"), Argued(0, "1"), Called(1, "call_1", "y"), Argued(1, "2")]),
        (['{"function_call":{"name":"x","arguments":"{"}}', '{"function_call":{"arguments":"}"}}'],
         [Called(0, "x", "x"), Argued(0, "{"), Argued(0, "}")]),
    ],
    ids=["no numbers", "no number for the rest", "whole and without ids", "the old form"],
)
def test_calls_as_other_servers_send_them(deltas: list[str], expected: list[neutral.Event]) -> None:
    """Arguments go to their call, whatever a server leaves out (complaint 17)."""
    assert events_of(*map(chunk, deltas))[1:] == expected


SAME_NUMBER = [
    # Google's: each call whole, and all of them the first
    ('{"tool_calls":[{"index":0,"id":"a","function":{"name":"x","arguments":"{\\"p\\":1}"}}]}',
     '{"tool_calls":[{"index":0,"id":"b","function":{"name":"y","arguments":"{}"}}]}'),
    # vLLM's for a named tool: a new id with every piece
    ('{"tool_calls":[{"index":0,"id":"a","function":{"name":"x","arguments":"{\\"p\\":{}"}}]}',
     '{"tool_calls":[{"index":0,"id":"b","function":{"name":"x","arguments":"}"}}]}'),
    # an id that is said again, and a name that comes late
    ('{"tool_calls":[{"index":0,"id":"a","function":{"arguments":"{"}}]}',
     '{"tool_calls":[{"index":0,"id":"a","function":{"name":"x","arguments":"}"}}]}'),
]


@pytest.mark.parametrize(
    ("deltas", "expected"),
    list(zip(SAME_NUMBER, [
        [Called(0, "a", "x"), Argued(0, '{"p":1}'), Called(1, "b", "y"), Argued(1, "{}")],
        [Called(0, "a", "x"), Argued(0, '{"p":{}'), Argued(0, "}")],
        [Called(0, "a", "x"), Argued(0, "{}")],
    ], strict=True)),
    ids=["two calls", "one call", "named late"],
)
def test_calls_under_one_number(deltas: tuple[str, ...], expected: list[neutral.Event]) -> None:
    """A new id begins a call where the one before it is whole, and only there."""
    assert events_of(*map(chunk, deltas))[1:] == expected


def test_a_call_without_a_name_is_none() -> None:
    """Nobody could answer it; it is no reason to wait for a result either."""
    nameless = chunk('{"tool_calls":[{"index":0,"id":"a","function":{"arguments":"{}"}}]}', finish='"stop"')

    assert events_of(nameless)[1:] == [Ended(Finish.STOP)]


def test_arguments_as_an_object() -> None:
    """Some servers forget that they are text."""
    call = '{"tool_calls":[{"index":0,"id":"a","function":{"name":"x","arguments":{"p":1}}}]}'

    assert events_of(chunk(call))[1:] == [Called(0, "a", "x"), Argued(0, '{"p":1}')]


def test_the_seal_of_googles_server() -> None:
    """It comes with the call that it seals."""
    call = (
        '{"tool_calls":[{"index":0,"id":"a","function":{"name":"x"},'
        '"extra_content":{"google":{"thought_signature":"s"}}}]}'
    )

    assert events_of(chunk(call))[1:] == [Called(0, "a", "x", "s")]


ODD: list[tuple[str, list[neutral.Event]]] = [
    ('{"id":"c1","model":"m","choices":[{"index":null,"delta":{"content":"hi"}}]}', [Said("hi")]),
    ('{"id":"c1","model":"m","choices":[{"index":-1,"delta":{"content":"hi"}},5,{"delta":7}]}', [Said("hi")]),
    (chunk('{"content":"hi","annotations":[5],"tool_calls":[5,{}],"function_call":6,"images":[{}]}'), [Said("hi")]),
    (chunk('{"content":"hi"}', more=',"usage":{"prompt_tokens":null}'), [Said("hi")]),
    (chunk('{"content":5}'), []),
    ('{"id":5,"model":[],"choices":[{"delta":{"content":"hi"},"logprobs":5}]}', [Said("hi")]),
    ('{"choices":[{"delta":{"content":"hi"},"logprobs":{"content":[5,{"token":"hi","top_logprobs":[null]}]}}]}',
     [Said("hi", logprobs=({"token": "hi", "top_logprobs": []},))]),
    ('{"choices":[{"delta":{"content":"hi"},"logprobs":{"content":[{"token":"hi","top_logprobs":true}]}}]}',
     [Said("hi", logprobs=({"token": "hi", "top_logprobs": []},))]),
    (chunk('{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"hi"}]}'),
     [Thought("hm", dialect="openai"), Said("hi")]),
    (chunk('{"reasoning":"hm","reasoning_content":"hm"}'), [Thought("hm", dialect="openai")]),
    (chunk('{"images":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]}'),
     [Shown(Media("image", "image/png", "AA"))]),
    (chunk('{"tool_calls":[{"id":"a","type":"custom","custom":{"name":"r","input":"x"}}]}'),
     [Shown(Native("openai", {"id": "a", "type": "custom", "custom": {"name": "r", "input": "x"}}))]),
]


@pytest.mark.parametrize(("frame", "expected"), ODD)
def test_what_can_be_understood_is(frame: str, expected: list[neutral.Event]) -> None:
    """A field of another kind costs the field and not the words beside it."""
    assert events_of(frame)[1:] == expected


def test_the_answer_begins_with_its_first_choice() -> None:
    """Azure speaks of the prompt before, without the answer's name."""
    found = events_of('{"id":"","model":"","choices":[],"prompt_filter_results":[]}', chunk('{"content":"hi"}'))

    assert found == [Began("c1", "m"), Said("hi")]


def test_done_without_a_reason() -> None:
    """The server's word for the end is one; without it the answer is cut."""
    word = chunk('{"content":"hi"}')
    both = f'{{{HEAD},"choices":[{{"index":0,"delta":{{}},"finish_reason":"length"}},{{"index":1,"delta":{{}}}}]}}'

    assert events_of(word, "[DONE]")[2:] == [Ended(Finish.STOP)]
    assert events_of(word)[2:] == []
    assert events_of(both, "[DONE]")[1:] == [Ended(Finish.LENGTH), Ended(Finish.STOP, choice=1)]


def test_a_refusal_ends_as_one() -> None:
    """OpenAI says "stop"; the words were a refusal's."""
    assert events_of(chunk('{"refusal":"no"}'), chunk("{}", finish='"stop"'))[-1] == Ended(Finish.REFUSAL)


def test_only_the_first_choice_thinks() -> None:
    """The neutral events do not say whose a thought or a source is: one thinker's thoughts are not another's."""
    found = events_of(chunk('{"reasoning":"hm","content":"b","annotations":[{"a":1}]}', choice=1))

    assert found[1:] == [Said("b", 1)]


USAGES: list[tuple[str, Usage]] = [
    ('{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2,"cache_write_tokens":3}}',
     Usage(9, 1, 2, 3)),
    ('{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":20,"cache_write_tokens":3}}',
     Usage(9, 1, 9, 0)),
    ('{"prompt_tokens":9,"completion_tokens":1,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":5}',
     Usage(9, 1, 4)),
    ('{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"completion_tokens_details":{"reasoning_tokens":3}}',
     Usage(9, 5, 0, 0, 3)),
    ('{"prompt_tokens":9,"completion_tokens":5,"total_tokens":17,"completion_tokens_details":{"reasoning_tokens":3}}',
     Usage(9, 8, 0, 0, 3)),
]


@pytest.mark.parametrize(("usage", "expected"), USAGES, ids=["written", "too much", "DeepSeek", "OpenAI", "xAI"])
def test_every_token_counts_once(usage: str, expected: Usage) -> None:
    """In `input` or in `output`, whatever a server calls it, read by the reader as by accounting (complaint 12)."""
    frame = f'{{"choices":[],"usage":{usage}}}'

    assert events_of(frame)[-1] == Used(expected)
    assert openai.ending_of_body(frame.encode()).usage == expected


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("stop", Finish.STOP), ("length", Finish.LENGTH), ("content_filter", Finish.FILTER),
     ("function_call", Finish.TOOLS), ("something new", Finish.STOP)],
)
def test_why_it_ended(finish: str, expected: Finish) -> None:
    """By table; a reason that nobody knows is a plain end."""
    assert events_of(chunk("{}", finish=f'"{finish}"'))[1:] == [Ended(expected)]


def test_a_forced_call_ends_for_its_tools() -> None:
    """OpenAI says "stop" where the caller named the tool; the answer waits for its result all the same."""
    call = chunk('{"tool_calls":[{"index":0,"id":"a","function":{"name":"x","arguments":"{}"}}]}')

    assert events_of(call, chunk("{}", finish='"stop"'))[-1] == Ended(Finish.TOOLS)


def test_several_answers_and_what_else_they_say() -> None:
    """Choices keep apart; refusals, sources and an error in the stream are said."""
    note = '{"type":"url_citation","url_citation":{"url":"http://a"}}'
    found = events_of(
        chunk('{"content":"b"}', choice=1), chunk('{"refusal":"no"}'), chunk(f'{{"annotations":[{note}]}}'),
        '{"error":{"message":"out of memory"}}',
    )

    assert found[1:] == [
        Said("b", 1), Refused("no"), Cited("openai", orjson.loads(note)), Failed("out of memory"),
    ]


def test_a_whole_answer() -> None:
    """A message is read as a chunk that says it all."""
    body = (
        b'{"id":"c1","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi","tool_calls":'
        b'[{"id":"t","type":"function","function":{"name":"x","arguments":"{}"}}]},"finish_reason":"tool_calls"}],'
        b'"usage":{"prompt_tokens":1,"completion_tokens":2}}'
    )

    assert openai.read_whole(body) == [
        Began("c1", "m"), Said("hi"), Called(0, "t", "x"), Argued(0, "{}"), Ended(Finish.TOOLS), Used(Usage(1, 2)),
    ]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"error":{"message":"x"}}', b'{"choices":[]}'])
def test_what_is_no_answer(body: bytes) -> None:
    """It cannot be translated, and is not taken for an empty one."""
    with pytest.raises(ValueError, match="it "):
        openai.read_whole(body)


def test_a_whole_answer_without_a_reason_is_one() -> None:
    """It is here, so it has ended."""
    assert openai.read_whole(b'{"choices":[{"message":{"content":"hi"}}]}')[1:] == [Said("hi"), Ended(Finish.STOP)]


def test_repr() -> None:
    """It says how far the reader is."""
    reading = openai.reader()
    reading.feed(Event(b"", STREAM[5].encode()))

    assert repr(reading) == "<Reader 2 calls, 0 ended>"


KEYS = [
    "choices", "delta", "message", "content", "tool_calls", "function", "name", "arguments", "id", "index", "usage",
    "logprobs", "annotations", "images", "image_url", "url", "extra_content", "google", "thought_signature", "custom",
    "type", "error", "finish_reason", "prompt_tokens", "prompt_tokens_details", "cached_tokens", "total_tokens",
]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)


@STEADY
@given(delta=ANY, choice=st.dictionaries(st.sampled_from(KEYS), ANY, max_size=4), chunk_=ANY)
def test_no_json_raises(delta: object, choice: dict[str, object], chunk_: object) -> None:
    """Whatever stands where, the reader and accounting go on."""
    reading = openai.reader()
    for value in (chunk_, {"choices": [{**choice, "delta": delta}], "usage": delta}, {"choices": chunk_}):
        raw = msgspec.json.encode(value)
        reading.feed(Event(b"", raw))
        openai.ending_of_stream([Event(b"", raw)])
    reading.feed(Event(b"", DONE))


@STEADY
@given(frames=st.lists(st.binary(max_size=40) | st.sampled_from([each.encode() for each in STREAM]), max_size=6))
def test_no_stream_raises(frames: list[bytes]) -> None:
    """What cannot be read is passed over."""
    reader = openai.reader()
    for frame in frames:
        reader.feed(Event(b"", frame))


def test_where_and_how_it_is_called() -> None:
    """The path behind the base, and the key as a bearer token."""
    assert openai.url("https://x/v1/", "m", stream=True) == "https://x/v1/chat/completions"
    assert (openai.headers("k"), openai.headers(None)) == ({"Authorization": "Bearer k"}, {})
