"""Answers and errors in the words of the Responses API: streams, what is repeated of a request, OpenAI's own SDK."""

from collections.abc import Iterable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import errors
from gateway.dialects.neutral import (
    Argued,
    Asked,
    Began,
    Call,
    Called,
    Choice,
    Cited,
    Conversation,
    Ended,
    Event,
    Failed,
    Finish,
    Media,
    Output,
    Refused,
    Said,
    Shown,
    Text,
    Thinking,
    Thought,
    Turn,
    Used,
)
from gateway.dialects.responses.request import read_request
from gateway.dialects.responses.response import error_body, error_event, write_whole, writer
from gateway.pricing import Usage
from gateway.sse import Parser

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=150)
HI = Conversation((Turn("user", (Text("Hi"),)),))
ASKED = Asked("r1", "gpt-5", 7, HI)
TOKEN = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}

RICH: list[Event] = [
    Began("x", "y", Usage(9, 0)), Thought("Let me ", dialect="anthropic"), Thought("see.", dialect="anthropic"),
    Thought(signature="c2ln", dialect="anthropic"), Thought(redacted="cmVk", dialect="anthropic"),
    Said("Hi", logprobs=(TOKEN,)), Said(" there"), Cited("openai", {"url": "https://e.org", "title": "E"}),
    Refused("But no."), Shown(Media("image", "image/png", "aaaa")), Called(0, "call_a", "f", "Z2Vt"),
    Argued(0, '{"x":'), Argued(0, "1}"), Called(1, "call_b", "g"), Ended(Finish.TOOLS), Used(Usage(9, 30, 4, 3, 12)),
]
SETTINGS: dict[str, Any] = {
    "instructions": "Be kind.", "max_output_tokens": 100, "max_tool_calls": 3, "metadata": {"k": "v"}, "store": False,
    "parallel_tool_calls": False, "prompt_cache_key": "p", "reasoning": {"effort": "high", "summary": "auto"},
    "safety_identifier": "s", "service_tier": "flex", "temperature": 0.5, "tool_choice": "required", "top_logprobs": 2,
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True,
                        "description": "d"}, "verbosity": "low"},
    "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
              {"type": "web_search"}],
    "top_p": 0.9, "truncation": "auto", "user": "u",
}


def written(events: Iterable[Event], asked: Asked = ASKED) -> bytes:
    """Write a stream in one go."""
    writes = writer(asked)
    return writes.feed(events) + writes.close()


def frames(stream: bytes) -> list[dict[str, Any]]:
    """Return what the frames say, each of the type that its line names."""
    found = Parser().feed(stream)
    said: list[dict[str, Any]] = [orjson.loads(frame.data) for frame in found]

    assert [frame.type.decode() for frame in found] == [one["type"] for one in said]
    assert [one["sequence_number"] for one in said] == list(range(len(said)))
    return said


def everything() -> Asked:
    """Return a request that says everything there is to say."""
    body = {"model": "gpt-5", "input": "Hi", **SETTINGS}
    return Asked("r1", "gpt-5", 7, read_request(orjson.dumps(body), "gpt-5"))


def test_a_stream_of_text() -> None:
    """The events of OpenAI's own stream, in its order, to the letter; the usage is in the last one."""
    events: list[Event] = [Began("x", "y"), Said("Hel"), Said("lo"), Ended(Finish.STOP), Used(Usage(9, 5, 2, 1, 3))]
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    whole = part | {"text": "Hello"}
    item = {"id": "msg_r1_0", "type": "message", "status": "in_progress", "content": [], "role": "assistant"}
    done = item | {"status": "completed", "content": [whole]}
    at = {"item_id": "msg_r1_0", "output_index": 0, "content_index": 0}
    begun = {
        "id": "resp_r1", "object": "response", "created_at": 7, "status": "in_progress", "error": None,
        "incomplete_details": None, "model": "gpt-5", "output": [], "background": False, "instructions": None,
        "max_output_tokens": None, "max_tool_calls": None, "metadata": {}, "parallel_tool_calls": True,
        "previous_response_id": None, "prompt_cache_key": None, "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None, "service_tier": "default", "store": False, "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"}, "tool_choice": "auto", "tools": [],
        "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": None, "usage": None,
    }
    usage = {
        "input_tokens": 9, "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1}, "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 14,
    }
    expected: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun}, {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "part": part},
        {"type": "response.output_text.delta", **at, "delta": "Hel", "logprobs": []},
        {"type": "response.output_text.delta", **at, "delta": "lo", "logprobs": []},
        {"type": "response.output_text.done", **at, "text": "Hello", "logprobs": []},
        {"type": "response.content_part.done", **at, "part": whole},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed",
         "response": begun | {"status": "completed", "output": [done], "usage": usage}},
    ]

    assert [one | {"sequence_number": number} for number, one in enumerate(expected)] == frames(written(events))


def test_the_letters_of_a_frame() -> None:
    """A line with the type, a line with the data, a blank line."""
    stream = written([Began(), Ended(Finish.STOP)])

    assert stream.startswith(b'event: response.created\ndata: {"type":"response.created","sequence_number":0,')
    assert stream.endswith(b"}\n\n")
    assert stream.count(b"\n") == 3 * 3


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        (Finish.STOP, "completed", None), (Finish.SEQUENCE, "completed", None), (Finish.TOOLS, "completed", None),
        (Finish.LENGTH, "incomplete", {"reason": "max_output_tokens"}),
        (Finish.PAUSE, "incomplete", {"reason": "max_output_tokens"}),
        (Finish.FILTER, "incomplete", {"reason": "content_filter"}),
        (Finish.REFUSAL, "incomplete", {"reason": "content_filter"}),
    ],
)
def test_endings(reason: Finish, status: str, details: dict[str, str] | None) -> None:
    """Each reason has its last event, its state and, where an answer is incomplete, its words; its item likewise."""
    last = frames(written([Said("a"), Ended(reason), Ended(Finish.STOP), Said("late")]))[-1]
    response = last["response"]

    assert (f"response.{status}", status, details, status) == (
        last["type"], response["status"], response["incomplete_details"], response["output"][0]["status"])
    assert response["output"][0]["content"][0]["text"] == "a"
    assert response == orjson.loads(write_whole(ASKED, [Said("a"), Ended(reason)]))


def test_a_refusal_in_words_is_complete() -> None:
    """A caller who can read why has a whole answer."""
    said = orjson.loads(write_whole(ASKED, [Refused("I will not."), Ended(Finish.REFUSAL)]))

    assert ("completed", [{"type": "refusal", "refusal": "I will not."}]) == (
        said["status"], said["output"][0]["content"])


def test_usage() -> None:
    """It may come before the end or after it; what the beginning knew is better than nothing."""
    late = frames(written([Began("", "", Usage(9, 0)), Ended(Finish.STOP), Used(Usage(9, 5))]))[-1]
    early = frames(written([Used(Usage(9, 5)), Ended(Finish.STOP)]))[-1]
    least = frames(written([Began("", "", Usage(9, 0)), Ended(Finish.STOP)]))[-1]

    assert [14, 14, 9] == [one["response"]["usage"]["total_tokens"] for one in (late, early, least)]


@pytest.mark.parametrize(("tier", "said"), [
    ("flex", "flex"), ("priority", "priority"), ("batch", "default"), ("", "default"),
])
def test_how_it_was_served(tier: str, said: str) -> None:
    """As the provider had it, where OpenAI has a name for that; until then as it was asked for."""
    events = frames(written([Said("a"), Ended(Finish.STOP), Used(Usage(9, 5, tier=tier))]))

    assert [events[at]["response"]["service_tier"] for at in (0, -1)] == ["default", said]


def test_no_end_without_a_reason() -> None:
    """Where nobody said that the answer has ended, no event says so; nothing is written twice."""
    writes = writer(ASKED)

    assert [writes.feed([]), writes.close()] == [b"", b""]
    assert writes.feed([Said("a")]) != b""
    assert writes.close() == b""
    assert writes.feed([Ended(Finish.STOP)]) != b""
    assert writes.close() != b""
    assert [writes.feed([Said("b")]), writes.close()] == [b"", b""]
    assert repr(writes) == "<Writer resp_r1 9 frames, stop>"


def test_choices_other_than_the_first() -> None:
    """This API has one answer; the end of another one is not its end."""
    assert written([Began(), Ended(Finish.STOP, choice=1)]).count(b"event: ") == 2


def test_a_failed_stream() -> None:
    """It ends with the error and what was done until then; nothing follows."""
    last = frames(written([Thought("a", "s", dialect="x"), Said("b"), Failed("It broke."), Said("c")]))[-1]

    assert ("response.failed", "failed", {"code": "server_error", "message": "It broke."}, ["reasoning"]) == (
        last["type"], last["response"]["status"], last["response"]["error"],
        [item["type"] for item in last["response"]["output"]])


def test_a_failed_answer() -> None:
    """An answer that failed before anything was sent is told as an error, by its status."""
    with pytest.raises(ValueError, match=r"It broke\."):
        write_whole(ASKED, [Began(), Failed("It broke.")])


def test_an_answer_without_a_reason() -> None:
    """A whole answer is there; it is complete where its provider says nothing else."""
    assert orjson.loads(write_whole(ASKED, [Said("a")]))["status"] == "completed"


def test_what_is_repeated() -> None:
    """The settings of the request stand in the response as they were sent."""
    said = orjson.loads(write_whole(everything(), []))

    assert {name: said[name] for name in SETTINGS} == SETTINGS


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice("none"), "none"), (Choice("one", "f"), {"type": "function", "name": "f"}),
        (Choice("auto", names=("f",)),
         {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}),
    ],
)
def test_the_choice_is_repeated(choice: Choice, words: Any) -> None:
    """Each way to choose among tools has its words."""
    asked = msgspec.structs.replace(ASKED, conversation=msgspec.structs.replace(HI, choice=choice))

    assert words == orjson.loads(write_whole(asked, []))["tool_choice"]


def test_json_mode_is_repeated() -> None:
    """The older form of JSON, too."""
    asked = msgspec.structs.replace(ASKED, conversation=msgspec.structs.replace(HI, output=Output("json")))

    assert orjson.loads(write_whole(asked, []))["text"]["format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ((), None), ((Turn("system", (Text("a"),)),), "a"), ((Turn("system", (Text("a"),), developer=True),), None),
        ((Turn("system", (Text("a"), Text("b"))),), None), ((Turn("user", (Text("a"),)),), None),
        ((Turn("system", (Media("image", url="u"),)),), None),
    ],
)
def test_instructions_are_repeated(turns: tuple[Turn, ...], said: str | None) -> None:
    """The first turn is repeated where it can have been the instructions."""
    asked = msgspec.structs.replace(ASKED, conversation=Conversation(turns))

    assert said == orjson.loads(write_whole(asked, []))["instructions"]


def test_what_is_too_deep_to_be_repeated() -> None:
    """A schema nested beyond what can be written does not cost the caller the answer."""
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"a": schema}
    asked = msgspec.structs.replace(
        ASKED, conversation=msgspec.structs.replace(HI, output=Output("schema", schema, "n")))

    assert orjson.loads(write_whole(asked, [Said("a")]))["text"] == {}


def test_a_stateless_loop_keeps_every_seal() -> None:
    """A caller who sends the output back as it is gives the next turn thoughts, hidden ones and the calls' seals."""
    output = orjson.loads(write_whole(ASKED, RICH))["output"]
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "ok"}
        for item in output if item["type"] == "function_call"
    ]
    kept = [item for item in output if item["type"] != "image_generation_call"]
    body = {"model": "m", "input": [{"role": "user", "content": "Hi"}, *kept, *results]}
    user, assistant, answers = read_request(orjson.dumps(body), "m").turns

    assert [
        Thinking("anthropic", "Let me see.", "c2ln"), Thinking("anthropic", redacted="cmVk"),
        Call("call_a", "f", '{"x":1}', "Z2Vt"), Call("call_b", "g", "{}"),
    ] == [part for part in assistant.parts if isinstance(part, Thinking | Call)]
    assert ("user", 2) == (user.role, len(answers.parts))


@STEADY
@given(st.lists(st.integers(0, len(RICH)), max_size=6))
def test_any_split_of_the_events(cuts: list[int]) -> None:
    """However the events arrive, the stream is the same."""
    writes = writer(ASKED)
    places = sorted({0, *cuts, len(RICH)})
    stream = b"".join(writes.feed(RICH[start:end]) for start, end in pairwise(places))

    assert written(RICH) == stream + writes.close()


# ---- as OpenAI's own SDK reads it


def with_sdk(events: Sequence[Event], asked: Asked) -> list[Any]:
    """Read a stream into the SDK's types, strictly."""
    responses = import_module("openai.types.responses")
    pydantic = import_module("pydantic")
    adapter = pydantic.TypeAdapter(responses.ResponseStreamEvent)
    return [adapter.validate_python(frame) for frame in frames(written(events, asked))]


ENDED: dict[str, list[Event]] = {
    "rich": RICH, "cut": [Said("a"), Called(0, "c", "f"), Argued(0, "{"), Ended(Finish.LENGTH)],
    "failed": [Said("a"), Failed("It broke.")], "empty": [Began(), Ended(Finish.STOP)],
    "thinking cut": [Thought("a", dialect="x"), Ended(Finish.LENGTH)],
}


@pytest.mark.parametrize("events", ENDED.values(), ids=ENDED)
@pytest.mark.parametrize("asked", [ASKED, everything()], ids=["plain", "everything"])
def test_every_event_is_one_of_openais(events: list[Event], asked: Asked) -> None:
    """Each frame is valid as the SDK's type of its name, and has the fields of no other."""
    read = with_sdk(events, asked)
    types = [one["type"] for one in frames(written(events, asked))]

    assert types == [one.type for one in read]
    assert {"Response" in type(one).__name__ for one in read} == {True}


@pytest.mark.parametrize("asked", [ASKED, everything()], ids=["plain", "everything"])
def test_a_whole_answer_is_one_of_openais(asked: Asked) -> None:
    """The object is valid as the SDK's Response, and says the same."""
    responses = import_module("openai.types.responses")
    response = responses.Response.model_validate_json(write_whole(asked, RICH))

    assert ("resp_r1", "completed", "Hi there", 39) == (
        response.id, response.status, response.output_text, response.usage.total_tokens)
    assert ["reasoning", "reasoning", "message", "image_generation_call", "reasoning", "function_call",
            "function_call"] == [item.type for item in response.output]


def test_the_sdk_puts_the_stream_together() -> None:
    """The SDK's own accumulator takes every event and ends with the response that a whole answer is."""
    streaming = import_module("openai.lib.streaming.responses._responses")
    openai = import_module("openai")
    state = streaming.ResponseStreamState(text_format=openai.omit, input_tools=openai.omit)
    heard = [event for one in with_sdk(RICH, ASKED) for event in state.handle_event(one)]
    final = state._completed_response

    assert heard[-1].type == "response.completed"
    assert ["Hi", "Hi there"] == [one.snapshot for one in heard if one.type == "response.output_text.delta"]
    assert ['{"x":', '{"x":1}', "{}"] == [
        one.snapshot for one in heard if one.type == "response.function_call_arguments.delta"]
    assert final.model_dump(mode="json", exclude_unset=True)["output"][2]["content"][0]["text"] == "Hi there"


def test_the_sdk_reads_the_error_event() -> None:
    """It is a valid event by the documentation, and makes the SDK raise as OpenAI's own does."""
    responses = import_module("openai.types.responses")
    openai, httpx = import_module("openai"), import_module("httpx2")
    frame = error_event(errors.StreamBroken("It broke."), "req_1", mid_event=False)
    event = responses.ResponseErrorEvent.model_validate_json(Parser().feed(frame)[0].data)
    client = openai.OpenAI(api_key="x", http_client=httpx.Client(transport=httpx.MockTransport(
        lambda _: httpx.Response(200, content=written([Said("a")]) + frame,
                                 headers={"content-type": "text/event-stream"}))))

    assert ("error", "It broke.", "stream_broken") == (event.type, event.message, event.code)
    with client, pytest.raises(openai.APIError, match=r"It broke\."):
        list(client.responses.create(model="m", input="Hi", stream=True))


# ---- errors


def test_error_body() -> None:
    """OpenAI's error object, with the request's id and the calls that were made."""
    error = errors.BadRequest("`input` is empty.", param="input")
    plain = {
        "message": "`input` is empty.", "type": "invalid_request_error", "param": "input", "code": None,
        "request_id": "req_1",
    }

    assert {"error": plain} == orjson.loads(error_body(error, "req_1", []))
    assert {"error": plain | {"attempts": [{"target": "a"}]}} == orjson.loads(
        error_body(error, "req_1", [{"target": "a"}]))


@pytest.mark.parametrize("mid_event", [True, False])
def test_error_event(mid_event: bool) -> None:
    """An event of its own, after one that was cut is closed; its number is beyond any before it."""
    stream = b"data: half" if mid_event else b""
    event = Parser().feed(stream + error_event(errors.StreamBroken("It broke."), "req_1", mid_event=mid_event))[-1]

    assert event.type == b"error"
    assert {
        "type": "error", "sequence_number": 2**31 - 1, "code": "stream_broken", "message": "It broke.", "param": None,
        "error": {"message": "It broke.", "type": "upstream_error", "param": None, "code": "stream_broken",
                  "request_id": "req_1"},
    } == orjson.loads(event.data)
