"""Our own set: the checks it must pass, how far two readers agree on it, what measured outcomes say, and its card.

    python -m classifier.training.own --data ../shared/data     # rewrites data/CARD.md, exit 1 if a check fails

With `--data` the readers' scale is fitted anew to the outcomes there (readers.Scale) and written beside the card.

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

import msgspec
import numpy as np
import numpy.typing as npt

from classifier.training import card, dataset, measure, readers
from classifier.training.dataset import MEASURED, OWN, OWN_FILES, SCALE, SECOND, Example
from classifier.training.measure import Vector

ALIKE = 0.5
RUN = 4
BUSY = 60  # a run of words that this many prompts share says nothing
CARD = "CARD.md"
# The models saw options here that neither the file nor the readers have: of no use for the scale.
WITHOUT_OPTIONS = {"uiuc:mmlu", "uiuc:openbook_qa", "uiuc:commonsense_qa"}

Parts = dict[str, list[dict[str, Any]]]

INTRODUCTION = """\
# Data card: our own set

Prompts written for Thriftgate and judged one at a time by reading them, in two parts: *definite* questions, which have
an answer, and *chat products as people type*. What the labels mean is fixed in [RUBRIC.md](RUBRIC.md), the format in
[README.md](README.md). Licence: Apache-2.0, like the rest of the repository; nothing in it comes from a public
benchmark or from a user. Rendered by `python -m classifier.training.own`; no figure here is typed by hand.

The labels are judgements of what models do, tied to outcomes by one line (below). They are worth most where an answer
is definite; on open chat they are taken lightly (a smaller share of a batch). English leads by far. Answers were worked
out while writing, and help a reader to judge; nothing is trained on them, and some are surely wrong."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Check, measure, write the card."""
    options = _options(arguments)
    rows = {name: dataset.rows(options.own / name) for name in OWN_FILES}
    every = [row for part in rows.values() for row in part]
    others = [example for example in dataset.load(options.data, options.own) if not example.own]
    found = faults(every, (example.text for example in others))
    if scale := measured_scale(options.own, others):
        (options.own / SCALE).write_bytes(msgspec.json.format(msgspec.json.encode(scale), indent=1) + b"\n")
    text = render(options.own)
    (options.own / CARD).write_text(text, encoding="utf-8")
    print(text)
    for fault in found:
        print(fault, file=sys.stderr)
    sys.exit(1 if found else 0)


def measured_scale(own: Path, outcomes: Iterable[Example]) -> readers.Scale | None:
    """The line from what readers said of prompts of outcome files to what was measured; None where they read none."""
    known = {example.name: example for example in outcomes if example.weak is not None}
    readings = dataset.readings(own, MEASURED)
    every = [row for name in OWN_FILES for row in dataset.rows(own / name)]
    levels = readers.on_one_scale(every, dataset.readings(own, SECOND), readings).measured
    names = [(row["source"], row["id"]) for row in readings]
    seen = [(known[name], level) for name, level in zip(names, levels, strict=True) if name in known]
    if not seen:
        return None
    groups = np.array([example.group for example, _ in seen])
    said = np.array([level for _, level in seen])
    weak, strong = (np.array([getattr(e, side) for e, _ in seen], np.float64) for side in ("weak", "strong"))
    whole = ~np.isin(groups, list(WITHOUT_OPTIONS))
    scale = readers.Scale(*readers.fit_scale(said[whole, 0], 1 - weak[whole], groups[whole].tolist()))

    def about(name: str) -> dict[str, Any]:
        here = groups == name
        gained = strong[here].mean() - weak[here].mean() >= measure.SMALLEST_GAP
        return {
            "source": name,
            "rows": int(here.sum()),
            "failed": round(float(1 - weak[here].mean()), 3),
            "judged": round(float(readers.chances(said[here, 0]).mean()), 3),
            "scaled": round(float(np.mean([scale.chances(level)[0] for level in said[here]])), 3),
            "order_of_failures": round(measure.spearman(said[here, 0], 1 - weak[here]), 3),
            "order_of_premium": round(measure.spearman(said[here, 1], strong[here]), 3),
            **(_ranked(readers.chances(said[here]).prod(1), weak[here], strong[here]) if gained else {}),
        }

    return msgspec.structs.replace(scale, sources=tuple(about(str(name)) for name in np.unique(groups)))


def _ranked(needed: Vector, weak: Vector, strong: Vector) -> dict[str, Any]:
    """How well "premium is needed" as judged, fails times rescue, ranks what premium was measured to add."""
    return {
        "apgr": round(measure.apgr(needed, weak, strong), 3),
        "apgr_interval": [round(x, 3) for x in measure.interval(measure.apgr, needed, weak, strong)],
    }


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


def agreement(parts: Parts, second: Sequence[dict[str, Any]], levels: readers.Levels) -> list[list[Any]]:
    """By part: how far the second, independent reading agrees with the first, both without severity."""
    every = [row for rows in parts.values() for row in rows]
    again = levels.again
    tasks = {row["id"]: row["task"] for row in second}
    first = {row["id"]: level for row, level in zip(every, levels.first, strict=True)}
    table = []
    for name, rows in parts.items():
        twice = [row for row in rows if row["id"] in again]
        if not twice:
            continue
        pairs = np.array([[first[row["id"]], again[row["id"]]] for row in twice])
        fails, rescue = readers.chances(pairs).transpose(2, 1, 0)
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


def render(own: Path) -> str:
    """The card of the set in a directory."""
    parts = {name: dataset.rows(own / name) for name in OWN_FILES}
    second = dataset.readings(own, SECOND)
    every = [row for rows in parts.values() for row in rows]
    levels = readers.on_one_scale(every, second, dataset.readings(own, MEASURED))
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
            agreement(parts, second, levels),
        ),
        f"Severity of the readers (fails, log-odds above the common scale): {_severity(every, levels)}.",
        *_against_outcomes(readers.read_scale(own / SCALE)),
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


def _severity(rows: Sequence[dict[str, Any]], levels: readers.Levels) -> str:
    """How strictly each first reader judges."""
    found = {
        readers.reader(row): readers.odds(row)[0] - level[0] for row, level in zip(rows, levels.first, strict=True)
    }
    return ", ".join(f"{name} {value:+.2f}" for name, value in sorted(found.items()))


def _against_outcomes(scale: readers.Scale) -> list[str]:
    """What readers said of prompts of outcome files, beside what was measured; nothing where nobody read any."""
    if not scale.sources:
        return []
    rows = [
        [
            source["source"] + (" (no options)" if source["source"] in WITHOUT_OPTIONS else ""),
            source["rows"],
            *(f"{source[name]:.2f}" for name in ("failed", "judged", "scaled")),
            *(f"{source[name]:.2f}" for name in ("order_of_failures", "order_of_premium")),
            "{:.3f} [{:.2f}, {:.2f}]".format(source["apgr"], *source["apgr_interval"]) if "apgr" in source else "-",
        ]
        for source in scale.sources
    ]
    head = ["source", "rows read", "cheap failed", "as judged", "on the scale", "order of fails", "order of rescue"]
    head += ["APGR [95 %]"]
    return [
        "## Against measured outcomes",
        "Readers also judged prompts of outcome files, which they had not seen, among ours (`measured.jsonl`). The "
        f"line in log-odds, measured = {scale.shift:+.2f} {scale.slope:+.2f} · judged, turns every label *fails* of "
        "the set into the chance that is trained on. *Order*: rank correlation of fails with cheap's failures, and of "
        "rescue with premium's successes, within the source. *APGR*: of fails times rescue, what a router "
        "that judged as they do would recover (random .500). Sources without options do not count for the line.",
        card.table(head, rows),
    ]


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
