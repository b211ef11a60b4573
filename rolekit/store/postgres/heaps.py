"""Reading a heap, a sequence whose parts are taken as they come, and sealing its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.model import heap
from rolekit.model.position import Path, pack, unpack
from rolekit.store.base import SequenceView
from rolekit.store.postgres import rows
from rolekit.store.postgres.steps import PostgresBase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.connections import Pooled
    from rolekit.model.reassembly import Closing
    from rolekit.store.postgres.rows import Row


class _AnotherRun(Exception):
    """Another run has begun: what was written is taken back."""


class HeapStore(PostgresBase):
    """What a gather needs that takes parts as they come."""

    async def heap(self, sequence: str, limit: int) -> SequenceView | None:
        """Read a sequence whose parts are taken as they come."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(self._sql["heap"], sequence)
            if row is None:
                return None
            cursor = rows.cursor_of(row)
            waiting = await connection.fetch(
                self._sql["heap_parts"], sequence, row["waits"], row["sealed_paths"], limit
            )
            above = [pack(path) for path in cursor.open_ancestors()]
            taken = await connection.fetch(
                self._sql["heap_taken"], sequence, pack(cursor.next), above, limit
            )
        return _view_of(sequence, row, waiting, taken, limit)

    async def seal_heap(
        self, sequence: str, run: int, paths: Sequence[Path] | None, closings: Sequence[Closing]
    ) -> tuple[Path, ...] | None:
        """Fix what run number `run` takes, for this and every later attempt."""
        packed = None if paths is None else [pack(path) for path in paths]
        try:
            async with self._db.transaction() as connection:
                if closings:
                    await connection.execute(
                        self._sql["insert_parts"], *rows.closing_columns(closings)
                    )
                sealed = await self._seal_run(connection, sequence, run, packed)
        except _AnotherRun:
            return None
        return tuple(unpack(path) for path in sealed)

    async def _seal_run(
        self, connection: Pooled, sequence: str, run: int, packed: list[bytes] | None
    ) -> list[bytes]:
        sealed: list[bytes] | None = await connection.fetchval(
            self._sql["seal_heap"], sequence, run, packed
        )
        if sealed is None:
            raise _AnotherRun
        return sealed


def _view_of(
    sequence: str, row: Row, waiting: Sequence[Row], taken: Sequence[Row], limit: int
) -> SequenceView:
    cursor = rows.cursor_of(row)
    closings = {c.path: c for c in (rows.closing_of(sequence, part) for part in waiting)}
    outlines = {
        path: heap.outline(sequence, path, each["total"])
        for path, each in ((unpack(one["path"]), one) for one in taken)
    }
    ahead = [path for path in outlines if path >= cursor.next]
    cuts = [max(some) for some in (list(closings), ahead) if len(some) >= limit]
    sealed = row["sealed_paths"]
    return SequenceView(
        gather=row["gather"],
        cursor=cursor,
        released=row["released"],
        emitted=row["emitted"],
        sealed=None,
        is_open=row["state"] == 0,
        is_expired=row["is_expired"],
        source=rows.source_of(row),
        closings=closings,
        horizon=min(cuts, default=None),
        is_ordered=row["is_ordered"],
        is_stream=row["is_stream"],
        runs=row["runs"],
        taken=outlines,
        sealed_paths=None if sealed is None else tuple(unpack(path) for path in sealed),
    )
