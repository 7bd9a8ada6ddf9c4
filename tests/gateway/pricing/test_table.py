"""What is known of a model, by its name."""

import re

import msgspec
import pytest

from gateway.pricing import Facts, Known, Price, PriceList, Prices, built_in, decode, encode, provider_of, table, tariff

MODELS = built_in().models
WAYS = {
    "as it is": ("gpt-4o", "", "gpt-4o"),
    "as it is, with a date of its own": ("gpt-4o-2024-05-13", "", "gpt-4o-2024-05-13"),
    "as it is, where `latest` is a model": ("mistral-large-latest", "", "mistral-large-latest"),
    "without its provider": ("openai/gpt-4o", "", "gpt-4o"),
    "without the kind of thing it is": ("models/gemini-2.5-pro", "", "gemini-2.5-pro"),
    "without a whole path": ("publishers/google/models/gemini-2.5-pro", "", "gemini-2.5-pro"),
    "without its date": ("gpt-4o-2024-08-06", "", "gpt-4o"),
    "without a date in one word": ("claude-haiku-4-5-20251001", "", "claude-haiku-4-5"),
    "without a date after an @": ("claude-haiku-4-5@20251001", "", "claude-haiku-4-5"),
    "without `latest`": ("claude-3-5-haiku-latest", "", "claude-3-5-haiku"),
    "without provider and date": ("anthropic/claude-opus-4-5-20251101", "", "claude-opus-4-5"),
    "the date before the provider": ("openai/gpt-4o-2024-05-13", "", "gpt-4o-2024-05-13"),
    "at its provider": ("openai/gpt-oss-120b", "groq", "groq/openai/gpt-oss-120b"),
    "at another provider": ("openai/gpt-oss-120b", "together_ai", "together_ai/openai/gpt-oss-120b"),
    "at a provider that has no list": ("gpt-4o", "azure", "gpt-4o"),
    "named with its provider already": ("groq/openai/gpt-oss-120b", "groq", "groq/openai/gpt-oss-120b"),
}


@pytest.mark.parametrize(("name", "provider", "expected"), WAYS.values(), ids=WAYS)
def test_a_name_is_found(name: str, provider: str, expected: str) -> None:
    """The most exact spelling that a list has."""
    known = Prices().find(name, provider)

    assert known is not None
    assert (expected, MODELS[expected], "built-in") == known


@pytest.mark.parametrize(
    "name",
    [
        "", "gpt", "gpt-5-mini-high", "gpt-5-minor", "gpt-4o-2024", "gpt-4o-0806", "gpt-4o-2024-13-45x",
        "gpt-4o-2024-08-06-x", "GPT-4o", " gpt-4o", "gpt-4o ", "gpt-4o/", "openai:gpt-4o", "my-gpt-4o",
        "gpt-4o-latest-latest", "gpt-oss-120b", "openai/gpt-oss-120b", "ft:gpt-4o:me", "claude-haiku", "gemini-2.5",
        "gpt-5-2099-99-99",
    ],
)
def test_a_name_that_resembles_one_is_not_found(name: str) -> None:
    """Nothing is guessed: neither case nor ends nor a part of a name make a model."""
    assert Prices().find(name) is None


def test_a_smaller_model_is_never_taken_for_a_larger_one() -> None:
    """Each name of the table finds itself, also where another one is its beginning."""
    prices = Prices()

    assert all(known.name == name for name in MODELS if (known := prices.find(name)) is not None)
    assert {name for name in MODELS if prices.find(name) is None} == set()
    assert Prices(PriceList("", "", {"gpt-9": Facts(Price(1, 2))})).find("gpt-9-mini") is None


class TestImported:
    """A list that was imported."""

    LIST = PriceList("2027-01-01", "", {
        "gpt-4o": Facts(Price(7, 8), 9_000, 500), "gpt-5": Facts(Price(7, 8, search=3), 9_000_000),
        "gemini/gemini-2.5-pro": Facts(Price(5, 6), 7_000), "x/new": Facts(Price(1, 2)),
    })

    def test_it_goes_before_the_table(self) -> None:
        """Name by name; of what it does not say the table's is taken, and the wider of two contexts."""
        prices = Prices(self.LIST)

        assert Known("gpt-4o", Facts(Price(7, 8, search=10), 128_000, 500), "imported") == prices.find("gpt-4o-latest")
        assert Known("gpt-5", Facts(Price(7, 8, search=3), 9_000_000, 128_000), "imported") == prices.find("gpt-5")
        assert Known("x/new", Facts(Price(1, 2)), "imported") == prices.find("x/new")
        assert Known("gpt-5-mini", MODELS["gpt-5-mini"], "built-in") == prices.find("gpt-5-mini")

    def test_the_more_exact_name_goes_before_either(self) -> None:
        """A price of the very version is better than one of the model, and one at the provider than any other."""
        prices = Prices(self.LIST)

        assert Known("gpt-4o-2024-05-13", MODELS["gpt-4o-2024-05-13"], "built-in") == prices.find("gpt-4o-2024-05-13")
        assert "gemini/gemini-2.5-pro" == (prices.find("gemini-2.5-pro", "gemini") or [""])[0]
        assert "gemini-2.5-pro" == (prices.find("gemini-2.5-pro", "vertex_ai") or [""])[0]

    def test_all_names(self) -> None:
        """Of both, once each."""
        assert sorted({*MODELS, "gemini/gemini-2.5-pro", "x/new"}) == Prices(self.LIST).names()


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"), ("https://api.groq.com/openai/v1", "groq"),
        ("https://me.openai.azure.com/openai/v1", "azure"), ("https://API.Mistral.ai", "mistral"),
        ("https://eu.api.openai.com:443/v1", "openai"), ("http://127.0.0.1:8080/v1", ""),
        ("https://api.openai.com.evil.io", ""), ("https://notapi.openai.com", ""), ("nonsense", ""), ("", ""),
    ],
)
def test_providers_by_address(url: str, provider: str) -> None:
    """By the whole end of the host, and by nothing else."""
    assert provider == provider_of(url)


class TestTheTable:
    """The list that comes with this version."""

    @pytest.mark.parametrize("name", MODELS)
    def test_an_entry(self, name: str) -> None:
        """It says where it is from and when it was so, and can be calculated with."""
        facts = MODELS[name]

        lists = "litellm|genai-prices|llm-prices"
        assert re.fullmatch(rf"https://\S+ \(({lists})(, ({lists}))*\)", facts.source)
        assert re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", facts.as_of)
        assert facts.provider
        assert facts.price.input > 0
        assert facts.price.output > 0 or "embed" in name
        assert (facts.price.cached_input or 0) <= facts.price.input
        assert facts.price.cache_write is None or facts.price.cache_write >= facts.price.input
        assert 2_000 <= facts.context <= 3_000_000 or facts.context == 0
        assert 0 <= facts.max_output <= facts.context or facts.context == 0
        assert all(step.tokens <= facts.context and (step.input or 0) > facts.price.input for step in facts.price.above)
        assert tariff(facts.price)

    def test_what_a_gateway_starts_with(self) -> None:
        """The models that `serve` makes of a provider's key are in it, with all that there is to know of them."""
        usual = {
            "gpt-5.4-mini": (0.75, 4.5, 0.075), "gpt-5.4": (2.5, 15, 0.25), "claude-haiku-4-5": (1, 5, 0.1),
            "claude-opus-4-7": (5, 25, 0.5), "gemini-2.5-flash": (0.3, 2.5, 0.03), "gemini-2.5-pro": (1.25, 10, 0.125),
        }

        assert usual == {
            name: (price.input, price.output, price.cached_input) for name in usual for price in [MODELS[name].price]
        }
        assert all(MODELS[name].context and MODELS[name].max_output for name in usual)

    def test_who_is_in_it(self) -> None:
        """The three large providers, and those of open models, whose models are named with them."""
        providers = {facts.provider for facts in MODELS.values()}
        bare = {"openai", "anthropic", "gemini", "mistral", "xai", "deepseek", "cohere"}

        assert providers >= {"openai", "anthropic", "gemini", "mistral", "xai", "deepseek", "groq", "together_ai"}
        apart = {name: facts.provider for name, facts in MODELS.items() if facts.provider not in bare}
        assert all(name.startswith(f"{provider}/") for name, provider in apart.items())

    def test_it_is_written_as_it_is_read(self) -> None:
        """A model a line, in the order of their names: a change of a price is a change of a line."""
        data = table.FILE.read_bytes()

        assert data == encode(decode(data))
        assert len(MODELS) + 2 == len(data.splitlines())

    def test_it_is_read_once(self) -> None:
        """And when it is needed first."""
        assert built_in() is built_in()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b'{"as_of":"","source":"","models":[]}', b'{"as_of":"","source":"","models":{"m":{}}}',
        b'{"as_of":"","source":"","models":{"m":{"price":{"input":1,"output":2,"inputs":3}}}}',
        b'{"as_of":"","source":"","models":{"m":{"price":{"input":-1,"output":2}}}}', b"\xff",
    ],
)
def test_what_is_no_price_list(data: bytes) -> None:
    """It is refused as a whole, whatever of it could be read."""
    with pytest.raises(ValueError, match=r"."):
        decode(data)


def test_a_list_comes_back() -> None:
    """What is written is what is read, names of any kind among it."""
    models = {'a"b\n': Facts(Price(1, 2)), "": Facts(Price(0, 0.000001), 5, 6, "p", "s", "d")}
    prices = PriceList("2027-01-01", 'a "file"', models)

    assert prices == decode(encode(prices))
    assert msgspec.json.decode(encode(prices))["models"][""]["price"] == {"input": 0, "output": 0.000001}
