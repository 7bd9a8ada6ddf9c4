"""Why a prompt would go where it would go, and what that costs: the dry run's answer, on HTTP and on a terminal."""

from collections.abc import Mapping
from typing import Any

from gateway.config import ModelConfig
from gateway.pricing import Usage, tariff
from gateway.router import Plan, Verdict
from gateway.wire import ChatRequest

BYTES_PER_TOKEN = 4          # of English prose, for an estimate
OUTPUT_TOKENS = 300          # assumed for an answer when the caller sets no limit


def explain(
    plan: Plan, verdict: Verdict | None, request: ChatRequest, models: Mapping[str, ModelConfig]
) -> dict[str, Any]:
    """Return the decision with its full reasoning. Dollars are estimates and say what they assume."""
    usage = Usage(max(1, request.text_bytes // BYTES_PER_TOKEN), request.max_output or OUTPUT_TOKENS)
    chosen = plan.targets[0]
    return {
        "model": chosen.model,
        "route": plan.route,
        "rung": chosen.rung or None,
        "reason": plan.reason,
        "why": plan.why,
        "verdict": None if verdict is None else {
            "source": verdict.source, "score": verdict.score, "p_cheap": verdict.p_cheap, "task": verdict.task
        },
        "threshold": plan.threshold,
        "targets": [{"model": t.model, "rung": t.rung or None} for t in plan.targets],
        "removed": [{"model": model, "why": why} for model, why in plan.removed],
        "estimate": {
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "cost_usd": _dollars(models[chosen.model], usage),
            "cost_usd_premium": None if plan.premium is None else _dollars(models[plan.premium], usage),
        },
    }


def _dollars(model: ModelConfig, usage: Usage) -> float | None:
    return None if model.price is None else tariff(model.price).cost(usage).total / 1e9
