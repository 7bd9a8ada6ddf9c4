"""The network in torch."""

import torch

from classifier.features import STRUCTURE, TASKS
from classifier.training.model import HEADS, Router, Shape

SHAPE = Shape(vocabulary=20, layers=2, width=16, heads=2, inner=32, trunk=8)


def network() -> Router:
    """A small random network that drops nothing out."""
    torch.manual_seed(0)
    made = Router(SHAPE)
    made.eval()
    return made


def test_shapes() -> None:
    """A logit a head, a logit a task, an embedding of length one, for every row of a batch."""
    output = network()(
        torch.ones(3, 5, dtype=torch.long), torch.ones(3, 5, dtype=torch.bool), torch.zeros(3, len(STRUCTURE))
    )

    assert output.logits.shape == (3, len(HEADS))
    assert output.tasks.shape == (3, len(TASKS))
    assert torch.allclose(output.embedding.norm(dim=1), torch.ones(3))


def test_padding_changes_nothing() -> None:
    """A prompt is judged alike alone and padded beside a longer one: serving never pads, training does."""
    model, structure = network(), torch.rand(2, len(STRUCTURE))
    alone = model(torch.tensor([[4, 5, 6]]), torch.ones(1, 3, dtype=torch.bool), structure[:1])
    padded = torch.tensor([[4, 5, 6, 0, 0], [7, 8, 9, 10, 11]])
    beside = model(padded, padded > 0, structure)

    assert torch.allclose(alone.logits[0], beside.logits[0], atol=1e-6)
    assert torch.allclose(alone.embedding[0], beside.embedding[0], atol=1e-6)


def test_words_are_frozen() -> None:
    """Training leaves word embeddings alone: words it never saw stay comparable."""
    trained = {name for name, parameter in network().named_parameters() if parameter.requires_grad}

    assert "words.weight" not in trained
    assert "positions.weight" in trained
