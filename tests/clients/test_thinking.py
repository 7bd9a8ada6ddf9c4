"""Thinking through the official SDKs: shown in the surface's own form, sent back, carried past a change of model."""

import pytest

from loadtest.mock_upstream import MockUpstream
from tests.clients.talking import MODELS, SURFACES, Wish
from tests.conftest import Running

# The SDK makes a subclass of aiohttp's session, which aiohttp discourages.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@STREAMED
@pytest.mark.parametrize("surface", SURFACES)
async def test_thinking_is_shown_and_sent_back(
    providers: Running, first: MockUpstream, surface: str, *, stream: bool
) -> None:
    """What a model thought reads the same in every surface's own field, apart from the answer; the next turn has it."""
    first.turn("mock-cheap", reasoning=9)       # OpenAI's format thinks aloud only where it is dialled
    thoughts: set[str] = set()
    answers: set[str] = set()
    for model in MODELS:
        async with SURFACES[surface](providers.base_url) as talk:
            talk.say("How far is it around the lake?")
            answer = await talk.ask(model, Wish(stream=stream, thinks=True))
            talk.say("And around the island?")
            again = await talk.ask(model, Wish(stream=stream, thinks=True))
        thoughts.add(answer.thinking)
        answers.add(answer.text)

        assert again.text
        assert again.thinking

    assert len(thoughts) == len(answers) == 1
    assert "" not in thoughts | answers
    assert not thoughts & answers


@STREAMED
@pytest.mark.parametrize("surface", SURFACES)
async def test_a_history_moves_between_models(
    providers: Running, first: MockUpstream, surface: str, *, stream: bool
) -> None:
    """Thinking and calls of one model, their results at any other, and the next question at the first again.

    Every provider refuses signatures that are not its own, and calls without the one that it wants.
    """
    first.turn("mock-cheap", reasoning=9, calls=2)
    wish = Wish(stream=stream, tools=True, thinks=True)
    for before in MODELS:
        for after in MODELS:
            async with SURFACES[surface](providers.base_url) as talk:
                talk.say("What is it like in Oslo?")
                called = await talk.ask(before, wish)
                talk.give(dict.fromkeys(called.calls, "rain in Oslo"))
                answer = await talk.ask(after, wish)
                talk.say("And in Bergen?")
                again = await talk.ask(before, wish)
                talk.give(dict.fromkeys(again.calls, "snow in Bergen"))
                last = await talk.ask(after, wish)

            assert called.thinking
            assert (len(called.calls), len(again.calls)) == (2, 2)
            assert answer.text
            assert last.text
            assert (answer.calls, last.calls) == ((), ())
