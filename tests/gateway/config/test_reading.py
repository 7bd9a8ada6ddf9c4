"""The configuration: the documented example to the letter, every fault in one run, secrets that stay secret."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import config
from gateway.config import (
    BudgetConfig,
    ClassifierConfig,
    Condition,
    Config,
    Deadlines,
    EndpointConfig,
    HealthConfig,
    HedgeConfig,
    KeyConfig,
    LedgerConfig,
    LimitsConfig,
    ModelConfig,
    Promise,
    RouteConfig,
    RouteDeadlines,
    Rule,
    Secret,
    ServerConfig,
    SharedConfig,
    UpstreamConfig,
    reading,
)
from gateway.faults import ConfigError, Fault
from gateway.pricing import Facts, Price, PriceList, Prices, built_in, encode

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=200)
KEYS = {"OPENAI_API_KEY": "sk-open", "ANTHROPIC_API_KEY": "sk-ant"}

# DESIGN §4.3, with the names that the example leaves open.
EXAMPLE = """
upstreams:
  openai:    {dialect: openai,    base_url: "https://api.openai.com/v1",  key: ${OPENAI_API_KEY}}
  anthropic: {dialect: anthropic, base_url: "https://api.anthropic.com",  key: ${ANTHROPIC_API_KEY}}
models:
  small:  {upstream: openai,    name: gpt-4o-mini, price: {input: 0.15, output: 0.60, cached_input: 0.075}, context: 128000}
  large:  {upstream: anthropic, name: claude, price: {input: 15, output: 75, cached_input: 1.5, cache_write: 18.75}, context: 200000,
           deadlines: {connect_ms: 2000, first_output_ms: 8000, idle_ms: 15000, total_ms: 600000}}
routes:
  auto:
    ladder: [small, large]
    aliases: [gpt-4]
    promise: {harm: 0.02, confidence: 0.95}     # what the controller keeps; or, for a fixed rule,
    # threshold: 0.7                            # cheap iff p_cheap >= threshold (0 = always cheap, 1.01 = never)
    rules:   [{when: {tools: true}, use: large}, {when: {task: translation}, use: small}]
"""  # noqa: E501 - the lines of the document

SMALL = """
upstreams: {u: {base_url: "http://127.0.0.1:1/v1"}}
models: {small: {upstream: u}, large: {upstream: u}}
"""


def faults_of(text: str, environment: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """The paths and problems of a configuration that must be refused."""
    return [(fault.path, fault.problem) for fault in refused(text, environment)]


def refused(text: str, environment: Mapping[str, str] | None = None) -> list[Fault]:
    """The faults of a configuration that must be refused."""
    with pytest.raises(ConfigError) as caught:
        config.parse(text, environment or {})
    return caught.value.faults


def test_the_documented_example() -> None:
    """It loads to the letter, with an unquoted reference inside a flow mapping."""
    expected = Config(
        upstreams={
            "openai": UpstreamConfig(base_url="https://api.openai.com/v1", key=Secret("sk-open")),
            "anthropic": UpstreamConfig(
                base_url="https://api.anthropic.com", dialect="anthropic", key=Secret("sk-ant")
            ),
        },
        models={
            "small": ModelConfig(
                upstream="openai", name="gpt-4o-mini", price=Price(0.15, 0.6, 0.075), context=128_000,
                max_output=16_384,
            ),
            "large": ModelConfig(
                upstream="anthropic", name="claude", price=Price(15, 75, 1.5, 18.75), context=200_000,
                max_output=32_000,
                deadlines=Deadlines(connect_ms=2000, first_output_ms=8000, idle_ms=15_000, total_ms=600_000),
            ),
        },
        routes={
            "auto": RouteConfig(
                ladder=["small", "large"], aliases=["gpt-4"], promise=Promise(harm=0.02, confidence=0.95),
                rules=[Rule(when=Condition(tools=True), use="large"),
                       Rule(when=Condition(task="translation"), use="small")],
            ),
        },
        ledger=LedgerConfig(directory="/var/lib/thriftgate"),
    )

    assert expected == config.parse(EXAMPLE, {**KEYS, "THRIFTGATE_DATA": "/var/lib/thriftgate"})


def test_the_defaults() -> None:
    """Every key has one but the upstreams and models themselves."""
    expected = Config(
        upstreams={"u": UpstreamConfig(base_url="http://127.0.0.1:1/v1", dialect="openai", key=None, slots=512)},
        models={
            name: ModelConfig(upstream="u", name=name, context=128_000, max_output=32_000)
            for name in ("small", "large")
        },
        ledger=LedgerConfig(directory="/data"),
    )
    read = config.parse(SMALL, {"THRIFTGATE_DATA": "/data"})

    assert expected == read
    assert Deadlines(connect_ms=2000, first_output_ms=30_000, idle_ms=30_000, total_ms=600_000) == Deadlines()
    assert ClassifierConfig(deadline_ms=8.0, cache_entries=50_000, queue=64, bundle=None) == read.classifier
    assert read.classifier.directory is None
    assert ServerConfig(max_body_bytes=20_000_000, drain_s=30.0, log_prompts=False) == read.server


def test_every_section() -> None:
    """Keys, the classifier's place and the listening side are read too; an empty section is one of defaults."""
    read = config.parse(
        f"{SMALL}routes: {{auto: {{ladder: [small]}}}}\n"
        "keys: {app: {secret: ${K}, models: [auto, large]}, ops: {secret: o}}\n"
        "classifier: {deadline_ms: 5, queue: 3, bundle: of/our/own}\nserver:\n", {"K": "tg-1"},
    )

    assert KeyConfig(secret=Secret("tg-1"), models=["auto", "large"]) == read.keys["app"]
    assert KeyConfig(secret=Secret("o")) == read.keys["ops"]
    assert ClassifierConfig(deadline_ms=5.0, queue=3, bundle="of/our/own") == read.classifier
    assert Path("of/our/own") == read.classifier.directory
    assert ServerConfig() == read.server


MONEY = """
keys:
  app:
    {secret: a, owner: team, expires: 2027-01-01T00:00:00Z, metadata: {app: chat}, budget: {usd: 5.5, per: day},
     limits: {requests_per_minute: 60, requests_burst: 5, tokens_per_minute: 9000, concurrency: 3}}
owners: {team: {budget: {usd: 100, on_budget: cheapest, soft: [0.5, 0.9], webhook: "https://h/${TOKEN}"}}}
budget: {usd: 1000, per: total}
ledger: {url: "postgresql://me:${TOKEN}@h/d", directory: here, receipts_days: 7, prompts_days: 2, log: false}
shared: {url: "redis://h", timeout_ms: 10, lease_ms: 500, then: open}
admin: {key: "${TOKEN}"}
"""


def test_money() -> None:
    """Limits, budgets, the ledger and what nodes share are read whole; a secret may be part of an address."""
    read = config.parse(SMALL + MONEY, {"TOKEN": "hidden-and-enough"})

    assert KeyConfig(
        secret=Secret("a"), owner="team", expires=datetime(2027, 1, 1, tzinfo=UTC), metadata={"app": "chat"},
        budget=BudgetConfig(usd=5.5, per="day"),
        limits=LimitsConfig(requests_per_minute=60, requests_burst=5, tokens_per_minute=9_000, concurrency=3),
    ) == read.keys["app"]
    assert BudgetConfig(
        usd=100, on_budget="cheapest", soft=[0.5, 0.9], webhook=Secret("https://h/hidden-and-enough")
    ) == read.owners["team"].budget
    assert BudgetConfig(usd=1_000, per="total") == read.budget
    assert LedgerConfig(
        url=Secret("postgresql://me:hidden-and-enough@h/d"), directory=str(Path("here").absolute()), receipts_days=7,
        prompts_days=2, log=False,
    ) == read.ledger
    assert SharedConfig(url=Secret("redis://h"), timeout_ms=10, lease_ms=500, then="open") == read.shared
    assert Secret("hidden-and-enough") == read.admin.key
    assert "hidden-and-enough" not in repr(read)


@pytest.mark.parametrize(("text", "path", "problem"), [
    ("keys: {a: {secret: s, expires: 2027-01-01T00:00:00}}", "keys.a", "Expected `expires` with a time zone"),
    ("keys: {a: {secret: s, owner: tem}}\nowners: {team: {budget: {usd: 1}}}", "keys.a.owner", "no owner called 'tem'"),
    ("keys: {a: {secret: s, budget: {usd: 1}}}\nledger: {url: none}", "keys.a.budget", "nobody would remember"),
    ("owners: {team: {budget: {usd: 1}}}\nledger: {url: none}", "owners.team.budget", "nobody would remember"),
    ("budget: {usd: 1}\nledger: {url: none}", "budget", "nobody would remember"),
    ("budget: {usd: 1}\nledger: {url: none}\nshared: {url: 'redis://h'}", "budget", "nobody would remember"),
    ("budget: {usd: 1, per: week}", "budget.per", "Invalid enum value 'week'"),
    ("budget: {}", "budget.usd", "is missing"),
])
def test_money_that_cannot_add_up_is_refused(text: str, path: str, problem: str) -> None:
    """At the start, each fault under its path."""
    [(at, said)] = faults_of(SMALL + text)

    assert (at, problem in said) == (path, True)


@pytest.mark.parametrize(("ledger", "environment", "directory"), [
    ("", {"THRIFTGATE_DATA": "/data"}, "/data"),
    ("ledger: {directory: /mine}", {"THRIFTGATE_DATA": "/data"}, "/mine"),
    ("", {}, None),
])
def test_where_the_data_is(ledger: str, environment: dict[str, str], directory: str | None) -> None:
    """Where the file says, else where the environment does, else where a user's data belongs."""
    users = platformdirs.user_data_dir("thriftgate", appauthor=False)

    assert config.parse(SMALL + ledger, environment).ledger.directory == (directory or users)


RESILIENT = """
upstreams:
  u:
    base_url: "http://127.0.0.1:1/v1"
    key: first
    weight: 2
    endpoints: [{key: "${SECOND}"}, {base_url: "http://127.0.0.1:2/v1", key: third, weight: 0.5}, {}]
    slots: 4
    queue: 0
    retries: 0
    health: {failures: 3, error_rate: 0.25, calls: 8, window_ms: 10000, open_ms: 500, open_max_ms: 8000, probe_ms: 250}
models: {small: {upstream: u}, large: {upstream: u}}
routes:
  auto:
    ladder: [small, large]
    deadlines: {first_output_ms: 4000, total_ms: 20000}
    hedge: {after_ms: 900, share: 0.1, usd_per_hour: 0.5}
  own: {ladder: [large], hedge: {}, deadlines: {}}
  plain: {ladder: [large], hedge: null}
server: {attempts: 6, backoff_ms: 50, wait_ms: 0, keepalive_ms: 0, concurrency: 10, queue: 0}
"""


def test_failures_and_floods() -> None:
    """What is done about them is read whole; a section without anything in it is one of defaults, none is none."""
    read = config.parse(RESILIENT, {"SECOND": "second"})
    upstream = UpstreamConfig(
        base_url="http://127.0.0.1:1/v1", key=Secret("first"), weight=2.0, slots=4, queue=0, retries=0.0,
        endpoints=[
            EndpointConfig(key=Secret("second")),
            EndpointConfig(base_url="http://127.0.0.1:2/v1", key=Secret("third"), weight=0.5), EndpointConfig(),
        ],
        health=HealthConfig(
            failures=3, error_rate=0.25, calls=8, window_ms=10_000, open_ms=500, open_max_ms=8_000, probe_ms=250
        ),
    )

    assert {"u": upstream} == read.upstreams
    assert RouteDeadlines(first_output_ms=4_000, total_ms=20_000) == read.routes["auto"].deadlines
    assert HedgeConfig(after_ms=900, share=0.1, usd_per_hour=0.5) == read.routes["auto"].hedge
    assert (HedgeConfig(), RouteDeadlines()) == (read.routes["own"].hedge, read.routes["own"].deadlines)
    assert (read.routes["plain"].hedge, read.routes["plain"].deadlines) == (None, None)
    assert ServerConfig(attempts=6, backoff_ms=50, wait_ms=0, keepalive_ms=0, concurrency=10, queue=0) == read.server
    assert "second" not in repr(read)


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ("weight: 0.5", "weight: 0", "upstreams.u.endpoints[1]"),
        ("weight: 0.5", "wait: 1", "upstreams.u.endpoints[1].wait"),
        ("http://127.0.0.1:2/v1", "127.0.0.1", "upstreams.u.endpoints[1]"),
        ("key: third", "key: 3", "upstreams.u.endpoints[1].key"),
        ("failures: 3", "failures: 0", "upstreams.u.health"),
        ("failures: 3", "failure: 3", "upstreams.u.health.failure"),
        ("error_rate: 0.25", "error_rate: half", "upstreams.u.health.error_rate"),
        ("total_ms: 20000", "total_ms: 0", "routes.auto.deadlines"),
        ("total_ms: 20000", "total: 1", "routes.auto.deadlines.total"),
        ("share: 0.1", "share: 2", "routes.auto.hedge"), ("share: 0.1", "shares: 1", "routes.auto.hedge.shares"),
        ("attempts: 6", "attempts: 0", "server"), ("retries: 0", "retries: -1", "upstreams.u"),
    ],
)
def test_their_faults_have_a_path(before: str, after: str, path: str) -> None:
    """However deep the section."""
    assert [path] == [found for found, _ in faults_of(RESILIENT.replace(before, after, 1), {"SECOND": "second"})]


class TestWhatIsKnown:
    """What a model does not say of itself is taken from price lists."""

    TEXT = (
        'upstreams: {u: {base_url: "http://x"}, g: {base_url: "https://api.groq.com/openai/v1"}}\n'
        "models: {gpt-4o: {upstream: u}, mini: {upstream: u, name: gpt-5.4-mini, context: 9, max_output: 8},"
        " own: {upstream: u, name: gpt-5, price: {input: 1, output: 2}}, new: {upstream: u},"
        " fast: {upstream: g, name: openai/gpt-oss-120b}, slow: {upstream: u, name: openai/gpt-oss-120b}}"
    )

    def test_the_built_in_table(self) -> None:
        """A usual model needs no more than its name; what the file says goes before; an unknown one has no price."""
        known, read = built_in().models, config.parse(self.TEXT, {}).models

        assert ModelConfig(
            upstream="u", name="gpt-4o", price=known["gpt-4o"].price, context=128_000, max_output=16_384
        ) == read["gpt-4o"]
        mini = read["mini"]
        assert (known["gpt-5.4-mini"].price, 9, 8) == (mini.price, mini.context, mini.max_output)
        assert (Price(1, 2), 400_000, 128_000) == (read["own"].price, read["own"].context, read["own"].max_output)
        assert (None, 128_000, 32_000) == (read["new"].price, read["new"].context, read["new"].max_output)

    def test_a_name_means_what_it_does_at_its_provider(self) -> None:
        """An open model costs what it does there, and nothing is known of one at an address that nobody knows."""
        read = config.parse(self.TEXT, {}).models

        assert built_in().models["groq/openai/gpt-oss-120b"].price == read["fast"].price
        assert read["slow"].price is None

    def test_what_was_imported(self, tmp_path: Path) -> None:
        """It goes before the built-in table, name by name, and is read where the data belongs."""
        facts = {"gpt-4o": Facts(Price(7, 8), 9_000), "new": Facts(Price(5, 6), 7_000, 800)}
        (tmp_path / "prices.json").write_bytes(encode(PriceList("2027-01-01", "a file", facts)))
        read = config.parse(self.TEXT, {"THRIFTGATE_DATA": str(tmp_path)}).models

        assert (Price(7, 8, search=10), 128_000, 16_384) == (
            read["gpt-4o"].price, read["gpt-4o"].context, read["gpt-4o"].max_output
        )
        assert (Price(5, 6), 7_000, 800) == (read["new"].price, read["new"].context, read["new"].max_output)
        assert (Price(1, 2), built_in().models["gpt-5.4-mini"].price) == (read["own"].price, read["mini"].price)

    @pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"as_of":"","source":"","models":{"m":{"price":{}}}}'])
    def test_a_damaged_file(self, tmp_path: Path, damaged: bytes) -> None:
        """It is one fault, which names the file and the way out; it is not passed over."""
        (tmp_path / "prices.json").write_bytes(damaged)
        with pytest.raises(ConfigError) as caught:
            config.parse(self.TEXT, {"THRIFTGATE_DATA": str(tmp_path)})

        (fault,) = caught.value.faults
        assert str(tmp_path / "prices.json") == fault.path
        assert fault.problem.startswith("cannot be read as imported prices: ")
        assert "thriftgate prices update" in fault.hint

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        """Likewise."""
        (tmp_path / "prices.json").mkdir()
        with pytest.raises(ConfigError, match="cannot be read as imported prices"):
            config.known_prices(LedgerConfig(directory=str(tmp_path)))

    def test_as_written(self, tmp_path: Path) -> None:
        """Without what is known: but for where data belongs, it is what the file says, whatever was imported."""
        (tmp_path / "prices.json").write_bytes(b"damaged")
        (tmp_path / "gateway.yaml").write_text(f"{self.TEXT}\nledger: {{directory: {tmp_path}}}")
        written = config.load_as_written(tmp_path / "gateway.yaml")

        assert ModelConfig(upstream="u") == written.models["gpt-4o"]
        assert Price(1, 2) == written.models["own"].price
        assert str(tmp_path) == written.ledger.directory

    def test_completed_as_the_room_does_it(self) -> None:
        """A model that is complete stays as it is."""
        whole = ModelConfig(upstream="u", name="m", price=Price(1, 1), context=1, max_output=1)

        assert whole == reading.completed("other", whole, UpstreamConfig(base_url="http://x"), Prices())


EVERYTHING_WRONG = """
upstreams:
  a: {base_url: "ftp://x", slots: 0}
  b: {base_url: "http://x", key: 5, dialect: cohere, slotz: 1}
models:
  m: {upstrem: a, deadlines: {conect_ms: 1, idle_ms: x}, price: {inputs: 1, output: 2}}
  n: {upstream: c, deadlines: {connect_ms: 0, idle_ms: -1}, price: {input: -1, output: 1000000}}
  o: {upstream: b, context: ${ROOM}}
routes:
  auto: {ladder: [m, typo], rules: [{when: {tool: true}, use: 5}, {wen: {}, use: m}], promise: {harms: 1}}
  many: {ladder: [m, m], threshold: 1.02}
  none: {ladder: []}
  last: {ladder: [o, mm], aliases: [m]}
keys: {k: {secret: s, model: []}}
server: {drain: 1}
classifier: 5
clasifier: {}
foo: 1
"""


def test_every_fault_in_one_run() -> None:
    """All there is to mend, with its path, in the order of the file where one section is concerned."""
    expected = [
        ("models.o.context", "the environment variable ROOM is not set"),
        ("clasifier", "is not a section"),
        ("foo", "is not a section"),
        ("upstreams.a", "Expected `base_url` to start with http:// or https://, and `slots` of at least 1"),
        ("upstreams.b.key", "Expected a key as text"),
        ("upstreams.b.dialect", "invalid enum value 'cohere'"),
        ("upstreams.b.slotz", "is not a setting"),
        ("models.m.upstrem", "is not a setting"),
        ("models.m.deadlines.conect_ms", "is not a setting"),
        ("models.m.deadlines.idle_ms", "Expected `int`, got `str`"),
        ("models.m.price.inputs", "is not a setting"),
        ("models.m.price.input", "is missing"),
        ("models.m.upstream", "is missing"),
        ("models.n.deadlines", "Expected milliseconds above 0 for `connect_ms`, `idle_ms`"),
        ("models.n.price", "Expected dollars per million tokens for `input`, `output`, from 0 to 1,000,000"),
        ("routes.auto.rules[0].when.tool", "is not a setting"),
        ("routes.auto.rules[0].use", "Expected `str`, got `int`"),
        ("routes.auto.rules[1].wen", "is not a setting"),
        ("routes.auto.rules[1].when", "is missing"),
        ("routes.auto.promise.harms", "is not a setting"),
        ("routes.many",
         "Expected `ladder` to name each model once, and `threshold` from 0 (always cheap) to 1.01 (never)"),
        ("routes.none", "Expected `ladder` to name at least one model, cheapest first"),
        ("keys.k.model", "is not a setting"),
        ("classifier", "Expected `object`, got `int`"),
        ("server.drain", "is not a setting"),
        ("routes.last.aliases", "'m' is already the name of a model"),
        ("routes.last.ladder[1]", "there is no model called 'mm'"),
    ]
    found = faults_of(EVERYTHING_WRONG)

    assert sorted(expected) == sorted(found)
    assert found[1:3] == expected[1:3]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("classifier: {deadline_ms: 0}", "classifier"), ("classifier: {queue: 0}", "classifier"),
        ("classifier: {cache_entries: -1}", "classifier"), ("classifier: {bundle: ''}", "classifier"),
        ("server: {drain_s: -1}", "server"),
        ("server: {drain_s: .inf}", "server"), ("server: {max_body_bytes: 0}", "server"),
        ("server: {header_ms: 0}", "server"), ("server: {body_ms: 0}", "server"),
        ("server: {connections: 0}", "server"),
        ("keys: {a: {secret: same}, b: {secret: same}}", "keys.b.secret"),
    ],
)
def test_settings_that_would_stop_the_path_are_refused(text: str, path: str) -> None:
    """A deadline that has passed, a queue without room, an endless drain, a key of two callers are faults."""
    good = "upstreams: {u: {base_url: 'http://127.0.0.1:9'}}\nmodels: {m: {upstream: u}}\n"

    assert [path] == [fault for fault, _ in faults_of(good + text)]


HINTS = {
    "upstream: {}": ("upstream", "did you mean 'upstreams'?"),
    "foo: {}": ("foo", f"sections are {', '.join(Config.__struct_fields__)}"),
    "models: {m: {upstream: u, contxt: 1}}": ("models.m.contxt", "did you mean 'context'?"),
    "models: {m: {upstream: u, deadlines: {idle: 1}}}": ("models.m.deadlines.idle", "did you mean 'idle_ms'?"),
    "models: {m: {upstream: u, price: {inputs: 1, input: 1, output: 1}}}": (
        "models.m.price.inputs", "did you mean 'input'?"
    ),
    "models: {m: {upstream: u, price: {input: 1, output: 1, above: [{tokens: 5, inputs: 1}]}}}": (
        "models.m.price.above[0].inputs", "did you mean 'input'?"
    ),
    "models: {m: {upstream: u, price: {input: 1, output: 1, above: [{tokens: 5}, {input: 1}]}}}": (
        "models.m.price.above[1].tokens", "it has no default; add it"
    ),
    "models: {m: {upstream: u, price: {input: 1, output: 1, tiers: {batches: 0.5}}}}": (
        "models.m.price.tiers.batches", "did you mean 'batch'?"
    ),
    "models: {m: {upstream: u, price: {input: 1, output: 1, tiers: {batch: {inputs: 0.5}}}}}": (
        "models.m.price.tiers.batch.inputs", "did you mean 'input'?"
    ),
    "routes: {r: {ladder: [small], rules: [{when: {}, used: a, use: small}]}}": (
        "routes.r.rules[0].used", "did you mean 'use'?"
    ),
    "routes: {r: {ladder: [small], rules: [{when: {taks: x}, use: small}]}}": (
        "routes.r.rules[0].when.taks", "did you mean 'task'?"
    ),
    "routes: {r: {ladder: [smal]}}": ("routes.r.ladder[0]", "did you mean 'small'?"),
    "routes: {r: {ladder: [xyz]}}": ("routes.r.ladder[0]", "defined are: small, large"),
    "routes: {r: {ladder: [small], rules: [{when: {}, use: lrge}]}}": (
        "routes.r.rules[0].use", "did you mean 'large'?"
    ),
    "keys: {k: {secret: s, models: [smal]}}": ("keys.k.models[0]", "did you mean 'small'?"),
    "keys: {k: {secret: ${NOPE}}}": ("keys.k.secret", "export NOPE=… before starting"),
    "upstreams: {u: {base_url: 'http://x', dialect: cohere}}": (
        "upstreams.u.dialect", "use openai (which most providers have an endpoint for), anthropic or gemini"
    ),
    "upstreams: {}": ("upstreams", "add at least one entry under `upstreams:`"),
    "models: [a]": ("models", "add at least one entry under `models:`"),
    "routes: 5": ("routes", "add at least one entry under `routes:`"),
}


@pytest.mark.parametrize(("extra", "expected"), HINTS.items(), ids=HINTS)
def test_a_fault_comes_with_a_hint(extra: str, expected: tuple[str, str]) -> None:
    """At every level the fault says what was probably meant, or what there is."""
    section = extra.split(":", maxsplit=1)[0]
    kept = "\n".join(line for line in SMALL.splitlines() if not line.startswith(f"{section}:"))

    assert expected in [(fault.path, fault.hint) for fault in refused(f"{kept}\n{extra}")]


def test_what_points_at_a_faulty_entry_is_not_at_fault() -> None:
    """A model or route that could not be read is there all the same: no faults that follow from faults."""
    text = (
        'upstreams: {u: {base_url: "ftp://x"}}\nmodels: {m: {upstream: u, contxt: 1}}\n'
        "routes: {auto: {ladder: [m], alias: [gpt-4], aliases: [gpt-5]}}\nkeys: {k: {secret: s, models: [gpt-5]}}"
    )

    assert [path for path, _ in faults_of(text)] == ["upstreams.u", "models.m.contxt", "routes.auto.alias"]


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ("small: {ladder: [small]}", [("routes.small", "'small' is already the name of a model")]),
        ("a: {ladder: [small], aliases: [large]}", [("routes.a.aliases", "'large' is already the name of a model")]),
        ("a: {ladder: [small], aliases: [x, x]}", [("routes.a.aliases", "'x' is already the name of route 'a'")]),
        ("a: {ladder: [small], aliases: [a]}", [("routes.a.aliases", "'a' is already the name of route 'a'")]),
        ("a: {ladder: [small], aliases: [x]}, b: {ladder: [small], aliases: [x]}",
         [("routes.b.aliases", "'x' is already the name of route 'a'")]),
        ("a: {ladder: [small], aliases: [b]}, b: {ladder: [small]}",
         [("routes.b", "'b' is already the name of route 'a'")]),
    ],
)
def test_no_two_things_answer_to_one_name(routes: str, expected: list[tuple[str, str]]) -> None:
    """A public name has one meaning."""
    assert expected == faults_of(f"{SMALL}routes: {{{routes}}}")


def test_a_key_may_name_routes_aliases_and_models() -> None:
    """Whatever a caller can write as `model` can be allowed."""
    read = config.parse(
        f"{SMALL}routes: {{auto: {{ladder: [small], aliases: [gpt-4]}}}}\n"
        "keys: {k: {secret: s, models: [auto, gpt-4, large]}, none: {secret: t, models: []}}", {},
    )

    assert (read.keys["k"].models, read.keys["none"].models) == (["auto", "gpt-4", "large"], [])


@pytest.mark.parametrize(
    ("threshold", "good"), [("0", True), ("1.01", True), ("1.011", False), ("-0.01", False), (".nan", False)]
)
def test_thresholds(threshold: str, *, good: bool) -> None:
    """From always to never, both included."""
    text = f"{SMALL}routes: {{auto: {{ladder: [small], threshold: {threshold}}}}}"

    if good:
        assert float(threshold) == config.parse(text, {}).routes["auto"].threshold
    else:
        assert faults_of(text) == [("routes.auto", "Expected `threshold` from 0 (always cheap) to 1.01 (never)")]


@pytest.mark.parametrize(
    ("fault", "path"),
    [
        ("slots: 0", "upstreams.u"), ("slots: -1", "upstreams.u"), ("key: [k]", "upstreams.u.key"),
        ("base_url: api.openai.com", "upstreams.u"),
    ],
)
def test_an_upstream_that_cannot_be_called(fault: str, path: str) -> None:
    """An address without a scheme, no slots, a key that is no text."""
    text = f'upstreams: {{u: {{base_url: "http://x", {fault}}}}}\nmodels: {{m: {{upstream: u}}}}'

    assert path in [found for found, _ in faults_of(text.replace('base_url: "http://x", base_url', "base_url"))]


NOT_A_FILE = {
    "not YAML": ("a: b: c", "is not YAML: "),
    "an open quote": ('a: "b', "is not YAML: "),
    "a tag": ("!!python/object:os.system x", "is not YAML: "),
    "a date that there is not": ("models: {a: 2026-99-99}", "is not YAML: "),
    "empty": ("", "expected a mapping of sections"),
    "a list": ("- a", "expected a mapping of sections"),
    "a text": ("hello", "expected a mapping of sections"),
    "itself": ("models: &a {b: *a}", "contains itself"),
}


@pytest.mark.parametrize(("text", "problem"), NOT_A_FILE.values(), ids=NOT_A_FILE)
def test_not_a_mapping_of_sections(text: str, problem: str) -> None:
    """What is no configuration at all is one fault of the file."""
    (fault,) = refused(text)

    assert fault.path == "(file)"
    assert fault.problem.startswith(problem)
    assert fault.hint


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(
    ["u", "m", "http://x", "${A}", "openai"]
)
SETTINGS = st.sampled_from(
    ["base_url", "key", "upstream", "ladder", "rules", "when", "use", "price", "input", "aliases", "deadlines", "x.y"]
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SETTINGS | st.integers(0, 1), inner, max_size=4),
    max_leaves=15,
)
SECTIONS = st.sampled_from(["upstreams", "models", "routes", "keys", "classifier", "server", "other"])


@STEADY
@given(tree=st.dictionaries(SECTIONS, TREES | st.dictionaries(st.sampled_from("um"), TREES, max_size=2)))
def test_any_tree_is_read_or_refused(tree: dict[str, Any]) -> None:
    """No file makes the reader raise anything but ConfigError or turn for ever, and every fault has path and hint."""
    text = msgspec.yaml.encode(tree).decode()
    try:
        read: Config | list[Fault] = config.parse(text, {"A": "sk-a"})
    except ConfigError as error:
        read = error.faults

    assert isinstance(read, Config) or all(fault.path and fault.problem and fault.hint for fault in read)
    assert read != []


@STEADY
@given(text=st.text(alphabet="ab:{}[]-\n \"'&*!|>#$⟦⟧%", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Not even what is not YAML raises anything else."""
    with pytest.raises(ConfigError):
        config.parse(text, {})


class TestSecrets:
    """A key leaves only where it is needed."""

    def test_never_shown(self) -> None:
        """No repr, no text and no fault has it; only `reveal` does."""
        read = config.parse(EXAMPLE, KEYS)
        shown = f"{read!r} {read} {read.upstreams['openai'].key} {[read.upstreams['openai'].key]}"

        assert "sk-open" not in shown
        assert "Secret(…)" in shown
        key = read.upstreams["openai"].key
        assert key is not None
        assert key.reveal() == "sk-open"

    @pytest.mark.parametrize(
        "text",
        [
            'upstreams: {u: {base_url: "ftp://x", key: sk-hidden, slots: x}}\nmodels: {m: {upstream: u, kex: 1}}',
            "upstreams:\n  u:\n    key: sk-hidden: x",
            'upstreams:\n  u: {key: "sk-hidden}',
            "upstreams: {u: {base_url: 'http://x', key: [sk-hidden]}}",
            "upstreams: {u: {base_url: 'http://x', key: {sk-hidden}}}",
            "upstreams: {u: sk-hidden}", "upstreams: sk-hidden", "keys: {k: sk-hidden}",
            "keys: {k: {secret: [sk-hidden]}}",
            "upstreams: {u: {base_url: '${KEY}', key: ${KEY}}}",
        ],
    )
    def test_no_fault_shows_one(self, text: str) -> None:
        """Not even a file that is no YAML prints the line with the key."""
        with pytest.raises(ConfigError) as caught:
            config.parse(text, {"KEY": "sk-hidden"})

        assert "hidden" not in str(caught.value) + repr(caught.value)


class TestReferences:
    """`${NAME}`, taken from the environment."""

    @pytest.mark.parametrize(
        "value",
        ["plain", "a: b", "{x: 1}", "[1]", "x, slots: 7", "null", "5", "# no", "'\"", "a: b, c: d", "*x", "&x y",
         "${OTHER}", "⟦OTHER⟧"],
    )
    def test_a_value_cannot_become_structure(self, value: str) -> None:
        """Whatever is in the environment is one text, quoted or not, and is not looked at again."""
        text = 'upstreams: {u: {base_url: "http://x", key: ${KEY}}}\nmodels: {m: {upstream: u}}'
        for written in (text, text.replace("${KEY}", '"${KEY}"')):
            upstream = config.parse(written, {"KEY": value, "OTHER": "sk-other"}).upstreams["u"]

            assert UpstreamConfig(base_url="http://x", key=Secret(value)) == upstream

    def test_inside_a_text(self) -> None:
        """Several in one value, in lists, and among other letters."""
        text = (
            'upstreams: {u: {base_url: "http://${HOST}:${PORT_2}/v1"}}\nmodels: {m: {upstream: u}}\n'
            'routes: {auto: {ladder: [m], aliases: ["${HOST}-x", plain]}}'
        )
        read = config.parse(text, {"HOST": "h", "PORT_2": "9"})

        assert read.upstreams["u"].base_url == "http://h:9/v1"
        assert read.routes["auto"].aliases == ["h-x", "plain"]

    @pytest.mark.parametrize("environment", [{}, {"A": ""}])
    def test_one_that_is_not_set(self, environment: dict[str, str]) -> None:
        """Unset and empty are faults with the path, down into lists."""
        text = f"{SMALL}routes: {{auto: {{ladder: [small], aliases: [x, '${{A}}']}}}}"
        expected = ("routes.auto.aliases[1]", "the environment variable A is not set")

        assert expected in faults_of(text, environment)

    def test_a_comment_is_none(self) -> None:
        """What is commented out needs no variable; a dollar sign alone is itself."""
        text = f"# ${{NOPE}}\n{SMALL}routes: {{auto: {{ladder: [small], aliases: [$NAME, '$', '${{a-b}}']}}}}"

        assert config.parse(text, {}).routes["auto"].aliases == ["$NAME", "$", "${a-b}"]


class TestLoad:
    """From a file."""

    def test_a_file(self, tmp_path: Path) -> None:
        """The text of the file, with the environment that is given."""
        file = tmp_path / "gateway.yaml"
        file.write_text(EXAMPLE, encoding="utf-8")

        assert config.parse(EXAMPLE, KEYS) == config.load(file, KEYS)

    def test_the_process_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without one that is given, the process's."""
        file = tmp_path / "gateway.yaml"
        file.write_text(EXAMPLE, encoding="utf-8")
        environment = {**KEYS, "THRIFTGATE_DATA": str(tmp_path)}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

        assert config.parse(EXAMPLE, environment) == config.load(file)

    @pytest.mark.parametrize("content", [None, b"\xff\xfe\x00a"], ids=["not there", "not UTF-8"])
    def test_a_file_that_cannot_be_read(self, tmp_path: Path, content: bytes | None) -> None:
        """One fault, at the file's path."""
        file = tmp_path / "gateway.yaml"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            config.load(file, {})

        (fault,) = caught.value.faults
        assert (str(file), "give the path of a YAML file in UTF-8") == (fault.path, fault.hint)
        assert fault.problem.startswith("cannot be read: ")

    def test_a_directory(self, tmp_path: Path) -> None:
        """It is no file, and says so."""
        with pytest.raises(ConfigError, match="cannot be read: "):
            config.load(tmp_path, {})
