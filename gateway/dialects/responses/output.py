"""An answer in the making: which items its events become.

Rule: an item that text goes on to is the last one; calls alone may stay open beside it, because some providers stream
the arguments of parallel calls in turns. A call is done when something else begins and its arguments are whole, or at
the end.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from gateway.dialects.neutral import Argued, Called, Cited, Event, Media, Refused, Said, Shown, Thought
from gateway.dialects.responses.output_items import Call, Image, Item, Message, Reasoning, Tell, Words

OneItem = TypeVar("OneItem", bound=Item)


class Output:
    """All items of an answer. `tell` gets the name and the fields of every event, which it must not keep."""

    def __init__(self, answer: str, tell: Tell) -> None:
        self._answer = answer
        self._tell = tell
        self._items: list[Item] = []
        self._last: Message | Reasoning | None = None       # open for more
        self._calls: dict[int, Call] = {}                   # open, by the index that the events have for them
        self.refused = False
        self._takes: dict[type, Callable[[Any], None]] = {
            Said: self._said, Refused: self._refused, Thought: self._thought, Called: self._called,
            Argued: self._argued, Cited: self._cited, Shown: self._shown,
        }

    def __repr__(self) -> str:
        return f"<Output {len(self._items)} items>"

    def words(self) -> list[Words]:
        """Return the items that are done: what an answer broke off in is none of its output."""
        return [item.words() for item in self._items if item.status != "in_progress"]

    def take(self, event: Event) -> None:
        """Add what an event says. Others than the first choice are none of this dialect's."""
        take = self._takes.get(type(event))
        if take is not None and getattr(event, "choice", 0) == 0:
            take(event)

    def end(self, *, complete: bool) -> None:
        """End every item: where the answer was cut, the last one is incomplete, and calls whose arguments are."""
        status = "completed" if complete else "incomplete"
        self._end_last(status)
        for call in self._calls.values():
            call.end("completed" if call.whole else status)
        self._calls.clear()

    def _said(self, event: Said) -> None:
        if event.text or event.logprobs:
            self._message().say("output_text", event.text, [_token(token) for token in event.logprobs])

    def _refused(self, event: Refused) -> None:
        if event.text:
            self.refused = True
            self._message().say("refusal", event.text, [])

    def _thought(self, event: Thought) -> None:
        if event.text or event.signature:
            thought = self._last
            if not isinstance(thought, Reasoning) or thought.dialect != event.dialect:
                thought = self._begin(Reasoning(*self._next(), event.dialect))
                self._last = thought
            if event.text:
                thought.think(event.text)
            if event.signature:
                thought.signature = event.signature
                self._end_last("completed")
        if event.redacted:
            block = Reasoning(*self._next(), event.dialect)
            block.redacted = event.redacted
            self._begin(block).end("completed")

    def _called(self, event: Called) -> None:
        replaced = self._calls.pop(event.index, None)
        if replaced is not None:
            replaced.end("completed")
        place = len(self._items) + (event.signature is not None)
        call = Call(self._answer, place, self._tell, event)
        if event.signature is not None:
            seal = Reasoning(*self._next())
            seal.signature, seal.call = event.signature, call.call
            self._begin(seal).end("completed")
        self._calls[event.index] = self._begin(call)

    def _argued(self, event: Argued) -> None:
        call = self._calls.get(event.index)
        if call is not None and event.text:
            call.argue(event.text)

    def _cited(self, event: Cited) -> None:
        if isinstance(self._last, Message):
            self._last.cite(event.value)

    def _shown(self, event: Shown) -> None:
        part = event.part
        if not isinstance(part, Media):
            return
        if part.kind == "image" and part.data:
            self._settle()
            image = Image(*self._next(), part)
            self._items.append(image)
            image.show()
        elif part.url:
            words = f"![image]({part.url})" if part.kind == "image" else part.url
            self._message().say("output_text", words, [])

    def _message(self) -> Message:
        if not isinstance(self._last, Message):
            self._last = self._begin(Message(*self._next()))
        return self._last

    def _next(self) -> tuple[str, int, Tell]:
        return self._answer, len(self._items), self._tell

    def _begin(self, item: OneItem) -> OneItem:
        self._settle()
        self._items.append(item)
        item.begin()
        return item

    def _settle(self) -> None:
        """End what is done when something else begins."""
        self._end_last("completed")
        for index, call in list(self._calls.items()):
            if call.whole:
                del self._calls[index]
                call.end("completed")

    def _end_last(self, status: str) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.end(status)


def _token(token: Words) -> Words:
    """Return a token of a chat completion's logprobs; this API has no null among them."""
    others = token.get("top_logprobs")
    top = [_alone(other) for other in others if isinstance(other, dict)] if isinstance(others, list) else []
    return {**_alone(token), "top_logprobs": top}


def _alone(token: Words) -> Words:
    bytes_ = token.get("bytes")
    return {
        "token": token.get("token", ""), "bytes": bytes_ if isinstance(bytes_, list) else [],
        "logprob": token.get("logprob", 0.0),
    }
