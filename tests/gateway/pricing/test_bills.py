"""Golden bills: what providers say was used, at what they charge for it, in dollars that were calculated by hand.

Prices are those of 2026-11-28 and stand here, so that a change of the table changes no bill. In the arithmetic, a price
of 2.50 is dollars per million tokens, so tokens * price is in millionths of a dollar.
"""

from decimal import Decimal
from typing import Any

import pytest

from gateway.dialects.anthropic.usage import Counts
from gateway.dialects.gemini import usage as gemini
from gateway.dialects.openai.usage import usage_of as openai
from gateway.pricing import Above, Price, Tier, Tiers, Usage, tariff

HALF = Tiers(batch=0.5)
GPT_4O = Price(2.5, 10, 1.25, tiers=Tiers(batch=0.5, priority=1.7))
O4_MINI = Price(1.1, 4.4, 0.275, tiers=Tiers(batch=0.5, flex=Tier(0.55, 2.2, 0.138)))
GPT_54 = Price(
    2.5, 15, 0.25, above=(Above(tokens=272_000, input=5, output=22.5, cached_input=0.5),),
    tiers=Tiers(
        flex=Tier(1.25, 7.5, 0.13, above=(Above(tokens=272_000, input=2.5, output=11.25, cached_input=0.25),)),
        priority=2,
    ),
)
GPT_AUDIO = Price(2.5, 10, audio_input=32, audio_output=64)
GPT_6 = Price(2, 10, 0.2, 2.5, search=10)
EMBEDDING = Price(0.02, 0)
DEEPSEEK = Price(0.3, 1.2, 0.006)
SONNET = Price(3, 15, 0.3, 3.75, 6, search=10, tiers=HALF)
SONNET_45 = Price(
    3, 15, 0.3, 3.75, 6, tiers=HALF,
    above=(Above(tokens=200_000, input=6, output=22.5, cached_input=0.6, cache_write=7.5, cache_write_1h=12),),
)
OPUS = Price(4, 20, 0.2, 5, 8, tiers=Tiers(batch=0.5, fast=2))
FLASH = Price(0.3, 2.5, 0.03, audio_input=1, search=35, tiers=Tiers(batch=Tier(0.15, 1.25, 0.03, audio_input=0.5)))
FLASH_IMAGE = Price(0.3, 2.5, 0.03, image_output=30)
PRO = Price(
    1.25, 10, 0.125, above=(Above(tokens=200_000, input=2.5, output=15, cached_input=0.25),), tiers=Tiers(priority=1.8)
)


def said(
    prompt: int, answer: int, *, given: dict[str, int] | None = None, made: dict[str, int] | None = None
) -> dict[str, Any]:
    """A usage in OpenAI's words."""
    return {
        "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer,
        "prompt_tokens_details": given or {}, "completion_tokens_details": made or {},
    }


OPENAI = {
    # 86 * 2.50 = 215; 1,920 * 1.25 = 2,400; 300 * 10 = 3,000: 5,615
    "cached": (GPT_4O, said(2006, 300, given={"cached_tokens": 1920}), "", "0.005615"),
    # 75 * 1.10 = 82.5; 1,186 * 4.40 = 5,218.4, 1,024 of them thoughts: 5,300.9
    "reasoning": (O4_MINI, said(75, 1186, made={"reasoning_tokens": 1024}), "", "0.0053009"),
    # 8,000 * 0.55 = 4,400; 2,000 * 0.138 = 276; 1,000 * 2.20 = 2,200: 6,876
    "flex": (O4_MINI, said(10_000, 1_000, given={"cached_tokens": 2000}), "flex", "0.006876"),
    # 1,000 * 1.25 = 1,250; 100 * 5 = 500: 1,750
    "batch": (GPT_4O, said(1_000, 100), "batch", "0.00175"),
    # 900 * 4.25 = 3,825; 100 * 2.125 = 212.5; 50 * 17 = 850: 4,887.5
    "priority": (GPT_4O, said(1_000, 50, given={"cached_tokens": 100}), "priority", "0.0048875"),
    # 200 * 2.50 = 500; 800 * 32 = 25,600; 100 * 10 = 1,000; 400 * 64 = 25,600: 52,700
    "audio": (GPT_AUDIO, said(1_000, 500, given={"audio_tokens": 800}, made={"audio_tokens": 400}), "", "0.0527"),
    # 272,000 * 2.50 = 680,000; 1,000 * 15 = 15,000: 695,000
    "as long as may be": (GPT_54, said(272_000, 1_000), "", "0.695"),
    # 200,000 * 5 = 1,000,000; 100,000 * 0.50 = 50,000; 2,000 * 22.50 = 45,000: 1,095,000
    "long": (GPT_54, said(300_000, 2_000, given={"cached_tokens": 100_000}), "", "1.095"),
    # 200,000 * 2.50 = 500,000; 100,000 * 0.25 = 25,000; 2,000 * 11.25 = 22,500: 547,500
    "long, flex": (GPT_54, said(300_000, 2_000, given={"cached_tokens": 100_000}), "flex", "0.5475"),
    # 300,000 * 10 = 3,000,000; 2,000 * 45 = 90,000: 3,090,000
    "long, priority": (GPT_54, said(300_000, 2_000), "priority", "3.09"),
    # 1,000 * 2 = 2,000; 3,000 * 0.20 = 600; 2,000 * 2.50 = 5,000; 100 * 10 = 1,000: 8,600
    "written to the cache": (
        GPT_6, said(6000, 100, given={"cached_tokens": 3000, "cache_write_tokens": 2000}), "", "0.0086"
    ),
    # 8 * 0.02 = 0.16
    "an embedding": (EMBEDDING, {"prompt_tokens": 8, "total_tokens": 8}, "", "0.00000016"),
    # in the words of the Responses API: 328 * 2 = 656; 52 * 10 = 520: 1,176
    "a response": (GPT_6, {"input_tokens": 328, "output_tokens": 52, "total_tokens": 380}, "", "0.001176"),
    # DeepSeek: 476 * 0.30 = 142.8; 1,024 * 0.006 = 6.144; 100 * 1.20 = 120: 268.944
    "another server's cache": (
        DEEPSEEK, {**said(1500, 100), "prompt_cache_hit_tokens": 1024, "prompt_cache_miss_tokens": 476}, "",
        "0.000268944",
    ),
    # a cache that is larger than the prompt is all of it: 100 * 1.25 = 125; 10 * 10 = 100: 225
    "a contradiction": (GPT_4O, said(100, 10, given={"cached_tokens": 5000}), "", "0.000225"),
}


@pytest.mark.parametrize(("price", "usage", "tier", "dollars"), OPENAI.values(), ids=OPENAI)
def test_openai(price: Price, usage: dict[str, Any], tier: str, dollars: str) -> None:
    """As OpenAI and the servers that speak as it does say it."""
    assert Decimal(dollars) == bill(price, openai(usage, tier))


ANTHROPIC = {
    # 2,095 * 3 = 6,285; 503 * 15 = 7,545: 13,830
    "plain": (SONNET, [{"input_tokens": 2095, "output_tokens": 503}], "0.01383"),
    # 50 * 3 = 150; 100,000 * 0.30 = 30,000; 500 * 3.75 = 1,875; 1,500 * 6 = 9,000; 800 * 15 = 12,000: 53,025
    "read and written, some of it for an hour": (
        SONNET, [{
            "input_tokens": 50, "cache_read_input_tokens": 100_000, "cache_creation_input_tokens": 2_000,
            "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 1_500},
            "output_tokens": 800,
        }], "0.053025",
    ),
    # 105 * 3 = 315; 60 * 15 = 900; 2 searches * 10,000 = 20,000: 21,215
    "searched": (
        SONNET, [{"input_tokens": 105, "output_tokens": 60, "server_tool_use": {"web_search_requests": 2}}], "0.021215"
    ),
    # 10,000 * 1.50 = 15,000; 2,000 * 0.15 = 300; 400 * 3 = 1,200; 1,000 * 7.50 = 7,500: 24,000
    "batch": (
        SONNET, [{
            "input_tokens": 10_000, "cache_read_input_tokens": 2_000, "cache_creation_input_tokens": 400,
            "cache_creation": {"ephemeral_1h_input_tokens": 400}, "output_tokens": 1_000, "service_tier": "batch",
        }], "0.024",
    ),
    # 1,000 * 8 = 8,000; 500 * 40 = 20,000: 28,000
    "fast": (OPUS, [{"input_tokens": 1_000, "output_tokens": 500, "speed": "fast"}], "0.028"),
    # 150,000 * 6 = 900,000; 100,000 * 0.60 = 60,000; 1,000 * 22.50 = 22,500: 982,500. The cache counts as well
    "long": (
        SONNET_45, [{"input_tokens": 150_000, "cache_read_input_tokens": 100_000, "output_tokens": 1_000}], "0.9825"
    ),
    # half of it, with 10,000 * 12 / 2 = 60,000 for an hour: 491,250 + 60,000
    "long, batch": (
        SONNET_45, [{
            "input_tokens": 150_000, "cache_read_input_tokens": 100_000, "cache_creation_input_tokens": 10_000,
            "cache_creation": {"ephemeral_1h_input_tokens": 10_000}, "output_tokens": 1_000, "service_tier": "batch",
        }], "0.55125",
    ),
    # a stream says the prompt first and the answer as it grows: 1,200 * 3 = 3,600; 90 * 15 = 1,350: 4,950
    "a stream": (
        SONNET, [{"input_tokens": 1_200, "output_tokens": 1}, {"output_tokens": 40}, {"output_tokens": 90}], "0.00495"
    ),
    # cut: what it said last, 1,200 * 3 = 3,600; 1 * 15 = 15: 3,615
    "a stream that was cut": (SONNET, [{"input_tokens": 1_200, "output_tokens": 1}], "0.003615"),
}


@pytest.mark.parametrize(("price", "frames", "dollars"), ANTHROPIC.values(), ids=ANTHROPIC)
def test_anthropic(price: Price, frames: list[dict[str, Any]], dollars: str) -> None:
    """As Anthropic says it, in a message or in the frames of a stream."""
    counts = Counts()
    for frame in frames:
        counts.take(frame)

    assert Decimal(dollars) == bill(price, counts.usage())


def modalities(**counts: int) -> list[dict[str, Any]]:
    """Tokens by modality, in Google's words."""
    return [{"modality": name.upper(), "tokenCount": count} for name, count in counts.items()]


GEMINI = {
    # 500 * 0.30 = 150; 1,000 * 1 = 1,000; 200 + 300 thoughts * 2.50 = 1,250: 2,400
    "sounds and thoughts": (
        FLASH, {
            "promptTokenCount": 1_500, "promptTokensDetails": modalities(text=500, audio=1_000),
            "candidatesTokenCount": 200, "thoughtsTokenCount": 300, "totalTokenCount": 2_000,
        }, "0.0024",
    ),
    # 1,000 * 0.30 = 300; 4,000 * 0.03 = 120; 100 * 2.50 = 250: 670
    "cached": (
        FLASH, {"promptTokenCount": 5_000, "cachedContentTokenCount": 4_000, "candidatesTokenCount": 100,
                "totalTokenCount": 5_100}, "0.00067",
    ),
    # 1,000 * 0.15 = 150; 4,000 * 0.03 = 120, which a batch makes no cheaper; 100 * 1.25 = 125: 395
    "batch": (
        FLASH, {"promptTokenCount": 5_000, "cachedContentTokenCount": 4_000, "candidatesTokenCount": 100,
                "totalTokenCount": 5_100, "serviceTier": "batch"}, "0.000395",
    ),
    # 20 * 0.30 = 6; 1,290 * 30 = 38,700; 10 * 2.50 = 25: 38,731
    "an image": (
        FLASH_IMAGE, {
            "promptTokenCount": 20, "candidatesTokenCount": 1_300, "totalTokenCount": 1_320,
            "candidatesTokensDetails": modalities(text=10, image=1_290),
        }, "0.038731",
    ),
    # 200,000 * 2.50 = 500,000; 50,000 * 0.25 = 12,500; 1,000 * 15 = 15,000: 527,500
    "long": (
        PRO, {"promptTokenCount": 250_000, "cachedContentTokenCount": 50_000, "candidatesTokenCount": 1_000,
              "totalTokenCount": 251_000}, "0.5275",
    ),
    # 1.8 times that: 949,500
    "long, priority": (
        PRO, {"promptTokenCount": 250_000, "cachedContentTokenCount": 50_000, "candidatesTokenCount": 1_000,
              "totalTokenCount": 251_000, "trafficType": "ON_DEMAND_PRIORITY"}, "0.9495",
    ),
}


@pytest.mark.parametrize(("price", "usage", "dollars"), GEMINI.values(), ids=GEMINI)
def test_gemini(price: Price, usage: dict[str, Any], dollars: str) -> None:
    """As Google says it."""
    assert Decimal(dollars) == bill(price, gemini.usage_of(usage))


def test_gemini_with_searches() -> None:
    """An older model's searches are paid once a prompt: 100 * 0.30 = 30; 40 * 2.50 = 100; 35,000: 35,130."""
    frame: dict[str, Any] = {
        "modelVersion": "gemini-2.5-flash", "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 40},
        "candidates": [{"groundingMetadata": {"webSearchQueries": ["a", "b", "c"]}}],
    }

    assert Decimal("0.03513") == bill(FLASH, gemini.usage_of(frame["usageMetadata"], gemini.searches(frame)))


def test_an_estimate_costs_what_it_would_if_it_were_said() -> None:
    """A cut answer that was counted by us: 1,200 * 2.50 = 3,000; 37 * 10 = 370: 3,370."""
    assert Decimal("0.00337") == bill(GPT_4O, Usage(1_200, 37, estimated=True))


def test_a_month_of_a_million_small_requests() -> None:
    """To the cent, and here to the last digit: no price of three decimals is ever rounded.

    Prompts of 100 to 109 tokens, 104.5 on average: 104,500,000 * 0.15 = 15.675 dollars. Answers of 20 to 24, 22 on
    average: 22,000,000 * 0.60 = 13.20. Together 28.875 dollars.
    """
    ledger = tariff(Price(0.15, 0.6))
    total = sum(ledger.cost(Usage(100 + i % 10, 20 + i % 5)).total for i in range(1_000_000))

    assert 28_875_000_000 == total


def test_a_month_at_prices_that_must_be_rounded() -> None:
    """Half a nano-dollar in each of a million requests is a twentieth of a cent, and the bill is the same.

    As above, at 0.0375 and 0.15: 104,500,000 * 0.0375 = 3.91875 and 22,000,000 * 0.15 = 3.30 dollars. Together
    7.21875, and on the bill 7.22.
    """
    ledger = tariff(Price(0.0375, 0.15))
    total = sum(ledger.cost(Usage(100 + i % 10, 20 + i % 5)).total for i in range(1_000_000))

    assert 722 == round(total / 10_000_000)
    assert abs(total - 7_218_750_000) <= 500_000


def bill(price: Price, usage: Usage | None) -> Decimal:
    """Return what a usage costs, in dollars."""
    assert usage is not None
    cost = tariff(price).cost(usage)

    assert sum(cost.parts().values()) == cost.total
    return Decimal(cost.total) / 10**9
