"""torch to ONNX to int8."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from classifier import bundle, features
from classifier.encoder import Encoder
from classifier.features import Prompt
from classifier.training import export
from classifier.training.model import Router, Shape
from tests.classifier.conftest import Tiny

PROMPTS = [
    *map(Prompt, ("", "hello", "prove that the river converges", "write code " * 60)),
    Prompt("and now?", before="write code for the river", turns=2),
]


def gaps(tiny: Tiny, file: Path) -> list[float]:
    """How far a file's pooled states are from the torch network's, prompt by prompt."""
    encoder, found = Encoder(file), []
    for prompt in PROMPTS:
        ids, asked = features.token_ids(tiny.tokenizer, prompt)
        with torch.inference_mode():
            real = torch.ones(1, len(ids), dtype=torch.bool)
            truth = tiny.model.pool(torch.tensor([ids]), real, torch.tensor([asked]))[0].numpy()
        found.append(float(np.abs(truth - encoder(ids, asked)).max()))
    return found


def test_fp32_is_torch(tiny: Tiny, tmp_path: Path) -> None:
    """The graph written by hand computes what the network computes, to rounding, at any length."""
    export.write_onnx(tiny.model, tmp_path / "fp32.onnx", int8=False)

    assert max(gaps(tiny, tmp_path / "fp32.onnx")) < 1e-5


def test_int8_is_small_and_near(tiny: Tiny, tmp_path: Path) -> None:
    """Quantising shrinks the file and moves states little."""
    for int8 in (False, True):
        export.write_onnx(tiny.model, tmp_path / f"{int8}.onnx", int8=int8)

    assert (tmp_path / "True.onnx").stat().st_size < 0.7 * (tmp_path / "False.onnx").stat().st_size
    assert max(gaps(tiny, tmp_path / "True.onnx")) < 0.1


@pytest.mark.parametrize("int8", [False, True])
def test_a_network_without_layers(tmp_path: Path, int8: bool) -> None:
    """The smallest point of the frontier is a file like any other: the mean of word embeddings."""
    torch.manual_seed(0)
    model = Router(Shape(20, layers=0, width=16, heads=2, inner=8, trunk=8)).eval()
    export.write_onnx(model, tmp_path / "none.onnx", int8=int8)
    with torch.inference_mode():
        real = torch.ones(1, 3, dtype=torch.bool)
        truth = model.pool(torch.tensor([[4, 5, 6]]), real, torch.tensor([3]))[0].numpy()

    assert np.abs(Encoder(tmp_path / "none.onnx")([4, 5, 6], 3) - truth).max() < 0.05


def test_heads_are_the_networks_own(tiny: Tiny) -> None:
    """In numpy they say what the network's say of the same states."""
    heads, rng = export.heads(tiny.model), np.random.default_rng(0)
    for _ in range(5):
        pooled = rng.normal(size=tiny.model.trunk.in_features - len(features.STRUCTURE)).astype(np.float32)
        structure = rng.random(len(features.STRUCTURE)).astype(np.float32)
        with torch.inference_mode():
            truth = tiny.model.head(torch.from_numpy(pooled)[None], torch.from_numpy(structure)[None])
        for said, told in zip(heads(pooled, structure), truth[:3], strict=True):
            assert np.allclose(said, told[0].numpy(), atol=1e-5)


def test_everything_that_serves_is_written(tiny: Tiny, tmp_path: Path) -> None:
    """All of a bundle but its manifest, and the same network is the same bytes."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        export.write(tiny.model, tiny.tokenizer, tmp_path / name)
    one, two = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "two"))

    assert one.keys() == set(bundle.FILES)
    assert one == two


def test_matrix_products_are_int8(tiny: Tiny, tmp_path: Path) -> None:
    """No floating-point product is left but the looks', of a few columns; weights use seven bits, the words eight."""
    export.write_onnx(tiny.model, tmp_path / "int8.onnx", int8=True)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    kinds = {node.op_type for node in graph.node if not node.name.startswith("look")}
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in graph.initializer}
    seven = [value for name, value in weights.items() if name.endswith(".weight_quantized")]

    assert {"MatMulInteger", "QAttention"} <= kinds
    assert not {"MatMul", "Attention"} & kinds
    assert max(int(np.abs(value.astype(int)).max()) for value in seven) <= 64
    assert weights["words.int8"].dtype == np.int8


def test_rows_have_scales_of_their_own() -> None:
    """A small row keeps its precision beside a large one, and a row of zeros stays zero."""
    table = np.array([[100.0, -50.0], [0.01, 0.005], [0.0, 0.0]], np.float32)
    small, scales = export.int8_rows(table)

    assert np.allclose(small * scales, table, rtol=0.01)
