"""Requests are checked as OpenAI checks them, and demands on the answer are met."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from loadtest import answers, openai_format
from loadtest.asking import Arrived, Ask, Moment, RefusalError
from loadtest.dials import Dials

USER = [{"role": "user", "content": "hello there"}]
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("a", "b")]


CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {}}]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "42"}
NOW = Moment(1, 1)


def arrived(**body: object) -> Arrived:
    """A request as it came."""
    return Arrived({}, {"model": "mock-cheap", "messages": USER, **body})


def ask(dials: Dials | None = None, **body: object) -> Ask:
    """A request for mock-cheap."""
    came = arrived(**body)
    return Ask(came, openai_format.understood(came), "mock-cheap", dials or Dials(tokens=10), answers.seeded(1))


def said(dials: Dials | None = None, *, moment: Moment = NOW, **body: Any) -> Any:
    """The whole answer to it."""
    return orjson.loads(openai_format.whole(ask(dials, **body), moment))


@pytest.mark.parametrize(
    ("check", "status", "param", "code"),
    [
        (lambda: openai_format.authenticate(arrived(), "k"), 401, None, "invalid_api_key"),
        (lambda: openai_format.authenticate(Arrived({"Authorization": "Bearer z"}), "k"), 401, None, "invalid_api_key"),
        (lambda: openai_format.named_model(Arrived({}, fault="no JSON")), 400, None, None),
        (lambda: openai_format.named_model(Arrived({})), 400, None, None),
        (lambda: openai_format.named_model(arrived(model=3)), 400, None, None),
        (lambda: openai_format.understood(Arrived({})), 400, "messages", "missing_required_parameter"),
        (lambda: ask(messages="hi"), 400, "messages", "invalid_type"),
        (lambda: ask(messages=[]), 400, "messages", "empty_array"),
        (lambda: ask(tools=TOOLS, tool_choice={"function": {"name": "z"}}), 400, "tool_choice", None),
        (lambda: ask(messages=[*USER, CALL]), 400, "messages.[2].role", None),
        (lambda: ask(messages=[*USER, CALL, *USER]), 400, "messages.[2].role", None),
        (lambda: ask(messages=[*USER, RESULT]), 400, "messages.[1].role", None),
        (lambda: ask(messages=[*USER, CALL, RESULT, RESULT]), 400, "messages.[3].role", None),
    ],
)
def test_a_bad_request_is_refused_with_openais_error(
    check: Callable[[], object], status: int, param: str | None, code: str | None
) -> None:
    """Status, param and code as the provider gives them."""
    with pytest.raises(RefusalError) as refused:
        check()
    error = orjson.loads(openai_format.refusal(refused.value, NOW))["error"]

    assert (refused.value.status, error["param"], error["code"]) == (status, param, code)
    assert set(error) == {"message", "type", "param", "code"}


def test_a_key_is_not_shown_in_full() -> None:
    """The refusal masks the middle of the key, as OpenAI does."""
    with pytest.raises(RefusalError) as refused:
        openai_format.authenticate(Arrived({"Authorization": "Bearer sk-secret-0123456789"}), "k")

    assert "secret" not in refused.value.message


def test_good_requests_pass() -> None:
    """The right key, any key where none is asked for, a model, messages, calls with their results in any order."""
    calls = {"role": "assistant", "tool_calls": [{"id": "c1"}, {"id": "c2"}]}
    results = [{"role": "tool", "tool_call_id": "c2"}, {"role": "tool", "tool_call_id": "c1"}]
    openai_format.authenticate(Arrived({"Authorization": "Bearer k"}), "k")
    openai_format.authenticate(arrived(), "")

    assert openai_format.named_model(arrived()) == "mock-cheap"
    assert not ask().want.answered
    assert ask(messages=[*USER, calls, *results]).want.answered


def test_usage_adds_up() -> None:
    """Reasoning tokens are part of the completion, cached ones part of the prompt; an image has its price."""
    usage = said(dials=Dials(tokens=10, reasoning_tokens=5, cached_tokens=10**6), n=2)["usage"]
    seen = ask(messages=[{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "hm"}]}]).want

    assert usage["completion_tokens"] == 25
    assert usage["prompt_tokens"] == answers.count_tokens("hello there") + 3
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"]
    assert seen.prompt == answers.count_tokens("\nhm") + 3 + openai_format.IMAGE_TOKENS


def test_effort_costs_reasoning_that_is_not_seen() -> None:
    """It counts as completion and against the limit, which may leave nothing to say."""
    thought = said(reasoning_effort="low")
    nothing = said(reasoning_effort="high", max_completion_tokens=100)

    assert thought["usage"]["completion_tokens_details"]["reasoning_tokens"] == 64
    assert thought["usage"]["completion_tokens"] == 74
    assert "reasoning_content" not in thought["choices"][0]["message"]
    assert (nothing["choices"][0]["message"]["content"], nothing["choices"][0]["finish_reason"]) == ("", "length")


def test_reasoning_can_be_seen() -> None:
    """The dial of the providers that are compatible with OpenAI."""
    answer = said(dials=Dials(tokens=10, reasoning=7))

    assert answer["choices"][0]["message"]["reasoning_content"]
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 7
    assert answer["usage"]["completion_tokens"] == 17


def test_ids_are_distinct_and_repeatable() -> None:
    """Two calls never share an id; the same call of two runs does."""
    first, second, again = (said(moment=Moment(serial, 1))["id"] for serial in (1, 2, 1))

    assert first == again != second
    assert len(first) == len("chatcmpl-") + 29


@pytest.mark.parametrize("limit", [{"max_tokens": 3}, {"max_completion_tokens": 3, "max_tokens": 9}])
def test_both_names_of_the_output_limit_hold(limit: dict[str, Any]) -> None:
    """The newer one wins."""
    answer = said(**limit)

    assert (answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]) == (3, "length")


@pytest.mark.parametrize(
    ("choice", "tool", "finish"),
    [
        ("required", "a", "tool_calls"),
        ({"type": "function", "function": {"name": "b"}}, "b", "stop"),
        ("auto", "", "stop"),
        ("none", "", "stop"),
        (None, "", "stop"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOLS[1]]}}, "b", "tool_calls"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOLS[1]]}}, "", "stop"),
    ],
)
def test_a_tool_is_called_where_the_caller_demands_it(choice: object, tool: str, finish: str) -> None:
    """Otherwise the model is free, and this one talks."""
    answer = said(tools=TOOLS, tool_choice=choice)["choices"][0]
    called = [call["function"]["name"] for call in answer["message"].get("tool_calls", [])]

    assert (called, answer["finish_reason"]) == ([tool] if tool else [], finish)


def test_several_tools_are_called_at_once_where_dialled() -> None:
    """Unless the caller forbids it; and where the model is free, it says something first."""

    def called(**body: Any) -> list[str]:
        """The tools that are called."""
        message = said(dials=Dials(calls=3), tools=TOOLS, **body)["choices"][0]["message"]
        return [call["function"]["name"] for call in message.get("tool_calls", [])]

    assert called() == ["a", "b", "a"]
    assert called(tool_choice="required", parallel_tool_calls=False) == ["a"]
    assert called(messages=[*USER, CALL, RESULT]) == []
    assert said(dials=Dials(calls=2), tools=TOOLS)["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ({"type": "json_object"}, {"answer", "confidence"}),
        ({"type": "json_schema", "json_schema": {"schema": {"properties": {"x": {"type": "integer"}}}}}, {"x"}),
    ],
)
def test_a_demanded_form_is_kept(form: object, names: set[str]) -> None:
    """JSON where JSON was asked for."""
    assert set(orjson.loads(said(response_format=form)["choices"][0]["message"]["content"])) == names


def test_stop_is_a_text_or_a_list() -> None:
    """Both end the answer before the text."""
    whole = said()["choices"][0]["message"]["content"]
    stop = whole[5:9]

    assert said(stop=stop)["choices"][0]["message"]["content"] == whole[: whole.index(stop)]
    assert said(stop=[stop])["choices"][0]["message"]["content"] == whole[: whole.index(stop)]


def test_headers_tell_how_long_to_wait() -> None:
    """In seconds and in milliseconds, and only where waiting helps."""
    refused = RefusalError(429)
    refused.retry_after_s = 0.25
    headers = openai_format.headers(NOW, refused)

    assert (headers["Retry-After"], headers["Retry-After-Ms"]) == ("1", "250")
    assert "Retry-After" not in openai_format.headers(NOW, RefusalError(400))


def test_canned_streams_depend_on_the_wish_for_usage() -> None:
    """The benchmark's frames are not mixed up."""
    plain, counted = ask(stream=True), ask(stream=True, stream_options={"include_usage": True})

    assert openai_format.key(plain) != openai_format.key(counted)
    assert len(openai_format.stream(counted, NOW)) == len(openai_format.stream(plain, NOW)) + 1


def test_models_are_listed_as_openai_lists_them() -> None:
    """The two 404s differ in their quotes."""
    listed = openai_format.listing(["m"])

    assert listed == {"object": "list", "data": [openai_format.listed("m")]}
    assert "`m`" in openai_format.no_such_model("m").message
    assert "'m'" in openai_format.no_such_model("m", listing=True).message
