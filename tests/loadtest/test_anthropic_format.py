"""Anthropic's API as its own SDK finds it, and as a plain client does."""

from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

import aiohttp
import orjson
import pytest

from loadtest import anthropic_format, asking
from loadtest.asking import Arrived, Moment, RefusalError
from loadtest.mock_upstream import DEFAULT_MODELS, MockUpstream

USER = [{"role": "user", "content": "What is a gateway?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [{"name": "weather", "input_schema": CITY}, {"name": "clock", "input_schema": {"type": "object"}}]
ONE_CALL = {"type": "any", "disable_parallel_tool_use": True}
HEADERS = {"anthropic-version": "2023-06-01"}
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}


def body(**more: object) -> dict[str, object]:
    """A request for mock-cheap."""
    return {"model": "mock-cheap", "max_tokens": 2000, "messages": USER, **more}


async def ask(http: aiohttp.ClientSession, provider: MockUpstream, path: str = "", **more: object) -> Any:
    """The answer to it, or the error, decoded."""
    url = f"{provider.root_url}/v1/messages{path}"
    async with http.post(url, json=body(**more), headers=HEADERS) as response:
        return orjson.loads(await response.read())


@pytest.fixture
async def sdk(mock: MockUpstream) -> AsyncIterator[Any]:
    """The official SDK, pointed at the mock; it does not retry."""
    anthropic = import_module("anthropic")
    async with anthropic.AsyncAnthropic(base_url=mock.root_url, api_key="sk-test", max_retries=0) as sdk:
        yield sdk


# ── as the SDK sees it ──


async def test_the_sdk_reads_a_message_equal_to_the_stream(sdk: Any) -> None:
    """The same words both ways, and the same usage."""
    whole = await sdk.messages.create(model="mock-cheap", max_tokens=99, system="Be brief.", messages=USER)
    async with sdk.messages.stream(model="mock-cheap", max_tokens=99, system="Be brief.", messages=USER) as stream:
        pieces = [piece async for piece in stream.text_stream]
        final = await stream.get_final_message()

    assert (whole.content[0].type, whole.content[0].text) == ("text", "".join(pieces))
    assert final.usage == whole.usage
    assert whole.usage.output_tokens == len(pieces)
    assert (final.stop_reason, final.role, final.model) == ("end_turn", "assistant", "mock-cheap")


async def test_the_sdk_thinks_calls_tools_and_returns_results(sdk: Any) -> None:
    """A whole round: thought, text and two calls streamed; results returned with the thought; an answer."""
    asked = {"model": "mock-cheap", "max_tokens": 2000, "thinking": THINKING, "tools": TOOLS}
    dials = {"mock": {"calls": 2}}
    async with sdk.messages.stream(**asked, messages=USER, extra_body=dials) as stream:
        kinds = [event.type async for event in stream]
        first = await stream.get_final_message()
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "42"}]}
        for block in first.content
        if block.type == "tool_use"
    ]
    turns = [*USER, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    second = await sdk.messages.create(**asked, messages=turns, extra_body=dials)

    assert [block.type for block in first.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.input for block in first.content[2:]] == [{"city": "sample"}, {}]
    assert (first.stop_reason, second.stop_reason) == ("tool_use", "end_turn")
    assert {"thinking", "signature", "input_json", "text"} < set(kinds)
    assert first.usage.output_tokens_details.thinking_tokens == asking.THOUGHTS
    assert second.content[-1].type == "text"


async def test_the_sdk_counts_and_lists(sdk: Any) -> None:
    """count_tokens is what the message then costs; models, and one of them."""
    asked = {"model": "mock-cheap", "system": "Be brief.", "tools": TOOLS, "messages": USER}
    counted = await sdk.messages.count_tokens(**asked)
    message = await sdk.messages.create(**asked, max_tokens=9)

    assert counted.input_tokens == message.usage.input_tokens
    assert message.stop_reason == "max_tokens"
    assert [model.id async for model in sdk.models.list()] == [model.name for model in DEFAULT_MODELS]
    assert (await sdk.models.retrieve("mock-cheap")).display_name == "Mock Cheap"


async def test_the_sdk_raises_its_own_errors(mock: MockUpstream, sdk: Any) -> None:
    """Unknown model, bad request, overload, limits, a failing stream and a wrong key, each as the provider's class."""
    anthropic = import_module("anthropic")

    async def create(**more: Any) -> None:
        """Ask, and get an error."""
        await sdk.messages.create(**{"model": "mock-cheap", "max_tokens": 9, "messages": USER, **more})

    with pytest.raises(anthropic.NotFoundError, match="model: claude-99"):
        await create(model="claude-99")
    with pytest.raises(anthropic.NotFoundError):
        await sdk.models.retrieve("claude-99")
    with pytest.raises(anthropic.BadRequestError, match="temperature: Extra inputs are not permitted"):
        await create(extra_body={"temperature": 1})
    with pytest.raises(anthropic.RateLimitError) as limited:
        await create(extra_body={"mock": {"error_rate": 1, "status": 429, "retry_after_s": 3}})
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        async with sdk.messages.stream(
            model="mock-cheap", max_tokens=9, messages=USER, extra_body={"mock": {"fault": "error-frame"}}
        ) as stream:
            await stream.get_final_message()
    mock.key = "sk-right"
    with pytest.raises(anthropic.AuthenticationError):
        await create()

    assert limited.value.response.headers["retry-after"] == "3"
    assert limited.value.request_id.startswith("req_011")


# ── as a plain client sees it ──


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"x-api-key": "k"}, 200), ({"Authorization": "Bearer k"}, 200), ({"x-api-key": "z"}, 401),
     ({"Authorization": "Bearer z"}, 401), ({}, 401)],
)  # fmt: skip
def test_the_key_comes_either_way(headers: dict[str, str], status: int) -> None:
    """The SDKs send a bearer token since their version 2."""
    arrived = Arrived({**headers, **HEADERS})
    if status == 200:
        anthropic_format.authenticate(arrived, "k")
        return
    with pytest.raises(RefusalError) as refused:
        anthropic_format.authenticate(arrived, "k")

    assert refused.value.status == status


@pytest.mark.parametrize(
    ("arrived", "said"),
    [
        (Arrived({}, fault="unexpected end"), "The request body is not valid JSON: unexpected end"),
        (Arrived({}), "model: Field required"),
        (Arrived({}, {"model": 3}), "model: Input should be a valid string"),
    ],
)
def test_a_model_is_named(arrived: Arrived, said: str) -> None:
    """Or the request is refused."""
    with pytest.raises(RefusalError, match=said):
        anthropic_format.named_model(arrived)


def test_headers_are_anthropics() -> None:
    """The request's id, the limits, and with a refusal whether and when to try again."""
    moment = Moment(1, 1)
    healthy, limited = anthropic_format.headers(moment), anthropic_format.headers(moment, RefusalError(429))
    body = orjson.loads(anthropic_format.refusal(RefusalError(429), moment))

    assert healthy["request-id"] == limited["request-id"] == body["request_id"]
    assert healthy["anthropic-ratelimit-requests-remaining"] == "49"
    assert healthy["anthropic-ratelimit-output-tokens-reset"] == "1970-01-01T00:00:02Z"
    assert "retry-after" not in healthy
    assert (limited["retry-after"], limited["anthropic-ratelimit-requests-remaining"]) == ("1", "0")
    assert limited["x-should-retry"] == "true"
    assert anthropic_format.headers(moment, RefusalError(400))["x-should-retry"] == "false"


async def test_a_cached_prefix_is_written_and_then_read(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """The three counts of the input add up to the whole prompt; a refused request stores nothing."""
    system = [{"type": "text", "text": "x" * 4000, "cache_control": {"type": "ephemeral"}}]
    await ask(http, mock, system=system, mock={"error_rate": 1})
    usages = [(await ask(http, mock, system=system))["usage"] for _ in range(2)]
    counts = [
        (one["input_tokens"], one["cache_creation_input_tokens"], one["cache_read_input_tokens"]) for one in usages
    ]
    refused = await ask(http, mock, "/count_tokens", system=system)
    dialled = (await ask(http, mock, mock={"cached_tokens": 2}))["usage"]

    assert counts == [(8, 1000, 0), (8, 0, 1000)]
    assert refused["error"]["message"] == "max_tokens: Extra inputs are not permitted"
    assert (dialled["input_tokens"], dialled["cache_read_input_tokens"]) == (6, 2)


@pytest.mark.parametrize(
    ("more", "kinds", "reason"),
    [
        ({"tool_choice": {"type": "any"}}, ["tool_use"], "tool_use"),
        ({"tool_choice": {"type": "tool", "name": "clock"}}, ["tool_use"], "tool_use"),
        ({"tool_choice": ONE_CALL, "mock": {"calls": 2}}, ["tool_use"], "tool_use"),
        ({"tool_choice": {"type": "none"}, "mock": {"calls": 2}}, ["text"], "end_turn"),
        ({"mock": {"calls": 2}}, ["text", "tool_use", "tool_use"], "tool_use"),
        ({"thinking": {"type": "adaptive"}}, ["thinking", "text"], "end_turn"),
        ({"thinking": {"type": "disabled"}}, ["text"], "end_turn"),
        ({"max_tokens": 3}, ["text"], "max_tokens"),
        ({"stop_sequences": ["."]}, ["text"], "stop_sequence"),
    ],
)
async def test_what_is_asked_for_is_said(
    mock: MockUpstream, http: aiohttp.ClientSession, more: dict[str, Any], kinds: list[str], reason: str
) -> None:
    """Calls, thoughts, limits and stops."""
    message = await ask(http, mock, tools=TOOLS, **more)

    assert [block["type"] for block in message["content"]] == kinds
    assert message["stop_reason"] == reason


async def test_an_answer_satisfies_its_schema(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """A text that is JSON."""
    form = {"type": "json_schema", "schema": {**CITY, "additionalProperties": False}}
    message = await ask(http, mock, output_config={"format": form})

    assert orjson.loads(message["content"][0]["text"]) == {"city": "sample"}
