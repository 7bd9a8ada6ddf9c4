"""Tokens that others counted. Whatever a provider says of them becomes a usage that can be paid for, or none.

Rule: a token counts once; a part that is larger than its whole is cut to it; what is not said is 0. A usage without
any token says nothing, since no prompt is empty: it is taken for one that is missing, and never for an answer that is
free.
"""

from typing import Any

from gateway.pricing import Usage

MOST_TOKENS = 2**40


def count(said: dict[str, Any], name: str) -> int:
    """Return a number of tokens. What is no number or less than none is 0; 10^400 would break a sum."""
    value = said.get(name)
    if isinstance(value, float) and value.is_integer():      # as some servers write them: 12.0
        value = int(value)
    if type(value) is not int or value <= 0:
        return 0
    return min(value, MOST_TOKENS)


def first(said: dict[str, Any], *names: str) -> int:
    """Return the first number of tokens among those with these names that is not 0."""
    for name in names:
        if name in said and (found := count(said, name)):
            return found
    return 0


def section(said: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the first object among the fields with these names that says something; else an empty one."""
    for name in names:
        found = said.get(name)
        if found and isinstance(found, dict):
            return found
    return {}


def for_an_hour(written: int, said: dict[str, Any]) -> int:
    """Return how many of the tokens written to a cache stay for an hour, by Anthropic's table of lifetimes.

    In a stream with searches the table may be of the first of several turns, and the number of all of them: the tokens
    that it has not are taken to be like those that it has.
    """
    hour = count(said, "ephemeral_1h_input_tokens")
    known = hour + count(said, "ephemeral_5m_input_tokens")
    return written * hour // known if known else 0


def fits(usage: Usage) -> bool:
    """Say whether a usage of counts says something, and no part of it is larger than its whole."""
    prompt, output, cached, written, thought, hour, pictures, sounds, drawn, spoken, *_ = usage
    return (
        0 < prompt + output < MOST_TOKENS and cached + written + pictures + sounds <= prompt
        and thought + drawn + spoken <= output and hour <= written
    )


def settled(usage: Usage) -> Usage | None:
    """Return a usage of counts as one whose parts fit into the whole; None where there are no tokens at all."""
    if fits(usage):
        return usage
    prompt, output = min(usage.input, MOST_TOKENS), min(usage.output, MOST_TOKENS)
    if not prompt and not output:
        return None
    cached = min(usage.cached, prompt)
    written = min(usage.cache_write, prompt - cached)
    fresh = prompt - cached - written
    audio, thought = min(usage.audio_input, fresh), min(usage.reasoning, output)
    sound = min(usage.audio_output, output - thought)
    return Usage(
        prompt, output, cached, written, thought,
        cache_write_1h=min(usage.cache_write_1h, written),
        image_input=min(usage.image_input, fresh - audio), audio_input=audio,
        image_output=min(usage.image_output, output - thought - sound), audio_output=sound,
        searches=usage.searches, tier=usage.tier, estimated=usage.estimated,
    )
