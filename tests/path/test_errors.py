"""What a caller is told when the request cannot be served: DESIGN's table of errors, and nothing is sent upstream."""

import gzip
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from gateway.router import Router
from loadtest.mock_upstream import MockUpstream
from tests.conftest import Reply, Running, Start, chat, request_bytes, two_rungs

KEYS = "keys: {alice: {secret: sk-alice}, bob: {secret: sk-bob, models: [premium]}}"
USER = b'"messages":[{"role":"user","content":"hi"}]'

WRONG: dict[str, tuple[bytes, str | None, str]] = {          # body, the field named, part of the message
    "nothing": (b"", None, "JSON"),
    "no JSON": (b"hello", None, "JSON"),
    "cut JSON": (b'{"model":"auto",', None, "JSON"),
    "not UTF-8": (b'{"model":"auto","messages":[{"role":"user","content":"\xff"}]}', None, "UTF-8"),
    "a list": (b"[1,2]", None, "object"),
    "a number": (b"7", None, "object"),
    "null": (b"null", None, "object"),
    "nested too deeply": (b'{"model":"auto",' + USER + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, ""),
    "no model": (b"{" + USER + b"}", "model", "missing"),
    "no messages": (b'{"model":"auto"}', "messages", "missing"),
    "empty messages": (b'{"model":"auto","messages":[]}', "messages", "empty"),
    "model a number": (b'{"model":7,' + USER + b"}", "model", "str"),
    "model null": (b'{"model":null,' + USER + b"}", "model", "str"),
    "messages a text": (b'{"model":"auto","messages":"hi"}', "messages", "array"),
    "a message a text": (b'{"model":"auto","messages":["hi"]}', "messages[0]", "object"),
    "a role a number": (b'{"model":"auto","messages":[{"role":1}]}', "messages[0].role", "str"),
    "no role": (b'{"model":"auto","messages":[{"content":"hi"}]}', "messages[0]", "role"),
    "content a number": (b'{"model":"auto","messages":[{"role":"user","content":1}]}', "messages[0].content", ""),
    "stream a text": (b'{"model":"auto","stream":"yes",' + USER + b"}", "stream", "bool"),
    "tools a text": (b'{"model":"auto","tools":"x",' + USER + b"}", "tools", "array"),
    "max_tokens a text": (b'{"model":"auto","max_tokens":"9",' + USER + b"}", "max_tokens", "int"),
    "format a text": (b'{"model":"auto","response_format":"json",' + USER + b"}", "response_format", "object"),
}


@pytest.fixture
async def running(serve: Start, first: MockUpstream, second: MockUpstream) -> AsyncIterator[Running]:
    """A gateway whose providers must not hear of any of these requests."""
    yield await serve(more="server: {max_body_bytes: 250000}")
    asked = (first.journal.requests, second.journal.requests)

    assert asked == (0, 0)


async def assert_refused(running: Running, reply: Reply, status: int, code: str | None, kind: str) -> dict[str, Any]:
    """Return the error object, which has OpenAI's form, under the request's id, as the receipt has it."""
    receipt = await running.receipt()
    error = reply.error

    assert (reply.status, reply.whole) == (status, True)
    assert reply.headers["Content-Type"].startswith("application/json")
    assert {"message", "type", "param", "code"} <= set(error)
    assert (error["code"], error["type"]) == (code, kind)
    assert error["request_id"] == reply.headers["x-thriftgate-request-id"] == receipt["request_id"]
    assert "Server-Timing" in reply.headers
    assert (receipt["outcome"], receipt["status"], receipt["attempts"]) == ("refused", status, [])
    return error


@pytest.mark.parametrize(("body", "param", "says"), WRONG.values(), ids=WRONG)
async def test_a_body_that_is_wrong_is_a_400_that_names_the_field(
    running: Running, body: bytes, param: str | None, says: str
) -> None:
    """Not JSON, not an object, or a field of the wrong type."""
    reply = await running.ask(body)
    error = await assert_refused(running, reply, 400, None, "invalid_request_error")

    assert error["param"] == param
    assert says.lower() in error["message"].lower()


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer sk-mallory"}, {"Authorization": "Basic c2stYWxpY2U="}, {"Authorization": "Bearer "},
     {"Authorization": "sk-alice"}],
    ids=["none", "unknown", "another scheme", "empty", "no scheme"],
)
async def test_without_a_known_key_nothing_is_served(
    serve: Start, first: MockUpstream, headers: dict[str, str]
) -> None:
    """401, before the body is looked at."""
    running = await serve(more=KEYS)
    reply = await running.ask(b"not even JSON", headers)
    await assert_refused(running, reply, 401, "invalid_api_key", "authentication_error")

    assert first.journal.requests == 0


async def test_a_key_without_the_right_is_a_403(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """A known caller asks for what it may not use; what it may use still works."""
    running = await serve(more=KEYS)
    bob = {"Authorization": "Bearer sk-bob"}
    reply = await running.ask(chat(), bob)
    error = await assert_refused(running, reply, 403, "model_not_allowed", "permission_error")
    allowed = await running.ask(chat(model="premium"), bob)

    assert "premium" in error["message"]
    assert allowed.status == 200
    assert (first.journal.requests, second.journal.requests) == (0, 1)


async def test_an_unknown_model_is_a_404_that_lists_what_exists(running: Running) -> None:
    """Routes, aliases and models are all named."""
    reply = await running.ask(chat(model="gpt-99"))
    error = await assert_refused(running, reply, 404, "model_not_found", "invalid_request_error")

    assert error["param"] == "model"
    assert "'gpt-99'" in error["message"]
    assert all(name in error["message"] for name in ("auto", "gpt-4", "cheap", "premium"))


async def test_an_unknown_rung_is_a_400_that_lists_the_ladder(running: Running) -> None:
    """A pin that cannot be kept is not silently dropped."""
    reply = await running.ask(headers={"x-thriftgate-rung": "golden"})
    error = await assert_refused(running, reply, 400, None, "invalid_request_error")

    assert error["param"] == "x-thriftgate-rung"
    assert all(name in error["message"] for name in ("cheap", "premium"))


async def test_a_body_over_the_limit_is_refused_unread(running: Running) -> None:
    """Its length is announced: the 413 comes before a byte of it is sent."""
    wire = await running.wire()
    await wire.send(request_bytes(b"", "Content-Length: 250001"))
    reply = await wire.reply()

    await assert_refused(running, reply, 413, "request_too_large", "invalid_request_error")


async def test_a_body_of_unknown_length_is_refused_at_the_limit(running: Running) -> None:
    """Chunked: the 413 comes while the body is still on its way."""
    wire = await running.wire()
    await wire.send(request_bytes(b"", "Transfer-Encoding: chunked"))
    for _ in range(3):
        await wire.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
    reply = await wire.reply()

    await assert_refused(running, reply, 413, "request_too_large", "invalid_request_error")


async def test_a_body_of_exactly_the_limit_is_read(serve: Start, first: MockUpstream) -> None:
    """The limit itself is not over the limit, with a length and without."""
    body = orjson.dumps(chat())
    running = await serve(more=f"server: {{max_body_bytes: {len(body)}}}")
    with_length = await running.ask(body)
    wire = await running.wire()
    await wire.send(request_bytes(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), "Transfer-Encoding: chunked"))
    without = await wire.reply()

    assert (with_length.status, without.status) == (200, 200)
    assert first.journal.requests == 2


async def test_a_body_that_is_a_bomb_is_refused_at_the_limit(running: Running) -> None:
    """The limit counts what the body unpacks to."""
    reply = await running.ask(gzip.compress(b" " * 5_000_000), {"Content-Encoding": "gzip"})

    await assert_refused(running, reply, 413, "request_too_large", "invalid_request_error")


async def test_a_conversation_too_long_for_every_rung_is_said_to_be(
    gateway: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """OpenAI's own code, so that applications that shorten and retry do so."""
    text = two_rungs(first.base_url, second.base_url)
    running = await gateway(text.replace("name: mock-cheap", "name: mock-cheap\n    context: 100")
                            .replace("name: mock-premium", "name: mock-premium, context: 200"))
    reply = await running.ask(chat("word " * 2_000))
    error = await assert_refused(running, reply, 400, "context_length_exceeded", "invalid_request_error")

    assert error["param"] == "messages"
    assert "200" in error["message"]
    assert (first.journal.requests, second.journal.requests) == (0, 0)


async def test_tools_for_models_without_tools_are_refused(gateway: Start, first: MockUpstream) -> None:
    """The message says what each of them lacks."""
    text = two_rungs(first.base_url, first.base_url)
    running = await gateway(text.replace("name: mock-cheap", "name: mock-cheap\n    tools: false")
                            .replace("name: mock-premium", "name: mock-premium, tools: false"))
    reply = await running.ask(chat(tools=[{"type": "function", "function": {"name": "f"}}]))
    error = await assert_refused(running, reply, 400, None, "invalid_request_error")

    assert "cannot call tools" in error["message"]
    assert first.journal.requests == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/nothing"), ("GET", "/v1/chat/completions"), ("POST", "/v1/models"), ("GET", "/"), ("DELETE", "/x")],
)
async def test_what_is_not_there_is_a_404_in_openais_form(running: Running, method: str, path: str) -> None:
    """An unknown path or method: the message lists what is there. It is no completion, so it leaves no receipt."""
    wire = await running.wire()
    await wire.send(f"{method} {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n".encode())
    reply = await wire.reply()

    assert (reply.status, reply.error["code"]) == (404, "unknown_url")
    assert path in reply.error["message"]
    assert "POST /v1/chat/completions" in reply.error["message"]
    assert "x-thriftgate-request-id" in reply.headers


async def test_an_error_for_a_stream_is_a_status_and_not_a_stream(running: Running) -> None:
    """Before the first byte an honest status is possible."""
    reply = await running.ask(chat(model="gpt-99", stream=True))

    await assert_refused(running, reply, 404, "model_not_found", "invalid_request_error")


async def test_the_dry_run_refuses_in_the_same_words(running: Running) -> None:
    """POST /v1/route: the same checks, the same form, and no receipt."""
    wrong = await running.ask(b"hello", path="/v1/route")
    unknown = await running.ask(chat(model="gpt-99"), path="/v1/route")

    assert (wrong.status, unknown.status) == (400, 404)
    assert unknown.error["code"] == "model_not_found"
    assert "x-thriftgate-request-id" in unknown.headers


async def test_a_body_in_an_encoding_that_cannot_be_read(serve: Start) -> None:
    """Announced as gzip and none: a 400 in OpenAI's form that names the encoding."""
    running = await serve()
    reply = await running.ask(chat(), headers={"Content-Encoding": "gzip"})

    assert (400, "invalid_request_error") == (reply.status, reply.error["type"])
    assert "Content-Encoding: gzip" in reply.error["message"]


async def test_a_fault_of_ours_is_answered_in_form_and_booked(
    gateway: Start, first: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks inside, the client gets the error object with the request id, and there is one receipt."""
    running = await gateway(two_rungs(first.base_url, first.base_url))
    monkeypatch.setattr(Router, "plan", lambda *_: 1 / 0)
    reply = await running.ask(chat())
    receipt = await running.receipt()

    assert (500, "server_error") == (reply.status, reply.error["type"])
    assert (receipt["request_id"], 500, "failed") == (reply.error["request_id"], receipt["status"], receipt["outcome"])
    assert reply.headers["x-request-id"] == receipt["request_id"]
