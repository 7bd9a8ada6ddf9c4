"""LiteLLM's price file as a price list."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pricing import Above, Facts, Price, Tier, Tiers, Usage, decode, encode, litellm, tariff

STEADY = settings(deadline=None, derandomize=True, database=None)
PLAIN = {"litellm_provider": "p", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}
SPEC = {     # the file's first entry, which explains the others
    "litellm_provider": "one of https://docs.litellm.ai/docs/providers", "input_cost_per_token": 0.0,
    "max_input_tokens": "max input tokens, if the provider specifies it", "mode": "one of: chat, embedding",
}


def read(**models: Any) -> litellm.Read:
    """Read a file of these models."""
    return litellm.read(orjson.dumps({"sample_spec": SPEC, **models}), "a file", "2027-01-01")


def price(**said: Any) -> Price:
    """Return the price of a model of which this is said besides."""
    facts = read(m={**PLAIN, **said}).prices.models["m"]
    return facts.price


def why(**said: Any) -> list[str]:
    """Return why such a model is left out."""
    return list(read(m={**PLAIN, **said}).left_out)


def test_a_model() -> None:
    """Dollars a token become dollars per million, with provider, page, context and the longest answer."""
    said = {
        **PLAIN, "source": "https://x", "max_input_tokens": 128000, "max_output_tokens": 16384.0, "max_tokens": 5,
        "supports_vision": True, "rpm": 100,
    }

    assert read(m=said) == (
        msgspec.convert({"as_of": "2027-01-01", "source": "a file", "models": {"m": {
            "price": {"input": 1, "output": 2}, "context": 128_000, "max_output": 16_384, "provider": "p",
            "source": "https://x", "as_of": "2027-01-01",
        }}}, type(read(m=said).prices)), {},
    )


PARTS = {
    "cache_read_input_token_cost": {"cached_input": 3}, "cache_creation_input_token_cost": {"cache_write": 3},
    "cache_creation_input_token_cost_above_1hr": {"cache_write_1h": 3},
    "output_cost_per_reasoning_token": {"reasoning": 3},
    "input_cost_per_image_token": {"image_input": 3}, "input_cost_per_audio_token": {"audio_input": 3},
    "output_cost_per_image_token": {"image_output": 3}, "output_cost_per_audio_token": {"audio_output": 3},
    "input_cost_per_token_cache_hit": {"cached_input": 3},
    "cache_read_input_token_cost_above_200k_tokens": {"above": (Above(tokens=200_000, cached_input=3),)},
    "cache_creation_input_token_cost_above_1hr_above_200k_tokens": {
        "above": (Above(tokens=200_000, cache_write_1h=3),)
    },
    "input_cost_per_token_flex": {"tiers": Tiers(flex=Tier(input=3))},
    "output_cost_per_token_batches": {"tiers": Tiers(batch=Tier(output=3))},
    "cache_read_input_token_cost_above_272k_tokens_priority": {
        "tiers": Tiers(priority=Tier(above=(Above(tokens=272_000, cached_input=3),)))
    },
    "input_cost_per_token_ultrafast": {}, "cache_creation_input_token_cost_above_12hr": {},
    "output_cost_per_second": {}, "cache_read_input_audio_token_cost": {}, "google_maps_grounding_cost_per_query": {},
}


@pytest.mark.parametrize(("field", "expected"), PARTS.items(), ids=PARTS)
def test_a_field(field: str, expected: dict[str, Any]) -> None:
    """Each that has a name of ours; of those that a usage cannot tell apart, none."""
    assert Price(1, 2, **expected) == price(**{field: 3e-06})


def test_parts_that_cost_what_their_whole_does() -> None:
    """They are not named; a cache that costs nothing to write costs what the prompt does, one to read is free."""
    assert Price(1, 2, 0) == price(
        output_cost_per_reasoning_token=2e-06, input_cost_per_audio_token=1e-06, input_cost_per_image_token=1e-06,
        cache_creation_input_token_cost=0.0, cache_read_input_token_cost=0.0,
    )


def test_floats_become_what_they_mean() -> None:
    """Dollars a token as a float are seldom the number that was typed."""
    assert Price(0.3, 0.6, 0.075) == price(
        input_cost_per_token=2.9999999999999997e-07, output_cost_per_token=6.000000000000001e-07,
        cache_read_input_token_cost=7.5e-08,
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"input": 5e-07, "output": 1e-06}, 0.5),
        ({"input": 5e-07, "output": 1e-06, "cached": 5e-08}, 0.5),
        ({"input": 1.7e-06, "output": 3.4e-06}, 1.7),
        ({"input": 5e-07, "output": 1e-06, "cached": 1e-07}, Tier(0.5, 1, 0.1)),
        ({"input": 5e-07, "output": 1e-06, "audio": 1e-06}, Tier(0.5, 1, audio_input=1)),
        ({"input": 3.333e-07, "output": 6.667e-07}, Tier(0.3333, 0.6667)),
    ],
)
def test_a_tier(said: dict[str, float], expected: float | Tier) -> None:
    """It is so many times the usual price where that holds for all its parts, and its own numbers where it does not."""
    fields = {
        "input": "input_cost_per_token_batches", "output": "output_cost_per_token_batches",
        "cached": "cache_read_input_token_cost_batches", "audio": "input_cost_per_audio_token_batches",
    }

    assert Price(1, 2, 0.1, tiers=Tiers(batch=expected)) == price(
        cache_read_input_token_cost=1e-07, **{fields[name]: dollars for name, dollars in said.items()}
    )


def test_a_tier_and_a_length() -> None:
    """Both together, as Google and OpenAI have them."""
    longer = {f"{name}_above_200k_tokens": 3e-06 for name in ("input_cost_per_token", "output_cost_per_token")}
    numbers = {name: dollars for name, dollars in {**longer, **PLAIN}.items() if isinstance(dollars, float)}
    half = {f"{name}_batches": dollars / 2 for name, dollars in numbers.items()}
    expected = Price(1, 2, above=(Above(tokens=200_000, input=3, output=3),), tiers=Tiers(batch=0.5))

    assert expected == price(**longer, **half)


def test_anthropics_fast_mode() -> None:
    """How many times as much it costs; other numbers there are no prices."""
    assert Price(1, 2, tiers=Tiers(fast=2)) == price(provider_specific_entry={"fast": 2, "us": 1.1})
    assert Price(1, 2) == price(provider_specific_entry={"fast": True})


@pytest.mark.parametrize(
    ("said", "expected"), [(0.035, 35), (0.0, None), (None, None), ("x", None), ({}, None)], ids=str
)
def test_searches(said: Any, expected: float | None) -> None:
    """A thousand of those of the usual size."""
    sizes = {"search_context_size_low": 0.9, "search_context_size_medium": said, "search_context_size_high": 0.8}

    assert Price(1, 2, search=expected) == price(search_context_cost_per_query=said if said == {} else sizes)


def test_prices_by_ranges() -> None:
    """As Alibaba has them: the first range is the usual price."""
    ranges = [
        {"range": [0, 32000.0], "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
        {"range": [32000.0, 128000.0], "input_cost_per_token": 3e-06, "output_cost_per_token": 4e-06},
        {"range": [128000.0, 1e6], "input_cost_per_token": 5e-06, "output_cost_per_token": 6e-06}, "nonsense", {},
    ]
    longer = (Above(tokens=32_000, input=3, output=4), Above(tokens=128_000, input=5, output=6))
    made = read(m={"litellm_provider": "dashscope", "mode": "chat", "tiered_pricing": ranges})

    assert Price(1, 2, above=longer) == made.prices.models["m"].price


def test_another_name_of_a_model() -> None:
    """It costs what that one costs."""
    made = read(real=PLAIN, other={"alias_of": "real"}, lost={"alias_of": "gone"})

    assert made.prices.models["real"] == made.prices.models["other"]
    assert {"no price per token": ["lost"]} == made.left_out


@pytest.mark.parametrize("mode", ["embedding", "rerank", "moderation"])
def test_models_that_answer_without_tokens(mode: str) -> None:
    """Their answers cost nothing."""
    said = {name: value for name, value in PLAIN.items() if name != "output_cost_per_token"}

    assert Price(1, 0) == read(m={**said, "mode": mode}).prices.models["m"].price


LEFT_OUT: dict[str, list[dict[str, Any]]] = {
    "no price per token": [{"input_cost_per_token": None}, {"input_cost_per_token": None, "input_cost_per_second": 1}],
    "no price of the answer": [{"output_cost_per_token": None}],
    "a price of 0, which may mean that it is not known": [{"input_cost_per_token": 0, "output_cost_per_token": 0.0}],
    "a fee for each request besides": [{"input_cost_per_request": 0.005}, {"input_cost_per_query": 0.001}],
    "a price that is none": [
        {"input_cost_per_token": "1e-06"}, {"input_cost_per_token": True}, {"input_cost_per_token": -1e-06},
        {"output_cost_per_token": 1.5}, {"cache_read_input_token_cost": [1]}, {"input_cost_per_token_flex": -1.0},
        {"input_cost_per_token_above_0k_tokens_flex": "x"}, {"provider_specific_entry": {"fast": -2}},
    ],
}


@pytest.mark.parametrize(("reason", "said"), [(reason, said) for reason, each in LEFT_OUT.items() for said in each])
def test_what_is_left_out(reason: str, said: dict[str, Any]) -> None:
    """A cost that cannot be told is unknown, and it is said why."""
    assert [reason] == why(**said)


def test_what_is_no_model() -> None:
    """The explanation of the file is none, nor is anything that names no provider."""
    made = read(m=PLAIN, note="text", other={"input_cost_per_token": 1e-06})

    assert (["m"], {}) == (list(made.prices.models), made.left_out)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"a": 1}', b'{"sample_spec": {"litellm_provider": "x"}}', b"{", b"\xff\xfe"]
)
def test_another_file(data: bytes) -> None:
    """It is said that it is none of LiteLLM's."""
    with pytest.raises(ValueError, match=r"."):
        litellm.read(data, "", "")


NUMBERS = st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["range", "fast"]), inner, max_size=2),
    max_leaves=4,
)
FIELDS = st.sampled_from([
    *litellm.PARTS, "input_cost_per_token_batches", "output_cost_per_token_above_1k_tokens_flex", "tiered_pricing",
    "mode", "search_context_cost_per_query", "provider_specific_entry", "alias_of", "max_input_tokens",
    "input_cost_per_query",
])


@STEADY
@given(said=st.dictionaries(FIELDS, JSON))
def test_any_model_is_taken_or_left_out(said: dict[str, Any]) -> None:
    """Whatever a file says, it is a price that can be calculated with and kept, or a reason."""
    made = read(m={**PLAIN, **said})

    assert (len(made.prices.models), sum(map(len, made.left_out.values()))) in ((1, 0), (0, 1))
    assert made.prices == decode(encode(made.prices))
    assert all(min(tariff(facts.price).cost(Usage(5_000, 10, 7))) >= 0 for facts in made.prices.models.values())


def test_facts_are_as_dated() -> None:
    """The day is that of the import."""
    assert Facts(Price(1, 2), provider="p", as_of="2027-01-01") == read(m=PLAIN).prices.models["m"]
