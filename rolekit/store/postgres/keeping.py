"""What handlers ask for while they run: states, kept results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rolekit.store.base import StateKey
from rolekit.store.postgres.steps import PostgresBase
from rolekit.store.postgres.together import Together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class KeepingStore(PostgresBase):
    """Reads and small commits of their own, outside any step."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as PostgresBase
        super().__init__(*args, **options)
        self._states: Together[StateKey, tuple[int, bytes]] = Together(self._read_states)

    async def load_states(
        self, keys: Sequence[StateKey]
    ) -> Mapping[StateKey, tuple[int, bytes]]:
        """Read states with their versions; those that are not there are left out."""
        return await self._states.ask(keys)

    async def _read_states(self, keys: Sequence[StateKey]) -> dict[StateKey, tuple[int, bytes]]:
        async with self._db.connection() as connection:
            found = await connection.fetch(
                self._sql["load_states"],
                [key.scope for key in keys],
                [key.name for key in keys],
                [key.key for key in keys],
            )
        return {
            StateKey(row["scope"], row["name"], row["key"]): (row["version"], row["body"])
            for row in found
        }

    async def recall(self, message_id: str, name: str) -> bytes | None:
        """Read what `ctx.once` kept for a message."""
        async with self._db.connection() as connection:
            value: bytes | None = await connection.fetchval(
                self._sql["recall"], message_id, name
            )
        return value

    async def remember(self, message_id: str, name: str, value: bytes) -> bytes:
        """Keep a result of `ctx.once`, in a commit of its own; the first one wins."""
        async with self._db.connection() as connection:
            kept: bytes = await connection.fetchval(
                self._sql["remember"], message_id, name, value
            )
        return kept
