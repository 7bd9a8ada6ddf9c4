"""The parts of a content, which requests and answers have in common, into neutral parts and back.

Calls and results are read without ids where Gemini gives none; whoever reads a conversation counts them.

A signature may sit on any part. On a call it stays there. On a text it becomes a `Thinking` without words before it,
and goes back onto the part behind it; a text that is empty but for its signature is a sealed `Thinking` by itself.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway.dialects.gemini.fields import DIALECT, camel, listed, typed
from gateway.dialects.neutral import Call, Media, Native, Part, Result, Text, Thinking
from gateway.dialects.reading import missing, object_of, verbatim
from gateway.errors import BadRequest

# Gemini wants the type of every datum. An address says it by its ending, data by how they begin (in base64), and where
# neither does, the most usual one of its kind is named.
ENDINGS = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif",
    "heic": "image/heic", "heif": "image/heif", "bmp": "image/bmp", "svg": "image/svg+xml", "avif": "image/avif",
    "pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown", "html": "text/html", "htm": "text/html",
    "css": "text/css", "csv": "text/csv", "xml": "text/xml", "rtf": "text/rtf", "json": "application/json",
    "wav": "audio/wav", "mp3": "audio/mp3", "aiff": "audio/aiff", "aac": "audio/aac", "ogg": "audio/ogg",
    "flac": "audio/flac", "m4a": "audio/mp4", "opus": "audio/opus",
    "mp4": "video/mp4", "mpeg": "video/mpeg", "mpg": "video/mpg", "mov": "video/mov", "avi": "video/avi",
    "webm": "video/webm", "wmv": "video/wmv", "flv": "video/x-flv", "3gp": "video/3gpp",
}
BEGINNINGS = {
    "iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp",
    "JVBERi": "application/pdf", "SUQz": "audio/mp3", "T2dnUw": "audio/ogg", "ZkxhQ": "audio/flac",
}
USUAL = {"image": "image/jpeg", "audio": "audio/wav", "file": "application/pdf"}
OF_GOOGLE = ("https://generativelanguage.googleapis.com/", "gs://", "files/")   # where only Gemini can read
WEB = ("https://", "http://")
# Google's word for the signature of a call that another model made; and as callers get it, in plain base64's alphabet,
# which all of its SDKs decode and write back in their own.
UNSIGNED = "skip_thought_signature_validator"
FOREIGN = UNSIGNED.replace("_", "/")


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    inline_data: dict[str, Any] | None = None
    file_data: dict[str, Any] | None = None
    function_call: dict[str, Any] | None = None
    function_response: dict[str, Any] | None = None
    thought: bool | None = None
    thought_signature: str | None = None


class _Blob(msgspec.Struct, rename="camel"):
    data: str | None = None
    mime_type: str | None = None
    display_name: str | None = None


class _File(msgspec.Struct, rename="camel"):
    file_uri: str | None = None
    mime_type: str | None = None
    display_name: str | None = None


class _Call(msgspec.Struct, rename="camel"):
    name: str | None = None
    id: str | None = None
    args: dict[str, Any] | None = None


class _Response(msgspec.Struct, rename="camel"):
    name: str | None = None
    id: str | None = None
    response: dict[str, Any] | None = None
    parts: list[dict[str, Any]] | dict[str, Any] | None = None


KINDS = ("text", "inlineData", "fileData", "functionCall", "functionResponse")


def read_part(value: Any, path: str) -> list[Part]:
    """Return what a part says, native where only Gemini can say it. Raises BadRequest."""
    known, rest = typed(_Part, value, path)
    fields = camel(value)
    said = [kind for kind in KINDS if kind in fields]
    if len(said) > 1:
        raise BadRequest(f"`{path}` has {' and '.join(said)}: a part has one of them. Split it.", param=path)
    if not said and not rest and not known.thought and known.thought_signature:
        return [Thinking(DIALECT, redacted=known.thought_signature)]
    if rest or not said or (known.thought and said != ["text"]):
        return [Native(DIALECT, fields)]
    if said == ["text"]:
        return _text(known)
    read = _READ[said[0]](fields[said[0]], f"{path}.{said[0]}")
    if read is None:
        return [Native(DIALECT, fields)]
    if isinstance(read, Call):
        signature = None if known.thought_signature in (UNSIGNED, FOREIGN) else known.thought_signature
        return [msgspec.structs.replace(read, signature=signature)]
    return [Thinking(DIALECT, signature=known.thought_signature), read] if known.thought_signature else [read]


def _text(part: _Part) -> list[Part]:
    text, signature = part.text or "", part.thought_signature
    if signature and not text:
        return [Thinking(DIALECT, redacted=signature)]
    if part.thought:
        return [Thinking(DIALECT, text, signature)]
    return [Thinking(DIALECT, signature=signature), Text(text)] if signature else [Text(text)]


def _blob(value: Any, path: str) -> Media | None:
    known, rest = typed(_Blob, value, path)
    if known.data is None:
        raise missing(f"{path}.data")
    data = known.data
    if "-" in data or "_" in data:      # protobuf reads both alphabets of base64, others one
        data = data.replace("-", "+").replace("_", "/")
    return None if rest else Media(_kind(known.mime_type), known.mime_type, data, name=known.display_name)


def _file(value: Any, path: str) -> Media | None:
    known, rest = typed(_File, value, path)
    if known.file_uri is None:
        raise missing(f"{path}.fileUri")
    if rest:
        return None
    kind, name = _kind(known.mime_type or _type_of_ending(known.file_uri)), known.display_name
    if known.file_uri.startswith(WEB) and not known.file_uri.startswith(OF_GOOGLE):
        return Media(kind, known.mime_type, url=known.file_uri, name=name)
    return Media(kind, known.mime_type, file_id=known.file_uri, name=name)


def _call(value: Any, path: str) -> Call | None:
    known, rest = typed(_Call, value, path)
    if not known.name:
        raise missing(f"{path}.name")
    return None if rest else Call(known.id or "", known.name, _json(known.args or {}))


def _response(value: Any, path: str) -> Result | None:
    known, rest = typed(_Response, value, path)
    if not known.name:
        raise missing(f"{path}.name")
    if rest:
        return None
    parts: list[Text | Media | Native] = []
    error = False
    if known.response is not None:
        text, error = _output(known.response)
        parts.append(Text(text))
    for at, one in enumerate(listed(known.parts or [])):
        read = read_part(one, f"{path}.parts[{at}]")[0]
        parts.append(read if isinstance(read, Media) else Native(DIALECT, camel(one)))
    return Result(known.id or "", tuple(parts), known.name, error)


_READ: dict[str, Callable[[Any, str], Media | Call | Result | None]] = {
    "inlineData": _blob, "fileData": _file, "functionCall": _call, "functionResponse": _response,
}


def _output(response: dict[str, Any]) -> tuple[str, bool]:
    """Return a tool's words and whether they tell of an error; Google's own keys for the two are taken off."""
    error = bool(response.get("error"))
    inner = response.get("error" if error else "output")
    if len(response) == 1 and isinstance(inner, str):
        return inner, error
    if len(response) == 1 and error and isinstance(inner, dict) and "error" not in inner:
        return _json(inner), error
    return _json(response), error


def write_output(text: str, *, error: bool) -> Any:
    """Return a tool's words as the object that Gemini wants: what is one stays as it is."""
    said = object_of(text)
    if said is None:
        return {"error" if error else "output": text}
    return verbatim(text) if not error or "error" in said else {"error": verbatim(text)}


def write_media(media: Media, *, named: bool = False) -> dict[str, Any] | None:
    """Return a part for data or an address, None for what lies with another provider."""
    name = {"displayName": media.name} if named and media.name else {}
    if media.data is not None:
        return {"inlineData": {"mimeType": _type(media), "data": media.data, **name}}
    address = media.url or media.file_id or ""
    if media.url is None and not address.startswith(OF_GOOGLE):
        return None
    return {"fileData": {"mimeType": _type(media), "fileUri": address, **name}}


def _type(media: Media) -> str:
    begun = next((kind for head, kind in BEGINNINGS.items() if (media.data or "").startswith(head)), None)
    ending = _type_of_ending(media.name or media.url or "")
    return media.type or begun or ending or USUAL.get(media.kind, USUAL["file"])


def _type_of_ending(address: str) -> str | None:
    try:
        path = urlsplit(address).path
    except ValueError:
        return None
    return ENDINGS.get(path.rpartition(".")[2].lower())


def _kind(mime: str | None) -> str:
    kind = (mime or "").partition("/")[0].lower()
    return kind if kind in ("image", "audio") else "file"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
