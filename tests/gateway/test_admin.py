"""The admin API, on a socket, with a store behind it."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway import bookkeeper, config, logs
from gateway.admin import MOST_BYTES, Admin
from gateway.bookkeeper import Bookkeeper
from gateway.config import Config
from gateway.errors import GatewayError, NotFound
from gateway.handler import error_response
from gateway.metrics import Metrics
from gateway.receipt import Receipt
from gateway.storedkeys import StoredKeys

ADMIN = "the admin's key, of some length"
BOUND_S = 15.0
CONFIG = """
upstreams: {{provider: {{base_url: "http://127.0.0.1:9/v1"}}}}
models: {{small: {{upstream: provider}}}}
routes: {{auto: {{ladder: [small]}}}}
keys: {{ops: {{secret: tg-ops}}}}
ledger: {{directory: "{directory}", url: {url}}}
admin: {{{admin}}}
"""
PATHS = [
    ("POST", "/admin/keys"), ("GET", "/admin/keys"), ("GET", "/admin/keys/web"), ("PATCH", "/admin/keys/web"),
    ("DELETE", "/admin/keys/web"), ("POST", "/admin/keys/web/rotate"),
]


async def absent(http: web.Request) -> web.StreamResponse:
    """Answer as the gateway does where nothing is."""
    return error_response(NotFound(f"There is no {http.path} here."), Receipt("0", 0.0))


class Served:
    """An admin API, and the keyring that it acts on."""

    def __init__(self, client: "TestClient[web.Request, web.Application]", stored: StoredKeys) -> None:
        self._client = client
        self.stored = stored
        self.keyring = stored.keyring({}, open_=True)
        self.texts: list[str] = []          # every key that was handed out

    async def __call__(
        self, method: str, path: str = "", body: Any = None, key: str | None = ADMIN
    ) -> tuple[int, Any, dict[str, str]]:
        """Ask for something below /admin/keys; return the status, the answer and its headers."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        data = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        async with self._client.request(method, f"/admin/keys{path}", data=data, headers=headers) as response:
            answer = orjson.loads(await response.read())
        if "key" in answer:
            self.texts.append(answer["key"])
        return response.status, answer, dict(response.headers)

    def enters(self, text: str, now_s: float = 0.0) -> str | None:
        """Say who enters with a key."""
        try:
            return self.keyring.authenticate({"Authorization": f"Bearer {text}"}, now_s).name
        except GatewayError:
            return None


def configuration(directory: Path, admin: str = f'key: "{ADMIN}"', url: str = "sqlite") -> Config:
    """A configuration with an admin's key."""
    return config.parse(CONFIG.format(directory=directory, admin=admin, url=url), {})


async def start(read: Config, *, open_store: bool = True) -> AsyncIterator[Served]:
    """Serve the admin API of a configuration."""
    stored, books = StoredKeys(read.ledger), Bookkeeper(read.ledger, Metrics(), "test", settle=False)
    if open_store:
        books.every(60.0, stored.watch)             # so that what is seen at once is not the work of the clock
        books.start()
        assert await stored.known(BOUND_S)
    application = web.Application()
    application.add_routes(Admin(read, books, stored, absent).routes())
    application.add_routes([web.route("*", "/{path:.*}", absent)])
    async with TestClient(TestServer(application)) as client:
        yield Served(client, stored)
    await books.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is opened with the bookkeeper's first round: let that come soon."""
    monkeypatch.setattr(bookkeeper, "ROTATE_S", 0.01)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """An admin API with a store."""
    async for made in start(configuration(tmp_path)):
        yield made


@pytest.fixture
async def without_store(tmp_path: Path) -> AsyncIterator[Served]:
    """An admin API whose store is not there."""
    async for made in start(configuration(tmp_path), open_store=False):
        yield made


@pytest.fixture
async def without_admin(tmp_path: Path) -> AsyncIterator[Served]:
    """A gateway without an admin's key."""
    async for made in start(configuration(tmp_path, admin="")):
        yield made


@pytest.fixture
async def without_ledger(tmp_path: Path) -> AsyncIterator[Served]:
    """A gateway that stores nothing."""
    async for made in start(configuration(tmp_path, url="none"), open_store=False):
        yield made


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_an_admins_key_nothing_is_there(without_admin: Served, method: str, path: str) -> None:
    """The ordinary 404, whatever key is sent: nobody can tell that there could be more."""
    for key in (None, ADMIN, ""):
        status, answer, _ = await without_admin(method, path.removeprefix("/admin/keys"), key=key)

        assert (status, answer["error"]["message"]) == (404, f"There is no {path} here.")


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_only_the_admin(served: Served, method: str, path: str) -> None:
    """401 for any other key, a caller's among them, and nothing is done."""
    for key in (None, "", "tg-ops", ADMIN[:-1], ADMIN + "x", "\u00e4"):
        status, answer, _ = await served(method, path.removeprefix("/admin/keys"), {"name": "web"}, key=key)

        assert (status, answer["error"]["type"]) == (401, "authentication_error")
    assert (await served("GET"))[1]["data"] == []


class TestCreate:
    """POST /admin/keys."""

    async def test_it_holds_at_once(self, served: Served) -> None:
        """201 with the text, which is good here by the time that it is read."""
        body = {
            "name": "web", "owner": "team", "models": ["auto"], "expires": "2127-01-01T00:00:00Z",
            "limits": {"concurrency": 3}, "budget": {"usd": 5, "per": "day"}, "metadata": {"app": "chat"},
        }
        status, answer, headers = await served("POST", body=body)

        assert (status, headers["Cache-Control"]) == (201, "no-store")
        assert served.enters(answer["key"]) == "web"
        assert {name: answer[name] for name in body if name not in ("limits", "budget")} == {
            name: value for name, value in body.items() if name not in ("limits", "budget")
        }
        assert (answer["limits"]["concurrency"], answer["budget"]["usd"]) == (3, 5)

    async def test_the_text_is_shown_once(self, served: Served) -> None:
        """Neither the list nor the key itself has it again, nor its digest."""
        text = (await served("POST", body={"name": "web"}))[1]["key"]
        later = repr([await served("GET"), await served("GET", "/web"), await served("PATCH", "/web", {})])

        assert text[:-4] not in later
        assert "digest" not in later
        assert f"'hint': '{text[-4:]}'" in later

    @pytest.mark.parametrize(
        ("body", "status", "param", "message"),
        [
            ({}, 400, "name", "name: is missing"),
            ({"name": 5}, 400, "name", "name: is missing, or no text"),
            ({"name": "a b"}, 400, "name", "'a b' cannot be the name"),
            ({"name": "ops"}, 409, "name", "The configuration has a key called 'ops'"),
            ({"name": "web", "models": ["atuo"]}, 400, "models[0]", "did you mean 'auto'?"),
            ({"name": "web", "limits": {"concurrency": "3"}}, 400, "limits.concurrency", "Expected `int`"),
            ({"name": "web", "limit": {}}, 400, "limit", "is not a setting (did you mean 'limits'?)"),
            ({"name": "web", "secret": "tg-mine"}, 400, "secret", "is not a setting"),
            ({"name": "web", "budget": {"per": "day"}}, 400, "budget.usd", "is missing"),
            ({"name": "web", "expires": "2020-01-01T00:00:00Z"}, 400, "expires", "is in the past"),
            ({"name": "web", "budget": {"usd": 1, "webhook": "https://h"}}, 400, "budget.webhook", "is a secret"),
            (b"{", 400, None, "The body is not JSON"),
            (b"[" * 10_000, 400, None, "The body is not JSON"),
            ([], 400, None, "The body must be a JSON object."),
            (b" " * (MOST_BYTES + 1), 413, None, "The body is larger than 65536 bytes."),
        ],
    )
    async def test_what_is_refused(
        self, served: Served, body: Any, status: int, param: str | None, message: str
    ) -> None:
        """With the field at fault and what was expected; nothing is made."""
        answered, answer, _ = await served("POST", body=body)

        assert (answered, answer["error"]["param"]) == (status, param)
        assert message in answer["error"]["message"]
        assert (await served("GET"))[1]["data"] == []

    async def test_a_name_that_is_taken(self, served: Served) -> None:
        """409; the first one stays as it is."""
        text = (await served("POST", body={"name": "web"}))[1]["key"]
        status, answer, _ = await served("POST", body={"name": "web"})

        assert (status, answer["error"]["param"], answer["error"]["code"]) == (409, "name", "conflict")
        assert served.enters(text) == "web"


class TestLater:
    """What is done with a key that is there."""

    async def test_it_is_shown(self, served: Served) -> None:
        """Alone and in the list, by name."""
        for name in ("web", "app"):
            await served("POST", body={"name": name})
        listed = (await served("GET"))[1]

        assert (listed["object"], [key["name"] for key in listed["data"]]) == ("list", ["app", "web"])
        assert (await served("GET", "/web"))[1] == listed["data"][1]

    async def test_it_is_changed(self, served: Served) -> None:
        """By field, also inside of fields; null is the default again. It holds at once."""
        made = {"name": "web", "owner": "team", "models": ["auto"], "limits": {"concurrency": 3}}
        text = (await served("POST", body=made))[1]["key"]
        change = {"owner": None, "limits": {"requests_per_minute": 60}, "budget": {"usd": 1}}
        status, answer, _ = await served("PATCH", "/web", change)

        assert (status, answer["owner"], answer["models"], answer["budget"]["usd"]) == (200, None, ["auto"], 1)
        assert (answer["limits"]["concurrency"], answer["limits"]["requests_per_minute"]) == (3, 60)
        caller = served.keyring.authenticate({"x-api-key": text}, 0.0)
        assert (caller.owner, caller.limits.requests_per_minute, caller.models) == (None, 60, frozenset({"auto"}))

    @pytest.mark.parametrize(
        ("change", "param"), [({"models": ["atuo"]}, "models[0]"), ({"name": "app"}, "name"), ({"budget": 5}, "budget")]
    )
    async def test_a_change_that_is_refused(self, served: Served, change: Any, param: str) -> None:
        """400 with the field; the key stays as it was."""
        before = (await served("POST", body={"name": "web"}))[1]
        status, answer, _ = await served("PATCH", "/web", change)

        assert (status, answer["error"]["param"]) == (400, param)
        assert {**(await served("GET", "/web"))[1], "key": before["key"]} == before

    async def test_it_is_given_an_end(self, served: Served) -> None:
        """From that moment on its holder stays outside."""
        text = (await served("POST", body={"name": "web"}))[1]["key"]
        await served("PATCH", "/web", {"expires": "1970-01-01T00:01:00Z"})

        assert (served.enters(text, 59.0), served.enters(text, 60.0)) == ("web", None)

    async def test_it_is_rotated(self, served: Served) -> None:
        """The new text is good at once, the old one for its grace: by default none."""
        first = (await served("POST", body={"name": "web"}))[1]["key"]
        second = (await served("POST", "/web/rotate", {"grace": "1h"}))[1]["key"]
        with_grace = [served.enters(text) for text in (first, second)]
        status, answer, _ = await served("POST", "/web/rotate")

        assert with_grace == ["web", "web"]
        assert (status, answer["former_until"] is None) == (200, False)
        assert [served.enters(text) for text in (first, second, answer["key"])] == ["web", None, "web"]

    @pytest.mark.parametrize(("body", "param"), [({"grace": "soon"}, "grace"), ({"grase": "1h"}, "grase")])
    async def test_a_rotation_that_is_refused(self, served: Served, body: Any, param: str) -> None:
        """400; the text stays."""
        text = (await served("POST", body={"name": "web"}))[1]["key"]
        status, answer, _ = await served("POST", "/web/rotate", body)

        assert (status, answer["error"]["param"], served.enters(text)) == (400, param, "web")

    async def test_it_is_revoked(self, served: Served) -> None:
        """At once, and for good: what is asked of it later is 409, but to revoke it again."""
        text = (await served("POST", body={"name": "web"}))[1]["key"]
        status, answer, _ = await served("DELETE", "/web")

        assert (status, answer["state"], served.enters(text)) == (200, "revoked", None)
        later = [await served("PATCH", "/web", {}), await served("POST", "/web/rotate"), await served("DELETE", "/web")]
        assert [status for status, *_ in later] == [409, 409, 200]

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/wbe"), ("PATCH", "/wbe"), ("DELETE", "/wbe"), ("POST", "/wbe/rotate")]
    )
    async def test_a_key_that_there_is_not(self, served: Served, method: str, path: str) -> None:
        """404 with what was probably meant."""
        await served("POST", body={"name": "web"})
        status, answer, _ = await served(method, path)

        assert (status, answer["error"]["code"]) == (404, "key_not_found")
        assert answer["error"]["message"] == "There is no key called 'wbe': did you mean 'web'?."


async def test_other_methods_are_not_there(served: Served) -> None:
    """404, as for any path."""
    assert [(await served("PUT", path))[0] for path in ("", "/web", "/web/rotate")] == [404] * 3


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_store_that_is_away(without_store: Served, method: str, path: str) -> None:
    """503 that says when to come again; where something might have been done, to look first."""
    body = {"name": "web"} if (method, path) == ("POST", "/admin/keys") else None
    status, answer, headers = await without_store(method, path.removeprefix("/admin/keys"), body)

    assert (status, headers["Retry-After"]) == (503, "1")
    assert ("Look whether it was done" in answer["error"]["message"]) == (method != "GET")


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", "/web"), ("POST", "/web/rotate")])
async def test_where_nothing_is_stored(without_ledger: Served, method: str, path: str) -> None:
    """Says what to change in the configuration."""
    status, answer, _ = await without_ledger(method, path)

    assert (status, "`ledger.url` is none" in answer["error"]["message"]) == (400, True)


@pytest.fixture
def logged() -> Iterator[io.BytesIO]:
    """What is logged."""
    stream = io.BytesIO()
    logs.configure(stream)
    yield stream
    structlog.reset_defaults()


async def test_no_key_is_logged(logged: io.BytesIO, served: Served) -> None:
    """Neither the admin's nor any that is made, whatever happens to them."""
    await served("POST", body={"name": "web"})
    await served("POST", "/web/rotate")
    await served("DELETE", "/web", key="wrong and secret as well")
    said = logged.getvalue().decode()

    assert '"event":"keys"' in said
    assert len(served.texts) == 2
    assert not any(secret in said for secret in (ADMIN, "wrong and secret", *served.texts))


async def test_many_at_once(served: Served) -> None:
    """Twenty keys made side by side are twenty keys, all of them good."""
    made = await asyncio.gather(*(served("POST", body={"name": f"k{n}"}) for n in range(20)))

    assert [status for status, *_ in made] == [201] * 20
    assert [served.enters(answer["key"]) for _, answer, _ in made] == [f"k{n}" for n in range(20)]


async def test_the_routes_are_always_the_same(tmp_path: Path) -> None:
    """A reload may bring an admin's key: the application's table of routes stays."""
    tables = []
    for admin in (f'key: "{ADMIN}"', ""):
        read = configuration(tmp_path, admin=admin)
        made = Admin(read, Bookkeeper(read.ledger, Metrics(), "test", settle=False), StoredKeys(read.ledger), absent)
        tables.append([(route.method, route.path.replace("{name}", "web")) for route in made.routes()])

    assert tables == [PATHS, PATHS]
