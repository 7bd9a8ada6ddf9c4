"""A text that breaks off is continued by a model that can, where the route says so; nobody is told a false end."""

import orjson
import pytest

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Running, Start, chat
from tests.path.conftest import END, STREAM, Scripted, chunk
from tests.path.surfaces import BEGIN, FINISH, SURFACES, asked

BREAK = {"openai": "openai", "anthropic": "anthropic", "gemini": "gemini"}


def config(broken: str, dialect: str, healthy: str, *, second: str = "anthropic", continues: bool = True) -> str:
    """A route whose first model breaks off, and whose second goes on."""
    return f"""
upstreams:
  first:  {{dialect: {dialect}, base_url: "{broken}", key: sk-1}}
  second: {{dialect: {second}, base_url: "{healthy}", key: sk-2}}
models:
  cheap:   {{upstream: first, name: mock-cheap, price: {{input: 1, output: 2}}}}
  premium:
    {{upstream: second, name: mock-premium, price: {{input: 5, output: 25}}, continues: {str(continues).lower()}}}
routes:
  auto: {{ladder: [cheap, premium], threshold: 0, continuation: true}}
classifier: {{deadline_ms: 5000}}
"""


async def broken_then_whole(
    gateway: Start, scripted: Scripted, mock: MockUpstream, dialect: str, **more: object
) -> tuple[Running, str]:
    """A gateway whose first provider says half of an answer and hangs up."""
    script = await scripted(STREAM + chunk(b"".join(BEGIN[dialect])), reset=False)
    return await gateway(config(script.base_url, dialect, mock.base_url, **more)), dialect  # type: ignore[arg-type]


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("dialect", BREAK)
@pytest.mark.parametrize("second", ["anthropic", "gemini", "openai"])
async def test_the_text_goes_on(
    gateway: Start, scripted: Scripted, first: MockUpstream, surface: str, dialect: str, second: str
) -> None:
    """One stream, one end, no error; the second provider got what had been said, and the receipt names both."""
    running, _ = await broken_then_whole(gateway, scripted, first, dialect, second=second)
    path, body = asked(surface, stream=True)
    reply = await running.ask(body, path=path)
    receipt = await running.receipt()
    sent = first.journal.last.json
    turns = sent["contents"] if second == "gemini" else sent["messages"]

    assert (reply.status, reply.whole) == (200, True)
    assert b": continued by premium\n\n" in reply.body
    assert b'"error"' not in reply.body.replace(b'"error":null', b"")
    assert turns[-1]["role"] in ("assistant", "model")
    assert "birds" in orjson.dumps(turns[-1]).decode()
    assert (receipt["outcome"], receipt["continued"], receipt["model"]) == ("ok", ["premium"], "premium")
    assert [attempt["model"] for attempt in receipt["attempts"]] == ["cheap", "premium"]
    assert "continued" in receipt["attempts"][0]["error"]


async def test_an_sdk_reads_one_answer(gateway: Start, scripted: Scripted, first: MockUpstream) -> None:
    """Every frame is of one completion: one id, one role, one finish, and the text of both."""
    running, _ = await broken_then_whole(gateway, scripted, first, "openai")
    reply = await running.ask(chat(stream=True))
    frames = [orjson.loads(event) for event in reply.events[:-1]]
    texts = [choice["delta"].get("content") or "" for frame in frames for choice in frame["choices"]]

    assert reply.events[-1] == b"[DONE]"
    assert len({frame["id"] for frame in frames}) == 1
    assert sum("role" in choice["delta"] for frame in frames for choice in frame["choices"]) == 1
    assert [c["finish_reason"] for f in frames for c in f["choices"] if c["finish_reason"]] == ["stop"]
    assert "".join(texts).count("birds") >= 1
    assert len("".join(texts)) > len("birds")


async def test_without_a_model_that_continues_it_ends_honestly(
    gateway: Start, scripted: Scripted, first: MockUpstream
) -> None:
    """An error event, as on any route."""
    running, _ = await broken_then_whole(gateway, scripted, first, "openai", continues=False)
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert reply.last_error["code"] == "stream_broken"
    assert (receipt["outcome"], first.journal.requests) == ("broken", 0)


async def test_where_the_second_fails_as_well(gateway: Start, scripted: Scripted, first: MockUpstream) -> None:
    """What the first had said stays, and the end is honest."""
    first.turn(error_rate=1)
    running, _ = await broken_then_whole(gateway, scripted, first, "openai")
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert reply.last_error["code"] == "stream_broken"
    assert b"birds" in reply.body
    assert receipt["outcome"] == "broken"
    assert "continued" not in receipt


async def test_a_call_is_not_continued(gateway: Start, scripted: Scripted, first: MockUpstream) -> None:
    """Half a tool call cannot be taken up by another."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a'}}
    frame = b"data: " + orjson.dumps({"id": "x", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}) + b"\n\n"
    script = await scripted(STREAM + chunk(frame))
    running = await gateway(config(script.base_url, "openai", first.base_url))
    reply = await running.ask(chat(stream=True))

    assert reply.last_error["code"] == "stream_broken"
    assert first.journal.requests == 0


async def test_a_whole_stream_is_left_alone(gateway: Start, scripted: Scripted, first: MockUpstream) -> None:
    """Nothing is called after an answer that ended well."""
    script = await scripted(STREAM + chunk(b"".join(BEGIN["openai"] + FINISH["openai"])) + END)
    running = await gateway(config(script.base_url, "openai", first.base_url))
    reply = await running.ask(chat(stream=True))
    receipt = await running.receipt()

    assert (reply.whole, receipt["outcome"], first.journal.requests) == (True, "ok", 0)
