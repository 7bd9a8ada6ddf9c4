"""Key → caller."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from multidict import CIMultiDict

from gateway import auth, keys
from gateway.auth import ANYONE, NOTHING, Caller, Keyring
from gateway.config import BudgetConfig, GrantConfig, KeyConfig, LimitsConfig, Secret
from gateway.errors import Forbidden, GatewayError, Unauthenticated, Unavailable
from gateway.keys import StoredKey

SECRET = b"the gateway's"
CONFIGURED = {
    "app": KeyConfig(secret=Secret("tg-app"), models=["auto", "small"]),
    "ops": KeyConfig(secret=Secret("tg-ops")),
    "none": KeyConfig(secret=Secret("tg-none"), models=[]),
}
KEYRING = Keyring(CONFIGURED, SECRET, open_=False, stored=NOTHING)
NOW_S = 1_000.0
UNKNOWN = "This key is not known here. Check it, or ask the gateway's operator for one."
EXPIRED = "This key has expired. Ask the gateway's operator for another."


def moment(seconds: float) -> datetime:
    """A time of the wall clock."""
    return datetime.fromtimestamp(seconds, UTC)


def key(name: str, text: str, **more: Any) -> StoredKey:
    """A key as the store has it."""
    kept = keys.kept(SECRET, text)
    return StoredKey(name, kept.digest, kept.hint, GrantConfig(**more), 0)


def ring(*stored: StoredKey, configured: Sequence[str] = (), open_: bool = True) -> Keyring:
    """A ring with these keys of the store's, and these of the configuration's."""
    made = Keyring({name: CONFIGURED[name] for name in configured}, SECRET, open_=open_)
    made.replace(auth.stored(stored, closes=bool(stored)))
    return made


def told(keyring: Keyring, text: str | None, now_s: float = NOW_S) -> str:
    """Say who somebody with this key is, or what they are told."""
    try:
        return keyring.authenticate(sent(None if text is None else f"Bearer {text}"), now_s).name
    except GatewayError as error:
        return error.message


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
    assert expected == KEYRING.authenticate(sent(value), NOW_S)


@pytest.mark.parametrize(
    "value", [None, "", "Bearer", "Bearer ", "Bearer   ", "Basic dGc6b3Bz", "tg-ops", "Token tg-ops"]
)
def test_no_key(value: str | None) -> None:
    """401 that says how to send one."""
    with pytest.raises(Unauthenticated) as caught:
        KEYRING.authenticate(sent(value), NOW_S)

    assert caught.value.message == "No key was sent. Send `Authorization: Bearer YOUR_KEY`."


@pytest.mark.parametrize(
    "text", ["tg-apq", "TG-APP", "tg-app2", "tg-app tg-ops", "\udcff\udc80", "tg-äpp", "\x00", "x" * 100_000]
)
def test_an_unknown_key(text: str) -> None:
    """401 that does not repeat it; not even bytes that are no text raise anything else."""
    with pytest.raises(Unauthenticated) as caught:
        KEYRING.authenticate(sent(f"Bearer {text}"), NOW_S)

    assert caught.value.message == "This key is not known here. Check it, or ask the gateway's operator for one."


def test_without_keys_everybody_is_anyone() -> None:
    """What is sent is not looked at."""
    open_to_all = ring()

    assert ANYONE == open_to_all.authenticate(sent(None), NOW_S) == open_to_all.authenticate(sent("Bearer x"), NOW_S)
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
    assert repr(KEYRING) == "<Keyring 3 configured keys, 0 stored>"
    assert repr(Keyring({}, SECRET, open_=True)) == "<Keyring 0 configured keys, unknown stored>"
    assert "tg-" not in str(vars(KEYRING))


@pytest.mark.parametrize("header", ["x-api-key", "x-goog-api-key"])
def test_the_other_dialects_headers(header: str) -> None:
    """Anthropic's and Google's SDKs send the key in a header of their own."""
    assert KEYRING.authenticate({header: "tg-app"}, NOW_S).name == "app"
    with pytest.raises(Unauthenticated):
        KEYRING.authenticate({header: "unknown"}, NOW_S)


def test_a_key_brings_what_it_is_for() -> None:
    """Owner, limits, budget and end go to whoever counts, from the configuration as from the store."""
    limits, budget = LimitsConfig(concurrency=2), BudgetConfig(usd=5)
    more: dict[str, Any] = {"owner": "team", "limits": limits, "budget": budget, "expires": moment(2_000)}
    configured = Keyring({"web": KeyConfig(secret=Secret("tg-web"), **more)}, SECRET, open_=False)
    expected = Caller("web", None, "team", limits, budget, 2_000.0)

    assert expected == configured.authenticate(sent("Bearer tg-web"), NOW_S)
    assert expected == ring(key("web", "tg-web", **more)).authenticate(sent("Bearer tg-web"), NOW_S)


class TestStored:
    """Keys that come and go."""

    def test_they_are_exchanged_as_one(self) -> None:
        """What is not among the new ones is not known any more."""
        keyring = ring(key("a", "tg-a"), key("b", "tg-b"))
        keyring.replace(auth.stored([key("b", "tg-b2"), key("c", "tg-c")], closes=True))

        assert [told(keyring, text) for text in ("tg-a", "tg-b", "tg-b2", "tg-c")] == [UNKNOWN, UNKNOWN, "b", "c"]

    def test_the_configuration_wins(self) -> None:
        """Of two keys with one name, since one name is one caller; who was put aside is said."""
        keyring = Keyring({"app": CONFIGURED["app"]}, SECRET, open_=False)
        aside = keyring.replace(auth.stored([key("app", "tg-stored"), key("b", "tg-b")], closes=True))

        assert aside == ["app"]
        assert [told(keyring, text) for text in ("tg-app", "tg-stored", "tg-b")] == ["app", UNKNOWN, "b"]

    @pytest.mark.parametrize(("now_s", "answer"), [(1_999.9, "a"), (2_000, EXPIRED), (9_000, EXPIRED)])
    def test_its_end(self, now_s: float, answer: str) -> None:
        """Said to its holder alone, from that moment on."""
        stored = ring(key("a", "tg-a", expires=moment(2_000)))
        configured = KeyConfig(secret=Secret("tg-a"), expires=moment(2_000))

        assert told(stored, "tg-a", now_s) == answer
        assert told(Keyring({"a": configured}, SECRET, open_=True), "tg-a", now_s) == answer
        assert told(stored, "tg-b", now_s) == UNKNOWN

    def test_a_text_that_was_replaced(self) -> None:
        """It is the same caller until its grace is over, and none without one."""
        with_grace = key("a", "tg-1").rotated(keys.kept(SECRET, "tg-2"), 500_000, 1_000_000)
        without = key("b", "tg-3").rotated(keys.kept(SECRET, "tg-4"), 0, 1_000_000)
        keyring = ring(with_grace, without)

        assert [told(keyring, text, 1_499) for text in ("tg-1", "tg-2", "tg-3", "tg-4")] == ["a", "a", UNKNOWN, "b"]
        assert told(keyring, "tg-1", 1_500) == EXPIRED

    def test_keys_of_another_secret(self) -> None:
        """What was hashed otherwise opens nothing, and closes the gateway all the same."""
        other = StoredKey("a", keys.digest(b"another's", "tg-a"), "tg-a", GrantConfig(), 0)

        assert told(ring(other), "tg-a") == UNKNOWN

    def test_the_digest_is_none(self) -> None:
        """Who reads the store cannot enter with what stands there."""
        stored = key("a", "tg-a")

        assert told(ring(stored), stored.digest.hex()) == UNKNOWN
        assert "tg-a" not in repr(auth.stored([stored], closes=True)) + repr(list(ring(stored)._stored or ()))

    def test_the_digest_does_not_show(self) -> None:
        """Not in what an error might print."""
        stored = auth.stored([key("a", "tg-a")], closes=True)

        assert repr(stored) == "<Stored 1 keys>"
        assert repr(list(stored.entries.values())) == "[Entry('a')]"


class TestOpen:
    """Who enters without a key: on an address of our own, as long as nobody made any."""

    @pytest.mark.parametrize("text", [None, "tg-any"])
    def test_keys_close_it(self, text: str | None) -> None:
        """A key that is made while it runs ends it; and so it stays when that one is gone."""
        keyring = ring()
        answers = [told(keyring, text)]
        for live in ([key("a", "tg-a")], []):
            keyring.replace(auth.stored(live, closes=True))
            answers.append(told(keyring, text))

        refused = auth.NOT_SENT if text is None else UNKNOWN
        assert answers == ["anyone", refused, refused]

    def test_elsewhere_never(self) -> None:
        """Without any key at all nobody enters."""
        assert told(ring(open_=False), None) == auth.NOT_SENT

    def test_with_configured_keys_never(self) -> None:
        """The store may be as empty as it likes."""
        assert told(ring(configured=["ops"]), None) == auth.NOT_SENT

    @pytest.mark.parametrize(("configured", "text"), [((), None), ((), "tg-a"), (("ops",), "tg-a")])
    def test_before_the_store_was_read(self, configured: Sequence[str], text: str | None) -> None:
        """503, for a while: nobody knows whether there are keys, and whether this is one."""
        keyring = Keyring({name: CONFIGURED[name] for name in configured}, SECRET, open_=True)
        with pytest.raises(Unavailable) as caught:
            keyring.authenticate(sent(None if text is None else f"Bearer {text}"), NOW_S)

        assert caught.value.headers == {"Retry-After": "1"}

    def test_configured_keys_need_no_store(self) -> None:
        """They enter at once; and who sends none is told so."""
        keyring = Keyring({"ops": CONFIGURED["ops"]}, SECRET, open_=True)

        assert (told(keyring, "tg-ops"), told(keyring, None)) == ("ops", auth.NOT_SENT)
