"""A mock provider on a free port, an HTTP client and OpenAI's SDK for it."""

from collections.abc import AsyncIterator

import aiohttp
import openai
import pytest

from loadtest.mock_upstream import MockUpstream


@pytest.fixture
async def mock() -> AsyncIterator[MockUpstream]:
    """An instant provider without faults."""
    async with MockUpstream() as mock:
        yield mock


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A plain HTTP client."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def sdk(mock: MockUpstream) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official SDK, pointed at the mock; it does not retry."""
    async with openai.AsyncOpenAI(base_url=mock.base_url, api_key="sk-test", max_retries=0) as sdk:
        yield sdk
