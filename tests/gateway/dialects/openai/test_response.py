"""Chat Completions as a surface: whole answers, streams and errors in the words that OpenAI's SDK reads."""

from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.dialects import openai
from gateway.dialects.neutral import (
    Argued,
    Asked,
    Began,
    Called,
    Cited,
    Conversation,
    Ended,
    Event,
    Finish,
    Media,
    Refused,
    Said,
    Shown,
    Thought,
    Used,
)
from gateway.errors import BadRequest, GatewayError, NotFound, TimedOut
from gateway.errors import Refused as Denied
from gateway.pricing import Usage
from gateway.sse import Parser

ANSWER: list[Event] = [
    Began("x", "theirs"), Thought("hm", dialect="anthropic"), Said("Hello "), Said("you"), Called(0, "t1", "look"),
    Argued(0, '{"a":'), Argued(0, "1}"), Called(1, "t2", "see"), Argued(1, "{}"), Ended(Finish.TOOLS),
    Used(Usage(9, 5, 4, 3, 2)),
]


def asked(*, usage: bool = True) -> Asked:
    """What is known of the request."""
    return Asked("r1", "auto", 17, Conversation((), usage_in_stream=usage))


def streamed(events: list[Event], *, usage: bool = True) -> list[dict[str, Any]]:
    """Write a stream event by event, and return the data of its chunks; each must be one to the SDK."""
    writer = openai.writer(asked(usage=usage))
    raw = b"".join(writer.feed([event]) for event in events) + writer.close()
    *chunks, done = (frame.data for frame in Parser().feed(raw))
    assert done == b"[DONE]"
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(chunk, strict=True)
    return [orjson.loads(chunk) for chunk in chunks]


def test_a_stream() -> None:
    """Role first, every piece in its place, the reason, and the counts at the end."""
    chunks = streamed(ANSWER)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]

    assert deltas == [
        {"role": "assistant", "reasoning_content": "hm"},
        {"content": "Hello "},
        {"content": "you"},
        {"tool_calls": [{"index": 0, "id": "t1", "type": "function", "function": {"name": "look", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        {"tool_calls": [{"index": 1, "id": "t2", "type": "function", "function": {"name": "see", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["prompt_tokens"]) == ([], 9)
    assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in chunks} == {("chatcmpl-r1", "auto", 17)}


@pytest.mark.parametrize(("tier", "said"), [("flex", "flex"), ("priority", "priority"), ("batch", None), ("", None)])
def test_how_it_was_served_is_said(tier: str, said: str | None) -> None:
    """Beside the usage, where OpenAI has a name for it."""
    events: list[Event] = [Said("a"), Ended(Finish.STOP), Used(Usage(9, 5, tier=tier))]
    whole = orjson.loads(openai.write_whole(asked(), events))

    assert (streamed(events)[-1].get("service_tier"), whole.get("service_tier")) == (said, said)


def test_usage_is_given_to_those_who_asked() -> None:
    """Without `include_usage` there is no chunk without choices, which older clients fall over."""
    assert all(chunk["choices"] and "usage" not in chunk for chunk in streamed(ANSWER, usage=False))


def test_a_whole_answer() -> None:
    """The same as one object, which is a completion to the SDK."""
    body = openai.write_whole(asked(), ANSWER)
    said = ChatCompletion.model_validate_json(body, strict=True)
    message = orjson.loads(body)["choices"][0]["message"]

    assert (said.id, said.model, said.choices[0].finish_reason) == ("chatcmpl-r1", "auto", "tool_calls")
    assert (message["content"], message["reasoning_content"]) == ("Hello you", "hm")
    assert [(call["id"], call["function"]["arguments"]) for call in message["tool_calls"]] == [
        ("t1", '{"a":1}'), ("t2", "{}"),
    ]
    assert said.usage is not None
    assert (said.usage.prompt_tokens, said.usage.completion_tokens, said.usage.total_tokens) == (9, 5, 14)


TWO: list[Event] = [Said("a"), Said("b", 1), Ended(Finish.STOP), Ended(Finish.LENGTH, choice=1)]


@pytest.mark.parametrize("events", [ANSWER, TWO])
def test_what_is_written_is_read_again(events: list[Event]) -> None:
    """A stream and a whole answer say to a reader of this dialect what they were made of."""
    writer, reader = openai.writer(asked()), openai.reader()
    raw = writer.feed(events) + writer.close()
    again = [said for frame in Parser().feed(raw) for said in reader.feed(frame)]
    whole = openai.read_whole(openai.write_whole(asked(), events))

    assert _told(again) == _told(events) == _told(whole)


def _told(events: list[Event]) -> dict[str, Any]:
    """What events amount to."""
    told: dict[str, Any] = {"ended": sorted((e.choice, e.reason) for e in events if isinstance(e, Ended))}
    for event in events:
        if isinstance(event, Said | Argued):
            key = f"{type(event).__name__} {event.choice} {getattr(event, 'index', '')}"
            told[key] = told.get(key, "") + event.text
    return told


@pytest.mark.parametrize(
    ("event", "delta"),
    [
        (Refused("no"), {"refusal": "no"}),
        (Shown(Media("image", "image/png", "AAAA")), {"content": "![image](data:image/png;base64,AAAA)"}),
        (Cited("gemini", {"uri": "http://a", "title": "A"}), {"annotations": [{
            "type": "url_citation", "url_citation": {"start_index": 0, "end_index": 0, "url": "http://a", "title": "A"},
        }]}),
    ],
)
def test_what_else_has_a_place(event: Event, delta: dict[str, Any]) -> None:
    """Refusals, pictures and sources."""
    assert streamed([event])[0]["choices"][0]["delta"] == {"role": "assistant", **delta}


def test_sources_of_geminis() -> None:
    """Their addresses lie deep in one object for all of them."""
    chunks = [{"web": {"uri": "http://a", "title": "A"}}, {"web": {"uri": "http://b"}}]
    cited = Cited("gemini", {"groundingMetadata": {"groundingChunks": chunks}})
    delta = streamed([cited])[0]["choices"][0]["delta"]

    assert [note["url_citation"]["url"] for note in delta["annotations"]] == ["http://a", "http://b"]


def test_the_seal_of_a_call_goes_to_the_caller() -> None:
    """Where Google's compatible server has it, so that it comes back with the history and is read again."""
    events: list[Event] = [Called(0, "t", "f", "s"), Argued(0, "{}"), Ended(Finish.TOOLS)]
    whole = openai.write_whole(asked(), events)
    call = orjson.loads(whole)["choices"][0]["message"]["tool_calls"][0]

    assert streamed(events)[0]["choices"][0]["delta"]["tool_calls"][0]["extra_content"] == call["extra_content"]
    assert call["extra_content"] == {"google": {"thought_signature": "s"}}
    assert openai.read_whole(whole)[1] == Called(0, "t", "f", "s")


@pytest.mark.parametrize(("events", "finish"), [
    ([Refused("no"), Ended(Finish.REFUSAL)], "stop"), ([Said("no"), Ended(Finish.REFUSAL)], "content_filter"),
    ([Refused("no", 1), Ended(Finish.REFUSAL)], "content_filter"),
])
def test_how_a_refusal_ends(events: list[Event], finish: str) -> None:
    """In words it is an answer; without them a system cut it, and a plain "stop" would hide that."""
    first = [chunk["choices"][0] for chunk in streamed(events, usage=False) if chunk["choices"][0]["index"] == 0]

    assert first[-1]["finish_reason"] == finish
    assert orjson.loads(openai.write_whole(asked(), events))["choices"][0]["finish_reason"] == finish


def test_numbers_of_any_size() -> None:
    """What a provider says of its tokens is passed on, however large."""
    token = {"token": "x", "logprob": -1.0, "bytes": [10**30], "top_logprobs": []}
    writer = openai.writer(asked())

    assert str(10**30).encode() in writer.feed([Said("x", 0, (token,))])
    assert str(10**30).encode() in openai.write_whole(asked(), [Said("x", 0, (token,))])


def test_an_empty_answer_is_one() -> None:
    """SDKs look at the first choice without asking whether there is one."""
    body = ChatCompletion.model_validate_json(openai.write_whole(asked(), []), strict=True)

    assert body.choices[0].message.content == ""


def test_what_was_written_to_the_cache_is_said() -> None:
    """It is a part of the prompt's tokens that costs more."""
    used = orjson.loads(openai.write_whole(asked(), ANSWER))["usage"]

    assert used["prompt_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 3, "audio_tokens": 0}
    assert openai.read_whole(openai.write_whole(asked(), ANSWER))[-1] == Used(Usage(9, 5, 4, 3, 2))


@pytest.mark.parametrize("event", [Thought(signature="s"), Cited("anthropic", {"cited_text": "x"})])
def test_what_has_none_is_left_out(event: Event) -> None:
    """A seal and a source without an address say nothing here."""
    assert streamed([event], usage=False) == []


def test_a_refusal_alone() -> None:
    """It has no content beside it."""
    choice = orjson.loads(openai.write_whole(asked(), [Refused("no"), Ended(Finish.REFUSAL)]))["choices"][0]
    message = choice["message"]

    assert (message["content"], message["refusal"], choice["finish_reason"]) == (None, "no", "stop")


ERRORS: list[tuple[GatewayError, dict[str, object]]] = [
    (BadRequest("bad", param="messages[0]"),
     {"message": "bad", "type": "invalid_request_error", "param": "messages[0]", "code": None}),
    (NotFound("no such"),
     {"message": "no such", "type": "invalid_request_error", "param": None, "code": "model_not_found"}),
    (TimedOut("slow"), {"message": "slow", "type": "upstream_error", "param": None, "code": "upstream_timeout"}),
    (Denied("later", 429),
     {"message": "later", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}),
]


@pytest.mark.parametrize(("error", "expected"), ERRORS)
def test_an_error_has_openais_form(error: GatewayError, expected: dict[str, object]) -> None:
    """Message, type, param and code, always all four, and the request id."""
    assert {"error": {**expected, "request_id": "r-1"}} == orjson.loads(openai.error_body(error, "r-1", []))


def test_attempts_are_listed_under_the_request_id() -> None:
    """Where calls were made, the error has them."""
    attempts: list[dict[str, object]] = [{"model": "small", "status": 500, "error": "boom"}]
    body = orjson.loads(openai.error_body(TimedOut("slow"), "r-1", attempts))

    assert attempts == body["error"]["attempts"]


@pytest.mark.parametrize(
    ("before", "mid_event", "events"),
    [(b"data: a\n\n", False, 2), (b"data: a\n\ndata: b", True, 3), (b"data: a\n\ndata: b\n", True, 3), (b"", False, 1)],
)
def test_an_error_event_stands_by_itself(before: bytes, events: int, *, mid_event: bool) -> None:
    """A stream is ended by a frame that a client can read, even one that was cut inside an event."""
    error = TimedOut("slow")
    frame = openai.error_event(error, "r-1", mid_event=mid_event)
    read = Parser().feed(before + frame)

    assert events == len(read)
    assert openai.error_body(error, "r-1", []) == read[-1].data
    assert frame.startswith(b"\n\n") is mid_event
