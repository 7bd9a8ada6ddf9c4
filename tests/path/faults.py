"""The faults a provider is known for, as tables: what it does, what its callers are told, what is held against it."""

from typing import Any, NamedTuple

import pytest

from gateway.upstream.health import Health
from tests.conftest import Running
from tests.path.conftest import END, STREAM, chunk

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
ERROR = b'{"error":{"message":"boom","type":"x","code":1}}'
PATIENT = "connect_ms: 10000"           # a name server may take its time to say no
HASTY = "first_output_ms: 300"          # for the faults that only a deadline ends


class Fault(NamedTuple):
    """What a provider does, and what becomes of it."""

    dials: dict[str, Any] | None = None         # of the mock
    script: tuple[bytes, ...] = ()              # or the bytes that it sends
    address: str = ""                           # or where it is said to be
    reset: bool = False                         # how the script ends
    deadlines: str = PATIENT
    says: str = ""                              # of the receipt's words for the attempt
    status: int | None = None                   # booked for the attempt: a 200 that is none is booked as a 502
    alone: int = 502                            # what the client is told where nobody else answers
    blame: str = "failed"                       # or cooled


def refused(status: int, alone: int = 502, blame: str = "failed", **more: Any) -> Fault:
    """A refusal of the mock's."""
    dials = {"error_rate": 1, "status": status, **more}
    return Fault(dials, says=f"answered {status}", status=status, alone=alone, blame=blame)


def bare(status: int, *more: str, alone: int = 502, blame: str = "failed") -> Fault:
    """A refusal as it stands on the wire."""
    wire = "\r\n".join([f"HTTP/1.1 {status} Sorry", "Content-Length: 2", *more, "", "{}"]).encode()
    return Fault(script=(wire,), says=f"answered {status}", status=status, alone=alone, blame=blame)


def sized(body: bytes, head: bytes = WHOLE, more: int = 0) -> tuple[bytes, ...]:
    """The script of a whole answer that says its length, which may be more than there is."""
    return (head + b"Content-Length: %d\r\n\r\n" % (len(body) + more) + body,)


AGAIN = "Retry-After: 7"
CONNECTION = {
    "refused": Fault(address="closed", says="Connection refused"),
    "no such name": Fault(address="http://nowhere.invalid/v1", says="'nowhere.invalid' cannot be resolved"),
    "no TLS there": Fault(address="plain text", says="no TLS connection"),
    "a certificate of its own": Fault(address="untrusted", says="its certificate is not trusted"),
    "reset before the headers": Fault(script=(b"",), reset=True, says="failed: "),
    "closed before the headers": Fault(script=(b"",), says="failed: "),
    "reset in the headers": Fault(script=(b"HTTP/1.1 200 OK\r\nContent-Ty",), reset=True, says="failed: "),
    "closed in the headers": Fault(script=(b"HTTP/1.1 200 OK\r\nContent-Ty",), says="failed: "),
    "no HTTP at all": Fault(script=(b"SSH-2.0-OpenSSH_9.2\r\n",), says="failed: "),
    "silent": Fault({"fault": "hang"}, deadlines=HASTY, says="first_output deadline", alone=504),
}
STATUS = {
    "429 with Retry-After": refused(429, 429, "cooled", retry_after_s=7),
    "429 without": bare(429, alone=429, blame="cooled"),
    "500 with Retry-After": bare(500, AGAIN, blame="cooled"),
    "500 without": refused(500),
    "502 with Retry-After": bare(502, AGAIN, blame="cooled"),
    "502 without": refused(502),
    "503 with Retry-After": refused(503, 503, "cooled", retry_after_s=7),
    "503 without": bare(503, alone=503),
    "529 with Retry-After": bare(529, AGAIN, alone=503, blame="cooled"),
    "529 without": bare(529, alone=503),
    "our key is refused": refused(401)._replace(says="the gateway's own key"),
}
BEGAN_BADLY: dict[str, Any] = {"says": "began its answer with an error", "status": 502}
NOTHING_SAID = "before it said anything"
NO_STREAM: dict[str, Any] = {"says": "was asked for a stream of events and sent", "status": 502}
STREAMS = {      # 200, and no word yet
    "an error frame first": Fault({"fault": "error-frame", "after": 0}, **BEGAN_BADLY),
    "an error frame after the role": Fault({"fault": "error-frame", "after": 1}, **BEGAN_BADLY),
    "a role, then silence": Fault(
        {"fault": "stall", "after": 1}, deadlines=HASTY, says="first_output deadline", alone=504),
    "a role, then a clean end": Fault({"fault": "role-only", "stall_ms": 1}, says=NOTHING_SAID),
    "headers, then silence": Fault(
        {"fault": "stall", "after": 0}, deadlines=HASTY, says="first_output deadline", alone=504),
    "headers, then a reset": Fault({"fault": "cut-rst", "after": 0}, says="failed: "),
    "headers, then a farewell": Fault({"fault": "cut-fin", "after": 0}, says="failed: "),
    "an empty body": Fault({"fault": "end", "after": 0}, says=NOTHING_SAID),
    "only pings": Fault(script=(STREAM + chunk(b": ping\n\n: ping\n\n") + END,), says=NOTHING_SAID),
    "only usage": Fault(script=(STREAM + chunk(
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":0}}\n\ndata: [DONE]\n\n'
    ) + END,), says=NOTHING_SAID),
    "garbage first": Fault({"fault": "garbage", "after": 0}, **BEGAN_BADLY),
    "garbage after the role": Fault({"fault": "garbage", "after": 1}, **BEGAN_BADLY),
    "half a character first": Fault(script=(STREAM + chunk(b"data: \xc3\n\n") + END,), **BEGAN_BADLY),
    "HTML": Fault(script=(PAGE + b"\r\n<html>no</html>",), **NO_STREAM),
    "an error object instead of a stream": Fault(script=sized(ERROR), **NO_STREAM),
    "a whole answer instead of a stream": Fault(script=sized(b'{"choices":[]}'), **NO_STREAM),
    "half a chunk of HTTP": Fault(script=(STREAM + b"400\r\n" + ROLE,), says="failed: "),
}
NO_OBJECT: dict[str, Any] = {"says": "answered with what is no JSON object", "status": 502}
BODIES = {       # whole answers
    "an error object with 200": Fault({"fault": "error-frame"}, says="answered with an error", status=502),
    "cut by a reset": Fault({"fault": "cut-rst"}, says="failed: "),
    "cut by a farewell": Fault({"fault": "cut-fin"}, says="failed: "),
    "half of it, and an end": Fault({"fault": "end"}, **NO_OBJECT),
    "garbage": Fault({"fault": "garbage"}, **NO_OBJECT),
    "HTML": Fault(script=sized(b"<p/>", PAGE), **NO_OBJECT),
    "nothing": Fault(script=sized(b""), **NO_OBJECT),
    "shorter than it says": Fault(script=sized(b'{"choices":[]}', more=900), says="failed: "),
}
CASES = [
    *(pytest.param(fault, stream, id=f"{name}-{'streamed' if stream else 'whole'}")
      for name, fault in {**CONNECTION, **STATUS}.items() for stream in (True, False)
      if not (name == "silent" and not stream)),          # nobody can tell it from one that thinks
    *(pytest.param(fault, True, id=f"{name}-streamed") for name, fault in STREAMS.items()),
    *(pytest.param(fault, False, id=f"{name}-whole") for name, fault in BODIES.items()),
]


def health_of(running: Running, model: str = "cheap") -> Health:
    """The record of a model at its only endpoint."""
    return running.gateway.with_.models[model].deployments[0].health


def assert_blamed(health: Health, blame: str) -> None:
    """One failure, one cool-down, or nothing."""
    cooled = health.cooling(0.0)            # asked of a moment long ago, so that no slow test outlives it
    held = (health.failed_calls, health.in_a_row, health.throttled, cooled)

    assert held == {
        "failed": (1, 1, 0, False), "cooled": (0, 0, 1, True), "nothing": (0, 0, 0, False),
    }[blame]
