"""The plainest correct aiohttp relay: the yardstick of the bench.

It does what no gateway can do without: reads the request, calls one upstream on a kept connection, writes what it gets
chunk by chunk, and cancels the upstream call when the client leaves. No routing, no receipt, no check, no metric. Same
loop (uvloop) and same library as Thriftgate, so that the ratio between them is what the gateway itself costs.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict

# Hop-by-hop headers (RFC 9110, 7.6.1) and those that the next hop writes itself.
_OWN = frozenset(
    {"host", "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "date", "server"}
)


class BareRelay:
    """Everything under / goes to the same path of the upstream."""

    def __init__(self, upstream: str) -> None:
        self.origin = upstream.removesuffix("/v1")
        self.session: aiohttp.ClientSession | None = None

    def app(self) -> web.Application:
        """The application; serve it with handler_cancellation=True."""
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/readyz", self._ready)
        app.router.add_route("*", "/{path:.*}", self._relay)
        app.cleanup_ctx.append(self._session)
        return app

    async def _session(self, _: web.Application) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self.session:
            yield

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(text="ready\n")

    async def _relay(self, request: web.Request) -> web.StreamResponse:
        assert self.session is not None  # noqa: S101  made before the first request
        url, body = self.origin + request.raw_path, await request.read()
        async with self.session.request(request.method, url, data=body, headers=_forwarded(request.headers)) as answer:
            response = web.StreamResponse(status=answer.status, headers=_forwarded(answer.headers))
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


def _forwarded(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _OWN)


async def serve(upstream: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    runner = web.AppRunner(BareRelay(upstream).app(), handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    print(f"bare relay on http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await stop.wait()
    await runner.cleanup()


def main(argv: list[str]) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bare_relay", description="The bench's yardstick.")
    parser.add_argument("--upstream", required=True, help="base URL of the provider, ending in /v1")
    parser.add_argument("--port", type=int, default=9901, help="0 = any free one; the ready line names it")
    options = parser.parse_args(argv)
    uvloop.run(serve(options.upstream, options.port))


if __name__ == "__main__":
    main(sys.argv[1:])
