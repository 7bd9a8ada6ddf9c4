"""A provider knows its own signatures, and nobody else's."""

import base64

import pytest

from loadtest.signatures import genuine, sign


def test_its_own_are_known_in_either_alphabet() -> None:
    """Google's SDKs send bytes back URL-safe."""
    texts = [f"thought {at}" for at in range(50)]
    url_safe = [base64.urlsafe_b64encode(base64.b64decode(sign(text))).decode() for text in texts]

    assert all(genuine(sign(text), text) for text in texts)
    assert all(genuine(signature, text) for signature, text in zip(url_safe, texts, strict=True))
    assert url_safe != [sign(text) for text in texts]


@pytest.mark.parametrize("foreign", ["", "abc", "!!!", None, 3, sign("other"), base64.b64encode(b"mock").decode()])
def test_foreign_ones_are_not(foreign: object) -> None:
    """Nor those of another thought, nor what is no signature at all."""
    assert not genuine(foreign, "thought")
