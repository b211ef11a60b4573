"""Which message is in work: guests are told, and so are their log lines."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?")


@dataclass(frozen=True, slots=True)
class InWork:
    """The message that a handler has in hand.

    Attributes:
        message: Its id; empty where there is none.
        trace: Its trace context, as the header `traceparent` has it; empty where it carries
            none, or nothing that is one.

    Source: W3C Trace Context, 3.2.
    """

    message: str = ""
    trace: str = ""

    @property
    def trace_id(self) -> str:
        """The id of its trace; empty where it has none."""
        found = _TRACEPARENT.fullmatch(self.trace)
        return found[1] if found else ""

    def environment(self) -> dict[str, str]:
        """Return what a program that runs for it gets told."""
        told = {"ROLEKIT_MESSAGE_ID": self.message, "TRACEPARENT": self.trace}
        return {name: value for name, value in told.items() if value}

    def headers(self) -> dict[str, str]:
        """Return what a request that is made for it gets told."""
        told = {"Rolekit-Message-Id": self.message, "traceparent": self.trace}
        return {name: value for name, value in told.items() if value}

    def fields(self) -> dict[str, str]:
        """Return what a log line says of it."""
        told = {"message": self.message, "trace": self.trace_id}
        return {name: value for name, value in told.items() if value}


NOTHING = InWork()
current_message: ContextVar[InWork] = ContextVar("guest_message", default=NOTHING)


def in_work(message: str, trace: str) -> InWork:
    """Note a message; what is no trace context is left out."""
    return InWork(message, trace if _TRACEPARENT.fullmatch(trace) else "")
