"""What one commit does to heaps, whose parts are taken as they come.

What was handed over beyond the cursor has a row in `taken`, so that a repeat is known; what
still waits is in `part`, so a release never scans what is done. All of it happens under the
lock of the sequence row, as in `work`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.model import heap
from rolekit.model.position import pack, unpack
from rolekit.store.postgres import rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.connections import Pooled
    from rolekit.model.reassembly import Closing
    from rolekit.store.base import Release
    from rolekit.store.postgres.odd import Odd
    from rolekit.store.postgres.rows import Row


class HeapWork:
    """The part of one commit that is about heaps, under the locks of their sequence rows.

    Args:
        connection: In the transaction of the commit.
        sql: Named queries.
        odd: Counts what is late or repeated.
    """

    def __init__(self, connection: Pooled, sql: Mapping[str, str], odd: Odd) -> None:
        self._connection = connection
        self._sql = sql
        self._odd = odd

    async def welcomed(
        self, locked: Mapping[str, Row], closings: Sequence[Closing]
    ) -> set[str]:
        """Forget what is late or repeated; return the heaps that got something to take.

        Args:
            locked: Sequence rows by id; those that are heaps.
            closings: Stored just now, of these.
        """
        late = [heap.is_late(rows.cursor_of(locked[c.sequence]), c.path) for c in closings]
        gone = await self._connection.fetch(
            self._sql["forget_repeats"],
            [closing.sequence for closing in closings],
            [pack(closing.path) for closing in closings],
            late,
        )
        forgotten = {(row["sequence"].hex, unpack(row["path"])) for row in gone}
        for closing, is_late in zip(closings, late, strict=True):
            if (closing.sequence, closing.path) in forgotten:
                (self._odd.late if is_late else self._odd.repeated)[closing.sequence] += 1
        return {
            c.sequence
            for c in closings
            if (c.sequence, c.path) not in forgotten
            and heap.is_welcome(c, waits=locked[c.sequence]["waits"])
        }

    async def take(self, release: Release) -> None:
        """Hand positions over, and remember those that a repeat could still come to."""
        after, above = pack(release.after.next), release.after.open_ancestors()
        kept = [pack(path) for path in above]
        await self._connection.execute(
            self._sql["take_parts"],
            release.sequence,
            [pack(path) for path in release.taken],
            after,
            kept,
        )
        await self._connection.execute(self._sql["forget_taken"], release.sequence, after, kept)

    async def have_more(self, sequences: Sequence[str]) -> set[str]:
        """Say which of these have something to take."""
        found = await self._connection.fetch(self._sql["is_welcome"], list(sequences))
        return {row["id"].hex for row in found}
