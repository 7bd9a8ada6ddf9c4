"""Clients, calls and receipts of a storm in which all went well, to be changed where a test wants it otherwise."""

from dataclasses import replace
from typing import Any

from loadtest import judging
from loadtest.judging import Call
from loadtest.reception import Seen

TEXTS = judging.full_answers("hi [storm 0]", 24, 1)
TEXT = TEXTS["cheap"]
LATE: dict[str, Any] = {"fault": "cut-rst", "after": 4, "second_chunk": 1.07}


def seen(number: int = 0, **more: Any) -> Seen:
    """A client with a whole streamed answer."""
    good: dict[str, Any] = {
        "begun": 1.0, "status": 200, "request_id": f"id{number}", "model": "cheap", "text": TEXT, "finish": "stop",
        "last": True, "ended": True, "first_text": 1.1, "over": 2.0,
    }  # fmt: skip
    return Seen(number, "openai", stream=True, prompt="hi [storm 0]", **{**good, **more})


def broken(**more: Any) -> Seen:
    """A client whose stream broke, and which was told."""
    return seen(text=TEXT[:9], finish="", last=False, ended=False, error="boom", **more)


def call(number: int = 0, **more: Any) -> Call:
    """A healthy call."""
    good = Call(
        serial=1, model="mock-cheap", said=f"hi [storm {number}]", stream=True, fault="", after=4, outcome="answered",
        started=1.01, second_chunk=1.07, ended=1.9,
    )  # fmt: skip
    return replace(good, **more)


def receipt(number: int = 0, outcome: str = "ok", *errors: str | None) -> dict[str, Any]:
    """A receipt, with an attempt for each error."""
    attempts = [{"model": "cheap", "error": error} for error in errors or (None,)]
    return {"request_id": f"id{number}", "outcome": outcome, "error": None, "attempts": attempts}
