"""What nobody counted is estimated well, from what was counted before, and said to be an estimate."""

import random
from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.neutral import Asked, Conversation
from gateway.dialects.register import SURFACES, UPSTREAMS
from gateway.estimating import Exchange, Line, Ratios
from gateway.pricing import Usage
from gateway.translate import Translation
from gateway.wire import ChatRequest
from loadtest import anthropic_frames, frames, gemini_frames
from loadtest.answers import Answer, Length, prose, seeded


class Sized(NamedTuple):
    """What a model can take and give."""

    context: int = 0
    max_output: int = 0


def asking(text_bytes: int = 400, surface: str = "openai", **more: object) -> ChatRequest:
    """Return a request of a size."""
    fields: dict[str, object] = {
        "raw": b"{}", "surface": surface, "model": "m", "messages": [], "stream": True, "tools": 0, "images": 0,
        "structured": False, "max_output": 0, "text_bytes": text_bytes, "rung": None, "session": None,
    }
    return ChatRequest(**{**fields, **more})  # type: ignore[arg-type]  # fields of a request


def sent(size: int, request: ChatRequest | None = None, *, upstream: str = "openai", cut: bool = False) -> Exchange:
    """Return an exchange of which a caller was sent so many bytes."""
    return Exchange(request or asking(), upstream, size, cut)


# ── streams of the mock provider's formats ──


def of_openai(answer: Answer, thought: int) -> Iterator[tuple[bytes, int]]:
    """Yield each frame, and how many tokens it brings."""
    usage = frames.Usage(100, answer.tokens + thought, reasoning=thought)
    said = frames.stream(frames.Head("chatcmpl-1", 1, "mock"), [answer], usage)
    yield from zip(said, _spread(len(said), 1, answer.tokens), strict=True)


def of_anthropic(answer: Answer, thought: int) -> Iterator[tuple[bytes, int]]:
    """Yield each frame, and how many tokens it brings."""
    usage = anthropic_frames.Usage(100, answer.tokens + thought, thinking=thought)
    said = anthropic_frames.stream(anthropic_frames.Head("msg_1", "mock"), answer, usage)
    yield from zip(said, _spread(len(said), 3, answer.tokens), strict=True)


def of_gemini(answer: Answer, thought: int) -> Iterator[tuple[bytes, int]]:
    """Yield each frame, and how many tokens it brings."""
    usage = gemini_frames.Usage(100, answer.tokens, thoughts=thought)
    said = list(map(gemini_frames.event, gemini_frames.chunks(gemini_frames.Head("r", "mock"), [answer], usage)))
    yield from zip(said, _spread(len(said), 0, answer.tokens), strict=True)


def _spread(number: int, before: int, tokens: int) -> list[int]:
    """Return a token a frame, between those at the beginning and at the end that bring none."""
    return [int(before <= at < before + tokens) for at in range(number)]


FORMATS: dict[str, Callable[[Answer, int], Iterator[tuple[bytes, int]]]] = {
    "openai": of_openai, "anthropic": of_anthropic, "gemini": of_gemini,
}


def worded(stream: Iterator[tuple[bytes, int]], upstream: str, surface: str) -> list[tuple[bytes, int]]:
    """Return a stream as a caller of this dialect gets it."""
    if upstream == surface:
        return list(stream)
    asked = Asked("1", "m", 1, Conversation((), usage_in_stream=True))
    translation = Translation(UPSTREAMS[upstream], SURFACES[surface], asked)
    made = [(translation.feed(frame), tokens) for frame, tokens in stream]
    return [*made, (translation.close(), 0)]


@pytest.mark.parametrize(("upstream", "surface", "thinks"), [
    ("openai", "openai", False), ("openai", "openai", True), ("anthropic", "anthropic", False),
    ("anthropic", "anthropic", True), ("gemini", "gemini", False), ("gemini", "gemini", True),
    ("openai", "anthropic", False), ("anthropic", "openai", True), ("gemini", "responses", False),
])
def test_a_cut_stream_is_estimated(upstream: str, surface: str, *, thinks: bool) -> None:
    """After 100 counted streams, one that is cut anywhere is estimated within 15 % in the median."""
    rng = seeded(upstream, surface, thinks)
    ratios, off = Ratios(), []
    for number in range(200):
        answer = prose("mock-premium", rng, Length(exact=rng.randint(20, 300)))
        thought = rng.randint(80, 120) if thinks else 0
        stream = worded(FORMATS[upstream](answer, thought), upstream, surface)
        request = asking(surface=surface)
        if number < 100:
            size = sum(len(frame) for frame, _ in stream)
            ratios.learn("m", sent(size, request, upstream=upstream), Usage(100, answer.tokens + thought))
            continue
        cut = rng.randint(1, len(stream) - 1)
        size, tokens = sum(len(frame) for frame, _ in stream[:cut]), sum(tokens for _, tokens in stream[:cut]) + thought
        usage = ratios.estimate("m", sent(size, request, upstream=upstream, cut=True))
        off.append(abs(usage.output - tokens) / max(tokens, 1))

    assert median(off) < 0.15
    assert ratios.sureness("m", sent(1, request, upstream=upstream)).answers == 100
    assert ratios.sureness("m", sent(1, request, upstream=upstream)).deviation < 0.15


@pytest.mark.parametrize("upstream", FORMATS)
def test_a_whole_answer_is_estimated(upstream: str) -> None:
    """One without usage, of a server that counted others, is estimated within 15 % in the median."""
    rng = seeded(upstream, "whole")
    ratios, off, request = Ratios(), [], asking(stream=False)
    for number in range(200):
        answer = prose("mock-premium", rng, Length(exact=rng.randint(40, 800)))
        size = len(orjson.dumps({"choices": [{"message": {"content": answer.text}}], "id": "c" * 300}))
        exchange = sent(size, request, upstream=upstream)
        if number < 100:
            ratios.learn("m", exchange, Usage(100, answer.tokens))
        else:
            off.append(abs(ratios.estimate("m", exchange).output - answer.tokens) / answer.tokens)

    assert median(off) < 0.15


# ── what was said before the break ──


def test_what_anthropic_said_at_the_beginning_is_kept() -> None:
    """The prompt as it was counted, with its cache and tier; the answer is estimated, since its first count is none."""
    ratios = Ratios()
    said = Usage(330, 1, 300, 20, tier="batch")
    found = ratios.estimate("m", sent(6_000, asking(surface="anthropic"), upstream="anthropic", cut=True), said)

    assert found == said._replace(output=found.output, estimated=True)
    assert found.output > 50
    assert ratios.estimate("m", sent(0, upstream="anthropic", cut=True), said) == said
    assert ratios.estimate("m", sent(30, upstream="anthropic"), said._replace(output=90)).output == 90


def test_what_was_counted_along_is_kept() -> None:
    """Gemini, xAI and others count in every frame: that is no estimate. Where they counted no answer yet, it is one."""
    ratios = Ratios()
    said = Usage(330, 7)
    exchange = sent(90_000, upstream="gemini", cut=True)

    assert ratios.estimate("m", exchange, said) == said
    assert ratios.estimate("m", exchange, Usage(330, 0)).output > 100
    assert ratios.estimate("m", exchange, Usage(330, 0)).estimated


# ── before anything is known ──


@pytest.mark.parametrize(("upstream", "surface", "stream", "size", "least", "most"), [
    ("openai", "openai", True, 25_400, 80, 120),
    ("anthropic", "anthropic", True, 25_400, 500, 1_200),
    ("gemini", "gemini", True, 25_400, 1_000, 2_500),
    ("openai", "responses", True, 22_400, 80, 120),
    ("openai", "openai", False, 900, 80, 120),
    ("unheard", "of", True, 25_400, 80, 120),
])
def test_an_assumption(upstream: str, surface: str, *, stream: bool, size: int, least: int, most: int) -> None:
    """Nothing was counted yet: four bytes a token of text, and what is usual of frames around it."""
    ratios = Ratios()
    exchange = sent(size, asking(4_000, surface, stream=stream), upstream=upstream)
    usage = ratios.estimate("m", exchange)

    assert least <= usage.output <= most
    assert (usage.input, usage.estimated, ratios.sureness("m", exchange)) == (1_000, True, (0, 0.5))
    assert ratios.prompt_tokens(exchange.request) == 1_000


def test_nothing_sent_is_nothing_generated() -> None:
    """And embeddings generate nothing, however long the answer is."""
    ratios = Ratios()

    assert ratios.estimate("m", sent(0)) == Usage(100, 0, estimated=True)
    assert ratios.estimate("m", sent(90_000, asking(kind="embeddings"))).output == 0


def test_no_more_than_was_allowed() -> None:
    """The caller's own limit holds, else the model's, also where an image makes many bytes."""
    ratios = Ratios()

    assert ratios.estimate("m", sent(9_000_000, asking(max_output=64)), most=8_192).output == 64
    assert ratios.estimate("m", sent(9_000_000), most=8_192).output == 8_192


# ── learning ──


def test_prompts_are_learned_by_model() -> None:
    """What one model's tokeniser makes of bytes says little of another's; what is unknown takes the average of all."""
    ratios = Ratios()
    for size in range(400, 8_400, 100):
        ratios.learn("dense", sent(0, asking(size)), Usage(size // 2, 0))
        ratios.learn("sparse", sent(0, asking(size)), Usage(size // 5, 0))
    found = [ratios.estimate(model, sent(0, asking(4_000))).input for model in ("dense", "sparse", "unknown")]

    assert found[0] == pytest.approx(2_000, rel=0.02)
    assert found[1] == pytest.approx(800, rel=0.02)
    assert found[1] < found[2] < found[0]
    assert ratios.sureness("dense").answers == 80
    assert ratios.sureness("dense").deviation < 0.05


def test_what_is_known_of_a_prompt() -> None:
    """Tokens, answers and deviation, where something was counted; else nothing."""
    ratios = Ratios()
    before = ratios.learned("m", asking(4_000))
    ratios.learn("m", sent(0, asking(4_000)), Usage(1_000, 0))
    after = ratios.learned("m", asking(4_000))

    assert before is None
    assert after is not None
    assert [round(number, 3) for number in after] == [1_000, 1, 0.25]


def test_a_change_is_followed() -> None:
    """A model behind the same name may change its tokeniser: after a hundred answers the old one is forgotten."""
    ratios = Ratios()
    for ratio in (4, 3):
        for size in range(1_000, 11_000, 100):
            ratios.learn("m", sent(0, asking(size)), Usage(size // ratio, 0))

    assert ratios.estimate("m", sent(0, asking(6_000))).input == pytest.approx(2_000, rel=0.05)


def test_images_are_learned_apart() -> None:
    """What a prompt has beyond its text is the images', by model."""
    ratios = Ratios()
    for _ in range(60):
        ratios.learn("m", sent(0, asking(400)), Usage(100, 0))
        ratios.learn("m", sent(0, asking(400, images=2)), Usage(100 + 2 * 258, 0))

    assert ratios.estimate("m", sent(0, asking(400))).input == pytest.approx(100, abs=3)
    assert ratios.estimate("m", sent(0, asking(400, images=3))).input == pytest.approx(100 + 3 * 258, rel=0.05)


@pytest.mark.parametrize(("exchange", "usage"), [
    (sent(9_000), Usage(100, 5, estimated=True)),
    (sent(9_000, cut=True), Usage(100, 5)),
    (sent(9_000_000), Usage(100, 0)),
    (sent(9_000_000), Usage(100, 1_290, image_output=1_290)),
    (sent(9_000_000), Usage(100, 1_290, audio_output=1_290)),
    (sent(0), Usage(90_000, 5)),
    (sent(0), Usage(100, 5, searches=1)),
    (sent(0, asking(0)), Usage(100, 5)),
], ids=["estimated", "cut", "nothing", "image", "sound", "a document", "searches", "no text"])
def test_what_teaches_nothing(exchange: Exchange, usage: Usage) -> None:
    """Estimates, what was cut, and what is not text would spoil what is known of text."""
    ratios = Ratios()
    before = ratios.estimate("m", sent(9_000, asking(4_000)))
    ratios.learn("m", exchange, usage)
    after = ratios.estimate("m", sent(9_000, asking(4_000)))

    assert after.output == before.output
    assert (after.input == before.input) or exchange.sent_bytes


def test_models_that_went_are_forgotten() -> None:
    """Its memory is bounded by what is configured."""
    ratios = Ratios()
    for model in ("a", "b"):
        ratios.learn(model, sent(9_000), Usage(100, 30))
        ratios.learn(model, sent(9_000, asking(images=1)), Usage(900, 30))
    ratios.keep(["b"])

    assert ratios.sureness("a", sent(1)).answers == 0
    assert ratios.sureness("b", sent(1)).answers == 2
    assert repr(ratios) == "<Ratios of 1 models>"


# ── the most there can be ──


@pytest.mark.parametrize(("request_", "size", "expected"), [
    (asking(1_000, max_output=64), Sized(128_000, 4_096), Usage(501, 64)),
    (asking(1_000), Sized(128_000, 4_096), Usage(501, 4_096)),
    (asking(1_000_000), Sized(128_000, 4_096), Usage(128_000, 4_096)),
    (asking(1_000_000), Sized(), Usage(500_001, 0)),
    (asking(1_000, images=2), Sized(128_000, 9), Usage(10_501, 9)),
    (asking(1_000, kind="embeddings"), Sized(8_192, 9), Usage(501, 0)),
])
def test_the_ceiling(request_: ChatRequest, size: Sized, expected: Usage) -> None:
    """A token for two bytes, room for the images, the caller's limit or the model's, and never more than fits."""
    assert Ratios().ceiling("m", request_, size) == expected._replace(estimated=True)


def test_the_ceiling_grows_with_what_was_seen() -> None:
    """Where a model's text has more tokens than were thought possible, the ceiling is above them."""
    ratios = Ratios()
    for size in range(1_000, 9_000, 100):
        ratios.learn("m", sent(0, asking(size)), Usage(size * 9 // 10, 0))
        ratios.learn("m", sent(0, asking(size, images=1)), Usage(size * 9 // 10 + 8_000, 0))

    assert ratios.ceiling("m", asking(1_000), Sized()).input >= 1_300
    assert ratios.ceiling("m", asking(1_000, images=1), Sized()).input >= 12_000


# ── properties ──

PAIRS = st.lists(st.tuples(st.integers(1, 2**30), st.integers(1, 2**40)), max_size=40)


@given(pairs=PAIRS, size=st.integers(0, 2**31))
def test_a_line_is_never_absurd(pairs: list[tuple[int, int]], size: int) -> None:
    """Whatever it learned: no tokens below none, more for more bytes, and a deviation between none and all."""
    line = Line(4.0)
    for pair in pairs:
        line.learn(*pair)

    assert 0 <= line.at(size) <= line.at(size + 1_000)
    assert line.at(size) <= line.at(size, cut=True)
    assert 0 <= line.deviation <= 1
    assert repr(line).startswith("<Line ")


@given(st.floats(0.5, 400), st.integers(0, 20_000), st.integers(0, 2**32))
def test_a_line_finds_a_line(bytes_of_a_token: float, around: int, seed: int) -> None:
    """Answers of many lengths show what is around them and what a token takes, within a tenth."""
    rng, line = random.Random(seed), Line(250.0)
    for _ in range(300):
        tokens = rng.randint(20, 2_000)
        line.learn(int(around + tokens * bytes_of_a_token) + 1, tokens)

    assert line.at(int(around + 1_000 * bytes_of_a_token)) == pytest.approx(1_000, rel=0.1)


@given(
    pairs=PAIRS, size=st.integers(0, 2**31), text=st.integers(0, 2**31), limit=st.integers(0, 2**31),
    images=st.integers(0, 50), said=st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
def test_an_estimate_can_be_paid(
    pairs: list[tuple[int, int]], size: int, text: int, limit: int, images: int, said: tuple[int, int] | None
) -> None:
    """It is made of whole numbers that are not negative, and keeps what was said of the prompt."""
    ratios = Ratios()
    request = asking(text, max_output=limit, images=images)
    for sent_bytes, tokens in pairs:
        ratios.learn("m", sent(sent_bytes, request), Usage(tokens, tokens))
    known = None if said is None else Usage(*said)
    found = ratios.estimate("m", sent(size, request, cut=True), known)
    ceiling = ratios.ceiling("m", request, Sized(200_000, 8_192))

    assert all(isinstance(count, int) and count >= 0 for count in found[:-2])
    assert found.estimated or found == known
    assert known is None or (found.input, found.output >= known.output) == (known.input, True)
    assert 0 < ceiling.input <= 200_000
    assert ceiling.output == (limit or 8_192)
