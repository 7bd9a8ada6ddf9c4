"""OpenAI's Chat Completions, and every server that is compatible with it: spoken by callers and to providers."""

from gateway.dialects.door import Ending
from gateway.dialects.openai.answer import (
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
from gateway.dialects.openai.request import read_request
from gateway.dialects.openai.response import error_body, error_event, write_whole, writer
from gateway.dialects.openai.wording import LOSSES, write_request

__all__ = [
    "LAST_FRAMES", "LOSSES", "Ending", "ending_of_body", "ending_of_stream", "error_body", "error_event",
    "error_of_body", "headers", "models_url", "read_request", "read_whole", "reader", "url", "write_request",
    "write_whole", "writer",
]
