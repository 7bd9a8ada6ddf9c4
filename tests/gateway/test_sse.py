"""The parser of server-sent events: every case whole, byte by byte and with a tail; then any bytes, cut anywhere."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sse import Event, Parser, looks_whole

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=300)
TAIL = b"data: tail\n\n"
TAIL_EVENT = Event(b"", b"tail")

CASES = {
    "nothing": (b"", []),
    "LF": (b"data: a\n\n", [Event(b"", b"a")]),
    "CRLF": (b"data: a\r\n\r\n", [Event(b"", b"a")]),
    "CR": (b"data: a\r\r", [Event(b"", b"a")]),
    "mixed line ends": (b"data: a\r\ndata: b\rdata: c\n\r\n", [Event(b"", b"a\nb\nc")]),
    "two events": (b"data: a\n\ndata: b\n\n", [Event(b"", b"a"), Event(b"", b"b")]),
    "two events, CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [Event(b"", b"a"), Event(b"", b"b")]),
    "two events, CR": (b"data: a\r\rdata: b\r\r", [Event(b"", b"a"), Event(b"", b"b")]),
    "several data lines": (b"data: a\ndata: b\n\n", [Event(b"", b"a\nb")]),
    "no space after the colon": (b"data:a\n\n", [Event(b"", b"a")]),
    "one space is taken, not two": (b"data:  a\n\n", [Event(b"", b" a")]),
    "a colon in the value": (b"data: a: b\n\n", [Event(b"", b"a: b")]),
    "a field without a colon": (b"data\n\n", [Event(b"", b"")]),
    "empty data": (b"data:\ndata:\n\n", [Event(b"", b"\n")]),
    "a type": (b"event: ping\ndata: a\n\n", [Event(b"ping", b"a")]),
    "the last type counts": (b"event: x\nevent: y\ndata: a\n\n", [Event(b"y", b"a")]),
    "a type belongs to one event": (b"event: x\ndata: a\n\ndata: b\n\n", [Event(b"x", b"a"), Event(b"", b"b")]),
    "a type without data is no event": (b"event: x\n\ndata: b\n\n", [Event(b"", b"b")]),
    "comments": (b": keep-alive\n\n:\ndata: a\n: inside\n\n", [Event(b"", b"a")]),
    "unknown fields": (b"id: 7\nretry: 10\nfoo: bar\ndata: a\n\n", [Event(b"", b"a")]),
    "names are exact": (b"Data: a\n data: b\ndata : c\n\n", []),
    "blank lines": (b"\n\r\n\r\n\n", []),
    "multi-byte characters": ("data: größe 漢字 🦊\n\n".encode(), [Event(b"", "größe 漢字 🦊".encode())]),
    "not UTF-8": (b"data: \xff\xfe\n\n", [Event(b"", b"\xff\xfe")]),
    "the end of a completion": (
        b'data: {"choices":[]}\n\ndata: [DONE]\n\n', [Event(b"", b'{"choices":[]}'), Event(b"", b"[DONE]")]
    ),
}
UNFINISHED = {
    "no blank line": (b"data: a\n", [Event(b"", b"a")]),
    "no line end": (b"data: a", [Event(b"", b"a")]),
    "half of CRLF": (b"data: a\r", [Event(b"", b"a")]),
    "a second event": (b"data: a\n\nevent: x\ndata: b", [Event(b"", b"a"), Event(b"x", b"b")]),
    "only a type": (b"event: x\n", []),
    "half a field": (b"dat", []),
    "half a comment": (b": kee", []),
    "a character cut in half": (b"data: \xc3", [Event(b"", b"\xc3")]),
}
FRAGMENTS = [b"data", b"event", b":", b" ", b"\r", b"\n", b"\r\n", b"\n\n", b"x", b"[DONE]", "é".encode(), b"\x00"]
STREAMS = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join) | st.binary(max_size=60)


def fed(*chunks: bytes) -> list[Event]:
    """Feed the chunks and close."""
    parser = Parser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.close()


def by_byte(stream: bytes) -> list[bytes]:
    """Cut a stream into its bytes."""
    return [stream[i:i + 1] for i in range(len(stream))]


def as_the_standard_reads(stream: bytes) -> list[Event]:
    """Read a whole stream line by line, in the standard's own words; a last event counts without its blank line."""
    events: list[Event] = []
    data: list[bytes] = []
    kind = b""
    for line in [*stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), b""]:
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if not line:
            events += [Event(kind, b"\n".join(data))] if data else []
            data, kind = [], b""
        elif field == b"data":
            data.append(value)
        elif field == b"event":
            kind = value
    return events


@pytest.mark.parametrize(("stream", "events"), CASES.values(), ids=CASES)
def test_whole_by_byte_and_with_a_tail(stream: bytes, events: list[Event]) -> None:
    """A complete stream gives its events whole and byte by byte, and keeps them when something follows."""
    assert events == fed(stream)
    assert events == fed(*by_byte(stream))
    assert [*events, TAIL_EVENT] == fed(stream, TAIL)
    assert [*events, TAIL_EVENT] == fed(*by_byte(stream + TAIL))


@pytest.mark.parametrize(("stream", "events"), UNFINISHED.values(), ids=UNFINISHED)
def test_the_last_event_counts_without_its_blank_line(stream: bytes, events: list[Event]) -> None:
    """What the end of the stream leaves half said is an event, whole and byte by byte."""
    assert events == fed(stream)
    assert events == fed(*by_byte(stream))


def test_an_event_is_given_when_its_blank_line_arrives() -> None:
    """No byte later: the relay's copy is as far as the client."""
    parser = Parser()

    assert parser.feed(b"data: a\n") == []
    assert [Event(b"", b"a")] == parser.feed(b"\n")
    assert parser.close() == []


def test_a_closed_parser_starts_anew() -> None:
    """Nothing of a stream that ended inside an event leaks into what is fed next."""
    parser = Parser()
    parser.feed(b"event: x\ndata: a\r")
    parser.close()

    assert parser.feed(TAIL) == [TAIL_EVENT]


@pytest.mark.parametrize(
    ("stream", "between"),
    [
        (b"", True), (b"\r", True), (b"\n", True), (b"data: a\n\n", True), (b"data: a\r\n\r\n", True),
        (b": ping\n", True), (b"data: a\n\n: ping\n\n", True), (b"event: x\n\n", True), (b"data: a\n\r", False),
        (b"data: a", False), (b"data: a\r", False), (b"data: a\n", False), (b"data: a\r\n", False),
        (b"event: x\n", False), (b"data\n", False), (b": pin", False), (b"d", False), (b"data: a\n\nd", False),
    ],
)
def test_between_events(stream: bytes, *, between: bool) -> None:
    """Says whether an event may begin here, so that a frame of ours can be put in; the repr says it too."""
    parser, slow = Parser(), Parser()
    parser.feed(stream)
    for byte in by_byte(stream):
        slow.feed(byte)

    assert (between, between) == (parser.between_events, slow.between_events)
    assert f"<Parser {'between events' if between else 'inside an event'}>" == repr(parser)


@STEADY
@given(stream=STREAMS, cuts=st.lists(st.integers(0, 60)))
def test_cut_anywhere(stream: bytes, cuts: list[int]) -> None:
    """Any bytes, cut in any way, give the events that the standard reads in the whole; nothing raises."""
    chunks = [stream[a:b] for a, b in pairwise([0, *sorted(cuts), len(stream) + 60])]

    assert as_the_standard_reads(stream) == fed(*chunks)


@STEADY
@given(stream=STREAMS)
def test_a_frame_of_ours_can_always_be_added(stream: bytes) -> None:
    """After a blank line, where the parser asks for one, an event of ours is read by itself."""
    parser = Parser()
    parser.feed(stream)
    added = stream + (b"" if parser.between_events else b"\n\n") + TAIL

    assert fed(added)[-1] == TAIL_EVENT


@pytest.mark.parametrize(
    ("data", "whole"),
    [(b"{}", True), (b'{"a":[1]}', True), (b"{", False), (b"", False), (b"}", False), (b"[DONE]", False)],
)
def test_what_looks_like_an_object(data: bytes, *, whole: bool) -> None:
    """Its first and its last letter say."""
    assert looks_whole(Event(b"", data)) is whole
