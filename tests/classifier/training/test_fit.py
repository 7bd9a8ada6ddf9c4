"""One training run, and the calibration after it."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from classifier import calibration
from classifier.features import TASKS, Prompt
from classifier.heads import JUDGEMENTS
from classifier.training import fit
from classifier.training.dataset import OTHER_SHARE, SHARES, Example
from classifier.training.model import Router, Shape
from classifier.training.teacher import Taught

KNOBS = fit.Knobs(steps=40, batch=16, head_rate=1e-2, seed=1)


def network(tokenizer: Tokenizer) -> Router:
    """A small random network for the tests' tokenizer."""
    torch.manual_seed(0)
    return Router(Shape(tokenizer.get_vocab_size(), layers=1, width=16, heads=2, inner=32, trunk=16))


def test_learns_and_repeats(tokenizer: Tokenizer, examples: list[Example]) -> None:
    """After a few steps hard rows are judged to need more than easy ones, and the same seed gives the same network."""
    prompts = [Prompt("hello river at 3"), Prompt("derive the closed form at 3")]
    found = []
    for _ in range(2):
        model = network(tokenizer)
        fit.fit(model, tokenizer, examples, KNOBS)
        found.append(fit.judge(model, tokenizer, prompts))

    assert found[0][0, 2] < found[0][1, 2]
    assert np.array_equal(found[0], found[1])
    assert not model.training


def nearness(model: Router, tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """How near the embeddings of texts are to each other."""
    _, _, embedding = fit.run(model, tokenizer, [Prompt(text) for text in texts])
    found: np.ndarray = embedding @ embedding.T
    return found


def test_the_teacher_teaches_the_embedding(tokenizer: Tokenizer) -> None:
    """With a teacher the embedding comes nearer to its similarities; without one it is left as it was."""
    texts = [*(f"hello river {n}" for n in range(12)), *(f"prove code {n}" for n in range(12))]
    rows = [Example("own:definite", Prompt(text), need=0.5) for text in texts]
    vectors = np.array([[1.0, 0.0]] * 12 + [[0.0, 1.0]] * 12, np.float32)
    taught, alone = network(tokenizer), network(tokenizer)
    fit.fit(taught, tokenizer, rows, KNOBS, Taught(vectors, *unsure(len(rows))))
    fit.fit(alone, tokenizer, rows, KNOBS)
    truth = vectors @ vectors.T
    far, near = (np.abs(nearness(model, tokenizer, texts) - truth).mean() for model in (alone, taught))

    assert near < 0.5 * far
    assert torch.equal(alone.embed.weight, network(tokenizer).embed.weight)


def test_the_teacher_teaches_what_is_not_labelled(tokenizer: Tokenizer) -> None:
    """Judgement and task of prompts that have neither label come from the teacher."""
    texts = [*(f"hello river {n}" for n in range(12)), *(f"prove code {n}" for n in range(12))]
    rows = [Example("arena_hard_prompts", Prompt(text)) for text in texts]
    hard = np.array([0.0] * 12 + [1.0] * 12, np.float32)
    judged, tasks = unsure(len(rows))
    judged += 0.8 * (hard[:, None] - 0.5)
    tasks = np.eye(len(TASKS), dtype=np.float32)[(3 * hard).astype(int)]
    model = network(tokenizer)
    fit.fit(model, tokenizer, rows, KNOBS, Taught(np.ones((24, 1), np.float32), judged, tasks))
    logits, said, _ = fit.run(model, tokenizer, [row.prompt for row in rows])

    assert (logits[12:].min(0) > logits[:12].max(0)).all()
    assert [0] * 12 + [3] * 12 == said.argmax(1).tolist()


def unsure(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Judgements and tasks of a teacher that knows nothing."""
    return np.full((rows, len(JUDGEMENTS)), 0.5, np.float32), np.full((rows, len(TASKS)), 1 / len(TASKS), np.float32)


def test_the_teachers_rows_are_the_examples(tokenizer: Tokenizer, examples: list[Example]) -> None:
    """A batch says of which examples it is, so that the teacher's vectors are those of the same prompts."""
    groups = ["", *sorted({example.group for example in examples if not example.own})]
    for batch in islice(fit.batches(examples, groups, tokenizer, KNOBS), 5):
        for place, row in enumerate(batch.rows):
            example = examples[row]
            need = float(batch.targets[place, JUDGEMENTS.index("need")])

            assert groups[int(batch.groups[place])] == ("" if example.own or example.anchor else example.group)
            assert math.isnan(need) if example.need is None else need == pytest.approx(example.need)


def test_batches_follow_the_shares(tokenizer: Tokenizer) -> None:
    """Groups come by their share of a batch and not by their rows."""
    many = [Example("mmlu_pro", Prompt(f"river {n}"), need=0.5) for n in range(1000)]
    few = [Example("own:chat", Prompt("hello"), need=0.9)]
    drawn = torch.cat(
        [batch.groups for batch in islice(fit.batches(many + few, ["", "mmlu_pro"], tokenizer, KNOBS), 32)]
    )
    expected = SHARES["own:chat"] / (SHARES["own:chat"] + SHARES["mmlu_pro"])

    assert float((drawn == 0).float().mean()) == pytest.approx(expected, abs=0.1)


def test_a_batch_holds_prompts_of_similar_length(tokenizer: Tokenizer, examples: list[Example]) -> None:
    """Little of it is padding, and everything that is asked is real."""
    groups = ["", *sorted({example.group for example in examples if not example.own})]
    shares = []
    for batch in islice(fit.batches(examples, groups, tokenizer, KNOBS), 8):
        shares.append(float(batch.real.float().mean()))

        assert (batch.asked <= batch.real.sum(1)).all()
        assert (batch.asked >= 2).all()
    assert sum(shares) / len(shares) > 0.8


def test_missing_targets_are_marked() -> None:
    """What is not known is NaN, an unknown task or kind -1, unknown skills NaN, our own set's intercept the first."""
    rows = [
        Example("own:chat", Prompt("x"), 2, 1, frozenset({0, 3}), difficulty=0.5, gain=0.3, need=0.25),
        Example("mmlu_pro", Prompt("y"), difficulty=0.5),
    ]
    targets, tasks, kinds, skills, groups = fit._targets(rows, ["", "mmlu_pro"])

    assert torch.equal(torch.isnan(targets), torch.tensor([[False] * 3, [False, True, True]]))
    assert targets[0, JUDGEMENTS.index("need")] == 0.25
    assert (tasks.tolist(), kinds.tolist()) == ([2, -1], [1, -1])
    assert skills[0].nonzero().flatten().tolist() == [0, 3]
    assert bool(torch.isnan(skills[1]).all())
    assert groups.tolist() == [0, 1]


def test_anchors_are_on_our_own_scale() -> None:
    """What is known to be cheap has the first intercept, like our own set: its level counts."""
    rows = [Example("clinc150_intents", Prompt("x"), need=0.03), Example("own:chat", Prompt("y"), need=0.03)]
    *_, groups = fit._targets(rows, ["", "clinc150_intents"])

    assert groups.tolist() == [0, 0]


def test_unknown_targets_count_nothing() -> None:
    """The entropy is the mean over what is known, whatever the logits of the rest; of nothing it is nought."""
    logits = torch.tensor([[0.0, 5.0], [100.0, -3.0]])
    targets = torch.tensor([[0.5, math.nan], [math.nan, math.nan]])

    assert fit._entropy(logits, targets).tolist() == pytest.approx([math.log(2), 0])


def test_intercepts_are_of_sources_and_not_of_our_own_set(tokenizer: Tokenizer) -> None:
    """A source that is hard as a whole says nothing about need: its level stays in an intercept of its own."""
    rows = [Example("own:definite", Prompt(f"hello river {n}"), need=0.2) for n in range(40)]
    rows += [Example("mmlu_pro", Prompt(f"hello river {n}"), need=0.95) for n in range(40)]
    model = network(tokenizer)
    fit.fit(model, tokenizer, rows, fit.Knobs(steps=120, batch=16, head_rate=3e-2, seed=1))
    logits = fit.judge(model, tokenizer, [Prompt(f"hello river {n}") for n in range(100, 110)])

    assert 1 / (1 + np.exp(-logits[:, JUDGEMENTS.index("need")].mean())) == pytest.approx(0.2, abs=0.12)


def test_rate_warms_up_and_runs_out() -> None:
    """The learning rate rises over the warm-up and ends near nothing."""
    knobs = fit.Knobs(steps=100, warmup=0.1)
    rates = [fit._rate(step, knobs) for step in range(100)]

    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1
    assert rates[-1] < 0.02


def test_calibration_recovers_soft_labels() -> None:
    """Labels that are a logistic of the need logit come back as probabilities, though each is soft."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(600, 3)).astype(np.float32)
    levels = [1 / (1 + math.exp(2 * float(row[2]) - 0.5)) for row in logits]
    rows = [Example("own:definite", Prompt(str(n)), need=1 - level) for n, level in enumerate(levels)]
    fitted = fit.calibrate(logits, rows)
    gaps = [abs(calibration.p_cheap(row, fitted) - level) for row, level in zip(logits, levels, strict=True)]

    assert max(gaps) < 0.02
    assert fitted.means == pytest.approx(logits.mean(0), abs=1e-5)
    assert fitted.scales == pytest.approx(logits.std(0) / 1.7, abs=1e-5)


def test_rows_without_need_do_not_calibrate() -> None:
    """They stand in the score's scale alone."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 3)).astype(np.float32)
    rows = [Example("own:definite", Prompt(str(n)), need=float(row[2] > 0)) for n, row in enumerate(logits)]
    unknown = [Example("arena_hard_prompts", Prompt(str(n))) for n in range(50)]
    more = rng.normal(loc=5, size=(50, 3)).astype(np.float32)
    alone, beside = fit.calibrate(logits, rows), fit.calibrate(np.concatenate([logits, more]), rows + unknown)

    assert alone.weights == pytest.approx(beside.weights, rel=0.02)
    assert alone.means != beside.means


def test_groups_weigh_by_share() -> None:
    """A group of one weighs as its share says, beside a group of a hundred; one without a share has the common one."""
    rows = [Example("own:chat", Prompt("a")), Example("new", Prompt("b"))]
    rows += [Example("mmlu_pro", Prompt(str(n))) for n in range(100)]
    weights = fit.balance(rows)

    assert weights.sum() == pytest.approx(1)
    assert weights[0] / weights[2:].sum() == pytest.approx(SHARES["own:chat"] / SHARES["mmlu_pro"])
    assert weights[1] / weights[2:].sum() == pytest.approx(OTHER_SHARE / SHARES["mmlu_pro"])


def test_many_are_judged_in_their_order(tokenizer: Tokenizer) -> None:
    """Logits, tasks and embeddings of more prompts than a chunk, whatever their lengths, are those of each alone."""
    model = network(tokenizer).eval()
    prompts = [Prompt("hello " * (n * 7 % 11), before="river" if n % 3 else "", turns=1 + n % 3) for n in range(70)]
    together = fit.run(model, tokenizer, prompts)

    assert np.array_equal(together[0], fit.judge(model, tokenizer, prompts))
    for index in (0, 1, 40, 69):
        for many, alone in zip(together, fit.run(model, tokenizer, [prompts[index]]), strict=True):
            assert np.allclose(many[index], alone[0], atol=1e-5)


def test_words_that_are_not_trained_on_stay(tokenizer: Tokenizer) -> None:
    """Training moves the words that it reads and leaves all others as pre-training left them."""
    model, before = network(tokenizer), network(tokenizer).words.weight
    rows = [Example("own:definite", Prompt("hello river"), need=0.9)]
    fit.fit(model, tokenizer, rows, fit.Knobs(steps=3, batch=4))
    moved = (model.words.weight != before).any(1)

    assert bool(moved[tokenizer.token_to_id("river")])
    assert not bool(moved[tokenizer.token_to_id("prove")])
