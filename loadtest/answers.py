"""What the mock provider says: seeded, plausible, of a chosen length, and different for each model. Pure.

A token here is a piece of the answer, and every token is one chunk of the stream. Answers average about four characters
a token, and prompts are counted as four characters a token, so that both sides of a bill are of the right size and can
be repeated.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

_PIECE = re.compile(r"\s?\w{1,7}|\s?[^\w\s]|\s+")

VOICES: dict[str, Sequence[str]] = {
    "mock-cheap": (
        "Sure, here is the short version.",
        "The usual answer is yes, as long as the input is clean.",
        "You can do it in one step: open the settings and choose the second entry.",
        "It takes about ten minutes and costs next to nothing.",
        "If that does not help, try it once more after a restart.",
        "Most people pick the first option.",
    ),
    "mock-middle": (
        "There are two things to look at here, and the first one matters more.",
        "Start with the part that changes most often, because that is where the time goes.",
        "A simple way to check this is to write down one small case and follow it through by hand.",
        "The second approach costs a little more memory, but it stays readable.",
        "Keep in mind that the order of the steps decides whether the result can be repeated.",
        "In practice both roads lead to the same place, so choose the one you can explain.",
    ),
    "mock-premium": (
        "Let us separate what is given from what has to be shown, since the difficulty hides in between.",
        "Suppose the claim fails for some smallest case; then the case just before it must already have been special.",
        "That contradicts the bound from the first step, so the construction is sound for every admissible input.",
        "Two assumptions carry the argument: the operation is associative, and no element is visited twice.",
        "The running time is dominated by the merge, which touches each record a logarithmic number of times.",
        "Should the second assumption be dropped, a counterexample with four elements already exists.",
    ),
}
_MULTIBYTE = ("Größe", " naïve", " café", " 数学", " 東京", " 🙂", " 👩‍🔬", " Ωμέγα", " привет", " ≤", " €")
_LENGTHS = {"mock-cheap": (12, 60), "mock-middle": (30, 100), "mock-premium": (50, 160)}


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of a completion: its tokens in order, and why it ended."""

    pieces: Sequence[str]
    finish: str = "stop"
    tool: str = ""  # the function's name; the pieces are then its arguments

    @property
    def text(self) -> str:
        """All pieces together."""
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Length:
    """How long an answer may become, in tokens. 0 = not said."""

    exact: int = 0
    limit: int = 0


def count_tokens(text: str) -> int:
    """The prompt's tokens: about four characters each, at least one for any text."""
    return (len(text) + 3) // 4


def prompt_text(messages: Sequence[object]) -> str:
    """All the text of a conversation, roles left out."""
    parts: list[str] = []
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        if isinstance(content, str):
            parts.append(content)
        elif isinstance(content, list):
            parts.extend(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return "\n".join(parts)


def prose(model: str, rng: random.Random, length: Length, *, multibyte: bool = False) -> Answer:
    """Some sentences in the model's voice; finish "length" if `length.limit` cut them short."""
    wanted = length.exact or rng.randint(*_LENGTHS.get(model, (20, 80)))
    pieces: list[str] = []
    voice = VOICES.get(model, VOICES["mock-middle"])
    while len(pieces) < wanted:
        sentence = rng.choices(_MULTIBYTE, k=8) if multibyte else _PIECE.findall(rng.choice(voice))
        if pieces:
            sentence[0] = f" {sentence[0].lstrip()}"
        pieces.extend(sentence)
    del pieces[wanted:]
    return _limited(Answer(pieces), length.limit)


def stopped(answer: Answer, stops: Sequence[str]) -> Answer:
    """The answer up to the first of the stop texts, which is left out as OpenAI leaves it out."""
    found = [at for at in (answer.text.find(stop) for stop in stops if stop) if at >= 0]
    if not found:
        return answer
    kept = answer.text[: min(found)]
    return Answer(_PIECE.findall(kept), "stop")


def json_answer(schema: Mapping[str, object] | None, length: Length) -> Answer:
    """A JSON document: one that satisfies the schema's types and required names, or a small object."""
    value = {"answer": "yes", "confidence": 0.9} if schema is None else example(schema)
    return _limited(Answer(_cut(orjson.dumps(value).decode())), length.limit)


def tool_answer(tool: Mapping[str, object], length: Length, *, named: bool) -> Answer:
    """A call of the tool with arguments that satisfy its schema. OpenAI says "stop" where the caller named the tool."""
    function = tool.get("function")
    function = function if isinstance(function, Mapping) else {}
    schema = function.get("parameters")
    arguments = orjson.dumps(example(schema if isinstance(schema, Mapping) else {"type": "object"})).decode()
    finish = "stop" if named else "tool_calls"
    return _limited(Answer(_cut(arguments), finish, str(function.get("name", ""))), length.limit)


def example(schema: Mapping[str, object]) -> object:
    """A value of the schema's shape. Knows types, enum, const, properties, items and minItems; no $ref."""
    if "const" in schema:
        return schema["const"]
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        return {name: example(inner) for name, inner in properties.items() if isinstance(inner, Mapping)}
    if kind == "array":
        items = schema.get("items")
        least = schema.get("minItems")
        count = max(1, least) if isinstance(least, int) else 1
        return [example(items if isinstance(items, Mapping) else {}) for _ in range(count)]
    plain: dict[object, object] = {"integer": 7, "number": 0.5, "boolean": True, "null": None}
    return plain.get(kind, "sample")


def seeded(*parts: object) -> random.Random:
    """A generator that depends on the parts only: not on the process, its hash seed or the order of calls."""
    return random.Random(zlib.crc32("\x1f".join(map(str, parts)).encode()))


def _limited(answer: Answer, limit: int) -> Answer:
    if limit and len(answer.pieces) > limit:
        return Answer(answer.pieces[:limit], "length", answer.tool)
    return answer


def _cut(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]
