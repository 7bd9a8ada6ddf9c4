"""What became of each request of a storm: the client's account, the receipts and the providers' logs, joined. Pure.

A request has one of the fates below. A whole answer is the model's text to the last letter and its own end; an error is
honest when it can be read as one and no end was invented before it. All else is a defect, whatever the providers did.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from loadtest import answers
from loadtest.answers import Length
from loadtest.reception import Seen

MODELS = ("cheap", "middle", "premium")  # as the gateway calls what the providers call mock-cheap and so on
_NUMBER = re.compile(r"\[storm (\d+)\]$")
_SAME = 30  # characters by which the beginning of an answer is known


class Fate(StrEnum):
    """How a request ended for its client."""

    WHOLE = "whole answer"
    REFUSED = "honest error status"
    BROKEN = "broke off and said so"
    GARBLED = "whole, with an event that is not JSON"
    LOST = "no answer"
    DOUBLED = "text came twice"
    CUT = "cut short without a word"
    INVENTED = "an end that the model did not say"
    ALTERED = "text that the model did not say"
    UNREADABLE = "an answer or error that cannot be read"
    HUNG = "still open at the client's deadline"


class Struck(StrEnum):
    """When faults befell the calls of a request, the latest counts."""

    NEVER = "no fault struck"
    BEFORE = "struck before the first output"
    AFTER = "struck after the first output"


_HONEST = frozenset({Fate.WHOLE, Fate.REFUSED, Fate.BROKEN, Fate.GARBLED})
_BOOKED = {  # what the receipt must say
    Fate.WHOLE: {"ok"},
    Fate.GARBLED: {"ok"},
    Fate.BROKEN: {"broken"},
    Fate.REFUSED: {"failed", "refused"},
}


@dataclass(frozen=True, slots=True)
class Call:
    """A line of a provider's log."""

    serial: int
    model: str
    said: str
    stream: bool
    fault: str
    after: int
    outcome: str
    started: float
    second_chunk: float
    ended: float

    @property
    def killed(self) -> bool:
        """Whether its provider was killed over it."""
        return self.outcome == "open"

    @property
    def late(self) -> bool:
        """Whether its fault came behind text."""
        return bool(self.fault) and self.stream and self.after > 1 and self.second_chunk > 0


@dataclass(slots=True)
class Case:
    """One request from three sides."""

    seen: Seen
    fate: Fate
    receipts: list[Mapping[str, Any]]
    calls: list[Call]

    @property
    def struck(self) -> Struck:
        """When faults befell its calls."""
        if any(call.late or (call.killed and self.seen.first_text) for call in self.calls):
            return Struck.AFTER
        failed = (attempt["error"] for receipt in self.receipts for attempt in receipt["attempts"])
        return Struck.BEFORE if any(call.fault or call.killed for call in self.calls) or any(failed) else Struck.NEVER

    @property
    def added_ms(self) -> float | None:
        """First text at the client, less what the provider that answered took for it."""
        calls = [call for call in self.calls if call.model == f"mock-{self.seen.model}" and call.second_chunk]
        if not (calls and self.seen.first_text and self.fate is Fate.WHOLE):
            return None
        own = calls[-1].second_chunk - calls[-1].started
        return (self.seen.first_text - self.seen.begun - own) * 1000

    @property
    def dishonest(self) -> str:
        """What is wrong with how it ended; "" for nothing. What is lost or doubled is counted as that."""
        if self.fate in (Fate.LOST, Fate.DOUBLED):
            return ""
        if self.fate not in _HONEST:
            return self.fate
        if self.fate is Fate.GARBLED and not any(call.fault == "garbage" for call in self.calls):
            return f"{self.fate}, which no provider sent"
        booked = {str(receipt["outcome"]) for receipt in self.receipts}
        honest = _BOOKED[self.fate] | ({"failed"} if not self.seen.text else set())
        return "" if booked <= honest else f"{self.fate}, but the receipt says {', '.join(sorted(booked))}"

    def __str__(self) -> str:
        seen, kind = self.seen, "streamed" if self.seen.stream else "whole"
        calls = [f"{call.model} {call.fault or 'healthy'}@{call.after} {call.outcome}" for call in self.calls]
        booked = [f"{receipt['outcome']} {receipt['error'] or ''}".strip() for receipt in self.receipts]
        told = f", told {seen.error or seen.broke!r}" if seen.error or seen.broke else ""
        got = f"status {seen.status}, {len(seen.text)} characters{told}"
        return f"#{seen.number} {seen.surface} {kind}, {got}; receipts {booked}; calls {calls}"


@dataclass(slots=True)
class Judged:
    """A whole storm."""

    asked: int
    cases: list[Case]
    fates: Counter[Fate] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    dishonest: list[str] = field(default_factory=list)

    def share(self, struck: Struck | None = None) -> float:
        """Which part of the requests had a whole answer; NaN where there was none."""
        cases = [case for case in self.cases if struck is None or case.struck is struck]
        missing = self.asked - len(self.cases) if struck is None else 0
        whole = sum(case.fate is Fate.WHOLE for case in cases)
        return whole / (len(cases) + missing) if cases else float("nan")


def judge(seen: Seen, full: Mapping[str, str]) -> Fate:
    """The fate of a request, by what its client saw; `full` has each model's answer to it."""
    if seen.hung or not seen.status:
        return Fate.HUNG if seen.hung else Fate.LOST
    if seen.status != 200:
        return Fate.REFUSED if seen.error and seen.ended and seen.status >= 400 else Fate.UNREADABLE
    if seen.unreadable and not seen.stream:
        return Fate.UNREADABLE
    wanted = full.get(seen.model, "")
    if not wanted.startswith(seen.text):
        again = any(seen.text.find(text[:_SAME], 1) > 0 for text in full.values())
        return Fate.DOUBLED if again else Fate.ALTERED
    return _ended(seen, wanted)


def _ended(seen: Seen, wanted: str) -> Fate:
    """How an answer ended whose text is right as far as it goes."""
    claimed = bool(seen.finish or seen.last)
    if seen.error:
        return Fate.INVENTED if claimed else Fate.BROKEN
    if seen.text != wanted or not wanted:
        return Fate.INVENTED if claimed else Fate.CUT
    if not (seen.finished and seen.ended):
        return Fate.CUT
    return Fate.GARBLED if seen.unreadable else Fate.WHOLE


def full_answers(prompt: str, tokens: int, seed: int) -> dict[str, str]:
    """What each model answers to a prompt, as the mock makes it up."""
    models = {name: f"mock-{name}" for name in MODELS}
    return {
        name: answers.prose(model, answers.seeded(seed, model, prompt), Length(exact=tokens)).text
        for name, model in models.items()
    }


def join(
    all_seen: Sequence[Seen], receipts: Iterable[Mapping[str, Any]], calls: Iterable[Call], tokens: int, seed: int
) -> list[Case]:
    """Each request with its receipts and calls."""
    booked, made = defaultdict(list), defaultdict(list)
    for receipt in receipts:
        booked[str(receipt["request_id"])].append(receipt)
    for call in sorted(calls, key=lambda call: call.started):
        if found := _NUMBER.search(call.said):
            made[int(found[1])].append(call)
    return [
        Case(seen, judge(seen, full_answers(seen.prompt, tokens, seed)), booked[seen.request_id], made[seen.number])
        for seen in all_seen
    ]


def judged(cases: list[Case], asked: int, receipts: int) -> Judged:
    """The sum of a storm: who is lost, doubled or was lied to, each with its story."""
    sum_of = Judged(asked, cases, Counter(case.fate for case in cases))
    for case in cases:
        if case.fate is Fate.LOST or (case.seen.request_id and not case.receipts):
            sum_of.lost.append(f"{case.fate} or no receipt: {case}")
        if case.fate is Fate.DOUBLED or len(case.receipts) > 1:
            sum_of.doubled.append(f"{case.fate}, {len(case.receipts)} receipts: {case}")
        if why := case.dishonest:
            sum_of.dishonest.append(f"{why}: {case}")
    there = {case.seen.number for case in cases}
    sum_of.lost += [f"#{number}: its client never came back" for number in range(asked) if number not in there]
    sum_of.doubled += ["a receipt that no request is known for"] * max(0, receipts - asked)
    return sum_of
