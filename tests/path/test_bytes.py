"""Same dialect on both sides: what the provider sent is what the client receives, byte for byte, and the other way."""

import gzip
import random

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtest import frames, script
from loadtest.mock_upstream import MockUpstream
from tests.conftest import Start, Upstream, chat, request_bytes, two_rungs

WIDE = "data: " + orjson.dumps({"choices": [{"delta": {"content": "naïve 漢字 🜁 café"}}]}).decode()
GIANT = b"data: " + orjson.dumps({"choices": [{"delta": {"content": "x" * 300_000}}]})
WORD = b'data: {"choices":[{"delta":{"content":"a"}}]}'       # until there is one, another target may answer
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
DONE = b"data: [DONE]"

# What may stand between two blank lines, healthy or not. Nothing of it is the gateway's business.
EVENTS = (
    WORD,
    WIDE.encode(),
    b": keep-alive",
    b":",
    b"event: ping\ndata: {}",
    b"id: 7\nretry: 10\ndata:no space\ndata: two lines",
    b"data: this is not JSON",
    b"\xff\xfe\x00 not even text",
    b'data: {"choices":[{"delta":{"content":"\\u00e9\\ud83d\\ude00"}}],  "odd" : [ 1.0e3,0.10 ]}',
    b"",
)


def stream(events: list[bytes], end: bytes) -> bytes:
    """Return a complete stream with these line ends."""
    return b"".join(event.replace(b"\n", end) + end + end for event in [WORD, *events, FINISH, DONE])


async def relayed(serve: Start, first: MockUpstream, pieces: list[bytes], *, streamed: bool = True) -> bytes:
    """Return what a client receives of these pieces."""
    first.turn(raw=tuple(pieces))
    running = await serve()
    reply = await running.ask(chat(stream=streamed))
    receipt = await running.receipt()

    assert (reply.status, reply.whole, receipt["outcome"]) == (200, True, "ok")
    assert receipt["sent_bytes"] == len(reply.body)
    return reply.body


# ── streams ──


async def test_any_stream_cut_anywhere_arrives_as_it_was_sent(serve: Start, first: MockUpstream) -> None:
    """Comments, CRLF, characters cut in half, lines that are no JSON: 25 seeded streams, each cut at random."""
    running = await serve()
    for seed in range(25):
        rng = random.Random(seed)
        whole = stream(rng.choices(EVENTS, k=rng.randint(1, 12)), rng.choice((b"\n", b"\r\n", b"\r")))
        pieces = script.split(whole, rng.choice((1, 3, 17, 500)), rng)
        first.turn(raw=tuple(pieces))
        reply = await running.ask(chat(stream=True))

        assert (seed, reply.status, reply.whole, reply.body) == (seed, 200, True, whole)
    outcomes = {receipt["outcome"] for receipt in await running.receipts.until(25)}

    assert outcomes == {"ok"}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.lists(st.binary(min_size=1, max_size=40), max_size=8), at_most=st.integers(1, 60))
async def test_any_bytes_arrive_as_they_were_sent(
    serve: Start, first: MockUpstream, junk: list[bytes], at_most: int
) -> None:
    """Whatever stands before the end of a finished stream passes, readable or not."""
    whole = WORD + b"\n\n" + b"".join(junk) + b"\n\n" + stream([], b"\n")
    first.turn(raw=tuple(script.split(whole, at_most, random.Random(0))))
    running = await serve()
    reply = await running.ask(chat(stream=True, stream_options={"include_usage": True}))
    await running.close()

    assert (reply.status, reply.whole, reply.body) == (200, True, whole)


async def test_a_gigantic_event_arrives_whole(serve: Start, first: MockUpstream) -> None:
    """An event of 300 KB is longer than any buffer on the way."""
    whole = stream([GIANT, GIANT], b"\n")

    assert await relayed(serve, first, [whole]) == whole


async def test_the_last_event_may_be_gigantic_too(serve: Start, first: MockUpstream) -> None:
    """Where the end is read, too."""
    whole = stream([], b"\n") + GIANT + b"\n\n" + DONE + b"\n\n"

    assert await relayed(serve, first, [whole[:100_000], whole[100_000:]]) == whole


async def test_a_character_cut_in_half_is_not_touched(serve: Start, first: MockUpstream) -> None:
    """One byte a write, across every border that UTF-8 has."""
    whole = stream([WIDE.encode()], b"\r\n")

    assert await relayed(serve, first, [bytes([byte]) for byte in whole]) == whole


@pytest.mark.parametrize(
    "dials",
    [
        {"comments": True, "crlf": True, "split": 5, "multibyte": True, "tokens": 40},
        {"fault": "garbage", "tokens": 8},
        {"tokens": 2_000},
    ],
    ids=["dressed", "garbage", "long"],
)
async def test_the_provider_with_dials_is_relayed_exactly(
    serve: Start, first: MockUpstream, dials: dict[str, object]
) -> None:
    """Its own frames, in OpenAI's wire format, usage at the end among them."""
    first.turn(**dials)
    running = await serve()
    reply = await running.ask(chat(stream=True, stream_options={"include_usage": True}))

    assert reply.body == b"".join(first.journal.last.sent)
    assert frames.DONE.strip() in reply.body


# ── whole answers ──


@pytest.mark.parametrize(
    "body",
    [
        b' {\n "id" : "caf\\u00e9 \xc3\xa9",\t"choices":[ {"finish_reason":"stop"} ],"x":1.0E+2}\r\n',
        b'{"choices":[{"finish_reason":"stop"}],"choices":[]}',
        b'{"choices":"of another type"}',
        b'{"pad":"' + b"x" * 300_000 + b'"}',
    ],
    ids=["odd whitespace", "duplicate keys", "types", "300 KB"],
)
async def test_a_whole_answer_arrives_as_it_was_sent(serve: Start, first: MockUpstream, body: bytes) -> None:
    """White space, escapes, number formats and even what is no completion, as long as it is an object."""
    half = len(body) // 2

    assert await relayed(serve, first, [body[:half], body[half:]], streamed=False) == body


# ── the request on its way up ──


async def test_only_the_models_name_is_exchanged(serve: Start, first: MockUpstream) -> None:
    """Every other value arrives in the bytes it was written in, known to the gateway or not."""
    values = {
        "messages": b'[ {"role":"user" , "content":"caf\\u00e9 \\ud83d\\ude00"} ]',
        "temperature": b"1.0e0",
        "seed": b"123456789012345678901234567890",
        "a parameter of tomorrow": b'{"deep": [1,2,  {"x":null}]}',
        "stream": b"false",
    }
    fields = [b'"model" :  "auto"', *(orjson.dumps(name) + b":" + value for name, value in values.items())]
    running = await serve()
    reply = await running.ask(b"{ " + b" , ".join(fields) + b" }")
    arrived = first.journal.last

    assert reply.status == 200
    assert arrived.json["model"] == "mock-cheap"
    assert list(arrived.json) == ["model", *values]
    assert {name: value in arrived.body for name, value in values.items()} == dict.fromkeys(values, True)


async def test_a_body_that_names_the_providers_model_is_not_touched(gateway: Start, first: MockUpstream) -> None:
    """No byte changes where no byte must."""
    running = await gateway(two_rungs(first.base_url, first.base_url).replace("  premium:", "  mock-premium:")
                            .replace("[cheap, premium]", "[cheap, mock-premium]"))
    body = b'{"model":"mock-premium",\n  "messages":[{"role":"user","content":"hi"}] }\n'
    await running.ask(body)

    assert first.journal.last.body == body


async def test_a_compressed_body_is_understood(serve: Start, first: MockUpstream) -> None:
    """What the caller packed arrives unpacked."""
    running = await serve()
    reply = await running.ask(gzip.compress(orjson.dumps(chat("hello"))), {"Content-Encoding": "gzip"})

    assert reply.status == 200
    assert first.journal.last.json == {**chat("hello"), "model": "mock-cheap"}
    assert "content-encoding" not in first.journal.last.headers


async def test_the_upstream_gets_its_own_key_and_nothing_of_the_callers(serve: Start, first: MockUpstream) -> None:
    """Key, cookies, addresses and private headers of the caller stay with the gateway."""
    running = await serve(more="keys: {alice: {secret: sk-alice}}")
    private = {
        "Authorization": "Bearer sk-alice", "Cookie": "session=1", "X-Api-Key": "sk-other",
        "X-Forwarded-For": "10.0.0.1", "OpenAI-Organization": "org-alice", "X-Private": "yes",
        "x-thriftgate-session": "conversation-1", "User-Agent": "alices-app", "Accept-Encoding": "br",
    }
    reply = await running.ask(headers=private)
    arrived = first.journal.last.headers

    assert reply.status == 200
    assert dict(arrived) == {
        "Host": first.base_url.removeprefix("http://").removesuffix("/v1"),
        "Authorization": "Bearer sk-first-upstream",
        "Content-Type": "application/json",
        "Content-Length": str(len(first.journal.last.body)),
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "User-Agent": "thriftgate",
    }


# ── headers on their way down ──


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_providers_private_headers_stay_behind(
    gateway: Start, upstream: Upstream, *, streamed: bool
) -> None:
    """Cookies and server names go no further; request id, limits and retry hints do."""
    mock = await upstream({"Set-Cookie": "__cf_bm=secret", "Server": "cloudflare", "X-Private": "yes", "Via": "1.1 x"})
    running = await gateway(two_rungs(mock.base_url, mock.base_url))
    reply = await running.ask(chat(stream=streamed))

    assert {"Set-Cookie", "X-Private", "Via"} & set(reply.headers) == set()
    assert reply.headers["Server"] == "thriftgate"
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.headers["openai-version"] == "2020-10-01"
    assert reply.headers["x-ratelimit-remaining-requests"] == "499"


async def test_a_cookie_of_the_provider_is_not_sent_back_to_it(gateway: Start, upstream: Upstream) -> None:
    """One caller's cookie must not travel with another's call."""
    mock = await upstream({"Set-Cookie": "__cf_bm=secret; Path=/"})
    running = await gateway(two_rungs(mock.base_url, mock.base_url))
    for _ in range(2):
        await running.ask()

    assert "Cookie" not in mock.journal.last.headers


async def test_content_types_are_the_providers(serve: Start) -> None:
    """A stream is an event stream that proxies must not hold, a whole answer is JSON with its length."""
    running = await serve()
    streamed = await running.ask(chat(stream=True))
    whole = await running.ask(chat())

    assert streamed.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert (streamed.headers["Cache-Control"], streamed.headers["X-Accel-Buffering"]) == ("no-cache", "no")
    assert whole.headers["Content-Type"].startswith("application/json")
    assert int(whole.headers["Content-Length"]) == len(whole.body)


async def test_a_connection_carries_one_answer_after_the_other(serve: Start) -> None:
    """A client's connection is good for many requests, streamed and not, in turn."""
    running = await serve()
    wire = await running.wire()
    statuses = []
    for _ in range(2):
        await wire.send(request_bytes(orjson.dumps(chat(stream=True))))
        streamed = await wire.until(b"\r\n0\r\n\r\n")
        await wire.send(request_bytes(orjson.dumps(chat())))
        statuses += [streamed.split(b"\r\n")[0], (await wire.reply()).status]

    assert statuses == [b"HTTP/1.1 200 OK", 200] * 2


async def test_a_large_request_arrives_whole(serve: Start, first: MockUpstream) -> None:
    """Three megabytes, in pieces, with their length; the next target would get them again."""
    running = await serve()
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}
    reply = await running.ask(chat([picture]))  # type: ignore[arg-type]  # parts instead of a text
    call = first.journal.last

    assert reply.status == 200
    assert call.json["messages"][0]["content"] == [picture]
    assert call.headers["Content-Length"] == str(len(call.body))
