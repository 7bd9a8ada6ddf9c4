"""From the frames of a healthy answer to the bytes, silences and endings of a faulty one. Pure.

What each fault does, `after` frames into a stream (a whole answer is broken after half of its bytes):

    hang         silence before the status line           (the mock does this one)
    cut-rst      the connection is reset
    cut-fin      the connection is closed in the middle of the chunked body
    end          the body ends properly, but without its last events: neither finish_reason nor [DONE] and the like
    stall        silence, then on as if nothing had happened
    role-only    the first frame, silence, then a proper end without a word
    error-frame  the provider's error object as an event, then a proper end
    garbage      one line that is not JSON, then on
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.dials import Dials

COMMENT = b": keep-alive\n\n"


@dataclass(frozen=True, slots=True)
class Words:
    """What a provider writes when it fails."""

    error_frame: bytes  # its error object as an event
    error: bytes  # and as a whole body
    garbage: bytes  # an event that is not JSON


@dataclass(frozen=True, slots=True)
class Script:
    """What will be written: pieces, one write each, with at most one silence, and an ending."""

    pieces: Sequence[bytes]
    silent_before: int = -1  # index of the piece before which the mock falls silent; -1 = never
    ending: str = "clean"  # clean | cut-rst | cut-fin


def stream_script(healthy: Sequence[bytes], dials: Dials, rng: random.Random, words: Words) -> Script:
    """The script of a streamed answer under these dials."""
    before, after, ending = list(healthy), list[bytes](), "clean"
    silent = False
    match dials.fault:
        case "cut-rst" | "cut-fin":
            before, ending = before[: dials.after], dials.fault
        case "end":
            before = before[: dials.after]
        case "stall":
            before, after, silent = before[: dials.after], before[dials.after :], True
        case "role-only":
            before, silent = before[:1], True
        case "error-frame":
            before = [*before[: dials.after], words.error_frame]
        case "garbage":
            before = [*before[: dials.after], words.garbage, *before[dials.after :]]
    pieces = _dressed(before, dials, rng)
    return Script([*pieces, *_dressed(after, dials, rng)], len(pieces) if silent else -1, ending)


def whole_script(healthy: bytes, dials: Dials, words: Words) -> Script:
    """The script of a non-streamed answer under these dials."""
    half = len(healthy) // 2
    match dials.fault:
        case "cut-rst" | "cut-fin":
            return Script([healthy[:half]], ending=dials.fault)
        case "end":
            return Script([healthy[:half]])
        case "stall":
            return Script([healthy[:half], healthy[half:]], silent_before=1)
        case "error-frame":
            return Script([words.error])
        case "garbage":
            return Script([b"<html>not JSON</html>"])
    return Script([healthy])


def split(stream: bytes, at_most: int, rng: random.Random) -> list[bytes]:
    """The bytes in random pieces of 1 to `at_most`, cut without regard for lines or characters."""
    pieces: list[bytes] = []
    start = 0
    while start < len(stream):
        end = start + rng.randint(1, at_most)
        pieces.append(stream[start:end])
        start = end
    return pieces


def _dressed(healthy: Sequence[bytes], dials: Dials, rng: random.Random) -> list[bytes]:
    """Comments, line ends and cuts as dialled; a raw script is sent exactly as given."""
    if dials.raw:
        return list(healthy)
    pieces = list(healthy)
    if dials.comments:
        pieces = [dressed for piece in pieces for dressed in (COMMENT, piece)]
    if dials.crlf:
        pieces = [piece.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for piece in pieces]
    if dials.split > 0:
        pieces = split(b"".join(pieces), dials.split, rng)
    return pieces
