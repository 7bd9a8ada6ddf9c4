"""The pools: one aiohttp session per endpoint, slots as a counter, one attempt per lease.

aiohttp's connector holds the sockets; this room holds slots and deadlines, and translates every foreign exception, so
that nothing above knows what a ClientError is. Slots are given back synchronously: no cancellation can lose one.
A stream has begun when it says something: a role, a ping or a count is no output, and until there is some another
target may still answer.
"""

import functools
import io
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from gateway import logs
from gateway.config import EndpointConfig, UpstreamConfig
from gateway.dialects.door import Ending, Upstream
from gateway.dialects.neutral import Began, Event, Failed, Said, Used
from gateway.dialects.neutral import Refused as Declined
from gateway.dialects.register import UPSTREAMS
from gateway.errors import GatewayError, Refused, StreamBroken, TimedOut, Unreachable
from gateway.sse import DONE, Parser, looks_whole
from gateway.sse import Event as Frame
from gateway.upstream.deadline import Deadline
from gateway.upstream.health import RetryBudget
from gateway.upstream.refusal import retry_after_s
from gateway.upstream.slots import Slots
from gateway.wire.request import is_object

# The caller's own faults are passed on as the upstream worded them. All other errors may be cured by another target: an
# unpaid account (402) or an unknown path (404, 405) is the operator's fault.
ERROR_BYTES = 65_536        # of an error's body, at most
CALLERS_FAULT = frozenset({400, 409, 413, 414, 415, 422, 431})
LARGE_BYTES = 1_048_576     # of a request's body
READ_AHEAD_BYTES = 65_536   # of an answer that its client is slow to take
SILENT_BYTES = 1_048_576    # of a stream that has said nothing yet; more than that is no mere beginning
BEGINNINGS = (b"data", b"event", b"id", b"retry", b":", b"\n", b"\r", b"\xef\xbb\xbf")     # of a stream of events


class Limits(NamedTuple):
    """How long a call may take, in seconds, each phase apart."""

    connect_s: float
    first_output_s: float
    idle_s: float
    total_s: float


class Call(NamedTuple):
    """One call: what is sent where, and how long it may take."""

    url: URL
    body: bytes
    limits: Limits
    stream: bool = False
    kind: str = "chat"
    headers: Mapping[str, str] | None = None
    worded: bool = False        # its answer is put into other words, so it must be readable


class Endpoint:
    """An address and a key of an upstream. `in_flight` is its only mutable state."""

    def __init__(self, name: str, speaks: Upstream, own: UpstreamConfig, config: EndpointConfig) -> None:
        self.name = name
        self.base_url = config.base_url or own.base_url
        self.weight = config.weight
        self.in_flight = 0
        key = config.key or own.key
        headers = {
            "Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "thriftgate",
            **speaks.headers(None if key is None else key.reveal()),
        }
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),      # slots bound the connections, and say so when they are full
            cookie_jar=aiohttp.DummyCookieJar(),          # a provider's cookie must not travel between callers
            auto_decompress=False,                        # bytes pass as they came
            read_bufsize=READ_AHEAD_BYTES,
            headers=headers,
        )

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.in_flight} in flight>"

    @property
    def load(self) -> float:
        """Calls in flight for its weight."""
        return self.in_flight / self.weight


class Pool:
    """The endpoints and slots of one upstream."""

    def __init__(self, name: str, config: UpstreamConfig) -> None:
        self.name = name
        self.dialect = config.dialect
        self.speaks: Upstream = UPSTREAMS[config.dialect]
        self.stream_usage = config.stream_usage      # until it refuses a request for that
        self.health = config.health
        self.slots = Slots(f"upstream {name!r}", config.slots, config.queue)
        self.budget = RetryBudget(config.retries)
        own = EndpointConfig(weight=config.weight)
        self.endpoints = [
            Endpoint(f"{name}-{number}" if config.endpoints else name, self.speaks, config, each)
            for number, each in enumerate((own, *config.endpoints), 1)
        ]

    def __repr__(self) -> str:
        return f"<Pool {self.name} {self.slots.in_flight}/{self.slots.limit} in flight>"

    def lease(self, endpoint: Endpoint | None = None, *, taken: bool = False) -> "Lease":
        """Take a slot, or raise Unavailable at once; `taken`: one that was waited for and is ours."""
        if not taken:
            self.slots.take()
        return Lease(self, endpoint or self.endpoints[0])

    def leave_uncounted(self) -> None:
        """Ask its streams no more what they used: an older server, whose streams have an unknown cost."""
        self.stream_usage = False
        logs.say("no stream usage", "warning", upstream=self.name)

    async def close(self) -> None:
        """Close every connection."""
        for endpoint in self.endpoints:
            await endpoint.session.close()


class First(NamedTuple):
    """What is here of an answer; of one that is whole also its end, and what it says where that is to be reworded."""

    body: bytes
    ending: Ending = Ending()
    said: Sequence[Event] = ()


class Answer:
    """An upstream's response whose first output is here: the whole body, or the beginning of a stream."""

    __slots__ = ("_deadline", "_idle_s", "_response", "ending", "first", "headers", "said", "status")

    def __init__(self, response: aiohttp.ClientResponse, first: "First", deadline: Deadline, idle_s: float) -> None:
        self.status = response.status
        self.headers: CIMultiDictProxy[str] = response.headers
        self.first, self.ending, self.said = first
        self._response = response
        self._deadline = deadline
        self._idle_s = idle_s

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.headers.get('Content-Type', 'untyped')}>"

    async def finish(self, linger_s: float) -> None:
        """Wait a moment for the end of an answer that is complete: a connection read to its end is used again."""
        try:
            with self._deadline.wait("end", linger_s):
                await self._response.content.readany()
        except (aiohttp.ClientError, OSError, TimedOut):
            return          # it is closed, then; nothing of the answer is missing

    def bound(self, give_up: Callable[[], object]) -> None:
        """Have `give_up` called where the total deadline passes while the client is waited for."""
        self._deadline.otherwise = give_up

    def adopt(self) -> None:
        """Let the current task wait for the rest; another one made the call."""
        self._deadline.adopt()

    async def next(self) -> bytes:
        """Return what arrived since the last call, empty at the end. Raises StreamBroken or TimedOut."""
        try:
            with self._deadline.wait("idle", self._idle_s):
                return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise StreamBroken(f"The upstream's answer broke off ({type(error).__name__}).") from error


class Lease:
    """One slot and one call. Leaving it gives both back, synchronously; it may be left more than once."""

    __slots__ = ("_deadline", "_endpoint", "_held", "_pool", "_response")

    def __init__(self, pool: Pool, endpoint: Endpoint) -> None:
        self._pool = pool
        self._endpoint = endpoint
        self._held = True
        self._response: aiohttp.ClientResponse | None = None
        self._deadline: Deadline | None = None
        endpoint.in_flight += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the slot back and end the call."""
        if not self._held:
            return
        self._held = False
        self._endpoint.in_flight -= 1
        self._pool.slots.give()
        if self._response is not None:
            self._response.close()          # one that was read to its end has given its connection back already
        if self._deadline is not None:
            self._deadline.close()

    async def send(self, call: Call) -> Answer:
        """Make the one attempt. Returns when the first output is here: of a stream what it says first, else all of it.

        A whole answer arrives only when the model has finished, so just the total bounds it. Raises a GatewayError that
        says whether another target may be tried.
        """
        limits, name = call.limits, self._endpoint.name
        deadline = self._deadline = Deadline(limits.total_s)
        phase = ("first_output", limits.first_output_s) if call.stream else ("total", limits.total_s)
        try:
            with deadline.wait(*phase):
                response = self._response = await self._endpoint.session.post(
                    call.url, data=_payload(call.body), headers=call.headers, timeout=_connecting(limits.connect_s),
                    allow_redirects=False,
                )
                first = await self._first(response, call)
        except aiohttp.ServerTimeoutError as error:
            raise TimedOut(f"Upstream {name!r} could not be connected to in time.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"Upstream {name!r} failed: {_cause(error)}.") from error
        return Answer(response, first, deadline, limits.idle_s)

    async def _first(self, response: aiohttp.ClientResponse, call: Call) -> First:
        if response.status >= 300 and response.status not in CALLERS_FAULT:
            raise await _refusal(response, self._endpoint.name, self._pool.speaks)
        if call.stream and response.status < 300:
            return First(await self._beginning(response, call))
        body = await response.read()
        return First(body) if response.status >= 300 else self._whole(response, call, body)     # the caller's fault

    def _whole(self, response: aiohttp.ClientResponse, call: Call, body: bytes) -> First:
        """Return an answer that is one of this dialect's, as far as it is looked at."""
        name, speaks = self._endpoint.name, self._pool.speaks
        if (error := speaks.error_of_body(body)) is not None:
            raise Refused(f"Upstream {name!r} answered with an error", 502, error)
        ending = speaks.ending_of_body(body)
        read = ending.finish is not None or ending.usage is not None
        if not read and is_plain(response.headers) and not is_object(body):
            raise Refused(f"Upstream {name!r} answered with what is no JSON object", 502)
        if not call.worded:
            return First(body, ending)
        try:
            return First(body, ending, speaks.read_whole(body))
        except ValueError as fault:
            raise Refused(f"Upstream {name!r} answered with what cannot be read", 502, str(fault)[:200]) from fault

    async def _beginning(self, response: aiohttp.ClientResponse, call: Call) -> bytes:
        """Read a stream until it says something."""
        name, speaks = self._endpoint.name, self._pool.speaks
        beginning = Beginning(speaks, call.kind) if is_plain(response.headers) else None
        chunks: list[bytes] = []
        while chunk := await response.content.readany():
            if not chunks and beginning is not None and not _may_be_events(response, chunk):
                said = speaks.error_of_body(await _bounded(response, chunk))
                kind = response.headers.get("Content-Type", "nothing")[:100]
                raise Refused(f"Upstream {name!r} was asked for a stream of events and sent {kind}", 502, said)
            chunks.append(chunk)
            if beginning is None or beginning.feed(chunk):
                break
        else:
            if (said := speaks.error_of_body(b"".join(chunks))) is not None:
                raise Refused(f"Upstream {name!r} answered with an error", 502, said)
            if beginning is None or not beginning.close():
                raise Unreachable(f"Upstream {name!r} ended its answer before it said anything.")
        if beginning is not None and beginning.failed is not None:
            raise Refused(f"Upstream {name!r} began its answer with an error", 502, beginning.failed)
        return b"".join(chunks)


class Beginning:
    """Reads a stream until it says something. Nothing of it is kept."""

    __slots__ = ("_chat", "_parser", "_read_bytes", "_reader", "failed")

    def __init__(self, speaks: Upstream, kind: str) -> None:
        self._parser = Parser()
        self._reader = speaks.reader()
        self._chat = kind == "chat"
        self._read_bytes = 0
        self.failed: str | None = None

    def __repr__(self) -> str:
        return f"<Beginning {self._read_bytes} bytes{', failed' if self.failed else ''}>"

    def feed(self, chunk: bytes) -> bool:
        """Say whether the stream has begun, be it with an error (then `failed` has its words)."""
        self._read_bytes += len(chunk)
        return any(map(self._says, self._parser.feed(chunk))) or self._read_bytes > SILENT_BYTES

    def close(self) -> bool:
        """Say whether it has begun with what its end leaves half said."""
        return any(map(self._says, self._parser.close()))

    def _says(self, frame: Frame) -> bool:
        events = self._reader.feed(frame)
        self.failed = next((event.message for event in events if isinstance(event, Failed)), None)
        if not events and frame.data and frame.data != DONE and not looks_whole(frame):
            self.failed = "an event that is no JSON object"
        return self.failed is not None or not self._chat or any(map(_says_something, events))


def _says_something(event: Event) -> bool:
    return bool(event.text) if isinstance(event, Said | Declined) else not isinstance(event, Began | Used)


@functools.cache        # as many as there are deadlines in the configuration
def _connecting(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=seconds)


def _payload(body: bytes) -> bytes | io.BytesIO:
    """Return a body as aiohttp wants it: a large one in pieces, so that its copying holds nobody up."""
    return body if len(body) < LARGE_BYTES else io.BytesIO(body)


def _may_be_events(response: aiohttp.ClientResponse, chunk: bytes) -> bool:
    """Say whether it is a stream of events by its type, or looks like one that has another type."""
    if response.headers.get("Content-Type", "").startswith("text/event-stream"):
        return True
    return any(chunk.startswith(beginning) or beginning.startswith(chunk) for beginning in BEGINNINGS)


def is_plain(headers: Mapping[str, str]) -> bool:
    """Say whether a body's bytes are what they say, and not packed."""
    return headers.get("Content-Encoding", "identity") == "identity"


async def _refusal(response: aiohttp.ClientResponse, name: str, speaks: Upstream) -> GatewayError:
    """Return the error for an answer that another target may not give; keeps Retry-After."""
    status = response.status
    if status in (401, 403):   # its text may quote our key
        fault = f"Upstream {name!r} refused the gateway's own key ({status}). Check it in the configuration."
        return Refused(fault, status)
    body = await _bounded(response)
    said, again_s = speaks.error_of_body(body), retry_after_s(response.headers, body, datetime.now(UTC))
    kept = None if again_s is None else {"Retry-After": f"{max(1, round(again_s))}"}
    fault = f"Upstream {name!r} answered {status}{'' if said else '.'}"
    return Refused(fault, status, said, headers=kept, retry_after_s=again_s)


async def _bounded(response: aiohttp.ClientResponse, body: bytes = b"") -> bytes:
    """Return a body from what has been read of it on, as far as an error's goes."""
    while len(body) < ERROR_BYTES and (more := await response.content.readany()):
        body += more
    return body


def _cause(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted ({error.certificate_error})"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "no TLS connection"
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, socket.gaierror):
            return f"the name {error.host!r} cannot be resolved"
        number = error.os_error.errno
        return f"no connection ({os.strerror(number) if number else error.os_error})"
    return type(error).__name__
