"""The official SDKs against models of every provider: any dialect in, any out, streamed and whole.

The mock provider answers the same question with the same words whichever wire format it is asked in, so a translation
that loses or adds a word shows as a difference from the answer that passed straight through.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import anthropic
import openai
import orjson
import pytest
from google import genai
from google.genai import types
from pydantic import BaseModel

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Running

# The SDK makes a subclass of aiohttp's session, which aiohttp discourages.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
MODELS = ("of-openai", "of-anthropic", "of-gemini")
QUESTION = "How long does it take to walk around the lake?"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SCHEMA: dict[str, Any] = {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False,
}


class City(BaseModel):
    """What a structured answer must be."""

    name: str
    inhabitants: int


class Said(NamedTuple):
    """An answer, whoever's SDK gave it."""

    text: str
    finish: str
    input: int
    output: int


Asks = Callable[..., Awaitable[Said]]


async def by_chat(providers: Running, model: str, *, stream: bool, **more: Any) -> Said:
    """Ask through OpenAI's chat completions."""
    async with openai.AsyncOpenAI(base_url=providers.base_url + "/v1", api_key="k", max_retries=0) as sdk:
        messages: Any = more.pop("messages", [{"role": "user", "content": QUESTION}])
        if not stream:
            whole = await sdk.chat.completions.create(model=model, messages=messages, **more)
            assert whole.usage is not None
            choice = whole.choices[0]
            used = whole.usage
            return Said(choice.message.content or "", choice.finish_reason, used.prompt_tokens, used.completion_tokens)
        async with sdk.chat.completions.stream(
            model=model, messages=messages, stream_options={"include_usage": True}, **more
        ) as events:
            final = await events.get_final_completion()
        assert final.usage is not None
        choice_ = final.choices[0]
        return Said(
            choice_.message.content or "", choice_.finish_reason, final.usage.prompt_tokens,
            final.usage.completion_tokens,
        )


async def by_responses(providers: Running, model: str, *, stream: bool, **more: Any) -> Said:
    """Ask through OpenAI's responses."""
    async with openai.AsyncOpenAI(base_url=providers.base_url + "/v1", api_key="k", max_retries=0) as sdk:
        asked: Any = {"model": model, "input": QUESTION, **more}
        if stream:
            async with sdk.responses.stream(**asked) as events:
                done = await events.get_final_response()
        else:
            done = await sdk.responses.create(**asked)
        assert done.usage is not None
        return Said(done.output_text, str(done.status), done.usage.input_tokens, done.usage.output_tokens)


async def by_messages(providers: Running, model: str, *, stream: bool, **more: Any) -> Said:
    """Ask through Anthropic's messages."""
    async with anthropic.AsyncAnthropic(base_url=providers.base_url, api_key="k", max_retries=0) as sdk:
        asked: Any = {
            "model": model, "max_tokens": 500, "messages": [{"role": "user", "content": QUESTION}], **more
        }
        if stream:
            async with sdk.messages.stream(**asked) as events:
                done = await events.get_final_message()
        else:
            done = await sdk.messages.create(**asked)
        text = "".join(block.text for block in done.content if block.type == "text")
        return Said(text, str(done.stop_reason), done.usage.input_tokens, done.usage.output_tokens)


async def by_gemini(providers: Running, model: str, *, stream: bool, **more: Any) -> Said:
    """Ask through Google's generateContent."""
    sdk = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=providers.base_url))
    asked: Any = {"model": model, "contents": QUESTION, **more}
    try:
        if not stream:
            chunks = [await sdk.aio.models.generate_content(**asked)]
        else:
            chunks = [chunk async for chunk in await sdk.aio.models.generate_content_stream(**asked)]
    finally:
        await sdk.aio.aclose()
    text = "".join(
        part.text for chunk in chunks for candidate in chunk.candidates or ()
        for part in (candidate.content and candidate.content.parts) or () if part.text
    )
    used, finish = chunks[-1].usage_metadata, next(iter(chunks[-1].candidates or ()), None)
    assert used is not None
    assert finish is not None
    return Said(
        text, str(finish.finish_reason and finish.finish_reason.name), used.prompt_token_count or 0,
        used.candidates_token_count or 0,
    )


ASKS = {"chat": by_chat, "responses": by_responses, "messages": by_messages, "gemini": by_gemini}
NATIVE = {"of-openai": "chat", "of-anthropic": "messages", "of-gemini": "gemini"}
ENDED_WELL = {"chat": "stop", "responses": "completed", "messages": "end_turn", "gemini": "STOP"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("surface", ASKS)
async def test_the_same_answer(providers: Running, surface: str, model: str, *, stream: bool) -> None:
    """Every SDK gets every word of every provider and its own counts, and so does the receipt."""
    straight = await by_chat(providers, "of-openai", stream=False)
    native = await ASKS[NATIVE[model]](providers, model, stream=stream)
    said = await ASKS[surface](providers, model, stream=stream)
    receipt = (await providers.receipts.until(3))[2]

    assert said == (straight.text, ENDED_WELL[surface], native.input, native.output)
    assert (receipt["model"], receipt["outcome"], receipt["error"]) == (model, "ok", None)
    assert (receipt["input_tokens"], receipt["output_tokens"]) == (said.input, said.output)


async def test_tokens_are_counted(providers: Running, first: MockUpstream) -> None:
    """Anthropic counts for its own models, with the bytes as they came; for others the length tells, and says so."""
    messages: Any = [{"role": "user", "content": QUESTION}]
    async with anthropic.AsyncAnthropic(base_url=providers.base_url, api_key="k", max_retries=0) as sdk:
        counted = await sdk.messages.count_tokens(model="of-anthropic", messages=messages)
        said = orjson.loads(b"".join(first.journal.last.sent))
        guessed = await sdk.messages.with_raw_response.count_tokens(model="of-openai", messages=messages)
    receipts = await providers.receipts.until(2)

    assert said["input_tokens"] == counted.input_tokens
    assert (await guessed.parse()).input_tokens > 0
    assert guessed.headers["x-thriftgate-estimate"] == "length"
    assert [(receipt["outcome"], receipt["cost_usd_micros"]) for receipt in receipts] == [("ok", None)] * 2
