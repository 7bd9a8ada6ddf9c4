"""Tokens that others counted: no number is impossible, no part is larger than its whole, nothing is free unsaid."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.anthropic.usage import Counts
from gateway.dialects.gemini.usage import searches
from gateway.dialects.gemini.usage import usage_of as of_gemini
from gateway.dialects.openai.usage import told
from gateway.dialects.tokens import MOST_TOKENS, count, first, for_an_hour, section, settled
from gateway.pricing import Usage

NAMES = (
    "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "cached_tokens",
    "cache_write_tokens", "reasoning_tokens", "audio_tokens", "image_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "thinking_tokens",
    "web_search_requests", "prompt_cache_hit_tokens", "promptTokenCount", "candidatesTokenCount",
    "thoughtsTokenCount", "totalTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount", "tokenCount",
)
SECTIONS = (
    "prompt_tokens_details", "completion_tokens_details", "cache_creation", "server_tool_use", "iterations",
    "output_tokens_details", "promptTokensDetails", "cacheTokensDetails", "candidatesTokensDetails", "usage",
    "service_tier", "modality", "type", "speed", "serviceTier", "webSearchQueries",
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 50) | st.sampled_from([-(10**30), 10**30, 1.5, 1e300, 12.0])
    | st.sampled_from(["", "12", "IMAGE", "AUDIO", "compaction", "priority"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES + SECTIONS), inner, max_size=6),
    max_leaves=12,
)
SAID = st.dictionaries(st.sampled_from(NAMES + SECTIONS), VALUES, max_size=10)


@pytest.mark.parametrize(("value", "tokens"), [
    (12, 12), (12.0, 12), (0, 0), (-3, 0), (-0.0, 0), (1.5, 0), (True, 0), ("12", 0), (None, 0), ([12], 0),
    (10**400, MOST_TOKENS), (1e300, MOST_TOKENS), (float("nan"), 0), (float("inf"), 0),
])
def test_a_count(value: Any, tokens: int) -> None:
    """A number of tokens is whole and not negative; what cannot be one is none."""
    assert count({"n": value}, "n") == tokens


def test_looking_for_counts() -> None:
    """The first that says something is taken; what is no object says nothing."""
    assert (first({"a": 0, "b": 3, "c": 4}, "a", "b", "c"), first({}, "a")) == (3, 0)
    assert section({"a": [], "b": {}, "c": {"x": 1}}, "a", "b", "c") == {"x": 1}
    assert section({"a": 5}, "a") == {}


@pytest.mark.parametrize(("written", "said", "hours"), [
    (100, {"ephemeral_1h_input_tokens": 100, "ephemeral_5m_input_tokens": 0}, 100),
    (100, {"ephemeral_1h_input_tokens": 25, "ephemeral_5m_input_tokens": 75}, 25),
    (200, {"ephemeral_1h_input_tokens": 25, "ephemeral_5m_input_tokens": 75}, 50),
    (30, {"ephemeral_1h_input_tokens": 40, "ephemeral_5m_input_tokens": 30}, 17),
    (100, {}, 0),
    (0, {"ephemeral_1h_input_tokens": 9}, 0),
])
def test_lifetimes(written: int, said: dict[str, int], hours: int) -> None:
    """What the table of lifetimes leaves out is taken to be like what it has."""
    assert for_an_hour(written, said) == hours


def adds_up(usage: Usage) -> bool:
    """Say whether the parts of a usage are parts: apart from each other, and together no more than the whole."""
    counts = [value for value in usage if isinstance(value, int)]
    fresh = usage.input - usage.cached - usage.cache_write
    return (
        min(counts) >= 0 and usage.input + usage.output > 0 and max(counts) <= MOST_TOKENS
        and fresh >= usage.image_input + usage.audio_input and usage.cache_write >= usage.cache_write_1h
        and usage.output >= usage.reasoning + usage.image_output + usage.audio_output and not usage.estimated
    )


COUNTS = st.integers(0, 60)


@given(counts=st.lists(COUNTS, min_size=11, max_size=11))
def test_a_settled_usage_fits(counts: list[int]) -> None:
    """Parts are cut to their whole, and what fits stays as it is; where there are no tokens there is no usage."""
    usage = Usage._make([*counts, "flex", False])
    made = settled(usage)

    assert (made is None) == (usage.input == usage.output == 0)
    assert made is None or (adds_up(made) and settled(made) == made and made.tier == "flex")
    assert made is None or (made.input, made.output, made.searches) == (usage.input, usage.output, usage.searches)


@given(said=SAID, beside=VALUES)
def test_whatever_a_provider_says(said: dict[str, Any], beside: Any) -> None:
    """Garbage of any type and size is no crash, and makes no usage that could not be."""
    counts = Counts()
    counts.take(said)
    counts.take(beside)
    found = searches({"candidates": [{"groundingMetadata": beside}], "modelVersion": beside})
    of_openai = told(said, beside, [beside], beside), told(beside, {"usage": said}, [], None)
    made = (*of_openai, counts.usage(), of_gemini(said, found), of_gemini(beside))

    assert all(usage is None or adds_up(usage) for usage in made)
