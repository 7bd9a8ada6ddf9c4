"""Every fault a provider is known for, before its first word: what the client gets, what is booked, who is blamed.

The tables are in `faults`; what happens after the first word is in `test_chaos_streams`. Each fixture asserts besides:
one receipt a request, every slot back, no task left.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from loadtest.mock_upstream import MockUpstream
from tests.conftest import Start, chat, two_rungs, unasked
from tests.path.conftest import Scripted
from tests.path.faults import CASES, PATIENT, Fault, assert_blamed, health_of, sized
from tests.path.surfaces import PAIRS, asked, error_of, three

At = Callable[[Fault], Awaitable[str]]
NO_ANSWERS = {
    "nothing": b"", "HTML": b"<p/>", "half of one": b'{"choices":[{"index":0,"mess', "another's": b'{"said":"hi"}',
}


@pytest.fixture
def closed() -> Iterator[str]:
    """An address that nobody listens at."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


@pytest.fixture
async def plain_text() -> AsyncIterator[str]:
    """An https address at which somebody speaks, but no TLS."""
    async with _listening(None) as url:
        yield url


@pytest.fixture
async def untrusted(tmp_path: Path) -> AsyncIterator[str]:
    """An https address whose certificate nobody but itself vouches for."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    here, now = x509.IPAddress(ipaddress.ip_address("127.0.0.1")), datetime.now(UTC)
    unsigned = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1)
    ).add_extension(x509.SubjectAlternativeName([here]), critical=False)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "both.pem"
    path.write_bytes(secret + unsigned.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    async with _listening(context) as url:
        yield url


@contextlib.asynccontextmanager
async def _listening(context: ssl.SSLContext | None) -> AsyncIterator[str]:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say what no TLS client understands."""
        with contextlib.suppress(OSError):
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    server.close()
    await server.wait_closed()


@pytest.fixture
async def at(first: MockUpstream, scripted: Scripted, closed: str, plain_text: str, untrusted: str) -> At:
    """Return where a provider with a fault is."""
    async def at(fault: Fault) -> str:
        """Set it up."""
        if fault.dials is not None:
            first.turn(**fault.dials)
            return first.base_url
        if fault.script:
            return (await scripted(*fault.script, reset=fault.reset)).base_url
        there = {"closed": closed, "plain text": plain_text, "untrusted": untrusted}
        return there.get(fault.address, fault.address)

    return at


@pytest.mark.parametrize(("fault", "stream"), CASES)
async def test_the_next_target_answers(
    gateway: Start, second: MockUpstream, at: At, fault: Fault, *, stream: bool
) -> None:
    """The client has the other's answer, whole, and never knew; the receipt knows both calls and why."""
    running = await gateway(two_rungs(await at(fault), second.base_url, deadlines=fault.deadlines))
    reply = await running.ask(chat(stream=stream))
    receipt = await running.receipt()
    failed, answered = receipt["attempts"]

    assert (reply.status, reply.whole, reply.headers["x-thriftgate-reason"]) == (200, True, "fallback")
    assert reply.body == (unasked(second.journal.last) if stream else b"".join(second.journal.last.sent))
    assert (receipt["outcome"], receipt["finish"], receipt["model"]) == ("ok", "stop", "premium")
    assert (receipt["status"], receipt["error"], receipt["unused_usd_micros"]) == (200, None, 0)
    assert (failed["model"], failed["status"], fault.says in failed["error"]) == ("cheap", fault.status, True)
    assert (answered["model"], answered["status"], answered["error"]) == ("premium", 200, None)
    assert receipt["cost_usd_micros"] > 0
    assert_blamed(health_of(running), fault.blame)
    assert_blamed(health_of(running, "premium"), "nothing")


@pytest.mark.parametrize(("fault", "stream"), CASES)
async def test_alone_it_is_a_status(gateway: Start, at: At, fault: Fault, *, stream: bool) -> None:
    """An error object under the most telling status, never a 200; nothing is booked as spent."""
    where = await at(fault)
    running = await gateway(two_rungs(where, where, deadlines=fault.deadlines, more="server: {attempts: 1}"))
    reply = await running.ask(chat(model="cheap", stream=stream))
    receipt = await running.receipt()
    (attempt,) = receipt["attempts"]

    assert (reply.status, reply.whole) == (fault.alone, True)
    assert reply.error["message"]
    assert [(told["status"], fault.says in told["error"]) for told in reply.error["attempts"]] == [(fault.status, True)]
    assert (receipt["outcome"], receipt["status"], receipt["cost_usd_micros"]) == ("failed", fault.alone, None)
    assert receipt["error"].endswith(attempt["error"])
    assert_blamed(health_of(running), fault.blame)


async def test_one_that_cools_down_is_left_alone(serve: Start, first: MockUpstream, second: MockUpstream) -> None:
    """For as long as its 429 asked: the next request does not go there, and its breaker stays closed."""
    first.turn(error_rate=1, status=429, retry_after_s=60)
    running = await serve()
    replies = [await running.ask() for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 200]
    assert (first.journal.requests, second.journal.requests) == (1, 2)
    assert (health_of(running).opened, health_of(running).throttled) == (0, 1)


# ── answers to be translated ──


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_what_cannot_be_translated_falls_back(
    gateway: Start, scripted: Scripted, first: MockUpstream, pair: tuple[str, str], body: bytes
) -> None:
    """A 200 that is no answer of its provider's dialect is a failure, be it a JSON object."""
    surface, provider = pair
    script = await scripted(*sized(body))
    other = "gemini" if provider == "openai" else "openai"
    ladder = f"of-{provider}, of-{other}"
    running = await gateway(three(first, ladder=ladder, **{provider: script.base_url}))
    path, wanted = asked(surface)
    reply = await running.ask(wanted, path=path)
    receipt = await running.receipt()

    assert (reply.status, reply.headers["x-thriftgate-reason"]) == (200, "fallback")
    assert (receipt["outcome"], receipt["model"], receipt["finish"]) == ("ok", f"of-{other}", "stop")
    assert [attempt["error"] is None for attempt in receipt["attempts"]] == [False, True]
    assert_blamed(health_of(running, f"of-{provider}"), "failed")


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_what_cannot_be_translated_is_a_status_alone(
    gateway: Start, scripted: Scripted, first: MockUpstream, pair: tuple[str, str], body: bytes
) -> None:
    """In the words of the caller's dialect, and none of the provider's page."""
    surface, provider = pair
    script = await scripted(*sized(body))
    more = "server: {attempts: 1}"
    running = await gateway(three(first, more=more, **{provider: script.base_url}))
    path, wanted = asked(surface, f"of-{provider}")
    reply = await running.ask(wanted, path=path)
    receipt = await running.receipt()

    assert reply.status == 502
    assert f"Upstream '{provider}' answered with what" in error_of(surface, reply)[1]
    assert not body or body not in reply.body
    assert (receipt["outcome"], receipt["cost_usd_micros"], len(receipt["attempts"])) == ("failed", None, 1)
    assert_blamed(health_of(running, f"of-{provider}"), "failed")


# ── nobody's fault ──


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_the_callers_own_fault_blames_nobody(
    serve: Start, first: MockUpstream, second: MockUpstream, *, stream: bool
) -> None:
    """It is passed on as it was said, and nobody else is asked."""
    first.turn(error_rate=1, status=400)
    running = await serve()
    reply = await running.ask(chat(stream=stream))
    receipt = await running.receipt()

    assert (reply.status, reply.body) == (400, b"".join(first.journal.last.sent))
    assert (receipt["outcome"], receipt["status"], len(receipt["attempts"])) == ("refused", 400, 1)
    assert_blamed(health_of(running), "nothing")
    assert second.journal.requests == 0


@pytest.mark.parametrize(("fault", "stream"), [("hang", True), ("hang", False), ("stall", False)])
async def test_a_client_that_leaves_blames_nobody(
    serve: Start, first: MockUpstream, second: MockUpstream, fault: str, *, stream: bool
) -> None:
    """However long it had waited: a silent provider is not found to be at fault by it. It has had the prompt."""
    first.turn(fault=fault)
    running = await serve(deadlines=PATIENT)
    wire = await running.wire(chat(stream=stream))
    await first.journal.until(lambda journal: journal.in_flight == 1)
    wire.leave()
    receipt = await running.receipt()

    assert (receipt["outcome"], receipt["input_tokens"], len(receipt["attempts"])) == ("abandoned", None, 1)
    assert receipt["cost_usd_nanos"] == receipt["unused_usd_nanos"] > 0
    assert_blamed(health_of(running), "nothing")
    assert second.journal.requests == 0
