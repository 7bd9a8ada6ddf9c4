"""Virtual keys as values."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import config, keys
from gateway.config import GrantConfig, LimitsConfig
from gateway.faults import ConfigError
from gateway.keys import Former, Kept, NameTaken, NoSuchKey, OtherSecret, StoredKey

SECRET, OTHER = b"a secret of sixteen or more", b"another"
CONFIG = config.parse("""
upstreams: {provider: {base_url: "http://127.0.0.1:9/v1"}}
models: {small: {upstream: provider}}
routes: {auto: {ladder: [small], aliases: [gpt-4]}}
keys: {app: {secret: tg-app}}
""", {})
OWNED = config.parse("""
upstreams: {provider: {base_url: "http://127.0.0.1:9/v1"}}
models: {small: {upstream: provider}}
owners: {team: {budget: {usd: 1}}}
""", {})
TEN_S = datetime.fromtimestamp(10, UTC)


def key(**more: Any) -> StoredKey:
    """A key that was made after a second."""
    return StoredKey(**{
        "name": "web", "digest": b"1", "hint": "abcd", "grant": GrantConfig(), "created_ms": 1_000, **more,
    })


class TestText:
    """What a holder has, and what is kept of it."""

    @given(st.binary(min_size=32, max_size=32))
    def test_all_of_the_chance_is_in_it(self, random: bytes) -> None:
        """`tg-` and 43 characters that need no quoting anywhere; different chance, different text."""
        text = keys.text_of(random)

        assert re.fullmatch(r"tg-[A-Za-z0-9_-]{43}", text)
        assert keys.text_of(bytes([random[0] ^ 1]) + random[1:]) != text

    def test_less_chance_is_refused(self) -> None:
        """A key that could be guessed is not made."""
        with pytest.raises(ValueError, match="32 random bytes"):
            keys.text_of(b"0" * 16)

    def test_what_is_kept(self) -> None:
        """A digest under the secret, the last four characters, and what tells the secret from another; not the text."""
        kept = keys.kept(SECRET, "tg-abcdefgh")

        assert (keys.digest(SECRET, "tg-abcdefgh"), "efgh", keys.check_of(SECRET)) == kept
        assert len(kept.digest) == 32
        assert keys.digest(OTHER, "tg-abcdefgh") != kept.digest
        assert keys.check_of(OTHER) != kept.check
        assert repr(kept) == "Kept(…efgh)"

    @pytest.mark.parametrize("text", ["", "\udcff\udc80", "tg-äpp", "\x00", "x" * 100_000])
    def test_whatever_stood_in_a_header_has_a_digest(self, text: str) -> None:
        """Bytes that are no text as well."""
        assert len(keys.digest(SECRET, text)) == 32


class TestStanding:
    """What becomes of a key."""

    @pytest.mark.parametrize(("now_ms", "state"), [(9_999, "live"), (10_000, "expired"), (10_001, "expired")])
    def test_it_ends(self, now_ms: int, state: str) -> None:
        """At its moment, and not before."""
        assert key(grant=GrantConfig(expires=TEN_S)).state(now_ms) == state

    def test_revoked_comes_before_expired(self) -> None:
        """What is both is said to be revoked; and once is enough."""
        once = key(grant=GrantConfig(expires=TEN_S)).revoked(2_000)

        assert (once.state(3_000), once.state(11_000)) == ("revoked", "revoked")
        assert once.revoked(9_000) == once

    def test_a_rotation_without_grace(self) -> None:
        """The old text is gone at once."""
        rotated = key().rotated(Kept(b"2", "efgh", ""), 0, 5_000)

        assert [(b"2", None)] == list(rotated.texts())
        assert (rotated.hint, rotated.created_ms) == ("efgh", 1_000)

    def test_a_rotation_with_grace(self) -> None:
        """The old text stays good for it; a second rotation takes nothing of the first one's grace."""
        first = key().rotated(Kept(b"2", "", ""), 10_000, 5_000)
        second = first.rotated(Kept(b"3", "", ""), 1_000, 6_000)

        assert [(b"2", None), (b"1", 15_000)] == list(first.texts())
        assert [(b"3", None), (b"1", 15_000), (b"2", 7_000)] == list(second.texts())

    def test_what_is_over_is_forgotten(self) -> None:
        """A key that is rotated for years does not grow."""
        rotated = key(former=(Former(b"0", 4_999), Former(b"9", 5_001))).rotated(Kept(b"2", "", ""), 0, 5_000)

        assert [b"2", b"9"] == [digest for digest, _ in rotated.texts()]

    def test_no_text_outlives_its_key(self) -> None:
        """The key's end is the end of every text; revoking ends the grace as well."""
        rotated = key(grant=GrantConfig(expires=TEN_S)).rotated(Kept(b"2", "", ""), 90_000, 5_000)

        assert [(b"2", 10_000), (b"1", 10_000)] == list(rotated.texts())
        assert rotated.revoked(6_000).former == ()

    def test_nothing_shows(self) -> None:
        """Neither the digest nor what it is good for is in its repr."""
        rotated = key(digest=b"digest").rotated(Kept(b"digest2", "efgh", ""), 10, 5_000)

        assert repr(rotated) == "<StoredKey web …efgh>"
        assert "digest" not in repr(rotated.former)


class TestNew:
    """A key that is being made."""

    def test_one_with_an_end(self) -> None:
        """It is what it was asked to be."""
        made = keys.new("web", GrantConfig(expires=TEN_S), keys.kept(SECRET, "tg-abcdefgh"), 9_999)

        assert (made.name, made.hint, made.state(9_999), made.expires_ms) == ("web", "efgh", "live", 10_000)

    def test_one_that_is_over(self) -> None:
        """A year typed wrong would give a key that never worked."""
        with pytest.raises(ConfigError, match="expires: is in the past"):
            keys.new("web", GrantConfig(expires=TEN_S), keys.kept(SECRET, "tg-abcdefgh"), 10_000)


@pytest.mark.parametrize(
    ("span", "expected"), [("90d", 7_776_000), ("24h", 86_400), ("30m", 1_800), ("45s", 45), ("2w", 1_209_600),
                           ("0", 0), (" 7 ", 7)],
)
def test_spans(span: str, expected: int) -> None:
    """A number and its unit; without one, seconds."""
    assert keys.seconds(span) == expected


@pytest.mark.parametrize("span", ["", "h", "-1h", "1.5h", "1 h", "24hours", "1y", "1234567s"])
def test_no_spans(span: str) -> None:
    """What could be meant otherwise is not guessed at."""
    with pytest.raises(ValueError, match="such as 90d"):
        keys.seconds(span)


class TestGrants:
    """What a key is for, as a caller wrote it."""

    def test_it_is_read(self) -> None:
        """Like a key of the configuration, without its secret."""
        read = keys.read_grant({"owner": "team", "models": ["auto"], "limits": {"concurrency": 2}, "expires": TEN_S})

        assert GrantConfig(owner="team", models=["auto"], limits=LimitsConfig(concurrency=2), expires=TEN_S) == read

    @pytest.mark.parametrize(
        ("value", "paths"),
        [
            ({"model": ["auto"]}, ["model"]),
            ({"secret": "tg-mine"}, ["secret"]),
            ({"limits": {"concurrency": -1}, "owner": 5}, ["limits", "owner"]),
            ({"limits": {"concurrency": "2"}}, ["limits.concurrency"]),
            ({"budget": {"usd": -1}}, ["budget"]),
            ({"budget": {"usd": 1, "webhook": 3}}, ["budget.webhook"]),
            ({"expires": "2027-01-01T00:00:00"}, ["key"]),
            ({"metadata": {"a": 1}}, ["metadata"]),
            ([], ["key"]),
        ],
    )
    def test_every_fault_has_its_field(self, value: Any, paths: list[str]) -> None:
        """All of them at once."""
        with pytest.raises(ConfigError) as caught:
            keys.read_grant(value)

        assert sorted(fault.path for fault in caught.value.faults) == paths

    @pytest.mark.parametrize(
        ("value", "path", "hint"),
        [
            ({"models": ["auto", "atuo"]}, "models[1]", "did you mean 'auto'?"),
            ({"models": ["x" * 50]}, "models[0]", "defined are: auto, gpt-4, small"),
            ({"owner": ""}, "owner", "use up to 200 printable characters"),
            ({"owner": "x" * 201}, "owner", "use up to 200 printable characters"),
            ({"owner": "a\nb"}, "owner", "use up to 200 printable characters"),
            ({"budget": {"usd": 1, "webhook": "https://h/s"}}, "budget.webhook", "give it to the budget of an owner"),
            ({"metadata": {"a": "x" * 201}}, "metadata", "use up to 50 entries"),
            ({"metadata": {str(i): "" for i in range(51)}}, "metadata", "use up to 50 entries"),
        ],
    )
    def test_what_the_configuration_does_not_have(self, value: Any, path: str, hint: str) -> None:
        """Is refused with the field and what was probably meant."""
        with pytest.raises(ConfigError) as caught:
            keys.check_grant(keys.read_grant(value), CONFIG)

        (fault,) = caught.value.faults
        assert (fault.path, hint in fault.hint) == (path, True)

    def test_routes_aliases_and_models_are_names(self) -> None:
        """Whatever a caller may ask for; and an owner is anybody where the configuration has none."""
        keys.check_grant(keys.read_grant({"models": ["auto", "gpt-4", "small"], "owner": "anybody"}), CONFIG)
        keys.check_grant(keys.read_grant({"owner": "team"}), OWNED)

    def test_an_owner_with_a_budget_is_not_mistyped(self) -> None:
        """Where owners have budgets, one without would be outside of all of them."""
        with pytest.raises(ConfigError, match="there is no owner called 'tem'") as caught:
            keys.check_grant(keys.read_grant({"owner": "tem"}), OWNED)

        assert caught.value.faults[0].hint == "did you mean 'team'?"


@pytest.mark.parametrize("name", ["a", "web-1", "ann@example.org", "x" * 100, "0.9_b"])
def test_names(name: str) -> None:
    """What stands in addresses, metrics and on command lines as it is."""
    keys.check_name(name, CONFIG)


@pytest.mark.parametrize("name", ["", "-a", ".", "a b", "a/b", "ä", "x" * 101, "a\n", "anyone", "\udcff"])
def test_no_names(name: str) -> None:
    """What would have to be quoted somewhere, and whom everybody is without keys."""
    with pytest.raises(ConfigError, match="cannot be the name of a key"):
        keys.check_name(name, CONFIG)


def test_a_name_of_the_configuration() -> None:
    """The configuration's key of that name would put it aside."""
    with pytest.raises(NameTaken, match="the configuration has a key called 'app'"):
        keys.check_name("app", CONFIG)


@pytest.mark.parametrize(
    ("value", "change", "expected"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": None}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}}, {"a": {"c": 2, "d": 3}}),
        ({"a": None}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({}, {"a": {"b": None}}, {"a": {}}),
    ],
)
def test_merging(value: Any, change: Any, expected: Any) -> None:
    """By field, null takes out, lists are whole; neither argument changes."""
    before = repr((value, change))

    assert keys.merged(value, change) == expected
    assert repr((value, change)) == before


def test_what_is_shown() -> None:
    """Everything but the digests; times as text."""
    budget = {"usd": 5, "per": "day"}
    rotated = key(digest=b"\xab" * 32, grant=keys.read_grant({"budget": budget, "expires": TEN_S})).rotated(
        Kept(b"\xcd" * 32, "efgh", ""), 3_000, 2_000
    )
    shown = keys.shown(rotated, 4_000)

    assert shown == {
        "name": "web", "state": "live", "hint": "efgh", "owner": None, "models": None,
        "expires": "1970-01-01T00:00:10Z", "metadata": {},
        "limits": dict.fromkeys(LimitsConfig.__struct_fields__, 0),
        "budget": {"usd": 5.0, "per": "day", "on_budget": "refuse", "soft": [0.8]},
        "created": "1970-01-01T00:00:01Z", "revoked": None, "former_until": "1970-01-01T00:00:05Z",
    }
    assert keys.shown(rotated, 5_000)["former_until"] is None


def test_faults_have_a_remedy() -> None:
    """What cannot be done says what to do."""
    assert NoSuchKey("wbe", ["web"]).hint == "did you mean 'web'?"
    assert NoSuchKey("x").hint == "the list has their names"
    assert "`ledger.secret`" in OtherSecret().hint


@pytest.mark.parametrize("span", ["36501d", "999999w"])
def test_a_span_ends_while_somebody_lives(span: str) -> None:
    """What lies beyond the calendar could be written and never be read again."""
    with pytest.raises(ValueError, match="at most 100 years"):
        keys.seconds(span)


def test_a_key_ends_within_the_calendar() -> None:
    """In every zone."""
    with pytest.raises(ConfigError, match="before the year 9000"):
        keys.read_grant({"expires": "9999-12-31T23:59:59-12:00"})
