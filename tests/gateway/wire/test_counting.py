"""Usage that only the gateway asked for: added to the request, and exactly this taken out of the answer."""

import random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import chat, counting, plain
from loadtest import script

COUNTS = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9}}'
PASSES = (       # without our question they would have come as well
    b'data: {"choices":[{"delta":{"content":"a"}}]}',
    b'data: {"choices":[{"delta":{"content":"\\",\\"usage\\":null, \\"usage\\":{}"}}]}',
    b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}',
    b'data: {"usage":{"prompt_tokens":9}}', b'data: {"choices":"x","usage":{}}', b'data: {"choices":[],"usage":7}',
    b'data: "usage"', b'data: {"usage"', b'event: usage\ndata: {"usage":1}', b': "usage"', b'\xff"usage"\xfe',
    'data: {"choices":[{"delta":{"content":"größe 漢字"}}]}'.encode(), LAST, b"",
)


def through(pieces: list[bytes]) -> bytes:
    """What a caller gets of a stream that arrives in these pieces."""
    uncount = counting.Uncount()
    return b"".join(map(uncount.feed, pieces)) + uncount.close()


@given(
    st.lists(st.sampled_from((*PASSES, COUNTS)), max_size=9), st.sampled_from((*PASSES, COUNTS[:-4])),
    st.sampled_from((b"\n\n", b"\r\n\r\n", b"\r\r")), st.integers(1, 50), st.randoms(use_true_random=False),
)
def test_what_is_taken_out_does_not_depend_on_the_cuts(
    events: list[bytes], last: bytes, end: bytes, at_most: int, rng: random.Random
) -> None:
    """Whatever the line ends, and with a last event that nothing closes."""
    whole = b"".join(event + end for event in events) + last
    kept = b"".join(event + end for event in events if event != COUNTS) + last

    assert through(script.split(whole, at_most, rng) if whole else []) == kept


def test_usage_that_nothing_closes_is_taken_out_too() -> None:
    """Some servers forget the last blank line."""
    assert through([PASSES[0] + b"\n\n" + COUNTS]) == PASSES[0] + b"\n\n"


@pytest.mark.parametrize("null", [b',"usage":null', b', "usage": null', b',\n"usage" :null'])
def test_the_nulls_that_come_with_it_go_too(null: bytes) -> None:
    """OpenAI says `null` in every frame but the last; compact or spaced, at the end or at the front."""
    frame = b'data: {"choices":[{"delta":{"content":"a"}}]'

    assert through([frame + null + b"}\n\n"]) == frame + b"}\n\n"
    assert through([b'data: {"usage": null, "choices":[]}\n\n']) == b'data: { "choices":[]}\n\n'


def test_an_event_goes_on_as_soon_as_it_is_whole() -> None:
    """Only the half one at the end of a chunk waits."""
    uncount = counting.Uncount()

    assert uncount.feed(b"data: 1\n\nda") == b"data: 1\n\n"
    assert uncount.feed(b"ta: 2\n") == b""
    assert "8 bytes" in repr(uncount)
    assert uncount.feed(b"\n") == b"data: 2\n\n"


def test_what_is_held_has_a_bound() -> None:
    """A gigantic event is none of usage: it passes in pieces, and it is known that what has passed ends inside it."""
    uncount = counting.Uncount()
    piece = b"x" * (counting.HELD_BYTES // 2)

    assert (uncount.feed(b"data: " + piece), uncount.inside) == (b"", False)
    assert (uncount.feed(piece), uncount.inside) == (b"data: " + piece + piece, True)
    assert (uncount.feed(b"y"), uncount.inside) == (b"", True)
    assert (uncount.feed(b"\n\n"), uncount.inside) == (b"y\n\n", False)


@pytest.mark.parametrize("end", [b"\n\ndata: half", b"\r\n\r\n: half", b"\n\n", b"\r\n\r\n"])
def test_after_its_end_what_has_passed_is_whole_again(end: bytes) -> None:
    """Also where the next event has begun, which is held."""
    uncount = counting.Uncount()
    uncount.feed(b"x" * (counting.HELD_BYTES + 1))
    inside = uncount.inside
    uncount.feed(end)

    assert (inside, uncount.inside) == (True, False)


@pytest.mark.parametrize(
    ("options", "asked", "sent"),
    [
        (None, False, {"include_usage": True}), ({}, False, {"include_usage": True}),
        ({"include_usage": False, "of_tomorrow": 1}, False, {"include_usage": True, "of_tomorrow": 1}),
        ({"include_usage": True}, True, None), ("a text", True, None),
    ],
)
def test_a_request_is_made_to_ask(options: object, sent: object, *, asked: bool) -> None:
    """Only where the caller does not; everything else stays, in its bytes."""
    more = {} if options is None else {"stream_options": options}
    raw = b' {"model":"m","messages":[{"role":"user","content":"x"}],"top_p":1.0e0,"stream":true' + (
        b"," + orjson.dumps(more)[1:] if more else b"}"
    )
    request = chat.decode(raw, {})

    assert request.counted is asked is plain.decode(raw, {}, "completions").counted
    if not asked:
        body = counting.asking(raw)

        assert orjson.loads(body) == {**orjson.loads(raw), "stream_options": sent}
        assert b"1.0e0" in body
        assert orjson.loads(counting.unasking(body)) == {
            name: value for name, value in orjson.loads(raw).items() if name != "stream_options"
        }


def test_a_request_for_no_stream_is_left_alone() -> None:
    """A whole answer says what it used."""
    assert chat.decode(b'{"model":"m","messages":[{"role":"user","content":"x"}]}', {}).counted


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (400, b'{"error":{"param":"stream_options"}}', True), (422, b"stream_options: extra fields", True),
        (400, b"messages is empty", False), (500, b"stream_options", False),
    ],
)
def test_a_server_that_does_not_know_the_question(status: int, body: bytes, *, refused: bool) -> None:
    """It is its fault that names the field."""
    assert counting.refused(status, body) is refused
