"""Timers of the store in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.store.memory_sending import MemorySending
from rolekit.store.records import Commit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.envelope import Packet
    from rolekit.store.timers import TimerRow


class MemoryTimers(MemorySending):
    """Keeps the contract of `store.timers.Timers`."""

    async def timers(self) -> list[TimerRow]:
        """Read all of them."""
        return list(self.tables.timers.values())

    async def plant(self, timers: Sequence[TimerRow]) -> None:
        """Make timers; change those that are there with another schedule."""
        rows = self.tables.timers
        for row in timers:
            held = rows.get(row.handler)
            if held is None or held.schedule != row.schedule:
                rows[row.handler] = row

    async def fire(
        self, timer: TimerRow, becomes: TimerRow, packets: Sequence[Packet]
    ) -> Commit | None:
        """Move a timer on and send, at once."""
        held = self.tables.timers.get(timer.handler)
        if held is None or (held.schedule, held.next_ms) != (timer.schedule, timer.next_ms):
            return None
        self.tables.timers[timer.handler] = becomes
        commit = Commit()
        self._send(packets, commit)
        return commit

    async def drop_timer(self, timer: TimerRow) -> None:
        """Drop a timer, if it is still as it was read."""
        if self.tables.timers.get(timer.handler) == timer:
            del self.tables.timers[timer.handler]
