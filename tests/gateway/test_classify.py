"""The classifier's place on the path: whatever it does, a verdict comes, or the reason why there is none."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import orjson
import pytest

from classifier.predict import Prediction, Prompt
from gateway import classify as room
from gateway.classify import Classify, prompt_of
from gateway.config import ClassifierConfig
from gateway.router import Source, Verdict
from gateway.wire import ChatRequest, chat

LONG_S = 30.0          # a wait that only a broken test sees the end of
JUDGED = Verdict(Source.CLASSIFIER, 0.25, 0.75, "chat")
CACHED = Verdict(Source.CACHE, 0.25, 0.75, "chat")


class Scripted:
    """A predictor that keeps what it was asked, can be made to hold still, and to raise."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.prompts: list[Prompt] = []
        self.entered = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None

    def predict(self, prompt: Prompt) -> Prediction:
        """Judge a prompt, when free to."""
        self.asked.append(prompt.text)
        self.prompts.append(prompt)
        self.entered.release()
        self.free.wait(LONG_S)
        if self.error is not None:
            raise self.error
        return Prediction(0.25, 0.75, "chat", np.zeros(2, np.float32))

    async def until_entered(self) -> None:
        """Wait until one more prompt is being judged."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=LONG_S)


Makes = Callable[..., Classify]


@pytest.fixture
def predictor() -> Scripted:
    """A predictor that answers at once."""
    return Scripted()


@pytest.fixture
def failures() -> list[BaseException]:
    """What the operator is told."""
    return []


@pytest.fixture
async def make(predictor: Scripted, failures: list[BaseException]) -> AsyncIterator[Makes]:
    """Make classifies with this predictor and a deadline that does not pass; they are closed after the test."""
    made: list[Classify] = []

    def make(**settings: Any) -> Classify:
        """Make one."""
        classify = Classify(ClassifierConfig(**{"deadline_ms": LONG_S * 1000, **settings}), failures.append)
        classify.predictor = predictor
        made.append(classify)
        return classify

    yield make
    predictor.free.set()
    for classify in made:
        classify.close()


def asked(text: str, session: str | None = None, **fields: Any) -> ChatRequest:
    """A request with this last user turn."""
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}
    return chat.decode(orjson.dumps(body), {} if session is None else {"x-thriftgate-session": session})


async def settled(classify: Classify) -> None:
    """Wait until nothing is being judged."""
    while classify._running:
        await asyncio.wait(set(classify._running.values()))


async def test_a_verdict(make: Makes, predictor: Scripted) -> None:
    """The predictor's word, and where it came from."""
    classify = make()

    assert await classify.judge(asked("hello"), "app") == JUDGED
    assert predictor.asked == ["hello"]


async def test_a_repeated_prompt_comes_from_the_cache(make: Makes, predictor: Scripted) -> None:
    """It is judged once, for whichever caller."""
    classify = make()
    await classify.judge(asked("hello"), "app")

    assert await classify.judge(asked("hello"), "ops") == CACHED
    assert predictor.asked == ["hello"]
    assert repr(classify) == "<Classify ready, 0 running, 1 cached>"


def talked(*turns: str) -> ChatRequest:
    """A request with these messages of "role: text"."""
    pairs = (turn.split(": ", 1) for turn in turns)
    return asked("", messages=[{"role": role, "content": text} for role, text in pairs])


@pytest.mark.parametrize("other", [
    asked("hello!"), talked("user: x", "user: hello"), talked("system: x", "user: hello"),
    talked("user: hello", "tool: x"), asked("hello", tools=[{}]), asked("hello\n?"), asked("x" * 5000),
    asked("", messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "image_url"}]}]),
    asked("x" * 2500 + "\n" + "x" * 2499),
], ids=["text", "turns", "system", "results", "tools", "line", "long", "images", "long with lines"])
async def test_what_the_classifier_would_see_differently_is_judged(
    make: Makes, predictor: Scripted, other: ChatRequest
) -> None:
    """Text, length, lines and all that stands around the text tell two prompts apart."""
    classify = make()
    for request in (asked("hello"), asked("x" * 4999), other):
        await classify.judge(request, "app")

    assert len(predictor.asked) == 3


def test_all_of_a_prompt_is_in_its_key() -> None:
    """Whatever the classifier is shown beside the text, two prompts that differ in it are two."""
    around: dict[str, Any] = {"before": "x"} | dict.fromkeys(("turns", "tools", "images", "results", "system"), 7)
    keys = {room._key(Prompt("hello")), *(room._key(Prompt("hello", **{key: around[key]})) for key in around)}

    assert {"text", *around} == Prompt.__dataclass_fields__.keys()
    assert len(keys) == 1 + len(around)


@pytest.mark.parametrize(("first", "again"), [
    (asked(f"{'x' * 9999}a{'x' * 9999}"), asked(f"{'x' * 9999}b{'x' * 9999}")),
    (talked("user: a", "user: b", "user: c"), talked("user: z", "user: b", "user: <cwd>/</cwd> c")),
], ids=["in the middle of a long prompt", "an envelope, a turn of long ago"])
async def test_what_it_cannot_see_is_not_judged_again(make: Makes, first: ChatRequest, again: ChatRequest) -> None:
    """What the classifier does not read changes nothing: the verdict is kept."""
    classify = make()
    await classify.judge(first, "app")

    assert (await classify.judge(again, "app")).source is Source.CACHE


async def test_text_that_is_no_unicode(make: Makes) -> None:
    """Not even a lone surrogate raises."""
    verdict = await make()._verdict(Prompt("\ud800 \udcff"))

    assert verdict == JUDGED


async def test_not_loaded(make: Makes) -> None:
    """Absent, at once."""
    classify = make()
    classify.predictor = None

    assert await classify.judge(asked("hello"), "app") == Verdict(Source.ABSENT)
    assert repr(classify) == "<Classify not loaded, 0 running, 0 cached>"


async def test_late(make: Makes, predictor: Scripted) -> None:
    """The deadline ends the waiting, not the work: the verdict is there when the prompt comes again."""
    classify = make()
    predictor.free.clear()
    patient = asyncio.gather(classify.judge(asked("hello"), "app"))
    await predictor.until_entered()
    classify._deadline_s = 0.0
    hasty = await classify.judge(asked("hello"), "app")
    shown = repr(classify)
    predictor.free.set()

    assert hasty == Verdict(Source.LATE)
    assert shown == "<Classify ready, 1 running, 0 cached>"
    assert [*await patient] == [JUDGED]
    assert await classify.judge(asked("hello"), "app") == CACHED


async def test_a_caller_that_leaves_does_not_lose_the_verdict(make: Makes, predictor: Scripted) -> None:
    """Cancelling the request cancels its waiting only."""
    classify = make()
    predictor.free.clear()
    request = asyncio.gather(classify.judge(asked("hello"), "app"))
    await predictor.until_entered()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    predictor.free.set()
    await settled(classify)

    assert await classify.judge(asked("hello"), "app") == CACHED


async def test_one_whose_requester_has_given_up_is_not_begun(make: Makes, predictor: Scripted) -> None:
    """Behind a slow prompt nobody's work is done; it is neither cached nor lost when it comes again."""
    classify = make()
    predictor.free.clear()
    slow = asyncio.gather(classify.judge(asked("slow"), "app"))
    await predictor.until_entered()
    classify._deadline_s = 0.0
    late = await classify.judge(asked("hello"), "app")
    predictor.free.set()
    await slow
    await settled(classify)
    classify._deadline_s = LONG_S

    assert late == Verdict(Source.LATE)
    assert predictor.asked == ["slow"]
    assert await classify.judge(asked("hello"), "app") == JUDGED


async def test_the_shortest_first(make: Makes, predictor: Scripted) -> None:
    """Of those that wait the shortest is judged first, and among equals the first come."""
    classify = make()
    predictor.free.clear()
    running = [asyncio.gather(classify.judge(asked("first"), "app"))]
    await predictor.until_entered()
    for text in ("a long prompt", "b", "medium", "a"):
        running.append(asyncio.gather(classify.judge(asked(text), "app")))
        await asyncio.sleep(0)
    predictor.free.set()
    await asyncio.gather(*running)

    assert predictor.asked == ["first", "b", "a", "medium", "a long prompt"]


async def test_equal_prompts_at_once_are_judged_once(make: Makes, predictor: Scripted) -> None:
    """They share one run, and its verdict."""
    classify = make(queue=1)
    predictor.free.clear()
    together = asyncio.gather(*(classify.judge(asked("hello"), f"app-{i}") for i in range(5)))
    await predictor.until_entered()
    predictor.free.set()

    assert await together == [JUDGED] * 5
    assert predictor.asked == ["hello"]


async def test_a_log_that_cannot_be_written(predictor: Scripted) -> None:
    """An operator who cannot be told (a closed log) does not cost the classifier: the next prompt is judged."""

    def broken(error: BaseException) -> None:
        """Be a log whose reader is gone."""
        raise BrokenPipeError from error

    classify = Classify(ClassifierConfig(deadline_ms=LONG_S * 1000), broken)
    classify.predictor = predictor
    predictor.error = ValueError("boom")
    failed = await classify.judge(asked("hello"), "app")
    predictor.error = None
    judged = await classify.judge(asked("hello"), "app")
    classify.close()

    assert [Verdict(Source.FAILED), JUDGED] == [failed, judged]


async def test_a_full_queue(make: Makes, predictor: Scripted) -> None:
    """Beyond it nobody waits; once there is room, the prompt is judged."""
    classify = make(queue=2)
    predictor.free.clear()
    waiting = asyncio.gather(*(classify.judge(asked(text), "app") for text in ("a", "b")))
    await predictor.until_entered()
    refused = await classify.judge(asked("c"), "app")
    predictor.free.set()
    await waiting

    assert refused == Verdict(Source.BUSY)
    assert await classify.judge(asked("c"), "app") == JUDGED


async def test_one_that_raises(make: Makes, predictor: Scripted, failures: list[BaseException]) -> None:
    """The request goes on, the operator is told, nothing is cached, and the next prompt is judged."""
    classify = make()
    predictor.error = ValueError("boom")
    failed = await classify.judge(asked("hello"), "app")
    told, predictor.error = list(failures), None

    assert failed == Verdict(Source.FAILED)
    assert [str(error) for error in told] == ["boom"]
    assert await classify.judge(asked("hello"), "app") == JUDGED


class TestSessions:
    """Without a verdict in time the session's last one is used."""

    @pytest.mark.parametrize("lost", ["absent", "raising", "late"])
    async def test_the_last_verdict(self, make: Makes, predictor: Scripted, lost: str) -> None:
        """Whatever kept the classifier, the conversation stays where it was, and the source says so."""
        classify = make()
        await classify.judge(asked("hello", session="s"), "app")
        if lost == "absent":
            classify.predictor = None
        elif lost == "raising":
            predictor.error = ValueError("boom")
        else:
            classify._deadline_s = 0.0
            predictor.free.clear()

        expected = Verdict(Source.SESSION, 0.25, 0.75, "chat")
        assert await classify.judge(asked("and now?", session="s"), "app") == expected

    async def test_a_cached_verdict_is_one(self, make: Makes) -> None:
        """The session remembers a verdict from the cache as well."""
        classify = make()
        await classify.judge(asked("hello"), "app")
        await classify.judge(asked("hello", session="s"), "app")
        classify.predictor = None

        assert (await classify.judge(asked("other", session="s"), "app")).source is Source.SESSION

    @pytest.mark.parametrize(("caller", "session"), [("ops", "s"), ("app", "t"), ("app", None), ("app", "")])
    async def test_it_is_nobody_elses(self, make: Makes, caller: str, session: str | None) -> None:
        """Another caller's session of the same name, another session and no session know nothing of it."""
        classify = make()
        await classify.judge(asked("hello", session="s"), "app")
        await classify.judge(asked("hello", session=None), "app")
        classify.predictor = None

        assert await classify.judge(asked("other", session=session), caller) == Verdict(Source.ABSENT)


class TestBounds:
    """What is remembered is bounded."""

    @pytest.mark.parametrize(("entries", "judged"), [(2, "abcb"), (0, "abacab")])
    async def test_the_cache(self, make: Makes, predictor: Scripted, entries: int, judged: str) -> None:
        """The least recently used verdict goes first; a size of 0 keeps nothing."""
        classify = make(cache_entries=entries)
        for text in "abacab":
            await classify.judge(asked(text), "app")

        assert list(judged) == predictor.asked
        assert len(classify._cache) == entries

    async def test_sessions(self, make: Makes, monkeypatch: pytest.MonkeyPatch) -> None:
        """So do the sessions, the least recently used first."""
        monkeypatch.setattr(room, "SESSIONS", 2)
        classify = make()
        for session in ("s", "t", "u"):
            await classify.judge(asked("hello", session=session), "app")
        classify.predictor = None
        sources = [(await classify.judge(asked("other", session=session), "app")).source for session in ("s", "t", "u")]

        assert sources == [Source.ABSENT, Source.SESSION, Source.SESSION]


async def test_closing(make: Makes, predictor: Scripted) -> None:
    """The thread ends after the job at hand; what comes later is late, and raises nothing."""
    before = threading.enumerate()
    classify = make()
    threads = [thread for thread in threading.enumerate() if thread not in before]
    predictor.free.clear()
    at_hand = asyncio.gather(classify.judge(asked("at hand"), "app"))
    await predictor.until_entered()
    waiting = asyncio.gather(classify.judge(asked("waiting"), "app"))
    await asyncio.sleep(0)
    classify.close()
    classify._deadline_s = 0.0
    predictor.free.set()
    verdict = await at_hand
    for thread in threads:
        await asyncio.to_thread(thread.join, LONG_S)
    waiting.cancel()

    assert [*verdict] == [JUDGED]
    assert predictor.asked == ["at hand"]
    assert [(thread.name, thread.is_alive()) for thread in threads] == [("classifier", False)]
    assert await classify.judge(asked("after"), "app") == Verdict(Source.LATE)


async def test_the_deadline_is_milliseconds(make: Makes) -> None:
    """As in the configuration."""
    assert make(deadline_ms=8)._deadline_s == 0.008


def test_what_the_classifier_is_shown() -> None:
    """The last user turn without its envelope, what came before, and how much stands around it."""
    picture = {"type": "image_url", "image_url": {"url": "https://pictures.example/a.png"}}
    words = {"type": "text", "text": "<cwd>/</cwd>c"}
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"}, {"role": "user", "content": [picture, words]},
                {"role": "assistant", "content": None}, {"role": "tool", "content": "x"}]
    expected = Prompt("c", before="a / b", turns=2, tools=3, images=1, results=1, system=7)

    assert expected == prompt_of(asked("", messages=messages, tools=[{}, {}, {}]))
    assert Prompt("", turns=1, system=1) == prompt_of(talked("system: x"))
