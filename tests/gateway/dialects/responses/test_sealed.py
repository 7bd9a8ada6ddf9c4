"""What is packed comes back, and nothing else is taken for it."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.responses.sealed import PREFIX, Sealed, pack, unpack
from gateway.errors import BadRequest

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=300)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@STEADY
@given(st.builds(Sealed, TEXTS, TEXTS, st.none() | TEXTS, st.none() | TEXTS, st.none() | TEXTS))
def test_what_is_packed_comes_back(sealed: Sealed) -> None:
    """Whatever is in it, it is the same after its way through the caller, in ASCII."""
    packed = pack(sealed)

    assert packed.isascii()
    assert packed.startswith(PREFIX)
    assert sealed == unpack(packed, "p")


def test_what_openai_sealed_stays_as_it_is() -> None:
    """Without the prefix it is not ours to open."""
    assert unpack("gAAAAABo", "p") is None
    assert unpack("", "p") is None


@STEADY
@given(st.text(max_size=30))
def test_what_was_changed_is_refused(rest: str) -> None:
    """It is opened, or refused; nothing else happens."""
    with suppress(BadRequest):
        assert unpack(PREFIX + rest, "p") is not None


@pytest.mark.parametrize("rest", ["", "e30", "W10=", "eyJkaWFsZWN0IjoxfQ==", "é"])
def test_known_bad_ones(rest: str) -> None:
    """Nothing, cut base64, another JSON value, a wrong type and a foreign character are all refused."""
    with pytest.raises(BadRequest, match="unchanged") as raised:
        unpack(PREFIX + rest, "input[0].encrypted_content")

    assert raised.value.param == "input[0].encrypted_content"
