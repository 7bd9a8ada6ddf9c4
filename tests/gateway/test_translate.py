"""From any dialect to any other: requests once, streams by any cut."""

import itertools
from typing import Any

import orjson
import pytest

from gateway.dialects.neutral import Asked, Conversation
from gateway.dialects.register import SURFACES, UPSTREAMS
from gateway.errors import BadRequest, Inexpressible
from gateway.pricing import Usage
from gateway.sse import Parser
from gateway.translate import Translation, Translator, passes
from gateway.wire import ChatRequest, chat, gemini, messages, plain, responses

SYSTEM, QUESTION = "Be brief.", "How far is it?"
REQUESTS: dict[str, ChatRequest] = {
    "openai": chat.decode(orjson.dumps({
        "model": "auto", "stream": True, "seed": 5, "max_tokens": 50,
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}],
    }), {}),
    "responses": responses.decode(orjson.dumps({
        "model": "auto", "stream": True, "instructions": SYSTEM, "input": QUESTION, "max_output_tokens": 50,
    }), {}),
    "anthropic": messages.decode(orjson.dumps({
        "model": "auto", "stream": True, "system": SYSTEM, "max_tokens": 50, "top_k": 4,
        "messages": [{"role": "user", "content": QUESTION}],
    }), {}),
    "gemini": gemini.decode(orjson.dumps({
        "systemInstruction": {"parts": [{"text": SYSTEM}]}, "contents": [{"parts": [{"text": QUESTION}]}],
        "generationConfig": {"maxOutputTokens": 50},
    }), {}, "auto", stream=True),
}
PAIRS = [pair for pair in itertools.product(SURFACES, UPSTREAMS) if pair[0] != pair[1]]

WORDS: dict[str, list[dict[str, Any]]] = {
    "openai": [
        {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Two "}}]},
        {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"content": "größe"}}]},
        {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"id": "x", "model": "m", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}},
    ],
    "anthropic": [
        {"type": "message_start", "message": {"id": "x", "type": "message", "role": "assistant", "model": "m",
         "content": [], "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Two "}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "größe"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
         "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ],
    "gemini": [
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "Two "}]}}], "responseId": "x"},
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "größe"}]}, "finishReason": "STOP"}],
         "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4}, "responseId": "x"},
    ],
}


def stream(dialect: str) -> bytes:
    """An upstream's stream that says "Two größe"."""
    frames = [
        (f"event: {data['type']}\n".encode() if "type" in data else b"") + b"data: " + orjson.dumps(data) + b"\n\n"
        for data in WORDS[dialect]
    ]
    return b"".join(frames) + (b"data: [DONE]\n\n" if dialect == "openai" else b"")


def translation(surface: str, upstream: str) -> Translation:
    """A stream on its way."""
    conversation = Translator(REQUESTS[surface], "r1", 17).conversation
    return Translation(UPSTREAMS[upstream], SURFACES[surface], Asked("r1", "auto", 17, conversation))


@pytest.mark.parametrize(("surface", "upstream"), PAIRS)
def test_a_request_reaches_the_other_side(surface: str, upstream: str) -> None:
    """The words, the limit and the wish for a stream, under the names that the upstream has for them."""
    body, _ = Translator(REQUESTS[surface], "r1", 17).body_for(upstream, "some-model")
    sent = orjson.loads(body)

    assert SYSTEM in str(sent)
    assert QUESTION in str(sent)
    assert b"50" in body
    assert sent.get("stream") == (None if upstream == "gemini" else True)


@pytest.mark.parametrize(("surface", "upstream"), PAIRS)
@pytest.mark.parametrize("size", [1, 5, 97, 10**6])
def test_a_stream_comes_back_however_it_is_cut(surface: str, upstream: str, size: int) -> None:
    """Every word once, in order, and the counts; the bytes are the same for every cut but for how they are grouped."""
    raw, on_its_way = stream(upstream), translation(surface, upstream)
    said = b"".join(on_its_way.feed(raw[at:at + size]) for at in range(0, len(raw), size)) + on_its_way.close()
    frames = [frame.data.decode() for frame in Parser().feed(said)]
    first, second = (next(at for at, frame in enumerate(frames) if word in frame) for word in ("Two ", "größe"))

    assert first <= second
    assert on_its_way.ending == (True, "stop", Usage(9, 4), False)
    if surface in UPSTREAMS:       # whoever reads this dialect sees a stream that ended well
        ending = UPSTREAMS[surface].ending_of_stream(Parser().feed(said))
        assert (ending.complete, ending.error) == (True, False)


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_stream_that_is_cut_has_not_ended(upstream: str) -> None:
    """Nothing is invented where the upstream did not finish."""
    surface = "responses"
    on_its_way = translation(surface, upstream)
    on_its_way.feed(stream(upstream)[:-len(stream(upstream)) // 2])

    assert not on_its_way.ending.complete


FAILURES = {
    "openai": b'data: {"error":{"message":"out of memory"}}\n\n',
    "anthropic": b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"out of memory"}}\n\n',
    "gemini": b'data: {"error":{"code":500,"message":"out of memory","status":"INTERNAL"}}\n\n',
}


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_an_error_in_the_stream(upstream: str) -> None:
    """What was said before it is said, and the upstream's words for it are kept."""
    on_its_way = translation("responses", upstream)
    half = stream(upstream)[: stream(upstream).index(b"Two ") + 40]
    whole = half[: half.rindex(b"\n\n") + 2] if b"\n\n" in half else b""
    on_its_way.feed(whole + FAILURES[upstream])

    assert on_its_way.failed == "out of memory"
    assert not on_its_way.ending.complete


def test_the_same_dialect_is_not_read() -> None:
    """Only the model is exchanged: what we cannot read is none of our business there."""
    raw = b'{"model":"auto","messages":[{"role":"user","content":[{"type":"brand_new"}]}],"tools":[{"odd":1}]}'
    body, lost = Translator(chat.decode(raw, {}), "r1", 17).body_for("openai", "m")

    assert (b'"brand_new"' in body, b'{"odd":1}' in body, lost) == (True, True, ())


def test_what_is_lost_is_named() -> None:
    """A hint that the other side has no word for."""
    _, lost = Translator(REQUESTS["anthropic"], "r1", 17).body_for("openai", "m")

    assert lost == ("top_k",)


def test_what_cannot_be_said_is_refused() -> None:
    """A provider's own tool is a 400 that another target may cure."""
    body: dict[str, Any] = {
        "model": "auto", "messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "web_search"}]
    }
    with pytest.raises(Inexpressible):
        Translator(chat.decode(orjson.dumps(body), {}), "r1", 17).body_for("anthropic", "m")


def test_a_fault_that_only_a_translation_finds() -> None:
    """It is the caller's, and names the field."""
    body = {"model": "auto", "messages": [{"role": "user", "content": [{"type": "text"}]}]}
    with pytest.raises(BadRequest) as caught:
        Translator(chat.decode(orjson.dumps(body), {}), "r1", 17).body_for("anthropic", "m")

    assert caught.value.param == "messages[0].content[0].text"


def test_embeddings_are_not_translated() -> None:
    """They go to an upstream that speaks OpenAI's dialect, or nowhere."""
    translator = Translator(plain.decode(b'{"model":"e","input":"x"}', {}, "embeddings"), "r1", 17)

    assert translator.body_for("openai", "e2")[0] == b'{"model":"e2","input":"x"}'
    with pytest.raises(Inexpressible, match="embeddings are passed through"):
        translator.body_for("gemini", "e2")


def test_reprs() -> None:
    """Operators can read them."""
    assert repr(Translator(REQUESTS["gemini"], "r1", 17)) == "<Translator from gemini>"
    assert repr(Translation(UPSTREAMS["openai"], SURFACES["gemini"], Asked("r", "m", 1, Conversation(())))) == (
        "<Translation running>"
    )


def test_thinking_of_another_model_does_not_go_to_anthropic() -> None:
    """A history that Gemini's thinking stands in is worded anew for Anthropic, which would refuse a foreign seal."""
    thinking = {"type": "thinking", "thinking": "hm", "signature": "thriftgate.gemini.c2VhbA=="}
    body = {"model": "auto", "max_tokens": 50, "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [thinking, {"type": "text", "text": "Hello"}]},
        {"role": "user", "content": "and?"},
    ]}
    sent, lost = Translator(messages.decode(orjson.dumps(body), {}), "r1", 17).body_for("anthropic", "claude")

    assert b"thriftgate." not in sent
    assert b"Hello" in sent
    assert "thinking" in lost


@pytest.mark.parametrize(
    ("said", "dialect", "passing"),
    [("hi", "anthropic", True), ("hi", "openai", False), ('"thriftgate.', "anthropic", True)],
)
def test_what_passes_as_it_came(said: str, dialect: str, *, passing: bool) -> None:
    """The caller's own dialect; words that look like a seal of ours are escaped in JSON and are none."""
    raw = orjson.dumps({"model": "auto", "max_tokens": 5, "messages": [{"role": "user", "content": said}]})

    assert passes(messages.decode(raw, {}), dialect) is passing


def test_a_foreign_seal_does_not_pass() -> None:
    """Not to Anthropic, whatever is asked of it; other dialects' callers have no such mark."""
    raw = b'{"model":"auto","messages":[{"role":"user","content":[{"type":"x","signature":"thriftgate.gemini."}]}]}'

    assert not passes(messages.decode(raw, {}, "count_tokens"), "anthropic")
    assert passes(chat.decode(raw, {}), "openai")


def test_an_agents_own_tools_are_enough() -> None:
    """A hosted tool that is offered among functions is left out and named: agents offer them on the off chance."""
    body: dict[str, Any] = {
        "model": "auto", "input": "hi", "tools": [{"type": "web_search"}, {"type": "function", "name": "look"}],
    }
    sent, lost = Translator(responses.decode(orjson.dumps(body), {}), "r1", 17).body_for("openai", "m")

    assert [tool["function"]["name"] for tool in orjson.loads(sent)["tools"]] == ["look"]
    assert "tool.native" in lost


def frames_of(dialect: str, *texts: str) -> bytes:
    """A stream that begins and says these texts."""
    begun: dict[str, Any] = {
        "openai": [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts],
        "gemini": [{"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}}]} for text in texts],
    }
    return b"".join(b"data: " + orjson.dumps(frame) + b"\n\n" for frame in begun[dialect])


def half(upstream: str = "openai", *texts: str) -> Translation:
    """A translation for OpenAI's surface that has read these texts."""
    translator = Translator(REQUESTS["openai"], "an-id", 1)
    translation = Translation(UPSTREAMS[upstream], SURFACES["openai"], translator.asked, keeps=True)
    translation.feed(frames_of(upstream, *texts))
    return translation


def test_what_was_counted_at_the_beginning() -> None:
    """Of an answer that breaks off it is all that is known; the end replaces it."""
    on_its_way = translation("openai", "anthropic")
    begin, half_way, end = stream("anthropic").partition(b"event: content_block_stop")
    on_its_way.feed(begin)
    so_far = on_its_way.ending
    on_its_way.feed(half_way + end)

    assert (so_far.complete, so_far.usage) == (False, Usage(9, 1))
    assert on_its_way.ending.usage == Usage(9, 4)


def test_what_was_said_can_be_continued() -> None:
    """As long as it is text that has not ended."""
    call = {"choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]}}]}
    ended = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    calling, whole = half("openai", "Two "), half("openai", "Two ")
    calling.feed(b"data: " + orjson.dumps(call) + b"\n\n")
    whole.feed(b"data: " + orjson.dumps(ended) + b"\n\n")

    assert half("openai", "Two ", "birds").said == "Two birds"
    assert (half().said, calling.said, whole.said) == ("", "", "")


@pytest.mark.parametrize(
    ("before", "after", "text"), [("Two ", " birds", "birds"), ("Two ", "birds", "birds"), ("Two", " birds", " birds")]
)
def test_it_goes_on_in_the_same_words(before: str, after: str, text: str) -> None:
    """From a provider of another dialect, without white space twice, a second beginning or an id of its own."""
    translation = half("openai", before)
    translation.go_on(UPSTREAMS["gemini"])
    frame = orjson.loads(translation.feed(frames_of("gemini", after)).removeprefix(b"data: "))

    assert frame["choices"][0]["delta"] == {"content": text}
    assert frame["id"] == "chatcmpl-an-id"
    assert translation.said == before + text


def test_a_request_ends_with_what_was_said() -> None:
    """Also where it would have passed as it came."""
    translator = Translator(REQUESTS["openai"], "an-id", 1)
    translator.said = "Two"
    body, _ = translator.body_for("openai", "m")

    assert orjson.loads(body)["messages"][-1] == {"role": "assistant", "content": "Two"}
    assert orjson.loads(body)["seed"] == 5
