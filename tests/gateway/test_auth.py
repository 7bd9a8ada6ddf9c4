"""Key → caller."""

import pytest
from multidict import CIMultiDict

from gateway.auth import ANYONE, Caller, Keyring
from gateway.config import KeyConfig, Secret
from gateway.errors import Forbidden, Unauthenticated

KEYRING = Keyring({
    "app": KeyConfig(secret=Secret("tg-app"), models=["auto", "small"]),
    "ops": KeyConfig(secret=Secret("tg-ops")),
    "none": KeyConfig(secret=Secret("tg-none"), models=[]),
})


def sent(value: str | None) -> CIMultiDict[str]:
    """The headers of a request, as aiohttp has them."""
    return CIMultiDict({} if value is None else {"authorization": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Bearer tg-app", Caller("app", frozenset({"auto", "small"}))),
        ("bearer tg-ops", Caller("ops", None)),
        ("BEARER   tg-ops  ", Caller("ops", None)),
        ("Bearer tg-none", Caller("none", frozenset())),
    ],
)
def test_a_known_key(value: str, expected: Caller) -> None:
    """The caller by their key; the scheme in any case, spaces around the key ignored."""
    assert expected == KEYRING.authenticate(sent(value))


@pytest.mark.parametrize(
    "value", [None, "", "Bearer", "Bearer ", "Bearer   ", "Basic dGc6b3Bz", "tg-ops", "Token tg-ops"]
)
def test_no_key(value: str | None) -> None:
    """401 that says how to send one."""
    with pytest.raises(Unauthenticated) as caught:
        KEYRING.authenticate(sent(value))

    assert caught.value.message == "No key was sent. Send `Authorization: Bearer YOUR_KEY`."


@pytest.mark.parametrize(
    "key", ["tg-apq", "TG-APP", "tg-app2", "tg-app tg-ops", "\udcff\udc80", "tg-äpp", "\x00", "x" * 100_000]
)
def test_an_unknown_key(key: str) -> None:
    """401 that does not repeat it; not even bytes that are no text raise anything else."""
    with pytest.raises(Unauthenticated) as caught:
        KEYRING.authenticate(sent(f"Bearer {key}"))

    assert caught.value.message == "This key is not known here. Check it, or ask the gateway's operator for one."


def test_without_keys_everybody_is_anyone() -> None:
    """What is sent is not looked at."""
    open_to_all = Keyring({})

    assert ANYONE == open_to_all.authenticate(sent(None)) == open_to_all.authenticate(sent("Bearer x"))
    assert (ANYONE.name, ANYONE.models) == ("anyone", None)


@pytest.mark.parametrize(
    ("models", "model", "allowed"),
    [
        (None, "anything", True), (frozenset({"auto", "small"}), "auto", True), (frozenset({"auto"}), "large", False),
        (frozenset(), "auto", False),
    ],
)
def test_what_a_caller_may_use(models: frozenset[str] | None, model: str, *, allowed: bool) -> None:
    """Everything, or the public names in the key's list."""
    caller = Caller("app", models)

    if allowed:
        caller.check_may_use(model)
    else:
        with pytest.raises(Forbidden, match=f"The key 'app' may not use '{model}'"):
            caller.check_may_use(model)


def test_a_refusal_lists_what_is_allowed() -> None:
    """403 with the field and the names, in order."""
    with pytest.raises(Forbidden) as caught:
        Caller("app", frozenset({"small", "auto"})).check_may_use("large")

    expected = (403, "model", "The key 'app' may not use 'large'. It may use: auto, small.")
    assert expected == (caught.value.status, caught.value.param, caught.value.message)


def test_no_key_is_kept() -> None:
    """The ring holds digests: neither its repr nor anything in it shows a key."""
    assert repr(KEYRING) == "<Keyring 3 keys>"
    assert "tg-" not in str(vars(KEYRING))


@pytest.mark.parametrize("header", ["x-api-key", "x-goog-api-key"])
def test_the_other_dialects_headers(header: str) -> None:
    """Anthropic's and Google's SDKs send the key in a header of their own."""
    assert KEYRING.authenticate({header: "tg-app"}).name == "app"
    with pytest.raises(Unauthenticated):
        KEYRING.authenticate({header: "unknown"})
