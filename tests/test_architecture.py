"""The house's walls: who may import whom, what the pure rooms may not do, how large a room may grow."""

import ast
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("gateway", "classifier", "loadtest")

THERE = {
    ".".join(path.relative_to(ROOT / "gateway").with_suffix("").parts) for path in (ROOT / "gateway").rglob("*.py")
}
# The rooms of a dialect, the lowest first; a dialect has those that it needs, and knows no other dialect.
DIALECTS = ("anthropic", "gemini", "openai", "responses")
DIALECT_ROOMS = (
    ("fields", "citing", "usage"), ("schema", "thinking", "sealed", "parts"), ("input_items", "output_items"),
    ("output",), ("request", "wording", "answer", "response"),
)

STORE_ROOMS = {room for room in THERE if room.startswith("store.")}

# Arrows point down only: a room imports rooms of lower levels, and nothing else of ours but what MAY_ALSO says.
LEVELS = [
    {"errors", "logs", "tasks", "spool"},
    {"sse", "pricing.usage", "faults"},
    {"pricing.price"},
    {"pricing.cost", "pricing.table"},
    {"pricing.litellm"},
    {"pricing"},
    {"config.strict"},
    {"config.money"},
    {"wire.request", "receipt", "metrics", "config.settings", "dialects.neutral"},
    {"config.reading", "wire.counting"},
    {"config.environment"},
    {"config"},
    {"limits", "budgets", "shared.client"},
    {"shared.limits", "shared.memory", "shared.accounts", "purse", "alerts"},
    {"admission", "teller"},
    {"store.schema", "store.opening", *(room for room in STORE_ROOMS if room.startswith("store.migrations"))},
    {"store.migrating", "store.cleaning", "store.reports", "store.accounts"},
    {"store.summing", "store.once"},
    {"store.receipts"},
    {
        "wire.chat", "wire.messages", "wire.responses", "wire.gemini", "wire.plain",
        "dialects.door", "dialects.reading", "dialects.tokens",
    },
    {"wire"},
    {"router", "keys", "counterfactual", "report"},
    {"auth"},
    {"store.secret", "store.keys"},
    {"storedkeys"},
    *({f"dialects.{name}.{room}" for name in DIALECTS for room in rooms} & THERE for rooms in DIALECT_ROOMS),
    {f"dialects.{name}" for name in DIALECTS},
    {"dialects.register"},
    {"dialects.table"},
    {
        "explain", "estimating", "classify", "upstream.deadline", "upstream.health", "upstream.refusal", "ledger",
        "translate", "serving",
    },
    {"upstream.hedging", "upstream.slots"},
    {"upstream.pool"},
    {"upstream.model"},
    {"upstream.report", "upstream.probing"},
    {"keepalive"},
    {"through"},
    {"race"},
    {"accounting"},
    {"relay", "search"},
    {"calling"},
    {"treasury"},
    {"allowance"},
    {"handler"},
    {"bookkeeper"},
    {"books"},
    {"admin", "usage"},
    {"endpoints"},
    {"app", "bench"},
    {"workers"},
    {"cli"},           # finds its commands by name
    {"cli.files"},
    {
        "cli.check", "cli.classify", "cli.demo", "cli.keys", "cli.migrate", "cli.prices", "cli.report",
        "cli.route", "cli.serve",
        "cli.train",
    },
    {"__main__"},
]
PURE = {
    "errors", "sse", "faults", "limits", "receipt", "metrics", "router", "keys", "auth", "explain", "translate",
    "upstream.health", "upstream.refusal", "upstream.hedging", "upstream.report", "store.cleaning", "store.summing",
    "estimating", "counterfactual", "report", "accounting", "budgets", "purse",
    *(room for rooms in LEVELS for room in rooms if room.startswith(("config", "dialects", "wire", "pricing"))),
}
# Outside our packages, a room of this list may use only what stands beside it (and the standard library).
THIRD_PARTY = {
    "errors": set(), "sse": set(), "keys": {"msgspec"},
    "auth": {"msgspec"}, "router": {"msgspec"}, "translate": {"msgspec"},
    "receipt": {"msgspec"}, "faults": {"msgspec"}, "explain": set(), "estimating": set(),
    "counterfactual": set(), "report": {"rich"}, "usage": {"aiohttp", "orjson", "sqlalchemy"},
    "store.reports": {"sqlalchemy"},
    "storedkeys": {"sqlalchemy"}, "admin": {"aiohttp", "msgspec", "orjson", "sqlalchemy"},
    "metrics": {"prometheus_client"}, "ledger": {"orjson"}, "spool": {"orjson"},
    "bookkeeper": {"sqlalchemy"},
    "classify": {"msgspec"}, "upstream.deadline": set(), "upstream.health": set(), "upstream.slots": set(),
    "upstream.refusal": set(), "upstream.hedging": set(), "upstream.report": set(), "upstream.probing": {"aiohttp"},
    "upstream.model": {"yarl"}, "search": set(), "race": set(), "calling": set(), "through": set(),
    "keepalive": {"aiohttp"},
    "tasks": set(), "limits": set(), "admission": set(), "budgets": set(), "purse": set(),
    "alerts": {"aiohttp", "orjson"}, "teller": set(), "treasury": set(), "shared.accounts": set(),
    "store.accounts": {"sqlalchemy"}, "shared.client": {"hiredis", "redis"}, "shared.limits": set(),
    "shared.memory": set(),
    "store.schema": {"sqlalchemy"}, "store.opening": {"asyncpg", "orjson", "sqlalchemy"},
    "store.migrating": {"alembic", "sqlalchemy"}, "store.summing": set(),
    "store.cleaning": {"msgspec", "orjson", "sqlalchemy"}, "store.receipts": {"sqlalchemy", "structlog"},
    "upstream.pool": {"aiohttp", "multidict", "yarl"}, "relay": {"aiohttp"}, "serving": {"aiohttp"},
    **{room: {"msgspec"} for rooms in LEVELS for room in rooms if room.startswith("pricing")},
    **{room: {"msgspec", "platformdirs"} for rooms in LEVELS for room in rooms if room.startswith("config")},
    **{room: {"msgspec", "orjson"} for rooms in LEVELS for room in rooms if room.startswith(("dialects", "wire"))},
}
MAY_ALSO = {
    "classify": {"classifier"}, "app": {"classifier"}, "cli.classify": {"classifier"}, "cli.train": {"classifier"},
    "cli.files": {"classifier"}, "cli.route": {"classifier"},
    "cli.demo": {"loadtest"},
}
FORBIDDEN_IN_PURE = {
    "asyncio", "time", "random", "logging", "structlog", "datetime", "uuid", "secrets", "threading", "socket",
}
READS_DISK = {"config.reading", "pricing.table"}   # once, at start: the configuration; the table that comes with us
# Retry-After may be one, a key has an end; what time it is stays an argument
READS_DATES = {"budgets", "upstream.refusal", "config.settings", "keys", "report"}
ASKS_THE_TIME = {"now", "utcnow", "today"}
CLASSIFIER_MAY = {"numpy", "onnxruntime", "tokenizers", "orjson", "msgspec"}
CEILING_FUNCTION, CEILING_MODULE = 60, 400


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """Yield every module of a package as (dotted name below it, path)."""
    base = ROOT / package
    for path in sorted(base.rglob("*.py")):
        parts = path.relative_to(base).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def tree(path: Path) -> ast.Module:
    """Parse a module."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> set[str]:
    """Return every module that is imported anywhere in a file, `from a import b` as both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def roots_of_all(path: Path) -> set[str]:
    """Return the top-level packages a file imports, the standard library's among them."""
    return {name.split(".")[0] for name in imports(path)}


def roots(path: Path) -> set[str]:
    """Return the top-level packages a file imports, without the standard library."""
    return roots_of_all(path) - set(sys.stdlib_module_names) - {"__future__"}


GATEWAY = dict(modules("gateway"))
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
EVERY = [pytest.param(path, id=f"{package}.{name}") for package in PACKAGES for name, path in modules(package)]
ROOMS = [room for room in GATEWAY if room not in {"", "dialects", "shared", "store", "upstream"}]


def test_every_room_has_a_level() -> None:
    """A new module of the gateway is given its place before it is used."""
    assert sorted(LEVEL) == sorted(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down(room: str) -> None:
    """A room imports nothing of its own level or above, and only the doors to other packages that it was given."""
    ours = {name.removeprefix("gateway.") for name in imports(GATEWAY[room]) if name.startswith("gateway.")}
    wrong = {name for name in ours if name in LEVEL and LEVEL[name] >= LEVEL[room] and name != room}
    foreign = (roots(GATEWAY[room]) & {"classifier", "loadtest", "tests"}) - MAY_ALSO.get(room, set())

    assert (wrong, foreign) == (set(), set())


@pytest.mark.parametrize("room", sorted(THIRD_PARTY))
def test_third_parties_stay_at_their_doors(room: str) -> None:
    """A room of the path uses the libraries it was given and no others."""
    used = roots(GATEWAY[room]) - set(PACKAGES)

    assert used - THIRD_PARTY[room] == set()


@pytest.mark.parametrize("room", sorted(PURE))
def test_pure_rooms_are_pure(room: str) -> None:
    """No await, clock, randomness, logging or disk in the pure rooms: what they need of these is an argument."""
    nodes = list(ast.walk(tree(GATEWAY[room])))
    waits = [n for n in nodes if isinstance(n, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)]
    opens = {n.func.attr for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)} & {
        "read_text", "read_bytes", "write_text", "write_bytes", "open"
    } if room not in READS_DISK else set()
    asks = {node.attr for node in nodes if isinstance(node, ast.Attribute)} & ASKS_THE_TIME
    forbidden = FORBIDDEN_IN_PURE - ({"datetime"} if room in READS_DATES else set())

    assert (waits, opens, asks, roots_of_all(GATEWAY[room]) & forbidden) == ([], set(), set(), set())


@pytest.mark.parametrize(("name", "path"), [p for p in modules("classifier") if not p[0].startswith("training")])
def test_the_classifier_runs_without_training(name: str, path: Path) -> None:
    """At run time the classifier needs neither torch nor anything of the gateway."""
    assert roots(path) - {"classifier"} - CLASSIFIER_MAY == set(), name
    assert not any(imported.startswith("classifier.training") for imported in imports(path)), name


@pytest.mark.parametrize(("name", "path"), list(modules("loadtest")))
def test_loadtest_imports_nothing_of_ours(name: str, path: Path) -> None:
    """The load tests must be able to accuse us: they share no code with what they measure."""
    assert roots(path) & {"gateway", "classifier"} == set(), name


@pytest.mark.parametrize("path", EVERY)
def test_ceilings(path: Path) -> None:
    """No function over 60 lines, no module over 400."""
    functions = (n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    long = {n.name: size for n in functions if (size := (n.end_lineno or 0) - n.lineno + 1) > CEILING_FUNCTION}

    assert long == {}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= CEILING_MODULE


def twin(package: str, room: str) -> Path:
    """Return where the tests of a module stand."""
    *folders, name = room.split(".")
    if (ROOT / package / room.replace(".", "/")).is_dir():
        folders, name = [*folders, name], "init"
    return ROOT.joinpath("tests", package, *folders, f"test_{name.strip('_')}.py")


def has_code(path: Path) -> bool:
    """Say whether a module defines anything: an `__init__` that is a map needs no tests."""
    defining = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign
    return any(isinstance(node, defining) for node in tree(path).body)


NEED_TESTS = [
    pytest.param(package, room, id=f"{package}.{room}")
    for package in PACKAGES for room, path in modules(package) if room and has_code(path)
]


@pytest.mark.parametrize(("package", "room"), NEED_TESTS)
def test_every_module_has_its_tests(package: str, room: str) -> None:
    """A module's tests are in the file of the same name under tests/."""
    assert twin(package, room).is_file()


def test_no_tests_without_a_module() -> None:
    """A test file that mirrors a module disappears with it."""
    there = {path for package in PACKAGES for path in (ROOT / "tests" / package).rglob("test_*.py")}
    wanted = {twin(package, room) for package in PACKAGES for room, _ in modules(package) if room}
    allowed = {ROOT / "tests/classifier/test_parity.py", ROOT / "tests/gateway/pricing/test_bills.py"}

    assert {str(path.relative_to(ROOT)) for path in there - wanted - allowed} == set()


@pytest.mark.parametrize("path", [pytest.param(path, id=name) for name, path in GATEWAY.items() if name != "tasks"])
def test_loose_tasks_are_not_made(path: Path) -> None:
    """No task is created under any spelling but `tasks.spawn`: one that nobody holds can vanish."""
    calls = (n.func.attr for n in ast.walk(tree(path)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))

    assert set(calls) & {"create_task", "ensure_future"} == set()


@pytest.mark.parametrize("room", [room for room in GATEWAY if room.count(".") == 2])
def test_dialects_do_not_know_each_other(room: str) -> None:
    """A dialect is translated by the neutral conversation alone."""
    own = room.split(".")[1]
    others = {f"gateway.dialects.{name}" for name in DIALECTS if name != own}

    assert {name for name in imports(GATEWAY[room]) if name.startswith(tuple(others))} == set()


def test_pairs_are_unique() -> None:
    """A room stands on one level only."""
    assert all(not (a & b) for a, b in itertools.combinations(LEVELS, 2))
