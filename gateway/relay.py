"""The answer's way back: bytes through, as they came and when they came.

Rule: this room owns everything after the first byte. Before it an error is a status; after it the response has begun,
and all that is left is an honest ending: one error event in the client's dialect, then the connection is closed.
Nothing is parsed while the stream runs; its last chunks are kept by reference and read once, at the end, for usage
and completeness.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from functools import partial

from aiohttp import web

from gateway.dialects import openai
from gateway.dialects.openai import Ending
from gateway.errors import GatewayError, StreamBroken
from gateway.receipt import Outcome, Receipt
from gateway.sse import Parser
from gateway.upstream.pool import Answer

TAIL_BYTES = 8_192     # the finish and usage frames of a stream fit many times over
LAST_FRAMES = (b"data: [DONE]\n\n", b"data: [DONE]\r\n\r\n", b"data:[DONE]\n\n")
LINGER_S = 0.05        # how long an upstream's own end is waited for, so that its connection can be used again

# What a caller may see of the upstream's headers. Cookies, server names and hop-by-hop fields stay here.
PASSED = ("content-type", "content-encoding", "x-request-id", "retry-after")
PASSED_PREFIXES = ("x-ratelimit-", "openai-")


class Tail:
    """The last bytes of a stream, kept as references to the chunks: no copy while it runs."""

    __slots__ = ("_bytes", "_chunks", "_cut")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._cut = False

    def add(self, chunk: bytes) -> None:
        """Append a chunk and forget what lies further back than TAIL_BYTES."""
        self._chunks.append(chunk)
        self._bytes += len(chunk)
        while self._bytes - len(self._chunks[0]) >= TAIL_BYTES:
            self._bytes -= len(self._chunks.popleft())
            self._cut = True

    def read(self) -> tuple[Ending, bool]:
        """Return what the end says, and whether it ends between two events.

        Where the last event is longer than what was kept, it cannot be judged: it then counts as a good end.
        """
        parser = Parser()
        events = [event for chunk in self._chunks for event in parser.feed(chunk)]
        between = parser.between_events
        events += parser.close()
        if self._cut and between and len(events) < 2:
            return Ending(complete=True), True
        return openai.ending_of_stream(events), between


def passed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the upstream's headers that the client may see."""
    return {
        name: value for name, value in headers.items()
        if (low := name.lower()) in PASSED or low.startswith(PASSED_PREFIXES)
    }


async def relay_whole(
    http: web.Request, answer: Answer, headers: Mapping[str, str], receipt: Receipt
) -> web.StreamResponse:
    """Send an answer whose body is here."""
    answer.bound(partial(_hang_up, http))
    headers = {**passed_headers(answer.headers), **headers}
    response = web.Response(status=answer.status, body=answer.first, headers=headers)
    ending = openai.ending_of_body(answer.first)
    receipt.status, receipt.finish, receipt.usage = answer.status, ending.finish, ending.usage
    try:
        await response.prepare(http)
        await response.write_eof()
    except ConnectionError:
        receipt.outcome = Outcome.ABANDONED
    else:
        receipt.sent_bytes = len(answer.first)
        receipt.outcome = Outcome.OK if answer.status < 400 else Outcome.REFUSED
    return response


async def relay_stream(
    http: web.Request, answer: Answer, headers: Mapping[str, str], receipt: Receipt
) -> web.StreamResponse:
    """Send a stream chunk by chunk, and book how it ended. Raises only CancelledError.

    A client that is gone is no error to anyone: the response is given back as it is, and aiohttp drops it.
    """
    response = web.StreamResponse(
        status=answer.status,
        headers={**passed_headers(answer.headers), "Cache-Control": "no-cache", "X-Accel-Buffering": "no", **headers},
    )
    receipt.status = answer.status
    tail = Tail()
    answer.bound(partial(_hang_up, http))
    try:
        await response.prepare(http)
        error = await _pass_on(response, answer, tail, receipt)
        await _end(http, response, answer, tail, receipt, error)
    except ConnectionError:
        _book_left(tail, receipt)
    except asyncio.CancelledError:
        if _book_left(tail, receipt) or http.transport is None or http.transport.is_closing():
            raise
        stopped = StreamBroken("The gateway is shutting down and could not wait for this answer's end.")
        await _end_broken(http, response, answer, tail, receipt, stopped)      # it is we who stop, the client is there
        raise
    return response


async def _pass_on(
    response: web.StreamResponse, answer: Answer, tail: Tail, receipt: Receipt
) -> GatewayError | None:
    """Write every chunk as it comes. Returns at the end, or with what broke the answer off."""
    chunk = answer.first
    try:
        while chunk:
            await response.write(chunk)
            tail.add(chunk)
            receipt.sent_bytes += len(chunk)
            if chunk.endswith(LAST_FRAMES) and tail.read()[0].complete:     # in the midst of a line it is no frame
                break            # a slow end of the upstream's is no reason to keep the client waiting
            chunk = await answer.next()
    except GatewayError as error:
        return error
    return None


async def _end(
    http: web.Request, response: web.StreamResponse, answer: Answer, tail: Tail, receipt: Receipt,
    error: GatewayError | None,
) -> None:
    """End a stream as well as its upstream did. What breaks after the answer was complete breaks nothing."""
    ending, _ = _book(tail, receipt)
    if error is None and _is_readable(answer) and not ending.complete and not ending.error:
        error = StreamBroken("The upstream ended the stream without finishing its answer.")
    if error is not None and not ending.complete:
        await _end_broken(http, response, answer, tail, receipt, error)
        return
    receipt.outcome = Outcome.BROKEN if ending.error else Outcome.OK
    await response.write_eof()
    await answer.finish(LINGER_S)


def _hang_up(http: web.Request) -> None:
    """Drop a client that does not read: its request is cancelled by that."""
    if http.transport is not None:
        http.transport.abort()


def _is_readable(answer: Answer) -> bool:
    """Say whether the stream is one we can read and add to: plain server-sent events."""
    plain = answer.headers.get("Content-Encoding", "identity") == "identity"
    return plain and answer.headers.get("Content-Type", "").startswith("text/event-stream")


def _book(tail: Tail, receipt: Receipt) -> tuple[Ending, bool]:
    ending, between = tail.read()
    receipt.finish, receipt.usage = ending.finish, ending.usage
    return ending, between


def _book_left(tail: Tail, receipt: Receipt) -> bool:
    """Book a client that hung up, and return whether it had the whole answer: many SDKs leave at `[DONE]`."""
    ending, _ = _book(tail, receipt)
    receipt.outcome = Outcome.OK if ending.complete else Outcome.ABANDONED
    return ending.complete


async def _end_broken(
    http: web.Request, response: web.StreamResponse, answer: Answer, tail: Tail, receipt: Receipt, error: GatewayError
) -> None:
    """Say in the stream that it broke, and close the connection without the mark that would make it whole."""
    ending, between = _book(tail, receipt)
    receipt.outcome, receipt.error = Outcome.BROKEN, f"{type(error).__name__}: {error.booked}"
    if _is_readable(answer) and not ending.error:         # else the upstream has said so itself
        await response.write(openai.error_event(error, receipt.request_id, mid_event=not between))
    if http.transport is not None:
        http.transport.close()
