"""Time as an argument: the system's, or one that a test moves."""

from __future__ import annotations

import datetime as dt
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day."""

    def now_ms(self) -> int:
        """Return milliseconds since 1970, UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        """Return milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, start_ms: int = 1_800_000_000_000) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """Return milliseconds since 1970, UTC."""
        return self._now_ms

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds."""
        self._now_ms += round(seconds * 1000)


def as_datetime(ms: int) -> dt.datetime:
    """Convert milliseconds since 1970 to an aware datetime in UTC."""
    return dt.datetime.fromtimestamp(ms / 1000, tz=dt.UTC)
