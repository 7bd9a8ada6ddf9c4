"""What a chat completion used: read as every compatible server says it, worded as OpenAI does.

OpenAI's prompt has what was read from and written to the cache in it, its answer the thinking. Servers differ, and
seldom say so, but nearly all say a total:

- xAI and others count thinking beside the answer, Google's compatible servers do not name it at all: it is then in the
  total alone.
- Anthropic's fields, as proxies pass them on, may be beside the prompt (as with Anthropic) or in it (LiteLLM).
"""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from gateway.dialects.tokens import MOST_TOKENS, count, first, fits, for_an_hour, section, settled
from gateway.pricing import Usage

Words = dict[str, Any]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class _Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cached_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    audio_tokens: Tokens = 0
    image_tokens: Tokens = 0
    text_tokens: Tokens = 0


class _Made(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reasoning_tokens: Tokens = 0
    audio_tokens: Tokens = 0
    image_tokens: Tokens = 0
    text_tokens: Tokens = 0
    accepted_prediction_tokens: Tokens = 0
    rejected_prediction_tokens: Tokens = 0


class _Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As OpenAI has it, where nothing is left to be thought about: a fifth of the work of the rest of this, 2026-11."""

    prompt_tokens: Tokens
    total_tokens: Tokens
    completion_tokens: Tokens = 0
    prompt_tokens_details: _Given = _Given()
    completion_tokens_details: _Made = _Made()


# What costs what it always does has no name here: auto, default, standard, on_demand, scale.
TIERS = {"flex": "flex", "priority": "priority", "fast": "priority", "batch": "batch"}


def told(said: Any, groq: Any, beside: Iterable[Any], tier: Any) -> Usage | None:
    """Return the usage of a chunk, wherever its server puts it: Groq in `x_groq`, Moonshot in a choice."""
    inner = groq.get("usage") if isinstance(groq, dict) else None
    found = next((each for each in (said, inner, *beside) if isinstance(each, dict) and each), None)
    return None if found is None else usage_of(found, tier_of(tier))


def tier_of(said: Any) -> str:
    """Return how an answer was served, where its price depends on it."""
    return TIERS.get(said, "") if isinstance(said, str) else ""


def usage_of(said: Words, tier: str = "") -> Usage | None:
    """Return what a usage object says; None where it says nothing."""
    return _plain(said, tier) or _any(said, tier)


def _plain(said: Words, tier: str) -> Usage | None:
    try:
        plain = msgspec.convert(said, _Plain)
    except msgspec.ValidationError:
        return None
    given, made = plain.prompt_tokens_details, plain.completion_tokens_details
    usage = Usage(
        plain.prompt_tokens, plain.completion_tokens, given.cached_tokens, given.cache_write_tokens,
        made.reasoning_tokens, 0, given.image_tokens, given.audio_tokens, made.image_tokens, made.audio_tokens, 0, tier,
    )
    return usage if usage.input + usage.output == plain.total_tokens and fits(usage) else None


def _any(said: Words, tier: str) -> Usage | None:
    given = section(said, "prompt_tokens_details", "input_tokens_details", "prompt_token_details")
    made = section(said, "completion_tokens_details", "output_tokens_details")
    cached = count(given, "cached_tokens") or first(
        said,
        "prompt_cache_hit_tokens",                      # DeepSeek
        "num_cached_tokens", "cached_tokens",           # Mistral, Moonshot
        "cache_read_input_tokens",                      # Anthropic, as proxies pass it on
    )
    written = first(given, "cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens") or count(
        said, "cache_creation_input_tokens"
    )
    prompt, output, thought = _wholes(said, given, made)
    of_cache = section(given, "cached_tokens_details")
    return settled(Usage(
        prompt, output, cached, written, thought,
        cache_write_1h=for_an_hour(
            written, section(given, "cache_creation", "cache_creation_token_details") or section(said, "cache_creation")
        ),
        image_input=max(_seen(given) - _seen(of_cache), 0),
        audio_input=max(count(given, "audio_tokens") - count(of_cache, "audio_tokens"), 0),
        image_output=count(made, "image_tokens"), audio_output=count(made, "audio_tokens"),
        searches=count(section(said, "server_tool_use"), "web_search_requests"),
        tier=tier or tier_of(said.get("service_tier")),
    ))


def _wholes(said: Words, given: Words, made: Words) -> tuple[int, int, int]:
    """Return all of the prompt, all that was generated, and how much of that was thinking."""
    prompt = first(said, "prompt_tokens", "input_tokens") or (
        count(said, "prompt_cache_hit_tokens") + count(said, "prompt_cache_miss_tokens")
    )
    output, total = first(said, "completion_tokens", "output_tokens"), count(said, "total_tokens")
    prompt += _beside(said, given, prompt, total - prompt - output)
    if not prompt:
        prompt = max(total - output, 0)                 # embeddings of servers that say nothing else
    thought = count(made, "reasoning_tokens") or count(said, "reasoning_tokens")
    missing = total - prompt - output
    if thought and (thought == missing or thought > output):
        output += thought
    elif not thought and missing > 0:
        output, thought = output + missing, missing
    return prompt, output, thought


def _beside(said: Words, given: Words, prompt: int, missing: int) -> int:
    """Return the tokens of a cache that are not in the prompt: by the total, by the names, or since they exceed it."""
    read = 0 if count(given, "cached_tokens") else count(said, "cache_read_input_tokens")
    in_prompt = first(given, "cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
    cache = read + (0 if in_prompt else count(said, "cache_creation_input_tokens"))
    anthropic = "prompt_tokens" not in said
    return cache if cache and (cache == missing or cache > prompt or anthropic) else 0


def tier_worded(usage: Usage | None) -> Words:
    """Return how an answer was served as a field beside its usage, where OpenAI has a name for that."""
    return {"service_tier": usage.tier} if usage is not None and usage.tier in ("flex", "priority") else {}


def _seen(details: Words) -> int:
    return count(details, "image_tokens") + count(details, "video_tokens")


def worded(usage: Usage) -> Words:
    """Return a usage in OpenAI's words."""
    pictures = {name: {"image_tokens": seen} if seen else {} for name, seen in (
        ("prompt", usage.image_input), ("completion", usage.image_output)
    )}
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write, "audio_tokens": usage.audio_input,
            **pictures["prompt"],
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_output, "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0, **pictures["completion"],
        },
    }
