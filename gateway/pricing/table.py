"""What models cost, as far as it is known: the table that comes with this version, and a price list imported since.

A name is looked up as it is, then without what stands before it (`openai/gpt-4o`), then without its date or `-latest`.
Nothing is guessed: a model that merely resembles one of the table has no known price, which is said and never taken
for zero.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from gateway.pricing.price import Price

Origin = Literal["imported", "built-in"]

FILE = Path(__file__).with_name("prices.json")
_DATED = re.compile(r"(?:[-@](?:20\d\d-[01]\d-[0-3]\d|20\d\d[01]\d[0-3]\d)|-latest)$")
# What a price list calls a provider, by the end of its host. The same name costs different things at different ones.
_HOSTS = {
    "api.openai.com": "openai", "api.anthropic.com": "anthropic", "generativelanguage.googleapis.com": "gemini",
    "aiplatform.googleapis.com": "vertex_ai", "openai.azure.com": "azure", "services.ai.azure.com": "azure_ai",
    "api.deepseek.com": "deepseek", "api.mistral.ai": "mistral", "api.x.ai": "xai", "api.groq.com": "groq",
    "api.together.xyz": "together_ai", "api.together.ai": "together_ai", "api.fireworks.ai": "fireworks_ai",
    "api.cerebras.ai": "cerebras", "api.deepinfra.com": "deepinfra", "api.sambanova.ai": "sambanova",
    "api.perplexity.ai": "perplexity", "api.moonshot.ai": "moonshot", "api.z.ai": "zai", "api.minimax.io": "minimax",
    "api.cohere.ai": "cohere", "api.cohere.com": "cohere", "api.novita.ai": "novita",
    "dashscope-intl.aliyuncs.com": "dashscope", "dashscope.aliyuncs.com": "dashscope",
}


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a price list knows of a provider's model."""

    price: Price
    context: int = 0            # tokens; 0: it does not say
    max_output: int = 0         # likewise
    provider: str = ""
    source: str = ""            # where the provider says so, and who read it there
    as_of: str = ""             # the day on which it was so


class PriceList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dated list of models."""

    as_of: str
    source: str
    models: dict[str, Facts]


class Known(NamedTuple):
    """What was found: under which name, what, and where."""

    name: str
    facts: Facts
    origin: Origin


class Prices:
    """The price lists that are in force; what was imported goes before what came with this version."""

    def __init__(self, imported: PriceList | None = None) -> None:
        self._imported = {} if imported is None else imported.models

    def find(self, name: str, provider: str = "") -> Known | None:
        """Return what is known of the model that `provider`, if it is known, calls `name`."""
        for spelling in _spellings(name, provider):
            found = [Known(spelling, models[spelling], at) for models, at in self._lists() if spelling in models]
            if found:
                return found[0]._replace(facts=_completed(*(known.facts for known in found)))
        return None

    def names(self) -> list[str]:
        """Return every name that is in a list."""
        return sorted({name for models, _ in self._lists() for name in models})

    def _lists(self) -> Iterator[tuple[dict[str, Facts], Origin]]:
        yield self._imported, "imported"
        yield built_in().models, "built-in"


@functools.cache
def built_in() -> PriceList:
    """Return the table that came with this version."""
    return decode(FILE.read_bytes())


def decode(data: bytes) -> PriceList:
    """Read a price list. Raises ValueError where it is none."""
    return msgspec.json.decode(data, type=PriceList)


def encode(prices: PriceList) -> bytes:
    """Return a price list as it is kept, a model a line."""
    said = msgspec.json.encode
    lines = (b"%b:%b" % (said(name), said(facts)) for name, facts in sorted(prices.models.items()))
    head = b'{"as_of":%b,"source":%b,"models":{\n' % (said(prices.as_of), said(prices.source))
    return head + b",\n".join(lines) + b"\n}}\n"


def provider_of(url: str) -> str:
    """Return what price lists call the provider at an address; nothing where it is unknown."""
    host = urlsplit(url).hostname or ""
    return next((name for known, name in _HOSTS.items() if host == known or host.endswith(f".{known}")), "")


def _completed(facts: Facts, *others: Facts) -> Facts:
    """Return the facts of the first list with what it does not say and the next ones do, but for prices of tokens."""
    every = (facts, *others)
    searches = [known.price.search for known in every if known.price.search is not None]
    return msgspec.structs.replace(
        facts,
        price=msgspec.structs.replace(facts.price, search=searches[0]) if searches else facts.price,
        context=max(known.context for known in every),      # some lists count the answer among it, some do not
        max_output=next((known.max_output for known in every if known.max_output), 0),
    )


def _spellings(name: str, provider: str) -> Iterator[str]:
    """Return the names to look for, the most exact first."""
    ends = [name]
    while "/" in ends[-1]:
        ends.append(ends[-1].partition("/")[2])
    if provider and not name.startswith(f"{provider}/"):
        ends.insert(0, f"{provider}/{name}")
    yield from ends
    yield from (short for end in ends if (short := _DATED.sub("", end)) != end)
