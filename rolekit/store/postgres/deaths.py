"""What is known of instances that died, where the broker does not tell who held what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.store.postgres.steps import PostgresBase

if TYPE_CHECKING:
    from collections.abc import Sequence

LATELY_S = 60.0
"""After a death, what comes again within this time may have been its cause."""


class DeathStore(PostgresBase):
    """Keeps `store.base.Deaths`. The supervisor of a host notes the deaths."""

    async def suspicions(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Say which of these may have killed an instance, and how often each surely did."""
        ids, generations = [key[0] for key in keys], [key[1] for key in keys]
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["suspicions"], ids, generations, LATELY_S)
        return {(row["id"].hex, row["generation"]): row["crashed"] for row in found}

    async def begin_alone(self, message_id: str, generation: int) -> None:
        """Note that this process runs a message with nothing beside it."""
        async with self._db.connection() as connection:
            await connection.execute(
                self._sql["begin_alone"], message_id, generation, self._owner
            )

    async def end_alone(self, message_id: str, generation: int) -> None:
        """Note that it ended, and this process lives."""
        async with self._db.connection() as connection:
            await connection.execute(self._sql["end_alone"], message_id, generation)
