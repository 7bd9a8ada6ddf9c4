"""Requests as values, a module for each dialect that callers speak; `request` has what they have in common."""

from gateway.wire.request import RUNG_HEADER, SESSION_HEADER, ChatRequest, Message

__all__ = ["RUNG_HEADER", "SESSION_HEADER", "ChatRequest", "Message"]
