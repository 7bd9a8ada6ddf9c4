"""Dials are typed, and a misspelt one is an error."""

import base64
import random

import pytest

from loadtest.dials import STORM, Dials, split_name


def test_text_becomes_the_type_of_the_dial() -> None:
    """Names and command lines carry text; the dials are numbers and switches."""
    turned = Dials().turned({"ttft_ms": "12.5", "tokens": "3", "crlf": "true", "fault": "stall"})

    assert (turned.ttft_ms, turned.tokens, turned.crlf, turned.fault) == (12.5, 3, True, "stall")


def test_raw_pieces_are_base64_in_json_and_bytes_in_python() -> None:
    """A character cut in half can be written in both."""
    half = "é".encode()[:1]

    assert Dials().turned({"raw": [base64.b64encode(half).decode()]}).raw == (half,)
    assert Dials().turned({"raw": (half,)}).raw == (half,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tft_ms": 1}, "unknown dial 'tft_ms'"),
        ({"ttft_ms": "soon"}, "float expected"),
        ({"tokens": True}, "int expected"),
        ({"crlf": "perhaps"}, "bool expected"),
        ({"fault": 3}, "str expected"),
        ({"fault": "explode"}, "unknown fault 'explode'"),
        ({"raw": "text"}, "a list expected"),
        ({"raw": ["not base64!"]}, "in JSON base64"),
        ({"raw": [3]}, "in JSON base64"),
    ],
)
def test_a_wrong_dial_is_refused(changes: dict[str, object], said: str) -> None:
    """A fault that was misspelt must not pass as a healthy answer."""
    with pytest.raises(ValueError, match=said):
        Dials().turned(changes)


def test_a_name_carries_dials() -> None:
    """A gateway can be configured with a model that always fails."""
    assert split_name("mock-cheap?fault=stall&after=2") == ("mock-cheap", {"fault": "stall", "after": "2"})
    assert split_name("mock-cheap") == ("mock-cheap", {})


def test_a_storm_befalls_its_share_of_the_calls() -> None:
    """Everything of the table in turn, the other dials as they were; without a storm no chance is drawn."""
    chance, dials = random.Random(1), Dials(storm=0.5, tokens=3)
    drawn = [dials.befallen(chance) for _ in range(1000)]
    struck = {(one.error_rate, one.status, one.fault, one.after) for one in drawn if one != dials}
    before = chance.getstate()

    assert 400 < sum(one != dials for one in drawn) < 600
    assert len(struck) == len(STORM)
    assert {one.tokens for one in drawn} == {3}
    assert Dials().befallen(chance) == Dials()
    assert chance.getstate() == before
