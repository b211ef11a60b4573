"""What was sent, kept by day of its confirm, and dropped by the day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.store.postgres import rows
from rolekit.store.postgres.steps import PostgresBase
from rolekit.store.sent import SentBetween, SentRow

if TYPE_CHECKING:
    from collections.abc import Sequence


class SentKeeping(PostgresBase):
    """The outbox's end: what was confirmed is forgotten, or kept."""

    keeps_sent = False

    async def forget(self, sent: Sequence[int]) -> None:
        """Delete outbox rows that the broker confirmed; keep what they sent, if asked to."""
        query = "forget_and_keep" if self.keeps_sent else "forget"
        async with self._db.connection() as connection:
            await connection.execute(self._sql[query], list(sent))

    async def sent(self, which: SentBetween, *, after: int, limit: int) -> list[SentRow]:
        """Read rows of what was sent, in order, behind the row numbered `after`."""
        async with self._db.connection() as connection:
            found = await connection.fetch(
                self._sql["sent"], which.since_ms, which.until_ms, after, limit
            )
        return [
            SentRow(row["n"], row["at_ms"], [one.packet for one in rows.outgoing_of(row)])
            for row in found
        ]
