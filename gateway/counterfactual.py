"""What the top rung of a route would have cost for a request that another model answered: the figure savings are of.

Priced are the tokens that the top rung would have counted: of the prompt by its own tokeniser, of the answer by how
long its answers are beside the other model's, which audits say. Had the whole conversation been there, the turn before
would have been in its prompt cache: that much of the prompt counts as cached, or as much as the model that answered had
in its own, where that is more or no turn is known.

The interval is that of 90 %. Each of the two ratios has a deviation on the log scale; what the prompt and what the
answer may cost more or less is put together by squares. The errors of a pair of models are common to all its requests,
so they do not become smaller in a sum: the interval of a sum has the sums of lows and of highs as its ends. It is meant
for sums, of at least as many requests as were audited: a single answer may well be longer or shorter than that.

When the top rung itself answered, it is what the answer cost. Only where the turn before was another model's is the
prompt priced with the cache that it would have found.
"""

from collections import OrderedDict
from math import exp, hypot, log, sqrt
from typing import NamedTuple

from gateway.pricing import Tariff, Usage
from gateway.receipt import Premium

MEAN_TO_STANDARD = 1.2533   # deviations of a normal distribution
SURE = 1.645                # deviations on either side that hold 90 %
TTL_S = 300.0               # how long a provider's prompt cache keeps a prompt that nobody asks for again
LONG_TTL_S = 3_600.0        # and one that was written to be kept for an hour
LEAST_CACHED = 1_024        # tokens: shorter prompts no provider caches
CONVERSATIONS = 10_000      # whose last turn is remembered

# How far one audit's ratio is from that of its pair, relative; an assumption that counts for a few audits.
PROMPT_SPREAD, ANSWER_SPREAD = 0.15, 1.0
SPREAD_WEIGHT = 10.0


class Ratio(NamedTuple):
    """How many times as many tokens, and how sure that is: the deviation of its logarithm."""

    times: float = 1.0
    deviation: float = 0.0


EXACTLY = Ratio()
# Before there are audits: answers are equally long. Models of one task and time lie between half and twice as long of
# each other, reasoning included, which 90 % of this distribution does as well (exp(1.645 x 0.45) = 2.1).
LENGTHS = Ratio(1.0, 0.45)
# Before a tokeniser is known: those in use differ by up to a third on the same text.
TOKENISERS = Ratio(1.0, 0.2)
# What two models were asked is not the same: code has more tokens to the byte than prose.
OTHER_PROMPTS = 0.15


class Learned(NamedTuple):
    """What is known of a model's prompts: tokens of a text by its count, from so many answers, each off by so much."""

    tokens: float
    answers: int
    deviation: float


class Answered(NamedTuple):
    """The answer that was used."""

    model: str
    usage: Usage
    cost_nanos: int | None
    conversation: str | None = None


class Top(NamedTuple):
    """The top rung: its price, where it is known, and its tokens for one of the other model's."""

    model: str
    tariff: Tariff | None
    tokens: Ratio = TOKENISERS


class Counterfactual:
    """What was learned of pairs of models, and the last turns of conversations. Times are monotonic seconds."""

    def __init__(self, conversations: int = CONVERSATIONS) -> None:
        self._most = conversations
        self._turns: OrderedDict[tuple[str, str], _Turn] = OrderedDict()
        self._pairs: dict[tuple[str, str], _Pair] = {}

    def __repr__(self) -> str:
        return f"<Counterfactual {len(self._pairs)} pairs, {len(self._turns)} conversations>"

    def learn_pair(self, model: str, top: str, of_model: Usage, of_top: Usage) -> None:
        """Take in an audit: what the two used for the same request."""
        pair = self._pairs.setdefault((model, top), _Pair())
        pair.prompts.add(_text_in(of_model), _text_in(of_top))
        pair.answers.add(_text_out(of_model), _text_out(of_top))

    def ratios(self, model: str, top: Top) -> tuple[Ratio, Ratio]:
        """Return how many tokens the top rung has for one of the model's: of the prompt, and of the answer."""
        lengths = Ratio(top.tokens.times * LENGTHS.times, hypot(top.tokens.deviation, LENGTHS.deviation))
        pair = self._pairs.get((model, top.model))
        if pair is None:
            return top.tokens, lengths
        return pair.prompts.given(top.tokens), pair.answers.given(lengths)

    def premium(self, answered: Answered, top: Top, now: float) -> Premium | None:
        """Return what the request would have cost there; None where that has no price. Once for each answer."""
        same = answered.model == top.model
        turn = self._turn(answered.conversation, top.model, now)
        if same and (turn is None or turn.model == top.model):
            self._remember(answered, top.model, answered.usage.input, 1.0, now)
            cost = answered.cost_nanos
            return None if cost is None else Premium(cost, cost, cost)
        prompts, answers = (EXACTLY, EXACTLY) if same else self.ratios(answered.model, top)
        usage = _usage(answered.usage, prompts.times, answers.times, 0 if turn is None else turn.tokens)
        self._remember(answered, top.model, usage.input, prompts.times, now)
        return None if top.tariff is None else _priced(usage, top.tariff, prompts.deviation, answers.deviation)

    def _turn(self, conversation: str | None, top: str, now: float) -> "_Turn | None":
        """Return the conversation's turn before, as long as a cache would have it."""
        turn = self._turns.get((conversation, top)) if conversation else None
        return turn if turn is not None and now <= turn.until else None

    def _remember(self, answered: Answered, top: str, prompt: int, times: float, now: float) -> None:
        if not answered.conversation:
            return
        usage = answered.usage
        said = max(_text_out(usage) - usage.reasoning, 0)          # thoughts are not in the next prompt
        until = now + (LONG_TTL_S if usage.cache_write_1h else TTL_S)
        key = answered.conversation, top
        self._turns[key] = _Turn(prompt + round(said * times), answered.model, until)
        self._turns.move_to_end(key)
        if len(self._turns) > self._most:
            self._turns.popitem(last=False)


def tokenisers(of_model: Learned | None, of_top: Learned | None) -> Ratio:
    """Return the ratio of two tokenisers from what each model's prompts have taught, of the same text by both."""
    if of_model is None or of_top is None or of_model.tokens <= 0 or of_top.tokens <= 0:
        return TOKENISERS
    errors = (MEAN_TO_STANDARD * known.deviation / sqrt(max(known.answers, 1)) for known in (of_model, of_top))
    return _both(TOKENISERS, Ratio(of_top.tokens / of_model.tokens, hypot(OTHER_PROMPTS, *errors)))


class _Turn(NamedTuple):
    tokens: int         # of the top rung's, that the next prompt begins with
    model: str          # which answered
    until: float        # when no cache has it any more


class _Pair:
    """What the audits of a pair say."""

    __slots__ = ("answers", "prompts")

    def __init__(self) -> None:
        self.prompts = _Seen(PROMPT_SPREAD)
        self.answers = _Seen(ANSWER_SPREAD)


class _Seen:
    """The ratio of two sums, and how sure it is by how far single ones are from it."""

    __slots__ = ("_a", "_aa", "_ab", "_b", "_bb", "_number", "_spread")

    def __init__(self, spread: float) -> None:
        self._spread = spread
        self._number = 0
        self._a = self._b = self._aa = self._ab = self._bb = 0.0

    def add(self, a: int, b: int) -> None:
        """Take in b for a."""
        if a > 0 and b > 0:
            self._number += 1
            self._a += a
            self._b += b
            self._aa += a * a
            self._ab += a * b
            self._bb += b * b

    def given(self, before: Ratio) -> Ratio:
        """Return the ratio, where `before` is what was thought of it.

        The error is that of the audits and as much again: those requests that it is used for are themselves a sample.
        """
        if not self._number:
            return before
        times = self._b / self._a
        off = max(self._bb / times**2 - 2 * self._ab / times + self._aa, 0.0) / self._aa * self._number
        spread = (off + SPREAD_WEIGHT * self._spread**2) / (self._number - 1 + SPREAD_WEIGHT)
        return _both(before, Ratio(times, sqrt(2 * spread * self._aa) / self._a))


def _both(one: Ratio, other: Ratio) -> Ratio:
    """Return what two independent findings of a ratio say together: each counts by how sure it is."""
    if not one.deviation or not other.deviation:
        return other if one.deviation else one
    weight, others = one.deviation**-2, other.deviation**-2
    mean = (weight * log(one.times) + others * log(other.times)) / (weight + others)
    return Ratio(exp(mean), (weight + others) ** -0.5)


def _text_in(usage: Usage) -> int:
    return max(usage.input - usage.image_input - usage.audio_input, 0)


def _text_out(usage: Usage) -> int:
    return max(usage.output - usage.image_output - usage.audio_output, 0)


def _usage(usage: Usage, prompts: float, answers: float, held: int) -> Usage:
    """Return what the top rung would have used. Pictures and sound are taken as they were counted.

    `held` are the tokens of the turn before. What was written to a cache is the same part of the rest.
    """
    before = _text_in(usage)
    text = round(before * prompts)
    cached = min(max(round(usage.cached * prompts), held if held >= LEAST_CACHED else 0), text)
    fresh = before - usage.cached
    written = round((text - cached) * min(usage.cache_write / fresh, 1.0)) if fresh > 0 else 0
    hour = round(written * min(usage.cache_write_1h / usage.cache_write, 1.0)) if usage.cache_write else 0
    said = round(_text_out(usage) * answers)
    thought = round(said * min(usage.reasoning / usage.output, 1.0)) if usage.reasoning and usage.output else 0
    return Usage(
        text + usage.image_input + usage.audio_input, said + usage.image_output + usage.audio_output, cached, written,
        thought, hour, usage.image_input, usage.audio_input, usage.image_output, usage.audio_output, usage.searches,
        usage.tier, usage.estimated,
    )


def _priced(usage: Usage, tariff: Tariff, prompts: float, answers: float) -> Premium:
    """Return the cost of a usage whose text deviates by so much in the prompt and in the answer."""
    cost = tariff.cost(usage)
    nanos = cost.total
    asked, said = cost.input + cost.cached + cost.cache_write + cost.cache_write_1h, cost.output + cost.reasoning
    of_prompt, of_answer = exp(SURE * prompts), exp(SURE * answers)
    less = hypot(asked * (1 - 1 / of_prompt), said * (1 - 1 / of_answer))
    more = hypot(asked * (of_prompt - 1), said * (of_answer - 1))
    return Premium(nanos, nanos - round(less), nanos + round(more))
