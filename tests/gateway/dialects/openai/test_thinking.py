"""How much a model may think, by what its name tells."""

import pytest

from gateway.dialects.neutral import Losses, Reasoning
from gateway.dialects.openai import LOSSES
from gateway.dialects.openai.thinking import reasons, takeable, write_reasoning
from gateway.errors import Inexpressible


@pytest.mark.parametrize(
    ("asked", "model", "effort", "lost"),
    [
        (Reasoning(), "gpt-5", None, []),
        (Reasoning("high"), "llama", "high", []),
        (Reasoning("xhigh"), "gpt-5.4", "xhigh", []),
        (Reasoning("max"), "qwen3", "high", ["reasoning.effort"]),
        (Reasoning("minimal"), "qwen3", "low", ["reasoning.effort"]),
        (Reasoning("high"), "gpt-4o", None, ["reasoning"]),
        (Reasoning(budget=9_000), "openai/gpt-4.1", None, ["reasoning"]),
        (Reasoning(budget=0), "gpt-4o", None, []),
        (Reasoning(budget=0), "gpt-5.4", "none", ["reasoning.budget"]),
        (Reasoning(budget=0), "gpt-5-mini", "minimal", ["reasoning.budget"]),
        (Reasoning(budget=0), "o3", "low", ["reasoning.budget"]),
        (Reasoning(budget=0), "qwen3", "none", ["reasoning.budget"]),
        (Reasoning(budget=-1), "qwen3", None, []),
        (Reasoning(budget=9_000), "gpt-oss-120b", "medium", ["reasoning.budget"]),
        (Reasoning("low", shown="auto"), "o3", "low", ["reasoning.shown"]),
        (Reasoning("low", 9_000), "o3", "low", ["reasoning.budget"]),
        (Reasoning("low", shown="none"), "o3", "low", []),
    ],
)
def test_an_effort_that_the_model_takes(asked: Reasoning, model: str, effort: str | None, lost: list[str]) -> None:
    """No caller of another dialect is refused for having said how much to think."""
    losses = Losses("openai", LOSSES)
    written = write_reasoning(asked, model, losses, own=False)

    assert (written, list(losses.kept)) == ({} if effort is None else {"reasoning_effort": effort}, lost)


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (Reasoning(), {}), (Reasoning("max"), {"reasoning_effort": "max"}),
        (Reasoning("low", 5, "none"), {"reasoning_effort": "low", "reasoning": {"max_tokens": 5, "exclude": True}}),
    ],
)
def test_ones_own_words_come_out_as_they_were(asked: Reasoning, fields: dict[str, object]) -> None:
    """For any model."""
    assert write_reasoning(asked, "gpt-4o", Losses("openai", LOSSES), own=True) == fields


@pytest.mark.parametrize("model", ["o1", "o3-mini", "openai/o4-mini", "gpt-5", "openai/gpt-5.4", "azure-gpt-5-mini"])
def test_openais_reasoning_models(model: str) -> None:
    """By themselves, at a router, and under a deployment's name that has theirs in it."""
    assert reasons(model)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-oss-20b", "marco-o1", "foo3", "llama-3", "deepseek-r1", "chatgpt-4o"])
def test_other_models(model: str) -> None:
    """Whatever they do, they take the fields that all servers know."""
    assert not reasons(model)


SAMPLING = {
    "temperature": 0.2, "top_p": 0.9, "presence_penalty": 1, "frequency_penalty": 1, "stop": ["x"], "seed": 1,
    "max_completion_tokens": 9,
}
TAKEN_BY_ALL = {"seed": 1, "max_completion_tokens": 9}


@pytest.mark.parametrize(
    ("model", "effort", "left"),
    [
        ("gpt-4o", None, SAMPLING), ("llama-3", "high", SAMPLING), ("gpt-5-chat-latest", None, SAMPLING),
        ("gpt-5", None, TAKEN_BY_ALL), ("openai/o4-mini", "low", TAKEN_BY_ALL), ("gpt-5.4", "low", TAKEN_BY_ALL),
        ("gpt-5.6", None, TAKEN_BY_ALL), ("gpt-5.2-codex", None, TAKEN_BY_ALL), ("gpt-5.4-pro", None, TAKEN_BY_ALL),
        ("gpt-5.4-mini", None, {"temperature": 0.2, "top_p": 0.9, **TAKEN_BY_ALL}),
        ("gpt-5.1", "none", {"temperature": 0.2, "top_p": 0.9, **TAKEN_BY_ALL}),
    ],
)
def test_models_that_reason_are_not_told_how_to_sample(
    model: str, effort: str | None, left: dict[str, object]
) -> None:
    """They would refuse the request; what is left out is named."""
    losses = Losses("openai", LOSSES)

    assert takeable(SAMPLING, effort, model, losses) == left
    assert sorted(losses.kept) == sorted(SAMPLING.keys() - left.keys())


def test_the_one_value_that_they_take_is_no_loss() -> None:
    """Many SDKs send the defaults along."""
    losses = Losses("openai", LOSSES)
    defaults = {"temperature": 1.0, "top_p": 1, "presence_penalty": 0.0}

    assert (takeable(defaults, None, "gpt-5", losses), list(losses.kept)) == (defaults, [])


def test_probabilities_that_do_not_come_are_refused() -> None:
    """The caller would wait for them."""
    with pytest.raises(Inexpressible, match="logprobs"):
        takeable({"logprobs": True, "top_logprobs": 3}, "high", "gpt-5.4", Losses("openai", LOSSES))
