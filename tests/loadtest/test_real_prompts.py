"""The proof reads both sides' records, and every broken promise breaks it."""

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest

from loadtest import real_prompts
from loadtest.real_prompts import EASY, HARD, Item, Result, Seen

PROMPTS = {
    EASY: ["set a timer for {} minutes", "what is the weather in town {}", "play song {}", "call contact {}"],
    HARD: ["Prove that every {}-connected planar graph has a Hamiltonian cycle or find a counterexample."],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Small prompt files of the two sets' form."""
    for source, templates in PROMPTS.items():
        rows = [{"prompt": templates[at % len(templates)].format(at)} for at in range(12)]
        with gzip.open(tmp_path / f"{source}.jsonl.gz", "wb") as file:
            file.write(b"\n".join(map(orjson.dumps, rows)))
    return tmp_path


def good() -> Result:
    """A run in which all is well: ten prompts of each set."""
    seen = []
    for at in range(20):
        source, rung = (EASY, "cheap") if at < 10 else (HARD, "premium")
        seen.append(Seen(Item(source, "p"), f"id{at}", rung, rung, "text", "stop", 0.1))
    same: dict[str, Any] = {"outcome": "ok", "cost_usd_micros": 10, "premium_usd_micros": 100}
    return Result(seen, [{"request_id": one.request_id, **same} for one in seen], 1.0)


def test_a_sample_is_seeded(data: Path) -> None:
    """The same prompts in every run; too few are an error."""
    assert real_prompts.load(data, EASY, 5, 1) == real_prompts.load(data, EASY, 5, 1)
    assert real_prompts.load(data, EASY, 5, 1) != real_prompts.load(data, EASY, 5, 2)
    with pytest.raises(ValueError, match="has 12 prompts"):
        real_prompts.load(data, EASY, 13, 1)


def test_a_good_run_stands() -> None:
    """Nothing wrong, and the table adds up."""
    last = real_prompts.table(good()).splitlines()[-1]
    cells = [cell.strip() for cell in last.split("|")[1:-1]]

    assert real_prompts.check(good()) == []
    assert cells == ["both", "20", "0", "50.0%", "50.0%", "100 ms", "100 ms", "$0.0002", "$0.0020", "90.0%"]


def test_each_broken_promise_is_named() -> None:
    """One fault at a time."""

    def said(result: Result) -> str:
        return "\n".join(real_prompts.check(result))

    error = good()
    error.seen[0].error = "APIError: boom"
    missing = good()
    missing.receipts.pop()
    twice = good()
    twice.receipts.append(twice.receipts[0])
    stranger = good()
    stranger.receipts[0]["request_id"] = "unknown"
    broken = good()
    broken.receipts[0]["outcome"] = "broken"
    dear = good()
    dear.seen[0].rung = dear.seen[1].rung = "middle"
    weak = good()
    for one in weak.seen[10:15]:
        one.rung = "cheap"

    assert said(error) == "1 x APIError: boom"
    assert "20 requests, 19 receipts" in said(missing)
    assert said(twice) == "20 requests, 21 receipts, 20 distinct request ids"
    assert said(stranger) == "2 request ids are known to one side only"
    assert said(broken) == "1 receipts say broken"
    assert said(dear) == f"80.0% of {EASY} on the cheap model, 90% wanted"
    assert said(weak) == f"50.0% of {HARD} on a better model, 60% wanted"


def test_the_running_gateway_keeps_its_records(data: Path) -> None:
    """The real thing, small: SDK, gateway, mock. How it routes on a busy machine is not judged here."""
    items = [item for source in PROMPTS for item in real_prompts.load(data, source, 12, 1)]
    result = real_prompts.run(items, 4)

    assert real_prompts.check(result, cheap_share=0, better_share=0) == []
    assert sum(receipt["input_tokens"] > 0 and receipt["cost_usd_micros"] > 0 for receipt in result.receipts) == 24
    assert real_prompts.verdicts(result)


def test_the_command_exits_with_1_when_it_fails(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A proof that cannot fail proves nothing."""
    result = good()
    monkeypatch.setattr(real_prompts, "run", lambda *_: result)
    arguments = ["--data", str(data), "--each", "10"]
    stood = real_prompts.main(arguments)
    result.receipts.pop()
    fell = real_prompts.main(arguments)

    assert (stood, fell) == (0, 1)
    assert "the proof stands" in capsys.readouterr().out
