"""Which message is in work: guests are told, and so are their log lines."""

from __future__ import annotations

from contextvars import ContextVar

current_message: ContextVar[str] = ContextVar("guest_message", default="")
