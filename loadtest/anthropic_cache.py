"""What a Messages prompt costs in tokens, and which part of it Anthropic's cache already holds. Pure.

A `cache_control` mark ends a prefix that is stored; a later prompt reads the longest stored prefix that it begins
with, up to its own last mark. The real cache forgets after five minutes and ignores prefixes under 1,024 tokens; this
one does neither, so that a test can be short.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass

import orjson

from loadtest import anthropic_rules
from loadtest.answers import count_tokens

IMAGE_TOKENS = 1_600
PDF_TOKENS = 3_000  # a document that is not text
_TURN_TOKENS = 3


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt's tokens: all of them, those read from the cache, and those written to it by time to live."""

    tokens: int
    read: int
    stored: Mapping[str, int]
    marks: frozenset[str]  # the prefixes that are stored with this prompt


def weigh(body: Mapping[str, object], held: Set[str]) -> Prompt:
    """Count the prompt, and find it among the prefixes that are held."""
    digest = hashlib.blake2b(str(body["model"]).encode())
    tokens = 0
    ends: dict[str, tuple[int, str]] = {}  # prefix → its tokens, and how long it is to live
    seen: list[tuple[str, int]] = []
    blocks = list(anthropic_rules.marked(body))
    for at, block in enumerate(blocks):
        bare = {name: value for name, value in block.items() if name != "cache_control"}
        mark = block.get("cache_control") or (body.get("cache_control") if at == len(blocks) - 1 else None)
        digest.update(orjson.dumps(bare, option=orjson.OPT_SORT_KEYS))
        tokens += block_tokens(bare)
        seen.append((digest.hexdigest(), tokens))
        if isinstance(mark, dict):
            ends[digest.hexdigest()] = tokens, str(mark.get("ttl", "5m"))
    last = max((end for end, _ in ends.values()), default=0)
    read = max((end for prefix, end in seen if prefix in held and end <= last), default=0)
    stored = {"5m": 0, "1h": 0}
    start = read
    for end, lifetime in ends.values():
        stored[lifetime] += max(0, end - start)
        start = max(start, end)
    messages = body["messages"]
    total = tokens + _TURN_TOKENS * (len(messages) if isinstance(messages, list) else 0)
    return Prompt(total, read, stored, frozenset(ends))


def block_tokens(block: Mapping[str, object]) -> int:
    """The tokens of one block, one tool, or the parts of a tool's result."""
    source = block.get("source")
    match block.get("type"):
        case "text":
            return count_tokens(str(block["text"]))
        case "image":
            return IMAGE_TOKENS
        case "document" if isinstance(source, dict):
            return count_tokens(str(source["data"])) if source["type"] == "text" else PDF_TOKENS
        case "tool_result":
            return sum(block_tokens(part) for part in anthropic_rules.blocks(block.get("content", [])))
        case "thinking":
            return count_tokens(str(block["thinking"]))
    return count_tokens(orjson.dumps(block).decode())
