"""What the relay does for everybody: move what is due, adopt what was left, keep house."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.store.base import Commit, Outgoing
from rolekit.store.postgres import rows
from rolekit.store.postgres.blobs import BlobStore
from rolekit.store.postgres.days import Days
from rolekit.store.postgres.sent import SentKeeping

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class RelayStore(Days, SentKeeping, BlobStore):
    """Rows that no instance holds any more. Several relays do no harm: rows are claimed."""

    async def move_due(self, now_ms: int, limit: int) -> Commit:
        """Move what is due from the schedule to the outbox, in one transaction."""
        commit = Commit()
        async with self._db.transaction() as connection:
            found = await connection.fetch(self._sql["take_due"], now_ms, limit)
            packets = [
                rows.packet_of(row, birth="due_ms")
                for row in sorted(found, key=lambda row: row["due_ms"])
            ]
            await self._send(connection, packets, commit)
        commit.moved = len(packets)
        return commit

    async def next_due_ms(self) -> int | None:
        """Say when the next packet is due."""
        async with self._db.connection() as connection:
            due: int | None = await connection.fetchval(self._sql["next_due"])
        return due

    async def adopt(self, limit: int) -> list[Outgoing]:
        """Take over outbox rows of instances that are gone."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["adopt"], self._owner, limit)
        ordered = sorted(found, key=lambda row: row["n"])
        return [one for row in ordered for one in rows.outgoing_of(row)]

    def on_doubt(self, tell: Callable[[], None]) -> None:
        """Have this called whenever the answer of the database is lost."""
        self._db.on_doubt(tell)

    @property
    def is_in_doubt(self) -> bool:
        """Whether something may have been committed whose answer was lost."""
        return self._db.is_in_doubt

    async def unsent(self, known: Sequence[int], limit: int) -> list[Outgoing]:
        """List outbox rows of this process that it does not know of."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["unsent"], self._owner, list(known), limit)
        return [one for row in found for one in rows.outgoing_of(row)]

    async def keep_house(self, now_ms: int) -> None:
        """Make days of the inbox ahead, drop those that are over; the rest likewise."""
        await self.make_days(now_ms)
        await self.drop_days(now_ms)
        async with self._db.connection() as connection:
            await connection.execute(self._sql["drop_replies"], self.results_s)
            await connection.execute(self._sql["drop_keys"], self.results_s)
            long_s = self.horizon_s * 2
            await connection.execute(self._sql["drop_once"], long_s)
            await connection.execute(self._sql["drop_splits"], long_s)
            await connection.execute(self._sql["drop_sequences"], long_s)
            await connection.execute(self._sql["drop_closed"], long_s)
            await connection.execute(self._sql["drop_trials"], long_s)
            await connection.execute(self._sql["drop_deaths"])
            await connection.execute(self._sql["drop_buckets"])
        await self.sweep_blobs(now_ms)

    async def oldest_birth_ms(self) -> int:
        """Return the earliest birth the inbox can tell anything about."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(self._sql["days"], f"{self._db.schema}.inbox")
        first = row["first"] if row else None
        return 0 if first is None else int(first) * rows.DAY_MS
