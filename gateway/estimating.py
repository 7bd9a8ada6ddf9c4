"""Usage that no provider told, estimated from bytes, and the most that a request may use, estimated before it is made.

Streams are cut, clients leave, some servers never count. What a model's tokens are in bytes is learned from the answers
that were counted: a straight line for the prompt, and one for the answer as it was sent, since frames differ by dialect
and a whole answer has none. A line rather than a ratio: its beginning is what a stream has around its tokens, or what
a model thinks before it speaks. What is long ago counts less, and an assumption is there before anything is known.

Nothing here is exact, so it is marked: `Usage.estimated`.
"""

from collections.abc import Collection
from typing import NamedTuple, Protocol

from gateway.dialects.neutral import ANTHROPIC, GEMINI, OPENAI, RESPONSES
from gateway.pricing import Usage
from gateway.wire import ChatRequest

MEMORY = 0.98                   # what is left of an answer's weight after the next one: some 50 answers count
PRIOR = 0.5                     # answers that the assumption counts for, at a short and at a long one
SURPRISE = 0.05                 # how much one answer moves the deviation, once there are many
UNSURE = 0.5                    # the relative deviation where nothing is known
ALIKE = 1e-3                    # how little sizes may differ, for a line through them to mean something

TEXT_BYTES = 4.0                # of a token, also inside JSON
WHOLE_BYTES = 500.0             # of a whole answer, around its words
FRAME_BYTES = {OPENAI: 250.0, RESPONSES: 220.0, ANTHROPIC: 110.0, GEMINI: 300.0}
FRAME_TOKENS = {OPENAI: 1.0, ANTHROPIC: 4.0, GEMINI: 25.0}      # as the providers group them
IMAGE_TOKENS = 1_000.0

LEAST_BYTES = 2                 # of a token: a request has no more tokens than that, whatever its language
CAUTION = 1.5                   # what is learned may be exceeded by this much
MOST_OF_AN_IMAGE = 5_000

SAYS_OUTPUT_LAST = {ANTHROPIC}      # its first frame has a count of the answer that means nothing; others count along


class Sureness(NamedTuple):
    """How well an estimate is founded."""

    answers: int            # that were counted
    deviation: float        # of an estimate from the count, on the average, as a part of the count


class Size(Protocol):
    """What a model can take in and give out, in tokens; 0: unknown."""

    @property
    def context(self) -> int:
        """Prompt and answer together."""

    @property
    def max_output(self) -> int:
        """The answer."""


class Exchange(NamedTuple):
    """A request and what its caller was sent. `cut`: not all of the answer."""

    request: ChatRequest
    upstream: str           # the dialect that the provider speaks
    sent_bytes: int
    cut: bool = False


class Line:
    """Tokens by bytes: the straight line that fits best, where a deviation counts by its part of the whole."""

    __slots__ = ("_answers", "_bytes", "_inverse", "_products", "_tokens", "_weight", "answers", "deviation", "slope",
                 "start")

    def __init__(self, bytes_of_a_token: float, around: float = 0.0) -> None:
        # sums over the answers, each by its weight divided by its bytes
        self._inverse = self._weight = self._bytes = self._tokens = self._products = 0.0
        self.answers = 0
        self.deviation = UNSURE
        self.start = 0.0            # tokens where there are no bytes; less than none where there is something around
        self.slope = 1 / bytes_of_a_token
        for tokens in (50.0, 2_000.0):
            self._add(around + tokens * bytes_of_a_token, tokens, PRIOR, 1.0)

    def __repr__(self) -> str:
        return f"<Line {self.start:+.1f} {self.slope:.4f} a byte, {self.answers} answers, off by {self.deviation:.0%}>"

    def at(self, size: int, *, cut: bool = False) -> float:
        """Return the tokens of so many bytes. What is around an answer is half before it: a cut one has no end."""
        start = self.start / 2 if cut and self.start < 0 else self.start
        return max(start + self.slope * size, 0.0)

    def learn(self, size: int, tokens: int) -> None:
        """Take in a count."""
        off = abs(self.start + self.slope * size - tokens) / tokens
        self.answers += 1
        self.deviation += (min(off, 1.0) - self.deviation) * max(SURPRISE, 1 / (self.answers + 1))
        self._add(size, tokens, 1.0, MEMORY)

    def _add(self, size: float, tokens: float, weight: float, kept: float) -> None:
        """Add an answer to what is kept of the others, and fit the line anew."""
        self._inverse = inverse = self._inverse * kept + weight / size
        self._weight = weights = self._weight * kept + weight
        self._bytes = sizes = self._bytes * kept + weight * size
        self._tokens = parts = self._tokens * kept + weight * tokens / size
        self._products = products = self._products * kept + weight * tokens
        spread = inverse * sizes - weights * weights
        if spread > ALIKE * weights * weights and (slope := (inverse * products - weights * parts) / spread) > 0:
            self.slope, self.start = slope, (products - slope * sizes) / weights
        else:                           # all were of about one size, or the longer ones had less
            self.slope, self.start = products / sizes, 0.0


class Ratios:
    """What was learned of every model. It grows with the configured models and the dialects, and not with requests."""

    def __init__(self) -> None:
        self._all = Line(TEXT_BYTES)                        # prompts, whoever answered
        self._prompts: dict[str, Line] = {}
        self._answers: dict[tuple[str, str, str, bool], Line] = {}
        self._images: dict[str, float] = {}                 # tokens of one

    def __repr__(self) -> str:
        return f"<Ratios of {len(self._prompts)} models>"

    def keep(self, models: Collection[str]) -> None:
        """Forget the models that are configured no longer."""
        self._prompts = {name: line for name, line in self._prompts.items() if name in models}
        self._answers = {key: line for key, line in self._answers.items() if key[0] in models}
        self._images = {name: tokens for name, tokens in self._images.items() if name in models}

    def learn(self, model: str, exchange: Exchange, usage: Usage) -> None:
        """Take in an answer that is whole and was counted by its provider. What is no text teaches nothing of it."""
        request = exchange.request
        if usage.estimated or exchange.cut:
            return
        self._learn_prompt(model, request, usage)
        if usage.output and exchange.sent_bytes and not usage.image_output and not usage.audio_output:
            self._answer(model, exchange).learn(exchange.sent_bytes, usage.output)

    def _learn_prompt(self, model: str, request: ChatRequest, usage: Usage) -> None:
        size, tokens = request.text_bytes, usage.input - usage.audio_input
        line = self._prompts.get(model)
        if line is None:
            line = self._prompts[model] = Line(TEXT_BYTES)
        if size <= 0 or usage.searches:                     # what was found on the web is counted with the prompt
            return
        if request.images:
            seen = max(tokens - line.at(size), 0.0) / request.images
            before = self._images.get(model, IMAGE_TOKENS)
            self._images[model] = before + (seen - before) * 2 * SURPRISE
        elif 0 < tokens <= size:                            # else it had more than text: a document, a tool's result
            line.learn(size, tokens)
            self._all.learn(size, tokens)

    def _answer(self, model: str, exchange: Exchange) -> Line:
        request = exchange.request
        key = model, exchange.upstream, request.surface, request.stream
        line = self._answers.get(key)
        if line is None:
            frame = FRAME_BYTES.get(request.surface, 250.0) / FRAME_TOKENS.get(exchange.upstream, 1.0)
            line = Line(TEXT_BYTES + frame) if request.stream else Line(TEXT_BYTES, WHOLE_BYTES)
            self._answers[key] = line
        return line

    def estimate(self, model: str, exchange: Exchange, said: Usage | None = None, *, most: int = 0) -> Usage:
        """Return what an exchange used, where its provider did not say, or not all of it.

        Of what it `said` before it broke off, the prompt is kept; so is the answer, where the dialect counts along.
        `most`: tokens that the model's answers can have, if that is known; the bytes of an image may be many more.
        """
        output = self._output(model, exchange, exchange.request.max_output or most)
        if said is None:
            return Usage(self._prompt(model, exchange.request), output, estimated=True)
        if said.output and exchange.upstream not in SAYS_OUTPUT_LAST:
            return said
        return said if said.output >= output else said._replace(output=output, estimated=True)

    def _output(self, model: str, exchange: Exchange, most: int) -> int:
        request = exchange.request
        if exchange.sent_bytes <= 0 or request.kind == "embeddings":
            return 0
        tokens = round(self._answer(model, exchange).at(exchange.sent_bytes, cut=exchange.cut))
        return min(tokens, most) if most else tokens

    def _prompt(self, model: str, request: ChatRequest) -> int:
        line = self._prompts.get(model, self._all)
        images = request.images * self._images.get(model, IMAGE_TOKENS)
        return max(round(line.at(request.text_bytes) + images), 1)

    def prompt_tokens(self, request: ChatRequest) -> int:
        """Return about how many tokens a request has, whoever will answer it."""
        return max(round(self._all.at(request.text_bytes) + request.images * IMAGE_TOKENS), 1)

    def sureness(self, model: str, exchange: Exchange | None = None) -> Sureness:
        """Return how sure the estimate of an answer is, or that of prompts."""
        line = self._prompts.get(model, self._all) if exchange is None else self._answer(model, exchange)
        return Sureness(line.answers, line.deviation)

    def learned(self, model: str, request: ChatRequest) -> tuple[float, int, float] | None:
        """Return a model's tokens of a request's text, from how many answers, and their deviation; None: not known."""
        line = self._prompts.get(model)
        if line is None or not line.answers:
            return None
        return line.at(request.text_bytes), line.answers, line.deviation

    def ceiling(self, model: str, request: ChatRequest, size: Size) -> Usage:
        """Return the most that a request may use there, for a reservation.

        It is twice what text usually has, which also covers what is written to a prompt cache at a higher price.
        """
        line = self._prompts.get(model)
        learned = 0.0 if line is None else line.at(request.text_bytes) * CAUTION
        image = max(self._images.get(model, 0.0) * CAUTION, MOST_OF_AN_IMAGE)
        prompt = int(max(request.text_bytes / LEAST_BYTES, learned) + request.images * image) + 1
        if size.context:
            prompt = min(prompt, size.context)
        output = 0 if request.kind == "embeddings" else request.max_output or size.max_output
        hour = prompt if b'"1h"' in request.raw else 0
        tier = "priority" if b'"priority"' in request.raw else ""
        return Usage(
            prompt, output * max(request.answers, 1), cache_write_1h=hour, tier=tier, estimated=True
        )
