"""Our own set: the checks it must pass, how far two readers agree on it, and its card.

    python -m classifier.training.own --data ../shared/data     # rewrites data/CARD.md, exit 1 if a check fails

Two prompts are near-duplicates when they share more than `ALIKE` of their runs of four words (Jaccard), the usual
measure of near-duplicate web pages (Broder 1997). Rows of outcome files, where `--data` names them, count as others'.
"""

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.training import card, dataset, measure, readers
from classifier.training.dataset import OWN, OWN_FILES, SECOND

ALIKE = 0.5
RUN = 4
BUSY = 60  # a run of words that this many prompts share says nothing
CARD = "CARD.md"

Parts = dict[str, list[dict[str, Any]]]

INTRODUCTION = """\
# Data card: our own set

Prompts written for Thriftgate and judged one at a time by reading them, in two parts: *definite* questions, which have
an answer, and *chat products as people type*. What the labels mean is fixed in [RUBRIC.md](RUBRIC.md), the format in
[README.md](README.md). Licence: Apache-2.0, like the rest of the repository; nothing in it comes from a public
benchmark or from a user. Rendered by `python -m classifier.training.own`; no figure here is typed by hand.

The labels are judgements of what models do, not outcomes. They are worth most where an answer is definite; on open chat
they are taken lightly (a smaller share of a batch). English leads by far. Answers were worked out while writing, and
help a reader to judge; nothing is trained on them, and some are surely wrong."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Check, measure, write the card."""
    options = _options(arguments)
    rows = {name: dataset.rows(options.own / name) for name in OWN_FILES}
    every = [row for part in rows.values() for row in part]
    others = [example.text for example in dataset.load(options.data, options.own) if not example.own]
    found = faults(every, others)
    text = render(rows, dataset.rows(options.own / SECOND))
    (options.own / CARD).write_text(text, encoding="utf-8")
    print(text)
    for fault in found:
        print(fault, file=sys.stderr)
    sys.exit(1 if found else 0)


def text_of(row: dict[str, Any]) -> str:
    """A row's prompt, a conversation as one text."""
    return row["prompt"] if "prompt" in row else "\n".join(words for _, words in row["messages"])


def faults(rows: Sequence[dict[str, Any]], others: Iterable[str] = ()) -> list[str]:
    """What is wrong: an id twice, or a near-duplicate among the rows or with `others`."""
    counts = Counter(row["id"] for row in rows)
    found = [f"{name} is there {count} times" for name, count in counts.items() if count > 1]
    names = [row["id"] for row in rows]
    runs = [_runs(text_of(row)) for row in rows]
    for text in others:
        names.append("an outcome file")
        runs.append(_runs(text))
    return found + [f"{names[a]} is nearly {names[b]}" for a, b in _alike(runs, len(rows))]


def agreement(parts: Parts, second: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """By part: how far the second, independent reading agrees with the first, both on one scale."""
    every = [row for rows in parts.values() for row in rows]
    first, again = readers.on_one_scale(every, second)
    tasks = {row["id"]: row["task"] for row in second}
    levels = {row["id"]: level for row, level in zip(every, first, strict=True)}
    table = []
    for name, rows in parts.items():
        twice = [row for row in rows if row["id"] in again]
        if not twice:
            continue
        pairs = [readers.chances(np.array([levels[row["id"]], again[row["id"]]])) for row in twice]
        fails, rescue = np.array(pairs).transpose(2, 1, 0)
        need = fails * rescue
        table.append(
            [
                name.removesuffix(".jsonl"),
                len(twice),
                f"{len(twice) / len(rows):.0%}",
                *(f"{measure.spearman(*label):.2f}" for label in (fails, need)),
                *(_separated(label) for label in (fails, need)),
                f"{np.mean([row['task'] == tasks[row['id']] for row in twice]):.0%}",
            ]
        )
    return table


def _separated(label: npt.NDArray[np.float64]) -> str:
    """AUC of the first reading for "at least .5 in the second one"."""
    high = (label[1] >= 0.5).astype(np.float64)
    return f"{measure.auc(label[0], high):.3f}" if 0 < high.mean() < 1 else "-"


def render(parts: Parts, second: Sequence[dict[str, Any]]) -> str:
    """The card."""
    every = [row for rows in parts.values() for row in rows]
    counts = {key: Counter(row.get(key, "first") for row in every) for key in ("task", "kind", "lang")}
    skills = Counter(skill for row in every for skill in row["skills"])
    sizes = [
        [
            name.removesuffix(".jsonl"),
            len(rows),
            len({row["area"] for row in rows}),
            len({row["lang"] for row in rows}),
            sum("messages" in row for row in rows),
            sum("answer" in row for row in rows),
            *(f"{100 * share:.0f} %" for share in _spread([row["fails"] for row in rows])),
        ]
        for name, rows in parts.items()
    ]
    head = ["part", "rows", "areas", "languages", "conversations", "with an answer"]
    sections = [
        INTRODUCTION,
        card.table([*head, "fails below .2", ".2 to .5", ".5 and more"], sizes),
        *(
            f"**{title}**: " + ", ".join(f"{name} {count:,}" for name, count in counted.most_common())
            for title, counted in (
                ("Tasks", counts["task"]),
                ("Skills", skills),
                ("Turn kinds", counts["kind"]),
                ("Languages", counts["lang"]),
            )
        ),
        f"## Agreement\n\n{len(second):,} rows ({len(second) / max(1, len(every)):.0%}) were read a second time by "
        "readers who saw the rubric and the prompt and nothing else: nearly every held-out row is among them. Readers "
        "agree on the order, and differ in how strictly they judge; that is measured across batches and taken out "
        "(`classifier/training/readers.py`). Both columns below are after that; the label of a row that was read twice "
        "is the mean.",
        card.table(
            [
                "part",
                "read twice",
                "share",
                "fails: rank correlation",
                "need: rank correlation",
                "AUC, fails ≥ .5",
                "AUC, need ≥ .5",
                "same task",
            ],
            agreement(parts, second),
        ),
        f"Severity of the readers (fails, log-odds above the common scale): {_severity(every, second)}.",
        f"{len(faults(every))} pairs of rows share more than {ALIKE:.0%} of their runs of {RUN} words.",
    ]
    return "\n\n".join(sections) + "\n"


def _runs(text: str) -> set[tuple[str, ...]]:
    """The runs of four words of a text; a shorter text is one run."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + RUN]) for start in range(max(1, len(words) - RUN + 1))}


def _alike(runs: Sequence[set[tuple[str, ...]]], ours: int) -> list[tuple[int, int]]:
    """Pairs, one side among the first `ours`, that share more than `ALIKE` of their runs."""
    where: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, each in enumerate(runs):
        for run in each:
            where[run].append(index)
    found = []
    for index in range(ours):
        shared = Counter(
            other for run in runs[index] if len(where[run]) < BUSY for other in where[run] if other > index
        )
        for other, count in shared.items():
            if count > ALIKE * len(runs[index] | runs[other]):
                found.append((index, other))
    return found


def _severity(rows: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> str:
    """How strictly each first reader judges."""
    first, _ = readers.on_one_scale(rows, second)
    found = {readers.reader(row): readers.odds(row)[0] - level[0] for row, level in zip(rows, first, strict=True)}
    return ", ".join(f"{name} {value:+.2f}" for name, value in sorted(found.items()))


def _spread(values: Sequence[float]) -> list[float]:
    """Shares below .2, up to .5, and above."""
    column = np.array(values)
    if not len(column):
        return [0.0, 0.0, 0.0]
    return [float(part.mean()) for part in (column < 0.2, (column >= 0.2) & (column < 0.5), column >= 0.5)]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Check our own set and write its card.")
    parser.add_argument("--own", type=Path, default=OWN, help="directory of the judged prompts")
    parser.add_argument("--data", type=Path, help="directory of outcome files, for near-duplicates with them")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
