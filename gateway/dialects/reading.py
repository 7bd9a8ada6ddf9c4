"""Typed reading of a request, with the field at fault named, for the dialects whose fields have one spelling.

And what no dialect has for itself: the pages that a provider's object cites.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from gateway.errors import BadRequest

S = TypeVar("S", bound=msgspec.Struct)

DEPTH = 5       # how deep inside a provider's object a page's address may lie; Gemini's lies deepest


class Page(NamedTuple):
    """A page that a provider cites, and its words for it."""

    address: str
    title: str | None
    said: dict[str, Any]


def decoded(raw: bytes) -> dict[str, Any]:
    """Return a JSON object, or raise BadRequest."""
    try:
        value = msgspec.json.decode(raw)
    except RecursionError:
        raise too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}. Send one JSON object in UTF-8.") from None
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    return value


def too_deep() -> BadRequest:
    """Return the answer to a body that is nested beyond what can be read."""
    return BadRequest("The body is nested too deeply to be read. Send a flatter JSON object.")


def typed(kind: type[S], value: Any, at: str) -> tuple[S, dict[str, Any]]:
    """Return `value` as a struct, and the fields that the struct does not know. Raises BadRequest with the path."""
    try:
        read = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `")
        field = f"{at}{path.removesuffix('`').removeprefix('$')}".removeprefix(".")
        if what.startswith("Object missing required field"):
            field = f"{field}.{what.split('`')[1]}".removeprefix(".")
            raise BadRequest(f"`{field}` is missing: it is required.", param=field) from None
        raise BadRequest(f"`{field or 'body'}` is wrong: {what.lower()}.", param=field or None) from None
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    return read, {name: given for name, given in value.items() if name not in known}


def data_url(url: str) -> tuple[str | None, str | None]:
    """Return type and base64 data of a data URL, nothing of another."""
    head, comma, data = url.partition(";base64,")
    return (head.removeprefix("data:") or None, data) if comma and head.startswith("data:") else (None, None)


def pages(value: Any, depth: int = DEPTH) -> Iterator[Page]:
    """Yield the pages that a citation of any provider's names."""
    address = (value.get("url") or value.get("uri")) if isinstance(value, dict) else None
    if isinstance(address, str):
        title = value.get("title")
        yield Page(address, title if isinstance(title, str) else None, value)
    elif isinstance(value, dict | list) and depth:
        for inner in value.values() if isinstance(value, dict) else value:
            yield from pages(inner, depth - 1)


def lifetime(mark: dict[str, Any] | None) -> str | None:
    """Return how long a `cache_control` mark wants its prefix to live."""
    if mark is None:
        return None
    lives = mark.get("ttl")
    return lives if isinstance(lives, str) else "5m"
