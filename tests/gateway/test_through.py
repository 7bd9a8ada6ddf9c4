"""What becomes of an answer's bytes on their way, and what is known of its end."""

import pytest

from gateway.dialects import anthropic, openai
from gateway.dialects.door import Ending
from gateway.dialects.neutral import Asked, Conversation
from gateway.pricing import Usage
from gateway.through import HEAD_BYTES, TAIL_BYTES, Counted, Straight, Translated, Way
from gateway.wire.counting import HELD_BYTES

WORD = 'data: {"choices":[{"index":0,"delta":{"content":"größe"},"finish_reason":null}]}\n\n'.encode()
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USED = b'data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"overloaded"}}\n\n'


class TestStraight:
    """What is kept of a stream that passes as it is."""

    def test_nothing(self) -> None:
        """A stream without a byte has not finished."""
        assert Straight(openai).ending() == (Ending(), True)

    @pytest.mark.parametrize("size", [1, 7, 100, 10_000, 100_000])
    def test_the_end_is_kept(self, size: int) -> None:
        """However long and however cut the stream was, its finish and usage are there, and memory stays bounded."""
        stream, tail = WORD * 500 + STOP + USED + DONE, Straight(openai)
        for at in range(0, len(stream), size):
            tail.wrote(stream[at:at + size])

        assert tail.ending() == (Ending(complete=True, finish="stop", usage=Usage(12, 3)), True)
        assert sum(map(len, tail._chunks)) == tail._bytes
        assert tail._bytes < TAIL_BYTES + 2 * size
        assert sum(map(len, tail._head)) < 2 * HEAD_BYTES

    def test_just_enough_is_kept(self) -> None:
        """A chunk is forgotten when what follows it is long enough by itself, to the byte."""
        tail = Straight(openai)
        tail.wrote(b"first")
        tail.wrote(b"x" * (TAIL_BYTES - 1))
        before = len(tail._chunks)
        tail.wrote(b"y")

        assert (before, [TAIL_BYTES - 1, 1]) == (2, [len(chunk) for chunk in tail._chunks])

    def test_what_was_said_at_the_beginning(self) -> None:
        """Anthropic counts the prompt in its first event: it is there at the end, however long the answer was."""
        start = (
            b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message",'
            b'"role":"assistant","content":[],"model":"c","usage":{"input_tokens":7,"cache_read_input_tokens":5,"output_tokens":1}}}\n\n'
        )
        delta = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            b'"delta":{"type":"text_delta","text":"word "}}\n\n'
        )
        stop = (
            b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
            b'"usage":{"output_tokens":900}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
        )
        through = Straight(anthropic)
        over = [through.wrote(chunk) for chunk in (start, *[delta] * 500, stop)]

        assert over == [False] * 501 + [True]
        assert through.ending()[0].usage == Usage(12, 900, 5)

    @pytest.mark.parametrize(("chunk", "between"), [(WORD, True), (WORD[:-1], False), (WORD[:20], False)])
    def test_where_it_ends(self, chunk: bytes, *, between: bool) -> None:
        """It says whether a frame of ours may begin here."""
        tail = Straight(openai)
        tail.wrote(chunk)

        assert tail.ending()[1] is between

    @pytest.mark.parametrize(
        ("chunks", "between"),
        [
            ((), True), ((WORD,), True), ((WORD, WORD[:9]), False), ((WORD[:9], WORD[9:]), True), ((WORD[:-1],), False),
            ((WORD.replace(b"\n", b"\r\n"),), True), ((b": ping\r\r",), True), ((b"data: 1\n",), False),
        ],
    )
    def test_where_a_comment_may_stand(self, chunks: tuple[bytes, ...], *, between: bool) -> None:
        """After a whole event, and never inside one whose writing a slow client still holds up."""
        through = Straight(openai)
        for chunk in chunks:
            through.feed(chunk)

        assert through.between() is between

    @pytest.mark.parametrize(
        ("last", "ending"),
        [
            (b"", Ending(complete=True)),       # nothing but the large one, which nobody can judge
            (WORD, Ending()), (DONE, Ending(complete=True)), (ERROR, Ending(error=True)),
            (STOP, Ending(complete=True, finish="stop")), (USED, Ending(usage=Usage(12, 3))),
        ],
    )
    def test_a_single_event_behind_a_large_one(self, last: bytes, ending: Ending) -> None:
        """It is judged like any other: Gemini's streams end with one."""
        through, large = Straight(openai), b'data: {"pad":"' + b"x" * 3 * TAIL_BYTES + b'"}\n\n'
        for at in range(0, len(large), 1000):
            through.wrote(large[at:at + 1000])
        through.wrote(last)

        assert through.ending() == (ending, True)

    def test_what_is_no_object_is_counted(self) -> None:
        """Among what was kept; the mark at the end is none, and the last may be cut."""
        through = Straight(openai)
        for chunk in (b"data: <html>\n\n", WORD, b"data: 5\n\n", DONE, WORD[:30]):
            through.wrote(through.feed(chunk))
        through.ending()

        assert through.unreadable == 2


class TestCounted:
    """A stream that passes as it would have come had we not asked for its usage."""

    def test_our_question_leaves_no_trace(self) -> None:
        """What was asked for is taken out and booked."""
        through, sent = Counted(openai), b""
        null = WORD.replace(b"}]}", b'}],"usage":null}')
        for chunk in (null[:20], null[20:], STOP, USED, DONE):
            sent += through.feed(chunk)
            over = through.wrote(chunk)

        assert (sent + through.close(), over) == (WORD + STOP + DONE, True)
        assert through.ending() == (Ending(complete=True, finish="stop", usage=Usage(12, 3)), True)

    def test_where_a_comment_may_stand(self) -> None:
        """Half an event is held back, so a comment may stand before it; unless it was too long to be held."""
        through = Counted(openai)
        held = through.feed(WORD[:9]), through.between()
        passed = through.feed(b"x" * HELD_BYTES), through.between()
        closed = through.feed(b"\n\n"), through.between()

        assert held == (b"", True)
        assert (len(passed[0]), passed[1]) == (HELD_BYTES + 9, False)
        assert closed == (b"\n\n", True)


async def nobody(_said: str, _used: Usage | None) -> None:
    """Find nobody who goes on."""


class TestTranslated:
    """A stream that is worded anew."""

    @staticmethod
    def made() -> Translated:
        """From OpenAI's dialect to an Anthropic caller."""
        asked = Asked("r1", "auto", 17, Conversation(()))
        return Translated(Way(anthropic, openai, asked, carry_on=nobody), asked)

    def test_whole_frames_only(self) -> None:
        """However it is cut, a comment may stand anywhere, and the last frame is known."""
        through, stream, sent, over = self.made(), WORD + STOP + USED + DONE, [], []
        for at in range(0, len(stream), 7):
            sent.append(through.feed(stream[at:at + 7]))
            over.append(through.wrote(stream[:at + 7]))

        assert all(part.endswith(b"\n\n") for part in sent if part)
        assert (through.between(), over[-1], any(over[:-1])) == (True, True, False)
        assert (through.failed, through.unreadable, through.said) == (None, 0, "")
        assert through.close().endswith(b'data: {"type":"message_stop"}\n\n')
        assert through.ending() == (Ending(complete=True, finish="stop", usage=Usage(12, 3)), True)

    def test_one_that_fails(self) -> None:
        """Its words are known, and it is not complete."""
        through = self.made()
        through.feed(WORD + b"data: <html>\n\n" + ERROR)

        assert (through.failed, through.unreadable, through.ending()[0].complete) == ("overloaded", 1, False)

    def test_another_answer_goes_on(self) -> None:
        """In another dialect too; the text is one, and the second's end is the end."""
        through = self.made()
        first = through.feed(WORD)
        said = through.said
        through.go_on(anthropic)
        second = through.feed(
            b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","content":[],"usage":{}}}\n\n'
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            b'"delta":{"type":"text_delta","text":" more"}}\n\n'
            b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'
        )
        stop = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        through.feed(stop)

        assert (said, first.count(b"message_start"), second.count(b"message_start")) == ("größe", 2, 0)
        assert (b" more" in second, through.wrote(stop), through.ending()[0].finish) == (True, True, "stop")
