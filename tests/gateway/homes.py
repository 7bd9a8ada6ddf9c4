"""Homes of accounts for tests: one of plain books, and steps that every home must take alike."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from hypothesis import strategies

from gateway.budgets import TERM_MS, WANTED_MS, Ask, Book, NoHome, Reply

MOMENT_MS = 1_795_867_200_000       # 2026-11-28, 12:00 UTC
HOLDERS = ("17-abc", "18-def", "19-012")
NAMES = (("key:shop", "2026-11-28"), ("owner:sales:eu", "2026-11"), ("all", "total"))


class Books:
    """The rules themselves, in memory. It may be told not to answer, or to wait."""

    def __init__(self, term_ms: int = TERM_MS) -> None:
        self.term_s = term_ms / 1000
        self.now_ms = MOMENT_MS
        self.clock_ms: Callable[[], int] = lambda: self.now_ms
        self.books: dict[tuple[str, str], Book] = {}
        self.calls: list[list[Ask]] = []
        self.deaf = False               # what it is asked is not done
        self.mute = False               # it is done, and nobody hears of it
        self.gate: asyncio.Event | None = None
        self.called = asyncio.Event()
        self._term_ms = term_ms

    def book(self, account: tuple[str, str]) -> Book:
        """The book of an account."""
        return self.books.setdefault(account, Book())

    def answer(self, holder: str, ask: Ask) -> Reply:
        """Answer one question."""
        return self.book((ask.name, ask.period)).answer(holder, ask, self.clock_ms(), self._term_ms)

    def settle(self, holder: str, sums: Mapping[tuple[str, str], int]) -> None:
        """Book what a segment cost."""
        for account, nanos in sums.items():
            self.book(account).settle(holder, nanos)

    async def call(self, holder: str, asks: Sequence[Ask]) -> Sequence[Reply]:
        """Answer questions."""
        self.calls.append(list(asks))
        self.called.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.deaf:
            raise NoHome("it does not answer")
        replies = [self.answer(holder, ask) for ask in asks]
        if self.mute:
            raise NoHome("it answered too late")
        return replies

    async def wanted(self) -> Collection[tuple[str, str]]:
        """Return of which accounts somebody needs more."""
        if self.deaf:
            raise NoHome("it does not answer")
        return [account for account, book in self.books.items() if book.wanted_ms > self.clock_ms() - WANTED_MS]

    async def spent(self, accounts: Sequence[tuple[str, str]]) -> list[int]:
        """Return what was spent."""
        if self.deaf:
            raise NoHome("it does not answer")
        return [self.book(account).spent_nanos for account in accounts]


class Step(NamedTuple):
    """Something that happens to a home: questions, or else a segment's sums."""

    after_ms: int
    holder: str
    asks: list[Ask]
    sums: dict[tuple[str, str], int]


def steps(scale: int) -> strategies.SearchStrategy[list[Step]]:
    """Return what may happen, with amounts around `scale`: sensible or not, as a holder may have missed anything."""
    nanos = strategies.integers(0, 10) | strategies.integers(0, scale)
    limits = strategies.sampled_from([0, scale // 2, scale])
    ask = strategies.builds(
        Ask, strategies.just(""), strategies.just(""), limits, strategies.integers(1, 12), nanos, nanos, nanos, nanos,
        nanos, nanos, strategies.booleans(), strategies.lists(nanos, max_size=2, unique=True).map(sorted).map(tuple),
    )
    accounts = strategies.lists(strategies.sampled_from(NAMES), min_size=1, max_size=3, unique=True)

    def of(name: tuple[str, str]) -> strategies.SearchStrategy[Ask]:
        """Return questions about this account."""
        return ask.map(lambda made: made._replace(name=name[0], period=name[1]))

    asks = accounts.flatmap(lambda names: strategies.tuples(*map(of, names))).map(list)
    return strategies.lists(max_size=14, elements=strategies.builds(
        Step, strategies.sampled_from([0, 1, 300, 2_000, 7_000, 59_000, 60_000]), strategies.sampled_from(HOLDERS),
        asks | strategies.just([]), strategies.dictionaries(strategies.sampled_from(NAMES), nanos, max_size=2),
    ))


def wanting() -> list[Step]:
    """Return how others are asked for what they can spare: at once, until it is over, and when that begins again."""
    ask = Ask(*NAMES[2], 1_000, 1, 0, least_nanos=10, need_nanos=10, want_nanos=10)
    more = ask._replace(least_nanos=995, need_nanos=995)
    after_ms = [0, 1_999, 1, 4_999, 1]
    return [Step(0, HOLDERS[0], [ask], {})] + [
        Step(ms, HOLDERS[1], [more._replace(number=1 + number)], {}) for number, ms in enumerate(after_ms)
    ]


async def same(
    home: object, settle: Callable[[str, dict[tuple[str, str], int]], Awaitable[None]], clock: "Clock",
    taken: Sequence[Step],
) -> None:
    """Take the same steps on a home and in the books, and assert that it is told the same."""
    books = Books()
    clock.now_ms = books.now_ms
    for step in taken:
        books.now_ms += step.after_ms
        clock.now_ms = books.now_ms
        if step.asks:
            told = [books.answer(step.holder, ask) for ask in step.asks]
            assert told == list(await home.call(step.holder, step.asks))  # type: ignore[attr-defined]
        if step.sums:
            books.settle(step.holder, step.sums)
            await settle(step.holder, step.sums)
        assert sorted(await books.wanted()) == sorted(await home.wanted())  # type: ignore[attr-defined]
    assert await books.spent(NAMES) == await home.spent(NAMES)  # type: ignore[attr-defined]


class Clock:
    """Stands where it is put."""

    def __init__(self) -> None:
        self.now_ms = MOMENT_MS

    def __call__(self) -> int:
        return self.now_ms
