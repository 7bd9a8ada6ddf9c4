"""`thriftgate keys`."""

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway import auth, config, keys
from gateway.cli.keys import command
from gateway.errors import GatewayError
from gateway.store import keys as store
from gateway.store.once import once
from gateway.store.secret import secret_of

CONFIG = """
upstreams:
  provider: {base_url: "http://127.0.0.1:9/v1"}
models:
  small: {upstream: provider}
routes:
  auto: {ladder: [small]}
keys:
  ops: {secret: tg-ops}
"""
TEXT = re.compile(r"tg-[A-Za-z0-9_-]{43}\n")


@pytest.fixture(params=["sqlite", "postgres"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A configuration with a store of either kind."""
    url = "sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres").url
    return written(tmp_path, f'ledger: {{directory: "{tmp_path}", url: "{url}", secret: sixteen-characters}}')


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A configuration with a store in a file, and nothing else said of it."""
    return written(tmp_path, f'ledger: {{directory: "{tmp_path}"}}')


def written(directory: Path, more: str) -> Path:
    """Write a configuration."""
    path = directory / "gateway.yaml"
    path.write_text(CONFIG + more)
    return path


def run(file: Path, *arguments: str) -> Result:
    """Run the command."""
    subcommand, *rest = arguments
    return CliRunner().invoke(command, [subcommand, "-c", str(file), *rest])


def listed(file: Path) -> list[dict[str, Any]]:
    """Return what `list --json` prints."""
    told: list[dict[str, Any]] = orjson.loads(run(file, "list", "--json").stdout)
    return told


def enters(file: Path, *texts: str) -> list[str | None]:
    """Say who would enter a gateway of this configuration with each of these keys."""
    read = config.load(file)
    loaded = once(read.ledger, store.load)
    stored = auth.stored(loaded.keys, closes=loaded.closes)
    keyring = auth.Keyring(read.keys, secret_of(read.ledger), open_=True, stored=stored)
    return [entered(keyring, text.strip()) for text in texts]


def entered(keyring: auth.Keyring, text: str) -> str | None:
    """Say who enters with a text."""
    try:
        return keyring.authenticate({"Authorization": f"Bearer {text}"}, 0.0).name
    except GatewayError:
        return None


def test_a_keys_life(file: Path) -> None:
    """Made, listed, rotated with and without grace, revoked: who enters follows."""
    first = run(file, "create", "web", "--models", "auto").stdout
    made = enters(file, first)
    second = run(file, "rotate", "web", "--grace", "24h").stdout
    with_grace = enters(file, first, second)
    third = run(file, "rotate", "web").stdout
    rotated = enters(file, first, second, third)
    revoked = run(file, "revoke", "web")

    assert (made, with_grace, rotated) == (["web"], ["web", "web"], ["web", None, "web"])
    assert (revoked.exit_code, revoked.stdout, revoked.stderr) == (0, "", "web is revoked\n")
    assert enters(file, first, second, third) == [None, None, None]
    assert [(key["name"], key["state"]) for key in listed(file)] == [("web", "revoked")]


@pytest.mark.parametrize("arguments", [("create", "app"), ("rotate", "web")])
def test_the_key_stands_alone(small: Path, arguments: tuple[str, str]) -> None:
    """`KEY=$(thriftgate keys create app)` works: stdout has the key and nothing else, and it is shown this once."""
    run(small, "create", "web")
    result = run(small, *arguments)

    assert (result.exit_code, bool(TEXT.fullmatch(result.stdout))) == (0, True)
    assert "Keep the key: it is not shown again." in result.stderr
    assert result.stdout.strip() not in result.stderr + run(small, "list").output + run(small, "list", "--json").output


def test_everything_that_can_be_said(small: Path) -> None:
    """Each option is a setting of the key; `--json` has the key among them."""
    result = run(
        small, "create", "web", "--owner", "team", "--models", "auto, small", "--expires", "2127-01-01",
        "--requests-per-minute", "60", "--tokens-per-minute", "9000", "--concurrency", "3", "--budget-usd", "12.5",
        "--per", "day", "--on-budget", "cheapest", "--metadata", "app=chat", "--metadata", "url=a=b", "--json",
    )
    told = orjson.loads(result.stdout)

    assert TEXT.fullmatch(told.pop("key") + "\n")
    assert listed(small) == [told]
    assert (told["owner"], told["models"], told["expires"]) == ("team", ["auto", "small"], "2127-01-01T00:00:00Z")
    limits = {name: limit for name, limit in told["limits"].items() if limit}
    assert limits == {"requests_per_minute": 60, "tokens_per_minute": 9_000, "concurrency": 3}
    assert told["budget"] == {"usd": 12.5, "per": "day", "on_budget": "cheapest", "soft": [0.8]}
    assert told["metadata"] == {"app": "chat", "url": "a=b"}


@pytest.mark.parametrize(
    ("given", "stored"),
    [("2127-01-01T18:00:00+02:00", "2127-01-01T18:00:00+02:00"), ("2127-01-01T18:00:00Z", "2127-01-01T18:00:00Z")],
)
def test_a_moment(small: Path, given: str, stored: str) -> None:
    """The same one, however its zone is written."""
    told = orjson.loads(run(small, "create", "web", "--expires", given, "--json").stdout)

    assert config.GrantConfig(expires=keys.read_grant({"expires": stored}).expires) == keys.read_grant(
        {"expires": told["expires"]}
    )


def test_a_span(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted from now."""
    monkeypatch.setattr("gateway.cli.keys._now_ms", lambda: 86_400_000)
    told = orjson.loads(run(small, "create", "web", "--expires", "90d", "--json").stdout)

    assert (told["created"], told["expires"]) == ("1970-01-02T00:00:00Z", "1970-04-02T00:00:00Z")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "web"], "there is a key called 'web' already\n    hint: choose another name, rotate the key"),
        (["create", "ops"], "the configuration has a key called 'ops'\n    hint: choose another name"),
        (["create", "a b"], "NAME: 'a b' cannot be the name of a key\n    hint: use up to 100 letters"),
        (["create", "app", "--models", "auto,smal"], "--models: there is no model or route called 'smal'\n"
                                                     "    hint: did you mean 'small'?"),
        (["create", "app", "--expires", "2020-01-01"], "--expires: is in the past\n    hint: give a day to come"),
        (["create", "app", "--expires", "soon"], "--expires: 'soon' is no time\n    hint: give a day (2027-01-01)"),
        (["create", "app", "--expires", "999999w"], "--expires: '999999w' is no time"),
        (["create", "app", "--expires", "2127-01-01T00:00:00"], "Expected `expires` with a time zone"),
        (["create", "app", "--per", "day"], "--budget-usd: is missing\n    hint: say how much"),
        (["create", "app", "--budget-usd", "-1"], "budget: Expected `usd` from 0"),
        (["create", "app", "--budget-usd", "nan"], "budget: Expected `usd` from 0"),
        (["create", "app", "--concurrency", "-1"], "limits: Expected `concurrency` of at least 0"),
        (["create", "app", "--metadata", "chat"], "--metadata: 'chat' is no pair\n    hint: give a name and a value"),
        (["create", "app", "--owner", ""], "--owner: is no name"),
        (["rotate", "wbe"], "there is no key called 'wbe'\n    hint: did you mean 'web'?"),
        (["rotate", "web", "--grace", "soon"], "--grace: 'soon' is no span\n    hint: give one such as 24h"),
        (["revoke", "wbe"], "there is no key called 'wbe'\n    hint: did you mean 'web'?"),
    ],
)
def test_what_is_refused(small: Path, arguments: list[str], said: str) -> None:
    """Exit 2, what is wrong and what to do on stderr, nothing on stdout, nothing done."""
    run(small, "create", "web")
    before = listed(small)
    result = run(small, *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert listed(small) == before


def test_the_list(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line a key, in columns."""
    monkeypatch.setattr("gateway.cli.keys._now_ms", lambda: 1_000)
    web = run(small, "create", "web", "--models", "auto", "--budget-usd", "5", "--expires", "60s").stdout[-5:-1]
    budget = ("--budget-usd", "7.5", "--per", "total")
    app = run(small, "create", "a-longer-name", "--owner", "team", *budget).stdout[-5:-1]
    monkeypatch.setattr("gateway.cli.keys._now_ms", lambda: 90_000)

    assert run(small, "list").stdout.splitlines() == [
        "name           state    ends in  owner  models  expires           budget",
        f"a-longer-name  live     …{app}    team   all                       $7.5 in total",
        f"web            expired  …{web}           auto    1970-01-01 00:01  $5 a month",
    ]


def test_a_key_that_has_expired_is_rotated(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets its text, and whoever asked for it is told that it opens nothing."""
    monkeypatch.setattr("gateway.cli.keys._now_ms", lambda: 1_000)
    run(small, "create", "web", "--expires", "60s")
    monkeypatch.setattr("gateway.cli.keys._now_ms", lambda: 90_000)
    result = run(small, "rotate", "web")

    assert (result.exit_code, bool(TEXT.fullmatch(result.stdout))) == (0, True)
    assert "It has expired all the same" in result.stderr


ONES = [("create", "app"), ("rotate", "app"), ("revoke", "app"), ("list",)]


@pytest.mark.parametrize("arguments", ONES)
def test_where_nothing_is_stored(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit 2, and where that is set."""
    result = run(written(tmp_path, "ledger: {url: none}"), *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(r"ledger\.url`? is none\n    hint: ", result.stderr)


@pytest.mark.parametrize("arguments", ONES)
def test_a_store_that_does_not_answer(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit 2 without its address, which has a password in it."""
    more = 'ledger: {url: "postgresql://me:hidden@127.0.0.1:1/none", secret: sixteen-characters}'
    result = run(written(tmp_path, more), *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "the store cannot be used: the store cannot be reached" in result.stderr
    assert "hidden" not in result.stderr


def test_several_nodes_need_one_secret(tmp_path: Path) -> None:
    """With PostgreSQL a key is made with the configured secret, or not at all."""
    result = run(written(tmp_path, 'ledger: {url: "postgresql://me@127.0.0.1:1/none"}'), "create", "app")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "hint: set `ledger.secret` to the same long random text on all of them" in result.stderr


def test_another_secret(small: Path) -> None:
    """A directory whose secret was lost: said, and what to do, before a key is made that would be alone."""
    run(small, "create", "web")
    (small.parent / "secret").unlink()
    refused = [run(small, "create", "app"), run(small, "rotate", "web")]

    assert [(result.exit_code, result.stdout) for result in refused] == [(2, "")] * 2
    assert all("were made with another secret" in result.stderr for result in refused)
    run(small, "revoke", "web")
    assert enters(small, run(small, "create", "app").stdout) == ["app"]


def test_as_a_process(small: Path) -> None:
    """As an operator runs it: the key on stdout, exit 0; a second one of the name, exit 2."""
    program = [sys.executable, "-m", "gateway", "keys", "create", "web", "-c", str(small)]
    first, second = (subprocess.run(program, capture_output=True, text=True, check=False) for _ in range(2))

    assert (first.returncode, bool(TEXT.fullmatch(first.stdout))) == (0, True)
    assert (second.returncode, second.stdout) == (2, "")
    assert enters(small, first.stdout) == ["web"]


def test_side_by_side(small: Path) -> None:
    """Several that make keys at once, in a store that none of them has seen before, make all of them."""
    made: dict[str, str] = {}
    program = [sys.executable, "-m", "gateway", "keys", "create", "-c", str(small)]

    def create(name: str) -> None:
        """Make one."""
        made[name] = subprocess.run([*program, name], capture_output=True, text=True, check=True).stdout

    threads = [threading.Thread(target=create, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert enters(small, *(made[name] for name in sorted(made))) == ["a", "b", "c"]
