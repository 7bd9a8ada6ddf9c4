"""`thriftgate prices`."""

import stat
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway import config
from gateway.cli.prices import command
from gateway.pricing import Facts, Price, PriceList, Prices, built_in, decode, encode

CONFIG = """
upstreams: {{provider: {{base_url: "https://api.openai.com/v1"}}, fast: {{base_url: "https://api.groq.com/openai/v1"}}}}
models:
  gpt-4o-mini: {{upstream: provider}}
  mine: {{upstream: provider, name: gpt-4o, price: {{input: 1, output: 2}}}}
  open: {{upstream: fast, name: openai/gpt-oss-120b}}
  new: {{upstream: provider}}
ledger: {{directory: "{directory}"}}
"""
MODEL: dict[str, Any] = {
    "litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 9e-06, "output_cost_per_token": 10e-06,
    "source": "https://x",
}
FILE = {
    "sample_spec": {"litellm_provider": "one of"}, "gpt-4o-mini": MODEL, "new": MODEL,
    "free": {**MODEL, "input_cost_per_token": 0, "output_cost_per_token": 0},
    "by-second": {"litellm_provider": "openai", "input_cost_per_second": 1},
    "by-image": {"litellm_provider": "openai", "output_cost_per_image": 1},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration."""
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG.format(directory=tmp_path / "data"))
    return path


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A price file of LiteLLM's."""
    path = tmp_path / "theirs.json"
    path.write_bytes(orjson.dumps(FILE))
    return path


def run(*arguments: str | Path, env: dict[str, str | None] | None = None) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, list(map(str, arguments)), env=env)


class TestUpdate:
    """The import."""

    def test_what_is_said(self, file: Path, theirs: Path) -> None:
        """How many were taken, how many not and why, what differs from the built-in table, and what to do next."""
        lines = run("update", "-c", file, theirs).output.splitlines()
        table = built_in()

        assert lines[:3] == [
            "2 models are taken, 3 are left out:",
            "      2  no price per token, such as by-second, by-image",
            "      1  a price of 0, which may mean that it is not known, such as free",
        ]
        count = len(table.models)
        assert lines[4] == (
            f"The built-in table of {table.as_of} has {count} models: {count - 1} are not in the file and keep their"
            " prices, 1 have other ones now:"
        )
        assert [line.split() for line in lines[5:10]] == [
            ["model", "what", "built-in", "imported"], ["gpt-4o-mini", "input", "0.15", "9"],
            ["gpt-4o-mini", "output", "0.6", "10"], ["gpt-4o-mini", "cached_input", "0.075", "-"],
            ["gpt-4o-mini", "batch", "factor", "0.5", "-"],
        ]
        assert lines[-1].endswith("prices.json. A running gateway goes by them once it reloads (SIGHUP).")

    def test_it_is_in_force(self, file: Path, theirs: Path) -> None:
        """The configuration that is read next has the prices that were imported, but where it names others."""
        run("update", "-c", file, theirs)
        models = config.load(file).models

        assert Price(9, 10, search=10) == models["gpt-4o-mini"].price
        assert Price(9, 10) == models["new"].price
        assert Price(1, 2) == models["mine"].price

    def test_it_replaces_what_was_imported_before(self, file: Path, theirs: Path) -> None:
        """As a whole, and also where that was damaged: this is the remedy."""
        run("update", "-c", file, theirs)
        target = file.parent / "data" / "prices.json"
        before = target.read_bytes()
        target.write_bytes(b"damaged")
        theirs.write_bytes(orjson.dumps({"new": MODEL}))

        assert 0 == run("update", "-c", file, theirs).exit_code
        assert {"gpt-4o-mini", "new"} == set(decode(before).models)
        assert ["new"] == list(decode(target.read_bytes()).models)
        assert [target] == list(target.parent.iterdir())

    def test_without_a_configuration(self, theirs: Path, tmp_path: Path) -> None:
        """It is kept where data belongs: the directory is made, for its owner alone."""
        home = tmp_path / "home"

        assert 0 == run("update", theirs, env={"THRIFTGATE_DATA": str(home)}).exit_code
        assert (0o700, [home / "prices.json"]) == (stat.S_IMODE(home.stat().st_mode), list(home.iterdir()))

    def test_nothing_left_out_and_nothing_different(self, file: Path, theirs: Path) -> None:
        """It is said without a table."""
        theirs.write_bytes(orjson.dumps({"new": MODEL}))
        output = run("update", "-c", file, theirs).output

        assert "1 models are taken, 0 are left out.\n" in output
        assert "0 have other ones now.\n" in output

    @pytest.mark.parametrize(
        "content", [b"", b"<html>", b"[]", b'{"a": {}}', orjson.dumps({"free": FILE["free"]}), None],
        ids=["empty", "a page", "a list", "no models", "no prices", "not there"],
    )
    def test_another_file(self, file: Path, theirs: Path, content: bytes | None) -> None:
        """Exit 2, with a hint; what was imported before stays."""
        run("update", "-c", file, theirs)
        theirs.unlink()
        if content is not None:
            theirs.write_bytes(content)
        done = run("update", "-c", file, theirs)

        assert 2 == done.exit_code
        assert str(theirs) in done.output
        assert "nothing was changed" in done.output
        assert {"gpt-4o-mini", "new"} == set(decode((file.parent / "data" / "prices.json").read_bytes()).models)

    def test_a_directory_that_cannot_be_written(self, file: Path, theirs: Path) -> None:
        """Exit 2, and which setting it is."""
        (file.parent / "data").write_text("a file")
        done = run("update", "-c", file, theirs)

        assert 2 == done.exit_code
        assert "ledger.directory" in done.output

    def test_a_faulty_configuration(self, file: Path, theirs: Path) -> None:
        """Exit 2 with its faults."""
        file.write_text("nonsense: 1")
        done = run("update", "-c", file, theirs)

        assert (2, True) == (done.exit_code, "nonsense: is not a section" in done.output)


class TestList:
    """What is in force."""

    def test_the_models_of_a_configuration(self, file: Path) -> None:
        """Each with its price and who says so; one that is unknown is said to be."""
        today = built_in().as_of
        rows = [line.split(maxsplit=5) for line in run("list", "-c", file).output.splitlines()]

        assert rows == [
            ["model", "input", "output", "cached_input", "cache_write", "from"],
            ["gpt-4o-mini", "0.15", "0.6", "0.075", "-", f"built-in, {today}, as gpt-4o-mini"],
            ["mine", "1", "2", "-", "-", "configuration"],
            ["open", "0.15", "0.6", "0.075", "-", f"built-in, {today}, as groq/openai/gpt-oss-120b"],
            ["new", "-", "-", "-", "-", "unknown"],
        ]

    def test_configuration_before_imported_before_built_in(self, file: Path, theirs: Path) -> None:
        """The order in which they are in force."""
        run("update", "-c", file, theirs)
        said = {row["name"]: row["from"].partition(",")[0] for row in orjson.loads(
            run("list", "-c", file, "--json").output
        )}

        assert {"gpt-4o-mini": "imported", "mine": "configuration", "open": "built-in", "new": "imported"} == said

    def test_one_model(self, file: Path) -> None:
        """With everything that its price names, its page, and how much it takes and gives."""
        lines = [" ".join(line.split()) for line in run("list", "-c", file, "gpt-5.4-2026-03-05").output.splitlines()]

        assert ["gpt-5.4-2026-03-05", f"from built-in, {built_in().as_of}, as gpt-5.4"] == lines[:2]
        assert {"input above 272000, flex 2.5", "priority factor 2", "context 1050000"} <= set(lines)

    def test_one_of_the_configuration(self, file: Path) -> None:
        """Under the name that it has there; with a price of its own it is nobody's else, but its context is known."""
        (row,) = orjson.loads(run("list", "-c", file, "mine", "--json").output)

        assert row == {
            "name": "mine", "from": "configuration", "price": {"input": 1, "output": 2}, "context": 128_000,
            "max_output": 16_384, "provider": "openai",
        }

    def test_one_that_nobody_knows(self, file: Path) -> None:
        """Exit 1: its costs are unknown, not zero."""
        done = run("list", "-c", file, "gpt-5-mega")

        assert 1 == done.exit_code
        assert "gpt-5-mega: no price is known; its costs will be unknown, not zero" in done.output

    def test_without_a_configuration(self, tmp_path: Path) -> None:
        """All that there is a price for; with a provider's key, the models that it makes."""
        none: dict[str, str | None] = dict.fromkeys(["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"])
        env = {**none, "THRIFTGATE_DATA": str(tmp_path)}
        (tmp_path / "prices.json").write_bytes(encode(PriceList("2027-01-01", "", {"zzz": Facts(Price(1, 2))})))
        every = orjson.loads(run("list", "--json", env=env).output)
        made = orjson.loads(run("list", "--json", env={**env, "OPENAI_API_KEY": "k"}).output)

        assert Prices(PriceList("", "", {"zzz": Facts(Price(1, 2))})).names() == [row["name"] for row in every]
        assert ["gpt-5.4-mini", "gpt-5.4"] == [row["name"] for row in made]
        assert all(row["from"].startswith("built-in") for row in made)

    def test_a_damaged_import(self, file: Path) -> None:
        """Exit 2: what is in force cannot be said."""
        (file.parent / "data").mkdir()
        (file.parent / "data" / "prices.json").write_bytes(b"damaged")
        done = run("list", "-c", file)

        assert 2 == done.exit_code
        assert "thriftgate prices update" in done.output
