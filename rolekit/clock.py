"""Time as an argument: the system's, or one that a test moves."""

from __future__ import annotations

import asyncio
import datetime as dt
import heapq
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


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


class Alarms(Protocol):
    """Calls back at a time of the clock that they belong to."""

    def at(self, due_ms: int, call: Callable[[], None]) -> None:
        """Have `call` called once it is so late; it must not raise."""


class LoopAlarms:
    """Alarms of the running event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def at(self, due_ms: int, call: Callable[[], None]) -> None:
        """Have `call` called once it is so late."""
        wait_s = max(due_ms - self._clock.now_ms(), 0) / 1000
        asyncio.get_running_loop().call_later(wait_s, call)


class ManualAlarms:
    """Alarms of a clock that is moved: they ring when they are told to look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._set: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, due_ms: int, call: Callable[[], None]) -> None:
        """Have `call` called by the first `ring` that comes no earlier."""
        self._count += 1
        heapq.heappush(self._set, (due_ms, self._count, call))

    def next_ms(self) -> int | None:
        """Say when the next one is due."""
        return self._set[0][0] if self._set else None

    def ring(self) -> None:
        """Call what is due by now."""
        while self._set and self._set[0][0] <= self._clock.now_ms():
            heapq.heappop(self._set)[2]()
