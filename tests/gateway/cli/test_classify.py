"""`thriftgate classify`: a contract that other people's scripts rely on."""

import subprocess
import sys
from pathlib import Path

import msgspec
import orjson
import pytest
from click.testing import CliRunner, Result

from classifier.predict import TASKS, Predictor, Prompt
from gateway.cli.classify import BATCH, command


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


def test_turns_stand_for_the_conversation() -> None:
    """With `turns` and no prompt the last turn is what is asked, and their number counts."""
    expected = Predictor.load().predict(Prompt("and in 1990?", turns=2))
    said = lines(run("--jsonl", "-", stdin=b'{"id":1,"turns":["Who ruled France in 1980?","and in 1990?"]}\n'))

    assert round(expected.p_cheap, 6) == said[0]["p_cheap"]


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
