"""The command line as a whole."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from gateway.cli import COMMANDS, main


def test_help_names_every_command() -> None:
    """`thriftgate --help` lists each command with what it does."""
    said = CliRunner().invoke(main, ["--help"]).output

    assert all(name in said for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    """Each command that is listed exists and has a help text."""
    result = CliRunner().invoke(main, [name, "--help"])

    assert 0 == result.exit_code
    assert f"{name} [OPTIONS]" in result.output


def test_an_unknown_command_is_refused() -> None:
    """A command that does not exist: exit 2."""
    assert 2 == CliRunner().invoke(main, ["nothing"]).exit_code


def test_help_is_quick_because_it_loads_no_classifier() -> None:
    """Asking for help imports neither onnxruntime nor aiohttp."""
    code = (
        "import sys\nfrom gateway.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print({'onnxruntime', 'aiohttp', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr

    assert "set()" == said.strip()


def test_the_version_is_the_distribution_s() -> None:
    """`--version` names the program and a version."""
    assert CliRunner().invoke(main, ["--version"]).output.startswith("thriftgate ")
