"""When a handler without a message is called, and what becomes of times that passed.

Source: DESIGN 4.4: the id of a firing is that of (name, due instant in UTC).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Literal

from rolekit.model.ids import derive, given_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rolekit.model.cron import Cron

Missed = Literal["once", "skip", "all"]
MOST_MISSED = 1000
"""Firings made up for at most, with "all": the latest ones."""
BACK_MS = 3_600_000
LATE_MS = 60_000
"""What is late by no more counts as on time, not as missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a handler is called.

    Attributes:
        cron: Its line; None: it is called `every_ms`.
        zone: Whose clocks the line goes by.
        zone_name: Of it.
        every_ms: At the multiples of so many milliseconds since 1970.
        missed: What to do with times that passed while nothing ran.
    """

    cron: Cron | None = None
    zone: dt.tzinfo = dt.UTC
    zone_name: str = "UTC"
    every_ms: int = 0
    missed: Missed = "once"

    @property
    def text(self) -> str:
        """What tells this schedule from another, for people and for the row of its timer."""
        if self.cron is None:
            return f"every {self.every_ms / 1000:g} s"
        return f"{self.cron.line} {self.zone_name}"

    def next_ms(self, after_ms: int) -> int:
        """Return the first due time behind another, milliseconds since 1970."""
        if self.cron is None:
            return (after_ms // self.every_ms + 1) * self.every_ms
        after = dt.datetime.fromtimestamp(after_ms / 1000, tz=dt.UTC)
        return round(self.cron.next_after(after, self.zone).timestamp() * 1000)

    def following(self, after_ms: int) -> Iterator[int]:
        """Yield every due time behind another, without end."""
        while True:
            after_ms = self.next_ms(after_ms)
            yield after_ms

    def due(self, next_ms: int, now_ms: int) -> Due:
        """Say which firings are due now.

        Args:
            next_ms: The first due time that was not fired yet.
            now_ms: The time.

        Returns:
            Them, and the first due time behind now.
        """
        if next_ms > now_ms:
            return Due((), next_ms)
        passed = self._passed(next_ms, now_ms)
        if self.missed == "skip":
            passed = [ms for ms in passed if now_ms - ms <= LATE_MS]
        return Due(tuple(passed), self.next_ms(now_ms))

    def _passed(self, next_ms: int, now_ms: int) -> list[int]:
        """List due times up to now, the last of them: looked for from now back."""
        wanted = MOST_MISSED if self.missed == "all" else 1
        back_ms = BACK_MS
        while True:
            after_ms = max(next_ms - 1, now_ms - back_ms)
            found = list(takewhile(lambda ms: ms <= now_ms, self.following(after_ms)))
            if len(found) >= wanted or after_ms == next_ms - 1:
                return found[-wanted:]
            back_ms *= 4

    def upcoming(self, now_ms: int, count: int) -> list[int]:
        """List the next due times."""
        return list(islice(self.following(now_ms), count))


@dataclass(frozen=True, slots=True)
class Due:
    """Firings that are due, by their due time, and when the next one is."""

    fires_ms: tuple[int, ...]
    next_ms: int


def firing_id(app: str, handler: str, due_ms: int) -> str:
    """Name a firing: the same one on every host, and on a repeat."""
    return given_by(app, derive("", "timer", handler, due_ms))
