"""The blocks of a message into neutral parts and back.

A block of which Anthropic alone can say something (a server tool's, a document with citations) is one `Native`, whole:
taken apart, its own dialect could not put it together again.

Thinking of another dialect is shown to callers under a signature of ours, so that it is known again when they send it
back (`signed`, `unsigned`): it then returns to the models that made it, and never reaches Anthropic's.
"""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.dialects.anthropic.fields import DIALECT, read_mark, typed, write_mark
from gateway.dialects.neutral import Call, Losses, Media, Native, Part, Refusal, Result, Text, Thinking
from gateway.dialects.reading import arguments_of
from gateway.errors import BadRequest

PDF, PLAIN = "application/pdf", "text/plain"
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
SAME = {"image/jpg": "image/jpeg"}
# How data begin, in base64, where their type is not said.
BEGINNINGS = {
    "iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp", "JVBERi": PDF,
}
OURS = "thriftgate."        # begins a signature that says whose thinking it is
NOBODY = "nobody"           # whose thinking it is where a model that should have thought did not
UNFIT = re.compile(r"[^a-zA-Z0-9_-]")

Words = dict[str, Any]


class _Block(msgspec.Struct):
    type: str


class _Text(msgspec.Struct):
    type: str
    text: str
    cache_control: Any = None
    citations: list[dict[str, Any]] = []


class _Attached(msgspec.Struct):
    type: str
    source: dict[str, Any]
    cache_control: Any = None
    title: str | None = None


class _Source(msgspec.Struct):
    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None


class _Use(msgspec.Struct):
    type: str
    id: str
    name: str
    input: dict[str, Any]
    cache_control: Any = None


class _Result(msgspec.Struct):
    type: str
    tool_use_id: str
    content: str | list[Any] = []
    is_error: bool = False
    cache_control: Any = None


class _Thinking(msgspec.Struct):
    type: str
    thinking: str
    signature: str | None = None


class _Redacted(msgspec.Struct):
    type: str
    data: str


# ---- blocks into parts


def read_content(content: str | list[Any], path: str) -> tuple[Part, ...]:
    """Return the parts of a content, which may be one text. Raises BadRequest."""
    if isinstance(content, str):
        return (Text(content),)
    return tuple(read_block(block, f"{path}[{at}]") for at, block in enumerate(content))


def read_block(value: Any, path: str) -> Part:
    """Return what a block says, native where only Anthropic can say it. Raises BadRequest."""
    head, _ = typed(_Block, value, path)
    read = _READ.get(head.type)
    part = read(value, path) if read else None
    return Native(DIALECT, value) if part is None else part


def _read_text(value: Any, path: str) -> Part | None:
    known, rest = typed(_Text, value, path)
    return None if rest else Text(known.text, read_mark(known.cache_control, path), tuple(known.citations))


def _read_image(value: Any, path: str) -> Part | None:
    known, rest = typed(_Attached, value, path)
    source, more = typed(_Source, known.source, f"{path}.source")
    if rest or more or known.title is not None:
        return None
    cache = read_mark(known.cache_control, path)
    return {
        "base64": Media("image", source.media_type, _needed(source.data, source, "data", path), cache=cache),
        "url": Media("image", url=_needed(source.url, source, "url", path), cache=cache),
        "file": Media("image", file_id=_needed(source.file_id, source, "file_id", path), cache=cache),
    }.get(source.type)


def _read_document(value: Any, path: str) -> Part | None:
    if isinstance(value, dict) and value.get("citations") in ({}, {"enabled": False}):
        value = {name: field for name, field in value.items() if name != "citations"}
    known, rest = typed(_Attached, value, path)
    source, more = typed(_Source, known.source, f"{path}.source")
    if rest or more:
        return None
    mark = {"name": known.title, "cache": read_mark(known.cache_control, path)}
    data = _needed(source.data, source, "data", path)
    return {
        "base64": Media("file", source.media_type or PDF, data, **mark),
        "text": Media("file", source.media_type or PLAIN, base64.b64encode((data or "").encode()).decode(), **mark),
        "url": Media("file", PDF, url=_needed(source.url, source, "url", path), **mark),
        "file": Media("file", file_id=_needed(source.file_id, source, "file_id", path), **mark),
    }.get(source.type)


NEEDED = {"base64": "data", "text": "data", "url": "url", "file": "file_id"}


def _needed(value: str | None, source: _Source, name: str, path: str) -> str | None:
    """Return a source's field. Raises BadRequest where its type needs it and it is not there."""
    if value is None and NEEDED.get(source.type) == name:
        field = f"{path}.source.{name}"
        raise BadRequest(f"`{field}` is missing: a source of type '{source.type}' needs it.", param=field)
    return value


def _read_use(value: Any, path: str) -> Part | None:
    known, rest = typed(_Use, value, path)
    if rest and rest != {"caller": {"type": "direct"}}:
        return None
    return Call(known.id, known.name, to_json(known.input), cache=read_mark(known.cache_control, path))


def _read_result(value: Any, path: str) -> Part | None:
    known, rest = typed(_Result, value, path)
    if rest:
        return None
    parts = []
    for at, part in enumerate(read_content(known.content, f"{path}.content")):
        if isinstance(part, Text | Media | Native):
            parts.append(part)
            continue
        field = f"{path}.content[{at}].type"
        raise BadRequest(f"`{field}` is wrong: a tool's result holds text, images and documents.", param=field)
    cache = read_mark(known.cache_control, path)
    return Result(known.tool_use_id, tuple(parts), error=known.is_error, cache=cache)


def _read_thinking(value: Any, path: str) -> Part | None:
    known, rest = typed(_Thinking, value, path)
    if rest:
        return None
    dialect, signature = unsigned(known.signature)
    return Thinking(dialect, known.thinking, signature)


def _read_redacted(value: Any, path: str) -> Part | None:
    known, rest = typed(_Redacted, value, path)
    dialect, data = unsigned(known.data)
    return None if rest else Thinking(dialect, redacted=data)


_READ: dict[str, Callable[[Any, str], Part | None]] = {
    "text": _read_text, "image": _read_image, "document": _read_document, "tool_use": _read_use,
    "tool_result": _read_result, "thinking": _read_thinking, "redacted_thinking": _read_redacted,
}


def signed(dialect: str, signature: str | None) -> str:
    """Return a signature of ours for thinking of another dialect."""
    return f"{OURS}{dialect}.{signature or ''}"


def unsigned(signature: str | None) -> tuple[str, str | None]:
    """Return whose thinking a signature seals, and with what."""
    if signature is None or not signature.startswith(OURS):
        return DIALECT, signature
    dialect, _, seal = signature.removeprefix(OURS).partition(".")
    return dialect, seal or None


# ---- parts into blocks


class Wording:
    """Words parts as blocks; `own` where they were read from blocks and may hold what only Anthropic reads."""

    def __init__(self, losses: Losses, *, own: bool) -> None:
        self._losses = losses
        self._own = own
        self._words: dict[type, Callable[[Any], Words | None]] = {
            Text: self._text, Refusal: self._refusal, Media: self._media, Call: self._call, Result: self._result,
            Thinking: self._thinking, Native: self._native,
        }

    def __repr__(self) -> str:
        return f"<Wording of {'our own' if self._own else 'foreign'} parts>"

    def blocks(self, parts: tuple[Part, ...]) -> list[Words]:
        """Return the blocks of a turn. Raises Inexpressible for what must not be left out and cannot be said."""
        worded = (self._words[type(part)](part) for part in parts)
        return [block for block in worded if block is not None]

    def _text(self, part: Text) -> Words | None:
        if not part.text.strip():       # a block without words is refused
            return None
        block: Words = {"type": "text", "text": part.text, **write_mark(part.cache)}
        if part.citations and self._own:
            block["citations"] = list(part.citations)
        elif part.citations:
            self._losses.lose("citations")
        return block

    def _refusal(self, part: Refusal) -> Words | None:
        return self._text(Text(part.text))

    def _media(self, part: Media) -> Words | None:
        kind = SAME.get(part.type or "", part.type)
        if part.detail not in (None, "auto"):
            self._losses.lose("media.detail")
        if part.kind == "audio":
            self._losses.lose("media.audio", "audio")
            return None
        if part.data is not None:
            kind = kind or next((name for head, name in BEGINNINGS.items() if part.data.startswith(head)), None)
        image = part.kind == "image" or kind in IMAGES
        source = self._source(part, kind, image=image)
        if source is None:
            return None
        title = {"title": part.name} if part.name and not image else {}
        if part.name and image:
            self._losses.lose("media.name")
        return {"type": "image" if image else "document", "source": source, **title, **write_mark(part.cache)}

    def _source(self, part: Media, kind: str | None, *, image: bool) -> Words | None:
        if part.file_id is not None and part.data is None and part.url is None:
            if not self._own:
                self._losses.lose("media.file_id", "file_id")
            return {"type": "file", "file_id": part.file_id} if self._own else None
        if part.url is not None and part.data is None and (image or kind in (None, PDF)):
            return {"type": "url", "url": part.url}
        if part.data is not None and (self._own or (kind in IMAGES if image else kind == PDF)):
            text = _plain(part.data) if kind == PLAIN else None
            if text is not None:
                return {"type": "text", "media_type": PLAIN, "data": text}
            return {"type": "base64", "media_type": kind, "data": part.data}
        text = _plain(part.data) if part.data is not None and (kind or "").startswith("text/") else None
        if text is None:
            self._losses.lose("media.type", kind or part.kind)
            return None
        return {"type": "text", "media_type": PLAIN, "data": text}

    def _call(self, part: Call) -> Words | None:
        if part.signature:
            self._losses.lose("signature")
        return {
            "type": "tool_use", "id": fit(part.id), "name": part.name, "input": arguments_of(part.arguments),
            **write_mark(part.cache),
        }

    def _result(self, part: Result) -> Words | None:
        content = self.blocks(part.parts)
        said = content[0]["text"] if len(content) == 1 and content[0].keys() == {"type", "text"} else content
        return {
            "type": "tool_result", "tool_use_id": fit(part.id), **({"content": said} if said else {}),
            **({"is_error": True} if part.error else {}), **write_mark(part.cache),
        }

    def _thinking(self, part: Thinking) -> Words | None:
        if part.dialect == DIALECT and part.redacted is not None:
            return {"type": "redacted_thinking", "data": part.redacted}
        if part.dialect == DIALECT and part.signature is not None:
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        self._losses.lose("thinking")
        return None

    def _native(self, part: Native) -> Words | None:
        if part.dialect == DIALECT:
            return part.value
        self._losses.lose("part.native", label(part))
        return None


def fit(call: str) -> str:
    """Return a call's id in the characters that Anthropic takes for one; call and result get the same."""
    return UNFIT.sub("_", call) or "call"


def label(native: Native) -> str | None:
    """Return what a native part or tool is called, for the message that refuses it."""
    kind = native.value.get("type")
    return kind if isinstance(kind, str) else next(iter(native.value), None)


def to_json(value: Any) -> str:
    """Return a value as JSON text."""
    return msgspec.json.encode(value).decode()


def _plain(data: str) -> str | None:
    """Return the text that base64 data are, None where they are none."""
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
