"""What the tests of the SDKs share: one mock provider that is a provider of each dialect."""

import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Running, Start


@pytest.fixture
async def providers(gateway: Start, first: MockUpstream) -> Running:
    """A gateway with one model of each provider, which is not asked again where it fails."""
    return await gateway(f"""
server: {{wait_ms: 0}}
upstreams:
  openai:    {{base_url: "{first.base_url}", key: sk-first}}
  anthropic: {{dialect: anthropic, base_url: "{first.root_url}", key: sk-first}}
  gemini:    {{dialect: gemini, base_url: "{first.root_url}", key: sk-first}}
models:
  of-openai:    {{upstream: openai, name: mock-cheap}}
  of-anthropic: {{upstream: anthropic, name: mock-cheap}}
  of-gemini:    {{upstream: gemini, name: mock-cheap}}
""")
