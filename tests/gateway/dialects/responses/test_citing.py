"""Every provider's way to name a page becomes an annotation."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.responses.citing import annotations

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["url", "uri", "title", "start_index", "x"]), inner, max_size=3), max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "pages"),
    [
        ({"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 1, "end_index": 2}},
         [("u", "t", 1, 2)]),
        ({"type": "web_search_result_location", "url": "u", "title": None, "cited_text": "x"}, [("u", "u", 5, 9)]),
        ({"groundingMetadata": {"groundingChunks": [{"web": {"uri": "a", "title": "A"}}, {"web": {"uri": "b"}}]}},
         [("a", "A", 5, 9), ("b", "b", 5, 9)]),
        ({"citationMetadata": {"citations": [{"uri": "a", "startIndex": 3}]}}, [("a", "a", 5, 9)]),
        ({"type": "char_location", "document_index": 0, "cited_text": "x"}, []),
    ],
)
def test_pages(value: dict[str, Any], pages: list[tuple[str, str, int, int]]) -> None:
    """Address and title are kept; where no place in the text is said, it is the stretch before."""
    expected = [
        {"type": "url_citation", "url": url, "title": title, "start_index": start, "end_index": end}
        for url, title, start, end in pages
    ]

    assert expected == annotations(value, (5, 9))


@STEADY
@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_any_object(value: dict[str, Any]) -> None:
    """Nothing in a provider's object raises, and every annotation has its address."""
    assert all(isinstance(found["url"], str) for found in annotations(value, (0, 0)))
