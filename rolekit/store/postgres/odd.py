"""Counting parts that came too late, or twice: nothing else becomes of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rolekit.model.heap import is_late
from rolekit.model.position import pack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.connections import Pooled
    from rolekit.model.reassembly import Closing, Cursor


class Odd:
    """The late and repeated parts of one commit; costs nothing where there are none.

    Args:
        connection: In the transaction of the commit.
        sql: Named queries.
    """

    def __init__(self, connection: Pooled, sql: Mapping[str, str]) -> None:
        self._connection = connection
        self._sql = sql
        self.late: Counter[str] = Counter()
        self.repeated: Counter[str] = Counter()
        self._conflicting: Counter[str] = Counter()

    async def look(self, closings: Sequence[Closing]) -> None:
        """Find those of a statement's closings whose position was closed before."""
        found = await self._connection.fetch(
            self._sql["find_repeats"],
            [closing.sequence for closing in closings],
            [pack(closing.path) for closing in closings],
            [int(closing.by) for closing in closings],
            [closing.total for closing in closings],
            [closing.body for closing in closings],
        )
        for row in found:
            self.repeated[row["sequence"].hex] += row["repeated"]
            self._conflicting[row["sequence"].hex] += row["conflicting"]

    def late_among(self, cursor: Cursor, closings: Sequence[Closing]) -> None:
        """Count those whose position lies behind the cursor."""
        at = cursor.next
        for closing in closings:
            if (closing.path < at or not at) and is_late(cursor, closing.path):
                self.late[closing.sequence] += 1

    async def count(self) -> None:
        """Keep the counts with their sequences."""
        sequences = sorted({*self.late, *self.repeated})
        if sequences:
            await self._connection.execute(
                self._sql["count_odd"],
                sequences,
                [self.late[one] for one in sequences],
                [self.repeated[one] for one in sequences],
                [self._conflicting[one] for one in sequences],
            )
