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
_FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "email": "sample@example.com",
    "uri": "https://example.com/",
    "uuid": "6f1c1d0e-7a4b-4c57-9d52-0f6f3c1b8a10",
}
_DEPTH = 8  # how deep a schema that refers to itself is followed; below, only what is required


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the caller offers, with the schema of its arguments."""

    name: str
    schema: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool: the tokens of its arguments, which together are JSON."""

    name: str
    pieces: Sequence[str]

    @property
    def arguments(self) -> str:
        """All pieces together."""
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of a completion: its tokens in order (thoughts, text, calls), and why it ended."""

    pieces: Sequence[str]
    finish: str = "stop"  # stop | length | tool_calls
    calls: Sequence[ToolCall] = ()
    thoughts: Sequence[str] = ()
    stopped_by: str = ""  # the caller's stop text that ended it

    @property
    def text(self) -> str:
        """All pieces together."""
        return "".join(self.pieces)

    @property
    def tokens(self) -> int:
        """How many tokens it is, thoughts included."""
        return len(self.thoughts) + len(self.pieces) + sum(len(call.pieces) for call in self.calls)


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
    """The answer up to the first of the stop texts, which is left out as the providers leave it out."""
    found = [(at, stop) for stop in stops if stop and (at := answer.text.find(stop)) >= 0]
    if not found:
        return answer
    at, stop = min(found)
    return Answer(_PIECE.findall(answer.text[:at]), "stop", stopped_by=stop)


def json_answer(schema: Mapping[str, object] | None, length: Length) -> Answer:
    """A JSON document: one that satisfies the schema, or a small object."""
    value = {"answer": "yes", "confidence": 0.9} if schema is None else example(schema)
    return _limited(Answer(_cut(orjson.dumps(value).decode())), length.limit)


def tool_answer(tools: Sequence[Tool], length: Length, preface: Answer | None = None) -> Answer:
    """A call of each of the tools, with arguments that satisfy its schema, after what is said before."""
    calls = [ToolCall(tool.name, _cut(orjson.dumps(example(tool.schema)).decode())) for tool in tools]
    return _limited(Answer(preface.pieces if preface else [], "tool_calls", calls), length.limit)


def example(schema: Mapping[str, object]) -> object:
    """A value that satisfies the schema, in JSON Schema's words or Gemini's. Does not know `pattern` and `not`."""
    return _example(schema, schema, _DEPTH)


def seeded(*parts: object) -> random.Random:
    """A generator that depends on the parts only: not on the process, its hash seed or the order of calls."""
    return random.Random(zlib.crc32("\x1f".join(map(str, parts)).encode()))


def _example(schema: Mapping[str, object], root: Mapping[str, object], depth: int) -> object:
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    kind = schema.get("type")
    kind = (kind[0] if kind else None) if isinstance(kind, list) else kind
    kind = kind.lower() if isinstance(kind, str) else "object" if "properties" in schema else "string"
    if kind == "object":
        properties = schema.get("properties")
        required = schema.get("required")
        return {
            name: _example(inner, root, depth - 1)
            for name, inner in (properties.items() if isinstance(properties, Mapping) else ())
            if isinstance(inner, Mapping) and (depth > 0 or (isinstance(required, list) and name in required))
        }
    if kind == "array":
        items = schema.get("items")
        least = _number(schema, "minItems")
        wanted = max(1 if depth > 0 else 0, int(least or 0))
        return [_example(items if isinstance(items, Mapping) else {}, root, depth - 1) for _ in range(wanted)]
    return _scalar(schema, kind)


def _resolved(schema: Mapping[str, object], root: Mapping[str, object]) -> Mapping[str, object]:
    """The schema that this one refers to: `$ref` within the document, or the first of its alternatives."""
    for _ in range(_DEPTH):
        reference = schema.get("$ref")
        inner: object = None
        if isinstance(reference, str):
            inner = root
            for step in reference.removeprefix("#").split("/")[1:]:
                inner = inner.get(step) if isinstance(inner, Mapping) else None
        else:
            options = next((schema[name] for name in ("anyOf", "oneOf", "allOf") if name in schema), None)
            inner = options[0] if isinstance(options, list) and options else None
        if not isinstance(inner, Mapping):
            break
        schema = inner
    return schema


def _scalar(schema: Mapping[str, object], kind: str) -> object:
    """A text, a number, a truth or nothing, within the schema's bounds."""
    if kind in ("integer", "number"):
        value = 7.0 if kind == "integer" else 0.5
        least, most = _number(schema, "minimum"), _number(schema, "maximum")
        above, below = _number(schema, "exclusiveMinimum"), _number(schema, "exclusiveMaximum")
        floors = [least, None if above is None else above + 1]
        ceilings = [most, None if below is None else below - 1]
        value = max([value, *(bound for bound in floors if bound is not None)])
        value = min([value, *(bound for bound in ceilings if bound is not None)])
        return int(value) if kind == "integer" else value
    if kind != "string":
        return True if kind == "boolean" else None
    text = _FORMATS.get(str(schema.get("format")), "sample")
    most = _number(schema, "maxLength")
    text = text.ljust(int(_number(schema, "minLength") or 0), "x")
    return text if most is None else text[: int(most)]


def _number(schema: Mapping[str, object], name: str) -> float | None:
    """A bound of the schema. Gemini's wire has counts as texts ("1")."""
    value = schema.get(name)
    if isinstance(value, str) and value.isdecimal():
        return float(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _limited(answer: Answer, limit: int) -> Answer:
    """The answer's first `limit` tokens, text before calls; a call that would begin behind them is not made."""
    if not limit or answer.tokens <= limit:
        return answer
    left = limit - len(answer.pieces)
    calls = []
    for call in answer.calls:
        if left > 0:
            calls.append(ToolCall(call.name, call.pieces[:left]))
        left -= len(call.pieces)
    return Answer(answer.pieces[:limit], "length", calls)


def _cut(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]
