"""The pools: one aiohttp session per upstream, slots as a counter, one attempt per lease.

aiohttp's connector holds the sockets; this room holds slots and deadlines, and translates every foreign exception, so
that nothing above knows what a ClientError is. Slots are given back synchronously: no cancellation can lose one.
"""

import os
import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from gateway.config import ModelConfig, UpstreamConfig
from gateway.dialects.door import Upstream
from gateway.dialects.register import UPSTREAMS
from gateway.errors import GatewayError, Refused, StreamBroken, TimedOut, Unavailable, Unreachable
from gateway.upstream.deadline import Deadline

# The caller's own faults are passed on as the upstream worded them. All other errors may be cured by another target: an
# unpaid account (402) or an unknown path (404, 405) is the operator's fault.
ERROR_BYTES = 65_536        # of an error's body, at most
CALLERS_FAULT = frozenset({400, 409, 413, 414, 415, 422, 431})


class Pool:
    """The connections and slots of one upstream. `in_flight`, and what it does not know, are its mutable state."""

    def __init__(self, name: str, config: UpstreamConfig) -> None:
        self.name = name
        self.slots = config.slots
        self.in_flight = 0
        self.base_url = config.base_url
        self.dialect = config.dialect
        self.stream_usage = config.stream_usage      # until it refuses a request for that
        self.speaks: Upstream = UPSTREAMS[config.dialect]
        headers = {
            "Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "thriftgate",
            **self.speaks.headers(None if config.key is None else config.key.reveal()),
        }
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),      # slots bound the connections, and say so when they are full
            cookie_jar=aiohttp.DummyCookieJar(),          # a provider's cookie must not travel between callers
            auto_decompress=False,                        # bytes pass as they came
            headers=headers,
        )

    def __repr__(self) -> str:
        return f"<Pool {self.name} {self.in_flight}/{self.slots} in flight>"

    def lease(self) -> "Lease":
        """Take a slot, or raise Unavailable at once: nobody queues while another target may be free."""
        if self.in_flight >= self.slots:
            fault = f"All {self.slots} slots of upstream {self.name!r} are taken. Try again shortly."
            raise Unavailable(fault, headers={"Retry-After": "1"})
        return Lease(self)

    async def close(self) -> None:
        """Close every connection."""
        await self.session.close()


class Model:
    """A configured model bound to its upstream's pool."""

    def __init__(self, name: str, config: ModelConfig, pool: Pool) -> None:
        self.name = name
        self.upstream_name = config.name
        self.price = config.price
        self.context = config.context
        self.tools = config.tools
        self.images = config.images
        self.structured = config.structured
        self.deadlines = config.deadlines
        self.pool = pool
        self.urls = {
            stream: URL(pool.speaks.url(pool.base_url, config.name, stream=stream)) for stream in (False, True)
        }
        self.plain_urls = {
            kind: URL(f"{pool.base_url.rstrip('/')}/{kind}") for kind in ("embeddings", "completions")
        } | {"count_tokens": self.urls[False] / "count_tokens"}
        self.timeout = aiohttp.ClientTimeout(total=None, connect=config.deadlines.connect_ms / 1000)

    def __repr__(self) -> str:
        return f"<Model {self.name} at {self.pool!r}>"


class Answer:
    """An upstream's response whose first output is here: the whole body, or the beginning of a stream."""

    __slots__ = ("_deadline", "_idle_s", "_response", "first", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, first: bytes, deadline: Deadline, idle_s: float) -> None:
        self.status = response.status
        self.headers: CIMultiDictProxy[str] = response.headers
        self.first = first
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

    async def next(self) -> bytes:
        """Return what arrived since the last call, empty at the end. Raises StreamBroken or TimedOut."""
        try:
            with self._deadline.wait("idle", self._idle_s):
                return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise StreamBroken(f"The upstream's answer broke off ({type(error).__name__}).") from error


class Lease:
    """One slot and one call. Leaving it gives both back, synchronously."""

    __slots__ = ("_deadline", "_pool", "_response")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._response: aiohttp.ClientResponse | None = None
        self._deadline: Deadline | None = None

    def __enter__(self) -> Self:
        self._pool.in_flight += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.in_flight -= 1
        if self._response is not None:
            self._response.close()          # one that was read to its end has given its connection back already
        if self._deadline is not None:
            self._deadline.close()

    async def send(
        self, model: Model, body: bytes, *, stream: bool, kind: str = "chat", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make the one attempt. Returns when the first output is here: of a stream its first bytes, else all of it.

        A whole answer arrives only when the model has finished, so just the total bounds it. Raises a GatewayError that
        says whether another target may be tried.
        """
        limits = model.deadlines
        deadline = self._deadline = Deadline(limits.total_ms / 1000)
        try:
            with deadline.wait("first_output", (limits.first_output_ms if stream else limits.total_ms) / 1000):
                url = model.urls[stream] if kind == "chat" else model.plain_urls[kind]
                response = self._response = await self._pool.session.post(
                    url, data=body, headers=headers, timeout=model.timeout, allow_redirects=False
                )
                return await self._first(response, deadline, model.deadlines.idle_ms / 1000, stream=stream)
        except aiohttp.ServerTimeoutError as error:
            raise TimedOut(f"Upstream {self._pool.name!r} could not be connected to in time.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"Upstream {self._pool.name!r} failed: {_cause(error)}.") from error

    async def _first(
        self, response: aiohttp.ClientResponse, deadline: Deadline, idle_s: float, *, stream: bool
    ) -> Answer:
        if response.status >= 300 and response.status not in CALLERS_FAULT:
            raise await _refusal(response, self._pool)
        stream = stream and response.status < 300      # a caller's fault comes as one JSON object
        first = await (response.content.readany() if stream else response.read())
        if response.status < 300 and not stream and (said := self._pool.speaks.error_of_body(first)) is not None:
            raise Refused(f"Upstream {self._pool.name!r} answered with an error", 502, said)
        if stream and not first:
            raise Unreachable(f"Upstream {self._pool.name!r} ended its answer before it began.")
        if stream and (said := self._pool.speaks.error_of_first(first)) is not None:
            raise Refused(f"Upstream {self._pool.name!r} began its answer with an error", 502, said)
        return Answer(response, first, deadline, idle_s)


async def _refusal(response: aiohttp.ClientResponse, pool: Pool) -> GatewayError:
    """Return the error for an answer that another target may not give; keeps Retry-After."""
    status, upstream = response.status, pool.name
    kept = {"Retry-After": response.headers["Retry-After"]} if "Retry-After" in response.headers else None
    if status in (401, 403):   # its text may quote our key
        fault = f"Upstream {upstream!r} refused the gateway's own key ({status}). Check it in the configuration."
        return Refused(fault, status)
    body = b""
    while len(body) < ERROR_BYTES and (more := await response.content.readany()):
        body += more
    said = pool.speaks.error_of_body(body)
    return Refused(f"Upstream {upstream!r} answered {status}{'' if said else '.'}", status, said, headers=kept)


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


def build(models: Mapping[str, ModelConfig], upstreams: Mapping[str, UpstreamConfig]) -> dict[str, Model]:
    """Open one pool per upstream in use and return the models bound to them. Needs a running loop."""
    used = {config.upstream for config in models.values()}
    pools = {name: Pool(name, upstreams[name]) for name in sorted(used)}
    return {name: Model(name, config, pools[config.upstream]) for name, config in models.items()}
