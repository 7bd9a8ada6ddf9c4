"""Structured logs: one JSON object a line on stdout, receipts among them (`"event": "receipt"`). No prompt, no key."""

import contextlib
import select
import sys
from typing import Any, BinaryIO

import orjson
import structlog


def configure(stream: BinaryIO | None = None) -> None:
    """Send every log line of this process to `stream` (default: stdout) as JSON, whole lines at a time."""
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.BytesLoggerFactory(stream or sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )


def say(event: str, level: str = "info", **fields: Any) -> None:
    """Log a line from the event loop, if it can be written at once; a closed or full pipe is no reason to stop."""
    stream = sys.stdout
    try:
        writable = bool(select.select([], [stream], [], 0)[1])
    except (OSError, ValueError):        # stdout is closed, or stands for a file of the test's that has no number
        writable = not stream.closed
    if writable:
        with contextlib.suppress(OSError):
            getattr(structlog.get_logger(), level)(event, **fields)


def _dumps(fields: dict[str, Any], **_: Any) -> bytes:
    return orjson.dumps(fields, default=str)
