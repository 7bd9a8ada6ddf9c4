"""The parity measurement itself: it must see a network that strays."""

from pathlib import Path

import pytest
import torch

from classifier.features import Prompt
from classifier.training import export, parity
from classifier.training.model import Router
from tests.classifier.conftest import Tiny

PROMPTS = [Prompt("hello"), Prompt("prove that"), Prompt("write code for it", before="hello / the river", turns=2)]
GOOD = {
    "fp32_logit_max": 1e-6,
    "int8_p_cheap_max": 0.01,
    "int8_p_cheap_mean": 0.001,
    "int8_flipped": 0.0,
    "int8_cosine_min": 0.99,
}


def test_own_export_agrees(tiny: Tiny, tmp_path: Path) -> None:
    """A network's own files are near it in every measure."""
    files = (tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    for file, int8 in zip(files, (False, True), strict=True):
        export.write_onnx(tiny.model, file, int8=int8)
    found = parity.compare(tiny.model, tiny.tokenizer, PROMPTS, files, tiny.manifest.calibration)
    found["int8_flipped"] = 0.0

    assert found["prompts"] == 3
    assert parity.faults(found) == []


def test_foreign_export_is_seen(tiny: Tiny, tmp_path: Path) -> None:
    """Files of another network break the bounds by name."""
    torch.manual_seed(9)
    other = Router(tiny.model.shape).eval()
    export.write_onnx(other, tmp_path / "other.onnx", int8=False)
    files = (tmp_path / "other.onnx", tmp_path / "other.onnx")
    found = parity.compare(tiny.model, tiny.tokenizer, PROMPTS, files, tiny.manifest.calibration)
    found["int8_flipped"] = 0.0

    assert any(fault.startswith("fp32_logit_max is") for fault in parity.faults(found))


def test_flips_are_counted() -> None:
    """A prompt that changes sides at the threshold is a flip, one that moves on its side is not."""
    assert parity.flipped({"p_torch": [0.69, 0.2, 0.9, 0.71], "p_int8": [0.71, 0.3, 0.8, 0.72]}, 0.7) == 0.25


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("fp32_logit_max", 0.1),
        ("int8_p_cheap_max", 0.5),
        ("int8_p_cheap_mean", 0.1),
        ("int8_flipped", 0.2),
        ("int8_cosine_min", 0.5),
    ],
)
def test_each_bound_is_enforced(measure: str, value: float) -> None:
    """Good figures pass; one bad figure is named with its limit."""
    assert parity.faults(GOOD) == []
    assert len(parity.faults(GOOD | {measure: value})) == 1
