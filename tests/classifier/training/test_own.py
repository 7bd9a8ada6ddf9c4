"""Our own set: well-formed however long it is, and its card the figures that are in it."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from classifier.features import TASKS
from classifier.training import dataset, own, readers
from classifier.training.boards import read_probes
from classifier.training.labels import KINDS, SKILLS

ROLES = {"system", "developer", "user", "assistant", "tool"}
FIELDS = {"id", "prompt", "messages", "answer", "fails", "rescue", "task", "skills", "kind", "lang", "area"}


def row(name: str, text: str, **more: Any) -> dict[str, Any]:
    """A row of the set."""
    judged = {"fails": 0.5, "rescue": 0.5, "task": "chat", "skills": ["style"], "lang": "en", "area": "a"}
    return {"id": name, "prompt": text, **judged, **more}


@pytest.fixture(scope="module")
def shipped() -> list[dict[str, Any]]:
    """Every row of the set that is shipped."""
    return [row for name in dataset.OWN_FILES for row in dataset.rows(dataset.OWN / name)]


class TestShipped:
    """What every row of the shipped set must be, however many there are."""

    def test_fields(self, shipped: list[dict[str, Any]]) -> None:
        """No field that the format does not know; a prompt or a conversation, never both."""
        assert {key for row in shipped for key in row} <= FIELDS
        assert [row["id"] for row in shipped if ("prompt" in row) == ("messages" in row)] == []

    def test_words_of_the_rubric(self, shipped: list[dict[str, Any]]) -> None:
        """Tasks, skills (one to three, none twice) and kinds are the rubric's."""
        assert {row["task"] for row in shipped} <= set(TASKS)
        assert {row.get("kind", "first") for row in shipped} <= set(KINDS)
        assert {skill for row in shipped for skill in row["skills"]} <= set(SKILLS)
        assert {len(row["skills"]) for row in shipped} <= {1, 2, 3}
        assert [row["id"] for row in shipped if len(set(row["skills"])) < len(row["skills"])] == []

    def test_numbers(self, shipped: list[dict[str, Any]]) -> None:
        """Both judgements are chances."""
        assert [row["id"] for row in shipped if not 0 <= row["fails"] <= 1 or not 0 <= row["rescue"] <= 1] == []

    def test_texts(self, shipped: list[dict[str, Any]]) -> None:
        """Every row says something, in roles that are read, and something else than instructions."""
        said = [(row["id"], message) for row in shipped for message in row.get("messages", [["user", "x"]])]

        assert [row["id"] for row in shipped if not own.text_of(row).strip()] == []
        assert [name for name, message in said if len(message) != 2 or message[0] not in ROLES] == []
        assert [name for name, (role, words) in said if role == "user" and not words.strip()] == []
        for row in shipped:
            roles = {role for role, _ in row.get("messages", [["user", "x"]])}
            assert roles - {"system", "developer"}, row["id"]

    def test_languages_and_areas(self, shipped: list[dict[str, Any]]) -> None:
        """A language code, and a word or two for the area."""
        assert [row["id"] for row in shipped if not re.fullmatch(r"[a-z]{2,3}", row["lang"])] == []
        assert [row["id"] for row in shipped if not row["area"].strip()] == []

    def test_no_two_are_alike(self, shipped: list[dict[str, Any]]) -> None:
        """Ids and texts are there once, near-duplicates not at all."""
        texts = [" ".join(own.text_of(row).lower().split()) for row in shipped]

        assert own.faults(shipped) == []
        assert len(set(texts)) == len(texts)

    def test_probes_are_not_in_it(self, shipped: list[dict[str, Any]]) -> None:
        """The probes are measured and never trained on."""
        probes = [row(f"probe {n}", text) for n, (_, text) in enumerate(read_probes())]

        assert own.faults(probes, map(own.text_of, shipped)) == []

    def test_second_readings(self, shipped: list[dict[str, Any]]) -> None:
        """Each is of a row that there is, once, with chances and a task."""
        again = dataset.rows(dataset.OWN / dataset.SECOND)

        assert {row["id"] for row in again} <= {row["id"] for row in shipped}
        assert len({row["id"] for row in again}) == len(again)
        assert {row["task"] for row in again} | {row.get("decided", "math") for row in again} <= set(TASKS)
        assert [row["id"] for row in again if not 0 <= row["fails"] <= 1 or not 0 <= row["rescue"] <= 1] == []

    def test_the_card_is_rendered(self) -> None:
        """Nobody has typed into the shipped card: it is what the files render to."""
        assert (dataset.OWN / own.CARD).read_text(encoding="utf-8") == own.render(dataset.OWN)

    def test_readings_of_measured_prompts(self) -> None:
        """Each prompt was read once; chances; and the scale rests on as many as could be joined to outcomes."""
        read = dataset.readings(dataset.OWN, dataset.MEASURED)
        scale = readers.read_scale(dataset.OWN / dataset.SCALE)

        assert len({(row["source"], row["id"]) for row in read}) == len(read) > 5_000
        assert [row["id"] for row in read if not 0 <= row["fails"] <= 1 or not 0 <= row["rescue"] <= 1] == []
        assert 5_000 < sum(source["rows"] for source in scale.sources) <= len(read)


@pytest.mark.parametrize(
    ("rows", "others", "expected"),
    [
        ([row("d-1", "one river"), row("d-2", "another river")], (), []),
        ([row("d-1", "one"), row("d-1", "two"), row("d-1", "three")], (), ["d-1 is there 3 times"]),
        ([row("d-1", "Where is THE river?"), row("d-2", "where is the\nriver")], (), ["d-1 is nearly d-2"]),
        ([row("d-1", "a b c d e f"), row("d-2", "a b c d e g")], (), []),
        ([row("d-1", "a b c d e f g"), row("d-2", "a b c d e f h")], (), ["d-1 is nearly d-2"]),
        ([row("d-1", "where is the river")], ["Where is the river?", "x"], ["d-1 is nearly an outcome file"]),
        ([row("d-1", "x")], ["where is the river", "where is the river"], []),
    ],
    ids=["different", "ids", "the same", "half alike", "more than half alike", "an outcome", "outcomes alone"],
)
def test_faults(rows: Sequence[dict[str, Any]], others: Sequence[str], expected: list[str]) -> None:
    """An id that is there twice and a near-duplicate are named, whichever set the other one is of."""
    assert own.faults(rows, others) == expected


def test_conversations_are_compared_as_one_text() -> None:
    """What a conversation says in all its turns is its text."""
    said = [["user", "where is the"], ["assistant", "old"], ["user", "river of stones"]]
    talk = row("c-1", "") | {"messages": said}
    del talk["prompt"]

    assert own.text_of(talk) == "where is the\nold\nriver of stones"
    assert own.faults([talk, row("d-1", "where is the old river of stones")]) == ["c-1 is nearly d-1"]


def test_agreement() -> None:
    """By part, of the rows that were read twice: share, rank correlations, separation and tasks, worked out by hand."""
    parts = {
        f"{name}.jsonl": [row(f"{name}-{n}", f"{name} {n}", fails=n / 10, rescue=0.9) for n in range(1, 10)]
        for name in ("definite", "chat")
    }
    again = {"reader": "r", "rescue": 0.9}
    second = [{"id": f"definite-{n}", "fails": n / 10, "task": "chat", **again} for n in range(1, 10)]
    second += [{"id": f"chat-{n}", "fails": 1 - n / 10, "task": "code", **again} for n in (1, 9)]

    every = [each for rows in parts.values() for each in rows]

    assert own.agreement(parts, second, readers.on_one_scale(every, second)) == [
        ["definite", 9, "100%", "1.00", "1.00", "1.000", "1.000", "100%"],
        ["chat", 2, "22%", "-1.00", "-1.00", "0.000", "0.000", "0%"],
    ]
    assert own.agreement(parts, [], readers.on_one_scale(every, [])) == []


def run(directory: Path, *arguments: str) -> int | str | None:
    """Run the command and return its exit status."""
    with pytest.raises(SystemExit) as ended:
        own.main(["--own", str(directory), *arguments])
    return ended.value.code


def test_command(own_directory: Path, data_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It checks the rows against each other and the outcome files, writes the card and prints it; a fault is exit 1."""
    home = Path(shutil.copytree(own_directory, tmp_path / "own"))
    plain = [row(f"d-{n}", f"{n} rivers of {n + 1} stones each") for n in range(30)]
    rows = [*plain, row("d-30", "the river of 7 stones A one B two", fails=0.1)]
    (home / "definite.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    (home / "chat.jsonl").write_bytes(b"")
    second = [{"id": f"d-{n}", "reader": "r", "fails": n / 30, "rescue": 0.5, "task": "chat"} for n in range(30)]
    (home / dataset.SECOND).write_bytes(b"\n".join(map(orjson.dumps, second)))

    assert run(home) == 0
    assert run(home, "--data", str(data_directory)) == 1
    said = capsys.readouterr()
    card = (home / own.CARD).read_text(encoding="utf-8")
    assert said.err == "d-30 is nearly an outcome file\n"
    assert card in said.out
    assert "| definite | 31 | 1 | 1 | 0 | 0 | 3 % | 0 % | 97 % |" in card
    assert "| chat | 0 | 0 | 0 | 0 | 0 | 0 % | 0 % | 0 % |" in card
    assert "30 rows (97%) were read a second time" in card


def test_the_scale_is_fitted_to_outcomes(own_directory: Path, data_directory: Path, tmp_path: Path) -> None:
    """With readings of prompts whose outcomes are there, the line is written and the card says what it rests on."""
    home = Path(shutil.copytree(own_directory, tmp_path / "own"))
    rows = [example for example in dataset.load(data_directory, home) if example.weak is not None]
    chosen = [example for example in rows if example.group == rows[0].group]
    readings = [
        {"source": source, "id": name, "reader": "r", "fails": (1 - (e.weak or 0)) / 2, "rescue": e.strong}
        for e in chosen
        for source, name in [e.name]
    ]
    (home / dataset.MEASURED).write_bytes(b"\n".join(map(orjson.dumps, readings)))

    run(home, "--data", str(data_directory))
    scale = readers.read_scale(home / dataset.SCALE)
    (source,) = scale.sources

    assert scale.shift > 0
    assert source["rows"] == len(chosen)
    assert source["judged"] < source["failed"] == pytest.approx(source["scaled"], abs=0.1)
    assert source["order_of_failures"] > 0.9
    assert f"| {source['source']} | {len(chosen)} |" in (home / own.CARD).read_text(encoding="utf-8")
