"""The dry run's answer: the decision, its reasons and an estimate."""

from typing import Any

import orjson
import pytest

from gateway.config import ModelConfig, RouteConfig
from gateway.explain import explain
from gateway.pricing import Price
from gateway.router import Router, Source, Verdict
from gateway.wire import ChatRequest, chat

MODELS = {
    "small": ModelConfig(upstream="u", price=Price(1, 2), context=1000, tools=False),
    "large": ModelConfig(upstream="u", price=Price(10, 20), context=1000),
    "own": ModelConfig(upstream="u", context=1000),
}


def asked(model: str = "auto", **fields: Any) -> ChatRequest:
    """A request as the path decodes it."""
    return chat.decode(orjson.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}), {})


def explained(request: ChatRequest, verdict: Verdict | None, ladder: list[str] | None = None) -> dict[str, Any]:
    """Plan and explain."""
    router = Router({"auto": RouteConfig(ladder=ladder or ["small", "large"])}, MODELS, 0.7)
    return explain(router.plan(request, verdict), verdict, request, MODELS)


def test_a_learned_decision() -> None:
    """Who, why, by which verdict, who else, and what it costs beside the top of the ladder."""
    request = asked()
    tokens = len(request.raw) // 4
    expected = {
        "model": "small", "route": "auto", "rung": "cheap", "reason": "learned",
        "why": "p_cheap 0.900 ≥ threshold 0.7",
        "verdict": {"source": "classifier", "score": 0.1, "p_cheap": 0.9, "task": "chat"},
        "threshold": 0.7,
        "targets": [{"model": "small", "rung": "cheap"}, {"model": "large", "rung": "premium"}],
        "removed": [],
        "estimate": {
            "input_tokens": tokens, "output_tokens": 300, "cost_usd": (tokens + 600) / 1e6,
            "cost_usd_premium": (10 * tokens + 6000) / 1e6,
        },
    }

    assert expected == explained(request, Verdict(Source.CLASSIFIER, 0.1, 0.9, "chat"))


def test_a_named_model() -> None:
    """No route, no rung, no verdict, nothing to compare with."""
    said = explained(asked("large"), None)
    expected = (None, None, "explicit", None, None, [{"model": "large", "rung": None}])

    assert expected == tuple(said[key] for key in ("route", "rung", "reason", "verdict", "threshold", "targets"))
    assert said["estimate"]["cost_usd_premium"] is None


def test_what_was_removed() -> None:
    """Each model that cannot serve the request, with what it lacks."""
    said = explained(asked(tools=[{"type": "function"}]), Verdict(Source.CACHE, 0.1, 0.9))

    assert said["removed"] == [{"model": "small", "why": "it cannot call tools"}]
    assert (said["model"], said["reason"]) == ("large", "capability")


@pytest.mark.parametrize(("fields", "expected"), [({}, 300), ({"max_tokens": 50}, 50)])
def test_the_callers_limit_is_the_estimate(fields: dict[str, Any], expected: int) -> None:
    """What may be written at most, or an assumption."""
    assert expected == explained(asked(**fields), None)["estimate"]["output_tokens"]


def test_an_unknown_price_is_not_zero() -> None:
    """A cost that is not known is null."""
    said = explained(asked(), Verdict(Source.LATE), ladder=["small", "own"])

    assert (said["model"], said["estimate"]["cost_usd"], said["estimate"]["cost_usd_premium"]) == ("own", None, None)


def test_it_is_json() -> None:
    """The whole answer can be sent."""
    said = explained(asked(), Verdict(Source.ABSENT))

    assert orjson.loads(orjson.dumps(said))["why"] == "no verdict (absent): the top of the ladder"
