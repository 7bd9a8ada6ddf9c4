"""The network: the first layers of a BERT encoder, pooling, structure beside it, and small heads. In torch.

Post-norm BERT (Devlin et al. 2019) as MiniLM (Wang et al. 2020) keeps it, written out because the export writes the
same nodes again (export.graph) and both should be readable side by side. The heads are the ones of
`classifier.heads`, which serve from numpy, so that they can be fitted anew without the encoder.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classifier.features import MAX_TOKENS, STRUCTURE, TASKS
from classifier.heads import EMBEDDING, JUDGEMENTS
from classifier.training.labels import KINDS, SKILLS

EPSILON = 1e-12  # BERT's layer-norm epsilon


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a network; the defaults are MiniLM's width with one of its layers."""

    vocabulary: int
    layers: int = 1
    width: int = 384
    heads: int = 12
    inner: int = 1536
    trunk: int = 128
    looks: int = 2
    positions: int = MAX_TOKENS


class Output(NamedTuple):
    """For a batch of B prompts."""

    logits: Tensor  # (B, len(JUDGEMENTS))
    tasks: Tensor  # (B, len(TASKS))
    embedding: Tensor  # (B, EMBEDDING), of length 1
    skills: Tensor  # (B, len(SKILLS)); helps training only
    kinds: Tensor  # (B, len(KINDS)); likewise


class Layer(nn.Module):
    """Self-attention and feed-forward, each with a residual and a norm after it."""

    def __init__(self, shape: Shape) -> None:
        """Make the weights of one layer."""
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.mix = nn.Linear(shape.width, shape.width)
        self.norm1 = nn.LayerNorm(shape.width, EPSILON)
        self.up = nn.Linear(shape.width, shape.inner)
        self.down = nn.Linear(shape.inner, shape.width)
        self.norm2 = nn.LayerNorm(shape.width, EPSILON)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """(B, T, width) → the same; `real` (B, T) is false at padding."""
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None, :])
        x = self.norm1(x + self.mix(seen.transpose(1, 2).reshape(batch, length, width)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Router(nn.Module):
    """Token ids and structure in; judgements, a task and an embedding out."""

    def __init__(self, shape: Shape) -> None:
        """Make a network of `shape` with random weights."""
        super().__init__()
        self.shape = shape
        self.words = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = nn.Embedding(shape.positions, shape.width)
        self.norm = nn.LayerNorm(shape.width, EPSILON)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.dropout = nn.Dropout(0.2)
        self.look = nn.Linear(shape.width, shape.looks)
        nn.init.normal_(self.look.weight, std=0.02)  # all tokens alike to begin with: a mean
        pooled = shape.width * (1 + shape.looks)
        self.trunk = nn.Linear(pooled + len(STRUCTURE), shape.trunk)
        joined = shape.trunk + pooled + len(STRUCTURE)
        self.judge = nn.Linear(joined, len(JUDGEMENTS))
        self.task = nn.Linear(joined, len(TASKS))
        self.skill = nn.Linear(joined, len(SKILLS))
        self.kind = nn.Linear(joined, len(KINDS))
        self.embed = nn.Linear(shape.width, EMBEDDING, bias=False)

    def pool(self, ids: Tensor, real: Tensor, asked: Tensor) -> Tensor:
        """(B, width · (1 + looks)): means over each row's first `asked` (B,) tokens, the even one and weighted ones.

        The weights are learnt, a softmax for each look: the few words on which it depends, of the many that are there.
        The tokens that are not asked are looked at by the layers, not pooled.
        """
        counted = (torch.arange(ids.shape[1]) < asked[:, None]).unsqueeze(-1)
        x = self.states(ids, real)[-1]
        even = counted / counted.sum(1, keepdim=True)
        weights = torch.cat([even, self.look(x).masked_fill(~counted, -torch.inf).softmax(1)], 2)
        return (weights.transpose(1, 2) @ x).flatten(1)

    def states(self, ids: Tensor, real: Tensor) -> list[Tensor]:
        """The tokens as each layer leaves them, the embeddings first: (B, T, width) each."""
        found = [self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]])]
        for layer in self.layers:
            found.append(layer(found[-1], real))
        return found

    def head(self, pooled: Tensor, structure: Tensor) -> Output:
        """What the heads say of pooled states, as `pool` gives them, and structure (B, len(STRUCTURE))."""
        seen = torch.cat([self.dropout(pooled), structure], 1)
        joined = torch.cat([self.dropout(F.relu(self.trunk(seen))), seen], 1)
        return Output(
            self.judge(joined),
            self.task(joined),
            F.normalize(self.embed(pooled[:, : self.shape.width]), dim=1),
            self.skill(joined),
            self.kind(joined),
        )

    def forward(self, ids: Tensor, real: Tensor, asked: Tensor, structure: Tensor) -> Output:
        """`ids` and `real` of shape (B, T), `asked` (B,), `structure` (B, len(STRUCTURE))."""
        return self.head(self.pool(ids, real, asked), structure)
