"""Structured logs: one JSON object a line on stdout, receipts among them (`"event": "receipt"`). No prompt, no key."""

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


def _dumps(fields: dict[str, Any], **_: Any) -> bytes:
    return orjson.dumps(fields, default=str)
