"""Each fault does what the table says, and dressing never changes what an SSE reader reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import answers, frames, script
from loadtest.answers import Answer
from loadtest.dials import Dials
from loadtest.openai_format import WORDS
from loadtest.script import Script

HEALTHY = frames.stream(frames.Head("i", 1, "m"), [Answer(["a", "b", "c", "d"])], None)


def played(**dials: object) -> Script:
    """The script of HEALTHY under these dials."""
    return script.stream_script(HEALTHY, Dials().turned(dials), answers.seeded(1), WORDS)


@pytest.mark.parametrize(
    ("fault", "pieces", "silent_before", "ending"),
    [
        ("", HEALTHY, -1, "clean"),
        ("cut-rst", HEALTHY[:2], -1, "cut-rst"),
        ("cut-fin", HEALTHY[:2], -1, "cut-fin"),
        ("end", HEALTHY[:2], -1, "clean"),
        ("stall", HEALTHY, 2, "clean"),
        ("role-only", HEALTHY[:1], 1, "clean"),
        ("error-frame", [*HEALTHY[:2], frames.error_frame()], -1, "clean"),
        ("garbage", [*HEALTHY[:2], frames.GARBAGE, *HEALTHY[2:]], -1, "clean"),
    ],
)
def test_faults_of_a_stream(fault: str, pieces: list[bytes], silent_before: int, ending: str) -> None:
    """As in the table of `loadtest.script`."""
    assert played(fault=fault, after=2) == Script(pieces, silent_before, ending)


def test_faults_of_a_whole_answer() -> None:
    """Half of the body, or another one."""
    body = b"0123456789"

    def whole(fault: str) -> Script:
        return script.whole_script(body, Dials(fault=fault), WORDS)

    assert whole("") == Script([body])
    assert whole("cut-rst") == Script([b"01234"], ending="cut-rst")
    assert whole("end") == Script([b"01234"])
    assert whole("stall") == Script([b"01234", b"56789"], silent_before=1)
    assert b"server_error" in whole("error-frame").pieces[0]
    assert whole("garbage").pieces[0].startswith(b"<html>")


def test_a_raw_script_is_left_alone() -> None:
    """Byte-exact tests get exactly their bytes."""
    raw = (b"da", b"ta: x\n", b"\n")
    dials = Dials(raw=raw, crlf=True, comments=True, split=1)

    assert script.stream_script(list(raw), dials, answers.seeded(1), WORDS).pieces == list(raw)


def test_the_silence_survives_the_splitting() -> None:
    """A stall falls between the same two frames, however their bytes are cut."""
    cut = played(fault="stall", after=2, split=5)

    assert b"".join(cut.pieces[: cut.silent_before]) == b"".join(HEALTHY[:2])
    assert b"".join(cut.pieces) == b"".join(HEALTHY)


def test_comments_and_line_ends() -> None:
    """Both are legal SSE that a relay must leave as it is."""
    dressed = b"".join(played(comments=True, crlf=True).pieces)

    assert dressed.count(b": keep-alive\r\n\r\n") == len(HEALTHY)
    assert dressed.count(b"\n") == dressed.count(b"\r\n")


def test_line_ends_are_never_doubled() -> None:
    """A provider that ends its lines with CRLF by itself (Google) has them once."""
    healthy = [b"data: {}\r\n\r\n"]

    assert script.stream_script(healthy, Dials(crlf=True), answers.seeded(1), WORDS).pieces == healthy


@given(st.binary(), st.integers(1, 9), st.integers())
def test_splitting_loses_nothing(stream: bytes, at_most: int, seed: int) -> None:
    """The pieces are the stream, none empty, none too long."""
    pieces = script.split(stream, at_most, answers.seeded(seed))

    assert b"".join(pieces) == stream
    assert all(1 <= len(piece) <= at_most for piece in pieces)
