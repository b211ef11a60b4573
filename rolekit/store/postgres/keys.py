"""Keys: members, partitions under epochs, held keys, waiting lists.

The epoch of a partition is read under a shared lock in each commit of a keyed step, before
anything else, so it cannot be raised between that and the end of the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.store.keys import Aside, Fence, Hold, Owned, Roll, other_number
from rolekit.store.postgres import rows
from rolekit.store.postgres.key_work import check_fences
from rolekit.store.postgres.steps import PostgresBase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.envelope import Packet

MEMBER_S = 3.5
"""So long after it said so an instance is a member."""
JUDGE_AFTER_S = 3.0
"""After an outage everybody's time ran out: who is back first waits so long for the others."""


class KeysStore(PostgresBase):
    """Keeps the contract of `store.keys.KeyStore`."""

    async def enrol(self, role: str, partitions: int) -> None:
        """Make a role's partitions if they are not there."""
        async with self._db.connection() as connection:
            await connection.execute(self._sql["enrol"], role, partitions)
            # In a statement of its own, which sees what others made in the same moment.
            found = await connection.fetch(self._sql["partition_counts"], [role])
        there = int(found[0]["partitions"])
        if there != partitions:
            raise other_number(role, there, partitions)

    async def attend(self, role: str) -> Roll:
        """Be a member of a role for the next seconds, and see who else is."""
        async with self._db.connection() as connection:
            await connection.execute(self._sql["attend"], self._owner, role, MEMBER_S)
            members = await connection.fetch(
                self._sql["members"], self._owner, role, JUDGE_AFTER_S
            )
            found = await connection.fetch(self._sql["partitions"], role)
        alive = [row["owner"] for row in members]
        there = {
            row["n"]: Owned(row["epoch"], row["owner"] if row["owner"] in alive else None)
            for row in found
        }
        return Roll(alive, there)

    async def leave(self, role: str) -> None:
        """Be a member no more; partitions that are still owned become free."""
        async with self._db.transaction() as connection:
            await connection.execute(self._sql["leave"], self._owner, role)
            await connection.execute(self._sql["free_partitions"], self._owner, role)

    async def take(self, role: str, numbers: Sequence[int]) -> list[Fence]:
        """Own these partitions, as far as no other member does, under new epochs."""
        async with self._db.connection() as connection:
            found = await connection.fetch(
                self._sql["take_partitions"], self._owner, role, list(numbers), JUDGE_AFTER_S
            )
        return sorted(Fence(role, row["n"], row["epoch"]) for row in found)

    async def give(self, fence: Fence) -> None:
        """Own a partition no more; does nothing when somebody else does already."""
        async with self._db.connection() as connection:
            await connection.execute(self._sql["give_partition"], *fence, self._owner)

    async def holds(self, fence: Fence) -> dict[str, Hold]:
        """List the keys of a partition that cannot simply go on."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["holds"], fence.role, fence.partition)
        return {row["key"]: _hold_of(row) for row in found}

    async def hold_of(self, fence: Fence, key: str) -> Hold:
        """Say what keeps a key from going on."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(self._sql["hold_of"], fence.role, key)
        assert row is not None  # noqa: S101 - a select without a table gives one
        return _hold_of(row)

    async def set_aside(
        self, fence: Fence, key: str, packets: Sequence[Packet], claims: Sequence[int]
    ) -> None:
        """Append messages to a key's waiting list, and end their claims; those in it stay."""
        columns = rows.packet_columns(packets)
        async with self._db.transaction() as connection:
            await check_fences(connection, self._sql["check_fences"], [fence])
            await connection.execute(
                self._sql["set_aside"], *columns, fence.role, key, list(claims), fence.partition
            )

    async def next_aside(self, fence: Fence, key: str, limit: int) -> list[Aside]:
        """Read the first messages of a key's waiting list."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["next_aside"], fence.role, key, limit)
        return [Aside(row["n"], rows.packet_of(row)) for row in found]

    async def strike(self, fence: Fence, n: int) -> None:
        """Take a message out of its waiting list that had its outcome elsewhere."""
        del fence  # the inbox says that it had it, whoever owns the partition
        async with self._db.connection() as connection:
            await connection.execute(self._sql["strike"], [n])

    async def count_aside(self) -> dict[str, int]:
        """Count what waits in waiting lists, by queue."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["count_aside"])
        return {row["queue"]: row["n"] for row in found}


def _hold_of(row: rows.Row) -> Hold:
    return Hold("" if row["id"] is None else row["id"].hex, row["has_list"])
