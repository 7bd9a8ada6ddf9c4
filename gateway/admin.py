"""The admin API: make, list, change, replace and withdraw the keys of the store, with a key of its own.

Without `admin.key` in the configuration its paths are not there, like any other. What is done holds for this process
before it is answered, for the others within a second.
"""

import hmac
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import orjson
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import auth, keys, logs, serving
from gateway.bookkeeper import Bookkeeper
from gateway.config import Config, GrantConfig
from gateway.errors import BadRequest, Conflict, GatewayError, NotFound, Unauthenticated, Unavailable
from gateway.faults import ConfigError, Fault
from gateway.handler import Serve, clock, error_response
from gateway.keys import KeyFault, NameTaken, NoSuchKey
from gateway.receipt import Receipt
from gateway.store import keys as store
from gateway.store.opening import StoreError
from gateway.storedkeys import StoredKeys

T = TypeVar("T")

MOST_BYTES = 65_536         # of a body
WAIT_S = 5.0                # for the store
PATH = "/admin/keys"


class Admin:
    """The admin API of one configuration. `absent` answers where it is not there."""

    def __init__(self, config: Config, bookkeeper: Bookkeeper, stored: StoredKeys, absent: Serve) -> None:
        self._config = config
        self._bookkeeper = bookkeeper
        self._stored = stored
        self._absent = absent
        key = config.admin.key
        self._digest = None if key is None else keys.digest(stored.secret, key.reveal())

    def routes(self) -> list[web.RouteDef]:
        """Return what is served where. Always the same: whether it is there is the configuration's business."""
        one = f"{PATH}/{{name}}"
        return [
            web.post(PATH, self._guarded(self.create)),
            web.get(PATH, self._guarded(self.list)),
            web.get(one, self._guarded(self.show)),
            web.patch(one, self._guarded(self.change)),
            web.delete(one, self._guarded(self.revoke)),
            web.post(f"{one}/rotate", self._guarded(self.rotate)),
        ]

    async def create(self, http: web.Request) -> web.Response:
        """Make a key: 201 with its text, this once."""
        body = await self._body(http)
        name = body.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError([Fault("name", "is missing, or no text", "give the key a name")])
        now_ms = _now_ms()
        keys.check_name(name, self._config)
        grant = keys.read_grant(body)
        keys.check_grant(grant, self._config)
        text, kept = self._cut()
        key = keys.new(name, grant, kept, now_ms)
        await self._do(lambda engine: store.create(engine, key, kept.check))
        return _json({"key": text, **keys.shown(key, now_ms)}, 201)

    async def list(self, _: web.Request) -> web.Response:
        """List every key of the store."""
        found, now_ms = await self._ask(store.listed), _now_ms()
        return _json({"object": "list", "data": [keys.shown(key, now_ms) for key in found]})

    async def show(self, http: web.Request) -> web.Response:
        """Show one."""
        name = http.match_info["name"]
        return _json(keys.shown(await self._ask(lambda engine: store.one(engine, name)), _now_ms()))

    async def change(self, http: web.Request) -> web.Response:
        """Merge what is sent into what a key is for (RFC 7396: a null takes a field out)."""
        name, body = http.match_info["name"], await self._body(http)

        def to(grant: GrantConfig) -> GrantConfig:
            """Return the grant with the change in it."""
            changed = keys.read_grant(keys.merged(msgspec.to_builtins(grant), body))
            keys.check_grant(changed, self._config)
            return changed

        return _json(keys.shown(await self._do(lambda engine: store.change(engine, name, to)), _now_ms()))

    async def revoke(self, http: web.Request) -> web.Response:
        """Have a key be good no more."""
        name, now_ms = http.match_info["name"], _now_ms()
        return _json(keys.shown(await self._do(lambda engine: store.revoke(engine, name, now_ms)), now_ms))

    async def rotate(self, http: web.Request) -> web.Response:
        """Put another text in a key's place: it is in the answer, this once. `grace`: how long the old one is good."""
        name, body, now_ms = http.match_info["name"], await self._body(http), _now_ms()
        try:
            grace_ms = 1000 * keys.seconds(str(body.pop("grace", "0s")))
        except ValueError as error:
            raise ConfigError([Fault("grace", str(error), "such as 24h")]) from None
        if body:
            raise ConfigError([Fault(next(iter(body)), "is not a setting", "known here: grace")])
        text, kept = self._cut()
        key = await self._do(lambda engine: store.rotate(engine, name, kept, grace_ms, now_ms))
        return _json({"key": text, **keys.shown(key, now_ms)})

    def _guarded(self, serve: Callable[[web.Request], Awaitable[web.Response]]) -> Serve:
        async def guarded(http: web.Request) -> web.StreamResponse:
            """Serve whoever has the admin's key, and put what cannot be done in OpenAI's form."""
            if self._digest is None:
                return await self._absent(http)
            receipt = Receipt(uuid.uuid4().hex, clock())
            try:
                self._authenticate(http)
                if not self._config.ledger.on:
                    raise BadRequest("No keys are stored: `ledger.url` is none. Leave it out, or give a store's.")
                return await serve(http)
            except GatewayError as error:
                return error_response(error, receipt)
            except (ConfigError, KeyFault) as error:
                return error_response(_translated(error), receipt)

        return guarded

    def _authenticate(self, http: web.Request) -> None:
        text = auth.key_in(http.headers)
        if text is None:
            raise Unauthenticated("No key was sent. Send `Authorization: Bearer ADMIN_KEY`.")
        assert self._digest is not None  # noqa: S101 - for the type checker; without one nobody comes here
        if not hmac.compare_digest(keys.digest(self._stored.secret, text), self._digest):
            raise Unauthenticated("This is not the admin's key, which `admin.key` of the configuration has.")

    async def _body(self, http: web.Request) -> dict[str, Any]:
        raw = await serving.read_body(http, MOST_BYTES, self._config.server.body_ms / 1000)
        try:
            body = msgspec.json.decode(raw or b"{}")
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadRequest(f"The body is not JSON: {error}") from None
        if not isinstance(body, dict):
            raise BadRequest("The body must be a JSON object.")
        return body

    def _cut(self) -> tuple[str, keys.Kept]:
        text = keys.text_of(secrets.token_bytes(keys.RANDOM_BYTES))
        return text, keys.kept(self._stored.ours(), text)

    async def _do(self, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
        """Return what a change gives, when it holds here."""
        async def done(engine: AsyncEngine) -> T:
            result = await work(engine)
            await self._stored.watch(engine)
            return result

        return await self._ask(done, " Look whether it was done all the same before you do it again.")

    async def _ask(self, work: Callable[[AsyncEngine], Awaitable[T]], more: str = "") -> T:
        try:
            return await self._bookkeeper.ask(work, WAIT_S)
        except StoreError as error:
            logs.say("store", "warning", doing="admin", error=str(error))
            said = f"The store does not answer: try again.{more}"
            raise Unavailable(said, headers={"Retry-After": "1"}) from None


def _translated(error: ConfigError | KeyFault) -> GatewayError:
    if isinstance(error, ConfigError):
        first = error.faults[0]
        said = "; ".join(f"{fault.path}: {fault.problem} ({fault.hint})" for fault in error.faults)
        return BadRequest(said, param=first.path)
    said = f"{str(error).capitalize()}: {error.hint}."
    if isinstance(error, NoSuchKey):
        missing = NotFound(said, param="name")
        missing.code = "key_not_found"
        return missing
    return Conflict(said, param="name" if isinstance(error, NameTaken) else None)


def _json(value: dict[str, Any], status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}         # of all places, a proxy's cache is none for a key
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json", headers=headers)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
