"""The prompt is counted block by block, and its cached prefix is found again."""

from typing import Any

from loadtest import anthropic_cache
from loadtest.anthropic_cache import IMAGE_TOKENS, PDF_TOKENS, weigh

MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def text(said: str, **mark: object) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": said, **mark}


def body(*blocks: object, **more: object) -> dict[str, Any]:
    """A request of one turn."""
    return {"model": "m", "messages": [{"role": "user", "content": list(blocks)}], **more}


def test_a_marked_prefix_is_written_once_and_read_from_then_on() -> None:
    """Also when the mark has moved on to a later block: what was stored ends between two blocks of the new prompt."""
    first = weigh(body(text("a" * 400), text("b" * 40, **MARK), text("c" * 4)), set())
    again = weigh(body(text("a" * 400), text("b" * 40, **MARK), text("c" * 4)), set(first.marks))
    longer = weigh(body(text("a" * 400), text("b" * 40), text("c" * 4), text("d" * 80, **MARK)), set(first.marks))

    assert (first.read, first.stored, first.tokens) == (0, {"5m": 110, "1h": 0}, 110 + 1 + 3)
    assert (again.read, again.stored) == (110, {"5m": 0, "1h": 0})
    assert (longer.read, longer.stored) == (110, {"5m": 21, "1h": 0})


def test_another_beginning_is_another_prefix() -> None:
    """Another model, system prompt or tool, and nothing is read; nor without a mark of its own."""
    tool = {"name": "f", "input_schema": {"type": "object"}}
    plain = body(text("a" * 400, **MARK))
    held = set(weigh(plain, set()).marks)

    others = [{**plain, "model": "n"}, {**plain, "system": "be"}, {**plain, "tools": [tool]}, body(text("a" * 400))]

    assert weigh(plain, held).read == 100
    assert [weigh(other, held).read for other in others] == [0, 0, 0, 0]


def test_times_to_live_are_told_apart() -> None:
    """Each mark stores what lies between it and the one before."""
    marked = weigh(body(text("b" * 40, **MARK), system=[text("a" * 400, **HOUR)]), set())

    assert marked.stored == {"5m": 10, "1h": 100}
    assert len(marked.marks) == 2


def test_a_mark_on_the_request_is_one_on_its_last_block() -> None:
    """A string is a block too."""
    whole = {"model": "m", "messages": [{"role": "user", "content": "a" * 400}], **MARK}

    assert weigh(whole, set()).stored["5m"] == 100
    assert weigh(body(text("a" * 400, **MARK)), set(weigh(whole, set()).marks)).read == 100


def test_every_kind_of_block_has_its_price() -> None:
    """Images and papers a fixed one, results that of their parts."""
    image = {"type": "image", "source": {"type": "url"}}
    plain = {"type": "document", "source": {"type": "text", "data": "x" * 40}}
    paper = {"type": "document", "source": {"type": "base64"}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [text("x" * 40), image]}
    kinds = (image, plain, paper, result, {"type": "thinking", "thinking": "x" * 8}, {"name": "f"})

    assert [anthropic_cache.block_tokens(block) for block in kinds] == [
        IMAGE_TOKENS, 10, PDF_TOKENS, 10 + IMAGE_TOKENS, 2, 3,
    ]  # fmt: skip
