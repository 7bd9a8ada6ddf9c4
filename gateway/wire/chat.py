"""The request as a value: what the path needs to know of it, and the raw bytes that go upstream.

Rule: only what decides is typed; every other field passes untouched, so a provider's new parameter needs no release
of ours. The bytes of each value stay as the caller wrote them (number formats, escapes, key order inside objects);
only the model's name is exchanged.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from gateway.errors import BadRequest

RUNG_HEADER = "x-thriftgate-rung"
SESSION_HEADER = "x-thriftgate-session"


Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class Message(msgspec.Struct, frozen=True):
    """One turn, as far as the path looks at it."""

    role: str
    content: str | list[dict[str, Any]] | None = None

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


class _Body(msgspec.Struct, frozen=True):
    """The fields of a chat completion request that decide something."""

    model: str
    messages: list[Message]
    stream: bool | None = None
    tools: list[dict[str, Any]] | None = None
    functions: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """A chat completion request: decoded once, immutable, with the raw body it came from."""

    raw: bytes
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

    def last_user_text(self) -> str:
        """Return the text of the last user turn, empty when there is none."""
        return next((m.text() for m in reversed(self.messages) if m.role == "user"), "")

    def body_for(self, name: str) -> bytes:
        """Return the body with the model's name exchanged and every other value's bytes as they came."""
        if name == self.model:
            return self.raw
        try:
            fields: dict[str, msgspec.Raw] = _fields.decode(self.raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable(error) from None       # the name of a field that `decode` skipped is not UTF-8
        fields["model"] = msgspec.Raw(msgspec.json.encode(name))
        return msgspec.json.encode(fields)


_body = msgspec.json.Decoder(_Body)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode(raw: bytes, headers: Mapping[str, str]) -> ChatRequest:
    """Return the request, or raise BadRequest with the field that is wrong and what was expected."""
    try:
        body = _body.decode(raw)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(error) from None
    if not body.messages:
        raise BadRequest("`messages` is empty: send at least one message.", param="messages")
    return ChatRequest(
        raw=raw,
        model=body.model,
        messages=body.messages,
        stream=bool(body.stream),
        tools=len(body.tools or ()) + len(body.functions or ()),
        images=sum(message.images() for message in body.messages),
        structured=(body.response_format or {}).get("type") == "json_schema",
        max_output=body.max_completion_tokens or body.max_tokens or 0,
        text_bytes=len(raw) - sum(message.attached_bytes() for message in body.messages),
        rung=headers.get(RUNG_HEADER),
        session=headers.get(SESSION_HEADER),
    )


def _unreadable(error: Exception) -> BadRequest:
    if isinstance(error, RecursionError):
        return BadRequest("The body is nested too deeply to be read. Send a flatter JSON object.")
    return BadRequest(f"The body is not valid JSON: {error}. Send one JSON object in UTF-8.")


def _invalid(message: str) -> BadRequest:
    """Turn msgspec's "what - at `$.path`" into an answer that names the field in the way OpenAI's `param` does."""
    what, _, path = message.partition(" - at `")
    field = path.removesuffix("`").removeprefix("$").removeprefix(".")
    if field:
        return BadRequest(f"`{field}` is wrong: {what.lower()}.", param=field)
    if what.startswith("Object missing required field"):
        missing = what.split("`")[1]
        return BadRequest(f"`{missing}` is missing: it is required.", param=missing)
    return BadRequest(f"The body must be a JSON object: {what.lower()}.")
