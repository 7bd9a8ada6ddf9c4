"""What chat completions used, by samples of the servers that speak this dialect, each with its source."""

from typing import Any

import orjson
import pytest

from gateway.dialects import openai
from gateway.dialects.neutral import Used
from gateway.dialects.openai.usage import told, usage_of, worded
from gateway.pricing import Usage
from gateway.sse import Event as Frame

GOLDEN: dict[str, tuple[dict[str, Any], Usage]] = {
    # OpenAI's guide on prompt caching, quoted in BerriAI/litellm#6215: the cached tokens are among the prompt's
    "OpenAI cached": (
        {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
         "prompt_tokens_details": {"cached_tokens": 1920}, "completion_tokens_details": {"reasoning_tokens": 0}},
        Usage(2006, 300, 1920),
    ),
    # OpenAI's guide on prompt caching of 2026 (GPT-5.6), quoted in mindroom-ai/mindroom#2134: 200 tokens are neither
    "OpenAI written": (
        {"prompt_tokens": 2600, "completion_tokens": 300, "total_tokens": 2900,
         "prompt_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 400}},
        Usage(2600, 300, 2000, 400),
    ),
    # BerriAI/litellm#18607: reasoning is part of the 977
    "OpenAI reasoning": (
        {"prompt_tokens": 23, "completion_tokens": 977, "total_tokens": 1000,
         "completion_tokens_details": {"reasoning_tokens": 768, "audio_tokens": 0, "accepted_prediction_tokens": 0,
                                       "rejected_prediction_tokens": 0}},
        Usage(23, 977, reasoning=768),
    ),
    # OpenAI's reference of chat completions; the numbers are those of a gateway's test
    "OpenAI audio": (
        {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50,
         "prompt_tokens_details": {"audio_tokens": 10, "cached_tokens": 0},
         "completion_tokens_details": {"audio_tokens": 5, "reasoning_tokens": 3}},
        Usage(30, 20, reasoning=3, audio_input=10, audio_output=5),
    ),
    # openai/openai-python#2717 names `image_tokens` and `text_tokens`; BerriAI/litellm tests with 272 + 100
    "OpenAI images": (
        {"input_tokens": 213, "output_tokens": 372, "total_tokens": 585,
         "input_tokens_details": {"image_tokens": 200, "text_tokens": 13},
         "output_tokens_details": {"image_tokens": 272, "text_tokens": 100}},
        Usage(213, 372, image_input=200, image_output=272),
    ),
    # OpenAI's reference: embeddings generate nothing
    "embeddings": ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8, 0)),
    # docs.voyageai.com, embeddings, numbers ours: nothing but the total
    "Voyage": ({"total_tokens": 10}, Usage(10, 0)),
    # BerriAI/litellm#5017
    "DeepSeek": (
        {"completion_tokens": 40, "prompt_tokens": 11, "total_tokens": 51, "prompt_cache_hit_tokens": 0,
         "prompt_cache_miss_tokens": 11},
        Usage(11, 40),
    ),
    # mozilla-ai/any-llm#795
    "DeepSeek cached": (
        {"prompt_tokens": 100, "prompt_cache_hit_tokens": 80, "prompt_cache_miss_tokens": 20, "completion_tokens": 50,
         "total_tokens": 150},
        Usage(100, 50, 80),
    ),
    "DeepSeek without the sum": (
        {"prompt_cache_hit_tokens": 80, "prompt_cache_miss_tokens": 20, "completion_tokens": 50}, Usage(100, 50, 80)
    ),
    # vercel/ai#12425: thinking is beside the answer, and in the total
    "xAI": (
        {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 399,
         "prompt_tokens_details": {"text_tokens": 12, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 11},
         "completion_tokens_details": {"reasoning_tokens": 386, "audio_tokens": 0}, "num_sources_used": 0},
        Usage(12, 387, 11, reasoning=386),
    ),
    # Wei-Shaw/sub2api#5771, where the sum agrees with xAI's own bill to the tick
    "xAI cached": (
        {"prompt_tokens": 10120, "completion_tokens": 1499, "total_tokens": 14428,
         "prompt_tokens_details": {"cached_tokens": 128}, "completion_tokens_details": {"reasoning_tokens": 2809},
         "cost_in_usd_ticks": 232856000},
        Usage(10120, 4308, 128, reasoning=2809),
    ),
    # BerriAI/litellm#37407, numbers ours: cached and image tokens overlap, and what was cached is paid as that
    "xAI cached image": (
        {"prompt_tokens": 1200, "completion_tokens": 10, "total_tokens": 1210,
         "prompt_tokens_details": {"text_tokens": 200, "image_tokens": 1000, "cached_tokens": 1152}},
        Usage(1200, 10, 1152, image_input=48),
    ),
    # router-for-me/CLIProxyAPI#5733
    "Gemini through a proxy": (
        {"completion_tokens": 0, "total_tokens": 81, "prompt_tokens": 21,
         "completion_tokens_details": {"reasoning_tokens": 60}},
        Usage(21, 60, reasoning=60),
    ),
    # mozilla-ai/any-llm#1290: what was thought is in the total alone
    "Gemini's total": (
        {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}, Usage(20, 603, reasoning=405)
    ),
    # Portkey-AI/gateway#1373: all of it is in the total
    "Portkey Gemini": (
        {"prompt_tokens": 2924, "completion_tokens": 3, "total_tokens": 3078,
         "prompt_tokens_details": {"cached_tokens": 2532}, "completion_tokens_details": {"reasoning_tokens": 151}},
        Usage(2924, 154, 2532, reasoning=151),
    ),
    # Portkey-AI/gateway#1373: Anthropic's fields, beside the prompt
    "Portkey Anthropic": (
        {"prompt_tokens": 4, "completion_tokens": 310, "total_tokens": 2078, "cache_read_input_tokens": 0,
         "cache_creation_input_tokens": 1764},
        Usage(1768, 310, 0, 1764),
    ),
    # BerriAI/litellm#11789: Anthropic's fields, in the prompt
    "LiteLLM read": (
        {"total_tokens": 2482, "prompt_tokens": 2459, "completion_tokens": 23,
         "prompt_tokens_details": {"audio_tokens": None, "cached_tokens": 0}, "cache_read_input_tokens": 2455,
         "completion_tokens_details": {"audio_tokens": None, "reasoning_tokens": 0}, "cache_creation_input_tokens": 0},
        Usage(2459, 23, 2455),
    ),
    # BerriAI/litellm#11364
    "LiteLLM both": (
        {"total_tokens": 103925, "prompt_tokens": 98805, "completion_tokens": 5120,
         "prompt_tokens_details": {"text_tokens": None, "cached_tokens": 66360, "cache_creation_tokens": 32435},
         "cache_read_input_tokens": 66360, "completion_tokens_details": {"reasoning_tokens": 1710},
         "cache_creation_input_tokens": 32435},
        Usage(98805, 5120, 66360, 32435, 1710),
    ),
    # BerriAI/litellm#31724
    "LiteLLM for an hour": (
        {"prompt_tokens": 4818, "completion_tokens": 47, "total_tokens": 4865, "cache_creation_input_tokens": 4803,
         "prompt_tokens_details": {
             "cached_tokens": 0, "text_tokens": 15, "cache_creation_tokens": 4803,
             "cache_creation_token_details": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 4803}}},
        Usage(4818, 47, 0, 4803, cache_write_1h=4803),
    ),
    # BerriAI/litellm#9812: names and meaning are Anthropic's
    "Anthropic's words": (
        {"input_tokens": 3, "cache_creation_input_tokens": 12304, "cache_read_input_tokens": 0, "output_tokens": 550},
        Usage(12307, 550, 0, 12304),
    ),
    # openrouter.ai/docs/use-cases/usage-accounting
    "OpenRouter": (
        {"completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 0}, "cost": 0.95,
         "cost_details": {"upstream_inference_cost": 19}, "prompt_tokens": 194,
         "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100, "audio_tokens": 0},
         "total_tokens": 196},
        Usage(194, 2, 0, 100),
    ),
    # BerriAI/litellm: a test with OpenRouter's answer for gpt-image-1-mini
    "OpenRouter image": (
        {"prompt_tokens": 18, "completion_tokens": 272, "total_tokens": 290, "cost": 0.002212, "is_byok": False,
         "prompt_tokens_details": {"cached_tokens": 0},
         "completion_tokens_details": {"reasoning_tokens": 0, "image_tokens": 272}},
        Usage(18, 272, image_output=272),
    ),
    # symfony/ai#2343
    "Mistral": (
        {"prompt_tokens": 801, "completion_tokens": 2, "total_tokens": 803,
         "prompt_tokens_details": {"cached_tokens": 768}},
        Usage(801, 2, 768),
    ),
    # 0xPlaygrounds/rig#1724: Mistral's OpenAPI document has three places for it
    "Mistral's others": (
        {"prompt_tokens": 801, "completion_tokens": 2, "total_tokens": 803, "prompt_audio_seconds": None,
         "num_cached_tokens": 768, "prompt_tokens_details": None, "prompt_token_details": {"cached_tokens": 768}},
        Usage(801, 2, 768),
    ),
    # Bike4Mind/bike4mind#1089: Moonshot says it in both spellings
    "Moonshot": (
        {"prompt_tokens": 2989, "completion_tokens": 5, "total_tokens": 2994, "cached_tokens": 2989},
        Usage(2989, 5, 2989),
    ),
    # vllm-project/vllm-omni#2313: without details
    "vLLM": ({"prompt_tokens": 15, "total_tokens": 112, "completion_tokens": 97}, Usage(15, 97)),
    # alibabacloud.com, Model Studio, explicit cache; numbers ours
    "DashScope": (
        {"prompt_tokens": 1529, "completion_tokens": 10, "total_tokens": 1539,
         "prompt_tokens_details": {"cached_tokens": 0, "cache_creation_input_tokens": 1524, "cache_type": "ephemeral",
                                   "cache_creation": {"ephemeral_5m_input_tokens": 1524}}},
        Usage(1529, 10, 0, 1524),
    ),
    # a proxy's test for Anthropic's web search in this dialect
    "searches": (
        {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30,
         "server_tool_use": {"web_search_requests": 1}},
        Usage(20, 10, searches=1),
    ),
    # Perplexity's deep research, as its guide has it: more was thought than generated, so it is counted beside
    "Perplexity": (
        {"prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196, "citation_tokens": 20016,
         "num_search_queries": 18, "reasoning_tokens": 73997},
        Usage(33, 81160, reasoning=73997),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_usages(name: str) -> None:
    """As accounting reads it at the end of a body or of a stream, and as the reader does: the same (complaint 12)."""
    usage, expected = GOLDEN[name]
    body = orjson.dumps({"choices": [], "usage": usage})
    read = openai.reader().feed(Frame(b"", body))[-1]

    assert usage_of(usage) == expected
    assert openai.ending_of_body(body).usage == expected
    assert openai.ending_of_stream([Frame(b"", body)]).usage == expected
    assert read == Used(expected)


# vercel/ai#1651: Groq, when nobody has asked
GROQ = {"id": "c", "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}], "x_groq": {
    "id": "req_1", "usage": {"queue_time": 0.07, "prompt_tokens": 23, "prompt_time": 0.006, "completion_tokens": 19,
                             "completion_time": 0.022, "total_tokens": 42, "total_time": 0.028}}}
# earendil-works/pi#2017: Moonshot
MOONSHOT = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": {
    "prompt_tokens": 19, "completion_tokens": 13, "total_tokens": 32, "cached_tokens": 4}}]}
# M-Lai-ai/LLM-Provider-reference, Grok/streaming.md: xAI, in every chunk
XAI = {"id": "c", "choices": [{"index": 0, "delta": {"content": "-Cola", "role": "assistant"}}], "usage": {
    "prompt_tokens": 38, "completion_tokens": 2, "total_tokens": 40,
    "prompt_tokens_details": {"text_tokens": 38, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 0}}}
# DeepSeek and others: in the last chunk, with its choice
LAST = {"id": "c", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}], "usage": {
    "prompt_tokens": 17, "completion_tokens": 9, "total_tokens": 26, "prompt_cache_hit_tokens": 0,
    "prompt_cache_miss_tokens": 17}}


def test_bodies_of_other_endpoints() -> None:
    """Embeddings and legacy completions are counted in the same words (OpenAI's reference)."""
    embeddings = {"object": "list", "data": [{"object": "embedding", "embedding": [0.1, -0.2], "index": 0}],
                  "model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    completion = {"object": "text_completion", "choices": [{"text": " a", "index": 0, "finish_reason": "length"}],
                  "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}
    endings = [openai.ending_of_body(orjson.dumps(body)) for body in (embeddings, completion)]

    assert [(ending.finish, ending.usage) for ending in endings] == [(None, Usage(8, 0)), ("length", Usage(5, 7))]


@pytest.mark.parametrize(("chunk", "expected"), [
    (GROQ, Usage(23, 19)), (MOONSHOT, Usage(19, 13, 4)), (XAI, Usage(38, 2)), (LAST, Usage(17, 9)),
], ids=["Groq", "Moonshot", "xAI", "DeepSeek"])
def test_other_places(chunk: dict[str, Any], expected: Usage) -> None:
    """Where a server has its usage elsewhere, it is found; a chunk after it that has none changes nothing."""
    frames = [Frame(b"", orjson.dumps(chunk)), Frame(b"", b"[DONE]")]
    said = [event for frame in frames for event in openai.reader().feed(frame)]

    assert openai.ending_of_stream(frames).usage == expected
    assert [event.usage for event in said if isinstance(event, Used)] == [expected]


def test_a_stream_that_counts_as_it_goes() -> None:
    """The last count is that of all; a cut stream is known as far as it came."""
    chunks = [XAI, {**XAI, "usage": {**XAI["usage"], "completion_tokens": 3, "total_tokens": 41}}]      # type: ignore[dict-item]
    ending = openai.ending_of_stream([Frame(b"", orjson.dumps(chunk)) for chunk in chunks])

    assert (ending.complete, ending.usage) == (False, Usage(38, 3))


@pytest.mark.parametrize("usage", [
    {}, None, [], "9", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, {"prompt_tokens": None},
    {"prompt_tokens": "9"}, {"prompt_tokens": -9},
])
def test_none_is_not_zero(usage: Any) -> None:
    """Where a server says nothing, or zeros, nothing is known."""
    assert openai.ending_of_body(orjson.dumps({"choices": [], "usage": usage})).usage is None


@pytest.mark.parametrize(("said", "tier"), [
    ("flex", "flex"), ("priority", "priority"), ("fast", "priority"), ("batch", "batch"), ("default", ""), ("auto", ""),
    ("scale", ""), ("on_demand", ""), (None, ""), (3, ""), ([], ""),
])
def test_how_it_was_served(said: Any, tier: str) -> None:
    """A tier with a price of its own is known by its name, wherever in the stream it was said."""
    counts = {"prompt_tokens": 1, "completion_tokens": 2}
    first = {"choices": [{"index": 0, "delta": {"content": "a"}}], "service_tier": said, "usage": None}
    last = {"choices": [], "usage": counts}

    assert told(counts, None, (), said) == Usage(1, 2, tier=tier)
    assert openai.ending_of_body(orjson.dumps({"service_tier": said, "usage": counts})).usage == Usage(1, 2, tier=tier)
    assert openai.ending_of_stream(
        [Frame(b"", orjson.dumps(chunk)) for chunk in (first, last)]
    ).usage == Usage(1, 2, tier=tier)


@pytest.mark.parametrize("usage", [
    Usage(9, 5), Usage(90, 50, 30, 20, 10, image_input=15, audio_input=25, image_output=20, audio_output=20),
])
def test_words_are_read_back(usage: Usage) -> None:
    """What is worded for a caller says the same when it is read."""
    assert usage_of(worded(usage)) == usage
