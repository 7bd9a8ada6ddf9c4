"""torch to ONNX to int8."""

from pathlib import Path

import numpy as np
import onnx
import torch

from classifier import features
from classifier.encoder import Encoder
from classifier.features import Prompt
from classifier.training import export
from tests.classifier.conftest import Tiny

TEXTS = ("hello", "prove that the river converges", "write code " * 60)


def torch_logits(tiny: Tiny, text: str) -> np.ndarray:
    """What the torch network says of one prompt."""
    ids = features.token_ids(tiny.tokenizer, text)
    structure = torch.from_numpy(features.structure(Prompt(text)))[None]
    with torch.inference_mode():
        output = tiny.model(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool), structure)
    found: np.ndarray = output.logits[0].numpy()
    return found


def test_fp32_is_torch(tiny: Tiny, tmp_path: Path) -> None:
    """The graph written by hand computes what the network computes, to rounding, at any length."""
    export.write_onnx(tiny.model, tmp_path / "fp32.onnx", int8=False)
    encoder = Encoder(tmp_path / "fp32.onnx")
    for text in TEXTS:
        found = encoder(features.token_ids(tiny.tokenizer, text), features.structure(Prompt(text))).logits

        assert np.abs(torch_logits(tiny, text) - found).max() < 1e-5


def test_int8_is_small_and_near(tiny: Tiny, tmp_path: Path) -> None:
    """Quantising shrinks the file and moves logits little."""
    for int8 in (False, True):
        export.write_onnx(tiny.model, tmp_path / f"{int8}.onnx", int8=int8)
    encoder = Encoder(tmp_path / "True.onnx")
    gaps = [
        np.abs(
            torch_logits(tiny, text)
            - encoder(features.token_ids(tiny.tokenizer, text), features.structure(Prompt(text))).logits
        ).max()
        for text in TEXTS
    ]

    assert (tmp_path / "True.onnx").stat().st_size < 0.7 * (tmp_path / "False.onnx").stat().st_size
    assert max(gaps) < 0.1


def test_matrix_products_are_int8(tiny: Tiny, tmp_path: Path) -> None:
    """No floating-point product is left in the layers; weights use seven bits, the words eight."""
    export.write_onnx(tiny.model, tmp_path / "int8.onnx", int8=True)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    kinds = {node.op_type for node in graph.node}
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
