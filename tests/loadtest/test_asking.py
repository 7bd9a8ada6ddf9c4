"""Requests are checked as OpenAI checks them, and demands on the answer are met."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from loadtest import answers, asking
from loadtest.asking import Ask, RefusalError
from loadtest.dials import Dials

USER = [{"role": "user", "content": "hello there"}]
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("a", "b")]


def ask(dials: Dials | None = None, **body: object) -> Ask:
    """A request for mock-cheap."""
    full = {"model": "mock-cheap", "messages": USER, **body}
    return Ask(full, "mock-cheap", dials or Dials(tokens=10), USER, answers.seeded(1))


@pytest.mark.parametrize(
    ("check", "status", "param", "code"),
    [
        (lambda: asking.authenticate("", "k"), 401, None, "invalid_api_key"),
        (lambda: asking.authenticate("Bearer sk-wrong-key-0000", "k"), 401, None, "invalid_api_key"),
        (lambda: asking.decoded(b"{"), 400, None, None),
        (lambda: asking.decoded(b"[]"), 400, None, None),
        (lambda: asking.named_model({}), 400, None, None),
        (lambda: asking.named_model({"model": 3}), 400, None, None),
        (lambda: asking.messages({}), 400, "messages", "missing_required_parameter"),
        (lambda: asking.messages({"messages": "hi"}), 400, "messages", "invalid_type"),
        (lambda: asking.messages({"messages": []}), 400, "messages", "empty_array"),
        (lambda: asking.say(ask(tools=TOOLS, tool_choice={"function": {"name": "z"}}), 1, 1), 400, "tool_choice", None),
    ],
)
def test_a_bad_request_is_refused_with_openais_error(
    check: Callable[[], object], status: int, param: str | None, code: str | None
) -> None:
    """Status, param and code as the provider gives them."""
    with pytest.raises(RefusalError) as refused:
        check()
    error = orjson.loads(refused.value.body)["error"]

    assert (refused.value.status, error["param"], error["code"]) == (status, param, code)
    assert set(error) == {"message", "type", "param", "code"}


def test_a_key_is_not_shown_in_full() -> None:
    """The refusal masks the middle of the key, as OpenAI does."""
    with pytest.raises(RefusalError) as refused:
        asking.authenticate("Bearer sk-secret-0123456789", "k")

    assert b"secret" not in refused.value.body


def test_good_requests_pass() -> None:
    """The right key, any key where none is asked for, a body, a model, messages."""
    asking.authenticate("Bearer k", "k")
    asking.authenticate("", "")

    assert asking.decoded(b'{"a":1}') == {"a": 1}
    assert asking.named_model({"model": "m"}) == "m"
    assert asking.messages({"messages": USER}) == USER


def test_usage_adds_up() -> None:
    """Reasoning tokens are part of the completion, cached ones part of the prompt."""
    _, choices, usage = asking.say(ask(Dials(tokens=10, reasoning_tokens=5, cached_tokens=10**6), n=2), 1, 1)

    assert len(choices) == 2
    assert usage.completion == 25
    assert usage.cached == usage.prompt == answers.count_tokens("hello there") + 3


def test_ids_are_distinct_and_repeatable() -> None:
    """Two calls never share an id; the same call of two runs does."""
    first, second, again = (asking.say(ask(), serial, 1)[0].id for serial in (1, 2, 1))

    assert first == again != second
    assert len(first) == len("chatcmpl-") + 29


@pytest.mark.parametrize("limit", [{"max_tokens": 3}, {"max_completion_tokens": 3, "max_tokens": 9}])
def test_both_names_of_the_output_limit_hold(limit: dict[str, Any]) -> None:
    """The newer one wins."""
    answer = asking.say(ask(**limit), 1, 1)[1][0]

    assert (len(answer.pieces), answer.finish) == (3, "length")


@pytest.mark.parametrize(
    ("choice", "tool", "finish"),
    [
        ("required", "a", "tool_calls"),
        ({"type": "function", "function": {"name": "b"}}, "b", "stop"),
        ("auto", "", "stop"),
        ("none", "", "stop"),
        (None, "", "stop"),
    ],
)
def test_a_tool_is_called_where_the_caller_demands_it(choice: object, tool: str, finish: str) -> None:
    """Otherwise the model is free, and this one talks."""
    answer = asking.say(ask(tools=TOOLS, tool_choice=choice), 1, 1)[1][0]

    assert (answer.tool, answer.finish) == (tool, finish)


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ({"type": "json_object"}, {"answer", "confidence"}),
        ({"type": "json_schema", "json_schema": {"schema": {"properties": {"x": {"type": "integer"}}}}}, {"x"}),
    ],
)
def test_a_demanded_form_is_kept(form: object, names: set[str]) -> None:
    """JSON where JSON was asked for."""
    assert set(orjson.loads(asking.say(ask(response_format=form), 1, 1)[1][0].text)) == names


def test_stop_is_a_text_or_a_list() -> None:
    """Both end the answer before the text."""
    whole = asking.say(ask(), 1, 1)[1][0].text
    stop = whole[5:9]

    assert asking.say(ask(stop=stop), 1, 1)[1][0].text == whole[: whole.index(stop)]
    assert asking.say(ask(stop=[stop]), 1, 1)[1][0].text == whole[: whole.index(stop)]
