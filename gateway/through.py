"""What becomes of an answer's bytes on their way: through as they are, through without our own count, or worded anew.

Where both sides speak the same dialect, nothing is parsed while the stream runs; its first and last chunks are kept by
reference and read once, at the end, for usage and completeness. Else every chunk goes through a `Translation`.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from gateway.dialects.door import Ending, Surface, Upstream
from gateway.dialects.neutral import Asked
from gateway.pricing import Usage
from gateway.sse import CLOSED, DONE, Parser, looks_whole
from gateway.translate import Translation
from gateway.upstream.pool import Answer
from gateway.wire.counting import Uncount

HEAD_BYTES = 2_048     # Anthropic says at the beginning what the prompt was
TAIL_BYTES = 8_192     # the finish and usage frames of a stream fit many times over


class Way(NamedTuple):
    """The dialects of the two sides; `asked` where the answer is worded anew. `uncount`: usage is for us alone.

    `carry_on` finds an answer that goes on where this one broke off; None: nobody may.
    """

    surface: Surface
    upstream: Upstream
    asked: Asked | None = None
    uncount: bool = False
    carry_on: Callable[[str, Usage | None], Awaitable[tuple[Answer, Upstream] | None]] | None = None


class Straight:
    """A stream that passes as it is. Its ends are kept as references to the chunks: no copy while it runs."""

    __slots__ = (
        "_between", "_bytes", "_chunks", "_cut", "_head", "_head_bytes", "_upstream", "failed", "unreadable",
    )

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._head: list[bytes] = []
        self._head_bytes = 0
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._cut = False
        self._between = True
        self.failed: str | None = None      # an error frame has passed like the rest
        self.unreadable = 0                 # events that are no objects, among those kept

    def feed(self, chunk: bytes) -> bytes:
        """Return what the client gets."""
        self._between = chunk.endswith(CLOSED)
        return chunk

    def wrote(self, chunk: bytes) -> bool:
        """Keep a chunk that has been written, forget what lies far back; return whether the answer is over with it."""
        if self._head_bytes < HEAD_BYTES:
            self._head.append(chunk[:HEAD_BYTES])
            self._head_bytes += len(chunk)
        self._chunks.append(chunk)
        self._bytes += len(chunk)
        while self._bytes - len(self._chunks[0]) >= TAIL_BYTES:
            self._bytes -= len(self._chunks.popleft())
            self._cut = True
        # in the midst of a line it is no last frame
        return chunk.endswith(self._upstream.LAST_FRAMES) and self.ending()[0].complete

    def close(self) -> bytes:
        """Return nothing: the upstream has said it all."""
        return b""

    def between(self) -> bool:
        """Return whether what was written ends between two events, a chunk among it whose writing still waits."""
        return self._between

    def ending(self) -> tuple[Ending, bool]:
        """Return what the end says, and whether it ends between two events.

        Where the last event is longer than what was kept, it cannot be judged: it then counts as a good end.
        """
        parser = Parser()
        events = [event for chunk in self._chunks for event in parser.feed(chunk)]
        between = parser.between_events
        events += parser.close()
        if self._cut and between and not any(map(looks_whole, events)):
            return Ending(complete=True), True
        if self._cut:
            parser = Parser()
            events = [event for chunk in self._head for event in parser.feed(chunk)] + events
        said = [event for event in events[:-1] if event.data != DONE]       # the last may be cut
        self.unreadable = sum(not looks_whole(event) for event in said)
        return self._upstream.ending_of_stream(events), between


class Counted(Straight):
    """A stream that passes as it would have come had we not asked for its usage."""

    __slots__ = ("_uncount",)

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream)
        self._uncount = Uncount()

    def feed(self, chunk: bytes) -> bytes:
        """Return what the client gets."""
        return self._uncount.feed(chunk)

    def between(self) -> bool:
        """Return whether what was written ends between two events."""
        return not self._uncount.inside

    def close(self) -> bytes:
        """Return what no blank line has ended."""
        return self._uncount.close()


class Translated:
    """A stream that is worded anew, in the same terms."""

    __slots__ = ("_translation", "_upstream")

    def __init__(self, way: Way, asked: Asked) -> None:
        self._upstream = way.upstream
        self._translation = Translation(way.upstream, way.surface, asked, keeps=way.carry_on is not None)

    @property
    def failed(self) -> str | None:
        """The upstream's words for why it broke off."""
        return self._translation.failed

    @property
    def unreadable(self) -> int:
        """Events that are no objects: they are passed over."""
        return self._translation.unreadable

    def feed(self, chunk: bytes) -> bytes:
        """Return what the client gets for a chunk, which may be nothing yet."""
        return self._translation.feed(chunk)

    def wrote(self, chunk: bytes) -> bool:
        """Return whether the answer is over with this chunk."""
        return chunk.endswith(self._upstream.LAST_FRAMES) and self._translation.ending.complete

    def between(self) -> bool:
        """Return True: what is written are whole frames."""
        return True

    @property
    def said(self) -> str:
        """The text so far, where another model could go on from it; else empty."""
        return self._translation.said

    def go_on(self, upstream: Upstream) -> None:
        """Take what follows from an answer of this dialect's."""
        self._upstream = upstream
        self._translation.go_on(upstream)

    def close(self) -> bytes:
        """Return what ends the stream well."""
        return self._translation.close()

    def ending(self) -> tuple[Ending, bool]:
        """Return how the answer ended; what is written are whole frames."""
        return self._translation.ending, True


Through = Straight | Translated
