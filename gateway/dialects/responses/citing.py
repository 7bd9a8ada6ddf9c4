"""Sources as annotations of a text: of all that providers say of a source, a page's address and title find a place."""

from typing import Any

from gateway.dialects.reading import Page, pages

Words = dict[str, Any]


def annotations(value: Words, stretch: tuple[int, int]) -> list[Words]:
    """Return the pages that a citation names, for the stretch of text where it does not say one itself."""
    return [_annotation(page, stretch) for page in pages(value)]


def _annotation(page: Page, stretch: tuple[int, int]) -> Words:
    start, end = page.said.get("start_index"), page.said.get("end_index")
    if not (isinstance(start, int) and isinstance(end, int)):
        start, end = stretch
    words = {"type": "url_citation", "start_index": start, "end_index": end, "url": page.address}
    return {**words, "title": page.title or page.address}
