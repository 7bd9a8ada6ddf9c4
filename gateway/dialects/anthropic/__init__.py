"""Anthropic's Messages API (/v1/messages, of version 2023-06-01), spoken by callers and to providers."""

from gateway.dialects.anthropic.answer import (
    LAST_FRAMES,
    ending_of_body,
    ending_of_stream,
    error_of_body,
    headers,
    models_url,
    read_whole,
    reader,
    url,
)
from gateway.dialects.anthropic.request import read_request
from gateway.dialects.anthropic.response import error_body, error_event, write_whole, writer
from gateway.dialects.anthropic.wording import LOSSES, write_request

__all__ = [
    "LAST_FRAMES", "LOSSES", "ending_of_body", "ending_of_stream", "error_body", "error_event",
    "error_of_body", "headers", "models_url", "read_request", "read_whole", "reader", "url",
    "write_request", "write_whole", "writer",
]
