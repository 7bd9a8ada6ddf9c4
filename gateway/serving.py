"""The listening side: how long and with how much a client may hold a connection.

What aiohttp does by itself (3.14, by experiment): a line or header beyond 8190 bytes, or more than 128 headers, is a
400 in plain text, with a traceback in the log. A connection that says nothing, half a request, a body without end and
an answer that nobody reads are waited for, an hour or for ever; requests sent ahead of their turn are kept, 65 MB of
them a connection. So here: deadlines for the head and the body, a bound on both, and a watch on what stays unsent.

Rule: a client that began a request is told in OpenAI's form why it is dropped; one that said nothing is not. Nothing
here costs a connection that behaves more than a timer.

aiohttp offers settings for keeping alive and for lingering, and they are used. It has none for the rest: `_Connection`
therefore extends its protocol, and knows some private names (`_waiter`, `_messages`, `_request_count`, `_close`,
`_force_close`, `_buffer_paused` with its two methods); tests/path/test_slow_clients.py notices where that changes.

The first byte of a request that was sent behind another is not seen apart: its clock starts with the next bytes that
come, and where none do, the connection is one that idles.
"""

import asyncio
import resource
import socket
import uuid
from http import HTTPStatus
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from gateway import logs
from gateway.config import ServerConfig
from gateway.dialects.register import SURFACES
from gateway.errors import BadRequest, GatewayError, HeadTooLarge, TooLarge, TooSlow, Unavailable

KEEPALIVE_S = 620           # how long a connection may idle: load balancers keep theirs for 60 s, Google's for 600 s
LINGER_S = 2                # how long a refused client is listened to: closing while it sends would lose it the answer
HEAD_BYTES = 65_536         # of a request's line and headers, and of requests sent ahead of their turn
SLOWEST_SENDER = 16_384     # bytes a second with which an upload may outlast `body_ms`
SLOWEST_READER = 1_024      # bytes a second that a client must take where more is ready for it
UNSENT_BYTES = 65_536       # of an answer, ready and not on its way
TURNED_AWAY = 1_000         # connections beyond the limit that are told so at once; the others are just dropped
QUIET_S = 10                # at most so often is it logged that the limit is reached
CLOSE = {"Connection": "close"}


async def read_body(http: web.Request, limit: int, seconds: float) -> bytes:
    """Return the body. Raises TooLarge before it has read it all, TooSlow, and BadRequest for one that is broken.

    It must be here within `seconds`. A long one may take longer as long as each such span brings SLOWEST_SENDER bytes
    a second: an upload is not cut for being big, and a client that stalls is known within one span.
    """
    refused = TooLarge(
        f"The body is larger than {limit} bytes. Send less, or raise `server.max_body_bytes`.", headers=CLOSE
    )
    if (http.content_length or 0) > limit:
        raise refused
    body, counted, span = bytearray(), 0, asyncio.timeout(seconds)
    try:
        async with span:
            while piece := await http.content.readany():
                body += piece
                if len(body) > limit:
                    raise refused
                if len(body) - counted >= SLOWEST_SENDER * seconds:
                    counted = len(body)
                    span.reschedule(asyncio.get_running_loop().time() + seconds)
    except TimeoutError:
        if not span.expired():              # the network's own: the client is gone
            raise ConnectionResetError from None
        said = f"The body was not here after {seconds:g} s: {len(body)} bytes of it were. Send it faster."
        raise TooSlow(said, headers=CLOSE) from None
    except web.RequestPayloadError as error:
        http.content.feed_eof()             # else aiohttp reads on, and logs the same fault as an unhandled exception
        encoding = http.headers.get("Content-Encoding", "none")[:100]
        raise BadRequest(f"The body cannot be read (Content-Encoding: {encoding}): {error}") from None
    return bytes(body)


class Runner(web.AppRunner):
    """Serves an application within the limits. An AppRunner because gunicorn's worker takes no other."""

    def __init__(self, application: web.Application, limits: ServerConfig, **more: Any) -> None:
        super().__init__(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=1,
            keepalive_timeout=KEEPALIVE_S, lingering_time=LINGER_S, **more,
        )
        self._limits = limits

    def limit(self, limits: ServerConfig) -> None:
        """Have these limits hold from now on, for the connections that are open as well."""
        self._limits = limits
        if isinstance(self.server, _Server):
            _allow_files(limits.connections)
            self.server.limits = limits

    async def _make_server(self) -> web.Server:
        _allow_files(self._limits.connections)
        made = await super()._make_server()
        return _Server(made, self._limits, self._kwargs)


class _Server(web.Server):
    """Makes the connections of a process, and knows how many are open and which of them idle."""

    def __init__(self, made: web.Server, limits: ServerConfig, settings: dict[str, Any]) -> None:
        super().__init__(made.request_handler, request_factory=self._begin, **settings)
        self._make_begun = made.request_factory
        self.limits = limits
        self.open = 0
        self.idle: dict[_Connection, None] = {}         # those between two requests; the longest come first
        self.turned_away = 0                            # connections too many, which are being told so
        self._quiet_until = 0.0

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    def is_full(self) -> bool:
        """Say whether one more is too many. One that idles makes room: nobody can hold the process with those."""
        if self.open < self.limits.connections:
            return False
        if self.idle:
            longest = next(iter(self.idle))
            del self.idle[longest]
            longest.force_close()
            return False
        now = self._loop.time()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_S
            logs.say("connections full", "warning", limit=self.limits.connections)
        return True

    def _begin(self, message: Any, body: StreamReader, connection: Any, writer: Any, task: Any) -> web.BaseRequest:
        connection.serves(body)
        return self._make_begun(message, body, connection, writer, task)


class _Connection(web.RequestHandler):
    """One client's connection: aiohttp's, with deadlines for the head of a request and for what stays unsent."""

    __slots__ = ("_body", "_client", "_counted", "_head", "_server", "_spoke", "_timer", "_unsent", "_watch")

    def __init__(self, server: _Server, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._server = server
        self._client: asyncio.Transport | None = None       # `transport` is gone once it closes, with data unsent
        # the next request
        self._timer: asyncio.TimerHandle | None = None      # runs while its head is awaited
        self._spoke = False                                 # its first byte is here
        self._head = 0                                      # bytes of it
        # the request being served
        self._body: StreamReader | None = None
        self._counted = 0                                   # bytes that came after its body
        # its answer
        self._watch: asyncio.TimerHandle | None = None      # runs while the client does not take what is ready
        self._unsent: int | None = None                     # as the watch last found it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or turn away a client too many."""
        client = self._client = cast("asyncio.Transport", transport)        # uvloop's is none by inheritance
        if self._server.is_full():
            turned_away = _TurnedAway(self._server)
            client.set_protocol(turned_away)
            turned_away.connection_made(client)
            return
        self._server.open += 1
        # The system keeps little more than what is under way; all else pauses the writing, and is watched
        client.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        client.set_write_buffer_limits(high=0)
        super().connection_made(transport)
        self._server.idle[self] = None
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it out."""
        self._server.open -= 1
        self._server.idle.pop(self, None)
        for timer in (self._timer, self._watch):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and count what is no body."""
        if self._close or self._force_close:
            return
        self._server.idle.pop(self, None)
        idles, before = self._idles(), self._request_count
        super().data_received(data)
        if not idles:
            self._count_ahead(len(data))
        elif self._request_count > before:
            self._head_is_here()
        elif data.strip(b"\r\n"):                           # empty lines between requests mean nothing
            self._spoke = True
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self._refuse(HeadTooLarge(f"The request's line and headers are larger than {HEAD_BYTES} bytes."))
            elif self._timer is None:
                self._await_head()

    def serves(self, body: StreamReader) -> None:
        """Take note of the request that is being served, by its body."""
        self._body = body

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer. From then on the connection idles, or what the client still sends is listened to."""
        finished = await super().finish_response(request, resp, start_time)
        if self._client is not None and not self._client.is_closing():
            if resp.headers.get("Connection") == "close" and not request.content.is_eof():
                self._client.write_eof()            # the client sees the end, though it is closed only after LINGER_S
            if not self._messages:
                self._server.idle[self] = None
        return finished

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what cannot be read as HTTP. It is the client's fault: not logged, for it may quote a key."""
        if status == 500 or not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        self.close()                                        # what still comes is read and dropped
        if self._buffer_paused:
            self._resume_reading_for_buffer()
        if isinstance(exc, LineTooLong) or "Too many headers" in exc.message:
            most = f"{self.max_field_size} bytes each, and {self.max_headers} headers"
            return _Last(HeadTooLarge(f"The request's line or headers are too large. They may have {most}."))
        fault = exc.message.partition("\n")[0].strip(":. ")
        return _Last(BadRequest(f"The request cannot be read as HTTP: {fault}."))

    def pause_writing(self) -> None:
        """Watch whether the client takes what could not be sent at once."""
        super().pause_writing()
        self._unsent = None
        self._watch = self._loop.call_later(self._watch_s, self._look_at_unsent)

    def resume_writing(self) -> None:
        """The client has taken everything."""
        super().resume_writing()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    @property
    def _watch_s(self) -> float:
        return self._server.limits.body_ms / 2000

    def _look_at_unsent(self) -> None:
        """Drop a client that takes too little between two looks.

        The first only takes note: until a writer is held back, it adds to what is unsent while the client takes of it.
        """
        assert self._client is not None  # noqa: S101 - for the type checker
        left = self._client.get_write_buffer_size()
        if self._unsent is not None and left > self._unsent - SLOWEST_READER * self._watch_s:
            self._client.abort()
            return
        self._unsent = left
        self._watch = self._loop.call_later(self._watch_s, self._look_at_unsent)

    def _idles(self) -> bool:
        """Say whether the next bytes begin a request, or go on with its head."""
        return not self._messages and (self._waiter is not None or self._request_count == 0)

    def _await_head(self) -> None:
        self._timer = self._loop.call_later(self._server.limits.header_ms / 1000, self._head_is_late)

    def _head_is_here(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._spoke, self._head, self._counted = None, False, 0, 0

    def _head_is_late(self) -> None:
        if not self._spoke:
            self.force_close()
            return
        seconds = self._server.limits.header_ms / 1000
        self._refuse(TooSlow(f"The request's line and headers were not here after {seconds:g} s."))

    def _count_ahead(self, size: int) -> None:
        """Read no further where much was sent ahead of its turn; aiohttp reads on when it takes the next request."""
        if self._body is None or not self._body.is_eof():
            return
        self._counted += size
        if self._counted > HEAD_BYTES and self._messages and not self._buffer_paused:
            self._counted = 0
            self._pause_reading_for_buffer()

    def _refuse(self, error: GatewayError) -> None:
        """Tell the client why, then listen no longer than it takes to hear that."""
        client = self._client
        assert client is not None  # noqa: S101 - for the type checker
        self.close()
        if self._timer is not None:
            self._timer.cancel()
        client.write(_answer(error))
        client.write_eof()
        self._timer = self._loop.call_later(LINGER_S, client.abort)


class _TurnedAway(asyncio.Protocol):
    """A connection too many. It costs no parser and no task: what it asks for is not read, only answered."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._told = False
        self._client: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the client's first word: some take an answer that comes before it for a fault."""
        self._client = cast("asyncio.Transport", transport)
        self._server.turned_away += 1
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, self._client.abort)
        if self._server.turned_away > TURNED_AWAY:
            self._client.abort()

    def data_received(self, _: bytes) -> None:
        """Say that there is no room."""
        if not self._told:
            self._told = True
            said = "The gateway holds as many connections as it may. Try again shortly."
            self._client.write(_answer(Unavailable(said, headers={"Retry-After": "1"})))
            self._client.write_eof()

    def connection_lost(self, _: BaseException | None) -> None:
        """Count it out."""
        self._timer.cancel()
        self._server.turned_away -= 1


class _Last(web.Response):
    """The last answer of a connection: its client may still be sending, and is listened to for a moment."""

    def __init__(self, error: GatewayError) -> None:
        body, headers = _worded(error)
        super().__init__(status=error.status, body=body, headers=headers)
        self.force_close()

    async def write_eof(self, data: bytes = b"") -> None:
        """Send it, and wait until the client has closed; that cancels this."""
        client = None if self._req is None else self._req.transport
        await super().write_eof(data)
        if client is not None:
            client.write_eof()
            await asyncio.sleep(LINGER_S)


def _worded(error: GatewayError) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers that tell a client of an error outside of any request."""
    request_id = uuid.uuid4().hex
    body = SURFACES["openai"].error_body(error, request_id, [])
    return body, {
        "Content-Type": "application/json", "Server": "thriftgate", "x-request-id": request_id,
        "x-thriftgate-request-id": request_id, **CLOSE, **error.headers,
    }


def _answer(error: GatewayError) -> bytes:
    """Return the same as it stands on the wire."""
    body, headers = _worded(error)
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode() + body


def _allow_files(connections: int) -> None:
    """Let the process open as many files as that takes: each connection may need one more, to an upstream."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + 1_000
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if most == unlimited else min(wanted, most), most))
    if most != unlimited and most < connections:
        logs.say("few files", "warning", connections=connections, files=most)
