"""The parts of a message and the calls in it, as a Chat Completions request has them."""

from base64 import b64decode
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec

from gateway.dialects.neutral import OPENAI as DIALECT
from gateway.dialects.neutral import Call, Media, Native, Part, Refusal, Text
from gateway.dialects.reading import data_url, lifetime, typed
from gateway.errors import BadRequest

Words = dict[str, Any]
Keep = Callable[[str, Any], None]           # takes what is not known, with the path to it
S = TypeVar("S", bound=msgspec.Struct)
MOST_ID = 40        # characters
SOUNDS = {"wav": "audio/wav", "mp3": "audio/mpeg"}


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Words | None = None
    input_audio: Words | None = None
    file: Words | None = None
    cache_control: Words | None = None
    prompt_cache_breakpoint: Words | None = None


class _Image(msgspec.Struct):
    url: str
    detail: str | None = None


class _Audio(msgspec.Struct):
    data: str
    format: str


class _File(msgspec.Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Function(msgspec.Struct):
    """A function that is called, with its arguments as JSON text."""

    name: str
    arguments: str = "{}"


class _Call(msgspec.Struct):
    id: str
    type: str = "function"
    function: Words | None = None
    extra_content: Words | None = None


def known(kind: type[S], value: Any, at: str, keep: Keep) -> S:
    """Return `value` as a struct, and keep what the struct does not know. Raises BadRequest with the path."""
    read, rest = typed(kind, value, at)
    for name, given in rest.items():
        keep(f"{at}.{name}", given)
    return read


def read_part(value: Any, at: str, keep: Keep) -> Part:
    """Return a part of a message's content; one of a kind that is not known stays as it is."""
    part, rest = typed(_Part, value, at)
    read = READS.get(part.type)
    if read is None:
        return Native(DIALECT, value)
    if getattr(part, part.type) is None:
        missing = f"{at}.{part.type}"
        raise BadRequest(f"`{missing}` is missing: a part of this type needs it.", param=missing)
    if part.prompt_cache_breakpoint is not None:        # in steps that only OpenAI has
        rest["prompt_cache_breakpoint"] = part.prompt_cache_breakpoint
    for name, given in rest.items():
        keep(f"{at}.{name}", given)
    return read(part, f"{at}.{part.type}", keep)


def _image(part: _Part, at: str, keep: Keep) -> Media:
    image = known(_Image, part.image_url, at, keep)
    kind, data = data_url(image.url)
    return Media("image", kind, data, image.url if data is None else None, detail=image.detail, cache=_cache(part))


def _audio(part: _Part, at: str, keep: Keep) -> Media:
    audio = known(_Audio, part.input_audio, at, keep)
    return Media("audio", SOUNDS.get(audio.format, f"audio/{audio.format}"), audio.data, cache=_cache(part))


def _file(part: _Part, at: str, keep: Keep) -> Media:
    file = known(_File, part.file, at, keep)
    given = file.file_data or ""
    if given.startswith(("https://", "http://")):       # OpenRouter
        return Media("file", url=given, file_id=file.file_id, name=file.filename, cache=_cache(part))
    kind, data = data_url(given)
    data = file.file_data if data is None else data
    return Media("file", kind, data, None, file.file_id, file.filename, cache=_cache(part))


READS: dict[str, Callable[[_Part, str, Keep], Part]] = {
    "text": lambda part, _at, _keep: Text(part.text or "", _cache(part)),
    "refusal": lambda part, _at, _keep: Refusal(part.refusal or ""),
    "image_url": _image, "input_audio": _audio, "file": _file,
}


def _cache(part: _Part) -> str | None:
    """Return how long a prompt is to be kept, in the steps that others have; OpenAI's are 30 minutes and 12 hours."""
    if part.prompt_cache_breakpoint is not None:
        return "5m" if part.prompt_cache_breakpoint.get("ttl") is None else "1h"
    return lifetime(part.cache_control)


def read_call(value: Any, at: str, keep: Keep) -> Call | Native:
    """Return a call; one of a custom tool, whose input is no JSON, stays as it is."""
    call, rest = typed(_Call, value, at)
    if call.type != "function" or call.function is None:
        return Native(DIALECT, value)
    for name, given in rest.items():
        keep(f"{at}.{name}", given)
    function = known(Function, call.function, f"{at}.function", keep)
    signature = signature_of(value)
    if signature is None:
        keep(f"{at}.extra_content", call.extra_content)
    return Call(call.id, function.name, function.arguments, signature)


def fit(call: str) -> str:
    """Return a call's id in the length that OpenAI takes; call and result get the same."""
    return call if len(call) <= MOST_ID else f"call_{blake2b(call.encode(), digest_size=16).hexdigest()}"


def signature_of(call: Words) -> str | None:
    """Return the seal on a call's thinking, where Google's compatible server has it."""
    at: Any = call
    for name in ("extra_content", "google", "thought_signature"):
        at = at.get(name) if isinstance(at, dict) else None
    return at if isinstance(at, str) else None


def sealed(signature: str) -> Words:
    """Return the field of a call that has the seal."""
    return {"extra_content": {"google": {"thought_signature": signature}}}


def as_text(data: str) -> str | None:
    """Return what base64 says, None where it is no text."""
    try:
        return b64decode(data, validate=True).decode()
    except ValueError:
        return None
