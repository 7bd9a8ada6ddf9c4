"""The parts of the path that can be shown by themselves. (The path itself: tests/path.)"""

from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway import handler
from gateway.config import ServerConfig
from gateway.errors import BadRequest, Refused
from gateway.handler import Handler
from gateway.receipt import Receipt


def stamped() -> Receipt:
    """A receipt up to its first byte: 1 ms to authenticate, 2 to decode, 3 to classify, two calls of 100 and 50 ms."""
    receipt = Receipt("r-1", 10.0)
    receipt.authenticated, receipt.decoded, receipt.classified = 10.001, 10.003, 10.006
    receipt.route, receipt.model, receipt.rung, receipt.reason = "auto", "large", "premium", "fallback"
    receipt.score = 0.123456
    receipt.attempt("small", 10.01).ended = 10.11
    receipt.attempt("large", 10.11).ended = 10.16
    receipt.first_byte = 10.17
    return receipt


class TestHeaders:
    """Who answered and why, and where the time went."""

    def test_all_of_them(self) -> None:
        """Every header of the contract; the gateway's time is what neither the classifier nor an upstream took."""
        expected = {
            "Server": "thriftgate",
            "x-thriftgate-request-id": "r-1",
            "Server-Timing":
                "auth;dur=1.000, classify;dur=3.000, queue;dur=0.000, upstream;dur=150.000, gateway;dur=17.000",
            "x-thriftgate-model": "large",
            "x-thriftgate-route": "auto",
            "x-thriftgate-rung": "premium",
            "x-thriftgate-reason": "fallback",
            "x-thriftgate-score": "0.1235",
        }

        assert expected == handler.response_headers(stamped())

    def test_a_slot_that_was_waited_for(self) -> None:
        """That time is the queue's and not the gateway's own."""
        receipt = stamped()
        receipt.queued_s = 0.01

        assert "queue;dur=10.000, upstream;dur=150.000, gateway;dur=7.000" in handler.server_timing(receipt)

    def test_what_did_not_happen_has_no_header(self) -> None:
        """A named model has no rung, route or score; a score of 0 is one."""
        receipt = stamped()
        receipt.route, receipt.rung, receipt.score = None, "", None
        headers = handler.response_headers(receipt)
        receipt.score = 0.0

        assert not {"x-thriftgate-route", "x-thriftgate-rung", "x-thriftgate-score"} & set(headers)
        assert handler.response_headers(receipt)["x-thriftgate-score"] == "0.0000"

    def test_before_anything_happened(self) -> None:
        """A refusal at the door has its timing too, and no part of it is negative."""
        timing = handler.server_timing(Receipt("r-1", handler.clock()))
        parts = dict(part.split(";dur=") for part in timing.split(", "))

        assert list(parts) == ["auth", "classify", "queue", "upstream", "gateway"]
        assert all(float(value) >= 0 for value in parts.values())

    def test_a_clock_that_says_less_than_its_parts(self) -> None:
        """The rest is never less than nothing."""
        receipt = stamped()
        receipt.first_byte = 10.02

        assert handler.server_timing(receipt).endswith("gateway;dur=0.000")


def test_an_error_is_a_response() -> None:
    """Status, OpenAI's error object with the calls under the request id, our headers and the error's own."""
    receipt = stamped()
    receipt.attempts[0].status, receipt.attempts[0].error = 500, "boom"
    response = handler.error_response(Refused("later", 429, headers={"Retry-After": "7"}), receipt)
    body = response.body
    assert isinstance(body, bytes)
    expected = {
        "message": "later", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded",
        "request_id": "r-1",
        "attempts": [
            {"model": "small", "status": 500, "error": "boom"}, {"model": "large", "status": None, "error": None}
        ],
    }

    assert (429, "application/json", "7") == (response.status, response.content_type, response.headers["Retry-After"])
    assert {"error": expected} == orjson.loads(body)
    assert response.headers["x-thriftgate-request-id"] == "r-1"


HELLO = [{"role": "user", "content": "hi"}]
SENT: dict[str, tuple[str, str, object]] = {      # surface, kind, body
    "chat completions": ("openai", "chat", {"model": "m", "messages": HELLO}),
    "responses": ("responses", "chat", {"model": "m", "input": "hi"}),
    "messages": ("anthropic", "chat", {"model": "m", "max_tokens": 5, "messages": HELLO}),
    "a count": ("anthropic", "count_tokens", {"model": "m", "messages": HELLO}),
    "embeddings": ("openai", "embeddings", {"model": "m", "input": "hi"}),
    "completions": ("openai", "completions", {"model": "m", "prompt": "hi"}),
}


class TestDecoding:
    """Each surface has its reader."""

    @pytest.mark.parametrize(("surface", "kind", "body"), SENT.values(), ids=SENT)
    def test_by_surface(self, surface: str, kind: str, body: object) -> None:
        """The request knows which dialect it came in and what it asks for; headers reach it."""
        http = make_mocked_request("POST", "/", {"x-thriftgate-session": "s-1"})
        request = handler.decode(orjson.dumps(body), http, surface, kind)

        assert (request.surface, request.kind, request.model, request.session) == (surface, kind, "m", "s-1")

    @pytest.mark.parametrize(
        ("action", "query", "stream"),
        [("generateContent", "", False), ("generateContent", "?alt=x", False),
         ("streamGenerateContent", "?alt=sse", True)],
    )
    def test_gemini_has_it_in_the_address(self, action: str, query: str, *, stream: bool) -> None:
        """The model and whether it streams stand in the path."""
        body = b'{"contents":[{"parts":[{"text":"hi"}]}]}'
        request = handler.decode(body, self.at(action, query), "gemini", "chat")

        assert (request.surface, request.model, request.stream) == ("gemini", "org/m", stream)

    @pytest.mark.parametrize("query", ["", "?alt=json"])
    def test_a_stream_that_is_none_of_events(self, query: str) -> None:
        """Refused before the body is looked at, with what to add."""
        with pytest.raises(BadRequest, match="alt=sse") as caught:
            handler.decode(b"", self.at("streamGenerateContent", query), "gemini", "chat")

        assert caught.value.param == "alt"

    @staticmethod
    def at(action: str, query: str) -> web.Request:
        """A request to Gemini's address."""
        match: Any = {"model": "org/m", "action": action}
        return make_mocked_request("POST", f"/v1beta/models/org/m:{action}{query}", match_info=match)


@pytest.mark.parametrize(("text_bytes", "tokens"), [(4_000, 1_000), (3, 1), (0, 1)])
def test_an_estimate(text_bytes: int, tokens: int) -> None:
    """Four bytes a token, never none; it says that it is one, and is booked as an answer."""
    receipt = stamped()
    request = handler.decode(orjson.dumps(SENT["a count"][2]), make_mocked_request("POST", "/"), "anthropic", "chat")
    response = handler.estimate(msgspec.structs.replace(request, text_bytes=text_bytes), receipt)
    body = response.body
    assert isinstance(body, bytes)

    assert (response.status, orjson.loads(body)) == (200, {"input_tokens": tokens})
    assert response.headers["x-thriftgate-estimate"] == "length"
    assert (receipt.outcome, receipt.status, receipt.sent_bytes) == ("ok", 200, len(body))


@pytest.mark.parametrize(("surface", "names"), [
    (None, {"error"}), ("responses", {"error"}), ("anthropic", {"type", "error", "request_id"}), ("gemini", {"error"}),
])
def test_an_error_is_worded_by_its_surface(surface: str | None, names: set[str]) -> None:
    """In OpenAI's form where nobody knows better."""
    receipt = stamped()
    receipt.surface = surface
    body = handler.error_response(BadRequest("no", param="model"), receipt).body
    assert isinstance(body, bytes)

    assert set(orjson.loads(body)) == names
    assert (orjson.loads(body)["error"].get("status") == "INVALID_ARGUMENT") is (surface == "gemini")


def test_what_was_lost_is_a_header() -> None:
    """One header for all of it, none where nothing was."""
    receipt = stamped()
    without = handler.response_headers(receipt)
    receipt.lost = ("seed", "others.store")

    assert "x-thriftgate-lost" not in without
    assert handler.response_headers(receipt)["x-thriftgate-lost"] == "seed, others.store"


def test_the_repr() -> None:
    """An operator reads how many requests are being served."""
    nobody: Any = SimpleNamespace(server=ServerConfig())
    made = Handler(nobody)

    assert repr(made) == "<Handler 0 running>"
