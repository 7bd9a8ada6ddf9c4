"""What an Anthropic message used, in its words.

The prompt is said at the beginning of a stream and the answer at its end, each without what the other says. What was
read from and written to the prompt cache is counted beside `input_tokens`. Turns that the server takes by itself, to
make the conversation shorter or to ask another model, are in `iterations` alone; those of the answer are there a
second time.
"""

from collections.abc import Iterable
from typing import Any

from gateway.dialects.reading import objects
from gateway.dialects.tokens import MOST_TOKENS, count, for_an_hour, settled
from gateway.pricing import Usage

Words = dict[str, Any]

COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
LIFETIMES = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
INNER = {
    "output_tokens_details": ("thinking_tokens",), "cache_creation": LIFETIMES,
    "server_tool_use": ("web_search_requests",),
}
BESIDE = ("compaction", "advisor_message")      # an advisor is another model: its tokens are paid at its own price
TIERS = ("batch", "priority")


class Counts:
    """The tokens of one answer. What a stream says of them only grows."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._beside: dict[str, int] = {}       # of the turns that are not in the counts
        self._tier = ""

    def __repr__(self) -> str:
        return f"<Counts {self._counts}>"

    def take(self, usage: object) -> bool:
        """Take in what a frame says; return whether it says anything."""
        if not isinstance(usage, dict):
            return False
        _grow(self._counts, usage, COUNTS)
        for inner, names in INNER.items():
            said = usage.get(inner)
            if said and isinstance(said, dict):
                _grow(self._counts, said, names)
        turns = usage.get("iterations")
        if turns and (turns := [turn for turn in objects(turns) if turn.get("type") in BESIDE]):
            _grow(self._beside, {name: sum(count(turn, name) for turn in turns) for name in COUNTS}, COUNTS)
        if usage.get("speed") == "fast":
            self._tier = "fast"
        elif (tier := usage.get("service_tier")) in TIERS:
            self._tier = self._tier or tier
        return isinstance(usage.get("output_tokens"), int) or isinstance(usage.get("input_tokens"), int)

    def usage(self) -> Usage | None:
        """Return the usage as far as it is known."""
        counts, beside = self._counts, self._beside
        fresh, read, written, output = [counts.get(name, 0) + beside.get(name, 0) for name in COUNTS]
        if not written:
            written = sum(counts.get(name, 0) for name in LIFETIMES)
        return settled(Usage(
            min(fresh + read + written, MOST_TOKENS), output, read, written, counts.get("thinking_tokens", 0),
            cache_write_1h=for_an_hour(written, counts), searches=counts.get("web_search_requests", 0), tier=self._tier,
        ))


def _grow(counts: dict[str, int], said: Words, names: Iterable[str]) -> None:
    for name in names:
        if (tokens := count(said, name)) > counts.get(name, 0):
            counts[name] = tokens


def worded(usage: Usage) -> Words:
    """Return a usage in Anthropic's words; what there seldom is stands there when there is some."""
    said: Words = {
        "input_tokens": max(usage.input - usage.cached - usage.cache_write, 0),
        "cache_creation_input_tokens": usage.cache_write, "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output,
    }
    if usage.reasoning:
        said["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if usage.cache_write_1h:
        lifetimes = (usage.cache_write - usage.cache_write_1h, usage.cache_write_1h)
        said["cache_creation"] = dict(zip(LIFETIMES, lifetimes, strict=True))
    if usage.searches:
        said["server_tool_use"] = {"web_search_requests": usage.searches}
    if usage.tier in TIERS:
        said["service_tier"] = usage.tier
    return said
