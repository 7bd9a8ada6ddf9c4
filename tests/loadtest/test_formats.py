"""All formats fit the seam, and are served where their SDKs ask for them."""

import contextlib
from typing import Any

import aiohttp
import orjson
import pytest
import yarl

from loadtest import anthropic_format, anthropic_frames, formats, frames, gemini_format, gemini_frames, openai_format
from loadtest.asking import Arrived, Moment, RefusalError
from loadtest.formats import Format
from loadtest.mock_upstream import MockUpstream

ALL: list[Format] = [openai_format, anthropic_format, gemini_format]
EVERY = pytest.mark.parametrize("speaks", ALL, ids=[speaks.NAME for speaks in ALL])
USER = [{"role": "user", "content": "What is a gateway?"}]


def test_routes_are_distinct_and_every_format_has_one() -> None:
    """Google's are under both of its versions."""
    paths = [route.path for route in formats.ROUTES]

    assert len(set(paths)) == len(paths)
    assert {route.speaks.NAME for route in formats.ROUTES} == {speaks.NAME for speaks in ALL}
    assert {"/v1/messages/count_tokens", "/v1/models/{model}:streamGenerateContent"} < set(paths)


@pytest.mark.parametrize(
    ("path", "headers", "speaks"),
    [
        ("/v1/models", {}, openai_format),
        ("/v1/models/m", {"anthropic-version": "2023-06-01"}, anthropic_format),
        ("/v1/models", {"x-goog-api-key": "k"}, gemini_format),
        ("/v1beta/models", {}, gemini_format),
    ],
)
def test_who_lists_models_is_told_by_path_and_headers(path: str, headers: dict[str, str], speaks: Format) -> None:
    """All three have a list under /v1/models."""
    assert formats.of_listing(path, headers) is speaks


@EVERY
def test_every_format_keeps_the_door(speaks: Format) -> None:
    """An open mock takes anyone, one with a key nobody without it; and every refusal has a body and headers."""
    moment = Moment(1, 1)
    anyone = Arrived({"anthropic-version": "2026-10-21"})
    speaks.authenticate(anyone, "")
    with pytest.raises(RefusalError) as refused:
        speaks.authenticate(anyone, "k")

    assert refused.value.status in (401, 403)
    assert b"error" in speaks.refusal(refused.value, moment)
    assert speaks.headers(moment, refused.value)
    assert speaks.no_such_model("m").status == speaks.no_such_model("m", listing=True).status == 404
    assert b"error" in speaks.WORDS.error_frame


# ── served: the same dials and the same journal for all ──


def address(speaks: Format, *, streamed: bool = True, model: str = "mock-cheap") -> tuple[str, dict[str, object]]:
    """Where a format is asked, and what."""
    if speaks.NAME == "openai":
        return "/v1/chat/completions", {"model": model, "messages": USER, "stream": streamed}
    if speaks.NAME == "anthropic":
        return "/v1/messages", {"model": model, "messages": USER, "stream": streamed, "max_tokens": 99}
    method = "streamGenerateContent?alt=sse" if streamed else "generateContent"
    return f"/v1beta/models/{model}:{method}", {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


async def asked(
    http: aiohttp.ClientSession, provider: MockUpstream, speaks: Format, *, streamed: bool = True, **dials: object
) -> tuple[int, bytes]:
    """The status and everything that came of the body, be it cut or not."""
    path, question = address(speaks, streamed=streamed)
    received = b""
    headers = {"anthropic-version": "2026-10-21"}
    async with http.post(provider.root_url + path, json={**question, "mock": dials}, headers=headers) as response:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            async for piece in response.content.iter_any():
                received += piece
    return response.status, received


LAST = {"openai": b"[DONE]", "anthropic": b"message_stop", "gemini": b'"finishReason":"STOP"'}


@EVERY
async def test_every_format_breaks_as_dialled(mock: MockUpstream, http: aiohttp.ClientSession, speaks: Format) -> None:
    """Each fault after the same number of whole frames; the provider's own words for it; one account of all calls."""
    _, healthy = await asked(http, mock, speaks, tokens=8)
    whole_frames = list(mock.journal.last.sent)
    two = b"".join(whole_frames[:2])
    end = (await asked(http, mock, speaks, fault="end", after=2, tokens=8))[1]
    cuts = [(await asked(http, mock, speaks, fault=cut, after=2, tokens=8))[1] for cut in ("cut-rst", "cut-fin")]
    failing = (await asked(http, mock, speaks, fault="error-frame", after=2, tokens=8))[1]
    garbage = (await asked(http, mock, speaks, fault="garbage", after=2, tokens=8))[1]
    stalled = (await asked(http, mock, speaks, fault="stall", after=2, stall_ms=1, tokens=8))[1]
    nothing = (await asked(http, mock, speaks, fault="role-only", stall_ms=1))[1]

    assert [LAST[speaks.NAME] in frame for frame in whole_frames] == [*[False] * (len(whole_frames) - 1), True]
    assert [len(end), *map(len, cuts)] == [len(two)] * 3
    assert failing[len(two) :] == speaks.WORDS.error_frame
    assert len(garbage) == len(healthy) + len(speaks.WORDS.garbage)
    assert len(stalled) == len(healthy)
    assert nothing.count(b"data: ") == 1
    assert (mock.journal.cut, mock.journal.answered, mock.journal.in_flight) == (2, 6, 0)


@EVERY
async def test_every_format_breaks_whole_answers(
    mock: MockUpstream, http: aiohttp.ClientSession, speaks: Format
) -> None:
    """Half of the body, or the provider's error in its place."""
    _, healthy = await asked(http, mock, speaks, streamed=False, tokens=8)
    _, cut = await asked(http, mock, speaks, streamed=False, tokens=8, fault="cut-rst")
    _, failing = await asked(http, mock, speaks, streamed=False, fault="error-frame")

    assert orjson.loads(healthy)
    assert len(cut) == len(healthy) // 2
    assert failing == speaks.WORDS.error


@EVERY
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 502, 503, 529])
async def test_every_format_refuses_as_dialled(
    mock: MockUpstream, http: aiohttp.ClientSession, speaks: Format, status: int
) -> None:
    """The status, with the provider's error object."""
    answered, body = await asked(http, mock, speaks, error_rate=1, status=status, retry_after_s=7)
    error = frames.BAD_GATEWAY if status == 502 else orjson.loads(body)["error"]

    assert answered == status
    assert error
    assert mock.journal.refused == 1


@EVERY
async def test_every_format_dresses_its_stream(
    mock: MockUpstream, http: aiohttp.ClientSession, speaks: Format
) -> None:
    """Comments, line ends, cuts anywhere and wide characters; an SSE reader reads the same events."""
    dials: dict[str, Any] = {"tokens": 20, "multibyte": True}
    _, plain = await asked(http, mock, speaks, **dials)
    _, dressed = await asked(http, mock, speaks, **dials, comments=True, crlf=True, split=3)

    def data(stream: bytes) -> list[int]:
        """How long the data of each event is; ids differ, lengths do not."""
        lines = stream.replace(b"\r\n", b"\n").split(b"\n")
        return [len(line) for line in lines if line.startswith((b"data: ", b"event: "))]

    assert data(dressed) == data(plain)
    assert dressed.count(b"\n") == dressed.count(b"\r\n")
    assert max(map(len, mock.journal.last.sent)) == 3


@EVERY
async def test_every_format_takes_dials_with_the_name(
    mock: MockUpstream, http: aiohttp.ClientSession, speaks: Format
) -> None:
    """In Gemini's address the question mark is escaped; the journal has the bare name, and a misspelt dial is a 400."""
    headers = {"anthropic-version": "2023-06-01"}
    statuses = []
    for dials in ("tokens=3", "tokkens=3"):
        named = "mock-cheap" + ("%3F" if speaks.NAME == "gemini" else "?") + dials
        path, question = address(speaks, model=named)
        url = yarl.URL(mock.root_url + path, encoded=True)
        async with http.post(url, json=question, headers=headers) as response:
            statuses.append(response.status)
            await response.read()

    assert statuses == [200, 400]
    assert [call.model for call in mock.journal.calls] == ["mock-cheap", "mock-cheap"]


async def test_formats_do_not_share_canned_frames(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """Each has its own, made once."""
    mock.turn(canned=True, tokens=5)
    both: list[Format] = [anthropic_format, gemini_format]
    first = [(await asked(http, mock, speaks))[1] for speaks in both]
    again = [(await asked(http, mock, speaks))[1] for speaks in both]

    assert first == again
    assert first[0].startswith(b"event: message_start")
    assert first[1].startswith(b'data: {"candidates"')


async def test_wordings_are_each_providers_own(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """Anthropic's retry-after is a header, Google's stands in the body."""
    _, anthropics = await asked(http, mock, anthropic_format, error_rate=1, status=529)
    _, googles = await asked(http, mock, gemini_format, error_rate=1, status=429, retry_after_s=7)

    assert orjson.loads(anthropics)["error"] == orjson.loads(anthropic_frames.error(529))["error"]
    assert googles == gemini_frames.error(429, retry_after_s=7)
