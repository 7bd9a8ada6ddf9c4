"""Answers in a form that the caller chose, read into its types by the official SDKs, from models of every provider."""

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from pydantic import BaseModel

from loadtest.mock_upstream import MockModel
from tests.clients.talking import MODELS
from tests.conftest import Running, Start, Upstream

# The SDK makes a subclass of aiohttp's session, which aiohttp discourages.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
QUESTION = "What is the largest city?"


class City(BaseModel):
    """What a structured answer must be."""

    name: str
    inhabitants: int


SAID = City(name="sample", inhabitants=7)       # what the mock provider makes of the schema


@pytest.fixture
async def providers(gateway: Start, upstream: Upstream) -> Running:
    """A gateway with one model of each provider, of names that are known to take a schema."""
    names = ("gpt-5.1", "claude-sonnet-4-5", "gemini-3-flash")
    mock = await upstream(models=[MockModel(name, 1, 1, ttft_ms=0, tokens_per_s=0) for name in names])
    return await gateway(f"""
upstreams:
  openai:    {{base_url: "{mock.base_url}", key: sk-first}}
  anthropic: {{dialect: anthropic, base_url: "{mock.root_url}", key: sk-first}}
  gemini:    {{dialect: gemini, base_url: "{mock.root_url}", key: sk-first}}
models:
  of-openai:    {{upstream: openai, name: {names[0]}}}
  of-anthropic: {{upstream: anthropic, name: {names[1]}}}
  of-gemini:    {{upstream: gemini, name: {names[2]}}}
""")


async def test_openai_parses(providers: Running) -> None:
    """Chat completions and responses give the type back, whole and streamed."""
    async with openai.AsyncOpenAI(base_url=providers.base_url + "/v1", api_key="k", max_retries=0) as sdk:
        for model in MODELS:
            chat = await sdk.chat.completions.parse(
                model=model, messages=[{"role": "user", "content": QUESTION}], response_format=City
            )
            response = await sdk.responses.parse(model=model, input=QUESTION, text_format=City)
            async with sdk.responses.stream(model=model, input=QUESTION, text_format=City) as events:
                streamed = await events.get_final_response()

            assert chat.choices[0].message.parsed == SAID
            assert response.output_parsed == SAID
            assert streamed.output_parsed == SAID


async def test_anthropic_parses(providers: Running) -> None:
    """So do messages."""
    async with anthropic.AsyncAnthropic(base_url=providers.base_url, api_key="k", max_retries=0) as sdk:
        for model in MODELS:
            message = await sdk.messages.parse(
                model=model, max_tokens=500, messages=[{"role": "user", "content": QUESTION}], output_format=City
            )

            assert message.parsed_output == SAID


async def test_google_parses(providers: Running) -> None:
    """So does generateContent."""
    sdk = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=providers.base_url))
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    try:
        for model in MODELS:
            answer = await sdk.aio.models.generate_content(model=model, contents=QUESTION, config=config)

            assert answer.parsed == SAID
    finally:
        await sdk.aio.aclose()
