"""The README says nothing that is not so: its examples are run, its commands and settings exist."""

import re
from pathlib import Path

import msgspec
import pytest

from gateway import config
from gateway.cli import COMMANDS
from gateway.endpoints import SERVED
from tests.path import test_chaos_streams

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
STRUCTS: dict[str, type[msgspec.Struct]] = {
    "upstreams": config.UpstreamConfig, "upstreams.endpoints": config.EndpointConfig,
    "upstreams.health": config.HealthConfig, "models": config.ModelConfig, "routes": config.RouteConfig,
    "routes.deadlines": config.RouteDeadlines, "routes.hedge": config.HedgeConfig,
    "keys": config.KeyConfig, "keys.limits": config.LimitsConfig, "keys.budget": config.BudgetConfig,
    "owners": config.OwnerConfig, "ledger": config.LedgerConfig, "shared": config.SharedConfig,
    "admin": config.AdminConfig, "classifier": config.ClassifierConfig, "server": config.ServerConfig,
}


def block(language: str) -> str:
    """Return the first block of a language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def rows() -> list[tuple[list[str], list[str], str]]:
    """Return the configuration table's rows: the sections, the settings of the innermost, and the defaults' cell."""
    found = re.findall(r"^\| `(\w+\.[\w.*\[\]]+)`((?:, `\w+`)*) \| (.*?) \|", README, re.MULTILINE)
    paths = [(path.replace(".*", "").replace("[]", "").split("."), more, cell) for path, more, cell in found]
    return [(path[:-1], [path[-1], *re.findall(r"`(\w+)`", more)], cell) for path, more, cell in paths]


def settings() -> list[tuple[str, str]]:
    """Return every setting that the configuration table names, as (section, name); a section in one is one of it."""
    named: list[tuple[str, str]] = []
    for sections, names, _ in rows():
        named += [(".".join(sections), name) for name in names]
        named += [(".".join(sections[:depth]), sections[depth]) for depth in range(1, len(sections))]
    return named


def test_the_example_configuration_is_good() -> None:
    """The YAML of the README is accepted as it stands."""
    read = config.parse(block("yaml"), {"OPENAI_API_KEY": "any"})

    assert ["small", "large"] == read.routes["auto"].ladder


def test_the_python_example_is_python() -> None:
    """The example compiles."""
    assert compile(block("python"), "README.md", "exec") is not None


@pytest.mark.parametrize("section", STRUCTS)
def test_every_setting_is_documented(section: str) -> None:
    """The configuration table has every setting there is, and no other."""
    fields = {field.encode_name for field in msgspec.structs.fields(STRUCTS[section])}

    assert fields == {name for named, name in settings() if named == section}


def test_documented_numbers_are_the_defaults() -> None:
    """A number in the defaults' cell is the setting's default; those of models come from the built-in table."""
    said = {
        (".".join(sections), name): float(default) for sections, names, cell in rows() if sections != ["models"]
        for name, default in zip(names, cell.split(", "), strict=False) if re.fullmatch(r"[\d.]+", default)
    }
    real = {
        (section, field.encode_name): field.default
        for section, kind in STRUCTS.items() for field in msgspec.structs.fields(kind)
    }

    assert len(said) > 20
    assert {setting: real[setting] for setting in said} == said


def test_every_make_target_exists() -> None:
    """A target that the README tells to type is in the Makefile."""
    named = set(re.findall(r"make ([a-z]+)`?", README))
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))

    assert set() == named - targets


def test_every_command_is_documented() -> None:
    """The commands of the README are the commands there are."""
    assert set(COMMANDS) == set(re.findall(r"^\| `thriftgate (\w+)", README, re.MULTILINE))


def test_every_surface_is_documented() -> None:
    """The paths that a wrong path is told of are in the README."""
    assert [] == [path for path in re.findall(r"/\S+[^,\s]", SERVED) if path not in README]


def test_the_stream_faults_are_tested() -> None:
    """Each row of the table is a test of that name, whose docstring begins with what our column says."""
    table = README.partition("**Stream faults**")[2].partition("\n\n")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    said = {re.sub(r"\W+", "_", f"test {row[0].lower()}"): row[-1].split("**")[1] for row in cells}
    tests = {
        name: test.__doc__ for name, test in vars(test_chaos_streams.TestTheEight).items() if name.startswith("test_")
    }

    assert len(said) == 8
    assert set(said) == set(tests)
    assert [] == [name for name, ours in said.items() if not tests[name].lower().startswith(ours)]
