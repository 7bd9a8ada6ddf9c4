"""The official OpenAI SDK against the whole gateway: an application changes its base URL and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
import orjson
import pytest
from pydantic import BaseModel

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Running, Start

USER: Any = [{"role": "user", "content": "hi"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
KEYS = "keys: {alice: {secret: sk-alice}, bob: {secret: sk-bob, models: [premium]}}"

Connect = Callable[..., Awaitable[openai.AsyncOpenAI]]


class City(BaseModel):
    """What a structured answer must be."""

    name: str
    inhabitants: int


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """`await connect(running)`: the SDK with the gateway's base URL; it does not retry."""
    clients: list[openai.AsyncOpenAI] = []

    async def open_(running: Running, key: str = "sk-anything") -> openai.AsyncOpenAI:
        """Open one."""
        clients.append(openai.AsyncOpenAI(base_url=running.base_url + "/v1", api_key=key, max_retries=0))
        return clients[-1]

    yield open_
    for client in clients:
        await client.close()


@pytest.fixture
async def running(serve: Start) -> Running:
    """A healthy gateway."""
    return await serve()


@pytest.fixture
async def sdk(running: Running, connect: Connect) -> openai.AsyncOpenAI:
    """The SDK connected to it."""
    return await connect(running)


# ── answers ──


async def test_a_whole_answer(sdk: openai.AsyncOpenAI, running: Running, first: MockUpstream) -> None:
    """Text, finish reason and usage, from the model that the gateway chose."""
    answer = await sdk.chat.completions.create(model="auto", messages=USER)
    sent = orjson.loads(b"".join(first.journal.last.sent))

    assert answer.choices[0].message.content == sent["choices"][0]["message"]["content"]
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", "mock-cheap")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == sent["usage"]["completion_tokens"]


async def test_a_stream_with_usage(sdk: openai.AsyncOpenAI, running: Running) -> None:
    """Role, pieces, finish, usage, in order; the receipt has the same usage."""
    stream = await sdk.chat.completions.create(
        model="auto", messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    receipt = await running.receipt()
    usage = chunks[-1].usage

    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.content for chunk in chunks[1:-2])
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert usage is not None
    assert (receipt["input_tokens"], receipt["output_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)


async def test_a_stream_without_usage(sdk: openai.AsyncOpenAI, running: Running) -> None:
    """Nobody who did not ask for usage is given a chunk of it."""
    stream = await sdk.chat.completions.create(model="auto", messages=USER, stream=True)
    chunks = [chunk async for chunk in stream]

    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_the_synchronous_client(running: Running, *, streamed: bool) -> None:
    """In a thread of its own, as most applications use it."""

    def ask() -> str:
        """Return the text."""
        with openai.OpenAI(base_url=running.base_url + "/v1", api_key="sk-anything", max_retries=0) as sdk:
            if not streamed:
                return sdk.chat.completions.create(model="auto", messages=USER).choices[0].message.content or ""
            stream = sdk.chat.completions.create(model="auto", messages=USER, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    text = await asyncio.to_thread(ask)

    assert text
    assert (await running.receipt())["stream"] is streamed


async def test_the_raw_response_has_our_headers(sdk: openai.AsyncOpenAI, running: Running) -> None:
    """Who answered and why is there for applications that look."""
    raw = await sdk.chat.completions.with_raw_response.create(model="auto", messages=USER)
    receipt = await running.receipt()

    assert raw.headers["x-thriftgate-model"] == "cheap"
    assert raw.headers["x-thriftgate-reason"] == "learned"
    assert raw.headers["x-thriftgate-request-id"] == receipt["request_id"]
    assert raw.request_id == raw.headers["x-request-id"]
    assert raw.parse().choices[0].finish_reason == "stop"


async def test_a_raw_stream_has_our_headers(sdk: openai.AsyncOpenAI, running: Running) -> None:
    """Streamed, the headers are there before the first chunk."""
    async with sdk.chat.completions.with_streaming_response.create(
        model="gpt-4", messages=USER, stream=True, extra_headers={"x-thriftgate-rung": "premium"}
    ) as raw:
        pinned = (raw.headers["x-thriftgate-rung"], raw.headers["x-thriftgate-reason"])
        chunks = [chunk async for chunk in await raw.parse()]

    assert pinned == ("premium", "explicit")
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_tool_calls(sdk: openai.AsyncOpenAI, running: Running) -> None:
    """Streamed through the SDK's own accumulator, and whole."""
    asked: Any = {"model": "auto", "messages": USER, "tools": [TOOL], "tool_choice": "required"}
    async with sdk.chat.completions.stream(**asked) as stream:
        streamed = (await stream.get_final_completion()).choices[0].message.tool_calls
    whole = (await sdk.chat.completions.create(**asked)).choices[0]

    assert streamed
    assert (streamed[0].function.name, streamed[0].function.parsed_arguments) == ("weather", {"city": "sample"})
    assert whole.finish_reason == "tool_calls"
    assert whole.message.tool_calls
    assert orjson.loads(whole.message.tool_calls[0].function.arguments) == {"city": "sample"}


async def test_the_answer_of_a_tool_is_sent_on(sdk: openai.AsyncOpenAI, running: Running, first: MockUpstream) -> None:
    """A conversation with tool calls and results reaches the provider as it was written."""
    messages: Any = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    await sdk.chat.completions.create(model="auto", messages=messages, tools=[TOOL])

    assert first.journal.last.json["messages"] == messages


async def test_a_structured_answer(sdk: openai.AsyncOpenAI, running: Running, first: MockUpstream) -> None:
    """A JSON schema reaches the provider, and the SDK reads the answer into its type."""
    answer = await sdk.chat.completions.parse(model="auto", messages=USER, response_format=City)
    form = first.journal.last.json["response_format"]

    assert isinstance(answer.choices[0].message.parsed, City)
    assert form["json_schema"]["schema"]["required"] == ["name", "inhabitants"]


async def test_images_and_several_parts(sdk: openai.AsyncOpenAI, running: Running, first: MockUpstream) -> None:
    """A message of text and image passes as it is."""
    parts: Any = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    await sdk.chat.completions.create(model="auto", messages=[{"role": "user", "content": parts}])

    assert first.journal.last.json["messages"][0]["content"] == parts


async def test_the_list_of_models(sdk: openai.AsyncOpenAI, running: Running) -> None:
    """Everything that can be asked for."""
    listed = [model.id async for model in sdk.models.list()]

    assert listed == ["auto", "gpt-4", "cheap", "premium"]


# ── errors ──


@pytest.mark.parametrize(
    ("key", "wrong", "expected", "code"),
    [
        ("sk-alice", {"model": "gpt-99"}, openai.NotFoundError, "model_not_found"),
        ("sk-alice", {"messages": []}, openai.BadRequestError, None),
        ("sk-alice", {"messages": [{"role": "user", "content": 7}]}, openai.BadRequestError, None),
        ("sk-mallory", {}, openai.AuthenticationError, "invalid_api_key"),
        ("sk-bob", {}, openai.PermissionDeniedError, "model_not_allowed"),
    ],
    ids=["model", "messages", "content", "key", "right"],
)
async def test_our_refusals_are_the_sdks_exceptions(
    serve: Start, connect: Connect, key: str, wrong: dict[str, Any], expected: type[openai.APIStatusError],
    code: str | None,
) -> None:
    """Applications handle them as they handle the provider's."""
    sdk = await connect(await serve(more=KEYS), key)
    with pytest.raises(expected) as raised:
        await sdk.chat.completions.create(**{"model": "auto", "messages": USER, **wrong})

    assert raised.value.code == code
    assert raised.value.response.headers["x-thriftgate-request-id"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (429, openai.RateLimitError),
        (400, openai.BadRequestError),
        (422, openai.UnprocessableEntityError),
        (401, openai.InternalServerError),      # the gateway's key is not the caller's to mend
        (503, openai.InternalServerError),
    ],
)
async def test_the_providers_refusals_are_the_sdks_exceptions(
    sdk: openai.AsyncOpenAI, first: MockUpstream, status: int, expected: type[openai.APIStatusError]
) -> None:
    """A named model has no fallback: its provider's status is told in the SDK's words."""
    first.turn(error_rate=1, status=status)
    if status == 401:
        first.turn(error_rate=0)
        first.key = "another"
    with pytest.raises(expected) as raised:
        await sdk.chat.completions.create(model="cheap", messages=USER)

    assert raised.value.response.headers.get("retry-after") == ("1" if status in (429, 503) else None)


async def test_the_sdks_own_retry_works_with_our_retry_after(serve: Start, first: MockUpstream) -> None:
    """A 429 that the gateway does not wait for is tried again by the SDK after its Retry-After, and then answered."""
    running = await serve(more="server: {wait_ms: 0}")
    first.turn(error_rate=1, status=429)

    async def mend() -> None:
        """Let the provider recover once it has refused."""
        await first.journal.until(lambda journal: journal.refused == 1)
        first.turn(error_rate=0)

    async with openai.AsyncOpenAI(base_url=running.base_url + "/v1", api_key="sk-anything", max_retries=1) as sdk:
        answer, _ = await asyncio.gather(sdk.chat.completions.create(model="cheap", messages=USER), mend())
    receipts = await running.receipts.until(2)

    assert answer.choices[0].finish_reason == "stop"
    assert [receipt["status"] for receipt in receipts] == [429, 200]


@pytest.mark.parametrize("fault", ["cut-rst", "cut-fin", "end", "error-frame"])
async def test_a_broken_stream_raises(sdk: openai.AsyncOpenAI, first: MockUpstream, fault: str) -> None:
    """Never a silent end: the application has what came before, and an APIError."""
    first.turn(fault=fault, after=3)
    stream = await sdk.chat.completions.create(model="auto", messages=USER, stream=True)
    seen = []
    with pytest.raises(openai.APIError):  # noqa: PT012 - what came before it must be kept
        async for chunk in stream:
            seen.append(chunk)  # noqa: PERF401 - the loop raises

    assert len(seen) == 3
    assert [chunk.choices[0].finish_reason for chunk in seen] == [None] * 3


async def test_a_fallback_is_not_noticed(sdk: openai.AsyncOpenAI, first: MockUpstream) -> None:
    """The cheap provider is down; the application gets its stream all the same."""
    first.turn(error_rate=1)
    stream = await sdk.chat.completions.create(model="auto", messages=USER, stream=True)
    chunks = [chunk async for chunk in stream]

    assert {chunk.model for chunk in chunks} == {"mock-premium"}
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_a_stream_that_is_closed_cancels_the_upstream(
    sdk: openai.AsyncOpenAI, running: Running, first: MockUpstream
) -> None:
    """The application has read enough: the provider stops."""
    first.turn(fault="stall", after=3)
    stream = await sdk.chat.completions.create(model="auto", messages=USER, stream=True)
    await anext(aiter(stream))
    await stream.close()
    await first.journal.until(lambda journal: journal.cancelled == 1)

    assert (await running.receipt())["outcome"] == "abandoned"


async def test_many_at_once(sdk: openai.AsyncOpenAI, running: Running) -> None:
    """Thirty-two streams through one client: each gets its own answer, and leaves its own receipt."""

    async def ask(number: int) -> tuple[int, str | None]:
        """Return how many tokens came, and why they ended."""
        stream = await sdk.chat.completions.create(
            model="auto", messages=USER, stream=True, extra_body={"mock": {"tokens": number + 1}}
        )
        chunks = [chunk async for chunk in stream]
        return len(chunks) - 2, chunks[-1].choices[0].finish_reason

    answers = await asyncio.gather(*(ask(number) for number in range(32)))
    receipts = await running.receipts.until(32)

    assert answers == [(number + 1, "stop") for number in range(32)]
    assert {receipt["outcome"] for receipt in receipts} == {"ok"}
