"""Sources as annotations of a text: of all that providers say of a source, a page's address and title find a place."""

from collections.abc import Iterator, Mapping
from typing import Any

Words = dict[str, Any]

DEPTH = 5       # how deep inside a provider's object an address may lie; Gemini's lies deepest


def annotations(value: Words, stretch: tuple[int, int]) -> list[Words]:
    """Return the pages that a citation names, for the stretch of text where it does not say one itself."""
    return [_annotation(page, stretch) for page in _pages(value, DEPTH)]


def _pages(value: Any, depth: int) -> Iterator[Words]:
    if isinstance(value, dict) and _address(value):
        yield value
    elif isinstance(value, dict | list) and depth:
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _pages(inner, depth - 1)


def _annotation(page: Words, stretch: tuple[int, int]) -> Words:
    address, title = _address(page), page.get("title")
    start, end = page.get("start_index"), page.get("end_index")
    if not (isinstance(start, int) and isinstance(end, int)):
        start, end = stretch
    words = {"type": "url_citation", "start_index": start, "end_index": end, "url": address}
    return {**words, "title": title if isinstance(title, str) else address}


def _address(page: Mapping[str, Any]) -> str | None:
    found = page.get("url") or page.get("uri")
    return found if isinstance(found, str) else None
