"""`thriftgate check`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli.check import command

GOOD = """
upstreams:
  provider: {base_url: "http://127.0.0.1:9/v1", key: "marked-secret"}
models:
  small: {upstream: provider, name: gpt-4o-mini}
  odd: {upstream: provider, name: nobody-knows}
routes:
  auto: {ladder: [small, odd], promise: {harm: 0.02}}
"""
BAD = """
upstreams:
  provider: {base_url: "http://127.0.0.1:9/v1", kee: "marked-secret"}
models:
  small: {upstream: provder, price: {input: free, output: 1}}
"""


def run(tmp_path: Path, text: str) -> tuple[int, str]:
    """Check a configuration; return the exit code and everything printed."""
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    result = CliRunner().invoke(command, ["-c", str(file)])
    return result.exit_code, result.output


def test_a_good_file_is_good(tmp_path: Path) -> None:
    """A good file exits 0 and says what is in it."""
    code, said = run(tmp_path, GOOD)

    assert 0 == code
    assert "good. 1 upstreams, 2 models, 1 routes, 0 keys." in said


def test_what_is_good_but_may_surprise_is_said(tmp_path: Path) -> None:
    """A model without a known price, and a promise that nothing certifies yet, are named."""
    _, said = run(tmp_path, GOOD)

    assert "models.odd: no price is known for 'nobody-knows'" in said
    assert "routes.auto: the promise is kept by" in said
    assert "models.small: no price" not in said


def test_every_fault_is_named_and_the_exit_code_is_2(tmp_path: Path) -> None:
    """All faults in one run, each with its path and a hint."""
    code, said = run(tmp_path, BAD)

    assert 2 == code
    assert ": 2 faults" in said
    assert "upstreams.provider.kee: is not a setting\n    hint: did you mean 'key'?" in said
    assert "models.small.price.input" in said


def test_faults_never_quote_a_secret(tmp_path: Path) -> None:
    """What is printed holds no key."""
    assert "marked-secret" not in run(tmp_path, BAD)[1] + run(tmp_path, GOOD)[1]


@pytest.mark.parametrize("arguments", [[], ["-c", "nowhere.yaml"]], ids=["no file named", "file not there"])
def test_no_file_is_exit_2(arguments: list[str]) -> None:
    """Without a file that can be read the exit code is 2, with a hint."""
    result = CliRunner().invoke(command, arguments)

    assert 2 == result.exit_code
    assert "-c" in result.output or "give the path of a YAML file" in result.output


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        (("http://127.0.0.1:9/v1", "http://"), "upstreams.provider", "to name a host"),
        (("127.0.0.1:9", "127.0.0.1:99999"), "upstreams.provider", "a port below 65536"),
        (("/v1", "/v1/chat/completions"), "upstreams.provider", "to end before /chat/completions"),
        (("name: gpt-4o-mini", "context: -5"), "models.small", "`context` of at least 0"),
        (("{harm: 0.02}", "{harm: 9}"), "routes.auto.promise", "`harm` from 0 to 1"),
        (("promise: {harm: 0.02}", "rules: [{when: {task: translaton}, use: odd}]"),
         "routes.auto.rules[0].when.task", "did you mean 'translation'?"),
        (('"marked-secret"', '""'), "upstreams.provider.key", "Expected a key as text"),
    ],
    ids=["no host", "no such port", "a path too far", "negative room", "more than all", "unknown task", "empty key"],
)
def test_what_cannot_work_is_not_good(tmp_path: Path, change: tuple[str, str], path: str, said: str) -> None:
    """A setting that is well formed and could never work is a fault, too."""
    code, printed = run(tmp_path, GOOD.replace(*change))

    assert 2 == code
    assert path in printed
    assert said in printed
