"""torch = fp32 ONNX = int8, within stated bounds: on a network trained here, and as measured for the shipped one."""

import numpy as np

from classifier import bundle, calibration
from classifier.features import Prompt
from classifier.predict import Predictor
from classifier.training import fit, parity
from tests.classifier.conftest import Tiny

PROMPTS = [
    *map(Prompt, ("hello", "prove that the river converges", "write code " * 60, "", "7 x 8 = ?")),
    Prompt("and that?", before="write code / hello river", turns=3, tools=2, results=1, system=900),
    Prompt("write code " * 60, before="prove that " * 30, turns=2),
]


def test_trained_network_and_its_bundle_agree(tiny: Tiny) -> None:
    """What the bundle serves is what was trained: p_cheap within the int8 bound for every prompt."""
    predictor = Predictor.load(tiny.directory)
    logits = fit.judge(tiny.model, tiny.tokenizer, PROMPTS)
    for prompt, row in zip(PROMPTS, logits, strict=True):
        trained = calibration.p_cheap(row, tiny.manifest.calibration)

        assert abs(trained - predictor.predict(prompt).p_cheap) <= parity.INT8_P_CHEAP


def test_tiny_parity_is_within_bounds(tiny: Tiny) -> None:
    """The measured parity of the network trained here breaks no bound."""
    assert parity.faults(tiny.manifest.metrics["parity"]) == []


def test_shipped_parity_is_within_bounds() -> None:
    """The parity measured when the shipped file was made breaks no bound."""
    assert parity.faults(bundle.load().manifest.metrics["parity"]) == []


def test_shipped_file_gives_the_trained_logits() -> None:
    """On this machine, too, the shipped int8 file gives what torch gave in training: seven-bit weights do not saturate.

    The manifest carries torch's logits for the probe prompts.
    """
    loaded = bundle.load()
    predictor = Predictor(loaded)
    reference = loaded.manifest.metrics["reference"]
    gaps = []
    for row in reference:
        prompt = Prompt(row["prompt"])
        trained = calibration.p_cheap(np.array(row["logits"], np.float32), loaded.manifest.calibration)
        gaps.append(abs(trained - predictor.predict(prompt).p_cheap))

    assert len(reference) >= 40
    assert max(gaps) <= parity.INT8_P_CHEAP
    assert np.mean(gaps) <= parity.INT8_P_CHEAP_MEAN
