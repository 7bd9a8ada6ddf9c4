"""What one rung cannot do and another can: a longer conversation, a parameter that not every model has."""

import orjson
import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Start, chat, two_rungs, unasked
from tests.path.conftest import Script, Scripted

# How providers and servers say that a conversation is too long: status, dialect, body.
TOO_LONG: dict[str, tuple[int, str, bytes]] = {
    "OpenAI": (400, "openai", b"""{
  "error": {
    "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded"
  }
}"""),
    "OpenAI, newer": (400, "openai", b'{"error":{"message":"Your input exceeds the context window of this model.",'
                                     b'"type":"invalid_request_error","param":"input","code":null}}'),
    "vLLM": (400, "openai", b'{"object":"error","message":"This model\'s maximum context length is 4096 tokens.",'
                            b'"type":"BadRequestError","param":null,"code":400}'),
    "llama.cpp": (400, "openai", b'{"error":{"code":400,"message":"the request exceeds the available context size",'
                                 b'"type":"exceed_context_size_error","n_ctx":4096}}'),
    "Anthropic": (400, "anthropic", b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is '
                                    b'too long: 208310 tokens > 200000 maximum"},"request_id":"req_011"}'),
    "Anthropic, by its size": (413, "anthropic", b'{"type":"error","error":{"type":"request_too_large","message":'
                                                 b'"Request exceeds the maximum size"}}'),
    "Gemini": (400, "gemini", b'{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum '
                              b'number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}'),
}
UNSUPPORTED: dict[str, tuple[int, str, bytes]] = {
    "a parameter, OpenAI": (400, "openai", b'{"error":{"message":"Unsupported parameter: \'temperature\' is not '
                                           b'supported with this model.","type":"invalid_request_error",'
                                           b'"param":"temperature","code":"unsupported_parameter"}}'),
    "a value, OpenAI": (400, "openai", b'{"error":{"message":"Unsupported value","type":"invalid_request_error",'
                                       b'"param":"reasoning_effort","code":"unsupported_value"}}'),
    "tools, vLLM": (400, "openai", b'{"object":"error","message":"\\"auto\\" tool choice requires --tool-call-parser '
                                   b'to be set","type":"BadRequestError","code":400}'),
    "a field, FastAPI": (422, "openai", b'{"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra"}]}'),
    "images, Anthropic": (400, "anthropic", b'{"type":"error","error":{"type":"invalid_request_error","message":'
                                            b'"\'claude-x\' does not support image input"}}'),
    "thinking, Gemini": (400, "gemini", b'{"error":{"code":400,"message":"Thinking is not supported by this model.",'
                                        b'"status":"INVALID_ARGUMENT"}}'),
}
CURED = TOO_LONG | UNSUPPORTED
STREAMED = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
WIDE = ("name: mock-premium,", "name: mock-premium, context: 1000000,")


def refusal(status: int, body: bytes) -> bytes:
    """Return a provider's answer as it stands on the wire."""
    head = f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def refusing_script(scripted: Scripted, name: str) -> tuple[Script, str]:
    """Start a provider that refuses in these words, and return the dialect it speaks."""
    status, dialect, body = CURED[name]
    return await scripted(refusal(status, body)), dialect


@STREAMED
@pytest.mark.parametrize("name", CURED)
async def test_a_rung_that_can_answers(
    gateway: Start, scripted: Scripted, second: MockUpstream, name: str, *, streamed: bool
) -> None:
    """The caller sees the good answer only, and why it is not from the first choice; the first is not blamed for it."""
    script, dialect = await refusing_script(scripted, name)
    strict = f"dialect: {dialect}, health: {{failures: 1}}"
    running = await gateway(two_rungs(script.base_url, second.base_url, upstream=strict).replace(*WIDE))
    reply = await running.ask(chat(stream=streamed))
    receipt = await running.receipt()

    assert (reply.status, reply.whole, reply.body) == (200, True, unasked(second.journal.last))
    assert (reply.headers["x-thriftgate-model"], reply.headers["x-thriftgate-reason"]) == ("premium", "capability")
    assert [(each["model"], each["status"]) for each in receipt["attempts"]] == [
        ("cheap", CURED[name][0]), ("premium", 200)
    ]
    assert receipt["outcome"] == "ok"
    assert running.gateway.with_.models["cheap"].deployments[0].health.failed_calls == 0


@STREAMED
@pytest.mark.parametrize("name", [name for name, (_, dialect, _) in TOO_LONG.items() if dialect == "openai"])
async def test_where_no_rung_has_more_room_the_refusal_is_passed_on(
    gateway: Start, scripted: Scripted, second: MockUpstream, name: str, *, streamed: bool
) -> None:
    """Byte for byte, and nobody else is asked."""
    status, _, body = CURED[name]
    script, _ = await refusing_script(scripted, name)
    running = await gateway(two_rungs(script.base_url, second.base_url))
    reply = await running.ask(chat(stream=streamed))
    receipt = await running.receipt()

    assert (reply.status, reply.body) == (status, body)
    assert reply.headers["x-thriftgate-model"] == "cheap"
    assert (receipt["outcome"], receipt["reason"], len(receipt["attempts"])) == ("refused", "learned", 1)
    assert second.journal.requests == 0


@STREAMED
@pytest.mark.parametrize("then", [{"status": 400}, {"status": 500}, {"status": 429, "retry_after_s": 250}])
async def test_where_the_other_rung_cannot_either_the_first_refusal_is_passed_on(
    gateway: Start, scripted: Scripted, second: MockUpstream, then: dict[str, object], *, streamed: bool
) -> None:
    """Byte for byte: it says what the caller can do, and the other's trouble does not."""
    status, _, body = CURED["OpenAI"]
    script, _ = await refusing_script(scripted, "OpenAI")
    if then["status"] == 400:
        other = await scripted(refusal(400, TOO_LONG["vLLM"][2]))
        url = other.base_url
    else:
        second.turn(error_rate=1, **then)
        url = second.base_url
    running = await gateway(two_rungs(script.base_url, url).replace(*WIDE))
    reply = await running.ask(chat(stream=streamed))
    receipt = await running.receipt()

    assert (reply.status, reply.body) == (status, body)
    assert reply.headers["x-thriftgate-model"] == "cheap"
    assert (receipt["outcome"], receipt["model"]) == ("refused", "cheap")
    assert [attempt["status"] for attempt in receipt["attempts"]] == [400, then["status"]]


@STREAMED
async def test_a_named_model_says_so_itself(
    gateway: Start, scripted: Scripted, second: MockUpstream, *, streamed: bool
) -> None:
    """Who names a model gets its words and no other model."""
    script, _ = await refusing_script(scripted, "OpenAI")
    running = await gateway(two_rungs(script.base_url, second.base_url).replace(*WIDE))
    reply = await running.ask(chat(model="cheap", stream=streamed))

    assert (reply.status, reply.body) == (400, CURED["OpenAI"][2])
    assert script.calls == 1
    assert second.journal.requests == 0


async def test_a_wider_rung_may_be_further_down(gateway: Start, scripted: Scripted, first: MockUpstream) -> None:
    """Room is what counts, not rank."""
    script, _ = await refusing_script(scripted, "OpenAI")
    text = two_rungs(first.base_url, script.base_url)
    running = await gateway(text.replace("name: mock-cheap\n", "name: mock-cheap\n    context: 500000\n"))
    reply = await running.ask(headers={"x-thriftgate-rung": "premium"})

    assert (reply.status, reply.headers["x-thriftgate-model"]) == (200, "cheap")
    assert reply.headers["x-thriftgate-reason"] == "capability"


async def test_any_other_fault_is_the_callers(serve: Start, second: MockUpstream) -> None:
    """A wrong value is wrong everywhere: the provider's words, and no second call."""
    running = await serve()
    reply = await running.ask(chat(mock={"tokkens": 1}))

    assert (reply.status, orjson.loads(reply.body)["error"]["param"]) == (400, "mock")
    assert second.journal.requests == 0
