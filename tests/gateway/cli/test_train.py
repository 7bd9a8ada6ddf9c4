"""`thriftgate train`: one's own outcomes in, a classifier out that is better on them, or none."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from classifier import bundle
from classifier.adapt import Outcome
from classifier.predict import Predictor, Prompt
from classifier.training import dataset
from gateway import config
from gateway.cli import train
from tests.classifier.conftest import make_examples, make_tiny, make_tokenizer, write_own

WORDS = ("river", "stone", "light", "code", "proof", "hello", "that", "moon", "write", "prove", "music")
GOOD = b'{"prompt": "a", "harm": true}\n'


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier to start from: the bundle of a tiny network."""
    home = tmp_path_factory.mktemp("own")
    examples = make_examples() + dataset.load(None, write_own(home))
    return make_tiny(make_tokenizer(), examples, home / "bundle").directory


def traffic(needed: Callable[[str], dict[str, Any]], rows: int = 240) -> bytes:
    """Made-up prompts as lines, each with the outcome that `needed` says."""
    rng = random.Random(1)
    texts = [f"{' '.join(rng.choices(WORDS, k=rng.randint(3, 9)))} {number}" for number in range(rows)]
    return b"".join(orjson.dumps({"prompt": text, **needed(text)}) + b"\n" for text in texts)


RIVERS = traffic(lambda text: {"harm": "river" in text})


def run(old: Path, out: Path, outcomes: bytes, *more: str) -> Result:
    """Run the command on outcomes from standard input."""
    arguments = ["--from", "-", "--bundle", str(old), "--out", str(out), *more]
    return CliRunner().invoke(train.command, arguments, input=outcomes)


def test_a_better_classifier_is_written(old: Path, tmp_path: Path) -> None:
    """Old and new are shown side by side, and the new one is there, better on prompts that were in no file."""
    out = tmp_path / "of" / "our own"
    result = run(old, out, RIVERS)
    before, after = (Predictor.load(home).predict(Prompt("stone river light code")).p_cheap for home in (old, out))

    assert 0 == result.exit_code
    assert re.search(r"^240 outcomes, \d+ of them held out; pull \d+", result.stdout)
    assert re.search(r"^old +\d\.\d{4} +\d\.\d{3} +\d+\.\d% +\d+\.\d%$", result.stdout, re.MULTILINE)
    assert re.search(r"^new +\d\.\d{4} +\d\.\d{3} +\d+\.\d% +\d+\.\d%$", result.stdout, re.MULTILINE)
    assert f"written: {out}" in result.stdout
    assert after < before
    assert bundle.read_manifest(out).provenance["fitted_on"]["rows"] == 240


def test_what_it_says_to_do_works(old: Path, tmp_path: Path) -> None:
    """The line that is printed for the configuration names the classifier that was written."""
    (line,) = re.findall(r"^use it:  (.*)$", run(old, tmp_path / "own", RIVERS).stdout, re.MULTILINE)
    read = config.parse(f"upstreams: {{u: {{base_url: 'http://x'}}}}\nmodels: {{m: {{upstream: u}}}}\n{line}", {})

    assert read.classifier.directory == tmp_path / "own"
    assert Predictor.load(read.classifier.directory).predict(Prompt("river")).p_cheap < 1


def test_a_file_is_read_as_standard_input_is(old: Path, tmp_path: Path) -> None:
    """The same outcomes make the same classifier, wherever they come from."""
    (tmp_path / "outcomes.jsonl").write_bytes(RIVERS)
    run(old, tmp_path / "one", RIVERS)
    arguments = ["--from", str(tmp_path / "outcomes.jsonl"), "--bundle", str(old), "--out", str(tmp_path / "two")]
    result = CliRunner().invoke(train.command, arguments)

    assert 0 == result.exit_code
    assert bundle.read_manifest(tmp_path / "one").files == bundle.read_manifest(tmp_path / "two").files


def test_a_worse_one_is_not_written(old: Path, tmp_path: Path) -> None:
    """Outcomes that are the old one's own judgement leave nothing to gain: shown, exit 1, and no file is made."""
    judge = Predictor.load(old)
    outcomes = traffic(lambda text: {"cheap": judge.predict(Prompt(text)).p_cheap, "premium": 1})
    result = run(old, tmp_path / "out", outcomes)

    assert 1 == result.exit_code
    assert "\nold " in result.stdout
    assert "not written: on rows that neither saw the new one is not surely better" in result.stdout
    assert not (tmp_path / "out").exists()


def assert_refused(result: Result, *words: str) -> None:
    """The command ended with 2 and said this."""
    assert 2 == result.exit_code
    assert [word for word in words if word not in result.stderr] == []
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)


def test_too_few(old: Path, tmp_path: Path) -> None:
    """Too few outcomes of one kind: exit 2, counted."""
    too_few = run(old, tmp_path / "out", GOOD * 30)

    assert_refused(too_few, "premium was needed in 30 of 30 rows", "at least 20 of either")
    assert_refused(run(old, tmp_path / "out", b""), "premium was needed in 0 of 0 rows")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"not json", "JSON is malformed"),
        (b"[1]", "Expected `object`"),
        (b'{"prompt": "a", "harm": true, "x": ' + b"[" * 100_000, "line 3"),
        (b'{"prompt": 5, "harm": true}', "Expected `str`"),
        (b'{"prompt": "\xff", "harm": true}', "utf-8"),
        (b'{"harm": true}', "there is no prompt"),
        (b'{"prompt": " \\n", "harm": true}', "there is no prompt"),
        (b'{"messages": [{"role": "system", "content": "x"}], "harm": true}', "there is no prompt"),
        (b'{"messages": [{"content": "x"}], "harm": true}', "missing required field `role`"),
        (b'{"prompt": "a"}', "there is no outcome"),
        (b'{"prompt": "a", "cheap": 0.5}', "there is no outcome"),
        (b'{"prompt": "a", "premium": 0.5}', "there is no outcome"),
        (b'{"prompt": "a", "cheap": 0.5, "premium": 1.5}', "between 0 and 1"),
        (b'{"prompt": "a", "cheap": -1, "premium": 1}', "between 0 and 1"),
        (b'{"prompt": "a", "harm": "yes"}', "Expected `bool"),
    ],
    ids=lambda value: value[:60] if isinstance(value, bytes) else "",
)
def test_a_bad_line_is_named(old: Path, tmp_path: Path, line: bytes, what: str) -> None:
    """A line that cannot be read is named by its number, blank ones counted, with what is expected."""
    result = run(old, tmp_path / "out", GOOD + b"\n" + line + b"\n" + GOOD)

    assert_refused(result, "line 3: ", what, "hint: every line is an object")
    assert not (tmp_path / "out").exists()


def read(tmp_path: Path, *lines: dict[str, Any]) -> list[Outcome]:
    """What the command reads of lines."""
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"\n\n".join(map(orjson.dumps, lines)))
    return list(train._outcomes(str(path)))


@pytest.mark.parametrize(
    ("outcome", "needed"),
    [
        ({"harm": True}, 1),
        ({"harm": False}, 0),
        ({"cheap": 0, "premium": 1}, 1),
        ({"cheap": 0.25, "premium": 0.75}, 0.5),
        ({"cheap": 1, "premium": 0.5}, 0),
        ({"harm": False, "cheap": 0, "premium": 1}, 0),
        ({"harm": None, "cheap": 0, "premium": 1}, 1),
    ],
)
def test_outcomes(tmp_path: Path, outcome: dict[str, Any], needed: float) -> None:
    """A judge's verdict, or what premium's score has over cheap's; the verdict goes before."""
    (found,) = read(tmp_path, {"prompt": "a", "id": 7, **outcome})

    assert found == Outcome(Prompt("a"), needed)


def test_conversations(tmp_path: Path) -> None:
    """Messages and tools are read as the gateway reads them; a prompt beside them is left aside."""
    said = [("system", "be kind"), ("user", "one"), ("assistant", "a"), ("user", "<cwd>/</cwd>two"), ("tool", "x")]
    messages = [{"role": role, "content": text, "name": "x"} for role, text in said]
    (found,) = read(tmp_path, {"prompt": "z", "messages": messages, "tools": 3, "harm": False})

    assert found.prompt == Prompt("two", before="one / a", turns=2, tools=3, results=1, system=7)


def test_messages_as_they_were_sent(tmp_path: Path) -> None:
    """Parts and calls of tools, as callers send them, are no fault: what is not text is left aside."""
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "what is it?"}]
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    messages = [{"role": "user", "content": parts}, called, {"role": "tool", "content": "x"}]
    (found,) = read(tmp_path, {"messages": messages, "harm": True})

    assert (found.prompt.text, found.prompt.results) == ("what is it?", 1)


def test_the_ledger_has_no_outcomes_yet(old: Path, tmp_path: Path) -> None:
    """Asking for it says so: exit 2."""
    arguments = ["--from", "ledger", "--bundle", str(old), "--out", str(tmp_path / "out")]

    assert_refused(CliRunner().invoke(train.command, arguments), "the ledger keeps no outcomes yet", "hint: ")


@pytest.mark.parametrize("what", ["shipped", "old", "full", "a file"])
def test_what_is_there_is_not_overwritten(old: Path, tmp_path: Path, what: str) -> None:
    """Neither the shipped classifier, nor the one it starts from, nor anything else: exit 2 before a line is read."""
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter").touch()
    out = {"shipped": bundle.DEFAULT_DIRECTORY, "old": old, "full": full, "a file": full / "letter"}
    before = {file.name: file.read_bytes() for file in old.iterdir()}

    assert_refused(run(old, out[what], b"not read"), f"{out[what]} is there already", "--out")
    assert {file.name: file.read_bytes() for file in old.iterdir()} == before


def test_an_empty_directory_is_filled(old: Path, tmp_path: Path) -> None:
    """One that was made beforehand serves."""
    assert 0 == run(old, tmp_path, RIVERS).exit_code
    assert bundle.load(tmp_path).digest != bundle.load(old).digest


@pytest.mark.parametrize("source", ["nowhere.jsonl", "."])
def test_a_file_that_cannot_be_read(old: Path, tmp_path: Path, source: str) -> None:
    """It is named: exit 2, with a hint."""
    arguments = ["--from", source, "--bundle", str(old), "--out", str(tmp_path / "out")]

    assert_refused(CliRunner().invoke(train.command, arguments), f"{source} cannot be read", "hint: ")


def test_a_classifier_that_cannot_serve(tmp_path: Path) -> None:
    """Without one to start from there is nothing to fit: exit 2, with the file at fault."""
    assert_refused(run(tmp_path / "nothing", tmp_path / "out", RIVERS), "manifest.json: cannot be read")


def test_a_directory_that_cannot_be_made(old: Path, tmp_path: Path) -> None:
    """A file where its parent should be: exit 2."""
    (tmp_path / "taken").touch()

    assert_refused(run(old, tmp_path / "taken" / "out", RIVERS), "out cannot be written")
