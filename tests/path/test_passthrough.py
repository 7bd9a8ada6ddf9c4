"""What passes untouched: the same dialect on both sides, embeddings and completions, Anthropic's count of tokens."""

from typing import Any

import orjson
import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Running, Start
from tests.path.conftest import END, STREAM, Script, Scripted, chunk
from tests.path.surfaces import BEGIN, FINISH, KINDS, asked, error_of, three

# ── embeddings and completions pass through ──

PLAIN = {
    "embeddings": b'{ "input":["caf\\u00e9"], "model":"acme-1","dimensions": 2e0 }\n',
    "completions": b'{"model":"acme-1" , "prompt":"Once","max_tokens":7,"echo":false}',
}
ANSWER = b'{ "object":"list" ,"data":[{"embedding":[0.50,-1.0e-3]}],"usage":{"prompt_tokens":4,"total_tokens":4}}\n'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


@pytest.fixture
async def plain(gateway: Start, scripted: Scripted) -> tuple[Running, Script]:
    """A gateway before a provider that gives this answer, under its own model's name."""
    script = await scripted(WHOLE % (len(ANSWER), ANSWER))
    return await gateway(f"""
upstreams:
  acme:  {{base_url: "{script.base_url}", key: sk-acme}}
  other: {{base_url: "{script.base_url}", dialect: anthropic}}
models:
  acme-1: {{upstream: acme, price: {{input: 1, output: 1}}}}
  small:  {{upstream: acme, name: acme-2}}
  claude: {{upstream: other}}
routes: {{auto: {{ladder: [acme-1, claude]}}}}
"""), script


@pytest.mark.parametrize("kind", PLAIN)
async def test_it_passes_byte_for_byte(plain: tuple[Running, Script], kind: str) -> None:
    """Up and down, to the address of its kind and with the provider's key; what it used is booked."""
    running, script = plain
    reply = await running.ask(PLAIN[kind], path=f"/v1/{kind}")
    receipt = await running.receipt()

    assert (reply.status, reply.body) == (200, ANSWER)
    assert script.head.startswith(f"POST /v1/{kind} HTTP/1.1\r\n".encode())
    assert b"Bearer sk-acme" in script.head
    assert script.body == PLAIN[kind]
    assert (receipt["model"], receipt["reason"], receipt["outcome"]) == ("acme-1", "explicit", "ok")
    assert (receipt["input_tokens"], receipt["classify_ms"]) == (4, None)


@pytest.mark.parametrize("kind", PLAIN)
async def test_only_its_models_name_is_exchanged(plain: tuple[Running, Script], kind: str) -> None:
    """Every other value arrives in the bytes it was written in."""
    running, script = plain
    await running.ask(PLAIN[kind].replace(b"acme-1", b"small"), path=f"/v1/{kind}")

    assert orjson.loads(script.body) == {**orjson.loads(PLAIN[kind]), "model": "acme-2"}
    assert kind == "completions" or b"caf\\u00e9" in script.body


async def test_completions_are_streamed(gateway: Start, scripted: Scripted) -> None:
    """The events of the old API pass as they come, and their end is known."""
    events = b'data: {"choices":[{"text":"a","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    script = await scripted(STREAM + chunk(events) + END)
    running = await gateway(f'upstreams: {{a: {{base_url: "{script.base_url}"}}}}\nmodels: {{acme-1: {{upstream: a}}}}')
    reply = await running.ask(b'{"model":"acme-1","prompt":"x","stream":true}', path="/v1/completions")

    assert (reply.status, reply.whole, reply.body) == (200, True, events)
    assert (await running.receipt())["outcome"] == "ok"


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize(
    ("model", "status", "says"),
    [(b"auto", 400, "are not routed: name a configured model"), (b"claude", 400, "one that speaks anthropic"),
     (b"nope", 404, "does not exist here")],
)
async def test_where_it_cannot_pass(
    plain: tuple[Running, Script], kind: str, model: bytes, status: int, says: str
) -> None:
    """Not to a route, not to a provider without such an API, not to a model that is not there; `model` is named."""
    running, script = plain
    reply = await running.ask(PLAIN[kind].replace(b"acme-1", model), path=f"/v1/{kind}")

    assert (reply.status, reply.error["param"]) == (status, "model")
    assert says in reply.error["message"]
    assert script.calls == 0


# ── where both sides speak the same dialect, nothing is touched ──

ASKING = {      # the path, the body, and where it arrives; a provider's field of tomorrow is among them
    "anthropic": (
        "/v1/messages", b'{ "model":"m-1", "max_tokens":9,"top_p":1e0,"of tomorrow":{"a":[1,2.0]},%b\n "messages":'
        b'[{"role":"user","content":"caf\\u00e9"}] }', "/v1/messages",
    ),
    "gemini": (
        "/v1beta/models/m-1:%s", b'{ "contents": [{"parts":[{"text":"caf\\u00e9"}],"role":"user"}],%b\n '
        b'"of tomorrow":{"a":[1,2.0]} }', "/v1/models/m-1:%s",
    ),
}
VERBS = {True: "streamGenerateContent?alt=sse", False: "generateContent"}
ANSWERS = {
    "anthropic": b'{ "type":"message","content":[{"type":"text","text":"caf\\u00e9"}],"stop_reason":"end_turn",'
                 b'"usage":{"input_tokens":9,"output_tokens":4},"of tomorrow":1.0}\n',
    "gemini": b'{ "candidates":[{"content":{"parts":[{"text":"caf\\u00e9"}]},"finishReason":"STOP"}],'
              b'"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":4},"of tomorrow":1.0}\n',
}


@pytest.mark.parametrize("dialect", ASKING)
@pytest.mark.parametrize("events", [0, 1, 2_000], ids=["whole", "streamed", "a long stream"])
async def test_the_same_dialect_passes_byte_for_byte(
    gateway: Start, scripted: Scripted, dialect: str, events: int
) -> None:
    """Up and down; usage is booked whole or streamed, also where the stream's beginning is long past at its end."""
    begin, finish = BEGIN[dialect], FINISH[dialect]
    sent = b"".join([*begin, *begin[-1:] * events, *finish]) if events else ANSWERS[dialect]
    pieces = [chunk(sent[at:at + 777]) for at in range(0, len(sent), 777)] if events else []
    script = await scripted(STREAM, *pieces, END) if events else await scripted(WHOLE % (len(sent), sent))
    running = await gateway(
        f'upstreams: {{a: {{dialect: {dialect}, base_url: "{script.base_url}"}}}}\n'
        "models: {m-1: {upstream: a, price: {input: 1, output: 2}}}"
    )
    path, body, there = ASKING[dialect]
    body %= b'"stream":true,' if events and dialect == "anthropic" else b""
    verb = VERBS[events > 0]
    reply = await running.ask(body, path=path.replace("%s", verb))
    receipt = await running.receipt()

    assert (reply.status, reply.whole, reply.body == sent) == (200, True, True)
    assert script.head.startswith(f"POST {there.replace('%s', verb)} HTTP/1.1\r\n".encode())
    assert script.body == body
    assert (receipt["outcome"], receipt["surface"], receipt["sent_bytes"]) == ("ok", dialect, len(sent))
    assert (receipt["input_tokens"], receipt["output_tokens"], receipt["cost_usd_micros"]) == (9, 4, 17)


VERSIONED = {"anthropic-version": "2099-01-01", "anthropic-beta": "files-api-2025-04-14"}


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("surface", ["anthropic", "openai"])
async def test_anthropics_headers_are_for_anthropic(
    gateway: Start, first: MockUpstream, provider: str, surface: str
) -> None:
    """A version and a beta reach Anthropic from its own callers, and nobody else from anybody."""
    running = await gateway(three(first))
    path, body = asked(surface, f"of-{provider}")
    reply = await running.ask(body, VERSIONED, path)
    arrived = first.journal.last.headers
    ours = {"anthropic-version": "2023-06-01"} if provider == "anthropic" else {}

    assert reply.status in {200, 400}       # the mock knows no such version
    assert {name: arrived[name] for name in VERSIONED if name in arrived} == (
        VERSIONED if (surface, provider) == ("anthropic", "anthropic") else ours
    )


# ── tokens are counted ──

COUNT = "/v1/messages/count_tokens"
SEALED: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "thriftgate.gemini.a"}, {"type": "text", "text": "Hello."},
    ]},
    {"role": "user", "content": "and?"},
]


def counting(model: str, messages: list[dict[str, Any]]) -> bytes:
    """A request for a count."""
    return orjson.dumps({"model": model, "messages": messages})


async def test_anthropic_counts_for_its_own_callers(gateway: Start, first: MockUpstream) -> None:
    """The request passes, and the provider's figure comes back; no verdict is needed for it."""
    running = await gateway(three(first))
    reply = await running.ask(counting("of-anthropic", SEALED[:1]), path=COUNT)
    receipt = await running.receipt()

    assert (reply.status, reply.body) == (200, b"".join(first.journal.last.sent))
    assert first.journal.last.path == COUNT
    assert (receipt["outcome"], receipt["classify_ms"], receipt["cost_usd_micros"]) == ("ok", None, None)
    assert "x-thriftgate-estimate" not in reply.headers


@pytest.mark.parametrize(
    ("model", "messages"),
    [("of-openai", SEALED[:1]), ("of-gemini", SEALED[:1]), ("auto", SEALED[:1]), ("of-anthropic", SEALED)],
    ids=["at OpenAI", "at Gemini", "a route", "a history that Anthropic refuses"],
)
async def test_else_the_count_is_an_estimate(
    gateway: Start, first: MockUpstream, model: str, messages: list[dict[str, Any]]
) -> None:
    """By length, and it says so; nothing is sent upstream."""
    running = await gateway(three(first))
    body = counting(model, messages)
    reply = await running.ask(body, path=COUNT)
    receipt = await running.receipt()

    assert (reply.status, reply.headers["x-thriftgate-estimate"]) == (200, "length")
    assert 1 <= reply.json["input_tokens"] <= len(body)
    assert (receipt["outcome"], receipt["status"], receipt["attempts"]) == ("ok", 200, [])
    assert first.journal.requests == 0


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (counting("nope", SEALED), 404)])
async def test_a_count_that_is_refused(gateway: Start, first: MockUpstream, body: bytes, status: int) -> None:
    """In Anthropic's form."""
    running = await gateway(three(first))
    reply = await running.ask(body, path=COUNT)

    assert (reply.status, error_of("anthropic", reply)[0]) == (status, KINDS["anthropic"][status])


async def test_a_history_with_other_models_thinking_is_worded_anew(gateway: Start, first: MockUpstream) -> None:
    """Anthropic would refuse the seal: it goes without, and that is named; the answer passes as it came."""
    running = await gateway(three(first))
    path, _ = asked("anthropic")
    body = orjson.dumps({"model": "of-anthropic", "max_tokens": 9, "messages": SEALED})
    reply = await running.ask(body, path=path)

    assert (reply.status, reply.body) == (200, b"".join(first.journal.last.sent))
    assert reply.headers["x-thriftgate-lost"] == "thinking"
    assert b"thriftgate." not in first.journal.last.body
