"""A provider that does what a test says, on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Handles = Callable[[web.Request], Awaitable[web.StreamResponse]]
SSE = "text/event-stream"


class Provider:
    """A server on a free port; what it does is set by the test."""

    def __init__(self) -> None:
        self.handle: Handles = self._nothing_set
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.peers: set[Any] = set()
        self.base_url = ""
        self.entered, self.left = asyncio.Event(), asyncio.Event()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        """End every connection."""
        await self._runner.cleanup()

    def says(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Answer everything with this."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def handle(_: web.Request) -> web.StreamResponse:
            """Answer."""
            return web.Response(status=status, body=body, headers=named)

        self.handle = handle

    def streams(self, *chunks: bytes, then: str = "end", kind: str = SSE) -> None:
        """Answer with these chunks, then end, break off or hang."""

        async def handle(request: web.Request) -> web.StreamResponse:
            """Stream."""
            response = web.StreamResponse(headers={"Content-Type": kind})
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)
            if then == "break":
                assert request.transport is not None
                request.transport.close()
            elif then == "hang":
                await hang()
            return response

        self.handle = handle

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((f"{request.method} {request.path}", dict(request.headers), await request.read()))
        self.entered.set()
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        try:
            return await self.handle(request)
        except asyncio.CancelledError:
            self.left.set()
            raise

    async def _nothing_set(self, _: web.Request) -> web.StreamResponse:
        raise web.HTTPNotImplemented


async def hang() -> None:
    """Wait for what never comes."""
    await asyncio.get_running_loop().create_future()


async def hanging(_: web.Request) -> web.StreamResponse:
    """Never answer."""
    await hang()
    raise AssertionError


@asynccontextmanager
async def running() -> AsyncIterator[Provider]:
    """Run one."""
    provider = Provider()
    await provider.start()
    yield provider
    await provider.stop()
