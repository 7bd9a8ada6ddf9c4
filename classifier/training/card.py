"""The model card, rendered from the manifest. Nobody types a number: change the measurement, not the text."""

from collections.abc import Iterable, Mapping
from typing import Any

from classifier import bundle
from classifier.bundle import Manifest

INTRODUCTION = """\
# Thriftgate's classifier

Reads the last user turn of a request (head and tail, at most 128 tokens) and a few structural counts, and gives a
difficulty `score`, `p_cheap` (the chance that a cheap-tier answer is as good as a premium one's), a task and an
embedding. Rendered by `make evaluate` from `manifest.json`; no figure here is typed by hand."""

LIMITS = """\
## Limits

- No prompt-only router knows much: on unseen sources expect a fraction of what an oracle would gain. The thresholds a
  route earns from its own audits matter more than this score.
- Trained on outcomes of exams, maths and code of 2023-2024 models, mostly English; chat prompts carry judged levels,
  not outcomes. Left-out figures come from shorter trainings than the shipped one.
- `p_cheap` is calibrated on held-out rows of the training sources, weighted by their share of a batch. Other traffic
  has other rates.
- The anchors (everyday commands, hard requests of chat users) are training sources; only their held-out rows are new
  to it.
- Turns, tools and images were drawn at random in training: no outcome was measured with them. Routes have rules for
  these.
- The task is trained mostly on what a source is about, so it is coarse.

## Retrain

`make train` rebuilds this bundle from the data directory in one command, `make evaluate` measures it and rewrites
this card."""


def render(manifest: Manifest, sizes: Mapping[str, int]) -> str:
    """The card of `manifest`; `sizes` are the files' bytes."""
    made, metrics = manifest.provenance, manifest.metrics
    boards = metrics.get("boards", {})
    parts = [INTRODUCTION, _bundle(manifest, sizes)]
    if "latency" in boards:
        parts.append(_latency(boards))
    if "anchors" in boards:
        parts.append(_sides(manifest, boards))
    parts += [
        _ranking(title, boards[name])
        for name, title in (
            ("left_out", f"Ranking, source left out of training ({boards.get('left_out_steps')} steps each)"),
            ("never_trained", "Ranking, share-alike sources, never trained on (the shipped network)"),
            ("in_sample", "Ranking, in-sample: its own training sources (an upper bound, not evidence)"),
        )
        if boards.get(name)
    ]
    if "calibration" in boards:
        parts.append(_calibration(boards["calibration"]))
    parts += [_parity(metrics["parity"]), LIMITS, _sources(made)]
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
        ["training", f"`{made['command']}`, {manifest.metrics['training_s']} s"],
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


def _ranking(title: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """One ranking board."""
    lines = [
        [
            row["source"],
            row["rows"],
            f"{row['spearman_gain']:+.2f}",
            f"{row['spearman_difficulty']:+.2f}",
            f"{row['apgr']:.3f} [{row['apgr_interval'][0]:.2f}, {row['apgr_interval'][1]:.2f}]"
            if "apgr" in row
            else "-",
            f"{row['apgr_length']:.3f}" if "apgr" in row else "-",
            ".500",
        ]
        for row in rows
    ]
    head = ["source", "rows", "rank correlation with s-w", "with 1-w", "APGR [95 %]", "by length", "random"]
    return f"## {title}\n\n{table(head, lines)}"


def _calibration(row: Mapping[str, Any]) -> str:
    """Reliability and task recall."""
    lines = [[f"{predicted:.2f}", f"{actual:.2f}", _percent(share)] for predicted, actual, share in row["reliability"]]
    recall = [[task, _percent(share), count] for task, (share, count) in row["task_recall"].items()]
    return "\n\n".join(
        [
            "## Calibration and task, held-out rows of the training sources",
            f"{row['rows']} rows, sources balanced: expected calibration error {row['ece']:.3f}.",
            table(["mean p_cheap", "mean target", "share"], lines),
            table(["task", "recognised", "rows"], recall),
        ]
    )


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


def _percent(share: float | None) -> str:
    """A share as a percentage, a dash for none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _cell(text: str) -> str:
    """Text that cannot break out of a table cell."""
    return text.replace("|", "\\|").replace("\n", " ")
