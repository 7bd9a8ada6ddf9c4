"""The wire format has OpenAI's names, nulls and order."""

import orjson
import pytest

from loadtest import frames
from loadtest.answers import Answer, ToolCall

HEAD = frames.Head("chatcmpl-1", 1, "m")
USAGE = frames.Usage(5, 2)


def values(stream: list[bytes]) -> list[dict[str, object]]:
    """The JSON of all events but [DONE]."""
    assert stream[-1] == b"data: [DONE]\n\n"
    return [orjson.loads(frame.removeprefix(b"data: ")) for frame in stream[:-1]]


def test_a_stream_opens_with_the_role_and_ends_with_stop() -> None:
    """Role, tokens, an empty delta with the reason; no usage unless asked for."""
    chunks = values(frames.stream(HEAD, [Answer(["a", "b"])], None))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]  # type: ignore[index]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]  # type: ignore[index]

    assert deltas == [{"role": "assistant", "content": "", "refusal": None}, {"content": "a"}, {"content": "b"}, {}]
    assert reasons == [None, None, None, "stop"]
    assert all("usage" not in chunk for chunk in chunks)
    assert list(chunks[0]) == ["id", "object", "created", "model", "service_tier", "system_fingerprint", "choices"]


def test_usage_comes_last_and_is_null_before() -> None:
    """With include_usage: null on every chunk, then one chunk without choices."""
    *before, last = values(frames.stream(HEAD, [Answer(["a"])], USAGE))

    assert [chunk["usage"] for chunk in before] == [None, None, None]
    assert last["choices"] == []
    assert last["usage"] == USAGE.as_json()
    assert USAGE.as_json()["total_tokens"] == 7


def test_choices_are_interleaved() -> None:
    """Two answers of different length share the stream under their index."""
    chunks = values(frames.stream(HEAD, [Answer(["a", "b"]), Answer(["c"])], None))
    order = [chunk["choices"][0]["index"] for chunk in chunks]  # type: ignore[index]

    assert order == [0, 1, 0, 1, 0, 0, 1]


def test_a_tool_call_streams_its_arguments() -> None:
    """The id and the name first, with the role, then the pieces of the arguments."""
    call = ToolCall("f", ['{"a', '":1}'])
    chunks = values(frames.stream(HEAD, [Answer([], "tool_calls", [call])], None))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]  # type: ignore[index]
    calls = [delta.get("tool_calls") for delta in deltas]

    assert (deltas[0]["role"], deltas[0]["content"]) == ("assistant", None)
    assert calls[0][0]["function"] == {"name": "f", "arguments": ""}
    assert "".join(call[0]["function"]["arguments"] for call in calls if call) == '{"a":1}'


def test_parallel_calls_follow_the_text_each_under_its_index() -> None:
    """Every call is opened with an id of its own; whole and streamed they are the same."""
    answer = Answer(["Hm"], "tool_calls", [ToolCall("f", ["{}"]), ToolCall("g", ["{", "}"])])
    chunks = values(frames.stream(HEAD, [answer], None))
    told = [chunk["choices"][0]["delta"].get("tool_calls", [None])[0] for chunk in chunks]  # type: ignore[index]
    message = orjson.loads(frames.completion(HEAD, [answer], USAGE))["choices"][0]["message"]
    opened = [(call["index"], call["function"]["name"], call["id"]) for call in told if call and "id" in call]

    assert [call and call["index"] for call in told] == [None, None, 0, 0, 1, 1, 1, None]
    assert opened == [(at, call["function"]["name"], call["id"]) for at, call in enumerate(message["tool_calls"])]
    assert len({unique for _, _, unique in opened}) == 2
    assert message["content"] == "Hm"


def test_thoughts_are_reasoning_content() -> None:
    """As DeepSeek and vLLM have it: before the text, and in the whole message beside it."""
    answer = Answer(["b"], thoughts=["a", "a"])
    chunks = values(frames.stream(HEAD, [answer], None))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[1:]]  # type: ignore[index]
    message = orjson.loads(frames.completion(HEAD, [answer], USAGE))["choices"][0]["message"]

    assert deltas == [{"reasoning_content": "a"}, {"reasoning_content": "a"}, {"content": "b"}, {}]
    assert (message["reasoning_content"], message["content"]) == ("aa", "b")


def test_logprobs_only_where_asked_for() -> None:
    """Null otherwise; one entry a token, with the token's bytes."""
    head = frames.Head("i", 1, "m", logprobs=True)
    asked = orjson.loads(frames.completion(head, [Answer(["é", "b"])], USAGE))["choices"][0]["logprobs"]
    silent = orjson.loads(frames.completion(HEAD, [Answer(["é", "b"])], USAGE))["choices"][0]["logprobs"]

    assert [entry["bytes"] for entry in asked["content"]] == [[195, 169], [98]]
    assert silent is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 503, 529, 418])
def test_errors_are_openais_objects(status: int) -> None:
    """Always message, type, param and code."""
    error = orjson.loads(frames.error(status))["error"]

    assert list(error) == ["message", "type", "param", "code"]


def test_a_bad_gateway_is_html() -> None:
    """The proxy before the provider does not speak JSON, and clients must survive that."""
    assert frames.error(502).startswith(b"<html>")
