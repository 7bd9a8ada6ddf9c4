"""What an upstream's refusal says beyond its status: when to come back, and whether another model could do it. Pure."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

LONGEST_S = 31_536_000.0    # a year: who says more has said nothing

# Google says it in the body (google.rpc.RetryInfo).
_RETRY_INFO = re.compile(rb'"retryDelay"\s*:\s*"(\d{1,6}(?:\.\d{1,9})?)s"')
# Words for a conversation that is too long, in the providers' and the servers' own errors (read 2026-11).
_TOO_LONG = re.compile(
    rb"context_length_exceeded|string_above_max_length|maximum context length|context window|context length"
    rb"|prompt is too long|input is too long|input length and `?max_tokens|exceeds the maximum number of tokens"
    rb"|too many (?:input )?tokens|request_too_large|request too large for model|exceed_context_size"
    rb"|available context size|maximum model length", re.IGNORECASE,
)
# And for something that this model cannot do, or this server does not know.
_UNSUPPORTED = re.compile(
    rb"unsupported_parameter|unsupported_value|unknown_parameter|unsupported_by_model|does not support|doesn't support"
    rb"|is not supported|not supported (?:with|by|for) this model|not available for this model"
    rb"|is not enabled for models/|only supported by certain models|is not a multimodal model|--tool-call-parser"
    rb"|unknown variant `image_url`|extra_forbidden|unrecognized request argument", re.IGNORECASE,
)


class Cure(StrEnum):
    """What another rung must have to answer a request that this one refused."""

    ROOM = "room"
    FEATURE = "feature"


def cure(status: int, body: bytes) -> Cure | None:
    """Return what would cure a refusal that blames the request, None where another model would say the same."""
    if status not in (400, 413, 422):
        return None
    if _TOO_LONG.search(body):
        return Cure.ROOM
    return Cure.FEATURE if _UNSUPPORTED.search(body) else None


def retry_after_s(headers: Mapping[str, str], body: bytes, now: datetime) -> float | None:
    """Return in how many seconds the upstream wants to be asked again; None where it does not say, or nonsense."""
    milliseconds, said = _number(headers.get("Retry-After-Ms", "")), headers.get("Retry-After", "")
    if milliseconds is not None:
        return milliseconds / 1000
    seconds = _number(said)
    if seconds is None:
        seconds = _until(said, now)
    if seconds is None and (found := _RETRY_INFO.search(body)) is not None:
        seconds = float(found[1])
    return seconds


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number <= LONGEST_S else None


def _until(text: str, now: datetime) -> float | None:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    seconds = max(0.0, (when - now).total_seconds())
    return seconds if seconds <= LONGEST_S else None
