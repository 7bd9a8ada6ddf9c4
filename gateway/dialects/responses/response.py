"""The Responses API as a surface: whole answers, streams and errors in its words.

A response shows what it was asked: the request's settings are worded once and stand in every copy of it. The last event
of a stream waits for the close, because some providers tell the usage after the reason why they finished.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from gateway.dialects.neutral import (
    Asked,
    Began,
    Choice,
    Conversation,
    Ended,
    Event,
    Failed,
    Finish,
    Native,
    Output,
    Text,
    Tool,
    Used,
    whole,
)
from gateway.dialects.responses.output import Output as Items
from gateway.errors import GatewayError
from gateway.pricing import Usage

# Why an answer is incomplete; what is not here is complete.
INCOMPLETE = {
    Finish.LENGTH: "max_output_tokens",
    Finish.PAUSE: "max_output_tokens",      # there is more to come, which is all that a caller can be told
    Finish.FILTER: "content_filter",
    Finish.REFUSAL: "content_filter",       # without a word; a refusal in words is a complete answer
}
CHOICES = {"auto": "auto", "none": "none", "any": "required"}
TIERS = ("flex", "priority")
UNNUMBERED = 2**31 - 1      # who ends a broken stream does not know how far it was numbered: certainly not so far

Words = dict[str, Any]


class Writer:
    """Writes a stream."""

    def __init__(self, asked: Asked) -> None:
        # for the whole stream
        self._id = f"resp_{asked.id}"
        self._asked = asked
        self._echo = _echo(asked.conversation)
        # so far
        self._frames: list[bytes] = []      # since the last feed
        self._number = 0                    # of the next frame
        self._items = Items(asked.id, self._tell)
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._begun = False
        self._over = False

    def __repr__(self) -> str:
        return f"<Writer {self._id} {self._number} frames, {self._finish or 'running'}>"

    def feed(self, events: Iterable[Event]) -> bytes:
        """Return the frames that say `events`; empty where there is nothing to say yet."""
        for event in events:
            if not self._over:
                self._begin()
                self._take(event)
        return self._taken()

    def close(self) -> bytes:
        """Return the frame that ends the stream well; empty where nobody said that it has ended."""
        if self._finish is not None and not self._over:
            self._over = True
            response = self.response()
            self._tell(f"response.{response['status']}", {"response": response})
        return self._taken()

    def response(self) -> Words:
        """Return the response object of an answer that has ended."""
        reason = None if self._finish is None else INCOMPLETE.get(self._finish)
        if self._finish is Finish.REFUSAL and self._items.refused:
            reason = None
        if reason is None:
            return self._response("completed")
        return self._response("incomplete", incomplete_details={"reason": reason})

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            for kind in ("response.created", "response.in_progress"):
                self._tell(kind, {"response": self._response("in_progress")})

    def _take(self, event: Event) -> None:
        if isinstance(event, Began | Used):
            self._usage = event.usage or self._usage
        elif isinstance(event, Failed):
            self._over = True
            error = {"code": "server_error", "message": event.message}
            self._tell("response.failed", {"response": self._response("failed", error=error)})
        elif self._finish is not None:
            return          # nothing is added to an answer that has ended
        elif not isinstance(event, Ended):
            self._items.take(event)
        elif event.choice == 0:
            self._finish = event.reason
            self._items.end(complete=self.response()["status"] == "completed")

    def _response(self, status: str, **fields: Any) -> Words:
        used = None if status == "in_progress" else self._usage
        tier = {"service_tier": used.tier} if used is not None and used.tier in TIERS else {}
        return {
            "id": self._id, "object": "response", "created_at": self._asked.created, "status": status,
            "error": None, "incomplete_details": None, "model": self._asked.model, "output": self._items.words(),
            **self._echo, **tier, "usage": used and _usage(used), **fields,
        }

    def _tell(self, kind: str, fields: Words) -> None:
        said = msgspec.json.encode({"type": kind, "sequence_number": self._number, **fields})
        self._frames.append(b"event: " + kind.encode() + b"\ndata: " + said + b"\n\n")
        self._number += 1

    def _taken(self) -> bytes:
        frames, self._frames = self._frames, []
        return b"".join(frames)


def writer(asked: Asked) -> Writer:
    """Begin a stream."""
    return Writer(asked)


def write_whole(asked: Asked, events: Iterable[Event]) -> bytes:
    """Word a whole answer. Raises ValueError for one that failed."""
    said = whole(events)
    written = Writer(asked)
    written.feed([*said, Ended(Finish.STOP)])     # which counts where no other reason was told
    return msgspec.json.encode(written.response())


def _usage(usage: Usage) -> Words:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def _echo(asked: Conversation) -> Words:
    """Return what a response repeats of its request, with OpenAI's defaults for what was not said."""
    others, reasoning, tier = asked.others, asked.reasoning, asked.service_tier
    return {
        "background": False,
        "instructions": _instructions(asked),
        "max_output_tokens": asked.max_output,
        "max_tool_calls": others.get("max_tool_calls"),
        "metadata": asked.metadata or {},
        "parallel_tool_calls": asked.parallel is not False,
        "previous_response_id": None,
        "prompt_cache_key": others.get("prompt_cache_key"),
        "reasoning": {
            "effort": reasoning.effort if reasoning else None, "summary": reasoning.shown if reasoning else None
        },
        "safety_identifier": others.get("safety_identifier"),
        "service_tier": "default" if tier in (None, "auto") else tier,
        "store": False,
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "text": _encoded({"format": _format(asked.output), "verbosity": asked.verbosity or "medium"}, {}),
        "tool_choice": _encoded(_choice(asked.choice) if asked.choice else others.get("tool_choice", "auto"), "auto"),
        "tools": _encoded([_tool(tool) for tool in asked.tools], []),
        "top_logprobs": asked.logprobs or 0,
        "top_p": 1.0 if asked.top_p is None else asked.top_p,
        "truncation": others.get("truncation", "disabled"),
        "user": asked.user,
    }


def _encoded(value: Any, shorter: Any) -> msgspec.Raw:
    """Return a value that takes no more work to be repeated; one that is too deep to be said again is shortened."""
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except RecursionError:
        return msgspec.Raw(msgspec.json.encode(shorter))


def _instructions(asked: Conversation) -> str | None:
    """Return the first turn where it can have been the instructions: a system turn of one text."""
    first = asked.turns[0] if asked.turns else None
    if first is None or first.role != "system" or first.developer or len(first.parts) != 1:
        return None
    words = first.parts[0]
    return words.text if isinstance(words, Text) else None


def _format(output: Output | None) -> Words:
    if output is None:
        return {"type": "text"}
    if output.kind != "schema":
        return {"type": "json_object"}
    return {
        "type": "json_schema", "name": output.name, "description": output.description, "schema": output.schema,
        "strict": output.strict,
    }


def _choice(choice: Choice) -> Any:
    if choice.mode == "one":
        return {"type": "function", "name": choice.name}
    if not choice.names:
        return CHOICES[choice.mode]
    tools = [{"type": "function", "name": name} for name in choice.names]
    return {"type": "allowed_tools", "mode": CHOICES[choice.mode], "tools": tools}


def _tool(tool: Tool | Native) -> Words:
    if isinstance(tool, Native):
        return tool.value
    return {
        "type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters,
        "strict": tool.strict,
    }


def error_body(error: GatewayError, request_id: str, attempts: Sequence[Mapping[str, Any]]) -> bytes:
    """Word an error as OpenAI does, with the calls that were made listed under the request's id."""
    said = {**_error(error), "request_id": request_id}
    if attempts:
        said["attempts"] = [dict(attempt) for attempt in attempts]
    return orjson.dumps({"error": said})


def error_event(error: GatewayError, request_id: str, *, mid_event: bool) -> bytes:
    """Return the frame that ends a broken stream honestly; one cut inside an event is closed first.

    OpenAI documents the fields flat and sends them in an object: some SDKs read the one, some the other.
    """
    inner = {**_error(error), "request_id": request_id}
    flat = {"code": error.code, "message": error.message, "param": error.param}
    said = orjson.dumps({"type": "error", "sequence_number": UNNUMBERED, **flat, "error": inner})
    return (b"\n\n" if mid_event else b"") + b"event: error\ndata: " + said + b"\n\n"


def _error(error: GatewayError) -> Words:
    return {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
