"""Reading what others wrote, for every dialect.

Of a request every wrong field is named by the path to it. Of an answer, which may be odd in any way, what can be read
is read and nothing is raised.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from gateway.errors import BadRequest

S = TypeVar("S", bound=msgspec.Struct)
R = TypeVar("R")

DEPTH = 5       # how deep inside a provider's object a page's address may lie; Gemini's lies deepest


class Page(NamedTuple):
    """A page that a provider cites, and its words for it."""

    address: str
    title: str | None
    said: dict[str, Any]


def whole(raw: bytes, read: Callable[[dict[str, Any]], R]) -> R:
    """Return what `read` makes of a JSON object. Raises BadRequest for any other text, or one nested too deeply."""
    try:
        return read(decoded(raw))
    except RecursionError:
        raise too_deep() from None


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


def missing(path: str) -> BadRequest:
    """Return the answer to a field that must be there."""
    return BadRequest(f"`{path}` is missing: it is required.", param=path)


def typed(kind: type[S], value: Any, path: str) -> tuple[S, dict[str, Any]]:
    """Return what `kind` knows of an object, and the rest of its fields. Raises BadRequest with the path at fault."""
    try:
        known = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _wrong(str(error), path) from None
    return known, {name: field for name, field in value.items() if name not in kind.__struct_encode_fields__}


def _wrong(message: str, path: str) -> BadRequest:
    what, _, inner = message.partition(" - at `")
    field = (path + inner.removesuffix("`").removeprefix("$")).lstrip(".")
    if what.startswith("Object missing required field"):
        return missing(f"{field}.{what.split('`')[1]}".lstrip("."))
    if not field:
        return BadRequest(f"The body must be a JSON object: {what[0].lower()}{what[1:]}.")
    return BadRequest(f"`{field}` is wrong: {what[0].lower()}{what[1:]}.", param=field)


def object_of(text: str | bytes) -> dict[str, Any] | None:
    """Return the JSON object that a text is, None where it is none."""
    try:
        said = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def objects(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list; none of anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def string(value: object) -> str:
    """Return a text; an empty one for anything else."""
    return value if isinstance(value, str) else ""


def arguments_of(text: str) -> Any:
    """Return a call's arguments. What is no object, broken off as it may be, is shown to the model as it was."""
    if object_of(text) is not None:
        return verbatim(text)
    return {"arguments": text} if text.strip() else {}


def verbatim(text: str) -> msgspec.Raw:
    """Return a JSON text to be put into another as it is, on one line: it may become a part of an event."""
    return msgspec.Raw(text.replace("\n", " ").replace("\r", " ").encode())


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
