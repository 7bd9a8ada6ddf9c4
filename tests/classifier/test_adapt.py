"""The heads fitted to a traffic: it learns what is there to learn, and says when there is nothing."""

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classifier import adapt, bundle, calibration
from classifier.adapt import Fitted, Outcome, TooFew
from classifier.bundle import MODEL, TOKENIZER
from classifier.heads import JUDGEMENTS
from classifier.predict import Predictor, Prompt
from tests.classifier.conftest import Tiny

WORDS = ("river", "stone", "light", "code", "proof", "hello", "that", "moon", "sail", "tree", "write", "prove", "music")
MADE = {"rows": 300, "date": "2026-01-01"}


def traffic(rows: int, needed: Callable[[Prompt], float], seed: int = 0) -> list[Outcome]:
    """Made-up prompts, premium needed as `needed` says."""
    rng = random.Random(seed)
    texts = [f"{' '.join(rng.choices(WORDS, k=rng.randint(3, 12)))} {number}" for number in range(rows)]
    return [Outcome(prompt, needed(prompt)) for prompt in map(Prompt, texts)]


def fitted_on(prompt: Prompt) -> bool:
    """Whether a prompt is not held out."""
    return adapt._drawn(prompt, 0) % 5 != 0


def by_river(prompt: Prompt) -> float:
    """A traffic in which premium is needed where there is a river, which no network trained here knows."""
    return float("river" in prompt.text)


@pytest.fixture(scope="module")
def predictor(tiny: Tiny) -> Predictor:
    """A predictor on the tiny bundle."""
    return Predictor.load(tiny.directory)


@pytest.fixture(scope="module")
def fitted(predictor: Predictor) -> Fitted:
    """The tiny network's heads fitted to the rivers."""
    return adapt.fit(predictor, traffic(300, by_river))


@pytest.fixture(scope="module")
def adapted(fitted: Fitted, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle written of it."""
    out = tmp_path_factory.mktemp("adapted") / "new" / "classifier"
    adapt.write(fitted, tiny.directory, out, MADE)
    return out


def test_it_learns_a_traffic(fitted: Fitted) -> None:
    """Outcomes that contradict the network: on rows that neither saw the new judgement is closer, ranks and sorts."""
    assert fitted.better
    assert 0 < fitted.surely < fitted.gained
    assert fitted.gained == pytest.approx(fitted.old.log_loss - fitted.new.log_loss, abs=2e-4)
    assert fitted.new.log_loss < fitted.old.log_loss - 0.1
    assert fitted.new.auc > 0.85 > fitted.old.auc
    assert 0 < fitted.held_out < fitted.rows / 3
    assert fitted.rows == 300


def test_it_learns_more_of_what_was_never_seen(adapted: Path, predictor: Predictor) -> None:
    """Prompts of the same traffic that were in no file are judged better by the new bundle too."""
    fresh = traffic(150, by_river, seed=9)
    needed = np.array([outcome.needed for outcome in fresh])
    losses = []
    for judge in (predictor, Predictor.load(adapted)):
        p_cheap = np.array([judge.predict(outcome.prompt).p_cheap for outcome in fresh])
        losses.append(float(-np.log(np.where(needed > 0, 1 - p_cheap, p_cheap)).mean()))

    assert losses[1] < losses[0] - 0.1


def test_where_the_shipped_judgement_is_right_it_stays(predictor: Predictor) -> None:
    """Outcomes that are exactly as the network says leave nothing to gain: the new one is not better."""
    fitted = adapt.fit(predictor, traffic(300, lambda prompt: 1 - predictor.predict(prompt).p_cheap))

    assert not fitted.better
    assert fitted.new.log_loss == pytest.approx(fitted.old.log_loss, abs=0.05)


def test_what_does_not_carry_over_is_not_better(predictor: Predictor) -> None:
    """Rows held out that say the opposite of the fitted ones: learnt, compared, refused."""
    fitted = adapt.fit(predictor, traffic(300, lambda p: by_river(p) if fitted_on(p) else 1 - by_river(p)))

    assert not fitted.better
    assert fitted.new.log_loss > fitted.old.log_loss


def test_outcomes_at_random_teach_nothing(predictor: Predictor) -> None:
    """Coins instead of outcomes: what comes out ranks the held-out rows no better than a coin does."""
    rng = random.Random(4)
    fitted = adapt.fit(predictor, traffic(300, lambda _: float(rng.random() < 0.5)))

    assert fitted.new.auc == pytest.approx(0.5, abs=0.2)
    assert fitted.pull == max(adapt.PULLS)


def test_luck_is_not_better(predictor: Predictor) -> None:
    """Outcomes drawn by the chances that the network gives: it is right, and luck replaces it one time in twenty."""
    found = []
    for seed in range(6):
        rng = random.Random(seed)
        outcomes = traffic(200, lambda p, rng=rng: float(rng.random() > predictor.predict(p).p_cheap))  # type: ignore[misc]
        found.append(adapt.fit(predictor, outcomes).better)

    assert sum(found) <= 1


@pytest.mark.parametrize(("surely", "better"), [(0.01, True), (0.0, False), (-0.01, False)])
def test_better_is_surely_better(fitted: Fitted, surely: float, better: bool) -> None:
    """What is gained on the held-out rows must be more than luck, however much it is."""
    assert replace(fitted, gained=0.5, surely=surely).better is better


def test_chances_count_as_rows_of_both_outcomes(predictor: Predictor) -> None:
    """An outcome may be a chance: half a row of each."""
    fitted = adapt.fit(predictor, traffic(300, lambda p: 0.8 if by_river(p) else 0.2))

    assert fitted.better
    assert 0.5 < fitted.new.auc < 1


def first_are_needed(rows: int) -> Callable[[Prompt], float]:
    """Premium is needed in the first rows."""
    return lambda prompt: float(int(prompt.text.split()[-1]) < rows)


@pytest.mark.parametrize(
    ("outcomes", "what"),
    [
        ([], "premium was needed in 0 of 0 rows"),
        (traffic(200, lambda _: 0.0), "premium was needed in 0 of 200 rows"),
        (traffic(200, lambda _: 1.0), "premium was needed in 200 of 200 rows"),
        (traffic(200, first_are_needed(19)), "premium was needed in 19 of 200 rows: at least 20 of either"),
        (traffic(200, first_are_needed(181)), "premium was needed in 181 of 200 rows: at least 20 of either"),
        (traffic(200, lambda p: float(by_river(p) and fitted_on(p))), "rows, held out .* are all alike"),
        (traffic(400, lambda p: float(by_river(p) and not fitted_on(p))), "rows, held out or fitted on, .* alike"),
    ],
    ids=["none", "all cheap", "all premium", "too few", "too few cheap", "nothing to compare", "nothing to fit"],
)
def test_too_few_is_refused(predictor: Predictor, outcomes: Sequence[Outcome], what: str) -> None:
    """Without enough of both outcomes there is nothing to learn from; the message counts them."""
    with pytest.raises(TooFew, match=what):
        adapt.fit(predictor, outcomes)


def test_the_last_rows_are_used(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MOST rows the older ones are left aside: the new traffic decides."""
    monkeypatch.setattr(adapt, "MOST", 200)
    older = traffic(200, lambda prompt: 1 - by_river(prompt), seed=1)
    fitted = adapt.fit(predictor, [*older, *traffic(200, by_river)])

    assert fitted.rows == 200
    assert fitted.new == adapt.fit(predictor, traffic(200, by_river)).new


def test_repeated_prompts_are_on_one_side(predictor: Predictor, fitted: Fitted) -> None:
    """However often, and in whatever case and spacing, a prompt comes: it is fitted or held out, never both."""
    once = traffic(300, by_river)
    shouted = [Outcome(Prompt(f"  {o.prompt.text.upper()}\n"), o.needed) for o in once]
    twice = adapt.fit(predictor, [*once, *shouted])

    assert twice.held_out == 2 * fitted.held_out


def test_repeated_prompts_do_not_loosen_the_pull(predictor: Predictor) -> None:
    """The same few prompts over and over say no more of others than once: what is learnt by heart is not mistaken."""
    rng = random.Random(0)
    once = traffic(120, lambda prompt: float(rng.random() < (0.75 if by_river(prompt) else 0.25)))
    single, often = adapt.fit(predictor, once), adapt.fit(predictor, once * 8)

    assert often.pull >= single.pull
    assert often.new.log_loss < single.new.log_loss + 0.1


def test_the_same_rows_make_the_same_heads(predictor: Predictor, fitted: Fitted, tmp_path: Path) -> None:
    """Nothing is left to chance."""
    again = adapt.fit(predictor, traffic(300, by_river))
    for name, each in (("one", fitted), ("two", again)):
        each.heads.save(tmp_path / f"{name}.npy")

    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()
    assert fitted.calibration == again.calibration


def test_the_written_bundle_is_the_fitted_one(adapted: Path, fitted: Fitted, tiny: Tiny) -> None:
    """It loads; its network and tokenizer are the old one's to the byte; its heads are the fitted ones."""
    loaded = bundle.load(adapted)

    for name in (MODEL, TOKENIZER):
        assert (adapted / name).read_bytes() == (tiny.directory / name).read_bytes()
    assert fitted.calibration == loaded.manifest.calibration
    assert [a.tobytes() for a in fitted.heads] == [a.tobytes() for a in Predictor.load(adapted).heads]


def test_it_serves_what_was_compared(adapted: Path, fitted: Fitted, predictor: Predictor) -> None:
    """On the held-out rows the written bundle's p_cheap has the very figures that were shown."""
    held = [outcome for outcome in traffic(300, by_river) if not fitted_on(outcome.prompt)]
    p_cheap = np.array([Predictor.load(adapted).predict(outcome.prompt).p_cheap for outcome in held])
    found = adapt._compare(
        np.log((1 - p_cheap) / p_cheap), np.array([outcome.needed for outcome in held]), predictor.default_threshold
    )

    assert len(held) == fitted.held_out
    assert found.log_loss == pytest.approx(fitted.new.log_loss, abs=2e-4)
    assert found.auc == pytest.approx(fitted.new.auc, abs=2e-4)
    assert (found.sent_cheap, found.harm) == (fitted.new.sent_cheap, fitted.new.harm)


def test_the_regression_is_a_head(predictor: Predictor) -> None:
    """Any regression on what the heads see becomes heads whose p_cheap is its chance, within rounding."""
    prompts = [outcome.prompt for outcome in traffic(40, by_river)]
    seen = np.stack([predictor.heads.joined(*predictor.states(prompt)) for prompt in prompts]).astype(float)
    added = np.random.default_rng(0).normal(size=(seen.shape[1],))
    heads, fitted = adapt._as_heads(predictor, added, 0.3, 0.7, seen)
    for prompt, row in zip(prompts, seen, strict=True):
        shipped = predictor.predict(prompt).p_cheap
        expected = 0.7 * np.log((1 - shipped) / shipped) + row @ added + 0.3
        said = heads(*predictor.states(prompt))

        assert calibration.p_cheap(said.logits, fitted) == pytest.approx(calibration.sigmoid(-expected), abs=1e-5)


def test_only_need_is_fitted(adapted: Path, predictor: Predictor) -> None:
    """Tasks, embeddings and the other judgements are as they were; the score follows p_cheap alone."""
    new, need = Predictor.load(adapted), JUDGEMENTS.index("need")
    said = []
    for outcome in traffic(50, by_river):
        before, after = predictor.predict(outcome.prompt), new.predict(outcome.prompt)
        old, fresh = (judge.heads(*judge.states(outcome.prompt)).logits for judge in (predictor, new))
        said.append((after.p_cheap, after.score))

        assert before.task == after.task
        assert np.array_equal(before.embedding, after.embedding)
        assert np.array_equal(np.delete(old, need), np.delete(fresh, need))
    assert [score for _, score in sorted(said)] == sorted((score for _, score in said), reverse=True)
    assert {0 < score < 1 for _, score in said} == {True}


def test_it_says_where_it_comes_from(adapted: Path, tiny: Tiny, fitted: Fitted) -> None:
    """The manifest names the bundle it was fitted from and on what; the old one's figures are not given as its own."""
    made = bundle.read_manifest(adapted)

    assert made.provenance["fitted_from"] == bundle.digest(tiny.manifest)
    assert made.provenance["fitted_on"] == MADE
    assert made.provenance["sources"] == tiny.manifest.provenance["sources"]
    assert made.metrics.keys() == {"own_traffic"}
    assert made.metrics["own_traffic"]["new"]["auc"] == fitted.new.auc
    assert made.default_threshold == tiny.manifest.default_threshold
    assert bundle.digest(made) != bundle.digest(tiny.manifest)


def test_it_can_be_fitted_again(adapted: Path) -> None:
    """A fitted bundle is a bundle like any other: another traffic is learnt on top of it, however sure it was."""
    fitted = adapt.fit(Predictor.load(adapted), traffic(300, lambda prompt: 1 - by_river(prompt)))

    assert fitted.better
    assert fitted.new.log_loss < 0.7


@pytest.mark.parametrize("pull", adapt.PULLS)
def test_the_regression_is_at_its_optimum(pull: float) -> None:
    """Nothing more is to be gained at the weights found, though what was shipped is sure of the opposite."""
    rng = np.random.default_rng(1)
    columns, needed = rng.normal(size=(150, 12)), (rng.random(150) < 0.5).astype(float)
    shipped = 13 * (1 - 2 * needed) * rng.random(150)
    added, bias, slope = adapt._regress(columns, shipped, needed, pull)
    surplus = adapt._sigmoid(slope * shipped + columns @ added + bias) - needed

    assert np.abs(columns.T @ surplus + pull * added).max() < 1e-3
    assert abs(surplus.sum() + 1e-3 * bias) < 1e-3
    assert abs(shipped @ surplus + slope - 1) < 1e-3


def test_a_directory_that_cannot_be_made(fitted: Fitted, tiny: Tiny, tmp_path: Path) -> None:
    """A file in its place is an `OSError`."""
    (tmp_path / "taken").touch()

    with pytest.raises(OSError, match="taken"):
        adapt.write(fitted, tiny.directory, tmp_path / "taken", MADE)


def test_no_torch(tiny: Tiny) -> None:
    """Fitting needs numpy and what serves, and nothing that trains."""
    code = """
import sys
from pathlib import Path
for name in ("torch", "onnx", "sklearn", "scipy", "safetensors", "matplotlib"):
    sys.modules[name] = None
from classifier import adapt
from classifier.predict import Predictor, Prompt
outcomes = [adapt.Outcome(Prompt(f"{'river' * (n % 2)} {n}"), float(n % 2)) for n in range(120)]
print(adapt.fit(Predictor.load(Path(sys.argv[1])), outcomes).rows)
"""
    root = Path(bundle.__file__).resolve().parent.parent
    command = [sys.executable, "-c", code, str(tiny.directory)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    assert (done.stdout.strip(), done.stderr) == ("120", "")
