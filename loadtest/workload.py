"""Seeded traffic: prompts of the kinds a chat gateway sees, and arrival times. Pure; the same seed is the same traffic.

The prompts are written here, with slots that are filled at random, so that few repeat; no public benchmark's text is
used, because a classifier may have been trained on it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Message = dict[str, str]

# Share of each kind in the mix. Most chat traffic is short and easy.
MIX = {"chat": 40, "typo": 10, "code": 15, "reasoning": 15, "document": 8, "multi-turn": 12}

_CITIES = ("Lyon", "Osaka", "Bergen", "Quito", "Tartu", "Perth", "Izmir", "Leeds", "Accra", "Cork")
_DISHES = ("lentil soup", "an omelette", "rice pudding", "flatbread", "a bean salad", "mushroom pasta", "plum cake")
_THINGS = ("invoice", "sensor reading", "playlist", "shipment", "seat booking", "log line", "tax record")
_LANGUAGES = ("Python", "Go", "TypeScript", "Rust", "SQL", "Kotlin")
_CHAT = (
    "What time is it in {city} when it is {n} o'clock here?",
    "Set a timer for {n} minutes please.",
    "How do I make {dish} for {n} people?",
    "Thanks, that helped a lot!",
    "Tell me a short joke about an {thing}.",
    "What's a friendly way to say no to a meeting at {n} pm?",
    "Is it likely to rain in {city} this weekend?",
    "Translate 'where is the station' into the language spoken in {city}.",
)
_TYPO = (
    "waht is teh capitol of the contry were {city} is",
    "hwo many gramms in {n} cupss of suger??",
    "plz rite a birtday msg for my frend in {city}, he is {n}",
    "cn u explian wat a {thing} is lke im {n}",
)
_CODE = (
    "Write a {lang} function that groups {n} {thing}s by day and returns the busiest one. Include tests.",
    ("This {lang} code is slow for {n} thousand {thing}s, why?\n\n```\nfor a in items:\n    for b in items:\n"
    "        if a.id == b.parent_id:\n            link(a, b)\n```"),
    ("Refactor the {thing} importer in {lang} so that it can resume after row {n} when the connection drops, without "
    "reading any row twice, and explain how you would prove it."),
    "Design a {lang} type for a {thing} whose {n} states can only be reached in a legal order.",
)
_REASONING = (
    ("A train leaves {city} at {n}:15 and another leaves the other end {m} minutes later at a third of the speed. "
    "Where do they meet, and how does the answer change if the first one stops for {m} minutes half way?"),
    "Prove that among any {n} whole numbers two differ by a multiple of {p}, where {p} is one less than {n}.",
    ("Compare two plans for storing {n} million {thing}s in {m} regions when any one region may fail: which guarantees "
    "can be kept, which must be given up, and what does each cost?"),
    ("Three clerks in {city} disagree about a {thing}. One always lies on day {n}, one lies every {m}th day, one "
    "never. What is the least number of questions that tells them apart? Argue that fewer cannot do."),
)
_SENTENCES = (
    "In section {n} the parties agree that every {thing} is kept in {city} for {m} months.",
    "The committee noted that the number of {thing}s had grown by {n} per cent since the office in {city} opened.",
    "Nothing in this paragraph limits the duty to report a lost {thing} within {m} days.",
    "A separate annex lists the {n} exceptions, of which {m} were added after the review.",
    "Where two rules conflict, the one that protects the owner of the {thing} prevails.",
)
_ASKS = (
    "Summarise the document above in {n} sentences.",
    "List every deadline in the document above and who must meet it.",
    "Which two statements in the document above contradict each other, and which one prevails?",
)
_FOLLOW_UPS = ("And in {city}?", "Why {n} and not {m}?", "Do the same for a {thing}.", "Shorter, please.", "Sure?")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request's conversation, and what kind it is."""

    kind: str
    messages: list[Message]


def prompts(seed: int) -> Iterator[Prompt]:
    """An endless mix."""
    rng = random.Random(seed)
    kinds, weights = list(MIX), list(MIX.values())
    while True:
        kind = rng.choices(kinds, weights)[0]
        yield Prompt(kind, _MAKERS[kind](rng))


def sample(seed: int, count: int) -> list[Prompt]:
    """The first prompts of the mix."""
    return list(itertools.islice(prompts(seed), count))


def arrivals(seed: int, rate_per_s: float) -> Iterator[float]:
    """When requests arrive, in seconds from the start: a Poisson process at a constant rate. Endless."""
    rng = random.Random(seed)
    now = 0.0
    while True:
        now += rng.expovariate(rate_per_s)
        yield now


def _filled(rng: random.Random, template: str) -> str:
    n = rng.randint(2, 60)
    return template.format(
        city=rng.choice(_CITIES),
        dish=rng.choice(_DISHES),
        thing=rng.choice(_THINGS),
        lang=rng.choice(_LANGUAGES),
        n=n,
        m=rng.randint(2, 30),
        p=n - 1,
    )


def _one_of(templates: Sequence[str]) -> Callable[[random.Random], list[Message]]:
    return lambda rng: [_user(_filled(rng, rng.choice(templates)))]


def _document(rng: random.Random) -> list[Message]:
    """From one page to about forty: 3,000 to 120,000 characters, short ones more often."""
    wanted = int(3_000 * 40 ** rng.random() ** 2)
    lines: list[str] = []
    length = 0
    while length < wanted:
        lines.append(_filled(rng, rng.choice(_SENTENCES)))
        length += len(lines[-1]) + 1
    return [_user("\n".join(lines) + "\n\n" + _filled(rng, rng.choice(_ASKS)))]


def _multi_turn(rng: random.Random) -> list[Message]:
    """Two to eight earlier turns, then a short follow-up that means nothing without them."""
    messages: list[Message] = [{"role": "system", "content": "You are a helpful assistant. Answer briefly."}]
    for at in range(rng.randint(2, 8)):
        asked = rng.choice((*_CHAT, *_CODE, *_REASONING) if at == 0 else _FOLLOW_UPS)
        messages.append(_user(_filled(rng, asked)))
        messages.append({"role": "assistant", "content": _filled(rng, " ".join(rng.choices(_SENTENCES, k=3)))})
    return [*messages, _user(_filled(rng, rng.choice(_FOLLOW_UPS)))]


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


_MAKERS: dict[str, Callable[[random.Random], list[Message]]] = {
    "chat": _one_of(_CHAT),
    "typo": _one_of(_TYPO),
    "code": _one_of(_CODE),
    "reasoning": _one_of(_REASONING),
    "document": _document,
    "multi-turn": _multi_turn,
}
