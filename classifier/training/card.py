"""The model card, rendered from the manifest. Nobody types a number: change the measurement, not the text."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from classifier import bundle
from classifier.bundle import Manifest

RELIABILITY = "reliability.svg"
BUDGET_MS = 1.0  # at 64 tokens, p50: what the shipped network may take

INTRODUCTION = """\
# Thriftgate's classifier

Reads what the user asks last (head and tail, at most 128 tokens, without what a client program put around it), a little
of what came before, and a few structural counts; gives a `score` (higher: more in need of premium), `p_cheap` (the
chance that a cheap-tier answer is as good as a premium one's), a task and an embedding. Rendered by `make evaluate`
from `manifest.json`; no figure here is typed by hand."""

LIMITS = """\
## Limits

- No prompt-only router knows much: on unseen sources expect a fraction of what an oracle would gain. The thresholds a
  route earns from its own audits matter more than this score.
- Our own set carries the careful judgement of readers, its scale tied to measured outcomes (the data card shows how).
  Readers who see a prompt order it better than this network does, on every source with its options (`order of
  failures` beside the data card's `order of fails`): what limits the ranking of unseen sources is not the labels but
  what can be read off a prompt in a millisecond; all six layers of the base do hardly better there (the frontier).
- What premium adds on exams is another order than difficulty: the hardest questions are lost to both models. Readers
  who judged the same questions with care rank by it no better than random on most sources (`APGR` in the data card),
  and better than this network on two: word problems of school maths, and code whose output is asked for.
- The task of a prompt is the same to two readers in nine cases of ten and more (the data card). Over all rows, other
  languages included, this network is below that and below .85: three times as many steps, six hundred more prompts in
  other languages, or n-grams beside it did not change that (2026-11); what does is more layers (the frontier).
- The two numbers that tie our labels to outcomes are fitted to all files, left-out ones among them. Being one rising
  line, they order nothing.
- The ranking boards show questions without options and fixed instructions. "Saved" takes RouteLLM's pair of prices and
  calls of equal length; AUC there is against soft chances, so that even an oracle stays below 1.
- What it costs to have our own set alone is the difference between the tables of left-out sources and of our own set
  alone: on sources that neither has seen, hardly anything.
- Outcomes are of 2023-2024 models, mostly English. Left-out figures come from shorter trainings than the shipped one.
- `p_cheap` is calibrated on half of the held-out rows and measured on the other half. Other traffic has other rates:
  `thriftgate train` fits the heads to your own.
- Tool results are not read, only counted.

## Retrain

`make train` rebuilds this bundle from the data directory in one command (`DATA=` for our own set alone),
`make evaluate` measures it and rewrites this card, `thriftgate train --from FILE` fits the heads to your own outcomes.
The format of outcome files and the data card: `classifier/training/data/README.md`."""

REGIMES = (
    ("left_out", "Ranking, source left out of training"),
    ("own_alone", "Ranking, trained on our own set alone: every source unseen"),
    ("never_trained", "Ranking, share-alike sources, never trained on (the shipped network)"),
    ("in_sample", "Ranking, in-sample: its own training sources (an upper bound, not evidence)"),
)


def render(manifest: Manifest, sizes: Mapping[str, int]) -> str:
    """The card of `manifest`; `sizes` are the files' bytes."""
    made, metrics = manifest.provenance, manifest.metrics
    boards = metrics.get("boards", {})
    parts = [INTRODUCTION, _bundle(manifest, sizes)]
    sections: dict[str, Callable[[], str]] = {
        "latency": lambda: _latency(boards),
        "held_out": lambda: _held_out(boards["held_out"]),
        "robust": lambda: _robust(boards["robust"], boards["stuffed"], boards["embedding"]),
        "anchors": lambda: _sides(manifest, boards),
        "frontier": lambda: _frontier(boards["frontier"]),
    }
    parts += [section() for name, section in sections.items() if name in boards]
    steps = f" (networks of {boards['left_out_steps']} steps)" if "left_out_steps" in boards else ""
    parts += [_ranking(f"{title}{steps}", boards[name]) for name, title in REGIMES[:2] if boards.get(name)]
    parts += [_ranking(title, boards[name]) for name, title in REGIMES[2:] if boards.get(name)]
    parts += [_parity(metrics["parity"])] if "parity" in metrics else []
    parts += [LIMITS, _sources(made)]
    return "\n\n".join(parts) + "\n"


def _bundle(manifest: Manifest, sizes: Mapping[str, int]) -> str:
    """What it is."""
    made = manifest.provenance
    shape, origin = made["network"], made["base"]
    total = sum(sizes.values()) / 1e6
    lines = [
        ["identity", f"`{bundle.digest(manifest)}`, features {manifest.feature_version}, trained {made['date']}"],
        ["files", f"{', '.join(f'{name} {size / 1e6:.2f} MB' for name, size in sizes.items())}; {total:.2f} MB in all"],
        [
            "network",
            f"{shape['layers']} layers of {shape['width']}, feed-forward {shape['inner']}, "
            f"{shape['vocabulary']:,} word pieces, int8",
        ],
        ["base weights", f"{origin['name']} ({origin['licence']}), lower layers, vocabulary pruned"],
        ["tasks", ", ".join(manifest.tasks)],
        ["default threshold", f"cheap iff p_cheap ≥ {manifest.default_threshold:.2f}"],
        ["training", f"`{made['command']}`, {manifest.metrics.get('training_s', 'unknown')} s"],
        ["versions", ", ".join(f"{name} {number}" for name, number in made["versions"].items())],
    ]
    return table(["", ""], lines)


def _latency(boards: Mapping[str, Any]) -> str:
    """How fast it is, and where that was measured."""
    rows = [[row["name"], f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}"] for row in boards["latency"]]
    note = (
        f"Tokenising included, one thread, {boards['machine']} (shared cores). "
        f"Short prompts through `predict_many`: {boards['short_prompts_per_s']:,} a second."
    )
    return f"## Latency\n\n{note}\n\n{table(['prompt', 'p50 ms', 'p99 ms'], rows)}"


def _sides(manifest: Manifest, boards: Mapping[str, Any]) -> str:
    """Who goes where at the default threshold."""
    rows = [
        [row["source"], row["rows"], _percent(row["cheap"]), row["held_out_rows"], _percent(row["held_out_cheap"])]
        for row in boards["anchors"]
    ]
    head = ["source", "rows", "sent cheap", "of them held out", "sent cheap"]
    probes = boards["probes"]
    confusion = [
        [f"should be {side}", *(counts[given] for given in ("cheap", "premium"))]
        for side, counts in probes["confusion"].items()
    ]
    wrong = [[row["expected"], f"{row['p_cheap']:.2f}", _cell(row["prompt"])] for row in probes["wrong"]]
    parts = [
        f"## Sides at the default threshold {manifest.default_threshold:.2f}",
        table(head, rows),
        "Probe prompts, written for this project and never trained on:",
        table(["", "sent cheap", "sent premium"], confusion),
    ]
    if wrong:
        parts += ["On the wrong side:", table(["expected", "p_cheap", "prompt"], wrong)]
    return "\n\n".join(parts)


def _held_out(row: Mapping[str, Any]) -> str:
    """Our own set: AUC, task and calibration."""
    ranks = [
        [name, *(f"{found[name]:.3f}{_bounds(row, side, name)}" for side, found in row["auc"].items()), f"{rho:+.2f}"]
        for name, rho in row["spearman"].items()
    ]
    head = ["ranked by", *(f"AUC, {side}" for side in row["auc"]), "rank correlation with judged p_cheap"]
    lines = [[f"{predicted:.2f}", f"{actual:.2f}", _percent(share)] for predicted, actual, share in row["reliability"]]
    recall = [[task, _percent(share), count] for task, (share, count) in row["task_recall"].items()]
    return "\n\n".join(
        [
            "## Our own set, rows held out",
            f"{row['definite_rows']} definite questions. Cheap fails, premium needed: judged as likelier than not. "
            "Random ranks at .500.",
            table(head, ranks),
            "AUC by where one draws the line: "
            + ", ".join(
                f"need ≥ {cut:.2f} ({_percent(share)} of the rows) {auc:.3f}" for cut, share, auc in row["cuts"]
            )
            + ".",
            f"Task: {_percent(row['task_accuracy'])} of {row['rows']} rows, "
            f"{_percent(row['task_accuracy_definite'])} of the definite ones, "
            f"{_percent(row['task_accuracy_english'])} of those in English: the base network knows little else.",
            table(["task", "recognised", "rows"], recall),
            f"Calibration, {row['calibration_rows']} rows that did not fit it: ECE {row['ece']:.3f}.",
            table(["mean p_cheap", "mean judged", "share"], lines),
            f"![Reliability]({RELIABILITY})",
        ]
    )


def _bounds(row: Mapping[str, Any], side: str, name: str) -> str:
    """The interval of the classifier's own AUC."""
    low, high = row["auc_interval"][side]
    return f" [{low:.2f}, {high:.2f}]" if name == "p_cheap" else ""


def _robust(rows: Iterable[Mapping[str, Any]], stuffed: Mapping[str, Any], embedding: Mapping[str, Any]) -> str:
    """What stays when the same thing is said differently."""
    lines = [
        [row["change"], *(_percent(row[name]) for name in ("unchanged", "cheap_stays", "premium_stays", "found_again"))]
        for row in rows
    ]
    head = ["change", "decisions unchanged", "cheap stays cheap", "premium stays", "nearest embedding is its own"]
    return "\n\n".join(
        [
            "## The same thing said differently",
            "Held-out rows of our own set, at the default threshold, with phrases that training has not seen.",
            table(head, lines),
            f"Of {stuffed['rows']} trivial short prompts, held out, {_percent(stuffed['cheap'])} are sent cheap, and "
            f"{_percent(stuffed['stay'])} of these still are with four to eight learned keywords around them.",
            f"Embedding against the whole of MiniLM on {embedding['rows']} rows: rank correlation of similarities "
            f"{embedding['rank_correlation']:.2f}, same nearest neighbour {_percent(embedding['same_neighbour'])}.",
        ]
    )


def _frontier(rows: Sequence[Mapping[str, Any]]) -> str:
    """Quality against time for other shapes of the network, and what the best would cost."""
    lines = [
        [
            row["name"],
            f"{row['mb']:.1f}",
            f"{row['ms64']:.2f}",
            f"{row['ms128']:.2f}",
            _figure(row["auc"]),
            f"{row['of_oracle']:+.3f}",
            _percent(row["task_accuracy"]),
        ]
        for row in rows
    ]
    head = [
        "network",
        "MB",
        "ms at 64 tokens",
        "at 128",
        "AUC, own set held out",
        "of the oracle's gain, sources unseen",
        "task",
    ]
    quick = max((row for row in rows if row["ms64"] <= BUDGET_MS), key=lambda row: row["auc"], default=None)
    note = (
        "Each point is trained on our own set alone, for fewer steps than the shipped network; a cascade asks its "
        "second network where the first is near the threshold."
    )
    if quick:
        best = max(rows, key=lambda row: row["auc"])
        note += (
            f" Of what stays within {BUDGET_MS:.1f} ms at 64 tokens, {quick['name']} ranks our own rows best (AUC "
            f"{quick['auc']:.3f}); {best['name']}, the best of all, has {best['auc'] - quick['auc']:+.3f} for "
            f"{best['ms64'] / quick['ms64']:.1f} times the time."
        )
    return f"## Frontier\n\n![Quality against latency](frontier.svg)\n\n{table(head, lines)}\n\n{note}"


def _ranking(title: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """One ranking board."""
    head = [
        "source",
        "rows",
        "APGR [95 %]",
        "by length",
        "by n-grams",
        "CPT50",
        "CPT80",
        "premium calls for 95 / 98 / 99 / 100 % of quality",
        "saved at 99 %",
        "AUC",
        "of oracle",
        "order of failures",
    ]
    note = (
        "Random routing: APGR .500, CPT50 50 %, CPT80 80 %, of oracle 0. Order of failures: rank correlation of the "
        "score with what cheap gets wrong; the data card has the readers' own beside it."
    )
    return f"## {title}\n\n{table(head, map(_rank, rows))}\n\n{note}"


def _rank(row: Mapping[str, Any]) -> list[Any]:
    """One source's line."""
    order = f"{row['order_of_failures']:+.2f}"
    if "apgr" not in row:
        return [row["source"], row["rows"], "no gap", *["-"] * 6, _figure(row["auc"]), "-", order]
    low, high = row["apgr_interval"]
    rivals = [f"{row['apgr_of'][name]:.3f}" if name in row["apgr_of"] else "-" for name in ("length", "n-grams")]
    calls = " / ".join(f"{100 * share:.0f}" for share in row["calls"])
    return [
        row["source"],
        row["rows"],
        f"{row['apgr']:.3f} [{low:.2f}, {high:.2f}]",
        *rivals,
        _percent(row["cpt50"]),
        _percent(row["cpt80"]),
        calls,
        _percent(row["saved"][2]),
        _figure(row["auc"]),
        f"{row['of_oracle']:+.2f}",
        order,
    ]


def draw_reliability(lines: Iterable[tuple[float, float, float]], path: Path) -> None:
    """Judged against predicted p_cheap, (predicted, judged, share) a bin; the area of a mark is the bin's share."""
    predicted, judged, share = zip(*lines, strict=True)
    with mpl.rc_context({"svg.hashsalt": "thriftgate"}):  # equal figures are equal bytes
        figure = Figure(figsize=(4.5, 4.5))
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], color="0.8", zorder=0)
        axis.scatter(predicted, judged, s=[1000 * each for each in share], alpha=0.7)
        axis.set(xlabel="predicted p_cheap", ylabel="judged, held-out rows", xlim=(0, 1), ylim=(0, 1))
        figure.tight_layout()
        figure.savefig(path, format="svg", metadata={"Date": None})


def routellm(rows: Iterable[Mapping[str, Any]]) -> str:
    """RouteLLM's protocol, as its own code prints it, with intervals."""
    lines = [
        [
            row["source"],
            row["rows"],
            by,
            f"{found['apgr']:.3f}",
            *(_percent(found[name]) for name in ("cpt20", "cpt50", "cpt80")),
        ]
        for row in rows
        for by, found in row["replayed"].items()
    ]
    head = ["benchmark", "prompts", "ranked by", "APGR", "CPT20", "CPT50", "CPT80"]
    return f"{table(head, lines)}\n\n{_ranking('The same, with intervals', rows)}"


def _parity(parity: Mapping[str, Any]) -> str:
    """How far int8 strays."""
    names = {
        "fp32_logit_max": "largest logit difference, torch and fp32 ONNX",
        "int8_p_cheap_max": "largest difference of p_cheap, torch and int8",
        "int8_p_cheap_mean": "mean difference of p_cheap, torch and int8",
        "int8_flipped": "share on the other side of the default threshold",
        "int8_rank_correlation": "rank correlation of p_cheap, torch and int8",
        "int8_cosine_min": "smallest cosine of the embeddings, torch and int8",
    }
    rows = [[text, parity[name]] for name, text in names.items()]
    bits = "seven bits (safe without VNNI)" if parity["reduce_range"] else "eight bits"
    return f"## Parity\n\n{parity['prompts']} held-out prompts; int8 weights use {bits}.\n\n{table(['', ''], rows)}"


def _sources(made: Mapping[str, Any]) -> str:
    """What it was trained on."""
    rows = [[s["name"], s["trained"], s["held_out"], s["licence"]] for s in made["sources"]]
    return f"## Data\n\n{table(['source', 'trained', 'held out', 'licence'], rows)}"


def table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _figure(value: float | None) -> str:
    """A figure of three decimals, a dash for none."""
    return "-" if value is None else f"{value:.3f}"


def _percent(share: float | None) -> str:
    """A share as a percentage, a dash for none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _cell(text: str) -> str:
    """Text that cannot break out of a table cell."""
    return text.replace("|", "\\|").replace("\n", " ")
