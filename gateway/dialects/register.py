"""Which dialects there are, by the names that the configuration and `ChatRequest.surface` have for them."""

from gateway.dialects import anthropic, gemini, openai, responses
from gateway.dialects.door import Surface, Upstream

SURFACES: dict[str, Surface] = {
    "openai": openai, "responses": responses, "anthropic": anthropic, "gemini": gemini
}
UPSTREAMS: dict[str, Upstream] = {"openai": openai, "anthropic": anthropic, "gemini": gemini}
