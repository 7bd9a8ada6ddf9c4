"""Which models are tried, in which order, and why. Pure: a function of the request, the verdict and the candidates.

    explicit pin → rules → capability gates → p_cheap against the route's threshold → ladder order for fallback

Capability goes before price: a rung that cannot serve the request is taken off the ladder before anything is ranked.
The default is conservative: without a verdict the top of the ladder answers. Every decision carries its reason.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from gateway.config import Condition, RouteConfig
from gateway.errors import BadRequest, ContextTooLong, NotFound
from gateway.wire import ChatRequest

# Bytes of UTF-8 per token: English prose has about 4.5, code and numbers about 3, CJK 2 to 3. A rung is avoided when
# the conversation probably does not fit, but the caller is refused only when it surely fits no rung.
LIKELY_BYTES_PER_TOKEN = 3.0
LEAST_TOKENS_PER_BYTE = 1 / 8
STEP = 2.0              # what a rung further up asks less, in odds
NAME_CHARS = 100        # how much of an unknown name is repeated to the caller and the receipt


class Reason(StrEnum):
    """Why a model was chosen; the first word of every explanation."""

    EXPLICIT = "explicit"            # the caller named the model or pinned the rung
    RULE = "rule"                    # a rule of the route
    LEARNED = "learned"              # the classifier's p_cheap against the threshold
    STICKY = "sticky"                # no verdict in time: the session's last one
    SAFE_DEFAULT = "safe-default"    # no verdict at all: the top of the ladder
    CAPABILITY = "capability"        # what would have been chosen cannot serve the request
    FALLBACK = "fallback"            # an earlier target failed, or is left alone (this and the next set while calling)
    HEDGED = "hedged"                # an earlier target was late
    BUDGET = "budget"                # what would have been chosen costs more than is left of the budget
    LIMIT = "limit"                  # what would have been chosen is at the limit of its model


class Source(StrEnum):
    """Where a verdict came from."""

    CLASSIFIER = "classifier"
    CACHE = "cache"
    SESSION = "session"              # no verdict in time; the session's last one is used
    LATE = "late"                    # the deadline passed
    BUSY = "busy"                    # too many prompts were waiting
    FAILED = "failed"                # the classifier raised
    ABSENT = "absent"                # the classifier could not be loaded


class Verdict(msgspec.Struct, frozen=True):
    """The classifier's word on a prompt, or why there is none (then `p_cheap` is None)."""

    source: Source
    score: float | None = None       # 0..1, higher: more in need of premium
    p_cheap: float | None = None     # chance that a cheap answer is as good as a premium one
    task: str | None = None


class Candidate(Protocol):
    """A configured model, as the router sees it. Pools live behind it; the router never imports them."""

    @property
    def context(self) -> int:
        """Tokens it can hold."""
    @property
    def tools(self) -> bool:
        """Whether it can call tools."""
    @property
    def images(self) -> bool:
        """Whether it can read images."""
    @property
    def structured(self) -> bool:
        """Whether it can follow a JSON schema."""


class Target(msgspec.Struct, frozen=True):
    """One model to try, and its place on the ladder (empty for a model that was named outright)."""

    model: str
    rung: str = ""


class Plan(msgspec.Struct, frozen=True):
    """The ordered targets for a request, and how they came about."""

    targets: tuple[Target, ...]
    reason: Reason
    why: str
    route: str | None = None
    threshold: float | None = None
    premium: str | None = None                       # the top of the ladder: what savings are counted against
    removed: tuple[tuple[str, str], ...] = ()        # (model, why it cannot serve this request)

    def only(self, kept: Sequence[int], reason: Reason) -> "Plan":
        """Return the plan with these of its targets, in this order; `reason` is why where another is the first now."""
        if len(kept) == len(self.targets) and list(kept) == list(range(len(kept))):
            return self
        targets = tuple(self.targets[number] for number in kept)
        if targets[0] is self.targets[0]:
            return msgspec.structs.replace(self, targets=targets)
        why = f"{self.why}, but not {self.targets[0].model}: {reason}"
        return msgspec.structs.replace(self, targets=targets, reason=reason, why=why)


def rung_names(ladder: Sequence[str]) -> list[str]:
    """Return the rungs' names: cheap, middle (numbered when there are several), premium. One rung alone is premium."""
    middle = len(ladder) - 2
    names = ["cheap", *("middle" if middle == 1 else f"middle-{i + 1}" for i in range(middle)), "premium"]
    return names[-len(ladder):] if len(ladder) > 1 else ["premium"]


class Router:
    """The routes and models of one configuration. Holds no state of requests."""

    def __init__(
        self, routes: Mapping[str, RouteConfig], candidates: Mapping[str, Candidate], default_threshold: float
    ) -> None:
        self.routes = dict(routes)
        self.candidates = dict(candidates)
        self.default_threshold = default_threshold
        self._public = {alias: name for name, route in routes.items() for alias in (name, *route.aliases)}

    def __repr__(self) -> str:
        return f"<Router {len(self.routes)} routes, {len(self.candidates)} models>"

    def names(self) -> list[str]:
        """Return every name a caller may use as `model`."""
        return [*self._public, *self.candidates]

    def resolve(self, model: str) -> str | None:
        """Return the route behind a public name, None for a configured model; raise NotFound for anything else."""
        route = self._public.get(model)
        if route is None and model not in self.candidates:
            listed = ", ".join(self.names())
            raise NotFound(f"The model {model[:NAME_CHARS]!r} does not exist here. There are: {listed}.", param="model")
        return route

    def plan(self, request: ChatRequest, verdict: Verdict | None) -> Plan:
        """Return the targets for a request.

        `verdict` is not looked at when the request names a model. Raises NotFound, ContextTooLong, or BadRequest when
        the pinned rung does not exist or no rung has what the request needs.
        """
        name = self.resolve(request.model)
        if name is None:
            self._fit(request, [request.model])
            return Plan((Target(request.model),), Reason.EXPLICIT, "the caller named the model")
        route = self.routes[name]
        threshold = self.default_threshold if route.threshold is None else route.threshold
        model, reason, why = self._choose(request, verdict, route, threshold)
        outside = [model] if model not in route.ladder else []     # a rule may name a model that is on no rung
        fit, removed = self._fit(request, [*route.ladder, *outside])
        ordered = [m for m in (model, *_others(route.ladder, model)) if m in fit]
        if ordered[0] != model:
            reason, why = Reason.CAPABILITY, f"{why}, but {model} cannot serve this: {removed[model]}"
        rung_of = dict(zip(route.ladder, rung_names(route.ladder), strict=True))
        return Plan(
            targets=tuple(Target(m, rung_of.get(m, "")) for m in ordered),
            reason=reason, why=why, route=name, threshold=threshold, premium=route.ladder[-1],
            removed=tuple(removed.items()),
        )

    def _choose(
        self, request: ChatRequest, verdict: Verdict | None, route: RouteConfig, threshold: float
    ) -> tuple[str, Reason, str]:
        if request.rung is not None:
            return _pinned(request.rung, route.ladder), Reason.EXPLICIT, f"the caller pinned rung {request.rung!r}"
        task = verdict.task if verdict else None
        for i, rule in enumerate(route.rules):
            if _holds(rule.when, request, task):
                return rule.use, Reason.RULE, f"rule {i}"
        if verdict is None or verdict.p_cheap is None:
            cause = verdict.source if verdict else "not asked"
            return route.ladder[-1], Reason.SAFE_DEFAULT, f"no verdict ({cause}): the top of the ladder"
        rung = _rung_for(verdict.p_cheap, threshold, len(route.ladder))
        sticky = verdict.source is Source.SESSION
        why = f"p_cheap {verdict.p_cheap:.3f} {'≥' if verdict.p_cheap >= threshold else '<'} threshold {threshold:g}"
        return route.ladder[rung], Reason.STICKY if sticky else Reason.LEARNED, why

    def _fit(self, request: ChatRequest, models: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Return the models that can serve the request, and what each of the others lacks.

        Raises BadRequest or ContextTooLong when none can. Where only the room is in doubt, the models with most of it
        are kept: the provider counts better than we do.
        """
        lacking = {m: lack for m in models if (lack := _lack(request, self.candidates[m]))}
        able = [m for m in models if m not in lacking]
        if not able:
            listed = "; ".join(f"{model}: {lack}" for model, lack in lacking.items())
            raise BadRequest(f"No model behind {request.model!r} can serve this request. {listed}.", param="model")
        likely = int(request.text_bytes / LIKELY_BYTES_PER_TOKEN) + request.max_output
        fit = [m for m in able if likely <= self.candidates[m].context]
        if not fit:
            widest = max(self.candidates[m].context for m in able)
            _check_least(request, widest)
            fit = [m for m in able if self.candidates[m].context == widest]
        small = {
            m: f"about {likely} tokens do not fit into its context of {self.candidates[m].context}"
            for m in able if m not in fit
        }
        return fit, lacking | small


def _lack(request: ChatRequest, candidate: Candidate) -> str | None:
    """Return what the request needs and the candidate has not."""
    if request.tools and not candidate.tools:
        return "it cannot call tools"
    if request.images and not candidate.images:
        return "it cannot read images"
    if request.structured and not candidate.structured:
        return "it cannot follow a JSON schema"
    return None


def _check_least(request: ChatRequest, largest: int) -> None:
    """Raise when even the fewest tokens the body can be are too many for the largest context."""
    least = int(request.text_bytes * LEAST_TOKENS_PER_BYTE)
    if least > largest:
        raise ContextTooLong(
            f"The conversation has at least {least} tokens; the largest context behind {request.model!r} has {largest}."
            " Shorten the messages or add a model with a larger context.", param="messages",
        )


def _rung_for(p_cheap: float, threshold: float, rungs: int) -> int:
    """Return the rung for a probability: the cheapest iff p_cheap ≥ threshold, those between in even steps of odds.

    Each rung further up takes the prompts whose odds of being well served by the cheapest are down to half of what
    the rung below it wants: with a threshold of 0.8 and three rungs, the middle one answers from 0.67 on. Steps of
    probability would leave the top rung without work: honest chances are seldom below one half.
    Threshold 0 always gives the cheapest, 1.01 never.
    """
    if p_cheap >= threshold or rungs == 1:
        return 0
    if threshold > 1:
        return rungs - 1
    odds, wanted = _odds(p_cheap), _odds(threshold)
    return next((k for k in range(1, rungs - 1) if odds >= wanted / STEP**k), rungs - 1)


def _odds(chance: float) -> float:
    return chance / (1 - chance) if chance < 1 else math.inf


def _pinned(rung: str, ladder: Sequence[str]) -> str:
    names = rung_names(ladder)
    if rung in ladder:
        return rung
    if rung in names:
        return ladder[names.index(rung)]
    if rung == "cheap":
        return ladder[0]
    listed = ", ".join(dict.fromkeys([*names, *ladder]))
    fault = f"There is no rung {rung[:NAME_CHARS]!r} on this ladder: use one of {listed}."
    raise BadRequest(fault, param="x-thriftgate-rung")


def _holds(when: Condition, request: ChatRequest, task: str | None) -> bool:
    return (
        (when.tools is None or when.tools == bool(request.tools))
        and (when.images is None or when.images == bool(request.images))
        and (when.structured is None or when.structured == request.structured)
        and (when.task is None or when.task == task)
    )


def _others(ladder: Sequence[str], model: str) -> list[str]:
    """Return the other rungs in the order to try them: up the ladder first, for quality, then down."""
    at = ladder.index(model) if model in ladder else len(ladder)
    return [*ladder[at + 1:], *reversed(ladder[:at])]
