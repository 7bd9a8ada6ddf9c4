"""Tools and pictures through the official SDKs, with models of every provider."""

import asyncio
from typing import Any

import anthropic
import openai
import pytest
from anthropic import beta_async_tool
from google import genai
from google.genai import types

from loadtest.mock_upstream import MockUpstream
from tests.clients.talking import MODELS, PIXEL, SURFACES, TOOLS, Wish
from tests.conftest import Running

# The SDK makes a subclass of aiohttp's session, which aiohttp discourages.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
ARGUMENTS = '{"city":"sample","days":7}'       # what the mock provider makes of the schema
CALLED = {"chat": "tool_calls", "responses": "completed", "messages": "tool_use", "gemini": "STOP"}
ENDED = {"chat": "stop", "responses": "completed", "messages": "end_turn", "gemini": "STOP"}
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@STREAMED
@pytest.mark.parametrize("surface", SURFACES)
async def test_a_tool_is_called_and_its_result_answered(
    providers: Running, first: MockUpstream, surface: str, *, stream: bool
) -> None:
    """Name and arguments arrive whole; the result reaches the provider; the model then answers in words."""
    for model in MODELS:
        async with SURFACES[surface](providers.base_url) as talk:
            talk.say("What is it like in Oslo?")
            called = await talk.ask(model, Wish(stream=stream, tools=True, forced=True))
            talk.give(dict.fromkeys(called.calls, "rain in Oslo"))
            answer = await talk.ask(model, Wish(stream=stream, tools=True))

        assert [(call.name, call.arguments) for call in called.calls] == [(TOOLS[0], ARGUMENTS)]
        assert called.finish == CALLED[surface]
        assert b"rain in Oslo" in first.journal.last.body
        assert (bool(answer.text), answer.calls, answer.finish) == (True, (), ENDED[surface])


@STREAMED
@pytest.mark.parametrize("surface", SURFACES)
async def test_tools_are_called_in_parallel(
    providers: Running, first: MockUpstream, surface: str, *, stream: bool
) -> None:
    """Words before the calls, several calls at once, and every result stays with its call."""
    first.turn("mock-cheap", calls=3)
    for model in MODELS:
        async with SURFACES[surface](providers.base_url) as talk:
            talk.say("What is it like in Oslo?")
            called = await talk.ask(model, Wish(stream=stream, tools=True))
            talk.give({call: f"result {at}" for at, call in enumerate(called.calls)})
            answer = await talk.ask(model, Wish(stream=stream, tools=True))
        body = first.journal.last.body

        assert called.text
        assert [call.name for call in called.calls] == [*TOOLS, TOOLS[0]]
        assert [call.arguments for call in called.calls] == [ARGUMENTS] * 3
        assert -1 < body.find(b"result 0") < body.find(b"result 1") < body.find(b"result 2")
        assert answer.text


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_picture_is_seen(providers: Running, first: MockUpstream, surface: str) -> None:
    """An image in base64 reaches every provider to the byte, and is asked about with its words."""
    for model in MODELS:
        async with SURFACES[surface](providers.base_url) as talk:
            talk.say("What is in this picture?", picture=True)
            answer = await talk.ask(model, Wish())
        body = first.journal.last.body

        assert answer.text
        assert PIXEL.encode() in body.replace(b"-", b"+").replace(b"_", b"/")
        assert b"image/png" in body
        assert b"What is in this picture?" in body


async def test_the_tool_runner_runs_to_the_end(providers: Running, first: MockUpstream) -> None:
    """Anthropic's own loop calls what another provider's model asks for, and ends with its answer.

    The runner first asks the provider to store the conversation. Only Anthropic does, and the mock provider does not.
    """
    ran: list[str] = []

    @beta_async_tool
    async def weather(city: str) -> str:
        """Say what the weather is like in a city."""
        ran.append(city)
        return f"sunny in {city}"

    first.turn("mock-cheap", calls=2)       # so that tools are called without being forced
    async with anthropic.AsyncAnthropic(base_url=providers.base_url, api_key="k", max_retries=0) as sdk:
        for model in ("of-openai", "of-gemini"):
            runner = sdk.beta.messages.tool_runner(
                model=model, max_tokens=500, tools=[weather],
                messages=[{"role": "user", "content": "What is it like in Oslo?"}],
            )
            last = await runner.until_done()

            assert last.stop_reason == "end_turn"
            assert first.journal.last.body.count(b"sunny in sample") == 2

    assert ran == ["sample"] * 4


async def test_the_synchronous_clients(providers: Running) -> None:
    """In threads of their own, as most applications use them: whole and streamed, from every provider."""

    def by_openai(model: str) -> list[str]:
        """Return what was said through OpenAI's SDK."""
        with openai.OpenAI(base_url=providers.base_url + "/v1", api_key="k", max_retries=0) as sdk:
            whole = sdk.responses.create(model=model, input="hi").output_text
            messages: Any = [{"role": "user", "content": "hi"}]
            chunks = sdk.chat.completions.create(model=model, messages=messages, stream=True)
            return [whole, "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)]

    def by_anthropic(model: str) -> list[str]:
        """Return what was said through Anthropic's."""
        asked: Any = {"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": "hi"}]}
        with anthropic.Anthropic(base_url=providers.base_url, api_key="k", max_retries=0) as sdk:
            whole: Any = sdk.messages.create(**asked).content[0]
            with sdk.messages.stream(**asked) as stream:
                return [whole.text, "".join(stream.text_stream)]

    def by_google(model: str) -> list[str]:
        """Return what was said through Google's."""
        with genai.Client(api_key="k", http_options=types.HttpOptions(base_url=providers.base_url)) as sdk:
            whole = sdk.models.generate_content(model=model, contents="hi").text or ""
            chunks = sdk.models.generate_content_stream(model=model, contents="hi")
            return [whole, "".join(chunk.text or "" for chunk in chunks)]

    said = {
        text for ask in (by_openai, by_anthropic, by_google) for model in MODELS
        for text in await asyncio.to_thread(ask, model)
    }

    assert len(said) == 1
    assert said != {""}
