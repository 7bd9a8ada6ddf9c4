"""What every dialect's caller is promised: its own errors and its own list of models. (More: test_passthrough.)"""

from typing import Any

import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Reply, Running, Start
from tests.path.surfaces import KINDS, SURFACES, asked, error_of, three

KEYS = "keys: {alice: {secret: sk-alice}, bob: {secret: sk-bob, models: [of-openai]}}"
BEARER, ANTHROPICS, GOOGLES = "Authorization", "x-api-key", "x-goog-api-key"
DOWN: dict[str, tuple[dict[str, Any], int]] = {       # dials, what the caller is told
    "500": ({"error_rate": 1, "status": 500}, 502),
    "503": ({"error_rate": 1, "status": 503}, 503),
    "429": ({"error_rate": 1, "status": 429, "retry_after_s": 7}, 429),
    "401": ({"error_rate": 1, "status": 401}, 502),
    "cut": ({"fault": "cut-rst", "after": 0}, 502),
}


@pytest.fixture
async def running(gateway: Start, first: MockUpstream) -> Running:
    """A gateway with a model of each provider, for callers with keys."""
    return await gateway(three(first, more=KEYS))


async def assert_told(running: Running, reply: Reply, surface: str, status: int) -> str:
    """Return the message of an error in the surface's own form, which is booked under the id that the caller sees."""
    receipt = await running.receipt()
    kind, message, request_id = error_of(surface, reply)

    assert (reply.status, kind) == (status, KINDS[surface][status])
    assert reply.headers["Content-Type"].startswith("application/json")
    assert request_id == reply.headers["x-thriftgate-request-id"] == receipt["request_id"]
    assert (receipt["surface"], receipt["status"]) == (surface, status)
    return message


# ── errors ──


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(
    "case",
    [
        ("no JSON", "sk-alice", 400, "JSON"),
        ("an empty object", "sk-alice", 400, "missing"),
        ("an unknown model", "sk-alice", 404, "'gpt-99' does not exist here. There are: auto, of-openai"),
        ("no right to it", "sk-bob", 403, "may not use 'of-gemini'"),
        ("an unknown key", "sk-mallory", 401, "not known here"),
        ("no key", "", 401, "No key was sent"),
    ],
)
async def test_the_callers_faults_are_told_in_its_own_form(
    running: Running, first: MockUpstream, surface: str, case: tuple[str, str, int, str]
) -> None:
    """Status, kind, words and request id where each dialect's SDK looks for them; nothing is sent upstream."""
    fault, key, status, says = case
    models = {"an unknown model": "gpt-99", "no right to it": "of-gemini"}
    path, body = asked(surface, models.get(fault, "auto"))
    body = {"no JSON": b'{"model":', "an empty object": b"{}"}.get(fault, body)
    reply = await running.ask(body, {BEARER: f"Bearer {key}"} if key else None, path)

    assert says in await assert_told(running, reply, surface, status)
    assert (await running.receipt())["outcome"] == "refused"
    assert first.journal.requests == 0


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("header", [BEARER, ANTHROPICS, GOOGLES])
async def test_a_key_is_good_wherever_an_sdk_puts_it(running: Running, surface: str, header: str) -> None:
    """Any of the three headers, at any surface; the receipt has the caller's name."""
    path, body = asked(surface, "of-openai")
    reply = await running.ask(body, {header: "Bearer sk-alice" if header == BEARER else "sk-alice"}, path)

    assert reply.status == 200
    assert (await running.receipt())["caller"] == "alice"


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("header", [ANTHROPICS, GOOGLES])
async def test_a_wrong_key_is_a_401_wherever_it_stands(running: Running, surface: str, header: str) -> None:
    """No header opens the door to what another does not."""
    path, body = asked(surface)
    reply = await running.ask(body, {header: "sk-mallory"}, path)

    assert "not known here" in await assert_told(running, reply, surface, 401)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("down", DOWN.values(), ids=DOWN)
async def test_a_provider_that_is_down_is_told_in_the_callers_form(
    gateway: Start, first: MockUpstream, surface: str, provider: str, down: tuple[dict[str, Any], int], *,
    streamed: bool,
) -> None:
    """Whoever the provider is, before the first byte there is a status; no key is told, and Retry-After is kept."""
    dials, status = down
    first.turn(**dials)
    running = await gateway(three(first, more="server: {attempts: 1}"))
    path, body = asked(surface, f"of-{provider}", stream=streamed)
    reply = await running.ask(body, path=path)
    message = await assert_told(running, reply, surface, status)
    receipt = await running.receipt()

    assert f"'{provider}'" in message
    assert "sk-" not in message
    assert (receipt["outcome"], [attempt["model"] for attempt in receipt["attempts"]]) == ("failed", [f"of-{provider}"])
    # Google says it in the error's details, and only of a quota
    kept = {429: "7"} if provider == "gemini" else {429: "7", 503: "1"}
    assert reply.headers.get("Retry-After") == kept.get(status)


@pytest.mark.parametrize("surface", SURFACES)
async def test_nobody_listens_there(gateway: Start, refusing: str, first: MockUpstream, surface: str) -> None:
    """A provider without a socket is a 502."""
    running = await gateway(three(first, anthropic=refusing))
    path, body = asked(surface, "of-anthropic")
    reply = await running.ask(body, path=path)

    assert "no connection" in await assert_told(running, reply, surface, 502)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_what_the_provider_blames_the_caller_for(
    gateway: Start, first: MockUpstream, surface: str, provider: str, *, streamed: bool
) -> None:
    """A 400 of the provider's is told in the caller's form: as it came, or anew with the provider's words."""
    first.turn(error_rate=1, status=400)
    running = await gateway(three(first))
    path, body = asked(surface, f"of-{provider}", stream=streamed)
    reply = await running.ask(body, path=path)
    receipt = await running.receipt()
    sent = b"".join(first.journal.last.sent)
    kind, message, _ = error_of(surface, reply)

    assert (reply.status, kind) == (400, KINDS[surface][400])
    assert (reply.body == sent) is (surface == provider)
    assert message in sent.decode()
    assert (receipt["outcome"], receipt["status"], receipt["sent_bytes"]) == ("refused", 400, len(reply.body))


async def test_a_gemini_stream_is_one_of_events(running: Running, first: MockUpstream) -> None:
    """Without `alt=sse` Google streams a JSON array, which is not served: 400 says what to add."""
    path, body = asked("gemini", "of-openai", stream=True)
    reply = await running.ask(body, {GOOGLES: "sk-alice"}, path.removesuffix("?alt=sse"))

    assert "?alt=sse" in await assert_told(running, reply, "gemini", 400)
    assert first.journal.requests == 0


# ── the list of models ──


@pytest.mark.parametrize(
    ("path", "headers", "names"),
    [
        ("/v1/models", {BEARER: "Bearer sk-alice"}, ("data", "id")),
        ("/v1/models", {ANTHROPICS: "sk-alice", "anthropic-version": "2023-06-01"}, ("data", "id")),
        ("/v1beta/models", {GOOGLES: "sk-alice"}, ("models", "displayName")),
    ],
    ids=["openai", "anthropic", "gemini"],
)
async def test_models_are_listed_in_the_callers_dialect(
    running: Running, path: str, headers: dict[str, str], names: tuple[str, str]
) -> None:
    """The same names, as each SDK lists them."""
    reply = await running.get(path, headers)

    assert reply.status == 200
    assert [each[names[1]] for each in reply.json[names[0]]] == ["auto", "of-openai", "of-anthropic", "of-gemini"]


@pytest.mark.parametrize(
    ("surface", "path", "headers"),
    [("openai", "/v1/models", {}), ("anthropic", "/v1/models", {"anthropic-version": "2023-06-01"}),
     ("gemini", "/v1beta/models", {})],
)
async def test_nothing_is_listed_without_a_key(
    running: Running, surface: str, path: str, headers: dict[str, str]
) -> None:
    """401 in the caller's form."""
    reply = await running.get(path, headers)

    assert (reply.status, error_of(surface, reply)[0]) == (401, KINDS[surface][401])
