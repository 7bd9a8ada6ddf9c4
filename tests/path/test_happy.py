"""A prompt is judged, goes to the rung it deserves and is answered; every answer says who gave it and why."""

import threading
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from classifier.predict import Prediction, Prompt
from loadtest.mock_upstream import MockUpstream
from tests.conftest import Start, Upstream, chat, two_rungs, unasked
from tests.path.conftest import Spawn

LEARNED = "threshold: 0.7"
EMBEDDING = np.zeros(4, np.float32)


class Says:
    """A classifier that always says the same."""

    def __init__(self, p_cheap: float, task: str = "chat") -> None:
        self._said = Prediction(1 - p_cheap, p_cheap, task, EMBEDDING)

    def predict(self, _: Prompt) -> Prediction:
        """Say it."""
        return self._said


class Hangs:
    """A classifier that does not come back until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def predict(self, _: Prompt) -> Prediction:
        """Wait."""
        self.let_go.wait(60)
        return Prediction(0, 1, "chat", EMBEDDING)


class Raises:
    """A classifier that is broken."""

    def predict(self, _: Prompt) -> Prediction:
        """Fail."""
        raise ArithmeticError("the network is not itself today")


@pytest.fixture
def hangs() -> Iterator[Hangs]:
    """A classifier that hangs for as long as the test lasts."""
    hanging = Hangs()
    yield hanging
    hanging.let_go.set()


def decision(headers: Mapping[str, str]) -> tuple[str | None, ...]:
    """Return what the headers say of the decision."""
    return tuple(headers.get(f"x-thriftgate-{name}") for name in ("model", "route", "rung", "reason"))


# ── where prompts go ──


async def test_the_shipped_classifier_sends_a_greeting_to_the_cheap_model(
    serve: Start, first: MockUpstream, second: MockUpstream
) -> None:
    """With the threshold the classifier came with, a greeting needs no premium model, and the answer says so."""
    running = await serve(route="")
    reply = await running.ask(chat("hi, are you there?"))
    receipt = await running.receipt()

    assert reply.status == 200
    assert decision(reply.headers) == ("cheap", "auto", "cheap", "learned")
    assert float(reply.headers["x-thriftgate-score"]) == receipt["score"]
    assert receipt["verdict"] == "classifier"
    assert receipt["p_cheap"] >= receipt["threshold"] > 0
    assert (first.journal.requests, second.journal.requests) == (1, 0)


@pytest.mark.parametrize(("p_cheap", "rung"), [(0.69, "premium"), (0.70, "cheap")])
async def test_the_threshold_divides_cheap_from_premium(serve: Start, p_cheap: float, rung: str) -> None:
    """Cheap if and only if p_cheap reaches the route's threshold."""
    running = await serve(route=LEARNED)
    running.gateway.with_.classify.predictor = Says(p_cheap)
    reply = await running.ask()

    assert decision(reply.headers) == (rung, "auto", rung, "learned")


@pytest.mark.parametrize(("rung", "model"), [("premium", "premium"), ("cheap", "cheap")])
async def test_a_pinned_rung_is_used(serve: Start, rung: str, model: str) -> None:
    """The caller's header beats the classifier."""
    running = await serve(route=LEARNED)
    running.gateway.with_.classify.predictor = Says(0.99 if rung == "premium" else 0.01)
    reply = await running.ask(headers={"x-thriftgate-rung": rung})

    assert decision(reply.headers) == (model, "auto", rung, "explicit")


async def test_an_alias_is_intercepted(serve: Start, first: MockUpstream) -> None:
    """A caller who asks for the model it always asked for is routed."""
    running = await serve()
    reply = await running.ask(chat(model="gpt-4"))

    assert decision(reply.headers) == ("cheap", "auto", "cheap", "learned")
    assert first.journal.last.json["model"] == "mock-cheap"


async def test_a_model_that_is_named_goes_there_unjudged(serve: Start, second: MockUpstream) -> None:
    """No verdict is asked for when nothing is left to decide."""
    running = await serve()
    reply = await running.ask(chat(model="premium"))
    receipt = await running.receipt()

    assert decision(reply.headers) == ("premium", None, None, "explicit")
    assert (receipt["verdict"], receipt["score"], receipt["classify_ms"]) == (None, None, None)
    assert second.journal.requests == 1


async def test_a_rule_on_tools_beats_the_classifier(serve: Start) -> None:
    """A request with tools goes where the rule says, one without does not."""
    running = await serve(route="threshold: 0, rules: [{when: {tools: true}, use: premium}]")
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    with_tools = await running.ask(chat(tools=[tool]))
    without = await running.ask(chat())

    assert decision(with_tools.headers) == ("premium", "auto", "premium", "rule")
    assert decision(without.headers) == ("cheap", "auto", "cheap", "learned")


async def test_a_rule_on_the_task_uses_the_classifiers_word(serve: Start) -> None:
    """The task is the classifier's; what follows from it is the rule's."""
    running = await serve(route="threshold: 1.01, rules: [{when: {task: translation}, use: cheap}]")
    running.gateway.with_.classify.predictor = Says(0.5, "translation")
    reply = await running.ask()

    assert decision(reply.headers) == ("cheap", "auto", "cheap", "rule")


async def test_a_rung_that_cannot_serve_is_passed_over(gateway: Start, first: MockUpstream) -> None:
    """Capability goes before price."""
    text = two_rungs(first.base_url, first.base_url).replace("name: mock-cheap", "name: mock-cheap\n    context: 10")
    running = await gateway(text)
    reply = await running.ask(chat("a conversation that has certainly more than ten tokens in it"))

    assert decision(reply.headers) == ("premium", "auto", "premium", "capability")


async def test_a_repeated_prompt_is_judged_once(serve: Start) -> None:
    """The second verdict comes from the cache, and is the same."""
    running = await serve(route="")
    replies = [await running.ask(chat("good morning!")) for _ in range(2)]
    receipts = await running.receipts.until(2)

    assert replies[0].headers["x-thriftgate-score"] == replies[1].headers["x-thriftgate-score"]
    assert [receipt["verdict"] for receipt in receipts] == ["classifier", "cache"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (chat("hi"), {}),
        (chat("Show that every graph whose vertices all have even degree has an Eulerian circuit."), {}),
        (chat("hi", model="gpt-4"), {}),
        (chat("hi", model="premium"), {}),
        (chat("hi"), {"x-thriftgate-rung": "premium"}),
        (chat("hi", tools=[{"type": "function", "function": {"name": "f"}}]), {}),
    ],
    ids=["greeting", "hard", "alias", "model", "pinned", "rule"],
)
async def test_the_dry_run_says_what_then_happens(
    serve: Start, first: MockUpstream, second: MockUpstream, body: dict[str, object], headers: dict[str, str]
) -> None:
    """POST /v1/route gives model, route, rung and reason as the request itself gets them, and sends nothing."""
    running = await serve(route="rules: [{when: {tools: true}, use: premium}]")
    said = (await running.ask(body, headers, path="/v1/route")).json
    sent = first.journal.requests + second.journal.requests
    reply = await running.ask(body, headers)

    assert sent == 0
    assert (said["model"], said["route"], said["rung"], said["reason"]) == decision(reply.headers)
    assert said["estimate"]["cost_usd"] > 0
    assert said["why"]


# ── a classifier in trouble is never the caller's trouble ──


async def test_a_classifier_that_hangs_delays_nobody(serve: Start, hangs: Hangs) -> None:
    """The answer comes from the safe rung while the classifier is still silent."""
    running = await serve(route=LEARNED, more="classifier: {deadline_ms: 8}")
    running.gateway.with_.classify.predictor = hangs
    replies = [await running.ask(chat(f"prompt {number}")) for number in range(3)]
    receipts = await running.receipts.until(3)

    assert not hangs.let_go.is_set()
    assert {reply.status for reply in replies} == {200}
    assert {decision(reply.headers) for reply in replies} == {("premium", "auto", "premium", "safe-default")}
    assert {receipt["verdict"] for receipt in receipts} == {"late"}


async def test_a_classifier_that_raises_fails_nobody(serve: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """The safe rung answers, and the log says what went wrong."""
    running = await serve(route=LEARNED)
    running.gateway.with_.classify.predictor = Raises()
    reply = await running.ask()
    receipt = await running.receipt()

    assert (reply.status, decision(reply.headers)) == (200, ("premium", "auto", "premium", "safe-default"))
    assert receipt["verdict"] == "failed"
    assert "not itself today" in capsys.readouterr().out


async def test_a_missing_classifier_fails_nobody(serve: Start) -> None:
    """Without one the safe rung answers."""
    running = await serve(route=LEARNED)
    running.gateway.with_.classify.predictor = None
    reply = await running.ask()
    receipt = await running.receipt()

    assert (reply.status, decision(reply.headers)) == (200, ("premium", "auto", "premium", "safe-default"))
    assert receipt["verdict"] == "absent"


async def test_a_flooded_classifier_lets_requests_pass(serve: Start, hangs: Hangs) -> None:
    """Beyond its queue nobody waits for a verdict at all."""
    running = await serve(route=LEARNED, more="classifier: {deadline_ms: 8, queue: 1}")
    running.gateway.with_.classify.predictor = hangs
    await running.ask(chat("one that stays in the classifier"))
    reply = await running.ask(chat("one too many"))
    receipts = await running.receipts.until(2)

    assert (reply.status, decision(reply.headers)[3]) == (200, "safe-default")
    assert [receipt["verdict"] for receipt in receipts] == ["late", "busy"]


async def test_a_session_keeps_its_last_verdict(serve: Start, hangs: Hangs) -> None:
    """When no verdict comes in time the session's last one decides, and the reason says so."""
    running = await serve(route=LEARNED, more="classifier: {deadline_ms: 300}")
    session = {"x-thriftgate-session": "conversation-1"}
    running.gateway.with_.classify.predictor = Says(0.9)
    judged = await running.ask(chat("hi"), session)
    running.gateway.with_.classify.predictor = hangs
    mine = await running.ask(chat("and now?"), session)
    other = await running.ask(chat("what else?"), {"x-thriftgate-session": "conversation-2"})

    assert decision(judged.headers) == ("cheap", "auto", "cheap", "learned")
    assert decision(mine.headers) == ("cheap", "auto", "cheap", "sticky")
    assert decision(other.headers) == ("premium", "auto", "premium", "safe-default")


# ── the first byte ──


async def test_the_first_word_is_forwarded_while_the_provider_still_thinks(
    serve: Start, first: MockUpstream
) -> None:
    """The client has it, and the role before it, while the provider is silent: nothing more is gathered on the way."""
    first.turn(fault="stall", after=2)
    running = await serve()
    wire = await running.wire(chat(stream=True))
    received = b"".join([await wire.until(b"\n\n") for _ in range(2)])
    call = first.journal.last

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert unasked(call) in received
    assert (call.outcome, call.chunks_sent) == ("open", 2)


async def test_every_event_is_forwarded_when_it_comes(serve: Start, first: MockUpstream) -> None:
    """Also after the first: the third event is with the client before the provider goes on."""
    first.turn(fault="stall", after=3)
    running = await serve()
    wire = await running.wire(chat(stream=True))
    received = b"".join([await wire.until(b"\n\n") for _ in range(3)])

    assert received.count(b"data: ") == 3
    assert first.journal.last.outcome == "open"


# ── as a process ──


async def test_the_real_process_answers(process: Spawn, upstream: Upstream) -> None:
    """`thriftgate serve` says where it listens, streams an answer and writes one receipt."""
    mock = await upstream()
    running = await process(two_rungs(mock.base_url, mock.base_url))
    reply = await running.client.ask(chat(stream=True))
    receipt = await running.line("receipt")
    running.terminate()
    status = await running.ended()

    assert (reply.status, reply.body) == (200, unasked(mock.journal.last))
    assert receipt["request_id"] == reply.headers["x-thriftgate-request-id"]
    assert status == 0
    assert running.receipts == [receipt]
