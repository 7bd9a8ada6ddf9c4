"""What refusals say: bodies as the providers and servers send them, and every way of saying when to come back."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream.refusal import LONGEST_S, Cure, cure, retry_after_s

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=300)
NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)


def openai(message: str, code: str | None = None) -> bytes:
    """An error of OpenAI's form, which most compatible servers use."""
    return orjson.dumps({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}})


def anthropic(message: str, kind: str = "invalid_request_error") -> bytes:
    """An error of Anthropic's form."""
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011"})


def gemini(message: str) -> bytes:
    """An error of Google's form."""
    return orjson.dumps({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}})


def vllm(message: str) -> bytes:
    """An error of vLLM's and SGLang's form."""
    return orjson.dumps({"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400})


# What they say (read 2026-11 in reports of the errors).
TOO_LONG = {
    "OpenAI, chat": openai(
        "This model's maximum context length is 4097 tokens. However, your messages resulted in 6988 tokens.",
        "context_length_exceeded",
    ),
    "OpenAI, responses": openai("Your input exceeds the context window of this model.", "context_length_exceeded"),
    "Anthropic, prompt": anthropic("prompt is too long: 208656 tokens > 200000 maximum"),
    "Anthropic, with the answer": anthropic("input length and `max_tokens` exceed context limit: 178959 + 64000"),
    "Anthropic, bytes": anthropic("Request exceeds the maximum size", "request_too_large"),
    "Gemini": gemini("The input token count (1200293) exceeds the maximum number of tokens allowed (1048576)."),
    "vLLM, chat": vllm(
        "This model's maximum context length is 6048 tokens. However, you requested 6616 tokens (568 in the messages, "
        "6048 in the completion)."
    ),
    "vLLM, engine": vllm("The decoder prompt (length 21535) is longer than the maximum model length of 16384."),
    "SGLang": vllm("The input (85050 tokens) is longer than the model's context length (32768 tokens)."),
    "llama.cpp": openai(
        "request (4390 tokens) exceeds the available context size (4096 tokens), try increasing it",
        "exceed_context_size_error",
    ),
    "Ollama": b'{"error":"the input length exceeds the context length"}',
    "OpenRouter": openai("This endpoint's maximum context length is 32768 tokens. However, you requested about 42832."),
    "Bedrock": b'{"message":"Input is too long for requested model."}',
}
UNSUPPORTED = {
    "OpenAI, value": openai("Unsupported value: 'temperature' does not support 0.1 with this model."),
    "OpenAI, parameter": openai(
        "Unsupported parameter: 'temperature' is not supported with this model.", "unsupported_parameter"
    ),
    "OpenAI, image": openai("Invalid content type. image_url is only supported by certain models."),
    "OpenAI, unknown": openai("Unknown parameter: 'reasoning'.", "unknown_parameter"),
    "OpenAI, unknown of old": openai("Unrecognized request argument supplied: reasoning_effort"),
    "Gemini, tools": gemini("Function calling is not enabled for models/gemma-3-12b-it"),
    "vLLM, tools": vllm('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
    "vLLM, image": vllm("facebook/opt-125m is not a multimodal model None"),
    "Ollama, tools": openai("registry.ollama.ai/library/gemma3:4b does not support tools"),
    "Ollama, image": b'{"error":"this model does not support image input"}',
    "DeepSeek, image": openai(
        "Failed to deserialize the JSON body into the target type: messages[7]: unknown variant `image_url`, expected "
        "`text` at line 1 column 114708", "invalid_request_error",
    ),
    "Mistral, field": b"""{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","metadata"],
        "msg":"Extra inputs are not permitted"}]},"type":"invalid_request_error","code":null}""",
    "OpenRouter, passed on": orjson.dumps({"error": {"message": "Provider returned error", "code": 400, "metadata": {
        "raw": openai("Invalid content type. image_url is only supported by certain models.").decode()
    }}}),
}
NEITHER = {
    "OpenAI, value": openai("Invalid value: 'image'. Supported values are: 'text' and 'image_url'.", "invalid_value"),
    "OpenAI, calls": openai("An assistant message with 'tool_calls' must be followed by tool messages responding."),
    "Anthropic": anthropic("messages: at least one message is required"),
    "Gemini": gemini(
        "Please ensure that the number of function response parts is equal to the number of function call parts."
    ),
    "vLLM": vllm("max_tokens must be at least 1, got -186."),
    "Ollama": b"""{"error":"invalid character 'x' looking for beginning of value"}""",
    "OpenRouter": openai('Input required: specify "prompt" or "messages"'),
    "a page": b"<html><body>400 Bad Request</body></html>",
    "nothing": b"",
}


@pytest.mark.parametrize("body", TOO_LONG.values(), ids=TOO_LONG)
def test_too_long(body: bytes) -> None:
    """A rung with more room could do it."""
    assert cure(400, body) is Cure.ROOM


@pytest.mark.parametrize("body", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported(body: bytes) -> None:
    """A rung that can could do it."""
    assert [Cure.FEATURE, Cure.FEATURE] == [cure(400, body), cure(422, body)]


@pytest.mark.parametrize("body", NEITHER.values(), ids=NEITHER)
def test_anything_else(body: bytes) -> None:
    """The request itself is wrong: no other model is asked."""
    assert cure(400, body) is None


def test_too_large_for_the_plan() -> None:
    """Groq's 413 is about tokens a minute, and another provider has others."""
    body = openai("Request too large for model `llama-3.3-70b-versatile` on tokens per minute (TPM): Limit 12000")

    assert cure(413, body) is Cure.ROOM


@pytest.mark.parametrize("status", [200, 401, 404, 409, 429, 431, 500, 503])
def test_only_what_blames_the_request(status: int) -> None:
    """Of any other status the words are not read: it is tried elsewhere anyhow, or is an answer."""
    assert {None} == {cure(status, body) for body in (*TOO_LONG.values(), *UNSUPPORTED.values())}


RETRY_INFO = b"""{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "%s"}]}}"""


@pytest.mark.parametrize(
    ("headers", "delay", "expected"),
    [
        ({}, b"", None),
        ({"Retry-After": "20"}, b"", 20.0), ({"Retry-After": "0"}, b"", 0.0), ({"Retry-After": " 1.5 "}, b"", 1.5),
        ({"Retry-After-Ms": "250"}, b"", 0.25), ({"Retry-After-Ms": "0", "Retry-After": "9"}, b"", 0.0),
        ({"Retry-After-Ms": "1500.5", "Retry-After": "2"}, b"", 1.5005),
        ({"Retry-After-Ms": "soon", "Retry-After": "2"}, b"", 2.0),
        ({"Retry-After": "Sat, 28 Nov 2026 12:00:30 GMT"}, b"", 30.0),
        ({"Retry-After": "Saturday, 28-Nov-26 12:00:30 GMT"}, b"", 30.0),
        ({"Retry-After": "Sat Nov 28 12:00:30 2026"}, b"", 30.0),
        ({"Retry-After": "Sat, 28 Nov 2026 14:00:30 +0200"}, b"", 30.0),
        ({"Retry-After": "Sat, 28 Nov 2026 11:59:00 GMT"}, b"", 0.0),
        ({}, b"58s", 58.0), ({}, b"58.934310785s", 58.934310785), ({}, b"0s", 0.0),
        ({"Retry-After": "5"}, b"58s", 5.0), ({"Retry-After": "later"}, b"58s", 58.0),
    ],
)
def test_when_to_come_back(headers: dict[str, str], delay: bytes, expected: float | None) -> None:
    """In milliseconds, seconds, as a date of any of HTTP's three forms, or in Google's body; the most exact first."""
    assert expected == retry_after_s(headers, RETRY_INFO % delay, NOW)


@pytest.mark.parametrize(
    "said",
    [
        "", "soon", "-1", "nan", "inf", "-inf", "1e400", "1e300", "0x10", "99999999999", "5 s", "1700000000",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 +99999999999999999",
        "Fri, 31 Dec 9999 23:59:59 GMT", "Sat, 31 Feb 2026 25:00:00 GMT",
    ],
)
def test_nonsense(said: str) -> None:
    """Neither words nor a time before now nor one in years is an answer."""
    assert retry_after_s({"Retry-After": said, "Retry-After-Ms": said}, RETRY_INFO % b"", NOW) is None


@pytest.mark.parametrize("delay", [b"-5s", b"1234567s", b"5", b"5m", b"s", b"1e3s", b"."])
def test_nonsense_in_the_body(delay: bytes) -> None:
    """What is no duration of Google's is none."""
    assert retry_after_s({}, RETRY_INFO % delay, NOW) is None


@STEADY
@given(seconds=st.integers(0, 1_000_000), offset=st.integers(-12 * 60, 14 * 60))
def test_any_date(seconds: int, offset: int) -> None:
    """In whatever zone it is written, it is the same moment."""
    when = (NOW + timedelta(seconds=seconds)).astimezone(timezone(timedelta(minutes=offset)))

    assert retry_after_s({"Retry-After": format_datetime(when)}, b"", NOW) == seconds


DATES = st.text(alphabet="0123456789+-:,. MonJaSatFebGMTESTZ", max_size=45)
SAID = st.text(max_size=30) | DATES | st.from_regex(
    r"(Mon, )?[0-9]{1,12} (Jan|Feb|Foo) [0-9]{1,25} [0-9]{1,4}:[0-9]{1,3}(:[0-9]{1,3})? (GMT|[+-][0-9]{1,25})",
    fullmatch=True,
)


@STEADY
@given(said=SAID, precise=SAID | st.none(), body=st.binary(max_size=60), status=st.sampled_from([400, 413, 422, 429]))
def test_nothing_raises(said: str, precise: str | None, body: bytes, status: int) -> None:
    """Whatever an upstream writes: a number of seconds that is not in years, or none."""
    headers = {"Retry-After": said} | ({} if precise is None else {"Retry-After-Ms": precise})
    seconds = retry_after_s(headers, RETRY_INFO % body, NOW)

    assert seconds is None or 0 <= seconds <= LONGEST_S
    assert cure(status, body) in (None, Cure.ROOM, Cure.FEATURE)
