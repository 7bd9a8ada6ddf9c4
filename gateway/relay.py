"""The answer's way back: bytes through, as they came and when they came.

Rule: this room owns everything after the first byte. Before it an error is a status; after it the response has begun,
and all that is left is an honest ending: one error event in the client's dialect, then the connection is closed.
What becomes of the bytes meanwhile is `through`'s.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from aiohttp import web

from gateway.dialects.door import Ending
from gateway.dialects.neutral import Asked
from gateway.dialects.register import SURFACES
from gateway.errors import GatewayError, PassedOn, Refused, StreamBroken, Unavailable
from gateway.keepalive import EVENTS, UNBUFFERED, KeepAlive
from gateway.receipt import Outcome, Receipt
from gateway.through import Counted, Straight, Through, Translated, Way
from gateway.upstream.pool import Answer, is_plain

ENDED_BADLY = "The upstream ended its answer with an error"
LINGER_S = 0.05        # how long an upstream's own end is waited for, so that its connection can be used again

# What a caller may see of the upstream's headers. Cookies, server names and hop-by-hop fields stay here.
PASSED = ("content-type", "content-encoding", "x-request-id", "retry-after")
LIMITS = "x-ratelimit-"
PASSED_PREFIXES = (LIMITS, "openai-", "anthropic-")
OF_THE_BODY = ("content-type", "content-encoding")     # they describe bytes that a translation exchanges


def passed_headers(headers: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """Return the upstream's headers that the client may see.

    Where the caller's key has limits here, those of our key at the upstream are not the caller's business.
    """
    limited = any(name.startswith(LIMITS) for name in ours)
    return {
        name: value for name, value in headers.items()
        if (low := name.lower()) in PASSED
        or (low.startswith(PASSED_PREFIXES) and not (limited and low.startswith(LIMITS)))
    }


async def relay_whole(
    http: web.Request, answer: Answer, way: Way, headers: Mapping[str, str], receipt: Receipt
) -> web.StreamResponse:
    """Send an answer whose body is here."""
    answer.bound(partial(_hang_up, http))
    body, passed = answer.first, passed_headers(answer.headers, headers)
    if way.asked is not None:
        body, passed = _worded(answer, way, way.asked, receipt), _for_translated(passed, "application/json")
    response = web.Response(status=answer.status, body=body, headers={**passed, **headers})
    receipt.status, receipt.finish, receipt.usage = answer.status, answer.ending.finish, answer.ending.usage
    try:
        await response.prepare(http)
        await response.write_eof()
    except ConnectionError:
        receipt.outcome = Outcome.ABANDONED
    else:
        receipt.sent_bytes = len(body)
        receipt.outcome = Outcome.OK if answer.status < 400 else Outcome.REFUSED
    return response


def _worded(answer: Answer, way: Way, asked: Asked, receipt: Receipt) -> bytes:
    """Return an answer's body in the caller's dialect."""
    if answer.status >= 400:
        return way.surface.error_body(passed_on(answer, way), receipt.request_id, [])
    return way.surface.write_whole(asked, answer.said)


def _for_translated(passed: Mapping[str, str], kind: str) -> dict[str, str]:
    kept = {name: value for name, value in passed.items() if name.lower() not in OF_THE_BODY}
    return {**kept, "Content-Type": kind}


async def relay_stream(
    http: web.Request, answer: Answer, way: Way, headers: Mapping[str, str], receipt: Receipt, alive: KeepAlive
) -> web.StreamResponse:
    """Send a stream chunk by chunk, and book how it ended.

    Raises CancelledError, and Refused before anything is sent where a translation is needed and the answer is no stream
    of events. A client that is gone is no error to anyone: the response is given back as it is, and aiohttp drops it.
    """
    passed, through = passed_headers(answer.headers, headers), _through(answer, way)
    if way.asked is not None:
        passed = _for_translated(passed, EVENTS)
    begun = await alive.begun()
    response = begun or web.StreamResponse(
        status=answer.status,
        headers={**passed, **UNBUFFERED, **headers},
    )
    receipt.status = answer.status
    answer.bound(partial(_hang_up, http))
    sent = _Sent(http, response, answer, way, through, receipt)
    alive.between = through.between if _is_readable(answer) else lambda: False
    try:
        if begun is None:
            await response.prepare(http)
            alive.response = response
        error = await _pass_on(sent)
        while (further := await _carried_on(sent)) is not None:
            sent = further
            error = await _pass_on(sent)
        alive.between = lambda: False            # no comment after the end
        await _end(sent, error)
    except ConnectionError:
        _book_left(through, receipt)
    except asyncio.CancelledError:
        if _book_left(through, receipt) or http.transport is None or http.transport.is_closing():
            raise
        stopped = StreamBroken("The gateway is shutting down and could not wait for this answer's end.")
        await _end_broken(sent, stopped)      # it is we who stop, the client is there
        raise
    return response


class _Sent(NamedTuple):
    """A stream being sent."""

    http: web.Request
    response: web.StreamResponse
    answer: Answer
    way: Way
    through: Through
    receipt: Receipt


def _through(answer: Answer, way: Way) -> Through:
    if way.asked is None:
        return Counted(way.upstream) if way.uncount and _is_readable(answer) else Straight(way.upstream)
    if not _is_readable(answer):
        kind = answer.headers.get("Content-Type", "nothing")[:100]
        raise Refused(f"The upstream was asked for a stream of events and sent {kind}", 502)
    return Translated(way, way.asked)


async def _pass_on(sent: _Sent) -> GatewayError | None:
    """Write every chunk as it comes. Returns at the end, or with what broke the answer off."""
    response, answer, through, receipt = sent.response, sent.answer, sent.through, sent.receipt
    chunk = answer.first
    try:
        while chunk:
            if worded := through.feed(chunk):
                await response.write(worded)
                receipt.sent_bytes += len(worded)
            if through.wrote(chunk):
                break            # a slow end of the upstream's is no reason to keep the client waiting
            if through.failed is not None:
                return _unfinished(through)
            chunk = await answer.next()
    except GatewayError as error:
        return error
    return None


async def _carried_on(sent: _Sent) -> _Sent | None:
    """Return the stream with an answer that goes on where it broke off; None where it did not, or there is none."""
    through, carry_on = sent.through, sent.way.carry_on
    if carry_on is None or not isinstance(through, Translated):
        return None
    if last := through.feed(b"\n\n"):       # an event that nothing had closed
        await sent.response.write(last)
        sent.receipt.sent_bytes += len(last)
    if not through.said or (found := await carry_on(through.said, through.ending()[0].usage)) is None:
        return None
    answer, upstream = found
    through.go_on(upstream)
    answer.bound(partial(_hang_up, sent.http))
    mark = f": continued by {sent.receipt.continued[-1]}\n\n".encode()
    await sent.response.write(mark)
    sent.receipt.sent_bytes += len(mark)
    return sent._replace(answer=answer, way=sent.way._replace(upstream=upstream))


async def _end(sent: _Sent, error: GatewayError | None) -> None:
    """End a stream as well as its upstream did. What breaks after the answer was complete breaks nothing."""
    ending, _ = _book(sent.through, sent.receipt)
    last = sent.through.close() if error is None or ending.complete else b""
    ending, _ = _book(sent.through, sent.receipt)        # the close may have had more to say
    if error is None and _is_readable(sent.answer) and not ending.complete and not ending.error:
        error = _unfinished(sent.through)
    if error is not None and not ending.complete:
        await _end_broken(sent, error)
        return
    sent.receipt.outcome = Outcome.OK
    if ending.error:        # its own words have passed
        sent.receipt.outcome, sent.receipt.error = Outcome.BROKEN, f"{Refused.__name__}: {ENDED_BADLY}"
    await sent.response.write_eof(last)
    sent.receipt.sent_bytes += len(last)
    await sent.answer.finish(LINGER_S)


def passed_on(answer: Answer, way: Way) -> PassedOn:
    """Return what the upstream blames the request for, as an error of ours."""
    said = way.upstream.error_of_body(answer.first) or f"The upstream answered {answer.status}."
    return PassedOn(answer.status, said)


async def end_begun(
    http: web.Request, response: web.StreamResponse, error: BaseException, receipt: Receipt
) -> web.StreamResponse:
    """End a response that was begun for a client who waited, and for which there is no answer.

    Raises the error where the client is gone.
    """
    if http.transport is None or http.transport.is_closing():
        raise error
    if isinstance(error, GatewayError):
        receipt.fail(error)
        told = error
    else:
        receipt.outcome, told = Outcome.ABANDONED, Unavailable("The gateway is shutting down.")
    receipt.status = response.status
    event = SURFACES[receipt.surface or "openai"].error_event(told, receipt.request_id, mid_event=False)
    with contextlib.suppress(ConnectionError):
        await response.write(event)
    http.transport.close()
    return response


def _unfinished(through: Through) -> GatewayError:
    """Return the error for an answer that its upstream ended before it was complete, in its words if it had any."""
    if through.failed is None:
        return StreamBroken("The upstream ended the stream without finishing its answer.")
    return Refused(ENDED_BADLY, 502, through.failed)


def _hang_up(http: web.Request) -> None:
    """Drop a client that does not read: its request is cancelled by that."""
    if http.transport is not None:
        http.transport.abort()


def _is_readable(answer: Answer) -> bool:
    """Say whether the stream is one we can read and add to: plain server-sent events."""
    return is_plain(answer.headers) and answer.headers.get("Content-Type", "").startswith("text/event-stream")


def _book(through: Through, receipt: Receipt) -> tuple[Ending, bool]:
    ending, between = through.ending()
    receipt.finish, receipt.usage, receipt.unreadable = ending.finish, ending.usage, through.unreadable
    return ending, between


def _book_left(through: Through, receipt: Receipt) -> bool:
    """Book a client that hung up, and return whether it had the whole answer: many SDKs leave at `[DONE]`."""
    ending, _ = _book(through, receipt)
    receipt.outcome = Outcome.OK if ending.complete else Outcome.ABANDONED
    return ending.complete


async def _end_broken(sent: _Sent, error: GatewayError) -> None:
    """Say in the stream that it broke, and close the connection without the mark that would make it whole."""
    receipt = sent.receipt
    ending, between = _book(sent.through, receipt)
    receipt.outcome, receipt.error = Outcome.BROKEN, f"{type(error).__name__}: {error.booked}"
    if _is_readable(sent.answer) and not ending.error:         # else the upstream has said so itself
        await sent.response.write(sent.way.surface.error_event(error, receipt.request_id, mid_event=not between))
    if sent.http.transport is not None:
        sent.http.transport.close()
