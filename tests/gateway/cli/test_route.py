"""`thriftgate route`: the dry run on a terminal."""

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli.route import command

CONFIG = """
upstreams:
  provider: {base_url: "http://127.0.0.1:9/v1"}
models:
  small: {upstream: provider, price: {input: 1, output: 2}}
  large: {upstream: provider, price: {input: 10, output: 20}}
routes:
  auto: {ladder: [small, large]}
  thrifty: {ladder: [small, large], threshold: 0}
  proud: {ladder: [small, large], threshold: 1.01}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with three thresholds."""
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    return path


def run(file: Path, *arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, ["-c", str(file), *arguments])


@pytest.mark.parametrize(("model", "chosen"), [("thrifty", "small"), ("proud", "large"), ("large", "large")])
def test_it_says_where_a_prompt_would_go(file: Path, model: str, chosen: str) -> None:
    """The model, the reason and the verdict are those of the route that is asked for."""
    said = orjson.loads(run(file, "--model", model, "What is the capital of France?").stdout)

    assert chosen == said["model"]
    assert said["reason"] == ("explicit" if model == "large" else "learned")
    assert said["why"]


def test_the_first_route_is_the_default(file: Path) -> None:
    """Without --model the first route of the file is asked."""
    assert "auto" == orjson.loads(run(file, "hello").stdout)["route"]


def test_it_says_what_it_would_cost(file: Path) -> None:
    """The estimate names its assumptions and both prices: this model's, and the top of the ladder's."""
    estimate = orjson.loads(run(file, "--model", "thrifty", "hello").stdout)["estimate"]

    assert estimate["cost_usd"] * 10 == pytest.approx(estimate["cost_usd_premium"])
    assert {"input_tokens", "output_tokens"} < estimate.keys()


def test_an_argument_that_is_not_utf8(file: Path) -> None:
    """It is judged all the same."""
    assert "auto" == orjson.loads(run(file, "caf\udce9 au lait").stdout)["route"]


def test_an_unknown_model_lists_what_exists(file: Path) -> None:
    """A name that is neither route nor model: exit 2, and the names there are."""
    result = run(file, "--model", "gpt-9", "hello")

    assert 2 == result.exit_code
    assert "auto, thrifty, proud, small, large" in result.output
