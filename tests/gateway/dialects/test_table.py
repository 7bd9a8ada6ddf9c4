"""The table of what is lost: as the README has it, and as the dialects do it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.dialects import table
from gateway.dialects.register import UPSTREAMS

ROOT = Path(__file__).parents[3]
README = ROOT / "gateway" / "dialects" / "README.md"
MARK = "<!-- python -m gateway.dialects.table -->\n\n"


def test_the_readme_has_it() -> None:
    """Where this fails: `python -m gateway.dialects.table` prints what belongs below the README's mark."""
    _, _, below = README.read_text(encoding="utf-8").partition(MARK)

    assert table.render() == below.partition("\n\n")[0] + "\n"


def test_every_field_has_its_reason() -> None:
    """And no reason speaks of a field that is gone."""
    assert set(table.fields()) == set(table.REASONS)


def test_every_other_has_its_home() -> None:
    """A field of one dialect alone says whose it is."""
    named = {field.removeprefix("others.") for field in table.fields() if field.startswith("others.")}

    assert named == set(table.HOME)


@pytest.mark.parametrize(
    ("field", "cells"),
    [
        ("top_k", (table.LEFT_OUT, table.LEFT_OUT, table.CARRIED)),
        ("n", (table.CARRIED, table.REFUSED, table.CARRIED)),
        ("others", (table.LEFT_OUT, table.LEFT_OUT, table.LEFT_OUT)),
        ("others.cachedContent", (table.REFUSED, table.REFUSED, table.CARRIED)),
        ("others.web_search_options", (table.CARRIED, table.REFUSED, table.REFUSED)),
    ],
)
def test_its_cells(field: str, cells: tuple[str, ...]) -> None:
    """Carried where no table has it, else what the table says; a field of one dialect is carried to its own."""
    assert cells == tuple(table.cell(field, dialect) for dialect in UPSTREAMS)


@pytest.mark.parametrize("dialect", UPSTREAMS)
def test_what_a_dialect_loses_is_in_its_table(dialect: str) -> None:
    """A field that is lost and not listed would be "carried" in the README."""
    calls = [
        node for path in (ROOT / "gateway" / "dialects" / dialect).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "lose"
    ]
    lost = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}

    assert lost
    assert lost - set(UPSTREAMS[dialect].LOSSES) == set()


def test_it_prints_itself() -> None:
    """The command that the README names."""
    command = [sys.executable, "-m", "gateway.dialects.table"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, encoding="utf-8")

    assert printed.stdout == table.render()
