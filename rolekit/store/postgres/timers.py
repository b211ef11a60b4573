"""When handlers that are called by time are due: one row each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.store.base import Commit, TimerRow
from rolekit.store.postgres.steps import PostgresBase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.envelope import Packet


class TimerStore(PostgresBase):
    """Timers, each moved on by compare-and-set."""

    async def timers(self) -> list[TimerRow]:
        """Read all timers."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["timers"])
        return [TimerRow(**dict(row)) for row in found]

    async def plant(self, timers: Sequence[TimerRow]) -> None:
        """Make timers; change those that are there with another schedule."""
        async with self._db.connection() as connection:
            await connection.execute(
                self._sql["plant"],
                [row.handler for row in timers],
                [row.schedule for row in timers],
                [row.next_ms for row in timers],
            )

    async def fire(
        self, timer: TimerRow, becomes: TimerRow, packets: Sequence[Packet]
    ) -> Commit | None:
        """Move a timer on and send, in one transaction; None when somebody else did."""
        commit = Commit()
        async with self._db.transaction() as connection:
            moved = await connection.fetchval(
                self._sql["move_timer"],
                timer.handler,
                timer.schedule,
                timer.next_ms,
                becomes.next_ms,
                becomes.fired_ms,
            )
            if moved is None:
                return None
            await self._send(connection, packets, commit)
        return commit

    async def drop_timer(self, timer: TimerRow) -> None:
        """Drop a timer, if it is still as it was read."""
        async with self._db.connection() as connection:
            await connection.execute(
                self._sql["drop_timer"], timer.handler, timer.schedule, timer.next_ms
            )
