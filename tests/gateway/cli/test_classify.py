"""`thriftgate classify`: a contract that other people's scripts rely on.

Where a test says nothing else, the classifier is the shipped one, as on the command line.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import orjson
import pytest
from click.testing import CliRunner, Result

from classifier.predict import TASKS, Predictor, Prompt
from classifier.training import dataset
from gateway.cli.classify import BATCH, command
from tests.classifier.conftest import make_examples, make_tiny, make_tokenizer, write_own


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, list(arguments), input=stdin)


def lines(result: Result) -> list[dict[str, object]]:
    """Return the JSON lines that were written."""
    return [orjson.loads(line) for line in result.stdout_bytes.splitlines()]


def test_texts_get_a_line_each() -> None:
    """Every TEXT gets score, p_cheap and task, in its order."""
    said = run("hello there", "What is 2 + 2?").stdout.splitlines()

    assert 2 == len(said)
    assert "hello there" in said[0]
    assert all(line.startswith("score 0.") and "p_cheap 0." in line for line in said)


def test_a_long_text_is_shown_short() -> None:
    """A long or many-lined TEXT stays on one line of the terminal."""
    said = run("word " * 500 + "\nmore").stdout.splitlines()

    assert 1 == len(said)
    assert said[0].endswith("…")


def test_jsonl_in_and_out(tmp_path: Path) -> None:
    """{"id","prompt"} lines in, {"id","score","p_cheap","task"} lines out: same ids, same order, numbers in range."""
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(b'{"id":"a","prompt":"hi","extra":1}\n\n{"id":7,"prompt":"Prove it."}\n')
    said = lines(run("--jsonl", str(file)))

    assert ["a", 7] == [line["id"] for line in said]
    assert all(["id", "score", "p_cheap", "task"] == list(line) for line in said)
    assert all(0 <= float(str(line[name])) <= 1 for line in said for name in ("score", "p_cheap"))
    assert all(line["task"] in TASKS for line in said)


def test_jsonl_says_what_the_classifier_says(tmp_path: Path) -> None:
    """The numbers are the classifier's own, and more prompts than a batch holds lose none."""
    prompts = [f"What is {n} plus {n}?" for n in range(BATCH + 3)]
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(b"".join(orjson.dumps({"id": n, "prompt": p}) + b"\n" for n, p in enumerate(prompts)))
    said = lines(run("--jsonl", str(file)))

    last = Predictor.load().predict(Prompt(prompts[-1]))
    assert list(range(BATCH + 3)) == [line["id"] for line in said]
    assert round(last.score, 6) == said[-1]["score"]


def test_an_id_comes_back_as_it_was() -> None:
    """Any text or whole number, however large."""
    ids: list[object] = ["", "größe", "7", -1, 2**64, 10**30]
    sent = b"\n".join(msgspec.json.encode({"id": each, "prompt": "hi"}) for each in ids)
    said = run("--jsonl", "-", stdin=sent)

    assert ids == [msgspec.json.decode(line)["id"] for line in said.stdout_bytes.splitlines()]


def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    """`| head -1` is no fault of the file: nothing is said of it."""
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(b'{"id":1,"prompt":"hi"}\n' * 10 * BATCH)
    command = [sys.executable, "-m", "gateway", "classify", "--jsonl", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as judging:
        assert judging.stdout is not None
        assert judging.stderr is not None
        first = judging.stdout.readline()
        judging.stdout.close()
        said = judging.stderr.read()

    assert orjson.loads(first)["id"] == 1
    assert said == b""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of one's own: the bundle of a tiny network."""
    home = tmp_path_factory.mktemp("own")
    examples = make_examples() + dataset.load(None, write_own(home))
    return make_tiny(make_tokenizer(), examples, home / "bundle").directory


A, B, C = "Who wrote the river song?", "and in 1990?", "<date-today>9</date-today> write code"
AFTER_A = Prompt(B, before=A, turns=2)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"turns": [A, B]}, AFTER_A),
        ({"turns": [A, B], "prompt": B}, AFTER_A),
        ({"turns": [A], "prompt": B}, AFTER_A),
        ({"turns": [A, B, C], "prompt": B}, AFTER_A),
        ({"turns": [A, B, C], "prompt": A}, Prompt(A)),
        ({"turns": [A, B, C]}, Prompt("write code", before=B, turns=3)),
        ({"prompt": A}, Prompt(A)),
        ({"prompt": C}, Prompt("write code")),
        ({}, Prompt("")),
        ({"prompt": "", "turns": []}, Prompt("")),
    ],
    ids=[
        "turns alone", "the last turn", "after the turns", "inside of the turns", "the first turn", "enveloped turns",
        "alone", "enveloped", "nothing", "empty",
    ],
)
def test_what_is_asked(own: Path, line: dict[str, object], expected: Prompt) -> None:
    """A prompt inside of the turns is asked there, one after them follows them; without one the last turn is asked."""
    verdict = Predictor.load(own).predict(expected)
    (said,) = lines(run("--bundle", str(own), "--jsonl", "-", stdin=orjson.dumps({"id": 1, **line}) + b"\n"))

    assert round(verdict.p_cheap, 6) == said["p_cheap"]
    assert round(verdict.score, 6) == said["score"]
    assert verdict.task == said["task"]


def test_a_classifier_of_ones_own(own: Path) -> None:
    """`--bundle` judges with the classifier in that directory, texts as well as lines."""
    verdict = Predictor.load(own).predict(Prompt("write code"))
    shown = run("--bundle", str(own), C).stdout

    assert shown.startswith(f"score {verdict.score:.3f}  p_cheap {verdict.p_cheap:.3f}  {verdict.task} ")


@pytest.mark.parametrize("what", ["missing", "empty", "spoilt"])
def test_a_classifier_that_cannot_serve(own: Path, tmp_path: Path, what: str) -> None:
    """A directory that holds no whole classifier: exit 2, and the file at fault by name; nothing is judged."""
    home = tmp_path / "bundle"
    if what != "missing":
        home.mkdir()
    if what == "spoilt":
        shutil.copytree(own, home, dirs_exist_ok=True)
        (home / "heads.npy").unlink()
    result = run("--bundle", str(home), "hello")

    assert 2 == result.exit_code
    assert ("heads.npy" if what == "spoilt" else "manifest.json") in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"not json", "JSON is malformed"),
        (b"[1]", "Expected `object`"),
        (b'{"prompt":"no id"}', "missing required field `id`"),
        (b'{"id":1,"prompt":5}', "Expected `str`"),
        (b'{"id":1,"prompt":"\xff"}', "utf-8"),
    ],
    ids=["not JSON", "not an object", "no id", "wrong type", "not UTF-8"],
)
def test_a_bad_line_is_named(line: bytes, what: str) -> None:
    """A line that cannot be read is named by its number, with what is expected; exit 2."""
    result = run("--jsonl", "-", stdin=b'{"id":1,"prompt":"good"}\n' + line + b"\n")

    assert 2 == result.exit_code
    assert "line 2" in result.stderr
    assert what in result.stderr
    assert "hint: every line is an object" in result.stderr


def test_a_missing_file_is_named() -> None:
    """A file that is not there: exit 2, with a hint."""
    result = run("--jsonl", "nowhere.jsonl")

    assert 2 == result.exit_code
    assert "nowhere.jsonl cannot be read" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["text", "--jsonl", "-"]], ids=["neither", "both"])
def test_text_or_file(arguments: list[str]) -> None:
    """Exactly one of TEXT and --jsonl is given."""
    result = run(*arguments)

    assert 2 == result.exit_code
    assert "give TEXT, or --jsonl FILE" in result.output
