"""The network in torch."""

import torch

from classifier.features import STRUCTURE, TASKS
from classifier.heads import EMBEDDING, JUDGEMENTS
from classifier.training.labels import KINDS, SKILLS
from classifier.training.model import Router, Shape

SHAPE = Shape(vocabulary=20, layers=2, width=16, heads=2, inner=32, trunk=8)


def network(shape: Shape = SHAPE) -> Router:
    """A small random network that drops nothing out."""
    torch.manual_seed(0)
    made = Router(shape)
    made.eval()
    return made


def test_shapes() -> None:
    """For every row of a batch a logit a judgement, a task, a skill and a kind, and an embedding of length one."""
    output = network()(
        torch.ones(3, 5, dtype=torch.long),
        torch.ones(3, 5, dtype=torch.bool),
        torch.tensor([5, 2, 3]),
        torch.zeros(3, len(STRUCTURE)),
    )

    assert output.logits.shape == (3, len(JUDGEMENTS))
    assert output.tasks.shape == (3, len(TASKS))
    assert output.embedding.shape == (3, EMBEDDING)
    assert output.skills.shape == (3, len(SKILLS))
    assert output.kinds.shape == (3, len(KINDS))
    assert torch.allclose(output.embedding.norm(dim=1), torch.ones(3))


def test_padding_changes_nothing() -> None:
    """A prompt is judged alike alone and padded beside a longer one: serving never pads, training does."""
    model, structure = network(), torch.rand(2, len(STRUCTURE))
    alone = model(torch.tensor([[4, 5, 6]]), torch.ones(1, 3, dtype=torch.bool), torch.tensor([3]), structure[:1])
    padded = torch.tensor([[4, 5, 6, 0, 0], [7, 8, 9, 10, 11]])
    beside = model(padded, padded > 0, torch.tensor([3, 4]), structure)

    assert torch.allclose(alone.logits[0], beside.logits[0], atol=1e-6)
    assert torch.allclose(alone.embedding[0], beside.embedding[0], atol=1e-6)


def test_what_came_before_is_looked_at_and_not_pooled() -> None:
    """Without layers nothing is looked at, and the state is the mean of what is asked alone; with them it matters."""
    ids = torch.tensor([[4, 5, 6], [4, 5, 9]])
    real, asked = torch.ones(2, 3, dtype=torch.bool), torch.tensor([2, 2])
    plain, layered = network(Shape(20, layers=0, width=16, heads=2, inner=32, trunk=8)), network()

    assert torch.equal(*plain.pool(ids, real, asked))
    assert not torch.allclose(*layered.pool(ids, real, asked))


def test_looks_weigh_what_is_asked() -> None:
    """Behind the even mean stand weighted ones; a look that sees nothing but one word is the state of that word."""
    model = network(Shape(20, layers=0, width=16, heads=2, inner=32, trunk=8))
    ids, asked = torch.tensor([[4, 5, 6, 7]]), torch.tensor([3])
    states = model.states(ids, ids > 0)[-1][0]
    with torch.no_grad():
        model.look.weight.zero_()
        model.look.weight[0] = 1e3 * states[1]
        pooled = model.pool(ids, ids > 0, asked)[0]

    assert torch.allclose(pooled[:16], states[:3].mean(0), atol=1e-6)
    assert torch.allclose(pooled[16:32], states[1], atol=1e-4)
    assert torch.allclose(pooled[32:], states[:3].mean(0), atol=1e-6)
