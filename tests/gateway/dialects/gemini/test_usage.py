"""What Gemini's answers used, by samples with their sources."""

from typing import Any

import orjson
import pytest

from gateway.dialects import gemini
from gateway.dialects.gemini.usage import searches, usage_of, worded
from gateway.pricing import Usage
from gateway.sse import Event as Frame


def by_modality(**counts: int) -> list[dict[str, Any]]:
    """Return tokens by modality in Google's form."""
    return [{"modality": kind, "tokenCount": tokens} for kind, tokens in counts.items()]


GOLDEN: dict[str, tuple[dict[str, Any], Usage]] = {
    # mozilla-ai/any-llm#1290
    "thoughts": (
        {"promptTokenCount": 20, "candidatesTokenCount": 198, "thoughtsTokenCount": 405, "totalTokenCount": 623},
        Usage(20, 603, reasoning=405),
    ),
    # vercel/ai#6082
    "more thoughts": (
        {"promptTokenCount": 7477, "candidatesTokenCount": 2060, "totalTokenCount": 11476, "thoughtsTokenCount": 1939},
        Usage(7477, 3999, reasoning=1939),
    ),
    # router-for-me/CLIProxyAPI#5733
    "nothing but thoughts": (
        {"promptTokenCount": 21, "thoughtsTokenCount": 60, "totalTokenCount": 81}, Usage(21, 60, reasoning=60)
    ),
    # BerriAI/litellm#14849: charged twice there
    "cached": (
        {"promptTokenCount": 262960, "cachedContentTokenCount": 257955, "candidatesTokenCount": 1744,
         "totalTokenCount": 264704, "promptTokensDetails": by_modality(TEXT=262960)},
        Usage(262960, 1744, 257955),
    ),
    # BerriAI/litellm#18750: an image that came from the cache
    "cached image": (
        {"promptTokenCount": 9660, "candidatesTokenCount": 7, "totalTokenCount": 9667, "cachedContentTokenCount": 9651,
         "promptTokensDetails": by_modality(TEXT=9402, IMAGE=258),
         "cacheTokensDetails": by_modality(TEXT=9393, IMAGE=258)},
        Usage(9660, 7, 9651),
    ),
    # from a gateway's tests of Gemini's audio: some of it cached
    "cached audio": (
        {"serviceTier": "STANDARD", "promptTokenCount": 100, "cachedContentTokenCount": 40, "candidatesTokenCount": 20,
         "thoughtsTokenCount": 10, "promptTokensDetails": by_modality(AUDIO=70, TEXT=30),
         "cacheTokensDetails": by_modality(AUDIO=40), "candidatesTokensDetails": by_modality(TEXT=20)},
        Usage(100, 30, 40, reasoning=10, audio_input=30),
    ),
    "cached, by no modality": (
        {"promptTokenCount": 100, "cachedContentTokenCount": 90, "promptTokensDetails": by_modality(AUDIO=80)},
        Usage(100, 0, 90, audio_input=10),
    ),
    # BerriAI/litellm#16912, numbers ours: Google names 1,290 tokens for an image of gemini-2.5-flash-image
    "an image": (
        {"promptTokenCount": 14, "candidatesTokenCount": 1305, "totalTokenCount": 1319,
         "promptTokensDetails": by_modality(TEXT=14), "candidatesTokensDetails": by_modality(IMAGE=1290)},
        Usage(14, 1305, image_output=1290),
    ),
    # ai.google.dev, prices, numbers ours: video is priced like images
    "video": (
        {"promptTokenCount": 900, "candidatesTokenCount": 50, "totalTokenCount": 950,
         "promptTokensDetails": by_modality(TEXT=10, VIDEO=790, AUDIO=100)},
        Usage(900, 50, image_input=790, audio_input=100),
    ),
    # from a gateway's test of the Live API, which calls the answer a response
    "a response": (
        {"promptTokenCount": 100, "responseTokenCount": 200, "totalTokenCount": 300,
         "promptTokensDetails": by_modality(AUDIO=100), "responseTokensDetails": by_modality(TEXT=100, AUDIO=100)},
        Usage(100, 200, audio_input=100, audio_output=100),
    ),
    # Google's reference, as danny-avila/LibreChat#12855 quotes it: the total has tool use and thoughts in it
    "tools": (
        {"promptTokenCount": 1000, "cachedContentTokenCount": 800, "candidatesTokenCount": 120,
         "thoughtsTokenCount": 75, "toolUsePromptTokenCount": 5, "totalTokenCount": 1200,
         "promptTokensDetails": by_modality(TEXT=1000), "cacheTokensDetails": by_modality(TEXT=800),
         "toolUsePromptTokensDetails": by_modality(TEXT=5), "trafficType": "ON_DEMAND"},
        Usage(1005, 195, 800, reasoning=75),
    ),
    # from a gateway's test: the total says that they are among the prompt's
    "tools within": (
        {"promptTokenCount": 100, "responseTokenCount": 20, "totalTokenCount": 120, "toolUsePromptTokenCount": 5},
        Usage(100, 20),
    ),
    "thoughts and tools within": (
        {"promptTokenCount": 100, "candidatesTokenCount": 20, "totalTokenCount": 120, "toolUsePromptTokenCount": 5,
         "thoughtsTokenCount": 7},
        Usage(100, 20, reasoning=7),
    ),
    # BerriAI/litellm#37724 and theopenco/llmgateway#2549: the tier that a request was served in
    "flex at Vertex": (
        {"promptTokenCount": 7, "candidatesTokenCount": 205, "totalTokenCount": 212, "trafficType": "ON_DEMAND_FLEX"},
        Usage(7, 205, tier="flex"),
    ),
    "priority": (
        {"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 12, "serviceTier": "priority"},
        Usage(7, 5, tier="priority"),
    ),
    "provisioned": (
        {"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 12,
         "trafficType": "PROVISIONED_THROUGHPUT"},
        Usage(7, 5),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_usages(name: str) -> None:
    """As accounting reads it at the end of a body or of a stream, and as the reader does: the same (complaint 12)."""
    usage, expected = GOLDEN[name]
    body = orjson.dumps({"candidates": [], "usageMetadata": usage})
    read = gemini.reader().feed(Frame(b"", body))

    assert usage_of(usage) == expected
    assert gemini.ending_of_body(body).usage == expected
    assert gemini.ending_of_stream([Frame(b"", body)]).usage == expected
    assert [getattr(event, "usage", None) for event in read] == [expected, expected]


@pytest.mark.parametrize("usage", [None, {}, [], {"promptTokenCount": 0}, {"promptTokenCount": "9"}])
def test_none_is_not_zero(usage: Any) -> None:
    """Where a server says nothing, or zeros, nothing is known."""
    assert gemini.ending_of_body(orjson.dumps({"candidates": [], "usageMetadata": usage})).usage is None


def grounded(*queries: Any, model: str = "gemini-3-flash-preview") -> dict[str, Any]:
    """Return a frame of an answer with searches."""
    return {"candidates": [{"groundingMetadata": {"webSearchQueries": list(queries)}}], "modelVersion": model,
            "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}}


@pytest.mark.parametrize(("frame", "number"), [
    # BerriAI/litellm#36377: what was asked twice is paid once
    (grounded("bitcoin price USD", "ethereum price USD", "bitcoin price USD"), 2),
    # BerriAI/litellm#17921: Google sends empty ones
    (grounded("", "current weather in NYC"), 1),
    # langchain-ai/langsmith-sdk#2296: up to 2.5 a prompt is paid, from 3 on a query
    (grounded("a", "b", model="gemini-2.5-flash"), 1),
    (grounded("a", "b", model="publishers/google/models/gemini-2.5-flash"), 1),
    (grounded(model="gemini-2.5-flash"), 0),
    (grounded(3, None, "a"), 1),
    ({"candidates": [{"groundingMetadata": {"webSearchQueries": "a"}}, {"groundingMetadata": 3}, 5]}, 0),
    ({}, 0),
])
def test_searches(frame: dict[str, Any], number: int) -> None:
    """Web searches are counted as they are paid."""
    assert searches(frame) == number


def test_searches_of_a_stream() -> None:
    """They may be said in another frame than the last count, and are not counted again where they are said again."""
    counts = {"promptTokenCount": 5, "candidatesTokenCount": 9}
    last = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": counts}
    frames = [Frame(b"", orjson.dumps(said)) for said in (grounded("a", "b"), grounded("a", "b"), last)]
    reader = gemini.reader()
    read = [getattr(event, "usage", None) for frame in frames for event in reader.feed(frame)]

    assert gemini.ending_of_stream(frames).usage == Usage(5, 9, searches=2)
    assert read[-1] == Usage(5, 9, searches=2)


@pytest.mark.parametrize("usage", [
    Usage(9, 5), Usage(90, 50, 30, reasoning=10, image_input=15, audio_input=25, image_output=20, audio_output=20,
                       tier="flex"),
])
def test_words_are_read_back(usage: Usage) -> None:
    """What is worded for a caller says the same when it is read."""
    assert usage_of(worded(usage)) == usage
