"""The items of an answer's output: each tells its events from the first to the last, in the order of OpenAI's own."""

from collections.abc import Callable
from typing import Any

from gateway.dialects.neutral import Called, Media
from gateway.dialects.reading import object_of
from gateway.dialects.responses.citing import annotations
from gateway.dialects.responses.fields import DIALECT
from gateway.dialects.responses.sealed import Sealed, pack

FIELDS = {"output_text": "text", "refusal": "refusal"}      # of a message's parts: where their words stand
FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp", "image/gif": "gif"}

Words = dict[str, Any]
Tell = Callable[[str, Words], None]


class Item:
    """One item, from its first event to its last."""

    kind = ""
    prefix = ""

    def __init__(self, answer: str, place: int, tell: Tell) -> None:
        self.id = f"{self.prefix}_{answer}_{place}"
        self.status = "in_progress"
        self._place = place
        self._tell_of = tell

    def words(self) -> Words:
        """Return the item as far as it has come."""
        return {"id": self.id, "type": self.kind}

    def begin(self) -> None:
        """Tell that it is there."""
        self._tell_of("response.output_item.added", {"output_index": self._place, "item": self.words()})

    def end(self, status: str) -> None:
        """Tell that it is done, completed or incomplete."""
        self.status = status
        self._tell_of("response.output_item.done", {"output_index": self._place, "item": self.words()})

    def _tell(self, event: str, **fields: Any) -> None:
        self._tell_of(event, {"item_id": self.id, "output_index": self._place, **fields})


class _Part:
    """A part of a message: text or refusal."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.field = FIELDS[kind]
        self.said: list[str] = []
        self.annotations: list[Words] = []
        self.logprobs: list[Words] = []
        self._length = 0
        self._cited = 0, 0                  # the stretch of text that the last citation is for

    def words(self) -> Words:
        """Return the part as far as it has come."""
        said = {"type": self.kind, self.field: "".join(self.said)}
        return {**said, "annotations": [*self.annotations], "logprobs": [*self.logprobs]} if self.is_text else said

    @property
    def is_text(self) -> bool:
        """Whether it can have sources and logprobs."""
        return self.kind == "output_text"

    def add(self, text: str, logprobs: list[Words]) -> None:
        """Add words."""
        self.said.append(text)
        self.logprobs += logprobs
        self._length += len(text)

    def uncited(self) -> tuple[int, int]:
        """Return the stretch since the last sources; more sources of it where there is no text between."""
        if self._cited[1] < self._length:
            self._cited = self._cited[1], self._length
        return self._cited


class Message(Item):
    """What the model says."""

    kind = "message"
    prefix = "msg"

    def __init__(self, answer: str, place: int, tell: Tell) -> None:
        super().__init__(answer, place, tell)
        self._done: list[Words] = []
        self._part: _Part | None = None

    def words(self) -> Words:
        """Return the message as far as it has come."""
        parts = [*self._done, self._part.words()] if self._part else [*self._done]
        return {**super().words(), "status": self.status, "content": parts, "role": "assistant"}

    def say(self, kind: str, text: str, logprobs: list[Words]) -> None:
        """Add to the part of that kind."""
        part = self._part if self._part is not None and self._part.kind == kind else self._open(kind)
        part.add(text, logprobs)
        more = {"logprobs": logprobs} if part.is_text else {}
        self._tell(f"response.{kind}.delta", content_index=len(self._done), delta=text, **more)

    def cite(self, value: Words) -> None:
        """Add the sources of the text since the last ones."""
        part = self._part
        if part is None or not part.is_text:
            return
        for annotation in annotations(value, part.uncited()):
            self._tell(
                "response.output_text.annotation.added", content_index=len(self._done),
                annotation_index=len(part.annotations), annotation=annotation,
            )
            part.annotations.append(annotation)

    def end(self, status: str) -> None:
        """Tell that its last part is done, and itself."""
        self._close()
        super().end(status)

    def _open(self, kind: str) -> _Part:
        self._close()
        part = self._part = _Part(kind)
        self._tell("response.content_part.added", content_index=len(self._done), part=part.words())
        return part

    def _close(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        words, index = part.words(), len(self._done)
        more = {"logprobs": part.logprobs} if part.is_text else {}
        self._tell(f"response.{part.kind}.done", content_index=index, **{part.field: words[part.field]}, **more)
        self._tell("response.content_part.done", content_index=index, part=words)
        self._done.append(words)


class Reasoning(Item):
    """What the model thinks: its words as a summary, its seal packed for the way back."""

    kind = "reasoning"
    prefix = "rs"

    def __init__(self, answer: str, place: int, tell: Tell, dialect: str = "") -> None:
        super().__init__(answer, place, tell)
        self.dialect = dialect
        self.signature: str | None = None
        self.redacted: str | None = None
        self.call: str | None = None        # whose signature it is, where it is no thought's
        self._thought: list[str] = []

    def words(self) -> Words:
        """Return the thought as far as it has come."""
        text = "".join(self._thought)
        summary = [{"type": "summary_text", "text": text}] if text else []
        sealed = self._sealed(text) if self.status != "in_progress" else None
        return {**super().words(), "summary": summary, **({"encrypted_content": sealed} if sealed else {})}

    def think(self, text: str) -> None:
        """Add to the summary."""
        if not self._thought:
            part = {"type": "summary_text", "text": ""}
            self._tell("response.reasoning_summary_part.added", summary_index=0, part=part)
        self._thought.append(text)
        self._tell("response.reasoning_summary_text.delta", summary_index=0, delta=text)

    def end(self, status: str) -> None:
        """Tell that its summary is done, and itself."""
        if self._thought:
            text = "".join(self._thought)
            part = {"type": "summary_text", "text": text}
            self._tell("response.reasoning_summary_text.done", summary_index=0, text=text)
            self._tell("response.reasoning_summary_part.done", summary_index=0, part=part)
        super().end(status)

    def _sealed(self, text: str) -> str | None:
        if self.dialect == DIALECT:
            return self.signature or self.redacted
        if not (self.dialect or self.signature or self.redacted):
            return None
        return pack(Sealed(self.dialect, text, self.signature, self.redacted, self.call))


class Call(Item):
    """A call of a function."""

    kind = "function_call"
    prefix = "fc"

    def __init__(self, answer: str, place: int, tell: Tell, called: Called) -> None:
        super().__init__(answer, place, tell)
        self.name = called.name
        self.call = called.id or f"call_{answer}_{place}"
        self._pieces: list[str] = []
        self._whole: bool | None = False    # None: not known since the last piece

    @property
    def whole(self) -> bool:
        """Whether the arguments are a JSON object: nothing can follow it."""
        if self._whole is None:
            self._whole = object_of("".join(self._pieces)) is not None
        return self._whole

    def words(self) -> Words:
        """Return the call as far as it has come."""
        said = {"arguments": "".join(self._pieces), "call_id": self.call, "name": self.name}
        return {**super().words(), "status": self.status, **said}

    def argue(self, text: str) -> None:
        """Add to the arguments."""
        self._pieces.append(text)
        self._whole = None
        self._tell("response.function_call_arguments.delta", delta=text)

    def end(self, status: str) -> None:
        """Tell that the arguments are done, and itself. Callers read JSON, so no arguments are an object of none."""
        if status == "completed" and not self._pieces:
            self.argue("{}")
        arguments = "".join(self._pieces)
        self._tell("response.function_call_arguments.done", arguments=arguments, name=self.name)
        super().end(status)


class Image(Item):
    """An image, in the form of what OpenAI's own tool makes."""

    kind = "image_generation_call"
    prefix = "ig"

    def __init__(self, answer: str, place: int, tell: Tell, media: Media) -> None:
        super().__init__(answer, place, tell)
        self._media = media

    def words(self) -> Words:
        """Return the image once it is done."""
        done = self.status != "in_progress"
        form = {"output_format": FORMATS[self._media.type]} if done and self._media.type in FORMATS else {}
        result = self._media.data if done else None
        return {**super().words(), "status": "completed" if done else self.status, "result": result, **form}

    def show(self) -> None:
        """Tell of it from beginning to end."""
        self.begin()
        for stage in ("in_progress", "generating", "completed"):
            self._tell(f"response.image_generation_call.{stage}")
        self.end("completed")
