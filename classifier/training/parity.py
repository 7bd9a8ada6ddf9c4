"""How far the int8 file strays from the torch network, in the units that matter: probabilities and decisions.

fp32 ONNX must equal torch to rounding. int8 may not: dynamic quantisation moves a logit by about a hundredth. What is
bounded is what a user could see: how far p_cheap moves, and how many prompts change sides at the default threshold.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from classifier import calibration, features
from classifier.calibration import Calibration
from classifier.encoder import Encoder
from classifier.features import Prompt
from classifier.training import export, fit, measure
from classifier.training.model import Router

FP32_LOGIT = 1e-3  # largest difference of a logit, torch against fp32 ONNX
INT8_P_CHEAP = 0.08  # largest difference of p_cheap, torch against int8
INT8_P_CHEAP_MEAN = 0.02  # its mean
INT8_FLIPPED = 0.05  # share of prompts that change sides at the default threshold
INT8_COSINE = 0.95  # smallest cosine between the embeddings


def compare(
    model: Router, tokenizer: Tokenizer, prompts: Sequence[Prompt], files: tuple[Path, Path], fitted: Calibration
) -> dict[str, Any]:
    """Torch against the fp32 and int8 `files` on `prompts`, one at a time as in serving."""
    fp32, int8 = (Encoder(path) for path in files)
    heads = export.heads(model)
    logit_gap, p_torch, p_int8, cosine = [], [], [], []
    logits, _, embeddings = fit.run(model, tokenizer, prompts)
    for prompt, truth, meaning in zip(prompts, logits, embeddings, strict=True):
        ids, structure = features.token_ids(tokenizer, prompt), features.structure(prompt)
        exact, small = (heads(encoder(*ids), structure) for encoder in (fp32, int8))
        logit_gap.append(float(np.abs(exact.logits - truth).max()))
        p_torch.append(calibration.p_cheap(truth, fitted))
        p_int8.append(calibration.p_cheap(small.logits, fitted))
        cosine.append(float(small.embedding @ meaning))
    gaps = np.abs(np.array(p_torch) - np.array(p_int8))
    return {
        "prompts": len(prompts),
        "fp32_logit_max": float(f"{max(logit_gap):.2g}"),
        "int8_p_cheap_max": round(float(gaps.max()), 4),
        "int8_p_cheap_mean": round(float(gaps.mean()), 4),
        "int8_rank_correlation": round(measure.spearman(np.array(p_torch), np.array(p_int8)), 4),
        "int8_cosine_min": round(min(cosine), 4),
        "p_torch": p_torch,
        "p_int8": p_int8,
    }


def flipped(parity: dict[str, Any], threshold: float) -> float:
    """Share of the compared prompts that stand on different sides of `threshold` in torch and int8."""
    sides = [np.array(parity[name]) >= threshold for name in ("p_torch", "p_int8")]
    return round(float((sides[0] != sides[1]).mean()), 4)


def faults(parity: dict[str, Any]) -> list[str]:
    """Which bounds are broken; empty when the export may ship."""
    bounds = {
        "fp32_logit_max": (parity["fp32_logit_max"], FP32_LOGIT),
        "int8_p_cheap_max": (parity["int8_p_cheap_max"], INT8_P_CHEAP),
        "int8_p_cheap_mean": (parity["int8_p_cheap_mean"], INT8_P_CHEAP_MEAN),
        "int8_flipped": (parity["int8_flipped"], INT8_FLIPPED),
        "1 - int8_cosine_min": (1 - parity["int8_cosine_min"], 1 - INT8_COSINE),
    }
    return [f"{name} is {value:.4g}, allowed {limit:.4g}" for name, (value, limit) in bounds.items() if value > limit]
