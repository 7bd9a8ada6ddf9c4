"""The request as a value: what the path needs to know of it, and the raw bytes that go upstream.

Rule: only what decides is typed; every other field passes untouched, so a provider's new parameter needs no release
of ours. The bytes of each value stay as the caller wrote them (number formats, escapes, key order inside objects);
only the model's name is exchanged.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypedDict, TypeVar

import msgspec

from gateway.errors import BadRequest

RUNG_HEADER = "x-thriftgate-rung"
SESSION_HEADER = "x-thriftgate-session"
DEADLINE_HEADER = "x-thriftgate-deadline-ms"
MOST_MS = 86_400_000
MOST_ANSWERS = 1_024        # more than any provider gives at a time


Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Part = dict[str, Any]
B = TypeVar("B")


class Message(msgspec.Struct, frozen=True):
    """One turn, as far as the path looks at it."""

    role: str
    content: str | list[dict[str, Any]] | None = None

    def __repr__(self) -> str:
        return f"<Message of {self.role[:20]!r}>"         # what it says is nobody's business

    def text(self) -> str:
        """Return the turn's text; the text parts of a multi-part turn joined by newlines."""
        if isinstance(self.content, str):
            return self.content
        parts = (part.get("text") for part in self.content or () if part.get("type") == "text")
        return "\n".join(text for text in parts if isinstance(text, str))

    def images(self) -> int:
        """Return the number of image parts."""
        if not isinstance(self.content, list):
            return 0
        return sum(part.get("type") == "image_url" for part in self.content)

    def attached_bytes(self) -> int:
        """Return the size of what is not text (image and file data), which does not count as tokens by its bytes."""
        if not isinstance(self.content, list):
            return 0
        inner = (value for part in self.content if part.get("type") != "text" for value in part.values())
        texts = (text for value in inner if isinstance(value, dict) for text in value.values())
        return sum(len(text) for text in texts if isinstance(text, str))


class ChatRequest(msgspec.Struct, frozen=True):
    """A chat completion request, in whichever dialect: decoded once, immutable, with the raw body it came from."""

    raw: bytes
    surface: str            # the dialect it came in
    model: str
    messages: list[Message]
    stream: bool
    tools: int              # definitions offered
    images: int
    structured: bool        # the answer must follow a JSON schema
    max_output: int         # tokens; 0 when the caller set no limit
    text_bytes: int         # size of the body without attached data
    rung: str | None        # the rung the caller pins, if any
    session: str | None     # the conversation the caller names, if any
    deadline_ms: int | None = None      # when the caller wants the whole answer, from when it asked
    passed: Mapping[str, str] = {}      # headers that mean something to an upstream of the same dialect
    counted: bool = True    # a stream of the answer says what it used: the caller asked, or its dialect always does
    answers: int = 1        # how many the caller wants of it
    kind: str = "chat"      # or embeddings, completions, count_tokens: passed through, not judged

    def __repr__(self) -> str:
        return f"<ChatRequest {self.surface} {self.kind}, {len(self.raw)} bytes>"

    def last_user_text(self) -> str:
        """Return the text of the last user turn, empty when there is none."""
        return next((m.text() for m in reversed(self.messages) if m.role == "user"), "")

    def body_for(self, name: str) -> bytes:
        """Return the body with the model's name exchanged and every other value's bytes as they came."""
        if name == self.model or self.surface == "gemini":      # which has it in the path
            return self.raw
        given = fields(self.raw)
        given["model"] = msgspec.Raw(msgspec.json.encode(name))
        return msgspec.json.encode(given)


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def fields(raw: bytes) -> dict[str, msgspec.Raw]:
    """Return a body's fields with the bytes of their values, or raise BadRequest."""
    try:
        return _fields.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable(error) from None       # the name of a field that `decode` skipped is not UTF-8


def is_object(body: bytes) -> bool:
    """Say whether a body is a JSON object, whole."""
    try:
        _fields.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def read(decoder: msgspec.json.Decoder[B], raw: bytes) -> B:
    """Return the typed part of a body, or raise BadRequest with the field that is wrong and what was expected."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable(error) from None


class Wishes(TypedDict):
    """What a caller asks of the gateway itself, in fields of a ChatRequest."""

    rung: str | None
    session: str | None
    deadline_ms: int | None


def wishes(headers: Mapping[str, str]) -> Wishes:
    """Return what the caller's headers ask of the gateway. Raises BadRequest where they cannot be read."""
    return {
        "rung": headers.get(RUNG_HEADER), "session": headers.get(SESSION_HEADER), "deadline_ms": deadline_ms(headers),
    }


def deadline_ms(headers: Mapping[str, str]) -> int | None:
    """Return the caller's deadline. Raises BadRequest where it is no number of milliseconds."""
    said = headers.get(DEADLINE_HEADER)
    if said is None:
        return None
    if not (said.isascii() and said.isdigit() and len(said) <= 12 and 0 < int(said) <= MOST_MS):
        raise BadRequest(f"`{DEADLINE_HEADER}` is wrong: send whole milliseconds from 1 to {MOST_MS}.",
                         param=DEADLINE_HEADER)
    return int(said)


def several(*wanted: Any) -> int:
    """Return how many answers are asked for, in whichever field. What is no such number is the provider's to refuse."""
    return max((n for n in wanted if isinstance(n, int) and not isinstance(n, bool) and n <= MOST_ANSWERS), default=1)


def texts(parts: Iterable[Part], kinds: Sequence[str]) -> str:
    """Return the text of the parts whose `type` is among `kinds`, joined by newlines."""
    found = (part.get("text") for part in parts if part.get("type") in kinds)
    return "\n".join(text for text in found if isinstance(text, str))


def long_texts(value: Any, least: int, depth: int = 4) -> int:
    """Return how many characters the strings of at least `least` inside `value` have together: attached data.

    No dialect has it deeper than `depth`, and a caller may nest as deep as the decoder allows.
    """
    if isinstance(value, str):
        return len(value) if len(value) >= least else 0
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(long_texts(each, least, depth - 1) for each in inner) if depth else 0


def unreadable(error: Exception) -> BadRequest:
    """Return the answer to a body that is not JSON."""
    if isinstance(error, RecursionError):
        return BadRequest("The body is nested too deeply to be read. Send a flatter JSON object.")
    return BadRequest(f"The body is not valid JSON: {error}. Send one JSON object in UTF-8.")


def invalid(message: str) -> BadRequest:
    """Turn msgspec's "what - at `$.path`" into an answer that names the field in the way OpenAI's `param` does."""
    what, _, path = message.partition(" - at `")
    field = path.removesuffix("`").removeprefix("$").removeprefix(".")
    if field:
        return BadRequest(f"`{field}` is wrong: {what.lower()}.", param=field)
    if what.startswith("Object missing required field"):
        missing = what.split("`")[1]
        return BadRequest(f"`{missing}` is missing: it is required.", param=missing)
    return BadRequest(f"The body must be a JSON object: {what.lower()}.")
