"""What every store promises about timers: when handlers that are called by time are due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.envelope import Packet
    from rolekit.store.records import Commit


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerRow:
    """When a handler is due.

    Attributes:
        handler: Its name.
        schedule: As the code says it.
        next_ms: The first due time that was not fired yet.
        fired_ms: Due time of the last firing; None: there was none.
    """

    handler: str
    schedule: str
    next_ms: int
    fired_ms: int | None = None


class Timers(Protocol):
    """Rows of which each is moved on by one relay at a time."""

    async def timers(self) -> list[TimerRow]:
        """Read all of them."""
        ...

    async def plant(self, timers: Sequence[TimerRow]) -> None:
        """Make timers; change those that are there with another schedule."""

    async def fire(
        self, timer: TimerRow, becomes: TimerRow, packets: Sequence[Packet]
    ) -> Commit | None:
        """Move a timer on and send, in one transaction.

        Args:
            timer: As it was read.
            becomes: Behind these firings.
            packets: The firings.

        Returns:
            What was committed; None when the timer is another one by now: nothing was sent.
        """
        ...

    async def drop_timer(self, timer: TimerRow) -> None:
        """Drop a timer, if it is still as it was read."""
