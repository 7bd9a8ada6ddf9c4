"""Everything but the path, over a real socket."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from classifier.predict import Predictor
from gateway import app, config
from gateway.app import Gateway

OPEN = """
upstreams: {acme: {base_url: "http://127.0.0.1:9/v1", key: sk-hidden}}
models:
  small: {upstream: acme, price: {input: 1, output: 2}}
  large: {upstream: acme, price: {input: 10, output: 20}, images: false}
routes: {auto: {ladder: [small, large], aliases: [gpt-4], threshold: 0}}
classifier: {deadline_ms: 60000}
"""
LOCKED = OPEN + "keys: {app: {secret: tg-app, models: [auto, small]}, ops: {secret: tg-ops}}\n"
HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
IMAGE = {"type": "image_url", "image_url": {"url": "https://pictures.example/a.png"}}


class Running:
    """A gateway on a socket, and the receipts it wrote."""

    def __init__(self, gateway: Gateway, receipts: list[dict[str, Any]]) -> None:
        self.gateway = gateway
        self.receipts = receipts
        self.client = TestClient(TestServer(gateway.application))

    async def get(self, path: str, key: str | None = None, **headers: str) -> tuple[int, Any]:
        """Get a path; its status and JSON. Headers' names have their dashes as underscores."""
        return await self._json("GET", path, key, None, headers)

    async def post(self, path: str, body: object, key: str | None = None) -> tuple[int, Any]:
        """Post JSON, or bytes as they are; its status and JSON."""
        return await self._json("POST", path, key, body if isinstance(body, bytes) else orjson.dumps(body))

    async def _json(
        self, method: str, path: str, key: str | None, data: bytes | None, more: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        headers = {name.replace("_", "-"): value for name, value in (more or {}).items()}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        async with self.client.request(method, path, data=data, headers=headers) as response:
            assert response.content_type == "application/json"
            return response.status, orjson.loads(await response.read())


Starts = Callable[[str], Awaitable[Running]]


@functools.cache
def shipped() -> Predictor:
    """The shipped classifier, loaded once."""
    return Predictor.load()


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Starts]:
    """Start gateways of a configuration; they are closed after the test."""
    predictor, started = shipped(), list[Running]()
    monkeypatch.setattr(Predictor, "load", lambda _: predictor)

    async def start(text: str) -> Running:
        """Start one."""
        receipts: list[dict[str, Any]] = []
        running = Running(await app.create(config.parse(text, {}), receipts.append), receipts)
        started.append(running)
        await running.client.start_server()
        return running

    yield start
    for running in started:
        await running.client.close()
        await running.gateway.close()


class TestModels:
    """What a caller may write as `model`."""

    async def test_all_of_them(self, start: Starts) -> None:
        """Routes with their aliases are ours, models their upstream's; in OpenAI's form."""
        running = await start(OPEN)
        owners = {"auto": "thriftgate", "gpt-4": "thriftgate", "small": "acme", "large": "acme"}
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": owner} for name, owner in owners.items()]

        assert (200, {"object": "list", "data": listed}) == await running.get("/v1/models")

    @pytest.mark.parametrize(
        ("key", "names"), [("tg-app", ["auto", "small"]), ("tg-ops", ["auto", "gpt-4", "small", "large"])]
    )
    async def test_a_key_sees_what_it_may_use(self, start: Starts, key: str, names: list[str]) -> None:
        """Nothing that would be refused is listed."""
        status, body = await (await start(LOCKED)).get("/v1/models", key)

        assert (200, names) == (status, [model["id"] for model in body["data"]])

    async def test_as_anthropic_lists_them(self, start: Starts) -> None:
        """A header that only its SDK sends says who asks; there is one page, which says its first and last."""
        body = {
            "data": [
                {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
                for name in ("auto", "small")
            ],
            "has_more": False, "first_id": "auto", "last_id": "small",
        }

        assert (200, body) == await (await start(LOCKED)).get("/v1/models", "tg-app", anthropic_version="2023-06-01")

    async def test_as_gemini_lists_them(self, start: Starts) -> None:
        """The path says who asks, whatever the headers say."""
        methods = ["generateContent", "streamGenerateContent"]
        listed = [
            {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods}
            for name in ("auto", "small")
        ]
        told = await (await start(LOCKED)).get("/v1beta/models", "tg-app", anthropic_version="2023-06-01")

        assert told == (200, {"models": listed})

    @pytest.mark.parametrize(
        ("path", "header", "empty"),
        [
            ("/v1/models", {}, {"object": "list", "data": []}),
            ("/v1/models", {"anthropic_version": "1"},
             {"data": [], "has_more": False, "first_id": None, "last_id": None}),
            ("/v1beta/models", {}, {"models": []}),
        ],
        ids=["openai", "anthropic", "gemini"],
    )
    async def test_a_key_for_nothing(
        self, start: Starts, path: str, header: dict[str, str], empty: dict[str, Any]
    ) -> None:
        """An empty list is a list in every dialect."""
        running = await start(OPEN + "keys: {none: {secret: tg-none, models: []}}\n")

        assert (200, empty) == await running.get(path, "tg-none", **header)

    async def test_without_a_key(self, start: Starts) -> None:
        """401 in OpenAI's form where keys are configured."""
        status, body = await (await start(LOCKED)).get("/v1/models")

        assert (401, "invalid_api_key") == (status, body["error"]["code"])


class TestDryRun:
    """Where a request would go, and why."""

    async def test_the_reasoning(self, start: Starts) -> None:
        """The whole explanation, with the classifier's own verdict; no call, no receipt."""
        running = await start(OPEN)
        status, body = await running.post("/v1/route", HELLO)
        await running.gateway.with_.ledger.flush()

        assert status == 200
        assert (body["model"], body["route"], body["rung"], body["reason"]) == ("small", "auto", "cheap", "learned")
        assert body["verdict"]["source"] == "classifier"
        assert 0 <= body["verdict"]["p_cheap"] <= 1
        assert body["estimate"]["cost_usd"] < body["estimate"]["cost_usd_premium"]
        assert running.receipts == []

    async def test_a_named_model_is_not_judged(self, start: Starts) -> None:
        """There is nothing to decide."""
        _, body = await (await start(OPEN)).post("/v1/route", {**HELLO, "model": "large"})

        assert (body["model"], body["reason"], body["verdict"]) == ("large", "explicit", None)

    @pytest.mark.parametrize(
        ("body", "key", "status", "param"),
        [
            (b"{", "tg-ops", 400, None),
            ({**HELLO, "messages": 5}, "tg-ops", 400, "messages"),
            ({**HELLO, "model": "nope"}, "tg-ops", 404, "model"),
            ({**HELLO, "model": "large"}, "tg-app", 403, "model"),
            ({"model": "large", "messages": [{"role": "user", "content": [IMAGE]}]}, "tg-ops", 400, "model"),
            (HELLO, "tg-nope", 401, None),
            (HELLO, None, 401, None),
        ],
        ids=["not JSON", "wrong type", "unknown model", "not allowed", "cannot", "unknown key", "no key"],
    )
    async def test_what_would_be_refused(
        self, start: Starts, body: object, key: str | None, status: int, param: str | None
    ) -> None:
        """The same errors as a completion, and no receipt."""
        running = await start(LOCKED)
        got, said = await running.post("/v1/route", body, key)
        completion, told = await running.post("/v1/chat/completions", body, key)
        await running.gateway.with_.ledger.flush()

        assert (status, status, param) == (got, completion, said["error"]["param"])
        assert said["error"]["message"] == told["error"]["message"]
        assert [receipt["status"] for receipt in running.receipts] == [status]


class TestHealth:
    """For whoever watches the process."""

    async def test_it_answers(self, start: Starts) -> None:
        """No key is needed to be healthy."""
        assert await (await start(LOCKED)).get("/healthz") == (200, {"status": "ok"})

    async def test_ready(self, start: Starts) -> None:
        """Loaded and not stopping."""
        assert await (await start(LOCKED)).get("/readyz") == (200, {"status": "ready", "faults": {}})

    async def test_not_ready(self, start: Starts) -> None:
        """503 with every fault, while the process is still healthy."""
        running = await start(OPEN)
        await running.gateway.drain()

        assert await running.get("/readyz") == (503, {"status": "not ready", "faults": {"shutdown": "draining"}})
        assert (await running.get("/healthz"))[0] == 200


async def test_metrics(start: Starts) -> None:
    """Prometheus' text: what was answered a moment ago is counted, and the calls in flight are shown."""
    running = await start(OPEN)
    await running.post("/v1/chat/completions", b"{")
    with running.gateway.with_.models["small"].pool.lease():
        async with running.client.get("/metrics") as response:
            text = await response.text()

    assert response.headers["Content-Type"] == "text/plain; version=0.0.4"
    assert 'thriftgate_requests_total{model="",outcome="refused",route=""} 1.0' in text
    assert 'thriftgate_upstream_in_flight{upstream="acme"} 1.0' in text
    assert 'thriftgate_upstream_waiting{upstream="acme"} 0.0' in text
    assert 'thriftgate_deployment_state{deployment="small@acme"} 0.0' in text
    assert "hidden" not in text


async def test_upstreams(start: Starts) -> None:
    """How every deployment does, without a key: an operator's page, like the metrics."""
    running = await start(OPEN)
    async with running.client.get("/upstreams") as response:
        told = await response.json()

    assert response.status == 200
    assert told["acme"]["deployments"]["small@acme"]["state"] == "closed"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("GET", "/v1/chat/completions"), ("POST", "/v1/models"), ("DELETE", "/healthz"),
        ("POST", "/v1/nope"),
    ],
)
async def test_what_is_not_there(start: Starts, method: str, path: str) -> None:
    """404 in OpenAI's form for any path or method, with what there is."""
    running = await start(OPEN)
    async with running.client.request(method, path) as response:
        error = orjson.loads(await response.read())["error"]

    assert (404, "unknown_url") == (response.status, error["code"])
    assert error["message"].startswith(f"There is no {method} {path} here. There are: POST /v1/chat/completions, ")
    assert response.headers["x-thriftgate-request-id"] == error["request_id"]
