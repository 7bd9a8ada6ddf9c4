"""OpenAI's Responses API, stateless: a surface alone, no provider is spoken to in it."""

from gateway.dialects.responses.request import read_request
from gateway.dialects.responses.response import error_body, error_event, write_whole, writer

__all__ = ["error_body", "error_event", "read_request", "write_whole", "writer"]
