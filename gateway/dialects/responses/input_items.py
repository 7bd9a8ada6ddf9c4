"""The items of `input` as turns.

What the model made stands in a row of items (reasoning, message, call), and so do the results of parallel calls: each
row becomes one turn, as the other dialects have it. Ids and states of items are left out without a word: they name what
OpenAI stores. Any other field that is not known goes to `others` as `input.<name>`.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.dialects.neutral import Call, Media, Native, Part, Refusal, Result, Text, Thinking, Turn
from gateway.dialects.reading import data_url, missing
from gateway.dialects.responses.fields import DIALECT, one_of, typed
from gateway.dialects.responses.sealed import unpack
from gateway.errors import BadRequest

ROLES = ("user", "assistant", "system", "developer")
ROWS = ("assistant", "results")         # kinds of turns that take in what follows of their kind
FROM_CALLER = ("mcp_approval_response", "additional_tools", "configuration_update", "compaction_trigger")

Values = dict[str, Any]
Unknown = Callable[[Values], None]


class _Kind(msgspec.Struct):
    type: str | None = None
    role: Any = None
    id: Any = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[Values]
    type: str | None = None
    id: str | None = None
    status: str | None = None


class _Call(msgspec.Struct):
    call_id: str
    name: str
    arguments: str
    type: str
    id: str | None = None
    status: str | None = None


class _Result(msgspec.Struct):
    call_id: str
    output: str | list[Values]
    type: str
    id: str | None = None
    name: str | None = None
    status: str | None = None


class _Words(msgspec.Struct):
    text: str


class _Reasoning(msgspec.Struct):
    type: str
    id: str | None = None
    summary: list[_Words] | None = None
    content: list[_Words] | None = None
    encrypted_content: str | None = None
    status: str | None = None


class _Mark(msgspec.Struct):
    mode: str | None = None
    ttl: str | None = None


class _Part(msgspec.Struct):
    type: str


class _Text(_Part):
    text: str
    annotations: list[Values] | None = None
    logprobs: list[Values] | None = None
    prompt_cache_breakpoint: _Mark | None = None


class _Refusal(_Part):
    refusal: str


class _Image(_Part):
    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None
    prompt_cache_breakpoint: _Mark | None = None


class _File(_Part):
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    detail: str | None = None
    prompt_cache_breakpoint: _Mark | None = None


class _Sound(msgspec.Struct):
    data: str
    format: str


class _Audio(_Part):
    input_audio: _Sound


def read_items(items: list[Values]) -> tuple[tuple[Turn, ...], Values]:
    """Return the turns, and the fields of items that only this dialect has. Raises BadRequest."""
    history = _History()
    for at, item in enumerate(items):
        history.add(item, f"input[{at}]")
    return history.turns(), history.others


class _History:
    """The turns so far."""

    def __init__(self) -> None:
        self.others: Values = {}
        self._rows: list[tuple[str, list[Part]]] = []   # by kind: one of ROLES, or `results`
        self._signatures: dict[str, str] = {}           # of calls that are still to come, by their ids

    def add(self, item: Values, path: str) -> None:
        """Read one more item. Raises BadRequest with the field at fault."""
        known, _ = typed(_Kind, item, path)
        kind = known.type or ("message" if known.role is not None else "")
        if kind == "item_reference" or (not kind and known.id is not None):
            raise BadRequest(
                f"`{path}` is a reference to an item, and this gateway keeps none. Send the item itself: the whole "
                "history goes into `input`.", param=path,
            )
        if not kind:
            raise missing(f"{path}.type")
        read = _READ.get(kind)
        if read is not None:
            read(self, item, path)
        else:
            by_caller = kind.endswith("_output") or kind in FROM_CALLER
            self._say("results" if by_caller else "assistant", [Native(DIALECT, item)])

    def turns(self) -> tuple[Turn, ...]:
        """Return what was said."""
        return tuple(
            Turn(_role(kind), tuple(parts), developer=kind == "developer") for kind, parts in self._rows if parts
        )

    def message(self, item: Values, path: str) -> None:
        """Read what somebody said."""
        known, rest = typed(_Message, item, path)
        one_of(known.role, ROLES, f"{path}.role")
        self._unknown(rest)
        self._say(known.role, self._content(known.content, f"{path}.content"))

    def call(self, item: Values, path: str) -> None:
        """Read a call of a function; its signature came in the reasoning before it."""
        known, rest = typed(_Call, item, path)
        self._unknown(rest)
        signature = self._signatures.pop(known.call_id, None)
        self._say("assistant", [Call(known.call_id, known.name, known.arguments, signature)])

    def result(self, item: Values, path: str) -> None:
        """Read what a function gave back."""
        known, rest = typed(_Result, item, path)
        self._unknown(rest)
        parts = self._content(known.output, f"{path}.output")
        given = (Text(part.text) if isinstance(part, Refusal) else part for part in parts)
        shown = tuple(part for part in given if isinstance(part, Text | Media | Native))
        self._say("results", [Result(known.call_id, shown, known.name)])

    def reasoning(self, item: Values, path: str) -> None:
        """Read a thought: OpenAI's own, or one that was packed for the way."""
        known, rest = typed(_Reasoning, item, path)
        self._unknown(rest)
        sealed = unpack(known.encrypted_content or "", f"{path}.encrypted_content")
        if sealed is None:
            text = "\n\n".join(part.text for part in known.summary or known.content or ())
            self._say("assistant", [Thinking(DIALECT, text, known.encrypted_content, id=known.id)])
        elif sealed.call is None:
            self._say("assistant", [Thinking(sealed.dialect, sealed.text, sealed.signature, sealed.redacted)])
        elif sealed.signature is not None:
            self._signatures[sealed.call] = sealed.signature

    def _content(self, content: str | list[Values], path: str) -> list[Part]:
        """Return the parts of a content. Text without words is none: most providers refuse it."""
        if isinstance(content, str):
            return [Text(content)] if content else []
        parts = [_read_part(part, f"{path}[{at}]", self._unknown) for at, part in enumerate(content)]
        return [part for part in parts if not isinstance(part, Text) or part.text]

    def _unknown(self, rest: Values) -> None:
        self.others |= {f"input.{name}": value for name, value in rest.items()}

    def _say(self, kind: str, parts: list[Part]) -> None:
        if kind in ROWS and self._rows and self._rows[-1][0] == kind:
            self._rows[-1][1].extend(parts)
        elif parts:
            self._rows.append((kind, parts))


_READ: dict[str, Callable[[_History, Values, str], None]] = {
    "message": _History.message, "function_call": _History.call, "function_call_output": _History.result,
    "reasoning": _History.reasoning,
}


def _role(kind: str) -> str:
    return {"results": "user", "developer": "system"}.get(kind, kind)


def _read_part(value: Values, path: str, unknown: Unknown) -> Part:
    kind = typed(_Part, value, path)[0].type
    reads = _PARTS.get(kind)
    if reads is None:
        return Native(DIALECT, value)
    fields, read = reads
    known, rest = typed(fields, value, path)
    unknown(rest)
    return read(known, path)


def _text(part: _Text, path: str) -> Text:  # noqa: ARG001 - one signature for all parts
    return Text(part.text, _lifetime(part.prompt_cache_breakpoint), tuple(part.annotations or ()))


def _refusal(part: _Refusal, path: str) -> Refusal:  # noqa: ARG001 - one signature for all parts
    return Refusal(part.refusal)


def _image(part: _Image, path: str) -> Media:
    cache = _lifetime(part.prompt_cache_breakpoint)
    if part.image_url is None and part.file_id is None:
        raise missing(f"{path}.image_url")
    if part.image_url is None:
        return Media("image", file_id=part.file_id, detail=part.detail, cache=cache)
    kind, data = data_url(part.image_url)
    if data is None:
        return Media("image", url=part.image_url, detail=part.detail, cache=cache)
    return Media("image", kind, data, detail=part.detail, cache=cache)


def _file(part: _File, path: str) -> Media:
    cache, name, detail = _lifetime(part.prompt_cache_breakpoint), part.filename, part.detail
    if part.file_data is not None:
        kind, data = data_url(part.file_data)
        return Media("file", kind, part.file_data if data is None else data, name=name, detail=detail, cache=cache)
    if part.file_url is None and part.file_id is None:
        raise missing(f"{path}.file_data")
    return Media("file", url=part.file_url, file_id=part.file_id, name=name, detail=detail, cache=cache)


def _audio(part: _Audio, path: str) -> Media:  # noqa: ARG001 - one signature for all parts
    return Media("audio", f"audio/{part.input_audio.format}", part.input_audio.data)


_PARTS: dict[str, tuple[type[_Part], Callable[[Any, str], Part]]] = {
    "input_text": (_Text, _text), "output_text": (_Text, _text), "refusal": (_Refusal, _refusal),
    "input_image": (_Image, _image), "input_file": (_File, _file), "input_audio": (_Audio, _audio),
}


def _lifetime(mark: _Mark | None) -> str | None:
    """Return how long a prompt is to be kept, in the steps that others have; OpenAI's are 30 minutes and 12 hours."""
    if mark is None:
        return None
    return "5m" if mark.ttl is None else "1h"
