"""The mock is a provider to OpenAI's own SDK, and each of its dials does what it says."""

import asyncio
import contextlib
import re
import signal
import sys
import time
from pathlib import Path

import aiohttp
import openai
import orjson
import pytest

from loadtest import frames
from loadtest.dials import Dials
from loadtest.mock_upstream import DEFAULT_MODELS, MOCK, MockUpstream, create_app

USER = [{"role": "user", "content": "What is a gateway?"}]


def body(**more: object) -> dict[str, object]:
    """A streamed request for mock-cheap."""
    return {"model": "mock-cheap", "messages": USER, "stream": True, **more}


async def read(http: aiohttp.ClientSession, provider: MockUpstream, /, **more: object) -> bytes:
    """The whole body of a streamed answer."""
    async with http.post(f"{provider.base_url}/chat/completions", json=body(**more)) as response:
        assert response.status == 200
        return await response.read()


# ── the healthy provider, as the SDK sees it ──


async def test_the_sdk_reads_a_stream(sdk: openai.AsyncOpenAI) -> None:
    """Role, text, finish reason, usage."""
    stream = await sdk.chat.completions.create(
        model="mock-cheap",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    usage = chunks[-1].usage
    text = [chunk.choices[0].delta.content for chunk in chunks[1:-2]]

    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert all(text)
    assert usage is not None
    assert usage.completion_tokens == len(text)
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks}) == 1


async def test_the_sdk_reads_a_whole_answer_equal_to_the_stream(sdk: openai.AsyncOpenAI) -> None:
    """The same prompt gets the same words both ways, and the same count of tokens."""
    whole = await sdk.chat.completions.create(model="mock-premium", messages=[{"role": "user", "content": "hi"}])
    stream = await sdk.chat.completions.create(
        model="mock-premium", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    pieces = [chunk.choices[0].delta.content async for chunk in stream]

    assert whole.choices[0].message.content == "".join(filter(None, pieces))
    assert whole.usage is not None
    assert whole.usage.completion_tokens == len(pieces) - 2
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


async def test_the_sdk_reads_tool_calls(sdk: openai.AsyncOpenAI) -> None:
    """Streamed through the SDK's own accumulator, which is strict about deltas."""
    async with sdk.chat.completions.stream(
        model="mock-middle",
        messages=[{"role": "user", "content": "weather?"}],
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "strict": True,
                    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
                },
            }
        ],
        tool_choice="required",
    ) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls

    assert calls
    assert (calls[0].function.name, calls[0].function.parsed_arguments) == ("weather", {"city": "sample"})
    assert final.choices[0].finish_reason == "tool_calls"


async def test_the_sdk_reads_raw_responses_and_models(sdk: openai.AsyncOpenAI) -> None:
    """The headers that the provider sends, the list of models and one of them."""
    raw = await sdk.chat.completions.with_raw_response.create(
        model="mock-cheap", messages=[{"role": "user", "content": "hi"}], n=2, logprobs=True
    )
    models = [model.id async for model in sdk.models.list()]

    assert raw.headers["x-request-id"].startswith("req_")
    assert {"openai-processing-ms", "x-ratelimit-remaining-tokens"} <= set(raw.headers)
    assert [choice.index for choice in raw.parse().choices] == [0, 1]
    assert models == [model.name for model in DEFAULT_MODELS]
    assert (await sdk.models.retrieve("mock-cheap")).owned_by == "mock"


async def test_the_sdk_raises_its_own_errors(mock: MockUpstream, sdk: openai.AsyncOpenAI) -> None:
    """Unknown model, wrong key, bad request, each as the provider's error class."""
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        await sdk.chat.completions.create(model="gpt-99", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.NotFoundError):
        await sdk.models.retrieve("gpt-99")
    with pytest.raises(openai.BadRequestError, match="messages"):
        await sdk.chat.completions.create(model="mock-cheap", messages=[])
    mock.key = "sk-right"
    with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
        await sdk.chat.completions.create(model="mock-cheap", messages=[{"role": "user", "content": "hi"}])


# ── what the journal sees ──


async def test_the_journal_has_headers_body_and_bytes(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """A test of a gateway can assert on what the gateway sent and what it was sent."""
    received = await read(http, mock, mock={"tokens": 2})
    await mock.journal.until(lambda journal: journal.answered == 1)
    call = mock.journal.last

    assert call.json["mock"] == {"tokens": 2}
    assert call.headers["content-type"] == "application/json"
    assert b"".join(call.sent) == received
    assert (call.model, call.status, call.chunks_sent, call.bytes_sent) == ("mock-cheap", 200, 5, len(received))
    assert call.started <= call.first_byte <= call.ended


@pytest.mark.parametrize("dials", [{"fault": "hang"}, {"fault": "stall", "after": 2}, {"fault": "role-only"}])
async def test_a_client_that_leaves_is_noticed(
    mock: MockUpstream, http: aiohttp.ClientSession, dials: dict[str, object]
) -> None:
    """Before the headers and in mid-stream, while the mock is silent; awaited, not slept for."""
    calling = asyncio.get_running_loop().create_task(read(http, mock, mock=dials))
    sent = 0 if dials["fault"] == "hang" else 1 if dials["fault"] == "role-only" else 2
    await mock.journal.until(lambda journal: journal.in_flight == 1 and journal.chunks_sent == sent)
    left = time.monotonic()
    calling.cancel()
    await mock.journal.until(lambda journal: journal.cancelled == 1)

    assert mock.journal.in_flight == 0
    assert mock.journal.last.outcome == "cancelled"
    assert mock.journal.last.ended >= left


async def test_stopping_the_mock_is_no_cancellation() -> None:
    """Only clients that leave are counted as such."""
    async with MockUpstream() as mock, aiohttp.ClientSession() as http:
        calling = asyncio.get_running_loop().create_task(read(http, mock, mock={"fault": "hang"}))
        await mock.journal.until(lambda journal: journal.in_flight == 1)
        await mock.stop()
        with pytest.raises(aiohttp.ClientError):
            await calling

    assert (mock.journal.cancelled, mock.journal.last.outcome) == (0, "stopped")


async def test_the_state_is_served(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """A driver in another process can read the counters."""
    await read(http, mock)
    await mock.journal.until(lambda journal: journal.answered == 1)
    async with http.get(mock.base_url.removesuffix("/v1") + "/mock/state") as response:
        state = await response.json()

    assert (state["requests"], state["answered"], state["in_flight"]) == (1, 1, 0)
    assert "1 requests" in repr(mock)


# ── the dials ──


async def test_each_place_of_a_dial_beats_the_one_before(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """Global, model, name, body."""

    async def tokens(name: str = "mock-cheap", **dials: object) -> int:
        """How many tokens the answer has."""
        received = await read(http, mock, model=name, **({"mock": dials} if dials else {}))
        return received.count(b'"content":') - 1

    mock.turn(tokens=2)
    mock.turn("mock-cheap", tokens=3)

    assert await tokens("mock-middle") == 2
    assert await tokens() == 3
    assert await tokens("mock-cheap?tokens=4") == 4
    assert await tokens("mock-cheap?tokens=4", tokens=5) == 5


@pytest.mark.parametrize("wrong", [{"tokkens": 1}, {"tokens": "many"}, {"fault": "boom"}, "text"])
async def test_a_misspelt_dial_is_a_400(mock: MockUpstream, http: aiohttp.ClientSession, wrong: object) -> None:
    """It is never ignored: the test would pass for the wrong reason."""
    async with http.post(f"{mock.base_url}/chat/completions", json=body(mock=wrong)) as response:
        error = (await response.json())["error"]

    assert (response.status, error["param"]) == (400, "mock")
    with pytest.raises(ValueError, match="unknown dial"):
        mock.turn("mock-cheap", tokkens=1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 502, 503, 529])
async def test_error_rate_refuses_with_the_status(
    mock: MockUpstream, http: aiohttp.ClientSession, status: int
) -> None:
    """OpenAI's error object; Retry-After where waiting helps."""
    wrong = {"error_rate": 1, "status": status, "retry_after_s": 7}
    async with http.post(f"{mock.base_url}/chat/completions", json=body(mock=wrong)) as response:
        raw = await response.read()

    assert response.status == status
    assert response.headers.get("Retry-After") == ("7" if status in (429, 503, 529) else None)
    assert raw == frames.error(status)
    assert mock.journal.refused == 1


async def test_error_and_fault_rates_are_shares(http: aiohttp.ClientSession) -> None:
    """Seeded: the same calls fail in every run."""

    async def run() -> list[str]:
        """How forty calls ended."""
        async with MockUpstream(dials=Dials(error_rate=0.3, fault="end", fault_rate=0.5, seed=4)) as mock:
            for _ in range(40):
                async with http.post(f"{mock.base_url}/chat/completions", json=body()) as response:
                    done = (await response.read()).endswith(frames.DONE)
                    outcomes.append(f"{response.status} {done}")
        return outcomes

    outcomes: list[str] = []
    first = list(await run())
    outcomes.clear()

    assert set(first) == {"500 False", "200 True", "200 False"}
    assert first == await run()


async def test_a_storm_is_logged_call_by_call(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """What was said, what befell it and how it ended; refusals are named by their status."""
    log = tmp_path / "log"
    async with MockUpstream(dials=Dials(storm=1.0, seed=4, tokens=8), log=log) as mock:
        for at in range(40):
            asked = body(messages=[{"role": "user", "content": f"number {at}"}], mock={"stall_ms": 1})
            with contextlib.suppress(aiohttp.ClientError):
                async with http.post(f"{mock.base_url}/chat/completions", json=asked) as response:
                    await response.read()
        await mock.journal.until(lambda journal: not journal.in_flight)
    last = {line["serial"]: line for line in map(orjson.loads, log.read_bytes().splitlines())}

    assert [line["said"] for line in last.values()] == [f"number {at}" for at in range(40)]
    assert {line["fault"] for line in last.values()} == {
        "429", "500", "503", "529", "hang", "cut-rst", "error-frame", "stall", "garbage", "end",
    }  # fmt: skip
    assert {line["outcome"] for line in last.values()} == {"refused", "cut", "answered"}
    assert all(line["stream"] for line in last.values())


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("fault", ["cut-rst", "cut-fin"])
async def test_a_cut_breaks_the_connection_after_what_was_sent(
    mock: MockUpstream, http: aiohttp.ClientSession, fault: str, *, streamed: bool
) -> None:
    """A reset or a close in the middle of the body: the client gets the bytes before it, then an error."""
    received = b""
    asked = body(stream=streamed, mock={"fault": fault, "after": 3})
    async with http.post(f"{mock.base_url}/chat/completions", json=asked) as response:
        with pytest.raises((aiohttp.ClientError, ConnectionError)):  # noqa: PT012  what came before it must be kept
            async for piece in response.content.iter_any():
                received += piece

    assert received == b"".join(mock.journal.last.sent)
    assert received.count(b"data: ") == (3 if streamed else 0)
    assert mock.journal.cut == 1


async def test_a_silent_end_is_a_proper_end_without_done(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """HTTP sees nothing wrong; only the missing finish_reason and [DONE] tell."""
    received = await read(http, mock, mock={"fault": "end", "after": 3})

    assert received.count(b"data: ") == 3
    assert b"[DONE]" not in received
    assert b'"stop"' not in received


async def test_a_stall_may_go_on_afterwards(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """With stall_ms the stream continues as if nothing had happened."""
    received = await read(http, mock, mock={"fault": "stall", "stall_ms": 1, "tokens": 6})

    assert received.endswith(frames.DONE)
    assert mock.journal.last.ended - mock.journal.last.started >= 0.001


async def test_role_only_ends_without_a_word(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """The role, silence, a clean end: an empty success that a gateway must not believe."""
    received = await read(http, mock, mock={"fault": "role-only", "stall_ms": 1})

    assert received.count(b"data: ") == 1
    assert b'"role":"assistant"' in received


@pytest.mark.parametrize("after", [0, 3])
async def test_an_error_frame_raises_in_the_sdk(sdk: openai.AsyncOpenAI, after: int) -> None:
    """First frame or later: the SDK raises where the frame arrives."""
    stream = await sdk.chat.completions.create(
        model="mock-cheap",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        extra_body={"mock": {"fault": "error-frame", "after": after}},
    )
    seen = []
    with pytest.raises(openai.APIError, match="server had an error"):  # noqa: PT012  what came before it must be kept
        async for chunk in stream:
            seen.append(chunk)  # noqa: PERF401  the loop raises

    assert len(seen) == after


async def test_garbage_is_one_line_in_a_stream_that_goes_on(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """A reader that gives up on one bad line loses a good answer."""
    received = await read(http, mock, mock={"fault": "garbage", "tokens": 6})

    assert received.count(frames.GARBAGE) == 1
    assert received.endswith(frames.DONE)


async def test_comments_line_ends_splits_and_wide_characters(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """All at once, and still every piece arrives in order."""
    dials = {"comments": True, "crlf": True, "split": 3, "multibyte": True, "tokens": 30}
    received = await read(http, mock, mock=dials)
    sent = mock.journal.last.sent

    assert b"".join(sent) == received
    assert max(map(len, sent)) == 3
    assert b": keep-alive\r\n\r\n" in received
    with pytest.raises(UnicodeDecodeError):
        [piece.decode() for piece in sent]
    assert received.decode()


async def test_a_raw_script_is_sent_exactly_so(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """Any bytes at all, one write a piece, with the other dials' pace and ending."""
    raw = (b"data: caf\xc3", b"\xa9\r\n\r\n", b"\x00\xff", b"no line end")
    mock.turn("mock-cheap", raw=raw, tokens_per_s=1e6)

    assert await read(http, mock) == b"".join(raw)
    assert mock.journal.last.sent == list(raw)


async def test_speed_is_dialled(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """The first byte and the last come no earlier than the dials allow."""
    await read(http, mock, mock={"ttft_ms": 20, "tokens_per_s": 1000, "jitter": 0.5, "tokens": 10})
    call = mock.journal.last

    assert call.first_byte - call.started >= 0.010
    assert call.ended - call.first_byte >= 0.006


async def test_canned_whole_framesare_the_same_every_time(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """The benchmark's mode: built once, and whole answers too."""
    mock.turn(canned=True, tokens=5)
    streams = {await read(http, mock) for _ in range(3)}
    bodies = set()
    for _ in range(2):
        async with http.post(f"{mock.base_url}/chat/completions", json=body(stream=False)) as response:
            bodies.add(await response.read())

    assert (len(streams), len(bodies)) == (1, 1)
    assert orjson.loads(bodies.pop())["usage"]["completion_tokens"] == 5


def test_a_realistic_mock_has_a_speed_for_each_model() -> None:
    """The cheap one is fast and costs little, the premium one neither."""
    speeds = [(model.input_usd, model.output_usd, model.ttft_ms, -model.tokens_per_s) for model in DEFAULT_MODELS]
    app = create_app(dials=Dials(tokens=3))

    assert speeds == sorted(speeds)
    assert app[MOCK].dials.tokens == 3
    assert MockUpstream(realistic=True)._turned["mock-premium"]["ttft_ms"] == DEFAULT_MODELS[-1].ttft_ms


# ── as a process ──


async def test_it_runs_as_a_command_and_says_where() -> None:
    """One line when ready; SIGTERM ends it with 0."""
    command = [sys.executable, "-m", "loadtest.mock_upstream", "--port", "0", "--tokens", "2", "--realistic"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    process.send_signal(signal.SIGTERM)
    status = await process.wait()

    assert re.fullmatch(r"mock upstream on http://127\.0\.0\.1:\d+/v1\n", line)
    assert status == 0


async def test_a_wrong_dial_on_the_command_line_is_named() -> None:
    """It does not start with a fault it does not know."""
    command = [sys.executable, "-m", "loadtest.mock_upstream", "--port", "0", "--fault", "boom"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()

    assert process.returncode == 1
    assert b"unknown fault 'boom'" in said
