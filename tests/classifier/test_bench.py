"""The latency table."""

import pytest
from tokenizers import Tokenizer

from classifier import bench, features
from classifier.bundle import DEFAULT_DIRECTORY, TOKENIZER
from classifier.features import Prompt
from classifier.predict import Predictor
from tests.classifier.conftest import Tiny


@pytest.mark.parametrize("tokens", bench.TOKENS)
def test_text_has_the_tokens_it_says(tokens: int) -> None:
    """A row's token count is what the shipped tokenizer really gives."""
    tokenizer = Tokenizer.from_file(str(DEFAULT_DIRECTORY / TOKENIZER))

    assert tokens == len(features.token_ids(tokenizer, Prompt(bench.text_of(tokens)))[0])


def test_rows_are_complete(tiny: Tiny) -> None:
    """One row a token count and two of a million characters, each with a median below its p99."""
    rows = bench.timings(Predictor.load(tiny.directory), runs=3)

    assert len(bench.TOKENS) + 2 == len(rows)
    assert all(row.p50_ms <= row.p99_ms for row in rows)


def test_throughput_is_counted(tiny: Tiny) -> None:
    """Prompts a second is a positive number."""
    assert bench.throughput(Predictor.load(tiny.directory), runs=5) > 0


def test_table_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command prints every row of the shipped bundle and the throughput."""
    monkeypatch.setattr(bench, "timings", lambda _: [bench.Timing("64 tokens", 1.0, 2.0)])
    monkeypatch.setattr(bench, "throughput", lambda _: 1234.5)
    bench.main()
    printed = capsys.readouterr().out

    assert "64 tokens                 1.00    2.00" in printed
    assert "short prompts a second: 1,23" in printed
