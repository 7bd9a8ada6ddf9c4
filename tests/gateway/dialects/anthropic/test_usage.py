"""What Anthropic's messages used, by samples with their sources."""

from typing import Any

import orjson
import pytest

from gateway.dialects import anthropic
from gateway.dialects.anthropic.usage import Counts, worded
from gateway.pricing import Usage
from gateway.sse import Event as Frame

GOLDEN: dict[str, tuple[list[dict[str, Any]], Usage]] = {
    # BerriAI/litellm#9812, with Anthropic's own bill, in millionths: 3 at $3, 12,304 at $3.75, 550 at $15 are $0.0544
    "written": (
        [{"input_tokens": 3, "cache_creation_input_tokens": 12304, "cache_read_input_tokens": 0, "output_tokens": 550}],
        Usage(12307, 550, 0, 12304),
    ),
    # @ai-sdk/anthropic 3.0.21, its recorded stream with a JSON tool: the beginning and the end
    "stream": (
        [{"input_tokens": 849, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
          "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}, "output_tokens": 10,
          "service_tier": "standard"},
         {"input_tokens": 849, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 47}],
        Usage(849, 47),
    ),
    # Anthropic's guide on streaming: web search
    "searches": (
        [{"input_tokens": 2679, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 3},
         {"input_tokens": 10682, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 510,
          "server_tool_use": {"web_search_requests": 1}}],
        Usage(10682, 510, searches=1),
    ),
    # Anthropic's price page: web search, with a cache
    "searches cached": (
        [{"input_tokens": 105, "output_tokens": 6039, "cache_read_input_tokens": 7123,
          "cache_creation_input_tokens": 7345, "server_tool_use": {"web_search_requests": 1}}],
        Usage(14573, 6039, 7123, 7345, searches=1),
    ),
    # Claude Code's own result of 2026: everything there is, the turns of the answer a second time
    "for an hour": (
        [{"input_tokens": 258, "cache_creation_input_tokens": 45455, "cache_read_input_tokens": 376769,
          "output_tokens": 10210, "output_tokens_details": {"thinking_tokens": 6129},
          "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0}, "service_tier": "standard",
          "cache_creation": {"ephemeral_1h_input_tokens": 45455, "ephemeral_5m_input_tokens": 0},
          "inference_geo": "not_available", "speed": "standard", "iterations": [{
              "input_tokens": 32, "output_tokens": 1051, "cache_read_input_tokens": 55300,
              "cache_creation_input_tokens": 1715, "type": "message",
              "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1715}}]}],
        Usage(422482, 10210, 376769, 45455, 6129, cache_write_1h=45455),
    ),
    # BerriAI/litellm#42663: the lifetimes of the first turn alone, the number of all turns
    "lifetimes of one turn": (
        [{"input_tokens": 3, "cache_creation_input_tokens": 31490, "cache_read_input_tokens": 0, "output_tokens": 1,
          "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 31490}},
         {"input_tokens": 123201, "cache_creation_input_tokens": 184457, "cache_read_input_tokens": 426653,
          "output_tokens": 9000, "server_tool_use": {"web_search_requests": 5}}],
        Usage(734311, 9000, 426653, 184457, cache_write_1h=184457, searches=5),
    ),
    # pydantic/pydantic-ai#5065, from Anthropic's guide: compaction is paid, and is not in the counts
    "compaction": (
        [{"input_tokens": 23000, "output_tokens": 1000, "iterations": [
            {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500},
            {"type": "message", "input_tokens": 23000, "output_tokens": 1000}]}],
        Usage(203000, 4500),
    ),
    # BerriAI/litellm#27065: it has a cache of its own
    "compaction cached": (
        [{"input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 10, "iterations": [
            {"type": "compaction", "input_tokens": 200, "output_tokens": 30, "cache_read_input_tokens": 900,
             "cache_creation_input_tokens": 40}]}],
        Usage(1250, 80, 910, 40),
    ),
    # Anthropic's fields (docs.rs and rubydoc.info of its SDKs), numbers ours: a table of lifetimes without the sum
    "lifetimes alone": (
        [{"input_tokens": 1, "output_tokens": 2,
          "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 10}}],
        Usage(41, 2, 0, 40, cache_write_1h=10),
    ),
    # platform.claude.com, fast mode, numbers ours: said in the usage, and dearer
    "fast": ([{"input_tokens": 5, "output_tokens": 2, "service_tier": "standard", "speed": "fast"}],
             Usage(5, 2, tier="fast")),
    # Anthropic's reference, numbers ours: standard, priority or batch
    "batch": ([{"input_tokens": 5, "output_tokens": 2, "service_tier": "batch"}], Usage(5, 2, tier="batch")),
    "priority": ([{"input_tokens": 5, "output_tokens": 1, "service_tier": "priority"}, {"output_tokens": 2}],
                 Usage(5, 2, tier="priority")),
}


def frames(usages: list[dict[str, Any]]) -> list[Frame]:
    """Return a stream whose beginning and end say these usages."""
    start = {"type": "message_start", "message": {"id": "m", "usage": usages[0]}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usages[-1]}
    return [Frame(b"", orjson.dumps(said)) for said in (start, end, {"type": "message_stop"})]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_usages(name: str) -> None:
    """As accounting reads it at the end, and as the reader does: the same (complaint 12)."""
    usages, expected = GOLDEN[name]
    reader = anthropic.reader()
    read = [getattr(event, "usage", None) for frame in frames(usages) for event in reader.feed(frame)]

    assert anthropic.ending_of_stream(frames(usages)).usage == expected
    assert next(usage for usage in reversed(read) if usage is not None) == expected


@pytest.mark.parametrize("name", [name for name, (usages, _) in GOLDEN.items() if len(usages) == 1])
def test_golden_bodies(name: str) -> None:
    """A whole message says at once what a stream says in two parts."""
    usages, expected = GOLDEN[name]
    body = {"type": "message", "content": [], "stop_reason": "end_turn", "usage": usages[0]}

    assert anthropic.ending_of_body(orjson.dumps(body)).usage == expected


@pytest.mark.parametrize("usage", [None, {}, [], {"input_tokens": 0, "output_tokens": 0}, {"input_tokens": "9"}])
def test_none_is_not_zero(usage: Any) -> None:
    """Where a server says nothing, or zeros, nothing is known."""
    assert anthropic.ending_of_body(orjson.dumps({"content": [], "usage": usage})).usage is None


@pytest.mark.parametrize("usage", [
    Usage(9, 5), Usage(90, 50, 30, 20, 10, cache_write_1h=5, searches=2, tier="batch"),
])
def test_words_are_read_back(usage: Usage) -> None:
    """What is worded for a caller says the same when it is read."""
    counts = Counts()

    assert counts.take(worded(usage))
    assert counts.usage() == usage
    assert repr(counts).startswith("<Counts")


def test_other_tiers_have_no_name_here() -> None:
    """Anthropic's SDK knows its own tiers alone."""
    assert "service_tier" not in worded(Usage(9, 5, tier="flex"))
