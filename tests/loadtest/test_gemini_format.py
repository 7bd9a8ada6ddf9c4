"""Google's API as its own SDK finds it, and as a plain client does."""

from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

import aiohttp
import orjson
import pytest

from loadtest import gemini_format, gemini_rules
from loadtest.asking import Arrived, RefusalError
from loadtest.mock_upstream import DEFAULT_MODELS, MockUpstream

HI = [{"role": "user", "parts": [{"text": "What is a gateway?"}]}]
CITY = {"type": "OBJECT", "properties": {"city": {"type": "STRING", "minLength": "8"}}, "required": ["city"]}
ANY = {"functionCallingConfig": {"mode": "ANY"}}
# Google's SDK has a session class of its own, which aiohttp 3.14 discourages.
SDK = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
TOOLS: Any = [{"functionDeclarations": [{"name": "weather", "parameters": CITY}, {"name": "clock"}]}]


async def ask(
    http: aiohttp.ClientSession, provider: MockUpstream, method: str = "generateContent", **more: object
) -> Any:
    """The answer to a request, or the error, decoded."""
    url = f"{provider.root_url}/v1beta/models/mock-cheap:{method}"
    async with http.post(url, json={"contents": HI, **more}) as response:
        return orjson.loads(await response.read())


@pytest.fixture
async def sdk(mock: MockUpstream) -> AsyncIterator[Any]:
    """The official SDK, pointed at the mock; it does not retry."""
    genai = import_module("google.genai")
    client = genai.Client(api_key="sk-test", http_options=genai.types.HttpOptions(base_url=mock.root_url))
    yield client.aio.models
    await client.aio.aclose()


def config(**more: object) -> dict[str, object]:
    """The SDK's settings, with dials."""
    dials = more.pop("mock", {})
    return {"http_options": {"extra_body": {"mock": dials}}, **more}


# ── as the SDK sees it ──


@SDK
async def test_the_sdk_reads_a_response_equal_to_the_stream(sdk: Any) -> None:
    """The same words both ways, the same usage, the reason in the last chunk."""
    whole = await sdk.generate_content(model="mock-cheap", contents="hi", config=config(system_instruction="Be brief."))
    stream = await sdk.generate_content_stream(
        model="mock-cheap", contents="hi", config=config(system_instruction="Be brief.")
    )
    chunks = [chunk async for chunk in stream]

    assert whole.text == "".join(chunk.text for chunk in chunks)
    assert chunks[-1].usage_metadata == whole.usage_metadata
    assert [chunk.candidates[0].finish_reason for chunk in chunks][-2:] == [None, "STOP"]
    assert len({(chunk.response_id, chunk.model_version) for chunk in chunks}) == 1


@SDK
async def test_the_sdk_thinks_calls_functions_and_returns_responses(sdk: Any) -> None:
    """A whole round: thoughts and two calls streamed; responses returned with the signed calls; an answer."""
    types = import_module("google.genai").types
    functions = [{"name": "weather", "parameters": CITY}, {"name": "clock"}]
    asked = config(
        tools=[{"function_declarations": functions}], thinking_config={"include_thoughts": True}, mock={"calls": 2}
    )
    stream = await sdk.generate_content_stream(model="mock-cheap", contents="hi", config=asked)
    parts = [part for chunk in [chunk async for chunk in stream] for part in chunk.candidates[0].content.parts]
    calls = [part.function_call for part in parts if part.function_call]
    responses = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"result": 42}))
        for call in calls
    ]
    turns = [
        types.UserContent("hi"),
        types.Content(role="model", parts=[part for part in parts if not part.thought]),
        types.Content(role="user", parts=responses),
    ]
    answer = await sdk.generate_content(model="mock-cheap", contents=turns, config=asked)

    assert parts[0].thought
    assert [(call.name, call.args) for call in calls] == [("weather", {"city": "samplexx"}), ("clock", {})]
    assert answer.text
    assert answer.usage_metadata.thoughts_token_count


@SDK
async def test_the_sdk_counts_and_lists(sdk: Any) -> None:
    """count_tokens is what the answer then costs; models, and one of them."""
    counted = await sdk.count_tokens(model="mock-cheap", contents="hello there")
    answer = await sdk.generate_content(model="mock-cheap", contents="hello there")

    assert counted.total_tokens == answer.usage_metadata.prompt_token_count
    assert [model.name async for model in await sdk.list()] == [f"models/{model.name}" for model in DEFAULT_MODELS]
    assert (await sdk.get(model="mock-cheap")).display_name == "Mock Cheap"


@SDK
async def test_the_sdk_raises_its_own_errors(mock: MockUpstream, sdk: Any) -> None:
    """Unknown model, overload, a failing stream and a wrong key, each as the provider's class."""
    errors = import_module("google.genai.errors")
    with pytest.raises(errors.ClientError, match="is not found for API version"):
        await sdk.generate_content(model="gemini-99", contents="hi")
    with pytest.raises(errors.ClientError, match="RESOURCE_EXHAUSTED"):
        await sdk.generate_content(
            model="mock-cheap", contents="hi", config=config(mock={"error_rate": 1, "status": 429})
        )
    stream = await sdk.generate_content_stream(
        model="mock-cheap", contents="hi", config=config(mock={"fault": "error-frame"})
    )
    with pytest.raises(errors.ServerError, match="overloaded"):
        _ = [chunk async for chunk in stream]
    mock.key = "sk-right"
    with pytest.raises(errors.ClientError, match="API key not valid"):
        await sdk.generate_content(model="mock-cheap", contents="hi")


# ── as a plain client sees it ──


@pytest.mark.parametrize(
    ("arrived", "status"),
    [
        (Arrived({"x-goog-api-key": "k"}), 200),
        (Arrived({}, query={"key": "k"}), 200),
        (Arrived({}), 403),
        (Arrived({"Authorization": "Bearer k"}), 403),
        (Arrived({"x-goog-api-key": "z"}), 400),
    ],
)
def test_the_key_is_in_a_header_or_in_the_address(arrived: Arrived, status: int) -> None:
    """A wrong one is a 400 at Google, and none a 403."""
    if status == 200:
        gemini_format.authenticate(arrived, "k")
        return
    with pytest.raises(RefusalError) as refused:
        gemini_format.authenticate(arrived, "k")

    assert refused.value.status == status


def test_a_body_is_json_and_not_too_large() -> None:
    """Both are 400 at Google."""
    with pytest.raises(RefusalError, match="unexpected end") as broken:
        gemini_format.named_model(Arrived({}, fault="unexpected end"))
    with pytest.raises(RefusalError, match="payload size exceeds") as large:
        gemini_format.understood(Arrived({}, {"contents": HI}, size=gemini_rules.LIMIT_BYTES + 1))

    assert broken.value.status == large.value.status == 400


@pytest.mark.parametrize(
    ("more", "kinds", "reason"),
    [
        ({"toolConfig": ANY}, ["functionCall"], "STOP"),
        ({"toolConfig": ANY, "mock": {"calls": 2}}, ["functionCall", "functionCall"], "STOP"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}, "mock": {"calls": 2}}, ["text"], "STOP"),
        ({"mock": {"calls": 2}}, ["text", "functionCall", "functionCall"], "STOP"),
        ({"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}, ["thought", "text"], "STOP"),
        ({"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}, ["text"], "STOP"),
        ({"generationConfig": {"maxOutputTokens": 3}}, ["text"], "MAX_TOKENS"),
        ({"generationConfig": {"stopSequences": ["."]}}, ["text"], "STOP"),
    ],
)
async def test_what_is_asked_for_is_said(
    mock: MockUpstream, http: aiohttp.ClientSession, more: dict[str, Any], kinds: list[str], reason: str
) -> None:
    """Calls, thoughts, limits and stops."""
    candidate = (await ask(http, mock, tools=TOOLS, **more))["candidates"][0]
    found = ["thought" if part.get("thought") else next(iter(part)) for part in candidate["content"]["parts"]]

    assert found == kinds
    assert candidate["finishReason"] == reason


async def test_only_the_allowed_function_is_called(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """By its name."""
    calling = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["clock"]}}
    answer = await ask(http, mock, tools=TOOLS, toolConfig=calling)

    assert answer["candidates"][0]["content"]["parts"][0]["functionCall"]["name"] == "clock"


@pytest.mark.parametrize(
    "schema",
    [
        {"responseSchema": {"type": "OBJECT", "properties": {"xs": {"type": "ARRAY", "minItems": "2", "items": CITY}}}},
        {"responseJsonSchema": {"properties": {"xs": {"$ref": "#/$defs/xs"}}, "$defs": {"xs": {
            "type": "array", "minItems": 2, "items": {"properties": {"city": {"type": "string", "minLength": 8}}}}}}},
    ],
)  # fmt: skip
async def test_an_answer_satisfies_its_schema(
    mock: MockUpstream, http: aiohttp.ClientSession, schema: dict[str, Any]
) -> None:
    """Gemini's own schemas and JSON Schema's."""
    answer = await ask(http, mock, generationConfig={"responseMimeType": "application/json", **schema})
    text = answer["candidates"][0]["content"]["parts"][0]["text"]

    assert orjson.loads(text) == {"xs": [{"city": "samplexx"}] * 2}


async def test_pictures_and_candidates_are_counted(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """A picture has its price; every candidate is paid for."""
    picture = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
    contents = [{"parts": [{"text": "What is it?"}, picture]}]
    answer = await ask(http, mock, contents=contents, generationConfig={"candidateCount": 2}, mock={"tokens": 5})
    counted = await ask(http, mock, "countTokens", generateContentRequest={"contents": contents})
    details = [{"modality": "TEXT", "tokenCount": 3}, {"modality": "IMAGE", "tokenCount": gemini_format.IMAGE_TOKENS}]

    assert answer["usageMetadata"]["promptTokensDetails"] == counted["promptTokensDetails"] == details
    assert answer["usageMetadata"]["candidatesTokenCount"] == 10
    assert len(answer["candidates"]) == 2


async def test_a_stream_without_sse_is_a_list(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """A caller who forgot `alt=sse` gets all the chunks at once."""
    chunks = await ask(http, mock, "streamGenerateContent", mock={"tokens": 4})

    assert len(chunks) == 4


async def test_foreign_calls_are_refused(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """The signature belongs to the call it came with."""
    call = {"functionCall": {"name": "clock", "args": {}}, "thoughtSignature": "Zm9yZWlnbg=="}
    response = {"functionResponse": {"name": "clock", "response": {}}}
    turns = [*HI, {"role": "model", "parts": [call]}, {"role": "user", "parts": [response]}]
    refused = await ask(http, mock, contents=turns, tools=TOOLS)

    assert refused["error"] == {"code": 400, "message": "Thought signature is not valid.", "status": "INVALID_ARGUMENT"}
