"""The dials of the mock provider: how fast it answers, and how it fails.

A dial is set in four places; the later one wins:

1. for the whole mock: `MockUpstream(dials=Dials(ttft_ms=50))`, or `--ttft-ms 50` on the command line;
2. for a model: `mock.turn("mock-cheap", fault="stall")`;
3. in the model's name: `mock-cheap?fault=cut-rst&after=2` (a gateway can be configured with such a name);
4. in the request's body: `"mock": {"fault": "cut-rst", "after": 2}` (with OpenAI's SDK: `extra_body`).

Headers are deliberately no fifth place: a gateway forwards the body's bytes, not a stranger's headers. An unknown dial
or a wrong type is an error, never ignored: a test whose fault was misspelt would pass for the wrong reason.
"""

from __future__ import annotations

import base64
import binascii
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from urllib.parse import parse_qsl

FAULTS = ("", "hang", "cut-rst", "cut-fin", "end", "stall", "role-only", "error-frame", "garbage")

# What befalls a call in a storm, each as likely as the others. In OpenAI's streams the first frame is the role, so what
# comes after none or one strikes before the first word, and what comes after four strikes behind some. Whoever asks to
# be left alone does so for a moment only: a provider that nobody calls is no weather.
STORM: tuple[Mapping[str, object], ...] = (
    {"error_rate": 1.0, "status": 429, "retry_after_s": 0.2},
    {"error_rate": 1.0, "status": 500},
    {"error_rate": 1.0, "status": 503, "retry_after_s": 0.2},
    {"error_rate": 1.0, "status": 529, "retry_after_s": 0.2},
    {"fault": "hang"},
    {"fault": "cut-rst", "after": 0},
    {"fault": "cut-rst", "after": 4},
    {"fault": "error-frame", "after": 0},
    {"fault": "error-frame", "after": 4},
    {"fault": "stall", "after": 1},  # the role and nothing more
    {"fault": "stall", "after": 4},
    {"fault": "garbage", "after": 0},
    {"fault": "garbage", "after": 4},
    {"fault": "end", "after": 4},
)


@dataclass(frozen=True, slots=True)
class Dials:
    """One setting of every dial. The defaults are an instant provider without faults."""

    # speed
    ttft_ms: float = 0.0  # from the request's last byte to the response's first
    tokens_per_s: float = 0.0  # 0 = as fast as the socket takes them
    jitter: float = 0.0  # each wait is stretched or shrunk by up to this share, seeded
    # what is answered
    tokens: int = 0  # 0 = what the model feels like; otherwise exactly so many, one a chunk
    cached_tokens: int = 0  # of the prompt, as reported in the usage
    reasoning_tokens: int = 0  # reported in the usage on top of the visible ones
    reasoning: int = 0  # tokens thought aloud (`reasoning_content`); elsewhere how long a thought asked for is
    calls: int = 1  # tools called at once where a call is demanded; from 2 on also where the model is free to call
    multibyte: bool = False  # text of 2, 3 and 4 byte characters
    canned: bool = False  # frames built once and sent again and again: the benchmark's cheap mode
    # refusals
    error_rate: float = 0.0  # share of the calls that are refused with `status`
    status: int = 500  # 400, 401, 403, 404, 413, 429, 500, 502, 503 or 529
    unknown: str = ""  # a field that this server does not know: a request that has it gets a 400, as from older ones
    retry_after_s: float = 1.0  # the Retry-After of a 429, 503 or 529
    # faults
    fault: str = ""  # one of FAULTS; see loadtest.script for what each does
    fault_rate: float = 1.0  # share of the calls that the fault befalls
    after: int = 4  # whole frames sent before it (in OpenAI's stream the role frame is the first, so 4 = three tokens)
    stall_ms: float = 0.0  # how long `stall` and `role-only` are silent; 0 = until the client leaves
    storm: float = 0.0  # share of the calls that something of STORM befalls
    # bytes
    split: int = 0  # cut the stream anywhere, in pieces of 1 to this many bytes; 0 = a frame is a write
    comments: bool = False  # keep-alive comments between the frames
    crlf: bool = False  # line ends as CRLF
    raw: tuple[bytes, ...] = ()  # send exactly these pieces instead of an answer (in JSON: base64)
    seed: int = 1

    def turned(self, changes: Mapping[str, object]) -> Dials:
        """These dials with some changed. Raises ValueError on an unknown dial or a value of the wrong type."""
        known = {field.name: field.default for field in fields(self)}
        for name in changes:
            if name not in known:
                raise ValueError(f"unknown dial {name!r}; there are: {', '.join(known)}")
        turned = replace(self, **{name: _typed(name, value, known[name]) for name, value in changes.items()})  # type: ignore[arg-type]  # checked by _typed
        if turned.fault not in FAULTS:
            raise ValueError(f"unknown fault {turned.fault!r}; there are: {', '.join(FAULTS[1:])}")
        return turned

    def befallen(self, chance: random.Random) -> Dials:
        """These dials as they stand for one call: some calls have something of the storm."""
        if self.storm and chance.random() < self.storm:
            return self.turned(chance.choice(STORM))
        return self


def split_name(name: str) -> tuple[str, dict[str, object]]:
    """`mock-cheap?tokens=3&crlf=true` as the model's own name and the dials that it carries."""
    model, _, query = name.partition("?")
    return model, dict(parse_qsl(query, keep_blank_values=True))


def _typed(name: str, value: object, default: object) -> object:
    """The value in the type of the dial's default; text is accepted, for names and command lines."""
    if isinstance(default, bool):
        wanted = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
        if wanted is not None:
            return wanted
    elif isinstance(default, tuple):
        return _pieces(name, value)
    elif isinstance(default, str):
        if isinstance(value, str):
            return value
    elif isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return int(value) if isinstance(default, int) else float(value)
        except ValueError:
            pass
    raise ValueError(f"dial {name!r}: {type(default).__name__} expected, got {value!r}")


def _pieces(name: str, value: object) -> tuple[bytes, ...]:
    """Byte pieces, given as such or, in JSON, as a list of base64 texts."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"dial {name!r}: a list expected, got {value!r}")  # noqa: TRY004  one kind of error for all dials
    try:
        return tuple(piece if isinstance(piece, bytes) else base64.b64decode(piece, validate=True) for piece in value)
    except (TypeError, binascii.Error) as fault:
        raise ValueError(f"dial {name!r}: pieces are bytes, in JSON base64 ({fault})") from None
