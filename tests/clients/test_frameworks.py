"""What stands between many applications and the SDKs: LangChain and pydantic-ai, once each with a tool."""

from typing import Any

import httpx2
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from pydantic import SecretStr
from pydantic_ai import Agent
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.providers.google import GoogleProvider

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Running

pytestmark = [
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:langchain_core"),
]


@tool
def weather(city: str) -> str:
    """Say what the weather is like in a city."""
    return f"sunny in {city}"


async def test_langchain_speaks_anthropic_to_an_openai_model(providers: Running, first: MockUpstream) -> None:
    """A bound tool is called, its result sent back, and the last answer streams to its end."""
    model: Any = ChatAnthropic(
        model_name="of-openai", base_url=providers.base_url, api_key=SecretStr("k"), max_retries=0, timeout=None,
        stop=None,
    )
    called = await model.bind_tools([weather], tool_choice="weather").ainvoke("What is it like in Oslo?")
    result = await weather.ainvoke(called.tool_calls[0])
    pieces = [piece async for piece in model.astream([("user", "What is it like in Oslo?"), called, result])]
    await model._async_client.close()       # LangChain itself leaves its connections to the interpreter's end

    assert [call["name"] for call in called.tool_calls] == ["weather"]
    assert set(called.tool_calls[0]["args"]) == {"city"}
    assert "".join(piece.text for piece in pieces)
    assert [message["role"] for message in first.journal.last.json["messages"]] == ["user", "assistant", "tool"]


async def test_pydantic_ai_speaks_gemini_to_an_anthropic_model(providers: Running, first: MockUpstream) -> None:
    """An agent calls its tool and answers, all of it translated both ways."""
    async with httpx2.AsyncClient(timeout=60) as http:
        provider = GoogleProvider(api_key="k", base_url=providers.base_url, http_client=http)
        agent = Agent(GoogleModel("of-anthropic", provider=provider))
        first.turn("mock-cheap", calls=2)       # so that tools are called without being forced

        @agent.tool_plain
        def weather_in(city: str) -> str:
            """Say what the weather is like in a city."""
            first.turn("mock-cheap", calls=1)
            return f"sunny in {city}"

        answer = await agent.run("What is it like in Oslo?")
    calls = first.journal.calls
    receipts = await providers.receipts.until(len(calls))

    assert answer.output
    assert len(calls) > 1
    assert "tool_result" in str(calls[-1].json["messages"][-1])
    assert {receipt["outcome"] for receipt in receipts} == {"ok"}
